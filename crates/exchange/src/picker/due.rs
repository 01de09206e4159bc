//! What time alone makes due: questions, silence, lateness.

use super::peers::Peer;
use super::{
    ASLEEP_AFTER, AVOID_FOR, Action, HAVE_POLL, LATE_AFTER, LATE_MAX, Link, ORIGIN_GONE_AFTER, ORIGIN_SILENT_AFTER,
    Picker, SETTLE_GRACE, SILENT_AFTER, Source,
};
use sluice_model::MemberKey;
use std::time::{Duration, Instant};

impl Picker {
    /// The earliest instant at which [`Picker::advance`] could have something to say; `None` when idle.
    pub fn next_due(&self) -> Option<Instant> {
        if !self.outbox.is_empty() {
            return Some(self.advanced_at);
        }
        if self.is_idle() && self.flights.is_empty() {
            return None;
        }
        let mut due: Vec<Instant> = Vec::new();
        for peer in self.peers.iter().filter(|peer| peer.link == Link::Up && !peer.banned) {
            match silent_at(peer) {
                Some(at) => due.push(at),
                None => due.push(self.next_question(peer)),
            }
            due.push(peer.up_since.max(self.settle_from) + SETTLE_GRACE);
            due.extend(peer.passed_over_until);
        }
        if !self.flights.is_empty() {
            // Looked at often enough to tell one's own sleep from others' silence.
            due.push(self.advanced_at + HAVE_POLL);
        }
        for (index, flight) in &self.flights {
            due.extend(self.late_at(*index, flight.from, flight.asked));
        }
        for notes in self.notes.values() {
            due.extend(notes.origin_retry_at);
            due.extend(notes.settle_from.map(|from| from + SETTLE_GRACE));
            due.extend(notes.avoid.iter().map(|avoided| avoided.until));
        }
        due.extend(self.race_due());
        due.extend(self.origin.load.owed_since.map(|since| since + ORIGIN_SILENT_AFTER));
        due.extend(self.origin.down_since.map(|since| since + ORIGIN_GONE_AFTER));
        // What lies before the last `advance` was acted on by it.
        due.into_iter().filter(|at| *at > self.advanced_at).min()
    }

    pub(super) fn poll_haves(&mut self, now: Instant, actions: &mut Vec<Action>) {
        for at in 0..self.peers.len() {
            let peer = &self.peers[at];
            let due = peer.link == Link::Up && !peer.banned && peer.have_asked.is_none();
            if due && self.next_question(peer) <= now {
                let peer = &mut self.peers[at];
                peer.have_asked = Some(now);
                peer.have_last = Some(now);
                actions.push(Action::AskHave { peer: peer.key });
            }
        }
    }

    /// When `peer` is next asked what it has: at once when what is known is older than the last loss.
    fn next_question(&self, peer: &Peer) -> Instant {
        let floor = self.notes.values().filter_map(|notes| notes.settle_from).max().unwrap_or(self.settle_from);
        let floor = floor.max(self.settle_from).max(peer.up_since);
        match peer.have_last {
            Some(last) if last >= floor => last + HAVE_POLL,
            _ => floor,
        }
    }

    /// After this process was stopped for a while, whoever owes an answer gets its time again: it may have answered.
    pub(super) fn notice_own_sleep(&mut self, now: Instant) {
        if self.flights.is_empty() || now < self.advanced_at + ASLEEP_AFTER {
            return;
        }
        for flight in self.flights.values_mut() {
            flight.asked = now;
        }
        for peer in &mut self.peers {
            peer.heard_at = now;
            peer.progress_at = now;
            peer.load.heard(now);
        }
        self.origin.load.heard(now);
    }

    /// Passes over peers that owe an answer and say nothing, and an origin that does.
    pub(super) fn give_up_the_silent(&mut self, now: Instant) {
        let silent: Vec<_> =
            self.peers.iter().filter(|peer| silent_at(peer).is_some_and(|at| at <= now)).map(|peer| peer.key).collect();
        for key in silent {
            self.on_link(Source::Peer(key), Link::Down, now);
            self.outbox.push(Action::Reset { source: Source::Peer(key) });
        }
        if self.origin.load.owed_since.is_some_and(|since| now >= since + ORIGIN_SILENT_AFTER) {
            self.on_link(Source::Origin, Link::Down, now);
            self.outbox.push(Action::Reset { source: Source::Origin });
        }
    }

    /// Gives up requests at peers that answer but do not get on.
    pub(super) fn give_up_the_late(&mut self, now: Instant) {
        let late: Vec<_> = self
            .flights
            .iter()
            .filter(|(index, flight)| self.late_at(**index, flight.from, flight.asked).is_some_and(|at| at <= now))
            .map(|(index, flight)| (*index, flight.from, flight.asked))
            .collect();
        for (index, from, asked) in late {
            self.end_flight(from, index);
            self.outbox.push(Action::Cancel { from, index });
            let Source::Peer(key) = from else { continue };
            self.avoid(key, index, true, now);
            if now < asked + LATE_MAX {
                self.pass_over(&key, AVOID_FOR, now);
            }
        }
    }

    /// `key` answers and gets nothing done: it is asked for nothing for a while.
    pub(super) fn pass_over(&mut self, key: &MemberKey, pause: Duration, now: Instant) {
        if let Some(peer) = self.peer_mut(key) {
            peer.passed_over_until = Some(now + pause);
        }
        self.end_flights_at(Source::Peer(*key));
        self.settle_from = now;
    }

    /// When a request at a peer is given up. While the origin is out of reach from here, it may be so for the peer:
    /// taking a chunk over would gain nothing, and two members would ask for it when the origin is back.
    fn late_at(&self, index: u32, from: Source, asked: Instant) -> Option<Instant> {
        let Source::Peer(key) = from else { return None };
        let peer = self.peers.iter().find(|peer| peer.key == key)?;
        let at_last = asked + LATE_MAX;
        if peer.has(index) {
            return Some((asked.max(peer.progress_at) + LATE_AFTER).min(at_last));
        }
        match (self.origin.link, self.origin.up_since) {
            (Link::Up, Some(up)) => Some((asked.max(peer.progress_at).max(up) + LATE_AFTER).min(at_last)),
            _ => Some(at_last),
        }
    }
}

/// When `peer`, asked what it has, counts as silent.
fn silent_at(peer: &Peer) -> Option<Instant> {
    peer.have_asked.filter(|_| peer.link == Link::Up).map(|asked| asked.max(peer.heard_at) + SILENT_AFTER)
}
