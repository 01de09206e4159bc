//! A retraction reaches every connected node within five seconds, ends what is running, and each node is counted once.
//! proves: A8, F2, F4, P3, attack 10 (the brake).
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests measure time")]

use sluice_tests::poll::{SlowDownload, until};
use sluice_tests::{is_full_tier, world};
use sluice_xtask::lab::packages::{self, Version};
use sluice_xtask::lab::wait;
use sluice_xtask::lab::world::{World, rows};
use std::time::{Duration, Instant};

/// What is promised, from the call to the last node.
const BOUND: Duration = Duration::from_secs(5);
const LONG: Duration = Duration::from_secs(60);
/// Tombstones of one person in an hour.
const BRAKE: usize = 5;
/// The link of every third site: the fill of the bad patch keeps it busy for several seconds.
const SLOW_LINK: &str = "4mbit";
const PATCH_BYTES: usize = 3 << 20;

fn path(version: &Version) -> String {
    format!("/content/sha256/{}", version.debs[0].sha256)
}

/// Nodes in three sites, the third of which has a slow link.
fn sites(world: &mut World, nodes: usize) {
    for (site, cap) in [("lyon", "800mbit"), ("brno", "800mbit"), ("oslo", SLOW_LINK)] {
        world.add_site(site, "10.1.0.0/16", cap).unwrap();
    }
    for idx in 0..nodes {
        let site = ["lyon", "brno", "oslo"][idx % 3];
        world.add_node(&format!("node-{idx}"), site).unwrap();
    }
    world.until_connected().unwrap();
}

/// Publishes and approves, and waits until every node would serve it.
fn release(world: &World, version: &Version) {
    world.publish("demo", version, "high", "CVE-2026-10001").unwrap();
    world.approve(&format!("demo/{}", version.number()), "production").unwrap();
    for node in &world.nodes {
        // A head needs no bytes: the slow link is left to the fill.
        let is_known = wait(LONG, || {
            let url = format!("http://{}{}", node.listening.http, path(version));
            Ok(sluice_xtask::lab::world::curl(&["--head", "-o", "/dev/null", &url])?.status == 200)
        });
        assert!(is_known.unwrap(), "{} never knew {}", node.name, version.number());
    }
}

/// The nodes of the slow site fetch the patch, each for a client that does not care.
fn saturate(world: &World, version: &Version) -> Vec<std::process::Child> {
    let slow = world.nodes.iter().filter(|node| node.site == "oslo");
    let fetch = |node: &sluice_xtask::lab::world::Node| {
        let url = format!("http://{}{}", node.listening.http, path(version));
        std::process::Command::new("curl").args(["--silent", "--fail", "--output", "/dev/null", &url]).spawn().unwrap()
    };
    slow.map(fetch).collect()
}

/// Retracts and measures until each node refused, from before the call that takes effect.
fn retract(world: &World, version: &Version, second: Option<&sluice_xtask::lab::Person>) -> Vec<Option<Duration>> {
    let patch = format!("demo/{}", version.number());
    let call = ["retract", patch.as_str(), "--reason", "it breaks the boot"];
    let mut who = &world.bob;
    if let Some(second) = second {
        let waiting = world.lab.ask(&world.bob, &call).unwrap();
        assert!(waiting["missing"].as_str().is_some_and(|text| text.contains("another person")), "{waiting}");
        who = second;
    }
    let (path, began) = (path(version), Instant::now());
    std::thread::scope(|scope| {
        let ask = |node: &sluice_xtask::lab::world::Node| {
            let (address, path) = (node.listening.http.clone(), path.clone());
            scope.spawn(move || until(&address, &path, 410, began, 2 * BOUND))
        };
        let asking: Vec<_> = world.nodes.iter().map(ask).collect();
        let done = world.lab.ask(who, &call).unwrap();
        assert_eq!(done["patch"], patch.as_str(), "{done}");
        asking.into_iter().map(|asking| asking.join().unwrap()).collect()
    })
}

#[test]
fn every_node_refuses_within_five_seconds_of_the_call_also_behind_a_link_that_the_bad_patch_fills() {
    let (nodes, retractions) = if is_full_tier() { (50, 50) } else { (12, 12) };
    let mut world = world("retraction").unwrap();
    sites(&mut world, nodes);
    let rita = world.add_person("rita", &["retractor"]).unwrap();
    let folder = world.lab.folder("packages").unwrap();
    let mut times: Vec<Duration> = Vec::new();
    let mut slow_site_busy = 0;
    for idx in 0..retractions {
        let version = packages::one(&folder, &format!("{}.0-1", idx + 1), PATCH_BYTES).unwrap();
        release(&world, &version);
        let before = world.site("oslo").unwrap()["origin_bytes"].as_u64().unwrap();
        let fills = saturate(&world, &version);
        let fills_link =
            wait(LONG, || Ok(world.site("oslo")?["origin_bytes"].as_u64().unwrap_or(0) > before + 200_000));
        assert!(fills_link.unwrap(), "the slow site never began to fetch {}", version.number());
        for (node, took) in world.nodes.iter().zip(retract(&world, &version, (idx >= BRAKE).then_some(&rita))) {
            let took = took.unwrap_or_else(|| panic!("{} never refused {}", node.name, version.number()));
            times.push(took);
        }
        for mut fill in fills {
            // It was cut or refused: what is whole was not retracted in time to be measured under load.
            slow_site_busy += usize::from(!fill.wait().unwrap().success());
        }
    }
    times.sort();
    let millis = |time: Duration| time.as_secs_f64() * 1_000.0;
    let p100 = *times.last().unwrap();
    println!(
        "{retractions} retractions over {nodes} nodes: p50 {:.0} ms, p99 {:.0} ms, p100 {:.0} ms from the call to the refusal; \
         {slow_site_busy} fills were cut",
        millis(times[times.len() / 2]),
        millis(times[times.len() * 99 / 100]),
        millis(p100),
    );
    assert!(p100 <= BOUND, "the last node refused after {p100:?}");
    let least = retractions * world.nodes.iter().filter(|node| node.site == "oslo").count() / 2;
    assert!(slow_site_busy >= least, "the slow link was filled only {slow_site_busy} times");
}

#[test]
fn a_running_download_ends_and_every_node_is_counted_once() {
    let mut world = world("counted").unwrap();
    world.add_site("lyon", "10.1.0.0/16", "800mbit").unwrap();
    for name in ["node-1", "node-2", "node-3"] {
        world.add_node(name, "lyon").unwrap();
    }
    world.until_connected().unwrap();
    let folder = world.lab.folder("packages").unwrap();
    let version = packages::one(&folder, "1.0-1", 48 << 20).unwrap();
    release(&world, &version);
    let length = std::fs::metadata(&version.debs[0].path).unwrap().len();
    let mut downloads: Vec<SlowDownload> =
        world.nodes.iter().map(|node| SlowDownload::begin(&node.listening.http, &path(&version)).unwrap()).collect();

    // One node goes, one was enrolled and never started.
    let joined = world.lab.dir().join("node-4");
    let token = world.node_token("lyon").unwrap();
    let said = sluice_xtask::lab::said(world.join(&token, &joined).args(["--name", "node-4"])).unwrap();
    assert_eq!(said.code, 0, "{}", said.err);
    world.lab.kill("node-3").unwrap();
    let is_gone = wait(LONG, || {
        let nodes = world.lab.ask(&world.bob, &["nodes"])?;
        Ok(rows(&nodes, "nodes").iter().any(|node| node["name"] == "node-3" && node["link"] == "offline"))
    });
    assert!(is_gone.unwrap(), "the repository still takes node-3 for connected");

    let plan = world.lab.ask(&world.bob, &["retract", "demo/1.0-1", "--plan"]).unwrap();
    assert_eq!((&plan["nodes"], &plan["needs_second_person"]), (&4.into(), &false.into()), "{plan}");
    assert_eq!(plan["artifacts"][0]["sha256"], version.debs[0].sha256.as_str());
    let began = Instant::now();
    world.lab.ask(&world.bob, &["retract", "demo/1.0-1", "--reason", "it breaks the boot"]).unwrap();
    for (node, download) in world.nodes[..2].iter().zip(&mut downloads) {
        let ended = download
            .until_cut(Duration::from_millis(1), began, 2 * BOUND)
            .unwrap_or_else(|| panic!("{} went on", node.name));
        println!(
            "{}: cut {:.0} ms after the call, at {} of {length} bytes",
            node.name,
            ended.as_secs_f64() * 1e3,
            download.received
        );
        assert!(ended <= BOUND && download.received < length, "{} sent {} bytes", node.name, download.received);
    }
    let mut seen = serde_json::Value::Null;
    let is_counted = wait(LONG, || {
        seen = world.lab.ask(&world.bob, &["retractions", "show", "1"])?;
        Ok(seen["nodes"]["fenced"] == 2)
    });
    assert!(is_counted.unwrap(), "{seen}");
    let expected = serde_json::json!({
        "fenced": 2, "connected": 0, "offline": 1, "expired": 0, "never_seen": 1, "total": 4
    });
    assert_eq!(seen["nodes"], expected, "{seen}");
    let lease = seen["blocked_at_the_latest"].as_u64().unwrap() - seen["at"].as_u64().unwrap();
    assert_eq!(lease, 24 * 3_600_000, "a node that is away may serve until its lease ends");
    // What is on disk of the nodes that acknowledged: nothing of it.
    let stored = world.lab.ask(&world.bob, &["nodes"]).unwrap();
    let holds = rows(&stored, "nodes").iter().filter(|node| node["link"] == "connected" && node["stored_bytes"] != 0);
    assert_eq!(holds.count(), 0, "{stored}");
}

#[test]
fn a_suspension_ends_downloads_and_installs_nothing_until_two_people_lift_it() {
    let mut world = world("suspension").unwrap();
    world.add_site("lyon", "10.1.0.0/16", "800mbit").unwrap();
    world.add_node("node-1", "lyon").unwrap();
    world.until_connected().unwrap();
    let carol = world.add_person("carol", &["approver"]).unwrap();
    let needs = vec![(packages::RUNTIME.to_owned(), "1.0".to_owned())];
    world.add_endpoint("desk", ("lyon", "production"), &needs, "all").unwrap();
    let version = packages::one(&world.lab.folder("packages").unwrap(), "1.0-1", 24 << 20).unwrap();
    release(&world, &version);
    let address = world.nodes[0].listening.http.clone();
    let mut download = SlowDownload::begin(&address, &path(&version)).unwrap();

    let suspend =
        ["suspend", "--package", "sluice-demo-data", "--to", "1.0-9", "--site", "lyon", "--reason", "crashes"];
    let began = Instant::now();
    let made = world.lab.ask(&world.bob, &suspend).unwrap();
    assert_eq!(made["stops"][0], "demo/1.0-1 in ring production", "{made}");
    let ended = download.until_cut(Duration::from_millis(1), began, 2 * BOUND).expect("the download goes on");
    let length = std::fs::metadata(&version.debs[0].path).unwrap().len();
    println!("cut {:.0} ms after the call", ended.as_secs_f64() * 1e3);
    assert!(ended <= BOUND && download.received < length);
    assert!(until(&address, &path(&version), 423, began, 2 * BOUND).is_some(), "it is not told as suspended");

    world.start_agent("desk").unwrap();
    let says_so = wait(LONG, || Ok(world.lab.log("desk").contains("suspended (#1: crashes) until two people lift it")));
    assert!(says_so.unwrap(), "{}", world.lab.log("desk"));
    assert!(!world.all_have(&["desk"], &version).unwrap(), "installed while it is suspended");
    let lift = ["suspensions", "lift", "1", "--reason", "it was the kernel"];
    for _ in 0..2 {
        assert!(world.lab.ask(&world.bob, &lift).unwrap()["missing"].is_string(), "one person lifted it");
    }
    assert_eq!(world.lab.ask(&carol, &lift).unwrap()["id"], 1);
    world.until_on_disk(&["desk"], &version, LONG).unwrap();
}
