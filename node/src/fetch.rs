//! How the rest of the node asks for content that is not here yet: the exchange loop's front door.
//!
//! Invariants
//! - A waiting caller gets an answer: the chunk, the reason why not, or its own deadline.
//! - At most [`COMMANDS_MAX`] commands queue; beyond, callers wait (bounded by their deadline).

use sluice_exchange::have::Have;
use sluice_model::{ArtifactId, MemberKey};
use sluice_pacing::WanNow;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

/// Commands that may queue before the loop: one for each response that begins to wait in the same moment.
pub const COMMANDS_MAX: usize = 1_024;

/// How long a caller waits for other nodes of the site while the schedule keeps content off the WAN link.
const CLOSED_PATIENCE: Duration = Duration::from_secs(5);

/// Why a chunk cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unobtainable {
    /// No live release role lists the artifact.
    #[error("no live release lists the artifact")]
    NotReleased,
    /// A tombstone names the artifact.
    #[error("the artifact was retracted")]
    Retracted,
    /// The artifact has no such chunk.
    #[error("the artifact has {count} chunks, there is no chunk {index}")]
    NoSuchChunk {
        /// What was asked for.
        index: u32,
        /// How many there are.
        count: u32,
    },
    /// It did not come in time; it may later.
    #[error("no node of this site and not the origin delivered it in time")]
    NotInTime,
    /// No node of the site has it and the schedule keeps content off the WAN link.
    #[error("no node of this site has it, and the schedule keeps content off the WAN link {until}")]
    LinkClosed {
        /// `until <time>`.
        until: String,
    },
    /// Neither peers nor the origin have it.
    #[error("neither a node of this site nor the origin has it")]
    Nowhere,
    /// This node does not cache at the moment.
    #[error("this node cannot store more content: {why}")]
    CachingStopped {
        /// For instance a full disk.
        why: String,
    },
    /// Too many artifacts are being fetched, or too many responses wait.
    #[error("too much is being fetched at once")]
    Busy,
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

/// What the loop is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// Fetch all of it.
    Want { artifact: ArtifactId },
    /// Say when it is known and its manifest is here.
    Admit { artifact: ArtifactId, for_peer: bool, answer: oneshot::Sender<Result<(), Unobtainable>> },
    /// Say when the chunk can be read. `for_peer`: somebody else of the site waits for it.
    Chunk { artifact: ArtifactId, index: u32, for_peer: bool, answer: oneshot::Sender<Result<(), Unobtainable>> },
    /// `peer` asks what we have.
    Have { peer: MemberKey, artifact: ArtifactId, answer: oneshot::Sender<Have> },
    /// A chunk on our own disk is damaged.
    Damaged { artifact: ArtifactId, index: u32 },
    /// The overlay or an accepted connection saw this member alive.
    PeerSeen { peer: MemberKey },
}

/// Asks the exchange loop for content. Cheap to clone.
#[derive(Clone, Debug)]
pub struct FetchHandle {
    commands: mpsc::Sender<Command>,
    wan_now: watch::Receiver<WanNow>,
}

impl FetchHandle {
    pub(crate) fn new(wan_now: watch::Receiver<WanNow>) -> (Self, mpsc::Receiver<Command>) {
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        (Self { commands, wan_now }, receiver)
    }

    /// Begins to fetch all of `artifact`, if it is released. Returns at once; lost when the queue is full (a waiting
    /// caller asks again by [`FetchHandle::wait_chunk`]).
    pub fn want(&self, artifact: ArtifactId) {
        let _ = self.commands.try_send(Command::Want { artifact });
    }

    /// Returns when the content store has a reader for `artifact`: its manifest is fetched, verified and admitted.
    /// Begins to fetch all of it. Dropping the future is safe.
    pub async fn wait_manifest(&self, artifact: ArtifactId, deadline: Instant) -> Result<(), Unobtainable> {
        self.ask(deadline, |answer| Command::Admit { artifact, for_peer: false, answer }).await
    }

    /// Returns when chunk `index` of `artifact` can be read from the content store. Begins to fetch all of the artifact
    /// when that has not begun; this chunk goes first. Dropping the future is safe and does not stop the fetch.
    pub async fn wait_chunk(&self, artifact: ArtifactId, index: u32, deadline: Instant) -> Result<(), Unobtainable> {
        self.ask(deadline, |answer| Command::Chunk { artifact, index, for_peer: false, answer }).await
    }

    /// As [`FetchHandle::wait_chunk`] on behalf of another node: fetches what this node leads, not the whole.
    pub(crate) async fn wait_for_peer(
        &self,
        artifact: ArtifactId,
        index: u32,
        deadline: Instant,
    ) -> Result<(), Unobtainable> {
        self.ask(deadline, |answer| Command::Chunk { artifact, index, for_peer: true, answer }).await
    }

    /// As [`FetchHandle::wait_manifest`] on behalf of another node: fetches the manifest only.
    pub(crate) async fn wait_manifest_for_peer(
        &self,
        artifact: ArtifactId,
        deadline: Instant,
    ) -> Result<(), Unobtainable> {
        self.ask(deadline, |answer| Command::Admit { artifact, for_peer: true, answer }).await
    }

    /// What this node has and is fetching of `artifact`, for `peer`, who thereby shows that it is alive; `None` when the
    /// node is stopping.
    pub(crate) async fn have(&self, peer: MemberKey, artifact: ArtifactId) -> Option<Have> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(Command::Have { peer, artifact, answer }).await.ok()?;
        answered.await.ok()
    }

    /// Chunk `index` was read from our own disk and is damaged: it is fetched again.
    pub fn damaged(&self, artifact: ArtifactId, index: u32) {
        let _ = self.commands.try_send(Command::Damaged { artifact, index });
    }

    /// `peer` is alive: the overlay sees it, or it connected. A hint; a connection to it is made at once.
    pub fn peer_seen(&self, peer: MemberKey) {
        let _ = self.commands.try_send(Command::PeerSeen { peer });
    }

    async fn ask(
        &self,
        deadline: Instant,
        command: impl FnOnce(oneshot::Sender<Result<(), Unobtainable>>) -> Command,
    ) -> Result<(), Unobtainable> {
        let (answer, answered) = oneshot::channel();
        let asked = async {
            self.commands.send(command(answer)).await.map_err(|_| Unobtainable::Stopping)?;
            answered.await.map_err(|_| Unobtainable::Stopping)?
        };
        let WanNow { is_closed, until, .. } = *self.wan_now.borrow();
        if !is_closed {
            return tokio::time::timeout_at(deadline, asked).await.unwrap_or(Err(Unobtainable::NotInTime));
        }
        let until = until.map_or("for now".to_owned(), |until| format!("until {}", until.to_seconds_text()));
        let deadline = deadline.min(Instant::now() + CLOSED_PATIENCE);
        tokio::time::timeout_at(deadline, asked).await.unwrap_or(Err(Unobtainable::LinkClosed { until }))
    }
}
