//! Damage on a node's disk reaches nobody and heals. proves: B1, C1, E3 (basic), P1, P14 (basic).
#![allow(clippy::unwrap_used, reason = "tests")]

use sluice_tests::{metric, world};
use sluice_xtask::lab::world::{content_url, curl};
use sluice_xtask::lab::{packages, wait};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(30);

/// The only artifact below a node's data folder.
fn artifact_file(data: &Path) -> PathBuf {
    let mut folders = vec![data.join("content/artifacts")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                return path;
            }
            folders.push(path);
        }
    }
    panic!("no artifact below {}", data.display());
}

#[test]
fn a_flipped_byte_on_a_nodes_disk_is_sent_to_nobody_and_mended() {
    let mut world = world("rot").unwrap();
    world.add_site("lyon", "10.1.0.0/16", "400mbit").unwrap();
    world.add_node("node-1", "lyon").unwrap();
    world.add_node("node-2", "lyon").unwrap();
    world.until_connected().unwrap();
    let version = packages::one(&world.lab.folder("packages").unwrap(), "1.0-1", 5 << 20).unwrap();
    world.publish("demo", &version, "high", "CVE-2026-10001").unwrap();
    world.approve("demo/1.0-1", "production").unwrap();
    world.until_acquainted().unwrap();
    let whole = std::fs::read(&version.debs[0].path).unwrap();
    let fetched = world.lab.dir().join("fetched");
    let fetch = |node: usize| {
        let arguments = ["-o", &fetched.display().to_string(), &content_url(&world.nodes[node], &version)];
        assert_eq!(curl(&arguments).unwrap().status, 200);
        std::fs::read(&fetched).unwrap()
    };
    assert!(fetch(0) == whole && fetch(1) == whole, "other bytes arrived before anything was damaged");
    // The node is started again so that no verified copy is left in its memory, then the disk rots under it.
    world.lab.terminate("node-1").unwrap();
    world.restart_node("node-1").unwrap();
    let http = world.nodes[0].listening.http.clone();
    let linked = wait(LONG, || Ok(metric(&http, "sluice_overlay_links").is_ok_and(|links| links >= 2.0)));
    assert!(linked.unwrap(), "the node did not find its peer and the repository again");
    let file = artifact_file(&world.nodes[0].data);
    let disk = std::fs::File::options().read(true).write(true).open(&file).unwrap();
    let at = 3_000_000;
    let mut byte = [0u8];
    disk.read_exact_at(&mut byte, at).unwrap();
    disk.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
    let origin_before = world.site("lyon").unwrap()["origin_bytes"].as_u64().unwrap();
    let again = {
        let arguments = ["-o", &fetched.display().to_string(), &content_url(&world.nodes[0], &version)];
        assert_eq!(curl(&arguments).unwrap().status, 200);
        std::fs::read(&fetched).unwrap()
    };
    assert!(again == whole, "the damaged byte was sent");
    assert!(metric(&world.nodes[0].listening.http, "sluice_corrupt_chunks_total").unwrap() >= 1.0);
    let healed = wait(LONG, || {
        let mut now = [0u8];
        disk.read_exact_at(&mut now, at)?;
        Ok(now == byte)
    });
    assert!(healed.unwrap(), "the byte on disk was not mended");
    let named = wait(LONG, || {
        let nodes = world.lab.ask(&world.bob, &["nodes"])?;
        Ok(sluice_xtask::lab::world::rows(&nodes, "nodes")
            .iter()
            .any(|node| node["corrupt_chunks"].as_u64() >= Some(1)))
    });
    assert!(named.unwrap(), "the repository does not show the damaged chunk");
    let origin_after = world.site("lyon").unwrap()["origin_bytes"].as_u64().unwrap();
    assert_eq!(origin_before, origin_after, "a peer has the chunk, so the WAN is not asked");
}
