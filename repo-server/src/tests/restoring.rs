//! A server whose data was put back to a backup, and what it believes of what its nodes show.

use super::devices::key;
use super::world::World;
use crate::operations::restore;
use crate::restore_room::Readiness;
use serde_json::{Value, json};
use sluice_api::gossip::BundledFile;
use sluice_api::restore::NewerMetadata;
use sluice_compliance::OutcomeKind;
use sluice_repo_store::{Store, audit};
use std::path::Path;

/// What a node that has everything shows.
fn shown(world: &World) -> Value {
    let served = world.app.served();
    let files = served.files.iter().map(|(name, bytes)| BundledFile { name: name.clone(), bytes: bytes.to_vec() });
    let documents = served.documents.iter();
    let documents = documents.map(|(name, bytes)| BundledFile { name: name.to_string(), bytes: bytes.to_vec() });
    serde_json::to_value(NewerMetadata::of(files.collect(), documents.collect())).unwrap()
}

/// Copies the data to a folder beside it.
fn back_up(data: &Path) {
    copy(data, &data.with_file_name("backup"));
}

fn put_back(data: &Path) {
    std::fs::remove_dir_all(data).unwrap();
    copy(&data.with_file_name("backup"), data);
}

fn put_back_and_say_so(data: &Path) {
    put_back(data);
    say_so(data);
}

fn say_so(data: &Path) {
    let store = Store::open(&data.join("repo.redb")).unwrap();
    restore::declare(&store, "ann", "the disk died", 600).unwrap();
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => std::fs::copy(entry.path(), &target).map(|_| ()).unwrap(),
        }
    }
}

fn version(world: &World) -> u64 {
    world.app.served().view.timestamp_version
}

/// A repository with a node and a published patch, and a backup of it.
async fn backed_up() -> World {
    let world = World::new().await;
    world.add_site("lyon", "10.1.0.0/16").await.expect_ok();
    world.enrolled_node(1).await;
    let deb = world.deb("demo", "1", 1, 1_000);
    world.publish("alice", "demo/1", &[("demo_1_all.deb", &deb)]).await.expect_ok();
    world.approve("bob", "demo/1", "production").await.expect_ok();
    world.reopen_after(back_up).await
}

async fn show(world: &World, seed: u8, shown: &Value) -> Value {
    world.device_post(&key(seed), "/newer-metadata", shown).await.expect_ok().json()["answer"].clone()
}

// proves: L7
#[tokio::test]
async fn a_restored_server_signs_nothing_before_its_nodes_spoke_and_then_has_what_they_have() {
    let world = backed_up().await;
    world.add_site("brno", "10.2.0.0/16").await.expect_ok();
    let late = world.token("node", "brno", None).await;
    world.enrol(&key(2), "node", &late).await.expect_ok();
    let mut endpoint = world.enrolled_endpoint(3, "production").await;
    let deb = world.deb("demo", "2", 2, 1_000);
    world.publish("alice", "demo/2", &[("demo_2_all.deb", &deb)]).await.expect_ok();
    world.approve("bob", "demo/2", "production").await.expect_ok();
    world.retract("bob", "demo/1", &[]).await.expect_ok();
    let (all, lost) = (shown(&world), world.app.served());
    let lost_log = world.client().log_head().expect("the timestamp names the log");

    let world = world.reopen_after(put_back_and_say_so).await;
    let before = version(&world);
    world.add_site("oslo", "10.3.0.0/16").await.expect(503, "not-ready", &["restored from a backup"]);
    world.app.authority.renew().await.unwrap();
    assert_eq!(version(&world), before, "nothing is signed");
    assert!(matches!(readiness(&world), Readiness::Waiting(_)));
    assert_eq!(show(&world, 2, &all).await, "taken", "a stranger to the backup is heard");
    assert_eq!(readiness(&world), Readiness::Waiting(vec![format!("node-{}", key(1).public().short())]));
    assert_eq!(show(&world, 1, &all).await, "taken");
    assert_eq!(readiness(&world), Readiness::Ready(Vec::new()));
    restore::finish(&world.app).await.unwrap();

    let served = world.app.served();
    assert!(served.view.timestamp_version > lost.view.timestamp_version + 100_000, "past what was signed");
    assert_eq!((&served.roster, &served.tombstones), (&lost.roster, &lost.tombstones));
    assert_eq!((&served.topology, &served.limits), (&lost.topology, &lost.limits));
    assert_eq!(served.view.releases, lost.view.releases);
    assert!(served.endpoint(&sluice_identity::endpoint_id_of(&endpoint.key.public())).is_some());
    let retracted = std::fs::read(world.dir.path().join("demo-1-1.deb")).unwrap();
    world.publish("paul", "other/1", &[("other.deb", &retracted)]).await.expect(409, "content-retracted", &[]);
    // The endpoint is known by the hash of its key until it comes itself.
    let report = endpoint.report(OutcomeKind::Installed, "demo/2", "2");
    let carried = world.hand_over(&key(1), std::slice::from_ref(&report)).await.expect_ok().json();
    assert!(carried["refused"][0]["reason"].as_str().unwrap().contains("hash of its key"), "{carried}");
    let brought = world.hand_over(&endpoint.key, std::slice::from_ref(&report)).await.expect_ok().json();
    assert_eq!(brought["stored"], 1, "{brought}");
    let carried = world.hand_over(&key(1), &[endpoint.report(OutcomeKind::Installed, "demo/2", "2")]).await;
    assert_eq!(carried.expect_ok().json()["stored"], 1);
    // Nobody knows who published it, so nobody can be its second person.
    world.approve("bob", "demo/2", "pilot").await.expect(409, "conflict", &["publish the same files again"]);
    world.publish("alice", "demo/2", &[("demo_2_all.deb", &deb)]).await.expect_ok();
    world.approve("alice", "demo/2", "pilot").await.expect(403, "separation-of-duties", &["alice"]);
    world.approve("bob", "demo/2", "pilot").await.expect_ok();
    assert_eq!(world.get("bob", "/v1/patches/demo/2").await.json()["approvals"].as_array().unwrap().len(), 2);
    // What came back is there to be worked with, and after a restart too.
    let world = world.reopen().await;
    world.retract("bob", "demo/2", &[]).await.expect_ok();
    world.add_site("oslo", "10.3.0.0/16").await.expect_ok();
    assert_eq!(world.app.served().tombstones.len(), 2);

    let lines = world.app.store.read(|tx| audit::list(tx, 0, 999)).unwrap();
    let mark = lines.iter().find(|line| line.act.action == "server.restored").unwrap();
    assert!(mark.act.who == "ann" && mark.act.detail.contains("1 retractions"), "{}", mark.act.detail);
    let log = world.app.store.read(audit::head).unwrap();
    let found = world.app.store.read(|tx| audit::gap_mark(tx, lost_log.size, log.size)).unwrap();
    assert!(found.is_some(), "no entry explains what was signed before");
}

#[tokio::test]
async fn a_server_that_nobody_told_believes_nothing_and_raises_an_alarm() {
    let world = backed_up().await;
    world.retract("bob", "demo/1", &[]).await.expect_ok();
    let all = shown(&world);
    assert_eq!(show(&world, 1, &all).await, "known");
    let world = world.reopen_after(put_back).await;
    let before = version(&world);
    world.device_post(&key(9), "/newer-metadata", &all).await.expect(403, "not-enrolled", &[]);
    assert_eq!(show(&world, 1, &all).await, "alarmed");
    assert_eq!((version(&world), world.app.served().tombstones.len()), (before, 0));
    let metrics = world.fetch("/metrics", &[]).await.text();
    assert!(metrics.contains("sluice_forgotten_metadata 1"), "{metrics}");
    let lines = world.app.store.read(|tx| audit::list(tx, 0, 999)).unwrap();
    assert!(lines.iter().any(|line| line.act.action == "metadata.newer" && !line.act.done));
}

#[tokio::test]
async fn what_other_keys_signed_or_somebody_changed_is_refused_also_during_a_restore() {
    let other = backed_up().await;
    other.retract("bob", "demo/1", &[]).await.expect_ok();
    let foreign = shown(&other);
    let world = backed_up().await;
    world.retract("bob", "demo/1", &[]).await.expect_ok();
    let mut changed = shown(&world);
    let timestamp = |value: &mut Value| {
        let files = value["files"].as_array_mut().unwrap();
        files.iter_mut().find(|file| file["name"] == "timestamp.json").unwrap()["bytes"].take()
    };
    let own = timestamp(&mut changed);
    let world = world.reopen_after(put_back_and_say_so).await;
    world.device_post(&key(1), "/newer-metadata", &foreign).await.expect(422, "invalid", &["refused"]);
    let bytes = own.as_str().unwrap();
    let flipped = format!("{}{}{}", &bytes[..100], if &bytes[100..101] == "A" { "B" } else { "A" }, &bytes[101..]);
    for file in changed["files"].as_array_mut().unwrap().iter_mut().filter(|file| file["name"] == "timestamp.json") {
        file["bytes"] = json!(flipped);
    }
    world.device_post(&key(1), "/newer-metadata", &changed).await.expect(422, "invalid", &["refused"]);
    assert!(matches!(readiness(&world), Readiness::Waiting(_)), "a refused node has not spoken");
}

#[tokio::test]
async fn a_retraction_that_only_a_late_node_knows_comes_back_under_the_next_serial() {
    let world = backed_up().await;
    let deb = world.deb("demo", "2", 2, 1_000);
    world.publish("alice", "demo/2", &[("demo_2_all.deb", &deb)]).await.expect_ok();
    world.approve("bob", "demo/2", "production").await.expect_ok();
    std::fs::remove_dir_all(world.dir.path().join("backup")).unwrap();
    let world = world.reopen_after(back_up).await;
    world.retract("bob", "demo/1", &[]).await.expect_ok();
    let late = shown(&world);
    let world = world.reopen_after(put_back_and_say_so).await;
    restore::finish(&world.app).await.unwrap();
    world.retract("bob", "demo/2", &[]).await.expect_ok();
    assert_eq!(show(&world, 1, &late).await, "alarmed", "its serial is taken, its content is not retracted here");
    let world = world.reopen_after(say_so).await;
    assert_eq!(show(&world, 1, &late).await, "taken");
    restore::finish(&world.app).await.unwrap();
    let served = world.app.served();
    let retracted: Vec<(u64, String)> =
        served.tombstones.iter().map(|tombstone| (tombstone.serial, tombstone.patch.to_string())).collect();
    assert_eq!(retracted, [(1, "demo/2".to_owned()), (2, "demo/1".to_owned())]);
    world.reopen().await;
}

fn readiness(world: &World) -> Readiness {
    world.app.restore.readiness(&world.app.served().roster, crate::clock::now())
}
