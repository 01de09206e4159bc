//! Fetches content: owns the fetch of each artifact, the connections to the other nodes of the site and to the origin,
//! and the order in which things happen. What to ask whom is decided by `exchange::picker`.
//!
//! Invariants
//! - Only this task talks to other members for chunks, and only it admits artifacts that come from outside.
//! - Nothing is fetched that no live release row lists, and a fetch ends with the view that drops its row.
//! - Bounded: [`SESSIONS_MAX`] artifacts, [`STORING_MAX`] chunks between socket and store, [`EVENTS_MAX`] replies queued.

use crate::clock;
use crate::counters::Counters;
use crate::exchange::incoming::ArrivedChunk;
use crate::exchange::links::{Ended, Links};
use crate::exchange::members::{live_row, partners};
use crate::exchange::session::{Session, Site, Waiter};
use crate::fetch::{Command, FetchHandle, Unobtainable};
use crate::trouble::Trouble;
use crate::view::{NodeView, ViewHandle};
use sluice_content::Manifest;
use sluice_content_store::{AdmitError, ContentStore, PutError};
use sluice_exchange::have::Have;
use sluice_exchange::picker::{Link, Source};
use sluice_model::{ArtifactId, MemberKey};
use sluice_pacing::WanNow;
use sluice_state_store::StateStore;
use sluice_transport::{Dialer, ExchangeEvent, Throttle};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Artifacts fetched at once: a patch has at most 64; more wait for a place.
pub const SESSIONS_MAX: usize = 128;
/// Chunks that were verified and are being stored: 16 of 1 MiB.
pub const STORING_MAX: usize = 16;
/// Replies that queue before the loop; with the above it bounds what is in memory.
pub const EVENTS_MAX: usize = 8;
/// How often arrivals are counted and told to the pickers while anything is fetched.
const TICK: Duration = Duration::from_millis(100);

/// What the loop works with.
pub struct ExchangeParts {
    /// The newest verified metadata.
    pub views: ViewHandle,
    /// Where content goes.
    pub store: ContentStore,
    /// Where bans are kept.
    pub state: StateStore,
    /// What is counted.
    pub counters: Counters,
    /// What is wrong, for the status.
    pub trouble: Trouble,
    /// Opens connections with this node's key.
    pub dialer: Dialer,
    /// The site's WAN cap, which everything from the origin passes.
    pub wan: Throttle,
    /// What the site's schedule says of the WAN link.
    pub wan_now: watch::Receiver<WanNow>,
}

/// What a request in flight asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub source: Source,
    pub artifact: ArtifactId,
    pub what: AskedFor,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AskedFor {
    Chunk(u32),
    Manifest,
    Have,
    /// It was taken back.
    Nothing,
}

/// What the store finished.
#[derive(Debug)]
pub(crate) enum Stored {
    Admitted { artifact: ArtifactId, manifest: Arc<Manifest>, result: Result<(), AdmitError> },
    Put { from: Source, chunk: ArrivedChunk, result: Result<(), PutError> },
    Removed,
}

/// The task.
pub struct ExchangeLoop {
    pub(crate) parts: ExchangeParts,
    pub(crate) view: Arc<NodeView>,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Receiver<ExchangeEvent>,
    pub(crate) links: Links,
    pub(crate) sessions: BTreeMap<ArtifactId, Session>,
    /// Sessions that something happened to since they were last moved forward.
    pub(crate) touched: BTreeSet<ArtifactId>,
    pub(crate) asked: HashMap<u32, Asked>,
    /// Whom this node banned, and how often bans of him had been lifted by then.
    pub(crate) banned: BTreeMap<MemberKey, u32>,
    pub(crate) storing: JoinSet<Stored>,
    last_tick: Instant,
}

/// Makes the loop and the handle by which others ask it. The program runs the loop.
pub fn open(parts: ExchangeParts, cancel: &CancellationToken) -> anyhow::Result<(FetchHandle, ExchangeLoop)> {
    let (handle, commands) = FetchHandle::new(parts.wan_now.clone());
    let (sender, events) = mpsc::channel(EVENTS_MAX);
    let banned: BTreeMap<MemberKey, u32> = parts.state.bans()?.into_iter().map(|ban| (ban.peer, ban.lifts)).collect();
    parts.counters.measure_wan(parts.wan.clone());
    let links = Links::new(parts.dialer.clone(), parts.wan.clone(), sender, cancel.child_token());
    let task = ExchangeLoop {
        view: parts.views.load(),
        parts,
        commands,
        events,
        links,
        sessions: BTreeMap::new(),
        touched: BTreeSet::new(),
        asked: HashMap::new(),
        banned,
        storing: JoinSet::new(),
        last_tick: clock::now(),
    };
    Ok((handle, task))
}

impl ExchangeLoop {
    /// Runs until it is cancelled. Incomplete artifacts that are still released are resumed first.
    pub async fn run(mut self, cancel: CancellationToken) -> anyhow::Result<()> {
        let mut views = self.parts.views.changed();
        let mut hours = self.parts.wan_now.clone();
        self.on_view(clock::now());
        self.resume();
        loop {
            self.advance(clock::now());
            let due = tokio::time::Instant::from_std(self.next_due());
            tokio::select! {
                () = cancel.cancelled() => break,
                changed = views.changed() => match changed {
                    Ok(()) => self.on_view(clock::now()),
                    Err(_) => break,
                },
                Ok(()) = hours.changed() => self.on_hour(),
                Some(command) = self.commands.recv() => self.on_command(command, clock::now()),
                Some(event) = self.events.recv(), if self.storing.len() < STORING_MAX => {
                    self.on_event(event, clock::now());
                }
                ended = self.links.ended() => self.on_ended(ended, clock::now()),
                Some(stored) = self.storing.join_next() => match stored {
                    Ok(stored) => self.on_stored(stored, clock::now()),
                    Err(error) => tracing::error!(%error, "a store task ended by panic"),
                },
                () = tokio::time::sleep_until(due) => {}
            }
        }
        for session in self.sessions.values_mut() {
            session.answer_all(&Unobtainable::Stopping);
        }
        self.links.drain().await;
        self.storing.shutdown().await;
        Ok(())
    }

    /// Fetches on what an earlier life of this node began.
    fn resume(&mut self) {
        let now = clock::now();
        for artifact in self.parts.store.artifacts() {
            let complete = self.parts.store.reader(&artifact).is_some_and(|reader| reader.is_complete());
            if complete {
                continue;
            }
            if let Ok(session) = self.session(&artifact, now) {
                session.want_all();
                tracing::info!(artifact = %artifact.short(), "resuming a fetch");
            }
        }
    }

    /// Moves every session forward to which something happened or whose time has come.
    fn advance(&mut self, now: Instant) {
        let ticked = now >= self.last_tick + TICK;
        if ticked {
            self.last_tick = now;
            self.count_arrivals(now);
            self.drop_what_is_over(now);
        }
        if self.needs_links() {
            let changed = self.links.dial(now);
            self.on_links(changed, now);
        }
        let due = |session: &Session| session.next_due().is_some_and(|due| due <= now);
        let mut ready = std::mem::take(&mut self.touched);
        ready.extend(self.sessions.iter().filter(|(_, session)| due(session)).map(|(artifact, _)| *artifact));
        for artifact in ready {
            self.advance_one(&artifact, now);
        }
    }

    fn needs_links(&self) -> bool {
        self.sessions.values().any(Session::needs_links)
    }

    fn next_due(&self) -> Instant {
        let now = clock::now();
        let idle = now + Duration::from_secs(5);
        if self.sessions.is_empty() {
            return idle;
        }
        let sessions = self.sessions.values().filter_map(Session::next_due);
        let links = self.links.next_due().filter(|_| self.needs_links());
        // What was due already and still is waits for something else to happen; the tick looks again.
        let due = sessions.chain(links).filter(|at| *at > now).min().unwrap_or(idle);
        due.min(self.last_tick + TICK)
    }

    fn on_command(&mut self, command: Command, now: Instant) {
        match command {
            Command::Want { artifact } => self.on_want(artifact, now),
            Command::Admit { artifact, for_peer, answer } => self.on_admit(artifact, for_peer, answer, now),
            Command::Chunk { artifact, index, for_peer, answer } => {
                self.on_chunk_wanted(artifact, index, for_peer, answer, now);
            }
            Command::Damaged { artifact, index } => {
                self.parts.counters.corrupt_chunks.inc();
                tracing::warn!(artifact = %artifact.short(), index, "a chunk on our own disk is damaged: fetched again");
                if let Ok(session) = self.session(&artifact, now) {
                    session.on_damaged(index, now);
                }
            }
            Command::Have { peer, artifact, answer } => {
                self.on_peer_seen(peer, now);
                let _ = answer.send(self.have(&artifact));
            }
            Command::PeerSeen { peer } => self.on_peer_seen(peer, now),
        }
    }

    fn on_want(&mut self, artifact: ArtifactId, now: Instant) {
        if self.parts.store.reader(&artifact).is_some_and(|reader| reader.is_complete()) {
            return;
        }
        match self.session(&artifact, now) {
            Ok(session) => session.want_all(),
            Err(why) => tracing::debug!(artifact = %artifact.short(), %why, "not fetched"),
        }
    }

    fn on_admit(&mut self, artifact: ArtifactId, for_peer: bool, answer: Waiter, now: Instant) {
        match self.session(&artifact, now) {
            Ok(session) => {
                if !for_peer {
                    session.want_all();
                }
                session.wait_admitted(answer);
            }
            Err(why) => {
                let _ = answer.send(Err(why));
            }
        }
    }

    fn on_chunk_wanted(&mut self, artifact: ArtifactId, index: u32, for_peer: bool, answer: Waiter, now: Instant) {
        if self.parts.store.reader(&artifact).is_some_and(|reader| reader.has(index)) {
            let _ = answer.send(Ok(()));
            return;
        }
        match self.session(&artifact, now) {
            Ok(session) => session.wait_chunk(index, for_peer, answer, now),
            Err(why) => {
                let _ = answer.send(Err(why));
            }
        }
    }

    /// What this node has and is fetching of `artifact`.
    fn have(&self, artifact: &ArtifactId) -> Have {
        let progress = self.links.progress();
        if let Some(have) = self.sessions.get(artifact).and_then(|session| session.have(progress)) {
            return have;
        }
        match self.parts.store.reader(artifact) {
            Some(reader) => {
                let here = bits(&reader);
                Have { progress, fetching: vec![false; here.len()], here }
            }
            None => Have { progress, ..Have::default() },
        }
    }

    /// The session of `artifact`, begun when it may be fetched.
    fn session(&mut self, artifact: &ArtifactId, now: Instant) -> Result<&mut Session, Unobtainable> {
        self.touched.insert(*artifact);
        if !self.sessions.contains_key(artifact) {
            let row = live_row(&self.view, artifact)?.clone();
            if self.sessions.len() >= SESSIONS_MAX {
                return Err(Unobtainable::Busy);
            }
            let mut session = Session::new(row);
            if let Some(reader) = self.parts.store.reader(artifact) {
                session.on_admitted(Arc::clone(reader.manifest()), &bits(&reader), &self.site(), now);
            }
            self.sessions.insert(*artifact, session);
            self.share_window();
        }
        Ok(self.sessions.get_mut(artifact).expect("inserted above"))
    }

    /// The site as it is now.
    pub(crate) fn site(&self) -> Site {
        let now = *self.parts.wan_now.borrow();
        Site::new(self.view.key, self.links.peers(), self.links.link(Source::Origin), now, self.sessions.len())
    }

    /// The schedule opened, closed or changed the WAN link.
    fn on_hour(&mut self) {
        self.touched.extend(self.sessions.keys());
        self.share_window();
    }

    /// Divides what may be in flight at the origin over the sessions.
    fn share_window(&mut self) {
        let window = self.site().window;
        for session in self.sessions.values_mut() {
            if let Some(picker) = session.picker() {
                picker.set_origin_window(window);
            }
        }
    }

    fn on_view(&mut self, now: Instant) {
        self.view = self.parts.views.load();
        let view = Arc::clone(&self.view);
        self.forget_lifted_bans();
        self.links.set_partners(partners(&view, &self.banned));
        self.sessions.retain(|artifact, session| match live_row(&view, artifact) {
            Ok(_) => true,
            Err(why) => {
                tracing::info!(artifact = %artifact.short(), %why, "the fetch ends");
                session.answer_all(&why);
                false
            }
        });
        let peers = self.links.peers();
        for (artifact, session) in &mut self.sessions {
            self.touched.insert(*artifact);
            if let Some(picker) = session.picker() {
                picker.set_members(&peers, now);
            }
        }
        self.share_window();
    }

    /// A ban of ours that was made before the last lift of that peer is void.
    fn forget_lifted_bans(&mut self) {
        let bans = &self.view.bans;
        let lifted: Vec<MemberKey> =
            self.banned.iter().filter(|(peer, lifts)| bans.lifts(peer) > **lifts).map(|(peer, _)| *peer).collect();
        for peer in lifted {
            match self.parts.state.unban(&peer) {
                Ok(()) => {
                    self.banned.remove(&peer);
                    tracing::warn!(key = %peer, "the ban of a peer was lifted by the repository");
                }
                Err(error) => tracing::error!(key = %peer, %error, "a lifted ban could not be forgotten"),
            }
        }
    }

    fn on_peer_seen(&mut self, peer: MemberKey, now: Instant) {
        let changed = self.links.source_of(&peer).and_then(|source| self.links.seen(source));
        self.on_links(changed.into_iter().collect(), now);
    }

    fn on_ended(&mut self, ended: Ended, now: Instant) {
        let changed = self.links.on_ended(ended, now);
        self.on_links(changed, now);
    }

    /// Tells every session of links that changed.
    pub(crate) fn on_links(&mut self, changed: Vec<(Source, Link)>, now: Instant) {
        for (source, link) in changed {
            if link == Link::Down {
                self.asked.retain(|_, asked| asked.source != source);
            }
            for (artifact, session) in &mut self.sessions {
                self.touched.insert(*artifact);
                session.on_link(source, link, now);
            }
        }
    }

    fn count_arrivals(&mut self, now: Instant) {
        for arrived in self.links.arrived() {
            match arrived.source {
                Source::Origin => {
                    self.parts.counters.add_origin(arrived.chunk_bytes);
                    self.parts.counters.add_metadata(arrived.metadata_bytes);
                }
                Source::Peer(_) => {
                    self.parts.counters.peer_bytes.inc_by(arrived.chunk_bytes);
                }
            }
            for session in self.sessions.values_mut() {
                match session.picker() {
                    Some(picker) if arrived.chunk_bytes > 0 => picker.on_progress(arrived.source, now),
                    Some(picker) => picker.on_heard(arrived.source, now),
                    None => {}
                }
            }
        }
    }

    fn drop_what_is_over(&mut self, now: Instant) {
        let before = self.sessions.len();
        self.sessions.retain(|_, session| !session.is_over(now));
        if self.sessions.len() != before {
            self.share_window();
        }
        for (artifact, session) in &mut self.sessions {
            if session.resume_if_due(now) {
                self.touched.insert(*artifact);
            }
        }
    }
}

/// The store's bitmap as the picker takes it.
pub(crate) fn bits(reader: &sluice_content_store::ArtifactReader) -> Vec<bool> {
    let bitmap = reader.bitmap();
    (0..bitmap.len()).map(|index| bitmap.has(index)).collect()
}
