//! The one place where this program reads clocks.

use sluice_model::Timestamp;
use std::time::{Duration, Instant, SystemTime};

/// The steady clock, for waiting and measuring.
#[expect(clippy::disallowed_methods, reason = "this is the clock module")]
pub fn now() -> Instant {
    Instant::now()
}

/// The system's wall clock, for what is compared with signed times. A clock before 1970 reads as 1970.
#[expect(clippy::disallowed_methods, reason = "this is the clock module")]
pub fn timestamp() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Since the machine's boot, time asleep included: unlike the wall clock nobody sets it, and unlike [`now`] it is the same
/// for every process and goes on while the machine sleeps.
pub fn since_boot() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Tells this boot of the machine from every other one; `None` when the system does not say.
pub fn boot_id() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned()).filter(|id| !id.is_empty())
}
