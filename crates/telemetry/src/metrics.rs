//! A registry of metrics in the OpenMetrics text form. Labels are bounded (site, class, ring), never an endpoint.

use prometheus_client::encoding::text::encode;
pub use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
pub use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::{Arc, Mutex};

/// Media type of `/metrics`.
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Labels of a family: name and value pairs.
pub type Labels = Vec<(String, String)>;

/// The metrics of a program; cheap to clone. Names get the prefix `sluice_`.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { registry: Arc::new(Mutex::new(Registry::with_prefix("sluice"))) }
    }
}

impl Metrics {
    /// A counter that only grows; the exposition adds `_total`.
    pub fn counter(&self, name: &str, help: &str) -> Counter {
        let counter = Counter::default();
        self.lock().register(name, help, counter.clone());
        counter
    }

    /// A value that moves both ways.
    pub fn gauge(&self, name: &str, help: &str) -> Gauge {
        let gauge = Gauge::default();
        self.lock().register(name, help, gauge.clone());
        gauge
    }

    /// Counters apart by labels.
    pub fn counters(&self, name: &str, help: &str) -> Family<Labels, Counter> {
        let family = Family::<Labels, Counter>::default();
        self.lock().register(name, help, family.clone());
        family
    }

    /// Gauges apart by labels.
    pub fn gauges(&self, name: &str, help: &str) -> Family<Labels, Gauge> {
        let family = Family::<Labels, Gauge>::default();
        self.lock().register(name, help, family.clone());
        family
    }

    /// Everything in the OpenMetrics text form.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.lock()).expect("writing to a string does not fail");
        text
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Registry> {
        self.registry.lock().expect("nothing panics while it holds the registry")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_labelled_gauges_are_exposed() {
        let metrics = Metrics::default();
        metrics.counter("chunks_led", "Chunks led").inc_by(3);
        metrics.gauges("site_nodes", "Nodes").get_or_create(&vec![("site".into(), "lyon".into())]).set(2);
        let text = metrics.encode();
        assert!(text.contains("sluice_chunks_led_total 3"), "{text}");
        assert!(text.contains("sluice_site_nodes{site=\"lyon\"} 2"), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }
}
