//! What the picker knows of each source.

use super::{Link, OriginWindow, PEER_BYTES_MAX, PEER_REQUESTS_MAX, PEER_REQUESTS_MIN, Picker};
use sluice_model::MemberKey;
use std::time::{Duration, Instant};

/// What is in flight at one source.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Load {
    pub requests: u32,
    pub bytes: u64,
    /// When the source began to owe something, or last sent anything since.
    pub owed_since: Option<Instant>,
}

impl Load {
    pub fn add(&mut self, bytes: u64, now: Instant) {
        self.requests += 1;
        self.bytes += bytes;
        self.owed_since.get_or_insert(now);
    }

    pub fn remove(&mut self, bytes: u64) {
        self.requests = self.requests.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        if self.requests == 0 {
            self.owed_since = None;
        }
    }

    pub fn heard(&mut self, now: Instant) {
        if self.owed_since.is_some() {
            self.owed_since = Some(now);
        }
    }
}

/// One other member of the site.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub key: MemberKey,
    pub link: Link,
    pub banned: bool,
    /// Whether it was ever linked: one that was and is not is lost, one that was not may be new.
    pub was_up: bool,
    /// Whether a chunk from it was right: until then one request at a time, so that a liar wastes one chunk.
    pub proven: bool,
    pub passed_over_until: Option<Instant>,
    pub load: Load,
    /// Requests sent and not answered, those that were taken back too.
    pub owing: u32,
    pub here: Vec<bool>,
    pub fetching: Vec<bool>,
    /// What it last said of its own progress, and when that last grew or a chunk came.
    pub progress: u64,
    pub progress_at: Instant,
    /// The question about what it has that is not answered yet.
    pub have_asked: Option<Instant>,
    /// When the last question was asked, answered or not.
    pub have_last: Option<Instant>,
    /// When the question was asked that was answered last.
    pub have_known: Option<Instant>,
    pub heard_at: Instant,
    pub up_since: Instant,
}

impl Peer {
    pub fn new(key: MemberKey, link: Link, now: Instant) -> Self {
        Self {
            key,
            link,
            banned: false,
            was_up: link == Link::Up,
            proven: false,
            passed_over_until: None,
            load: Load::default(),
            owing: 0,
            here: Vec::new(),
            fetching: Vec::new(),
            progress: 0,
            progress_at: now,
            have_asked: None,
            have_last: None,
            have_known: None,
            heard_at: now,
            up_since: now,
        }
    }

    /// Whether it counts in the ranks.
    pub fn counts(&self, now: Instant) -> bool {
        self.link != Link::Down && !self.banned && self.passed_over_until.is_none_or(|until| until <= now)
    }

    pub fn may_be_asked(&self, now: Instant) -> bool {
        self.link == Link::Up && self.counts(now)
    }

    pub fn has_room(&self, bytes: u64) -> bool {
        if !self.proven {
            return self.owing == 0;
        }
        self.load.requests < PEER_REQUESTS_MIN
            || (self.load.requests < PEER_REQUESTS_MAX && self.load.bytes + bytes <= PEER_BYTES_MAX)
    }

    pub fn has(&self, index: u32) -> bool {
        self.here.get(index as usize).copied().unwrap_or(false)
    }

    pub fn fetches(&self, index: u32) -> bool {
        self.fetching.get(index as usize).copied().unwrap_or(false)
    }

    /// Forgets what a connection that is gone would have answered.
    pub fn disconnect(&mut self) {
        self.link = Link::Down;
        self.owing = 0;
        self.have_asked = None;
        self.have_known = None;
        self.here.clear();
        self.fetching.clear();
    }
}

/// The origin as seen by one picker.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub link: Link,
    pub down_since: Option<Instant>,
    pub up_since: Option<Instant>,
    pub window: OriginWindow,
    pub load: Load,
    /// How long a chunk took from the question to its end, averaged over some.
    pub took: Option<Duration>,
}

impl Origin {
    pub fn new(window: OriginWindow) -> Self {
        Self { link: Link::Unknown, down_since: None, up_since: None, window, load: Load::default(), took: None }
    }

    /// A chunk came `took` after it was asked for: one of four counts.
    pub fn note_took(&mut self, took: Duration) {
        self.took = Some(self.took.map_or(took, |average| (average * 3 + took) / 4));
    }

    pub fn has_room(&self, bytes: u64) -> bool {
        self.load.requests < self.window.requests_min || self.load.bytes + bytes <= self.window.bytes
    }
}

impl Picker {
    /// The other members of the site and their links. Those that stay keep what is known of them; a ban stays too.
    pub fn set_members(&mut self, members: &[(MemberKey, Link)], now: Instant) {
        let gone: Vec<MemberKey> = self
            .peers
            .iter()
            .map(|peer| peer.key)
            .filter(|key| !members.iter().any(|(member, _)| member == key))
            .collect();
        for key in gone {
            self.on_link(super::Source::Peer(key), Link::Down, now);
            self.peers.retain(|peer| peer.key != key);
        }
        let me = self.me;
        for (key, link) in members.iter().filter(|(key, _)| *key != me) {
            if self.peer_mut(key).is_none() {
                self.peers.push(Peer::new(*key, *link, now));
            } else {
                self.on_link(super::Source::Peer(*key), *link, now);
            }
        }
        self.peers.sort_by_key(|peer| peer.key);
        self.ranks.clear();
    }

    pub(super) fn peer_mut(&mut self, key: &MemberKey) -> Option<&mut Peer> {
        self.peers.iter_mut().find(|peer| peer.key == *key)
    }
}
