//! What a member does for others that are slow: takes chunks from whoever has them by now, takes over what nobody began,
//! and races the last ones.

use super::peers::Peer;
use super::{Action, LOOK_AHEAD_MAX, Link, Picker, RACE_AFTER_MIN, RACED_MAX, Source};
use std::time::{Duration, Instant};

impl Picker {
    /// Moves requests to a member that has the chunk: from one that neither has nor fetches it, and from the origin, which
    /// somebody else was faster at.
    pub(super) fn redirect(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if !std::mem::take(&mut self.haves_changed) {
            return;
        }
        let waiting: Vec<(u32, Source)> = self
            .flights
            .iter()
            .map(|(index, flight)| (*index, flight.from))
            .filter(|row| self.is_idle_wait(*row))
            .collect();
        for (index, from) in waiting {
            let bytes = self.length(index);
            let can_send = |peer: &&Peer| {
                peer.has(index) && peer.may_be_asked(now) && !self.avoids(peer, index, now) && peer.has_room(bytes)
            };
            if self.peers.iter().any(|peer| can_send(&peer)) {
                self.take_back(index, from, actions);
            }
        }
    }

    /// Asks the origin for chunks that others lead and nobody has begun, once all that this member leads is asked for.
    pub(super) fn steal(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if !self.wants_all || self.origin.link != Link::Up {
            return;
        }
        let mut found: Vec<(usize, u32)> = Vec::new();
        let mut looked_at = 0;
        for at in self.first_missing..self.chunks.len() {
            let index = at as u32;
            if looked_at >= LOOK_AHEAD_MAX || !self.origin.has_room(self.length(index)) {
                break;
            }
            if self.here[at] {
                continue;
            }
            looked_at += 1;
            if self.is_unbegun(index, now) && self.may_ask_origin(index, now) {
                found.push((self.my_place(index), index));
            }
        }
        // Each thief begins where it ranks highest, so that they seldom meet.
        found.sort_unstable();
        for (_, index) in found {
            if !self.origin.has_room(self.length(index)) {
                return;
            }
            self.ask_origin(index, false, now, actions);
        }
    }

    /// When nothing is left but to wait for a few chunks that slow members fetch, the next in rank fetches them too.
    pub(super) fn race(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let racing_max = RACED_MAX.max(self.chunks.len() as u32 / 50);
        if !self.wants_all || self.missing > racing_max || self.origin.link != Link::Up {
            self.endgame_since = None;
            return;
        }
        let since = *self.endgame_since.get_or_insert(now);
        if now < since + self.race_after() {
            return;
        }
        let waiting: Vec<u32> = self
            .flights
            .iter()
            .filter(|(_, flight)| matches!(flight.from, Source::Peer(_)))
            .map(|(index, _)| *index)
            .filter(|index| self.fetcher(*index).is_some())
            .collect();
        for index in waiting {
            let is_mine = self.is_next_after_fetcher(index, now);
            if self.raced < racing_max && is_mine && self.origin.has_room(self.length(index)) {
                self.raced += 1;
                self.ask_origin(index, true, now, actions);
            }
        }
    }

    /// When a race may begin, for [`Picker::next_due`].
    pub(super) fn race_due(&self) -> Option<Instant> {
        self.endgame_since.map(|since| since + self.race_after())
    }

    /// Twice what a chunk takes when the link is free: so far it was shared with all members.
    fn race_after(&self) -> Duration {
        let members = 1 + self.peers.len() as u32;
        RACE_AFTER_MIN.max(self.origin.took.unwrap_or_default() * 2 / members)
    }

    fn ask_origin(&mut self, index: u32, insists: bool, now: Instant, actions: &mut Vec<Action>) {
        if let Some(flight) = self.flights.get(&index).copied() {
            self.take_back(index, flight.from, actions);
        }
        self.start_flight(Source::Origin, index, now);
        actions.push(Action::Request { from: Source::Origin, index, insists });
    }

    fn take_back(&mut self, index: u32, from: Source, actions: &mut Vec<Action>) {
        self.end_flight(from, index);
        actions.push(Action::Cancel { from, index });
    }

    /// Whether the request does not wait at a member that has or fetches the chunk, as far as is known.
    fn is_idle_wait(&self, (index, from): (u32, Source)) -> bool {
        let Source::Peer(key) = from else { return true };
        self.peers.iter().find(|peer| peer.key == key).is_none_or(|peer| !peer.has(index) && !peer.fetches(index))
    }

    /// Whether nobody has or fetches `index`, said after it was asked for.
    fn is_unbegun(&self, index: u32, now: Instant) -> bool {
        if self.peers.iter().any(|peer| peer.counts(now) && (peer.has(index) || peer.fetches(index))) {
            return false;
        }
        match self.flights.get(&index) {
            None => true,
            Some(flight) => match flight.from {
                Source::Origin => false,
                Source::Peer(key) => {
                    let peer = self.peers.iter().find(|peer| peer.key == key);
                    peer.and_then(|peer| peer.have_known).is_some_and(|known| known > flight.asked)
                }
            },
        }
    }

    fn my_place(&mut self, index: u32) -> usize {
        self.rank(index);
        self.ranks[&index].iter().position(Option::is_none).unwrap_or(usize::MAX)
    }

    fn fetcher(&self, index: u32) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.fetches(index) && !peer.has(index))
    }

    /// Whether this member ranks first among those that are up and do not fetch `index`.
    fn is_next_after_fetcher(&mut self, index: u32, now: Instant) -> bool {
        self.rank(index);
        let may = |place: &&Option<u16>| match place {
            None => true,
            Some(at) => {
                let peer = &self.peers[usize::from(*at)];
                peer.counts(now) && !peer.fetches(index)
            }
        };
        self.ranks[&index].iter().find(may) == Some(&None)
    }
}
