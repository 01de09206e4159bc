//! `/v1/nodes`.

use super::{Route, route};
use crate::authorize::{Action, Principal};
use crate::http::extract::Params;
use crate::operations::{Failure, nodes};
use crate::state::Shared;
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use sluice_api::admin::Nodes;
use sluice_api::problem::Problem;
use sluice_model::MemberKey;
use utoipa_axum::routes;

pub(super) fn routes() -> Vec<Route> {
    vec![route(Action::Look, routes!(list)), route(Action::Administer, routes!(revoke))]
}

/// Every node with its link and its last word about itself.
#[utoipa::path(get, path = "/v1/nodes", tag = "nodes", responses((status = 200, body = Nodes)))]
async fn list(State(app): State<Shared>) -> Result<axum::Json<Nodes>, Failure> {
    Ok(axum::Json(Nodes { nodes: nodes::list(&app).await? }))
}

/// Takes a node out of the roster for good: everybody refuses its key, open connections too.
#[utoipa::path(
    delete, path = "/v1/nodes/{key}", tag = "nodes", params(("key" = String, Path)),
    responses(
        (status = 204, description = "Signed and served"),
        (status = 404, body = Problem), (status = 409, body = Problem)
    )
)]
async fn revoke(
    State(app): State<Shared>,
    Extension(principal): Extension<Principal>,
    Params(key): Params<MemberKey>,
) -> Result<StatusCode, Failure> {
    nodes::revoke(&app, &principal, key).await?;
    Ok(StatusCode::NO_CONTENT)
}
