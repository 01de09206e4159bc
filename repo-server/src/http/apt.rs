//! `/apt/key.asc`: the public key of the apt indices, for `Signed-By`. Public; whoever fetches it compares its fingerprint
//! with the one that `sluice-repo apt-key` prints on the server, or takes it over HTTPS.

use crate::operations::Failure;
use crate::state::Shared;
use axum::Router;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::response::IntoResponse;
use axum::routing::get;

/// Carries the fingerprint, for tools that do not read keys.
const FINGERPRINT: HeaderName = HeaderName::from_static("sluice-fingerprint");

pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/apt/key.asc", get(key))
}

async fn key(State(app): State<Shared>) -> Result<impl IntoResponse, Failure> {
    let key = app.archive_key.public_armor().map_err(|error| Failure::broken("writing the archive key", error))?;
    let headers = [(CONTENT_TYPE, "application/pgp-keys".to_owned()), (FINGERPRINT, app.archive_key.fingerprint())];
    Ok((headers, key))
}
