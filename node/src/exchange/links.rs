//! The exchange loop's connections: one to each partner, made while something is wanted, made again when it breaks.
//!
//! Invariants
//! - At most one connection to a partner, and at most one attempt at a time; a failed attempt is repeated after a pause
//!   that doubles up to [`RETRY`]`.1`.
//! - A link that was reported up is reported down before anything new is tried.

use super::members::Partner;
use sluice_exchange::frame::{Ask, Request};
use sluice_exchange::picker::{Link, Source};
use sluice_model::MemberKey;
use sluice_transport::{
    Alpn, ClientLimits, ConnectError, DeviceStream, Dialer, ExchangeClient, ExchangeEvent, LinkKind, ReceiveCounters,
    Throttle,
};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// First and longest pause between attempts.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(8));
/// A peer on the LAN that does not finish a handshake in this time is down; what it leads waits meanwhile.
const LAN_DIAL_TIMEOUT: Duration = Duration::from_millis(2_500);
/// The same for the origin.
const WAN_DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes that came from one source since the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrived {
    pub source: Source,
    pub chunk_bytes: u64,
    pub metadata_bytes: u64,
}

/// What became of a task of this module.
#[derive(Debug)]
pub(crate) enum Ended {
    Dialled { source: Source, generation: u64, result: Box<Result<DeviceStream, ConnectError>> },
    NotDialled { source: Source, generation: u64 },
    Closed { source: Source, generation: u64 },
}

#[derive(Debug)]
enum State {
    /// No attempt was made, or the last connection ended in peace.
    Idle,
    Dialling,
    Up {
        client: ExchangeClient,
        cancel: CancellationToken,
    },
    Waiting {
        retry_at: Instant,
    },
}

#[derive(Debug)]
struct Entry {
    partner: Partner,
    state: State,
    generation: u64,
    failures: u32,
    /// It showed itself alive after the attempt under way began: a failure of that attempt says nothing.
    seen_since: bool,
    counters: Arc<ReceiveCounters>,
    seen: (u64, u64, u64),
}

/// All connections of the loop.
#[derive(Debug)]
pub(crate) struct Links {
    dialer: Dialer,
    wan: Throttle,
    events: mpsc::Sender<ExchangeEvent>,
    entries: BTreeMap<Source, Entry>,
    tasks: JoinSet<Ended>,
    cancel: CancellationToken,
    generation: u64,
    request_id: u32,
    read_by_the_gone: u64,
}

impl Links {
    pub fn new(dialer: Dialer, wan: Throttle, events: mpsc::Sender<ExchangeEvent>, cancel: CancellationToken) -> Self {
        Self {
            dialer,
            wan,
            events,
            entries: BTreeMap::new(),
            tasks: JoinSet::new(),
            cancel,
            generation: 0,
            request_id: 0,
            read_by_the_gone: 0,
        }
    }

    /// The partners of a new view. Those that left are cut off; those whose addresses changed are tried at once.
    pub fn set_partners(&mut self, partners: Vec<Partner>) {
        let gone = |source: &Source, entry: &Entry| {
            !partners.iter().any(|partner| partner.source == *source && partner.key == entry.partner.key)
        };
        let left: Vec<Source> =
            self.entries.iter().filter(|(source, entry)| gone(source, entry)).map(|(source, _)| *source).collect();
        for source in left {
            if let Some(entry) = self.entries.remove(&source) {
                self.read_by_the_gone += entry.counters.read_bytes();
                if let State::Up { cancel, .. } = entry.state {
                    cancel.cancel();
                }
            }
        }
        for partner in partners {
            match self.entries.get_mut(&partner.source) {
                Some(entry) => {
                    if entry.partner.addresses != partner.addresses && matches!(entry.state, State::Waiting { .. }) {
                        entry.state = State::Idle;
                    }
                    entry.partner = partner;
                }
                None => {
                    let entry = Entry {
                        state: State::Idle,
                        generation: 0,
                        failures: 0,
                        seen_since: false,
                        counters: Arc::default(),
                        seen: (0, 0, 0),
                        partner,
                    };
                    self.entries.insert(entry.partner.source, entry);
                }
            }
        }
    }

    /// The other members of the site and how they are linked.
    pub fn peers(&self) -> Vec<(MemberKey, Link)> {
        let peers = self.entries.iter().filter(|(source, _)| **source != Source::Origin);
        peers.map(|(_, entry)| (entry.partner.key, link_of(entry))).collect()
    }

    /// How `source` is linked.
    pub fn link(&self, source: Source) -> Link {
        self.entries.get(&source).map_or(Link::Down, link_of)
    }

    /// What people call `source`.
    pub fn name(&self, source: Source) -> String {
        self.entries.get(&source).map_or_else(|| "unknown".to_owned(), |entry| entry.partner.name.clone())
    }

    /// The source that answers with `key`.
    pub fn source_of(&self, key: &MemberKey) -> Option<Source> {
        self.entries.iter().find(|(_, entry)| entry.partner.key == *key).map(|(source, _)| *source)
    }

    /// Starts the attempts that are due. Returns the links that changed.
    pub fn dial(&mut self, now: Instant) -> Vec<(Source, Link)> {
        let mut changed = Vec::new();
        for (source, entry) in &mut self.entries {
            let due = match entry.state {
                State::Idle => true,
                State::Waiting { retry_at } => retry_at <= now,
                State::Dialling | State::Up { .. } => false,
            };
            if !due {
                continue;
            }
            let before = link_of(entry);
            self.generation += 1;
            entry.generation = self.generation;
            entry.state = State::Dialling;
            entry.seen_since = false;
            self.tasks.spawn(dial(self.dialer.clone(), *source, self.generation, entry.partner.clone()));
            if link_of(entry) != before {
                changed.push((*source, link_of(entry)));
            }
        }
        changed
    }

    /// A sign of life of `source`: it counts again, and is dialled at the next [`Links::dial`].
    pub fn seen(&mut self, source: Source) -> Option<(Source, Link)> {
        let entry = self.entries.get_mut(&source)?;
        let before = link_of(entry);
        entry.failures = 0;
        entry.seen_since = true;
        if matches!(entry.state, State::Waiting { .. }) {
            entry.state = State::Idle;
        }
        (link_of(entry) != before).then(|| (source, link_of(entry)))
    }

    /// The next task that ended; pending for ever when there is none.
    pub async fn ended(&mut self) -> Ended {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(ended)) => return ended,
                Some(Err(error)) => tracing::error!(%error, "a connection task ended by panic"),
                None => std::future::pending().await,
            }
        }
    }

    /// Takes note of an ended task. Returns how the link changed, step by step.
    pub fn on_ended(&mut self, ended: Ended, now: Instant) -> Vec<(Source, Link)> {
        self.try_on_ended(ended, now).unwrap_or_default()
    }

    fn try_on_ended(&mut self, ended: Ended, now: Instant) -> Option<Vec<(Source, Link)>> {
        match ended {
            Ended::Dialled { source, generation, result } => {
                let entry = self.entries.get_mut(&source).filter(|entry| entry.generation == generation)?;
                match *result {
                    Ok(stream) => {
                        entry.failures = 0;
                        self.connected(source, stream);
                        Some(vec![(source, Link::Up)])
                    }
                    Err(error) => {
                        tracing::debug!(peer = %entry.partner.name, %error, "cannot connect");
                        Some(vec![self.failed(source, now)])
                    }
                }
            }
            Ended::NotDialled { source, generation } => {
                self.entries.get(&source).filter(|entry| entry.generation == generation)?;
                Some(vec![self.failed(source, now)])
            }
            Ended::Closed { source, generation } => {
                let entry = self.entries.get_mut(&source).filter(|entry| entry.generation == generation)?;
                entry.state = State::Idle;
                // What was asked is lost; but the partner counts until an attempt to reach it again has failed.
                Some(vec![(source, Link::Down), (source, link_of(entry))])
            }
        }
    }

    /// The attempt failed. How the link is now.
    fn failed(&mut self, source: Source, now: Instant) -> (Source, Link) {
        if let Some(entry) = self.entries.get_mut(&source) {
            if std::mem::take(&mut entry.seen_since) {
                entry.state = State::Idle;
                return (source, link_of(entry));
            }
            let pause = RETRY.0 * 2_u32.saturating_pow(entry.failures.min(8));
            entry.failures += 1;
            entry.state = State::Waiting { retry_at: now + pause.min(RETRY.1) };
        }
        (source, Link::Down)
    }

    fn connected(&mut self, source: Source, stream: DeviceStream) {
        let Some(entry) = self.entries.get_mut(&source) else { return };
        let pace = if source == Source::Origin { vec![self.wan.clone()] } else { Vec::new() };
        let counters = Arc::clone(&entry.counters);
        let events = self.events.clone();
        let (client, connection) =
            ExchangeClient::new(stream, entry.partner.key, ClientLimits::default(), pace, counters, events);
        let cancel = self.cancel.child_token();
        entry.state = State::Up { client, cancel: cancel.clone() };
        let generation = entry.generation;
        self.tasks.spawn(async move {
            connection.run(cancel).await;
            Ended::Closed { source, generation }
        });
    }

    /// Closes the connection to `source`, which fell silent. A new one is tried at once, but until it is made the source
    /// counts as down: a stopped process still completes TCP connections.
    pub fn reset(&mut self, source: Source, now: Instant) -> (Source, Link) {
        if let Some(entry) = self.entries.get_mut(&source)
            && let State::Up { cancel, .. } = &entry.state
        {
            cancel.cancel();
            self.generation += 1;
            entry.generation = self.generation;
            entry.failures = entry.failures.max(1);
            entry.state = State::Waiting { retry_at: now };
        }
        (source, Link::Down)
    }

    /// Sends a request; the id of it, or `None` when it cannot be sent now.
    pub fn request(&mut self, source: Source, ask: Ask) -> Option<u32> {
        let State::Up { client, .. } = &self.entries.get(&source)?.state else { return None };
        self.request_id = self.request_id.wrapping_add(1);
        let id = self.request_id;
        client.try_request(Request { id, ask }).ok().map(|()| id)
    }

    /// Says that the answer to request `id` is no longer of interest. Not sent when the connection is busy: then the
    /// answer comes for nothing.
    pub fn cancel(&mut self, source: Source, id: u32) {
        if let Some(State::Up { client, .. }) = self.entries.get(&source).map(|entry| &entry.state) {
            let _ = client.try_request(Request { id, ask: Ask::Cancel });
        }
    }

    /// What arrived since the last call, from each source that sent anything.
    pub fn arrived(&mut self) -> Vec<Arrived> {
        let mut arrived = Vec::new();
        for (source, entry) in &mut self.entries {
            let counters = &entry.counters;
            let now = (counters.read_bytes(), counters.chunk_frame_bytes(), counters.metadata_frame_bytes());
            if now != entry.seen {
                let (_, chunk_before, metadata_before) = std::mem::replace(&mut entry.seen, now);
                arrived.push(Arrived {
                    source: *source,
                    chunk_bytes: now.1 - chunk_before,
                    metadata_bytes: now.2 - metadata_before,
                });
            }
        }
        arrived
    }

    /// Everything that was ever received: grows while this node gets on.
    pub fn progress(&self) -> u64 {
        self.read_by_the_gone + self.entries.values().map(|entry| entry.counters.read_bytes()).sum::<u64>()
    }

    /// When the next attempt is due.
    pub fn next_due(&self) -> Option<Instant> {
        let waiting = self.entries.values().filter_map(|entry| match entry.state {
            State::Waiting { retry_at } => Some(retry_at),
            _ => None,
        });
        waiting.min()
    }

    /// Waits until every task has ended after the token was cancelled.
    pub async fn drain(&mut self) {
        self.entries.clear();
        self.tasks.shutdown().await;
    }
}

/// A partner that was never tried counts as possible, one whose last attempt failed does not.
fn link_of(entry: &Entry) -> Link {
    match &entry.state {
        State::Up { .. } => Link::Up,
        State::Waiting { .. } => Link::Down,
        State::Idle | State::Dialling if entry.failures == 0 && !entry.partner.addresses.is_empty() => Link::Unknown,
        State::Idle | State::Dialling => Link::Down,
    }
}

async fn dial(dialer: Dialer, source: Source, generation: u64, partner: Partner) -> Ended {
    let (kind, timeout) = match source {
        Source::Origin => (LinkKind::Wan, WAN_DIAL_TIMEOUT),
        Source::Peer(_) => (LinkKind::Lan, LAN_DIAL_TIMEOUT),
    };
    let addresses: Vec<SocketAddr> = partner.addresses;
    let count = addresses.len();
    for (at, address) in addresses.into_iter().enumerate() {
        let attempt = dialer.connect(address, partner.key, Alpn::Exchange, kind);
        match tokio::time::timeout(timeout, attempt).await {
            Ok(result) if result.is_ok() || at + 1 == count => {
                return Ended::Dialled { source, generation, result: Box::new(result) };
            }
            Ok(_) | Err(_) => {}
        }
    }
    Ended::NotDialled { source, generation }
}
