//! Reinstates a retracted patch in one ring: two people, and an entry in the ring's own release role that names the
//! tombstone. The tombstone itself stays; in every other ring it counts as before.
//!
//! Where the ring's release role needs an approver's signature, entry and rows are proposed, and take effect when he signs.

use crate::authorize::{Action, Principal, Resource, authorize};
use crate::draft::Draft;
use crate::operations::approve::{next_release_version, next_serial, no_such_patch, rows};
use crate::operations::retract::{Outcome, check_reason};
use crate::operations::second_person::{self, Asked, Proposal};
use crate::operations::sites::check_ring;
use crate::operations::{Failure, audited};
use crate::state::App;
use sluice_api::admin::NewReinstatement;
use sluice_api::problem::ProblemType;
use sluice_content_store::ContentStore;
use sluice_model::{PersonName, Reinstatement, RingName, Tombstone};
use sluice_repo_store::patches::{self, ApprovalRecord, PatchRecord};
use sluice_repo_store::proposals::ProposedPatch;
use sluice_repo_store::{WriteTx, audit};

/// Kind of the request that waits for a second person.
const KIND: &str = "patch.reinstate";

/// Reinstates when this is the second person who asks for it. Whoever published the patch takes no part.
pub async fn run(app: &App, principal: &Principal, new: NewReinstatement) -> Result<Outcome<PatchRecord>, Failure> {
    let reason = check_reason("a reinstatement", &new.reason)?;
    let (person, subject) = (principal.person.clone(), subject(new.serial, &new.ring));
    let (who, content) = (principal.clone(), app.content.clone());
    let outcome = app.authority.change(move |draft, tx| reinstate(draft, tx, &who, (new, reason), &content)).await;
    audited::outcome(app, person.as_str(), KIND, &subject, outcome).await
}

fn subject(serial: u64, ring: &RingName) -> String {
    format!("retraction {serial} in ring {ring}")
}

fn reinstate(
    draft: &mut Draft,
    tx: &WriteTx,
    principal: &Principal,
    (new, reason): (NewReinstatement, String),
    content: &ContentStore,
) -> Result<Outcome<PatchRecord>, Failure> {
    let tombstone = patches::tombstone(tx, new.serial)?.ok_or_else(|| {
        let detail = format!("there is no retraction {}; `sluice retractions show` lists them", new.serial);
        Failure::refused(ProblemType::NotFound, detail)
    })?;
    let record = patches::get(tx, &tombstone.patch)?.ok_or_else(|| no_such_patch(&tombstone.patch))?;
    let resource = Resource::Release { published_by: &record.published_by, ring: &new.ring };
    authorize(principal, Action::Reinstate, resource)?;
    check_ring(draft, &new.ring)?;
    check_possible(draft, &record, &tombstone, &new.ring, content)?;
    let proposal = Proposal {
        kind: KIND,
        subject: subject(new.serial, &new.ring),
        payload: format!("{}\n{}", new.serial, new.ring).into_bytes(),
        barred: vec![record.published_by.clone()],
    };
    let first = match second_person::ask(tx, principal, proposal, draft.now())? {
        Asked::Waiting(waiting) => return Ok(Outcome::Waiting(waiting)),
        Asked::Ready(request) => request.by,
    };
    let by = vec![first, principal.person.clone()];
    let record = put_back(draft, tx, record, &new.ring, &by)?;
    let entry = Reinstatement {
        schema: 1,
        serial: new.serial,
        patch: tombstone.patch,
        reason: reason.clone(),
        by,
        at: draft.now(),
    };
    draft.add_reinstatement(&new.ring, &entry)?;
    let detail =
        format!("retraction {} lifted in ring {}, asked for by {}: {reason}", new.serial, new.ring, entry.by[0]);
    audit::append(tx, audited::done(&principal.person, KIND, &record.patch, detail))?;
    Ok(Outcome::Done(record))
}

fn check_possible(
    draft: &Draft,
    record: &PatchRecord,
    tombstone: &Tombstone,
    ring: &RingName,
    content: &ContentStore,
) -> Result<(), Failure> {
    let conflict = |detail: String| Err(Failure::refused(ProblemType::Conflict, detail));
    let reinstated = draft.served().view.reinstatements.get(ring).into_iter().flatten();
    if reinstated.clone().any(|known| known.serial == tombstone.serial) {
        return conflict(format!("retraction {} is lifted in ring {ring} already", tombstone.serial));
    }
    let lifted: Vec<u64> = reinstated.map(|known| known.serial).chain([tombstone.serial]).collect();
    let names = |other: &&Tombstone| {
        !lifted.contains(&other.serial)
            && other.content.iter().any(|content| record.artifacts.iter().any(|own| own.sha256 == content.sha256))
    };
    if let Some(other) = draft.served().tombstones.iter().find(names) {
        let detail = format!(
            "retraction {} of {} names the same content; reinstate that one first if it is meant too",
            other.serial, other.patch
        );
        return conflict(detail);
    }
    if let Some(gone) = record.artifacts.iter().find(|artifact| content.reader(&artifact.blake3).is_none()) {
        let detail = format!("the bytes of {} are gone from this server; publish a new version", gone.file_name);
        return conflict(detail);
    }
    Ok(())
}

/// The patch's rows in the ring again, as the newest approval: endpoints are offered it. Other rings, which keep the
/// tombstone, no longer have it, so that it can be retracted again.
fn put_back(
    draft: &mut Draft,
    tx: &WriteTx,
    mut record: PatchRecord,
    ring: &RingName,
    by: &[PersonName],
) -> Result<PatchRecord, Failure> {
    let approval = ApprovalRecord {
        ring: ring.clone(),
        by: by[1].clone(),
        at: draft.now(),
        serial: next_serial(draft, tx, ring)?,
        release_version: next_release_version(draft, ring),
    };
    for released in rows(&record, &approval)? {
        draft.add_released(&released)?;
    }
    if record.retraction.is_some() {
        record.approvals.clear();
    }
    record.approvals.retain(|known| known.ring != *ring);
    record.retraction = None;
    if draft.signs_alone(ring)? {
        record.approvals.push(approval);
    } else {
        let ApprovalRecord { ring, by, at, serial, .. } = approval;
        draft.proposals.note(&ring, ProposedPatch { patch: record.patch.clone(), serial, by, at });
    }
    patches::put(tx, &record)?;
    Ok(record)
}
