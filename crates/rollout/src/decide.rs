//! What an endpoint should do now for each patch name, and why, in words.
//!
//! Decides: install, leave, go back, wait. Does not decide: how (the agent's executor makes no choices).
//!
//! Invariants
//! - Nothing that a tombstone names is ever installed.
//! - Nothing is installed outside the lease; going back from a retracted version is allowed then too, and never to
//!   something that was approved after it.
//! - Nothing is installed, nor gone back to, while it is suspended or this machine is held.
//! - An ordinary install never replaces a newer package.
//! - Equal facts give equal decisions and equal words, on the agent and in the repo server's `explain`.

use crate::deb_version;
use crate::lease::Freshness;
use crate::offer::{Offers, PatchOffers, PatchSet, Retracted, Tombstones};
use crate::suspend::InForce;
use serde::{Deserialize, Serialize};
use sluice_model::{ArtifactKind, PackageName, PatchName, PatchRef, Sha256, Timestamp};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// Architecture of packages for every machine.
const ARCHITECTURE_ALL: &str = "all";

/// What an endpoint remembers of one patch name. Serialises itself: the agent keeps it as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The patch that was last proven installed here.
    pub installed: Option<Installed>,
    /// The last attempt that failed, of an install or of a rollback.
    pub failed: Option<Attempt>,
    /// Tombstones (serials) whose consequence here was reported.
    #[serde(default)]
    pub reported_serials: BTreeSet<u64>,
    /// A hold that somebody set at this machine, with the reason.
    #[serde(default)]
    pub held: Option<String>,
}

/// A patch that was proven installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// Which.
    pub patch: PatchRef,
    /// Its artifacts, in set order.
    pub sha256: Vec<Sha256>,
    /// Its packages and their versions.
    pub packages: Vec<(PackageName, String)>,
    /// Those of them that were not installed at all before: a rollback removes them again.
    #[serde(default)]
    pub added: Vec<PackageName>,
    /// When it was proven.
    pub at: Timestamp,
}

/// Failed attempts at the same thing, in a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// What was to be installed, or gone back to.
    pub patch: PatchRef,
    /// How often in a row; from 1.
    pub failures: u32,
    /// When the last one ended.
    pub at: Timestamp,
    /// Class of the last failure, for instance `dependency`.
    pub class: String,
}

/// Class of an attempt that failed because no node delivered the bytes: nothing was touched, so it is repeated soon.
pub const CLASS_DOWNLOAD: &str = "download";
/// First wait after such an attempt; doubled up to [`RetryPolicy::first`].
const DOWNLOAD_RETRY_FIRST: Duration = Duration::from_secs(5);

/// How long to wait after failures: `first`, doubled by each further one, at most `most`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// After the first failure.
    pub first: Duration,
    /// At most.
    pub most: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { first: Duration::from_secs(600), most: Duration::from_secs(24 * 3600) }
    }
}

impl RetryPolicy {
    /// When the attempt after `attempt` may begin.
    pub fn next_at(&self, attempt: &Attempt) -> Timestamp {
        let doublings = attempt.failures.saturating_sub(1).min(20);
        let (first, most) = if attempt.class == CLASS_DOWNLOAD {
            (DOWNLOAD_RETRY_FIRST.min(self.first), self.first)
        } else {
            (self.first, self.most)
        };
        attempt.at.plus(first.saturating_mul(1 << doublings).min(most))
    }
}

/// Everything that a decision rests on.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// What the endpoint's ring offers.
    pub offers: &'a Offers,
    /// Every tombstone ever seen.
    pub tombstones: &'a Tombstones,
    /// Packages that the package manager calls installed, whole, with their versions.
    pub packages: &'a BTreeMap<PackageName, String>,
    /// The package manager's own architecture; `None` when it is not known here (the repo server).
    pub architecture: Option<&'a str>,
    /// What is remembered, by patch name.
    pub memory: &'a BTreeMap<PatchName, Memory>,
    /// Suspensions in force at this site.
    pub suspensions: &'a InForce,
    /// Why nothing may be changed here now: a hold at this machine or at its node.
    pub hold: Option<&'a str>,
    /// Of the metadata behind `offers`.
    pub freshness: Freshness,
    /// Retries.
    pub retry: RetryPolicy,
    /// Now, by the trusted clock.
    pub now: Timestamp,
}

/// Why nothing is done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The ring offers no version.
    NothingOffered,
    /// Metadata whose lease has run out, or no trusted time.
    Lease(Freshness),
    /// Held at this machine.
    Held(String),
    /// Suspended, until two people lift it.
    Suspended {
        /// Id of the suspension.
        id: u64,
        /// Why.
        reason: String,
    },
    /// A failure is too recent.
    BackOff {
        /// How often in a row.
        failures: u32,
        /// Of the last one.
        class: String,
        /// When the next attempt may begin.
        until: Timestamp,
    },
    /// A newer version was installed by other hands.
    Newer {
        /// Which package.
        package: PackageName,
        /// What is installed.
        installed: String,
        /// What the patch has.
        offered: String,
    },
    /// The packages are for other machines.
    Architecture {
        /// Which package.
        package: PackageName,
        /// What it is for.
        offered: String,
        /// What this machine is.
        here: String,
    },
    /// The ring lists the patch without all of its artifacts.
    Incomplete {
        /// Artifacts listed.
        listed: u32,
        /// Artifacts of the patch.
        needed: u32,
    },
}

/// What to do for one patch name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Install this set in one transaction.
    Install {
        /// What.
        set: PatchSet,
    },
    /// Every package of the offered set is installed in its version.
    UpToDate {
        /// The offered set.
        set: PatchSet,
    },
    /// The installed version is retracted: replace it by this earlier one in one transaction.
    Rollback {
        /// What is installed.
        from: Retracted,
        /// What to go back to.
        to: PatchSet,
    },
    /// The installed version is retracted, and there is nothing to go back to.
    InstalledRetracted {
        /// What is installed.
        from: Retracted,
    },
    /// The last offer was retracted before it was installed here, and no other version is offered.
    Blocked {
        /// What is blocked.
        retracted: Retracted,
    },
    /// Nothing now.
    NotNow {
        /// The offered patch, where there is one.
        patch: Option<PatchRef>,
        /// Why.
        reason: Reason,
    },
}

/// The decision for one patch name; its `Display` is the line of `explain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatchDecision {
    /// For which name.
    pub name: PatchName,
    /// What to do.
    pub decision: Decision,
    /// Every version of the name that is blocked by a tombstone.
    pub blocked: Vec<Retracted>,
}

/// Decides for every patch name that the ring lists or a tombstone names. O(patches x artifacts).
pub fn decide(facts: &Facts<'_>) -> Vec<PatchDecision> {
    facts
        .offers
        .patches
        .iter()
        .map(|(name, offers)| PatchDecision {
            name: name.clone(),
            decision: decide_one(facts, name, offers),
            blocked: offers.retracted.clone(),
        })
        .collect()
}

fn decide_one(facts: &Facts<'_>, name: &PatchName, offers: &PatchOffers) -> Decision {
    let memory = facts.memory.get(name);
    if let Some(from) = installed_and_retracted(facts, memory) {
        return leave_retracted(facts, memory, offers, from);
    }
    let Some(set) = &offers.offered else { return nothing_offered(offers) };
    let not_now = |reason| Decision::NotNow { patch: Some(set.patch.clone()), reason };
    match compare_installed(facts.packages, set) {
        Standing::Same => return Decision::UpToDate { set: set.clone() },
        Standing::Newer(reason) => return not_now(reason),
        Standing::Older => {}
    }
    match hindrance(facts, memory, set) {
        Some(reason) => not_now(reason),
        None => Decision::Install { set: set.clone() },
    }
}

/// The retracted patch that is installed here, as memory and package manager agree.
fn installed_and_retracted(facts: &Facts<'_>, memory: Option<&Memory>) -> Option<Retracted> {
    let installed = memory?.installed.as_ref()?;
    let tombstone = facts.tombstones.of_any(&installed.sha256)?;
    let is_there = installed.packages.iter().any(|(package, version)| facts.packages.get(package) == Some(version));
    let known = facts.offers.patch(&installed.patch.name);
    let known = known.and_then(|offers| offers.retracted.iter().find(|known| known.patch == installed.patch));
    is_there.then(|| Retracted {
        patch: installed.patch.clone(),
        serial: tombstone.serial,
        reason: tombstone.reason.clone(),
        approved_serial: known.and_then(|known| known.approved_serial),
    })
}

/// From a retracted version on: forward when the ring offers something newer, else back. After the lease only back, to
/// what was approved before it.
fn leave_retracted(facts: &Facts<'_>, memory: Option<&Memory>, offers: &PatchOffers, from: Retracted) -> Decision {
    let Some(offered) = &offers.offered else { return Decision::InstalledRetracted { from } };
    let to = if facts.freshness.is_within_lease() { Some(offered) } else { offers.way_back(&from) };
    let Some(to) = to else {
        return Decision::NotNow { patch: Some(offered.patch.clone()), reason: Reason::Lease(facts.freshness) };
    };
    let not_now = |reason| Decision::NotNow { patch: Some(to.patch.clone()), reason };
    if let Some(reason) = stopped(facts, memory, to).or_else(|| wrong_architecture(facts, to)) {
        return not_now(reason);
    }
    if let Some(reason) = back_off(facts, memory, to) {
        return not_now(reason);
    }
    match compare_installed(facts.packages, to) {
        Standing::Same => Decision::UpToDate { set: to.clone() },
        Standing::Older => match hindrance(facts, memory, to) {
            Some(reason) => not_now(reason),
            None => Decision::Install { set: to.clone() },
        },
        Standing::Newer(_) => Decision::Rollback { from, to: to.clone() },
    }
}

fn nothing_offered(offers: &PatchOffers) -> Decision {
    if let Some((patch, listed, needed)) = offers.incomplete.last() {
        let reason = Reason::Incomplete { listed: *listed, needed: *needed };
        return Decision::NotNow { patch: Some(patch.clone()), reason };
    }
    match offers.retracted.last() {
        Some(retracted) => Decision::Blocked { retracted: retracted.clone() },
        None => Decision::NotNow { patch: None, reason: Reason::NothingOffered },
    }
}

/// Why an install that is due does not happen now.
fn hindrance(facts: &Facts<'_>, memory: Option<&Memory>, set: &PatchSet) -> Option<Reason> {
    if let Some(reason) = stopped(facts, memory, set) {
        return Some(reason);
    }
    if !facts.freshness.is_within_lease() {
        return Some(Reason::Lease(facts.freshness));
    }
    wrong_architecture(facts, set).or_else(|| back_off(facts, memory, set))
}

/// What a person said: a hold here, or a suspension.
fn stopped(facts: &Facts<'_>, memory: Option<&Memory>, set: &PatchSet) -> Option<Reason> {
    let held = memory.and_then(|memory| memory.held.as_deref());
    if let Some(held) = facts.hold.or(held) {
        return Some(Reason::Held(held.to_owned()));
    }
    let suspension = facts.suspensions.of_set(set)?;
    Some(Reason::Suspended { id: suspension.id, reason: suspension.reason.clone() })
}

fn wrong_architecture(facts: &Facts<'_>, set: &PatchSet) -> Option<Reason> {
    let here = facts.architecture?;
    deb_fields(set).find(|deb| deb.architecture != here && deb.architecture != ARCHITECTURE_ALL).map(|deb| {
        Reason::Architecture { package: deb.package.clone(), offered: deb.architecture.clone(), here: here.to_owned() }
    })
}

fn back_off(facts: &Facts<'_>, memory: Option<&Memory>, set: &PatchSet) -> Option<Reason> {
    let attempt = memory?.failed.as_ref().filter(|attempt| attempt.patch == set.patch)?;
    let until = facts.retry.next_at(attempt);
    (facts.now < until).then(|| Reason::BackOff { failures: attempt.failures, class: attempt.class.clone(), until })
}

enum Standing {
    /// Every package in exactly the set's version.
    Same,
    /// A package is missing or older, and none is newer.
    Older,
    /// A package is newer.
    Newer(Reason),
}

fn compare_installed(packages: &BTreeMap<PackageName, String>, set: &PatchSet) -> Standing {
    let mut standing = Standing::Same;
    for deb in deb_fields(set) {
        let Some(installed) = packages.get(&deb.package) else {
            standing = Standing::Older;
            continue;
        };
        match deb_version::compare(installed, &deb.version) {
            Ordering::Equal => {}
            Ordering::Less => standing = Standing::Older,
            Ordering::Greater => {
                return Standing::Newer(Reason::Newer {
                    package: deb.package.clone(),
                    installed: installed.clone(),
                    offered: deb.version.clone(),
                });
            }
        }
    }
    standing
}

fn deb_fields(set: &PatchSet) -> impl Iterator<Item = &sluice_model::DebFields> {
    set.artifacts.iter().map(|artifact| match &artifact.custom.artifact {
        ArtifactKind::Deb(deb) => deb,
    })
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingOffered => f.write_str("the ring offers no version"),
            Self::Lease(freshness) => write!(f, "the metadata is {freshness}; nothing is installed on it"),
            Self::Held(why) => write!(f, "held at this machine: {why}"),
            Self::Suspended { id, reason } => {
                write!(f, "suspended (#{id}: {reason}) until two people lift it")
            }
            Self::BackOff { failures, class, until } => {
                let times = if *failures == 1 { "once".to_owned() } else { format!("{failures} times") };
                write!(f, "failed {times} ({class}); next attempt after {}", until.to_seconds_text())
            }
            Self::Newer { package, installed, offered } => {
                write!(f, "{package} {installed} is newer than {offered} and is not downgraded")
            }
            Self::Architecture { package, offered, here } => {
                write!(f, "{package} is for {offered}, this machine is {here}")
            }
            Self::Incomplete { listed, needed } => {
                write!(f, "the ring lists {listed} of its {needed} artifacts")
            }
        }
    }
}

impl fmt::Display for Retracted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is retracted (#{}: {})", self.patch, self.serial, self.reason)
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Install { set } => write!(f, "install {}", set.patch),
            Self::UpToDate { set } => write!(f, "up to date with {}", set.patch),
            Self::Rollback { from, to } => write!(f, "roll back to {}: {from}", to.patch),
            Self::InstalledRetracted { from } => {
                write!(f, "installed, and {from}; there is no earlier version to go back to")
            }
            Self::Blocked { retracted } => write!(f, "not installed: {retracted}"),
            Self::NotNow { patch: Some(patch), reason } => write!(f, "not now, {patch}: {reason}"),
            Self::NotNow { patch: None, reason } => write!(f, "not now: {reason}"),
        }
    }
}

impl fmt::Display for PatchDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.decision)?;
        let told = match &self.decision {
            Decision::Rollback { from: told, .. }
            | Decision::InstalledRetracted { from: told }
            | Decision::Blocked { retracted: told } => Some(&told.patch),
            _ => None,
        };
        for retracted in self.blocked.iter().filter(|retracted| Some(&retracted.patch) != told) {
            write!(f, "; blocked: {retracted}")?;
        }
        Ok(())
    }
}
