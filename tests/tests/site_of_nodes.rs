//! A site of nodes behind one shaped WAN link, in network namespaces, with real programs: what crosses the link, and that
//! everything completes. proves: B2, B5, B6, B9, P12, P17 (in part).
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout, reason = "tests measure and say so")]

use anyhow::{Context, Result, ensure};
use sluice_tests::{is_full_tier, programs, skip};
use sluice_xtask::lab::fan_out::{FanOut, HalfTime, Moment, fan_out};
use sluice_xtask::lab::network::Network;
use sluice_xtask::lab::packages::{self, Version};
use sluice_xtask::lab::world::World;
use sluice_xtask::lab::{Lab, wait};
use std::time::Duration;

const SITE: &str = "brno";
/// The WAN link, both ways.
const LINK: &str = "100mbit";
/// Chunk frames from the origin over the artifact, when nothing happens, and when a node dies, is slow or joins.
const AMPLIFICATION_MAX: f64 = 1.02;
const AMPLIFICATION_TROUBLED_MAX: f64 = 1.05;
/// One second of the link may hold so much of the cap, and the burst beside it (20 ms of the cap).
const PEAK_MAX: f64 = 1.05;
const BURST_SECS: f64 = 0.02;
/// An Ethernet frame over the TCP payload in it, with timestamps.
const FRAMING: f64 = 1514.0 / 1448.0;

/// A site with room for `room` nodes, of which `names` run and know each other.
fn site(test: &str, room: usize, names: &[&str], wan_cap: &str) -> Option<World> {
    if let Err(why) = Network::is_possible() {
        skip(test, &why);
        return None;
    }
    Some(try_site(test, room, names, wan_cap).unwrap())
}

fn try_site(test: &str, room: usize, names: &[&str], wan_cap: &str) -> Result<World> {
    let mut lab = Lab::new(&format!("sluice-test-{test}"), programs()?)?;
    lab.set_network(Network::site(room, LINK)?);
    let mut world = World::start(lab, &[]).map_err(|failed| failed.1)?;
    world.add_site(SITE, "10.77.1.0/24", wan_cap)?;
    for name in names {
        world.add_node(name, SITE)?;
    }
    world.until_connected()?;
    world.until_acquainted()?;
    Ok(world)
}

fn release(world: &World, number: &str, mib: usize) -> Result<Version> {
    let version = packages::one(&world.lab.folder("packages")?, number, mib << 20)?;
    world.publish("demo", &version, "high", "CVE-2026-10001")?;
    world.approve(&format!("demo/{number}"), "production")?;
    world.until_current()?;
    Ok(version)
}

fn node_names(count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("node-{number}")).collect()
}

fn say(what: &str, bits_per_sec: f64, seen: &FanOut) {
    println!(
        "{what}: {} MiB to {} nodes in {:.2} s, {:.3} x size / uplink; from the origin {:.4} x in chunk frames, {:.4} x on the \
         link; its busiest second {:.1} Mbit",
        seen.bytes >> 20,
        seen.nodes.len(),
        seen.seconds,
        seen.over_lower_bound(bits_per_sec),
        seen.amplification(),
        seen.link_amplification(),
        seen.link_peak_bytes as f64 * 8.0 / 1e6,
    );
}

fn nothing(_: &mut Moment<'_>) -> Result<()> {
    Ok(())
}

#[test]
fn eight_nodes_get_each_chunk_across_the_link_once_and_no_second_holds_more_than_the_cap() {
    let names = node_names(8);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let cap = 80e6 / 8.0;
    let Some(mut world) = site("site-of-8", 8, &names, "80mbit") else { return };
    let version = release(&world, "1.0-1", if is_full_tier() { 256 } else { 32 }).unwrap();
    let seen = fan_out(&mut world, SITE, &version, &names, Duration::from_secs(120), nothing).unwrap();
    say("8 nodes under a cap of 80 Mbit/s", 80e6, &seen);
    assert_eq!(seen.nodes.len(), 8);
    assert!(seen.amplification() <= AMPLIFICATION_MAX, "{seen:?}");
    let most = (cap * PEAK_MAX + cap * BURST_SECS) * FRAMING;
    assert!(seen.link_peak_bytes as f64 <= most, "{most} bytes may be sent in a second: {seen:?}");
    let payload_peak = world.site(SITE).unwrap()["wan_peak_bytes_per_sec"].as_f64().unwrap();
    assert!(payload_peak <= cap * PEAK_MAX + cap * BURST_SECS, "{payload_peak} of {cap}");
    world.lab.clean_up().unwrap();
}

#[test]
fn twenty_nodes_get_each_chunk_across_the_link_once() {
    if !is_full_tier() {
        return;
    }
    let names = node_names(20);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let Some(mut world) = site("site-of-20", 20, &names, "200mbit") else { return };
    let version = release(&world, "1.0-1", 128).unwrap();
    let seen = fan_out(&mut world, SITE, &version, &names, Duration::from_secs(180), nothing).unwrap();
    say("20 nodes", 100e6, &seen);
    assert!(seen.amplification() <= AMPLIFICATION_MAX, "{seen:?}");
    world.lab.clean_up().unwrap();
}

/// One is killed when half has crossed, one runs half of the time, one joins when half has crossed.
#[test]
fn a_node_that_dies_one_that_is_slow_and_one_that_joins_cost_the_link_less_than_five_percent() {
    let names = node_names(7);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let Some(mut world) = site("site-in-trouble", 8, &names, "200mbit") else { return };
    let version = release(&world, "1.0-1", if is_full_tier() { 256 } else { 96 }).unwrap();
    let slow = HalfTime::of(world.lab.pid("node-2").unwrap());
    let mut happened = false;
    let seen = fan_out(&mut world, SITE, &version, &names, Duration::from_secs(180), |moment| {
        if !happened && moment.share >= 0.5 {
            happened = true;
            moment.world.lab.kill("node-1")?;
            moment.without.push("node-1".to_owned());
            moment.world.add_node("node-8", SITE)?;
            moment.more.push("node-8".to_owned());
        }
        Ok(())
    })
    .unwrap();
    drop(slow);
    assert!(happened, "all was over before half had crossed");
    say("one killed, one at half time, one joining", 100e6, &seen);
    assert_eq!(seen.nodes.len(), 7, "{seen:?}");
    assert!(seen.amplification() <= AMPLIFICATION_TROUBLED_MAX, "{seen:?}");
    world.lab.clean_up().unwrap();
}

/// What is done to the site once, when a fifth has crossed.
type Trouble = (&'static str, bool, fn(&mut World) -> Result<()>);

const TROUBLES: &[Trouble] = &[
    ("UDP dropped everywhere", true, |world| {
        for name in ["repo", "node-1", "node-2", "node-3", "node-4"] {
            network(world)?.filter(name, &["meta l4proto udp counter drop"])?;
        }
        Ok(())
    }),
    ("the WAN link down for 2 s", true, |world| {
        network(world)?.set_wan(false)?;
        std::thread::sleep(Duration::from_secs(2));
        network(world)?.set_wan(true)
    }),
    ("the repository killed and started again", true, |world| {
        world.lab.kill("repo")?;
        world.start_repository()
    }),
    ("a node stopped for 5 s", false, |world| {
        world.lab.pause("node-1")?;
        std::thread::sleep(Duration::from_secs(5));
        world.lab.resume("node-1")
    }),
    ("node 2 hears nothing of node 1", false, |world| {
        let rule = format!("ip saddr {} counter drop", world.lab.address_of("node-1"));
        network(world)?.filter("node-2", &[&rule])
    }),
    ("every TCP connection of node 1 reset for 1 s", false, |world| {
        network(world)?.filter("node-1", &["iifname != \"lo\" meta l4proto tcp counter reject with tcp reset"])?;
        std::thread::sleep(Duration::from_secs(1));
        network(world)?.unfilter("node-1")
    }),
];

fn network(world: &World) -> Result<&Network> {
    world.lab.network().context("no network")
}

fn heal(world: &World) {
    for name in ["repo", "node-1", "node-2", "node-3", "node-4"] {
        // Most have no rules.
        let _ = network(world).and_then(|network| network.unfilter(name));
    }
}

#[test]
fn everything_completes_through_drops_cuts_resets_and_restarts() {
    let names = node_names(4);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let Some(mut world) = site("site-troubles", 4, &names, "200mbit") else { return };
    for (at, (what, is_for_every_run, trouble)) in TROUBLES.iter().enumerate() {
        if !is_for_every_run && !is_full_tier() {
            continue;
        }
        let version = release(&world, &format!("1.{at}-1"), 24).unwrap();
        let mut happened = false;
        let seen = fan_out(&mut world, SITE, &version, &names, Duration::from_secs(90), |moment| {
            if !happened && moment.share >= 0.2 {
                happened = true;
                trouble(moment.world)?;
            }
            Ok(())
        });
        heal(&world);
        let seen = seen.with_context(|| (*what).to_owned()).unwrap();
        assert!(happened, "{what}: all was over before it could happen");
        say(what, 100e6, &seen);
        assert_eq!(seen.nodes.len(), 4, "{what}");
        // A repository that was started again counts from zero, so what the link carried is judged; its headers are in it.
        assert!(seen.link_amplification() <= 1.4, "{what}: {seen:?}");
        restored(&world).unwrap();
    }
    world.lab.clean_up().unwrap();
}

/// Waits until all is as before a trouble.
fn restored(world: &World) -> Result<()> {
    let is_well =
        wait(Duration::from_secs(30), || Ok(world.until_connected().is_ok() && world.until_acquainted().is_ok()))?;
    ensure!(is_well, "the site did not recover");
    Ok(())
}

#[test]
fn what_a_killed_run_left_is_removed_by_the_next() {
    if let Err(why) = Network::is_possible() {
        skip("namespaces-left", &why);
        return;
    }
    // The id of a process that is gone.
    let mut gone = std::process::Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    let name = format!("slu{}-0-hq", gone.id());
    let ip = |arguments: &[&str]| std::process::Command::new("ip").args(arguments).output().unwrap();
    assert!(ip(&["netns", "add", &name]).status.success());
    let mut left = std::process::Command::new("ip").args(["netns", "exec", &name, "sleep", "600"]).spawn().unwrap();
    let network = Network::site(1, LINK).unwrap();
    let own = network.namespace("n1");
    let listed = || String::from_utf8(ip(&["netns", "list"]).stdout).unwrap();
    assert!(!listed().contains(&name), "{}", listed());
    assert!(!left.wait().unwrap().success(), "it ran on in a namespace that nobody owns");
    assert!(listed().contains(&own));
    drop(network);
    assert!(!listed().contains(&own), "{}", listed());
}
