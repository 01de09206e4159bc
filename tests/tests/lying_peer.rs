//! A member of the site that sends one wrong byte: nobody gets it, the fetch completes from elsewhere, the liar is banned
//! and named. proves: B1, B5 (basic), P1, P7 (basic).
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use sluice_identity::DeviceKey;
use sluice_tests::world;
use sluice_transport::{DeviceListener, ListenLimits};
use sluice_xtask::lab::world::{content_url, curl, rows};
use sluice_xtask::lab::{packages, said, wait};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use support::liar::{Liar, lie};
use support::member::announce;

const LONG: Duration = Duration::from_secs(30);

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
    let liar = Arc::new(Liar::of(content.clone()));

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
    // Until the node heard of the approval it answers 404.
    assert!(wait(LONG, || Ok(curl(&arguments)?.status == 200)).unwrap(), "the node never served it");
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
