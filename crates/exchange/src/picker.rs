//! Chooses, for one artifact, which chunk to ask whom for, and decides when to stop waiting.
//!
//! Pure core: no socket, no clock, no entropy of its own. The caller reports what happened and when; the picker
//! answers with what to do next. Equal inputs give equal outputs, so a failing seed replays.
//!
//! The rule: a chunk that a peer has is taken from that peer; a chunk that a peer is fetching across the WAN is asked
//! of that peer, who answers when it has it; any other chunk is asked of its leader, the first in rank
//! ([`crate::rank`]) among the members that are up. Only the leader asks the origin. A leader that is gone, silent,
//! late or refusing is passed over, and the next in rank leads. Where members disagree on who leads, the origin sends the
//! chunk to the first that asks and names it to the others ([`crate::claims`]), which then take it from there.
//!
//! A slow leader holds nobody back: a member that has asked for all that it leads takes over what others lead and have
//! not begun, and the very last chunks are raced. Both rely on the origin for never sending a chunk twice unasked.
//!
//! Invariants
//! - A chunk is in flight at one source at a time; it is asked of one source again only after the other was given up.
//! - A member asks the origin only after each member that it believes to be up said (or kept silent for
//!   [`SETTLE_GRACE`]) what it has since the last member was lost: for what it leads, then for what nobody has begun.
//! - It insists on a chunk that the origin sent to another member only when that one is lost or tried in vain, or in the
//!   endgame, then for at most [`RACED_MAX`] chunks of an artifact or a fiftieth of them.
//! - A request goes up in rank, or to a member that has or fetches the chunk: two members never wait for each other,
//!   unless one cannot reach the origin; that wait ends after [`LATE_AFTER`].
//! - A peer that sent wrong bytes is never asked again; a chunk leaves `missing` only after its bytes matched.
//! - A peer has one request at a time until a chunk from it was right: one that lies wastes one chunk.
//! - In flight: at each peer at most [`PEER_REQUESTS_MAX`] requests and about [`PEER_BYTES_MAX`]; at the origin the
//!   window that the caller gives.

mod choose;
mod due;
mod events;
mod peers;
mod steal;
#[cfg(test)]
mod tests;

use peers::{Load, Origin, Peer};
use sluice_model::{ChunkId, MemberKey};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How often a peer is asked what it has while chunks are missing: a stale answer costs at most that much relaying.
pub const HAVE_POLL: Duration = Duration::from_secs(1);
/// How long a peer's answer to what it has holds back requests to the origin. A LAN answers in milliseconds, a machine
/// that is busy with other things in some hundred.
pub const SETTLE_GRACE: Duration = Duration::from_secs(1);
/// Silence of a peer that owes an answer after which it is passed over. Two of them in a row (leader and second both
/// stopped) leave half of the 10 s in which an endpoint must be served.
pub const SILENT_AFTER: Duration = Duration::from_millis(2_500);
/// How long a peer that answers may show no progress on a chunk before the next in rank is asked: more than twice
/// [`SILENT_AFTER`], so that a peer that itself waits for a silent leader is not given up.
pub const LATE_AFTER: Duration = Duration::from_secs(6);
/// How long a chunk may wait at a peer that makes progress. A 4 MiB chunk at a twentieth of 20 Mbit/s takes 34 s.
pub const LATE_MAX: Duration = Duration::from_secs(90);
/// Time between two looks, while something is wanted, after which this member itself was stopped: nobody is late then.
pub const ASLEEP_AFTER: Duration = Duration::from_secs(2);
/// How long a peer is not asked again for a chunk that it did not have or was late with.
pub const AVOID_FOR: Duration = Duration::from_secs(15);
/// How long a peer that refuses the artifact is passed over: its metadata may be a second behind.
pub const REFUSED_FOR: Duration = Duration::from_secs(3);
/// Silence of the origin that owes chunks after which its connection is given up: slices of 16 KiB that twenty nodes
/// share at 20 kB/s are 16 s apart.
pub const ORIGIN_SILENT_AFTER: Duration = Duration::from_secs(20);
/// How long the origin must be out of reach before a leader asks the next in rank instead.
pub const ORIGIN_GONE_AFTER: Duration = Duration::from_secs(5);
/// First and longest pause before the origin is asked again for what it failed to give.
pub const ORIGIN_RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));
/// Failures of the origin to give one chunk after which the chunk is reported as unobtainable (and still retried).
pub const ORIGIN_FAILURES_MAX: u32 = 3;
/// Pause before the origin is asked again for a chunk that it sent to a member which cannot be asked yet.
pub const ELSEWHERE_RETRY: Duration = Duration::from_millis(300);
/// How long a member that has a chunk, says the origin, may be out of reach before the chunk is fetched again: a new node
/// is in everybody's roster after two seconds.
pub const ELSEWHERE_PATIENCE: Duration = Duration::from_secs(3);
/// Requests in flight at one peer: 16 of 256 KiB fill [`PEER_BYTES_MAX`].
pub const PEER_REQUESTS_MAX: u32 = 16;
/// Bytes in flight at one peer: 4 MiB fill a gigabit LAN at 30 ms; at least two requests whatever their size.
pub const PEER_BYTES_MAX: u64 = 4 << 20;
/// Requests in flight at one peer whatever their size.
const PEER_REQUESTS_MIN: u32 = 2;
/// Chunks of one artifact that one member may race in the endgame, when a fiftieth of it is fewer.
pub const RACED_MAX: u32 = 1;
/// How long the last chunks are waited for at least before they are raced.
pub const RACE_AFTER_MIN: Duration = Duration::from_millis(500);
/// Missing chunks looked at beyond the first, so that a slow leader bounds how far the others run ahead.
const LOOK_AHEAD_MAX: usize = 512;

/// Where bytes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The repo server, across the WAN.
    Origin,
    /// Another node of the site.
    Peer(MemberKey),
}

/// Whether a connection to a source exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Being made for the first time: the member counts in the ranks, and is not asked yet.
    Unknown,
    /// Connected.
    Up,
    /// It could not be made, or broke.
    Down,
}

/// One row of the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkSpec {
    /// BLAKE3 of the chunk: decides its leader.
    pub id: ChunkId,
    /// Its length in bytes.
    pub length: u32,
}

/// How much this member may have in flight at the origin for this artifact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OriginWindow {
    /// Bytes; its share of the site's.
    pub bytes: u64,
    /// Requests whatever their size: two keep a link busy that few members share.
    pub requests_min: u32,
}

impl OriginWindow {
    /// Nothing is asked of the origin.
    pub const CLOSED: Self = Self { bytes: 0, requests_min: 0 };
}

/// What the caller must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Ask `from` for chunk `index`, with a window of at least [`LATE_MAX`] at a peer.
    Request {
        /// Whom.
        from: Source,
        /// Which chunk.
        index: u32,
        /// Of the origin: send it even if another member of the site was sent it.
        insists: bool,
    },
    /// Take back the request for chunk `index` at `from`: it comes from elsewhere. Its answer no longer matters.
    Cancel {
        /// Whose.
        from: Source,
        /// Which chunk.
        index: u32,
    },
    /// Ask `peer` what it has of this artifact.
    AskHave {
        /// Whom.
        peer: MemberKey,
    },
    /// Close the connection to `source`, which fell silent; report its link when it is made again.
    Reset {
        /// Whose.
        source: Source,
    },
    /// Never deal with `peer` again: what it sent as chunk `index` was wrong.
    Ban {
        /// Whom.
        peer: MemberKey,
        /// The chunk that convicts it.
        index: u32,
    },
    /// The origin failed [`ORIGIN_FAILURES_MAX`] times to give a chunk that nobody else has. It is still retried.
    Unobtainable {
        /// Which chunk.
        index: u32,
    },
    /// Every chunk is here. Said once.
    Done,
}

/// A chunk asked for and not answered yet.
#[derive(Debug, Clone, Copy)]
struct Flight {
    from: Source,
    asked: Instant,
}

/// What went wrong with one chunk so far; absent for nearly all.
#[derive(Debug, Clone, Default)]
struct Notes {
    /// Peers not to ask for it.
    avoid: Vec<Avoided>,
    /// Haves asked before this are too old to send this chunk's leader to the origin.
    settle_from: Option<Instant>,
    /// Whom the origin named for it, and when first.
    elsewhere: Option<(MemberKey, Instant)>,
    origin_failures: u32,
    origin_retry_at: Option<Instant>,
}

/// A peer that is not asked for a chunk for a while.
#[derive(Debug, Clone, Copy)]
struct Avoided {
    peer: MemberKey,
    since: Instant,
    until: Instant,
    /// It was late, whatever it said; else it said no, and its next word counts.
    was_late: bool,
}

/// Picks for one artifact. See the module.
#[derive(Debug)]
pub struct Picker {
    me: MemberKey,
    chunks: Vec<ChunkSpec>,
    here: Vec<bool>,
    missing: u32,
    /// No chunk below is missing.
    first_missing: usize,
    wants_all: bool,
    wants_led: bool,
    /// Asked for by name: by a waiting response or by a peer.
    wanted: BTreeSet<u32>,
    /// Of these, what a response waits for now: first.
    urgent: BTreeSet<u32>,
    peers: Vec<Peer>,
    origin: Origin,
    flights: BTreeMap<u32, Flight>,
    notes: BTreeMap<u32, Notes>,
    /// Members by rank, computed when a chunk is first looked at: index into `peers`, `None` is this member.
    ranks: BTreeMap<u32, Vec<Option<u16>>>,
    /// Haves asked before this are too old: a member was lost then.
    settle_from: Instant,
    /// A member said what it has since requests were last redirected.
    haves_changed: bool,
    /// How many chunks were raced, and since when nothing but waiting is left.
    raced: u32,
    endgame_since: Option<Instant>,
    outbox: Vec<Action>,
    done_said: bool,
    /// The last `now` of `advance`.
    advanced_at: Instant,
}

impl Picker {
    /// A picker for an artifact of these chunks, of which `here` are there already. It wants nothing yet.
    pub fn new(me: MemberKey, chunks: Vec<ChunkSpec>, here: &[bool], window: OriginWindow, now: Instant) -> Self {
        debug_assert_eq!(chunks.len(), here.len(), "one bit a chunk");
        let missing = here.iter().filter(|here| !**here).count() as u32;
        Self {
            me,
            chunks,
            here: here.to_vec(),
            missing,
            first_missing: 0,
            wants_all: false,
            wants_led: false,
            wanted: BTreeSet::new(),
            urgent: BTreeSet::new(),
            peers: Vec::new(),
            origin: Origin::new(window),
            flights: BTreeMap::new(),
            notes: BTreeMap::new(),
            ranks: BTreeMap::new(),
            settle_from: now,
            haves_changed: false,
            raced: 0,
            endgame_since: None,
            outbox: Vec::new(),
            done_said: false,
            advanced_at: now,
        }
    }

    /// Wants every chunk.
    pub fn want_all(&mut self) {
        self.wants_all = true;
    }

    /// Wants the chunks that this member leads: a peer showed that the site wants the artifact.
    pub fn want_led(&mut self) {
        self.wants_led = true;
    }

    /// Wants one chunk; `urgent` before all others. Out of range or already here: nothing.
    pub fn want(&mut self, index: u32, urgent: bool) {
        if self.is_missing(index) {
            self.wanted.insert(index);
            if urgent {
                self.urgent.insert(index);
            }
        }
    }

    /// Nobody waits for chunk `index` any more.
    pub fn unwant(&mut self, index: u32) {
        self.wanted.remove(&index);
        self.urgent.remove(&index);
    }

    /// How much may be in flight at the origin from now on.
    pub fn set_origin_window(&mut self, window: OriginWindow) {
        self.origin.window = window;
    }

    /// Moves time forward to `now` and pushes the actions that became due.
    ///
    /// `now` may repeat but never decrease. O(peers + requests in flight + chunks looked at).
    pub fn advance(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.notice_own_sleep(now);
        self.advanced_at = now;
        self.give_up_the_silent(now);
        self.give_up_the_late(now);
        actions.append(&mut self.outbox);
        if self.missing == 0 {
            if !std::mem::replace(&mut self.done_said, true) {
                actions.push(Action::Done);
            }
            return;
        }
        self.done_said = false;
        if self.is_idle() {
            return;
        }
        self.poll_haves(now, actions);
        self.redirect(now, actions);
        self.request(now, actions);
        self.steal(now, actions);
        self.race(now, actions);
    }

    /// Whether every chunk is here.
    pub fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// How many chunks are not here.
    pub fn missing_count(&self) -> u32 {
        self.missing
    }

    /// Whether nothing that is wanted is missing. A member that only leads is idle when it has what it leads.
    pub fn is_idle(&self) -> bool {
        if self.missing == 0 {
            return true;
        }
        !self.wants_all && self.wanted.is_empty() && !self.wants_led
    }

    /// Whether everything is wanted.
    pub fn is_whole(&self) -> bool {
        self.wants_all
    }

    /// Chunk by chunk: verified and readable here.
    pub fn here(&self) -> &[bool] {
        &self.here
    }

    /// Chunk by chunk: in flight at the origin, for the answer to a peer's question.
    pub fn fetching(&self) -> Vec<bool> {
        let mut bits = vec![false; self.chunks.len()];
        for (index, flight) in &self.flights {
            if flight.from == Source::Origin {
                bits[*index as usize] = true;
            }
        }
        bits
    }

    /// Requests in flight.
    pub fn in_flight_count(&self) -> usize {
        self.flights.len()
    }

    fn is_missing(&self, index: u32) -> bool {
        self.here.get(index as usize).is_some_and(|here| !here)
    }

    fn length(&self, index: u32) -> u64 {
        self.chunks[index as usize].length.into()
    }

    fn load_of(&mut self, source: Source) -> Option<&mut Load> {
        match source {
            Source::Origin => Some(&mut self.origin.load),
            Source::Peer(key) => self.peer_mut(&key).map(|peer| &mut peer.load),
        }
    }

    fn start_flight(&mut self, from: Source, index: u32, now: Instant) {
        let length = self.length(index);
        if let Some(load) = self.load_of(from) {
            load.add(length, now);
        }
        if let Source::Peer(key) = from
            && let Some(peer) = self.peer_mut(&key)
        {
            peer.owing += 1;
        }
        self.flights.insert(index, Flight { from, asked: now });
    }

    /// A request at `from` was answered, or never sent.
    fn settle_one(&mut self, from: Source) {
        if let Source::Peer(key) = from
            && let Some(peer) = self.peer_mut(&key)
        {
            peer.owing = peer.owing.saturating_sub(1);
        }
    }

    /// Forgets that `index` is in flight; `false` when it was not, or not at `from`.
    fn end_flight(&mut self, from: Source, index: u32) -> bool {
        if self.flights.get(&index).is_none_or(|flight| flight.from != from) {
            return false;
        }
        self.flights.remove(&index);
        let length = self.length(index);
        if let Some(load) = self.load_of(from) {
            load.remove(length);
        }
        true
    }

    fn end_flights_at(&mut self, from: Source) -> Vec<u32> {
        let lost: Vec<u32> =
            self.flights.iter().filter(|(_, flight)| flight.from == from).map(|(index, _)| *index).collect();
        for index in &lost {
            self.end_flight(from, *index);
        }
        lost
    }
}
