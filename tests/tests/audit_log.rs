//! A repo server whose history was set back: its nodes notice, say so everywhere, and go on retracting; and whoever kept a
//! timestamp of before shows it offline. proves: A8, attack 12.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests measure time")]

use serde_json::Value;
use sluice_tests::{copy_folder, metric, world_with};
use sluice_xtask::lab::packages;
use sluice_xtask::lab::wait;
use sluice_xtask::lab::world::{World, content_url, curl, rows};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(60);
/// Two seconds between two timestamps.
const LEASE_SECS: &str = "12";

fn size(world: &World) -> f64 {
    metric(&world.nodes[0].listening.http, "sluice_audit_log_size").unwrap_or(0.0)
}

fn is_doubted(world: &World) -> bool {
    metric(&world.nodes[0].listening.http, "sluice_audit_log_doubted").unwrap_or(0.0) > 0.0
}

fn until_it_grew(world: &World, by: f64) {
    let before = size(world);
    assert!(wait(LONG, || Ok(size(world) >= before + by)).unwrap(), "the node proved nothing more than {before}");
}

fn fetch(world: &World, file: &str) -> PathBuf {
    let path = world.lab.dir().join(file);
    let url = format!("http://{}/tuf/metadata/{file}", world.nodes[0].listening.http);
    assert_eq!(curl(&["-o", path.to_str().unwrap(), &url]).unwrap().status, 200);
    path
}

/// The public key of the timestamp role, as the root has it.
fn timestamp_key(root: &Path) -> String {
    let root: Value = serde_json::from_slice(&std::fs::read(root).unwrap()).unwrap();
    let keyid = root["signed"]["roles"]["timestamp"]["keyids"][0].as_str().unwrap();
    root["signed"]["keys"][keyid]["keyval"]["public"].as_str().unwrap().to_owned()
}

fn restart_with(world: &mut World, data: &Path) {
    world.lab.terminate("repo").unwrap();
    let repo = world.repo_data().to_owned();
    std::fs::remove_dir_all(&repo).unwrap();
    copy_folder(data, &repo).unwrap();
    world.start_repository().unwrap();
}

#[test]
fn a_history_that_was_set_back_is_an_alarm_everywhere_and_delays_no_retraction() {
    let mut world = world_with("audit-log", &[("SLUICE_LEASE_SERVING_SECS", LEASE_SECS)]).unwrap();
    world.add_site("lyon", "10.1.0.0/16", "800mbit").unwrap();
    world.add_node("node-1", "lyon").unwrap();
    world.until_connected().unwrap();
    let version = packages::one(&world.lab.folder("packages").unwrap(), "1.0-1", 1 << 20).unwrap();
    world.publish("demo", &version, "high", "CVE-2026-10001").unwrap();
    world.approve("demo/1.0-1", "production").unwrap();
    until_it_grew(&world, 2.0);

    let backup = world.lab.dir().join("backup");
    world.lab.terminate("repo").unwrap();
    copy_folder(world.repo_data(), &backup).unwrap();
    world.start_repository().unwrap();
    world.add_site("brno", "10.2.0.0/16", "8mbit").unwrap();
    until_it_grew(&world, 3.0);
    assert!(!is_doubted(&world), "a restart alone is no reason to doubt");
    let (root, seen) = (fetch(&world, "1.root.json"), fetch(&world, "timestamp.json"));

    restart_with(&mut world, &backup);
    // A node takes nothing older: only when the new history is longer than the old one there is something to doubt.
    for (site, network) in
        [("oslo", "10.3.0.0/16"), ("graz", "10.4.0.0/16"), ("bern", "10.5.0.0/16"), ("riga", "10.6.0.0/16")]
    {
        world.add_site(site, network, "8mbit").unwrap();
    }
    let begun = Instant::now();
    assert!(wait(LONG, || Ok(is_doubted(&world))).unwrap(), "nobody noticed: {}", world.lab.log("node-1"));
    println!("the node doubted {:.1} s after the start", begun.elapsed().as_secs_f64());
    assert!(world.lab.log("node-1").contains("ALARM"));
    let names_it = |world: &World| {
        let nodes = world.lab.ask(&world.bob, &["nodes"])?;
        Ok(rows(&nodes, "nodes")
            .iter()
            .any(|node| node["trouble"].as_str().is_some_and(|why| why.contains("audit log"))))
    };
    assert!(wait(LONG, || names_it(&world)).unwrap(), "`nodes` does not say it");
    // Nobody said that this was a restore, so nothing settles it.
    assert_eq!(metric(&world.nodes[0].listening.http, "sluice_audit_log_gaps").unwrap(), 0.0);

    let url = content_url(&world.nodes[0], &version);
    assert_eq!(curl(&["-o", "/dev/null", &url]).unwrap().status, 200);
    world.lab.ask(&world.bob, &["retract", "demo/1.0-1", "--reason", "bad"]).unwrap();
    let begun = Instant::now();
    assert!(wait(LONG, || Ok(curl(&["-o", "/dev/null", &url])?.status != 200)).unwrap());
    let took = begun.elapsed();
    println!("retracted in {:.2} s", took.as_secs_f64());
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(is_doubted(&world), "no proof came");

    let log = world.lab.dir().join("audit.log");
    let log = log.to_str().unwrap();
    world.lab.ask(&world.bob, &["audit", "export", "--to", log]).unwrap();
    let verify = |more: &[&str]| world.lab.say(&world.bob, &[&["audit", "verify", log], more].concat()).unwrap();
    let alone = verify(&["--root", root.to_str().unwrap()]);
    assert_eq!(alone.code, 0, "{}", alone.err);
    let key = timestamp_key(&root);
    let witnessed = verify(&["--key", &key, "--seen", seen.to_str().unwrap()]);
    assert_eq!(witnessed.code, 1, "{}{}", witnessed.out, witnessed.err);
    assert!(witnessed.err.contains("another root"), "{}", witnessed.err);
    let mut changed = std::fs::read(log).unwrap();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    std::fs::write(log, changed).unwrap();
    let changed = verify(&["--key", &key]);
    assert!(changed.code == 1 && changed.err.contains("line "), "{}", changed.err);
}
