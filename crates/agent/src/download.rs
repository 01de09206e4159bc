//! Brings a signed artifact onto this machine: from what is kept, else from the nodes in turn, taking up where the one
//! before stopped, and verified as a whole before anybody sees it.

use crate::nodes::Node;
use crate::progress::Progress;
use crate::shelf::{Shelf, hash_file};
use sluice_api::problem::ProblemType;
use sluice_api_client::{ClientError, ContentRequest};
use sluice_compliance::{ByteSource, FailureClass};
use sluice_model::{MemberKey, ReleasedArtifact};
use sluice_rollout::Purpose;
use sluice_rollout::gate::{PURPOSE_HEADER, PURPOSE_ROLLBACK};
use sluice_state_store::hold;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncSeekExt, AsyncWriteExt, BufWriter};
use tokio_util::sync::CancellationToken;

/// Written at once.
const WRITE_BYTES: usize = 512 << 10;
/// Rounds over all nodes without a single new byte, after which a download gives up.
const IDLE_ROUNDS_MAX: usize = 3;
/// Between such rounds.
const ROUND_PAUSE: Duration = Duration::from_millis(500);
/// Between two looks whether somebody set a hold: a download ends within two seconds of it.
const LOOK_FOR_HOLD_EVERY: Duration = Duration::from_millis(300);
/// Whole downloads with wrong bytes, after which it is no accident.
const WRONG_MAX: u32 = 2;

/// Why an artifact is not here.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The agent is being stopped.
    #[error("stopped while downloading; the part that is here is kept")]
    Stopped,
    /// Somebody set a hold at this machine.
    #[error("held at this machine while downloading; the part that is here is kept")]
    Held,
    /// The signed roster names no node of our site with an address.
    #[error("the signed roster names no node of this site that can be asked")]
    NoNode,
    /// No node delivered it.
    #[error("no node of this site delivered {target}: {}", last_of(last))]
    NotDelivered {
        /// Its target name.
        target: String,
        /// What the last one said.
        last: Option<Box<ClientError>>,
    },
    /// A node says that it is retracted; our metadata will say so too, soon.
    #[error("{target} was retracted while it was fetched")]
    Retracted {
        /// Its target name.
        target: String,
    },
    /// Whole, and not what was signed, more than once.
    #[error("{target} arrived {times} times with other bytes than were signed")]
    WrongBytes {
        /// Its target name.
        target: String,
        /// How often.
        times: u32,
    },
    /// The disk.
    #[error("cannot keep {target}: {source}")]
    Disk {
        /// Its target name.
        target: String,
        /// What the system said.
        source: io::Error,
    },
}

fn last_of(last: &Option<Box<ClientError>>) -> String {
    last.as_ref().map_or_else(|| "none answered".to_owned(), ToString::to_string)
}

impl FetchError {
    /// The class of the outcome.
    pub fn class(&self) -> FailureClass {
        match self {
            Self::WrongBytes { .. } => FailureClass::Verification,
            Self::Disk { .. } => FailureClass::Disk,
            _ => FailureClass::Download,
        }
    }
}

/// Bytes by the node that delivered them.
#[derive(Clone, Debug, Default)]
pub struct Sources(BTreeMap<MemberKey, u64>);

impl Sources {
    /// In the form of a report.
    pub fn to_report(&self) -> Vec<ByteSource> {
        self.0.iter().map(|(node, bytes)| ByteSource { node: *node, bytes: *bytes }).collect()
    }
}

/// Fetches artifacts.
pub struct Fetcher<'a> {
    /// In the order in which they are asked.
    pub nodes: &'a [Node],
    /// Where files are kept.
    pub shelf: &'a Shelf,
    /// What for.
    pub purpose: Purpose,
    /// The data folder, in which a hold may be set that ends a download; `None`: nothing but `stop` does.
    pub data: Option<&'a Path>,
    /// Stops it.
    pub stop: &'a CancellationToken,
}

/// Why one node's turn ended.
enum TurnError {
    Client(ClientError),
    Length { total: u64 },
    Disk(io::Error),
    Stopped,
    Held,
}

impl Fetcher<'_> {
    /// The verified file of `artifact`. Bytes that had to be fetched are added to `sources`.
    ///
    /// Safe to drop: the part on disk is taken up next time.
    pub async fn obtain(&self, artifact: &ReleasedArtifact, sources: &mut Sources) -> Result<PathBuf, FetchError> {
        let disk = |source| FetchError::Disk { target: artifact.target.to_string(), source };
        let kept = tokio::task::block_in_place(|| self.shelf.verified(artifact)).map_err(disk)?;
        if let Some(path) = kept {
            return Ok(path);
        }
        let mut turns = Turns::new(self.nodes.len());
        for wrong in 1..=WRONG_MAX {
            self.complete(artifact, sources, &mut turns).await?;
            let is_right = tokio::task::block_in_place(|| hash_file(&self.shelf.part(&artifact.sha256)));
            if is_right.map_err(disk)? == (artifact.sha256, artifact.length) {
                return tokio::task::block_in_place(|| self.shelf.keep(&artifact.sha256)).map_err(disk);
            }
            tracing::warn!(target = %artifact.target, times = wrong, "downloaded bytes are not what was signed; discarded");
            self.shelf.discard(&artifact.sha256);
            turns.next_node();
        }
        Err(FetchError::WrongBytes { target: artifact.target.to_string(), times: WRONG_MAX })
    }

    /// Until as many bytes are here as are signed.
    async fn complete(
        &self,
        artifact: &ReleasedArtifact,
        sources: &mut Sources,
        turns: &mut Turns,
    ) -> Result<(), FetchError> {
        let target = || artifact.target.to_string();
        let mut progress = Progress::new(artifact.target.file().to_owned(), artifact.length);
        let mut last = None;
        if self.nodes.is_empty() {
            return Err(FetchError::NoNode);
        }
        while let Some(idx) = turns.node() {
            let node = &self.nodes[idx];
            let had = self.have(artifact);
            let turn = self.turn(node, artifact, sources, &mut progress).await;
            let error = match turn {
                Ok(()) => return Ok(()),
                Err(TurnError::Stopped) => return Err(FetchError::Stopped),
                Err(TurnError::Held) => return Err(FetchError::Held),
                Err(TurnError::Disk(source)) => return Err(FetchError::Disk { target: target(), source }),
                Err(TurnError::Client(error)) if error.is_problem(ProblemType::Retracted) => {
                    return Err(FetchError::Retracted { target: target() });
                }
                Err(TurnError::Client(error)) => error,
                Err(TurnError::Length { total }) => ClientError::Malformed {
                    url: node.name.clone(),
                    reason: format!("it would be {total} bytes, {} are signed", artifact.length),
                },
            };
            tracing::info!(node = %node.name, %error, "download broke off; asking the next node");
            last = Some(Box::new(error));
            if turns.failed(self.have(artifact) > had) {
                self.pause().await?;
            }
        }
        Err(FetchError::NotDelivered { target: target(), last })
    }

    async fn pause(&self) -> Result<(), FetchError> {
        tokio::select! {
            () = tokio::time::sleep(ROUND_PAUSE) => Ok(()),
            () = self.stop.cancelled() => Err(FetchError::Stopped),
        }
    }

    fn have(&self, artifact: &ReleasedArtifact) -> u64 {
        std::fs::metadata(self.shelf.part(&artifact.sha256)).map_or(0, |meta| meta.len())
    }

    /// Reads from one node as much as it gives.
    async fn turn(
        &self,
        node: &Node,
        artifact: &ReleasedArtifact,
        sources: &mut Sources,
        progress: &mut Progress,
    ) -> Result<(), TurnError> {
        let mut from = self.have(artifact);
        if from > artifact.length {
            self.shelf.discard(&artifact.sha256);
            from = 0;
        }
        if from == artifact.length && from > 0 {
            return Ok(());
        }
        let tag_path = self.shelf.tag(&artifact.sha256);
        let request = ContentRequest {
            sha256: artifact.sha256,
            from,
            if_range: std::fs::read_to_string(&tag_path).ok(),
            headers: self.headers(),
        };
        let mut held = pin!(self.held());
        let mut stream = tokio::select! {
            stream = node.client.content(&request) => stream.map_err(TurnError::Client)?,
            () = &mut held => return Err(TurnError::Held),
            () = self.stop.cancelled() => return Err(TurnError::Stopped),
        };
        let range = stream.range();
        if range.total != artifact.length {
            return Err(TurnError::Length { total: range.total });
        }
        if let Some(tag) = stream.etag() {
            std::fs::write(&tag_path, tag).map_err(TurnError::Disk)?;
        }
        let mut part = open_part(self.shelf.part(&artifact.sha256), range.from).await.map_err(TurnError::Disk)?;
        let mut at = range.from;
        let ended = loop {
            let bytes = tokio::select! {
                bytes = stream.next() => bytes,
                () = &mut held => break Err(TurnError::Held),
                () = self.stop.cancelled() => break Err(TurnError::Stopped),
            };
            match bytes {
                Ok(Some(bytes)) => {
                    part.write_all(&bytes).await.map_err(TurnError::Disk)?;
                    at += bytes.len() as u64;
                    *sources.0.entry(node.key).or_default() += bytes.len() as u64;
                    progress.at(at);
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(TurnError::Client(error)),
            }
        };
        part.flush().await.map_err(TurnError::Disk)?;
        ended
    }

    /// Returns when somebody sets a hold at this machine.
    async fn held(&self) {
        let Some(data) = self.data else { return std::future::pending().await };
        while hold::read(data).is_none() {
            tokio::time::sleep(LOOK_FOR_HOLD_EVERY).await;
        }
    }

    fn headers(&self) -> Vec<(&'static str, String)> {
        match self.purpose {
            Purpose::Ordinary => Vec::new(),
            Purpose::Rollback => vec![(PURPOSE_HEADER, PURPOSE_ROLLBACK.to_owned())],
        }
    }
}

async fn open_part(path: PathBuf, from: u64) -> io::Result<BufWriter<File>> {
    let mut file = OpenOptions::new().create(true).write(true).truncate(false).open(path).await?;
    file.set_len(from).await?;
    file.seek(io::SeekFrom::Start(from)).await?;
    Ok(BufWriter::with_capacity(WRITE_BYTES, file))
}

/// Whose turn it is, and whether any is left.
struct Turns {
    count: usize,
    next: usize,
    without_progress: usize,
}

impl Turns {
    fn new(count: usize) -> Self {
        Self { count, next: 0, without_progress: 0 }
    }

    fn node(&self) -> Option<usize> {
        (self.without_progress < self.count * IDLE_ROUNDS_MAX).then(|| self.next % self.count)
    }

    fn next_node(&mut self) {
        self.next += 1;
    }

    /// Counts a failure; `true` when every node has now failed in a row and a pause is due.
    fn failed(&mut self, had_progress: bool) -> bool {
        self.next_node();
        self.without_progress = if had_progress { 0 } else { self.without_progress + 1 };
        self.without_progress > 0 && self.without_progress.is_multiple_of(self.count)
    }
}
