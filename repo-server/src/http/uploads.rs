//! `/v1/uploads`: the tus 1.0 resumable upload protocol, core with creation and termination.

use super::{Route, route};
use crate::authorize::{Action, Principal};
use crate::http::extract::Params;
use crate::operations::{Failure, upload};
use crate::state::Shared;
use axum::Extension;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::options;
use sluice_api::problem::ProblemType;
use sluice_model::limits::ARTIFACT_BYTES_MAX;
use utoipa_axum::routes;

const TUS_VERSION: &str = "1.0.0";
const TUS_RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const UPLOAD_LENGTH: HeaderName = HeaderName::from_static("upload-length");
const CHUNK_TYPE: &str = "application/offset+octet-stream";

pub(super) fn routes() -> Vec<Route> {
    vec![route(Action::Upload, routes!(create)), route(Action::Upload, routes!(offset, append, remove))]
}

/// What a tus client asks before it starts; needs no token.
pub(super) fn discovery() -> axum::Router<Shared> {
    let answer = || async {
        let headers = [
            ("tus-resumable", TUS_VERSION.to_owned()),
            ("tus-version", TUS_VERSION.to_owned()),
            ("tus-extension", "creation,termination,expiration".to_owned()),
            ("tus-max-size", ARTIFACT_BYTES_MAX.to_string()),
        ];
        (StatusCode::NO_CONTENT, headers)
    };
    axum::Router::new().route("/v1/uploads", options(answer)).route("/v1/uploads/{id}", options(answer))
}

/// Begins an upload of `Upload-Length` bytes; `Location` names it.
#[utoipa::path(
    post, path = "/v1/uploads", tag = "uploads",
    params(("Upload-Length" = u64, Header), ("Tus-Resumable" = String, Header)),
    responses((status = 201, description = "Begun; `Location` names it, `Upload-Expires` ends it"))
)]
async fn create(
    State(app): State<Shared>,
    Extension(principal): Extension<Principal>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    check_version(&headers)?;
    let length = number(&headers, &UPLOAD_LENGTH)?;
    let record = upload::create(&app, &principal, length).await?;
    let location = format!("/v1/uploads/{}", record.id);
    Ok((StatusCode::CREATED, tus_headers(&record), [(LOCATION, location)]).into_response())
}

/// How far an upload has come.
#[utoipa::path(
    head, path = "/v1/uploads/{id}", tag = "uploads",
    params(("id" = String, Path), ("Tus-Resumable" = String, Header)),
    responses((status = 200, description = "`Upload-Offset` bytes of `Upload-Length` are durable"))
)]
async fn offset(
    State(app): State<Shared>,
    Extension(principal): Extension<Principal>,
    Params(id): Params<String>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    check_version(&headers)?;
    let record = upload::find(&app, &principal, &id).await?;
    Ok((StatusCode::OK, tus_headers(&record), [(CACHE_CONTROL, "no-store")]).into_response())
}

/// Adds bytes at `Upload-Offset`.
#[utoipa::path(
    patch, path = "/v1/uploads/{id}", tag = "uploads",
    params(("id" = String, Path), ("Upload-Offset" = u64, Header), ("Tus-Resumable" = String, Header)),
    request_body(content = Vec<u8>, content_type = "application/offset+octet-stream"),
    responses(
        (status = 204, description = "`Upload-Offset` bytes are durable"),
        (status = 409, description = "Another offset, or the body ended early", body = sluice_api::problem::Problem),
        (status = 507, description = "The disk is full; what came is kept", body = sluice_api::problem::Problem)
    )
)]
async fn append(
    State(app): State<Shared>,
    Extension(principal): Extension<Principal>,
    Params(id): Params<String>,
    request: Request,
) -> Result<Response, Failure> {
    let headers = request.headers();
    check_version(headers)?;
    if headers.get(CONTENT_TYPE).is_none_or(|value| value != CHUNK_TYPE) {
        return Err(Failure::refused(ProblemType::Malformed, format!("the Content-Type must be {CHUNK_TYPE}")));
    }
    let offset = number(headers, &UPLOAD_OFFSET)?;
    let body = request.into_body().into_data_stream();
    upload::append(&app, &principal, &id, offset, body).await?;
    let record = upload::find(&app, &principal, &id).await?;
    Ok((StatusCode::NO_CONTENT, tus_headers(&record)).into_response())
}

/// Removes an upload.
#[utoipa::path(
    delete, path = "/v1/uploads/{id}", tag = "uploads",
    params(("id" = String, Path), ("Tus-Resumable" = String, Header)),
    responses((status = 204, description = "Removed"))
)]
async fn remove(
    State(app): State<Shared>,
    Extension(principal): Extension<Principal>,
    Params(id): Params<String>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    check_version(&headers)?;
    upload::remove(&app, &principal, &id).await?;
    Ok((StatusCode::NO_CONTENT, [(TUS_RESUMABLE, TUS_VERSION)]).into_response())
}

fn tus_headers(record: &sluice_repo_store::uploads::UploadRecord) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(TUS_RESUMABLE, HeaderValue::from_static(TUS_VERSION));
    headers.insert(UPLOAD_OFFSET, HeaderValue::from(record.offset));
    headers.insert(UPLOAD_LENGTH, HeaderValue::from(record.length));
    let expires = record.created_at.plus(upload::EXPIRES_AFTER).as_millis();
    let expires = std::time::UNIX_EPOCH + std::time::Duration::from_millis(expires);
    if let Ok(value) = HeaderValue::from_str(&httpdate::fmt_http_date(expires)) {
        headers.insert("upload-expires", value);
    }
    headers
}

fn check_version(headers: &HeaderMap) -> Result<(), Failure> {
    match headers.get(TUS_RESUMABLE) {
        Some(version) if version == TUS_VERSION => Ok(()),
        _ => {
            let detail = format!("send the header Tus-Resumable: {TUS_VERSION}; this server speaks that version");
            Err(Failure::refused(ProblemType::PreconditionFailed, detail))
        }
    }
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Result<u64, Failure> {
    let value = headers.get(name).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    value.ok_or_else(|| Failure::refused(ProblemType::Malformed, format!("the header {name} must be a whole number")))
}
