//! After a failed transaction: packages that are new are removed, packages that were older are put back, never by force.
//!
//! What cannot be put back (no earlier package is kept or offered any more) stays as dpkg left it and is said so.

use crate::download::Sources;
use crate::dpkg::{PackageState, Snapshot, shorten};
use crate::transaction::{Before, Transaction, TransactionError, deb};
use sluice_model::{PackageName, ReleasedArtifact};
use std::path::PathBuf;

/// Brings the packages back to `before`; the answer says in words what was done.
pub async fn restore(
    transaction: &Transaction<'_>,
    before: &Before,
    now: &Snapshot,
) -> Result<String, TransactionError> {
    let mut told = Vec::new();
    let new: Vec<PackageName> = before
        .iter()
        .filter(|(package, version)| version.is_none() && *now.state(package) != PackageState::Absent)
        .map(|(package, _)| package.clone())
        .collect();
    if !new.is_empty() {
        // New packages go first: they may need the new versions of those that are put back.
        let purged = transaction.dpkg.purge(&new).await?;
        told.push(format!("removed again: {}{}", names(&new), unless(purged.success, &purged.words)));
    }
    let mut files = Vec::new();
    let mut back = Vec::new();
    for (package, version) in before {
        let Some(version) = version else { continue };
        if now.version(package) == Some(version) {
            continue;
        }
        match file_of(transaction, package, version).await {
            Some(file) => {
                files.push(file);
                back.push(format!("{package} {version}"));
            }
            None => told.push(format!(
                "{package} {version} could not be put back: the repository does not offer it and none is kept here"
            )),
        }
    }
    if !files.is_empty() {
        let installed = transaction.dpkg.install(&files).await?;
        told.push(format!("put back: {}{}", back.join(", "), unless(installed.success, &installed.words)));
    }
    Ok(told.join("\n"))
}

async fn file_of(transaction: &Transaction<'_>, package: &PackageName, version: &str) -> Option<PathBuf> {
    let is_it = |artifact: &&ReleasedArtifact| deb(artifact).package == *package && deb(artifact).version == *version;
    let artifact = transaction.ways_back.iter().find(is_it)?;
    let obtained = transaction.fetcher.obtain(artifact, &mut Sources::default()).await;
    obtained.map_err(|error| tracing::warn!(%error, %package, "cannot be put back")).ok()
}

fn unless(success: bool, words: &str) -> String {
    if success { String::new() } else { format!(" (dpkg: {})", shorten(words)) }
}

fn names(packages: &[PackageName]) -> String {
    packages.iter().map(PackageName::as_str).collect::<Vec<_>>().join(", ")
}
