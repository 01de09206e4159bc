//! `/v1/suspensions`: stop a patch, a package or everything, for the fleet or a site, and lift it again.

use super::retractions::waiting;
use super::{Route, route};
use crate::authorize::{Action, Principal};
use crate::http::extract::{Json, Params};
use crate::operations::retract::Outcome;
use crate::operations::{Failure, suspend};
use crate::state::Shared;
use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use sluice_api::admin::{NewLift, NewSuspension, Suspension, Suspensions, WaitingRequest};
use sluice_api::problem::Problem;
use utoipa_axum::routes;

pub(super) fn routes() -> Vec<Route> {
    vec![
        route(Action::Look, routes!(list_suspensions)),
        route(Action::Suspend, routes!(new_suspension)),
        route(Action::Lift, routes!(lift_suspension)),
    ]
}

/// Every suspension in force.
#[utoipa::path(get, path = "/v1/suspensions", tag = "suspensions", responses((status = 200, body = Suspensions)))]
async fn list_suspensions(State(app): State<Shared>) -> axum::Json<Suspensions> {
    axum::Json(Suspensions { suspensions: suspend::list(&app.served()) })
}

/// Suspends: downloads end, what is staged stays locked, nothing is installed, until two people lift it.
#[utoipa::path(
    post, path = "/v1/suspensions", tag = "suspensions", request_body = NewSuspension,
    responses(
        (status = 200, description = "Signed and served", body = Suspension),
        (status = 403, body = Problem), (status = 404, body = Problem), (status = 422, body = Problem)
    )
)]
async fn new_suspension(
    State(app): State<Shared>,
    Extension(principal): Extension<Principal>,
    Json(new): Json<NewSuspension>,
) -> Result<axum::Json<Suspension>, Failure> {
    suspend::suspend(&app, &principal, new).await.map(axum::Json)
}

/// Asks to lift a suspension; the second person's call lifts it.
#[utoipa::path(
    post, path = "/v1/suspensions/{id}/lift", tag = "suspensions", params(("id" = u64, Path)), request_body = NewLift,
    responses(
        (status = 200, description = "Lifted", body = Suspension),
        (status = 202, description = "A second person must ask for the same", body = WaitingRequest),
        (status = 403, body = Problem), (status = 404, body = Problem), (status = 422, body = Problem)
    )
)]
async fn lift_suspension(
    State(app): State<Shared>,
    Extension(principal): Extension<Principal>,
    Params(id): Params<u64>,
    Json(new): Json<NewLift>,
) -> Result<Response, Failure> {
    match suspend::lift(&app, &principal, id, new).await? {
        Outcome::Done(lifted) => Ok(axum::Json(lifted).into_response()),
        Outcome::Waiting(request) => Ok(waiting(request)),
    }
}
