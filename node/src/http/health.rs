//! Whether the node lives, whether it may serve, and its metrics.

use super::NodeHttp;
use super::problem::Refusal;
use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use sluice_api::problem::{Problem, ProblemType};
use sluice_model::Timestamp;
use sluice_rollout::lease::Freshness;
use sluice_telemetry::metrics::{Gauge, MEDIA_TYPE, Metrics};

/// What a ready node says of itself.
#[derive(Serialize)]
pub struct Ready {
    site: String,
    /// For instance `fresh, 12 s old`.
    metadata: String,
    timestamp_version: u64,
    issued_at: Timestamp,
    lease_until: Timestamp,
    fenced_serial: u64,
}

/// Values that are read when `/metrics` is.
#[derive(Clone, Debug)]
pub struct Gauges {
    timestamp_version: Gauge,
    lease_remaining_secs: Gauge,
    metadata_age_secs: Gauge,
    fenced_serial: Gauge,
    spooled_reports: Gauge,
    stored_bytes: Gauge,
    wan_peak: Gauge,
}

impl Gauges {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            timestamp_version: metrics.gauge("timestamp_version", "Version of the timestamp in force"),
            lease_remaining_secs: metrics.gauge("lease_remaining_secs", "Seconds until the serving lease ends"),
            metadata_age_secs: metrics.gauge("metadata_age_secs", "Seconds since the timestamp was issued"),
            fenced_serial: metrics.gauge("fenced_serial", "Highest retraction whose content is fenced here"),
            spooled_reports: metrics.gauge("spooled_reports", "Outcome reports that wait for the origin"),
            stored_bytes: metrics.gauge("stored_bytes", "Verified bytes of content on disk"),
            wan_peak: metrics.gauge("wan_peak_bytes_per_sec", "Most bytes that crossed the WAN in any one second"),
        }
    }
}

/// `GET /healthz`: the process answers.
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: 200 while the lease holds, 503 with the reason else.
pub async fn readyz(State(node): State<NodeHttp>) -> Result<Json<Ready>, Refusal> {
    let view = node.view.load();
    let freshness = view.freshness();
    if !freshness.is_within_lease() {
        let (kind, advice) = match freshness {
            Freshness::ClockBehind => (ProblemType::NotReady, "set the clock right, or connect the node to the origin"),
            _ => (ProblemType::LeaseExpired, "nothing is served until the origin can be reached again"),
        };
        return Err(Problem::new(kind, format!("the metadata is {freshness}; {advice}")).into());
    }
    Ok(Json(Ready {
        site: view.site.to_string(),
        metadata: freshness.to_string(),
        timestamp_version: view.timestamp_version,
        issued_at: view.issued_at,
        lease_until: view.lease_until,
        fenced_serial: *node.fenced.borrow(),
    }))
}

/// `GET /metrics`: OpenMetrics text.
pub async fn metrics(State(node): State<NodeHttp>) -> Response {
    let view = node.view.load();
    let now = view.now();
    let gauges = &node.gauges;
    set(&gauges.timestamp_version, view.timestamp_version);
    set(&gauges.lease_remaining_secs, view.lease_until.since(now).as_secs());
    set(&gauges.metadata_age_secs, now.since(view.issued_at).as_secs());
    set(&gauges.fenced_serial, *node.fenced.borrow());
    // A disk that does not answer is no reason to hide everything else.
    set(&gauges.stored_bytes, node.content.usage().map_or(0, |usage| usage.stored_bytes));
    set(&gauges.wan_peak, node.counters.wan_peak_bytes_per_sec());
    let store = node.store.clone();
    if let Ok(Ok(count)) = tokio::task::spawn_blocking(move || store.spooled_count()).await {
        set(&gauges.spooled_reports, count);
    }
    ([(CONTENT_TYPE, MEDIA_TYPE)], node.metrics.encode()).into_response()
}

fn set(gauge: &Gauge, value: u64) {
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
}
