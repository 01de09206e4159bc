//! Bans in the whole fleet: one node's evidence makes all others refuse the peer; forged evidence does not; an admin lifts
//! them. proves: B13.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use serde_json::Value;
use sluice_api::bans::BanReport;
use sluice_api_client::{ClientError, DeviceClient};
use sluice_exchange::evidence::{self, Evidence};
use sluice_identity::DeviceKey;
use sluice_model::{ArtifactId, BanEvidence, MemberKey};
use sluice_overlay::{Overlay, OverlayConfig, OverlayEvent};
use sluice_tests::world;
use sluice_transport::{DeviceListener, ListenLimits, trailer_holds};
use sluice_xtask::lab::world::{World, content_url, curl, rows};
use sluice_xtask::lab::{packages, wait};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use support::liar::{Liar, lie};
use support::member::{Exchange, announce, client, is_answered, join, node, signed_chunk};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

const LONG: Duration = Duration::from_secs(30);

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn bans(world: &World) -> Value {
    world.lab.ask(&world.bob, &["bans", "list"]).unwrap()
}

fn in_force(list: &Value) -> Vec<Value> {
    rows(list, "bans").iter().filter(|ban| ban["lifted"].is_null()).cloned().collect()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    assert!(wait(LONG, || Ok(holds())).unwrap(), "{what}");
}

/// An overlay end of the liar, linked to a node while it may be.
struct Linked {
    events: tokio::sync::mpsc::Receiver<OverlayEvent>,
    _tasks: tokio::task::JoinSet<()>,
}

impl Linked {
    async fn to(world: &World, key: &DeviceKey, at: usize) -> Self {
        let config = OverlayConfig {
            seed: key.signer().seed(),
            listen: "127.0.0.1:0".parse().unwrap(),
            topics: vec!["sluice/test".into()],
        };
        let (handle, task, events) = Overlay::open(config).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move { task.run(CancellationToken::new()).await.unwrap() });
        let (peer, _) = node(world, &world.nodes[at]);
        let address = world.nodes[at].listening.overlay.parse().unwrap();
        handle.set_allowed(vec![peer]).await.unwrap();
        handle.dial(peer, vec![address]).await.unwrap();
        let mut linked = Self { events, _tasks: tasks };
        linked.until(|event| matches!(event, OverlayEvent::Up(member) if *member == peer)).await;
        // The handle would end the task with it.
        std::mem::forget(handle);
        linked
    }

    async fn until(&mut self, wanted: impl Fn(&OverlayEvent) -> bool) {
        let found = async { while !wanted(&self.events.recv().await.expect("the overlay runs")) {} };
        tokio::time::timeout(LONG, found).await.expect("the link changes in time");
    }
}

#[test]
fn evidence_of_one_node_makes_all_others_refuse_the_peer_until_an_admin_lifts_the_ban() {
    sluice_identity::install_provider();
    let mut world = world("bans").unwrap();
    world.add_site("lyon", "10.1.0.0/16", "400mbit").unwrap();
    world.add_node("node-1", "lyon").unwrap();
    world.add_node("node-2", "lyon").unwrap();
    let key = join(&world, "node-liar", "lyon");
    let version = packages::one(&world.lab.folder("packages").unwrap(), "1.0-1", 6 << 20).unwrap();
    let content = std::fs::read(&version.debs[0].path).unwrap();
    // Only the first node is lied to: the second never gets a byte of the liar.
    let (first, second) = (node(&world, &world.nodes[0]), node(&world, &world.nodes[1]));
    let liar = Arc::new(Liar { victim: Some(first.0), ..Liar::of(content) });
    let artifact = liar.manifest.artifact();
    let runtime = runtime();
    let listener = runtime.block_on(async {
        let listener = DeviceListener::bind("127.0.0.1:0".parse().unwrap(), &key, ListenLimits::default()).unwrap();
        announce(&world, &key, &listener).await;
        listener
    });
    let serving = runtime.spawn(lie(listener, key.clone(), liar.clone()));
    world.until_connected().unwrap();
    let mut linked = runtime.block_on(Linked::to(&world, &key, 1));

    world.publish("demo", &version, "high", "CVE-2026-10001").unwrap();
    world.approve("demo/1.0-1", "production").unwrap();
    until("node-2 answers a member", || runtime.block_on(is_answered(&key, second, artifact)));
    let mut held = runtime.block_on(Exchange::open(&key, second, None));
    let url = content_url(&world.nodes[0], &version);
    until("node-1 fetches it", || curl(&["-o", "/dev/null", &url]).unwrap().status == 200);
    let lies = liar.lies.load(Ordering::SeqCst);
    assert!((1..=2).contains(&lies), "the liar sent {lies} chunks");

    until("the repository bans the liar on the evidence of node-1", || in_force(&bans(&world)).len() == 1);
    let ban = in_force(&bans(&world))[0].clone();
    assert_eq!((&ban["key"], &ban["accuser"]), (&key.public().to_string().into(), &first.0.to_string().into()));
    let published: BanEvidence = serde_json::from_value(ban["evidence"].clone()).unwrap();
    convinces(&Evidence::from_text(&published).unwrap(), &key.public(), &liar);

    // The other node refuses it: what was open is cut, what is new is closed, on the exchange and on the overlay.
    runtime.block_on(async {
        tokio::time::timeout(LONG, held.until_closed()).await.expect("the open exchange connection is cut");
        linked.until(|event| matches!(event, OverlayEvent::Down(_))).await;
        assert!(!is_answered(&key, second, artifact).await);
        assert!(!is_answered(&key, first, artifact).await);
    });
    let nodes = world.lab.ask(&world.bob, &["nodes"]).unwrap();
    let own = rows(&nodes, "nodes").iter().find(|node| node["name"] == "node-2").unwrap();
    assert_eq!(own["banned"], serde_json::json!([]), "node-2 has nothing of its own against the liar");

    let refused =
        world.lab.say(&world.alice, &["bans", "lift", &key.public().to_string(), "--reason", "mine"]).unwrap();
    assert!(refused.code == 1 && refused.err.contains("forbidden"), "{}", refused.err);
    world.lab.ask(&world.bob, &["bans", "lift", &key.public().to_string(), "--reason", "new memory"]).unwrap();
    for to in [second, first] {
        until("a lifted ban holds nowhere", || runtime.block_on(is_answered(&key, to, artifact)));
    }
    // The node that made the ban forgets it for good, and its old evidence does not ban again.
    world.lab.terminate("node-1").unwrap();
    world.restart_node("node-1").unwrap();
    world.until_connected().unwrap();
    let again = BanReport { peer: key.public(), evidence: published, lifts: 0 };
    let accuser = DeviceKey::load(&world.nodes[0].data.join("device.key")).unwrap();
    runtime.block_on(client(&world, &accuser).report_ban(&again)).unwrap();
    let replayed = BanReport { lifts: 1, ..again };
    runtime.block_on(client(&world, &accuser).report_ban(&replayed)).unwrap();
    let list = bans(&world);
    assert!(in_force(&list).is_empty(), "{list}");
    assert_eq!(list["bans"][0]["lifted"]["reason"], "new memory");
    assert!(runtime.block_on(is_answered(&key, first, artifact)));
    serving.abort();
}

/// What anybody with the manifest finds in published evidence.
fn convinces(evidence: &Evidence, accused: &MemberKey, liar: &Liar) {
    let (artifact, index, receiver) = (evidence.artifact(), evidence.index(), evidence.receiver());
    assert!(trailer_holds(accused, &receiver, &artifact, index, &evidence.sent(), &evidence.signature));
    evidence::judge(evidence, &receiver, |_| true, &liar.manifest).unwrap();
}

/// Sends evidence against `accused`; the words of the refusal.
async fn refusal(client: &DeviceClient, accused: MemberKey, evidence: BanEvidence) -> String {
    let report = BanReport { peer: accused, evidence, lifts: 0 };
    match client.report_ban(&report).await {
        Err(ClientError::Problem { problem, .. }) => format!("{} {}", problem.status, problem.detail),
        other => panic!("the evidence was not refused: {other:?}"),
    }
}

#[test]
fn forged_evidence_bans_nobody_and_is_counted_against_its_sender() {
    sluice_identity::install_provider();
    let mut world = world("forged-evidence").unwrap();
    world.add_site("lyon", "10.1.0.0/16", "400mbit").unwrap();
    world.add_node("node-1", "lyon").unwrap();
    let (forger, other) = (join(&world, "node-forger", "lyon"), join(&world, "node-other", "lyon"));
    let version = packages::one(&world.lab.folder("packages").unwrap(), "1.0-1", 3 << 20).unwrap();
    let liar = Liar::of(std::fs::read(&version.debs[0].path).unwrap());
    let artifact = liar.manifest.artifact();
    world.publish("demo", &version, "high", "CVE-2026-10001").unwrap();
    world.approve("demo/1.0-1", "production").unwrap();
    let runtime = runtime();
    let honest = node(&world, &world.nodes[0]);
    for key in [&forger, &other] {
        until("node-1 answers members", || runtime.block_on(is_answered(key, honest, artifact)));
    }
    let url = content_url(&world.nodes[0], &version);
    until("node-1 fetches it", || curl(&["-o", "/dev/null", &url]).unwrap().status == 200);

    let (bytes, trailer) = runtime.block_on(signed_chunk(&forger, honest, artifact, 0));
    let (_, to_other) = runtime.block_on(signed_chunk(&other, honest, artifact, 0));
    let (me, right, wrong) = (forger.public(), evidence::hash_sent(&bytes), [9; 32]);
    let elsewhere = ArtifactId::from_bytes([3; 32]);
    let sign = |key: &DeviceKey, statement: &[u8]| key.signer().sign_purpose(evidence::PURPOSE, statement);
    let forged = |receiver, artifact, index, sent, signature| {
        Evidence::of(&receiver, &artifact, index, &sent, signature).to_text()
    };
    let by = |key: &DeviceKey, receiver: MemberKey, artifact: ArtifactId, index, sent: [u8; 32]| {
        let signature = sign(key, &evidence::statement(&receiver, &artifact, index, &sent));
        forged(receiver, artifact, index, sent, signature)
    };
    let accomplice = other.public();
    let cases: Vec<(MemberKey, BanEvidence, &str)> = vec![
        (honest.0, forged(me, artifact, 0, right, trailer), "the right bytes"),
        (honest.0, forged(me, artifact, 0, wrong, trailer), "signature"),
        (honest.0, by(&forger, me, artifact, 0, wrong), "signature"),
        (honest.0, forged(me, artifact, 1, right, trailer), "signature"),
        (honest.0, forged(me, elsewhere, 0, right, trailer), "another artifact"),
        (honest.0, forged(accomplice, artifact, 0, right, to_other), "another receiver"),
        // Not even one who signs whatever he is asked to is convicted by what is no chunk, or not the accuser's.
        (accomplice, by(&other, me, artifact, liar.manifest.chunk_count(), wrong), "chunks"),
        (accomplice, by(&other, me, elsewhere, 0, wrong), "another artifact"),
        (accomplice, by(&other, honest.0, artifact, 0, wrong), "another receiver"),
        (honest.0, BanEvidence { statement: "c3Q=".into(), signature: "c2k=".into() }, "no evidence"),
    ];
    let count = cases.len();
    let origin = client(&world, &forger);
    for (accused, evidence, words) in cases {
        let said = runtime.block_on(refusal(&origin, accused, evidence));
        assert!(said.starts_with("422") && said.contains(words), "{words:?} is not in {said}");
    }
    let stranger = DeviceKey::generate().unwrap();
    let said = runtime.block_on(refusal(&client(&world, &stranger), honest.0, forged(me, artifact, 0, right, trailer)));
    assert!(said.starts_with("403"), "{said}");

    let list = bans(&world);
    assert_eq!(list["bans"], serde_json::json!([]), "{list}");
    assert_eq!(list["false_evidence"][0]["name"], "node-forger");
    assert_eq!(list["false_evidence"][0]["count"], count);
    for key in [&forger, &other] {
        assert!(runtime.block_on(is_answered(key, honest, artifact)), "nobody refuses anybody");
    }
    // The same statement that the accomplice signs about a real chunk for the accuser does convict: the check can succeed.
    let good = BanReport { peer: accomplice, evidence: by(&other, me, artifact, 0, wrong), lifts: 0 };
    runtime.block_on(origin.report_ban(&good)).unwrap();
    assert_eq!(in_force(&bans(&world))[0]["name"], "node-other");
}
