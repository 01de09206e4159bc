//! A member of the site that sends one wrong byte: nobody gets it, the fetch completes from elsewhere, the liar is banned
//! and named. proves: B1, B5 (basic), P1, P7 (basic).
#![allow(clippy::unwrap_used, reason = "tests")]

use bytes::Bytes;
use sluice_api::device::Announcement;
use sluice_api_client::{DeviceClient, Timeouts};
use sluice_content::{ChunkerParams, Cutter, Manifest, hash_chunk};
use sluice_exchange::have::Have;
use sluice_identity::DeviceKey;
use sluice_model::{ArtifactId, ManifestId, MemberAddresses, MemberKey};
use sluice_tests::world;
use sluice_transport::{
    Answer, ChunkSource, DeviceListener, ListenLimits, ServeCounters, ServeLimits, ServeOptions, ServedChunk,
    serve_exchange,
};
use sluice_xtask::lab::world::{World, content_url, curl, rows};
use sluice_xtask::lab::{packages, said, wait};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const LONG: Duration = Duration::from_secs(30);

/// Claims to have everything and flips one bit of each chunk that it sends.
struct Liar {
    content: Vec<u8>,
    manifest: Manifest,
    lies: AtomicUsize,
}

impl ChunkSource for Liar {
    async fn manifest(&self, _peer: &MemberKey, _manifest: &ManifestId) -> Answer<Bytes> {
        Answer::NotHere
    }

    async fn chunk(&self, _peer: &MemberKey, _artifact: &ArtifactId, index: u32, _: bool) -> Answer<ServedChunk> {
        let range = self.manifest.range(index);
        let mut bytes = self.content[range.start as usize..range.end as usize].to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        self.lies.fetch_add(1, Ordering::SeqCst);
        let id = hash_chunk(&bytes);
        Answer::Here(ServedChunk { bytes: bytes.into(), id })
    }

    async fn have(&self, _peer: &MemberKey, _artifact: &ArtifactId) -> Answer<Bytes> {
        let count = self.manifest.chunk_count() as usize;
        Answer::Here(Have { progress: 1, here: vec![true; count], fetching: vec![false; count] }.encode().into())
    }
}

/// Tells the origin, as the joined node that owns `key`, where the liar listens.
async fn announce(world: &World, key: &DeviceKey, listener: &DeviceListener) {
    let text = sluice_xtask::cargo::output(
        std::process::Command::new("curl").args(["--silent", &format!("{}/device/v1/bootstrap", world.lab.url())]),
    )
    .unwrap();
    let hints: serde_json::Value = serde_json::from_str(&text).unwrap();
    let origin: MemberKey = hints["origin_key"].as_str().unwrap().parse().unwrap();
    let address = world.repo_listening().unwrap().device.parse().unwrap();
    let client = DeviceClient::new(address, origin, key, Timeouts::default()).unwrap();
    let addresses = MemberAddresses { device: vec![listener.local_addr().unwrap()], ..MemberAddresses::default() };
    client.announce(&Announcement { addresses }).await.unwrap();
}

/// Serves whoever asks until the test ends.
async fn lie(mut listener: DeviceListener, key: DeviceKey, liar: Arc<Liar>) {
    let options = ServeOptions {
        limits: ServeLimits::default(),
        pace: Vec::new(),
        sign_with: Some(key),
        counters: Arc::new(ServeCounters::default()),
    };
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let accepted = listener.accept().await;
        let (liar, options) = (liar.clone(), options.clone());
        connections.spawn(async move {
            let _ = serve_exchange(accepted.stream, accepted.peer, liar, &options, CancellationToken::new()).await;
        });
    }
}

#[test]
fn a_peer_that_sends_one_wrong_byte_is_banned_and_named_and_nobody_gets_it() {
    sluice_identity::install_provider();
    let mut world = world("liar").unwrap();
    world.add_site("lyon", "10.1.0.0/16", "400mbit").unwrap();
    world.add_node("node-1", "lyon").unwrap();
    let token = world.node_token("lyon").unwrap();
    let data = world.lab.dir().join("node-liar");
    let joined = said(world.join(&token, &data).args(["--name", "node-liar"])).unwrap();
    assert_eq!(joined.code, 0, "{}", joined.err);
    let version = packages::one(&world.lab.folder("packages").unwrap(), "1.0-1", 6 << 20).unwrap();
    let content = std::fs::read(&version.debs[0].path).unwrap();
    let mut cutter = Cutter::new(ChunkerParams::for_length(content.len() as u64));
    cutter.push(&content);
    let liar =
        Arc::new(Liar { manifest: cutter.finish().manifest, content: content.clone(), lies: AtomicUsize::new(0) });

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let key = DeviceKey::load(&data.join("device.key")).unwrap();
    let listener = runtime.block_on(async {
        let listener = DeviceListener::bind("127.0.0.1:0".parse().unwrap(), &key, ListenLimits::default()).unwrap();
        announce(&world, &key, &listener).await;
        listener
    });
    let serving = runtime.spawn(lie(listener, key.clone(), liar.clone()));
    world.publish("demo", &version, "high", "CVE-2026-10001").unwrap();
    world.approve("demo/1.0-1", "production").unwrap();

    let fetched = world.lab.dir().join("fetched");
    let arguments = ["-o", &fetched.display().to_string(), &content_url(&world.nodes[0], &version)];
    assert_eq!(curl(&arguments).unwrap().status, 200);
    assert!(std::fs::read(&fetched).unwrap() == content, "the wrong byte reached a client");
    let lies = liar.lies.load(Ordering::SeqCst);
    assert!((1..=2).contains(&lies), "the liar sent {lies} chunks; it is banned after the first wrong one");

    let name = key.public().to_string();
    let named = wait(LONG, || {
        let nodes = world.lab.ask(&world.bob, &["nodes"])?;
        let bans = rows(&nodes, "nodes").iter().flat_map(|node| rows(node, "banned").to_vec());
        Ok(bans.into_iter().any(|ban| ban["peer"] == name.as_str()))
    });
    assert!(named.unwrap(), "`sluice nodes` does not name the liar");
    let log = world.lab.log("node-1");
    assert!(log.contains("node-liar") && log.contains("banned"), "the log does not name the liar: {log}");
    serving.abort();
}
