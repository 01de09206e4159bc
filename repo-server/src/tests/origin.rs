//! The origin over real sockets: who gets chunks, which, how fast, and what is counted.

use super::devices::key;
use super::world::World;
use crate::device_loop;
use serde_json::json;
use sluice_content::Manifest;
use sluice_exchange::frame::{Ask, Refusal, Request};
use sluice_identity::DeviceKey;
use sluice_model::ReleasedArtifact;
use sluice_transport::{
    Alpn, ClientLimits, DeviceListener, ExchangeClient, ExchangeEvent, LinkKind, ListenLimits, ReceiveCounters,
    connect, trailer_holds,
};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A world whose device listener runs.
struct Listening {
    world: World,
    at: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Listening {
    async fn new() -> Self {
        sluice_identity::install_provider();
        let world = World::new().await;
        let any = "127.0.0.1:0".parse().unwrap();
        let listener = DeviceListener::bind(any, &world.app.device_key, ListenLimits::default()).unwrap();
        let at = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(device_loop::run(world.app.clone(), listener, CancellationToken::new()));
        Self { world, at, _tasks: tasks }
    }

    /// A node of site lyon with its key made of `seed`.
    async fn node(&self, seed: u8) -> DeviceKey {
        let key = key(seed);
        let token = self.world.token("node", "lyon", None).await;
        self.world.enrol(&key, "node", &token).await.expect_ok();
        key
    }

    async fn release(&self, bytes_len: usize) -> (Vec<u8>, ReleasedArtifact) {
        let deb = self.world.deb("demo", "1", 1, bytes_len);
        self.world.publish("paul", "demo/1", &[("demo.deb", &deb)]).await.expect_ok();
        self.world.approve("bob", "demo/1", "pilot").await.expect_ok();
        let row = self.world.app.served().view.releases[&"pilot".parse().unwrap()][0].clone();
        (deb, row)
    }

    async fn client(&self, key: &DeviceKey) -> Client {
        let origin = self.world.app.device_key.public();
        let stream = connect(self.at, key, origin, Alpn::Exchange, LinkKind::Lan).await.unwrap();
        let (events_in, events) = mpsc::channel(16);
        let counters = Arc::new(ReceiveCounters::default());
        let (client, connection) =
            ExchangeClient::new(stream, origin, ClientLimits::default(), Vec::new(), counters.clone(), events_in);
        let mut tasks = JoinSet::new();
        tasks.spawn(connection.run(CancellationToken::new()));
        Client { client, events, counters, _tasks: tasks }
    }
}

struct Client {
    client: ExchangeClient,
    events: mpsc::Receiver<ExchangeEvent>,
    counters: Arc<ReceiveCounters>,
    _tasks: JoinSet<()>,
}

impl Client {
    async fn ask(&mut self, id: u32, ask: Ask) -> ExchangeEvent {
        self.client.request(Request { id, ask }).await.unwrap();
        self.next().await
    }

    async fn next(&mut self) -> ExchangeEvent {
        tokio::time::timeout(Duration::from_secs(20), self.events.recv()).await.unwrap().unwrap()
    }

    async fn manifest(&mut self, row: &ReleasedArtifact) -> Manifest {
        match self.ask(1, Ask::Manifest { manifest: row.custom.manifest.blake3 }).await {
            ExchangeEvent::Manifest { bytes, .. } => {
                Manifest::decode(&bytes, &row.custom.manifest, row.length).unwrap()
            }
            other => panic!("{other:?}"),
        }
    }
}

fn chunks(row: &ReleasedArtifact, first: u32, count: u32) -> Ask {
    Ask::Chunks { artifact: row.custom.blake3, first, count, window_ms: 0, insists: false }
}

fn insisting(row: &ReleasedArtifact, first: u32, count: u32) -> Ask {
    Ask::Chunks { artifact: row.custom.blake3, first, count, window_ms: 0, insists: true }
}

#[tokio::test]
async fn the_second_node_of_a_site_is_told_which_one_has_the_chunk_and_served_when_it_insists() {
    let listening = Listening::new().await;
    listening.world.add_site("lyon", "10.1.0.0/16").await.expect_ok();
    let (first, second) = (listening.node(1).await, listening.node(2).await);
    let (_, row) = listening.release(100_000).await;
    let mut clients = [listening.client(&first).await, listening.client(&second).await];
    assert!(matches!(clients[0].ask(1, chunks(&row, 0, 1)).await, ExchangeEvent::Chunk { .. }));
    match clients[1].ask(1, chunks(&row, 0, 1)).await {
        ExchangeEvent::Elsewhere { index: 0, member, .. } => assert_eq!(member, first.public()),
        other => panic!("{other:?}"),
    }
    assert!(matches!(clients[1].ask(2, insisting(&row, 0, 1)).await, ExchangeEvent::Chunk { .. }));
    let [gone, mut second] = clients;
    // It holds the claim now, so the first would be sent to it; gone, it holds nothing back.
    drop(gone);
    assert!(matches!(second.ask(3, chunks(&row, 0, 1)).await, ExchangeEvent::Chunk { .. }));
}

#[tokio::test]
async fn a_node_gets_the_verified_chunks_of_a_release_with_signed_trailers_and_all_is_counted() {
    let listening = Listening::new().await;
    listening.world.add_site("lyon", "10.1.0.0/16").await.expect_ok();
    let node = listening.node(1).await;
    let (deb, row) = listening.release(2_000_000).await;
    let mut client = listening.client(&node).await;
    let manifest = client.manifest(&row).await;
    let mut whole = Vec::new();
    client.client.request(Request { id: 2, ask: chunks(&row, 0, manifest.chunk_count()) }).await.unwrap();
    for _ in 0..manifest.chunk_count() {
        let ExchangeEvent::Chunk { index, bytes, trailer: Some(trailer), .. } = client.next().await else { panic!() };
        manifest.verify(index, &bytes).unwrap();
        let (origin, id) = (listening.world.app.device_key.public(), manifest.chunk_id(index));
        assert!(trailer_holds(&origin, &node.public(), &row.custom.blake3, index, id.as_bytes(), &trailer));
        whole.push((index, bytes));
    }
    whole.sort_by_key(|(index, _)| *index);
    assert_eq!(whole.iter().flat_map(|(_, bytes)| bytes.to_vec()).collect::<Vec<u8>>(), deb);
    // The same chunk once more costs the link, and is not distinct.
    let again = client.ask(3, chunks(&row, 0, 1)).await;
    assert!(matches!(again, ExchangeEvent::Chunk { last: true, .. }));
    let site = &listening.world.get("admin", "/v1/sites").await.json()["sites"][0];
    assert_eq!(site["distinct_bytes"], deb.len());
    assert_eq!(site["origin_bytes"], client.counters.chunk_frame_bytes());
    assert!(site["origin_bytes"].as_u64().unwrap() > deb.len() as u64 + u64::from(manifest.chunk_length(0)));
    assert_eq!(site["metadata_bytes"], client.counters.metadata_frame_bytes());
}

#[tokio::test]
async fn strangers_endpoints_and_revoked_nodes_get_no_chunk() {
    let listening = Listening::new().await;
    listening.world.add_site("lyon", "10.1.0.0/16").await.expect_ok();
    let (_, row) = listening.release(1_000).await;
    let origin = listening.world.app.device_key.public();
    let mut stranger = connect(listening.at, &key(9), origin, Alpn::Exchange, LinkKind::Lan).await.unwrap();
    assert_eq!(stranger.read(&mut [0; 8]).await.unwrap_or(0), 0, "a stranger is closed at once");

    let node = listening.node(1).await;
    let mut client = listening.client(&node).await;
    assert!(matches!(client.ask(1, chunks(&row, 0, 1)).await, ExchangeEvent::Chunk { .. }));
    let revoke = super::world::request("admin", "DELETE", &format!("/v1/nodes/{}", node.public()));
    listening.world.send(revoke.body(axum::body::Body::empty()).unwrap()).await.expect_ok();
    assert!(matches!(client.next().await, ExchangeEvent::Closed { .. }), "its open connection is cut");
}

#[tokio::test]
async fn what_is_not_released_or_was_retracted_is_refused_with_its_reason() {
    let listening = Listening::new().await;
    listening.world.add_site("lyon", "10.1.0.0/16").await.expect_ok();
    let node = listening.node(1).await;
    let draft = listening.world.deb("draft", "1", 7, 1_000);
    listening.world.publish("paul", "draft/1", &[("draft.deb", &draft)]).await.expect_ok();
    let (_, mut row) = listening.release(1_000).await;
    let mut client = listening.client(&node).await;
    let retracted = row.clone();
    row.custom.blake3 = sluice_model::ArtifactId::from_bytes(*blake3::hash(&draft).as_bytes());
    let refusal = |event| match event {
        ExchangeEvent::Refused { refusal, .. } => refusal,
        other => panic!("{other:?}"),
    };
    assert_eq!(refusal(client.ask(1, chunks(&row, 0, 1)).await), Refusal::NotReleased);
    assert!(matches!(client.ask(2, chunks(&retracted, 0, 1)).await, ExchangeEvent::Chunk { .. }));
    listening.world.retract("bob", "demo/1", &[]).await.expect_ok();
    assert_eq!(refusal(client.ask(3, chunks(&retracted, 0, 1)).await), Refusal::Retracted);
    let have = client.ask(4, Ask::Have { artifact: retracted.custom.blake3 }).await;
    assert_eq!(refusal(have), Refusal::Retracted);
    let manifest = client.ask(5, Ask::Manifest { manifest: retracted.custom.manifest.blake3 }).await;
    assert_eq!(refusal(manifest), Refusal::NotReleased);
}

#[tokio::test]
async fn the_cap_of_a_site_holds_over_all_its_nodes_and_changes_while_they_fetch() {
    const RATE: u64 = 2_000_000;
    let listening = Listening::new().await;
    let cap = |rate: u64| json!({ "wan_bytes_per_sec": rate });
    let site = json!({ "name": "lyon", "boundaries": ["10.1.0.0/16"], "limits": cap(RATE) });
    listening.world.post("admin", "/v1/sites", &site).await.expect_ok();
    let nodes = [listening.node(1).await, listening.node(2).await];
    let (deb, row) = listening.release(3_000_000).await;
    listening.world.follow_limits();
    let began = crate::clock::now();
    let mut clients = Vec::new();
    for node in &nodes {
        let mut client = listening.client(node).await;
        let count = client.manifest(&row).await.chunk_count();
        client.client.request(Request { id: 2, ask: insisting(&row, 0, count) }).await.unwrap();
        clients.push((client, count));
    }
    for (client, count) in &mut clients {
        for _ in 0..*count {
            assert!(matches!(client.next().await, ExchangeEvent::Chunk { .. }));
        }
    }
    let took = (crate::clock::now() - began).as_secs_f64();
    let expected = 2.0 * deb.len() as f64 / RATE as f64;
    assert!(took > 0.93 * expected, "{took} s, expected {expected}");
    let path = "/v1/sites";
    let site = listening.world.get("admin", path).await.json()["sites"][0].clone();
    let peak = site["wan_peak_bytes_per_sec"].as_u64().unwrap();
    assert!(peak <= RATE * 105 / 100, "{peak}");
    assert_eq!(site["distinct_bytes"], deb.len());

    let limits = super::world::request("admin", "PUT", "/v1/sites/lyon/limits");
    let body = axum::body::Body::from(cap(200_000_000).to_string());
    listening.world.send(limits.body(body).unwrap()).await.expect_ok();
    listening.world.follow_limits();
    let began = crate::clock::now();
    let (client, count) = &mut clients[0];
    client.client.request(Request { id: 3, ask: insisting(&row, 0, *count) }).await.unwrap();
    for _ in 0..*count {
        assert!(matches!(client.next().await, ExchangeEvent::Chunk { .. }));
    }
    assert!((crate::clock::now() - began).as_secs_f64() < 1.0);
}
