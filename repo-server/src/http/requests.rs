//! `/v1/requests`: what waits for a second person. It is confirmed where it was asked for, by asking for the same.

use super::{Route, route};
use crate::authorize::{Action, Principal};
use crate::clock;
use crate::http::extract::Params;
use crate::operations::{Failure, audited, second_person};
use crate::state::Shared;
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use sluice_api::problem::Problem;
use sluice_api::requests::{PendingRequest, PendingRequests};
use sluice_repo_store::requests::RequestRecord;
use utoipa_axum::routes;

pub(super) fn routes() -> Vec<Route> {
    vec![route(Action::Look, routes!(list)), route(Action::OwnToken, routes!(withdraw))]
}

/// A request as it is shown, also as the body of a 202.
pub fn pending(request: RequestRecord) -> PendingRequest {
    let missing =
        format!("a second person besides {} has to ask for the same until {}", request.by, request.expires_at);
    PendingRequest {
        id: request.id,
        kind: request.kind,
        subject: request.subject,
        by: request.by,
        at: request.at,
        expires_at: request.expires_at,
        missing,
    }
}

/// Every request that waits for a second person.
#[utoipa::path(get, path = "/v1/requests", tag = "requests", responses((status = 200, body = PendingRequests)))]
async fn list(State(app): State<Shared>) -> Result<axum::Json<PendingRequests>, Failure> {
    let waiting = app.store.look(|tx| second_person::waiting(tx, clock::timestamp())).await?;
    Ok(axum::Json(PendingRequests { requests: waiting.into_iter().map(pending).collect() }))
}

/// Takes a request back: whoever asked, or an admin.
#[utoipa::path(
    delete, path = "/v1/requests/{id}", tag = "requests", params(("id" = String, Path, description = "Of the request")),
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem))
)]
async fn withdraw(
    State(app): State<Shared>,
    Extension(principal): Extension<Principal>,
    Params(id): Params<String>,
) -> Result<StatusCode, Failure> {
    let (who, subject) = (principal.person.clone(), id.clone());
    let outcome = app.store.change(move |tx| second_person::withdraw(tx, &principal, &id)).await;
    audited::outcome(&app, who.as_str(), "request.withdraw", &subject, outcome).await?;
    Ok(StatusCode::NO_CONTENT)
}
