//! Where UDP did not get through lately: those are called over TCP at once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// After this UDP is tried again: a firewall is seldom changed, and a try costs 1.5 s.
const REMEMBERED_FOR: Duration = Duration::from_secs(600);
/// Addresses remembered: more than a site has members; the one that was noted longest ago goes.
const ADDRESSES_MAX: usize = 256;

/// The memory. Shared by the clones of a dialer.
#[derive(Debug, Default)]
pub(crate) struct Unreached(Mutex<BTreeMap<SocketAddr, Instant>>);

impl Unreached {
    /// UDP to `address` did not get through, TCP did. Says whether that is news.
    pub fn note(&self, address: SocketAddr, now: Instant) -> bool {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.len() >= ADDRESSES_MAX
            && !noted.contains_key(&address)
            && let Some(oldest) = noted.iter().min_by_key(|(_, at)| **at).map(|(address, _)| *address)
        {
            noted.remove(&oldest);
        }
        noted.insert(address, now).is_none()
    }

    /// Whether that was so lately.
    pub fn contains(&self, address: &SocketAddr, now: Instant) -> bool {
        let noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.get(address).is_some_and(|at| now.saturating_duration_since(*at) < REMEMBERED_FOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_remembered_for_ten_minutes_and_the_oldest_goes_first() {
        let (memory, begun) = (Unreached::default(), tokio::time::Instant::now().into_std());
        let address = |port: usize| SocketAddr::from(([10, 0, 0, 1], u16::try_from(port).unwrap()));
        for port in 0..=ADDRESSES_MAX {
            assert!(memory.note(address(port), begun + Duration::from_millis(port as u64)));
        }
        let now = begun + Duration::from_secs(1);
        assert!(!memory.contains(&address(0), now), "it was the oldest of one too many");
        assert!(memory.contains(&address(1), now) && memory.contains(&address(ADDRESSES_MAX), now));
        assert!(!memory.note(address(1), now), "no news");
        assert!(!memory.contains(&address(2), begun + REMEMBERED_FOR + Duration::from_secs(1)));
    }
}
