//! Takes verified metadata up: fetches the documents it names, commits both with the tombstones, and only then lets the
//! rest of the node see it.
//!
//! Invariants
//! - A view is published after its files and tombstones are durable, never before.
//! - Tombstones that were ever seen stay in every later view, whatever the newest metadata lists.
//! - A document that cannot be fetched keeps its older, verified form; retractions do not wait for it.

use crate::origin::Origin;
use crate::view::{NodeView, Place, SignedDocument};
use serde::de::DeserializeOwned;
use sluice_api_client::ClientError;
use sluice_metadata::{DocumentError, DocumentRef, Trusted, View, ViewError, verify_document};
use sluice_model::{EndpointRows, Reinstatement, SiteName, Suspensions, TargetName, Tombstone};
use sluice_rollout::TrustedClock;
use sluice_rollout::gate::{Catalogue, Reinstated};
use sluice_rollout::suspend::InForce;
use sluice_state_store::{StateError, StateStore, StoredFile};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Members that are banned in the whole fleet.
const BANS: &str = "fleet/bans";
/// The suspensions in force.
const SUSPENSIONS: &str = "policy/suspensions";
/// Prefix of documents among the stored files; then sha256, `/` and the target name.
const DOCUMENT_PREFIX: &str = "document/";

/// Documents by target name.
pub type Documents = BTreeMap<TargetName, SignedDocument>;

/// Why metadata was not taken up. What was in force before still is.
#[derive(Debug, thiserror::Error)]
pub enum AdvanceError {
    /// It has no meaning.
    #[error("the metadata has no meaning")]
    View(#[from] ViewError),
    /// It could not be stored.
    #[error("the metadata could not be stored")]
    Store(#[from] StateError),
    /// A signed document cannot be read.
    #[error("the signed document {name} cannot be read: {reason}")]
    Document {
        /// Which.
        name: TargetName,
        /// Why.
        reason: String,
    },
    /// Retractions that this node has never seen are in an archive that it could not fetch.
    #[error("{0} holds retractions that are not known here, and it could not be fetched")]
    ArchiveMissing(TargetName),
    /// The commit was cut off by a panic.
    #[error("the commit ended by panic")]
    Panicked,
}

/// Why a document could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchDocumentError {
    /// No answer, or a refusal.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Not the bytes that are signed.
    #[error(transparent)]
    Wrong(#[from] DocumentError),
    /// The repo server does not have what its own metadata names.
    #[error("the repo server does not have it")]
    Missing,
}

/// The documents that a node at `site` and its agents need of what `view` names.
pub fn document_names(view: &View, site: &SiteName) -> Vec<TargetName> {
    let fixed =
        ["fleet/roster", "fleet/revoked", BANS, "fleet/topology", "policy/limits", SUSPENSIONS].map(str::to_owned);
    let names = fixed.into_iter().chain([endpoints_document(site)]);
    let names = names.map(|name| name.parse().expect("the names of our documents are target names"));
    let indices = view.rings.iter().map(sluice_apt_view::document_name);
    names.chain(view.archives.iter().map(|archive| archive.target.clone())).chain(indices).collect()
}

fn endpoints_document(site: &SiteName) -> String {
    format!("fleet/endpoints-{site}")
}

/// Whether every document that `view` names for `site` is among `documents` as signed.
pub fn is_current(view: &View, site: &SiteName, documents: &Documents) -> bool {
    document_names(view, site).iter().all(|name| match view.documents.get(name) {
        Some(wanted) => documents.get(name).is_some_and(|held| held.document == *wanted),
        None => true,
    })
}

/// Fetches what `view` names and `known` does not hold. One that cannot be had is logged and left as it was known.
pub async fn fetch_documents(view: &View, site: &SiteName, known: &Documents, origin: &Origin) -> Documents {
    let mut documents = Documents::new();
    for name in document_names(view, site) {
        let Some(wanted) = view.documents.get(&name) else { continue };
        let held = known.get(&name);
        if let Some(held) = held.filter(|held| held.document == *wanted) {
            documents.insert(name, held.clone());
            continue;
        }
        match fetch_document(&name, wanted, origin).await {
            Ok(document) => {
                documents.insert(name, document);
            }
            Err(error) => {
                tracing::warn!(document = %name, error = crate::http::problem::chain(&error), "a signed document could not be fetched; its older form stays in force");
                documents.extend(held.map(|held| (name, held.clone())));
            }
        }
    }
    documents
}

async fn fetch_document(
    name: &TargetName,
    wanted: &DocumentRef,
    origin: &Origin,
) -> Result<SignedDocument, FetchDocumentError> {
    let bytes = origin
        .ask(|client| async move { client.document(name, wanted).await })
        .await?
        .ok_or(FetchDocumentError::Missing)?;
    verify_document(wanted, &bytes)?;
    Ok(SignedDocument { document: *wanted, bytes: Arc::from(&bytes[..]) })
}

/// The documents for `view`: from `fresh` where it has the form that is signed, else from `known`.
pub fn merge_documents(view: &View, site: &SiteName, known: &Documents, fresh: &Documents) -> Documents {
    let mut merged = Documents::new();
    for name in document_names(view, site) {
        let Some(wanted) = view.documents.get(&name) else { continue };
        let is_wanted = |held: &&SignedDocument| held.document == *wanted;
        let best = fresh.get(&name).filter(is_wanted).or_else(|| known.get(&name));
        merged.extend(best.map(|best| (name, best.clone())));
    }
    merged
}

/// The view of complete `trusted` with `documents`, which were verified when they came. `tombstones` are those seen
/// before.
pub fn build(
    place: &Place,
    trusted: Trusted,
    documents: Documents,
    tombstones: &[Tombstone],
    clock: TrustedClock,
) -> Result<NodeView, AdvanceError> {
    let view = View::of(&trusted)?;
    for ignored in &view.ignored {
        tracing::warn!(role = %ignored.role, target = ignored.target, reason = ignored.reason, "a signed row has no effect");
    }
    let mut listed = archived(&view, &documents, tombstones)?;
    listed.extend(view.tombstones.iter().cloned());
    let tombstones = unite(tombstones, &listed);
    let endpoints: TargetName = endpoints_document(&place.site).parse().expect("a target name");
    let no_endpoints = EndpointRows { schema: 1, site: place.site.clone(), endpoints: Vec::new() };
    let suspensions: Suspensions = read(&documents, SUSPENSIONS)?.unwrap_or_default();
    let suspensions = InForce::at(&suspensions, &place.site);
    Ok(NodeView {
        key: place.key,
        site: place.site.clone(),
        roster: read(&documents, "fleet/roster")?.unwrap_or_default(),
        bans: read(&documents, BANS)?.unwrap_or_default(),
        limits: read(&documents, "policy/limits")?.unwrap_or_default(),
        endpoints: read(&documents, endpoints.as_str())?.unwrap_or(no_endpoints),
        catalogue: Catalogue::of(&view.releases, &tombstones, &reinstated(&view), suspensions),
        tombstones,
        metadata_files: trusted.files().into_iter().collect(),
        documents,
        issued_at: view.issued_at,
        lease_until: view.lease_until,
        timestamp_version: view.timestamp_version,
        clock,
        hold: None,
        trusted,
        view,
    })
}

fn reinstated(view: &View) -> Reinstated {
    let serials = |reinstatements: &Vec<Reinstatement>| reinstatements.iter().map(|found| found.serial).collect();
    view.reinstatements.iter().map(|(ring, found)| (ring.clone(), serials(found))).collect()
}

/// The tombstones in archives. An archive whose bytes could not be fetched is needed only by who has not seen what it
/// holds; without it nothing is known of that, and the metadata is not taken up.
fn archived(view: &View, documents: &Documents, known: &[Tombstone]) -> Result<Vec<Tombstone>, AdvanceError> {
    let mut found = Vec::new();
    for archive in &view.archives {
        let held = documents.get(&archive.target).filter(|held| held.document == archive.document);
        match held.map(|held| archive.read(&held.bytes)) {
            Some(Ok(tombstones)) => found.extend(tombstones),
            Some(Err(error)) => {
                return Err(AdvanceError::Document { name: archive.target.clone(), reason: error.to_string() });
            }
            None if archive.is_covered_by(known) => {
                let range = archive.first..=archive.last;
                found.extend(known.iter().filter(|tombstone| range.contains(&tombstone.serial)).cloned());
            }
            None => return Err(AdvanceError::ArchiveMissing(archive.target.clone())),
        }
    }
    Ok(found)
}

fn read<T: DeserializeOwned>(documents: &Documents, name: &str) -> Result<Option<T>, AdvanceError> {
    let name: TargetName = name.parse().expect("the names of our documents are target names");
    let Some(document) = documents.get(&name) else { return Ok(None) };
    serde_json::from_slice(&document.bytes)
        .map(Some)
        .map_err(|error| AdvanceError::Document { name, reason: error.to_string() })
}

/// Every tombstone of both, by serial. One that only `known` has is an alarm: somebody signed retractions away. Of one
/// that was folded into an archive the words are kept here.
fn unite(known: &[Tombstone], listed: &[Tombstone]) -> Vec<Tombstone> {
    let mut all: Vec<Tombstone> =
        listed.iter().filter(|other| !known.iter().any(|old| is_same(old, other))).cloned().collect();
    for tombstone in known {
        if !listed.iter().any(|other| is_same(tombstone, other)) {
            tracing::error!(
                serial = tombstone.serial,
                patch = %tombstone.patch,
                "ALARM: the metadata no longer lists a known retraction; it stays blocked here"
            );
        }
        all.push(tombstone.clone());
    }
    all.sort_by_key(|tombstone| tombstone.serial);
    all
}

/// Whether both block the same under the same serial.
fn is_same(one: &Tombstone, other: &Tombstone) -> bool {
    one.serial == other.serial && one.content == other.content && one.patch == other.patch
}

/// Makes the files, documents and tombstones of `view` durable, in one transaction.
pub async fn commit(store: &StateStore, view: &NodeView) -> Result<(), AdvanceError> {
    let store = store.clone();
    let tombstones = view.tombstones.clone();
    let files = stored_files(view);
    tokio::task::spawn_blocking(move || store.commit_metadata(&files, &tombstones))
        .await
        .map_err(|_| AdvanceError::Panicked)??;
    Ok(())
}

fn stored_files(view: &NodeView) -> Vec<StoredFile> {
    let metadata = view.metadata_files.iter().map(|(name, bytes)| (name.clone(), Arc::clone(bytes)));
    let documents = view
        .documents
        .iter()
        .map(|(name, held)| (format!("{DOCUMENT_PREFIX}{}/{name}", held.document.sha256), Arc::clone(&held.bytes)));
    metadata.chain(documents).collect()
}

/// The other way: stored files apart from stored documents, which were verified when they were stored.
pub fn split_stored(files: Vec<StoredFile>) -> (Vec<StoredFile>, Documents) {
    let mut metadata = Vec::new();
    let mut documents = Documents::new();
    for (name, bytes) in files {
        match document_of_stored(&name, &bytes) {
            Some((name, document)) => {
                documents.insert(name, document);
            }
            None => metadata.push((name, bytes)),
        }
    }
    (metadata, documents)
}

fn document_of_stored(name: &str, bytes: &Arc<[u8]>) -> Option<(TargetName, SignedDocument)> {
    let (sha256, name) = name.strip_prefix(DOCUMENT_PREFIX)?.split_once('/')?;
    let document = DocumentRef { length: bytes.len() as u64, sha256: sha256.parse().ok()? };
    Some((name.parse().ok()?, SignedDocument { document, bytes: Arc::clone(bytes) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_model::{ArtifactId, RetractedContent, Sha256, Timestamp};

    fn tombstone(serial: u64) -> Tombstone {
        let byte = serial as u8;
        Tombstone {
            schema: 1,
            serial,
            patch: "demo/1".parse().unwrap(),
            content: vec![RetractedContent {
                sha256: Sha256::from_bytes([byte; 32]),
                blake3: ArtifactId::from_bytes([byte; 32]),
            }],
            reason: "bad".into(),
            by: "ann".parse().unwrap(),
            at: Timestamp::from_millis(1),
            approved: Default::default(),
        }
    }

    #[test]
    fn a_tombstone_that_was_signed_away_stays() {
        let united = unite(&[tombstone(1), tombstone(2)], &[tombstone(2), tombstone(3)]);
        assert_eq!(united, [tombstone(1), tombstone(2), tombstone(3)]);
    }

    #[test]
    fn stored_documents_are_told_from_metadata_files() {
        let bytes: Arc<[u8]> = Arc::from(&b"{}"[..]);
        let sha256 = Sha256::from_bytes([7; 32]);
        let files = vec![
            ("timestamp.json".to_owned(), Arc::clone(&bytes)),
            (format!("document/{sha256}/fleet/endpoints-lyon"), Arc::clone(&bytes)),
        ];
        let (metadata, documents) = split_stored(files);
        assert_eq!(metadata.len(), 1);
        let held = &documents[&"fleet/endpoints-lyon".parse().unwrap()];
        assert_eq!((held.document.length, held.document.sha256), (2, sha256));
    }
}
