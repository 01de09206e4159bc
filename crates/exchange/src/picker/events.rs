//! What the caller reports.

use super::{
    AVOID_FOR, Action, Avoided, ELSEWHERE_RETRY, Link, Notes, ORIGIN_FAILURES_MAX, ORIGIN_RETRY, Picker, REFUSED_FOR,
    Source,
};
use crate::frame::Refusal;
use crate::have::Have;
use sluice_model::MemberKey;
use std::time::Instant;

impl Picker {
    /// The connection to `source` was made, or broke. Repeating the same is nothing.
    pub fn on_link(&mut self, source: Source, link: Link, now: Instant) {
        match source {
            Source::Origin => self.on_origin_link(link, now),
            Source::Peer(key) => self.on_peer_link(key, link, now),
        }
    }

    fn on_origin_link(&mut self, link: Link, now: Instant) {
        match link {
            Link::Up if self.origin.link != Link::Up => {
                self.origin.link = link;
                self.origin.down_since = None;
                self.origin.up_since = Some(now);
                self.settle_from = now;
                self.take_back_what_it_leads(now);
            }
            Link::Down => {
                self.origin.down_since.get_or_insert(now);
                self.end_flights_at(Source::Origin);
            }
            Link::Up | Link::Unknown => {}
        }
        self.origin.link = link;
    }

    /// While the origin was out of reach, others were asked for what this member leads; they may wait for it in turn.
    fn take_back_what_it_leads(&mut self, now: Instant) {
        let elsewhere: Vec<(u32, Source)> = self.flights.iter().map(|(index, flight)| (*index, flight.from)).collect();
        for (index, from) in elsewhere {
            let Source::Peer(key) = from else { continue };
            let coming = self.peer_mut(&key).is_some_and(|peer| peer.has(index) || peer.fetches(index));
            if !coming && self.leader(index, now) == Some(Source::Origin) {
                self.end_flight(from, index);
                self.outbox.push(Action::Cancel { from, index });
            }
        }
    }

    fn on_peer_link(&mut self, key: MemberKey, link: Link, now: Instant) {
        let Some(peer) = self.peer_mut(&key) else { return };
        if peer.link == link {
            return;
        }
        let counted = peer.link != Link::Down;
        match link {
            Link::Up => {
                peer.up_since = now;
                peer.heard_at = now;
                peer.progress_at = now;
                peer.link = Link::Up;
                peer.was_up = true;
            }
            Link::Unknown => peer.link = Link::Unknown,
            Link::Down => peer.disconnect(),
        }
        if link == Link::Up {
            // A new life: what the last one said no to, this one may do.
            for notes in self.notes.values_mut() {
                notes.avoid.retain(|avoided| avoided.peer != key || avoided.was_late);
            }
        }
        if link == Link::Down {
            self.end_flights_at(Source::Peer(key));
            if counted {
                // What it fetched last may be at the others: ask them before the next in rank goes to the origin.
                self.settle_from = now;
            }
        }
    }

    /// `source` sent anything, part of a frame too.
    pub fn on_heard(&mut self, source: Source, now: Instant) {
        match source {
            Source::Origin => self.origin.load.heard(now),
            Source::Peer(key) => {
                if let Some(peer) = self.peer_mut(&key) {
                    peer.heard_at = now;
                    peer.load.heard(now);
                }
            }
        }
    }

    /// Part of a chunk came from `source`: it gets on, however slowly it is allowed to send.
    pub fn on_progress(&mut self, source: Source, now: Instant) {
        self.on_heard(source, now);
        if let Source::Peer(key) = source
            && let Some(peer) = self.peer_mut(&key)
        {
            peer.progress_at = now;
        }
    }

    /// `peer` said what it has.
    pub fn on_have(&mut self, key: MemberKey, have: Have, now: Instant) {
        let count = self.chunks.len();
        self.on_heard(Source::Peer(key), now);
        let Some(peer) = self.peer_mut(&key) else { return };
        peer.have_known = peer.have_asked.take().or(peer.have_known);
        // A member that does not know the artifact says zero chunks.
        if have.here.len() == count && have.fetching.len() == count {
            peer.here = have.here;
            peer.fetching = have.fetching;
        } else {
            peer.here.clear();
            peer.fetching.clear();
        }
        if have.progress != peer.progress {
            peer.progress = have.progress;
            peer.progress_at = now;
        }
        self.haves_changed = true;
        self.forgive(&key);
    }

    /// A peer that said no for a chunk and now says that it has or fetches it is asked again: above all one that leads
    /// the chunk, or two members would fetch it.
    fn forgive(&mut self, key: &MemberKey) {
        let Some(peer) = self.peers.iter().find(|peer| peer.key == *key) else { return };
        for (index, notes) in &mut self.notes {
            let is_coming = peer.has(*index) || peer.fetches(*index);
            let word_is_newer = |avoided: &Avoided| peer.have_known.is_some_and(|asked| asked >= avoided.since);
            notes
                .avoid
                .retain(|avoided| avoided.peer != *key || avoided.was_late || !is_coming || !word_is_newer(avoided));
        }
    }

    /// Chunk `index` is here: its bytes, from `from`, matched the manifest and can be read.
    pub fn on_chunk(&mut self, from: Source, index: u32, now: Instant) {
        self.on_progress(from, now);
        self.settle_one(from);
        if let Source::Peer(key) = from
            && let Some(peer) = self.peer_mut(&key)
        {
            peer.proven = true;
        }
        if let (Source::Origin, Some(flight)) = (from, self.flights.get(&index)) {
            let took = now.saturating_duration_since(flight.asked);
            self.origin.note_took(took);
        }
        self.end_flight(from, index);
        self.on_local_chunk(index);
    }

    /// Chunk `index` is here by other means: copied from another artifact, or fetched by an earlier life.
    pub fn on_local_chunk(&mut self, index: u32) {
        if !self.is_missing(index) {
            return;
        }
        if let Some(flight) = self.flights.get(&index).copied() {
            self.end_flight(flight.from, index);
            self.outbox.push(Action::Cancel { from: flight.from, index });
        }
        self.here[index as usize] = true;
        self.missing -= 1;
        self.wanted.remove(&index);
        self.urgent.remove(&index);
        self.notes.remove(&index);
        self.ranks.remove(&index);
        while self.here.get(self.first_missing).copied().unwrap_or(false) {
            self.first_missing += 1;
        }
    }

    /// Chunk `index` was found damaged on this member's own disk: it is missing and wanted again.
    /// The others are asked what they have before the origin is.
    pub fn on_damaged(&mut self, index: u32, now: Instant) {
        if let Some(here) = self.here.get_mut(index as usize)
            && std::mem::replace(here, false)
        {
            self.missing += 1;
            self.first_missing = self.first_missing.min(index as usize);
            self.wanted.insert(index);
            self.notes.entry(index).or_default().settle_from = Some(now);
        }
    }

    /// What `from` sent as chunk `index` is not the chunk. A peer is banned at once.
    pub fn on_wrong_bytes(&mut self, from: Source, index: u32, now: Instant) {
        self.settle_one(from);
        self.end_flight(from, index);
        match from {
            Source::Peer(key) => {
                if self.ban(&key, now) {
                    self.outbox.push(Action::Ban { peer: key, index });
                }
            }
            Source::Origin => self.note_origin_failure(index, now),
        }
    }

    /// `peer` is banned, found out here or elsewhere; `false` when it was already or is no member.
    pub fn ban(&mut self, key: &MemberKey, now: Instant) -> bool {
        let Some(peer) = self.peer_mut(key) else { return false };
        if std::mem::replace(&mut peer.banned, true) {
            return false;
        }
        self.on_peer_link(*key, Link::Down, now);
        true
    }

    /// `from` has not got chunk `index` and will not have it soon.
    pub fn on_not_here(&mut self, from: Source, index: u32, now: Instant) {
        self.on_heard(from, now);
        self.settle_one(from);
        if !self.end_flight(from, index) {
            return;
        }
        match from {
            Source::Origin => self.note_origin_failure(index, now),
            Source::Peer(key) => self.avoid(key, index, false, now),
        }
    }

    /// The origin was not asked in vain: `member` was sent chunk `index`. It is asked there, or the origin once more.
    pub fn on_elsewhere(&mut self, index: u32, member: MemberKey, now: Instant) {
        self.on_heard(Source::Origin, now);
        if !self.end_flight(Source::Origin, index) {
            return;
        }
        let count = self.chunks.len();
        let notes = self.notes.entry(index).or_default();
        match &mut notes.elsewhere {
            Some((known, _)) if *known == member => {}
            other => *other = Some((member, now)),
        }
        let avoided = notes.avoid.iter().any(|avoided| avoided.peer == member && avoided.until > now);
        let peer = self.peers.iter_mut().find(|peer| peer.key == member);
        if let Some(peer) = peer.filter(|peer| peer.may_be_asked(now) && !avoided) {
            peer.fetching.resize(count, false);
            peer.here.resize(count, false);
            peer.fetching[index as usize] = true;
        } else if !self.insists(index, now) {
            self.notes.entry(index).or_default().origin_retry_at = Some(now + ELSEWHERE_RETRY);
        }
    }

    /// `from` refused the request for chunk `index`.
    pub fn on_refused(&mut self, from: Source, index: u32, refusal: Refusal, now: Instant) {
        self.on_heard(from, now);
        self.settle_one(from);
        self.end_flight(from, index);
        match from {
            Source::Origin => self.note_origin_failure(index, now),
            Source::Peer(key) if refusal == Refusal::Busy => self.avoid(key, index, false, now),
            Source::Peer(key) => self.pass_over(&key, REFUSED_FOR, now),
        }
    }

    /// The request for chunk `index` could not be sent to `from`: nothing is known of the chunk.
    pub fn on_not_sent(&mut self, from: Source, index: u32) {
        self.settle_one(from);
        self.end_flight(from, index);
    }

    /// `from` confirms that a request which was taken back has no answer any more.
    pub fn on_taken_back(&mut self, from: Source, now: Instant) {
        self.on_heard(from, now);
        self.settle_one(from);
    }

    /// The question what `peer` has could not be sent: it is asked again at its time.
    pub fn on_have_not_sent(&mut self, key: MemberKey) {
        if let Some(peer) = self.peer_mut(&key) {
            peer.have_asked = None;
        }
    }

    pub(super) fn avoid(&mut self, key: MemberKey, index: u32, was_late: bool, now: Instant) {
        if let Some(peer) = self.peer_mut(&key) {
            let at = index as usize;
            if let (Some(here), Some(fetching)) = (peer.here.get_mut(at), peer.fetching.get_mut(at)) {
                (*here, *fetching) = (false, false);
            }
        }
        let notes: &mut Notes = self.notes.entry(index).or_default();
        notes.avoid.retain(|avoided| avoided.peer != key && avoided.until > now);
        notes.avoid.push(Avoided { peer: key, since: now, until: now + AVOID_FOR, was_late });
        notes.settle_from = Some(now);
    }

    fn note_origin_failure(&mut self, index: u32, now: Instant) {
        let notes = self.notes.entry(index).or_default();
        let pause = ORIGIN_RETRY.0 * 2_u32.saturating_pow(notes.origin_failures.min(8));
        notes.origin_failures += 1;
        notes.origin_retry_at = Some(now + pause.min(ORIGIN_RETRY.1));
        if notes.origin_failures == ORIGIN_FAILURES_MAX {
            self.outbox.push(Action::Unobtainable { index });
        }
    }
}
