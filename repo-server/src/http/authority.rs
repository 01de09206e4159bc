//! `/ca.pem`: the certificate of the internal CA, for `curl --cacert` and browsers. Public; whoever fetches it compares its
//! fingerprint with the one that `sluice-repo fingerprint` prints on the server.

use crate::state::Shared;
use axum::Router;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::response::IntoResponse;
use axum::routing::get;

/// Carries the fingerprint, for tools that do not hash.
const FINGERPRINT: HeaderName = HeaderName::from_static("sluice-fingerprint");

pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/ca.pem", get(certificate))
}

async fn certificate(State(app): State<Shared>) -> impl IntoResponse {
    let headers =
        [(CONTENT_TYPE, "application/x-pem-file".to_owned()), (FINGERPRINT, app.ca.fingerprint().to_string())];
    (headers, app.ca.certificate_pem().to_owned())
}
