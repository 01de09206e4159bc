//! Takes outcome reports in: each one verified by its endpoint's key, merged, durable, then acknowledged.
//!
//! Whoever carries a report is not asked for the truth: a node hands over any endpoint's reports, an endpoint its own.
//! A bad report is refused by its index and does not hold up the others.

use crate::clock;
use crate::draft::sha256_of;
use crate::operations::{Failure, audited, compliance, quarantine, restore};
use crate::state::App;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sluice_api::device::{RefusedReport, ReportBatch, ReportReceipt, SignedAcknowledgement};
use sluice_api::problem::ProblemType;
use sluice_compliance::{Broken, OutcomeReport, Verdict};
use sluice_compliance_store::{Acknowledged, NewOutcome};
use sluice_identity::endpoint_id_of;
use sluice_model::dsse::{DsseEnvelope, OUTCOME_REPORT_TYPE};
use sluice_model::limits::{REPORT_BYTES_MAX, REPORTS_PER_BATCH_MAX};
use sluice_model::{EndpointId, EndpointState, MemberKey};
use sluice_repo_store::members::{self, EndpointRecord};
use std::collections::HashMap;

/// Takes a batch from the device with `key`.
pub async fn run(app: &App, key: MemberKey, batch: ReportBatch) -> Result<ReportReceipt, Failure> {
    let carrier = carrier(app, key)?;
    if batch.reports.len() > REPORTS_PER_BATCH_MAX {
        let detail =
            format!("a batch has at most {REPORTS_PER_BATCH_MAX} reports; this one has {}", batch.reports.len());
        return Err(Failure::refused(ProblemType::TooLarge, detail));
    }
    learn_key(app, key).await?;
    let endpoints = known_endpoints(app, &batch).await?;
    let checked = tokio::task::spawn_blocking(move || {
        batch.reports.iter().map(|report| check(report, &carrier, &endpoints)).collect::<Vec<_>>()
    });
    let checked = checked.await.map_err(|error| Failure::broken("verifying reports", error))?;
    let mut receipt = ReportReceipt::default();
    let (mut reports, mut indexes) = (Vec::new(), Vec::new());
    for (index, result) in checked.into_iter().enumerate() {
        match result {
            Ok(report) => {
                reports.push(report);
                indexes.push(index);
            }
            Err(reason) => refuse(app, &mut receipt, key, index, reason).await,
        }
    }
    let endpoints: Vec<EndpointId> = reports.iter().map(|report| report.report.endpoint).collect();
    let ingested = app.compliance.ingest(reports).await.map_err(compliance::failure)?;
    for ((verdict, index), endpoint) in ingested.verdicts.into_iter().zip(indexes).zip(endpoints) {
        conclude(app, &mut receipt, index, endpoint, verdict).await;
    }
    receipt.refused.sort_by_key(|refused| refused.index);
    receipt.acknowledgements = ingested.acknowledged.into_iter().map(|ack| sign(app, ack)).collect();
    Ok(receipt)
}

/// Who may hand over what.
enum Carrier {
    /// A node of the roster: reports of any endpoint.
    Node,
    /// An endpoint: its own.
    Endpoint(EndpointId),
}

fn carrier(app: &App, key: MemberKey) -> Result<Carrier, Failure> {
    let served = app.served();
    if served.roster.member(&key).is_some() {
        return Ok(Carrier::Node);
    }
    let endpoint = endpoint_id_of(&key);
    match served.endpoint(&endpoint) {
        Some((_, row)) if row.state == EndpointState::Active => Ok(Carrier::Endpoint(endpoint)),
        _ => Err(super::not_enrolled(&key)),
    }
}

/// After a restore an endpoint may be known by the hash of its key alone; its own connection proves the key.
async fn learn_key(app: &App, key: MemberKey) -> Result<(), Failure> {
    let id = endpoint_id_of(&key);
    let is_unknown = |record: &EndpointRecord| record.key == restore::unknown_key();
    let known = app.store.look(move |tx| Ok::<_, Failure>(members::endpoint(tx, &id)?)).await?;
    let Some(record) = known.filter(is_unknown) else { return Ok(()) };
    app.store.change(move |tx| Ok::<_, Failure>(members::put_endpoint(tx, &EndpointRecord { key, ..record })?)).await
}

/// Whether the device may hand over reports at all: asked before a body is read.
pub fn check_carrier(app: &App, key: MemberKey) -> Result<(), Failure> {
    carrier(app, key).map(|_| ())
}

/// The signer that an envelope names; a hint until the signature was verified with that signer's key.
fn named_signer(envelope: &DsseEnvelope) -> Option<EndpointId> {
    match envelope.signatures.as_slice() {
        [signature] => signature.keyid.parse().ok(),
        _ => None,
    }
}

/// Endpoints with the epoch of their newest enrolment.
type Endpoints = HashMap<EndpointId, (EndpointRecord, u32)>;

async fn known_endpoints(app: &App, batch: &ReportBatch) -> Result<Endpoints, Failure> {
    let named: Vec<EndpointId> = batch.reports.iter().filter_map(named_signer).collect();
    app.store
        .look(move |tx| {
            let mut known = Endpoints::new();
            for id in named {
                if !known.contains_key(&id)
                    && let Some(record) = members::endpoint(tx, &id)?
                {
                    known.insert(id, (record, members::epoch(tx, &id)?));
                }
            }
            Ok::<_, Failure>(known)
        })
        .await
}

/// Why a report is refused, in words for its endpoint's administrator.
struct Refusal {
    reason: String,
    /// Whether it tells of tampering or of a device that should not report.
    is_for_the_audit_log: bool,
}

fn plain(reason: impl Into<String>) -> Refusal {
    Refusal { reason: reason.into(), is_for_the_audit_log: false }
}

fn grave(reason: impl Into<String>) -> Refusal {
    Refusal { reason: reason.into(), is_for_the_audit_log: true }
}

fn check(envelope: &DsseEnvelope, carrier: &Carrier, endpoints: &Endpoints) -> Result<NewOutcome, Refusal> {
    let signatures: usize = envelope.signatures.iter().map(|one| one.keyid.len() + one.sig.len()).sum();
    let length = envelope.payload.len() + envelope.payload_type.len() + signatures;
    if length > REPORT_BYTES_MAX {
        return Err(plain(format!("the report has {length} bytes; at most {REPORT_BYTES_MAX}")));
    }
    let signer =
        named_signer(envelope).ok_or_else(|| plain("the report needs one signature with the endpoint's id"))?;
    if matches!(carrier, Carrier::Endpoint(own) if *own != signer) {
        return Err(grave(format!("an endpoint hands over its own reports only; this one is of {signer}")));
    }
    let (endpoint, epoch) =
        endpoints.get(&signer).ok_or_else(|| grave(format!("endpoint {signer} is not enrolled")))?;
    if endpoint.state == EndpointState::Revoked {
        return Err(grave(format!("endpoint {signer} was revoked")));
    }
    if endpoint.key == restore::unknown_key() {
        return Err(plain(format!(
            "the repo server was restored and knows endpoint {signer} by the hash of its key alone, until it brings a report itself"
        )));
    }
    let payload = sluice_metadata::dsse::verify(envelope, endpoint.key.as_bytes(), OUTCOME_REPORT_TYPE)
        .map_err(|error| grave(format!("not a report of endpoint {signer}: {error}")))?;
    let report = OutcomeReport::from_payload(&payload)
        .map_err(|error| plain(format!("endpoint {signer}: {error}{}", why(&error))))?;
    if report.endpoint != signer {
        return Err(grave(format!("signed by endpoint {signer}, but it says that it is of {}", report.endpoint)));
    }
    check_epoch(&report, *epoch)?;
    let signature = envelope.signatures.first().and_then(|one| STANDARD.decode(&one.sig).ok()).unwrap_or_default();
    Ok(NewOutcome {
        hash: sha256_of(&payload),
        report,
        payload,
        signature,
        site: endpoint.site.clone(),
        ring: endpoint.ring.clone(),
        received_at: clock::timestamp(),
    })
}

fn why(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(String::new, |source| format!(": {source}"))
}

/// Only the newest enrolment is heard: were a key allowed to begin an epoch by itself, a clone would leave its quarantine;
/// were it heard in an old one, a copy that was left behind would speak for the machine.
fn check_epoch(report: &OutcomeReport, enrolled: u32) -> Result<(), Refusal> {
    let (id, epoch) = (report.endpoint, report.epoch);
    match epoch.cmp(&enrolled) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Less => Err(grave(format!(
            "endpoint {id} was enrolled anew (epoch {enrolled}), and this report is of epoch {epoch}: the machine that \
             sends it is a copy, or was set back; remove device.key there and enrol it with a token of its own"
        ))),
        std::cmp::Ordering::Greater => Err(grave(format!(
            "endpoint {id} reports in epoch {epoch}, but is enrolled in epoch {enrolled}; a new epoch needs a new \
             enrolment: run `sluice-agent enrol` there with a new token"
        ))),
    }
}

async fn refuse(app: &App, receipt: &mut ReportReceipt, key: MemberKey, index: usize, refusal: Refusal) {
    tracing::warn!(carrier = %key, index, reason = refusal.reason, "an outcome report was refused");
    if refusal.is_for_the_audit_log {
        audited::refused(app, &key.to_hex(), "outcome.ingest", "outcome report", &refusal.reason).await;
    }
    note_verdict(app, "refused");
    receipt.refused.push(RefusedReport { index, reason: refusal.reason });
}

fn note_verdict(app: &App, verdict: &str) {
    app.gauges.note_report(verdict);
}

/// The verdict's name in `/metrics`.
fn verdict_name(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::New => "new",
        Verdict::Late => "late",
        Verdict::Duplicate => "duplicate",
        Verdict::Gap { .. } => "gap",
        Verdict::GapFull { .. } => "gap_full",
        Verdict::Malformed => "malformed",
        Verdict::Quarantined(_) => "quarantined",
        Verdict::Breaks(Broken::Cloned { .. }) => "cloned",
        Verdict::Breaks(Broken::Altered { .. }) => "altered",
    }
}

async fn conclude(app: &App, receipt: &mut ReportReceipt, index: usize, endpoint: EndpointId, verdict: Verdict) {
    note_verdict(app, verdict_name(&verdict));
    let reason = match verdict {
        Verdict::New | Verdict::Late | Verdict::Duplicate | Verdict::Gap { .. } => {
            receipt.stored += 1;
            return;
        }
        Verdict::GapFull { missing } => format!("too many reports wait for report {missing}; send that one first"),
        Verdict::Malformed => "report numbers begin with 1, and the first names no predecessor".to_owned(),
        Verdict::Quarantined(broken) => quarantine::refusal(&broken),
        Verdict::Breaks(broken) => {
            let reason = quarantine::refusal(&broken);
            tracing::warn!(%endpoint, reason, "an endpoint was quarantined");
            audited::refused(app, &endpoint.to_hex(), "endpoint.quarantine", &endpoint.to_hex(), &reason).await;
            reason
        }
    };
    receipt.refused.push(RefusedReport { index, reason });
}

fn sign(app: &App, acknowledged: Acknowledged) -> SignedAcknowledgement {
    let Acknowledged { endpoint, epoch, seq } = acknowledged;
    let (signer, at) = (app.device_key.public(), clock::timestamp());
    let mut ack = SignedAcknowledgement { endpoint, epoch, seq, at, signer, signature: String::new() };
    ack.signature = hex::encode(app.device_key.signer().sign_purpose("ack", &ack.signed_bytes()));
    ack
}
