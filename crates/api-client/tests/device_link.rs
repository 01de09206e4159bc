//! The device client against a real TLS listener with raw keys.
#![allow(clippy::unwrap_used, reason = "tests")]

mod server;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::{get, post};
use sluice_api::problem::{MEDIA_TYPE, Problem, ProblemType};
use sluice_api_client::{Blame, ClientError, ContentRequest, DeviceClient, MetadataSource, Retry, Timeouts};
use sluice_identity::DeviceKey;
use sluice_model::Sha256;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const BODY: &[u8] = b"0123456789abcdef";

fn keys() -> (DeviceKey, DeviceKey) {
    sluice_identity::install_provider();
    (DeviceKey::generate().unwrap(), DeviceKey::generate().unwrap())
}

fn problem(kind: ProblemType) -> (StatusCode, [(header::HeaderName, &'static str); 1], Vec<u8>) {
    let problem = Problem::new(kind, "ask the administrator");
    let status = StatusCode::from_u16(problem.status).unwrap();
    (status, [(header::CONTENT_TYPE, MEDIA_TYPE)], serde_json::to_vec(&problem).unwrap())
}

async fn content(headers: HeaderMap) -> (StatusCode, HeaderMap, &'static [u8]) {
    let mut answer = HeaderMap::new();
    answer.insert(header::ETAG, "\"tag\"".parse().unwrap());
    let from = headers.get(header::RANGE).map(|range| range.to_str().unwrap().to_owned());
    let same = headers.get(header::IF_RANGE).is_none_or(|tag| tag == "\"tag\"");
    match from.filter(|_| same) {
        Some(range) => {
            let from: usize = range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap();
            answer.insert(header::CONTENT_RANGE, format!("bytes {from}-15/16").parse().unwrap());
            (StatusCode::PARTIAL_CONTENT, answer, &BODY[from..])
        }
        None => (StatusCode::OK, answer, BODY),
    }
}

fn router() -> Router {
    Router::new()
        .route("/content/sha256/{hash}", get(content))
        .route("/tuf/metadata/timestamp.json", get(|| async { BODY }))
        .route("/device/v1/outcomes", post(|_: Bytes| async { "{\"stored\": 3}" }))
        .route("/device/v1/acknowledgements", get(|| async { problem(ProblemType::NotEnrolled) }))
        .route("/device/v1/status", post(|| async { (StatusCode::BAD_GATEWAY, "<html>") }))
}

async fn read_all(client: &DeviceClient, from: u64, if_range: Option<&str>) -> (u64, Vec<u8>) {
    let request = ContentRequest {
        sha256: Sha256::from_bytes([1; 32]),
        from,
        if_range: if_range.map(str::to_owned),
        headers: Vec::new(),
    };
    let mut stream = client.content(&request).await.unwrap();
    assert_eq!((stream.range().total, stream.etag().as_deref()), (16, Some("\"tag\"")));
    let mut bytes = Vec::new();
    while let Some(part) = stream.next().await.unwrap() {
        bytes.extend_from_slice(&part);
    }
    (stream.range().from, bytes)
}

#[tokio::test]
async fn content_is_read_from_any_byte_and_from_the_start_when_the_tag_is_another() {
    let (server_key, key) = keys();
    let server = server::device(router(), &server_key).await;
    let client = DeviceClient::new(server.address, server_key.public(), &key, Timeouts::default()).unwrap();
    assert_eq!(read_all(&client, 0, None).await, (0, BODY.to_vec()));
    assert_eq!(read_all(&client, 10, Some("\"tag\"")).await, (10, b"abcdef".to_vec()));
    assert_eq!(read_all(&client, 10, Some("\"other\"")).await, (0, BODY.to_vec()));
}

#[tokio::test]
async fn every_byte_of_a_body_passes_the_pace() {
    let (server_key, key) = keys();
    let server = server::device(router(), &server_key).await;
    let counted = Arc::new(AtomicU64::new(0));
    let counter = counted.clone();
    let client = DeviceClient::new(server.address, server_key.public(), &key, Timeouts::default()).unwrap().with_pace(
        Arc::new(move |bytes| {
            counter.fetch_add(bytes, Ordering::Relaxed);
            Box::pin(async {})
        }),
    );
    read_all(&client, 0, None).await;
    assert_eq!(counted.load(Ordering::Relaxed), 16);
    let batch = sluice_api::device::ReportBatch { reports: Vec::new() };
    assert_eq!(client.outcomes(&batch).await.unwrap().stored, 3);
    assert_eq!(counted.load(Ordering::Relaxed), 16 + 14 + 13);
}

#[tokio::test]
async fn a_server_with_another_key_is_not_asked_anything() {
    let (server_key, key) = keys();
    let server = server::device(router(), &server_key).await;
    let client = DeviceClient::new(server.address, key.public(), &key, Timeouts::default()).unwrap();
    let error = client.metadata_file("timestamp.json", 100).await.unwrap_err();
    assert!(matches!(&error, ClientError::WrongKey { expected, .. } if *expected == key.public()), "{error:?}");
    assert_eq!(error.retry(), Retry::ElsewhereNow);
}

#[tokio::test]
async fn a_metadata_file_is_read_up_to_its_bound_and_a_missing_one_is_none() {
    let (server_key, key) = keys();
    let server = server::device(router(), &server_key).await;
    let client = DeviceClient::new(server.address, server_key.public(), &key, Timeouts::default()).unwrap();
    assert_eq!(client.metadata_file("timestamp.json", 16).await.unwrap().unwrap(), BODY);
    let error = client.metadata_file("timestamp.json", 15).await.unwrap_err();
    assert!(matches!(error, ClientError::TooLarge { limit_bytes: 15, .. }), "{error:?}");
    assert_eq!(client.metadata_file("2.root.json", 16).await.unwrap(), None);
}

#[tokio::test]
async fn a_problem_keeps_its_type_and_anything_else_is_named_by_its_status() {
    let (server_key, key) = keys();
    let server = server::device(router(), &server_key).await;
    let client = DeviceClient::new(server.address, server_key.public(), &key, Timeouts::default()).unwrap();
    let error = client.acknowledgements().await.unwrap_err();
    assert!(error.is_problem(ProblemType::NotEnrolled), "{error:?}");
    assert_eq!((error.blame(), error.retry()), (Blame::Request, Retry::Never));
    let error = client.status(&Default::default()).await.unwrap_err();
    assert!(matches!(error, ClientError::Status { status: 502, .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_that_is_not_there_or_never_answers_is_told_apart() {
    let (server_key, key) = keys();
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let timeouts = Timeouts { connect: Duration::from_millis(300), ..Timeouts::default() };
    let client = DeviceClient::new(silent.local_addr().unwrap(), server_key.public(), &key, timeouts).unwrap();
    let error = client.metadata_file("timestamp.json", 100).await.unwrap_err();
    assert!(
        error.is_connection() && error.to_string().contains(&silent.local_addr().unwrap().to_string()),
        "{error:?}"
    );

    let gone = silent.local_addr().unwrap();
    drop(silent);
    let client = DeviceClient::new(gone, server_key.public(), &key, timeouts).unwrap();
    let error = client.metadata_file("timestamp.json", 100).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("check that the server is running"), "{error}");
}
