//! Programs start with words, stop on SIGTERM, and stay small however large the artifact. proves: A1, L1.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests measure time")]

use sluice_tests::{is_full_tier, peak_memory, world};
use sluice_xtask::lab::packages;
use sluice_xtask::lab::world::{content_url, curl};
use std::time::{Duration, Instant};

/// What each process may hold at most while it moves a large artifact.
const PEAK_BYTES_MAX: u64 = 200 << 20;

#[test]
fn every_program_says_where_it_is_and_stops_within_ten_seconds_of_sigterm() {
    let mut world = world("stop").unwrap();
    world.add_site("lyon", "10.1.0.0/16", "8mbit").unwrap();
    world.add_node("node-1", "lyon").unwrap();
    world.until_connected().unwrap();
    let needs = vec![(packages::RUNTIME.to_owned(), "1.0".to_owned())];
    world.add_endpoint("desk", ("lyon", "production"), &needs, "all").unwrap();
    // A long transfer is under way on every leg while they are told to stop.
    let version = packages::one(&world.lab.folder("packages").unwrap(), "1.0-1", 16 << 20).unwrap();
    world.publish("demo", &version, "high", "CVE-2026-10001").unwrap();
    world.approve("demo/1.0-1", "production").unwrap();
    world.start_agent("desk").unwrap();
    let moves = sluice_xtask::lab::wait(Duration::from_secs(30), || {
        Ok(world.site("lyon")?["origin_bytes"].as_u64().unwrap_or(0) > 1 << 20)
    });
    assert!(moves.unwrap(), "nothing moves");
    let repo = world.repo_listening().unwrap().clone();
    for (program, listening) in [("repo", &repo), ("node-1", &world.nodes[0].listening)] {
        let log = world.lab.log(program);
        for address in [&listening.http, &listening.device, &listening.overlay] {
            assert!(log.contains(address.as_str()), "{program} does not say that it listens on {address}: {log}");
        }
        assert!(
            log.contains(&world.lab.dir().display().to_string()),
            "{program} does not say where its data is: {log}"
        );
    }
    for program in ["desk", "node-1", "repo"] {
        let took = world.lab.terminate(program).unwrap();
        println!("{program} stopped after {:.2} s", took.as_secs_f64());
    }
}

#[test]
fn a_large_artifact_is_published_carried_and_served_in_little_memory() {
    let bytes = if is_full_tier() { 2usize << 30 } else { 256 << 20 };
    let mut world = world("large").unwrap();
    world.add_site("lyon", "10.1.0.0/16", "8gbit").unwrap();
    world.add_node("node-1", "lyon").unwrap();
    world.add_node("node-2", "lyon").unwrap();
    world.until_connected().unwrap();
    let version = packages::one(&world.lab.folder("packages").unwrap(), "1.0-1", bytes).unwrap();
    let begun = Instant::now();
    world.publish("demo", &version, "high", "CVE-2026-10001").unwrap();
    println!("published {bytes} bytes in {:.1} s", begun.elapsed().as_secs_f64());
    world.approve("demo/1.0-1", "production").unwrap();
    let begun = Instant::now();
    let output = world.lab.dir().join("fetched");
    let arguments = ["--max-time", "600", "-o", &output.display().to_string(), &content_url(&world.nodes[0], &version)];
    assert_eq!(curl(&arguments).unwrap().status, 200);
    println!("carried and served in {:.1} s", begun.elapsed().as_secs_f64());
    let sum = sluice_xtask::cargo::output(std::process::Command::new("sha256sum").arg(&output)).unwrap();
    assert!(sum.starts_with(&version.debs[0].sha256), "other bytes arrived");
    for program in ["repo", "node-1", "node-2"] {
        let peak = peak_memory(world.lab.pid(program).unwrap()).unwrap();
        println!("{program}: peak memory {} MiB", peak >> 20);
        assert!(peak < PEAK_BYTES_MAX, "{program} held {peak} bytes");
    }
}
