//! How fresh verified metadata is, by the trusted clock.
//!
//! The serving lease is the expiry of the timestamp role. It is never extended by a wrong clock: the trusted clock is
//! the later of the system's and of the newest verified issue time plus what the boot-time clock counted since it arrived.
//!
//! Invariants
//! - The trusted clock never goes back, whatever the system's clock does and however late a newer timestamp arrives;
//!   except that root replaces the timestamp key, which makes void what the old key said.

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
    /// `now` is [`TrustedClock::now`]'s answer; `None` is [`Freshness::ClockBehind`].
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

/// What is known of the time besides the system's clock: at least `floor`, at the moment `at` of the boot-time clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrustedClock {
    /// Of the metadata in force.
    issued_at: Timestamp,
    floor: Timestamp,
    /// Since the machine's boot; `None` when the metadata was loaded and came before the boot.
    at: Option<Duration>,
    /// Whether the metadata arrived in this process.
    has_arrived: bool,
}

impl TrustedClock {
    /// Metadata issued at `issued_at` was loaded from disk, and when it arrived is not known.
    pub fn loaded(issued_at: Timestamp) -> Self {
        Self { issued_at, floor: issued_at, at: None, has_arrived: false }
    }

    /// Metadata issued at `issued_at` arrives when the machine has been up for `up`.
    pub fn arrived(issued_at: Timestamp, up: Duration) -> Self {
        Self { issued_at, floor: issued_at, at: Some(up), has_arrived: true }
    }

    /// Metadata issued at `issued_at` was loaded from disk, with the clock that an earlier process of this boot stored.
    pub fn restored(issued_at: Timestamp, (floor, at): (Timestamp, Duration), up: Duration) -> Self {
        // Older than the metadata: the process was killed between the two.
        let is_usable = at <= up && floor.plus(up.saturating_sub(at)) >= issued_at;
        if is_usable { Self { issued_at, floor, at: Some(at), has_arrived: false } } else { Self::loaded(issued_at) }
    }

    /// Newer metadata arrives. It moves the clock forward or not at all: metadata that was kept back for hours says an
    /// issue time that lies behind by then.
    pub fn learn(self, issued_at: Timestamp, up: Duration) -> Self {
        match self.floor_at(up) {
            Some(floor) if floor >= issued_at => Self { issued_at, has_arrived: true, ..self },
            _ => Self::arrived(issued_at, up),
        }
    }

    /// The trusted time: the later of `system` and of what is known. `None`: the system's clock stands before what was
    /// verified, nothing newer has arrived since the start, and so there is no time to trust.
    pub fn now(self, system: Timestamp, up: Duration) -> Option<Timestamp> {
        if !self.has_arrived && system < self.issued_at {
            return None;
        }
        Some(self.floor_at(up).map_or(system, |floor| system.max(floor)))
    }

    /// What a later process of this boot needs; `None` when there is nothing that it would not know.
    pub fn to_store(self) -> Option<(Timestamp, Duration)> {
        Some((self.floor, self.at?))
    }

    fn floor_at(self, up: Duration) -> Option<Timestamp> {
        Some(self.floor.plus(up.saturating_sub(self.at?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_millis(secs * 1000)
    }

    const fn up(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn a_clock_set_back_or_frozen_never_extends_a_lease() {
        let clock = TrustedClock::arrived(at(1_000), up(5));
        for system in [at(10), at(1_000)] {
            let now = clock.now(system, up(105));
            assert_eq!(now, Some(at(1_100)));
            assert_eq!(Freshness::of(at(1_000), at(1_060), now), Freshness::Expired { since: Duration::from_secs(40) });
        }
    }

    #[test]
    fn a_start_with_the_clock_before_the_stored_issue_time_trusts_no_time() {
        let clock = TrustedClock::loaded(at(1_000));
        assert_eq!(clock.now(at(999), up(9)), None);
        assert_eq!(clock.now(at(1_001), up(9)), Some(at(1_001)));
        assert_eq!(Freshness::of(at(1_000), at(9_000), None), Freshness::ClockBehind);
        assert!(!Freshness::ClockBehind.is_within_lease());
        assert_eq!(clock.learn(at(2_000), up(9)).now(at(999), up(10)), Some(at(2_001)));
    }

    #[test]
    fn metadata_that_was_kept_back_does_not_set_the_trusted_clock_back() {
        let clock = TrustedClock::arrived(at(1_000), up(0));
        let two_hours_later = clock.learn(at(1_060), up(7_200));
        assert_eq!(two_hours_later.now(at(1_000), up(7_200)), Some(at(8_200)));
    }

    #[test]
    fn a_process_that_starts_again_within_the_boot_knows_the_time_that_passed() {
        let clock = TrustedClock::arrived(at(1_000), up(100));
        let stored = clock.to_store().unwrap();
        let again = TrustedClock::restored(at(1_000), stored, up(160));
        assert_eq!(again.now(at(1_000), up(160)), Some(at(1_060)), "the frozen system clock says nothing");
        assert_eq!(again.now(at(999), up(160)), None, "set back before the metadata: nothing new is served");
        assert_eq!(again.learn(at(1_001), up(161)).now(at(999), up(161)), Some(at(1_061)));
        let newer = TrustedClock::restored(at(5_000), stored, up(160));
        assert_eq!(newer, TrustedClock::loaded(at(5_000)), "killed between the metadata and the clock");
        assert_eq!(TrustedClock::loaded(at(1)).to_store(), None);
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
