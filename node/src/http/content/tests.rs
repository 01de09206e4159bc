//! Both routers over a real store, and real sockets where a response is cut.

use super::*;
use crate::fetch::{Command, FetchHandle, Unobtainable};
use crate::http::connection::serve_connection;
use crate::http::{device_router, plain_router};
use crate::testing::{Repository, Stores, published, view_with};
use crate::view::{NodeView, ViewHandle, ViewPublisher};
use axum::Extension;
use axum::http::Request as HttpRequest;
use http_body_util::BodyExt;
use sluice_api::problem::Problem;
use sluice_content::{ChunkerParams, Cut, Cutter};
use sluice_content_store::{Admission, ContentStore};
use sluice_identity::DeviceKey;
use sluice_model::{
    ArtifactSet, ByteRate, DebFields, MemberKey, PatchTarget, RetractedContent, RingName, Severity, Timestamp,
    Tombstone,
};
use sluice_rollout::Catalogue;
use sluice_transport::Throttle;
use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::Path as FilePath;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

const LENGTH: usize = 3_000_000;
/// 2026-11-21T20:37:45Z and a bit.
const APPROVED_AT: Timestamp = Timestamp::from_millis(1_795_293_465_678);
const DATE: &str = "Sat, 21 Nov 2026 20:37:45 GMT";

struct Artifact {
    bytes: Vec<u8>,
    cut: Cut,
}

impl Artifact {
    fn new(seed: u32) -> Self {
        let mut state = seed;
        let next = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let bytes: Vec<u8> = (0..LENGTH).map(next).collect();
        let mut cutter = Cutter::new(ChunkerParams::for_length(LENGTH as u64));
        cutter.push(&bytes);
        Self { cut: cutter.finish(), bytes }
    }

    fn row(&self, ring: &str) -> ReleasedArtifact {
        ReleasedArtifact {
            target: format!("patches/{ring}/demo.deb").parse().unwrap(),
            ring: ring.parse().unwrap(),
            length: self.cut.length,
            sha256: self.cut.sha256,
            custom: PatchTarget {
                schema: 1,
                patch: "demo".parse().unwrap(),
                patch_version: "1".parse().unwrap(),
                blake3: self.cut.artifact,
                sha512: self.cut.sha512,
                manifest: self.cut.manifest.reference(),
                artifact: ArtifactKind::Deb(DebFields {
                    package: "demo".parse().unwrap(),
                    version: "1".into(),
                    architecture: "all".into(),
                }),
                set: ArtifactSet { index: 0, count: 1 },
                severity: Severity::High,
                cves: Vec::new(),
                supersedes: Vec::new(),
                approved_serial: 1,
                approved_at: APPROVED_AT,
            },
        }
    }

    fn tombstone(&self) -> Tombstone {
        Tombstone {
            schema: 1,
            serial: 1,
            patch: "demo/1".parse().unwrap(),
            content: vec![RetractedContent { sha256: self.cut.sha256, blake3: self.cut.artifact }],
            reason: "it breaks printing".into(),
            by: "rita".parse().unwrap(),
            at: APPROVED_AT,
            approved: Default::default(),
        }
    }

    fn chunk(&self, idx: u32) -> Bytes {
        let range = self.cut.manifest.range(idx);
        Bytes::copy_from_slice(&self.bytes[range.start as usize..range.end as usize])
    }

    fn file(&self, dir: &FilePath) -> std::path::PathBuf {
        let hex = self.cut.artifact.to_hex();
        dir.join("content/artifacts").join(&hex[..2]).join(hex)
    }

    async fn store(&self, content: &ContentStore) {
        admit(self, content).await;
        for idx in 0..self.cut.manifest.chunk_count() {
            content.put(&self.cut.artifact, idx, self.chunk(idx)).await.unwrap();
        }
    }
}

async fn admit(artifact: &Artifact, content: &ContentStore) {
    let manifest = Arc::new(artifact.cut.manifest.clone());
    content.admit(Admission { manifest, sha256: artifact.cut.sha256 }).await.unwrap();
}

/// Plain clients have production. `enrolled` is in the pilot ring.
fn view(rows: &[ReleasedArtifact], tombstones: &[Tombstone], enrolled: &[MemberKey]) -> NodeView {
    let mut view = view_with(Repository::new().first(), enrolled);
    let mut releases: BTreeMap<RingName, Vec<ReleasedArtifact>> = BTreeMap::new();
    for row in rows {
        releases.entry(row.ring.clone()).or_default().push(row.clone());
    }
    view.limits.plain_rings = vec!["production".parse().unwrap()];
    view.catalogue = Catalogue::new(&releases, tombstones);
    view.tombstones = tombstones.to_vec();
    view
}

struct Node {
    stores: Stores,
    http: NodeHttp,
    views: ViewHandle,
    publisher: ViewPublisher,
    /// What the exchange loop would hear.
    commands: Option<mpsc::Receiver<Command>>,
    _dir: tempfile::TempDir,
}

impl Node {
    fn new(first: NodeView) -> Self {
        Self::at(tempfile::tempdir().unwrap(), first)
    }

    fn at(dir: tempfile::TempDir, first: NodeView) -> Self {
        let mut stores = Stores::open(dir.path());
        let (publisher, views) = published(first);
        let (fetch, commands) = FetchHandle::new(tokio::sync::watch::channel(crate::testing::open_link()).1);
        let http = NodeHttp { fetch, ..stores.http(views.clone()) };
        Self { stores, http, views, publisher, commands: Some(commands), _dir: dir }
    }

    async fn answer(&self, caller: Caller, request: HttpRequest<Body>) -> Response {
        let router = match caller {
            Caller::Plain { .. } => plain_router(self.http.clone()),
            Caller::Device { .. } => device_router(self.http.clone()),
        };
        router.layer(Extension(caller)).oneshot(request).await.unwrap()
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> (StatusCode, HeaderMap, Vec<u8>) {
        whole(self.answer(plain(), request("GET", path, headers)).await).await
    }

    async fn problem(&self, caller: Caller, path: &str, headers: &[(&str, &str)]) -> Problem {
        let (status, _, body) = whole(self.answer(caller, request("GET", path, headers)).await).await;
        let problem: Problem = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem.status, status.as_u16());
        problem
    }
}

fn plain() -> Caller {
    Caller::Plain { remote: "192.0.2.7:1234".parse().unwrap() }
}

fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> HttpRequest<Body> {
    let builder = HttpRequest::builder().method(method).uri(path);
    headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value)).body(Body::empty()).unwrap()
}

async fn whole(response: Response) -> (StatusCode, HeaderMap, Vec<u8>) {
    let (parts, body) = response.into_parts();
    (parts.status, parts.headers, body.collect().await.unwrap().to_bytes().to_vec())
}

fn by_hash(artifact: &Artifact) -> String {
    format!("/content/sha256/{}", artifact.cut.sha256)
}

#[tokio::test]
async fn an_artifact_is_the_same_by_either_digest_and_by_target_name_with_validators_that_every_node_gives() {
    let artifact = Artifact::new(1);
    let node = Node::new(view(&[artifact.row("production")], &[], &[]));
    artifact.store(&node.http.content).await;
    let sha256 = artifact.cut.sha256;
    for path in [
        by_hash(&artifact),
        format!("/content/blake3/{}", artifact.cut.artifact),
        format!("/tuf/targets/patches/production/{sha256}.demo.deb"),
        format!("/tuf/targets/{sha256}.patches/production/demo.deb"),
    ] {
        let (status, headers, body) = node.get(&path, &[]).await;
        assert_eq!((status, body == artifact.bytes), (StatusCode::OK, true), "{path}");
        assert_eq!(headers["etag"], format!("\"sha256:{sha256}\""));
        assert_eq!(headers["last-modified"], DATE);
        assert_eq!(headers["content-length"], LENGTH.to_string());
        assert_eq!(headers["repr-digest"], format!("sha-256=:{}:", STANDARD.encode(sha256.as_bytes())));
        let head = node.answer(plain(), request("HEAD", &path, &[("range", "bytes=0-4")])).await;
        let (status, head_headers, body) = whole(head).await;
        assert_eq!((status, body.len()), (StatusCode::OK, 0));
        assert_eq!(head_headers["content-length"], LENGTH.to_string());
        assert_eq!(head_headers["etag"], headers["etag"]);
    }
    assert_eq!(node.http.counters.served_bytes.get(), 4 * LENGTH as u64);
    let (status, ..) = node.get(&format!("/tuf/targets/patches/production/{sha256}.other.deb"), &[]).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(node.http.content.last_used(&artifact.cut.artifact).unwrap() > APPROVED_AT);
    node.stores.close().await;
}

#[tokio::test]
async fn ranges_and_conditions_select_what_the_rfc_says() {
    let artifact = Artifact::new(2);
    let node = Node::new(view(&[artifact.row("production")], &[], &[]));
    artifact.store(&node.http.content).await;
    let (path, tag) = (by_hash(&artifact), format!("\"sha256:{}\"", artifact.cut.sha256));

    let (status, headers, body) = node.get(&path, &[("range", "bytes=1000000-2000000")]).await;
    assert_eq!(status, StatusCode::PARTIAL_CONTENT);
    assert_eq!(headers["content-range"], "bytes 1000000-2000000/3000000");
    assert_eq!(headers["content-length"], "1000001");
    assert!(body == artifact.bytes[1_000_000..=2_000_000]);

    let (status, headers, body) = node.get(&path, &[("range", "bytes=0-0,2999990-")]).await;
    assert_eq!(status, StatusCode::PARTIAL_CONTENT);
    let kind = headers["content-type"].to_str().unwrap();
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").unwrap();
    assert_eq!(headers["content-length"], body.len().to_string());
    let text = |bytes: &[u8]| bytes.iter().map(|byte| char::from(*byte)).collect::<String>();
    let body = text(&body);
    let sections: Vec<&str> = body.split(&format!("--{boundary}")).collect();
    assert_eq!((sections.len(), sections[3]), (4, "--\r\n"));
    assert!(sections[1].contains("bytes 0-0/3000000") && sections[2].contains("bytes 2999990-2999999/3000000"));
    assert!(
        sections[2].trim_end_matches("\r\n").ends_with(text(&artifact.bytes[2_999_990..]).trim_end_matches("\r\n"))
    );

    let (status, headers, body) = node.get(&path, &[("range", "bytes=3000000-")]).await;
    assert_eq!((status, &headers["content-range"]), (StatusCode::RANGE_NOT_SATISFIABLE, &value("bytes */3000000")));
    assert_eq!(headers["content-type"], "application/problem+json");
    assert!(serde_json::from_slice::<Problem>(&body).unwrap().is(ProblemType::RangeNotSatisfiable));

    let status_of = async |headers: &[(&str, &str)]| node.get(&path, headers).await.0;
    assert_eq!(status_of(&[("if-none-match", &tag)]).await, StatusCode::NOT_MODIFIED);
    assert_eq!(status_of(&[("if-modified-since", DATE)]).await, StatusCode::NOT_MODIFIED);
    assert_eq!(status_of(&[("if-match", "\"other\"")]).await, StatusCode::PRECONDITION_FAILED);
    assert_eq!(status_of(&[("range", "bytes=5-"), ("if-range", &tag)]).await, StatusCode::PARTIAL_CONTENT);
    assert_eq!(status_of(&[("range", "bytes=5-"), ("if-range", DATE)]).await, StatusCode::PARTIAL_CONTENT);
    assert_eq!(status_of(&[("range", "bytes=5-"), ("if-range", "\"other\"")]).await, StatusCode::OK);
    assert_eq!(status_of(&[("if-none-match", "\"a\""), ("if-none-match", &tag)]).await, StatusCode::NOT_MODIFIED);
    node.stores.close().await;
}

#[tokio::test]
async fn everybody_gets_what_his_rings_have_and_the_reason_for_what_they_have_not() {
    let (pilot, both) = (Artifact::new(3), Artifact::new(4));
    let enrolled = DeviceKey::generate().unwrap();
    let rows = [pilot.row("pilot"), both.row("pilot"), both.row("production")];
    let node = Node::new(view(&rows, &[], &[enrolled.public()]));
    for artifact in [&pilot, &both] {
        artifact.store(&node.http.content).await;
    }
    let device = |key: &DeviceKey| Caller::Device { key: key.public(), remote: "127.0.0.1:1".parse().unwrap() };
    let refused = node.problem(plain(), &by_hash(&pilot), &[]).await;
    assert!(refused.is(ProblemType::RingClosed) && refused.detail.contains("production"), "{refused}");
    assert_eq!(refused.blocks, ["only released in ring pilot"]);
    assert_eq!(node.get(&by_hash(&both), &[]).await.0, StatusCode::OK);
    for artifact in [&pilot, &both] {
        let answer = node.answer(device(&enrolled), request("GET", &by_hash(artifact), &[])).await;
        assert_eq!(answer.status(), StatusCode::OK);
    }
    let stranger = device(&DeviceKey::generate().unwrap());
    assert!(node.problem(stranger, &by_hash(&both), &[]).await.is(ProblemType::NotEnrolled));
    assert!(node.problem(plain(), &by_hash(&Artifact::new(5)), &[]).await.is(ProblemType::NotFound));
    assert!(node.problem(plain(), "/content/sha256/abc", &[]).await.is(ProblemType::Malformed));
    // What a client claims about itself counts for nothing.
    let claimed = node.problem(plain(), &by_hash(&pilot), &[("x-forwarded-for", "127.0.0.1")]).await;
    assert!(claimed.is(ProblemType::RingClosed));

    node.publisher.publish(view(&rows, &[both.tombstone()], &[enrolled.public()]));
    let gone = node.problem(plain(), &by_hash(&both), &[]).await;
    assert!(gone.is(ProblemType::Retracted) && gone.detail.contains("it breaks printing"), "{gone}");
    let resumed = node.problem(device(&enrolled), &by_hash(&both), &[("range", "bytes=100-")]).await;
    assert!(resumed.is(ProblemType::Retracted));

    let mut old = view(&rows, &[], &[enrolled.public()]);
    old.lease_until = Timestamp::from_millis(1);
    node.publisher.publish(old);
    for path in [by_hash(&both), "/tuf/metadata/timestamp.json".to_owned()] {
        let expired = node.problem(plain(), &path, &[]).await;
        assert!(expired.is(ProblemType::LeaseExpired), "{expired}");
    }
    let claimed = node.problem(plain(), &by_hash(&both), &[(PURPOSE_HEADER, PURPOSE_ROLLBACK)]).await;
    assert!(claimed.is(ProblemType::LeaseExpired), "a rollback is believed of devices only, and of rollback targets");
    node.stores.close().await;
}

/// Stands where the exchange loop stands: delivers what it is asked for, and nothing else.
async fn deliver(mut commands: mpsc::Receiver<Command>, artifact: &Artifact, content: &ContentStore) {
    while let Some(command) = commands.recv().await {
        match command {
            Command::Admit { answer, .. } => {
                admit(artifact, content).await;
                answer.send(Ok(())).unwrap();
            }
            Command::Chunk { index, answer, .. } => {
                content.put(&artifact.cut.artifact, index, artifact.chunk(index)).await.unwrap();
                answer.send(Ok(())).unwrap();
            }
            other => assert!(matches!(other, Command::Want { .. } | Command::Damaged { .. }), "{other:?}"),
        }
    }
}

#[tokio::test]
async fn chunks_that_are_missing_are_awaited_while_the_answer_runs() {
    let artifact = Artifact::new(6);
    let mut node = Node::new(view(&[artifact.row("production")], &[], &[]));
    let commands = node.commands.take().unwrap();
    let path = by_hash(&artifact);
    tokio::select! {
        (status, _, body) = node.get(&path, &[]) => assert!(status == StatusCode::OK && body == artifact.bytes),
        () = deliver(commands, &artifact, &node.http.content) => panic!("the exchange ended"),
    }
    node.stores.close().await;
}

#[tokio::test]
async fn a_chunk_that_is_damaged_on_disk_is_repaired_while_the_answer_goes_on() {
    let artifact = Artifact::new(8);
    let dir = tempfile::tempdir().unwrap();
    // Another store writes it, so that nothing is served from memory.
    let earlier = Stores::open(dir.path());
    artifact.store(&earlier.content).await;
    earlier.close().await;
    let offset = artifact.cut.manifest.range(2).start + 5;
    let file = std::fs::OpenOptions::new().write(true).open(artifact.file(dir.path())).unwrap();
    file.write_all_at(&[artifact.bytes[offset as usize] ^ 0x10], offset).unwrap();
    let mut node = Node::at(dir, view(&[artifact.row("production")], &[], &[]));
    let commands = node.commands.take().unwrap();
    let path = by_hash(&artifact);
    tokio::select! {
        (status, _, body) = node.get(&path, &[]) => assert!(status == StatusCode::OK && body == artifact.bytes),
        () = deliver(commands, &artifact, &node.http.content) => panic!("the exchange ended"),
    }
    node.stores.close().await;
}

#[tokio::test]
async fn what_cannot_be_had_is_a_problem_and_not_a_broken_body() {
    let artifact = Artifact::new(7);
    let mut node = Node::new(view(&[artifact.row("production")], &[], &[]));
    let mut commands = node.commands.take().unwrap();
    admit(&artifact, &node.http.content).await;
    for (why, expected) in [
        (Unobtainable::Nowhere, ProblemType::Unobtainable),
        (Unobtainable::CachingStopped { why: "disk full".into() }, ProblemType::Full),
        (Unobtainable::Busy, ProblemType::QuotaExceeded),
    ] {
        let path = by_hash(&artifact);
        let refuse = async {
            loop {
                if let Command::Chunk { answer, .. } = commands.recv().await.unwrap() {
                    return answer.send(Err(why)).unwrap();
                }
            }
        };
        let (problem, ()) = tokio::join!(node.problem(plain(), &path, &[]), refuse);
        assert!(problem.is(expected), "{problem}");
    }
    node.stores.close().await;
}

#[tokio::test]
async fn metadata_and_documents_are_served_as_they_were_received_and_tombstones_as_they_were_signed() {
    let artifact = Artifact::new(9);
    let node = Node::new(view(&[], &[artifact.tombstone()], &[]));
    let loaded = node.views.load();
    assert!(!loaded.metadata_files.is_empty());
    for (name, bytes) in &loaded.metadata_files {
        let (status, headers, body) = node.get(&format!("/tuf/metadata/{name}"), &[]).await;
        assert_eq!((status, &body[..]), (StatusCode::OK, &bytes[..]), "{name}");
        assert_eq!(headers["content-length"], bytes.len().to_string());
    }
    for (name, document) in &loaded.documents {
        let path = format!("/tuf/targets/{}/{}.{}", name.directory(), document.document.sha256, name.file());
        let (status, _, body) = node.get(&path, &[]).await;
        assert_eq!((status, &body[..]), (StatusCode::OK, &document.bytes[..]), "{name}");
        let other = format!("/tuf/targets/{}/{}.{}", name.directory(), "ab".repeat(32), name.file());
        assert_eq!(node.get(&other, &[]).await.0, StatusCode::NOT_FOUND);
    }
    let signed = serde_json::to_vec(&artifact.tombstone()).unwrap();
    let mut cutter = Cutter::new(ChunkerParams::SMALL);
    cutter.push(&signed);
    let path = format!("/tuf/targets/retractions/{}.1", cutter.finish().sha256);
    let (status, _, body) = node.get(&path, &[]).await;
    assert_eq!((status, body), (StatusCode::OK, signed));
    for path in ["/tuf/metadata/99.root.json", "/tuf/metadata/..%2f..%2fetc", "/tuf/targets/fleet/roster"] {
        assert_eq!(node.get(path, &[]).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    node.stores.close().await;
}

#[tokio::test]
async fn a_retraction_cuts_an_answer_that_runs_over_a_socket() {
    let artifact = Artifact::new(10);
    let mut node = Node::new(view(&[artifact.row("production")], &[], &[]));
    artifact.store(&node.http.content).await;
    node.http.serve = Throttle::new(ByteRate::bytes_per_sec(300_000));
    let mut client = connected(&node).await;
    client.write_all(get_line(&artifact).as_bytes()).await.unwrap();
    let mut received = vec![0; 100_000];
    client.read_exact(&mut received).await.unwrap();
    node.publisher.publish(view(&[artifact.row("production")], &[artifact.tombstone()], &[]));
    let mut rest = Vec::new();
    let _ = client.read_to_end(&mut rest).await;
    assert!(rest.len() < 500_000, "{} bytes came after the retraction", rest.len());
    node.stores.close().await;
}

#[tokio::test]
async fn the_end_of_the_lease_cuts_an_answer_that_runs() {
    let artifact = Artifact::new(11);
    let mut first = view(&[artifact.row("production")], &[], &[]);
    first.lease_until = clock::timestamp().plus(Duration::from_secs(2));
    let mut node = Node::new(first);
    artifact.store(&node.http.content).await;
    node.http.serve = Throttle::new(ByteRate::bytes_per_sec(300_000));
    let mut client = connected(&node).await;
    client.write_all(get_line(&artifact).as_bytes()).await.unwrap();
    let mut received = Vec::new();
    let _ = client.read_to_end(&mut received).await;
    assert!((10_000..LENGTH - 1).contains(&received.len()), "{}", received.len());
    node.stores.close().await;
}

#[tokio::test]
async fn a_retraction_closes_a_connection_whose_client_reads_nothing() {
    let artifact = Artifact::new(12);
    let node = Node::new(view(&[artifact.row("production")], &[], &[]));
    artifact.store(&node.http.content).await;
    let (mut client, server) = tokio::io::duplex(4_096);
    client.write_all(get_line(&artifact).as_bytes()).await.unwrap();
    let router = plain_router(node.http.clone());
    let served = serve_connection(server, plain(), router, node.views.clone(), CancellationToken::new());
    let retract = async {
        // The head is there, so the answer runs; from here on the client reads nothing.
        client.read_exact(&mut [0; 100]).await.unwrap();
        node.publisher.publish(view(&[artifact.row("production")], &[artifact.tombstone()], &[]));
    };
    let cut = tokio::time::timeout(Duration::from_secs(5), async { tokio::join!(served, retract) }).await;
    assert!(cut.is_ok(), "the connection is still open");
    node.stores.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_end_and_a_client_that_takes_nothing_are_given_up() {
    let artifact = Artifact::new(13);
    let node = Node::new(view(&[artifact.row("production")], &[], &[]));
    artifact.store(&node.http.content).await;
    for (sent, patience) in [("GET /healthz HT".to_owned(), 30), (get_line(&artifact), 60)] {
        let (mut client, server) = tokio::io::duplex(4_096);
        client.write_all(sent.as_bytes()).await.unwrap();
        let began = tokio::time::Instant::now();
        let router = plain_router(node.http.clone());
        serve_connection(server, plain(), router, node.views.clone(), CancellationToken::new()).await;
        let took = began.elapsed().as_secs();
        assert!((patience..patience + 5).contains(&took), "{took} s");
    }
    node.stores.close().await;
}

fn get_line(artifact: &Artifact) -> String {
    format!("GET {} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n", by_hash(artifact))
}

/// A client of the node over a real socket. The connection's task ends with the test.
async fn connected(node: &Node) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    let (router, views) = (plain_router(node.http.clone()), node.views.clone());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(serve_connection(server, plain(), router, views, CancellationToken::new()));
    tasks.detach_all();
    client
}
