//! The asking side of the exchange protocol: one connection, many requests in flight, each reply an event.
//!
//! Invariants
//! - A reply is read only when it answers something that is in flight, and then at most once.
//! - A body is read only after its header was found within its bounds, into memory that is reused.
//! - What a throttle has not let through is not read, so the sender's window closes.
//! - A peer that is silent while it owes an answer, or that drips, is given up in time.

use crate::client_connection::ExchangeConnection;
use crate::counters::ReceiveCounters;
use crate::throttle::Throttle;
use bytes::Bytes;
use sluice_exchange::frame::{FrameError, Refusal, Request, TRAILER_LEN};
use sluice_model::{ArtifactId, ManifestId, MemberKey};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufRead, AsyncWrite};
use tokio::sync::mpsc;

/// Requests that wait for their turn to be sent.
const REQUEST_QUEUE: usize = 8;

/// Waiting times of a connection.
#[derive(Clone, Copy, Debug)]
pub struct ClientLimits {
    /// A peer that owes an answer and sends nothing for this long (and the longest window asked for) is given up.
    pub stall_timeout: Duration,
    /// A frame whose header came must be complete after this long, waits for our own throttles apart.
    pub frame_timeout: Duration,
    /// A connection on which nothing is asked is closed after this long.
    pub idle_timeout: Duration,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            stall_timeout: Duration::from_secs(20),
            frame_timeout: Duration::from_secs(120),
            idle_timeout: Duration::from_secs(90),
        }
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The connection broke.
    #[error("the connection broke")]
    Io(#[from] io::Error),
    /// The peer closed it while it owed answers.
    #[error("the peer closed the connection with {unanswered} requests unanswered")]
    ClosedEarly {
        /// How many.
        unanswered: usize,
    },
    /// Not a frame of this protocol version.
    #[error("the peer broke the protocol")]
    Frame(#[from] FrameError),
    /// A reply to nothing that was asked, or a second one.
    #[error("the peer sent a reply that nobody asked for: request {request_id}")]
    Unasked {
        /// The id in it.
        request_id: u32,
    },
    /// No byte came in time.
    #[error("the peer sent nothing for {} s", after.as_secs())]
    Stalled {
        /// How long it had.
        after: Duration,
    },
    /// Bytes came, but too slowly.
    #[error("a frame was not complete after {} s", after.as_secs())]
    Dripped {
        /// How long it had.
        after: Duration,
    },
    /// The same id was used twice at once on this side.
    #[error("request id {request_id} is already in flight")]
    DuplicateRequest {
        /// Which.
        request_id: u32,
    },
}

impl ClientError {
    /// Whether the peer broke the protocol, which no network fault explains.
    pub fn is_misbehaviour(&self) -> bool {
        matches!(self, Self::Frame(_) | Self::Unasked { .. })
    }
}

/// What happened on a connection.
#[derive(Debug)]
pub enum ExchangeEvent {
    /// A chunk came. Nothing in it is verified.
    Chunk {
        /// Who sent it.
        peer: MemberKey,
        /// In answer to what.
        request_id: u32,
        /// As asked.
        artifact: ArtifactId,
        /// Which chunk.
        index: u32,
        /// At most `CHUNK_BYTES_MAX`. Its memory is reused once it is dropped, and is at most twice as large.
        bytes: Bytes,
        /// Length on the wire, header and trailer included.
        frame_bytes: u64,
        /// The sender's signature, see [`crate::trailer_holds`].
        trailer: Option<[u8; TRAILER_LEN]>,
        /// Whether the request is now answered.
        last: bool,
    },
    /// A manifest came. Nothing in it is verified.
    Manifest {
        /// Who sent it.
        peer: MemberKey,
        /// In answer to what.
        request_id: u32,
        /// As asked.
        manifest: ManifestId,
        /// At most `MANIFEST_BYTES_MAX`.
        bytes: Bytes,
        /// Length on the wire.
        frame_bytes: u64,
    },
    /// What a peer says it has: a hint.
    Have {
        /// Who sent it.
        peer: MemberKey,
        /// In answer to what.
        request_id: u32,
        /// As asked.
        artifact: ArtifactId,
        /// An encoded `have` body.
        bytes: Bytes,
        /// Length on the wire.
        frame_bytes: u64,
    },
    /// Another member of our site has the chunk or is being sent it, says the origin.
    Elsewhere {
        /// Who says so.
        peer: MemberKey,
        /// In answer to what.
        request_id: u32,
        /// Which chunk.
        index: u32,
        /// Who has it.
        member: MemberKey,
        /// Whether the request is now answered.
        last: bool,
    },
    /// The peer has not got it.
    NotHere {
        /// Who says so.
        peer: MemberKey,
        /// In answer to what.
        request_id: u32,
        /// Which chunk; 0 for a manifest or `have`.
        index: u32,
        /// Whether the request is now answered.
        last: bool,
    },
    /// The peer refuses the whole request.
    Refused {
        /// Who says so.
        peer: MemberKey,
        /// What.
        request_id: u32,
        /// Why.
        refusal: Refusal,
    },
    /// The connection ended: the last event of it. Not sent when it was cancelled.
    Closed {
        /// With whom.
        peer: MemberKey,
        /// Requests that will not be answered (any more).
        unanswered: Vec<u32>,
        /// Why; `None` when it was idle or nobody can ask any more.
        error: Option<ClientError>,
    },
}

/// Sends requests on a connection. Cloning it shares the connection; dropping the last one closes it when all is
/// answered.
#[derive(Clone, Debug)]
pub struct ExchangeClient {
    peer: MemberKey,
    requests: mpsc::Sender<Request>,
    counters: Arc<ReceiveCounters>,
}

/// The request was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendRequestError {
    /// The connection is gone.
    #[error("the connection is closed")]
    Closed,
    /// As many requests as the connection takes are waiting.
    #[error("the connection is busy")]
    Busy,
}

impl ExchangeClient {
    /// Takes over an authenticated connection. Events go to `events` (bounded by its maker); `pace` is what reading must
    /// pass. The second value is the connection's task: the program runs it.
    pub fn new<S: AsyncBufRead + AsyncWrite + Unpin + Send>(
        stream: S,
        peer: MemberKey,
        limits: ClientLimits,
        pace: Vec<Throttle>,
        counters: Arc<ReceiveCounters>,
        events: mpsc::Sender<ExchangeEvent>,
    ) -> (Self, ExchangeConnection<S>) {
        let (requests, queue) = mpsc::channel(REQUEST_QUEUE);
        let connection = ExchangeConnection::new(stream, peer, limits, pace, Arc::clone(&counters), events, queue);
        (Self { peer, requests, counters }, connection)
    }

    /// Who is asked.
    pub fn peer(&self) -> MemberKey {
        self.peer
    }

    /// What came over the connection (and others with the same counters).
    pub fn counters(&self) -> &ReceiveCounters {
        &self.counters
    }

    /// Whether the connection still takes requests.
    pub fn is_open(&self) -> bool {
        !self.requests.is_closed()
    }

    /// Queues a request; waits while the queue is full. Its id must not be in flight on this connection.
    pub async fn request(&self, request: Request) -> Result<(), SendRequestError> {
        self.requests.send(request).await.map_err(|_| SendRequestError::Closed)
    }

    /// Queues a request, or says at once that it cannot.
    pub fn try_request(&self, request: Request) -> Result<(), SendRequestError> {
        self.requests.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SendRequestError::Busy,
            mpsc::error::TrySendError::Closed(_) => SendRequestError::Closed,
        })
    }
}
