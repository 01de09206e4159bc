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
