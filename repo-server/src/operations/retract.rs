//! Retracts a patch by content: a signed tombstone, and its rows leave every release role, in one transaction.

use crate::authorize::Principal;
use crate::draft::Draft;
use crate::operations::approve::no_such_patch;
use crate::operations::compliance::Exposure;
use crate::operations::{Failure, audited, compliance};
use crate::state::App;
use sluice_api::admin::{FencedNode, Retraction};
use sluice_api::problem::ProblemType;
use sluice_model::limits::TEXT_CHARS_MAX;
use sluice_model::{ArtifactId, MemberKind, PatchRef, RetractedContent, Roster, Sha256, Tombstone};
use sluice_repo_store::WriteTx;
use sluice_repo_store::audit::{self, NewAuditLine};
use sluice_repo_store::patches::{self, PatchRecord};
use std::collections::BTreeSet;
use std::time::Duration;

/// Retracts `patch` and those of `also`, and gives the tombstone of `patch`. Retracting twice changes nothing.
///
/// Another patch that shares an artifact goes too, because content is blocked, not a name: it must stand in `also`.
pub async fn run(
    app: &App,
    principal: &Principal,
    patch: PatchRef,
    reason: String,
    also: Vec<PatchRef>,
) -> Result<Tombstone, Failure> {
    let chars = reason.trim().chars().count();
    if !(1..=TEXT_CHARS_MAX).contains(&chars) {
        let detail = format!("a retraction needs a reason of 1 to {TEXT_CHARS_MAX} characters; this one has {chars}");
        return Err(Failure::refused(ProblemType::Invalid, detail));
    }
    let principal = principal.clone();
    let request = Request { patch, reason: reason.trim().to_owned(), also };
    let (person, subject) = (principal.person.clone(), request.patch.to_string());
    let outcome = app.authority.change(move |draft, tx| retract(draft, tx, &principal, &request)).await;
    let outcome = audited::outcome(app, person.as_str(), "patch.retract", &subject, outcome).await;
    let (tombstone, content) = outcome?;
    retire(app, content);
    Ok(tombstone)
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
) -> Result<(Tombstone, Vec<ArtifactId>), Failure> {
    let record = patches::get(tx, &request.patch)?.ok_or_else(|| no_such_patch(&request.patch))?;
    if let Some(serial) = record.retraction {
        let tombstone = patches::tombstone(tx, serial)?;
        let tombstone = tombstone.ok_or_else(|| Failure::broken("reading a tombstone", format!("serial {serial}")))?;
        return Ok((tombstone, Vec::new()));
    }
    let meant = all_meant(&patches::list(tx)?, record, request)?;
    let mut serial = patches::tombstones(tx)?.last().map_or(0, |tombstone| tombstone.serial);
    let mut made = Vec::with_capacity(meant.len());
    for record in meant {
        serial += 1;
        made.push(bury(draft, tx, principal, record, &request.reason, serial)?);
    }
    let content: Vec<RetractedContent> = made.iter().flat_map(|tombstone| tombstone.content.clone()).collect();
    remove_rows(draft, &content.iter().map(|content| content.sha256).collect())?;
    let first = made.into_iter().next().expect("the patch that was asked for comes first");
    Ok((first, content.iter().map(|content| content.blake3).collect()))
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
    let content: BTreeSet<Sha256> = meant.iter().flat_map(sha256_of).collect();
    let blocks: Vec<String> = all
        .iter()
        .filter(|record| record.retraction.is_none() && !meant.iter().any(|other| other.patch == record.patch))
        .filter(|record| sha256_of(record).any(|sha256| content.contains(&sha256)))
        .map(|record| record.patch.to_string())
        .collect();
    if blocks.is_empty() {
        return Ok(meant);
    }
    let detail = "other patches share an artifact with this one and would be blocked too; name them in `also` \
                  (--also) when that is meant";
    Err(Failure::blocked(ProblemType::Conflict, detail, blocks))
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

fn remove_rows(draft: &mut Draft, content: &BTreeSet<Sha256>) -> Result<(), Failure> {
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

/// The bytes are blocked already; that they leave the disk need not be waited for: unlinking a large file takes a second.
/// What finds no room in the queue goes at the next start.
fn retire(app: &App, content: Vec<ArtifactId>) {
    for artifact in content {
        if app.retired.try_send(artifact).is_err() {
            tracing::warn!(%artifact, "retracted bytes stay on disk until the next start");
        }
    }
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
    let (mut nodes_fenced, mut nodes_waiting) = (Vec::new(), Vec::new());
    for node in roster.members.iter().filter(|member| member.kind == MemberKind::Node) {
        // A later fence covers this one: tombstones are fenced in order.
        match app.board.word(&node.key).and_then(|word| word.fences.fenced_at(tombstone.serial)) {
            Some(at) => nodes_fenced.push(FencedNode { node: node.key, name: node.name.clone(), at }),
            None => nodes_waiting.push(node.key),
        }
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
        blocked_at_the_latest: tombstone.at.plus(lease),
        endpoints_installed: exposure.installed,
        endpoints_rolled_back: exposure.rolled_back,
    }
}
