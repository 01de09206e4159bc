//! How long to wait before the next attempt: doubling, bounded, spread.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// A wait that doubles with each failure.
#[derive(Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
    entropy: RandomState,
}

impl Backoff {
    /// From `min` up to `max`.
    pub fn new(min: Duration, max: Duration) -> Self {
        Self { min, max: max.max(min), failures: 0, entropy: RandomState::new() }
    }

    /// It went well.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// It failed: how long to wait now, half to one time the doubled wait, so that nodes do not come back in step.
    pub fn next_wait(&mut self) -> Duration {
        let whole = self.min.saturating_mul(1 << self.failures.min(16)).min(self.max);
        self.failures = self.failures.saturating_add(1);
        let mut hasher = self.entropy.build_hasher();
        hasher.write_u32(self.failures);
        let share = f64::from(hasher.finish() as u8) / 255.0;
        whole.mul_f64(0.5 + share / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_between_half_the_least_and_the_most() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        let waits: Vec<Duration> = (0..20).map(|_| backoff.next_wait()).collect();
        assert!(waits.iter().all(|wait| (50..=2_000).contains(&wait.as_millis())), "{waits:?}");
        assert!(waits[19] >= Duration::from_secs(1), "{waits:?}");
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_millis(100));
    }
}
