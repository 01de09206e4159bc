//! One transaction: what was before, one dpkg invocation for the whole set, the proof by dpkg's database, and the way
//! back when the proof fails.

use crate::download::Fetcher;
use crate::dpkg::{Dpkg, DpkgError, Ran, Snapshot, classify, remarks, shorten};
use crate::memory::{self, CutOff};
use crate::restore::restore;
use sluice_compliance::{FailureClass, PackageVersion};
use sluice_model::{ArtifactKind, DebFields, PackageName, ReleasedArtifact};
use sluice_rollout::PatchSet;
use sluice_state_store::{StateError, StateStore};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The transaction could not even be tried, or its end is unknown. What was before is noted for the next attempt.
#[derive(Debug, thiserror::Error)]
pub enum TransactionError {
    /// dpkg.
    #[error(transparent)]
    Dpkg(#[from] DpkgError),
    /// The store.
    #[error(transparent)]
    State(#[from] StateError),
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Applied {
    /// `None`: every package is proven installed in its version.
    pub failure: Option<FailureClass>,
    /// dpkg's words, and what was taken back.
    pub words: String,
    /// The set's packages before.
    pub before: Vec<PackageVersion>,
    /// And after.
    pub after: Vec<PackageVersion>,
    /// Packages that were not there before.
    pub added: Vec<PackageName>,
}

/// What a transaction needs.
pub struct Transaction<'a> {
    /// The package manager.
    pub dpkg: &'a Dpkg,
    /// Notes what was before.
    pub store: &'a StateStore,
    /// Brings packages to go back to.
    pub fetcher: &'a Fetcher<'a>,
    /// Signed artifacts, none of them tombstoned, that may be gone back to.
    pub ways_back: &'a [ReleasedArtifact],
}

/// Versions before, `None`: not installed.
pub type Before = BTreeMap<PackageName, Option<String>>;

impl Transaction<'_> {
    /// Installs `files`, the verified artifacts of `set`, and then removes `leftovers`, which an earlier version added.
    ///
    /// Not to be dropped: see [`Dpkg::install`]. The caller clears the note ([`memory::note_attempt`]) once the outcome
    /// is in the journal.
    pub async fn apply(
        &self,
        set: &PatchSet,
        files: &[PathBuf],
        leftovers: &[PackageName],
    ) -> Result<Applied, TransactionError> {
        let packages: Vec<&PackageName> = debs(set).map(|deb| &deb.package).chain(leftovers).collect();
        let before = self.before(&packages).await?;
        memory::note_attempt(self.store, Some(&CutOff { before: before.clone() }))?;
        let ran = self.dpkg.install(files).await?;
        let mut now = self.dpkg.snapshot().await?;
        let mut failure = judge(set, &now, &ran);
        let mut words = if failure.is_none() { remarks(&ran.words) } else { shorten(&ran.words) };
        if failure.is_none() && !leftovers.is_empty() {
            let purged = self.dpkg.purge(leftovers).await?;
            now = self.dpkg.snapshot().await?;
            if leftovers.iter().any(|package| now.version(package).is_some()) {
                failure = Some(classify(&purged.words));
                words = shorten(&purged.words);
            }
        } else if failure.is_some() {
            tracing::warn!(patch = %set.patch, "the transaction failed; taking back what it left");
            let taken_back = restore(self, &before, &now).await?;
            words = format!("{words}\n{taken_back}");
            now = self.dpkg.snapshot().await?;
        }
        Ok(Applied {
            failure,
            words,
            after: now.versions(before.keys()),
            added: added(&before, &now),
            before: to_report(&before),
        })
    }

    /// The versions now, or those that an attempt noted which was cut off.
    async fn before(&self, packages: &[&PackageName]) -> Result<Before, TransactionError> {
        let now = self.dpkg.snapshot().await?;
        let noted = memory::cut_off(self.store)?.map(|noted| noted.before).unwrap_or_default();
        let version = |package: &PackageName| match noted.get(package) {
            Some(version) => version.clone(),
            None => now.version(package).map(str::to_owned),
        };
        Ok(packages.iter().map(|package| ((*package).clone(), version(package))).collect())
    }
}

/// The Debian fields of a set's artifacts.
pub fn debs(set: &PatchSet) -> impl Iterator<Item = &DebFields> {
    set.artifacts.iter().map(deb)
}

/// The Debian fields of an artifact.
pub fn deb(artifact: &ReleasedArtifact) -> &DebFields {
    match &artifact.custom.artifact {
        ArtifactKind::Deb(deb) => deb,
    }
}

/// Proof is the database: dpkg's exit status alone neither makes nor breaks an installation.
fn judge(set: &PatchSet, now: &Snapshot, ran: &Ran) -> Option<FailureClass> {
    let is_proven = debs(set).all(|deb| now.version(&deb.package) == Some(deb.version.as_str()));
    match (is_proven, ran.success) {
        (true, _) => None,
        (false, true) => Some(FailureClass::Unproven),
        (false, false) => Some(classify(&ran.words)),
    }
}

fn added(before: &Before, now: &Snapshot) -> Vec<PackageName> {
    let is_new =
        |(package, version): &(&PackageName, &Option<String>)| version.is_none() && now.version(package).is_some();
    before.iter().filter(is_new).map(|(package, _)| package.clone()).collect()
}

fn to_report(before: &Before) -> Vec<PackageVersion> {
    before
        .iter()
        .map(|(package, version)| PackageVersion { package: package.to_string(), version: version.clone() })
        .collect()
}
