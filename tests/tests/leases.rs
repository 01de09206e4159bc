//! A node that is cut off serves until its lease ends and never once after it, whatever its clock says; from a retracted
//! version the endpoints of a site go back in the outage, without the WAN. proves: F3, F7, F9, P4, P8, P13, attack 24.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods, reason = "tests measure time")]

use anyhow::Context;
use sluice_api_client::{ContentRequest, DeviceClient, Timeouts};
use sluice_identity::DeviceKey;
use sluice_rollout::gate::{PURPOSE_HEADER, PURPOSE_ROLLBACK};
use sluice_tests::poll::{Answered, SlowDownload, poll, until};
use sluice_tests::{is_full_tier, metric, world_with};
use sluice_xtask::lab::packages::{self, Version};
use sluice_xtask::lab::world::{Node, World, content_url, curl, rows};
use sluice_xtask::lab::{said, wait};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const LONG: Duration = Duration::from_secs(60);
/// Twenty times a second.
const EVERY: Duration = Duration::from_millis(50);
/// A client that takes a megabyte a second: it would need twice the lease.
const READ_PAUSE: Duration = Duration::from_millis(60);
/// The lease of these repositories: the shortest that a repository takes.
const LEASE_SECS: &str = "10";
/// The clock of another process: https://github.com/wolfcw/libfaketime, from the distribution.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
/// Endpoints that go back in an outage, every run and before a release.
const ENDPOINTS: usize = 12;
const ENDPOINTS_FULL: usize = 50;
/// Agents that run at the same time.
const RUNS_AT_ONCE: usize = 12;
/// How long a timestamp was under way when it arrived counts as well; without a clock nobody knows how long.
const UNDER_WAY_MAX: Duration = Duration::from_millis(1_500);

fn path(version: &Version) -> String {
    format!("/content/sha256/{}", version.debs[0].sha256)
}

/// A site with one node that serves one patch.
fn serving(name: &str) -> (World, Version) {
    serving_under(name, &[&[]])
}

/// A site with a node for each of `environments`; all serve one patch.
fn serving_under(name: &str, environments: &[&[(String, String)]]) -> (World, Version) {
    let mut world = world_with(name, &[("SLUICE_LEASE_SERVING_SECS", LEASE_SECS)]).unwrap();
    world.add_site("lyon", "10.1.0.0/16", "800mbit").unwrap();
    for (idx, environment) in environments.iter().enumerate() {
        world.node_environment = environment.to_vec();
        world.add_node(&format!("node-{}", idx + 1), "lyon").unwrap();
    }
    world.until_connected().unwrap();
    let version = packages::one(&world.lab.folder("packages").unwrap(), "1.0-1", 24 << 20).unwrap();
    world.publish("demo", &version, "high", "CVE-2026-10001").unwrap();
    world.approve("demo/1.0-1", "production").unwrap();
    for node in &world.nodes {
        let url = content_url(node, &version);
        assert!(wait(LONG, || Ok(curl(&["-o", "/dev/null", &url])?.status == 200)).unwrap(), "the patch is not served");
    }
    (world, version)
}

/// The version of the timestamp that a node acts on.
fn timestamp_version(node: &Node) -> anyhow::Result<u64> {
    let url = format!("http://{}/tuf/metadata/timestamp.json", node.listening.http);
    let mut command = Command::new("curl");
    let text = sluice_xtask::cargo::output(command.args(["--silent", "--fail", "--max-time", "5", &url]))?;
    let file: serde_json::Value = serde_json::from_str(&text)?;
    file["signed"]["version"].as_u64().context("a timestamp without a version")
}

/// The end of the lease that a node acts on, by its own word.
fn lease_until(node: &Node) -> SystemTime {
    let mut command = Command::new("curl");
    command.args(["--silent", "--max-time", "5", &format!("http://{}/readyz", node.listening.http)]);
    let ready: serde_json::Value = serde_json::from_str(&sluice_xtask::cargo::output(&mut command).unwrap()).unwrap();
    UNIX_EPOCH + Duration::from_millis(ready["lease_until"].as_u64().expect("a ready node says its lease"))
}

fn ended(answers: &[Answered]) -> bool {
    answers.iter().rev().take_while(|answer| answer.status == 503).count() >= 40
}

/// The last answer with content, relative to `end`: negative is before it.
fn last_served(answers: &[Answered], end: SystemTime) -> f64 {
    let last = answers.iter().rev().find(|answer| answer.status == 206).expect("it served once").asked_at;
    match last.duration_since(end) {
        Ok(late) => late.as_secs_f64(),
        Err(early) => -early.duration().as_secs_f64(),
    }
}

#[test]
fn a_node_that_is_cut_off_serves_to_the_end_of_its_lease_and_never_once_after_it() {
    let (mut world, version) = serving("lease");
    let mut download = SlowDownload::begin(&world.nodes[0].listening.http, &path(&version)).unwrap();
    world.lab.kill("repo").unwrap();
    let end = lease_until(&world.nodes[0]);
    let address = world.nodes[0].listening.http.clone();
    let began = Instant::now();
    let reading = std::thread::spawn(move || (download.until_cut(READ_PAUSE, began, LONG), download.received));
    let answers = poll(&address, &path(&version), EVERY, LONG, ended);
    let late = answers.iter().filter(|answer| answer.asked_at >= end && answer.status != 503).count();
    let astride: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    let rate = answers.len() as f64
        / answers.last().unwrap().asked_at.duration_since(answers[0].asked_at).unwrap().as_secs_f64();
    println!(
        "{} questions, {rate:.1} a second: the last content {:.0} ms before the end of the lease, {late} late",
        answers.len(),
        -1e3 * last_served(&answers, end),
    );
    assert!(rate >= 19.0, "asked {rate} times a second only");
    assert_eq!(late, 0, "{astride:?}");
    assert!(last_served(&answers, end) > -1.0, "it stopped long before its lease: {astride:?}");
    let first_end = astride.iter().position(|status| *status == 503).unwrap();
    assert!(astride[..first_end].iter().all(|status| *status == 206), "{astride:?}");
    assert!(astride[first_end..].iter().all(|status| *status == 503), "{astride:?}");
    let (cut, received) = reading.join().unwrap();
    let length = std::fs::metadata(&version.debs[0].path).unwrap().len();
    // A download that was done before the end is no proof; this one reads too slowly for that.
    assert!(cut.is_some() && received < length, "the running download went on: {received} of {length} bytes");
    // Metadata of an expired lease is not given to clients either.
    let url = format!("http://{address}/tuf/metadata/timestamp.json");
    assert_eq!(curl(&["-o", "/dev/null", &url]).unwrap().status, 503);
    world.start_repository().unwrap();
    assert!(until(&address, &path(&version), 206, Instant::now(), LONG).is_some(), "it does not serve again");
}

/// A clock for one program that the test sets while it runs.
struct FakeClock {
    file: PathBuf,
}

impl FakeClock {
    fn new(name: &str) -> Self {
        let clock = Self { file: std::env::temp_dir().join(format!("clock-{name}-{}", std::process::id())) };
        clock.set("+0");
        clock
    }

    /// `+0`, an offset in seconds, or a moment (UTC) at which the clock stands still.
    fn set(&self, words: &str) {
        std::fs::write(&self.file, words).unwrap();
    }

    fn freeze(&self) {
        let mut now = Command::new("date");
        self.set(sluice_xtask::cargo::output(now.args(["--utc", "+%Y-%m-%d %H:%M:%S"])).unwrap().trim());
    }

    fn environment(&self) -> Vec<(String, String)> {
        [
            ("LD_PRELOAD", FAKETIME),
            ("FAKETIME_TIMESTAMP_FILE", self.file.to_str().unwrap()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("TZ", "UTC"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .to_vec()
    }
}

impl Drop for FakeClock {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

fn has_faketime(test: &str) -> bool {
    let is_there = Path::new(FAKETIME).is_file();
    if !is_there {
        sluice_tests::skip(test, "libfaketime is not installed: cargo xtask setup");
    }
    is_there
}

/// The clock of a node is changed, then the WAN goes.
struct Change {
    name: &'static str,
    node: usize,
    clock: FakeClock,
    change: fn(&FakeClock),
}

/// Both nodes of a site have a wrong clock, each in its way; their leases end when they would have ended.
#[test]
fn neither_a_frozen_clock_nor_one_set_back_prolongs_a_lease() {
    if !has_faketime("neither_a_frozen_clock_nor_one_set_back_prolongs_a_lease") {
        return;
    }
    let changes = [
        Change { name: "frozen", node: 0, clock: FakeClock::new("frozen"), change: FakeClock::freeze },
        Change { name: "set back", node: 1, clock: FakeClock::new("set-back"), change: |clock| clock.set("-3600") },
    ];
    let environments = changes.each_ref().map(|change| change.clock.environment());
    let (mut world, version) = serving_under("wrong-clock", &environments.each_ref().map(Vec::as_slice));
    for change in &changes {
        (change.change)(&change.clock);
    }
    // A timestamp that arrives under the wrong clock says the time again: the second one from now was asked for under it.
    for node in &world.nodes {
        let before = timestamp_version(node).unwrap();
        let has_arrived = wait(LONG, || Ok(timestamp_version(node)? >= before + 2)).unwrap();
        assert!(has_arrived, "{} takes no timestamp under its clock", node.name);
    }
    world.lab.kill("repo").unwrap();
    std::thread::scope(|scope| {
        for change in &changes {
            let (node, version) = (&world.nodes[change.node], &version);
            scope.spawn(|| the_lease_ends(change.name, node, version));
        }
    });

    // A restart under that clock knows no more and serves nothing either.
    for node in ["node-1", "node-2"] {
        world.lab.terminate(node).unwrap();
    }
    for change in &changes {
        world.node_environment = change.clock.environment();
        world.restart_node(&format!("node-{}", change.node + 1)).unwrap();
    }
    for node in &world.nodes {
        let answers = poll(&node.listening.http, &path(&version), EVERY, Duration::from_secs(1), |_| false);
        assert!(!answers.is_empty() && answers.iter().all(|answer| answer.status == 503), "{answers:?}");
    }
    for change in &changes {
        change.clock.set("+0");
    }
    world.start_repository().unwrap();
    for node in &world.nodes {
        let again = until(&node.listening.http, &path(&version), 206, Instant::now(), LONG);
        assert!(again.is_some(), "{} does not serve again", node.name);
    }
}

fn the_lease_ends(name: &str, node: &Node, version: &Version) {
    let end = lease_until(node);
    let answers = poll(&node.listening.http, &path(version), EVERY, LONG, ended);
    let last = last_served(&answers, end);
    println!("{name}: the last content {:.0} ms before the end of the lease", -1e3 * last);
    assert!(last <= UNDER_WAY_MAX.as_secs_f64(), "{name}: served {last} s after the end of its lease");
    assert!(last > -2.0, "{name}: it stopped {} s before the end of its lease", -last);
}

#[test]
fn a_hold_stops_a_node_without_the_wan_and_outlives_its_restart() {
    let (mut world, version) = serving("hold");
    let (address, data) = (world.nodes[0].listening.http.clone(), world.nodes[0].data.clone());
    world.lab.kill("repo").unwrap();
    let hold = |world: &World, command: &str, more: &[&str]| {
        let mut node = world.lab.program("sluice-node");
        let done = said(node.arg(command).arg("--data").arg(&data).args(more)).unwrap();
        assert_eq!(done.code, 0, "{}", done.err);
    };
    let began = Instant::now();
    hold(&world, "hold", &["--reason", "the auditor is here"]);
    let took = until(&address, &path(&version), 503, began, LONG).unwrap();
    println!("held {:.0} ms after the command", took.as_secs_f64() * 1e3);
    assert!(took <= Duration::from_secs(2));
    let answer = curl(&["-o", "/dev/stdout", &format!("http://{address}{}", path(&version))]).unwrap();
    assert_eq!(answer.title, "This node is held");
    world.lab.terminate("node-1").unwrap();
    world.restart_node("node-1").unwrap();
    assert_eq!(curl(&["-o", "/dev/null", &content_url(&world.nodes[0], &version)]).unwrap().status, 503);
    world.start_repository().unwrap();
    let is_told = wait(LONG, || {
        let nodes = world.lab.ask(&world.bob, &["nodes"])?;
        Ok(rows(&nodes, "nodes")[0]["trouble"].as_str().is_some_and(|trouble| trouble.contains("the auditor is here")))
    });
    assert!(is_told.unwrap(), "the repository was not told of the hold");
    hold(&world, "release", &[]);
    assert!(until(&address, &path(&version), 206, Instant::now(), LONG).is_some(), "it does not serve again");
}

/// `run --once` of every endpoint, some at a time: each waits a while for somebody to acknowledge its reports.
fn run_all(world: &World) {
    let commands: Vec<Command> = world
        .endpoints
        .iter()
        .map(|endpoint| {
            let mut run = world.agent("run", &endpoint.root, &endpoint.data);
            run.arg("--once");
            run
        })
        .collect();
    let queue = std::sync::Mutex::new(commands);
    std::thread::scope(|scope| {
        for _ in 0..RUNS_AT_ONCE {
            scope.spawn(|| {
                while let Some(mut command) = { queue.lock().unwrap().pop() } {
                    let done = said(&mut command).unwrap();
                    assert_eq!(done.code, 0, "{}{}", done.out, done.err);
                }
            });
        }
    });
}

#[test]
fn all_endpoints_of_a_site_go_back_on_an_expired_lease_with_the_wan_down() {
    let count = if is_full_tier() { ENDPOINTS_FULL } else { ENDPOINTS };
    let mut world = world_with("rollback", &[("SLUICE_LEASE_SERVING_SECS", LEASE_SECS)]).unwrap();
    world.add_site("lyon", "10.1.0.0/16", "800mbit").unwrap();
    for name in ["node-1", "node-2"] {
        world.add_node(name, "lyon").unwrap();
    }
    world.until_connected().unwrap();
    let folder = world.lab.folder("packages").unwrap();
    let [old, bad, new] = ["1.0-1", "2.0-1", "3.0-1"].map(|version| packages::one(&folder, version, 300_000).unwrap());
    let names: Vec<String> = (0..count).map(|idx| format!("desk-{idx}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let installed = [(packages::RUNTIME, "1.0"), ("sluice-demo-data", "1.0-1")];
    let installed = installed.map(|(package, version)| (package.to_owned(), version.to_owned()));
    for name in &names {
        world.add_endpoint(name, ("lyon", "production"), &installed, "all").unwrap();
    }
    for version in [&old, &bad] {
        world.publish("demo", version, "high", "CVE-2026-10001").unwrap();
        world.approve(&format!("demo/{}", version.number()), "production").unwrap();
        // Both nodes have the bytes: in the outage there is nowhere else to get them from.
        for node in &world.nodes {
            let url = content_url(node, version);
            assert!(wait(LONG, || Ok(curl(&["-o", "/dev/null", &url])?.status == 200)).unwrap());
        }
    }
    let began = Instant::now();
    run_all(&world);
    assert!(world.all_have(&names, &bad).unwrap(), "2.0-1 is not everywhere");
    println!("{count} endpoints have 2.0-1 after {:.1} s", began.elapsed().as_secs_f64());

    // While every endpoint sleeps: retracted, a newer version approved, and the WAN goes.
    world.lab.ask(&world.bob, &["retract", "demo/2.0-1", "--reason", "it breaks the boot"]).unwrap();
    world.publish("demo", &new, "high", "CVE-2026-10001").unwrap();
    world.approve("demo/3.0-1", "production").unwrap();
    for node in &world.nodes {
        assert!(wait(LONG, || Ok(curl(&["-o", "/dev/null", &content_url(node, &new)])?.status == 200)).unwrap());
    }
    let keys = world.lab.ask(&world.bob, &["nodes"]).unwrap();
    world.lab.kill("repo").unwrap();
    for node in &world.nodes {
        let address = &node.listening.http;
        assert!(until(address, &path(&new), 503, Instant::now(), LONG).is_some(), "{} goes on", node.name);
    }
    // Nobody listens at the origin's address any more. The nodes' own word on content; what they count as metadata holds
    // their tries to send reports there as well.
    let origin = world.repo_listening().unwrap().device.clone();
    assert!(std::net::TcpStream::connect(origin).is_err(), "the origin still listens");
    let wan = |world: &World| -> Vec<f64> {
        let bytes = |node: &Node| metric(&node.listening.http, "sluice_origin_bytes_total").unwrap();
        world.nodes.iter().map(bytes).collect()
    };
    let before = wan(&world);
    let began = Instant::now();
    run_all(&world);
    let took = began.elapsed().as_secs_f64();
    assert!(world.all_have(&names, &old).unwrap(), "not every endpoint went back to 1.0-1");
    assert_eq!(wan(&world), before, "bytes crossed the WAN");
    println!("{count} endpoints are back on 1.0-1 after {took:.1} s, 0 bytes over the WAN");

    // Nothing newer and nothing retracted can be had, not by saying that it is for a rollback either.
    for node in &world.nodes {
        let key =
            rows(&keys, "nodes").iter().find(|row| row["name"] == node.name.as_str()).unwrap()["key"].as_str().unwrap();
        for (version, wanted) in [(&old, None), (&bad, Some("retracted")), (&new, Some("lease-expired"))] {
            let got = ask_for_rollback(&world.endpoints[0].data, &node.listening.device, key, version);
            assert_eq!(got.as_deref(), wanted, "{} from {}", version.number(), node.name);
        }
        for version in [&old, &new] {
            assert_eq!(curl(&["-o", "/dev/null", &content_url(node, version)]).unwrap().status, 503);
        }
    }
}

/// The type of the problem that an enrolled endpoint meets, `None` when it gets the bytes.
fn ask_for_rollback(data: &Path, address: &str, node: &str, version: &Version) -> Option<String> {
    sluice_identity::install_provider();
    let key = DeviceKey::load(&data.join("device.key")).unwrap();
    let client = DeviceClient::new(address.parse().unwrap(), node.parse().unwrap(), &key, Timeouts::default()).unwrap();
    let request = ContentRequest {
        sha256: version.debs[0].sha256.parse().unwrap(),
        from: 0,
        if_range: None,
        headers: vec![(PURPOSE_HEADER, PURPOSE_ROLLBACK.to_owned())],
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(client.content(&request));
    let error = answer.err()?;
    let problem = error.problem().unwrap_or_else(|| panic!("no problem: {error}"));
    Some(problem.kind.rsplit(':').next().unwrap().to_owned())
}
