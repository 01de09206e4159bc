//! Says anew what is installed, once after an enrolment anew: in a new epoch the repository believes nothing that was said
//! before.

use crate::dpkg::Snapshot;
use crate::memory::Memories;
use crate::report::Outcome;
use sluice_compliance::OutcomeKind;
use sluice_rollout::Installed;
use sluice_state_store::{StateError, StateStore};

/// The epoch in which everything was said.
const STATED: &str = "stated-epoch";

/// What is to be said in `epoch`; empty when it was said.
pub fn due(store: &StateStore, epoch: u32, memories: &Memories, found: &Snapshot) -> Result<Vec<Outcome>, StateError> {
    let is_said = store.get_u64(STATED)?.unwrap_or(1) >= u64::from(epoch);
    if is_said {
        return Ok(Vec::new());
    }
    let installed = memories.values().filter_map(|memory| memory.installed.as_ref());
    Ok(installed.filter_map(|installed| outcome(installed, found)).collect())
}

/// Everything is in the journal. Said twice after a power cut in between, it comes to the same.
pub fn note_said(store: &StateStore, epoch: u32) -> Result<(), StateError> {
    if store.get_u64(STATED)?.unwrap_or(1) >= u64::from(epoch) { Ok(()) } else { store.put_u64(STATED, epoch.into()) }
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
