//! What an endpoint's reports about one patch name come to, version by version, without regard to time.
//!
//! Versions of one name exclude each other on a machine, so the last report about any of them speaks about all: when
//! version 2 was installed, version 1 no longer is, whatever the older report about it said. A rollback brings an older
//! version back, and a failed attempt leaves it, only when the packages that were found afterwards are the ones that
//! the version installed.

use crate::{OutcomeKind, OutcomeReport, PackageVersion};
use serde::{Deserialize, Serialize};
use sluice_model::PatchVersion;

/// Where a report stands among all reports of its endpoint: epochs in order, numbers within.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Order {
    /// Of the chain.
    pub epoch: u32,
    /// In the chain.
    pub seq: u64,
}

/// The last counted report about one version of a patch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// Which report.
    pub order: Order,
    /// What happened; never a heartbeat.
    pub outcome: OutcomeKind,
    /// The patch's packages as they were found afterwards.
    pub after: Vec<PackageVersion>,
}

impl Fact {
    /// The fact that a report states about its patch; `None` for a heartbeat.
    pub fn of(report: &OutcomeReport) -> Option<Self> {
        let is_fact = report.patch.is_some() && report.outcome != OutcomeKind::Heartbeat;
        is_fact.then(|| Self {
            order: Order { epoch: report.epoch, seq: report.seq },
            outcome: report.outcome,
            after: report.after.clone(),
        })
    }
}

/// What the reports say of one version of a patch on one endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Standing {
    /// Proven installed.
    Installed = 0,
    /// The last attempt failed.
    Failed = 1,
    /// It was replaced by the retained version before it.
    RolledBack = 2,
    /// It is retracted, installed, and could not be replaced.
    RollbackFailed = 3,
    /// A tombstone keeps it off; it is not installed.
    Blocked = 4,
    /// It was installed, and another version of the same name is now.
    Replaced = 5,
}

impl Standing {
    /// Every standing.
    pub const ALL: [Self; 6] =
        [Self::Installed, Self::Failed, Self::RolledBack, Self::RollbackFailed, Self::Blocked, Self::Replaced];
}

/// The standing of every version of one patch name on one endpoint, in the order of `facts`.
///
/// `facts` holds the last fact of each version, in any order.
pub fn standings(facts: &[(PatchVersion, Fact)]) -> Vec<(PatchVersion, Standing)> {
    facts.iter().map(|(version, fact)| (version.clone(), standing(version, fact, facts))).collect()
}

fn standing(version: &PatchVersion, fact: &Fact, facts: &[(PatchVersion, Fact)]) -> Standing {
    match fact.outcome {
        OutcomeKind::Failed => Standing::Failed,
        OutcomeKind::RolledBack => Standing::RolledBack,
        OutcomeKind::RollbackFailed => Standing::RollbackFailed,
        OutcomeKind::Blocked | OutcomeKind::Heartbeat => Standing::Blocked,
        OutcomeKind::Installed => {
            let later = facts
                .iter()
                .filter(|(other, later)| {
                    other != version && later.order > fact.order && changes_packages(later.outcome)
                })
                .max_by_key(|(_, later)| later.order);
            match later {
                None => Standing::Installed,
                Some((_, later)) if may_leave(later.outcome) && shows(&later.after, &fact.after) => Standing::Installed,
                Some(_) => Standing::Replaced,
            }
        }
    }
}

/// Whether a report about another version means that this one may no longer be what is installed. A blocked patch
/// touched nothing. A failed attempt may have replaced some packages, so what was there before is no longer proven.
fn changes_packages(outcome: OutcomeKind) -> bool {
    matches!(
        outcome,
        OutcomeKind::Installed | OutcomeKind::RolledBack | OutcomeKind::RollbackFailed | OutcomeKind::Failed
    )
}

/// Whether such a report about another version leaves this one installed when the packages show it.
fn may_leave(outcome: OutcomeKind) -> bool {
    matches!(outcome, OutcomeKind::RolledBack | OutcomeKind::Failed)
}

/// Whether `found` has every package of `wanted` in that very version.
fn shows(found: &[PackageVersion], wanted: &[PackageVersion]) -> bool {
    !wanted.is_empty() && wanted.iter().all(|package| package.version.is_some() && found.contains(package))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(seq: u64, outcome: OutcomeKind, version: &str) -> Fact {
        Fact {
            order: Order { epoch: 1, seq },
            outcome,
            after: vec![PackageVersion { package: "data".into(), version: Some(version.into()) }],
        }
    }

    fn of(facts: &[(&str, Fact)]) -> Vec<Standing> {
        let facts: Vec<_> = facts.iter().map(|(v, fact)| (v.parse().unwrap(), fact.clone())).collect();
        standings(&facts).into_iter().map(|(_, standing)| standing).collect()
    }

    #[test]
    fn a_newer_version_replaces_the_older_one() {
        let facts = [("1", fact(1, OutcomeKind::Installed, "1")), ("2", fact(2, OutcomeKind::Installed, "2"))];
        assert_eq!(of(&facts), [Standing::Replaced, Standing::Installed]);
    }

    #[test]
    fn a_rollback_that_found_the_old_packages_brings_the_old_version_back() {
        let facts = [("1", fact(1, OutcomeKind::Installed, "1")), ("2", fact(3, OutcomeKind::RolledBack, "1"))];
        assert_eq!(of(&facts), [Standing::Installed, Standing::RolledBack]);
        let facts = [("1", fact(1, OutcomeKind::Installed, "1")), ("2", fact(3, OutcomeKind::RolledBack, "0"))];
        assert_eq!(of(&facts), [Standing::Replaced, Standing::RolledBack], "other packages prove nothing");
    }

    #[test]
    fn a_failed_rollback_or_attempt_leaves_no_version_proven() {
        let failed = [("1", fact(1, OutcomeKind::Installed, "1")), ("2", fact(3, OutcomeKind::RollbackFailed, "2"))];
        assert_eq!(of(&failed), [Standing::Replaced, Standing::RollbackFailed]);
    }

    #[test]
    fn a_failed_attempt_that_left_the_old_packages_alone_leaves_the_old_version_installed() {
        let facts = [("1", fact(1, OutcomeKind::Installed, "1")), ("2", fact(2, OutcomeKind::Failed, "1"))];
        assert_eq!(of(&facts), [Standing::Installed, Standing::Failed]);
        let facts = [("1", fact(1, OutcomeKind::Installed, "1")), ("2", fact(2, OutcomeKind::Failed, "2"))];
        assert_eq!(of(&facts), [Standing::Replaced, Standing::Failed]);
    }

    #[test]
    fn a_blocked_version_touches_nothing() {
        let facts = [("1", fact(1, OutcomeKind::Installed, "1")), ("2", fact(2, OutcomeKind::Blocked, "1"))];
        assert_eq!(of(&facts), [Standing::Installed, Standing::Blocked]);
    }
}
