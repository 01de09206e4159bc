//! Whom to ask for which chunk, now.

use super::peers::Peer;
use super::{Action, ELSEWHERE_PATIENCE, LOOK_AHEAD_MAX, Link, ORIGIN_GONE_AFTER, Picker, SETTLE_GRACE, Source};
use crate::rank;
use std::time::Instant;

impl Picker {
    /// Requests what can be requested: first what a response waits for, then what was named, then in order.
    pub(super) fn request(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let named: Vec<u32> = self.urgent.iter().chain(&self.wanted).copied().collect();
        for index in named {
            self.request_one(index, now, actions);
        }
        if !self.wants_all && !self.wants_led {
            return;
        }
        // Only a member that wants everything is held to the window: what others lead does not fill it for a leader.
        let mut looked_at = 0;
        for at in self.first_missing..self.chunks.len() {
            let index = at as u32;
            if looked_at >= LOOK_AHEAD_MAX || !self.any_room(now) {
                break;
            }
            if self.here[at] || self.flights.contains_key(&index) {
                continue;
            }
            if self.wants_all {
                looked_at += 1;
            } else if self.is_elsewhere(index) || self.leader(index, now) != Some(Source::Origin) {
                continue;
            }
            self.request_one(index, now, actions);
        }
    }

    /// Whether the site has or gets `index` without this member.
    fn is_elsewhere(&self, index: u32) -> bool {
        self.notes.get(&index).is_some_and(|notes| notes.elsewhere.is_some())
            || self.peers.iter().any(|peer| peer.has(index) || peer.fetches(index))
    }

    fn request_one(&mut self, index: u32, now: Instant, actions: &mut Vec<Action>) {
        if !self.is_missing(index) || self.flights.contains_key(&index) {
            return;
        }
        if let Some(from) = self.choose(index, now) {
            let insists = from == Source::Origin && self.insists(index, now);
            self.start_flight(from, index, now);
            actions.push(Action::Request { from, index, insists });
        }
    }

    /// Whom to ask for `index` now; `None`: nobody yet.
    fn choose(&mut self, index: u32, now: Instant) -> Option<Source> {
        let bytes = self.length(index);
        let askable = |peer: &&Peer| peer.may_be_asked(now) && !self.avoids(peer, index, now);
        let holders: Vec<&Peer> = self.peers.iter().filter(askable).filter(|peer| peer.has(index)).collect();
        if !holders.is_empty() {
            let free = holders.into_iter().filter(|peer| peer.has_room(bytes));
            return free.min_by_key(|peer| (peer.load.bytes, peer.key)).map(|peer| Source::Peer(peer.key));
        }
        if let Some(peer) = self.peers.iter().filter(askable).find(|peer| peer.fetches(index)) {
            return peer.has_room(bytes).then_some(Source::Peer(peer.key));
        }
        match self.leader(index, now)? {
            Source::Origin => self.may_ask_origin(index, now).then_some(Source::Origin),
            Source::Peer(key) => {
                let peer = self.peers.iter().find(|peer| peer.key == key)?;
                (peer.may_be_asked(now) && peer.has_room(bytes)).then_some(Source::Peer(key))
            }
        }
    }

    /// Whether the member that the origin named for `index` was tried, or cannot be reached.
    pub(super) fn insists(&self, index: u32, now: Instant) -> bool {
        let Some((member, since)) = self.notes.get(&index).and_then(|notes| notes.elsewhere) else { return false };
        let peer = self.peers.iter().find(|peer| peer.key == member);
        let is_lost =
            |peer: &Peer| peer.banned || self.avoids(peer, index, now) || (peer.was_up && peer.link == Link::Down);
        now >= since + ELSEWHERE_PATIENCE || peer.is_some_and(is_lost)
    }

    /// Where the first in rank that can be hoped for would take `index` from: `Origin` when it is this member.
    pub(super) fn leader(&mut self, index: u32, now: Instant) -> Option<Source> {
        self.rank(index);
        let order = &self.ranks[&index];
        let origin_gone = self.origin.down_since.is_some_and(|since| now >= since + ORIGIN_GONE_AFTER);
        let hoped_for = |place: &&Option<u16>| match place {
            None => !origin_gone,
            Some(at) => {
                let peer = &self.peers[usize::from(*at)];
                peer.counts(now) && !self.avoids(peer, index, now)
            }
        };
        match order.iter().find(hoped_for) {
            Some(Some(at)) => Some(Source::Peer(self.peers[usize::from(*at)].key)),
            Some(None) => Some(Source::Origin),
            None => Some(Source::Origin),
        }
    }

    pub(super) fn rank(&mut self, index: u32) {
        if self.ranks.contains_key(&index) {
            return;
        }
        let chunk = &self.chunks[index as usize].id;
        let mine = (rank::weight(chunk, &self.me), self.me, None);
        let mut order: Vec<_> = vec![mine];
        for (at, peer) in self.peers.iter().enumerate() {
            order.push((rank::weight(chunk, &peer.key), peer.key, Some(at as u16)));
        }
        order.sort_by_key(|(weight, key, _)| std::cmp::Reverse((*weight, *key)));
        self.ranks.insert(index, order.into_iter().map(|(_, _, place)| place).collect());
    }

    pub(super) fn may_ask_origin(&self, index: u32, now: Instant) -> bool {
        let pausing = self.notes.get(&index).and_then(|notes| notes.origin_retry_at).is_some_and(|at| at > now);
        self.origin.link == Link::Up
            && !pausing
            && self.origin.has_room(self.length(index))
            && self.peers.iter().all(|peer| self.is_settled(peer, index, now))
    }

    /// Whether what `peer` last said is new enough to send this member to the origin for `index`.
    fn is_settled(&self, peer: &Peer, index: u32, now: Instant) -> bool {
        if !peer.counts(now) {
            return true;
        }
        if peer.link == Link::Unknown {
            // The attempt to connect ends soon, one way or the other.
            return false;
        }
        let from = self.settle_floor(peer, index);
        peer.have_known.is_some_and(|asked| asked >= from) || now >= from + SETTLE_GRACE
    }

    /// The instant since which `peer` must have been asked what it has.
    pub(super) fn settle_floor(&self, peer: &Peer, index: u32) -> Instant {
        let of_chunk = self.notes.get(&index).and_then(|notes| notes.settle_from);
        self.settle_from.max(peer.up_since).max(of_chunk.unwrap_or(self.settle_from))
    }

    pub(super) fn avoids(&self, peer: &Peer, index: u32, now: Instant) -> bool {
        self.notes
            .get(&index)
            .is_some_and(|notes| notes.avoid.iter().any(|avoided| avoided.peer == peer.key && avoided.until > now))
    }

    fn any_room(&self, now: Instant) -> bool {
        const SOME: u64 = 64 << 10;
        (self.origin.link == Link::Up && self.origin.has_room(SOME))
            || self.peers.iter().any(|peer| peer.may_be_asked(now) && peer.has_room(SOME))
    }
}
