//! A site of pickers on simulated links, for tests: one WAN link to the origin, shared and paced; one LAN uplink a node.
//!
//! Everything follows from the seed: equal worlds write equal logs.

use super::{Action, ChunkSpec, Link, OriginWindow, Picker, Source};
use crate::claims::{Claims, ConnectionId, Judgement};
use crate::have::Have;
use sluice_model::{ArtifactId, ChunkId, MemberKey};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

const SLICE: u64 = 64 << 10;
const ARTIFACT: ArtifactId = ArtifactId::from_bytes([1; 32]);

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
    },
    OriginChunk {
        to: usize,
        life: u32,
        index: u32,
    },
    Elsewhere {
        to: usize,
        life: u32,
        index: u32,
        member: usize,
    },
    AskChunk {
        from: usize,
        to: usize,
        lives: (u32, u32),
        index: u32,
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
    wan_bytes_per_sec: u64,
    lan_bytes_per_sec: u64,
    origin_up: bool,
    claims: Claims,
    /// Each node's connection to the origin.
    connections: Vec<ConnectionId>,
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
            wan_bytes_per_sec: shape.wan_bytes_per_sec,
            lan_bytes_per_sec: shape.lan_bytes_per_sec,
            origin_up: true,
            claims: Claims::default(),
            connections: Vec::new(),
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
        for at in 0..shape.nodes {
            let connection = world.claims.connected(keys[at]);
            world.connections.push(connection);
            world.connect(at);
        }
        world
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
            Event::AskChunk { to, .. } | Event::AskHave { to, .. } => Some(to),
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
            Event::Wake(at) => {
                if self.nodes[at].wake_at.is_none_or(|wake| wake <= self.now) {
                    self.nodes[at].wake_at = None;
                    self.advance(at);
                }
            }
            Event::WanSlice => self.wan_slice(),
            Event::OriginSlice { to, life } => {
                if self.is_life(to, life) {
                    let now = self.now;
                    self.nodes[to].progress += SLICE;
                    self.nodes[to].picker.on_heard(Source::Origin, now);
                }
            }
            Event::OriginChunk { to, life, index } => {
                if self.is_life(to, life) {
                    self.nodes[to].progress += SLICE;
                    self.receive(to, Source::Origin, index);
                }
            }
            Event::Elsewhere { to, life, index, member } => {
                if self.is_life(to, life) {
                    let (key, now) = (self.nodes[member].key, self.now);
                    self.nodes[to].picker.on_elsewhere(index, key, now);
                    self.advance(to);
                }
            }
            Event::AskChunk { from, to, lives, index } => self.asked_chunk(from, to, lives, index),
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
            Event::Pause(node) => self.nodes[node].paused = true,
            Event::Resume(node) => self.resumed(node),
            Event::Lie(node) => self.nodes[node].lies = true,
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
                self.origin_queues[at].push_back(Sending { index, left, insists });
                self.wan_start();
            }
            Action::Request { from: Source::Peer(key), index, .. } => {
                let to = self.node_of(&key);
                let when = self.now + self.latency();
                self.push(when, Event::AskChunk { from: at, to, lives: self.lives(at, to), index });
            }
            Action::Cancel { from: Source::Peer(key), index } => {
                let to = self.node_of(&key);
                if let Some(waiting) = self.nodes[to].waiting.get_mut(&index) {
                    waiting.remove(&at);
                    if waiting.is_empty() {
                        self.nodes[to].picker.unwant(index);
                    }
                }
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
        match self.claims.judge(self.connections[at], (&ARTIFACT, count), index, insists) {
            Judgement::Send => {
                self.origin_asked.entry(index).or_default().push(at);
                true
            }
            Judgement::Elsewhere(key) => {
                self.origin_queues[at].pop_front();
                let (member, life) = (self.node_of(&key), self.nodes[at].life);
                self.push(self.now + Duration::from_millis(10), Event::Elsewhere { to: at, life, index, member });
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
            let life = self.nodes[to].life;
            let when = self.now + Duration::from_millis(10);
            if left == sent {
                self.origin_queues[to].pop_front();
                self.push(when, Event::OriginChunk { to, life, index });
            } else {
                self.origin_queues[to][0].left -= sent;
                self.push(when, Event::OriginSlice { to, life });
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
        let (source, now) = (Source::Peer(self.nodes[from].key), self.now);
        if good {
            self.nodes[to].progress += 1;
            self.receive(to, source, index);
        } else {
            self.nodes[to].bad_chunks += 1;
            self.nodes[to].picker.on_wrong_bytes(source, index, now);
            self.advance(to);
        }
    }

    fn receive(&mut self, at: usize, from: Source, index: u32) {
        let now = self.now;
        self.nodes[at].picker.on_chunk(from, index, now);
        for waiting in self.nodes[at].waiting.remove(&index).unwrap_or_default() {
            self.send(at, waiting, index);
        }
        self.advance(at);
    }

    fn killed(&mut self, node: usize) {
        self.lost_in_flight += self.nodes[node].picker.fetching().iter().filter(|bit| **bit).count();
        self.nodes[node].alive = false;
        self.nodes[node].life += 1;
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
        }
        let (key, window, now) = (self.nodes[node].key, self.nodes[node].picker.origin.window, self.now);
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
        let key = self.nodes[node].key;
        for at in (0..self.nodes.len()).filter(|at| *at != node) {
            let when = self.now + self.latency();
            if self.nodes[at].picker.peers.iter().any(|peer| peer.key == key && peer.link == Link::Down) {
                self.push(when, Event::LinkUp { at, peer: node, lives: self.lives(at, node) });
            }
        }
        self.push(self.now, Event::Wake(node));
    }

    fn origin_link(&mut self, up: bool) {
        self.origin_up = up;
        let now = self.now;
        for at in 0..self.nodes.len() {
            if self.nodes[at].alive {
                self.leave_origin(at);
                if up {
                    self.join_origin(at);
                }
            }
            let link = if up { Link::Up } else { Link::Down };
            self.nodes[at].picker.on_link(Source::Origin, link, now);
            self.advance(at);
        }
    }
}
