//! What the exchange loop does with replies, and with what its sessions want done.

use super::session::Stage;
use crate::clock;
use crate::exchange_loop::{Asked, AskedFor, ExchangeLoop, Stored, bits};
use crate::fetch::Unobtainable;
use bytes::Bytes;
use sluice_content::Manifest;
use sluice_content_store::{Admission, AdmitError, PutError};
use sluice_exchange::evidence::{self, Evidence};
use sluice_exchange::frame::{Ask, Refusal, TRAILER_LEN};
use sluice_exchange::have::Have;
use sluice_exchange::picker::{Action, LATE_MAX, Link, Source};
use sluice_model::{ArtifactId, BanEvidence, MemberKey};
use sluice_state_store::Ban;
use sluice_transport::{ExchangeEvent, trailer_holds};
use std::sync::Arc;
use std::time::Instant;

/// A chunk as it came.
#[derive(Debug)]
pub(crate) struct ArrivedChunk {
    peer: MemberKey,
    artifact: ArtifactId,
    index: u32,
    bytes: Bytes,
    trailer: Option<[u8; TRAILER_LEN]>,
}

impl ExchangeLoop {
    /// Moves one session forward and does what it wants done.
    pub(crate) fn advance_one(&mut self, artifact: &ArtifactId, now: Instant) {
        let Some(session) = self.sessions.get_mut(artifact) else { return };
        if matches!(session.stage, Stage::Hunting(_)) {
            if !session.is_stopped(now) {
                self.hunt(artifact, now);
            }
            return;
        }
        let mut actions = Vec::new();
        session.advance(now, &mut actions);
        for action in actions {
            self.perform(artifact, action, now);
        }
    }

    fn perform(&mut self, artifact: &ArtifactId, action: Action, now: Instant) {
        match action {
            Action::Request { from, index, insists } => {
                let window_ms = if from == Source::Origin { 0 } else { LATE_MAX.as_millis() as u32 };
                let ask = Ask::Chunks { artifact: *artifact, first: index, count: 1, window_ms, insists };
                if !self.ask(from, *artifact, AskedFor::Chunk(index), ask)
                    && let Some(picker) = self.sessions.get_mut(artifact).and_then(|session| session.picker())
                {
                    picker.on_not_sent(from, index);
                }
            }
            Action::Cancel { from, index } => self.cancel(from, artifact, index),
            Action::AskHave { peer } => {
                if !self.ask(Source::Peer(peer), *artifact, AskedFor::Have, Ask::Have { artifact: *artifact })
                    && let Some(picker) = self.sessions.get_mut(artifact).and_then(|session| session.picker())
                {
                    picker.on_have_not_sent(peer);
                }
            }
            Action::Reset { source } => {
                tracing::warn!(peer = %self.links.name(source), "silent while it owed an answer: passed over");
                let changed = self.links.reset(source, now);
                self.on_links(vec![changed], now);
            }
            // Said by the picker for what the store found; the ban was made then, with the evidence.
            Action::Ban { .. } => {}
            Action::Unobtainable { index } => {
                if let Some(session) = self.sessions.get_mut(artifact) {
                    session.answer_chunk(index, &Err(Unobtainable::Nowhere));
                }
            }
            Action::Done => tracing::info!(artifact = %artifact.short(), "complete"),
        }
    }

    fn ask(&mut self, source: Source, artifact: ArtifactId, what: AskedFor, ask: Ask) -> bool {
        match self.links.request(source, ask) {
            Some(id) => {
                self.asked.insert(id, Asked { source, artifact, what });
                true
            }
            None => false,
        }
    }

    /// Takes a request back. What was already on its way is used if it is still missing then.
    fn cancel(&mut self, source: Source, artifact: &ArtifactId, index: u32) {
        let is_it = |asked: &Asked| {
            asked.source == source && asked.artifact == *artifact && asked.what == AskedFor::Chunk(index)
        };
        let id = self.asked.iter().find(|(_, asked)| is_it(asked)).map(|(id, _)| *id);
        if let Some(id) = id {
            self.asked.insert(id, Asked { source, artifact: *artifact, what: AskedFor::Nothing });
            self.links.cancel(source, id);
        }
    }

    fn hunt(&mut self, artifact: &ArtifactId, now: Instant) {
        let site = self.site();
        let Some(session) = self.sessions.get_mut(artifact) else { return };
        if let Some(manifest) = session.manifest.clone() {
            self.admit(*artifact, manifest);
            return;
        }
        let manifest = session.row.custom.manifest.blake3;
        let Stage::Hunting(hunt) = &mut session.stage else { return };
        let Some(source) = hunt.next(site.me, &site.peers, site.origin, now) else { return };
        if !self.ask(source, *artifact, AskedFor::Manifest, Ask::Manifest { manifest }) {
            self.hunt_failed(artifact, source, now);
        }
    }

    fn hunt_failed(&mut self, artifact: &ArtifactId, source: Source, now: Instant) {
        self.touched.insert(*artifact);
        let Some(session) = self.sessions.get_mut(artifact) else { return };
        let Stage::Hunting(hunt) = &mut session.stage else { return };
        hunt.on_failure(source, now);
        if source == Source::Origin && hunt.origin_failures >= sluice_exchange::picker::ORIGIN_FAILURES_MAX {
            session.answer_all(&Unobtainable::Nowhere);
        }
    }

    /// A reply, or the end of a connection.
    pub(crate) fn on_event(&mut self, event: ExchangeEvent, now: Instant) {
        match event {
            ExchangeEvent::Chunk { peer, request_id, artifact, index, bytes, trailer, .. } => {
                self.asked.remove(&request_id);
                self.on_chunk(ArrivedChunk { peer, artifact, index, bytes, trailer }, now);
            }
            ExchangeEvent::Manifest { request_id, bytes, .. } => {
                if let Some(asked) = self.asked.remove(&request_id) {
                    self.on_manifest(asked, &bytes, now);
                }
            }
            ExchangeEvent::Have { peer, request_id, bytes, .. } => {
                if let Some(asked) = self.asked.remove(&request_id) {
                    self.on_have(peer, asked, &bytes, now);
                }
            }
            ExchangeEvent::NotHere { request_id, .. } => {
                if let Some(asked) = self.asked.remove(&request_id) {
                    self.on_no(asked, None, now);
                }
            }
            ExchangeEvent::Elsewhere { request_id, index, member, .. } => {
                if let Some(asked) = self.asked.remove(&request_id) {
                    self.on_elsewhere(asked, index, member, now);
                }
            }
            ExchangeEvent::Refused { request_id, refusal, .. } => {
                if let Some(asked) = self.asked.remove(&request_id) {
                    tracing::debug!(peer = %self.links.name(asked.source), ?refusal, "refused");
                    self.on_no(asked, Some(refusal), now);
                }
            }
            // The end of the connection's task is what counts; it follows.
            ExchangeEvent::Closed { peer, error, .. } => {
                if let Some(error) = error {
                    tracing::debug!(peer = %peer.short(), %error, "connection ended");
                }
            }
        }
    }

    /// Hands an expected chunk to the store, which verifies it before it writes.
    fn on_chunk(&mut self, chunk: ArrivedChunk, now: Instant) {
        let Some(from) = self.links.source_of(&chunk.peer) else { return };
        self.touched.insert(chunk.artifact);
        let Some(session) = self.sessions.get_mut(&chunk.artifact) else { return };
        if !session.on_chunk(from, chunk.index, now) {
            return;
        }
        let store = self.parts.store.clone();
        self.storing.spawn(async move {
            let result = store.put(&chunk.artifact, chunk.index, chunk.bytes.clone()).await;
            Stored::Put { from, chunk, result }
        });
    }

    fn on_wrong_bytes(&mut self, from: Source, chunk: &ArrivedChunk, now: Instant) {
        self.parts.counters.corrupt_chunks.inc();
        let (artifact, index) = (chunk.artifact, chunk.index);
        if from == Source::Origin {
            tracing::error!(%artifact, index, "the origin sent wrong bytes: asked again later");
            return;
        }
        let sent = evidence::hash_sent(&chunk.bytes);
        let evidence = chunk.trailer.and_then(|trailer| {
            let is_signed = trailer_holds(&chunk.peer, &self.view.key, &artifact, index, &sent, &trailer);
            is_signed.then(|| Evidence::of(&self.view.key, &artifact, index, &sent, trailer).to_text())
        });
        let proof = if evidence.is_some() { "signed by it" } else { "without its signature" };
        let reason = format!("sent wrong bytes as chunk {index} of artifact {artifact}, {proof}");
        self.ban(chunk.peer, reason, evidence, now);
    }

    /// Until it is lifted: in the state store, in the log by name and key, at every session and on its connection.
    fn ban(&mut self, peer: MemberKey, reason: String, evidence: Option<BanEvidence>, now: Instant) {
        let source = Source::Peer(peer);
        tracing::error!(name = %self.links.name(source), key = %peer, %reason, "peer banned");
        let lifts = self.view.bans.lifts(&peer);
        if let Err(error) = self.parts.state.ban(&Ban { peer, at: clock::timestamp(), reason, evidence, lifts }) {
            tracing::error!(%error, "the ban could not be stored: it holds until this node restarts");
        }
        self.banned.insert(peer, lifts);
        for session in self.sessions.values_mut() {
            if let Some(picker) = session.picker() {
                picker.ban(&peer, now);
            }
        }
        self.links.set_partners(super::members::partners(&self.view, &self.banned));
        self.on_links(vec![(source, Link::Down)], now);
    }

    fn on_manifest(&mut self, asked: Asked, bytes: &[u8], now: Instant) {
        self.touched.insert(asked.artifact);
        let Some(session) = self.sessions.get_mut(&asked.artifact) else { return };
        if !matches!(session.stage, Stage::Hunting(_)) {
            return;
        }
        let row = &session.row;
        match Manifest::decode(bytes, &row.custom.manifest, row.length) {
            Ok(manifest) if manifest.artifact() == asked.artifact => {
                let manifest = Arc::new(manifest);
                session.manifest = Some(Arc::clone(&manifest));
                self.admit(asked.artifact, manifest);
            }
            wrong => {
                let error = wrong.err().map(|error| error.to_string()).unwrap_or_default();
                self.on_wrong_manifest(asked, &error, now);
            }
        }
    }

    /// Asks the store for room.
    fn admit(&mut self, artifact: ArtifactId, manifest: Arc<Manifest>) {
        let Some(session) = self.sessions.get_mut(&artifact) else { return };
        session.stage = Stage::Admitting;
        let admission = Admission { manifest: Arc::clone(&manifest), sha256: session.sha256() };
        let store = self.parts.store.clone();
        self.storing.spawn(async move {
            let result = store.admit(admission).await;
            Stored::Admitted { artifact, manifest, result }
        });
    }

    /// A manifest is named by its hash in signed metadata: other bytes convict a peer as a wrong chunk does.
    fn on_wrong_manifest(&mut self, asked: Asked, error: &str, now: Instant) {
        self.hunt_failed(&asked.artifact, asked.source, now);
        match asked.source {
            Source::Peer(peer) => {
                let reason = format!("sent a wrong manifest of artifact {}: {error}", asked.artifact);
                self.ban(peer, reason, None, now);
            }
            Source::Origin => tracing::error!(artifact = %asked.artifact, %error, "the origin sent a wrong manifest"),
        }
    }

    fn on_have(&mut self, peer: MemberKey, asked: Asked, bytes: &[u8], now: Instant) {
        self.touched.insert(asked.artifact);
        let have = match Have::decode(bytes) {
            Ok(have) => have,
            Err(error) => {
                tracing::warn!(peer = %peer.short(), %error, "a peer said nonsense of what it has");
                Have::default()
            }
        };
        if let Some(picker) = self.sessions.get_mut(&asked.artifact).and_then(|session| session.picker()) {
            picker.on_have(peer, have, now);
        }
    }

    /// The origin sent the chunk to `member` of our site. From anyone else that is a no.
    fn on_elsewhere(&mut self, asked: Asked, index: u32, member: MemberKey, now: Instant) {
        if asked.source != Source::Origin {
            self.on_no(asked, None, now);
            return;
        }
        self.touched.insert(asked.artifact);
        tracing::debug!(index, at = %self.links.name(Source::Peer(member)), "the origin says that a chunk is at our site");
        if let Some(picker) = self.sessions.get_mut(&asked.artifact).and_then(|session| session.picker()) {
            picker.on_elsewhere(index, member, now);
        }
    }

    /// `asked` was answered with no.
    fn on_no(&mut self, asked: Asked, refusal: Option<Refusal>, now: Instant) {
        self.touched.insert(asked.artifact);
        if asked.what == AskedFor::Manifest {
            self.hunt_failed(&asked.artifact, asked.source, now);
            return;
        }
        let Some(picker) = self.sessions.get_mut(&asked.artifact).and_then(|session| session.picker()) else { return };
        match (asked.what, refusal, asked.source) {
            (AskedFor::Nothing, _, source) => picker.on_taken_back(source, now),
            (AskedFor::Chunk(index), Some(refusal), source) => picker.on_refused(source, index, refusal, now),
            (AskedFor::Chunk(index), None, source) => picker.on_not_here(source, index, now),
            // It has nothing to say of this artifact: it counts as having nothing.
            (_, _, Source::Peer(peer)) => picker.on_have(peer, Have::default(), now),
            (_, _, Source::Origin) => {}
        }
    }

    /// The store finished something.
    pub(crate) fn on_stored(&mut self, stored: Stored, now: Instant) {
        match stored {
            Stored::Admitted { artifact, manifest, result } => self.on_admitted(artifact, manifest, result, now),
            Stored::Put { from, chunk, result } => self.on_put(from, &chunk, result, now),
            Stored::Removed => {}
        }
    }

    fn on_admitted(
        &mut self,
        artifact: ArtifactId,
        manifest: Arc<Manifest>,
        result: Result<(), AdmitError>,
        now: Instant,
    ) {
        self.touched.insert(artifact);
        let site = self.site();
        let Some(session) = self.sessions.get_mut(&artifact) else {
            self.remove_unless_live(artifact);
            return;
        };
        if let Err(error) = result {
            let why = caching_stopped(&error);
            self.parts.trouble.set(why.clone());
            session.begin_again();
            session.stop(&why, now);
            return;
        }
        let here = self.parts.store.reader(&artifact).map(|reader| bits(&reader)).unwrap_or_default();
        if here.len() == manifest.chunk_count() as usize {
            session.on_admitted(manifest, &here, &site, now);
        }
    }

    /// A view that forbids the artifact came while the store made room for it: after its content was removed.
    fn remove_unless_live(&mut self, artifact: ArtifactId) {
        if super::members::live_row(&self.view, &artifact).is_ok() {
            return;
        }
        let store = self.parts.store.clone();
        self.storing.spawn(async move {
            if let Err(error) = store.remove(&artifact).await {
                tracing::error!(%artifact, %error, "what was retracted could not be removed");
            }
            Stored::Removed
        });
    }

    fn on_put(&mut self, from: Source, chunk: &ArrivedChunk, result: Result<(), PutError>, now: Instant) {
        let index = chunk.index;
        self.touched.insert(chunk.artifact);
        let Some(session) = self.sessions.get_mut(&chunk.artifact) else { return };
        match result {
            Ok(()) => {
                if from == Source::Origin && session.is_missing(index) {
                    self.parts.counters.chunks_led.inc();
                }
                self.parts.trouble.clear();
                session.on_stored(from, index, now);
            }
            Err(PutError::WrongBytes(_)) => {
                session.on_wrong_bytes(from, index, now);
                self.on_wrong_bytes(from, chunk, now);
            }
            Err(PutError::Unknown(_)) => session.begin_again(),
            Err(error) => {
                let why = caching_stopped(&error);
                self.parts.trouble.set(why.clone());
                session.on_store_refused(from, index, &why, now);
            }
        }
    }
}

fn caching_stopped(error: &dyn std::error::Error) -> String {
    format!("caching has stopped, what is here is still served: {error}")
}
