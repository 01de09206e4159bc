//! Which suspensions stop what.
//!
//! A suspension names a patch or a package with a range of versions, or everything; it stops an ordinary install and
//! every way back alike: a person said that nothing may move. It never lifts itself.

use crate::deb_version;
use crate::offer::PatchSet;
use sluice_model::{
    ArtifactKind, ReleasedArtifact, SiteName, Suspension, SuspensionSubject, Suspensions, VersionRange,
};
use std::cmp::Ordering;

/// Suspensions in force at one place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InForce {
    all: Vec<Suspension>,
}

impl InForce {
    /// Those that reach `site`.
    pub fn at(suspensions: &Suspensions, site: &SiteName) -> Self {
        Self { all: suspensions.at(site).cloned().collect() }
    }

    /// Those that reach every site.
    pub fn fleet_wide(suspensions: &Suspensions) -> Self {
        let fleet = |suspension: &&Suspension| suspension.scope == sluice_model::SuspensionScope::Fleet;
        Self { all: suspensions.suspensions.iter().filter(fleet).cloned().collect() }
    }

    /// Every suspension, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Suspension> {
        self.all.iter()
    }

    /// The first suspension that stops this artifact.
    pub fn of_artifact(&self, artifact: &ReleasedArtifact) -> Option<&Suspension> {
        self.all.iter().find(|suspension| stops(&suspension.subject, artifact))
    }

    /// The first suspension that stops one of the set's artifacts: a set is installed whole or not at all.
    pub fn of_set(&self, set: &PatchSet) -> Option<&Suspension> {
        self.all.iter().find(|suspension| set.artifacts.iter().any(|artifact| stops(&suspension.subject, artifact)))
    }
}

/// Whether a suspension of `subject` stops `artifact`.
pub fn stops(subject: &SuspensionSubject, artifact: &ReleasedArtifact) -> bool {
    let custom = &artifact.custom;
    match subject {
        SuspensionSubject::Everything => true,
        SuspensionSubject::Patch { name, versions } => {
            custom.patch == *name && holds(versions, custom.patch_version.as_str())
        }
        SuspensionSubject::Package { name, versions } => match &custom.artifact {
            ArtifactKind::Deb(deb) => deb.package == *name && holds(versions, &deb.version),
        },
    }
}

fn holds(range: &VersionRange, version: &str) -> bool {
    let is_above = range.from.as_ref().is_none_or(|from| deb_version::compare(version, from) != Ordering::Less);
    let is_below = range.to.as_ref().is_none_or(|to| deb_version::compare(version, to) != Ordering::Greater);
    is_above && is_below
}
