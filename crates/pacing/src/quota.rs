//! How many requests each caller may make over time (GCRA, from governor), for any number of callers up to a bound.

use crate::limiter::SetClock;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use std::hash::Hash;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// One quota, kept for each key apart. `take` may be called from many threads.
#[derive(Debug)]
pub struct RequestQuota<K: Hash + Eq + Clone> {
    epoch: Instant,
    clock: SetClock,
    limiter: RateLimiter<K, HashMapStateStore<K>, SetClock, NoOpMiddleware<Duration>>,
    keys_max: usize,
}

impl<K: Hash + Eq + Clone> RequestQuota<K> {
    /// `per_sec` requests a second in the long run, `burst` at once after a pause. Keys whose quota is full again are
    /// forgotten when there are more than `keys_max`.
    pub fn new(per_sec: NonZeroU32, burst: NonZeroU32, keys_max: usize, now: Instant) -> Self {
        let clock = SetClock::default();
        let quota = Quota::per_second(per_sec).allow_burst(burst);
        let limiter = RateLimiter::new(quota, HashMapStateStore::default(), clock.clone());
        Self { epoch: now, clock, limiter, keys_max }
    }

    /// Books one request of `key` at `now`, or says how long to wait. While as many keys as the bound are busy, nobody
    /// is let in: a crowd of strangers cannot grow the table.
    pub fn take(&self, key: &K, now: Instant) -> Result<(), Duration> {
        self.clock.set(now.saturating_duration_since(self.epoch));
        if self.limiter.len() >= self.keys_max {
            self.limiter.retain_recent();
            if self.limiter.len() >= self.keys_max {
                return Err(Duration::from_secs(1));
            }
        }
        self.limiter.check_key(key).map_err(|not_until| not_until.wait_time_from(self.clock.since_epoch()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(keys_max: usize, now: Instant) -> RequestQuota<u32> {
        let [two, five] = [2, 5].map(|n| NonZeroU32::new(n).unwrap());
        RequestQuota::new(two, five, keys_max, now)
    }

    #[test]
    fn a_burst_is_granted_then_the_rate_and_each_key_has_its_own() {
        #[expect(clippy::disallowed_methods, reason = "a test needs some instant to begin at")]
        let now = Instant::now();
        let quota = quota(10, now);
        let granted = (0..20).filter(|_| quota.take(&1, now).is_ok()).count();
        assert_eq!(granted, 5);
        let wait = quota.take(&1, now).unwrap_err();
        assert!(wait <= Duration::from_millis(500), "{wait:?}");
        assert!(quota.take(&2, now).is_ok(), "another caller pays nothing for it");
        assert!(quota.take(&1, now + wait).is_ok());
        assert!(quota.take(&1, now + wait).is_err());
        let later = now + Duration::from_secs(10);
        let granted = (0..100).filter(|at| quota.take(&1, later + Duration::from_millis(at * 100)).is_ok()).count();
        assert!((24..=25).contains(&granted), "{granted} in ten seconds");
    }

    #[test]
    fn the_table_of_keys_is_bounded_and_idle_keys_make_room() {
        #[expect(clippy::disallowed_methods, reason = "a test needs some instant to begin at")]
        let now = Instant::now();
        let quota = quota(3, now);
        for key in 0..3 {
            quota.take(&key, now).unwrap();
        }
        assert!(quota.take(&3, now).is_err());
        assert!(quota.limiter.len() <= 3);
        let later = now + Duration::from_secs(60);
        assert!(quota.take(&3, later).is_ok());
        assert_eq!(quota.limiter.len(), 1);
    }
}
