//! The one place where a failure becomes an HTTP answer: an RFC 9457 problem with the request's id.

use crate::operations::Failure;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use sluice_api::problem::{MEDIA_TYPE, Problem, ProblemType};
use std::error::Error;
use std::sync::Arc;

/// Marks an answer whose problem is still to be written, by [`finish`], which knows the request's id.
#[derive(Clone)]
struct Unwritten(Arc<Failure>);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = status(&self).into_response();
        response.extensions_mut().insert(Unwritten(Arc::new(self)));
        response
    }
}

fn status(failure: &Failure) -> StatusCode {
    let code = match failure {
        Failure::Refused(problem) => problem.status,
        Failure::Broken { .. } => ProblemType::Internal.status(),
    };
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Writes the problem of a failed answer and logs what broke, once, with the request's id. Other answers pass.
pub fn finish(mut response: Response, request_id: &str) -> Response {
    let Some(Unwritten(failure)) = response.extensions_mut().remove::<Unwritten>() else { return response };
    let mut problem = match failure.as_ref() {
        Failure::Refused(problem) => problem.as_ref().clone(),
        Failure::Broken { doing, source } => {
            tracing::error!(request_id, doing, error = chain(source.as_ref()), "a request failed");
            let detail = "the server's log has the reason under this request id; trying again may help";
            Problem::new(ProblemType::Internal, detail)
        }
    };
    problem.request_id = Some(request_id.to_owned());
    let body = serde_json::to_vec(&problem).expect("a problem is plain text and numbers");
    let (mut parts, _) = response.into_parts();
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    if problem.is(ProblemType::Unauthenticated) {
        parts.headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"sluice\""));
    }
    if problem.is(ProblemType::NotReady) || problem.is(ProblemType::QuotaExceeded) {
        // Whoever refused may have said so more exactly.
        parts.headers.entry(RETRY_AFTER).or_insert(HeaderValue::from_static("5"));
    }
    Response::from_parts(parts, body.into())
}

/// An error with everything below it, on one line.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}
