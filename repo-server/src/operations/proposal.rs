//! A ring that needs an approver's own key: shows what waits for a signature, and takes signatures.
//!
//! The server cannot publish into such a ring: it has one key of the two. What an approver signed is taken only when it
//! says exactly what was proposed, so that nothing slips in on either side.

use crate::authorize::{Action, Principal, Resource, authorize};
use crate::draft::Draft;
use crate::operations::approve::{check_not_retracted, check_ring, no_such_patch, reinstated};
use crate::operations::{Failure, audited};
use crate::proposals::{Proposal, patch_of};
use crate::state::App;
use sluice_api::ceremony::{self as form, ProposalOutcome, RoleSigner};
use sluice_api::problem::ProblemType;
use sluice_metadata::{DraftFile, ReleasePlan, RoleName, TargetsPlan, Terms};
use sluice_model::{PatchRef, PersonName, RingName, Timestamp};
use sluice_repo_store::audit::{self, NewAuditLine};
use sluice_repo_store::patches::{self, ApprovalRecord};
use sluice_repo_store::{Reads, WriteTx};
use std::time::Duration;

/// A renewal that runs out later than this was made by a clock that is wrong: 90 days and a day.
const RENEWAL_MAX: Duration = Duration::from_secs(91 * 24 * 3_600);
/// A renewal that runs out sooner is not worth a signature.
const RENEWAL_MIN: Duration = Duration::from_secs(24 * 3_600);

/// What waits for a signature; when nothing does, what is served with a new expiry.
pub async fn show(app: &App, ring: RingName) -> Result<form::Proposal, Failure> {
    app.authority.change(move |draft, tx| look(draft, tx, &ring)).await
}

fn look(draft: &mut Draft, tx: &WriteTx, ring: &RingName) -> Result<form::Proposal, Failure> {
    check_ring(draft, ring)?;
    let plan = draft.targets_plan()?;
    let terms = draft.release_terms(ring)?;
    if draft.signs_alone(ring)? {
        let detail = format!(
            "the server signs ring {ring} alone, so nothing waits for a key; approve with `sluice approve NAME/VERSION \
             --ring {ring}`"
        );
        return Err(Failure::refused(ProblemType::Conflict, detail));
    }
    let proposal = proposal_of(draft, ring)?;
    let mut patches = Vec::new();
    for proposed in &proposal.patches {
        let record = patches::get(tx, &proposed.patch)?.ok_or_else(|| no_such_patch(&proposed.patch))?;
        patches.push(form::ProposedPatch {
            patch: proposed.patch.clone(),
            published_by: record.published_by,
            proposed_by: proposed.by.clone(),
            proposed_at: proposed.at,
        });
    }
    let file = serde_json::from_slice(&proposal.file.to_bytes());
    Ok(form::Proposal {
        ring: ring.clone(),
        version: proposal.file.version() - 1,
        threshold: terms.threshold,
        signers: signers(draft, ring, &plan, &terms, &proposal.file),
        patches,
        file_name: proposal.file.file_name(),
        file: file.map_err(|error| Failure::broken("writing a proposal", error))?,
    })
}

/// The stored proposal, or one that only renews.
fn proposal_of(draft: &Draft, ring: &RingName) -> Result<Proposal, Failure> {
    if let Some(known) = draft.proposals.get(ring) {
        return Ok(known.clone());
    }
    let live = draft.live_release(ring).cloned().unwrap_or_default();
    let file = draft.writer.draft_role(&RoleName::release(ring), live.clone(), draft.now());
    let file = file.map_err(|error| Failure::broken("drafting a renewal", error))?;
    Ok(Proposal::new(file, live, Vec::new()))
}

fn signers(draft: &Draft, ring: &RingName, plan: &TargetsPlan, terms: &Terms, file: &DraftFile) -> Vec<RoleSigner> {
    let own = draft.keyring().named(&RoleName::release(ring), terms);
    let signed = file.signed_by(terms);
    let signer = |id: &sluice_metadata::KeyId| RoleSigner {
        keyid: id.to_string(),
        name: plan.names.get(id).cloned(),
        is_server: own.iter().any(|signer| signer.key_id() == *id),
        has_signed: signed.contains(id),
    };
    terms.keys.keys().map(signer).collect()
}

/// Takes a signed proposal; publishes it when enough have signed.
pub async fn sign(
    app: &App,
    principal: &Principal,
    ring: RingName,
    file: serde_json::Value,
) -> Result<ProposalOutcome, Failure> {
    let (person, subject) = (principal.person.clone(), format!("ring {ring}"));
    let principal = principal.clone();
    let bytes = file.to_string().into_bytes();
    let outcome = app.authority.change(move |draft, tx| take(draft, tx, &principal, &ring, &bytes)).await;
    audited::outcome(app, person.as_str(), "ring.sign", &subject, outcome).await
}

fn take(
    draft: &mut Draft,
    tx: &WriteTx,
    principal: &Principal,
    ring: &RingName,
    bytes: &[u8],
) -> Result<ProposalOutcome, Failure> {
    check_ring(draft, ring)?;
    authorize(principal, Action::Approve, Resource::Reach { site: None, ring: Some(ring) })?;
    let terms = draft.release_terms(ring)?;
    let signed = DraftFile::read(&RoleName::release(ring), bytes)
        .map_err(|error| Failure::refused(ProblemType::Invalid, chain(&error)))?;
    let mut proposal = accepted(draft, ring, &signed)?;
    check_people(draft, tx, principal, ring, &proposal)?;
    check_signature(draft, principal, &terms, &proposal.file, &signed)?;
    let merged = proposal.file.merge(&signed);
    merged.map_err(|error| Failure::refused(ProblemType::Conflict, error.to_string()))?;
    for signer in draft.keyring().named(&RoleName::release(ring), &terms) {
        proposal.file.sign(&signer);
    }
    proposal.file.keep_valid(&[&terms]);
    let missing = u32::try_from(proposal.file.missing(&terms)).unwrap_or(u32::MAX);
    let outcome = ProposalOutcome {
        ring: ring.clone(),
        is_published: missing == 0,
        version: proposal.file.version(),
        missing,
        patches: proposal.patches.iter().map(|proposed| proposed.patch.clone()).collect(),
    };
    note(tx, principal, draft.now(), &outcome)?;
    if missing > 0 {
        draft.proposals.set(ring.clone(), proposal);
        return Ok(outcome);
    }
    record_approvals(tx, principal, ring, &proposal)?;
    draft.proposals.remove(ring);
    draft.give(proposal.file)?;
    Ok(outcome)
}

/// The proposal that `signed` is a copy of; or `signed` itself when it renews what is served and does nothing else.
fn accepted(draft: &Draft, ring: &RingName, signed: &DraftFile) -> Result<Proposal, Failure> {
    let changed = || {
        let detail = format!(
            "what was signed is not what is proposed for ring {ring} now: the proposal has changed since; look at it \
             again and sign anew with `sluice approve --ring {ring} --key FILE`"
        );
        Failure::refused(ProblemType::Conflict, detail)
    };
    if let Some(known) = draft.proposals.get(ring) {
        return if known.file.says_the_same(signed) { Ok(known.clone()) } else { Err(changed()) };
    }
    let live = draft.live_release(ring).cloned().unwrap_or_default();
    let renewal = ReleasePlan {
        role: RoleName::release(ring),
        version: draft
            .writer
            .draft_role(&RoleName::release(ring), live.clone(), draft.now())
            .map_or(0, |d| d.version()),
        expires: signed.expires(),
        entries: live.clone(),
    };
    let renewal = renewal.to_draft().map_err(|error| Failure::broken("drafting a renewal", error))?;
    let left = signed.expires().since(draft.now());
    if !renewal.says_the_same(signed) || !(RENEWAL_MIN..=RENEWAL_MAX).contains(&left) {
        return Err(changed());
    }
    Ok(Proposal::new(renewal, live, Vec::new()))
}

/// Nobody signs what he published, and nothing retracted is signed into a ring.
fn check_people(
    draft: &Draft,
    tx: &impl Reads,
    principal: &Principal,
    ring: &RingName,
    proposal: &Proposal,
) -> Result<(), Failure> {
    let live = draft.live_release(ring);
    let added = proposal.entries.iter().filter(|(name, _)| !live.is_some_and(|rows| rows.contains_key(*name)));
    for (name, version) in added.filter_map(|(_, row)| patch_of(row)) {
        let patch = format!("{name}/{version}").parse::<PatchRef>();
        let patch = patch.map_err(|error| Failure::refused(ProblemType::Invalid, error.to_string()))?;
        let record = patches::get(tx, &patch)?.ok_or_else(|| no_such_patch(&patch))?;
        authorize(principal, Action::Approve, Resource::Release { published_by: &record.published_by, ring })?;
        check_not_retracted(tx, &record, &reinstated(Some(&proposal.entries)))?;
    }
    Ok(())
}

/// At least one new, valid signature of a key of the role; a key that has a name is used by that person.
fn check_signature(
    draft: &Draft,
    principal: &Principal,
    terms: &Terms,
    before: &DraftFile,
    signed: &DraftFile,
) -> Result<(), Failure> {
    let (known, now) = (before.signed_by(terms), signed.signed_by(terms));
    let new: Vec<_> = now.difference(&known).collect();
    if new.is_empty() {
        let detail = "the file has no new valid signature of a key that may sign this ring; `sluice calendar` names the \
                      persons who may";
        return Err(Failure::refused(ProblemType::Invalid, detail));
    }
    let names = draft.targets_plan()?.names;
    for id in new {
        let Some(name) = names.get(id).filter(|name| name.as_str() != principal.person.as_str()) else { continue };
        // A holder that is no person of this server (a name on paper only) cannot be compared.
        if name.parse::<PersonName>().is_ok() {
            let detail =
                format!("this is the key of {name}, and the token is of {}: {name} must send it", principal.person);
            return Err(Failure::refused(ProblemType::SeparationOfDuties, detail));
        }
    }
    Ok(())
}

fn record_approvals(tx: &WriteTx, principal: &Principal, ring: &RingName, proposal: &Proposal) -> Result<(), Failure> {
    for proposed in &proposal.patches {
        let mut record = patches::get(tx, &proposed.patch)?.ok_or_else(|| no_such_patch(&proposed.patch))?;
        record.approvals.push(ApprovalRecord {
            ring: ring.clone(),
            by: principal.person.clone(),
            at: proposed.at,
            serial: proposed.serial,
            release_version: proposal.file.version(),
        });
        patches::put(tx, &record)?;
    }
    Ok(())
}

fn note(tx: &WriteTx, principal: &Principal, at: Timestamp, outcome: &ProposalOutcome) -> Result<(), Failure> {
    let patches = outcome.patches.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let what = if patches.is_empty() { "no new patch".to_owned() } else { patches };
    let state = match outcome.missing {
        0 => "published".to_owned(),
        missing => format!("{missing} signatures missing"),
    };
    audit::append(
        tx,
        NewAuditLine {
            at,
            who: principal.person.to_string(),
            action: "ring.sign",
            subject: format!("ring {}", outcome.ring),
            done: true,
            detail: format!("version {}: {what}; {state}", outcome.version),
        },
    )?;
    Ok(())
}

/// An error and its causes in one line: it speaks of what the caller sent.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
