//! The one place that reads a clock.

use sluice_model::Timestamp;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// For waiting.
#[expect(clippy::disallowed_methods, reason = "this is the clock module")]
pub fn now() -> Instant {
    Instant::now()
}

/// For promises. A clock before 1970 reads as 1970.
#[expect(clippy::disallowed_methods, reason = "this is the clock module")]
pub fn timestamp() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
