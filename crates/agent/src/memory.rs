//! What this endpoint remembers of each patch name, and of an attempt that may have been cut off.

use serde::{Deserialize, Serialize};
use sluice_model::{PackageName, PatchName};
use sluice_rollout::{Memory, Offers};
use sluice_state_store::{StateError, StateStore};
use std::collections::BTreeMap;

const MEMORY: &str = "memory";
const ATTEMPT: &str = "attempt";

/// By patch name.
pub type Memories = BTreeMap<PatchName, Memory>;

/// Versions before dpkg was started, kept until the outcome is in the journal: after a power cut in between they still
/// say what to return to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutOff {
    /// Which packages had which version; `None`: was not installed.
    pub before: BTreeMap<PackageName, Option<String>>,
}

/// Reads every memory.
pub fn load(store: &StateStore) -> Result<Memories, StateError> {
    // Unreadable memories are of another version: the next pass asks dpkg and fills them again.
    Ok(store.get(MEMORY)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default())
}

/// Stores every memory that still says something, durably. What is installed is remembered for as long as it is: a
/// retraction may name it after the ring dropped it.
pub fn save(store: &StateStore, memories: &mut Memories, offers: &Offers) -> Result<(), StateError> {
    memories.retain(|name, memory| {
        let is_of_use = offers.patches.contains_key(name) || memory.installed.is_some() || memory.held.is_some();
        is_of_use && *memory != Memory::default()
    });
    store.put(MEMORY, &serde_json::to_vec(memories).expect("memories are JSON"))
}

/// The attempt that was cut off, if one was.
pub fn cut_off(store: &StateStore) -> Result<Option<CutOff>, StateError> {
    Ok(store.get(ATTEMPT)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// Notes that dpkg is about to be started, or (`None`) that the outcome is in the journal.
pub fn note_attempt(store: &StateStore, attempt: Option<&CutOff>) -> Result<(), StateError> {
    store.put(ATTEMPT, &serde_json::to_vec(&attempt).expect("an attempt is JSON"))
}
