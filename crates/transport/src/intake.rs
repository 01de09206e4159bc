//! What one served connection owes: reads requests, waits for chunks that are coming, reads them from the source one at
//! a time, and hands them to the writer. See [`crate::serve`].

use crate::reply_writer::Outgoing;
use crate::serve::{ServeError, ServeOptions};
use crate::source::{Answer, ChunkSource, ServedChunk};
use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt};
use sluice_exchange::evidence;
use sluice_exchange::frame::{Ask, HELLO_LEN, REQUEST_CHUNKS_MAX, REQUEST_LEN, Refusal, Reply, Request, check_hello};
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
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc::{self, OwnedPermit};
use tokio_util::sync::CancellationToken;

/// Frames that a connection may owe before it reads no more requests: four full requests. Each waits in some 200 bytes.
const PENDING_MAX: usize = 4 * REQUEST_CHUNKS_MAX as usize;

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
        insists: bool,
    },
    Manifest(ManifestId),
    Have(ArtifactId),
    /// Nothing to read: the answer is known.
    NotHere {
        index: u32,
    },
    Refused(Refusal),
}

#[derive(Clone, Debug)]
struct InFlight {
    serial: u64,
    frames_left: u32,
    /// Ends the waiting for its chunks.
    cancel: CancellationToken,
}

type Waiting = Pin<Box<dyn Future<Output = (Owed, Answer<()>)> + Send>>;
type Reading = Pin<Box<dyn Future<Output = (Owed, Outgoing, OwnedPermit<Outgoing>)> + Send>>;

/// The asking half of a served connection.
pub(crate) struct Intake<R, C> {
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
    pub(crate) fn new(
        reader: R,
        peer: MemberKey,
        source: Arc<C>,
        options: &ServeOptions,
        ready_to_send: mpsc::Sender<Outgoing>,
    ) -> Self {
        Self {
            requests: RequestReader::new(reader),
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

    /// Runs until the client has gone, is idle for too long, or misbehaves.
    pub(crate) async fn run(mut self) -> Result<(), ServeError> {
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
        let request_id = request.id;
        if request.ask == Ask::Cancel {
            self.cancel(request_id);
            return Ok(());
        }
        self.options.counters.add_request();
        let frames_left = match request.ask {
            Ask::Chunks { count, .. } => count,
            _ => 1,
        };
        let serial = self.next_serial;
        self.next_serial += 1;
        let cancel = CancellationToken::new();
        let in_flight = InFlight { serial, frames_left, cancel: cancel.clone() };
        if self.in_flight.insert(request_id, in_flight).is_some() {
            return Err(ServeError::DuplicateRequest { request_id });
        }
        match request.ask {
            Ask::Chunks { artifact, first, count, window_ms, insists } => {
                let window = Duration::from_millis(window_ms.into()).min(self.options.limits.wait_max);
                for index in first..first + count {
                    let owed = Owed { request_id, serial, what: What::Chunk { artifact, index, insists } };
                    self.waiting.push(self.wait_for(owed, (artifact, index), window, cancel.clone()));
                }
            }
            Ask::Manifest { manifest } => {
                self.readable.push_back(Owed { request_id, serial, what: What::Manifest(manifest) })
            }
            Ask::Have { artifact } => self.readable.push_back(Owed { request_id, serial, what: What::Have(artifact) }),
            Ask::Cancel => {}
        }
        Ok(())
    }

    /// Ends a request that is not answered yet; one that is, or that never was, needs nothing.
    fn cancel(&mut self, request_id: u32) {
        if let Some(in_flight) = self.in_flight.get(&request_id) {
            in_flight.cancel.cancel();
            let what = What::Refused(Refusal::Cancelled);
            self.readable.push_front(Owed { request_id, serial: in_flight.serial, what });
        }
    }

    fn wait_for(
        &self,
        owed: Owed,
        (artifact, index): (ArtifactId, u32),
        window: Duration,
        cancel: CancellationToken,
    ) -> Waiting {
        let (source, peer) = (Arc::clone(&self.source), self.peer);
        Box::pin(async move {
            // Asked once even when the window is zero.
            tokio::select! {
                biased;
                () = cancel.cancelled() => (owed, Answer::Refused(Refusal::Cancelled)),
                answer = tokio::time::timeout(window, source.available(&peer, &artifact, index)) => {
                    (owed, answer.unwrap_or(Answer::NotHere))
                }
            }
        })
    }

    fn waited(&mut self, owed: Owed, answer: Answer<()>) {
        let What::Chunk { index, .. } = owed.what else { return };
        let what = match answer {
            Answer::Here(()) => owed.what,
            Answer::NotHere | Answer::Elsewhere(_) => What::NotHere { index },
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
        What::Chunk { artifact, index, insists } => match source.chunk(&peer, &artifact, index, insists).await {
            Answer::Here(chunk) if chunk.bytes.len() <= CHUNK_BYTES_MAX as usize => {
                chunk_reply(id, &peer, &artifact, index, chunk, sign_with)
            }
            Answer::Elsewhere(member) => {
                let body = Bytes::copy_from_slice(member.as_bytes());
                Outgoing::new(id, Reply::Elsewhere { index }, body, None)
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
        Answer::NotHere | Answer::Elsewhere(_) => Reply::NotHere { index },
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
