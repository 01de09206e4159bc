//! What kill -9 may cost, and what it may never cost. proves: B5, I2, P2, P9.
#![allow(clippy::unwrap_used, reason = "tests")]

use anyhow::Result;
use sluice_tests::{metric, world};
use sluice_xtask::lab::packages;
use sluice_xtask::lab::wait;
use sluice_xtask::lab::world::{World, content_url, curl};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);
/// Largest chunk: what one request may have in flight.
const CHUNK_BYTES_MAX: f64 = (4 << 20) as f64;
/// Requests in flight at one peer.
const IN_FLIGHT_MAX: f64 = 2.0;

fn needs() -> Vec<(String, String)> {
    vec![(packages::RUNTIME.to_owned(), "1.0".to_owned())]
}

fn world_with_endpoint(name: &str, bytes: usize, cap: &str) -> Result<(World, packages::Version)> {
    let mut world = world(name)?;
    world.add_site("lyon", "10.1.0.0/16", cap)?;
    world.add_node("node-1", "lyon")?;
    world.until_connected()?;
    world.add_endpoint("desk", ("lyon", "production"), &needs(), "all")?;
    let version = packages::one(&world.lab.folder("packages")?, "1.0-1", bytes)?;
    world.publish("demo", &version, "high", "CVE-2026-10001")?;
    Ok((world, version))
}

#[test]
fn a_node_killed_in_mid_fetch_fetches_again_at_most_what_was_not_committed() {
    let (mut world, version) = world_with_endpoint("kill-node", 24 << 20, "40mbit").unwrap();
    world.approve("demo/1.0-1", "production").unwrap();
    world.until_current().unwrap();
    let url = content_url(&world.nodes[0], &version);
    let mut early = std::process::Command::new("curl").args(["--silent", "-o", "/dev/null", &url]).spawn().unwrap();
    let origin_bytes = |world: &World| world.site("lyon").unwrap()["origin_bytes"].as_f64().unwrap();
    let is_under_way = wait(LONG, || Ok(origin_bytes(&world) > f64::from(10 << 20))).unwrap();
    assert!(is_under_way, "nothing moved");
    world.lab.kill("node-1").unwrap();
    let _ = early.wait();
    world.restart_node("node-1").unwrap();
    let whole = world.lab.dir().join("whole");
    let answer =
        curl(&["--max-time", "60", "-o", &whole.display().to_string(), &content_url(&world.nodes[0], &version)])
            .unwrap();
    assert_eq!(answer.status, 200);
    assert!(std::fs::read(&whole).unwrap() == std::fs::read(&version.debs[0].path).unwrap(), "other bytes arrived");
    let site = world.site("lyon").unwrap();
    let distinct = site["distinct_bytes"].as_f64().unwrap();
    let again = origin_bytes(&world) - distinct;
    let batch = 40e6 / 8.0;
    println!("fetched again: {again} bytes of {distinct}; one second of the link is {batch}");
    assert!(again <= IN_FLIGHT_MAX * CHUNK_BYTES_MAX + batch, "{again} bytes were fetched again");
}

#[test]
fn an_acknowledged_report_survives_a_killed_repository_and_counts_once() {
    let (mut world, version) = world_with_endpoint("kill-repo", 1 << 20, "400mbit").unwrap();
    world.start_agent("desk").unwrap();
    world.approve("demo/1.0-1", "production").unwrap();
    world.until_state(&["desk"], "demo/1.0-1", "installed", LONG).unwrap();
    world.lab.kill("repo").unwrap();
    world.start_repository().unwrap();
    let installed = |world: &World| -> usize {
        let outcomes = world.outcomes_of("desk").unwrap();
        outcomes.iter().filter(|row| row["outcome"] == "installed").count()
    };
    assert_eq!(installed(&world), 1, "the report is lost or doubled");
    assert!(world.all_have(&["desk"], &version).unwrap());
    // Everything goes on from there: the next version arrives and is counted once too.
    let next = packages::one(&world.lab.folder("packages").unwrap(), "2.0-1", 1 << 20).unwrap();
    world.publish("demo", &next, "high", "CVE-2026-10002").unwrap();
    world.approve("demo/2.0-1", "production").unwrap();
    world.until_state(&["desk"], "demo/2.0-1", "installed", LONG).unwrap();
    assert_eq!(installed(&world), 2);
}

#[test]
fn a_spooled_report_survives_a_killed_node_and_counts_once() {
    let (mut world, version) = world_with_endpoint("kill-spool", 1 << 20, "400mbit").unwrap();
    world.approve("demo/1.0-1", "production").unwrap();
    world.until_current().unwrap();
    let url = content_url(&world.nodes[0], &version);
    let is_there = wait(LONG, || Ok(curl(&["-o", "/dev/null", &url])?.status == 200)).unwrap();
    assert!(is_there, "the node does not serve the patch");
    world.lab.terminate("repo").unwrap();
    world.start_agent("desk").unwrap();
    world.until_on_disk(&["desk"], &version, LONG).unwrap();
    let http = world.nodes[0].listening.http.clone();
    let spooled = wait(LONG, || Ok(metric(&http, "sluice_spooled_reports").is_ok_and(|count| count >= 1.0))).unwrap();
    assert!(spooled, "the node spooled nothing");
    world.lab.kill("node-1").unwrap();
    world.lab.kill("desk").unwrap();
    world.restart_node("node-1").unwrap();
    world.start_repository().unwrap();
    world.until_state(&["desk"], "demo/1.0-1", "installed", LONG).unwrap();
    world.start_agent("desk").unwrap();
    let delivered =
        wait(LONG, || Ok(metric(&world.nodes[0].listening.http, "sluice_spooled_reports")? == 0.0)).unwrap();
    assert!(delivered, "the spool is not empty");
    let outcomes = world.outcomes_of("desk").unwrap();
    let installed = outcomes.iter().filter(|row| row["outcome"] == "installed").count();
    assert_eq!(installed, 1, "{outcomes:?}");
}

#[test]
fn one_node_of_three_killed_half_way_costs_the_wan_link_at_most_five_percent() {
    let mut world = world("kill-third").unwrap();
    world.add_site("brno", "10.2.0.0/16", "64mbit").unwrap();
    for name in ["node-1", "node-2", "node-3"] {
        world.add_node(name, "brno").unwrap();
    }
    world.until_connected().unwrap();
    // A chunk is at most 4 MiB, and what the killed node had received of one is lost: less than 5 % of this.
    let version = packages::one(&world.lab.folder("packages").unwrap(), "1.0-1", 84 << 20).unwrap();
    world.publish("demo", &version, "high", "CVE-2026-10001").unwrap();
    world.approve("demo/1.0-1", "production").unwrap();
    world.until_current().unwrap();
    let site = |world: &World, name: &str| world.site("brno").unwrap()[name].as_f64().unwrap();
    let mut clients: Vec<_> = (0..2)
        .map(|node| {
            let url = content_url(&world.nodes[node * 2], &version);
            std::process::Command::new("curl").args(["--silent", "-o", "/dev/null", &url]).spawn().unwrap()
        })
        .collect();
    assert!(wait(LONG, || Ok(site(&world, "origin_bytes") > 40e6)).unwrap(), "nothing moved");
    world.lab.kill("node-3").unwrap();
    let wasted = |world: &World| site(world, "origin_bytes") - site(world, "distinct_bytes");
    println!("wasted at the kill: {}", wasted(&world));
    std::thread::sleep(Duration::from_millis(500));
    println!("wasted half a second later: {}", wasted(&world));
    world.restart_node("node-3").unwrap();
    let url = content_url(&world.nodes[2], &version);
    assert_eq!(curl(&["--max-time", "60", "-o", "/dev/null", &url]).unwrap().status, 200);
    for client in &mut clients {
        let _ = client.wait();
    }
    let ratio = site(&world, "origin_bytes") / site(&world, "distinct_bytes");
    println!("wasted in the end: {}; amplification {ratio:.4}", wasted(&world));
    assert!(ratio <= 1.05, "amplification {ratio}");
}
