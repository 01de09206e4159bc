//! The compliance state that people are shown: standing, retraction and age together.

use crate::Standing;
use serde::{Deserialize, Serialize};
use sluice_model::Timestamp;
use std::time::Duration;

/// How often an endpoint reports although nothing happened.
pub const HEARTBEAT: Duration = Duration::from_secs(6 * 3_600);
/// Silence after which nothing is known of an endpoint, unless set otherwise: one heartbeat, and an hour for its way here.
pub const SILENCE_MAX: Duration = Duration::from_secs(7 * 3_600);

/// Whether an endpoint whose last report arrived at `heard_at` (by the server's clock) still counts as known at `now`:
/// it was silent for no longer than `silence_max`.
pub fn is_heard(heard_at: Option<Timestamp>, now: Timestamp, silence_max: Duration) -> bool {
    heard_at.is_some_and(|at| now.since(at) <= silence_max)
}

/// The state of one endpoint and one patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ComplianceState {
    /// Proven installed.
    Installed,
    /// Not installed: no attempt was reported, another version stands in its place, or a tombstone keeps it off.
    Missing,
    /// The last attempt failed.
    Failed,
    /// Installed, and since retracted.
    InstalledRetracted,
    /// Installed once, retracted, and replaced by the version before it.
    RolledBack,
    /// No fresh or no trustworthy word from the endpoint.
    Unknown,
}

impl ComplianceState {
    /// Every state.
    pub const ALL: [Self; 6] =
        [Self::Installed, Self::Missing, Self::Failed, Self::InstalledRetracted, Self::RolledBack, Self::Unknown];

    /// The name in the API and in CSV.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Installed => "installed",
            Self::Missing => "missing",
            Self::Failed => "failed",
            Self::InstalledRetracted => "installed_retracted",
            Self::RolledBack => "rolled_back",
            Self::Unknown => "unknown",
        }
    }
}

/// Derives the state. `known` is false for an endpoint that is silent ([`is_heard`]) or whose chain is broken.
pub fn state(standing: Option<Standing>, is_retracted: bool, known: bool) -> ComplianceState {
    if !known {
        return ComplianceState::Unknown;
    }
    match standing {
        Some(Standing::Installed) if is_retracted => ComplianceState::InstalledRetracted,
        Some(Standing::Installed) => ComplianceState::Installed,
        Some(Standing::RollbackFailed) => ComplianceState::InstalledRetracted,
        Some(Standing::Failed) => ComplianceState::Failed,
        Some(Standing::RolledBack) => ComplianceState::RolledBack,
        Some(Standing::Blocked | Standing::Replaced) | None => ComplianceState::Missing,
    }
}

/// Endpoint and patch pairs by state; they add up to `pairs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Counts {
    pub pairs: u64,
    pub installed: u64,
    pub missing: u64,
    pub failed: u64,
    pub installed_retracted: u64,
    pub rolled_back: u64,
    pub unknown: u64,
}

impl Counts {
    /// Adds `count` pairs in `state`.
    pub fn add(&mut self, state: ComplianceState, count: u64) {
        self.pairs += count;
        *self.of_mut(state) += count;
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        for state in ComplianceState::ALL {
            self.add(state, other.of(state));
        }
    }

    /// How many are in `state`.
    pub fn of(&self, state: ComplianceState) -> u64 {
        let mut copy = *self;
        *copy.of_mut(state)
    }

    fn of_mut(&mut self, state: ComplianceState) -> &mut u64 {
        match state {
            ComplianceState::Installed => &mut self.installed,
            ComplianceState::Missing => &mut self.missing,
            ComplianceState::Failed => &mut self.failed,
            ComplianceState::InstalledRetracted => &mut self.installed_retracted,
            ComplianceState::RolledBack => &mut self.rolled_back,
            ComplianceState::Unknown => &mut self.unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // proves: I1
    #[test]
    fn the_derivation_table_row_by_row() {
        use ComplianceState as S;
        let rows = [
            (Some(Standing::Installed), S::Installed, S::InstalledRetracted),
            (Some(Standing::Failed), S::Failed, S::Failed),
            (Some(Standing::RolledBack), S::RolledBack, S::RolledBack),
            (Some(Standing::RollbackFailed), S::InstalledRetracted, S::InstalledRetracted),
            (Some(Standing::Blocked), S::Missing, S::Missing),
            (Some(Standing::Replaced), S::Missing, S::Missing),
            (None, S::Missing, S::Missing),
        ];
        for (standing, live, retracted) in rows {
            assert_eq!(state(standing, false, true), live, "{standing:?}");
            assert_eq!(state(standing, true, true), retracted, "{standing:?} retracted");
            assert_eq!(state(standing, false, false), S::Unknown, "{standing:?} silent");
            assert_eq!(state(standing, true, false), S::Unknown, "{standing:?} retracted and silent");
        }
    }

    #[test]
    fn an_endpoint_is_unknown_before_its_first_report_and_after_seven_hours_of_silence() {
        let heard = Timestamp::from_millis(1_000_000);
        assert!(!is_heard(None, heard, SILENCE_MAX));
        assert!(is_heard(Some(heard), heard.plus(SILENCE_MAX), SILENCE_MAX));
        assert!(!is_heard(Some(heard), heard.plus(SILENCE_MAX + Duration::from_millis(1)), SILENCE_MAX));
    }

    #[test]
    fn counts_add_up_to_their_pairs() {
        let mut counts = Counts::default();
        for (n, state) in ComplianceState::ALL.into_iter().enumerate() {
            counts.add(state, n as u64);
        }
        assert_eq!(counts.pairs, ComplianceState::ALL.iter().map(|state| counts.of(*state)).sum::<u64>());
    }
}
