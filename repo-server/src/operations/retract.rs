//! Retracts a patch by content: a signed tombstone, and its rows leave every release role, in one transaction.
//!
//! The bytes stay at the origin for a while, blocked, for the case that two people reinstate them; nodes delete theirs.
//! A stolen retractor can deny, and only so much: beyond [`BRAKE_TOMBSTONES_MAX`] an hour a second person must ask too.

use crate::authorize::Principal;
use crate::clock;
use crate::draft::Draft;
use crate::operations::approve::no_such_patch;
use crate::operations::compliance::Exposure;
use crate::operations::second_person::{self, Asked, Proposal};
use crate::operations::{Failure, audited, compliance};
use crate::served::Served;
use crate::state::App;
use sluice_api::admin::{FencedNode, PlannedArtifact, Retraction, RetractionNodes, RetractionPlan, WayBack};
use sluice_api::problem::ProblemType;
use sluice_model::limits::TEXT_CHARS_MAX;
use sluice_model::{MemberKind, PatchRef, RetractedContent, Roster, Sha256, Timestamp, Tombstone};
use sluice_repo_store::WriteTx;
use sluice_repo_store::audit::{self, NewAuditLine};
use sluice_repo_store::patches::{self, ApprovalRecord, ArtifactRecord, PatchRecord};
use sluice_repo_store::requests::RequestRecord;
use sluice_rollout::Offers;
use std::collections::BTreeSet;
use std::time::Duration;

/// Tombstones that one person may make in [`BRAKE_WINDOW`].
pub const BRAKE_TOMBSTONES_MAX: usize = 5;
/// See [`BRAKE_TOMBSTONES_MAX`].
pub const BRAKE_WINDOW: Duration = Duration::from_secs(3_600);
/// Kind of the request that waits for a second person.
const BRAKED: &str = "patch.retract";

/// What came of a call that may need two people.
#[derive(Debug)]
pub enum Outcome<T> {
    /// Done.
    Done(T),
    /// Another person must ask for the same.
    Waiting(RequestRecord),
}

/// Retracts `patch` and those of `also`, and gives the tombstone of `patch`. Retracting twice changes nothing.
///
/// Another patch that shares an artifact goes too, because content is blocked, not a name: it must stand in `also`.
pub async fn run(
    app: &App,
    principal: &Principal,
    patch: PatchRef,
    reason: String,
    also: Vec<PatchRef>,
) -> Result<Outcome<Tombstone>, Failure> {
    let reason = check_reason("a retraction", &reason)?;
    let principal = principal.clone();
    let request = Request { patch, reason, also };
    let (person, subject) = (principal.person.clone(), request.patch.to_string());
    let outcome = app.authority.change(move |draft, tx| retract(draft, tx, &principal, &request)).await;
    audited::outcome(app, person.as_str(), "patch.retract", &subject, outcome).await
}

/// The reason without spaces around it, if it has the right length.
pub fn check_reason(of: &str, reason: &str) -> Result<String, Failure> {
    let reason = reason.trim();
    let chars = reason.chars().count();
    if (1..=TEXT_CHARS_MAX).contains(&chars) {
        return Ok(reason.to_owned());
    }
    let detail = format!("{of} needs a reason of 1 to {TEXT_CHARS_MAX} characters; this one has {chars}");
    Err(Failure::refused(ProblemType::Invalid, detail))
}

struct Request {
    patch: PatchRef,
    reason: String,
    also: Vec<PatchRef>,
}

fn retract(
    draft: &mut Draft,
    tx: &WriteTx,
    principal: &Principal,
    request: &Request,
) -> Result<Outcome<Tombstone>, Failure> {
    let record = patches::get(tx, &request.patch)?.ok_or_else(|| no_such_patch(&request.patch))?;
    if let Some(serial) = record.retraction {
        let tombstone = patches::tombstone(tx, serial)?;
        let tombstone = tombstone.ok_or_else(|| Failure::broken("reading a tombstone", format!("serial {serial}")))?;
        return Ok(Outcome::Done(tombstone));
    }
    let meant = all_meant(&patches::list(tx)?, record, request)?;
    let before = patches::tombstones(tx)?;
    if is_braked(&before, meant.len(), draft.now())
        && let Asked::Waiting(waiting) = second_person::ask(tx, principal, braked(&meant), draft.now())?
    {
        return Ok(Outcome::Waiting(waiting));
    }
    let mut serial = before.last().map_or(0, |tombstone| tombstone.serial);
    let mut made = Vec::with_capacity(meant.len());
    for record in meant {
        serial += 1;
        made.push(bury(draft, tx, principal, record, &request.reason, serial)?);
    }
    remove_rows(draft, &made.iter().flat_map(|tombstone| &tombstone.content).map(|content| content.sha256).collect())?;
    Ok(Outcome::Done(made.into_iter().next().expect("the patch that was asked for comes first")))
}

/// Whether `more` tombstones now would be too many for one person.
fn is_braked(tombstones: &[Tombstone], more: usize, now: Timestamp) -> bool {
    last_hour(tombstones, now) + more > BRAKE_TOMBSTONES_MAX
}

fn last_hour(tombstones: &[Tombstone], now: Timestamp) -> usize {
    tombstones.iter().rev().take_while(|tombstone| now.since(tombstone.at) < BRAKE_WINDOW).count()
}

/// Both people must mean the same patches; each says why in his own words.
fn braked(meant: &[PatchRecord]) -> Proposal {
    let mut patches: Vec<String> = meant.iter().map(|record| record.patch.to_string()).collect();
    let subject = patches[0].clone();
    patches[1..].sort();
    Proposal { kind: BRAKED, subject, payload: patches.join("\n").into_bytes(), barred: Vec::new() }
}

/// What retracting would do; nothing happens.
pub async fn plan(app: &App, patch: PatchRef, also: Vec<PatchRef>) -> Result<RetractionPlan, Failure> {
    let served = app.served();
    let (all, tombstones) =
        app.store.look(|tx| Ok::<_, Failure>((patches::list(tx)?, patches::tombstones(tx)?))).await?;
    let find = |name: &PatchRef| {
        let found = all.iter().find(|record| record.patch == *name);
        found.cloned().ok_or_else(|| no_such_patch(name))
    };
    let mut meant = vec![find(&patch)?];
    for name in also.iter().filter(|name| **name != patch) {
        meant.push(find(name)?);
    }
    meant.retain(|record| record.retraction.is_none());
    let names: Vec<PatchRef> = meant.iter().map(|record| record.patch.clone()).collect();
    let exposure = compliance::exposure(app, names.clone()).await?;
    let now = clock::timestamp();
    Ok(RetractionPlan {
        artifacts: meant.iter().flat_map(|record| planned(record, &all)).collect(),
        not_named: sharing(&all, &meant),
        ways_back: meant.iter().flat_map(|record| ways_back(record, &served)).collect(),
        nodes: served.roster.members.iter().filter(|member| member.kind == MemberKind::Node).count() as u64,
        endpoints_installed: exposure.into_values().flat_map(|exposure| exposure.installed).collect(),
        tombstones_last_hour: last_hour(&tombstones, now) as u64,
        needs_second_person: is_braked(&tombstones, meant.len(), now),
        patches: names,
    })
}

fn planned(record: &PatchRecord, all: &[PatchRecord]) -> Vec<PlannedArtifact> {
    let holders = |sha256: Sha256| {
        let has = move |record: &&PatchRecord| sha256_of(record).any(|other| other == sha256);
        all.iter().filter(has).map(|record| record.patch.clone()).collect()
    };
    let planned = |artifact: &ArtifactRecord| PlannedArtifact {
        file_name: artifact.file_name.clone(),
        sha256: artifact.sha256,
        patches: holders(artifact.sha256),
    };
    record.artifacts.iter().map(planned).collect()
}

/// The live set that was approved last before this patch, in each ring that has it.
fn ways_back(record: &PatchRecord, served: &Served) -> Vec<WayBack> {
    let way_back = |approval: &ApprovalRecord| {
        let rows = served.view.releases.get(&approval.ring).map_or(&[][..], Vec::as_slice);
        let offers = Offers::of(rows, &served.tombstones_in(&approval.ring));
        let live = offers.patch(&record.patch.name).into_iter().flat_map(|offers| offers.live());
        let before = live.filter(|set| set.approved_serial < approval.serial).max_by_key(|set| set.approved_serial);
        let to = before.map(|set| set.patch.clone());
        WayBack { ring: approval.ring.clone(), from: record.patch.clone(), to }
    };
    record.approvals.iter().map(way_back).collect()
}

/// The patch and those of `also`; refused while a patch that shares content is missing from them.
fn all_meant(all: &[PatchRecord], record: PatchRecord, request: &Request) -> Result<Vec<PatchRecord>, Failure> {
    let mut meant = vec![record];
    for name in &request.also {
        if meant.iter().any(|record| record.patch == *name) {
            continue;
        }
        let other = all.iter().find(|record| record.patch == *name).ok_or_else(|| no_such_patch(name))?;
        if other.retraction.is_none() {
            meant.push(other.clone());
        }
    }
    let blocks: Vec<String> = sharing(all, &meant).iter().map(ToString::to_string).collect();
    if blocks.is_empty() {
        return Ok(meant);
    }
    let detail = "other patches share an artifact with this one and would be blocked too; name them in `also` \
                  (--also) when that is meant";
    Err(Failure::blocked(ProblemType::Conflict, detail, blocks))
}

/// Patches that share content with `meant` and are not among them.
fn sharing(all: &[PatchRecord], meant: &[PatchRecord]) -> Vec<PatchRef> {
    let content: BTreeSet<Sha256> = meant.iter().flat_map(sha256_of).collect();
    all.iter()
        .filter(|record| record.retraction.is_none() && !meant.iter().any(|other| other.patch == record.patch))
        .filter(|record| sha256_of(record).any(|sha256| content.contains(&sha256)))
        .map(|record| record.patch.clone())
        .collect()
}

fn sha256_of(record: &PatchRecord) -> impl Iterator<Item = Sha256> {
    record.artifacts.iter().map(|artifact| artifact.sha256)
}

fn bury(
    draft: &mut Draft,
    tx: &WriteTx,
    principal: &Principal,
    mut record: PatchRecord,
    reason: &str,
    serial: u64,
) -> Result<Tombstone, Failure> {
    let content = record.artifacts.iter();
    let content =
        content.map(|artifact| RetractedContent { sha256: artifact.sha256, blake3: artifact.blake3 }).collect();
    let tombstone = Tombstone {
        schema: 1,
        serial,
        patch: record.patch.clone(),
        content,
        reason: reason.to_owned(),
        by: principal.person.clone(),
        at: draft.now(),
        approved: record.approvals.iter().map(|approval| (approval.ring.clone(), approval.serial)).collect(),
    };
    draft.add_tombstone(&tombstone)?;
    patches::put_tombstone(tx, &tombstone)?;
    record.retraction = Some(serial);
    patches::put(tx, &record)?;
    audit::append(
        tx,
        NewAuditLine {
            at: draft.now(),
            who: principal.person.to_string(),
            action: "patch.retract",
            subject: record.patch.to_string(),
            done: true,
            detail: format!("retraction {serial}: {reason}"),
        },
    )?;
    Ok(tombstone)
}

pub(super) fn remove_rows(draft: &mut Draft, content: &BTreeSet<Sha256>) -> Result<(), Failure> {
    for ring in draft.served().view.rings.clone() {
        let Some(rows) = draft.release(&ring) else { continue };
        if rows.values().any(|row| content.contains(&row.sha256)) {
            let left = rows.iter().filter(|(_, row)| !content.contains(&row.sha256));
            let left = left.map(|(target, row)| (target.clone(), row.clone())).collect();
            draft.set_release(&ring, left)?;
        }
    }
    Ok(())
}

/// How far retractions have come: which nodes said that they fenced them, which are awaited, and what endpoints said.
pub async fn progress(app: &App, tombstones: Vec<Tombstone>) -> Result<Vec<Retraction>, Failure> {
    let roster = app.served().roster.clone();
    let patches = tombstones.iter().map(|tombstone| tombstone.patch.clone()).collect();
    let mut exposure = compliance::exposure(app, patches).await?;
    let progress = |tombstone: Tombstone| {
        let exposure = exposure.remove(&tombstone.patch).unwrap_or_default();
        progress_of(app, tombstone, &roster, exposure)
    };
    Ok(tombstones.into_iter().map(progress).collect())
}

fn progress_of(app: &App, tombstone: Tombstone, roster: &Roster, exposure: Exposure) -> Retraction {
    let lease = Duration::from_secs(app.settings.lease.serving_secs);
    let blocked_at_the_latest = tombstone.at.plus(lease);
    let now = clock::timestamp();
    let (mut nodes_fenced, mut nodes_waiting) = (Vec::new(), Vec::new());
    let mut nodes = RetractionNodes::default();
    for node in roster.members.iter().filter(|member| member.kind == MemberKind::Node) {
        nodes.total += 1;
        let word = app.board.word(&node.key);
        // A later fence covers this one: tombstones are fenced in order.
        if let Some(at) = word.as_ref().and_then(|word| word.fences.fenced_at(tombstone.serial)) {
            nodes.fenced += 1;
            nodes_fenced.push(FencedNode { node: node.key, name: node.name.clone(), at });
            continue;
        }
        nodes_waiting.push(node.key);
        let count = match word {
            _ if app.overlay_links.is_up(&node.key) => &mut nodes.connected,
            None => &mut nodes.never_seen,
            // Every timestamp before this retraction was issued before it, and newer ones name it.
            Some(_) if now >= blocked_at_the_latest => &mut nodes.expired,
            Some(_) => &mut nodes.offline,
        };
        *count += 1;
    }
    Retraction {
        serial: tombstone.serial,
        patch: tombstone.patch,
        reason: tombstone.reason,
        by: tombstone.by,
        at: tombstone.at,
        sha256: tombstone.content.iter().map(|content| content.sha256).collect(),
        nodes_fenced,
        nodes_waiting,
        nodes,
        blocked_at_the_latest,
        endpoints_installed: exposure.installed,
        endpoints_rolled_back: exposure.rolled_back,
    }
}
