//! Routes of the device listener below `/device/v1`: callers are devices, known by the key of their TLS connection.
//! Each handler asks first whether the device may do this.

use crate::http::authenticate::DeviceCaller;
use crate::http::extract::{read_body, read_json};
use crate::operations::{Failure, announce, bans, enrol, nodes, outcomes, restore};
use crate::state::Shared;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Extension, Router};
use sluice_api::device::{EnrolAnswer, ReportReceipt};
use sluice_api::problem::ProblemType;
use sluice_api::restore::{NEWER_METADATA_BYTES_MAX, NewerReceipt};
use sluice_model::limits::{REPORT_BYTES_MAX, REPORTS_PER_BATCH_MAX};

/// Largest body of anything but reports: a status that names a thousand banned peers.
const BODY_BYTES_MAX: usize = 256 << 10;
/// Largest report of a ban: a key and 164 bytes of evidence in base64.
const BAN_BYTES_MAX: usize = 4 << 10;
/// Largest batch of reports: a hundred of the largest, with their JSON around them.
const BATCH_BYTES_MAX: usize = REPORTS_PER_BATCH_MAX * (REPORT_BYTES_MAX + 512);

/// All of them. Handlers take `Extension<DeviceCaller>`.
pub fn routes() -> Router<Shared> {
    Router::new()
        .route("/device/v1/enrol", post(enrol_device))
        .route("/device/v1/announce", post(announce_addresses))
        .route("/device/v1/status", post(note_status))
        .route("/device/v1/newer-metadata", post(take_newer_metadata))
        .route("/device/v1/bans", post(accuse))
        .route("/device/v1/outcomes", post(ingest))
}

async fn enrol_device(
    State(app): State<Shared>,
    Extension(caller): Extension<DeviceCaller>,
    request: Request,
) -> Result<axum::Json<EnrolAnswer>, Failure> {
    let body = read_body(request, BODY_BYTES_MAX).await?;
    Ok(axum::Json(enrol::run(&app, caller.key, caller.remote, read_json(&body)?).await?))
}

async fn announce_addresses(
    State(app): State<Shared>,
    Extension(caller): Extension<DeviceCaller>,
    request: Request,
) -> Result<StatusCode, Failure> {
    let body = read_body(request, BODY_BYTES_MAX).await?;
    announce::run(&app, caller.key, caller.remote, read_json(&body)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn note_status(
    State(app): State<Shared>,
    Extension(caller): Extension<DeviceCaller>,
    request: Request,
) -> Result<StatusCode, Failure> {
    let body = read_body(request, BODY_BYTES_MAX).await?;
    nodes::note_status(&app, caller.key, read_json(&body)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes signed files that are newer than this server's. One at a time: a body may be large.
async fn take_newer_metadata(
    State(app): State<Shared>,
    Extension(caller): Extension<DeviceCaller>,
    request: Request,
) -> Result<axum::Json<NewerReceipt>, Failure> {
    restore::check_shower(&app, caller.key)?;
    let Ok(_turn) = app.showing.try_lock() else {
        let detail = "another node is showing what it holds; try again in a second";
        return Err(Failure::refused(ProblemType::NotReady, detail));
    };
    let body = read_body(request, NEWER_METADATA_BYTES_MAX).await?;
    let answer = restore::take(&app, caller.key, read_json(&body)?).await?;
    Ok(axum::Json(NewerReceipt { answer }))
}

/// Takes a node's evidence against a peer.
async fn accuse(
    State(app): State<Shared>,
    Extension(caller): Extension<DeviceCaller>,
    request: Request,
) -> Result<StatusCode, Failure> {
    let body = read_body(request, BAN_BYTES_MAX).await?;
    bans::accuse(&app, caller.key, read_json(&body)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes outcome reports; the answer's acknowledgements are given after the reports are durable.
async fn ingest(
    State(app): State<Shared>,
    Extension(caller): Extension<DeviceCaller>,
    request: Request,
) -> Result<axum::Json<ReportReceipt>, Failure> {
    outcomes::check_carrier(&app, caller.key)?;
    let body = read_body(request, BATCH_BYTES_MAX).await?;
    Ok(axum::Json(outcomes::run(&app, caller.key, read_json(&body)?).await?))
}
