//! Nodes that took reports and let none through: remembered across restarts, and said in every report for some days.

use crate::clock;
use sluice_compliance::{WITHHELD_MAX, WithheldBy};
use sluice_model::{MemberKey, Timestamp};
use sluice_state_store::{StateError, StateStore};
use std::collections::BTreeSet;
use std::time::Duration;

const KNOWN: &str = "withheld";
const SAID: &str = "withheld-said";

/// For so long a node is tried last.
const AVOIDED_FOR: Duration = Duration::from_secs(24 * 3600);
/// For so long it is named in reports.
const NAMED_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

/// What is to be said now.
pub fn known(store: &StateStore) -> Result<Vec<WithheldBy>, StateError> {
    let now = clock::timestamp();
    let mut known = read(store, KNOWN)?;
    known.retain(|withheld| is_within(withheld.at, now, NAMED_FOR));
    Ok(known)
}

/// Whether something was learnt that no report has said yet.
pub fn is_unsaid(store: &StateStore) -> Result<bool, StateError> {
    let known = known(store)?;
    Ok(!known.is_empty() && read(store, SAID)? != known)
}

/// A report that says this is in the journal.
pub fn note_said(store: &StateStore, said: &[WithheldBy]) -> Result<(), StateError> {
    let is_new = !said.is_empty() && read(store, SAID)? != said;
    if is_new { write(store, SAID, said) } else { Ok(()) }
}

/// Nodes that are tried last.
pub fn suspects(store: &StateStore) -> Result<BTreeSet<MemberKey>, StateError> {
    let now = clock::timestamp();
    let recent = read(store, KNOWN)?.into_iter().filter(|withheld| is_within(withheld.at, now, AVOIDED_FOR));
    Ok(recent.map(|withheld| withheld.node).collect())
}

/// `node` withheld `reports` more.
pub fn note(store: &StateStore, node: MemberKey, reports: u64) -> Result<(), StateError> {
    let mut known = known(store)?;
    let before = known.extract_if(.., |withheld| withheld.node == node).map(|withheld| withheld.reports).sum::<u64>();
    known.push(WithheldBy { node, reports: before.saturating_add(reports), at: clock::timestamp() });
    if known.len() > WITHHELD_MAX {
        known.remove(0);
    }
    write(store, KNOWN, &known)
}

/// A clock that was set back does not make a suspicion last for ever: one of the future is forgotten.
fn is_within(at: Timestamp, now: Timestamp, length: Duration) -> bool {
    at <= now && now.since(at) <= length
}

fn read(store: &StateStore, key: &str) -> Result<Vec<WithheldBy>, StateError> {
    // What another version wrote is learnt anew.
    Ok(store.get(key)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default())
}

fn write(store: &StateStore, key: &str, withheld: &[WithheldBy]) -> Result<(), StateError> {
    let bytes = serde_json::to_vec(withheld).expect("keys and numbers are JSON");
    tokio::task::block_in_place(|| store.put(key, &bytes))
}
