//! Points in time that promises are about. Waiting uses `std::time::Instant`; the two never mix.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// UTC, milliseconds since 1970-01-01T00:00:00Z; never before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(u64);

/// Why a text is not a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a UTC time like 2026-11-21T20:37:45Z")]
pub struct ParseTimestampError(pub String);

impl Timestamp {
    /// Milliseconds since the epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Later by `duration`, at most the largest value.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this is; zero when it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Whole seconds, rounded down: the exact form of TUF `expires`, `YYYY-MM-DDTHH:MM:SSZ`.
    pub fn to_seconds_text(self) -> String {
        self.jiff().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    /// Reads exactly `YYYY-MM-DDTHH:MM:SSZ`.
    pub fn from_seconds_text(text: &str) -> Result<Self, ParseTimestampError> {
        let wrong = || ParseTimestampError(text.chars().take(80).collect());
        let parsed: jiff::Timestamp = text.parse().map_err(|_| wrong())?;
        let millis = u64::try_from(parsed.as_millisecond()).map_err(|_| wrong())?;
        let value = Self(millis);
        if value.to_seconds_text() == text { Ok(value) } else { Err(wrong()) }
    }

    fn jiff(self) -> jiff::Timestamp {
        let millis = i64::try_from(self.0).unwrap_or(i64::MAX);
        jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX)
    }
}

/// RFC 3339 with milliseconds, `2026-11-21T20:37:45.123Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.jiff().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
    }
}

/// Any RFC 3339 time with an offset.
impl FromStr for Timestamp {
    type Err = ParseTimestampError;

    fn from_str(text: &str) -> Result<Self, ParseTimestampError> {
        let wrong = || ParseTimestampError(text.chars().take(80).collect());
        let parsed: jiff::Timestamp = text.parse().map_err(|_| wrong())?;
        u64::try_from(parsed.as_millisecond()).map(Self).map_err(|_| wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exact_form_is_the_only_one_that_is_read_as_seconds_text() {
        let time = Timestamp::from_seconds_text("2026-11-21T20:37:45Z").unwrap();
        assert_eq!(time.to_seconds_text(), "2026-11-21T20:37:45Z");
        assert_eq!(time.to_string(), "2026-11-21T20:37:45.000Z");
        for text in
            ["2026-11-21T20:37:45.0Z", "2026-11-21 20:37:45Z", "2026-11-21T20:37:45+00:00", "1969-12-31T23:59:59Z"]
        {
            assert!(Timestamp::from_seconds_text(text).is_err(), "{text}");
        }
    }
}
