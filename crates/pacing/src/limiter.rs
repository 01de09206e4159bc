//! One limit: a token bucket (GCRA, from governor) in cells of 1 KiB, over a clock that the caller sets.

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use sluice_model::ByteRate;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What one token stands for; the remainder of a request is carried to the next one.
pub const CELL_BYTES: u64 = 1 << 10;
/// Largest piece that a stream moves before others of the same limit have their turn.
pub const SLICE_BYTES_MAX: u64 = 16 << 10;
/// Smallest burst: below it, timer jitter of a millisecond would cost throughput at 4 MB/s already.
const BURST_BYTES_MIN: u64 = 4 << 10;
/// Largest burst: 4 ms at 1 GB/s, several times the timer's granularity.
const BURST_BYTES_MAX: u64 = 4 << 20;

/// The burst that a rate gets when nobody says otherwise: 20 ms worth, so that a busy second exceeds the rate by at
/// most 2 % (more only below 205 kB/s, where 4 KiB is more than that).
pub fn burst_for(rate: ByteRate) -> u64 {
    (rate.get() / 50).clamp(BURST_BYTES_MIN, BURST_BYTES_MAX)
}

/// The limiter's answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Grant {
    /// So many bytes may move now and are booked: what was asked for, or half the burst when that is less (the other half
    /// makes up for timers that fire late). Ask again for the rest.
    Move(u64),
    /// Nothing was booked; asking again makes sense after this long.
    Wait(Duration),
}

/// A rate limit with an explicit burst, or none at all.
#[derive(Debug)]
pub struct Limiter {
    epoch: Instant,
    clock: SetClock,
    bucket: Option<Bucket>,
    /// Bytes of a begun cell that are granted but not booked yet; below [`CELL_BYTES`].
    carried_bytes: u64,
}

#[derive(Debug)]
struct Bucket {
    rate: ByteRate,
    burst_cells: NonZeroU32,
    gcra: RateLimiter<NotKeyed, InMemoryState, SetClock, NoOpMiddleware<Duration>>,
}

/// Governor's clock: nanoseconds since the limiter's epoch, as last set.
#[derive(Debug, Clone, Default)]
pub(crate) struct SetClock(Arc<AtomicU64>);

impl Clock for SetClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

impl SetClock {
    /// Moves it forward; when `since_epoch` goes back the latest one counts.
    pub(crate) fn set(&self, since_epoch: Duration) {
        let nanos = since_epoch.as_nanos().min(u128::from(u64::MAX)) as u64;
        self.0.fetch_max(nanos, Ordering::Relaxed);
    }

    pub(crate) fn since_epoch(&self) -> Duration {
        Clock::now(self)
    }
}

impl Limiter {
    /// A limit that begins with a full burst; `None` limits nothing. `burst_bytes` is rounded down to whole cells, at
    /// least one.
    pub fn new(rate: Option<ByteRate>, burst_bytes: u64, now: Instant) -> Self {
        let clock = SetClock::default();
        let bucket = rate.map(|rate| Bucket::new(rate, burst_bytes, clock.clone()));
        Self { epoch: now, clock, bucket, carried_bytes: 0 }
    }

    /// The rate in force.
    pub fn rate(&self) -> Option<ByteRate> {
        self.bucket.as_ref().map(|bucket| bucket.rate)
    }

    /// Changes the rate from `now` on. What is left of the old burst is kept, up to the new one; from unlimited it
    /// begins with an empty bucket.
    pub fn set_rate(&mut self, rate: Option<ByteRate>, burst_bytes: u64, now: Instant) {
        if rate == self.rate() && rate.is_none() {
            return;
        }
        self.set_clock(now);
        let left_cells = self.bucket.as_ref().map_or(0, Bucket::left_cells);
        self.bucket = rate.map(|rate| {
            let bucket = Bucket::new(rate, burst_bytes, self.clock.clone());
            bucket.spend_down_to(left_cells);
            bucket
        });
    }

    /// Asks to move `bytes` at `now`. `now` may repeat; when it goes back the latest one counts. O(1).
    pub fn take(&mut self, bytes: u64, now: Instant) -> Grant {
        self.set_clock(now);
        let Some(bucket) = &self.bucket else { return Grant::Move(bytes) };
        let granted = bytes.min(u64::from(bucket.burst_cells.get().div_ceil(2)) * CELL_BYTES - self.carried_bytes);
        let owed = self.carried_bytes + granted;
        if let Some(cells) = NonZeroU32::new((owed / CELL_BYTES) as u32) {
            match bucket.gcra.check_n(cells).expect("a grant is at most the burst") {
                Ok(()) => {}
                Err(not_until) => return Grant::Wait(not_until.wait_time_from(self.clock.now())),
            }
        }
        self.carried_bytes = owed % CELL_BYTES;
        Grant::Move(granted)
    }

    fn set_clock(&self, now: Instant) {
        self.clock.set(now.saturating_duration_since(self.epoch));
    }
}

impl Bucket {
    fn new(rate: ByteRate, burst_bytes: u64, clock: SetClock) -> Self {
        let cells = (burst_bytes / CELL_BYTES).clamp(1, u64::from(u32::MAX));
        let burst_cells = NonZeroU32::new(cells as u32).expect("clamped to one");
        let period = Duration::from_nanos((CELL_BYTES * 1_000_000_000 / rate.get()).max(1));
        let quota = Quota::with_period(period).expect("the period is at least a nanosecond").allow_burst(burst_cells);
        Self { rate, burst_cells, gcra: RateLimiter::direct_with_clock(quota, clock) }
    }

    /// How many cells could move now. Books them: only for a bucket that is about to go.
    fn left_cells(&self) -> u32 {
        match self.gcra.check_n(self.burst_cells).expect("the burst is the capacity") {
            Ok(()) => self.burst_cells.get(),
            Err(not_until) => {
                let period = not_until.quota().replenish_interval().as_nanos().max(1);
                let wait = not_until.wait_time_from(self.gcra.clock().now()).as_nanos();
                self.burst_cells.get().saturating_sub(u32::try_from(wait.div_ceil(period)).unwrap_or(u32::MAX))
            }
        }
    }

    /// Books cells of a fresh bucket until only `left` of its burst remain.
    fn spend_down_to(&self, left: u32) {
        if let Some(spent) = NonZeroU32::new(self.burst_cells.get().saturating_sub(left)) {
            let booked = self.gcra.check_n(spent).expect("not more than the burst");
            debug_assert!(booked.is_ok(), "a fresh bucket is full");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RateMeter;
    use std::collections::VecDeque;

    fn rate(bytes: u64) -> ByteRate {
        ByteRate::bytes_per_sec(bytes).unwrap()
    }

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "an arbitrary origin of simulated time")]
        Instant::now()
    }

    struct Run {
        moved: Vec<u64>,
        peak: u64,
        grants: Vec<(Duration, u64)>,
    }

    /// Streams that always want a slice, in a queue; the sleeper wakes `oversleep` late, as timers do.
    fn run(limiter: &mut Limiter, began: Instant, streams: usize, lasting: Duration, oversleep: Duration) -> Run {
        let mut queue: VecDeque<usize> = (0..streams).collect();
        let (mut moved, mut meter, mut grants) = (vec![0; streams], RateMeter::new(began), Vec::new());
        let mut at = Duration::ZERO;
        while at < lasting {
            match limiter.take(SLICE_BYTES_MAX, began + at) {
                Grant::Wait(wait) => at += wait + oversleep,
                Grant::Move(bytes) => {
                    let stream = queue.pop_front().unwrap();
                    queue.push_back(stream);
                    moved[stream] += bytes;
                    meter.add(bytes, began + at);
                    grants.push((at, bytes));
                }
            }
        }
        Run { moved, peak: meter.peak_per_sec(), grants }
    }

    const RATES: [u64; 6] = [100_000, 333_333, 2_500_000, 10_000_000, 125_000_000, 1_000_000_000];

    #[test]
    fn the_measured_rate_holds_within_five_per_cent_over_any_second_beyond_the_burst() {
        for bytes_per_sec in RATES {
            for streams in [1, 10, 100] {
                let began = start();
                let burst = burst_for(rate(bytes_per_sec));
                let mut limiter = Limiter::new(Some(rate(bytes_per_sec)), burst, began);
                let run = run(&mut limiter, began, streams, Duration::from_secs(3), Duration::from_micros(1_100));
                let allowed = bytes_per_sec + burst + CELL_BYTES;
                let tolerance = bytes_per_sec / 500; // the meter's window is up to a millisecond longer; rounding
                assert!(run.peak <= allowed + tolerance, "{bytes_per_sec} x{streams}: peak {}", run.peak);
                for window_start in [0, 500, 1_000, 1_999] {
                    let from = Duration::from_millis(window_start);
                    let within = run.grants.iter().filter(|(at, _)| *at >= from && *at < from + Duration::from_secs(1));
                    let sum: u64 = within.map(|(_, bytes)| bytes).sum();
                    assert!(
                        sum * 100 >= (bytes_per_sec - burst.min(bytes_per_sec / 20)) * 95,
                        "{bytes_per_sec}: {sum}"
                    );
                }
                let total: u64 = run.moved.iter().sum();
                let beyond_burst = (total - burst) as f64 / 3.0 / bytes_per_sec as f64;
                assert!((0.95..=1.05).contains(&beyond_burst), "{bytes_per_sec} x{streams}: {beyond_burst}");
            }
        }
    }

    #[test]
    fn streams_in_a_queue_get_the_same_within_one_slice() {
        for streams in [2, 10, 100] {
            let began = start();
            let mut limiter = Limiter::new(Some(rate(10_000_000)), burst_for(rate(10_000_000)), began);
            let run = run(&mut limiter, began, streams, Duration::from_secs(2), Duration::from_millis(1));
            let (least, most) = (run.moved.iter().min().unwrap(), run.moved.iter().max().unwrap());
            assert!(most - least <= SLICE_BYTES_MAX, "{least} {most}");
        }
    }

    #[test]
    fn a_request_above_the_burst_is_split_and_takes_its_time() {
        let began = start();
        let mut limiter = Limiter::new(Some(rate(1_024_000)), 4096, began);
        let (mut left, mut at, mut pieces) = (1_000_000u64, began, 0);
        while left > 0 {
            match limiter.take(left, at) {
                Grant::Move(bytes) => {
                    assert!(bytes <= 2048);
                    left -= bytes;
                    pieces += 1;
                }
                Grant::Wait(wait) => at += wait,
            }
        }
        assert!(pieces >= 489, "{pieces}");
        let took = (at - began).as_secs_f64();
        assert!((0.95..1.0).contains(&took), "{took}");
    }

    #[test]
    fn remainders_are_carried_so_that_small_requests_cost_what_they_weigh() {
        let began = start();
        let mut limiter = Limiter::new(Some(rate(100_000)), 4096, began);
        let (mut moved, mut at) = (0u64, began);
        while at - began < Duration::from_secs(5) {
            match limiter.take(100, at) {
                Grant::Move(bytes) => moved += bytes,
                Grant::Wait(wait) => at += wait,
            }
        }
        let beyond = (moved - 4096) as f64 / 500_000.0;
        assert!((0.99..1.01).contains(&beyond), "{beyond}");
    }

    #[test]
    fn no_rate_means_no_limit() {
        let began = start();
        let mut limiter = Limiter::new(None, 0, began);
        assert_eq!(limiter.take(u64::MAX, began), Grant::Move(u64::MAX));
        limiter.set_rate(Some(rate(1_024)), 4096, began);
        assert!(matches!(limiter.take(4096, began), Grant::Wait(_)), "limiting begins without a free burst");
    }

    #[test]
    fn a_rate_change_takes_hold_at_once_and_hands_out_no_new_burst() {
        let began = start();
        let mut limiter = Limiter::new(Some(rate(1_000_000)), 20_480, began);
        let mut moved = 0;
        let mut at = began;
        for step in 0..300u64 {
            let until = began + Duration::from_millis(10 * (step + 1));
            let now_rate = if step % 2 == 0 { 2_000_000 } else { 1_000_000 };
            limiter.set_rate(Some(rate(now_rate)), 20_480, at);
            while at < until {
                match limiter.take(SLICE_BYTES_MAX, at) {
                    Grant::Move(bytes) => moved += bytes,
                    Grant::Wait(wait) => at += wait.min(until - at),
                }
            }
        }
        let mean = (moved - 20_480) as f64 / 3.0 / 1_500_000.0;
        assert!((0.95..1.02).contains(&mean), "{mean}");
    }

    #[test]
    fn a_clock_that_goes_back_grants_nothing_extra() {
        let began = start();
        let mut limiter = Limiter::new(Some(rate(1_000_000)), 4096, began);
        assert_eq!(limiter.take(4096, began + Duration::from_secs(1)), Grant::Move(2048));
        assert_eq!(limiter.take(4096, began), Grant::Move(2048));
        assert!(matches!(limiter.take(4096, began), Grant::Wait(_)));
        assert!(matches!(limiter.take(4096, began + Duration::from_secs(1)), Grant::Wait(_)));
    }
}
