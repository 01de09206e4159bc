//! The product: the exchange protocol between two nodes. The sender verifies what it reads and signs each chunk, as a
//! node does; TLS 1.3 with mutual raw keys carries it; the receiver verifies and writes.

use crate::data::Data;
use crate::measure::{Measured, Stopwatch};
use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use sluice_content::Manifest;
use sluice_exchange::frame::{Ask, Request};
use sluice_identity::DeviceKey;
use sluice_model::{ArtifactId, ByteRate, ManifestId, MemberKey};
use sluice_transport::{
    Accepted, Alpn, Answer, Carrier, ChunkSource, ClientLimits, DeviceListener, Dialer, ExchangeClient, ExchangeEvent,
    LinkKind, ListenLimits, QuicListener, ReceiveCounters, ServeCounters, ServeLimits, ServeOptions, ServedChunk,
    Throttle, serve_exchange,
};
use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Chunks of one request, and requests in flight on a connection: about 8 MiB in flight.
const CHUNKS_PER_REQUEST: u32 = 4;
const REQUESTS_IN_FLIGHT: usize = 2;

/// Reads chunks from the artifact and verifies them before they leave.
struct DiskSource(Arc<Artifact>);

struct Artifact {
    file: File,
    manifest: Manifest,
}

impl ChunkSource for DiskSource {
    async fn manifest(&self, _: &MemberKey, _: &ManifestId) -> Answer<Bytes> {
        Answer::NotHere
    }

    async fn chunk(&self, _: &MemberKey, _: &ArtifactId, index: u32) -> Answer<ServedChunk> {
        let artifact = Arc::clone(&self.0);
        match tokio::task::spawn_blocking(move || artifact.read(index)).await {
            Ok(Ok(chunk)) => Answer::Here(chunk),
            _ => Answer::NotHere,
        }
    }

    async fn have(&self, _: &MemberKey, _: &ArtifactId) -> Answer<Bytes> {
        Answer::NotHere
    }
}

impl Artifact {
    fn read(&self, index: u32) -> anyhow::Result<ServedChunk> {
        let range = self.manifest.range(index);
        let mut bytes = Vec::with_capacity((range.end - range.start) as usize);
        while bytes.len() < bytes.capacity() {
            let at = range.start + bytes.len() as u64;
            let read = rustix::io::pread(&self.file, rustix::buffer::spare_capacity(&mut bytes), at)?;
            ensure!(read > 0, "the artifact ended early");
        }
        self.manifest.verify(index, &bytes)?;
        Ok(ServedChunk { bytes: bytes.into(), id: self.manifest.chunk_id(index) })
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
    let target = Arc::new(data.target()?);
    let manifest = Arc::new(data.manifest.clone());
    let source = Arc::new(DiskSource(Arc::new(Artifact { file: data.source, manifest: data.manifest })));
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
        fetching.spawn(fetch(client, events, Arc::clone(&manifest), Arc::clone(&target), (part, connections)));
    }
    while let Some(done) = fetching.join_next().await {
        done??;
    }
    stopwatch.stop(manifest.length())
}

/// Fetches every `of`-th request's worth of chunks, and verifies and writes what comes.
async fn fetch(
    client: ExchangeClient,
    mut events: mpsc::Receiver<ExchangeEvent>,
    manifest: Arc<Manifest>,
    target: Arc<File>,
    (part, of): (usize, usize),
) -> anyhow::Result<()> {
    let artifact = manifest.artifact();
    let mut requests = (0..manifest.chunk_count().div_ceil(CHUNKS_PER_REQUEST)).skip(part).step_by(of).map(|id| {
        let first = id * CHUNKS_PER_REQUEST;
        let count = CHUNKS_PER_REQUEST.min(manifest.chunk_count() - first);
        Request { id, ask: Ask::Chunks { artifact, first, count, window_ms: 0 } }
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
        tokio::task::block_in_place(|| -> anyhow::Result<()> {
            manifest.verify(index, &bytes)?;
            Ok(target.write_all_at(&bytes, manifest.range(index).start)?)
        })?;
    }
    Ok(())
}
