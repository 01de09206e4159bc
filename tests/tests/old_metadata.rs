//! Yesterday's metadata is refused today, with its own error, across a restart too. proves: F1, P5, attack 2.
#![allow(clippy::unwrap_used, reason = "tests")]

use anyhow::Result;
use sluice_tests::{copy_folder, world};
use sluice_xtask::lab::packages;
use sluice_xtask::lab::wait;
use sluice_xtask::lab::world::{World, content_url, curl};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

/// Whether a program named an attempt to move its metadata back.
fn names_the_rollback(world: &World, program: &str) -> bool {
    let log = world.lab.log(program);
    ["is older than the trusted version", "before the trusted one", "was seen before with other bytes"]
        .iter()
        .any(|words| log.contains(words))
}

fn status_of(world: &World, version: &packages::Version) -> Result<u16> {
    Ok(curl(&["-o", "/dev/null", &content_url(&world.nodes[0], version)])?.status)
}

#[test]
fn a_repository_restored_to_yesterday_moves_neither_a_node_nor_its_agent_back() {
    let mut world = world("replay").unwrap();
    world.add_site("lyon", "10.1.0.0/16", "400mbit").unwrap();
    world.add_node("node-1", "lyon").unwrap();
    world.until_connected().unwrap();
    let needs = vec![(packages::RUNTIME.to_owned(), "1.0".to_owned())];
    world.add_endpoint("desk", ("lyon", "production"), &needs, "all").unwrap();
    let version = packages::one(&world.lab.folder("packages").unwrap(), "1.0-1", 1 << 20).unwrap();
    world.publish("demo", &version, "high", "CVE-2026-10001").unwrap();
    world.approve("demo/1.0-1", "production").unwrap();
    assert!(wait(LONG, || Ok(status_of(&world, &version)? == 200)).unwrap(), "the patch is not served");

    // Yesterday: everything as it is now, of the repository and of the node.
    world.lab.terminate("repo").unwrap();
    world.lab.terminate("node-1").unwrap();
    let (repo, node) = (world.repo_data().to_owned(), world.nodes[0].data.clone());
    copy_folder(&repo, &world.lab.dir().join("repo-yesterday")).unwrap();
    copy_folder(&node, &world.lab.dir().join("node-yesterday")).unwrap();
    world.start_repository().unwrap();
    world.restart_node("node-1").unwrap();

    // Today: the patch is retracted, and both programs know it.
    world.start_agent("desk").unwrap();
    world.until_state(&["desk"], "demo/1.0-1", "installed", LONG).unwrap();
    world.lab.ask(&world.bob, &["retract", "demo/1.0-1", "--reason", "yesterday must not come back"]).unwrap();
    assert!(wait(LONG, || Ok(status_of(&world, &version)? == 410)).unwrap(), "the retraction did not arrive");
    let knows = wait(LONG, || {
        Ok(world.outcomes_of("desk")?.iter().any(|row| row["outcome"] != "installed" && row["outcome"] != "heartbeat"))
    });
    assert!(knows.unwrap(), "the agent did not react to the retraction");

    // The repository is put back to yesterday: the node refuses, also after a restart of its own.
    world.lab.terminate("repo").unwrap();
    std::fs::rename(&repo, world.lab.dir().join("repo-today")).unwrap();
    copy_folder(&world.lab.dir().join("repo-yesterday"), &repo).unwrap();
    world.start_repository().unwrap();
    assert!(wait(LONG, || Ok(names_the_rollback(&world, "node-1"))).unwrap(), "the node did not name the rollback");
    assert_eq!(status_of(&world, &version).unwrap(), 410);
    world.lab.terminate("node-1").unwrap();
    std::fs::remove_file(world.lab.dir().join("node-1.log")).unwrap();
    world.restart_node("node-1").unwrap();
    assert!(wait(LONG, || Ok(names_the_rollback(&world, "node-1"))).unwrap(), "forgotten across the restart");
    assert_eq!(status_of(&world, &version).unwrap(), 410);

    // The node itself is put back to yesterday: the agent refuses, also after a restart of its own.
    world.lab.terminate("node-1").unwrap();
    std::fs::remove_dir_all(&node).unwrap();
    copy_folder(&world.lab.dir().join("node-yesterday"), &node).unwrap();
    world.restart_node("node-1").unwrap();
    assert!(wait(LONG, || Ok(names_the_rollback(&world, "desk"))).unwrap(), "the agent did not name the rollback");
    world.lab.terminate("desk").unwrap();
    std::fs::remove_file(world.lab.dir().join("desk.log")).unwrap();
    world.start_agent("desk").unwrap();
    assert!(wait(LONG, || Ok(names_the_rollback(&world, "desk"))).unwrap(), "forgotten across the agent's restart");
    assert!(
        !world.outcomes_of("desk").unwrap().iter().skip(1).any(|row| row["outcome"] == "installed"),
        "installed again"
    );
}
