//! A joined member that is no program: the test holds its key and speaks for it.

use sluice_api::device::Announcement;
use sluice_api_client::{DeviceClient, Timeouts};
use sluice_exchange::frame::{Ask, Request, TRAILER_LEN};
use sluice_identity::DeviceKey;
use sluice_model::{ArtifactId, ByteRate, MemberAddresses, MemberKey};
use sluice_transport::{
    Alpn, Carrier, ClientLimits, DeviceListener, DeviceStream, Dialer, ExchangeClient, ExchangeEvent, LinkKind,
    ReceiveCounters, Throttle,
};
use sluice_xtask::lab::said;
use sluice_xtask::lab::world::{Node, World, rows};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// An answer on loopback comes long before this.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Joins `site` as `name` through the program and gives the key that it made.
pub fn join(world: &World, name: &str, site: &str) -> DeviceKey {
    let token = world.node_token(site).unwrap();
    let data = world.lab.dir().join(name);
    let joined = said(world.join(&token, &data).args(["--name", name])).unwrap();
    assert_eq!(joined.code, 0, "{}", joined.err);
    DeviceKey::load(&data.join("device.key")).unwrap()
}

/// The origin's key and device address.
pub fn origin(world: &World) -> (MemberKey, SocketAddr) {
    let text = sluice_xtask::cargo::output(
        std::process::Command::new("curl").args(["--silent", &format!("{}/device/v1/bootstrap", world.lab.url())]),
    )
    .unwrap();
    let hints: serde_json::Value = serde_json::from_str(&text).unwrap();
    let key = hints["origin_key"].as_str().unwrap().parse().unwrap();
    (key, world.repo_listening().unwrap().device.parse().unwrap())
}

/// A node's key and device address.
pub fn node(world: &World, node: &Node) -> (MemberKey, SocketAddr) {
    let nodes = world.lab.ask(&world.bob, &["nodes"]).unwrap();
    let row = rows(&nodes, "nodes").iter().find(|row| row["name"] == node.name.as_str()).unwrap();
    (row["key"].as_str().unwrap().parse().unwrap(), node.listening.device.parse().unwrap())
}

/// The origin as the owner of `key` calls it.
pub fn client(world: &World, key: &DeviceKey) -> DeviceClient {
    let (origin, address) = origin(world);
    DeviceClient::new(address, origin, key, Timeouts::default()).unwrap()
}

/// Tells the origin, as the joined node that owns `key`, where it listens.
pub async fn announce(world: &World, key: &DeviceKey, listener: &DeviceListener) {
    let addresses = MemberAddresses { device: vec![listener.local_addr().unwrap()], ..MemberAddresses::default() };
    client(world, key).announce(&Announcement { addresses }).await.unwrap();
}

/// An open exchange connection.
pub struct Exchange {
    pub client: ExchangeClient,
    pub events: mpsc::Receiver<ExchangeEvent>,
    _task: JoinSet<()>,
}

/// A device connection of `key` to whoever has `peer` at `address`.
pub async fn connect(key: &DeviceKey, (peer, address): (MemberKey, SocketAddr), alpn: Alpn) -> DeviceStream {
    let dialer = Dialer::new(key.clone(), Carrier::Tcp).unwrap();
    dialer.connect(address, peer, alpn, LinkKind::Lan).await.unwrap()
}

impl Exchange {
    pub async fn open(key: &DeviceKey, to: (MemberKey, SocketAddr), pace: Option<ByteRate>) -> Self {
        let stream = connect(key, to, Alpn::Exchange).await;
        let (sender, events) = mpsc::channel(64);
        let pace = vec![Throttle::new(pace)];
        let counters = Arc::<ReceiveCounters>::default();
        let (client, connection) = ExchangeClient::new(stream, to.0, ClientLimits::default(), pace, counters, sender);
        let mut task = JoinSet::new();
        task.spawn(connection.run(CancellationToken::new()));
        Self { client, events, _task: task }
    }

    pub async fn ask(&self, id: u32, ask: Ask) -> bool {
        self.client.request(Request { id, ask }).await.is_ok()
    }

    /// The next event; `None` when the connection ended.
    pub async fn event(&mut self) -> Option<ExchangeEvent> {
        match tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("an answer or the end comes in time") {
            None | Some(ExchangeEvent::Closed { .. }) => None,
            event => event,
        }
    }

    /// Reads until the connection ends. How many bytes of chunks came.
    pub async fn until_closed(&mut self) -> u64 {
        let mut came = 0;
        loop {
            match self.events.recv().await {
                None | Some(ExchangeEvent::Closed { .. }) => return came,
                Some(ExchangeEvent::Chunk { bytes, .. }) => came += bytes.len() as u64,
                Some(_) => {}
            }
        }
    }
}

/// Whether `to` still answers the owner of `key` on the exchange, be it with a no.
pub async fn is_answered(key: &DeviceKey, to: (MemberKey, SocketAddr), artifact: ArtifactId) -> bool {
    let mut exchange = Exchange::open(key, to, None).await;
    exchange.ask(1, Ask::Have { artifact }).await
        && match exchange.event().await {
            None | Some(ExchangeEvent::Refused { .. }) => false,
            Some(_) => true,
        }
}

/// One chunk with the signature of the sender.
pub async fn signed_chunk(
    key: &DeviceKey,
    to: (MemberKey, SocketAddr),
    artifact: ArtifactId,
    index: u32,
) -> (bytes::Bytes, [u8; TRAILER_LEN]) {
    let mut exchange = Exchange::open(key, to, None).await;
    assert!(exchange.ask(1, Ask::Chunks { artifact, first: index, count: 1, window_ms: 5_000, insists: true }).await);
    match exchange.event().await {
        Some(ExchangeEvent::Chunk { bytes, trailer: Some(trailer), .. }) => (bytes, trailer),
        other => panic!("no signed chunk came: {other:?}"),
    }
}

/// Reads until the other side ends the connection. How many bytes came.
pub async fn read_to_end(stream: &mut DeviceStream) -> u64 {
    let (mut buffer, mut came) = (vec![0; 64 << 10], 0);
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return came,
            Ok(read) => came += read as u64,
        }
    }
}
