//! The scenario table: what our node, our agent, python-tuf and tuf-js do with a repository that is rotated, attacked or
//! broken, read directly and through our node. proves: A3, F1, F2, P4, P5, attacks 1, 2, 3, 7, 8, 9, 10, 15, 20.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "tests; metadata is signed at the time it is"
)]

mod attacks;
mod forge;
mod server;
mod stage;
mod stops;
mod table;

use forge::{Forge, new_key};
use sluice_metadata::Signer;
use sluice_tests::foreign::{ForeignClient, Said};
use sluice_tests::skip;
use sluice_xtask::lab::wait;
use sluice_xtask::lab::world::curl;
use stage::{Stage, target_of};
use std::collections::BTreeMap;
use std::time::Duration;
use table::{Agent, Case, Foreign, Node, Table};

const LONG: Duration = Duration::from_secs(30);

#[test]
fn every_client_gives_the_expected_answer_to_every_scenario() {
    let foreign = ForeignClient::all().unwrap();
    if foreign.len() < 2 {
        let found: Vec<&str> = foreign.iter().map(ForeignClient::name).collect();
        skip("scenarios", &format!("of the foreign clients only {found:?} are here; cargo xtask setup installs both"));
        return;
    }
    let mut stage = Stage::set_up(foreign).unwrap();
    let mut table = Table::default();
    first_publish(&mut stage, &mut table);
    stops::all(&mut stage, &mut table);
    retraction(&mut stage, &mut table);
    let before = stage.take_over().unwrap();
    stage.remember("before").unwrap();
    let yesterday = rotations(&mut stage, &mut table, before);
    let mut now = yesterday.clone();
    now.seal();
    table.run(&mut stage, "now", Case::taken("a new day", now.clone()));
    stage.remember("now").unwrap();
    for case in attacks::all(&stage, &yesterday, &now) {
        table.run(&mut stage, "now", case);
    }
    for case in logs(&now) {
        table.run(&mut stage, "now", case);
    }
    fast_forward_and_recovery(&mut stage, &mut table, &now);
    table.print();
}

/// The repository's own programs publish; every client finds, fetches and verifies the patch.
fn first_publish(stage: &mut Stage, table: &mut Table) {
    stage.world.approve("good/1.0-1", "production").unwrap();
    let served = wait(LONG, || Ok(stage.node_status(&stage.good)? == 200)).unwrap();
    assert!(served, "the node does not serve the first patch");
    let wanted = Said::Got(stage.good.debs[0].sha256.clone());
    let target = target_of(&stage.good);
    for way in ["direct", "node"] {
        for (client, said) in stage.ask_foreign(way, &target).unwrap() {
            assert_eq!(said, wanted, "{client}, {way}");
        }
    }
    assert_eq!(stage.honest_pass().unwrap().as_deref(), Some("1.0-1"), "the agent did not install the first patch");
    table.note("first publish", ["serves it", "installs it", "gets it", "gets it", "gets it"]);
}

/// The repository's own programs retract: the bytes are gone at once, and foreign clients lose the target with the next
/// release role.
fn retraction(stage: &mut Stage, table: &mut Table) {
    let bad = stage.bad.clone();
    stage.world.publish("bad", &bad, "high", "CVE-2026-10002").unwrap();
    stage.world.approve("bad/0.9-1", "production").unwrap();
    assert!(wait(LONG, || Ok(stage.node_status(&bad)? == 200)).unwrap(), "the node does not serve the second patch");
    for (client, said) in stage.ask_foreign("node", &target_of(&bad)).unwrap() {
        assert_eq!(said, Said::Got(bad.debs[0].sha256.clone()), "{client} before the retraction");
    }
    stage.world.lab.ask(&stage.world.bob, &["retract", "bad/0.9-1", "--reason", "a scenario"]).unwrap();
    assert!(wait(LONG, || Ok(stage.node_status(&bad)? == 410)).unwrap(), "the node still serves a retracted patch");
    for host in [stage.repo_host(), stage.node_host()] {
        let [path, _] = stage::paths_of(&target_of(&bad), &bad.debs[0].sha256);
        assert_eq!(curl(&["-o", "/dev/null", &format!("http://{host}{path}")]).unwrap().status, 410, "{host}");
    }
    for way in ["direct", "node"] {
        for (client, said) in stage.ask_foreign(way, &target_of(&bad)).unwrap() {
            assert_eq!(said, Said::NotFound, "{client}, {way}, after the release role was signed anew");
        }
    }
    assert_eq!(stage.honest_pass().unwrap().as_deref(), Some("1.0-1"));
    table.note(
        "retraction, release role signed anew",
        ["410", "keeps 1.0-1", "410, then not found", "410, then not found", "410, then not found"],
    );
}

fn pair(first: u8) -> Vec<Signer> {
    vec![new_key(first), new_key(first + 1)]
}

/// Four rotations, one after the other, and then all at once for clients that slept through them.
fn rotations(stage: &mut Stage, table: &mut Table, before: Forge) -> Forge {
    let mut forge = before;
    let mut steps: Vec<(&str, Forge)> = Vec::new();
    forge.rotate_root(&[("root", pair(10), 2), ("targets", pair(12), 2)]);
    forge.resign();
    steps.push(("rotation: root and targets by two persons", forge.clone()));
    forge.rotate_delegation("rel-production", pair(14), 2);
    steps.push(("rotation: releases by server and approver", forge.clone()));
    forge.rotate_root(&[("timestamp", vec![new_key(20)], 1), ("snapshot", vec![new_key(21)], 1)]);
    forge.resign();
    steps.push(("rotation: timestamp and snapshot", forge.clone()));
    for (role, key) in [("retractions", 22), ("fleet", 23), ("policy", 24)] {
        forge.rotate_delegation(role, vec![new_key(key)], 1);
    }
    forge.rotate_root(&[("root", pair(16), 2)]);
    forge.seal();
    steps.push(("rotation: retractions, fleet, policy, and root again", forge.clone()));
    for (index, (name, forge)) in steps.iter().enumerate() {
        let from = if index == 0 { "before" } else { "now" };
        table.run(stage, from, Case::taken(name, forge.clone()));
        stage.remember("now").unwrap();
    }
    table.run(stage, "before", Case::taken("four rotations slept through", forge.clone()));
    stage.remember("now").unwrap();
    forge
}

/// An audit log that is another one than the node saw. Nobody is held up, and the node raises its alarm: ADR 13.
fn logs(now: &Forge) -> Vec<Case> {
    let seen = now.signed("timestamp")["x-log"].clone();
    let other = "00".repeat(32);
    let shrunk = serde_json::json!({"size": seen["size"].as_u64().unwrap() - 1, "root": other});
    let forked = serde_json::json!({"size": seen["size"], "root": other});
    let case = |name: &str, head: Option<serde_json::Value>, alarm| {
        let mut forge = now.clone();
        forge.seal_with(
            |_| {},
            |timestamp| {
                match head {
                    Some(head) => timestamp.insert("x-log".into(), head),
                    None => timestamp.remove("x-log"),
                };
            },
        );
        Case { alarm: Some(alarm), ..Case::taken(name, forge) }
    };
    vec![
        case("x-log shrinks", Some(shrunk), "the audit log is not the one that was seen"),
        case("x-log forks", Some(forked), "the audit log is not the one that was seen"),
        case("x-log is gone", None, "the timestamp names no audit log any more"),
    ]
}

/// With the keys of timestamp and snapshot an attacker moves the versions far ahead, which every client has to take; a root
/// that replaces these keys brings them back.
fn fast_forward_and_recovery(stage: &mut Stage, table: &mut Table, now: &Forge) {
    const AHEAD: u64 = 1 << 40;
    let mut ahead = now.clone();
    ahead.seal_with(
        |snapshot| {
            snapshot.insert("version".into(), AHEAD.into());
        },
        |timestamp| {
            timestamp.insert("version".into(), AHEAD.into());
        },
    );
    table.run(stage, "now", Case::taken("fast-forward with stolen online keys", ahead));
    stage.remember("ahead").unwrap();
    let mut recovered = now.clone();
    recovered.seal();
    let mut stale = Case::taken("fast-forward, and the owner signs on with the stolen keys", recovered.clone());
    stale.node = Node::Refuses("is older than the trusted version");
    stale.agent = Agent::Refuses("is older than the trusted version");
    stale.direct = Foreign::Refuses(["BadVersionNumberError", "BadVersionError"]);
    table.run(stage, "ahead", stale);
    recovered.rotate_root(&[("timestamp", vec![new_key(30)], 1), ("snapshot", vec![new_key(31)], 1)]);
    recovered.seal();
    table.run(stage, "ahead", Case::taken("fast-forward, recovered by rotation", recovered));
}

/// Nothing is changed beside the metadata.
fn nothing() -> BTreeMap<String, server::Reply> {
    BTreeMap::new()
}

#[test]
fn the_forge_signs_what_our_verifier_takes_and_a_changed_byte_is_not_taken() {
    use sluice_metadata::{InitParams, Keyring, Profile, RepositoryProfile, Trusted, Writer, dev_roles};
    let rings = vec!["production".parse().unwrap()];
    let mut keyring = Keyring::default();
    let mut keys: BTreeMap<String, Vec<Signer>> = BTreeMap::new();
    for (number, role) in (100..).zip(dev_roles(&rings)) {
        keyring.insert(role.clone(), new_key(number));
        keys.insert(role.to_string(), vec![new_key(number)]);
    }
    let lease = Duration::from_secs(3_600);
    let params = InitParams { repo_id: "x".into(), profile: RepositoryProfile::Dev, rings, now: stage::now(), lease };
    let (writer, publication) = Writer::init(params, &keyring).unwrap();
    let mut forge = Forge::new(publication.files.into_iter().collect(), keys, stage::now());
    forge.rotate_root(&[("root", pair(10), 2), ("targets", pair(12), 2)]);
    forge.resign();
    forge.rotate_delegation("rel-production", pair(14), 2);
    let take = |forge: &Forge| writer.trusted().apply(&mut |name| forge.files.get(name).cloned(), stage::now());
    let version = take(&forge).unwrap().trusted.timestamp_version();
    assert_eq!(version, forge.version("timestamp"));
    let root = forge.files.get("1.root.json").unwrap();
    Trusted::new(root, Profile::Strict).unwrap();
    let bytes = forge.files.get_mut("2.root.json").unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    assert!(take(&forge).is_err());
}
