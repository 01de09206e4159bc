//! The connections to one partner: one when little is asked, more while each of them owes something.
//!
//! One TCP connection that loses a packet waits for it with all that it carries; several lose one at a time. What a
//! partner that is asked little costs stays one connection.
//!
//! Invariants
//! - A request and its withdrawal go over the same connection.
//! - A connection that ends while it owes an answer takes the others with it: what was asked is asked again, of a link
//!   that is made anew. One that ends in peace takes nothing.

use sluice_exchange::frame::{Ask, Request};
use sluice_exchange::picker::Source;
use sluice_transport::ExchangeClient;
use std::collections::BTreeMap;
use tokio_util::sync::CancellationToken;

/// Connections to the origin: of four that share a link with 1 % loss, three are busy while one recovers.
const ORIGIN_LANES_MAX: usize = 4;
/// Connections to a peer. A server holds two chunks in memory for each, and 8 peers fetch from a node at once.
const PEER_LANES_MAX: usize = 1;

/// One connection.
#[derive(Debug)]
struct Lane {
    number: u64,
    client: ExchangeClient,
    cancel: CancellationToken,
}

/// What the end of a connection means for the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Others are there, and nothing was owed.
    Nothing,
    /// The link is down.
    Link,
}

/// All connections to a partner that is linked; at least one.
#[derive(Debug)]
pub(crate) struct Lanes {
    open: Vec<Lane>,
    /// Which connection owes the answer to which request.
    owed: BTreeMap<u32, u64>,
    lanes_max: usize,
    /// Whether an attempt to open another is under way, or the last one failed: then what there is must do.
    is_settled: bool,
}

impl Lanes {
    /// A link to `source` that begins with one connection.
    pub fn new(source: Source, number: u64, client: ExchangeClient, cancel: CancellationToken) -> Self {
        let lanes_max = if source == Source::Origin { ORIGIN_LANES_MAX } else { PEER_LANES_MAX };
        Self { open: vec![Lane { number, client, cancel }], owed: BTreeMap::new(), lanes_max, is_settled: false }
    }

    /// Another connection, as [`Lanes::should_widen`] asked for.
    pub fn widen(&mut self, number: u64, client: ExchangeClient, cancel: CancellationToken) {
        self.is_settled = false;
        self.open.push(Lane { number, client, cancel });
    }

    /// Whether one more connection is worth opening: then the caller tries to. The attempt is noted here.
    pub fn should_widen(&mut self) -> bool {
        let all_owe = self.open.iter().all(|lane| self.owed_by(lane.number) > 0);
        let should = all_owe && self.open.len() < self.lanes_max && !self.is_settled;
        self.is_settled |= should;
        should
    }

    /// Sends over the connection that owes least; `false` when it takes nothing now.
    pub fn request(&mut self, request: Request) -> bool {
        let id = request.id;
        let open = self.open.iter().filter(|lane| lane.client.is_open());
        let Some(lane) = open.min_by_key(|lane| self.owed_by(lane.number)) else { return false };
        if lane.client.try_request(request).is_err() {
            return false;
        }
        self.owed.insert(id, lane.number);
        true
    }

    /// Withdraws a request, if its connection takes that now.
    pub fn cancel(&mut self, id: u32) {
        let Some(number) = self.owed.get(&id) else { return };
        if let Some(lane) = self.open.iter().find(|lane| lane.number == *number) {
            let _ = lane.client.try_request(Request { id, ask: Ask::Cancel });
        }
    }

    /// The request was answered.
    pub fn answered(&mut self, id: u32) {
        self.owed.remove(&id);
    }

    /// The connection ended by itself.
    pub fn closed(&mut self, number: u64) -> Loss {
        let owes = self.owed_by(number) > 0;
        self.open.retain(|lane| lane.number != number);
        if owes || self.open.is_empty() { Loss::Link } else { Loss::Nothing }
    }

    /// Ends them all.
    pub fn close(&self) {
        self.open.iter().for_each(|lane| lane.cancel.cancel());
    }

    fn owed_by(&self, number: u64) -> usize {
        self.owed.values().filter(|owing| **owing == number).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_model::{ArtifactId, MemberKey};
    use sluice_transport::{ClientLimits, ExchangeConnection, ReceiveCounters};
    use std::sync::Arc;
    use tokio::io::{BufReader, DuplexStream};
    use tokio::sync::mpsc;

    type Connection = ExchangeConnection<BufReader<DuplexStream>>;

    /// A connection that nobody runs: what is asked of it stays queued.
    fn connection() -> (ExchangeClient, Connection) {
        let (near, _far) = tokio::io::duplex(64);
        let peer = MemberKey::from_bytes([7; 32]);
        let (events, _) = mpsc::channel(1);
        let counters = Arc::new(ReceiveCounters::default());
        ExchangeClient::new(BufReader::new(near), peer, ClientLimits::default(), Vec::new(), counters, events)
    }

    fn ask(id: u32) -> Request {
        Request { id, ask: Ask::Have { artifact: ArtifactId::from_bytes([1; 32]) } }
    }

    #[tokio::test]
    async fn a_busy_link_is_widened_up_to_four_connections_and_requests_go_where_least_is_owed() {
        let mut kept = vec![connection()];
        let mut lanes = Lanes::new(Source::Origin, 0, kept[0].0.clone(), CancellationToken::new());
        assert!(!lanes.should_widen(), "nothing is asked yet");
        for number in 1..=3u64 {
            assert!(lanes.request(ask(number as u32)));
            assert!(lanes.should_widen());
            assert!(!lanes.should_widen(), "one attempt at a time");
            kept.push(connection());
            lanes.widen(number, kept[number as usize].0.clone(), CancellationToken::new());
        }
        assert!(lanes.request(ask(4)));
        assert!(!lanes.should_widen(), "four are enough");
        assert!((0..4).all(|number| lanes.owed_by(number) == 1), "{lanes:?}");
        lanes.answered(3);
        assert!(lanes.request(ask(5)));
        assert_eq!(lanes.owed[&5], 2);
    }

    #[tokio::test]
    async fn a_connection_that_owes_takes_the_link_with_it_and_an_idle_one_does_not() {
        let kept = [connection(), connection()];
        let mut lanes = Lanes::new(Source::Origin, 0, kept[0].0.clone(), CancellationToken::new());
        assert!(lanes.request(ask(1)) && lanes.should_widen());
        lanes.widen(1, kept[1].0.clone(), CancellationToken::new());
        assert_eq!(lanes.closed(1), Loss::Nothing);
        assert_eq!(lanes.closed(0), Loss::Link);
    }

    #[tokio::test]
    async fn a_peer_gets_one_connection() {
        let (client, _kept) = connection();
        let mut lanes = Lanes::new(Source::Peer(MemberKey::from_bytes([7; 32])), 0, client, CancellationToken::new());
        assert!(lanes.request(ask(1)));
        assert!(!lanes.should_widen());
    }
}
