//! `/v1/bans`.

use super::{Route, route};
use crate::authorize::{Action, Principal};
use crate::http::extract::{Json, Params};
use crate::operations::{Failure, bans};
use crate::state::Shared;
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use sluice_api::bans::{BanList, NewLift};
use sluice_api::problem::Problem;
use sluice_model::MemberKey;
use utoipa_axum::routes;

pub(super) fn routes() -> Vec<Route> {
    vec![route(Action::Look, routes!(list)), route(Action::Administer, routes!(lift))]
}

/// Every ban in the whole fleet with its evidence, those in force first, and the nodes that accused falsely.
#[utoipa::path(get, path = "/v1/bans", tag = "nodes", responses((status = 200, body = BanList)))]
async fn list(State(app): State<Shared>) -> Result<axum::Json<BanList>, Failure> {
    Ok(axum::Json(bans::list(&app).await?))
}

/// Lifts a ban: every node takes bytes of that member again.
#[utoipa::path(
    post, path = "/v1/bans/{key}/lift", tag = "nodes", params(("key" = String, Path)), request_body = NewLift,
    responses(
        (status = 204, description = "Signed and served"),
        (status = 404, body = Problem), (status = 422, body = Problem)
    )
)]
async fn lift(
    State(app): State<Shared>,
    Extension(principal): Extension<Principal>,
    Params(key): Params<MemberKey>,
    Json(new): Json<NewLift>,
) -> Result<StatusCode, Failure> {
    bans::lift(&app, &principal, key, new).await?;
    Ok(StatusCode::NO_CONTENT)
}
