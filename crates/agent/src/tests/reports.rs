//! Reports on their way: a node that drops them, and an enrolment anew.

use super::packages::{have_dpkg, package, root, settings};
use super::site::World;
use crate::operations::{enrol, run};
use sluice_compliance::OutcomeKind;
use sluice_settings::AgentSettings;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

fn request(world: &World, data: &Path) -> enrol::EnrolRequest {
    enrol::EnrolRequest {
        repository: world.url.clone(),
        token: world.token.to_text().to_string(),
        data: data.to_owned(),
        name: Some("desk".into()),
        accept_dev_root: true,
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..800 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("it never came to this: {what}");
}

// proves: G4
#[tokio::test(flavor = "multi_thread")]
async fn reports_that_a_node_drops_reach_the_repository_itself_and_say_which_node_it_was() {
    if !have_dpkg() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (root, data) = (root(dir.path()), dir.path().join("data"));
    let mut world = World::new(1).await;
    let enrolled = enrol::run(request(&world, &data)).await.unwrap();
    world.enlist(enrolled.endpoint);
    world.nodes[0].state.drops_reports.store(true, Ordering::Relaxed);
    let mut agent = AgentSettings { dpkg: settings(&root), ..AgentSettings::default() };
    (agent.poll.metadata_ms, agent.poll.acknowledged_within_ms) = (50, 300);
    let stop = CancellationToken::new();
    let (folder, stopped) = (data.clone(), stop.clone());
    let running = tokio::spawn(async move { run::forever(&folder, agent, stopped).await });
    let node = world.nodes[0].key.public();
    let published = world.published.clone();
    until("a report names the node", || {
        let published = published.lock().unwrap();
        published.reports.iter().flat_map(|report| &report.withheld).any(|withheld| withheld.node == node)
    })
    .await;
    stop.cancel();
    running.await.unwrap().unwrap();
    let published = world.published.lock().unwrap();
    let seqs: Vec<u64> = published.reports.iter().map(|report| report.seq).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
}

// proves: G4
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_enrolled_anew_says_again_what_is_installed_in_its_next_epoch() {
    if !have_dpkg() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (root, data) = (root(dir.path()), dir.path().join("data"));
    let mut world = World::new(1).await;
    let enrolled = enrol::run(request(&world, &data)).await.unwrap();
    world.enlist(enrolled.endpoint);
    let agent = AgentSettings { dpkg: settings(&root), ..AgentSettings::default() };
    let once = async || run::once(&data, agent.clone(), CancellationToken::new()).await.unwrap();
    let file = package("tool", "1.0").build(dir.path());
    world.approve("tool/1.0", &[(file, "tool", "1.0")]);
    once().await;
    world.epoch.store(2, Ordering::Relaxed);
    enrol::run(request(&world, &data)).await.unwrap();
    once().await;
    once().await;
    let published = world.published.lock().unwrap();
    let told: Vec<_> = published.reports.iter().map(|report| (report.epoch, report.seq, report.outcome)).collect();
    assert_eq!(told, [(1, 1, OutcomeKind::Installed), (2, 1, OutcomeKind::Installed)]);
    assert_eq!(published.reports[1].after, published.reports[0].after);
}

// proves: G4
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_whose_key_was_removed_and_that_enrolled_with_a_new_one_begins_a_chain_of_its_own() {
    if !have_dpkg() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (root, data) = (root(dir.path()), dir.path().join("data"));
    let mut world = World::new(1).await;
    let enrolled = enrol::run(request(&world, &data)).await.unwrap();
    world.enlist(enrolled.endpoint);
    let agent = AgentSettings { dpkg: settings(&root), ..AgentSettings::default() };
    let once = async || run::once(&data, agent.clone(), CancellationToken::new()).await.unwrap();
    let file = package("tool", "1.0").build(dir.path());
    world.approve("tool/1.0", &[(file, "tool", "1.0")]);
    once().await;
    std::fs::remove_file(data.join("device.key")).unwrap();
    let anew = enrol::run(request(&world, &data)).await.unwrap();
    world.enlist(anew.endpoint);
    once().await;
    let published = world.published.lock().unwrap();
    let told: Vec<_> = published.reports.iter().map(|report| (report.endpoint, report.seq)).collect();
    assert_eq!(told, [(enrolled.endpoint, 1), (anew.endpoint, 1)]);
    assert_ne!(enrolled.endpoint, anew.endpoint);
}
