//! The product: the exchange protocol between the stores of two nodes. The sender verifies what it reads and signs each
//! chunk; TLS 1.3 with mutual raw keys carries it; the receiver verifies, writes, and makes durable in batches.

use crate::data::Data;
use crate::measure::{Measured, Stopwatch};
use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use sluice_content::Manifest;
use sluice_content_store::{ArtifactReader, ContentStore};
use sluice_exchange::frame::{Ask, Request};
use sluice_identity::DeviceKey;
use sluice_model::{ArtifactId, ByteRate, ManifestId, MemberKey};
use sluice_transport::{
    Accepted, Alpn, Answer, Carrier, ChunkSource, ClientLimits, DeviceListener, Dialer, ExchangeClient, ExchangeEvent,
    LinkKind, ListenLimits, QuicListener, ReceiveCounters, ServeCounters, ServeLimits, ServeOptions, ServedChunk,
    Throttle, serve_exchange,
};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Chunks of one request, and requests in flight on a connection: about 8 MiB in flight.
const CHUNKS_PER_REQUEST: u32 = 4;
const REQUESTS_IN_FLIGHT: usize = 2;

/// Serves one artifact from a store.
struct StoreSource(ArtifactReader);

impl ChunkSource for StoreSource {
    async fn manifest(&self, _: &MemberKey, _: &ManifestId) -> Answer<Bytes> {
        Answer::NotHere
    }

    async fn chunk(&self, _: &MemberKey, _: &ArtifactId, index: u32, _: bool) -> Answer<ServedChunk> {
        match self.0.read(index).await {
            Ok(bytes) => Answer::Here(ServedChunk { bytes, id: self.0.manifest().chunk_id(index) }),
            Err(_) => Answer::NotHere,
        }
    }

    async fn have(&self, _: &MemberKey, _: &ArtifactId) -> Answer<Bytes> {
        Answer::NotHere
    }
}

enum Listener {
    Tcp(DeviceListener),
    Quic(QuicListener),
}

impl Listener {
    fn bind(carrier: Carrier, key: &DeviceKey) -> anyhow::Result<Self> {
        let (address, limits) = (SocketAddr::from(([127, 0, 0, 1], 0)), ListenLimits::default());
        Ok(match carrier {
            Carrier::Tcp => Self::Tcp(DeviceListener::bind(address, key, limits)?),
            Carrier::Quic => Self::Quic(QuicListener::bind(address, key, limits)?),
        })
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr(),
            Self::Quic(listener) => listener.local_addr(),
        }
    }

    async fn accept(&mut self) -> Accepted {
        match self {
            Self::Tcp(listener) => listener.accept().await,
            Self::Quic(listener) => listener.accept().await,
        }
    }
}

/// Moves the artifact.
pub fn transfer(data: Data, connections: usize, carrier: Carrier, slow: Option<ByteRate>) -> anyhow::Result<Measured> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let measured = runtime.block_on(transfer_async(data, connections, carrier, slow));
    runtime.shutdown_background();
    measured
}

async fn transfer_async(
    data: Data,
    connections: usize,
    carrier: Carrier,
    slow: Option<ByteRate>,
) -> anyhow::Result<Measured> {
    let (server_key, client_key) = (DeviceKey::generate()?, DeviceKey::generate()?);
    let manifest = Arc::clone(&data.manifest);
    let stop = CancellationToken::new();
    let mut writers = JoinSet::new();
    let (sending, task) = data.sending_store()?;
    writers.spawn(task.run(stop.clone()));
    let ((receiving, task), _folder) = data.receiving_store()?;
    writers.spawn(task.run(stop.clone()));
    receiving.admit(data.admission()).await?;
    let reader = sending.reader(&manifest.artifact()).context("the sender has not got the artifact")?;
    let source = Arc::new(StoreSource(reader));
    let mut listener = Listener::bind(carrier, &server_key)?;
    let address = listener.local_addr()?;
    let options = ServeOptions {
        limits: ServeLimits::default(),
        pace: slow.map(|rate| Throttle::new(Some(rate))).into_iter().collect(),
        sign_with: Some(server_key.clone()),
        counters: Arc::new(ServeCounters::default()),
    };
    let dialer = Dialer::new(client_key, carrier)?;
    let stopwatch = Stopwatch::start()?;
    let mut server = JoinSet::new();
    let cancel = CancellationToken::new();
    server.spawn(async move {
        let mut served = JoinSet::new();
        loop {
            let accepted = listener.accept().await;
            let (source, options, cancel) = (Arc::clone(&source), options.clone(), cancel.clone());
            served.spawn(async move { serve_exchange(accepted.stream, accepted.peer, source, &options, cancel).await });
        }
    });
    let mut fetching = JoinSet::new();
    for part in 0..connections {
        let stream = dialer.connect(address, server_key.public(), Alpn::Exchange, LinkKind::Lan).await?;
        let (events_in, events) = mpsc::channel(2);
        let (client, connection) = ExchangeClient::new(
            stream,
            server_key.public(),
            ClientLimits::default(),
            Vec::new(),
            Arc::new(ReceiveCounters::default()),
            events_in,
        );
        fetching.spawn(async move {
            connection.run(CancellationToken::new()).await;
            anyhow::Ok(())
        });
        fetching.spawn(fetch(client, events, Arc::clone(&manifest), receiving.clone(), (part, connections)));
    }
    while let Some(done) = fetching.join_next().await {
        done??;
    }
    let measured = stopwatch.stop(manifest.length())?;
    let reader = receiving.reader(&manifest.artifact()).context("the receiver has not got the artifact")?;
    ensure!(reader.is_complete(), "the receiver has not got all chunks");
    stop.cancel();
    while let Some(ended) = writers.join_next().await {
        ended??;
    }
    Ok(measured)
}

/// Fetches every `of`-th request's worth of chunks, and puts what comes into the store.
async fn fetch(
    client: ExchangeClient,
    mut events: mpsc::Receiver<ExchangeEvent>,
    manifest: Arc<Manifest>,
    store: ContentStore,
    (part, of): (usize, usize),
) -> anyhow::Result<()> {
    let artifact = manifest.artifact();
    let mut requests = (0..manifest.chunk_count().div_ceil(CHUNKS_PER_REQUEST)).skip(part).step_by(of).map(|id| {
        let first = id * CHUNKS_PER_REQUEST;
        let count = CHUNKS_PER_REQUEST.min(manifest.chunk_count() - first);
        Request { id, ask: Ask::Chunks { artifact, first, count, window_ms: 0, insists: false } }
    });
    let mut in_flight = 0;
    for request in requests.by_ref().take(REQUESTS_IN_FLIGHT) {
        client.request(request).await?;
        in_flight += 1;
    }
    while in_flight > 0 {
        let ExchangeEvent::Chunk { index, bytes, last, .. } = events.recv().await.context("the connection ended")?
        else {
            bail!("the server did not send a chunk");
        };
        if last {
            match requests.next() {
                Some(request) => client.request(request).await?,
                None => in_flight -= 1,
            }
        }
        store.put(&artifact, index, bytes).await?;
    }
    Ok(())
}
