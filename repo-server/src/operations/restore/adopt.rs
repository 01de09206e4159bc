//! The one transaction that ends a restore: files, records, jump and mark are durable together or not at all.

use super::records;
use crate::draft::Draft;
use crate::operations::fleet_documents::{write_endpoints, write_members, write_sites};
use crate::operations::{Failure, audited, bans};
use crate::restore_room::Learned;
use crate::served::{ENDPOINTS_PREFIX, ROSTER};
use bytes::Bytes;
use sluice_api::problem::ProblemType;
use sluice_audit::Gap;
use sluice_metadata::{DocumentRef, RoleName, Trusted, View, Writer};
use sluice_model::{Bans, EndpointRows, Limits, Revoked, Roster, TargetName, Topology};
use sluice_repo_store::metadata::NewMetadata;
use sluice_repo_store::restore::RestoreRecord;
use sluice_repo_store::{WriteTx, audit, metadata, restore, sites};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Versions that a restore leaves out. A server signs a timestamp a minute and some at each change: a million are two years
/// of that, and nine thousand million such jumps fit below 2^53.
pub const VERSIONS_SKIPPED: u64 = 1_000_000;

/// What a restore brought back.
#[derive(Default)]
pub struct Report {
    /// Nodes that spoke.
    pub nodes_heard: usize,
    /// Retractions that the backup did not have.
    pub retractions: usize,
    /// Nodes and endpoints that it did not have, or had otherwise.
    pub devices: usize,
    /// Patches and approvals that it did not have.
    pub patches: usize,
}

/// Takes over what was learned.
pub fn run(draft: &mut Draft, tx: &WriteTx, record: &RestoreRecord, learned: &Learned) -> Result<Report, Failure> {
    let own = draft.timestamp_version();
    let best = learned.best.as_ref().filter(|best| best.timestamp_version() > own);
    let mut report = Report { nodes_heard: learned.spoken.len(), ..Report::default() };
    if let Some(best) = best {
        take_files(draft, tx, best, learned, &mut report)?;
    }
    draft.drop_proposals();
    for site in sites::list(tx)? {
        write_endpoints(draft, tx, &site.name)?;
    }
    write_members(draft, tx)?;
    write_sites(draft, tx)?;
    report.retractions = records::take_tombstones(draft, tx, &learned.tombstones)?;
    draft.skip_versions(VERSIONS_SKIPPED);
    mark(draft, tx, record, best, &report)?;
    restore::finish(tx)?;
    Ok(report)
}

fn take_files(
    draft: &mut Draft,
    tx: &WriteTx,
    best: &Trusted,
    learned: &Learned,
    report: &mut Report,
) -> Result<(), Failure> {
    let view = View::of(best).map_err(|error| Failure::broken("reading the nodes' metadata", error))?;
    let files: Vec<(String, Arc<[u8]>)> = best.files();
    // What of them is replaced by this change is marked so when it is signed.
    let new = NewMetadata {
        files: files.iter().map(|(name, bytes)| (name.clone(), bytes.to_vec())).collect(),
        ..NewMetadata::default()
    };
    metadata::put(tx, &new, draft.now())?;
    let writer = Writer::load(&files).map_err(|error| Failure::broken("taking over the nodes' metadata", error))?;
    let found = Found { view: &view, learned };
    let documents: BTreeMap<TargetName, Bytes> =
        view.documents.iter().filter_map(|(name, wanted)| Some((name.clone(), found.bytes(wanted)?))).collect();
    draft.take_over(writer, documents);
    for (name, wanted) in &view.documents {
        if found.bytes(wanted).is_none() && !draft.has_document(name, wanted) {
            keep_own(draft, name)?;
        }
    }
    found.into_records(draft, tx, report)
}

/// No node has shown this document, which as a rule means that all nodes of its site are away: the backup's own stays.
fn keep_own(draft: &mut Draft, name: &TargetName) -> Result<(), Failure> {
    let role = match name.as_str().split_once('/') {
        Some(("fleet", _)) => RoleName::fleet(),
        Some(("policy", _)) => RoleName::policy(),
        _ => RoleName::retractions(),
    };
    tracing::error!(document = %name, "no node has shown this document: what the backup says of it counts");
    let is_of_site = name.as_str().starts_with(ENDPOINTS_PREFIX);
    if draft.keep_document(&role, name)? || is_of_site {
        return Ok(());
    }
    let detail = format!("no node has shown {name}, and the backup does not have it: wait for a node that has it");
    Err(Failure::refused(ProblemType::NotReady, detail))
}

/// The nodes' newest state with the bytes of its documents.
struct Found<'a> {
    view: &'a View,
    learned: &'a Learned,
}

impl Found<'_> {
    fn bytes(&self, wanted: &DocumentRef) -> Option<Bytes> {
        self.learned.documents.get(&wanted.sha256).cloned()
    }

    fn document<T: serde::de::DeserializeOwned>(&self, name: &str) -> Option<T> {
        let bytes = self.bytes(self.view.document(name)?)?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Makes the records say what the documents say.
    fn into_records(self, draft: &mut Draft, tx: &WriteTx, report: &mut Report) -> Result<(), Failure> {
        let now = draft.now();
        if let Some(topology) = self.document::<Topology>(crate::served::TOPOLOGY) {
            let limits = self.document::<Limits>(crate::served::LIMITS).unwrap_or_default();
            records::take_sites(tx, &topology, &limits, now)?;
        }
        let roster = self.document::<Roster>(ROSTER).unwrap_or_default();
        let revoked = self.document::<Revoked>(crate::served::REVOKED).unwrap_or_default();
        report.devices += records::take_nodes(tx, &roster, &revoked, now)?;
        let names = self.view.documents.keys().filter(|name| name.as_str().starts_with(ENDPOINTS_PREFIX));
        let rows: Vec<EndpointRows> = names.filter_map(|name| self.document(name.as_str())).collect();
        report.devices += records::take_endpoints(tx, &rows, &revoked)?;
        if let Some(found) = self.document::<Bans>(crate::served::BANS) {
            bans::take_over(tx, &found, now)?;
        }
        report.patches += records::take_patches(tx, self.view)?;
        Ok(())
    }
}

/// Writes the gap into the log: once for the witnesses, once in words.
fn mark(
    draft: &Draft,
    tx: &WriteTx,
    record: &RestoreRecord,
    best: Option<&Trusted>,
    report: &Report,
) -> Result<(), Failure> {
    let timestamp_lost = best.map_or(record.timestamp_version, Trusted::timestamp_version);
    let gap = Gap {
        backup: record.backup,
        lost: best.and_then(Trusted::log_head).unwrap_or(record.backup),
        timestamp_backup: record.timestamp_version,
        timestamp_lost,
        timestamp_next: draft.next_timestamp_version(),
        by: record.by.clone(),
        reason: record.reason.clone(),
    };
    let versions = best.map(Trusted::versions).unwrap_or_default();
    let versions: Vec<String> = versions.into_iter().map(|(role, version)| format!("{role} {version}")).collect();
    let detail = format!(
        "entries {} to {} are lost; timestamp {} in the backup, {timestamp_lost} at the nodes, {} from now on; {} nodes \
         heard; taken over: {} retractions, {} devices, {} patches; versions at the nodes: {}",
        gap.backup.size + 1,
        gap.lost.size,
        gap.timestamp_backup,
        gap.timestamp_next,
        report.nodes_heard,
        report.retractions,
        report.devices,
        report.patches,
        if versions.is_empty() { "none newer".to_owned() } else { versions.join(", ") },
    );
    audit::append_gap(tx, draft.now(), gap)?;
    audit::append(tx, audited::done(&record.by, "server.restored", "repository", detail))?;
    Ok(())
}
