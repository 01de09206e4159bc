//! Enrolling: one token, one device, one commit; each refusal in its own words.

use super::devices::key;
use super::world::World;
use serde_json::json;
use sluice_identity::endpoint_id_of;
use sluice_repo_store::{audit, tokens};

async fn world() -> World {
    let world = World::new().await;
    world.add_site("lyon", "10.1.0.0/16").await.expect_ok();
    world
}

/// What a device sends that found the root which the token names.
fn signed_over(world: &World, device: &sluice_identity::DeviceKey, token: &str, root: &[u8]) -> serde_json::Value {
    let mut request = world.enrol_request(device, "node", token);
    let id = hex::decode(token.split('-').nth(1).unwrap()).unwrap();
    let signed = [id.as_slice(), crate::draft::sha256_of(root).as_bytes()].concat();
    request["signature"] = json!(hex::encode(device.signer().sign_purpose("enrol", &signed)));
    request
}

#[tokio::test]
async fn after_a_rotation_a_token_names_the_new_root_and_one_from_before_is_still_good() {
    let world = world().await;
    let before = world.token("node", "lyon", None).await;
    world.rotate_timestamp_key().await;
    let after = world.token("node", "lyon", None).await;
    let root = |version: u64| world.app.served().files[&format!("{version}.root.json")].to_vec();
    let named = |token: &str| token.split('-').nth(3).unwrap().to_owned();
    let hash = |root: &[u8]| crate::draft::sha256_of(root).to_hex()[..32].to_owned();
    assert_eq!((named(&before), named(&after)), (hash(&root(1)), hash(&root(2))));
    let request = signed_over(&world, &key(1), &before, &root(1));
    world.device_post(&key(1), "/enrol", &request).await.expect_ok();
    let request = signed_over(&world, &key(2), &after, &root(2));
    world.device_post(&key(2), "/enrol", &request).await.expect_ok();
    let other = signed_over(&world, &key(3), &world.token("node", "lyon", None).await, b"another repository's root");
    world.device_post(&key(3), "/enrol", &other).await.expect(403, "enrolment-unproven", &["token of this repository"]);
}

// proves: A6
#[tokio::test]
async fn a_node_and_an_endpoint_enrol_and_stand_in_the_signed_documents() {
    let world = world().await;
    let (node, pc) = (key(1), key(2));
    let token = world.token("node", "lyon", None).await;
    let mut request = world.enrol_request(&node, "node", &token);
    request["addresses"] = json!({ "device": ["0.0.0.0:8481"], "overlay": ["10.1.0.5:8482"], "http": [] });
    let answer = world.device_post(&node, "/enrol", &request).await;
    assert_eq!(answer.expect_ok().json()["site"], "lyon");
    let floor = answer.json()["floor"].as_array().unwrap().clone();
    assert!(floor.iter().any(|role| role[0] == "timestamp" && role[1].as_u64().unwrap() > 0), "{floor:?}");
    let token = world.token("endpoint", "lyon", Some("pilot")).await;
    assert_eq!(world.enrol(&pc, "endpoint", &token).await.expect_ok().json()["ring"], "pilot");

    let served = world.app.served();
    let member = served.roster.member(&node.public()).unwrap();
    assert_eq!(member.addresses.device, ["192.0.2.9:8481".parse().unwrap()], "a wildcard becomes where it spoke from");
    let (site, row) = served.endpoint(&endpoint_id_of(&pc.public())).unwrap();
    assert_eq!((site.as_str(), row.ring.as_str()), ("lyon", "pilot"));
    let world = world.reopen().await;
    assert!(world.app.served().roster.member(&node.public()).is_some());
    let sites = world.get("bob", "/v1/sites").await.json();
    assert_eq!((&sites["sites"][0]["nodes"], &sites["sites"][0]["endpoints"]), (&json!(1), &json!(1)));
    let nodes = world.get("bob", "/v1/nodes").await.json();
    assert_eq!(nodes["nodes"][0]["link"], "never-seen");
    let endpoints = world.get("bob", "/v1/endpoints").await.json();
    assert_eq!(endpoints["endpoints"][0]["id"], endpoint_id_of(&pc.public()).to_hex());
}

#[tokio::test]
async fn each_wrong_token_is_refused_in_its_own_words_and_written_down() {
    let world = world().await;
    let (one, two) = (key(1), key(2));
    let token = world.token("endpoint", "lyon", Some("pilot")).await;
    let unknown = format!("slt1-{}-{}-{}", "00".repeat(8), "00".repeat(32), "00".repeat(16));
    world.enrol(&one, "endpoint", &unknown).await.expect(403, "enrolment-refused", &["no such token"]);
    let mut wrong_secret = world.enrol_request(&one, "endpoint", &token);
    wrong_secret["token_secret"] = json!("11".repeat(32));
    let answer = world.device_post(&one, "/enrol", &wrong_secret).await;
    answer.expect(403, "enrolment-refused", &["no such token"]);
    world.enrol(&one, "node", &token).await.expect(403, "enrolment-wrong-kind", &["is for an endpoint", "enrol"]);

    let stolen = world.enrol_request(&one, "endpoint", &token);
    let answer = world.device_post(&two, "/enrol", &stolen).await;
    answer.expect(403, "enrolment-unproven", &["signature"]);

    world.enrol(&one, "endpoint", &token).await.expect_ok();
    world.enrol(&one, "endpoint", &token).await.expect_ok();
    world.enrol(&two, "endpoint", &token).await.expect(403, "enrolment-used", &["used the token"]);
    let second = world.token("endpoint", "lyon", Some("production")).await;
    world.enrol(&one, "node", &world.token("node", "lyon", None).await).await.expect(
        409,
        "already-enrolled",
        &["enrolled already"],
    );
    world.enrol(&two, "endpoint", &second).await.expect_ok();

    let lines = world.app.store.read(|tx| audit::list(tx, 0, 99)).unwrap();
    let enrolments: Vec<bool> = lines.iter().filter(|l| l.act.action == "device.enrol").map(|l| l.act.done).collect();
    assert_eq!(enrolments, [false, false, false, false, true, false, false, true]);
    assert!(lines.iter().all(|line| !line.act.detail.contains(&token) && !line.act.subject.contains(&token)));
}

#[tokio::test]
async fn an_expired_token_is_refused_with_its_own_problem() {
    let world = world().await;
    let token = world.token("node", "lyon", None).await;
    let id = token.split('-').nth(1).unwrap();
    let mut record = world.app.store.read(|tx| tokens::enrolment(tx, id)).unwrap().unwrap();
    record.expires_at = crate::clock::timestamp();
    world.app.store.write(|tx| tokens::put_enrolment(tx, &record)).unwrap();
    world.enrol(&key(1), "node", &token).await.expect(403, "enrolment-expired", &["ask for a new one"]);
    assert!(world.app.served().roster.member(&key(1).public()).is_none());
}

#[tokio::test]
async fn a_token_names_a_site_and_a_ring_that_exist() {
    let world = world().await;
    let post = async |body: serde_json::Value| world.post("admin", "/v1/enrolment-tokens", &body).await;
    post(json!({ "kind": "node", "site": "mars" })).await.expect(404, "not-found", &["mars", "lyon"]);
    let moon = json!({ "kind": "endpoint", "site": "lyon", "ring": "moon" });
    post(moon).await.expect(422, "invalid", &["moon", "pilot"]);
    post(json!({ "kind": "endpoint", "site": "lyon" })).await.expect(422, "invalid", &["ring"]);
    post(json!({ "kind": "node", "site": "lyon", "ring": "pilot" })).await.expect(422, "invalid", &["ring"]);
    let long = json!({ "kind": "node", "site": "lyon", "valid_secs": 99_999_999 });
    post(long).await.expect(422, "invalid", &["valid_secs"]);
    let made = post(json!({ "kind": "node", "site": "lyon" })).await;
    assert_eq!(made.header("cache-control"), "no-store");
    let token = made.json()["token"].as_str().unwrap().to_owned();
    let root = world.get("bob", "/v1/status").await.json()["root_sha256"].as_str().unwrap().to_owned();
    assert_eq!(token.split('-').nth(3).unwrap(), &root[..32]);
    let stored = format!("{:?}", world.app.store.read(|tx| tokens::enrolment(tx, token.split('-').nth(1).unwrap())));
    assert!(!stored.contains(token.split('-').nth(2).unwrap()));
}

#[tokio::test]
async fn a_revoked_device_leaves_the_documents_is_refused_and_never_comes_back() {
    let world = world().await;
    let node = world.enrolled_node(1).await;
    let pc = world.enrolled_endpoint(2, "pilot").await;
    let status = json!({
        "version": "1", "boot": 1, "started_at": 1, "origin_bytes": 0, "peer_bytes": 0, "peer_served_bytes": 0,
        "served_bytes": 0, "metadata_bytes": 0, "chunks_led": 7, "corrupt_chunks": 0, "wan_peak_bytes_per_sec": 0,
        "stored_bytes": 0, "spooled_reports": 0, "fenced_serial": 0, "timestamp_version": 5, "banned": []
    });
    assert_eq!(world.device_post(&node, "/status", &status).await.status.as_u16(), 204);
    let listed = world.get("bob", "/v1/nodes").await.json()["nodes"][0].clone();
    assert_eq!((&listed["chunks_led"], &listed["link"]), (&json!(7), &json!("offline")));

    let delete = async |path: String| {
        let request = super::world::request("admin", "DELETE", &path).body(axum::body::Body::empty()).unwrap();
        world.send(request).await
    };
    delete(format!("/v1/nodes/{}", key(9).public())).await.expect(404, "not-found", &[]);
    let origin = world.app.device_key.public();
    delete(format!("/v1/nodes/{origin}")).await.expect(409, "conflict", &[]);
    assert_eq!(delete(format!("/v1/nodes/{}", node.public())).await.status.as_u16(), 204);
    assert_eq!(delete(format!("/v1/endpoints/{}", pc.key.endpoint_id())).await.status.as_u16(), 204);
    let served = world.app.served();
    assert!(served.roster.member(&node.public()).is_none());
    assert_eq!(served.revoked.members, [node.public()]);
    assert_eq!(served.revoked.endpoints, [pc.key.endpoint_id()]);
    world.device_post(&node, "/status", &status).await.expect(403, "not-enrolled", &[]);
    world.device_post(&node, "/announce", &json!({ "addresses": {} })).await.expect(403, "not-enrolled", &[]);
    world.hand_over(&node, &[]).await.expect(403, "not-enrolled", &[]);
    world.hand_over(&pc.key, &[]).await.expect(403, "not-enrolled", &[]);
    let token = world.token("node", "lyon", None).await;
    world.enrol(&node, "node", &token).await.expect(403, "device-revoked", &["device.key"]);
}

// proves: A6 (a token is bound to what it was made for)
#[tokio::test]
async fn a_token_is_good_for_its_kind_its_site_its_ring_and_its_repository_only() {
    let world = world().await;
    world.add_site("brno", "10.2.0.0/16").await.expect_ok();
    let (node, pc) = (key(1), key(2));
    let (for_node, for_pc) =
        (world.token("node", "lyon", None).await, world.token("endpoint", "lyon", Some("pilot")).await);
    world.enrol(&node, "node", &for_pc).await.expect(403, "enrolment-wrong-kind", &["for an endpoint"]);
    world.enrol(&pc, "endpoint", &for_node).await.expect(403, "enrolment-wrong-kind", &["for a node"]);

    let wanting = |key, kind: &str, token: &str, name: &str, value: &str| {
        let mut request = world.enrol_request(key, kind, token);
        request[name] = json!(value);
        request
    };
    let brno = wanting(&node, "node", &for_node, "site", "brno");
    world.device_post(&node, "/enrol", &brno).await.expect(403, "enrolment-wrong-place", &["site lyon"]);
    for (name, value) in [("site", "brno"), ("ring", "production")] {
        let elsewhere = wanting(&pc, "endpoint", &for_pc, name, value);
        let answer = world.device_post(&pc, "/enrol", &elsewhere).await;
        answer.expect(403, "enrolment-wrong-place", &["site lyon", "ring pilot"]);
    }
    let ringed = wanting(&node, "node", &for_node, "ring", "pilot");
    world.device_post(&node, "/enrol", &ringed).await.expect(403, "enrolment-wrong-place", &["site lyon"]);

    // Signed for the root of another repository.
    let mut foreign = world.enrol_request(&node, "node", &for_node);
    let id = hex::decode(for_node.split('-').nth(1).unwrap()).unwrap();
    foreign["signature"] = json!(hex::encode(node.signer().sign_purpose("enrol", &[id.as_slice(), &[7; 32]].concat())));
    world.device_post(&node, "/enrol", &foreign).await.expect(403, "enrolment-unproven", &["this repository"]);
    let served = world.app.served();
    assert!(served.roster.member(&node.public()).is_none() && served.endpoint(&pc.endpoint_id()).is_none());

    // What is bound right enrols, once; and the same token says so again to the same device until it is revoked.
    let lyon = wanting(&node, "node", &for_node, "site", "lyon");
    world.device_post(&node, "/enrol", &lyon).await.expect_ok();
    world.device_post(&node, "/enrol", &lyon).await.expect_ok();
    world.enrol(&pc, "endpoint", &for_pc).await.expect_ok();
    world.enrol(&key(3), "node", &for_node).await.expect(403, "enrolment-used", &["another device"]);
    let path = format!("/v1/nodes/{}", node.public());
    let delete = super::world::request("admin", "DELETE", &path).body(axum::body::Body::empty()).unwrap();
    world.send(delete).await.expect_ok();
    world.device_post(&node, "/enrol", &lyon).await.expect(403, "device-revoked", &["revoked"]);
}

#[tokio::test]
async fn a_node_that_moved_stands_in_the_roster_with_its_new_addresses() {
    let world = world().await;
    let node = world.enrolled_node(1).await;
    let announce = json!({ "addresses": { "device": ["10.1.0.7:8481"], "overlay": [], "http": ["0.0.0.0:8480"] } });
    assert_eq!(world.device_post(&node, "/announce", &announce).await.status.as_u16(), 204);
    let served = world.app.served();
    assert_eq!(served.roster.member(&node.public()).unwrap().addresses.http, ["192.0.2.9:8480".parse().unwrap()]);
    let before = served.view.timestamp_version;
    assert_eq!(world.device_post(&node, "/announce", &announce).await.status.as_u16(), 204);
    assert_eq!(world.app.served().view.timestamp_version, before, "the same again signs nothing");
    let bad = json!({ "addresses": { "device": ["10.1.0.7:0"] } });
    world.device_post(&node, "/announce", &bad).await.expect(422, "invalid", &["port"]);
}

#[tokio::test]
async fn a_site_has_networks_and_limits_that_are_signed() {
    let world = World::new().await;
    world.post("admin", "/v1/sites", &json!({ "name": "lyon", "boundaries": [] })).await.expect(422, "invalid", &[]);
    let new = json!({
        "name": "lyon", "boundaries": ["10.1.3.4/16"],
        "limits": { "wan_bytes_per_sec": 2_500_000, "plain_rings": ["pilot"] }
    });
    assert_eq!(world.post("admin", "/v1/sites", &new).await.expect_ok().json()["boundaries"][0], "10.1.0.0/16");
    world.post("admin", "/v1/sites", &new).await.expect(409, "conflict", &["lyon"]);
    let served = world.app.served();
    let site = "lyon".parse().unwrap();
    assert_eq!(served.limits.site(&site).wan_bytes_per_sec.unwrap().get(), 2_500_000);
    assert_eq!(served.limits.plain_rings_for("10.1.9.9".parse().unwrap())[0].as_str(), "pilot");
    assert_eq!(served.limits.plain_rings_for("10.9.9.9".parse().unwrap())[0].as_str(), "production");
    assert_eq!(served.topology.resolve("10.1.9.9".parse().unwrap()).unwrap().name, site);
    assert!(served.endpoints.contains_key(&site), "the site's endpoints have a document from the beginning");
    let put = super::world::request("admin", "PUT", "/v1/sites/lyon/limits");
    let body = json!({ "serve_bytes_per_sec": 9_000 }).to_string();
    world.send(put.body(axum::body::Body::from(body)).unwrap()).await.expect_ok();
    let limits = world.app.served().limits.site(&site);
    assert_eq!((limits.wan_bytes_per_sec, limits.serve_bytes_per_sec.unwrap().get()), (None, 9_000));
    let rings = world.get("bob", "/v1/rings").await.json();
    assert_eq!(rings["rings"][2]["name"], "production");
}

#[tokio::test]
async fn a_site_s_schedule_is_signed_audited_and_removed_again() {
    let world = World::new().await;
    world.post("admin", "/v1/sites", &json!({ "name": "lyon", "boundaries": ["10.1.0.0/16"] })).await.expect_ok();
    let put = |body: serde_json::Value| {
        let request = super::world::request("admin", "PUT", "/v1/sites/lyon/schedule");
        world.send(request.body(axum::body::Body::from(body.to_string())).unwrap())
    };
    let windows = json!(["daily 00:00-24:00 closed"]);
    put(json!({ "zone": "Mars/Olympus", "windows": windows })).await.expect(422, "invalid", &["IANA"]);
    put(json!({ "zone": "UTC", "windows": ["always"] })).await.expect(422, "invalid", &["mon-fri 08:00-18:00"]);
    let many = vec!["daily 00:00-24:00 closed"; 33];
    put(json!({ "zone": "UTC", "windows": many })).await.expect(422, "invalid", &["at most 32"]);
    let site = put(json!({ "zone": "Europe/Paris", "windows": windows })).await.expect_ok().json();
    assert_eq!((&site["schedule"]["zone"], &site["wan_now"]), (&json!("Europe/Paris"), &json!("closed")));
    let lyon = "lyon".parse().unwrap();
    assert_eq!(world.app.served().limits.schedules[&lyon].windows.len(), 1);
    let audit = world.get("admin", "/v1/audit").await.json().to_string();
    assert!(audit.contains("site.schedule") && audit.contains("daily 00:00-24:00 closed"), "{audit}");
    let site = put(json!({ "zone": "UTC", "windows": [] })).await.expect_ok().json();
    assert_eq!((&site["schedule"], &site["wan_now"]), (&json!(null), &json!("uncapped")));
    assert!(world.app.served().limits.schedules.is_empty());
}

#[tokio::test]
async fn a_person_s_token_opens_what_its_roles_allow() {
    let world = World::new().await;
    let none = json!({ "person": "carl", "roles": [] });
    world.post("admin", "/v1/person-tokens", &none).await.expect(422, "invalid", &["role"]);
    let new = json!({ "person": "carl", "roles": ["approver", "approver"] });
    let made = world.post("admin", "/v1/person-tokens", &new).await;
    assert_eq!(made.expect_ok().json()["roles"], json!(["approver"]));
    let token = made.json()["token"].as_str().unwrap().to_owned();
    let request = axum::http::Request::get("/v1/whoami").header("authorization", format!("Bearer {token}"));
    let me = world.send(request.body(axum::body::Body::empty()).unwrap()).await;
    assert_eq!(me.expect_ok().json()["person"], "carl");
    let page = world.get("bob", "/v1/audit?limit=1").await.json();
    assert_eq!((page["entries"].as_array().unwrap().len(), &page["next"]), (1, &page["entries"][0]["seq"]));
    let rest = world.get("bob", &format!("/v1/audit?after={}", page["next"])).await.json();
    assert_eq!(rest["entries"][0]["action"], "person-token.new");
    world.fetch("/v1/status", &[("authorization", "Bearer slp1-wrong")]).await.expect(401, "unauthenticated", &[]);
    world.fetch("/v1/status", &[]).await.expect(401, "unauthenticated", &[]);
    let refused = world.get("bob", "/v1/audit").await.json()["entries"].as_array().unwrap().clone();
    let refused: Vec<_> = refused.iter().filter(|line| line["action"] == "authenticate").collect();
    assert_eq!(
        (refused.len(), &refused[0]["result"]),
        (1, &json!("refused")),
        "a wrong token is written down, none is not"
    );
    world.get("bob", "/v1/audit?limit=0").await.expect(422, "invalid", &["limit"]);
}
