//! `/v1/patches/{name}/{version}/retraction` and `/v1/retractions`: retract, and see how far it has come.

use super::{Route, route};
use crate::authorize::{Action, Principal};
use crate::http::extract::{Json, Params};
use crate::operations::{Failure, retract};
use crate::state::Shared;
use axum::Extension;
use axum::extract::State;
use sluice_api::admin::{NewRetraction, Retraction, Retractions};
use sluice_api::problem::{Problem, ProblemType};
use sluice_model::{PatchName, PatchRef, PatchVersion};
use sluice_repo_store::patches;
use utoipa_axum::routes;

pub(super) fn routes() -> Vec<Route> {
    vec![
        route(Action::Retract, routes!(retract_patch)),
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
) -> Result<axum::Json<Retraction>, Failure> {
    let patch = PatchRef { name, version };
    let tombstone = retract::run(&app, &principal, patch, new.reason, new.also).await?;
    let progress = retract::progress(&app, vec![tombstone]).await?;
    progress.into_iter().next().map(axum::Json).ok_or_else(|| no_such_retraction(0))
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
