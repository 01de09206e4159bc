//! When to dial which member again.
//!
//! A table of known addresses with a jittered, doubling wait. Synchronous; `now` and the jitter come from outside.

use libp2p::PeerId;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::Instant;

/// Wait before the first new attempt.
const WAIT_MIN: Duration = Duration::from_millis(250);
/// Longest wait between two attempts: a member that comes back is reached within this and its jitter.
const WAIT_MAX: Duration = Duration::from_secs(4);
/// A connection that lasted this long was one: the waits begin anew after it. A shorter one was a refusal, which the
/// dialling side sees as a connection that closes at once.
const STEADY_AFTER: Duration = Duration::from_secs(10);
/// Addresses tried for one member.
const ADDRESSES_MAX: usize = 8;

#[derive(Debug)]
struct Entry {
    addresses: Vec<SocketAddr>,
    attempts: u32,
    /// `None`: connected, or an attempt is running.
    due: Option<Instant>,
    up_since: Option<Instant>,
}

/// The table. Bounded by the allow-list: entries of others are removed with [`Redial::retain`].
#[derive(Debug, Default)]
pub(crate) struct Redial {
    entries: HashMap<PeerId, Entry>,
}

impl Redial {
    /// Knows `addresses` for `peer` from now on; dials at once unless `is_connected`.
    pub(crate) fn set(&mut self, peer: PeerId, mut addresses: Vec<SocketAddr>, is_connected: bool, now: Instant) {
        addresses.truncate(ADDRESSES_MAX);
        if addresses.is_empty() {
            self.entries.remove(&peer);
            return;
        }
        if self.entries.get(&peer).is_some_and(|entry| entry.addresses == addresses) {
            return;
        }
        let due = (!is_connected).then_some(now);
        self.entries.insert(peer, Entry { addresses, attempts: 0, due, up_since: is_connected.then_some(now) });
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(&PeerId) -> bool) {
        self.entries.retain(|peer, _| keep(peer));
    }

    pub(crate) fn connected(&mut self, peer: &PeerId, now: Instant) {
        if let Some(entry) = self.entries.get_mut(peer) {
            entry.up_since.get_or_insert(now);
            entry.due = None;
        }
    }

    /// The last connection went, or an attempt failed: `jitter` in 0..=255 spreads the next one over half to one and a
    /// half of the wait.
    pub(crate) fn lost(&mut self, peer: &PeerId, now: Instant, jitter: u8) {
        if let Some(entry) = self.entries.get_mut(peer) {
            if entry.up_since.take().is_some_and(|since| now.duration_since(since) >= STEADY_AFTER) {
                entry.attempts = 0;
            }
            let wait = WAIT_MIN.saturating_mul(1 << entry.attempts.min(10)).min(WAIT_MAX);
            entry.attempts = entry.attempts.saturating_add(1);
            entry.due = Some(now + wait.mul_f64(0.5 + f64::from(jitter) / 255.0));
        }
    }

    /// Members whose time has come, with their addresses; they count as being dialled.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<(PeerId, Vec<SocketAddr>)> {
        let mut due = Vec::new();
        for (peer, entry) in &mut self.entries {
            if entry.due.is_some_and(|at| at <= now) {
                entry.due = None;
                due.push((*peer, entry.addresses.clone()));
            }
        }
        due
    }

    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.entries.values().filter_map(|entry| entry.due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waits_double_up_to_their_bound_and_begin_anew_after_a_connection_that_lasted() {
        let (peer, address) = (PeerId::random(), "127.0.0.1:1".parse().unwrap());
        let start = Instant::now();
        let mut redial = Redial::default();
        redial.set(peer, vec![address], false, start);
        assert_eq!(redial.take_due(start).len(), 1);
        assert_eq!(redial.next_due(), None, "an attempt is running");

        let mut waits = Vec::new();
        for _ in 0..8 {
            redial.lost(&peer, start, 128);
            waits.push((redial.next_due().unwrap() - start).as_millis());
            redial.take_due(start + WAIT_MAX * 2);
        }
        assert!(waits.windows(2).all(|pair| pair[0] <= pair[1]), "{waits:?}");
        assert!(waits[0] < 300 && waits[7] <= 4_100, "{waits:?}");

        redial.connected(&peer, start);
        redial.lost(&peer, start, 0);
        assert_eq!(redial.next_due().unwrap() - start, WAIT_MAX / 2, "closed at once is a refusal");

        redial.connected(&peer, start);
        let later = start + STEADY_AFTER;
        redial.lost(&peer, later, 0);
        assert_eq!(redial.next_due().unwrap() - later, WAIT_MIN / 2);
        redial.set(peer, Vec::new(), false, start);
        assert_eq!(redial.next_due(), None, "without addresses it is only waited for");
    }
}
