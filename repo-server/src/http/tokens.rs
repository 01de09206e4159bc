//! `/v1/enrolment-tokens`, `/v1/person-tokens` and `/v1/tokens`: an answer that makes a token shows its secret once.

use super::{Route, narrow_route, route};
use crate::authorize::{Action, Principal};
use crate::http::extract::{Json, Params};
use crate::operations::{Failure, person_tokens, tokens};
use crate::state::Shared;
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::IntoResponse;
use sluice_api::admin::{EnrolmentToken, NewEnrolmentToken, NewPersonToken, PersonToken};
use sluice_api::problem::Problem;
use sluice_api::tokens::{RevokedTokens, Tokens};
use sluice_model::PersonName;
use utoipa_axum::routes;

const NO_STORE: [(axum::http::HeaderName, &str); 1] = [(CACHE_CONTROL, "no-store")];

pub(super) fn routes() -> Vec<Route> {
    vec![
        narrow_route(Action::Administer, routes!(new_enrolment)),
        route(Action::Administer, routes!(new_person)),
        route(Action::Administer, routes!(list)),
        route(Action::Administer, routes!(revoke)),
        route(Action::Administer, routes!(revoke_person)),
        route(Action::OwnToken, routes!(rotate)),
        route(Action::OwnToken, routes!(revoke_own)),
    ]
}

/// Makes a token that enrols one device at one site; it is shown once.
#[utoipa::path(
    post, path = "/v1/enrolment-tokens", tag = "tokens", request_body = NewEnrolmentToken,
    responses(
        (status = 201, body = EnrolmentToken),
        (status = 404, description = "No such site", body = Problem),
        (status = 422, description = "No such ring, or a value breaks a rule", body = Problem)
    )
)]
async fn new_enrolment(
    State(app): State<Shared>,
    Extension(principal): Extension<Principal>,
    Json(new): Json<NewEnrolmentToken>,
) -> Result<impl IntoResponse, Failure> {
    let token = tokens::new_enrolment(&app, &principal, new).await?;
    Ok((StatusCode::CREATED, NO_STORE, axum::Json(token)))
}

/// Makes a token for a person; it is shown once.
#[utoipa::path(
    post, path = "/v1/person-tokens", tag = "tokens", request_body = NewPersonToken,
    responses((status = 201, body = PersonToken), (status = 422, body = Problem))
)]
async fn new_person(
    State(app): State<Shared>,
    Extension(principal): Extension<Principal>,
    Json(new): Json<NewPersonToken>,
) -> Result<impl IntoResponse, Failure> {
    let token = tokens::new_person(&app, &principal, new).await?;
    Ok((StatusCode::CREATED, NO_STORE, axum::Json(token)))
}

/// Every token, without its secret.
#[utoipa::path(get, path = "/v1/tokens", tag = "tokens", responses((status = 200, body = Tokens)))]
async fn list(State(app): State<Shared>) -> Result<axum::Json<Tokens>, Failure> {
    Ok(axum::Json(person_tokens::list(&app).await?))
}

/// Ends a token: it is not taken any more, from the next request on.
#[utoipa::path(
    delete, path = "/v1/tokens/{id}", tag = "tokens", params(("id" = String, Path, description = "Of the token")),
    responses(
        (status = 200, body = RevokedTokens),
        (status = 404, description = "No such token", body = Problem),
        (status = 409, description = "The last token of an admin", body = Problem)
    )
)]
async fn revoke(
    State(app): State<Shared>,
    Extension(principal): Extension<Principal>,
    Params(id): Params<String>,
) -> Result<axum::Json<RevokedTokens>, Failure> {
    Ok(axum::Json(person_tokens::revoke(&app, &principal, id).await?))
}

/// Ends every token of a person.
#[utoipa::path(
    delete, path = "/v1/tokens/persons/{person}", tag = "tokens",
    params(("person" = String, Path, description = "Whose")),
    responses(
        (status = 200, body = RevokedTokens),
        (status = 404, description = "He has none", body = Problem),
        (status = 409, description = "The last token of an admin", body = Problem)
    )
)]
async fn revoke_person(
    State(app): State<Shared>,
    Extension(principal): Extension<Principal>,
    Params(person): Params<PersonName>,
) -> Result<axum::Json<RevokedTokens>, Failure> {
    Ok(axum::Json(person_tokens::revoke_person(&app, &principal, person).await?))
}

/// Replaces the token of this request; the new one is shown once, the old one is taken for ten more minutes.
#[utoipa::path(
    post, path = "/v1/tokens/own/rotation", tag = "tokens",
    responses((status = 201, body = PersonToken), (status = 409, description = "Renewed long enough", body = Problem))
)]
async fn rotate(
    State(app): State<Shared>,
    Extension(principal): Extension<Principal>,
) -> Result<impl IntoResponse, Failure> {
    Ok((StatusCode::CREATED, NO_STORE, axum::Json(person_tokens::rotate(&app, &principal).await?)))
}

/// Ends the token of this request.
#[utoipa::path(
    delete, path = "/v1/tokens/own", tag = "tokens",
    responses((status = 200, body = RevokedTokens), (status = 409, description = "The last token of an admin", body = Problem))
)]
async fn revoke_own(
    State(app): State<Shared>,
    Extension(principal): Extension<Principal>,
) -> Result<axum::Json<RevokedTokens>, Failure> {
    Ok(axum::Json(person_tokens::revoke_own(&app, &principal).await?))
}
