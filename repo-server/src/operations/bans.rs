//! Bans in the whole fleet: a node brings evidence, the manifest and the accused's key judge it, the signed document
//! `fleet/bans` tells everybody; an admin lifts it.
//!
//! Invariants
//! - Nobody is banned on a node's word: only on a statement that the accused signed and that the manifest contradicts.
//! - Evidence that convicts nobody changes nothing but the count against the node that sent it.
//! - Evidence that was lifted once does not ban again.

use crate::authorize::Principal;
use crate::draft::Draft;
use crate::operations::{Failure, audited, member_only};
use crate::state::App;
use sluice_api::bans::{BanList, BanReport, BanRow, FalseEvidence, Lift, NewLift};
use sluice_api::problem::ProblemType;
use sluice_exchange::evidence::{self, Evidence, NotConvicted};
use sluice_model::limits::{BANS_MAX, TEXT_CHARS_MAX};
use sluice_model::{BannedMember, Bans, LiftedBans, MemberKey, MemberKind, Timestamp};
use sluice_repo_store::bans::{self, BanRecord, Lifted};
use sluice_repo_store::members::{self, NodeRecord};
use sluice_repo_store::{Reads, WriteTx, audit};
use sluice_transport::trailer_holds;

/// After so many false accusations a node's evidence is no longer looked at: each look costs a signature check, and an
/// admin has been told often enough.
const FALSE_EVIDENCE_MAX: u64 = 16;
/// Statements that are remembered as lifted, for each member: as many as a site has accusers.
const SPENT_MAX: usize = 64;

/// What came of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judged {
    /// It convicts the accused.
    Convicts,
    /// It says nothing new: the accused is banned, was let off for this, or is no member any more.
    SaysNothing,
    /// It convicts nobody.
    Refused(NotConvicted),
}

/// Takes a node's evidence against a peer.
pub async fn accuse(app: &App, accuser: MemberKey, report: BanReport) -> Result<(), Failure> {
    let served = app.served();
    member_only(&served, &accuser)?;
    let false_before = app.store.look(move |tx| Ok::<_, Failure>(bans::false_count(tx, &accuser)?)).await?;
    if false_before >= FALSE_EVIDENCE_MAX {
        let detail = format!("{false_before} accusations of this node were false; no more of them are looked at");
        return Err(Failure::refused(ProblemType::EvidenceRefused, detail));
    }
    match judge(app, accuser, &report)? {
        Judged::SaysNothing => Ok(()),
        Judged::Convicts => ban(app, accuser, report).await,
        Judged::Refused(reason) => count_against(app, accuser, report.peer, reason).await,
    }
}

fn judge(app: &App, accuser: MemberKey, report: &BanReport) -> Result<Judged, Failure> {
    let served = app.served();
    let Ok(evidence) = Evidence::from_text(&report.evidence) else {
        return Ok(Judged::Refused(NotConvicted::Malformed));
    };
    match served.roster.member(&report.peer).map(|member| member.kind) {
        Some(MemberKind::Node) => {}
        // The origin's own bytes are the owner's affair; one who left the roster is refused already.
        _ => return Ok(Judged::SaysNothing),
    }
    if served.artifact_retracted_by(&evidence.artifact()).is_some() {
        return Ok(Judged::SaysNothing);
    }
    let Some(reader) = app.content.reader(&evidence.artifact()) else {
        return Ok(Judged::Refused(NotConvicted::OtherArtifact));
    };
    let is_signed = |evidence: &Evidence| {
        let (artifact, index) = (evidence.artifact(), evidence.index());
        trailer_holds(&report.peer, &evidence.receiver(), &artifact, index, &evidence.sent(), &evidence.signature)
    };
    Ok(match evidence::judge(&evidence, &accuser, is_signed, reader.manifest()) {
        Ok(()) => Judged::Convicts,
        Err(reason) => Judged::Refused(reason),
    })
}

async fn ban(app: &App, accuser: MemberKey, report: BanReport) -> Result<(), Failure> {
    let peer = report.peer;
    let is_new = app
        .authority
        .change_batched(move |draft, tx| {
            let before = bans::get(tx, &report.peer)?;
            if before.as_ref().is_some_and(|before| !counts_again(before, &report)) {
                return Ok(false);
            }
            let (lifts, spent) = before.map_or((0, Vec::new()), |before| (before.lifts, before.spent));
            let record = BanRecord {
                key: report.peer,
                since: draft.now(),
                accuser,
                evidence: report.evidence.clone(),
                lifted: None,
                lifts,
                spent,
            };
            bans::put(tx, &record)?;
            let detail =
                format!("convicted by a statement that it signed, brought by {accuser}: {}", describe(&record));
            audit::append(tx, audited::done(accuser, "member.ban", report.peer, detail))?;
            write_bans(draft, tx)?;
            Ok::<_, Failure>(true)
        })
        .await?;
    if is_new {
        tracing::error!(%peer, %accuser, "a member is banned in the whole fleet: it signed bytes that are not the chunk");
    }
    Ok(())
}

/// Whether evidence against a member that is known already bans it: not while it is banned, and not for what was lifted.
fn counts_again(before: &BanRecord, report: &BanReport) -> bool {
    let is_spent = before.spent.contains(&statement_hash(&report.evidence.statement));
    before.lifted.is_some() && report.lifts >= before.lifts && !is_spent
}

async fn count_against(app: &App, accuser: MemberKey, peer: MemberKey, reason: NotConvicted) -> Result<(), Failure> {
    let (now, text) = (crate::clock::timestamp(), reason.to_string());
    let count = app.store.change(move |tx| Ok::<_, Failure>(bans::count_false(tx, accuser, now, text)?)).await?;
    tracing::error!(%accuser, accused = %peer, %reason, count, "false evidence was refused, and counts against its sender");
    let why = format!("false evidence, the {count}. of this node: {reason}");
    audited::refused(app, &accuser.to_hex(), "member.ban", &peer.to_hex(), &why).await;
    let detail = format!("the evidence convicts nobody: {reason}; it counts against this node");
    Err(Failure::refused(ProblemType::EvidenceRefused, detail))
}

/// Every ban with its evidence, those in force first, and who accused falsely.
pub async fn list(app: &App) -> Result<BanList, Failure> {
    let (mut records, nodes, false_evidence) = app
        .store
        .look(|tx| Ok::<_, Failure>((bans::list(tx)?, members::nodes(tx)?, bans::false_evidence(tx)?)))
        .await?;
    records.sort_by_key(|record| (record.lifted.is_some(), record.since, record.key));
    let name = |key: &MemberKey| {
        nodes.iter().find(|node| node.key == *key).map_or_else(|| key.short(), |node| node.name.clone())
    };
    let false_evidence = false_evidence.into_iter().map(|record| FalseEvidence {
        name: name(&record.node),
        node: record.node,
        count: record.count,
        last_at: record.last_at,
        last_reason: record.last_reason,
    });
    let rows = records.into_iter().filter_map(|record| to_api(record, &nodes, name));
    Ok(BanList { bans: rows.collect(), false_evidence: false_evidence.collect() })
}

fn to_api(record: BanRecord, nodes: &[NodeRecord], name: impl Fn(&MemberKey) -> String) -> Option<BanRow> {
    // It was parsed before it was stored.
    let evidence = Evidence::from_text(&record.evidence).ok()?;
    Some(BanRow {
        name: name(&record.key),
        site: nodes.iter().find(|node| node.key == record.key).map(|node| node.site.clone()),
        key: record.key,
        since: record.since,
        accuser_name: name(&record.accuser),
        accuser: record.accuser,
        artifact: evidence.artifact(),
        chunk: evidence.index(),
        evidence: record.evidence,
        lifted: record.lifted.map(|lifted| Lift { at: lifted.at, by: lifted.by, reason: lifted.reason }),
    })
}

/// Lifts the ban of a member: every node takes bytes of it again, those that banned it themselves too.
pub async fn lift(app: &App, principal: &Principal, key: MemberKey, lift: NewLift) -> Result<(), Failure> {
    let reason = lift.reason.trim().to_owned();
    if reason.is_empty() || reason.chars().count() > TEXT_CHARS_MAX {
        let detail = format!("say why in 1 to {TEXT_CHARS_MAX} characters: --reason 'the disk was replaced'");
        return Err(Failure::refused(ProblemType::Invalid, detail));
    }
    let who = principal.person.clone();
    app.authority
        .change(move |draft, tx| {
            let record = bans::get(tx, &key)?.filter(|record| record.lifted.is_none());
            let mut record = record.ok_or_else(|| {
                let detail = format!("no ban of {key} is in force; `sluice bans list` shows them");
                Failure::refused(ProblemType::NotFound, detail)
            })?;
            end(&mut record, Lifted { at: draft.now(), by: who.clone(), reason: reason.clone() });
            bans::put(tx, &record)?;
            audit::append(tx, audited::done(who, "member.lift-ban", key, reason))?;
            write_bans(draft, tx)
        })
        .await
}

/// Ends a ban: what convicted the member does not ban it again.
fn end(record: &mut BanRecord, lifted: Lifted) {
    record.spent.push(statement_hash(&record.evidence.statement));
    if record.spent.len() > SPENT_MAX {
        record.spent.remove(0);
    }
    record.lifts = record.lifts.saturating_add(1);
    record.lifted = Some(lifted);
}

/// Makes the records say what a newer signed document says, after a restore from a backup.
pub fn take_over(tx: &WriteTx, found: &Bans, now: Timestamp) -> Result<(), Failure> {
    for ban in &found.bans {
        let before = bans::get(tx, &ban.key)?;
        if before.as_ref().is_some_and(|before| before.lifted.is_none()) {
            continue;
        }
        let Ok(evidence) = Evidence::from_text(&ban.evidence) else { continue };
        let record = BanRecord {
            key: ban.key,
            since: ban.since,
            accuser: evidence.receiver(),
            evidence: ban.evidence.clone(),
            lifted: None,
            lifts: found.lifts(&ban.key),
            spent: before.map(|before| before.spent).unwrap_or_default(),
        };
        bans::put(tx, &record)?;
    }
    for mut record in bans::list(tx)? {
        if record.lifted.is_some() || found.is_banned(&record.key) {
            continue;
        }
        let by = super::restore::NOBODY.parse().expect("a person's name");
        let reason = "lifted after the backup that this server was restored from".to_owned();
        end(&mut record, Lifted { at: now, by, reason });
        record.lifts = record.lifts.max(found.lifts(&record.key));
        bans::put(tx, &record)?;
    }
    Ok(())
}

/// Writes `fleet/bans` anew.
fn write_bans(draft: &mut Draft, tx: &WriteTx) -> Result<(), Failure> {
    let document = document(tx)?;
    if document.bans.len() > BANS_MAX {
        let detail = format!("{BANS_MAX} members are banned already; revoke those that will not come back");
        return Err(Failure::refused(ProblemType::Full, detail));
    }
    draft.set_bans(&document)
}

fn document(tx: &impl Reads) -> Result<Bans, Failure> {
    let records = bans::list(tx)?;
    let in_force = records.iter().filter(|record| record.lifted.is_none());
    let lifted = records.iter().filter(|record| record.lifts > 0);
    Ok(Bans {
        schema: 1,
        bans: in_force
            .map(|record| BannedMember { key: record.key, since: record.since, evidence: record.evidence.clone() })
            .collect(),
        lifted: lifted.map(|record| LiftedBans { key: record.key, lifts: record.lifts }).collect(),
    })
}

fn describe(record: &BanRecord) -> String {
    match Evidence::from_text(&record.evidence) {
        Ok(evidence) => format!("chunk {} of artifact {}", evidence.index(), evidence.artifact()),
        Err(_) => "unreadable".to_owned(),
    }
}

fn statement_hash(statement: &str) -> [u8; 32] {
    *blake3::hash(statement.as_bytes()).as_bytes()
}
