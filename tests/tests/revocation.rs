//! A revoked device loses every connection that it has open, within the bound of retractions, and gets no new one.
//! proves: A6, F2 (identity side).
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests measure time")]

mod support;

use sluice_api::device::NodeStatus;
use sluice_api::problem::ProblemType;
use sluice_exchange::frame::Ask;
use sluice_identity::DeviceKey;
use sluice_model::MemberKey;
use sluice_overlay::{Overlay, OverlayConfig, OverlayEvent, OverlayHandle};
use sluice_tests::world;
use sluice_transport::{Alpn, DeviceStream};
use sluice_xtask::lab::world::{World, content_url, curl};
use sluice_xtask::lab::{packages, wait};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use support::liar::Liar;
use support::member::{Exchange, client, connect, is_answered, join, node, origin, read_to_end};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// From the call of the API to the last connection that ends: what a retraction has.
const BOUND: Duration = Duration::from_secs(5);
const LONG: Duration = Duration::from_secs(30);
/// So slow that nothing of what is being sent could end by itself.
const SLOW: &str = "8mbit";
const ARTIFACT_BYTES: usize = 24 << 20;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Makes the links slow once the node has everything.
fn fill_and_slow_down(world: &World, version: &packages::Version) {
    let url = content_url(&world.nodes[0], version);
    assert!(wait(LONG, || Ok(curl(&["-o", "/dev/null", &url])?.status == 200)).unwrap(), "node-1 never fetched it");
    world.lab.ask(&world.bob, &["site", "limits", "lyon", "--wan-cap", SLOW, "--serve-cap", SLOW]).unwrap();
    let is_slow = wait(LONG, || {
        let begun = Instant::now();
        curl(&["-r", "0-999999", "-o", "/dev/null", &content_url(&world.nodes[0], version)])?;
        Ok(begun.elapsed() > Duration::from_millis(500))
    });
    assert!(is_slow.unwrap(), "the cap never took effect");
}

/// Sends a request whose answer is small and leaves the connection open.
async fn keep_alive(key: &DeviceKey, to: (MemberKey, SocketAddr), path: &str) -> DeviceStream {
    let mut stream = connect(key, to, Alpn::Http).await;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200", "{}", String::from_utf8_lossy(&head));
    stream
}

/// An overlay end with the member's key, linked to `members`.
async fn linked(
    key: &DeviceKey,
    members: &[(MemberKey, SocketAddr)],
) -> (OverlayHandle, mpsc::Receiver<OverlayEvent>, JoinSet<()>) {
    let config = OverlayConfig {
        seed: key.signer().seed(),
        listen: "127.0.0.1:0".parse().unwrap(),
        topics: vec!["sluice/test".into()],
    };
    let (handle, task, mut events) = Overlay::open(config).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { task.run(CancellationToken::new()).await.unwrap() });
    handle.set_allowed(members.iter().map(|(member, _)| *member).collect()).await.unwrap();
    for (member, address) in members {
        handle.dial(*member, vec![*address]).await.unwrap();
    }
    let mut up = 0;
    while up < members.len() {
        let event = tokio::time::timeout(LONG, events.recv()).await.expect("the links come up").unwrap();
        up += usize::from(matches!(event, OverlayEvent::Up(_)));
    }
    (handle, events, tasks)
}

#[test]
fn a_revoked_node_loses_its_open_transfers_and_links_within_the_bound_and_gets_no_new_ones() {
    sluice_identity::install_provider();
    let mut world = world("revoked-node").unwrap();
    world.add_site("lyon", "10.1.0.0/16", "400mbit").unwrap();
    world.add_node("node-1", "lyon").unwrap();
    let key = join(&world, "node-gone", "lyon");
    let version = packages::one(&world.lab.folder("packages").unwrap(), "1.0-1", ARTIFACT_BYTES).unwrap();
    let artifact = Liar::of(std::fs::read(&version.debs[0].path).unwrap()).manifest.artifact();
    world.publish("demo", &version, "high", "CVE-2026-10001").unwrap();
    world.approve("demo/1.0-1", "production").unwrap();
    fill_and_slow_down(&world, &version);
    let (repo, near) = (origin(&world), node(&world, &world.nodes[0]));
    let runtime = runtime();
    let is_known = wait(LONG, || Ok(runtime.block_on(is_answered(&key, near, artifact)))).unwrap();
    assert!(is_known, "node-1 never answered the new member");

    let (closed, closings) = std::sync::mpsc::sync_channel::<(&str, Instant, u64)>(16);
    let everything = Ask::Chunks { artifact, first: 0, count: 20, window_ms: 0, insists: true };
    runtime.block_on(async {
        for (name, to) in [("exchange with the origin", repo), ("exchange with a node", near)] {
            let mut exchange = Exchange::open(&key, to, None).await;
            assert!(exchange.ask(1, everything).await);
            let first = exchange.event().await;
            assert!(first.is_some(), "{name}: nothing came");
            let closed = closed.clone();
            tokio::spawn(async move {
                let came = exchange.until_closed().await;
                closed.send((name, Instant::now(), came)).unwrap();
            });
        }
        let mut stream = keep_alive(&key, repo, "/tuf/metadata/timestamp.json").await;
        let closed = closed.clone();
        tokio::spawn(async move {
            read_to_end(&mut stream).await;
            closed.send(("device HTTP at the origin", Instant::now(), 0)).unwrap();
        });
    });
    let overlays = [
        (repo.0, world.repo_listening().unwrap().overlay.parse().unwrap()),
        (near.0, world.nodes[0].listening.overlay.parse().unwrap()),
    ];
    let (overlay, mut events, tasks) = runtime.block_on(linked(&key, &overlays));
    runtime.spawn(async move {
        let _tasks = tasks;
        while let Some(event) = events.recv().await {
            if let OverlayEvent::Down(member) = event {
                let name = if member == repo.0 { "overlay to the origin" } else { "overlay to a node" };
                // A refused redial is another, later end.
                let _ = closed.try_send((name, Instant::now(), 0));
            }
        }
    });

    let begun = Instant::now();
    world.lab.ask(&world.bob, &["revoke", "node", &key.public().to_string()]).unwrap();
    let mut ends = std::collections::BTreeMap::new();
    while ends.len() < 5 {
        let (name, at, came) = closings.recv_timeout(LONG).expect("every connection ends");
        ends.entry(name).or_insert((at.saturating_duration_since(begun), came));
    }
    for (name, (after, came)) in &ends {
        println!("revoked: {name} ended after {after:?}, {came} bytes had come");
        assert!(*after <= BOUND, "{name} went on for {after:?}");
        assert!(*came < ARTIFACT_BYTES as u64 / 2, "{name} had ended by itself");
    }

    runtime.block_on(async {
        for to in [repo, near] {
            assert!(!is_answered(&key, to, artifact).await, "a new exchange connection was answered");
        }
        let refused = client(&world, &key).status(&NodeStatus::default()).await.unwrap_err();
        assert!(refused.is_problem(ProblemType::NotEnrolled), "{refused}");
    });
    drop(overlay);
    let nodes = world.lab.ask(&world.bob, &["nodes"]).unwrap();
    assert!(!nodes.to_string().contains(&key.public().to_string()), "{nodes}");
}

#[test]
fn a_revoked_endpoint_is_cut_in_the_middle_of_a_download_and_heard_no_more() {
    sluice_identity::install_provider();
    let mut world = world("revoked-endpoint").unwrap();
    world.add_site("lyon", "10.1.0.0/16", "400mbit").unwrap();
    world.add_node("node-1", "lyon").unwrap();
    let version = packages::one(&world.lab.folder("packages").unwrap(), "1.0-1", ARTIFACT_BYTES).unwrap();
    world.publish("demo", &version, "high", "CVE-2026-10001").unwrap();
    world.approve("demo/1.0-1", "production").unwrap();
    world.add_endpoint("pc-1", ("lyon", "production"), &[], "all").unwrap();
    fill_and_slow_down(&world, &version);
    let key = DeviceKey::load(&world.endpoint("pc-1").unwrap().data.join("device.key")).unwrap();
    let (repo, near) = (origin(&world), node(&world, &world.nodes[0]));
    let runtime = runtime();
    let path = format!("/content/sha256/{}", version.debs[0].sha256);
    let (closed, closings) = std::sync::mpsc::sync_channel::<(&str, Instant, u64)>(4);
    runtime.block_on(async {
        for (name, to, path) in [
            ("download from the node", near, path.as_str()),
            ("idle connection to the node", near, "/tuf/metadata/timestamp.json"),
            ("idle connection to the origin", repo, "/tuf/metadata/timestamp.json"),
        ] {
            let mut stream = keep_alive(&key, to, path).await;
            let closed = closed.clone();
            tokio::spawn(async move {
                let came = read_to_end(&mut stream).await;
                closed.send((name, Instant::now(), came)).unwrap();
            });
        }
    });
    let begun = Instant::now();
    world.lab.ask(&world.bob, &["revoke", "endpoint", "pc-1"]).unwrap();
    for _ in 0..3 {
        let (name, at, came) = closings.recv_timeout(LONG).expect("every connection ends");
        let after = at.saturating_duration_since(begun);
        println!("revoked: {name} ended after {after:?}, {came} bytes had come");
        assert!(after <= BOUND, "{name} went on for {after:?}");
        assert!(came < ARTIFACT_BYTES as u64 / 2, "{name} had ended by itself");
    }
    let report = sluice_api::device::ReportBatch { reports: Vec::new() };
    for (key_of, address) in [near, repo] {
        let timeouts = sluice_api_client::Timeouts::default();
        let caller = sluice_api_client::DeviceClient::new(address, key_of, &key, timeouts).unwrap();
        let refused = runtime.block_on(caller.outcomes(&report)).unwrap_err();
        assert!(refused.is_problem(ProblemType::NotEnrolled), "{refused}");
    }
}
