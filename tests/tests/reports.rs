//! Outcome reports on whole programs: a node that drops them is gone round and named, a repository restored from a backup
//! gets them again, a cloned machine is quarantined and comes back. proves: G4.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use anyhow::Result;
use serde_json::Value;
use sluice_identity::DeviceKey;
use sluice_tests::{copy_folder, world};
use sluice_transport::{DeviceListener, DeviceStream, ListenLimits};
use sluice_xtask::lab::world::{World, rows};
use sluice_xtask::lab::{packages, said, wait};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use support::member::announce;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

const LONG: Duration = Duration::from_secs(60);

fn needs() -> Vec<(String, String)> {
    vec![(packages::RUNTIME.to_owned(), "1.0".to_owned())]
}

/// Starts an agent that says something every second and gives a way a second to bring it through.
fn start_agent(world: &mut World, name: &str, data: &Path) -> Result<()> {
    let root = world.endpoint(name)?.root.clone();
    let mut run = world.agent("run", &root, data);
    run.env("SLUICE_POLL_HEARTBEAT_SECS", "1").env("SLUICE_POLL_ACKNOWLEDGED_WITHIN_MS", "1000");
    world.lab.start(name, data, &mut run)
}

/// What a person sees.
fn shown(world: &World, what: &str) -> String {
    let mut command = world.lab.program("sluice");
    command.env("SLUICE_URL", world.lab.url()).env("SLUICE_TOKEN", &world.bob.token).arg(what);
    said(&mut command).unwrap().out
}

fn endpoint_row(world: &World, name: &str) -> Value {
    let endpoints = world.lab.ask(&world.bob, &["endpoints"]).unwrap();
    rows(&endpoints, "endpoints").iter().find(|row| row["name"] == name).cloned().unwrap_or_default()
}

/// Numbers of the reports that count, in the order in which they began to.
fn counted(world: &World, name: &str) -> Vec<u64> {
    world.outcomes_of(name).unwrap().iter().map(|row| row["seq"].as_u64().unwrap()).collect()
}

#[test]
fn a_repository_restored_from_yesterday_s_backup_gets_the_reports_again_and_counts_them_once() {
    let mut world = world("reports-restored").unwrap();
    world.add_site("lyon", "10.1.0.0/16", "400mbit").unwrap();
    world.add_node("node-1", "lyon").unwrap();
    world.until_connected().unwrap();
    world.add_endpoint("desk", ("lyon", "production"), &needs(), "all").unwrap();
    let data = world.endpoint("desk").unwrap().data.clone();
    start_agent(&mut world, "desk", &data).unwrap();
    let folder = world.lab.folder("packages").unwrap();
    let [one, two] = ["1.0-1", "2.0-1"].map(|version| packages::one(&folder, version, 100 << 10).unwrap());
    world.publish("demo", &one, "high", "CVE-2026-10001").unwrap();
    world.approve("demo/1.0-1", "production").unwrap();
    world.until_state(&["desk"], "demo/1.0-1", "installed", LONG).unwrap();

    let database = world.repo_data().join("compliance.redb");
    let backup = world.lab.dir().join("compliance.backup");
    world.lab.terminate("repo").unwrap();
    std::fs::copy(&database, &backup).unwrap();
    world.start_repository().unwrap();
    let yesterday = counted(&world, "desk").len();
    world.publish("demo", &two, "high", "CVE-2026-10002").unwrap();
    world.approve("demo/2.0-1", "production").unwrap();
    world.until_state(&["desk"], "demo/2.0-1", "installed", LONG).unwrap();
    assert!(wait(LONG, || Ok(counted(&world, "desk").len() >= yesterday + 4)).unwrap(), "the agent says nothing");

    world.lab.terminate("repo").unwrap();
    std::fs::copy(&backup, &database).unwrap();
    world.start_repository().unwrap();
    world.until_state(&["desk"], "demo/2.0-1", "installed", LONG).unwrap();
    let seqs = counted(&world, "desk");
    println!("{yesterday} reports in the backup, {} afterwards", seqs.len());
    assert!(seqs.len() >= yesterday + 4, "{seqs:?}");
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>(), "each report counts once, in its order");
    let installed = world.outcomes_of("desk").unwrap();
    let installed =
        installed.iter().filter(|row| row["outcome"] == "installed" && row["patch"] == "demo/2.0-1").count();
    assert_eq!(installed, 1);
    let log = world.lab.log("desk");
    assert!(log.contains("the repository lost reports"), "{log}");
}

/// A node's device listener that says of every report that it is stored, and throws it away.
struct Dropper {
    taken: AtomicUsize,
}

impl Dropper {
    async fn serve(self: Arc<Self>, mut listener: DeviceListener) {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let accepted = listener.accept().await;
            let dropper = self.clone();
            connections.spawn(async move { dropper.answer(accepted.stream).await });
        }
    }

    /// HTTP/1.1 as far as the agent speaks it.
    async fn answer(&self, stream: DeviceStream) -> Option<()> {
        let mut stream = BufReader::new(stream);
        loop {
            let (mut head, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                if stream.read_line(&mut line).await.ok()? == 0 {
                    return None;
                }
                if line == "\r\n" {
                    break;
                }
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().ok()?;
                }
                head += &line;
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.ok()?;
            let (status, answer) = if head.starts_with("POST /device/v1/outcomes ") {
                let batch: Value = serde_json::from_slice(&body).ok()?;
                let reports = rows(&batch, "reports").len();
                self.taken.fetch_add(reports, Ordering::SeqCst);
                ("200 OK", format!("{{\"stored\":{reports}}}"))
            } else if head.starts_with("GET /device/v1/acknowledgements ") {
                ("200 OK", "{\"acknowledgements\":[]}".to_owned())
            } else {
                ("404 Not Found", "{}".to_owned())
            };
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{answer}",
                answer.len()
            );
            stream.write_all(answer.as_bytes()).await.ok()?;
            stream.flush().await.ok()?;
        }
    }
}

#[test]
fn a_node_that_drops_reports_is_gone_round_and_named_and_gets_no_more() {
    sluice_identity::install_provider();
    let mut world = world("reports-dropped").unwrap();
    world.add_site("lyon", "10.1.0.0/16", "400mbit").unwrap();
    let data = world.lab.dir().join("node-drop");
    let token = world.node_token("lyon").unwrap();
    let joined = said(world.join(&token, &data).args(["--name", "node-drop"])).unwrap();
    assert_eq!(joined.code, 0, "{}", joined.err);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let key = DeviceKey::load(&data.join("device.key")).unwrap();
    let listener = runtime.block_on(async {
        let listener = DeviceListener::bind("127.0.0.1:0".parse().unwrap(), &key, ListenLimits::default()).unwrap();
        announce(&world, &key, &listener).await;
        listener
    });
    let dropper = Arc::new(Dropper { taken: AtomicUsize::new(0) });
    let serving = runtime.spawn(dropper.clone().serve(listener));

    // The only node of the site drops: the reports go to the repository itself.
    world.add_endpoint("desk", ("lyon", "production"), &needs(), "all").unwrap();
    let data = world.endpoint("desk").unwrap().data.clone();
    start_agent(&mut world, "desk", &data).unwrap();
    assert!(wait(LONG, || Ok(!counted(&world, "desk").is_empty())).unwrap(), "no report came round the node");
    assert!(dropper.taken.load(Ordering::SeqCst) > 0, "the node was never asked");
    let withheld = |world: &World| -> Result<Option<Value>> {
        let nodes = world.lab.ask(&world.bob, &["nodes"])?;
        Ok(rows(&nodes, "nodes").iter().find(|node| node["name"] == "node-drop").map(|node| node["withheld"].clone()))
    };
    let is_named = wait(LONG, || Ok(withheld(&world)?.is_some_and(|words| words[0]["endpoint_name"] == "desk")));
    assert!(is_named.unwrap(), "`sluice nodes` does not name the node: {}", world.lab.log("desk"));
    let text = shown(&world, "nodes");
    assert!(text.contains("and let none through, says desk"), "{text}");

    // With another node there, the one that drops is not asked any more.
    world.add_node("node-1", "lyon").unwrap();
    world.until_connected().ok();
    let version = packages::one(&world.lab.folder("packages").unwrap(), "1.0-1", 100 << 10).unwrap();
    world.publish("demo", &version, "high", "CVE-2026-10001").unwrap();
    let before = counted(&world, "desk").len();
    let taken = dropper.taken.load(Ordering::SeqCst);
    world.approve("demo/1.0-1", "production").unwrap();
    world.until_state(&["desk"], "demo/1.0-1", "installed", LONG).unwrap();
    assert!(wait(LONG, || Ok(counted(&world, "desk").len() > before + 3)).unwrap());
    assert_eq!(dropper.taken.load(Ordering::SeqCst), taken, "the node that drops got more reports");
    let seqs = counted(&world, "desk");
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    serving.abort();
}

#[test]
fn a_cloned_machine_is_quarantined_shown_with_what_to_do_and_counts_again_after_enrolling_anew() {
    let mut world = world("reports-cloned").unwrap();
    world.add_site("lyon", "10.1.0.0/16", "400mbit").unwrap();
    world.add_node("node-1", "lyon").unwrap();
    world.until_connected().unwrap();
    world.add_endpoint("desk", ("lyon", "production"), &needs(), "all").unwrap();
    let data = world.endpoint("desk").unwrap().data.clone();
    let version = packages::one(&world.lab.folder("packages").unwrap(), "1.0-1", 100 << 10).unwrap();
    world.publish("demo", &version, "high", "CVE-2026-10001").unwrap();
    world.approve("demo/1.0-1", "production").unwrap();
    start_agent(&mut world, "desk", &data).unwrap();
    world.until_state(&["desk"], "demo/1.0-1", "installed", LONG).unwrap();
    world.lab.terminate("desk").unwrap();

    // The disk is copied, and both machines start.
    let copy = world.lab.dir().join("copy");
    copy_folder(&data, &copy).unwrap();
    start_agent(&mut world, "desk", &data).unwrap();
    let seqs = counted(&world, "desk").len();
    assert!(wait(LONG, || Ok(counted(&world, "desk").len() > seqs + 1)).unwrap(), "the machine says nothing");
    world.lab.terminate("desk").unwrap();
    start_agent(&mut world, "desk", &copy).unwrap();
    let is_found = wait(LONG, || Ok(endpoint_row(&world, "desk")["state"] == "quarantined")).unwrap();
    assert!(is_found, "the copy was not found: {}", endpoint_row(&world, "desk"));
    world.until_state(&["desk"], "demo/1.0-1", "unknown", LONG).unwrap();
    let text = shown(&world, "endpoints");
    assert!(text.contains("two different reports") && text.contains("sluice-agent enrol"), "{text}");
    world.lab.terminate("desk").unwrap();

    // The machine enrols anew with its key: the next epoch, and everything is said again.
    let token = world.endpoint_token("lyon", "production").unwrap();
    let root = world.endpoint("desk").unwrap().root.clone();
    let mut enrol = world.agent("enrol", &root, &data);
    enrol.args(["--repository", world.lab.url(), "--token", &token, "--name", "desk", "--accept-dev-root"]);
    let enrolled = said(&mut enrol).unwrap();
    assert_eq!(enrolled.code, 0, "{}", enrolled.err);
    start_agent(&mut world, "desk", &data).unwrap();
    world.until_state(&["desk"], "demo/1.0-1", "installed", LONG).unwrap();
    let row = endpoint_row(&world, "desk");
    assert_eq!((&row["state"], &row["epoch"]), (&Value::from("active"), &Value::from(2)), "{row}");
}
