//! Whole passes: signed metadata, a node over TLS, dpkg in a root of its own.

use super::packages::{have_dpkg, package, root, settings, status};
use super::site::World;
use crate::folder::DataFolder;
use crate::operations::{enrol, explain, run};
use crate::wiring;
use sluice_identity::DeviceKey;
use sluice_settings::AgentSettings;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

struct Endpoint {
    dir: TempDir,
    root: PathBuf,
    settings: AgentSettings,
}

impl Endpoint {
    async fn enrolled(world: &mut World) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = root(dir.path());
        let settings = AgentSettings { dpkg: settings(&root), ..AgentSettings::default() };
        let endpoint = Self { root, settings, dir };
        let enrolled = enrol::run(endpoint.request(world, true)).await.unwrap();
        assert_eq!(enrolled.site.as_str(), super::site::SITE);
        world.enlist(enrolled.endpoint);
        endpoint
    }

    fn request(&self, world: &World, accept_dev_root: bool) -> enrol::EnrolRequest {
        enrol::EnrolRequest {
            repository: world.url.clone(),
            token: world.token.to_text().to_string(),
            data: self.data(),
            name: Some("desk".into()),
            accept_dev_root,
        }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    async fn once(&self) -> crate::pass::Done {
        run::once(&self.data(), self.settings.clone(), CancellationToken::new()).await.unwrap()
    }

    async fn explain(&self) -> String {
        explain::run(&self.data(), self.settings.clone()).await.unwrap().lines.join("\n")
    }

    fn status(&self, package: &str) -> String {
        status(&self.root, package)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_is_installed_replaced_retracted_and_rolled_back_and_each_is_reported_once() {
    if !have_dpkg() {
        return;
    }
    let mut world = World::new(2).await;
    let endpoint = Endpoint::enrolled(&mut world).await;
    endpoint.once().await;
    assert_eq!(endpoint.explain().await, "ring pilot offers nothing");

    let one = package("tool", "1.0").build(endpoint.dir.path());
    world.approve("tool/1.0", &[(one, "tool", "1.0")]);
    assert_eq!(endpoint.once().await.attempts, 1);
    assert_eq!(endpoint.status("tool"), "install ok installed 1.0");
    let two = package("tool", "2.0").build(endpoint.dir.path());
    world.approve("tool/2.0", &[(two, "tool", "2.0")]);
    endpoint.once().await;
    assert_eq!(endpoint.status("tool"), "install ok installed 2.0");
    assert_eq!(endpoint.once().await.attempts, 0);
    assert_eq!(endpoint.explain().await, "tool: up to date with tool/2.0");

    world.retract("tool/2.0");
    assert_eq!(endpoint.once().await.attempts, 1);
    assert_eq!(endpoint.status("tool"), "install ok installed 1.0");
    assert_eq!(
        endpoint.explain().await,
        "tool: up to date with tool/1.0; blocked: tool/2.0 is retracted (#1: breaks boot)"
    );
    assert_eq!(endpoint.once().await.attempts, 0);
    world.retract("tool/1.0");
    endpoint.once().await;
    assert_eq!(endpoint.status("tool"), "install ok installed 1.0");
    assert!(endpoint.explain().await.contains("there is no earlier version to go back to"));
    endpoint.once().await;
    assert_eq!(
        world.outcomes(),
        [
            "Heartbeat ",
            "Installed tool/1.0",
            "Installed tool/2.0",
            "RolledBack tool/2.0",
            "Installed tool/1.0",
            "RollbackFailed tool/1.0",
        ]
    );
    let published = world.published.lock().unwrap();
    let seqs: Vec<u64> = published.reports.iter().map(|report| report.seq).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5, 6]);
    let installed = &published.reports[1];
    assert_eq!(installed.sources.len(), 1);
    assert_eq!(installed.after[0].version.as_deref(), Some("1.0"));
    assert_eq!(installed.detail, "", "nothing is said when nothing is wrong");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_dependency_is_reported_as_failed_and_never_as_installed() {
    if !have_dpkg() {
        return;
    }
    let mut world = World::new(1).await;
    let endpoint = Endpoint::enrolled(&mut world).await;
    let file = package("tool", "1.0").depends("libmissing (>= 2)").build(endpoint.dir.path());
    world.approve("tool/1.0", &[(file, "tool", "1.0")]);
    let done = endpoint.once().await;
    assert_eq!((done.attempts, done.failures), (1, 1));
    assert_eq!(endpoint.once().await.attempts, 0, "repeated only after a wait");
    assert!(endpoint.explain().await.contains("failed once (dependency)"), "{}", endpoint.explain().await);
    assert_eq!(world.outcomes(), ["Failed tool/1.0 Dependency"]);
    let detail = world.published.lock().unwrap().reports[0].detail.clone();
    assert!(detail.contains("tool depends on libmissing (>= 2)"), "{detail}");

    world.retract("tool/1.0");
    endpoint.once().await;
    assert_eq!(world.outcomes().last().unwrap(), "Blocked tool/1.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_in_the_middle_is_taken_over_by_the_next_from_where_it_stopped() {
    if !have_dpkg() {
        return;
    }
    let mut world = World::new(3).await;
    let endpoint = Endpoint::enrolled(&mut world).await;
    let file = package("tool", "1.0").data_bytes(4 << 20).build(endpoint.dir.path());
    let length = std::fs::metadata(&file).unwrap().len();
    world.approve("tool/1.0", &[(file, "tool", "1.0")]);
    // Whoever is first dies after 1 MiB, whoever is second after another; the third has the rest.
    let dying: Vec<_> = world.nodes.iter().map(|node| node.state.clone()).collect();
    for state in &dying {
        state.dies_after.store(1 << 20, Ordering::Relaxed);
    }
    let reviving = tokio::spawn(async move {
        while dying.iter().filter(|state| state.is_dead.load(Ordering::Relaxed)).count() < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for state in dying.iter().filter(|state| !state.is_dead.load(Ordering::Relaxed)) {
            state.dies_after.store(u64::MAX, Ordering::Relaxed);
        }
    });
    assert_eq!(endpoint.once().await.failures, 0);
    reviving.await.unwrap();
    assert_eq!(endpoint.status("tool"), "install ok installed 1.0");
    let served: u64 = world.nodes.iter().map(|node| node.state.served.load(Ordering::Relaxed)).sum();
    assert!(served < length + (2 << 20), "{served} bytes were served for {length}");
    let sources = world.published.lock().unwrap().reports[0].sources.clone();
    assert_eq!(sources.len(), 3);
    assert_eq!(sources.iter().map(|source| source.bytes).sum::<u64>(), length);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_was_stopped_in_mid_download_goes_on_from_there() {
    if !have_dpkg() {
        return;
    }
    let mut world = World::new(1).await;
    let endpoint = Endpoint::enrolled(&mut world).await;
    let file = package("tool", "1.0").data_bytes(2 << 20).build(endpoint.dir.path());
    let bytes = std::fs::read(&file).unwrap();
    world.approve("tool/1.0", &[(file, "tool", "1.0")]);
    // What an earlier process left: a part, without the memory of it anywhere else.
    let downloads = DataFolder::open(&endpoint.data()).unwrap().downloads();
    let sha256 = super::packages::sha256(&bytes);
    std::fs::write(downloads.join(format!("{sha256}.part")), &bytes[..1 << 20]).unwrap();
    endpoint.once().await;
    assert_eq!(endpoint.status("tool"), "install ok installed 1.0");
    let served = world.nodes[0].state.served.load(Ordering::Relaxed);
    assert_eq!(served, bytes.len() as u64 - (1 << 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_sends_wrong_bytes_is_left_for_another_and_nothing_wrong_is_installed() {
    if !have_dpkg() {
        return;
    }
    let mut world = World::new(1).await;
    let endpoint = Endpoint::enrolled(&mut world).await;
    let file = package("tool", "1.0").build(endpoint.dir.path());
    world.approve("tool/1.0", &[(file, "tool", "1.0")]);
    world.nodes[0].state.lies.store(true, Ordering::Relaxed);
    assert_eq!(endpoint.once().await.failures, 1);
    assert_eq!(endpoint.status("tool"), "");
    assert_eq!(world.outcomes(), ["Failed tool/1.0 Verification"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn older_metadata_is_refused_also_after_a_restart_and_what_was_verified_stays_in_force() {
    if !have_dpkg() {
        return;
    }
    let mut world = World::new(1).await;
    let endpoint = Endpoint::enrolled(&mut world).await;
    let yesterday = world.published.lock().unwrap().metadata.clone();
    let file = package("tool", "1.0").build(endpoint.dir.path());
    world.approve("tool/1.0", &[(file, "tool", "1.0")]);
    endpoint.once().await;
    world.published.lock().unwrap().metadata = yesterday;
    // Each `once` opens everything anew: this is a restart.
    assert!(endpoint.once().await.is_offline, "yesterday's metadata was taken");
    assert_eq!(endpoint.explain().await, "tool: up to date with tool/1.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_survives_a_restart_and_is_handed_over_again_until_acknowledged() {
    if !have_dpkg() {
        return;
    }
    let mut world = World::new(1).await;
    let endpoint = Endpoint::enrolled(&mut world).await;
    world.nodes[0].state.drops_reports.store(true, Ordering::Relaxed);
    endpoint.once().await;
    assert_eq!(world.outcomes(), Vec::<String>::new());
    world.nodes[0].state.drops_reports.store(false, Ordering::Relaxed);
    endpoint.once().await;
    assert_eq!(world.outcomes(), ["Heartbeat "]);
    let opened =
        wiring::open(&DataFolder::open(&endpoint.data()).unwrap(), endpoint.settings.clone(), Default::default())
            .unwrap();
    assert!(opened.agent.store.journal_unacknowledged(10).unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_running_agent_stops_when_told_and_explains_while_it_runs() {
    if !have_dpkg() {
        return;
    }
    let mut world = World::new(1).await;
    let mut endpoint = Endpoint::enrolled(&mut world).await;
    endpoint.settings.poll.metadata_ms = 50;
    let stop = CancellationToken::new();
    let (data, settings, stopped) = (endpoint.data(), endpoint.settings.clone(), stop.clone());
    let running = tokio::spawn(async move { run::forever(&data, settings, stopped).await });
    let file = package("tool", "1.0").build(endpoint.dir.path());
    world.approve("tool/1.0", &[(file, "tool", "1.0")]);
    for _ in 0..400 {
        if world.outcomes().iter().any(|outcome| outcome == "Installed tool/1.0") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(endpoint.status("tool"), "install ok installed 1.0");
    assert_eq!(endpoint.explain().await, "tool: up to date with tool/1.0");
    let second = run::once(&endpoint.data(), endpoint.settings.clone(), CancellationToken::new()).await;
    assert!(second.unwrap_err().to_string().contains("already runs"));
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(5), running).await.unwrap().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_in_the_middle_of_dpkg_waits_for_its_end_and_for_the_journal() {
    if !have_dpkg() {
        return;
    }
    let mut world = World::new(1).await;
    let mut endpoint = Endpoint::enrolled(&mut world).await;
    let (program, started) = (endpoint.dir.path().join("slow-dpkg"), endpoint.dir.path().join("started"));
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *--install*) touch {}; sleep 1;; esac\nexec dpkg \"$@\"\n",
        started.display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    endpoint.settings.dpkg.program = program;
    let file = package("tool", "1.0").build(endpoint.dir.path());
    world.approve("tool/1.0", &[(file, "tool", "1.0")]);
    let stop = CancellationToken::new();
    let (data, settings, stopped) = (endpoint.data(), endpoint.settings.clone(), stop.clone());
    let running = tokio::spawn(async move { run::forever(&data, settings, stopped).await });
    while !started.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(20), running).await.unwrap().unwrap().unwrap();
    assert_eq!(endpoint.status("tool"), "install ok installed 1.0");
    let opened =
        wiring::open(&DataFolder::open(&endpoint.data()).unwrap(), endpoint.settings.clone(), Default::default())
            .unwrap();
    assert_eq!(opened.agent.store.journal_latest(10).unwrap().len(), 1, "the outcome is not in the journal");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dev_root_a_foreign_repository_and_a_cut_token_are_refused_before_the_secret_is_sent() {
    let world = World::new(0).await;
    let dir = tempfile::tempdir().unwrap();
    let endpoint = Endpoint { root: root(dir.path()), settings: AgentSettings::default(), dir };
    let error = enrol::run(endpoint.request(&world, false)).await.unwrap_err();
    assert!(matches!(error, enrol::EnrolError::DevRoot), "{error}");
    let mut foreign = endpoint.request(&world, true);
    foreign.token = sluice_api_client::EnrolmentTokenText::new([1; 8], [2; 32], [9; 16]).to_text().to_string();
    let error = enrol::run(foreign).await.unwrap_err().to_string();
    assert!(error.contains("is not the repository of this token"), "{error}");
    let mut cut = endpoint.request(&world, true);
    cut.token.pop();
    assert!(matches!(enrol::run(cut).await, Err(enrol::EnrolError::Token(_))));
    let not_enrolled = explain::run(&endpoint.data(), endpoint.settings.clone()).await.unwrap_err();
    assert!(not_enrolled.to_string().contains("is not enrolled"), "{not_enrolled}");
    let key = DeviceKey::load(&endpoint.data().join("device.key"));
    assert!(key.is_ok(), "the key stays for the next try");
}
