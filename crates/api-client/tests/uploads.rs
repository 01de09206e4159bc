//! Resumable uploads against a server that breaks off.
#![allow(clippy::unwrap_used, reason = "tests")]

mod server;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{head, post};
use futures::StreamExt;
use sluice_api::problem::{Problem, ProblemType};
use sluice_api_client::{AdminClient, ClientError};
use std::sync::{Arc, Mutex};

/// A tus server that keeps bytes in memory and breaks off where it is told to.
#[derive(Default)]
struct Tus {
    bytes: Vec<u8>,
    /// After so many bytes a PATCH answers an error; each is used once.
    breaks: Vec<usize>,
    patches: u32,
    refuse: Option<ProblemType>,
}

type Shared = Arc<Mutex<Tus>>;

async fn create(headers: HeaderMap) -> Response {
    assert_eq!(headers["tus-resumable"], "1.0.0");
    assert_eq!(headers["authorization"], "Bearer slp1-secret");
    assert_eq!(headers["upload-metadata"], "filename cGF0Y2guZGVi");
    (StatusCode::CREATED, [("location", "/v1/uploads/u1")]).into_response()
}

async fn offset(State(tus): State<Shared>) -> Response {
    (StatusCode::OK, [("upload-offset", tus.lock().unwrap().bytes.len().to_string())]).into_response()
}

async fn append(State(tus): State<Shared>, headers: HeaderMap, body: Body) -> Response {
    let limit = {
        let mut tus = tus.lock().unwrap();
        if let Some(kind) = tus.refuse {
            let problem = Problem::new(kind, "ask for more room");
            return (StatusCode::from_u16(problem.status).unwrap(), serde_json::to_vec(&problem).unwrap())
                .into_response();
        }
        assert_eq!(headers["upload-offset"].to_str().unwrap(), tus.bytes.len().to_string());
        assert_eq!(headers["content-type"], "application/offset+octet-stream");
        tus.patches += 1;
        tus.breaks.pop().unwrap_or(usize::MAX)
    };
    let mut stream = body.into_data_stream();
    while let Some(Ok(part)) = stream.next().await {
        let mut tus = tus.lock().unwrap();
        tus.bytes.extend_from_slice(&part);
        if tus.bytes.len() >= limit {
            return StatusCode::BAD_GATEWAY.into_response();
        }
    }
    (StatusCode::NO_CONTENT, [("upload-offset", tus.lock().unwrap().bytes.len().to_string())]).into_response()
}

async fn serve(tus: Tus) -> (server::Server, Shared) {
    let shared = Arc::new(Mutex::new(tus));
    let router = Router::new()
        .route("/v1/uploads", post(create))
        .route("/v1/uploads/u1", head(offset).patch(append))
        .with_state(shared.clone());
    (server::plain(router).await, shared)
}

fn file(dir: &tempfile::TempDir, bytes: &[u8]) -> std::path::PathBuf {
    let path = dir.path().join("patch.deb");
    std::fs::write(&path, bytes).unwrap();
    path
}

#[tokio::test]
async fn a_broken_upload_goes_on_where_the_server_stands_and_says_how_far_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let (server, tus) = serve(Tus { breaks: vec![2_000_000, 900_000], ..Tus::default() }).await;
    let client = AdminClient::new(&server.url(), Some("slp1-secret")).unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let telling = told.clone();
    let uploaded = client
        .upload(&file(&dir, &bytes), move |done, total| telling.lock().unwrap().push((done, total)))
        .await
        .unwrap();
    assert_eq!(
        (uploaded.upload.as_str(), uploaded.file_name.as_str(), uploaded.length),
        ("u1", "patch.deb", 3_000_000)
    );
    let expected = ring::digest::digest(&ring::digest::SHA256, &bytes);
    assert_eq!(uploaded.sha256.as_bytes(), expected.as_ref());
    assert!(tus.lock().unwrap().bytes == bytes, "other bytes arrived");
    assert_eq!(tus.lock().unwrap().patches, 3);
    assert_eq!(told.lock().unwrap().last(), Some(&(3_000_000, 3_000_000)));
}

#[tokio::test]
async fn a_refused_upload_is_not_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let (server, tus) = serve(Tus { refuse: Some(ProblemType::Full), ..Tus::default() }).await;
    let client = AdminClient::new(&server.url(), Some("slp1-secret")).unwrap();
    let error = client.upload(&file(&dir, b"bytes"), |_, _| {}).await.unwrap_err();
    assert!(error.is_problem(ProblemType::Full), "{error:?}");
    assert_eq!(tus.lock().unwrap().patches, 0);
}

#[tokio::test]
async fn a_missing_file_and_a_stopped_server_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let (server, _) = serve(Tus::default()).await;
    let client = AdminClient::new(&server.url(), Some("slp1-secret")).unwrap();
    let error = client.upload(&dir.path().join("absent.deb"), |_, _| {}).await.unwrap_err();
    assert!(matches!(&error, ClientError::File { path, .. } if path.ends_with("absent.deb")), "{error:?}");
    let url = server.url();
    drop(server);
    let error = AdminClient::new(&url, Some("slp1-secret")).unwrap().status().await.unwrap_err();
    assert!(error.to_string().contains(&url) && !error.to_string().contains("slp1"), "{error}");
}
