//! The answering side of the exchange protocol: reads requests, asks the program's [`ChunkSource`], sends paced replies.
//!
//! Invariants
//! - A connection holds at most two chunks in memory: the one being sent and the next.
//! - It has at most [`PENDING_MAX`] frames owed; until some are sent, no request is read.
//! - Waiting for a chunk that is being fetched delays no chunk that is here.

use crate::counters::ServeCounters;
use crate::reply_writer::{Outgoing, ReplyWriter};
use crate::source::{Answer, ChunkSource, ServedChunk};
use crate::throttle::Throttle;
use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt};
use sluice_exchange::evidence;
use sluice_exchange::frame::{
    Ask, FrameError, HELLO_LEN, REQUEST_CHUNKS_MAX, REQUEST_LEN, Refusal, Reply, Request, check_hello,
};
use sluice_exchange::have::HAVE_BYTES_MAX;
use sluice_identity::DeviceKey;
use sluice_model::limits::{CHUNK_BYTES_MAX, MANIFEST_BYTES_MAX};
use sluice_model::{ArtifactId, ManifestId, MemberKey};
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::{self, OwnedPermit};
use tokio_util::sync::CancellationToken;

/// Frames that a connection may owe before it reads no more requests: four full requests. Each waits in some 200 bytes.
const PENDING_MAX: usize = 4 * REQUEST_CHUNKS_MAX as usize;

/// How long saying goodbye may take.
pub(crate) const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);

/// Waiting times of a served connection.
#[derive(Clone, Copy, Debug)]
pub struct ServeLimits {
    /// Longest wait for a chunk that is being fetched, whatever the asker's window says.
    pub wait_max: Duration,
    /// A peer that says no hello, or takes nothing of what it asked for, for this long is given up.
    pub stall_timeout: Duration,
    /// A connection that asks nothing for this long is closed.
    pub idle_timeout: Duration,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self {
            wait_max: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(180),
        }
    }
}

/// How a connection is served. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Waiting times.
    pub limits: ServeLimits,
    /// What every byte must pass, in this order (for instance the site's throttle, then the node's).
    pub pace: Vec<Throttle>,
    /// Signs the trailer of every chunk; `None` sends chunks without trailer.
    pub sign_with: Option<DeviceKey>,
    /// Where it is counted; may be shared (for instance by a site's connections).
    pub counters: Arc<ServeCounters>,
}

/// Why a served connection ended otherwise than by the client's wish.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The connection broke.
    #[error("the connection broke")]
    Io(#[from] io::Error),
    /// Not a frame of this protocol version.
    #[error("the peer broke the protocol")]
    Frame(#[from] FrameError),
    /// The peer used a request id twice at once.
    #[error("the peer used request id {request_id} while it was in flight")]
    DuplicateRequest {
        /// Which.
        request_id: u32,
    },
    /// The peer said no hello, or takes nothing of what it asked for.
    #[error("the peer did nothing for {} s", after.as_secs())]
    Stalled {
        /// How long it had.
        after: Duration,
    },
}

impl ServeError {
    /// Whether the peer broke the protocol, which no network fault explains.
    pub fn is_misbehaviour(&self) -> bool {
        matches!(self, Self::Frame(_) | Self::DuplicateRequest { .. })
    }
}

/// Serves `peer` until it closes the connection, is idle for too long, misbehaves, or is cancelled (then what is being
/// sent is cut). Dropping the future closes the connection.
pub async fn serve_exchange<S, C>(
    stream: S,
    peer: MemberKey,
    source: Arc<C>,
    options: &ServeOptions,
    cancel: CancellationToken,
) -> Result<(), ServeError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    C: ChunkSource,
{
    let (reader, writer) = tokio::io::split(stream);
    // One reply waits here while another one is sent: with the permit taken before a chunk is read, two chunks are
    // in memory.
    let (ready, mut to_send) = mpsc::channel(1);
    let mut writer = ReplyWriter {
        writer,
        pace: options.pace.clone(),
        counters: Arc::clone(&options.counters),
        stall_timeout: options.limits.stall_timeout,
    };
    let intake = Intake::new(RequestReader::new(reader), peer, source, options, ready);
    let sending = async {
        while let Some(reply) = to_send.recv().await {
            writer.send(&reply).await?;
        }
        Ok(())
    };
    let ended = tokio::select! {
        () = cancel.cancelled() => Ok(()),
        ended = intake.run() => ended,
        ended = sending => ended,
    };
    // The peer's own reading tells it how the connection ended; a failure to say so changes nothing.
    let _ = tokio::time::timeout(GOODBYE_TIMEOUT, writer.writer.shutdown()).await;
    ended
}

/// Collects a fixed number of bytes; dropping a read loses nothing.
struct RequestReader<R> {
    reader: R,
    bytes: [u8; REQUEST_LEN],
    filled: usize,
}

impl<R: AsyncRead + Unpin> RequestReader<R> {
    fn new(reader: R) -> Self {
        Self { reader, bytes: [0; REQUEST_LEN], filled: 0 }
    }

    /// Fills the first `length` bytes; `false` at the end of the stream.
    async fn fill(&mut self, length: usize) -> io::Result<bool> {
        while self.filled < length {
            match self.reader.read(&mut self.bytes[self.filled..length]).await? {
                0 if self.filled == 0 => return Ok(false),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => self.filled += read,
            }
        }
        self.filled = 0;
        Ok(true)
    }

    async fn hello(&mut self) -> Result<bool, ServeError> {
        if !self.fill(HELLO_LEN).await? {
            return Ok(false);
        }
        let mut hello = [0; HELLO_LEN];
        hello.copy_from_slice(&self.bytes[..HELLO_LEN]);
        check_hello(&hello)?;
        Ok(true)
    }

    async fn request(&mut self) -> Result<Option<Request>, ServeError> {
        if !self.fill(REQUEST_LEN).await? {
            return Ok(None);
        }
        Ok(Some(Request::decode(&self.bytes)?))
    }
}

/// One frame that is owed.
#[derive(Clone, Copy, Debug)]
struct Owed {
    request_id: u32,
    /// Which use of the id: a refused request's leftovers must not answer a later request with the same id.
    serial: u64,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Chunk {
        artifact: ArtifactId,
        index: u32,
    },
    Manifest(ManifestId),
    Have(ArtifactId),
    /// Nothing to read: the answer is known.
    NotHere {
        index: u32,
    },
    Refused(Refusal),
}

#[derive(Clone, Copy, Debug)]
struct InFlight {
    serial: u64,
    frames_left: u32,
}

type Waiting = Pin<Box<dyn Future<Output = (Owed, Answer<()>)> + Send>>;
type Reading = Pin<Box<dyn Future<Output = (Owed, Outgoing, OwnedPermit<Outgoing>)> + Send>>;

struct Intake<R, C> {
    requests: RequestReader<R>,
    peer: MemberKey,
    source: Arc<C>,
    options: ServeOptions,
    ready_to_send: mpsc::Sender<Outgoing>,
    in_flight: HashMap<u32, InFlight>,
    next_serial: u64,
    waiting: FuturesUnordered<Waiting>,
    readable: VecDeque<Owed>,
    /// At most one.
    reading: FuturesUnordered<Reading>,
}

impl<R: AsyncRead + Unpin, C: ChunkSource> Intake<R, C> {
    fn new(
        requests: RequestReader<R>,
        peer: MemberKey,
        source: Arc<C>,
        options: &ServeOptions,
        ready_to_send: mpsc::Sender<Outgoing>,
    ) -> Self {
        Self {
            requests,
            peer,
            source,
            options: options.clone(),
            ready_to_send,
            in_flight: HashMap::new(),
            next_serial: 0,
            waiting: FuturesUnordered::new(),
            readable: VecDeque::new(),
            reading: FuturesUnordered::new(),
        }
    }

    async fn run(mut self) -> Result<(), ServeError> {
        let limits = self.options.limits;
        match tokio::time::timeout(limits.stall_timeout, self.requests.hello()).await {
            Ok(said) => {
                if !said? {
                    return Ok(());
                }
            }
            Err(_) => return Err(ServeError::Stalled { after: limits.stall_timeout }),
        }
        let mut idle_end = tokio::time::Instant::now() + limits.idle_timeout;
        loop {
            let pending = self.waiting.len() + self.readable.len() + self.reading.len();
            let may_ask = pending + REQUEST_CHUNKS_MAX as usize <= PENDING_MAX;
            let may_read = self.reading.is_empty() && !self.readable.is_empty();
            if pending > 0 {
                idle_end = tokio::time::Instant::now() + limits.idle_timeout;
            }
            tokio::select! {
                Some((owed, outgoing, permit)) = self.reading.next(), if !self.reading.is_empty() => {
                    self.send(owed, outgoing, permit);
                }
                Some((owed, answer)) = self.waiting.next(), if !self.waiting.is_empty() => self.waited(owed, answer),
                permit = self.ready_to_send.clone().reserve_owned(), if may_read => match permit {
                    Ok(permit) => self.begin_reading(permit),
                    Err(_) => return Ok(()),
                },
                request = self.requests.request(), if may_ask => match request {
                    Ok(Some(request)) => self.begin(request)?,
                    Ok(None) => return Ok(()),
                    // A client that has everything may just go.
                    Err(ServeError::Io(_)) if self.in_flight.is_empty() && self.requests.filled == 0 => return Ok(()),
                    Err(error) => return Err(error),
                },
                () = tokio::time::sleep_until(idle_end), if pending == 0 => return Ok(()),
            }
        }
    }

    fn begin(&mut self, request: Request) -> Result<(), ServeError> {
        self.options.counters.add_request();
        let request_id = request.id;
        let frames_left = match request.ask {
            Ask::Chunks { count, .. } => count,
            _ => 1,
        };
        let serial = self.next_serial;
        self.next_serial += 1;
        if self.in_flight.insert(request_id, InFlight { serial, frames_left }).is_some() {
            return Err(ServeError::DuplicateRequest { request_id });
        }
        match request.ask {
            Ask::Chunks { artifact, first, count, window_ms } => {
                let window = Duration::from_millis(window_ms.into()).min(self.options.limits.wait_max);
                for index in first..first + count {
                    let owed = Owed { request_id, serial, what: What::Chunk { artifact, index } };
                    self.waiting.push(self.wait_for(owed, artifact, index, window));
                }
            }
            Ask::Manifest { manifest } => {
                self.readable.push_back(Owed { request_id, serial, what: What::Manifest(manifest) })
            }
            Ask::Have { artifact } => self.readable.push_back(Owed { request_id, serial, what: What::Have(artifact) }),
        }
        Ok(())
    }

    fn wait_for(&self, owed: Owed, artifact: ArtifactId, index: u32, window: Duration) -> Waiting {
        let (source, peer) = (Arc::clone(&self.source), self.peer);
        Box::pin(async move {
            // Asked once even when the window is zero.
            let answer = tokio::time::timeout(window, source.available(&peer, &artifact, index)).await;
            (owed, answer.unwrap_or(Answer::NotHere))
        })
    }

    fn waited(&mut self, owed: Owed, answer: Answer<()>) {
        let What::Chunk { index, .. } = owed.what else { return };
        let what = match answer {
            Answer::Here(()) => owed.what,
            Answer::NotHere => What::NotHere { index },
            Answer::Refused(refusal) => What::Refused(refusal),
        };
        self.readable.push_back(Owed { what, ..owed });
    }

    /// Takes the next frame that is still owed: a refusal ended its request for all its frames.
    fn begin_reading(&mut self, permit: OwnedPermit<Outgoing>) {
        while let Some(owed) = self.readable.pop_front() {
            if self.is_owed(&owed) {
                let (source, peer) = (Arc::clone(&self.source), self.peer);
                let sign_with = self.options.sign_with.clone();
                self.reading.push(Box::pin(async move {
                    let outgoing = read(&*source, peer, owed, sign_with.as_ref()).await;
                    (owed, outgoing, permit)
                }));
                return;
            }
        }
    }

    fn is_owed(&self, owed: &Owed) -> bool {
        self.in_flight.get(&owed.request_id).is_some_and(|in_flight| in_flight.serial == owed.serial)
    }

    fn send(&mut self, owed: Owed, outgoing: Outgoing, permit: OwnedPermit<Outgoing>) {
        if !self.is_owed(&owed) {
            return;
        }
        let counters = &self.options.counters;
        if outgoing.is_refusal() {
            counters.add_refused();
            self.in_flight.remove(&owed.request_id);
        } else if let Some(in_flight) = self.in_flight.get_mut(&owed.request_id) {
            if outgoing.is_not_here() {
                counters.add_not_here();
            }
            in_flight.frames_left -= 1;
            if in_flight.frames_left == 0 {
                self.in_flight.remove(&owed.request_id);
            }
        }
        permit.send(outgoing);
    }
}

/// Asks the source and makes the reply.
async fn read<C: ChunkSource>(source: &C, peer: MemberKey, owed: Owed, sign_with: Option<&DeviceKey>) -> Outgoing {
    let id = owed.request_id;
    match owed.what {
        What::Chunk { artifact, index } => match source.chunk(&peer, &artifact, index).await {
            Answer::Here(chunk) if chunk.bytes.len() <= CHUNK_BYTES_MAX as usize => {
                chunk_reply(id, &peer, &artifact, index, chunk, sign_with)
            }
            answer => no_body(id, index, &answer),
        },
        What::Manifest(manifest) => match source.manifest(&peer, &manifest).await {
            Answer::Here(bytes) if bytes.len() as u64 <= MANIFEST_BYTES_MAX => {
                Outgoing::new(id, Reply::Manifest, bytes, None)
            }
            answer => no_body(id, 0, &answer),
        },
        What::Have(artifact) => match source.have(&peer, &artifact).await {
            Answer::Here(bytes) if bytes.len() as u64 <= HAVE_BYTES_MAX => Outgoing::new(id, Reply::Have, bytes, None),
            answer => no_body(id, 0, &answer),
        },
        What::NotHere { index } => no_body(id, index, &Answer::<()>::NotHere),
        What::Refused(refusal) => no_body(id, 0, &Answer::<()>::Refused(refusal)),
    }
}

/// The reply without a body. A body beyond its bound would be a bug of the source; the peer hears that it is not here.
fn no_body<T>(request_id: u32, index: u32, answer: &Answer<T>) -> Outgoing {
    let reply = match answer {
        Answer::Refused(refusal) => Reply::Refused(*refusal),
        Answer::NotHere => Reply::NotHere { index },
        Answer::Here(_) => {
            tracing::error!(request_id, index, "a chunk source gave a body beyond its bound");
            Reply::NotHere { index }
        }
    };
    Outgoing::new(request_id, reply, Bytes::new(), None)
}

fn chunk_reply(
    request_id: u32,
    receiver: &MemberKey,
    artifact: &ArtifactId,
    index: u32,
    chunk: ServedChunk,
    sign_with: Option<&DeviceKey>,
) -> Outgoing {
    let trailer = sign_with.map(|key| {
        let statement = evidence::statement(receiver, artifact, index, chunk.id.as_bytes());
        key.signer().sign_purpose(evidence::PURPOSE, &statement)
    });
    Outgoing::new(request_id, Reply::Chunk { index, trailer: trailer.is_some() }, chunk.bytes, trailer)
}
