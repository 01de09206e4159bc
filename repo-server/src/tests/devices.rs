//! Devices of tests: keys, tokens, enrolments and reports, through the real device router.

use super::world::{Answer, World};
use crate::http::{DeviceCaller, device_router};
use axum::Extension;
use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use sluice_compliance::{OutcomeKind, OutcomeReport, PackageVersion};
use sluice_identity::DeviceKey;
use sluice_metadata::{Signer, dsse};
use sluice_model::dsse::{DsseEnvelope, OUTCOME_REPORT_TYPE};
use sluice_model::{Sha256, Timestamp};
use tower::ServiceExt;

pub(super) fn key(seed: u8) -> DeviceKey {
    DeviceKey::from_signer(Signer::from_seed([seed; 32]))
}

impl World {
    pub async fn device_post(&self, key: &DeviceKey, path: &str, body: &Value) -> Answer {
        let caller = DeviceCaller { key: key.public(), remote: "192.0.2.9:40000".parse().unwrap() };
        let router = device_router(&self.app).layer(Extension(caller));
        let request = Request::post(format!("/device/v1{path}")).body(Body::from(body.to_string())).unwrap();
        let (parts, body) = router.oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub async fn add_site(&self, site: &str, network: &str) -> Answer {
        self.post("admin", "/v1/sites", &json!({ "name": site, "boundaries": [network] })).await
    }

    /// A token's text.
    pub async fn token(&self, kind: &str, site: &str, ring: Option<&str>) -> String {
        let body = json!({ "kind": kind, "site": site, "ring": ring });
        let answer = self.post("admin", "/v1/enrolment-tokens", &body).await;
        answer.expect_ok().json()["token"].as_str().unwrap().to_owned()
    }

    pub async fn enrol(&self, key: &DeviceKey, kind: &str, token: &str) -> Answer {
        self.device_post(key, "/enrol", &self.enrol_request(key, kind, token)).await
    }

    pub fn enrol_request(&self, key: &DeviceKey, kind: &str, token: &str) -> Value {
        let mut parts = token.split('-').skip(1);
        let (id, secret) = (parts.next().unwrap(), parts.next().unwrap());
        let signed = [hex::decode(id).unwrap(), self.app.root_sha256().unwrap().as_bytes().to_vec()].concat();
        json!({
            "kind": kind, "token_id": id, "token_secret": secret, "name": format!("{kind}-{}", key.public().short()),
            "signature": hex::encode(key.signer().sign_purpose("enrol", &signed)),
        })
    }

    /// A site `lyon` with an endpoint of `ring`.
    pub async fn enrolled_endpoint(&self, seed: u8, ring: &str) -> Device {
        let key = key(seed);
        let token = self.token("endpoint", "lyon", Some(ring)).await;
        self.enrol(&key, "endpoint", &token).await.expect_ok();
        Device { key, head: 0, previous: Sha256::from_bytes([0; 32]) }
    }

    pub async fn enrolled_node(&self, seed: u8) -> DeviceKey {
        let key = key(seed);
        let token = self.token("node", "lyon", None).await;
        self.enrol(&key, "node", &token).await.expect_ok();
        key
    }

    pub async fn hand_over(&self, carrier: &DeviceKey, reports: &[DsseEnvelope]) -> Answer {
        self.device_post(carrier, "/outcomes", &json!({ "reports": reports })).await
    }
}

/// An endpoint with its chain of reports.
pub(super) struct Device {
    pub key: DeviceKey,
    pub head: u64,
    pub previous: Sha256,
}

impl Device {
    /// The next report: `outcome` of `patch`, after which `package` is there in `version`.
    pub fn report(&mut self, outcome: OutcomeKind, patch: &str, version: &str) -> DsseEnvelope {
        let payload = self.payload(self.head + 1, outcome, patch, version);
        self.head += 1;
        self.previous = crate::draft::sha256_of(&payload);
        self.sign(&payload)
    }

    /// The same in a later epoch.
    pub fn report_in(&mut self, epoch: u32, outcome: OutcomeKind, patch: &str, version: &str) -> DsseEnvelope {
        let payload = self.payload(self.head + 1, outcome, patch, version);
        let mut report = OutcomeReport::from_payload(&payload).unwrap();
        report.epoch = epoch;
        let payload = serde_json::to_vec(&report).unwrap();
        self.head += 1;
        self.previous = crate::draft::sha256_of(&payload);
        self.sign(&payload)
    }

    pub fn sign(&self, payload: &[u8]) -> DsseEnvelope {
        dsse::sign(self.key.signer(), OUTCOME_REPORT_TYPE, payload, &self.key.endpoint_id().to_hex())
    }

    pub fn payload(&self, seq: u64, outcome: OutcomeKind, patch: &str, version: &str) -> Vec<u8> {
        let patch = (outcome != OutcomeKind::Heartbeat).then(|| patch.parse().unwrap());
        let package = |version: &str| PackageVersion { package: "demo".into(), version: Some(version.to_owned()) };
        let report = OutcomeReport {
            schema: 1,
            endpoint: self.key.endpoint_id(),
            epoch: 1,
            seq,
            previous: self.previous,
            outcome,
            patch,
            ring: None,
            sha256: Vec::new(),
            class: (outcome == OutcomeKind::Failed).then_some(sluice_compliance::FailureClass::Dependency),
            detail: "dpkg: dependency problems\nmore".into(),
            before: vec![package("0")],
            after: vec![package(version)],
            sources: Vec::new(),
            duration_ms: 1_234,
            boot_id: "boot".into(),
            timestamp_version: 1,
            device_time: Timestamp::from_millis(1_800_000_000_000),
            attempt: None,
            withheld: Vec::new(),
        };
        serde_json::to_vec(&report).unwrap()
    }
}
