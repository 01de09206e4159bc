//! `/healthz` (the process answers), `/readyz` (it can do its work), `/metrics`.

use crate::clock;
use crate::operations::Failure;
use crate::state::Shared;
use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use sluice_api::problem::ProblemType;
use sluice_telemetry::metrics::MEDIA_TYPE;

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
}

/// Ready while the metadata that is served is within its lease: it is not, when signing has failed for that long.
async fn ready(State(app): State<Shared>) -> Result<&'static str, Failure> {
    let lease_until = app.served().view.lease_until;
    if clock::timestamp() >= lease_until {
        let detail = format!("the serving lease ended at {lease_until}: signing fails; see the server's log");
        return Err(Failure::refused(ProblemType::LeaseExpired, detail));
    }
    Ok("ready\n")
}

async fn metrics(State(app): State<Shared>) -> impl IntoResponse {
    app.measure();
    ([(CONTENT_TYPE, MEDIA_TYPE)], app.metrics.encode())
}
