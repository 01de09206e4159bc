//! Reports of made-up endpoints, and a store with its writer running.
#![allow(dead_code, clippy::unwrap_used)]

use sluice_compliance::{OutcomeKind, OutcomeReport, PackageVersion};
use sluice_compliance_store::{ComplianceStore, NewOutcome};
use sluice_model::{EndpointId, Sha256, Timestamp};
use std::path::Path;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

pub fn hash(endpoint: u8, seq: u64) -> Sha256 {
    let mut bytes = [0; 32];
    if seq > 0 {
        bytes[0] = endpoint;
        bytes[1] = 1;
        bytes[2..10].copy_from_slice(&seq.to_be_bytes());
    }
    Sha256::from_bytes(bytes)
}

/// Report `seq` of `endpoint`: `outcome` of the patch `data/<version>`.
pub fn report(endpoint: u8, seq: u64, version: &str, outcome: OutcomeKind) -> NewOutcome {
    let patch = (outcome != OutcomeKind::Heartbeat).then(|| format!("data/{version}").parse().unwrap());
    let report = OutcomeReport {
        schema: 1,
        endpoint: EndpointId::from_bytes([endpoint; 32]),
        epoch: 1,
        seq,
        previous: hash(endpoint, seq - 1),
        outcome,
        patch,
        ring: None,
        sha256: Vec::new(),
        class: None,
        detail: String::new(),
        before: Vec::new(),
        after: vec![PackageVersion { package: "data".into(), version: Some(version.into()) }],
        sources: Vec::new(),
        duration_ms: 5,
        boot_id: String::new(),
        timestamp_version: 1,
        device_time: NOW,
        attempt: None,
        withheld: Vec::new(),
    };
    NewOutcome {
        payload: serde_json::to_vec(&report).unwrap(),
        hash: hash(endpoint, seq),
        signature: vec![1; 64],
        site: if endpoint.is_multiple_of(2) { "lyon" } else { "brno" }.parse().unwrap(),
        ring: if endpoint.is_multiple_of(3) { "pilot" } else { "production" }.parse().unwrap(),
        received_at: NOW,
        report,
    }
}

pub struct Running {
    pub store: ComplianceStore,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    #[expect(clippy::disallowed_methods, reason = "a test is its own wiring")]
    pub fn open(path: &Path) -> Self {
        let (store, task) = ComplianceStore::open(path).unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(task.run(stop.clone()));
        Self { store, stop, task }
    }

    pub async fn close(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}
