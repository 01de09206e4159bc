//! Outcome reports of this site's endpoints, taken into the durable spool, and the acknowledgements that wait for them.
//!
//! Only endpoints that the signed rows name as active are heard, each only with reports that it signed itself.

use super::NodeHttp;
use super::caller::Caller;
use super::problem::{Refusal, chain};
use axum::body::Body;
use axum::extract::State;
use axum::{Extension, Json};
use http_body_util::{BodyExt, Limited};
use sluice_api::device::{Acknowledgements, RefusedReport, ReportBatch, ReportReceipt};
use sluice_api::problem::ProblemType;
use sluice_compliance::{OutcomeKind, OutcomeReport};
use sluice_metadata::dsse;
use sluice_model::dsse::{DsseEnvelope, OUTCOME_REPORT_TYPE};
use sluice_model::limits::{REPORT_BYTES_MAX, REPORTS_PER_BATCH_MAX};
use sluice_model::{EndpointId, MemberKey};
use sluice_state_store::{NewReport, StateError};
use std::time::Duration;

/// Longest body: a full batch of the largest reports, and JSON around them.
const BODY_BYTES_MAX: usize = REPORTS_PER_BATCH_MAX * (REPORT_BYTES_MAX + 64) + 1_024;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// The endpoint behind a request, enrolled and active at this moment.
struct Endpoint {
    id: EndpointId,
    key: MemberKey,
}

/// `POST /device/v1/outcomes`: answers after the reports are durable here.
pub async fn accept(
    State(node): State<NodeHttp>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Result<Json<ReportReceipt>, Refusal> {
    let endpoint = enrolled(&node, &caller)?;
    let batch = read_batch(body).await?;
    let mut good = Vec::with_capacity(batch.reports.len());
    let mut refused = Vec::new();
    for (index, report) in batch.reports.into_iter().enumerate() {
        match check(&report, &endpoint) {
            Ok(is_urgent) => good.push(NewReport { endpoint: endpoint.id, is_urgent, envelope: report }),
            Err(reason) => refused.push(RefusedReport { index, reason }),
        }
    }
    let stored =
        if good.is_empty() { 0 } else { node.spool.append(good).await.map_err(|error| spool_refusal(&error))? };
    if stored > 0 {
        node.spooled.notify_one();
    }
    Ok(Json(ReportReceipt { stored, acknowledgements: Vec::new(), refused }))
}

/// `GET /device/v1/acknowledgements`: what the origin acknowledged of the caller's reports.
pub async fn acknowledgements(
    State(node): State<NodeHttp>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Acknowledgements>, Refusal> {
    let endpoint = enrolled(&node, &caller)?;
    let store = node.store.clone();
    let stored = tokio::task::spawn_blocking(move || store.acknowledgements(&endpoint.id))
        .await
        .unwrap_or(Err(StateError::Closed))
        .map_err(|error| Refusal::broken("reading acknowledgements", &error))?;
    let acknowledgements = stored.iter().filter_map(|ack| serde_json::from_slice(&ack.bytes).ok()).collect();
    Ok(Json(Acknowledgements { acknowledgements }))
}

fn enrolled(node: &NodeHttp, caller: &Caller) -> Result<Endpoint, Refusal> {
    let Caller::Device { key, .. } = caller else {
        return Err(Refusal::new(ProblemType::NotEnrolled, "reports are taken from enrolled devices only, over TLS"));
    };
    let id = sluice_identity::endpoint_id_of(key);
    let view = node.view.load();
    if view.endpoints.active(&id).is_none() {
        return Err(Refusal::new(
            ProblemType::NotEnrolled,
            format!(
                "site {} has no active endpoint {id}; enrol it with: sluice-agent enrol, or wait until the node has the newest endpoint list",
                view.site
            ),
        ));
    }
    Ok(Endpoint { id, key: *key })
}

async fn read_batch(body: Body) -> Result<ReportBatch, Refusal> {
    let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, BODY_BYTES_MAX).collect()).await;
    let bytes = match collected {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            return Err(Refusal::new(
                ProblemType::TooLarge,
                format!("a batch has at most {REPORTS_PER_BATCH_MAX} reports of {REPORT_BYTES_MAX} bytes"),
            ));
        }
        Ok(Err(_)) => return Err(Refusal::new(ProblemType::Malformed, "the body broke off; send the batch again")),
        Err(_) => return Err(Refusal::new(ProblemType::Malformed, "the body took too long; send the batch again")),
    };
    let batch: ReportBatch = serde_json::from_slice(&bytes)
        .map_err(|error| Refusal::new(ProblemType::Malformed, format!("not a batch of reports: {error}")))?;
    let count = batch.reports.len();
    if count > REPORTS_PER_BATCH_MAX {
        let detail = format!("{count} reports in one batch; send at most {REPORTS_PER_BATCH_MAX}");
        return Err(Refusal::new(ProblemType::TooLarge, detail));
    }
    Ok(batch)
}

/// Signed by the endpoint itself, about itself, and not too long; answers whether it tells of a failure, which is carried
/// first. The origin checks everything else.
fn check(report: &DsseEnvelope, endpoint: &Endpoint) -> Result<bool, String> {
    let length = serde_json::to_vec(report).map_or(usize::MAX, |bytes| bytes.len());
    if length > REPORT_BYTES_MAX {
        return Err(format!("{length} bytes, at most {REPORT_BYTES_MAX} are taken"));
    }
    let payload = dsse::verify(report, endpoint.key.as_bytes(), OUTCOME_REPORT_TYPE)
        .map_err(|error| format!("not signed by the endpoint that sent it: {error}"))?;
    let payload =
        OutcomeReport::from_payload(&payload).map_err(|error| format!("not an outcome report: {}", chain(&error)))?;
    if payload.endpoint != endpoint.id {
        return Err("it speaks for another endpoint".to_owned());
    }
    Ok(matches!(payload.outcome, OutcomeKind::Failed | OutcomeKind::RollbackFailed))
}

fn spool_refusal(error: &StateError) -> Refusal {
    match error {
        StateError::Full { .. } => Refusal::new(ProblemType::Full, error.to_string()),
        StateError::Closed => {
            Refusal::new(ProblemType::NotReady, "the node is stopping; send the batch to another one")
        }
        _ if error.is_disk_full() => {
            Refusal::new(ProblemType::Full, "the node's disk is full; free some room there, or use another node")
        }
        _ => Refusal::broken("spooling reports", error),
    }
}

#[cfg(test)]
mod tests;
