//! Verifies what a node shows, with this server's own chain of roots. What the node says beside that counts for nothing.

use crate::operations::Failure;
use crate::restore_room::Shown;
use crate::served::{ROSTER, Served};
use bytes::Bytes;
use sluice_api::problem::ProblemType;
use sluice_api::restore::{NEWER_FILES_MAX, NewerMetadata};
use sluice_metadata::{Profile, Trusted, View, verify_document};
use sluice_model::{Roster, Sha256, TargetName, Tombstone};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// The verified files, if this server's roots lead to them.
pub fn verify(served: &Served, newer: &NewerMetadata) -> Result<Shown, Failure> {
    let refused = |why: String| {
        let detail = format!("the metadata that was shown is refused: {why}");
        Failure::refused(ProblemType::Invalid, detail)
    };
    if newer.files.len() > NEWER_FILES_MAX || newer.documents.len() > NEWER_FILES_MAX {
        return Err(refused(format!("more than {NEWER_FILES_MAX} files")));
    }
    let own_roots = served.files.iter().filter(|(name, _)| name.ends_with(".root.json"));
    let own_roots = own_roots.map(|(name, bytes)| (name.clone(), Arc::from(&bytes[..])));
    let shown = newer.files.iter().filter(|file| !served.files.contains_key(&file.name) || !is_root(&file.name));
    let shown = shown.map(|file| (file.name.clone(), Arc::from(file.bytes.as_slice())));
    let files: Vec<(String, Arc<[u8]>)> = own_roots.chain(shown).collect();
    let trusted = Trusted::restore(&files, Profile::Strict, &[]).map_err(|error| refused(error.to_string()))?;
    if !trusted.is_complete() {
        return Err(refused("it is not complete".into()));
    }
    let view = View::of(&trusted).map_err(|error| refused(error.to_string()))?;
    let documents = documents(&view, newer);
    let tombstones = tombstones(&view, &documents);
    let roster = view.document(ROSTER).and_then(|wanted| documents.get(&wanted.sha256));
    let roster = roster.and_then(|bytes| serde_json::from_slice::<Roster>(bytes).ok());
    Ok(Shown { trusted, documents, tombstones, roster })
}

fn is_root(name: &str) -> bool {
    name.ends_with(".root.json")
}

/// The documents that are what is signed; others are left out.
fn documents(view: &View, newer: &NewerMetadata) -> BTreeMap<Sha256, Bytes> {
    let mut documents = BTreeMap::new();
    for document in &newer.documents {
        let Ok(name) = document.name.parse::<TargetName>() else { continue };
        let Some(wanted) = view.documents.get(&name) else { continue };
        if verify_document(wanted, &document.bytes).is_ok() {
            documents.insert(wanted.sha256, Bytes::from(document.bytes.clone()));
        }
    }
    documents
}

/// Those listed, and those in archives whose bytes are there.
fn tombstones(view: &View, documents: &BTreeMap<Sha256, Bytes>) -> Vec<Tombstone> {
    let archived = view.archives.iter().filter_map(|archive| {
        let bytes = documents.get(&archive.document.sha256)?;
        archive.read(bytes).ok()
    });
    let mut all: Vec<Tombstone> = archived.flatten().collect();
    all.extend(view.tombstones.iter().cloned());
    all
}

/// Whether it says something that this server does not know: a higher version of any role, another file under the same
/// version, or a retraction of content that is not retracted here.
pub fn is_news(served: &Served, newer: &NewerMetadata, shown: &Shown) -> bool {
    let own: BTreeMap<String, u64> = served.versions.iter().cloned().collect();
    let is_higher = |(role, version): &(String, u64)| own.get(role).is_none_or(|known| known < version);
    let blocked: HashSet<Sha256> =
        served.tombstones.iter().flat_map(|tombstone| tombstone.content.iter().map(|content| content.sha256)).collect();
    let mut content = shown.tombstones.iter().flat_map(|tombstone| &tombstone.content);
    let is_fork = shown.trusted.timestamp_version() == served.view.timestamp_version
        && newer.timestamp() != served.files.get("timestamp.json").map(|bytes| &bytes[..]);
    is_fork || shown.trusted.versions().iter().any(is_higher) || content.any(|one| !blocked.contains(&one.sha256))
}
