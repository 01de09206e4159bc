//! Who must sign what until when: the expiry calendar of complete metadata.

use crate::ceremony::{CeremonyError, DraftFile, RootPlan, TargetsPlan, Terms};
use crate::{KeyId, RoleName, Trusted};
use sluice_model::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// One role's next signature.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Duty {
    /// Which role.
    pub role: RoleName,
    /// Its version now.
    pub version: u64,
    /// When it runs out.
    pub expires: Timestamp,
    /// Who may sign it, and how many must.
    pub terms: Terms,
    /// Names of the persons among them.
    pub names: BTreeMap<KeyId, String>,
}

/// How near an expiry is. Ordered by urgency.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Nearness {
    /// More than 30 days.
    Quiet,
    /// 30 days or less.
    Days30,
    /// 14 days or less.
    Days14,
    /// 7 days or less.
    Days7,
    /// A day or less.
    Days1,
    /// It is over.
    Lapsed,
}

impl Nearness {
    /// Of what runs out at `expires`.
    pub fn of(expires: Timestamp, now: Timestamp) -> Self {
        if expires <= now {
            return Self::Lapsed;
        }
        let left = expires.since(now);
        let steps = [(1, Self::Days1), (7, Self::Days7), (14, Self::Days14), (30, Self::Days30)];
        steps.into_iter().find(|(days, _)| left <= DAY * *days).map_or(Self::Quiet, |(_, step)| step)
    }

    /// `quiet`, `30-days`, `14-days`, `7-days`, `1-day`, `lapsed`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::Days30 => "30-days",
            Self::Days14 => "14-days",
            Self::Days7 => "7-days",
            Self::Days1 => "1-day",
            Self::Lapsed => "lapsed",
        }
    }
}

/// What root and targets in force say.
pub fn plans(trusted: &Trusted) -> Result<(RootPlan, TargetsPlan), CeremonyError> {
    let versions = trusted.versions();
    let files: BTreeMap<String, _> = trusted.files().into_iter().collect();
    let read = |role: RoleName| -> Result<DraftFile, CeremonyError> {
        let version = versions.iter().find(|(name, _)| name == role.as_str()).map_or(0, |(_, version)| *version);
        let missing = || CeremonyError::Unreadable(format!("{role} is missing"));
        DraftFile::read(&role, files.get(&format!("{version}.{role}.json")).ok_or_else(missing)?)
    };
    Ok((RootPlan::of(&read(RoleName::root())?)?, TargetsPlan::of(&read(RoleName::targets())?)?))
}

/// Every role of complete metadata, soonest first.
pub fn duties(trusted: &Trusted) -> Result<Vec<Duty>, CeremonyError> {
    let (root, targets) = plans(trusted)?;
    let names = |terms: &Terms, names: &BTreeMap<KeyId, String>| -> BTreeMap<KeyId, String> {
        let held = names.iter().filter(|(id, _)| terms.keys.contains_key(*id));
        held.map(|(id, name)| (id.clone(), name.clone())).collect()
    };
    let expires: BTreeMap<RoleName, Timestamp> = trusted.expiries().into_iter().collect();
    let mut duties = Vec::new();
    for (role, version) in trusted.versions() {
        let Some(role) = role.parse::<RoleName>().ok() else { continue };
        let (terms, people) = match (root.roles.get(&role), targets.delegation(&role)) {
            (Some(terms), _) => (terms.clone(), names(terms, &root.names)),
            (None, Some(row)) => (row.terms.clone(), names(&row.terms, &targets.names)),
            (None, None) => continue,
        };
        let Some(expires) = expires.get(&role) else { continue };
        duties.push(Duty { role, version, expires: *expires, terms, names: people });
    }
    duties.sort_by(|a, b| a.expires.cmp(&b.expires).then_with(|| a.role.cmp(&b.role)));
    Ok(duties)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_comes_nearer_in_the_steps_of_the_calendar() {
        let now = Timestamp::from_millis(1_795_000_000_000);
        for (left, nearness) in [
            (DAY * 31, Nearness::Quiet),
            (DAY * 30, Nearness::Days30),
            (DAY * 15, Nearness::Days30),
            (DAY * 14, Nearness::Days14),
            (DAY * 7, Nearness::Days7),
            (DAY * 2, Nearness::Days7),
            (DAY, Nearness::Days1),
            (Duration::from_secs(1), Nearness::Days1),
            (Duration::ZERO, Nearness::Lapsed),
        ] {
            assert_eq!(Nearness::of(now.plus(left), now), nearness, "{left:?}");
        }
        assert!(Nearness::Lapsed > Nearness::Days1 && Nearness::Days1 > Nearness::Quiet);
    }
}
