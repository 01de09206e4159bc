//! One site in one process: every part is the real one, only the view is made here instead of fetched.

use crate::clock;
use crate::counters::Counters;
use crate::exchange_loop::{self, ExchangeParts};
use crate::exchange_server::ExchangeServer;
use crate::fetch::FetchHandle;
use crate::trouble::Trouble;
use crate::view::{NodeView, ViewPublisher};
use bytes::Bytes;
use sluice_content_store::{ContentStore, OpenError, StoreLimits};
use sluice_exchange::claims::{Claims, ConnectionId, Judgement};
use sluice_exchange::have::Have;
use sluice_identity::DeviceKey;
use sluice_metadata::{InitParams, Keyring, Profile, RepositoryProfile, Signer, Trusted, View, Writer, dev_roles};
use sluice_model::{
    ArtifactId, ArtifactKind, ArtifactSet, DebFields, EndpointRows, Limits, ManifestId, Member, MemberAddresses,
    MemberKey, MemberKind, PatchTarget, ReleasedArtifact, RetractedContent, RingName, Roster, Severity, SiteLimits,
    SiteName, Timestamp, Tombstone,
};
use sluice_pacing::WanNow;
use sluice_rollout::gate::Catalogue;
use sluice_state_store::StateStore;
use sluice_telemetry::metrics::Metrics;
use sluice_transport::{
    Accepted, Answer, Carrier, ChunkSource, DeviceListener, Dialer, ListenLimits, ServeCounters, ServeLimits,
    ServeOptions, ServedChunk, Throttle, serve_exchange,
};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Where a member listens and with which key.
#[derive(Clone)]
pub struct Identity {
    pub name: String,
    pub key: DeviceKey,
    pub address: SocketAddr,
}

/// Serves everything it has to everybody: the origin, or a peer that lies, stalls or refuses.
pub struct PlainSource {
    pub store: ContentStore,
    pub manner: Manner,
    pub asked: Asked,
    pub claims: Arc<Mutex<Claims>>,
    pub connection: ConnectionId,
}

/// Who was sent which chunk, in order.
pub type Asked = Arc<Mutex<Vec<(MemberKey, u32)>>>;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manner {
    Honest,
    /// Says that it has everything and flips one bit of every chunk.
    Lies,
    /// Answers nothing but what it has.
    HoldsBack,
}

impl ChunkSource for PlainSource {
    async fn manifest(&self, _: &MemberKey, manifest: &ManifestId) -> Answer<Bytes> {
        self.store.manifest_bytes(manifest).map_or(Answer::NotHere, |bytes| Answer::Here(bytes.into()))
    }

    async fn available(&self, _: &MemberKey, _: &ArtifactId, _: u32) -> Answer<()> {
        if self.manner == Manner::HoldsBack {
            std::future::pending::<()>().await;
        }
        Answer::Here(())
    }

    async fn chunk(&self, peer: &MemberKey, artifact: &ArtifactId, index: u32, insists: bool) -> Answer<ServedChunk> {
        let Some(reader) = self.store.reader(artifact) else { return Answer::NotHere };
        let count = reader.manifest().chunk_count();
        let judged = self.claims.lock().unwrap().judge(self.connection, (artifact, count), index, insists);
        if let Judgement::Elsewhere(member) = judged {
            return Answer::Elsewhere(member);
        }
        self.asked.lock().unwrap().push((*peer, index));
        let Ok(bytes) = reader.read(index).await else { return Answer::NotHere };
        if self.manner != Manner::Lies {
            return Answer::Here(ServedChunk { bytes, id: reader.manifest().chunk_id(index) });
        }
        let mut wrong = bytes.to_vec();
        wrong[7] ^= 1;
        let id = sluice_content::hash_chunk(&wrong);
        Answer::Here(ServedChunk { bytes: wrong.into(), id })
    }

    async fn have(&self, _: &MemberKey, artifact: &ArtifactId) -> Answer<Bytes> {
        let count = self.store.reader(artifact).map_or(0, |reader| reader.manifest().chunk_count() as usize);
        let have = Have { progress: 0, here: vec![true; count], fetching: vec![false; count] };
        Answer::Here(have.encode().into())
    }
}

/// A process that was stopped: connections are accepted by the system, handshakes finish, nothing more comes.
pub struct StoppedServer(#[expect(dead_code, reason = "ends with its owner")] JoinSet<()>);

impl StoppedServer {
    pub fn start(identity: &Identity) -> Self {
        let mut listener = bind(identity);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut held = Vec::new();
            loop {
                held.push(listener.accept().await);
            }
        });
        Self(tasks)
    }
}

/// A server of a [`PlainSource`].
pub struct PlainServer {
    pub counters: Arc<ServeCounters>,
    pub asked: Asked,
    tasks: JoinSet<()>,
}

impl PlainServer {
    pub fn start(identity: &Identity, store: ContentStore, manner: Manner, pace: Option<u64>) -> Self {
        let counters = Arc::new(ServeCounters::default());
        let rate = pace.and_then(sluice_model::ByteRate::bytes_per_sec);
        let options = ServeOptions {
            limits: ServeLimits::default(),
            pace: vec![Throttle::new(rate)],
            sign_with: Some(identity.key.clone()),
            counters: Arc::clone(&counters),
        };
        let asked = Asked::default();
        let (sent, claims) = (Arc::clone(&asked), Arc::new(Mutex::new(Claims::default())));
        let mut listener = bind(identity);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let Accepted { stream, peer, .. } = listener.accept().await;
                let (options, claims) = (options.clone(), Arc::clone(&claims));
                let connection = claims.lock().unwrap().connected(peer);
                let (store, asked) = (store.clone(), Arc::clone(&sent));
                let source = Arc::new(PlainSource { store, manner, asked, claims: Arc::clone(&claims), connection });
                connections.spawn(async move {
                    let _ = serve_exchange(stream, peer, source, &options, CancellationToken::new()).await;
                    claims.lock().unwrap().disconnected(connection);
                });
            }
        });
        Self { counters, asked, tasks }
    }

    /// Chunks that were sent more than once, and to whom.
    pub fn repeated(&self, lab: &Laboratory) -> Vec<(u32, Vec<String>)> {
        let name = |key: &MemberKey| lab.identities.iter().find(|node| node.key.public() == *key).unwrap().name.clone();
        let mut by_chunk: BTreeMap<u32, Vec<String>> = BTreeMap::new();
        for (key, index) in self.asked.lock().unwrap().iter() {
            by_chunk.entry(*index).or_default().push(name(key));
        }
        by_chunk.into_iter().filter(|(_, to)| to.len() > 1).collect()
    }

    pub async fn stop(&mut self) {
        self.tasks.shutdown().await;
    }
}

/// A node's data plane.
pub struct Node {
    pub identity: Identity,
    pub fetch: FetchHandle,
    pub store: ContentStore,
    pub state: StateStore,
    pub counters: Counters,
    pub trouble: Trouble,
    pub publisher: ViewPublisher,
    /// What the schedule says of the WAN link.
    pub hours: watch::Sender<WanNow>,
    pub dir: PathBuf,
    tasks: JoinSet<()>,
}

impl Node {
    pub fn start(identity: Identity, dir: PathBuf, view: NodeView) -> Self {
        Self::start_with(identity, dir, view, StoreLimits::default())
    }

    pub fn start_with(identity: Identity, dir: PathBuf, view: NodeView, limits: StoreLimits) -> Self {
        let SiteLimits { serve_bytes_per_sec: serve, wan_bytes_per_sec: wan } = view.limits.site(&view.site);
        std::fs::create_dir_all(&dir).unwrap();
        // A killed task's last write may still run on a thread of its own; a killed process has none.
        let deadline = Instant::now() + Duration::from_secs(10);
        let (store, writer) = loop {
            match ContentStore::open(&dir.join("content"), limits.clone()) {
                Ok(opened) => break opened,
                Err(OpenError::InUse(_)) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
                Err(error) => panic!("{error}"),
            }
        };
        let state = StateStore::open(dir.join("state.redb")).unwrap();
        let counters = Counters::new(&Metrics::default());
        let (publisher, views) = ViewPublisher::new(view);
        let trouble = Trouble::default();
        let hours = watch::Sender::new(WanNow { bytes_per_sec: wan, is_closed: false, until: None });
        let parts = ExchangeParts {
            views: views.clone(),
            store: store.clone(),
            state: state.clone(),
            counters: counters.clone(),
            trouble: trouble.clone(),
            dialer: Dialer::new(identity.key.clone(), Carrier::Tcp).unwrap(),
            wan: Throttle::new(wan),
            wan_now: hours.subscribe(),
        };
        let cancel = CancellationToken::new();
        let (fetch, task) = exchange_loop::open(parts, &cancel).unwrap();
        let server = ExchangeServer {
            key: identity.key.clone(),
            views,
            store: store.clone(),
            fetch: fetch.clone(),
            state: state.clone(),
            counters: counters.clone(),
            serve: Throttle::new(serve),
        };
        let mut tasks = JoinSet::new();
        let stop = cancel.clone();
        tasks.spawn(async move { writer.run(stop).await.unwrap() });
        tasks.spawn(async move { task.run(cancel).await.unwrap() });
        let mut listener = bind(&identity);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let Accepted { stream, peer, .. } = listener.accept().await;
                let server = server.clone();
                connections.spawn(async move { server.serve(stream, peer, CancellationToken::new()).await });
            }
        });
        Self { identity, fetch, store, state, counters, trouble, publisher, hours, dir, tasks }
    }

    /// As `kill -9`: nothing is said, flushed or closed in order.
    pub async fn kill(mut self) -> (Identity, PathBuf) {
        self.tasks.shutdown().await;
        (self.identity.clone(), self.dir.clone())
    }

    pub fn chunks_here(&self, artifact: &ArtifactId) -> u32 {
        self.store.reader(artifact).map_or(0, |reader| reader.bitmap().count())
    }

    pub async fn complete(&self, artifact: &ArtifactId, limit: Duration) {
        eventually(limit, || self.store.reader(artifact).is_some_and(|reader| reader.bitmap().is_complete())).await;
    }

    pub async fn bytes(&self, artifact: &ArtifactId) -> Vec<u8> {
        let reader = self.store.reader(artifact).unwrap();
        let mut bytes = Vec::new();
        for index in 0..reader.manifest().chunk_count() {
            bytes.extend_from_slice(&reader.read(index).await.unwrap());
        }
        bytes
    }

    pub async fn chunk(
        &self,
        artifact: &ArtifactId,
        index: u32,
        limit: Duration,
    ) -> Result<(), crate::fetch::Unobtainable> {
        self.fetch.wait_chunk(*artifact, index, Instant::now() + limit).await
    }
}

/// Waits until `is_so`; fails when it is not after `limit`.
pub async fn eventually(limit: Duration, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !is_so() {
        assert!(Instant::now() < deadline, "not so after {limit:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn bind(identity: &Identity) -> DeviceListener {
    DeviceListener::bind(identity.address, &identity.key, ListenLimits::default()).unwrap()
}

/// A site with an origin that has one artifact.
pub struct Laboratory {
    pub dir: tempfile::TempDir,
    pub origin_identity: Identity,
    pub identities: Vec<Identity>,
    pub row: ReleasedArtifact,
    pub content: Vec<u8>,
    pub cap: Option<u64>,
    /// What each node serves at most.
    pub serve: Option<u64>,
    pub retracted: bool,
    background: JoinSet<()>,
}

impl Laboratory {
    /// `bytes` of content at an origin that sends at most `cap` bytes a second, and `nodes` members.
    pub async fn new(nodes: usize, bytes: usize, cap: Option<u64>) -> (Self, PlainServer) {
        sluice_identity::install_provider();
        let dir = tempfile::tempdir().unwrap();
        let origin_identity = identity("origin");
        let identities = (0..nodes).map(|n| identity(&format!("node-{n}"))).collect();
        let content = noise(bytes);
        let mut background = JoinSet::new();
        let (store, row) = import(dir.path().join("origin"), &content, &mut background).await;
        let server = PlainServer::start(&origin_identity, store, Manner::Honest, cap);
        let laboratory =
            Self { dir, origin_identity, identities, row, content, cap, serve: None, retracted: false, background };
        (laboratory, server)
    }

    pub fn artifact(&self) -> ArtifactId {
        self.row.custom.blake3
    }

    pub fn node(&self, at: usize) -> Node {
        let identity = self.identities[at].clone();
        let dir = self.dir.path().join(&identity.name);
        let view = self.view(identity.key.public());
        Node::start(identity, dir, view)
    }

    pub fn node_with_cap(&self, at: usize, cap: u64) -> Node {
        let identity = self.identities[at].clone();
        let dir = self.dir.path().join(&identity.name);
        let mut view = self.view(identity.key.public());
        let limits = view.limits.sites.get_mut(&view.site).unwrap();
        limits.wan_bytes_per_sec = sluice_model::ByteRate::bytes_per_sec(cap);
        Node::start(identity, dir, view)
    }

    pub fn start(&self) -> Vec<Node> {
        (0..self.identities.len()).map(|at| self.node(at)).collect()
    }

    /// A member that has all content and serves it in its own manner.
    pub async fn strange_peer(&mut self, at: usize, manner: Manner) -> PlainServer {
        let dir = self.dir.path().join("strange");
        let (store, _) = import(dir, &self.content.clone(), &mut self.background).await;
        PlainServer::start(&self.identities[at], store, manner, None)
    }

    pub fn view(&self, key: MemberKey) -> NodeView {
        let site: SiteName = "lyon".parse().unwrap();
        let ring: RingName = "production".parse().unwrap();
        let releases = BTreeMap::from([(ring.clone(), vec![self.row.clone()])]);
        let tombstones = if self.retracted { vec![self.tombstone()] } else { Vec::new() };
        let trusted = trusted(&ring);
        let limits = SiteLimits {
            wan_bytes_per_sec: self.cap.and_then(sluice_model::ByteRate::bytes_per_sec),
            serve_bytes_per_sec: self.serve.and_then(sluice_model::ByteRate::bytes_per_sec),
        };
        NodeView {
            key,
            view: View::of(&trusted).unwrap(),
            roster: self.roster(&site),
            bans: Default::default(),
            limits: Limits { sites: BTreeMap::from([(site.clone(), limits)]), ..Limits::default() },
            endpoints: EndpointRows { schema: 1, site: site.clone(), endpoints: Vec::new() },
            catalogue: Catalogue::new(&releases, &tombstones),
            tombstones,
            metadata_files: BTreeMap::new(),
            documents: BTreeMap::new(),
            issued_at: trusted.issued_at().unwrap(),
            lease_until: trusted.lease_until().unwrap(),
            timestamp_version: 1,
            clock: sluice_rollout::TrustedClock::arrived(trusted.issued_at().unwrap(), clock::since_boot()),
            hold: None,
            trusted,
            site,
        }
    }

    fn roster(&self, site: &SiteName) -> Roster {
        let member = |identity: &Identity, kind, site| Member {
            key: identity.key.public(),
            kind,
            site,
            name: identity.name.clone(),
            addresses: MemberAddresses { device: vec![identity.address], ..MemberAddresses::default() },
        };
        let mut members = vec![member(&self.origin_identity, MemberKind::Origin, None)];
        members.extend(self.identities.iter().map(|node| member(node, MemberKind::Node, Some(site.clone()))));
        Roster { schema: 1, members }
    }

    fn tombstone(&self) -> Tombstone {
        Tombstone {
            schema: 1,
            serial: 1,
            patch: self.row.custom.patch_ref(),
            content: vec![RetractedContent { sha256: self.row.sha256, blake3: self.row.custom.blake3 }],
            reason: "test".into(),
            by: "rita".parse().unwrap(),
            at: clock::timestamp(),
            approved: Default::default(),
        }
    }
}

/// A key and a port that was free a moment ago.
fn identity(name: &str) -> Identity {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    Identity { name: name.into(), key: DeviceKey::generate().unwrap(), address: listener.local_addr().unwrap() }
}

/// Bytes that no two runs of the chunker cut alike by luck: xorshift.
pub fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut content = Vec::with_capacity(bytes + 8);
    while content.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        content.extend_from_slice(&state.to_le_bytes());
    }
    content.truncate(bytes);
    content
}

async fn import(dir: PathBuf, content: &[u8], tasks: &mut JoinSet<()>) -> (ContentStore, ReleasedArtifact) {
    std::fs::create_dir_all(&dir).unwrap();
    let (store, writer) = ContentStore::open(&dir.join("content"), StoreLimits::default()).unwrap();
    tasks.spawn(async move { writer.run(CancellationToken::new()).await.unwrap() });
    let path = dir.join("upload");
    std::fs::write(&path, content).unwrap();
    let cut = store.import(&path, None, |_| {}).await.unwrap().cut;
    let custom = PatchTarget {
        schema: 1,
        patch: "demo".parse().unwrap(),
        patch_version: "1".parse().unwrap(),
        blake3: cut.artifact,
        sha512: cut.sha512,
        manifest: cut.manifest.reference(),
        artifact: ArtifactKind::Deb(DebFields {
            package: "demo".parse().unwrap(),
            version: "1".into(),
            architecture: "all".into(),
        }),
        set: ArtifactSet { index: 0, count: 1 },
        severity: Severity::Low,
        cves: Vec::new(),
        supersedes: Vec::new(),
        approved_serial: 1,
        approved_at: Timestamp::from_millis(1),
    };
    let row = ReleasedArtifact {
        target: "patches/production/demo.deb".parse().unwrap(),
        ring: "production".parse().unwrap(),
        length: cut.length,
        sha256: cut.sha256,
        custom,
    };
    (store, row)
}

fn trusted(ring: &RingName) -> Trusted {
    let rings = vec![ring.clone()];
    let mut keyring = Keyring::default();
    for (n, role) in dev_roles(&rings).into_iter().enumerate() {
        keyring.insert(role, Signer::from_seed([n as u8 + 1; 32]));
    }
    let params = InitParams {
        repo_id: "test".into(),
        profile: RepositoryProfile::Dev,
        rings,
        now: clock::timestamp(),
        lease: Duration::from_secs(3_600),
    };
    let (_, publication) = Writer::init(params, &keyring).unwrap();
    let files: Vec<_> = publication.files.into_iter().map(|(name, bytes)| (name, Arc::from(bytes))).collect();
    Trusted::restore(&files, Profile::Strict, &[]).unwrap()
}
