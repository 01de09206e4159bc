//! Clients that are not ours read, resume and verify. proves: A3 (python-tuf), C1 (curl).
#![allow(clippy::unwrap_used, reason = "tests")]

use anyhow::{Context, Result, ensure};
use sluice_tests::{foreign_python, skip, world};
use sluice_xtask::cargo;
use sluice_xtask::lab::packages;
use sluice_xtask::lab::world::{World, content_url, rows};
use std::process::Command;

const PYTHON_TUF: &str = r#"
import os, sys
from tuf.ngclient import Updater
metadata_url, target_url, root, folder, name = sys.argv[1:6]
os.makedirs(folder, exist_ok=True)
updater = Updater(metadata_dir=folder, metadata_base_url=metadata_url, target_base_url=target_url,
                  target_dir=folder, bootstrap=open(root, "rb").read())
updater.refresh()
info = updater.get_targetinfo(name)
assert info is not None, "the target is not found"
print(updater.download_target(info, os.path.join(folder, "downloaded")))
"#;

/// One site with one node, one small package approved for production.
fn published(name: &str) -> Result<(World, packages::Version)> {
    let mut world = world(name)?;
    world.add_site("lyon", "10.1.0.0/16", "400mbit")?;
    world.add_node("node-1", "lyon")?;
    let version = packages::one(&world.lab.folder("packages")?, "1.0-1", 3 << 20)?;
    world.publish("demo", &version, "high", "CVE-2026-10001")?;
    world.approve("demo/1.0-1", "production")?;
    Ok((world, version))
}

#[test]
fn python_tuf_verifies_a_patch_from_the_repository_and_from_a_node() {
    let Some(python) = foreign_python() else {
        skip("python_tuf", "python-tuf is not installed; cargo xtask setup installs it");
        return;
    };
    let (world, version) = published("python-tuf").unwrap();
    let file = version.debs[0].path.file_name().unwrap().to_string_lossy().into_owned();
    let root = world.lab.dir().join("root.json");
    let repo = world.repo_listening().unwrap().http.clone();
    let node = world.nodes[0].listening.http.clone();
    let get = |url: &str| cargo::output(Command::new("curl").args(["--silent", "--fail", url])).unwrap();
    std::fs::write(&root, get(&format!("http://{repo}/tuf/metadata/1.root.json"))).unwrap();
    for (index, host) in [repo, node].iter().enumerate() {
        let folder = world.lab.dir().join(format!("tuf-{index}"));
        let mut client = Command::new(&python);
        client.args([
            "-c",
            PYTHON_TUF,
            &format!("http://{host}/tuf/metadata/"),
            &format!("http://{host}/tuf/targets/"),
        ]);
        client.arg(&root).arg(&folder).arg(format!("patches/production/{file}"));
        cargo::output(&mut client).with_context(|| format!("python-tuf against {host}")).unwrap();
        let got = std::fs::read(folder.join("downloaded")).unwrap();
        assert!(got == std::fs::read(&version.debs[0].path).unwrap(), "python-tuf got other bytes from {host}");
    }
}

#[test]
fn curl_reads_a_range_and_resumes_a_cut_download() {
    let (world, version) = published("curl").unwrap();
    let whole = std::fs::read(&version.debs[0].path).unwrap();
    let url = content_url(&world.nodes[0], &version);
    let part = world.lab.dir().join("part");
    let fetch = |arguments: &[&str]| {
        cargo::output(Command::new("curl").args(["--silent", "--fail"]).args(arguments).arg(&url)).unwrap();
        std::fs::read(&part).unwrap()
    };
    let path = part.display().to_string();
    assert!(fetch(&["-r", "1000-1999", "-o", &path]) == whole[1000..2000], "the range has other bytes");
    std::fs::write(&part, &whole[..1_500_000]).unwrap();
    assert!(fetch(&["-C", "-", "-o", &path]) == whole, "the resumed file has other bytes");
    std::fs::remove_file(&part).unwrap();
    assert!(fetch(&["-o", &path]) == whole, "the file has other bytes");
}

#[test]
fn two_nodes_give_the_same_validators_and_a_known_etag_costs_no_body() {
    let (mut world, version) = published("validators").unwrap();
    world.add_node("node-2", "lyon").unwrap();
    let headers = |node: usize| -> Result<Vec<String>> {
        let url = content_url(&world.nodes[node], &version);
        let text =
            cargo::output(Command::new("curl").args(["--silent", "--fail", "-o", "/dev/null", "-D", "-", &url]))?;
        let wanted = ["etag:", "last-modified:", "repr-digest:", "content-length:"];
        let mut lines: Vec<String> = text
            .lines()
            .map(str::to_ascii_lowercase)
            .filter(|line| wanted.iter().any(|name| line.starts_with(name)))
            .collect();
        lines.sort();
        ensure!(lines.len() == wanted.len(), "a validator is missing: {lines:?}");
        Ok(lines)
    };
    let first = headers(0).unwrap();
    assert_eq!(first, headers(1).unwrap());
    let etag = first.iter().find_map(|line| line.strip_prefix("etag: ")).unwrap();
    let known = sluice_xtask::lab::world::curl(&[
        "-H",
        &format!("If-None-Match: {etag}"),
        &content_url(&world.nodes[1], &version),
    ]);
    assert_eq!(known.unwrap().status, 304);
}

#[test]
fn a_pilot_patch_is_refused_to_a_plain_client_until_production_has_it() {
    let (world, _) = published("ring-gate").unwrap();
    let next = packages::one(&world.lab.folder("packages").unwrap(), "2.0-1", 1 << 20).unwrap();
    world.publish("demo", &next, "high", "CVE-2026-10002").unwrap();
    let ask = |host: &str| {
        let url = format!("http://{host}/content/sha256/{}", next.debs[0].sha256);
        sluice_xtask::lab::world::curl(&["-o", "/dev/null", &url]).unwrap().status
    };
    let node = world.nodes[0].listening.http.clone();
    assert_eq!(ask(&node), 404, "a draft is listed nowhere");
    world.approve("demo/2.0-1", "pilot").unwrap();
    let settled = sluice_xtask::lab::wait(std::time::Duration::from_secs(10), || Ok(ask(&node) == 403)).unwrap();
    assert!(settled, "a pilot patch answers {} to a production client", ask(&node));
    world.approve("demo/2.0-1", "production").unwrap();
    let settled = sluice_xtask::lab::wait(std::time::Duration::from_secs(10), || Ok(ask(&node) == 200)).unwrap();
    assert!(settled, "a production patch answers {}", ask(&node));
    let patches = world.lab.ask(&world.bob, &["patches"]).unwrap();
    assert_eq!(rows(&patches, "patches").len(), 2);
}
