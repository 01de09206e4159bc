//! What moved, and the busiest second.

use std::collections::VecDeque;
use std::time::Instant;

/// Width of a bucket in milliseconds.
const BUCKET_MS: u64 = 1;
/// Buckets that a second can touch: a second that begins inside a bucket touches one more. So the peak is never
/// understated, and overstated by what moved in at most one millisecond.
const WINDOW_BUCKETS: u64 = 1_000 / BUCKET_MS + 1;

/// Counts bytes and keeps the highest sum over any second. Bounded: at most [`WINDOW_BUCKETS`] buckets, 16 KiB.
#[derive(Debug, Clone)]
pub struct RateMeter {
    epoch: Instant,
    /// (bucket index, bytes), oldest first, only those with bytes.
    window: VecDeque<(u64, u64)>,
    window_bytes: u64,
    peak_bytes: u64,
    total_bytes: u64,
}

impl RateMeter {
    /// An empty meter; `now` is the origin of its buckets.
    pub fn new(now: Instant) -> Self {
        Self { epoch: now, window: VecDeque::new(), window_bytes: 0, peak_bytes: 0, total_bytes: 0 }
    }

    /// Counts bytes that moved at `now`; a `now` that goes back counts as the latest one. O(1) amortised.
    pub fn add(&mut self, bytes: u64, now: Instant) {
        self.total_bytes += bytes;
        let latest = self.window.back().map_or(0, |(bucket, _)| *bucket);
        let bucket = (now.saturating_duration_since(self.epoch).as_millis() as u64 / BUCKET_MS).max(latest);
        self.forget_before(bucket);
        match self.window.back_mut() {
            Some((last, sum)) if *last == bucket => *sum += bytes,
            _ => self.window.push_back((bucket, bytes)),
        }
        self.window_bytes += bytes;
        self.peak_bytes = self.peak_bytes.max(self.window_bytes);
    }

    /// The most bytes that any second saw.
    pub fn peak_per_sec(&self) -> u64 {
        self.peak_bytes
    }

    /// The bytes of the second that ends at `now`.
    pub fn last_second(&mut self, now: Instant) -> u64 {
        self.forget_before(now.saturating_duration_since(self.epoch).as_millis() as u64 / BUCKET_MS);
        self.window_bytes
    }

    /// All bytes ever counted.
    pub fn total(&self) -> u64 {
        self.total_bytes
    }

    /// Forgets the peak, not the total: a new observation begins.
    pub fn reset_peak(&mut self) {
        self.peak_bytes = self.window_bytes;
    }

    fn forget_before(&mut self, bucket: u64) {
        while let Some((old, bytes)) = self.window.front().copied() {
            if old + WINDOW_BUCKETS > bucket {
                break;
            }
            self.window_bytes -= bytes;
            self.window.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "an arbitrary origin of simulated time")]
        Instant::now()
    }

    #[test]
    fn the_peak_is_found_wherever_the_second_begins() {
        let began = start();
        let mut meter = RateMeter::new(began);
        for (ms, bytes) in [(0, 10), (700, 100), (1_600, 100), (1_750, 1), (3_000, 150)] {
            meter.add(bytes, began + Duration::from_millis(ms));
        }
        assert_eq!(meter.peak_per_sec(), 200, "700 ms to 1,600 ms");
        assert_eq!(meter.total(), 361);
        assert_eq!(meter.last_second(began + Duration::from_millis(4_500)), 0);
    }

    proptest! {
        #[test]
        fn the_peak_is_never_below_the_true_one_and_never_above_it_by_more_than_a_millisecond(
            events in proptest::collection::vec((0u64..400_000, 1u64..1_000), 1..200)
        ) {
            let began = start();
            let mut meter = RateMeter::new(began);
            let mut at = 0;
            let mut times = Vec::new();
            for (gap_us, bytes) in events {
                at += gap_us;
                times.push((at, bytes));
                meter.add(bytes, began + Duration::from_micros(at));
            }
            let most = |width_us: u64| {
                times.iter().map(|(end, _)| {
                    times.iter().filter(|(t, _)| t <= end && t + width_us > *end).map(|(_, b)| b).sum::<u64>()
                }).max().unwrap_or(0)
            };
            prop_assert!(meter.peak_per_sec() >= most(1_000_000));
            prop_assert!(meter.peak_per_sec() <= most(1_001_001));
            prop_assert!(meter.window.len() as u64 <= WINDOW_BUCKETS);
        }
    }
}
