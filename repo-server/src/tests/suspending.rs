//! Suspending: at once, by one person; lifting: by two, and never by itself.

use super::world::{World, sha256};
use serde_json::json;
use sluice_model::PersonRole;

#[tokio::test]
async fn a_suspended_patch_is_not_served_until_two_people_lift_it() {
    let world = World::new().await;
    world.add_person("dave", vec![PersonRole::Deployer]);
    world.add_person("carol", vec![PersonRole::Approver]);
    let (bad, good) = (world.deb("demo", "2", 1, 50_000), world.deb("other", "1", 2, 50_000));
    world.publish("paul", "demo/2", &[("demo.deb", &bad)]).await.expect_ok();
    world.publish("paul", "other/1", &[("other.deb", &good)]).await.expect_ok();
    world.approve("bob", "demo/2", "production").await.expect_ok();
    world.approve("bob", "other/1", "production").await.expect_ok();
    let (bad, good) = (format!("/content/sha256/{}", sha256(&bad)), format!("/content/sha256/{}", sha256(&good)));

    let demo = json!({
        "subject": { "patch": { "name": "demo", "versions": { "from": "1.9", "to": "2" } } },
        "scope": "fleet", "reason": "reports of crashes"
    });
    world.post("paul", "/v1/suspensions", &demo).await.expect(403, "forbidden", &["deployer"]);
    let made = world.post("dave", "/v1/suspensions", &demo).await;
    assert_eq!(made.expect_ok().json()["stops"], json!(["demo/2 in ring production"]));
    assert_eq!(world.post("bob", "/v1/suspensions", &demo).await.json()["id"], 1, "the same twice is one");
    world.fetch(&bad, &[]).await.expect(423, "suspended", &["reports of crashes"]);
    world.fetch(&good, &[]).await.expect_ok();

    let world = world.reopen().await;
    world.fetch(&bad, &[]).await.expect(423, "suspended", &[]);
    let lift = json!({ "reason": "it was the kernel" });
    world.post("dave", "/v1/suspensions/1/lift", &lift).await.expect(403, "forbidden", &["approver"]);
    assert_eq!(world.post("bob", "/v1/suspensions/1/lift", &lift).await.status.as_u16(), 202);
    assert_eq!(
        world.post("bob", "/v1/suspensions/1/lift", &lift).await.status.as_u16(),
        202,
        "one person, however often"
    );
    world.fetch(&bad, &[]).await.expect(423, "suspended", &[]);
    assert_eq!(world.post("carol", "/v1/suspensions/1/lift", &lift).await.status.as_u16(), 200);
    world.fetch(&bad, &[]).await.expect_ok();
    assert_eq!(world.get("alice", "/v1/suspensions").await.json()["suspensions"], json!([]));
    let next = world.post("dave", "/v1/suspensions", &demo).await;
    assert_eq!(next.json()["id"], 2, "an id is never used again");
}

#[tokio::test]
async fn the_kill_switch_stops_everything_and_a_site_must_exist() {
    let world = World::new().await;
    let deb = world.deb("demo", "1", 1, 50_000);
    world.publish("paul", "demo/1", &[("demo.deb", &deb)]).await.expect_ok();
    world.approve("bob", "demo/1", "production").await.expect_ok();
    let url = format!("/content/sha256/{}", sha256(&deb));
    let ask = |scope: serde_json::Value| json!({ "subject": "everything", "scope": scope, "reason": "under attack" });
    world.post("bob", "/v1/suspensions", &ask(json!({ "site": "nowhere" }))).await.expect(
        404,
        "not-found",
        &["nowhere"],
    );
    world.fetch(&url, &[]).await.expect_ok();
    world.post("bob", "/v1/suspensions", &ask(json!("fleet"))).await.expect_ok();
    world.fetch(&url, &[]).await.expect(423, "suspended", &["under attack"]);
    let upside_down = json!({
        "subject": { "package": { "name": "demo", "versions": { "from": "2", "to": "1" } } },
        "scope": "fleet", "reason": "x"
    });
    world.post("bob", "/v1/suspensions", &upside_down).await.expect(422, "invalid", &["no version"]);
}
