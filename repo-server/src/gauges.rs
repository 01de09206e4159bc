//! What `/metrics` shows of the repository; brought up to date when somebody reads it.

use crate::clock;
use crate::state::App;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use sluice_telemetry::metrics::{Labels, Metrics};

/// Every gauge and counter. Labels are sites and verdicts only: bounded.
pub struct Gauges {
    lease_seconds: Gauge,
    timestamp_version: Gauge,
    retractions: Gauge,
    nodes: Gauge,
    nodes_connected: Gauge,
    endpoints: Gauge,
    role_days_left: Family<Labels, Gauge>,
    site_origin_bytes: Family<Labels, Gauge>,
    site_distinct_bytes: Family<Labels, Gauge>,
    site_metadata_bytes: Family<Labels, Gauge>,
    site_wan_peak: Family<Labels, Gauge>,
    reports: Family<Labels, Counter>,
    forgotten: Gauge,
}

impl Gauges {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            lease_seconds: metrics.gauge("lease_seconds", "Seconds until the serving lease ends"),
            timestamp_version: metrics.gauge("timestamp_version", "Version of the timestamp role"),
            retractions: metrics.gauge("retractions", "Tombstones that are served"),
            nodes: metrics.gauge("nodes", "Nodes in the roster"),
            nodes_connected: metrics.gauge("nodes_connected", "Nodes connected over the overlay"),
            endpoints: metrics.gauge("endpoints", "Endpoints enrolled"),
            role_days_left: metrics.gauges("role_days_left", "Whole days until a signed role runs out; 0 when it has"),
            site_origin_bytes: metrics.gauges("site_origin_bytes", "Exchange frames sent to a site since the start"),
            site_distinct_bytes: metrics.gauges("site_distinct_bytes", "Chunk bytes sent to a site, each chunk once"),
            site_metadata_bytes: metrics.gauges("site_metadata_bytes", "Metadata, documents, manifests sent to a site"),
            site_wan_peak: metrics.gauges("site_wan_peak_bytes_per_second", "Busiest second to a site since the start"),
            forgotten: metrics.gauge(
                "forgotten_metadata",
                "1 since a node showed metadata that this server's keys signed and it does not know",
            ),
            reports: metrics.counters("outcome_reports", "Outcome reports that came, by what became of them"),
        }
    }

    /// Counts an outcome report by what became of it: a word of a fixed list.
    pub fn note_report(&self, verdict: &str) {
        let labels: Labels = vec![("verdict".into(), verdict.to_owned())];
        self.reports.get_or_create(&labels).inc();
    }

    /// A node has shown what this server's keys signed and it does not know.
    pub fn note_forgotten(&self) {
        self.forgotten.set(1);
    }

    /// Takes the values of this moment.
    pub fn measure(&self, app: &App) {
        let served = app.served();
        let left = served.view.lease_until.since(clock::timestamp());
        self.lease_seconds.set(value(left.as_secs()));
        self.timestamp_version.set(value(served.view.timestamp_version));
        self.retractions.set(value(served.tombstones.len() as u64));
        let nodes = served.roster.members.iter().filter(|member| member.site.is_some()).count();
        self.nodes.set(value(nodes as u64));
        self.nodes_connected.set(value(app.overlay_links.count() as u64));
        let endpoints: usize = served.endpoints.values().map(|rows| rows.endpoints.len()).sum();
        self.endpoints.set(value(endpoints as u64));
        for duty in &served.duties {
            let labels: Labels = vec![("role".into(), duty.role.to_string())];
            let days = duty.expires.since(clock::timestamp()).as_secs() / (24 * 3_600);
            self.role_days_left.get_or_create(&labels).set(value(days));
        }
        for (site, counts) in app.sites.counts() {
            let labels: Labels = vec![("site".into(), site.to_string())];
            self.site_origin_bytes.get_or_create(&labels).set(value(counts.origin_bytes));
            self.site_distinct_bytes.get_or_create(&labels).set(value(counts.distinct_bytes));
            self.site_metadata_bytes.get_or_create(&labels).set(value(counts.metadata_bytes));
            self.site_wan_peak.get_or_create(&labels).set(value(counts.wan_peak_bytes_per_sec));
        }
    }
}

fn value(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
