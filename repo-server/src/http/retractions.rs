//! `/v1/patches/{name}/{version}/retraction`, `.../retraction-plan`, `/v1/retractions` and `/v1/reinstatements`: retract, see
//! beforehand what that means and afterwards how far it has come, and take a mistake back.

use super::{Route, route};
use crate::authorize::{Action, Principal};
use crate::http::extract::{Json, Params};
use crate::operations::retract::Outcome;
use crate::operations::{Failure, reinstate, retract};
use crate::state::Shared;
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use sluice_api::admin::{
    NewReinstatement, NewRetraction, Patch, Retraction, RetractionPlan, RetractionScope, Retractions, WaitingRequest,
};
use sluice_api::problem::{Problem, ProblemType};
use sluice_model::{PatchName, PatchRef, PatchVersion};
use sluice_repo_store::patches;
use sluice_repo_store::requests::RequestRecord;
use utoipa_axum::routes;

pub(super) fn routes() -> Vec<Route> {
    vec![
        route(Action::Retract, routes!(retract_patch)),
        route(Action::Retract, routes!(plan)),
        route(Action::Reinstate, routes!(reinstate_patch)),
        route(Action::Look, routes!(list)),
        route(Action::Look, routes!(show)),
    ]
}

/// Retracts a patch: its content is blocked for good, by hash, whatever it is called.
#[utoipa::path(
    post, path = "/v1/patches/{name}/{version}/retraction", tag = "retractions",
    params(("name" = String, Path), ("version" = String, Path)), request_body = NewRetraction,
    responses(
        (status = 200, description = "Signed and served", body = Retraction),
        (status = 202, description = "Too many in an hour: a second person must ask for the same", body = WaitingRequest),
        (status = 404, body = Problem),
        (status = 409, description = "Other patches share an artifact; `blocks` names them", body = Problem),
        (status = 422, body = Problem)
    )
)]
async fn retract_patch(
    State(app): State<Shared>,
    Extension(principal): Extension<Principal>,
    Params((name, version)): Params<(PatchName, PatchVersion)>,
    Json(new): Json<NewRetraction>,
) -> Result<Response, Failure> {
    let patch = PatchRef { name, version };
    let tombstone = match retract::run(&app, &principal, patch, new.reason, new.also).await? {
        Outcome::Done(tombstone) => tombstone,
        Outcome::Waiting(request) => return Ok(waiting(request)),
    };
    let progress = retract::progress(&app, vec![tombstone]).await?;
    progress.into_iter().next().map(|done| axum::Json(done).into_response()).ok_or_else(|| no_such_retraction(0))
}

/// 202: nothing happened yet.
pub(super) fn waiting(request: RequestRecord) -> Response {
    let missing = format!("{} asked; another person must ask for the same before it happens", request.by);
    let body = WaitingRequest {
        id: request.id,
        kind: request.kind,
        subject: request.subject,
        by: request.by,
        expires_at: request.expires_at,
        missing,
    };
    (StatusCode::ACCEPTED, axum::Json(body)).into_response()
}

/// What a retraction would do: tombstones, shared files, ways back, and who is told. Nothing happens.
#[utoipa::path(
    post, path = "/v1/patches/{name}/{version}/retraction-plan", tag = "retractions",
    params(("name" = String, Path), ("version" = String, Path)), request_body = RetractionScope,
    responses((status = 200, body = RetractionPlan), (status = 404, body = Problem))
)]
async fn plan(
    State(app): State<Shared>,
    Params((name, version)): Params<(PatchName, PatchVersion)>,
    Json(scope): Json<RetractionScope>,
) -> Result<axum::Json<RetractionPlan>, Failure> {
    retract::plan(&app, PatchRef { name, version }, scope.also).await.map(axum::Json)
}

/// Reinstates a retracted patch in one ring; two people ask for the same, and its publisher takes no part.
#[utoipa::path(
    post, path = "/v1/reinstatements", tag = "retractions", request_body = NewReinstatement,
    responses(
        (status = 200, description = "Done, or proposed to the ring's approvers", body = Patch),
        (status = 202, description = "A second person must ask for the same", body = WaitingRequest),
        (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem),
        (status = 422, body = Problem)
    )
)]
async fn reinstate_patch(
    State(app): State<Shared>,
    Extension(principal): Extension<Principal>,
    Json(new): Json<NewReinstatement>,
) -> Result<Response, Failure> {
    match reinstate::run(&app, &principal, new).await? {
        Outcome::Done(record) => Ok(axum::Json(super::patches::shown(&app, record).await?).into_response()),
        Outcome::Waiting(request) => Ok(waiting(request)),
    }
}

/// Every retraction, newest first.
#[utoipa::path(get, path = "/v1/retractions", tag = "retractions", responses((status = 200, body = Retractions)))]
async fn list(State(app): State<Shared>) -> Result<axum::Json<Retractions>, Failure> {
    let mut tombstones = app.store.look(|tx| Ok::<_, Failure>(patches::tombstones(tx)?)).await?;
    tombstones.reverse();
    Ok(axum::Json(Retractions { retractions: retract::progress(&app, tombstones).await? }))
}

/// One retraction.
#[utoipa::path(
    get, path = "/v1/retractions/{serial}", tag = "retractions", params(("serial" = u64, Path)),
    responses((status = 200, body = Retraction), (status = 404, body = Problem))
)]
async fn show(State(app): State<Shared>, Params(serial): Params<u64>) -> Result<axum::Json<Retraction>, Failure> {
    let tombstone = app.store.read(|tx| patches::tombstone(tx, serial))?.ok_or_else(|| no_such_retraction(serial))?;
    let progress = retract::progress(&app, vec![tombstone]).await?;
    progress.into_iter().next().map(axum::Json).ok_or_else(|| no_such_retraction(serial))
}

fn no_such_retraction(serial: u64) -> Failure {
    Failure::refused(
        ProblemType::NotFound,
        format!("there is no retraction {serial}; `sluice retractions show` lists them"),
    )
}
