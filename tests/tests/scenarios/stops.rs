//! What the repository's own programs stop, and what two people let go again: the same bytes are asked for by every client
//! before, meanwhile and after.

use crate::LONG;
use crate::stage::{Stage, target_of};
use crate::table::Table;
use sluice_tests::foreign::Said;
use sluice_xtask::lab::packages::{self, Version};
use sluice_xtask::lab::world::rows;
use sluice_xtask::lab::{Person, wait};

/// What every client must say of `version` now.
struct Expected {
    /// The node's HTTP status.
    node: u16,
    /// What the endpoint has installed after its pass.
    installed: &'static str,
    foreign: Foreign,
}

#[derive(Clone, Copy)]
enum Foreign {
    Gets,
    /// The metadata is verified and lists it; the bytes are answered with this status.
    NotDelivered(u64),
    FindsNothing,
}

/// A later version of the good patch is suspended before anybody has it, let go, retracted, reinstated and retracted again.
pub fn all(stage: &mut Stage, table: &mut Table) {
    let folder = stage.world.lab.folder("packages").unwrap();
    let later = packages::one(&folder, "1.1-1", 1 << 18).unwrap();
    let carol = stage.world.add_person("carol", &["approver"]).unwrap();
    suspension(stage, table, &later);
    reinstatement(stage, table, &later, &carol);
}

fn suspension(stage: &mut Stage, table: &mut Table, later: &Version) {
    let bob = stage.world.bob.clone();
    let what = ["suspend", "--patch", "good", "--from", "1.1-1", "--to", "1.1-1", "--reason", "a scenario"];
    let made = stage.world.lab.ask(&bob, &what).unwrap();
    stage.world.publish("good", later, "high", "CVE-2026-10003").unwrap();
    stage.world.approve("good/1.1-1", "production").unwrap();
    // The metadata lists it like any other: a TUF client knows no suspension. What it does not get are the bytes.
    let stopped = Expected { node: 423, installed: "1.0-1", foreign: Foreign::NotDelivered(423) };
    check(stage, later, &stopped, "while it is suspended");
    table.note("suspension", ["423", "keeps 1.0-1", "423", "423", "423"]);

    let id = made["id"].to_string();
    let lift = ["suspensions", "lift", id.as_str(), "--reason", "it was the kernel"];
    stage.world.lab.ask(&bob, &lift).unwrap();
    check(stage, later, &stopped, "after one person lifted the suspension");
    stage.world.lab.ask(&stage.world.alice, &lift).unwrap();
    let free = Expected { node: 200, installed: "1.1-1", foreign: Foreign::Gets };
    check(stage, later, &free, "after two people lifted the suspension");
    table.note("suspension lifted by two people", ["serves it", "installs it", "gets it", "gets it", "gets it"]);
}

fn reinstatement(stage: &mut Stage, table: &mut Table, later: &Version, carol: &Person) {
    let bob = stage.world.bob.clone();
    let retract = ["retract", "good/1.1-1", "--reason", "a scenario"];
    let gone = Expected { node: 410, installed: "1.0-1", foreign: Foreign::FindsNothing };
    stage.world.lab.ask(&bob, &retract).unwrap();
    check(stage, later, &gone, "after the retraction");

    let retractions = stage.world.lab.ask(&bob, &["retractions", "show"]).unwrap();
    let serial = rows(&retractions, "retractions")[0]["serial"].to_string();
    let reinstate = ["reinstate", serial.as_str(), "--ring", "production", "--reason", "it was the kernel"];
    let published_it = stage.world.lab.say(&stage.world.alice, &reinstate).unwrap();
    assert_ne!(published_it.code, 0, "who published it takes no part: {}", published_it.out);
    for _ in 0..2 {
        stage.world.lab.ask(&bob, &reinstate).unwrap();
    }
    check(stage, later, &gone, "after one person, twice, asked for the reinstatement");
    stage.world.lab.ask(carol, &reinstate).unwrap();
    let back = Expected { node: 200, installed: "1.1-1", foreign: Foreign::Gets };
    check(stage, later, &back, "after two people reinstated it");
    table.note("reinstatement by two people", ["serves it", "installs it again", "gets it", "gets it", "gets it"]);

    stage.world.lab.ask(&bob, &retract).unwrap();
    check(stage, later, &gone, "after the second retraction");
    table.note("retraction of what was reinstated", ["410", "goes back", "not found", "not found", "not found"]);
}

/// Waits for the node, then asks everybody once.
fn check(stage: &mut Stage, version: &Version, expected: &Expected, when: &str) {
    let is_so = wait(LONG, || Ok(stage.node_status(version)? == expected.node)).unwrap();
    assert!(is_so, "{when}: the node answers {}, not {}", stage.node_status(version).unwrap(), expected.node);
    for way in ["direct", "node"] {
        for (client, said) in stage.ask_foreign(way, &target_of(version)).unwrap() {
            let is_right = match (expected.foreign, &said) {
                (Foreign::Gets, Said::Got(sha256)) => *sha256 == version.debs[0].sha256,
                (Foreign::NotDelivered(status), Said::NotDelivered(found, _)) => status == *found,
                (Foreign::FindsNothing, Said::NotFound) => true,
                _ => false,
            };
            assert!(is_right, "{when}: {client} ({way}) said {said:?}");
        }
    }
    let installed = stage.honest_pass().unwrap();
    assert_eq!(installed.as_deref(), Some(expected.installed), "{when}: the agent");
}
