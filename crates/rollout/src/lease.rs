//! How fresh verified metadata is, by the trusted clock.
//!
//! The serving lease is the expiry of the timestamp role. It is never extended by a wrong clock: the trusted clock is
//! the later of the system's and of the newest verified issue time plus what a steady clock counted since it arrived.

use sluice_model::Timestamp;
use std::fmt;
use std::time::Duration;

/// Metadata younger than this is shown as fresh; the timestamp is re-signed every minute or sixth of the lease.
pub const FRESH_FOR: Duration = Duration::from_secs(15 * 60);

/// How old the metadata is that a program acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Issued less than [`FRESH_FOR`] ago.
    Fresh {
        /// Since it was issued.
        age: Duration,
    },
    /// Older, and still within its lease.
    Stale {
        /// Since it was issued.
        age: Duration,
    },
    /// The lease has run out: nothing is served or installed, a rollback excepted.
    Expired {
        /// Since the lease ended.
        since: Duration,
    },
    /// The system clock stands before what was already verified, and nothing newer arrived since the start: no time can
    /// be trusted.
    ClockBehind,
}

impl Freshness {
    /// The freshness of metadata issued at `issued_at` with a lease until `lease_until`.
    ///
    /// `now` is [`trusted_now`]'s answer; `None` is [`Freshness::ClockBehind`].
    pub fn of(issued_at: Timestamp, lease_until: Timestamp, now: Option<Timestamp>) -> Self {
        let Some(now) = now else { return Self::ClockBehind };
        let age = now.since(issued_at);
        if now >= lease_until {
            Self::Expired { since: now.since(lease_until) }
        } else if age < FRESH_FOR {
            Self::Fresh { age }
        } else {
            Self::Stale { age }
        }
    }

    /// Whether something may be served or installed.
    pub fn is_within_lease(self) -> bool {
        matches!(self, Self::Fresh { .. } | Self::Stale { .. })
    }
}

impl fmt::Display for Freshness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fresh { age } => write!(f, "fresh, {} s old", age.as_secs()),
            Self::Stale { age } => write!(f, "stale, {} s old", age.as_secs()),
            Self::Expired { since } => write!(f, "expired {} s ago", since.as_secs()),
            Self::ClockBehind => f.write_str("unknown, the clock stands before the newest verified metadata"),
        }
    }
}

/// The trusted clock: the later of `system` and `issued_at + since_arrival`.
///
/// `since_arrival` is how long ago, by a steady clock, the metadata issued at `issued_at` arrived in this process;
/// `None` when it was loaded from disk and nothing newer has arrived. Then a system clock before `issued_at` gives
/// `None`: there is no time to trust.
pub fn trusted_now(system: Timestamp, issued_at: Timestamp, since_arrival: Option<Duration>) -> Option<Timestamp> {
    match since_arrival {
        Some(elapsed) => Some(system.max(issued_at.plus(elapsed))),
        None if system >= issued_at => Some(system),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_millis(secs * 1000)
    }

    #[test]
    fn a_clock_set_back_never_extends_a_lease() {
        let now = trusted_now(at(10), at(1_000), Some(Duration::from_secs(100)));
        assert_eq!(now, Some(at(1_100)));
        assert_eq!(Freshness::of(at(1_000), at(1_060), now), Freshness::Expired { since: Duration::from_secs(40) });
    }

    #[test]
    fn a_start_with_the_clock_before_the_stored_issue_time_trusts_no_time() {
        assert_eq!(trusted_now(at(999), at(1_000), None), None);
        assert_eq!(Freshness::of(at(1_000), at(9_000), None), Freshness::ClockBehind);
        assert!(!Freshness::ClockBehind.is_within_lease());
    }

    #[test]
    fn the_lease_ends_at_its_very_millisecond() {
        let until = at(2_000);
        let just_before = Timestamp::from_millis(until.as_millis() - 1);
        assert!(Freshness::of(at(1_000), until, Some(just_before)).is_within_lease());
        assert!(!Freshness::of(at(1_000), until, Some(until)).is_within_lease());
    }

    #[test]
    fn metadata_is_stale_after_a_quarter_of_an_hour() {
        let until = at(86_400);
        assert!(matches!(Freshness::of(at(0), until, Some(at(899))), Freshness::Fresh { .. }));
        assert!(matches!(Freshness::of(at(0), until, Some(at(900))), Freshness::Stale { .. }));
    }
}
