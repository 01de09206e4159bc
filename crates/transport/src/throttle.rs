//! The async shell over [`sluice_pacing::Limiter`]: waits until bytes may move, in slices, in the order of asking.

use sluice_model::ByteRate;
use sluice_pacing::{Grant, Limiter, RateMeter, SLICE_BYTES_MAX, burst_for};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::Notify;

/// A limit that many streams share. Cloning it shares it.
#[derive(Clone, Debug)]
pub struct Throttle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Whose turn it is: tokio's mutex is fair, so streams are served in the order in which they asked.
    turn: tokio::sync::Mutex<()>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    limiter: Limiter,
    meter: RateMeter,
}

impl Throttle {
    /// A limit with the default burst (20 ms worth); `None` limits nothing but still counts.
    pub fn new(rate: Option<ByteRate>) -> Self {
        let now = now();
        let limiter = Limiter::new(rate, rate.map_or(0, burst_for), now);
        let state = Mutex::new(State { limiter, meter: RateMeter::new(now) });
        Self(Arc::new(Shared { state, turn: tokio::sync::Mutex::new(()), changed: Notify::new() }))
    }

    /// Limits nothing, counts everything.
    pub fn unlimited() -> Self {
        Self::new(None)
    }

    /// The rate in force.
    pub fn rate(&self) -> Option<ByteRate> {
        self.state().limiter.rate()
    }

    /// Changes the rate; streams that are waiting notice at once.
    pub fn set_rate(&self, rate: Option<ByteRate>) {
        {
            let mut state = self.state();
            if state.limiter.rate() == rate {
                return;
            }
            state.limiter.set_rate(rate, rate.map_or(0, burst_for), now());
        }
        self.0.changed.notify_waiters();
    }

    /// Waits until a slice of at most `bytes` may move and returns its size: at most 16 KiB when there is a limit.
    /// Dropping the future books nothing.
    pub async fn take_slice(&self, bytes: u64) -> u64 {
        if bytes == 0 {
            return 0;
        }
        if let Some(granted) = self.take_unlimited(bytes) {
            return granted;
        }
        let _turn = self.0.turn.lock().await;
        loop {
            // Registered before asking, so that a change between asking and sleeping is not missed.
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match self.ask(bytes) {
                Grant::Move(granted) => return granted,
                Grant::Wait(wait) => {
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = changed => {}
                    }
                }
            }
        }
    }

    /// Waits until all of `bytes` have been let through, slice by slice. Dropped half-way, the slices that passed stay
    /// booked.
    pub async fn take(&self, bytes: u64) {
        let mut left = bytes;
        while left > 0 {
            left -= self.take_slice(left).await;
        }
    }

    /// The most bytes that passed in any one second.
    pub fn peak_per_sec(&self) -> u64 {
        self.state().meter.peak_per_sec()
    }

    /// All bytes that passed.
    pub fn total(&self) -> u64 {
        self.state().meter.total()
    }

    /// The bytes of the last second.
    pub fn last_second(&self) -> u64 {
        self.state().meter.last_second(now())
    }

    fn take_unlimited(&self, bytes: u64) -> Option<u64> {
        let mut state = self.state();
        if state.limiter.rate().is_some() {
            return None;
        }
        state.meter.add(bytes, now());
        Some(bytes)
    }

    fn ask(&self, bytes: u64) -> Grant {
        let mut state = self.state();
        let now = now();
        let slice = if state.limiter.rate().is_some() { bytes.min(SLICE_BYTES_MAX) } else { bytes };
        let grant = state.limiter.take(slice, now);
        if let Grant::Move(granted) = grant {
            state.meter.add(granted, now);
        }
        grant
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while holding it is a bug that already stops the program; counters stay usable until then.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for a slice through every throttle of a path (for instance site, then node) and returns its size.
pub async fn pass(throttles: &[Throttle], bytes: u64) -> u64 {
    let Some((first, rest)) = throttles.split_first() else { return bytes };
    let granted = first.take_slice(bytes).await;
    for throttle in rest {
        throttle.take(granted).await;
    }
    granted
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn rate(bytes: u64) -> Option<ByteRate> {
        ByteRate::bytes_per_sec(bytes)
    }

    #[tokio::test(start_paused = true)]
    async fn many_streams_share_one_rate_fairly() {
        let throttle = Throttle::new(rate(1_000_000));
        let began = tokio::time::Instant::now();
        let stream = |throttle: Throttle| async move {
            let mut moved = 0u64;
            while began.elapsed() < Duration::from_secs(4) {
                moved += throttle.take_slice(1 << 20).await;
            }
            moved
        };
        let moved = futures::future::join_all((0..10).map(|_| stream(throttle.clone()))).await;
        let total: u64 = moved.iter().sum();
        assert!((3_900_000..=4_160_000).contains(&total), "{total}");
        let (least, most) = (moved.iter().min().unwrap(), moved.iter().max().unwrap());
        // The first stream runs alone until it waits for the first time.
        assert!(most - least <= 2 * SLICE_BYTES_MAX, "{moved:?}");
        assert!(throttle.peak_per_sec() <= 1_000_000 + 20_000 + 4_096, "{}", throttle.peak_per_sec());
        assert_eq!(throttle.total(), total);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_wait_books_nothing() {
        let throttle = Throttle::new(rate(10_000));
        throttle.take(4_096).await;
        let before = throttle.total();
        for _ in 0..100 {
            let _ = tokio::time::timeout(Duration::from_millis(1), throttle.take_slice(16_384)).await;
        }
        let began = tokio::time::Instant::now();
        throttle.take(10_000).await;
        assert!(began.elapsed() < Duration::from_millis(1_100), "{:?}", began.elapsed());
        assert!(throttle.total() - before <= 12_500);
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_stream_notices_a_new_rate_at_once() {
        let throttle = Throttle::new(rate(1));
        throttle.take(2_048).await;
        let waiting = async {
            throttle.take(1 << 20).await;
            tokio::time::Instant::now()
        };
        let began = tokio::time::Instant::now();
        let change = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            throttle.set_rate(None);
        };
        let (ended, ()) = tokio::join!(waiting, change);
        assert!(ended - began < Duration::from_millis(200), "{:?}", ended - began);
    }

    #[tokio::test(start_paused = true)]
    async fn a_path_is_as_fast_as_its_narrowest_throttle() {
        let path = [Throttle::new(rate(1_000_000)), Throttle::new(rate(100_000))];
        let began = tokio::time::Instant::now();
        let mut moved = 0;
        while moved < 300_000 {
            moved += pass(&path, 300_000 - moved).await;
        }
        let took = began.elapsed().as_secs_f64();
        assert!((2.8..=3.1).contains(&took), "{took}");
        assert_eq!(path[0].total(), path[1].total());
    }
}
