//! The two caps of a site, measured from outside. proves: D1 (basic), B2 (basic), P12 (basic).
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests measure time")]

use sluice_tests::world;
use sluice_xtask::lab::packages;
use sluice_xtask::lab::world::{content_url, curl};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How far a measured rate may be from its limit.
const TOLERANCE: f64 = 0.05;
/// Frames from the origin, headers included, over distinct bytes, when nobody dies.
const AMPLIFICATION_MAX: f64 = 1.005;

#[test]
fn the_wan_cap_holds_over_any_second_for_all_nodes_of_a_site_together() {
    let cap = 24e6 / 8.0;
    let mut world = world("wan-cap").unwrap();
    world.add_site("brno", "10.2.0.0/16", "24mbit").unwrap();
    for name in ["node-1", "node-2", "node-3"] {
        world.add_node(name, "brno").unwrap();
    }
    world.until_connected().unwrap();
    let version = packages::one(&world.lab.folder("packages").unwrap(), "1.0-1", 17 << 20).unwrap();
    world.publish("demo", &version, "high", "CVE-2026-10001").unwrap();
    world.approve("demo/1.0-1", "production").unwrap();
    world.until_current().unwrap();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for node in &world.nodes {
            let url = content_url(node, &version);
            scope.spawn(move || assert_eq!(curl(&["--max-time", "60", "-o", "/dev/null", &url]).unwrap().status, 200));
        }
    });
    let seconds = begun.elapsed().as_secs_f64();
    let site = world.site("brno").unwrap();
    let number = |name: &str| site[name].as_f64().unwrap();
    let (origin, distinct, peak) = (number("origin_bytes"), number("distinct_bytes"), number("wan_peak_bytes_per_sec"));
    let average = origin / seconds;
    println!(
        "3 nodes: {origin} bytes in {seconds:.2} s, average {:.3} and highest second {:.3} of the cap, amplification {:.4}, \
         metadata and manifests {} bytes apart",
        average / cap,
        peak / cap,
        origin / distinct,
        number("metadata_bytes"),
    );
    assert!(peak <= cap * (1.0 + TOLERANCE), "one second moved {peak} bytes under a cap of {cap}");
    assert!(average >= cap * 0.8, "the link was used for {average} of {cap} only");
    assert!(origin / distinct <= AMPLIFICATION_MAX, "{origin} bytes for {distinct} distinct ones");
}

#[test]
fn the_serving_cap_holds_within_five_percent_for_one_and_for_several_clients() {
    let cap = 4e6;
    let mut world = world("serve-cap").unwrap();
    world.add_site("lyon", "10.1.0.0/16", "800mbit").unwrap();
    world.add_node("node-1", "lyon").unwrap();
    let version = packages::one(&world.lab.folder("packages").unwrap(), "1.0-1", 12 << 20).unwrap();
    world.publish("demo", &version, "high", "CVE-2026-10001").unwrap();
    world.approve("demo/1.0-1", "production").unwrap();
    world.until_current().unwrap();
    let url = content_url(&world.nodes[0], &version);
    assert_eq!(curl(&["-o", "/dev/null", &url]).unwrap().status, 200);
    world.lab.ask(&world.bob, &["site", "limits", "lyon", "--serve-cap", "4MB/s"]).unwrap();
    let is_slow = sluice_xtask::lab::wait(std::time::Duration::from_secs(10), || {
        let begun = Instant::now();
        curl(&["-r", "0-1999999", "-o", "/dev/null", &url])?;
        Ok(begun.elapsed().as_secs_f64() > 0.4)
    });
    assert!(is_slow.unwrap(), "the new cap never took effect");
    for clients in [1usize, 4] {
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for client in 0..clients {
                let share = version_bytes(&version) / clients as u64;
                let range = format!("{}-{}", client as u64 * share, (client as u64 + 1) * share - 1);
                let url = &url;
                scope.spawn(move || assert_eq!(curl(&["-r", &range, "-o", "/dev/null", url]).unwrap().status, 206));
            }
        });
        let rate = version_bytes(&version) as f64 / begun.elapsed().as_secs_f64();
        println!("{clients} clients: {:.3} of the serving cap", rate / cap);
        assert!((rate / cap - 1.0).abs() <= TOLERANCE, "{clients} clients got {rate} bytes/s under a cap of {cap}");
    }
}

/// Its own share of the link would take the slow node ten times as long.
#[test]
fn a_node_that_runs_a_tenth_of_the_time_holds_the_others_of_its_site_up_by_less_than_a_quarter() {
    let cap = 64e6 / 8.0;
    let mut world = world("slow-node").unwrap();
    world.add_site("brno", "10.2.0.0/16", "64mbit").unwrap();
    for name in ["node-1", "node-2", "node-3"] {
        world.add_node(name, "brno").unwrap();
    }
    world.until_connected().unwrap();
    let version = packages::one(&world.lab.folder("packages").unwrap(), "1.0-1", 64 << 20).unwrap();
    world.publish("demo", &version, "high", "CVE-2026-10001").unwrap();
    world.approve("demo/1.0-1", "production").unwrap();
    world.until_current().unwrap();
    let slowed = AtomicBool::new(true);
    let begun = Instant::now();
    let (world, version, slowed) = (&world, &version, &slowed);
    let seconds = std::thread::scope(|scope| {
        scope.spawn(|| {
            while slowed.load(Ordering::Relaxed) {
                world.lab.pause("node-3").unwrap();
                std::thread::sleep(Duration::from_millis(270));
                world.lab.resume("node-3").unwrap();
                std::thread::sleep(Duration::from_millis(30));
            }
        });
        // The slow node wants it too: it leads a third.
        let url = content_url(&world.nodes[2], version);
        let mut slow = std::process::Command::new("curl").args(["--silent", "-o", "/dev/null", &url]).spawn().unwrap();
        let clients: Vec<_> = world.nodes[..2]
            .iter()
            .map(|node| {
                let url = content_url(node, version);
                scope.spawn(move || curl(&["--max-time", "90", "-o", "/dev/null", &url]).unwrap().status)
            })
            .collect();
        for client in clients {
            assert_eq!(client.join().unwrap(), 200);
        }
        let seconds = begun.elapsed().as_secs_f64();
        slowed.store(false, Ordering::Relaxed);
        assert!(slow.wait().unwrap().success());
        seconds
    });
    let site = world.site("brno").unwrap();
    let number = |name: &str| site[name].as_f64().unwrap();
    let bound = version_bytes(version) as f64 / cap;
    let amplification = number("origin_bytes") / number("distinct_bytes");
    println!("one slow node of 3: {:.3} of the lower bound, amplification {amplification:.4}", seconds / bound);
    assert!(seconds <= bound * 1.25, "{seconds:.2} s, at best {bound:.2} s");
    assert!(amplification <= 1.05, "{amplification}");
}

fn version_bytes(version: &packages::Version) -> u64 {
    std::fs::metadata(&version.debs[0].path).unwrap().len()
}
