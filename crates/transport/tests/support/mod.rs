//! A source with artifacts in memory, and both ends of a connection over either carrier.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part; a test may unwrap")]

use bytes::Bytes;
use sluice_exchange::evidence::hash_sent;
use sluice_exchange::frame::{Ask, Refusal, Request};
use sluice_identity::DeviceKey;
use sluice_model::{ArtifactId, ChunkId, ManifestId, MemberKey};
use sluice_transport::{
    Accepted, Alpn, Answer, Carrier, ChunkSource, ClientLimits, DeviceListener, DeviceStream, Dialer, ExchangeClient,
    ExchangeEvent, LinkKind, ListenLimits, QuicListener, ReceiveCounters, ServeCounters, ServeError, ServeLimits,
    ServeOptions, ServedChunk, Throttle, serve_exchange,
};
use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub const ARTIFACT: ArtifactId = ArtifactId::from_bytes([1; 32]);
pub const RETRACTED: ArtifactId = ArtifactId::from_bytes([2; 32]);
pub const MANIFEST: ManifestId = ManifestId::from_bytes([3; 32]);

/// Bytes that count how many of them are alive.
struct Counted(Bytes, Arc<AtomicUsize>);

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Ordering::SeqCst);
    }
}

pub struct MemorySource {
    pub chunks: Mutex<BTreeMap<u32, Bytes>>,
    pub arrived: watch::Sender<u64>,
    /// Chunks that are being fetched.
    pub coming: Mutex<HashSet<u32>>,
    pub wrong_byte_in: Option<u32>,
    /// Who has every chunk, is said to whoever does not insist.
    pub at_member: Mutex<Option<MemberKey>>,
    pub alive: Arc<AtomicUsize>,
    pub alive_most: AtomicUsize,
}

impl MemorySource {
    pub fn new(lengths: &[usize]) -> Self {
        let chunks = lengths.iter().enumerate().map(|(index, length)| (index as u32, chunk(index as u32, *length)));
        Self {
            chunks: Mutex::new(chunks.collect()),
            arrived: watch::channel(0).0,
            coming: Mutex::default(),
            wrong_byte_in: None,
            at_member: Mutex::default(),
            alive: Arc::default(),
            alive_most: AtomicUsize::new(0),
        }
    }

    pub fn arrive(&self, index: u32, bytes: Bytes) {
        self.chunks.lock().unwrap().insert(index, bytes);
        self.arrived.send_modify(|count| *count += 1);
    }
}

/// Chunk `index` of the test artifact: bytes that depend on the index.
pub fn chunk(index: u32, length: usize) -> Bytes {
    let mut bytes = vec![0; length];
    blake3::Hasher::new_derive_key("test").update(&index.to_be_bytes()).finalize_xof().fill(&mut bytes);
    bytes.into()
}

impl ChunkSource for MemorySource {
    async fn manifest(&self, _peer: &MemberKey, manifest: &ManifestId) -> Answer<Bytes> {
        if *manifest == MANIFEST { Answer::Here(Bytes::from_static(b"a manifest")) } else { Answer::NotHere }
    }

    async fn available(&self, _peer: &MemberKey, artifact: &ArtifactId, index: u32) -> Answer<()> {
        if *artifact == RETRACTED {
            return Answer::Refused(Refusal::Retracted);
        }
        let mut arrived = self.arrived.subscribe();
        loop {
            if self.chunks.lock().unwrap().contains_key(&index) {
                return Answer::Here(());
            }
            if !self.coming.lock().unwrap().contains(&index) {
                return Answer::NotHere;
            }
            arrived.changed().await.unwrap();
        }
    }

    async fn chunk(&self, _peer: &MemberKey, artifact: &ArtifactId, index: u32, insists: bool) -> Answer<ServedChunk> {
        if *artifact == RETRACTED {
            return Answer::Refused(Refusal::Retracted);
        }
        if let Some(member) = self.at_member.lock().unwrap().filter(|_| !insists) {
            return Answer::Elsewhere(member);
        }
        let Some(mut bytes) = self.chunks.lock().unwrap().get(&index).cloned() else { return Answer::NotHere };
        if self.wrong_byte_in == Some(index) {
            let mut wrong = bytes.to_vec();
            wrong[0] ^= 1;
            bytes = wrong.into();
        }
        let alive = self.alive.fetch_add(1, Ordering::SeqCst) + 1;
        self.alive_most.fetch_max(alive, Ordering::SeqCst);
        let id = ChunkId::from_bytes(hash_sent(&bytes));
        Answer::Here(ServedChunk { bytes: Bytes::from_owner(Counted(bytes, Arc::clone(&self.alive))), id })
    }

    async fn have(&self, _peer: &MemberKey, artifact: &ArtifactId) -> Answer<Bytes> {
        if *artifact == ARTIFACT { Answer::Here(Bytes::from_static(b"a bitmap")) } else { Answer::NotHere }
    }
}

pub enum Listener {
    Tcp(DeviceListener),
    Quic(QuicListener),
}

impl Listener {
    pub fn bind(carrier: Carrier, key: &DeviceKey) -> Self {
        let address = "127.0.0.1:0".parse().unwrap();
        match carrier {
            Carrier::Tcp => Self::Tcp(DeviceListener::bind(address, key, ListenLimits::default()).unwrap()),
            Carrier::Quic => Self::Quic(QuicListener::bind(address, key, ListenLimits::default()).unwrap()),
        }
    }

    pub fn local_addr(&self) -> SocketAddr {
        match self {
            Self::Tcp(listener) => listener.local_addr().unwrap(),
            Self::Quic(listener) => listener.local_addr().unwrap(),
        }
    }

    pub async fn accept(&mut self) -> Accepted {
        match self {
            Self::Tcp(listener) => listener.accept().await,
            Self::Quic(listener) => listener.accept().await,
        }
    }
}

pub struct Link {
    pub server_key: DeviceKey,
    pub client_key: DeviceKey,
    pub accepted: Accepted,
    pub connected: DeviceStream,
    /// Keeps the sockets open.
    pub _listener: Listener,
    pub _dialer: Dialer,
}

/// A connection, both ends. Over QUIC the server's end exists only once the client wrote, so the client writes
/// `first` before.
pub async fn link_saying(carrier: Carrier, first: &[u8]) -> Link {
    let (server_key, client_key) = (DeviceKey::generate().unwrap(), DeviceKey::generate().unwrap());
    let mut listener = Listener::bind(carrier, &server_key);
    let dialer = Dialer::new(client_key.clone(), carrier).unwrap();
    let address = listener.local_addr();
    let connecting = async {
        let mut stream = dialer.connect(address, server_key.public(), Alpn::Exchange, LinkKind::Wan).await.unwrap();
        if !first.is_empty() {
            tokio::io::AsyncWriteExt::write_all(&mut stream, first).await.unwrap();
            tokio::io::AsyncWriteExt::flush(&mut stream).await.unwrap();
        }
        stream
    };
    let (accepted, connected) = tokio::join!(listener.accept(), connecting);
    assert_eq!(accepted.peer, client_key.public());
    assert_eq!(accepted.alpn, Alpn::Exchange);
    Link { server_key, client_key, accepted, connected, _listener: listener, _dialer: dialer }
}

pub struct Setup {
    pub carrier: Carrier,
    pub serve_limits: ServeLimits,
    pub client_limits: ClientLimits,
    pub serve_pace: Vec<Throttle>,
    pub client_pace: Vec<Throttle>,
    pub signed: bool,
}

impl Setup {
    pub fn over(carrier: Carrier) -> Self {
        Self {
            carrier,
            serve_limits: ServeLimits::default(),
            client_limits: ClientLimits::default(),
            serve_pace: Vec::new(),
            client_pace: Vec::new(),
            signed: true,
        }
    }
}

/// A served connection and its client.
pub struct Pair {
    pub server_key: DeviceKey,
    pub client_key: DeviceKey,
    pub client: ExchangeClient,
    pub events: mpsc::Receiver<ExchangeEvent>,
    pub served: Arc<ServeCounters>,
    pub received: Arc<ReceiveCounters>,
    pub cancel_server: CancellationToken,
    pub tasks: JoinSet<Result<(), ServeError>>,
}

pub async fn pair(setup: Setup, source: Arc<MemorySource>) -> Pair {
    let (server_key, client_key) = (DeviceKey::generate().unwrap(), DeviceKey::generate().unwrap());
    let mut listener = Listener::bind(setup.carrier, &server_key);
    let address = listener.local_addr();
    let served = Arc::new(ServeCounters::default());
    let options = ServeOptions {
        limits: setup.serve_limits,
        pace: setup.serve_pace,
        sign_with: setup.signed.then(|| server_key.clone()),
        counters: Arc::clone(&served),
    };
    let cancel_server = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let serve_cancel = cancel_server.clone();
    tasks.spawn(async move {
        let accepted = listener.accept().await;
        serve_exchange(accepted.stream, accepted.peer, source, &options, serve_cancel).await
    });
    let dialer = Dialer::new(client_key.clone(), setup.carrier).unwrap();
    let stream = dialer.connect(address, server_key.public(), Alpn::Exchange, LinkKind::Wan).await.unwrap();
    let (events_in, events) = mpsc::channel(4);
    let received = Arc::new(ReceiveCounters::default());
    let (client, connection) = ExchangeClient::new(
        stream,
        server_key.public(),
        setup.client_limits,
        setup.client_pace,
        Arc::clone(&received),
        events_in,
    );
    tasks.spawn(async move {
        let _dialer = dialer;
        connection.run(CancellationToken::new()).await;
        Ok(())
    });
    Pair { server_key, client_key, client, events, served, received, cancel_server, tasks }
}

pub fn chunks(id: u32, first: u32, count: u32) -> Request {
    waiting_chunks(id, first, count, 0)
}

pub fn waiting_chunks(id: u32, first: u32, count: u32, window_ms: u32) -> Request {
    Request { id, ask: Ask::Chunks { artifact: ARTIFACT, first, count, window_ms, insists: false } }
}

pub async fn next(events: &mut mpsc::Receiver<ExchangeEvent>) -> ExchangeEvent {
    tokio::time::timeout(Duration::from_secs(30), events.recv()).await.expect("an event in time").expect("an event")
}
