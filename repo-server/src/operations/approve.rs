//! Approves a patch into a ring: a row for each artifact in the ring's release role.
//!
//! Where this server's keys are enough, it is signed and served in the same transaction. Where an approver's own key is
//! needed, the patch becomes part of the ring's proposal and nothing that is served changes.

use crate::authorize::{Action, Principal, Resource, authorize};
use crate::draft::Draft;
use crate::operations::{Failure, audited, restore};
use crate::state::App;
use sluice_api::problem::ProblemType;
use sluice_metadata::{RoleName, TargetEntry};
use sluice_model::{ArtifactSet, PatchRef, PatchTarget, ReleasedArtifact, RingName, TargetName};
use sluice_repo_store::audit::{self, NewAuditLine};
use sluice_repo_store::patches::{self, ApprovalRecord, PatchRecord};
use sluice_repo_store::proposals::ProposedPatch;
use sluice_repo_store::{Reads, WriteTx};
use std::collections::{BTreeMap, BTreeSet};

/// Approves and gives the patch as it is then. Approving twice into the same ring changes nothing.
pub async fn run(app: &App, principal: &Principal, patch: PatchRef, ring: RingName) -> Result<PatchRecord, Failure> {
    let (person, subject) = (principal.person.clone(), patch.to_string());
    let principal = principal.clone();
    let outcome = app.authority.change(move |draft, tx| approve(draft, tx, &principal, &patch, &ring)).await;
    audited::outcome(app, person.as_str(), "patch.approve", &subject, outcome).await
}

fn approve(
    draft: &mut Draft,
    tx: &WriteTx,
    principal: &Principal,
    patch: &PatchRef,
    ring: &RingName,
) -> Result<PatchRecord, Failure> {
    let mut record = patches::get(tx, patch)?.ok_or_else(|| no_such_patch(patch))?;
    authorize(principal, Action::Approve, Resource::Release { published_by: &record.published_by, ring })?;
    check_publisher(&record)?;
    check_ring(draft, ring)?;
    check_not_retracted(tx, &record, &reinstated(draft.live_release(ring)))?;
    if record.approvals.iter().any(|approval| approval.ring == *ring) {
        return Ok(record);
    }
    let approval = ApprovalRecord {
        ring: ring.clone(),
        by: principal.person.clone(),
        at: draft.now(),
        serial: next_serial(draft, tx, ring)?,
        release_version: next_release_version(draft, ring),
    };
    let proposed = draft.proposals.get(ring).map(|proposal| proposal.patches.as_slice()).unwrap_or_default();
    if proposed.iter().any(|known| known.patch == *patch) {
        return Ok(record);
    }
    for released in rows(&record, &approval)? {
        check_name_is_free(draft, &released)?;
        draft.add_released(&released)?;
    }
    if !draft.signs_alone(ring)? {
        propose(draft, tx, principal, &record, approval)?;
        return Ok(record);
    }
    record.approvals.push(approval);
    patches::put(tx, &record)?;
    audit::append(
        tx,
        NewAuditLine {
            at: draft.now(),
            who: principal.person.to_string(),
            action: "patch.approve",
            subject: patch.to_string(),
            done: true,
            detail: format!("into ring {ring}, published by {}", record.published_by),
        },
    )?;
    Ok(record)
}

/// Two people stand behind each approval; after a restore one of them may be unknown.
fn check_publisher(record: &PatchRecord) -> Result<(), Failure> {
    if record.published_by.as_str() != restore::NOBODY {
        return Ok(());
    }
    let detail = format!(
        "nobody knows who published {}, since this server was restored from a backup; publish the same files again first",
        record.patch
    );
    Err(Failure::refused(ProblemType::Conflict, detail))
}

/// Notes who proposed it; the rows are in the ring's proposal already.
fn propose(
    draft: &mut Draft,
    tx: &WriteTx,
    principal: &Principal,
    record: &PatchRecord,
    approval: ApprovalRecord,
) -> Result<(), Failure> {
    let ApprovalRecord { ring, by, at, serial, .. } = approval;
    draft.proposals.note(&ring, ProposedPatch { patch: record.patch.clone(), serial, by, at });
    audit::append(
        tx,
        NewAuditLine {
            at,
            who: principal.person.to_string(),
            action: "patch.propose",
            subject: record.patch.to_string(),
            done: true,
            detail: format!("into ring {ring}, published by {}; waits for an approver's key", record.published_by),
        },
    )?;
    Ok(())
}

/// Serials that these rows of a ring reinstate.
pub(super) fn reinstated(rows: Option<&BTreeMap<TargetName, TargetEntry>>) -> BTreeSet<u64> {
    let names = rows.into_iter().flat_map(BTreeMap::keys);
    names.filter_map(|name| name.file().strip_prefix("reinstated-")?.parse().ok()).collect()
}

/// The problem of a patch that does not exist.
pub fn no_such_patch(patch: &PatchRef) -> Failure {
    Failure::refused(ProblemType::NotFound, format!("there is no patch {patch}; `sluice patches` lists them"))
}

pub(super) fn check_ring(draft: &Draft, ring: &RingName) -> Result<(), Failure> {
    let rings = &draft.served().view.rings;
    if rings.contains(ring) {
        return Ok(());
    }
    let known = rings.iter().map(RingName::as_str).collect::<Vec<_>>().join(", ");
    Err(Failure::refused(ProblemType::Invalid, format!("there is no ring {ring}; the rings are {known}")))
}

/// `lifted`: serials that the ring reinstates, or is proposed to.
pub(super) fn check_not_retracted(
    tx: &impl Reads,
    record: &PatchRecord,
    lifted: &BTreeSet<u64>,
) -> Result<(), Failure> {
    let counts = |serial: &u64| !lifted.contains(serial);
    if let Some(serial) = record.retraction.filter(counts) {
        let detail = format!("{} was retracted (retraction {serial}); publish a mended version", record.patch);
        return Err(Failure::refused(ProblemType::ContentRetracted, detail));
    }
    for artifact in &record.artifacts {
        if let Some(serial) = patches::retracted_by(tx, &artifact.sha256)?.filter(counts) {
            let detail = format!("{} of {} was retracted (retraction {serial})", artifact.file_name, record.patch);
            return Err(Failure::refused(ProblemType::ContentRetracted, detail));
        }
    }
    Ok(())
}

/// One more than any approval into the ring ever had, retracted and proposed ones too: order never repeats.
pub(super) fn next_serial(draft: &Draft, tx: &impl Reads, ring: &RingName) -> Result<u64, Failure> {
    let approvals = patches::list(tx)?.into_iter().flat_map(|patch| patch.approvals);
    let approved = approvals.filter(|approval| approval.ring == *ring).map(|approval| approval.serial).max();
    let proposed = draft.proposals.get(ring).into_iter().flat_map(|proposal| &proposal.patches);
    Ok(approved.unwrap_or(0).max(proposed.map(|known| known.serial).max().unwrap_or(0)) + 1)
}

pub(super) fn next_release_version(draft: &Draft, ring: &RingName) -> u64 {
    let role = RoleName::release(ring);
    let version = draft.versions().into_iter().find(|(name, _)| name == role.as_str());
    version.map_or(1, |(_, version)| version + 1)
}

pub(super) fn rows(record: &PatchRecord, approval: &ApprovalRecord) -> Result<Vec<ReleasedArtifact>, Failure> {
    let count = u32::try_from(record.artifacts.len()).unwrap_or(u32::MAX);
    let mut rows = Vec::with_capacity(record.artifacts.len());
    for (index, artifact) in (0..).zip(&record.artifacts) {
        let target = TargetName::of_patch(&approval.ring, &artifact.file_name)
            .map_err(|error| Failure::refused(ProblemType::Invalid, error.to_string()))?;
        rows.push(ReleasedArtifact {
            target,
            ring: approval.ring.clone(),
            length: artifact.length,
            sha256: artifact.sha256,
            custom: PatchTarget {
                schema: 1,
                patch: record.patch.name.clone(),
                patch_version: record.patch.version.clone(),
                blake3: artifact.blake3,
                sha512: artifact.sha512,
                manifest: artifact.manifest_ref(),
                artifact: artifact.kind(),
                set: ArtifactSet { index, count },
                severity: record.severity,
                cves: record.cves.clone(),
                supersedes: record.supersedes.clone(),
                approved_serial: approval.serial,
                approved_at: approval.at,
            },
        });
    }
    Ok(rows)
}

/// A target name stands for one artifact of one patch: two patches with the same file name cannot be in one ring.
fn check_name_is_free(draft: &Draft, released: &ReleasedArtifact) -> Result<(), Failure> {
    let Some(taken) = draft.release(&released.ring).and_then(|rows| rows.get(&released.target)) else {
        return Ok(());
    };
    let holder = taken.custom.as_ref().and_then(|custom| {
        let patch = custom.get("patch")?;
        Some(format!("{}/{}", patch.get("patch")?.as_str()?, patch.get("patch_version")?.as_str()?))
    });
    let holder = holder.unwrap_or_else(|| "another patch".into());
    let detail = format!(
        "ring {} already has a file {} of {holder}; publish this patch again with another file name",
        released.ring,
        released.target.file()
    );
    Err(Failure::blocked(ProblemType::Conflict, detail, vec![holder]))
}
