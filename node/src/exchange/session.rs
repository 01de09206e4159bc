//! One artifact being fetched: first its manifest, then its chunks; and who waits for what of it.
//!
//! Invariants
//! - The manifest was compared with signed metadata before it is used; the store compares each chunk with the manifest
//!   before it writes a byte of it.
//! - Everyone who waits is answered when the session ends.

use super::manifest_hunt::ManifestHunt;
use super::members::origin_window;
use crate::fetch::Unobtainable;
use sluice_content::Manifest;
use sluice_exchange::have::Have;
use sluice_exchange::picker::{Action, ChunkSpec, Link, OriginWindow, Picker, Source};
use sluice_model::{MemberKey, ReleasedArtifact, Sha256};
use sluice_pacing::WanNow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How long a session that has nothing to do is kept: its next question comes within milliseconds while the site
/// fetches.
const IDLE_KEPT: Duration = Duration::from_secs(30);
/// How long caching stops after the store could not take a chunk, and at most after it could not again and again: what
/// cannot be stored is not fetched over and over.
const STOPPED_FOR: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));

/// Somebody who waits for a chunk or a manifest.
pub(crate) type Waiter = oneshot::Sender<Result<(), Unobtainable>>;

/// How far the session is.
#[derive(Debug)]
pub(crate) enum Stage {
    /// The manifest is sought.
    Hunting(ManifestHunt),
    /// The store makes room.
    Admitting,
    /// Chunks are fetched.
    Fetching { manifest: Arc<Manifest>, picker: Box<Picker> },
}

/// The site as a session needs it.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    pub me: MemberKey,
    pub peers: Vec<(MemberKey, Link)>,
    pub origin: Link,
    pub window: OriginWindow,
}

impl Site {
    pub fn new(me: MemberKey, peers: Vec<(MemberKey, Link)>, origin: Link, wan: WanNow, sessions: usize) -> Self {
        let live = 1 + peers.iter().filter(|(_, link)| *link != Link::Down).count();
        let window =
            if wan.is_closed { OriginWindow::CLOSED } else { origin_window(wan.bytes_per_sec, live, sessions) };
        Self { me, peers, origin, window }
    }
}

/// One artifact being fetched.
#[derive(Debug)]
pub(crate) struct Session {
    pub row: ReleasedArtifact,
    pub stage: Stage,
    whole: bool,
    led: bool,
    chunk_waiters: BTreeMap<u32, Vec<(bool, Waiter)>>,
    admit_waiters: Vec<Waiter>,
    /// Until when nothing is fetched, and why.
    stopped: Option<(Instant, String)>,
    /// How often in a row.
    stops: u32,
    /// Verified, while the store has no room for it.
    pub manifest: Option<Arc<Manifest>>,
    idle_since: Option<Instant>,
}

impl Session {
    pub fn new(row: ReleasedArtifact) -> Self {
        let hunt = ManifestHunt::new(row.custom.manifest.blake3);
        Self {
            row,
            stage: Stage::Hunting(hunt),
            whole: false,
            led: false,
            chunk_waiters: BTreeMap::new(),
            admit_waiters: Vec::new(),
            stopped: None,
            stops: 0,
            manifest: None,
            idle_since: None,
        }
    }

    /// SHA-256 of the artifact, from signed metadata.
    pub fn sha256(&self) -> Sha256 {
        self.row.sha256
    }

    /// Fetch everything.
    pub fn want_all(&mut self) {
        self.whole = true;
        if let Stage::Fetching { picker, .. } = &mut self.stage {
            picker.want_all();
        }
    }

    /// Waits for chunk `index`: for a response of our own, which wants the rest too and comes first, or for a peer.
    /// `here` says what the store says now.
    pub fn wait_chunk(&mut self, index: u32, for_peer: bool, waiter: Waiter, now: Instant) {
        if let Some((_, why)) = self.stopped.as_ref().filter(|(until, _)| *until > now) {
            let _ = waiter.send(Err(Unobtainable::CachingStopped { why: why.clone() }));
            return;
        }
        if for_peer {
            self.led = true;
        } else {
            self.want_all();
        }
        if let Stage::Fetching { manifest, picker } = &mut self.stage {
            let count = manifest.chunk_count();
            if index >= count {
                let _ = waiter.send(Err(Unobtainable::NoSuchChunk { index, count }));
                return;
            }
            if picker.here().get(index as usize) == Some(&true) {
                // The store says that it is not: the chunk was dropped there as damaged.
                picker.on_damaged(index, now);
            }
            want_one(picker, index, for_peer);
        }
        self.chunk_waiters.entry(index).or_default().push((for_peer, waiter));
    }

    /// The store no longer knows the artifact, or could not admit it: from the manifest on. Who waits goes on waiting.
    pub fn begin_again(&mut self) {
        self.stage = Stage::Hunting(ManifestHunt::new(self.row.custom.manifest.blake3));
    }

    /// Waits for the manifest. On behalf of a peer nothing more is fetched.
    pub fn wait_admitted(&mut self, waiter: Waiter) {
        match &self.stage {
            Stage::Fetching { .. } => {
                let _ = waiter.send(Ok(()));
            }
            Stage::Hunting(_) | Stage::Admitting => self.admit_waiters.push(waiter),
        }
    }

    /// The store has room for it, and has `here` already.
    pub fn on_admitted(&mut self, manifest: Arc<Manifest>, here: &[bool], site: &Site, now: Instant) {
        let count = manifest.chunk_count();
        let chunks = (0..count).map(|index| {
            let range = manifest.range(index);
            ChunkSpec { id: manifest.chunk_id(index), length: (range.end - range.start) as u32 }
        });
        let mut picker = Box::new(Picker::new(site.me, chunks.collect(), here, site.window, now));
        picker.set_members(&site.peers, now);
        picker.on_link(Source::Origin, site.origin, now);
        if self.whole {
            picker.want_all();
        }
        if self.led {
            picker.want_led();
        }
        let mut beyond = self.chunk_waiters.split_off(&count);
        for (index, waiters) in &mut beyond {
            for (_, waiter) in waiters.drain(..) {
                let _ = waiter.send(Err(Unobtainable::NoSuchChunk { index: *index, count }));
            }
        }
        for (index, waiters) in &self.chunk_waiters {
            want_one(&mut picker, *index, waiters.iter().all(|(for_peer, _)| *for_peer));
        }
        self.stage = Stage::Fetching { manifest, picker };
        for waiter in self.admit_waiters.drain(..) {
            let _ = waiter.send(Ok(()));
        }
        for index in (0..count).filter(|index| here.get(*index as usize) == Some(&true)) {
            self.answer_chunk(index, &Ok(()));
        }
    }

    /// `from` sent chunk `index`. Whether it is expected: then it must be verified and stored, and the outcome reported.
    pub fn on_chunk(&mut self, from: Source, index: u32, now: Instant) -> bool {
        let Stage::Fetching { picker, .. } = &mut self.stage else { return false };
        picker.on_heard(from, now);
        picker.here().get(index as usize) == Some(&false)
    }

    /// What `from` sent as chunk `index` is not the chunk.
    pub fn on_wrong_bytes(&mut self, from: Source, index: u32, now: Instant) {
        if let Stage::Fetching { picker, .. } = &mut self.stage {
            picker.on_wrong_bytes(from, index, now);
        }
    }

    /// Chunk `index` from `from` can be read from the store.
    pub fn on_stored(&mut self, from: Source, index: u32, now: Instant) {
        self.stops = 0;
        if let Stage::Fetching { picker, .. } = &mut self.stage {
            picker.on_chunk(from, index, now);
        }
        self.answer_chunk(index, &Ok(()));
    }

    /// The store could not take chunk `index`.
    pub fn on_store_refused(&mut self, from: Source, index: u32, why: &str, now: Instant) {
        if let Stage::Fetching { picker, .. } = &mut self.stage {
            picker.on_not_sent(from, index);
        }
        self.stop(why, now);
    }

    /// Nothing is fetched for a while, and whoever waits is told why.
    pub fn stop(&mut self, why: &str, now: Instant) {
        let pause = STOPPED_FOR.0 * 2_u32.saturating_pow(self.stops.min(8));
        self.stops += 1;
        self.stopped = Some((now + pause.min(STOPPED_FOR.1), why.to_owned()));
        self.answer_all(&Unobtainable::CachingStopped { why: why.to_owned() });
    }

    /// The link to `source` changed.
    pub fn on_link(&mut self, source: Source, link: Link, now: Instant) {
        match &mut self.stage {
            Stage::Hunting(hunt) if link == Link::Down => hunt.on_failure(source, now),
            Stage::Fetching { picker, .. } => picker.on_link(source, link, now),
            _ => {}
        }
    }

    /// The store dropped chunk `index`: it was damaged.
    pub fn on_damaged(&mut self, index: u32, now: Instant) {
        if let Stage::Fetching { picker, .. } = &mut self.stage {
            picker.on_damaged(index, now);
            picker.want(index, false);
        }
    }

    /// Whether chunk `index` is not here yet.
    pub fn is_missing(&self, index: u32) -> bool {
        matches!(&self.stage, Stage::Fetching { picker, .. } if picker.here().get(index as usize) == Some(&false))
    }

    /// Whether anything can be asked of anybody on its behalf.
    pub fn needs_links(&self) -> bool {
        match &self.stage {
            Stage::Hunting(_) | Stage::Admitting => true,
            Stage::Fetching { picker, .. } => !picker.is_idle(),
        }
    }

    /// Whether fetching stands still because the store takes nothing.
    pub fn is_stopped(&self, now: Instant) -> bool {
        self.stopped.as_ref().is_some_and(|(until, _)| *until > now)
    }

    /// Moves a fetch forward; what must be done is pushed to `actions`.
    pub fn advance(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.is_stopped(now) {
            return;
        }
        if let Stage::Fetching { picker, .. } = &mut self.stage {
            picker.advance(now, actions);
        }
    }

    /// The earliest instant at which time alone makes a difference.
    pub fn next_due(&self) -> Option<Instant> {
        if let Some((until, _)) = &self.stopped {
            return Some(*until);
        }
        match &self.stage {
            Stage::Hunting(hunt) => hunt.next_due(),
            Stage::Admitting => None,
            Stage::Fetching { picker, .. } => picker.next_due(),
        }
    }

    /// Forgets a stop that is over. `true` when fetching begins again.
    pub fn resume_if_due(&mut self, now: Instant) -> bool {
        let over = self.stopped.as_ref().is_some_and(|(until, _)| *until <= now);
        if over {
            self.stopped = None;
        }
        over
    }

    /// The picker, once chunks are fetched.
    pub fn picker(&mut self) -> Option<&mut Picker> {
        match &mut self.stage {
            Stage::Fetching { picker, .. } => Some(picker),
            _ => None,
        }
    }

    /// The answer to a peer's question, from what this session knows; `None` before it has a manifest.
    pub fn have(&self, progress: u64) -> Option<Have> {
        match &self.stage {
            Stage::Fetching { picker, .. } => {
                Some(Have { progress, here: picker.here().to_vec(), fetching: picker.fetching() })
            }
            _ => None,
        }
    }

    /// Answers everyone who waits for chunk `index`.
    pub fn answer_chunk(&mut self, index: u32, answer: &Result<(), Unobtainable>) {
        for (_, waiter) in self.chunk_waiters.remove(&index).unwrap_or_default() {
            let _ = waiter.send(answer.clone());
        }
    }

    /// Answers everyone who waits for anything, with this reason.
    pub fn answer_all(&mut self, why: &Unobtainable) {
        let chunks = std::mem::take(&mut self.chunk_waiters).into_values().flatten().map(|(_, waiter)| waiter);
        for waiter in chunks.chain(self.admit_waiters.drain(..)) {
            let _ = waiter.send(Err(why.clone()));
        }
    }

    /// Drops those who no longer wait. Returns how many do.
    pub fn prune_waiters(&mut self) -> usize {
        let picker = match &mut self.stage {
            Stage::Fetching { picker, .. } => Some(picker),
            _ => None,
        };
        let mut given_up = Vec::new();
        self.chunk_waiters.retain(|index, waiters| {
            waiters.retain(|(_, waiter)| !waiter.is_closed());
            if waiters.is_empty() {
                given_up.push(*index);
            }
            !waiters.is_empty()
        });
        if let Some(picker) = picker {
            given_up.into_iter().for_each(|index| picker.unwant(index));
        }
        self.admit_waiters.retain(|waiter| !waiter.is_closed());
        self.chunk_waiters.values().map(Vec::len).sum::<usize>() + self.admit_waiters.len()
    }

    /// Whether the session has had nothing to do for so long that it may be dropped.
    pub fn is_over(&mut self, now: Instant) -> bool {
        let waiting = self.prune_waiters() > 0;
        let busy = match &self.stage {
            Stage::Hunting(_) => self.whole || self.led || waiting,
            Stage::Admitting => true,
            Stage::Fetching { picker, .. } => {
                waiting || picker.in_flight_count() > 0 || (picker.is_whole() && !picker.is_complete())
            }
        };
        if busy {
            self.idle_since = None;
            return false;
        }
        now >= *self.idle_since.get_or_insert(now) + IDLE_KEPT
    }
}

fn want_one(picker: &mut Picker, index: u32, for_peer: bool) {
    if for_peer {
        picker.want_led();
    }
    picker.want(index, !for_peer);
}
