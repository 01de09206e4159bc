//! A site of pickers and the origin's claims on simulated links: one WAN link, shared; one LAN uplink a node.
//!
//! The deciding code is the real one; links, disks, clocks and the shell around the pickers are simulated. Everything
//! follows from the seed: equal worlds write equal logs. While it runs, the world checks what must always hold and keeps
//! each breach in [`World::violations`].

use sluice_exchange::claims::{Claims, ConnectionId, Judgement};
use sluice_exchange::have::Have;
use sluice_exchange::picker::{
    Action, ChunkSpec, ELSEWHERE_PATIENCE, Link, OriginWindow, PEER_REQUESTS_MAX, Picker, RACED_MAX, Source,
};
use sluice_model::{ArtifactId, ChunkId, MemberKey};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

const SLICE: u64 = 64 << 10;
const ARTIFACT: ArtifactId = ArtifactId::from_bytes([1; 32]);

/// A bug that is put in on purpose: each must be found by a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// None.
    Nothing,
    /// The shell does not compare chunks with the manifest.
    Unverified,
    /// The shell never tells the picker that bytes were wrong.
    NeverBans,
    /// The origin keeps no claims.
    NoClaims,
    /// A node that restarts forgets what it had.
    Forgets,
    /// The windows at the origin are endless.
    NoWindow,
    /// Timers never fire.
    NoTimers,
}

impl Planted {
    /// Every bug.
    pub const ALL: [Self; 6] =
        [Self::Unverified, Self::NeverBans, Self::NoClaims, Self::Forgets, Self::NoWindow, Self::NoTimers];
}

/// splitmix64.
#[derive(Clone)]
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Event {
    /// A node's own next due instant.
    Wake(usize),
    /// The WAN link has sent one slice.
    WanSlice,
    /// A slice that did not end a chunk arrived from the origin.
    OriginSlice {
        to: usize,
        life: u32,
        connection: u64,
    },
    OriginChunk {
        to: usize,
        life: u32,
        connection: u64,
        index: u32,
    },
    Elsewhere {
        to: usize,
        life: u32,
        connection: u64,
        index: u32,
        member: usize,
    },
    AskChunk {
        from: usize,
        to: usize,
        lives: (u32, u32),
        index: u32,
    },
    TakesBack {
        from: usize,
        to: usize,
        lives: (u32, u32),
        index: u32,
    },
    TookBack {
        from: usize,
        to: usize,
        lives: (u32, u32),
    },
    AskHave {
        from: usize,
        to: usize,
        lives: (u32, u32),
    },
    SaysHave {
        from: usize,
        to: usize,
        lives: (u32, u32),
        number: usize,
    },
    Chunk {
        from: usize,
        to: usize,
        lives: (u32, u32),
        index: u32,
        good: bool,
    },
    LinkUp {
        at: usize,
        peer: usize,
        lives: (u32, u32),
    },
    Kill(usize),
    Restart(usize),
    Pause(usize),
    Resume(usize),
    Lie(usize),
    OriginDown,
    OriginUp,
}

pub struct Node {
    pub key: MemberKey,
    pub picker: Picker,
    pub alive: bool,
    pub paused: bool,
    pub lies: bool,
    pub wants: bool,
    life: u32,
    wake_at: Option<Instant>,
    /// Peers to tell when a chunk comes.
    waiting: BTreeMap<u32, BTreeSet<usize>>,
    uplink_free_at: Instant,
    progress: u64,
    held_back: Vec<Event>,
    pub completed_at: Option<Duration>,
    pub banned: Vec<usize>,
    pub bad_chunks: u32,
    /// Wrong chunks by who sent them.
    bad_from: BTreeMap<usize, u32>,
    /// What it has on its disk for good.
    durable: Vec<bool>,
}

/// A request at the origin.
#[derive(Clone, Copy)]
struct Sending {
    index: u32,
    left: u64,
    insists: bool,
}

pub struct World {
    pub nodes: Vec<Node>,
    pub chunks: Vec<ChunkSpec>,
    pub start: Instant,
    pub now: Instant,
    pub log: Vec<String>,
    /// Who asked the origin for each chunk.
    pub origin_asked: BTreeMap<u32, Vec<usize>>,
    /// Bytes that left the origin.
    pub origin_bytes: u64,
    /// Requests that each killed node had at the origin when it died.
    pub lost_in_flight: usize,
    /// What must never have been, as it was seen.
    pub violations: Vec<String>,
    /// Second transfers that the faults so far explain.
    pub excused: usize,
    planted: Planted,
    window: OriginWindow,
    /// What lies at the origin for a node never goes beyond its window and one chunk.
    chunk_bytes: u64,
    wan_bytes_per_sec: u64,
    lan_bytes_per_sec: u64,
    origin_up: bool,
    claims: Claims,
    /// Each node's connection to the origin, and the how many-th it is.
    connections: Vec<ConnectionId>,
    joined: Vec<u64>,
    /// Until when the others do not know where a node listens.
    unknown_until: Vec<Instant>,
    origin_queues: Vec<VecDeque<Sending>>,
    wan_busy: bool,
    next_queue: usize,
    /// What each node takes from the origin at most, and when it can take the next slice.
    takes: Vec<(u64, Instant)>,
    haves: Vec<Have>,
    queue: BinaryHeap<Reverse<(Instant, u64, Event)>>,
    number: u64,
    dice: Dice,
}

pub struct Shape {
    pub nodes: usize,
    pub chunks: usize,
    pub chunk_bytes: u32,
    pub wan_bytes_per_sec: u64,
    pub lan_bytes_per_sec: u64,
}

impl Shape {
    pub fn size(&self) -> u64 {
        self.chunks as u64 * u64::from(self.chunk_bytes)
    }

    pub fn window(&self) -> OriginWindow {
        let site = (self.wan_bytes_per_sec * 2).clamp(2 << 20, 8 << 20);
        OriginWindow { bytes: site / self.nodes as u64, requests_min: if self.nodes <= 4 { 2 } else { 1 } }
    }
}

impl World {
    #[expect(clippy::disallowed_methods, reason = "only differences to this instant are ever looked at")]
    pub fn new(seed: u64, shape: &Shape) -> Self {
        let start = Instant::now();
        let mut dice = Dice(seed);
        let chunks: Vec<ChunkSpec> = (0..shape.chunks)
            .map(|n| {
                let id = ChunkId::from_bytes(*blake3::hash(&[seed.to_be_bytes(), n.to_be_bytes()].concat()).as_bytes());
                ChunkSpec { id, length: shape.chunk_bytes }
            })
            .collect();
        let mut keys: Vec<MemberKey> = Vec::new();
        for n in 0..shape.nodes {
            let hash = blake3::hash(&[dice.roll().to_be_bytes(), n.to_be_bytes()].concat());
            keys.push(MemberKey::from_bytes(*hash.as_bytes()));
        }
        let nodes = keys.iter().map(|key| {
            let here = vec![false; chunks.len()];
            Node {
                key: *key,
                picker: Picker::new(*key, chunks.clone(), &here, shape.window(), start),
                alive: true,
                paused: false,
                lies: false,
                wants: true,
                life: 0,
                wake_at: None,
                waiting: BTreeMap::new(),
                uplink_free_at: start,
                progress: 0,
                held_back: Vec::new(),
                completed_at: None,
                banned: Vec::new(),
                bad_chunks: 0,
                bad_from: BTreeMap::new(),
                durable: vec![false; chunks.len()],
            }
        });
        let mut world = Self {
            nodes: nodes.collect(),
            chunks: chunks.clone(),
            start,
            now: start,
            log: Vec::new(),
            origin_asked: BTreeMap::new(),
            origin_bytes: 0,
            lost_in_flight: 0,
            violations: Vec::new(),
            excused: 0,
            planted: Planted::Nothing,
            window: shape.window(),
            chunk_bytes: shape.chunk_bytes.into(),
            wan_bytes_per_sec: shape.wan_bytes_per_sec,
            lan_bytes_per_sec: shape.lan_bytes_per_sec,
            origin_up: true,
            claims: Claims::default(),
            connections: Vec::new(),
            joined: vec![0; shape.nodes],
            unknown_until: vec![start; shape.nodes],
            origin_queues: vec![VecDeque::new(); shape.nodes],
            wan_busy: false,
            next_queue: 0,
            takes: vec![(u64::MAX, start); shape.nodes],
            haves: Vec::new(),
            queue: BinaryHeap::new(),
            number: 0,
            dice,
        };
        for (at, key) in keys.into_iter().enumerate() {
            let connection = world.claims.connected(key);
            world.connections.push(connection);
            world.connect(at);
        }
        world
    }

    /// Puts in a bug, before anything runs.
    pub fn plant(&mut self, bug: Planted) {
        self.planted = bug;
        if bug == Planted::NoWindow {
            let endless = OriginWindow { bytes: u64::MAX, requests_min: u32::MAX };
            self.nodes.iter_mut().for_each(|node| node.picker.set_origin_window(endless));
        }
    }

    pub fn kill(&mut self, node: usize, after: Duration) {
        self.push(self.start + after, Event::Kill(node));
    }

    pub fn restart(&mut self, node: usize, after: Duration) {
        self.push(self.start + after, Event::Restart(node));
    }

    pub fn pause(&mut self, node: usize, from: Duration, until: Duration) {
        self.push(self.start + from, Event::Pause(node));
        self.push(self.start + until, Event::Resume(node));
    }

    /// The others learn only after `until` where `node` listens; it knows them from the start.
    pub fn unknown(&mut self, node: usize, until: Duration) {
        if until >= ELSEWHERE_PATIENCE {
            self.excused += self.chunks.len();
        }
        self.unknown_until[node] = self.start + until;
        let (key, now) = (self.nodes[node].key, self.now);
        for at in (0..self.nodes.len()).filter(|at| *at != node) {
            self.nodes[at].picker.on_link(Source::Peer(key), Link::Down, now);
        }
    }

    /// `node` takes at most that from the origin.
    pub fn slow(&mut self, node: usize, bytes_per_sec: u64) {
        self.takes[node].0 = bytes_per_sec;
    }

    pub fn lie(&mut self, node: usize) {
        self.push(self.start, Event::Lie(node));
    }

    pub fn origin_down(&mut self, from: Duration, until: Duration) {
        self.push(self.start + from, Event::OriginDown);
        self.push(self.start + until, Event::OriginUp);
    }

    /// Runs until every node that lives and wants has everything, or `limit` is over. Returns the time it took.
    pub fn run(&mut self, limit: Duration) -> Option<Duration> {
        for at in 0..self.nodes.len() {
            if self.nodes[at].wants {
                self.nodes[at].picker.want_all();
            }
            self.push(self.now, Event::Wake(at));
        }
        while let Some(Reverse((at, _, event))) = self.queue.pop() {
            if at > self.start + limit {
                return None;
            }
            self.now = self.now.max(at);
            self.handle(event);
            let open = |node: &Node| node.alive && node.wants && !node.paused && node.completed_at.is_none();
            let faults_ahead = self.queue.iter().any(|Reverse((_, _, event))| matches!(event, Event::Restart(_)));
            if !faults_ahead && !self.nodes.iter().any(open) {
                return Some(self.now - self.start);
            }
        }
        None
    }

    /// Requests for a chunk at the origin beyond the first.
    pub fn duplicates(&self) -> usize {
        self.origin_asked.values().map(|by| by.len() - 1).sum()
    }

    fn push(&mut self, at: Instant, event: Event) {
        self.number += 1;
        self.queue.push(Reverse((at, self.number, event)));
    }

    fn latency(&mut self) -> Duration {
        Duration::from_micros(200 + self.dice.below(800))
    }

    fn lives(&self, from: usize, to: usize) -> (u32, u32) {
        (self.nodes[from].life, self.nodes[to].life)
    }

    /// Connects `at` and every living node.
    fn connect(&mut self, at: usize) {
        let members: Vec<(MemberKey, Link)> = self.nodes.iter().map(|node| (node.key, Link::Unknown)).collect();
        let now = self.now;
        self.nodes[at].picker.set_members(&members, now);
        // Bans are kept on disk.
        for banned in self.nodes[at].banned.clone() {
            let key = self.nodes[banned].key;
            self.nodes[at].picker.ban(&key, now);
        }
        let origin = if self.origin_up { Link::Up } else { Link::Down };
        self.nodes[at].picker.on_link(Source::Origin, origin, now);
        for peer in (0..self.nodes.len()).filter(|peer| *peer != at) {
            if !self.nodes[peer].alive {
                let key = self.nodes[peer].key;
                self.nodes[at].picker.on_link(Source::Peer(key), Link::Down, now);
                continue;
            }
            let when = self.now + self.latency() * 5;
            let lives = self.lives(at, peer);
            self.push(when, Event::LinkUp { at, peer, lives });
            self.push(when, Event::LinkUp { at: peer, peer: at, lives: (lives.1, lives.0) });
        }
    }

    fn handle(&mut self, event: Event) {
        let target = match event {
            Event::Wake(at) | Event::OriginSlice { to: at, .. } | Event::OriginChunk { to: at, .. } => Some(at),
            Event::Elsewhere { to, .. } => Some(to),
            Event::AskChunk { to, .. } | Event::AskHave { to, .. } | Event::TakesBack { to, .. } => Some(to),
            Event::TookBack { to, .. } => Some(to),
            Event::SaysHave { to, .. } | Event::Chunk { to, .. } | Event::LinkUp { at: to, .. } => Some(to),
            _ => None,
        };
        if let Some(at) = target
            && self.nodes[at].paused
        {
            self.nodes[at].held_back.push(event);
            return;
        }
        if !matches!(event, Event::Wake(_) | Event::WanSlice | Event::OriginSlice { .. }) {
            let line = format!("{:?} {event:?}", self.now - self.start);
            self.log.push(line);
        }
        match event {
            Event::Wake(_) if self.planted == Planted::NoTimers && self.now > self.start => {}
            Event::Wake(at) => {
                if self.nodes[at].wake_at.is_none_or(|wake| wake <= self.now) {
                    self.nodes[at].wake_at = None;
                    self.advance(at);
                }
            }
            Event::WanSlice => self.wan_slice(),
            Event::OriginSlice { to, life, connection } => {
                if self.is_life(to, life) && self.joined[to] == connection {
                    let now = self.now;
                    self.nodes[to].progress += SLICE;
                    self.nodes[to].picker.on_heard(Source::Origin, now);
                }
            }
            Event::OriginChunk { to, life, connection, index } => {
                if self.is_life(to, life) && self.joined[to] == connection {
                    self.nodes[to].progress += SLICE;
                    self.receive(to, Source::Origin, index);
                }
            }
            Event::Elsewhere { to, life, connection, index, member } => {
                if self.is_life(to, life) && self.joined[to] == connection {
                    let (key, now) = (self.nodes[member].key, self.now);
                    self.nodes[to].picker.on_elsewhere(index, key, now);
                    self.advance(to);
                }
            }
            Event::AskChunk { from, to, lives, index } => self.asked_chunk(from, to, lives, index),
            Event::TakesBack { from, to, lives, index } => self.takes_back(from, to, lives, index),
            Event::TookBack { from, to, lives } => {
                if lives == self.lives(from, to) {
                    let (source, now) = (Source::Peer(self.nodes[from].key), self.now);
                    self.nodes[to].picker.on_taken_back(source, now);
                    self.advance(to);
                }
            }
            Event::AskHave { from, to, lives } => self.asked_have(from, to, lives),
            Event::SaysHave { from, to, lives, number } => {
                if lives == self.lives(from, to) {
                    let (have, key, now) = (self.haves[number].clone(), self.nodes[from].key, self.now);
                    self.nodes[to].picker.on_have(key, have, now);
                    self.advance(to);
                }
            }
            Event::Chunk { from, to, lives, index, good } => self.got_chunk(from, to, lives, index, good),
            Event::LinkUp { at, peer, lives } if self.now < self.unknown_until[peer] => {
                self.push(self.unknown_until[peer], Event::LinkUp { at, peer, lives });
            }
            Event::LinkUp { at, peer, lives } => {
                if lives == self.lives(at, peer) && self.nodes[at].alive && self.nodes[peer].alive {
                    let (key, now) = (self.nodes[peer].key, self.now);
                    self.nodes[at].picker.on_link(Source::Peer(key), Link::Up, now);
                    self.advance(at);
                }
            }
            Event::Kill(node) => self.killed(node),
            Event::Restart(node) => self.restarted(node),
            Event::Pause(node) => {
                self.excused += self.only_at(node);
                self.nodes[node].paused = true;
            }
            Event::Resume(node) => self.resumed(node),
            Event::Lie(node) => {
                self.nodes[node].lies = true;
                self.excused += self.chunks.len();
            }
            Event::OriginDown => self.origin_link(false),
            Event::OriginUp => self.origin_link(true),
        }
    }

    fn is_life(&self, node: usize, life: u32) -> bool {
        self.nodes[node].alive && self.nodes[node].life == life
    }

    fn advance(&mut self, at: usize) {
        if !self.nodes[at].alive {
            return;
        }
        let mut actions = Vec::new();
        self.nodes[at].picker.advance(self.now, &mut actions);
        for action in actions {
            self.log.push(format!("{:?} {at} {action:?}", self.now - self.start));
            self.perform(at, action);
        }
        if let Some(due) = self.nodes[at].picker.next_due() {
            let due = due.max(self.now);
            if self.nodes[at].wake_at != Some(due) {
                self.nodes[at].wake_at = Some(due);
                self.push(due, Event::Wake(at));
            }
        }
    }

    fn perform(&mut self, at: usize, action: Action) {
        match action {
            Action::Request { from: Source::Origin, index, insists } => {
                let left = self.chunks[index as usize].length.into();
                self.check_not_durable(at, index);
                self.origin_queues[at].push_back(Sending { index, left, insists });
                self.check_window(at);
                self.wan_start();
            }
            Action::Request { from: Source::Peer(key), index, .. } => {
                self.check_not_durable(at, index);
                let to = self.node_of(&key);
                let when = self.now + self.latency();
                self.push(when, Event::AskChunk { from: at, to, lives: self.lives(at, to), index });
            }
            Action::Cancel { from: Source::Peer(key), index } => {
                let to = self.node_of(&key);
                let when = self.now + self.latency();
                self.push(when, Event::TakesBack { from: at, to, lives: self.lives(at, to), index });
            }
            Action::Cancel { from: Source::Origin, index } => {
                // A frame that has begun is sent to its end.
                let whole = u64::from(self.chunks[index as usize].length);
                self.origin_queues[at].retain(|sending| sending.index != index || sending.left < whole);
            }
            Action::AskHave { peer } => {
                let to = self.node_of(&peer);
                let when = self.now + self.latency();
                self.push(when, Event::AskHave { from: at, to, lives: self.lives(at, to) });
            }
            Action::Reset { source: Source::Peer(key) } => {
                let peer = self.node_of(&key);
                if !self.nodes[peer].paused && self.nodes[peer].alive {
                    let when = self.now + self.latency();
                    self.push(when, Event::LinkUp { at, peer, lives: self.lives(at, peer) });
                }
            }
            Action::Reset { source: Source::Origin } => {
                self.leave_origin(at);
                self.join_origin(at);
            }
            Action::Ban { peer, .. } => {
                let peer = self.node_of(&peer);
                if !self.nodes[peer].lies {
                    self.breach(format!("node {at} banned node {peer}, which is honest"));
                }
                self.nodes[at].banned.push(peer);
            }
            Action::Done => self.nodes[at].completed_at = Some(self.now - self.start),
            Action::Unobtainable { .. } => {}
        }
    }

    fn node_of(&self, key: &MemberKey) -> usize {
        self.nodes.iter().position(|node| node.key == *key).expect("a member")
    }

    /// Whether the origin sends what is first in line for `at`; else it says who has it.
    fn may_send(&mut self, at: usize, sending: Sending) -> bool {
        let Sending { index, left, insists } = sending;
        if left < self.chunks[index as usize].length.into() {
            return true;
        }
        let count = self.chunks.len() as u32;
        let insists = insists || self.planted == Planted::NoClaims;
        match self.claims.judge(self.connections[at], (&ARTIFACT, count), index, insists) {
            Judgement::Send => {
                self.origin_asked.entry(index).or_default().push(at);
                true
            }
            Judgement::Elsewhere(key) => {
                self.origin_queues[at].pop_front();
                let (member, life, connection) = (self.node_of(&key), self.nodes[at].life, self.joined[at]);
                self.push(
                    self.now + Duration::from_millis(10),
                    Event::Elsewhere { to: at, life, connection, index, member },
                );
                false
            }
        }
    }

    fn leave_origin(&mut self, at: usize) {
        self.origin_queues[at].clear();
        self.claims.disconnected(self.connections[at]);
    }

    fn join_origin(&mut self, at: usize) {
        self.connections[at] = self.claims.connected(self.nodes[at].key);
        self.joined[at] += 1;
    }

    fn wan_start(&mut self) {
        if !self.wan_busy && self.origin_up && self.origin_queues.iter().any(|queue| !queue.is_empty()) {
            self.wan_busy = true;
            let took = Duration::from_secs_f64(SLICE as f64 / self.wan_bytes_per_sec as f64);
            let open = (0..self.nodes.len()).filter(|at| !self.origin_queues[*at].is_empty());
            let free = open.map(|at| self.takes[at].1).min().expect("one is not empty");
            self.push(self.now.max(free) + took, Event::WanSlice);
        }
    }

    /// One slice of the next node's oldest request went out.
    fn wan_slice(&mut self) {
        self.wan_busy = false;
        let count = self.origin_queues.len();
        let next = loop {
            let Some(at) = (0..count)
                .map(|n| (self.next_queue + n) % count)
                .find(|at| !self.origin_queues[*at].is_empty() && self.takes[*at].1 <= self.now)
            else {
                break None;
            };
            let first = *self.origin_queues[at].front().expect("not empty");
            if self.may_send(at, first) {
                break Some((at, first));
            }
        };
        if let Some((to, Sending { index, left, .. })) = next {
            self.next_queue = to + 1;
            self.takes[to].1 = self.now + Duration::from_secs_f64(SLICE as f64 / self.takes[to].0 as f64);
            let sent = left.min(SLICE);
            self.origin_bytes += sent;
            let (life, connection) = (self.nodes[to].life, self.joined[to]);
            let when = self.now + Duration::from_millis(10);
            if left == sent {
                self.origin_queues[to].pop_front();
                self.push(when, Event::OriginChunk { to, life, connection, index });
            } else {
                self.origin_queues[to][0].left -= sent;
                self.push(when, Event::OriginSlice { to, life, connection });
            }
        }
        self.wan_start();
    }

    fn asked_chunk(&mut self, from: usize, to: usize, lives: (u32, u32), index: u32) {
        if lives != self.lives(from, to) || !self.nodes[to].alive {
            return;
        }
        if self.nodes[to].picker.here()[index as usize] {
            self.send(to, from, index);
            return;
        }
        self.nodes[to].waiting.entry(index).or_default().insert(from);
        self.nodes[to].picker.want(index, false);
        self.nodes[to].picker.want_led();
        self.advance(to);
    }

    fn takes_back(&mut self, from: usize, to: usize, lives: (u32, u32), index: u32) {
        if lives != self.lives(from, to) || !self.nodes[to].alive {
            return;
        }
        let Some(waiting) = self.nodes[to].waiting.get_mut(&index) else { return };
        if !waiting.remove(&from) {
            return;
        }
        if waiting.is_empty() {
            self.nodes[to].waiting.remove(&index);
            self.nodes[to].picker.unwant(index);
        }
        let when = self.now + self.latency();
        self.push(when, Event::TookBack { from: to, to: from, lives: self.lives(to, from) });
    }

    fn asked_have(&mut self, from: usize, to: usize, lives: (u32, u32)) {
        if lives != self.lives(from, to) || !self.nodes[to].alive {
            return;
        }
        let node = &self.nodes[to];
        let here = node.picker.here().to_vec();
        let have = Have { progress: node.progress, here, fetching: node.picker.fetching() };
        self.haves.push(have);
        let when = self.now + self.latency();
        let number = self.haves.len() - 1;
        self.push(when, Event::SaysHave { from: to, to: from, lives: self.lives(to, from), number });
    }

    fn send(&mut self, from: usize, to: usize, index: u32) {
        let took = f64::from(self.chunks[index as usize].length) / self.lan_bytes_per_sec as f64;
        let node = &mut self.nodes[from];
        node.uplink_free_at = node.uplink_free_at.max(self.now) + Duration::from_secs_f64(took);
        let when = node.uplink_free_at;
        let good = !node.lies;
        let when = when + self.latency();
        self.push(when, Event::Chunk { from, to, lives: self.lives(from, to), index, good });
    }

    fn got_chunk(&mut self, from: usize, to: usize, lives: (u32, u32), index: u32, good: bool) {
        if lives != self.lives(from, to) || !self.nodes[to].alive {
            return;
        }
        let source = Source::Peer(self.nodes[from].key);
        if good {
            self.nodes[to].progress += 1;
            self.receive(to, source, index);
        } else {
            self.got_wrong(from, to, index);
            self.advance(to);
        }
    }

    fn got_wrong(&mut self, from: usize, to: usize, index: u32) {
        let (source, now) = (Source::Peer(self.nodes[from].key), self.now);
        self.nodes[to].bad_chunks += 1;
        let bad = self.nodes[to].bad_from.entry(from).or_default();
        *bad += 1;
        if *bad > 1 {
            self.breach(format!("node {to} took a second wrong chunk from node {from}"));
        }
        self.excused += 1;
        match self.planted {
            Planted::Unverified => {
                self.breach(format!("node {to} keeps wrong bytes as chunk {index}"));
                self.receive(to, source, index);
            }
            Planted::NeverBans => self.nodes[to].picker.on_not_here(source, index, now),
            _ => self.nodes[to].picker.on_wrong_bytes(source, index, now),
        }
    }

    fn breach(&mut self, what: String) {
        self.violations.push(format!("{:?}: {what}", self.now - self.start));
    }

    /// What a node has verified and kept it never asks for again.
    fn check_not_durable(&mut self, at: usize, index: u32) {
        if self.nodes[at].durable[index as usize] {
            self.breach(format!("node {at} asked for chunk {index}, which is on its disk"));
        }
    }

    /// What lies at the origin for one node is within its window, and requests in flight are bounded.
    fn check_window(&mut self, at: usize) {
        let queued: u64 = self.origin_queues[at].iter().map(|sending| sending.left).sum();
        let at_least = u64::from(self.window.requests_min) * self.chunk_bytes;
        if queued > self.window.bytes.max(at_least) + self.chunk_bytes {
            self.breach(format!("node {at} has {queued} bytes in flight at the origin"));
        }
        let in_flight_max = (PEER_REQUESTS_MAX as usize + 1) * self.nodes.len() + queued as usize / 1_024;
        if self.nodes[at].picker.in_flight_count() > in_flight_max {
            self.breach(format!("node {at} has {} requests in flight", self.nodes[at].picker.in_flight_count()));
        }
    }

    /// Chunks that only `node` has or fetches: when it is lost to the others, they cross the link again.
    fn only_at(&self, node: usize) -> usize {
        let others = |index: usize| {
            let has = |other: &&Node| other.alive && !other.paused && !other.lies && other.picker.here()[index];
            self.nodes.iter().enumerate().any(|(at, other)| at != node && has(&other))
        };
        let fetching = self.nodes[node].picker.fetching();
        let here = self.nodes[node].picker.here();
        (0..self.chunks.len()).filter(|index| (here[*index] || fetching[*index]) && !others(*index)).count()
    }

    /// How many second transfers are allowed: what the faults explain, and one race a node and fifty chunks.
    pub fn duplicates_allowed(&self) -> usize {
        self.excused + self.nodes.len() * (RACED_MAX as usize).max(self.chunks.len() / 50)
    }

    fn receive(&mut self, at: usize, from: Source, index: u32) {
        let now = self.now;
        self.nodes[at].picker.on_chunk(from, index, now);
        self.nodes[at].durable[index as usize] = true;
        for waiting in self.nodes[at].waiting.remove(&index).unwrap_or_default() {
            self.send(at, waiting, index);
        }
        self.advance(at);
    }

    fn killed(&mut self, node: usize) {
        self.excused += self.only_at(node);
        self.lost_in_flight += self.nodes[node].picker.fetching().iter().filter(|bit| **bit).count();
        self.nodes[node].alive = false;
        self.nodes[node].life += 1;
        for other in &mut self.nodes {
            for waiting in other.waiting.values_mut() {
                waiting.remove(&node);
            }
        }
        self.nodes[node].waiting.clear();
        self.leave_origin(node);
        let (key, now) = (self.nodes[node].key, self.now);
        for at in (0..self.nodes.len()).filter(|at| *at != node) {
            self.nodes[at].picker.on_link(Source::Peer(key), Link::Down, now);
            if !self.nodes[at].paused {
                self.advance(at);
            }
        }
    }

    /// Comes back with what its disk had, less the last chunks that were not committed.
    fn restarted(&mut self, node: usize) {
        let mut here = self.nodes[node].picker.here().to_vec();
        if let Some(last) = here.iter().rposition(|here| *here) {
            here[last] = false;
            self.nodes[node].durable[last] = false;
            self.excused += 1;
        }
        if self.planted == Planted::Forgets {
            here.fill(false);
        }
        let (key, window, now) = (self.nodes[node].key, self.window, self.now);
        let mut picker = Picker::new(key, self.chunks.clone(), &here, window, now);
        if self.nodes[node].wants {
            picker.want_all();
        }
        self.nodes[node].picker = picker;
        self.nodes[node].alive = true;
        self.nodes[node].completed_at = None;
        self.join_origin(node);
        self.connect(node);
        self.advance(node);
    }

    fn resumed(&mut self, node: usize) {
        self.nodes[node].paused = false;
        for event in std::mem::take(&mut self.nodes[node].held_back) {
            self.push(self.now, event);
        }
        for at in (0..self.nodes.len()).filter(|at| *at != node) {
            let when = self.now + self.latency();
            self.push(when, Event::LinkUp { at, peer: node, lives: self.lives(at, node) });
        }
        self.push(self.now, Event::Wake(node));
    }

    fn origin_link(&mut self, up: bool) {
        self.origin_up = up;
        let now = self.now;
        for at in 0..self.nodes.len() {
            if self.nodes[at].alive {
                self.excused += self.origin_queues[at].len() + 1;
                self.leave_origin(at);
                if up {
                    self.join_origin(at);
                }
            }
            let link = if up { Link::Up } else { Link::Down };
            self.nodes[at].picker.on_link(Source::Origin, link, now);
            if !self.nodes[at].paused {
                self.advance(at);
            }
        }
    }
}
