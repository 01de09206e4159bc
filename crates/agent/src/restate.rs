//! Says anew what is installed, once after an enrolment anew: in a new epoch the repository believes nothing that was said
//! before.

use crate::dpkg::Snapshot;
use crate::memory::Memories;
use crate::report::Outcome;
use sluice_compliance::OutcomeKind;
use sluice_rollout::Installed;
use sluice_state_store::{StateError, StateStore};

/// Set by an enrolment anew, cleared when everything was said.
const DUE: &str = "restate";

/// The machine enrolled anew: with its key in the next epoch, or with another key.
pub fn note_enrolled_anew(store: &StateStore) -> Result<(), StateError> {
    store.put_u64(DUE, 1)
}

/// What is to be said; empty when it was said.
pub fn due(store: &StateStore, memories: &Memories, found: &Snapshot) -> Result<Vec<Outcome>, StateError> {
    if store.get_u64(DUE)?.unwrap_or(0) == 0 {
        return Ok(Vec::new());
    }
    let installed = memories.values().filter_map(|memory| memory.installed.as_ref());
    Ok(installed.filter_map(|installed| outcome(installed, found)).collect())
}

/// Everything is in the journal. Said twice after a power cut in between, it comes to the same.
pub fn note_said(store: &StateStore) -> Result<(), StateError> {
    if store.get_u64(DUE)?.unwrap_or(0) == 0 { Ok(()) } else { store.put_u64(DUE, 0) }
}

/// `None` when the packages are no longer what was proven: the next decision says what is.
fn outcome(installed: &Installed, found: &Snapshot) -> Option<Outcome> {
    let packages = found.versions(installed.packages.iter().map(|(package, _)| package));
    let is_there = installed.packages.iter().all(|(name, version)| {
        packages.iter().any(|found| found.package == name.as_str() && found.version.as_ref() == Some(version))
    });
    is_there.then(|| {
        let mut outcome = Outcome::of(OutcomeKind::Installed, Some(installed.patch.clone()));
        outcome.sha256.clone_from(&installed.sha256);
        outcome.detail = "found installed after the machine enrolled anew".to_owned();
        outcome.before.clone_from(&packages);
        outcome.after = packages;
        outcome
    })
}
