//! The task of one asking connection: sends requests, reads replies, gives up in time. See [`crate::client`].

use crate::buffers::Buffers;
use crate::client::{ClientError, ClientLimits, ExchangeEvent};
use crate::counters::{FrameClass, ReceiveCounters};
use crate::duplex::Duplex;
use crate::serve::GOODBYE_TIMEOUT;
use crate::throttle::{Throttle, pass};
use bytes::BytesMut;
use sluice_exchange::frame::{Ask, HELLO, REPLY_HEADER_LEN, Reply, ReplyHeader, Request, TRAILER_LEN, read_elsewhere};
use sluice_model::MemberKey;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Requests in flight on one connection: 32 of up to 64 chunks are far beyond any window.
const REQUESTS_IN_FLIGHT_MAX: usize = 32;
/// What is read at once when nothing limits: a few TLS records.
const READ_BYTES_MAX: u64 = 64 << 10;

/// The task of one connection.
pub struct ExchangeConnection<S> {
    reader: Reader<S>,
    buffers: &'static Buffers,
    peer: MemberKey,
    events: mpsc::Sender<ExchangeEvent>,
}

/// The half that the borrow of buffers must not reach.
struct Reader<S> {
    duplex: Duplex<S>,
    queue: mpsc::Receiver<Request>,
    /// The header being read.
    head: BytesMut,
    in_flight: HashMap<u32, InFlight>,
    limits: ClientLimits,
    pace: Vec<Throttle>,
    /// Bytes that the throttles let through and that were not read yet.
    granted: u64,
    counters: Arc<ReceiveCounters>,
    /// When silence becomes a stall, or idleness ends the connection.
    deadline: Instant,
}

struct InFlight {
    ask: Ask,
    /// Bit n: chunk `first + n` was answered; a request has at most 64 chunks.
    answered: u64,
}

impl InFlight {
    fn window(&self) -> Duration {
        match self.ask {
            Ask::Chunks { window_ms, .. } => Duration::from_millis(window_ms.into()),
            _ => Duration::ZERO,
        }
    }

    /// Marks `index` answered; `None` when it was not asked for or was answered before, else whether it was the last.
    fn answer(&mut self, index: u32) -> Option<bool> {
        let Ask::Chunks { first, count, .. } = self.ask else { return (index == 0).then_some(true) };
        let offset = index.checked_sub(first).filter(|offset| *offset < count)?;
        let bit = 1u64 << offset;
        if self.answered & bit != 0 {
            return None;
        }
        self.answered |= bit;
        Some(self.answered.count_ones() == count)
    }
}

impl<S: AsyncBufRead + AsyncWrite + Unpin + Send> ExchangeConnection<S> {
    pub(crate) fn new(
        stream: S,
        peer: MemberKey,
        limits: ClientLimits,
        pace: Vec<Throttle>,
        counters: Arc<ReceiveCounters>,
        events: mpsc::Sender<ExchangeEvent>,
        queue: mpsc::Receiver<Request>,
    ) -> Self {
        let mut duplex = Duplex::new(stream);
        duplex.queue(&HELLO);
        let reader = Reader {
            duplex,
            queue,
            head: BytesMut::with_capacity(REPLY_HEADER_LEN),
            in_flight: HashMap::new(),
            limits,
            pace,
            granted: 0,
            counters,
            deadline: Instant::now() + limits.idle_timeout,
        };
        Self { reader, buffers: Buffers::shared(), peer, events }
    }

    /// Runs until the connection ends, nobody can ask or listen any more, or it is cancelled.
    pub async fn run(mut self, cancel: CancellationToken) {
        let ended = tokio::select! {
            () = cancel.cancelled() => None,
            ended = self.converse() => Some(ended),
        };
        // Saying goodbye spares the peer a warning; a failure to say so changes nothing.
        let _ = tokio::time::timeout(GOODBYE_TIMEOUT, self.reader.duplex.shutdown()).await;
        let Some(ended) = ended else { return };
        if let Err(error) = &ended {
            tracing::debug!(peer = %self.peer.short(), %error, "exchange connection ended");
        }
        // Requests that were queued but not sent are not answered either.
        self.reader.queue.close();
        let mut unanswered: Vec<u32> = self.reader.in_flight.keys().copied().collect();
        while let Ok(request) = self.reader.queue.try_recv() {
            unanswered.push(request.id);
        }
        let closed = ExchangeEvent::Closed { peer: self.peer, unanswered, error: ended.err() };
        tokio::select! {
            () = cancel.cancelled() => {}
            _ = self.events.send(closed) => {}
        }
    }

    async fn converse(&mut self) -> Result<(), ClientError> {
        while let Some(header) = self.reader.header().await? {
            let event = self.receive(header).await?;
            if self.events.send(event).await.is_err() {
                return Ok(());
            }
            self.reader.rearm();
        }
        Ok(())
    }

    async fn receive(&mut self, header: ReplyHeader) -> Result<ExchangeEvent, ClientError> {
        let (peer, request_id) = (self.peer, header.request_id);
        let (ask, last) = self.reader.match_reply(&header)?;
        let class = class_of(&header.reply);
        self.reader.counters.add_frame_part(class, REPLY_HEADER_LEN as u64);
        self.reader.pay_for_header().await;
        let frame_end = Instant::now() + self.reader.limits.frame_timeout;
        let mut body = self.buffers.take(header.length as usize);
        self.reader.read_exact(&mut body, header.length as usize, class, Some(frame_end)).await?;
        let trailer = match header.reply {
            Reply::Chunk { trailer: true, .. } => Some(self.reader.trailer(frame_end).await?),
            _ => None,
        };
        let bytes = self.buffers.hand_out(body);
        if last {
            self.reader.in_flight.remove(&request_id);
        }
        let frame_bytes = header.frame_len();
        Ok(match (header.reply, ask) {
            (Reply::Chunk { index, .. }, Ask::Chunks { artifact, .. }) => {
                self.reader.counters.add_chunk();
                ExchangeEvent::Chunk { peer, request_id, artifact, index, bytes, frame_bytes, trailer, last }
            }
            (Reply::Manifest, Ask::Manifest { manifest }) => {
                ExchangeEvent::Manifest { peer, request_id, manifest, bytes, frame_bytes }
            }
            (Reply::Have, Ask::Have { artifact }) => {
                ExchangeEvent::Have { peer, request_id, artifact, bytes, frame_bytes }
            }
            (Reply::NotHere { index }, _) => ExchangeEvent::NotHere { peer, request_id, index, last },
            (Reply::Refused(refusal), _) => ExchangeEvent::Refused { peer, request_id, refusal },
            (Reply::Elsewhere { index }, _) => {
                ExchangeEvent::Elsewhere { peer, request_id, index, member: read_elsewhere(&bytes)?, last }
            }
            _ => return Err(ClientError::Unasked { request_id }),
        })
    }
}

impl<S: AsyncBufRead + AsyncWrite + Unpin + Send> Reader<S> {
    /// The next header; `None` when the connection may end: idle, or nobody can ask.
    async fn header(&mut self) -> Result<Option<ReplyHeader>, ClientError> {
        let mut bytes = std::mem::take(&mut self.head);
        bytes.clear();
        while bytes.len() < REPLY_HEADER_LEN {
            let wanted = REPLY_HEADER_LEN - bytes.len();
            match self.read_some(&mut bytes, wanted, None).await? {
                Progress::Bytes(_) => {}
                Progress::Idle if bytes.is_empty() => return Ok(None),
                Progress::Idle => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            }
        }
        let mut fixed = [0; REPLY_HEADER_LEN];
        fixed.copy_from_slice(&bytes);
        self.head = bytes;
        Ok(Some(ReplyHeader::decode(&fixed)?))
    }

    async fn trailer(&mut self, frame_end: Instant) -> Result<[u8; TRAILER_LEN], ClientError> {
        let mut bytes = BytesMut::with_capacity(TRAILER_LEN);
        self.read_exact(&mut bytes, TRAILER_LEN, FrameClass::Chunk, Some(frame_end)).await?;
        let mut trailer = [0; TRAILER_LEN];
        trailer.copy_from_slice(&bytes);
        Ok(trailer)
    }

    async fn read_exact(
        &mut self,
        into: &mut BytesMut,
        length: usize,
        class: FrameClass,
        mut frame_end: Option<Instant>,
    ) -> Result<(), ClientError> {
        while into.len() < length {
            let waited = self.wait_for_grant((length - into.len()) as u64).await;
            frame_end = frame_end.map(|end| end + waited);
            let max = self.granted.min((length - into.len()) as u64) as usize;
            match self.read_some(into, max, frame_end).await? {
                Progress::Bytes(bytes) => {
                    self.granted -= bytes as u64;
                    self.counters.add_frame_part(class, bytes as u64);
                }
                Progress::Idle => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            }
        }
        Ok(())
    }

    /// A header is known only once it was read, so it is paid for afterwards.
    async fn pay_for_header(&mut self) {
        for throttle in &self.pace {
            throttle.take(REPLY_HEADER_LEN as u64).await;
        }
    }

    /// Makes sure that something was let through; returns how long that took.
    async fn wait_for_grant(&mut self, wanted: u64) -> Duration {
        if self.granted > 0 {
            return Duration::ZERO;
        }
        let began = Instant::now();
        self.granted = pass(&self.pace, wanted.min(READ_BYTES_MAX)).await;
        let waited = began.elapsed();
        self.deadline += waited;
        waited
    }

    /// Reads what there is, and sends requests meanwhile.
    async fn read_some(
        &mut self,
        into: &mut BytesMut,
        max: usize,
        frame_end: Option<Instant>,
    ) -> Result<Progress, ClientError> {
        loop {
            if self.queue.is_closed() && self.queue.is_empty() && self.in_flight.is_empty() {
                return Ok(Progress::Idle);
            }
            let until = frame_end.map_or(self.deadline, |end| end.min(self.deadline));
            let may_ask =
                self.in_flight.len() < REQUESTS_IN_FLIGHT_MAX && !(self.queue.is_closed() && self.queue.is_empty());
            tokio::select! {
                biased;
                request = self.queue.recv(), if may_ask => {
                    if let Some(request) = request {
                        self.begin(request)?;
                    }
                }
                read = self.duplex.read_some(into, max) => match read {
                    Err(_) if self.in_flight.is_empty() && into.is_empty() => return Ok(Progress::Idle),
                    Err(error) => return Err(error.into()),
                    Ok(0) if self.in_flight.is_empty() => return Ok(Progress::Idle),
                    Ok(0) => return Err(ClientError::ClosedEarly { unanswered: self.in_flight.len() }),
                    Ok(bytes) => {
                        self.counters.add_read(bytes as u64);
                        self.rearm();
                        return Ok(Progress::Bytes(bytes));
                    }
                },
                () = tokio::time::sleep_until(until) => return self.late(frame_end),
            }
        }
    }

    fn late(&self, frame_end: Option<Instant>) -> Result<Progress, ClientError> {
        if frame_end.is_some_and(|end| end <= self.deadline) {
            return Err(ClientError::Dripped { after: self.limits.frame_timeout });
        }
        if self.in_flight.is_empty() {
            return Ok(Progress::Idle);
        }
        Err(ClientError::Stalled { after: self.patience() })
    }

    fn begin(&mut self, request: Request) -> Result<(), ClientError> {
        if request.ask == Ask::Cancel {
            // Answered already: there is nothing to take back.
            if self.in_flight.contains_key(&request.id) {
                self.duplex.queue(&request.encode());
            }
            return Ok(());
        }
        let in_flight = InFlight { ask: request.ask, answered: 0 };
        if self.in_flight.insert(request.id, in_flight).is_some() {
            return Err(ClientError::DuplicateRequest { request_id: request.id });
        }
        self.duplex.queue(&request.encode());
        self.deadline = self.deadline.max(Instant::now() + self.patience());
        if self.in_flight.len() == 1 {
            self.rearm();
        }
        Ok(())
    }

    fn patience(&self) -> Duration {
        let window = self.in_flight.values().map(InFlight::window).max().unwrap_or_default();
        self.limits.stall_timeout + window
    }

    /// Something happened: silence counts from now.
    fn rearm(&mut self) {
        let patience = if self.in_flight.is_empty() { self.limits.idle_timeout } else { self.patience() };
        self.deadline = Instant::now() + patience;
    }

    /// What the reply answers, and whether the request is then answered.
    fn match_reply(&mut self, header: &ReplyHeader) -> Result<(Ask, bool), ClientError> {
        let unasked = ClientError::Unasked { request_id: header.request_id };
        let Some(in_flight) = self.in_flight.get_mut(&header.request_id) else { return Err(unasked) };
        let last = match (header.reply, &in_flight.ask) {
            (Reply::Chunk { index, .. } | Reply::Elsewhere { index }, Ask::Chunks { .. })
            | (Reply::NotHere { index }, _) => in_flight.answer(index),
            (Reply::Manifest, Ask::Manifest { .. }) | (Reply::Have, Ask::Have { .. }) | (Reply::Refused(_), _) => {
                Some(true)
            }
            _ => None,
        };
        last.map(|last| (in_flight.ask, last)).ok_or(unasked)
    }
}

enum Progress {
    Bytes(usize),
    Idle,
}

fn class_of(reply: &Reply) -> FrameClass {
    match reply {
        Reply::Chunk { .. } => FrameClass::Chunk,
        Reply::Manifest | Reply::Have => FrameClass::Metadata,
        Reply::NotHere { .. } | Reply::Refused(_) | Reply::Elsewhere { .. } => FrameClass::Other,
    }
}
