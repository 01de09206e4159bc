//! What surrounds every request: its id, the profile header, a log line, and the writing of problems.

use crate::http::problem;
use crate::state::Shared;
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::middleware::Next;
use axum::response::Response;
use sluice_metadata::RepositoryProfile;
use std::sync::atomic::{AtomicU64, Ordering};

/// Header with the request's id.
const REQUEST_ID: &str = "x-request-id";
/// Header that warns of a profile that is not for production.
const PROFILE: &str = "sluice-profile";

static NEXT: AtomicU64 = AtomicU64::new(1);

/// Gives the request an id that the log and the answer carry.
pub async fn surround(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let started = crate::clock::now();
    let sequence = NEXT.fetch_add(1, Ordering::Relaxed);
    let id = format!("{:x}-{sequence:x}", app.boot);
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = next.run(request).await;
    let mut response = problem::finish(response, &id);
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let profile = app.served().view.profile;
    if profile == RepositoryProfile::Dev {
        response.headers_mut().insert(PROFILE, HeaderValue::from_static(profile.as_str()));
    }
    let millis = u64::try_from(crate::clock::now().saturating_duration_since(started).as_millis()).unwrap_or(u64::MAX);
    tracing::debug!(request_id = id, %method, path, status = response.status().as_u16(), millis, "request");
    response
}
