//! Takes outcome reports in: each one verified by its endpoint's key, merged, durable, then acknowledged.
//!
//! Whoever carries a report is not asked for the truth: a node hands over any endpoint's reports, an endpoint its own.
//! A bad report is refused by its index and does not hold up the others.

use crate::clock;
use crate::draft::sha256_of;
use crate::operations::{Failure, audited, compliance};
use crate::state::App;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sluice_api::device::{RefusedReport, ReportBatch, ReportReceipt, SignedAcknowledgement};
use sluice_api::problem::ProblemType;
use sluice_compliance::{OutcomeReport, Verdict};
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
    let endpoints = known_endpoints(app, &batch).await?;
    let checked = tokio::task::spawn_blocking(move || {
        batch.reports.iter().map(|report| check(report, &carrier, &endpoints)).collect::<Vec<_>>()
    });
    let checked = checked.await.map_err(|error| Failure::broken("verifying reports", error))?;
    let mut receipt = ReportReceipt::default();
    let (mut reports, mut indexes) = (Vec::new(), Vec::new());
    for (index, result) in checked.into_iter().enumerate() {
        match result.and_then(|report| check_epoch(app, report)) {
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

type Endpoints = HashMap<EndpointId, EndpointRecord>;

async fn known_endpoints(app: &App, batch: &ReportBatch) -> Result<Endpoints, Failure> {
    let named: Vec<EndpointId> = batch.reports.iter().filter_map(named_signer).collect();
    app.store
        .look(move |tx| {
            let mut known = Endpoints::new();
            for id in named {
                if !known.contains_key(&id)
                    && let Some(record) = members::endpoint(tx, &id)?
                {
                    known.insert(id, record);
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
    let endpoint = endpoints.get(&signer).ok_or_else(|| grave(format!("endpoint {signer} is not enrolled")))?;
    if endpoint.state == EndpointState::Revoked {
        return Err(grave(format!("endpoint {signer} was revoked")));
    }
    let payload = sluice_metadata::dsse::verify(envelope, endpoint.key.as_bytes(), OUTCOME_REPORT_TYPE)
        .map_err(|error| grave(format!("not a report of endpoint {signer}: {error}")))?;
    let report = OutcomeReport::from_payload(&payload)
        .map_err(|error| plain(format!("endpoint {signer}: {error}{}", why(&error))))?;
    if report.endpoint != signer {
        return Err(grave(format!("signed by endpoint {signer}, but it says that it is of {}", report.endpoint)));
    }
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

/// A key has one chain: were it allowed to begin another, a clone would leave its quarantine by itself.
fn check_epoch(app: &App, new: NewOutcome) -> Result<NewOutcome, Refusal> {
    let report = &new.report;
    match app.compliance.epoch(&report.endpoint) {
        Ok(Some(epoch)) if epoch != report.epoch => {
            let (id, other) = (report.endpoint, report.epoch);
            Err(grave(format!(
                "endpoint {id} reports in epoch {epoch}, not {other}; a new epoch needs a new enrolment"
            )))
        }
        // A store that cannot answer is asked again by the write that follows, which fails for all.
        _ => Ok(new),
    }
}

async fn refuse(app: &App, receipt: &mut ReportReceipt, key: MemberKey, index: usize, refusal: Refusal) {
    tracing::warn!(carrier = %key, index, reason = refusal.reason, "an outcome report was refused");
    if refusal.is_for_the_audit_log {
        audited::refused(app, &key.to_hex(), "outcome.ingest", "outcome report", &refusal.reason).await;
    }
    receipt.refused.push(RefusedReport { index, reason: refusal.reason });
}

async fn conclude(app: &App, receipt: &mut ReportReceipt, index: usize, endpoint: EndpointId, verdict: Verdict) {
    let reason = match verdict {
        Verdict::New | Verdict::Duplicate | Verdict::Gap { .. } => {
            receipt.stored += 1;
            return;
        }
        Verdict::GapFull { missing } => format!("too many reports wait for report {missing}; send that one first"),
        Verdict::Malformed => "report numbers begin with 1, and the first names no predecessor".to_owned(),
        Verdict::Quarantined(broken) => quarantined(&broken),
        Verdict::Breaks(broken) => {
            let reason = quarantined(&broken);
            tracing::warn!(%endpoint, reason, "an endpoint was quarantined");
            audited::refused(app, &endpoint.to_hex(), "endpoint.quarantine", &endpoint.to_hex(), &reason).await;
            reason
        }
    };
    receipt.refused.push(RefusedReport { index, reason });
}

fn quarantined(broken: &sluice_compliance::Broken) -> String {
    format!("the endpoint is in quarantine: {broken}; revoke it, and enrol each device anew with a key of its own")
}

fn sign(app: &App, ack: Acknowledged) -> SignedAcknowledgement {
    let bytes = SignedAcknowledgement::signed_bytes(&ack.endpoint, ack.epoch, ack.seq);
    SignedAcknowledgement {
        endpoint: ack.endpoint,
        epoch: ack.epoch,
        seq: ack.seq,
        signer: app.device_key.public(),
        signature: hex::encode(app.device_key.signer().sign_purpose("ack", &bytes)),
    }
}
