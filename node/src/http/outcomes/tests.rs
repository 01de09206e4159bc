//! The device router over real stores: who may report, and what is kept.

use super::*;
use crate::http::device_router;
use crate::testing::{Repository, Stores, published, view_with};
use axum::Router;
use axum::http::{Request, StatusCode};
use sluice_api::problem::Problem;
use sluice_compliance::OutcomeKind;
use sluice_identity::DeviceKey;
use sluice_model::{Sha256, Timestamp};
use sluice_state_store::StoredAcknowledgement;
use tower::ServiceExt;

struct Node {
    stores: Stores,
    router: Router,
    _dir: tempfile::TempDir,
    _publisher: crate::view::ViewPublisher,
}

fn node(endpoints: &[MemberKey]) -> Node {
    let dir = tempfile::tempdir().unwrap();
    let mut stores = Stores::open(dir.path());
    let (publisher, view) = published(view_with(Repository::new().first(), endpoints));
    let router = device_router(stores.http(view));
    Node { stores, router, _dir: dir, _publisher: publisher }
}

fn report(key: &DeviceKey, about: EndpointId, seq: u64) -> DsseEnvelope {
    let report = OutcomeReport {
        schema: 1,
        endpoint: about,
        epoch: 1,
        seq,
        previous: Sha256::from_bytes([0; 32]),
        outcome: OutcomeKind::Heartbeat,
        patch: None,
        ring: None,
        sha256: Vec::new(),
        class: None,
        detail: String::new(),
        before: Vec::new(),
        after: Vec::new(),
        sources: Vec::new(),
        duration_ms: 0,
        boot_id: "boot".into(),
        timestamp_version: 1,
        device_time: Timestamp::from_millis(1),
        attempt: None,
        withheld: Vec::new(),
    };
    let payload = serde_json::to_vec(&report).unwrap();
    dsse::sign(key.signer(), OUTCOME_REPORT_TYPE, &payload, &key.endpoint_id().to_hex())
}

async fn send(node: &Node, caller: Caller, request: Request<Body>) -> (StatusCode, Vec<u8>) {
    let response = node.router.clone().layer(Extension(caller)).oneshot(request).await.unwrap();
    let status = response.status();
    (status, response.into_body().collect().await.unwrap().to_bytes().to_vec())
}

async fn post(node: &Node, caller: Caller, reports: Vec<DsseEnvelope>) -> (StatusCode, Vec<u8>) {
    let body = serde_json::to_vec(&ReportBatch { reports }).unwrap();
    send(node, caller, Request::post("/device/v1/outcomes").body(Body::from(body)).unwrap()).await
}

fn device(key: &DeviceKey) -> Caller {
    Caller::Device { key: key.public(), remote: "127.0.0.1:1".parse().unwrap() }
}

#[tokio::test]
async fn reports_are_durable_when_they_are_answered_and_foreign_ones_are_refused_by_name() {
    let (ours, other) = (DeviceKey::generate().unwrap(), DeviceKey::generate().unwrap());
    let node = node(&[ours.public(), other.public()]);
    let batch = vec![
        report(&ours, ours.endpoint_id(), 1),
        report(&other, other.endpoint_id(), 1),
        report(&ours, other.endpoint_id(), 2),
    ];
    let (status, body) = post(&node, device(&ours), batch.clone()).await;
    assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
    let receipt: ReportReceipt = serde_json::from_slice(&body).unwrap();
    assert_eq!((receipt.stored, receipt.refused.len()), (1, 2), "{receipt:?}");
    assert_eq!(receipt.refused.iter().map(|refused| refused.index).collect::<Vec<_>>(), [1, 2]);
    let spooled = node.stores.state.next_spooled(10).unwrap();
    assert_eq!(spooled.into_iter().map(|row| row.envelope).collect::<Vec<_>>(), batch[..1]);
}

#[tokio::test]
async fn whoever_is_not_an_active_endpoint_is_not_heard() {
    let stranger = DeviceKey::generate().unwrap();
    let node = node(&[]);
    let remote = "127.0.0.1:1".parse().unwrap();
    for caller in [device(&stranger), Caller::Plain { remote }] {
        let (status, body) = post(&node, caller, vec![report(&stranger, stranger.endpoint_id(), 1)]).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        assert!(serde_json::from_slice::<Problem>(&body).unwrap().is(ProblemType::NotEnrolled));
    }
    assert_eq!(node.stores.state.spooled_count().unwrap(), 0);
}

#[tokio::test]
async fn a_body_that_is_too_large_or_no_batch_is_refused() {
    let ours = DeviceKey::generate().unwrap();
    let node = node(&[ours.public()]);
    let request = |body: Vec<u8>| Request::post("/device/v1/outcomes").body(Body::from(body)).unwrap();
    let (status, _) = send(&node, device(&ours), request(vec![b' '; BODY_BYTES_MAX + 1])).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    let (status, _) = send(&node, device(&ours), request(b"{".to_vec())).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn an_endpoint_gets_its_own_acknowledgements() {
    let (ours, other) = (DeviceKey::generate().unwrap(), DeviceKey::generate().unwrap());
    let node = node(&[ours.public(), other.public()]);
    let ack = sluice_api::device::SignedAcknowledgement {
        endpoint: ours.endpoint_id(),
        epoch: 1,
        at: Timestamp::from_millis(1),
        seq: 5,
        signer: other.public(),
        signature: "00".into(),
    };
    let stored =
        StoredAcknowledgement { endpoint: ack.endpoint, epoch: 1, seq: 5, bytes: serde_json::to_vec(&ack).unwrap() };
    node.stores.state.settle_spool(&[], &[stored]).unwrap();
    let get = || Request::get("/device/v1/acknowledgements").body(Body::empty()).unwrap();
    let (status, body) = send(&node, device(&ours), get()).await;
    assert_eq!(status, StatusCode::OK);
    let found: Acknowledgements = serde_json::from_slice(&body).unwrap();
    assert_eq!(found.acknowledgements, [ack]);
    let (_, body) = send(&node, device(&other), get()).await;
    assert!(serde_json::from_slice::<Acknowledgements>(&body).unwrap().acknowledgements.is_empty());
}
