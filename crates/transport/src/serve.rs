//! The answering side of the exchange protocol: reads requests, asks the program's [`ChunkSource`], sends paced replies.
//!
//! Invariants
//! - A connection holds at most two chunks in memory: the one being sent and the next.
//! - It has at most 256 frames owed; until some are sent, no request is read.
//! - Waiting for a chunk that is being fetched delays no chunk that is here.

use crate::counters::ServeCounters;
use crate::intake::Intake;
use crate::reply_writer::ReplyWriter;
use crate::source::ChunkSource;
use crate::throttle::Throttle;
use sluice_exchange::frame::FrameError;
use sluice_identity::DeviceKey;
use sluice_model::MemberKey;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

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
    let intake = Intake::new(reader, peer, source, options, ready);
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
