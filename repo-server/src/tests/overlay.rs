//! The overlay: members of the roster hear of each commit, and who holds a link is known.

use super::devices::key;
use super::world::World;
use crate::overlay_loop::OverlayLoop;
use sluice_api::gossip::{MetadataBundle, metadata_topic};
use sluice_identity::DeviceKey;
use sluice_overlay::{Overlay, OverlayConfig, OverlayEvent, OverlayHandle, Verdict};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

struct Member {
    handle: OverlayHandle,
    events: mpsc::Receiver<OverlayEvent>,
    _tasks: JoinSet<()>,
}

impl Member {
    async fn new(key: &DeviceKey) -> Self {
        let config = OverlayConfig {
            seed: key.signer().seed(),
            listen: "127.0.0.1:0".parse().unwrap(),
            topics: vec![metadata_topic("test")],
        };
        let (handle, task, events) = Overlay::open(config).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { task.run(CancellationToken::new()).await.unwrap() });
        Self { handle, events, _tasks: tasks }
    }

    async fn next(&mut self) -> OverlayEvent {
        tokio::time::timeout(Duration::from_secs(20), self.events.recv()).await.unwrap().unwrap()
    }
}

/// Runs the repository's side; gives where it listens.
async fn run(world: &mut World, tasks: &mut JoinSet<()>) -> SocketAddr {
    let Member { handle, events, _tasks: swarm } = Member::new(&world.app.device_key).await;
    let at = handle.listen_addresses()[0];
    let announcements = world.announcements.take().unwrap();
    let follow = OverlayLoop { app: world.app.clone(), overlay: handle, events, announcements };
    tasks.spawn(async move {
        follow.run(CancellationToken::new()).await.unwrap();
        drop(swarm);
    });
    at
}

#[tokio::test]
async fn a_member_hears_of_each_commit_as_signed_and_loses_its_link_when_it_is_revoked() {
    let mut world = World::new().await;
    let mut tasks = JoinSet::new();
    let at = run(&mut world, &mut tasks).await;
    world.add_site("lyon", "10.1.0.0/16").await.expect_ok();
    let node_key = key(1);
    let token = world.token("node", "lyon", None).await;
    world.enrol(&node_key, "node", &token).await.expect_ok();

    let origin = world.app.device_key.public();
    let mut node = Member::new(&node_key).await;
    node.handle.set_allowed(vec![origin]).await.unwrap();
    node.handle.dial(origin, vec![at]).await.unwrap();
    assert_eq!(node.next().await, OverlayEvent::Up(origin));
    while world.get("admin", "/v1/status").await.json()["nodes_connected"] != 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The first messages may come before the topic's mesh is known to both: the next timestamp tells of everything.
    let bundle = loop {
        world.app.authority.renew().await.unwrap();
        match tokio::time::timeout(Duration::from_millis(300), node.events.recv()).await {
            Ok(Some(OverlayEvent::Gossip { topic, from, id, bytes })) => {
                assert_eq!((topic.as_str(), from), (metadata_topic("test").as_str(), origin));
                node.handle.judge(id, Verdict::Accept).await.unwrap();
                break MetadataBundle::decode(&bytes).unwrap();
            }
            Ok(other) => panic!("{other:?}"),
            Err(_) => {}
        }
    };
    assert!(bundle.file("timestamp.json").is_some());

    let deb = world.deb("demo", "1", 1, 1_000);
    world.publish("paul", "demo/1", &[("demo.deb", &deb)]).await.expect_ok();
    world.approve("bob", "demo/1", "pilot").await.expect_ok();
    let served = world.app.served();
    let release = served.files.iter().find(|(name, _)| name.ends_with("rel-pilot.json")).unwrap();
    loop {
        let OverlayEvent::Gossip { id, bytes, .. } = node.next().await else { panic!() };
        node.handle.judge(id, Verdict::Accept).await.unwrap();
        if let Some(gossiped) = MetadataBundle::decode(&bytes).unwrap().file(release.0) {
            assert_eq!(gossiped, release.1, "the bytes that were signed are the bytes that are gossiped");
            break;
        }
    }

    let revoke = super::world::request("admin", "DELETE", &format!("/v1/nodes/{}", node_key.public()));
    world.send(revoke.body(axum::body::Body::empty()).unwrap()).await.expect_ok();
    while node.next().await != OverlayEvent::Down(origin) {}
    assert_eq!(world.get("admin", "/v1/status").await.json()["nodes_connected"], 0);
}
