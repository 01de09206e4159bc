//! A repo server restored from a backup that its nodes have overtaken: no retraction, no outcome report and no device is
//! lost, and the audit log marks the gap. proves: L7, A8, attack 12.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests measure time")]

use serde_json::Value;
use sluice_tests::{copy_folder, metric, world_with};
use sluice_xtask::lab::packages::{self, Version};
use sluice_xtask::lab::world::{World, content_url, curl, rows};
use sluice_xtask::lab::{said, wait};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(60);
/// A timestamp every five seconds.
const LEASE_SECS: &str = "30";
/// How many versions a restore leaves out.
const SKIPPED: u64 = 1_000_000;

fn status_at(world: &World, node: &str, version: &Version) -> u16 {
    curl(&["-o", "/dev/null", &content_url(world.node(node).unwrap(), version)]).unwrap().status
}

fn until_status(world: &World, node: &str, version: &Version, status: u16) {
    let reached = wait(LONG, || Ok(status_at(world, node, version) == status));
    assert!(reached.unwrap(), "{node} never answered {status}: {}", world.lab.log(node));
}

fn release(world: &World, version: &Version) {
    world.publish("demo", version, "high", "CVE-2026-10001").unwrap();
    world.approve(&format!("demo/{}", version.number()), "production").unwrap();
}

fn version_of(world: &World, node: &str) -> u64 {
    let nodes = world.lab.ask(&world.bob, &["nodes"]).unwrap();
    let row = rows(&nodes, "nodes").iter().find(|row| row["name"] == node).cloned().unwrap_or_default();
    row["timestamp_version"].as_u64().unwrap_or(0)
}

/// Stops the repository, puts the backup in its place and says so; the next start learns from the nodes.
fn restore(world: &mut World, backup: &Path, more: &[&str]) {
    let repo = world.repo_data().to_owned();
    std::fs::remove_dir_all(&repo).unwrap();
    copy_folder(backup, &repo).unwrap();
    declare(world, more);
    world.start_repository().unwrap();
}

fn declare(world: &World, more: &[&str]) {
    let mut command = world.lab.program("sluice-repo");
    command.args(["restore", "--by", "ann", "--reason", "the disk died", "--data"]).arg(world.repo_data()).args(more);
    let noted = said(&mut command).unwrap();
    assert_eq!(noted.code, 0, "{}{}", noted.out, noted.err);
}

fn back_up(world: &mut World) -> PathBuf {
    let backup = world.lab.dir().join("backup");
    world.lab.terminate("repo").unwrap();
    copy_folder(world.repo_data(), &backup).unwrap();
    world.start_repository().unwrap();
    backup
}

fn until_restored(world: &World) -> Duration {
    let begun = Instant::now();
    let restored = wait(LONG, || Ok(world.lab.log("repo").contains("restored: what the nodes showed")));
    assert!(restored.unwrap(), "not restored: {}", world.lab.log("repo"));
    begun.elapsed()
}

fn gauge(world: &World, node: &str, name: &str) -> f64 {
    metric(&world.node(node).unwrap().listening.http, name).unwrap_or(-1.0)
}

fn fetch(world: &World, from: &str, file: &str) -> PathBuf {
    let path = world.lab.dir().join(file);
    let url = format!("http://{}/tuf/metadata/{file}", world.node(from).unwrap().listening.http);
    assert_eq!(curl(&["-o", path.to_str().unwrap(), &url]).unwrap().status, 200);
    path
}

fn timestamp_key(root: &Path) -> String {
    let root: Value = serde_json::from_slice(&std::fs::read(root).unwrap()).unwrap();
    let keyid = root["signed"]["roles"]["timestamp"]["keyids"][0].as_str().unwrap();
    root["signed"]["keys"][keyid]["keyval"]["public"].as_str().unwrap().to_owned()
}

#[test]
fn a_server_restored_from_a_backup_learns_from_its_nodes_what_it_forgot() {
    let mut world = world_with("restore", &[("SLUICE_LEASE_SERVING_SECS", LEASE_SECS)]).unwrap();
    world.add_site("lyon", "10.1.0.0/16", "400mbit").unwrap();
    world.add_node("node-1", "lyon").unwrap();
    world.until_connected().unwrap();
    let needs = vec![(packages::RUNTIME.to_owned(), "1.0".to_owned())];
    world.add_endpoint("desk", ("lyon", "production"), &needs, "all").unwrap();
    world.start_agent("desk").unwrap();
    let folder = world.lab.folder("packages").unwrap();
    let [first, second, bad] = ["1.0-1", "1.0-2", "1.0-3"].map(|one| packages::one(&folder, one, 1 << 20).unwrap());
    release(&world, &first);
    world.until_state(&["desk"], "demo/1.0-1", "installed", LONG).unwrap();
    let old_token = world.node_token("lyon").unwrap();
    let backup = back_up(&mut world);

    // After the backup: a patch, its installation, a site with a node, a retraction.
    release(&world, &second);
    world.until_state(&["desk"], "demo/1.0-2", "installed", LONG).unwrap();
    world.lab.terminate("desk").unwrap();
    world.add_site("brno", "10.2.0.0/16", "400mbit").unwrap();
    world.add_node("node-2", "brno").unwrap();
    world.until_connected().unwrap();
    release(&world, &bad);
    until_status(&world, "node-1", &bad, 200);
    world.lab.ask(&world.bob, &["retract", "demo/1.0-3", "--reason", "bad"]).unwrap();
    until_status(&world, "node-1", &bad, 410);
    until_status(&world, "node-2", &bad, 410);
    world.until_current().unwrap();
    until_status(&world, "node-1", &second, 200);
    let reports = world.outcomes_of("desk").unwrap();
    let (root, seen) = (fetch(&world, "node-1", "1.root.json"), fetch(&world, "node-1", "timestamp.json"));
    let lost_version = version_of(&world, "node-1");

    world.lab.terminate("repo").unwrap();
    assert_eq!(status_at(&world, "node-1", &second), 200, "nodes serve on while the server is away");
    restore(&mut world, &backup, &[]);
    println!("restored {:.1} s after the start", until_restored(&world).as_secs_f64());
    assert_eq!(status_at(&world, "node-1", &second), 200, "nodes served on");
    let begun = Instant::now();
    let is_past = |node: &str| version_of(&world, node) > lost_version + SKIPPED;
    assert!(wait(LONG, || Ok(is_past("node-1") && is_past("node-2"))).unwrap(), "{}", world.lab.log("node-1"));
    println!("both nodes took the new metadata {:.1} s later", begun.elapsed().as_secs_f64());
    world.until_connected().unwrap();

    // No retraction is lost, at the nodes, at the server, under any name.
    assert_eq!((status_at(&world, "node-1", &bad), status_at(&world, "node-2", &bad)), (410, 410));
    let retractions = world.lab.ask(&world.bob, &["retractions", "show"]).unwrap();
    assert!(rows(&retractions, "retractions").iter().any(|row| row["patch"] == "demo/1.0-3"), "{retractions}");
    assert!(world.publish("renamed", &bad, "high", "CVE-2026-10001").is_err(), "retracted content was published");
    let patches = world.lab.ask(&world.bob, &["patches"]).unwrap().to_string();
    assert!(patches.contains("1.0-2"), "the patch that was approved after the backup is gone: {patches}");
    // Tokens that may have been used since the backup are no longer taken.
    let stale = said(&mut world.join(&old_token, &world.lab.dir().join("stranger"))).unwrap();
    assert!(stale.code != 0 && stale.err.contains("expired"), "{}{}", stale.out, stale.err);

    // The gap is marked, and the witnesses have settled.
    let settled = |node: &str| {
        gauge(&world, node, "sluice_audit_log_gaps") >= 1.0 && gauge(&world, node, "sluice_audit_log_doubted") == 0.0
    };
    assert!(wait(LONG, || Ok(settled("node-1") && settled("node-2"))).unwrap(), "{}", world.lab.log("node-1"));
    let lines = world.lab.ask(&world.bob, &["audit"]).unwrap();
    let mark = rows(&lines, "entries").iter().find(|line| line["action"] == "server.restored").cloned().unwrap();
    let detail = mark["detail"].as_str().unwrap();
    let at_nodes = detail.split(" at the nodes").next().and_then(|before| before.rsplit(' ').next());
    let at_nodes: u64 = at_nodes.and_then(|number| number.parse().ok()).unwrap_or_default();
    assert!(mark["who"] == "ann" && at_nodes >= lost_version, "{detail}");
    println!("the mark: {detail}");
    let log = world.lab.dir().join("audit.log");
    let log = log.to_str().unwrap();
    world.lab.ask(&world.bob, &["audit", "export", "--to", log]).unwrap();
    let verify = |more: &[&str]| world.lab.say(&world.bob, &[&["audit", "verify", log], more].concat()).unwrap();
    let alone = verify(&["--root", root.to_str().unwrap()]);
    assert!(alone.code == 0 && alone.out.contains("the disk died"), "{}{}", alone.out, alone.err);
    let witnessed = verify(&["--key", &timestamp_key(&root), "--seen", seen.to_str().unwrap()]);
    assert!(witnessed.code == 1 && witnessed.err.contains("were lost when ann restored"), "{}", witnessed.err);

    // The agent goes on without enrolling, and what it had reported arrives again.
    world.start_agent("desk").unwrap();
    world.lab.ask(&world.bob, &["retract", "demo/1.0-2", "--reason", "bad too"]).unwrap();
    let begun = Instant::now();
    let arrived = wait(LONG, || {
        let now = world.outcomes_of("desk")?;
        Ok(now.len() > reports.len() && reports.iter().all(|old| now.iter().any(|new| new["seq"] == old["seq"])))
    });
    assert!(arrived.unwrap(), "reports are lost: {:?} of {reports:?}", world.outcomes_of("desk"));
    println!("all {} reports arrived again after {:.1} s", reports.len(), begun.elapsed().as_secs_f64());
    world.until_on_disk(&["desk"], &first, LONG).unwrap();
    world.lab.stop_all();
}

#[test]
fn a_node_that_was_away_during_the_restore_follows_and_what_only_it_knows_is_brought_back_by_a_second_one() {
    let mut world = world_with("restore-late", &[("SLUICE_LEASE_SERVING_SECS", LEASE_SECS)]).unwrap();
    world.add_site("lyon", "10.1.0.0/16", "400mbit").unwrap();
    world.add_node("node-1", "lyon").unwrap();
    world.add_node("node-2", "lyon").unwrap();
    world.until_connected().unwrap();
    let folder = world.lab.folder("packages").unwrap();
    let [good, bad] = ["1.0-1", "1.0-2"].map(|one| packages::one(&folder, one, 1 << 20).unwrap());
    release(&world, &good);
    release(&world, &bad);
    until_status(&world, "node-1", &bad, 200);
    until_status(&world, "node-2", &bad, 200);
    let backup = back_up(&mut world);
    world.until_current().unwrap();

    // Only node-2 hears of what comes after the backup.
    world.lab.terminate("node-1").unwrap();
    for (site, network) in [("brno", "10.2.0.0/16"), ("graz", "10.3.0.0/16"), ("riga", "10.4.0.0/16")] {
        world.add_site(site, network, "8mbit").unwrap();
    }
    let version = |world: &World| version_of(world, "node-2");
    let newest = world.lab.ask(&world.bob, &["status"]).unwrap()["timestamp_version"].as_u64().unwrap();
    assert!(wait(LONG, || Ok(version(&world) >= newest)).unwrap());
    world.lab.terminate("node-2").unwrap();
    world.lab.terminate("repo").unwrap();
    restore(&mut world, &backup, &["--wait-secs", "3"]);
    world.restart_node("node-1").unwrap();
    until_restored(&world);
    assert!(world.lab.log("repo").contains("these nodes were not heard"), "{}", world.lab.log("repo"));
    world.restart_node("node-2").unwrap();
    let follows = wait(LONG, || Ok(version(&world) > newest + SKIPPED / 2));
    assert!(follows.unwrap(), "the late node takes nothing of the restored server: {}", world.lab.log("node-2"));

    // Again, and now node-2 alone knows of a retraction.
    let backup = world.lab.dir().join("backup-2");
    world.lab.terminate("repo").unwrap();
    copy_folder(world.repo_data(), &backup).unwrap();
    world.start_repository().unwrap();
    world.until_current().unwrap();
    world.lab.terminate("node-1").unwrap();
    world.lab.ask(&world.bob, &["retract", "demo/1.0-2", "--reason", "bad"]).unwrap();
    until_status(&world, "node-2", &bad, 410);
    world.lab.terminate("node-2").unwrap();
    world.lab.terminate("repo").unwrap();
    std::fs::remove_file(world.lab.dir().join("repo.log")).unwrap();
    restore(&mut world, &backup, &["--wait-secs", "3"]);
    world.restart_node("node-1").unwrap();
    until_restored(&world);
    until_status(&world, "node-1", &bad, 200);
    world.restart_node("node-2").unwrap();
    let alarmed = wait(LONG, || Ok(world.lab.log("repo").contains("this server does not know")));
    assert!(alarmed.unwrap(), "the server raised no alarm: {}", world.lab.log("node-2"));
    assert_eq!(status_at(&world, "node-2", &bad), 410, "the node keeps the retraction");
    world.lab.terminate("repo").unwrap();
    std::fs::remove_file(world.lab.dir().join("repo.log")).unwrap();
    declare(&world, &[]);
    world.start_repository().unwrap();
    until_restored(&world);
    until_status(&world, "node-1", &bad, 410);
    let retractions = world.lab.ask(&world.bob, &["retractions", "show"]).unwrap();
    assert!(rows(&retractions, "retractions").iter().any(|row| row["patch"] == "demo/1.0-2"), "{retractions}");
    world.lab.stop_all();
}
