//! The bytes of an answer: content chunk by chunk as it comes, texts between the parts of a multi-range answer.
//!
//! Invariants
//! - A byte leaves only after its chunk was verified, after the serve limit let it through, and while the newest view
//!   still allows it.
//! - One chunk of an answer is in memory at a time.

use super::NodeHttp;
use super::problem::Refusal;
use super::running::RunningResponse;
use crate::fetch::Unobtainable;
use crate::gate::GateRequest;
use bytes::Bytes;
use futures::{Stream, stream};
use sluice_api::problem::ProblemType;
use sluice_content::Manifest;
use sluice_content_store::ReadError;
use sluice_model::ArtifactId;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long an answer waits for the manifest of an artifact that is new here: some round trips and a slow link's turn.
const MANIFEST_PATIENCE: Duration = Duration::from_secs(20);
/// How long an answer waits for a chunk: a largest chunk (4 MiB) takes 34 s at 1 Mbit/s.
const CHUNK_PATIENCE: Duration = Duration::from_secs(45);
/// Most bytes handed over at once; what a client does not read waits in memory.
const SLICE_BYTES_MAX: u64 = 256 << 10;
/// Readings of one chunk: damaged, repaired, and damaged again is a broken disk.
const READS_MAX: usize = 3;

/// A stretch of an answer's body.
#[derive(Clone, Debug)]
pub enum Part {
    /// Between parts of a multi-range answer.
    Text(Bytes),
    /// Of the artifact.
    Content(Range<u64>),
}

impl Part {
    /// In bytes.
    pub fn length(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Content(range) => range.end - range.start,
        }
    }
}

/// Why content cannot be had now.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The exchange could not deliver it.
    #[error(transparent)]
    Unobtainable(#[from] Unobtainable),
    /// It was damaged each time it was read.
    #[error("a chunk is damaged each time it is read")]
    Broken,
    /// The store could not read it.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// An artifact as far as this node can get it.
pub struct ContentSource {
    node: NodeHttp,
    artifact: ArtifactId,
    manifest: Arc<Manifest>,
    /// The chunk that was read last.
    held: Option<(u32, Bytes)>,
}

impl ContentSource {
    /// Waits for the manifest when the artifact is new here, and asks for what is missing of it.
    pub async fn open(node: NodeHttp, artifact: ArtifactId) -> Result<Self, SourceError> {
        if node.content.reader(&artifact).is_none() {
            node.fetch.wait_manifest(artifact, Instant::now() + MANIFEST_PATIENCE).await?;
        }
        let reader = node.content.reader(&artifact).ok_or(Unobtainable::NotReleased)?;
        if !reader.is_complete() {
            node.fetch.want(artifact);
        }
        Ok(Self { artifact, manifest: Arc::clone(reader.manifest()), node, held: None })
    }

    /// The verified bytes from `offset` to the end of their chunk; `None` behind the end. Waits for a chunk that is not
    /// here, and for the repair of one that is damaged.
    pub async fn bytes_at(&mut self, offset: u64) -> Result<Option<Bytes>, SourceError> {
        let Some(idx) = self.manifest.chunk_at(offset) else { return Ok(None) };
        let bytes = match &self.held {
            Some((held, bytes)) if *held == idx => bytes.clone(),
            _ => {
                self.held = None;
                let bytes = self.read(idx).await?;
                self.held = Some((idx, bytes.clone()));
                bytes
            }
        };
        let skipped = (offset - self.manifest.range(idx).start) as usize;
        Ok(Some(bytes.slice(skipped..)))
    }

    async fn read(&self, idx: u32) -> Result<Bytes, SourceError> {
        let deadline = Instant::now() + CHUNK_PATIENCE;
        for _ in 0..READS_MAX {
            // Looked up each time: it may have been removed and admitted again.
            let Some(reader) = self.node.content.reader(&self.artifact) else {
                self.node.fetch.wait_manifest(self.artifact, deadline).await?;
                continue;
            };
            match reader.read(idx).await {
                Ok(bytes) => return Ok(bytes),
                Err(ReadError::Missing { .. } | ReadError::Removed(_)) => {}
                Err(ReadError::Corrupt { .. }) => self.node.fetch.damaged(self.artifact, idx),
                Err(error) => return Err(error.into()),
            }
            self.node.fetch.wait_chunk(self.artifact, idx, deadline).await?;
        }
        Err(SourceError::Broken)
    }
}

/// An answer that runs.
pub struct ContentBody {
    /// Where bytes come from.
    pub source: ContentSource,
    /// As which request it is judged while it runs.
    pub request: GateRequest,
    /// What is left of it.
    pub parts: VecDeque<Part>,
    /// Tells the connection that it runs.
    pub running: Option<RunningResponse>,
}

impl ContentBody {
    /// Gets the first chunk, so that what cannot be had is told as a problem and not as a broken body.
    pub async fn prime(&mut self) -> Result<(), SourceError> {
        let first = self.parts.iter().find_map(|part| match part {
            Part::Content(range) => Some(range.start),
            Part::Text(_) => None,
        });
        if let Some(first) = first {
            self.source.bytes_at(first).await?;
        }
        Ok(())
    }

    /// As a stream. An error in it makes the client see a body that broke off.
    pub fn into_stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send {
        stream::unfold(Some(self), |body| async move {
            let mut body = body?;
            match body.next().await {
                Ok(Some(bytes)) => Some((Ok(bytes), Some(body))),
                Ok(None) => None,
                Err(error) => {
                    tracing::info!(artifact = %body.source.artifact.short(), %error, "an answer broke off");
                    Some((Err(error), None))
                }
            }
        })
    }

    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let range = loop {
            match self.parts.front() {
                None => return Ok(None),
                Some(Part::Content(range)) if range.is_empty() => drop(self.parts.pop_front()),
                Some(Part::Content(range)) => break range.clone(),
                Some(Part::Text(_)) => {
                    if let Some(Part::Text(text)) = self.parts.pop_front() {
                        return Ok(Some(text));
                    }
                }
            }
        };
        let bytes = self.source.bytes_at(range.start).await.map_err(io::Error::other)?;
        let mut bytes = bytes.ok_or_else(|| io::Error::other("a range beyond the artifact"))?;
        let wanted = (range.end - range.start).min(bytes.len() as u64).min(SLICE_BYTES_MAX);
        let granted = self.allowed(self.source.node.serve.take_slice(wanted)).await?;
        bytes.truncate(granted as usize);
        self.source.node.counters.served_bytes.inc_by(granted);
        if let Some(Part::Content(left)) = self.parts.front_mut() {
            left.start += granted;
        }
        Ok(Some(bytes))
    }

    /// What comes of `work`, if the newest view still allows the answer after it. While it waits the connection watches.
    async fn allowed<T>(&self, work: impl Future<Output = T>) -> io::Result<T> {
        let done = work.await;
        if self.request.may_go_on(&self.source.node.view.load()) {
            Ok(done)
        } else {
            Err(io::Error::other("the content may no longer be served"))
        }
    }
}

impl From<SourceError> for Refusal {
    fn from(error: SourceError) -> Self {
        let SourceError::Unobtainable(why) = &error else { return Refusal::broken("reading content", &error) };
        let kind = match why {
            Unobtainable::NotReleased => ProblemType::NotFound,
            Unobtainable::Retracted => ProblemType::Retracted,
            Unobtainable::NotInTime
            | Unobtainable::Nowhere
            | Unobtainable::LinkClosed { .. }
            | Unobtainable::NoSuchChunk { .. } => ProblemType::Unobtainable,
            Unobtainable::CachingStopped { .. } => ProblemType::Full,
            Unobtainable::Busy => ProblemType::QuotaExceeded,
            Unobtainable::Stopping => ProblemType::NotReady,
        };
        Refusal::new(kind, format!("{why}; try again, or another node of the site"))
    }
}
