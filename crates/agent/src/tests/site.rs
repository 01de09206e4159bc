//! A repository with really signed metadata, and nodes that serve it and its content over TLS with raw keys.

use super::packages::sha256;
use super::transactions::set_of;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path as UrlPath, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use serde::Serialize;
use sluice_api::device::{EnrolAnswer, ReportBatch, ReportReceipt, SignedAcknowledgement};
use sluice_api_client::EnrolmentTokenText;
use sluice_compliance::OutcomeReport;
use sluice_identity::DeviceKey;
use sluice_metadata::{
    InitParams, Keyring, Publication, RepositoryProfile, RoleName, Signer, TargetEntry, Writer, dev_roles,
};
use sluice_model::{
    EndpointId, EndpointRow, EndpointRows, EndpointState, Member, MemberAddresses, MemberKind, PatchRef,
    ReleasedArtifact, RetractedContent, RingName, Roster, Sha256, TargetName, Timestamp, Tombstone,
};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

pub const SITE: &str = "lyon";
const LEASE: Duration = Duration::from_secs(3600);

/// What the repository published, seen by all servers.
#[derive(Default)]
pub struct Published {
    pub metadata: HashMap<String, Vec<u8>>,
    documents: HashMap<String, Vec<u8>>,
    content: HashMap<Sha256, Vec<u8>>,
    pub reports: Vec<OutcomeReport>,
    acknowledgements: Vec<SignedAcknowledgement>,
    enrolled: Vec<EndpointId>,
}

/// One node, and how it misbehaves.
pub struct Node {
    pub key: DeviceKey,
    pub address: SocketAddr,
    pub state: Arc<NodeState>,
    _tasks: JoinSet<()>,
}

pub struct NodeState {
    published: Arc<Mutex<Published>>,
    origin: DeviceKey,
    /// Dies after so many content bytes; `u64::MAX`: never.
    pub dies_after: AtomicU64,
    pub is_dead: AtomicBool,
    /// Takes reports and drops them.
    pub drops_reports: AtomicBool,
    /// Flips a bit of content.
    pub lies: AtomicBool,
    pub served: AtomicU64,
}

pub struct World {
    pub published: Arc<Mutex<Published>>,
    pub nodes: Vec<Node>,
    pub token: EnrolmentTokenText,
    pub url: String,
    /// What the next enrolment is numbered.
    pub epoch: Arc<AtomicU32>,
    origin: DeviceKey,
    origin_address: SocketAddr,
    writer: Writer,
    keyring: Keyring,
    rows: Vec<ReleasedArtifact>,
    tombstones: Vec<Tombstone>,
    _servers: JoinSet<()>,
}

impl World {
    pub async fn new(node_count: usize) -> Self {
        sluice_identity::install_provider();
        let rings: Vec<RingName> = vec!["pilot".parse().unwrap()];
        let mut keyring = Keyring::default();
        for (role, idx) in dev_roles(&rings).into_iter().zip(1u8..) {
            keyring.insert(role, Signer::from_seed([idx; 32]));
        }
        let params = InitParams {
            repo_id: "test".into(),
            profile: RepositoryProfile::Dev,
            rings,
            now: crate::clock::timestamp(),
            lease: LEASE,
        };
        let (writer, publication) = Writer::init(params, &keyring).unwrap();
        let published = Arc::new(Mutex::new(Published::default()));
        let origin = DeviceKey::generate().unwrap();
        let mut servers = JoinSet::new();
        let mut nodes = Vec::new();
        for _ in 0..node_count {
            nodes.push(Node::start(published.clone(), origin.clone()).await);
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = node_state(published.clone(), origin.clone());
        let plain = signed_files().with_state(state.clone());
        servers.spawn(async move { axum::serve(listener, plain).await.unwrap() });
        let epoch = Arc::new(AtomicU32::new(1));
        let next = epoch.clone();
        let enrol = Router::new()
            .route("/device/v1/enrol", post(async move || enrolled(next.load(Ordering::Relaxed))))
            .route("/device/v1/outcomes", post(outcomes_directly))
            .with_state(state);
        let origin_address = serve_tls(&mut servers, enrol, &origin).await;
        let root = publication.files.iter().find(|(name, _)| name == "1.root.json").unwrap();
        let prefix = sha256(&root.1).as_bytes()[..16].try_into().unwrap();
        let token = EnrolmentTokenText::new([1; 8], [2; 32], prefix);
        let mut world = Self {
            published,
            nodes,
            token,
            url,
            epoch,
            origin,
            origin_address,
            writer,
            keyring,
            rows: Vec::new(),
            tombstones: Vec::new(),
            _servers: servers,
        };
        world.take(publication);
        world.commit();
        world
    }

    /// Approves built packages as one patch into the ring.
    pub fn approve(&mut self, patch: &str, debs: &[(PathBuf, &str, &str)]) {
        let serial = self.rows.iter().map(|row| row.custom.approved_serial).max().unwrap_or(0) + 1;
        let set = set_of(patch, serial, debs);
        for (artifact, (file, _, _)) in set.artifacts.iter().zip(debs) {
            self.published.lock().unwrap().content.insert(artifact.sha256, std::fs::read(file).unwrap());
        }
        self.rows.extend(set.artifacts);
        self.commit();
    }

    /// Retracts: tombstone in, rows and content out.
    pub fn retract(&mut self, patch: &str) {
        let patch: PatchRef = patch.parse().unwrap();
        let of_patch: Vec<ReleasedArtifact> = self.rows.extract_if(.., |row| row.custom.patch_ref() == patch).collect();
        let content: Vec<RetractedContent> =
            of_patch.iter().map(|row| RetractedContent { sha256: row.sha256, blake3: row.custom.blake3 }).collect();
        for row in &of_patch {
            self.published.lock().unwrap().content.remove(&row.sha256);
        }
        self.tombstones.push(Tombstone {
            schema: 1,
            serial: self.tombstones.len() as u64 + 1,
            patch,
            content,
            reason: "breaks boot".into(),
            by: "bob".parse().unwrap(),
            at: Timestamp::from_millis(1),
            approved: Default::default(),
        });
        self.commit();
    }

    /// Signs everything as it is now.
    pub fn commit(&mut self) {
        let documents = [("fleet/roster".to_owned(), json(&self.roster())), self.endpoints()];
        let mut fleet = BTreeMap::new();
        for (name, bytes) in documents {
            let entry = TargetEntry { length: bytes.len() as u64, sha256: sha256(&bytes), custom: None };
            let (dir, file) = name.split_once('/').unwrap();
            self.published.lock().unwrap().documents.insert(format!("{dir}/{}.{file}", entry.sha256), bytes);
            fleet.insert(name.parse::<TargetName>().unwrap(), entry);
        }
        self.writer.set_entries(&RoleName::fleet(), fleet).unwrap();
        let rows = self.rows.iter().map(|row| {
            let custom = serde_json::json!({ "patch": row.custom });
            (row.target.clone(), TargetEntry { length: row.length, sha256: row.sha256, custom: Some(custom) })
        });
        self.writer.set_entries(&RoleName::release(&"pilot".parse().unwrap()), rows.collect()).unwrap();
        let tombstones = self.tombstones.iter().map(|tombstone| {
            let bytes = json(tombstone);
            let custom = serde_json::json!({ "tombstone": tombstone });
            let name: TargetName = format!("retractions/{}", tombstone.serial).parse().unwrap();
            (name, TargetEntry { length: bytes.len() as u64, sha256: sha256(&bytes), custom: Some(custom) })
        });
        self.writer.set_entries(&RoleName::retractions(), tombstones.collect()).unwrap();
        let publication = self.writer.commit(&self.keyring, crate::clock::timestamp(), LEASE).unwrap();
        self.take(publication);
    }

    fn take(&mut self, publication: Publication) {
        self.published.lock().unwrap().metadata.extend(publication.files);
    }

    fn roster(&self) -> Roster {
        let member = |key: &DeviceKey, kind, site: Option<&str>, name: String, address| Member {
            key: key.public(),
            kind,
            site: site.map(|site| site.parse().unwrap()),
            name,
            addresses: MemberAddresses { device: vec![address], ..MemberAddresses::default() },
        };
        let mut members = vec![member(&self.origin, MemberKind::Origin, None, "repo".into(), self.origin_address)];
        for (idx, node) in self.nodes.iter().enumerate() {
            members.push(member(&node.key, MemberKind::Node, Some(SITE), format!("node-{idx}"), node.address));
        }
        Roster { schema: 1, members }
    }

    fn endpoints(&self) -> (String, Vec<u8>) {
        let endpoints = self
            .published
            .lock()
            .unwrap()
            .enrolled
            .iter()
            .map(|endpoint| EndpointRow {
                endpoint: *endpoint,
                ring: "pilot".parse().unwrap(),
                state: EndpointState::Active,
                enrolled_at: Timestamp::from_millis(1),
            })
            .collect();
        let rows = EndpointRows { schema: 1, site: SITE.parse().unwrap(), endpoints };
        (format!("fleet/endpoints-{SITE}"), json(&rows))
    }

    /// Lists this endpoint from now on.
    pub fn enlist(&mut self, endpoint: EndpointId) {
        self.published.lock().unwrap().enrolled.push(endpoint);
        self.commit();
    }

    /// Reports in the order in which they arrived: outcome, patch, class.
    pub fn outcomes(&self) -> Vec<String> {
        let published = self.published.lock().unwrap();
        let text = |report: &OutcomeReport| {
            let patch = report.patch.as_ref().map(ToString::to_string).unwrap_or_default();
            let class = report.class.map(|class| format!(" {class:?}")).unwrap_or_default();
            format!("{:?} {patch}{class}", report.outcome)
        };
        published.reports.iter().map(text).collect()
    }
}

impl Node {
    async fn start(published: Arc<Mutex<Published>>, origin: DeviceKey) -> Self {
        let key = DeviceKey::generate().unwrap();
        let state = node_state(published, origin);
        let router = signed_files()
            .route("/content/sha256/{hash}", get(content))
            .route("/device/v1/outcomes", post(outcomes))
            .route("/device/v1/acknowledgements", get(acknowledgements))
            .with_state(state.clone());
        let mut tasks = JoinSet::new();
        let address = serve_tls(&mut tasks, router, &key).await;
        Self { key, address, state, _tasks: tasks }
    }
}

fn node_state(published: Arc<Mutex<Published>>, origin: DeviceKey) -> Arc<NodeState> {
    Arc::new(NodeState {
        published,
        origin,
        dies_after: AtomicU64::new(u64::MAX),
        is_dead: AtomicBool::new(false),
        drops_reports: AtomicBool::new(false),
        lies: AtomicBool::new(false),
        served: AtomicU64::new(0),
    })
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

fn signed_files() -> Router<Arc<NodeState>> {
    Router::new().route("/tuf/metadata/{file}", get(metadata)).route("/tuf/targets/{dir}/{file}", get(document))
}

async fn serve_tls(tasks: &mut JoinSet<()>, router: Router, key: &DeviceKey) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(sluice_identity::server_config(key, &[sluice_api::ALPN_HTTP]));
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, router) = (acceptor.clone(), router.clone());
            connections.spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = TowerToHyperService::new(router);
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    address
}

async fn metadata(State(state): State<Arc<NodeState>>, UrlPath(file): UrlPath<String>) -> Response {
    found(&state, |published| published.metadata.get(&file).cloned())
}

async fn document(State(state): State<Arc<NodeState>>, UrlPath((dir, file)): UrlPath<(String, String)>) -> Response {
    found(&state, |published| published.documents.get(&format!("{dir}/{file}")).cloned())
}

fn found(state: &NodeState, find: impl Fn(&Published) -> Option<Vec<u8>>) -> Response {
    if state.is_dead.load(Ordering::Relaxed) {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    match find(&state.published.lock().unwrap()) {
        Some(bytes) => bytes.into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn content(State(state): State<Arc<NodeState>>, UrlPath(hash): UrlPath<String>, headers: HeaderMap) -> Response {
    let found = state.published.lock().unwrap().content.get(&hash.parse().unwrap()).cloned();
    let Some(mut bytes) = found.filter(|_| !state.is_dead.load(Ordering::Relaxed)) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if state.lies.load(Ordering::Relaxed) {
        bytes[100] ^= 1;
    }
    let total = bytes.len();
    let range = headers.get(header::RANGE).map(|range| range.to_str().unwrap().to_owned());
    let from: usize = range
        .as_deref()
        .map_or(0, |range| range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap());
    let mut answer =
        Response::builder().header(header::ETAG, format!("\"{hash}\"")).header(header::CONTENT_LENGTH, total - from);
    if range.is_some() {
        answer = answer
            .status(StatusCode::PARTIAL_CONTENT)
            .header(header::CONTENT_RANGE, format!("bytes {from}-{}/{total}", total - 1));
    }
    let parts: Vec<Bytes> = bytes[from..].chunks(64 << 10).map(Bytes::copy_from_slice).collect();
    let stream = futures_of(state, parts);
    answer.body(Body::from_stream(stream)).unwrap()
}

/// Parts one by one, until the node dies.
fn futures_of(
    state: Arc<NodeState>,
    parts: Vec<Bytes>,
) -> impl futures::Stream<Item = Result<Bytes, std::io::Error>> + Send {
    futures::stream::unfold((state, parts.into_iter()), |(state, mut parts)| async move {
        let part = parts.next()?;
        let served = state.served.fetch_add(part.len() as u64, Ordering::Relaxed);
        if served >= state.dies_after.load(Ordering::Relaxed) {
            state.served.fetch_sub(part.len() as u64, Ordering::Relaxed);
            state.is_dead.store(true, Ordering::Relaxed);
            // What was handed to the connection before is let out first.
            tokio::time::sleep(Duration::from_millis(50)).await;
            return Some((Err(std::io::Error::other("killed")), (state, parts)));
        }
        Some((Ok(part), (state, parts)))
    })
}

async fn outcomes(State(state): State<Arc<NodeState>>, body: Bytes) -> Response {
    if state.is_dead.load(Ordering::Relaxed) {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let batch: ReportBatch = serde_json::from_slice(&body).unwrap();
    let stored = batch.reports.len();
    if !state.drops_reports.load(Ordering::Relaxed) {
        let mut published = state.published.lock().unwrap();
        for envelope in batch.reports {
            let payload = STANDARD.decode(&envelope.payload).unwrap();
            let report: OutcomeReport = serde_json::from_slice(&payload).unwrap();
            published.acknowledgements = vec![acknowledge(&state.origin, &report)];
            if !published.reports.contains(&report) {
                published.reports.push(report);
            }
        }
    }
    format!("{{\"stored\": {stored}}}").into_response()
}

/// The repository's own listener: its receipt carries its acknowledgements.
async fn outcomes_directly(State(state): State<Arc<NodeState>>, body: Bytes) -> Response {
    let stored = serde_json::from_slice::<ReportBatch>(&body).unwrap().reports.len() as u64;
    let _ = outcomes(State(state.clone()), body).await;
    let acknowledgements = state.published.lock().unwrap().acknowledgements.clone();
    json(&ReportReceipt { stored, acknowledgements, refused: Vec::new() }).into_response()
}

fn acknowledge(origin: &DeviceKey, report: &OutcomeReport) -> SignedAcknowledgement {
    let mut ack = SignedAcknowledgement {
        endpoint: report.endpoint,
        epoch: report.epoch,
        seq: report.seq,
        at: crate::clock::timestamp(),
        signer: origin.public(),
        signature: String::new(),
    };
    ack.signature = hex::encode(origin.signer().sign_purpose("ack", &ack.signed_bytes()));
    ack
}

async fn acknowledgements(State(state): State<Arc<NodeState>>) -> Response {
    // A node has the word about what it carried itself.
    let is_dropper = state.drops_reports.load(Ordering::Relaxed);
    let list = if is_dropper { Vec::new() } else { state.published.lock().unwrap().acknowledgements.clone() };
    json(&sluice_api::device::Acknowledgements { acknowledgements: list }).into_response()
}

fn enrolled(epoch: u32) -> Response {
    let answer = EnrolAnswer {
        site: SITE.parse().unwrap(),
        ring: Some("pilot".parse().unwrap()),
        floor: vec![("timestamp".into(), 2), ("fleet".into(), 2)],
        epoch,
    };
    json(&answer).into_response()
}
