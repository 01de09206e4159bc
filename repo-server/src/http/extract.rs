//! Reads bodies, paths and queries into checked values; what cannot be read is a problem that says which value and why.

use crate::operations::Failure;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use sluice_api::problem::ProblemType;
use std::time::Duration;

/// Largest JSON body of the admin API: 64 artifacts, some hundred CVEs and texts of 1,000 characters fit four times.
const JSON_BYTES_MAX: usize = 256 << 10;

/// How long a body may take that is read whole: 1.6 MB of reports over a slow link take half a minute.
const BODY_TIMEOUT: Duration = Duration::from_secs(120);

/// A JSON body.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        let body = read_body(request, JSON_BYTES_MAX).await?;
        read_json(&body).map(Self)
    }
}

/// The whole body, at most `bytes_max`.
pub async fn read_body(request: Request, bytes_max: usize) -> Result<bytes::Bytes, Failure> {
    let body = Limited::new(request.into_body(), bytes_max).collect();
    let Ok(body) = tokio::time::timeout(BODY_TIMEOUT, body).await else {
        let detail = format!("the body was not complete after {} s", BODY_TIMEOUT.as_secs());
        return Err(Failure::refused(ProblemType::Malformed, detail));
    };
    match body {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(Failure::refused(ProblemType::TooLarge, format!("the body is larger than {bytes_max} bytes")))
        }
        Err(error) => Err(Failure::refused(ProblemType::Malformed, format!("the body ended early: {error}"))),
    }
}

/// Reads a JSON text: not JSON is malformed, a value that breaks a rule is invalid.
pub fn read_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| {
        let kind = match error.classify() {
            serde_json::error::Category::Data => ProblemType::Invalid,
            _ => ProblemType::Malformed,
        };
        Failure::refused(kind, error.to_string())
    })
}

/// Values of the path.
pub struct Params<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(rejection) => {
                Err(Failure::refused(ProblemType::Invalid, format!("the path: {}", rejection.body_text())))
            }
        }
    }
}

/// Values of the query string.
pub struct Search<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Search<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(value)) => Ok(Self(value)),
            Err(rejection) => {
                Err(Failure::refused(ProblemType::Invalid, format!("the query: {}", rejection.body_text())))
            }
        }
    }
}
