//! `/v1/ceremonies`, `/v1/calendar` and the proposals of rings that need an approver's key.

use super::{Route, narrow_route, route};
use crate::authorize::{Action, Principal};
use crate::http::extract::{Json, Params, read_body, read_json};
use crate::operations::{Failure, calendar, ceremony, proposal};
use crate::state::Shared;
use axum::Extension;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use sluice_api::ceremony::{
    Calendar, CeremonyDone, CeremonyFiles, CeremonyState, NewServerKey, Proposal, ProposalOutcome, ServerKey,
    SignedProposal,
};
use sluice_api::problem::Problem;
use sluice_model::RingName;
use utoipa_axum::routes;

/// Largest body: a release role of 1 MiB with its signatures, or a ceremony of root, targets and some of those.
const FILES_BYTES_MAX: usize = 4 << 20;

pub(super) fn routes() -> Vec<Route> {
    vec![
        route(Action::Ceremony, routes!(state)),
        route(Action::Ceremony, routes!(publish)),
        route(Action::Ceremony, routes!(new_key)),
        route(Action::Look, routes!(show_proposal)),
        narrow_route(Action::Approve, routes!(sign_proposal)),
        route(Action::Look, routes!(show_calendar)),
    ]
}

/// What a draft of root or targets begins with.
#[utoipa::path(get, path = "/v1/ceremonies", tag = "ceremonies", responses((status = 200, body = CeremonyState)))]
async fn state(State(app): State<Shared>) -> axum::Json<CeremonyState> {
    axum::Json(ceremony::state(&app).await)
}

/// Brings root, targets and release roles that their holders signed into force, all together or none.
#[utoipa::path(
    post, path = "/v1/ceremonies", tag = "ceremonies", request_body = CeremonyFiles,
    responses(
        (status = 200, description = "In force, signed and served", body = CeremonyDone),
        (status = 409, description = "Signatures are missing, or it was drafted from another state", body = Problem),
        (status = 422, description = "A file cannot be read", body = Problem)
    )
)]
async fn publish(
    State(app): State<Shared>,
    Extension(principal): Extension<Principal>,
    request: Request,
) -> Result<axum::Json<CeremonyDone>, Failure> {
    let files: CeremonyFiles = read_json(&read_body(request, FILES_BYTES_MAX).await?)?;
    Ok(axum::Json(ceremony::publish(&app, &principal, files.files).await?))
}

/// Makes a further key of an online role on the server, to be named by a draft.
#[utoipa::path(
    post, path = "/v1/ceremonies/keys", tag = "ceremonies", request_body = NewServerKey,
    responses(
        (status = 201, description = "Made; no role has it before a ceremony", body = ServerKey),
        (status = 422, body = Problem), (status = 507, body = Problem)
    )
)]
async fn new_key(
    State(app): State<Shared>,
    Extension(principal): Extension<Principal>,
    Json(new): Json<NewServerKey>,
) -> Result<(StatusCode, axum::Json<ServerKey>), Failure> {
    Ok((StatusCode::CREATED, axum::Json(ceremony::new_key(&app, &principal, &new.role).await?)))
}

/// What waits for an approver's signature; when nothing does, what is served with a new expiry.
#[utoipa::path(
    get, path = "/v1/rings/{ring}/proposal", tag = "rings", params(("ring" = String, Path)),
    responses(
        (status = 200, body = Proposal),
        (status = 409, description = "The server signs this ring alone", body = Problem),
        (status = 422, body = Problem)
    )
)]
async fn show_proposal(
    State(app): State<Shared>,
    Params(ring): Params<RingName>,
) -> Result<axum::Json<Proposal>, Failure> {
    Ok(axum::Json(proposal::show(&app, ring).await?))
}

/// Takes an approver's signature; with enough of them the proposal is served.
#[utoipa::path(
    post, path = "/v1/rings/{ring}/proposal/signatures", tag = "rings", params(("ring" = String, Path)),
    request_body = SignedProposal,
    responses(
        (status = 200, body = ProposalOutcome),
        (status = 403, description = "A publisher cannot sign, nor can one person use another's key", body = Problem),
        (status = 409, description = "What was signed is not what is proposed now", body = Problem),
        (status = 422, description = "No new valid signature", body = Problem)
    )
)]
async fn sign_proposal(
    State(app): State<Shared>,
    Extension(principal): Extension<Principal>,
    Params(ring): Params<RingName>,
    request: Request,
) -> Result<axum::Json<ProposalOutcome>, Failure> {
    let signed: SignedProposal = read_json(&read_body(request, FILES_BYTES_MAX).await?)?;
    Ok(axum::Json(proposal::sign(&app, &principal, ring, signed.file).await?))
}

/// Who must sign what until when, soonest first.
#[utoipa::path(get, path = "/v1/calendar", tag = "ceremonies", responses((status = 200, body = Calendar)))]
async fn show_calendar(State(app): State<Shared>) -> axum::Json<Calendar> {
    axum::Json(Calendar { roles: calendar::rows(&app.authority).await })
}
