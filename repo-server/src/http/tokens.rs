//! `/v1/enrolment-tokens` and `/v1/person-tokens`: each answer shows a secret once.

use super::{Route, route};
use crate::authorize::{Action, Principal};
use crate::http::extract::Json;
use crate::operations::{Failure, tokens};
use crate::state::Shared;
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::IntoResponse;
use sluice_api::admin::{EnrolmentToken, NewEnrolmentToken, NewPersonToken, PersonToken};
use sluice_api::problem::Problem;
use utoipa_axum::routes;

const NO_STORE: [(axum::http::HeaderName, &str); 1] = [(CACHE_CONTROL, "no-store")];

pub(super) fn routes() -> Vec<Route> {
    vec![route(Action::Administer, routes!(new_enrolment)), route(Action::Administer, routes!(new_person))]
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
