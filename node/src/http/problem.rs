//! The one place where a failure becomes an HTTP answer: an RFC 9457 problem.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use sluice_api::problem::{MEDIA_TYPE, Problem, ProblemType};
use std::error::Error;

/// Seconds after which a client may try again what cannot be answered now.
const RETRY_AFTER_SECS: &str = "5";

/// A problem on its way out. Handlers return `Result<_, Refusal>`.
#[derive(Debug)]
pub struct Refusal(pub Box<Problem>);

impl Refusal {
    /// A problem of `kind` with what happened and what to do next.
    pub fn new(kind: ProblemType, detail: impl Into<String>) -> Self {
        Self(Box::new(Problem::new(kind, detail)))
    }

    /// Something broke here: the chain goes to the log, a safe text to the client.
    pub fn broken(doing: &'static str, error: &(dyn Error + 'static)) -> Self {
        tracing::error!(doing, error = chain(error), "a request failed");
        Self::new(ProblemType::Internal, "the node's log has the reason; trying again, or at another node, may help")
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(Box::new(problem))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let problem = *self.0;
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&problem).expect("a problem is plain text and numbers");
        let mut response = (status, body).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if [ProblemType::NotReady, ProblemType::QuotaExceeded, ProblemType::Full].iter().any(|kind| problem.is(*kind)) {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECS));
        }
        response
    }
}

/// An error with everything below it, on one line.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let cause = source.to_string();
        // Some errors print their source themselves.
        if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        next = source.source();
    }
    text
}
