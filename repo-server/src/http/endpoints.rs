//! `/v1/endpoints`.

use super::{Route, route};
use crate::authorize::{Action, Principal};
use crate::http::extract::Params;
use crate::operations::{Failure, endpoints, explain};
use crate::state::Shared;
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use sluice_api::admin::{Endpoints, Explanation};
use sluice_api::problem::Problem;
use sluice_model::EndpointId;
use utoipa_axum::routes;

pub(super) fn routes() -> Vec<Route> {
    vec![
        route(Action::Look, routes!(list)),
        route(Action::Administer, routes!(revoke)),
        route(Action::Look, routes!(explain_endpoint)),
    ]
}

/// Every endpoint, revoked ones last.
#[utoipa::path(get, path = "/v1/endpoints", tag = "endpoints", responses((status = 200, body = Endpoints)))]
async fn list(State(app): State<Shared>) -> Result<axum::Json<Endpoints>, Failure> {
    Ok(axum::Json(Endpoints { endpoints: endpoints::list(&app).await? }))
}

/// Revokes an endpoint for good: its reports are refused and its agent's rights end.
#[utoipa::path(
    delete, path = "/v1/endpoints/{id}", tag = "endpoints", params(("id" = String, Path)),
    responses((status = 204, description = "Signed and served"), (status = 404, body = Problem))
)]
async fn revoke(
    State(app): State<Shared>,
    Extension(principal): Extension<Principal>,
    Params(id): Params<EndpointId>,
) -> Result<StatusCode, Failure> {
    endpoints::revoke(&app, &principal, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Why an endpoint has what it has, in its agent's words.
#[utoipa::path(
    get, path = "/v1/endpoints/{id}/explanation", tag = "endpoints", params(("id" = String, Path)),
    responses((status = 200, body = Explanation), (status = 404, body = Problem))
)]
async fn explain_endpoint(
    State(app): State<Shared>,
    Params(id): Params<EndpointId>,
) -> Result<axum::Json<Explanation>, Failure> {
    Ok(axum::Json(explain::run(&app, id).await?))
}
