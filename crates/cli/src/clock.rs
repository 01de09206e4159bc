//! The only place that reads the clock: for ages in tables.

use sluice_model::Timestamp;
use std::time::SystemTime;

/// Now, by this machine's clock.
#[expect(clippy::disallowed_methods, reason = "this is the clock module")]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
