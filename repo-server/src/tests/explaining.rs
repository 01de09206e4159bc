//! `explain` on the server says what the agent says: it remembers by the agent's rules, and counts as the agent counts.

use super::devices::Device;
use super::world::World;
use sluice_compliance::{AttemptNote, FailureClass, OutcomeKind, OutcomeReport};
use sluice_model::dsse::DsseEnvelope;

async fn world() -> World {
    let world = World::new().await;
    world.add_site("lyon", "10.1.0.0/16").await.expect_ok();
    world
}

async fn release(world: &World, version: &str) {
    let deb = world.deb("demo", version, version.as_bytes()[0], 1_000);
    let file = format!("demo_{version}.deb");
    world.publish("paul", &format!("demo/{version}"), &[(file.as_str(), &deb)]).await.expect_ok();
    world.approve("bob", &format!("demo/{version}"), "pilot").await.expect_ok();
}

/// The line about the patch.
async fn explained(world: &World, device: &Device) -> String {
    let path = format!("/v1/endpoints/{}/explanation", device.key.endpoint_id());
    let answer = world.get("bob", &path).await;
    let lines = answer.expect_ok().json()["lines"].clone();
    lines.as_array().unwrap()[0].as_str().unwrap().to_owned()
}

/// The next report of a failed attempt at `to`, the `failures`th in a row as the agent counts.
fn failed(device: &mut Device, (kind, of, found): (OutcomeKind, &str, &str), to: &str, failures: u32) -> DsseEnvelope {
    let payload = device.payload(device.head + 1, kind, of, found);
    let mut report = OutcomeReport::from_payload(&payload).unwrap();
    report.class = Some(FailureClass::Download);
    let at = crate::clock::timestamp();
    report.attempt = Some(AttemptNote { patch: to.parse().unwrap(), failures, at });
    let payload = serde_json::to_vec(&report).unwrap();
    device.head += 1;
    device.previous = crate::draft::sha256_of(&payload);
    device.sign(&payload)
}

#[tokio::test]
async fn failures_are_counted_as_the_agent_counts_them_not_as_reports_came() {
    let world = world().await;
    let mut pc = world.enrolled_endpoint(2, "pilot").await;
    release(&world, "1").await;
    let third = failed(&mut pc, (OutcomeKind::Failed, "demo/1", "0"), "demo/1", 3);
    world.hand_over(&pc.key, &[third]).await.expect_ok();
    let told = explained(&world, &pc).await;
    assert!(told.contains("failed 3 times (download)"), "an agent reports the third failed download first: {told}");
    let old = pc.report(OutcomeKind::Failed, "demo/1", "0");
    world.hand_over(&pc.key, &[old]).await.expect_ok();
    let told = explained(&world, &pc).await;
    assert!(
        told.contains("failed 2 times (dependency)"),
        "an agent that does not say it is counted by its reports: {told}"
    );
}

#[tokio::test]
async fn after_a_retraction_the_server_has_forgotten_what_the_agent_forgot() {
    let world = world().await;
    let mut pc = world.enrolled_endpoint(2, "pilot").await;
    release(&world, "1").await;
    release(&world, "2").await;
    release(&world, "3").await;
    // Version 2 failed; version 3 was installed, and with that the agent forgot the failures of every version.
    let reports = [
        pc.report(OutcomeKind::Installed, "demo/1", "1"),
        pc.report(OutcomeKind::Failed, "demo/2", "1"),
        pc.report(OutcomeKind::Failed, "demo/2", "1"),
        pc.report(OutcomeKind::Installed, "demo/3", "3"),
    ];
    world.hand_over(&pc.key, &reports).await.expect_ok();
    world.retract("bob", "demo/3", &[]).await.expect_ok();
    let told = explained(&world, &pc).await;
    assert!(told.contains("roll back to demo/2") && !told.contains("failed"), "{told}");

    // A way back that failed is counted for the version to go back to.
    let back = failed(&mut pc, (OutcomeKind::RollbackFailed, "demo/3", "3"), "demo/2", 2);
    world.hand_over(&pc.key, &[back]).await.expect_ok();
    let told = explained(&world, &pc).await;
    assert!(told.contains("failed 2 times (download)"), "{told}");

    // What is blocked is forgotten.
    world.retract("bob", "demo/2", &[]).await.expect_ok();
    let told = explained(&world, &pc).await;
    assert!(told.contains("roll back to demo/1") && !told.contains("failed"), "{told}");
}
