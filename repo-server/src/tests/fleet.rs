//! Signed documents: changed together, stored with their metadata, served under both forms of their address.

use super::world::{World, sha256};
use crate::operations::Failure;
use sluice_api::problem::ProblemType;
use sluice_model::{EndpointId, EndpointRow, EndpointState};
use std::sync::Arc;

#[tokio::test]
async fn many_enrolments_at_once_are_signed_in_few_batches_and_a_refused_one_hurts_nobody() {
    let world = Arc::new(World::new().await);
    let before = world.app.served().view.timestamp_version;
    let mut asked = tokio::task::JoinSet::new();
    for number in 0..60u8 {
        let world = world.clone();
        asked.spawn(async move {
            let enrolled = world.app.authority.change_batched(move |draft, _| {
                if number == 13 {
                    return Err(Failure::refused(ProblemType::EnrolmentRefused, "not this one"));
                }
                let mut rows = draft.endpoints(&"lyon".parse().unwrap())?;
                rows.endpoints.push(EndpointRow {
                    endpoint: EndpointId::from_bytes([number; 32]),
                    ring: "pilot".parse().unwrap(),
                    state: EndpointState::Active,
                    enrolled_at: draft.now(),
                });
                draft.set_endpoints(&rows)
            });
            let enrolled = enrolled.await;
            let is_served = world.app.served().endpoint(&EndpointId::from_bytes([number; 32])).is_some();
            (number, enrolled, is_served)
        });
    }
    while let Some(done) = asked.join_next().await {
        let (number, enrolled, is_served) = done.unwrap();
        assert_eq!(enrolled.is_ok(), number != 13);
        assert_eq!(is_served, number != 13, "{number} was answered before it was served");
    }
    let signed = world.app.served().view.timestamp_version - before;
    assert!(signed <= 4, "{signed} signings for 60 enrolments");
    assert_eq!(world.app.served().endpoints.values().map(|rows| rows.endpoints.len()).sum::<usize>(), 59);
}

#[tokio::test]
async fn a_change_that_fails_leaves_nothing_of_itself() {
    let world = World::new().await;
    let before = world.app.served().view.clone();
    let failed: Result<(), Failure> = world
        .app
        .authority
        .change(|draft, tx| {
            let mut limits = draft.limits()?;
            limits.plain_rings.clear();
            draft.set_limits(&limits)?;
            let line = sluice_repo_store::audit::NewAuditLine {
                at: draft.now(),
                who: "test".into(),
                action: "test",
                subject: String::new(),
                done: true,
                detail: String::new(),
            };
            sluice_repo_store::audit::append(tx, line)?;
            Err(Failure::refused(ProblemType::Conflict, "at the last moment"))
        })
        .await;
    assert!(failed.is_err());
    let world = world.reopen().await;
    assert_eq!(world.app.served().view, before);
    let lines = world.app.store.read(|tx| sluice_repo_store::audit::list(tx, 0, 99)).unwrap();
    assert!(lines.iter().all(|line| line.act.who != "test"));
}

#[tokio::test]
async fn documents_are_served_by_digest_also_shortly_after_they_were_replaced() {
    let world = World::new().await;
    let (old, name) = document(&world);
    let change = world.app.authority.change(|draft, _| {
        let mut limits = draft.limits()?;
        limits.plain_rings.clear();
        draft.set_limits(&limits)
    });
    change.await.unwrap();
    let (new, _) = document(&world);
    assert_ne!(old, new);
    for bytes in [&old, &new] {
        let got = world.fetch(&format!("/tuf/targets/policy/{}.{name}", sha256(bytes)), &[]).await;
        assert_eq!(got.expect_ok().body, bytes);
        let got = world.fetch(&format!("/tuf/targets/{}.policy/{name}", sha256(bytes)), &[]).await;
        assert_eq!(got.expect_ok().body, bytes);
    }
    world.fetch(&format!("/tuf/targets/policy/{}.{name}", "00".repeat(32)), &[]).await.expect(404, "not-found", &[]);
}

fn document(world: &World) -> (Vec<u8>, &'static str) {
    let served = world.app.served();
    let (_, bytes) = served.documents.iter().find(|(name, _)| name.as_str() == "policy/limits").unwrap();
    (bytes.to_vec(), "limits")
}

#[tokio::test]
async fn a_renewed_timestamp_lengthens_the_lease_and_changes_nothing_else() {
    let world = World::with(|settings| settings.lease.serving_secs = 60).await;
    let before = world.app.served();
    world.app.authority.renew().await.unwrap();
    let after = world.app.served();
    assert_eq!(after.view.timestamp_version, before.view.timestamp_version + 1);
    let left = after.view.lease_until.since(crate::clock::timestamp()).as_secs();
    assert!((50..=60).contains(&left), "{left}");
    let same = |name: &&String| *name != "timestamp.json";
    assert!(before.files.keys().filter(same).eq(after.files.keys().filter(same)));
}
