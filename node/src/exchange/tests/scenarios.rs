//! What the data plane must do.

use super::laboratory::{Laboratory, Manner, Node, StoppedServer, eventually};
use crate::fetch::Unobtainable;
use sluice_content_store::StoreLimits;
use sluice_identity::DeviceKey;
use sluice_model::Timestamp;
use sluice_pacing::WanNow;
use sluice_transport::{Alpn, LinkKind, connect};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

const MIB: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn led(nodes: &[Node]) -> u64 {
    nodes.iter().map(|node| node.counters.chunks_led.get()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_get_an_artifact_that_crosses_the_wan_link_once() {
    let (lab, origin) = Laboratory::new(3, 12 * MIB, None).await;
    let nodes = lab.start();
    let artifact = lab.artifact();
    for node in &nodes {
        node.fetch.want(artifact);
    }
    for node in &nodes {
        node.complete(&artifact, PATIENCE).await;
        assert!(node.bytes(&artifact).await == lab.content, "the bytes are the artifact's");
    }
    let count = u64::from(nodes[0].store.reader(&artifact).unwrap().manifest().chunk_count());
    assert_eq!(origin.counters.chunks(), count, "each chunk left the origin once");
    assert_eq!(led(&nodes), count);
    assert!(nodes.iter().all(|node| node.counters.chunks_led.get() > 0), "the link is shared");
    let frames = origin.counters.chunk_frame_bytes() as f64 / lab.content.len() as f64;
    assert!(frames <= 1.01, "{frames}");
    eventually(secs(5), || {
        nodes.iter().map(|node| node.counters.origin_bytes.get()).sum::<u64>() == origin.counters.chunk_frame_bytes()
    })
    .await;
    assert!(nodes.iter().all(|node| node.counters.peer_bytes.get() > 0));
    eventually(secs(5), || {
        let served: u64 = nodes.iter().map(|node| node.counters.peer_served_bytes.get()).sum();
        let received: u64 = nodes.iter().map(|node| node.counters.peer_bytes.get()).sum();
        served == received
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_gets_the_chunk_that_it_waits_for_and_the_others_fetch_only_what_they_lead() {
    let (lab, origin) = Laboratory::new(3, 12 * MIB, None).await;
    let nodes = lab.start();
    let artifact = lab.artifact();
    nodes[0].chunk(&artifact, 30, PATIENCE).await.unwrap();
    nodes[0].complete(&artifact, PATIENCE).await;
    let count = nodes[0].store.reader(&artifact).unwrap().manifest().chunk_count();
    assert_eq!(origin.counters.chunks(), u64::from(count));
    for node in &nodes[1..] {
        let kept = node.chunks_here(&artifact);
        assert!(kept > 0 && kept < count, "{kept} of {count}");
        assert_eq!(u64::from(kept), node.counters.chunks_led.get());
    }
    assert_eq!(nodes[0].chunk(&artifact, count, secs(5)).await, Err(Unobtainable::NoSuchChunk { index: count, count }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_killed_half_way_and_restarted_costs_the_wan_link_next_to_nothing() {
    let (lab, origin) = Laboratory::new(3, 80 * MIB, Some(20 << 20)).await;
    let mut nodes = lab.start();
    let artifact = lab.artifact();
    for node in &nodes {
        node.fetch.want(artifact);
    }
    eventually(PATIENCE, || origin.counters.chunk_frame_bytes() > lab.content.len() as u64 / 2).await;
    let before = nodes.remove(1);
    let had = before.chunks_here(&artifact);
    before.kill().await;
    let again = lab.node(1);
    assert!(had > 0);
    nodes.push(again);
    for node in &nodes {
        node.complete(&artifact, PATIENCE).await;
    }
    assert!(nodes[2].bytes(&artifact).await == lab.content);
    let frames = origin.counters.chunk_frame_bytes() as f64 / lab.content.len() as f64;
    println!("frames from the origin / content: {frames:.4}, repeated: {:?}", origin.repeated(&lab));
    assert!(frames <= 1.05, "{frames}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_node_dies_the_others_complete_without_it() {
    let (lab, origin) = Laboratory::new(3, 80 * MIB, Some(20 << 20)).await;
    let mut nodes = lab.start();
    let artifact = lab.artifact();
    for node in &nodes {
        node.fetch.want(artifact);
    }
    eventually(PATIENCE, || origin.counters.chunk_frame_bytes() > lab.content.len() as u64 / 2).await;
    nodes.remove(2).kill().await;
    for node in &nodes {
        node.complete(&artifact, PATIENCE).await;
    }
    let frames = origin.counters.chunk_frame_bytes() as f64 / lab.content.len() as f64;
    println!("frames from the origin / content: {frames:.4}, repeated: {:?}", origin.repeated(&lab));
    assert!(frames <= 1.05, "{frames}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_sends_wrong_bytes_is_banned_and_named_and_the_chunk_refetched() {
    let (mut lab, _origin) = Laboratory::new(3, 8 * MIB, None).await;
    let liar = lab.strange_peer(2, Manner::Lies).await;
    let nodes = [lab.node(0), lab.node(1)];
    let artifact = lab.artifact();
    for node in &nodes {
        node.fetch.want(artifact);
    }
    for node in &nodes {
        node.complete(&artifact, PATIENCE).await;
        assert!(node.bytes(&artifact).await == lab.content, "nobody keeps a wrong byte");
        let bans = node.state.bans().unwrap();
        assert_eq!(bans.len(), 1);
        assert_eq!(bans[0].peer, lab.identities[2].key.public());
        assert!(bans[0].reason.contains("signed by it"), "{}", bans[0].reason);
        assert!(bans[0].reason.contains(&artifact.to_string()), "{}", bans[0].reason);
        assert!(node.counters.corrupt_chunks.get() >= 1);
    }
    let [first, second] = nodes;
    drop(second);
    let served = liar.counters.chunks();
    first.kill().await;
    let again = lab.node(0);
    again.chunk(&artifact, 0, PATIENCE).await.unwrap();
    assert_eq!(liar.counters.chunks(), served, "a ban outlives the process");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_holds_back_what_it_has_is_worked_round() {
    let (mut lab, _origin) = Laboratory::new(2, 4 * MIB, None).await;
    let _idler = lab.strange_peer(1, Manner::HoldsBack).await;
    let node = lab.node(0);
    let artifact = lab.artifact();
    node.fetch.want(artifact);
    node.complete(&artifact, secs(30)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retraction_ends_the_fetch_and_whoever_waits_is_told() {
    let (mut lab, origin) = Laboratory::new(2, 16 * MIB, Some(2 << 20)).await;
    let nodes = lab.start();
    let artifact = lab.artifact();
    let waiting = nodes[0].chunk(&artifact, 10, PATIENCE);
    let retract = async {
        // A chunk takes half a second and more.
        eventually(PATIENCE, || origin.counters.chunk_frame_bytes() > 64 << 10).await;
        lab.retracted = true;
        for node in &nodes {
            node.publisher.publish(lab.view(node.identity.key.public()));
        }
    };
    let (answer, ()) = tokio::join!(waiting, retract);
    assert_eq!(answer, Err(Unobtainable::Retracted));
    assert_eq!(nodes[1].chunk(&artifact, 0, secs(5)).await, Err(Unobtainable::Retracted));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_chunk_is_repaired_from_a_peer() {
    let (lab, origin) = Laboratory::new(2, 6 * MIB, None).await;
    let mut nodes = lab.start();
    let artifact = lab.artifact();
    for node in &nodes {
        node.fetch.want(artifact);
    }
    for node in &nodes {
        node.complete(&artifact, PATIENCE).await;
        node.store.flush().await.unwrap();
    }
    let sent = origin.counters.chunks();
    let hex = artifact.to_hex();
    let path = nodes[0].dir.join("content/artifacts").join(&hex[..2]).join(&hex);
    let (identity, dir) = nodes.remove(0).kill().await;
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 0x40;
    std::fs::write(&path, bytes).unwrap();
    let first = Node::start(identity.clone(), dir, lab.view(identity.key.public()));
    let reader = first.store.reader(&artifact).unwrap();
    let index = reader.manifest().chunk_at(at as u64).unwrap();
    assert!(reader.read(index).await.is_err(), "the damage is seen");
    first.chunk(&artifact, index, PATIENCE).await.unwrap();
    assert!(first.bytes(&artifact).await == lab.content);
    assert_eq!(origin.counters.chunks(), sent, "the peer had it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_released_or_out_of_reach_is_said_in_time() {
    let (lab, mut origin) = Laboratory::new(1, 2 * MIB, None).await;
    let node = lab.node(0);
    let unknown = sluice_model::ArtifactId::from_bytes([9; 32]);
    assert_eq!(node.chunk(&unknown, 0, secs(5)).await, Err(Unobtainable::NotReleased));
    origin.stop().await;
    assert_eq!(node.chunk(&lab.artifact(), 0, Duration::from_millis(700)).await, Err(Unobtainable::NotInTime));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_node_is_worked_round_within_ten_seconds() {
    let (lab, _origin) = Laboratory::new(3, 8 * MIB, None).await;
    let _stopped = StoppedServer::start(&lab.identities[1]);
    let nodes = [lab.node(0), lab.node(2)];
    let artifact = lab.artifact();
    let begun = Instant::now();
    for node in &nodes {
        node.fetch.want(artifact);
    }
    for node in &nodes {
        node.complete(&artifact, secs(30)).await;
    }
    assert!(begun.elapsed() < secs(10), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retraction_cuts_what_is_being_sent_to_a_peer() {
    let (mut lab, _origin) = Laboratory::new(2, 8 * MIB, None).await;
    lab.serve = Some(1 << 20);
    let artifact = lab.artifact();
    let full = lab.node(0);
    full.fetch.want(artifact);
    full.complete(&artifact, PATIENCE).await;
    let other = lab.node(1);
    other.fetch.want(artifact);
    eventually(PATIENCE, || full.counters.peer_served_bytes.get() > 1 << 20).await;
    lab.retracted = true;
    full.publisher.publish(lab.view(full.identity.key.public()));
    let cut_at = full.counters.peer_served_bytes.get();
    // The other has not heard of it yet: it takes the rest from the origin.
    other.complete(&artifact, PATIENCE).await;
    let after = full.counters.peer_served_bytes.get();
    assert!(after - cut_at <= 512 << 10, "{} bytes after the retraction", after - cut_at);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_disk_is_full_says_so_and_serves_what_it_has() {
    let (lab, _origin) = Laboratory::new(2, 4 * MIB, None).await;
    let artifact = lab.artifact();
    let good = lab.node(0);
    good.fetch.want(artifact);
    good.complete(&artifact, PATIENCE).await;
    good.store.flush().await.unwrap();
    let (identity, dir) = good.kill().await;
    let full = || StoreLimits { reserve_bytes: u64::MAX / 2, ..StoreLimits::default() };
    let view = lab.view(identity.key.public());
    let good = Node::start_with(identity, dir, view, full());
    let identity = lab.identities[1].clone();
    let dir = lab.dir.path().join("full");
    let view = lab.view(identity.key.public());
    let bad = Node::start_with(identity, dir, view, full());
    let answer = bad.chunk(&artifact, 0, PATIENCE).await;
    assert!(matches!(answer, Err(Unobtainable::CachingStopped { .. })), "{answer:?}");
    assert!(bad.trouble.get().is_some_and(|why| why.contains("caching has stopped")));
    assert!(good.bytes(&artifact).await == lab.content, "what is there is served");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_gets_nothing() {
    let (lab, _origin) = Laboratory::new(1, MIB, None).await;
    let node = lab.node(0);
    let stranger = DeviceKey::generate().unwrap();
    let expected = node.identity.key.public();
    let mut stream = connect(node.identity.address, &stranger, expected, Alpn::Exchange, LinkKind::Lan).await.unwrap();
    let mut bytes = Vec::new();
    let _ = tokio::time::timeout(secs(5), stream.read_to_end(&mut bytes)).await.expect("the connection is closed");
    assert!(bytes.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wan_cap_holds_for_a_node_that_fetches_alone() {
    let cap = 4_u64 << 20;
    let (lab, _origin) = Laboratory::new(1, 12 * MIB, None).await;
    let node = lab.node_with_cap(0, cap);
    let artifact = lab.artifact();
    let begun = Instant::now();
    node.fetch.want(artifact);
    node.complete(&artifact, PATIENCE).await;
    let least = Duration::from_secs_f64(lab.content.len() as f64 / (cap as f64 * 1.05) - 0.1);
    assert!(begun.elapsed() >= least, "{:?}", begun.elapsed());
    let peak = node.counters.wan_peak_bytes_per_sec();
    assert!(peak as f64 <= cap as f64 * 1.05 + 65_536.0, "{peak}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_schedule_closes_the_link_content_comes_from_the_site_only_and_after_it_from_the_origin() {
    let (lab, origin) = Laboratory::new(2, 2 * MIB, None).await;
    let nodes = lab.start();
    let artifact = lab.artifact();
    nodes[0].fetch.want(artifact);
    nodes[0].complete(&artifact, PATIENCE).await;
    let sent = origin.counters.chunks();
    assert!(sent > 0);
    let closed =
        WanNow { bytes_per_sec: None, is_closed: true, until: Some(Timestamp::from_millis(4_000_000_000_000)) };
    let close = |node: &Node| node.hours.send_replace(closed);
    close(&nodes[1]);
    nodes[1].fetch.want(artifact);
    nodes[1].complete(&artifact, PATIENCE).await;
    assert_eq!(origin.counters.chunks(), sent, "the other node had it");

    let (lab, origin) = Laboratory::new(1, 2 * MIB, None).await;
    let node = lab.node(0);
    close(&node);
    let artifact = lab.artifact();
    let begun = Instant::now();
    let answer = node.chunk(&artifact, 0, PATIENCE).await;
    assert!(matches!(&answer, Err(Unobtainable::LinkClosed { until }) if until.contains("2096")), "{answer:?}");
    assert!(begun.elapsed() < secs(7), "{:?}", begun.elapsed());
    assert_eq!(origin.counters.chunks(), 0);
    node.hours.send_replace(WanNow { is_closed: false, ..closed });
    node.complete(&artifact, PATIENCE).await;
}
