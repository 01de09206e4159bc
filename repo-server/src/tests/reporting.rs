//! Reports come in, are believed only when signed, are acknowledged when durable, and add up.

use super::devices::{Device, key};
use super::world::{Answer, World, request};
use axum::body::Body;
use serde_json::{Value, json};
use sluice_api::device::SignedAcknowledgement;
use sluice_compliance::{OutcomeKind, OutcomeReport, WithheldBy};
use sluice_metadata::verify_purpose;
use sluice_model::dsse::DsseEnvelope;
use sluice_repo_store::audit;

async fn world() -> World {
    let world = World::new().await;
    world.add_site("lyon", "10.1.0.0/16").await.expect_ok();
    world
}

fn refusals(answer: &Answer) -> Vec<(u64, String)> {
    let refused = answer.expect_ok().json()["refused"].as_array().unwrap().clone();
    let one = |one: &Value| (one["index"].as_u64().unwrap(), one["reason"].as_str().unwrap().to_owned());
    refused.iter().map(one).collect()
}

async fn compliance(world: &World, what: &str) -> Vec<Value> {
    let answer = world.get("bob", &format!("/v1/compliance/{what}")).await;
    answer.expect_ok().json()["rows"].as_array().unwrap().clone()
}

fn counts(row: &Value) -> [u64; 7] {
    ["endpoints", "installed", "missing", "failed", "installed_retracted", "rolled_back", "unknown"]
        .map(|name| row[name].as_u64().unwrap())
}

// proves: G4, I2
#[tokio::test]
async fn a_report_is_acknowledged_by_the_origin_s_signature_and_counts_once_across_a_restart() {
    let world = world().await;
    let node = world.enrolled_node(1).await;
    let mut pc = world.enrolled_endpoint(2, "pilot").await;
    let reports = [pc.report(OutcomeKind::Failed, "demo/1", "0"), pc.report(OutcomeKind::Installed, "demo/1", "1")];
    let late = world.hand_over(&node, &reports[1..]).await;
    assert_eq!(late.expect_ok().json()["stored"], 1);
    assert_eq!(late.json()["acknowledgements"][0]["seq"], 0, "a gap is not acknowledged: nothing is here yet");
    let answer = world.hand_over(&pc.key, &reports[..1]).await;
    let ack: SignedAcknowledgement = serde_json::from_value(answer.json()["acknowledgements"][0].clone()).unwrap();
    assert_eq!((ack.endpoint, ack.epoch, ack.seq), (pc.key.endpoint_id(), 1, 2));
    let signed = ack.signed_bytes();
    assert_eq!(ack.signer, world.app.device_key.public());
    verify_purpose(ack.signer.as_bytes(), "ack", &signed, &hex::decode(&ack.signature).unwrap()).unwrap();

    let world = world.reopen().await;
    let again = world.hand_over(&node, &reports).await;
    assert_eq!((&again.json()["stored"], &again.json()["refused"]), (&json!(2), &json!([])));
    assert_eq!(again.json()["acknowledgements"][0]["seq"], 2);
    let outcomes = world.get("bob", "/v1/outcomes").await.json();
    let listed: Vec<_> = outcomes["outcomes"].as_array().unwrap().iter().map(|one| one["outcome"].clone()).collect();
    assert_eq!(listed, ["failed", "installed"]);
    assert_eq!(outcomes["outcomes"][0]["class"], "dependency");
    let of = async |query: &str| {
        world.get("bob", &format!("/v1/outcomes?{query}")).await.json()["outcomes"].as_array().unwrap().len()
    };
    assert_eq!(of(&format!("endpoint={}&limit=1", pc.key.endpoint_id())).await, 1);
    assert_eq!(of("patch=demo/2").await, 0);
    assert_eq!(of("site=lyon&after=1").await, 1);
    world.get("bob", "/v1/outcomes?patch=demo").await.expect(422, "invalid", &[]);
    world.get("bob", "/v1/outcomes?sight=lyon").await.expect(422, "invalid", &["sight"]);
}

#[tokio::test]
async fn bad_reports_are_refused_by_index_and_the_good_one_between_them_counts() {
    let world = world().await;
    let node = world.enrolled_node(1).await;
    let mut pc = world.enrolled_endpoint(2, "pilot").await;
    let stranger = Device { key: key(9), head: 0, previous: pc.previous };
    let payload = |device: &Device| device.payload(1, OutcomeKind::Installed, "demo/1", "1");
    let forged = DsseEnvelope {
        signatures: pc.sign(&payload(&pc)).signatures,
        ..pc.sign(&pc.payload(1, OutcomeKind::Installed, "demo/1", "2"))
    };
    let foreign = pc.sign(&payload(&stranger));
    let unknown = stranger.sign(&payload(&stranger));
    let huge = DsseEnvelope { payload: "A".repeat(20_000), ..forged.clone() };
    let nonsense = pc.sign(b"{}");
    let unsigned = DsseEnvelope { signatures: Vec::new(), ..forged.clone() };
    let good = pc.report(OutcomeKind::Installed, "demo/1", "1");
    let answer = world.hand_over(&node, &[forged, foreign, unknown, good, huge, nonsense, unsigned]).await;
    let refused = refusals(&answer);
    assert_eq!(refused.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0, 1, 2, 4, 5, 6]);
    for (refusal, word) in
        refused.iter().zip(["verify", "says", "not enrolled", "16384", "outcome report", "signature"])
    {
        assert!(refusal.1.contains(word), "{refusal:?} {word}");
    }
    assert_eq!(answer.json()["stored"], 1);
    let mut other = world.enrolled_endpoint(3, "pilot").await;
    let carried = world.hand_over(&pc.key, &[other.report(OutcomeKind::Heartbeat, "", "")]).await;
    assert!(refusals(&carried)[0].1.contains("its own"));
    let many: Vec<_> = (0..101).map(|_| other.report(OutcomeKind::Heartbeat, "", "")).collect();
    world.hand_over(&node, &many).await.expect(413, "too-large", &["100"]);
    world.hand_over(&key(9), &[]).await.expect(403, "not-enrolled", &[]);
}

#[tokio::test]
async fn a_clone_is_quarantined_audited_and_unknown() {
    let world = world().await;
    let node = world.enrolled_node(1).await;
    let mut pc = world.enrolled_endpoint(2, "pilot").await;
    let mut clone = Device { key: key(2), ..pc };
    pc = Device { key: key(2), ..clone };
    let (mine, other) =
        (pc.report(OutcomeKind::Installed, "demo/1", "1"), clone.report(OutcomeKind::Failed, "demo/1", "0"));
    world.hand_over(&node, &[mine]).await.expect_ok();
    let answer = world.hand_over(&node, &[other]).await;
    assert!(refusals(&answer)[0].1.contains("quarantine"), "{}", answer.text());
    assert_eq!(answer.json()["acknowledgements"], json!([]));
    let next = world.hand_over(&node, &[pc.report(OutcomeKind::Heartbeat, "", "")]).await;
    assert!(refusals(&next)[0].1.contains("quarantine"));
    let lines = world.app.store.read(|tx| audit::list(tx, 0, 99)).unwrap();
    assert_eq!(lines.iter().filter(|line| line.act.action == "endpoint.quarantine" && !line.act.done).count(), 1);
    let explained = world.get("bob", &format!("/v1/endpoints/{}/explanation", pc.key.endpoint_id())).await.json();
    assert!(explained["lines"].to_string().contains("quarantine"), "{explained}");
}

// proves: G4
#[tokio::test]
async fn an_endpoint_that_enrols_anew_is_heard_in_its_next_epoch_only_and_its_copy_no_more() {
    let world = world().await;
    let node = world.enrolled_node(1).await;
    let mut pc = world.enrolled_endpoint(2, "pilot").await;
    let mut clone = Device { key: key(2), ..pc };
    pc = Device { key: key(2), ..clone };
    let reports = [pc.report(OutcomeKind::Installed, "demo/1", "1"), clone.report(OutcomeKind::Failed, "demo/1", "0")];
    world.hand_over(&node, &reports).await.expect_ok();
    let row = async || world.get("bob", "/v1/endpoints").await.json()["endpoints"][0].clone();
    let shown = row().await;
    assert_eq!((&shown["state"], &shown["quarantine"]["kind"]), (&json!("quarantined"), &json!("cloned")), "{shown}");
    assert!(shown["quarantine"]["remedy"].as_str().unwrap().contains("sluice-agent enrol"), "{shown}");
    let listed = world.get("bob", &format!("/v1/outcomes?endpoint={}", pc.key.endpoint_id())).await.json();
    assert_eq!(listed["quarantined"][0]["seq"], 1, "{listed}");

    let token = world.token("endpoint", "lyon", Some("production")).await;
    let answer = world.enrol(&pc.key, "endpoint", &token).await;
    assert_eq!(answer.expect_ok().json()["epoch"], 2);
    assert_eq!(world.enrol(&pc.key, "endpoint", &token).await.expect_ok().json()["epoch"], 2, "the answer was lost");
    assert_eq!(row().await["state"], "active");
    let mut anew = Device { key: key(2), head: 0, previous: sluice_model::Sha256::from_bytes([0; 32]) };
    let first = anew.report_in(2, OutcomeKind::Installed, "demo/1", "1");
    let copy = clone.report(OutcomeKind::Heartbeat, "", "");
    let future = Device { key: key(2), ..anew }.report_in(3, OutcomeKind::Heartbeat, "", "");
    let answer = world.hand_over(&node, &[copy, first, future]).await;
    let refused = refusals(&answer);
    assert_eq!(refused.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0, 2]);
    assert!(refused[0].1.contains("is a copy") && refused[1].1.contains("new enrolment"), "{refused:?}");
    let ack = answer.json()["acknowledgements"][0].clone();
    assert_eq!((&ack["epoch"], &ack["seq"]), (&json!(2), &json!(1)));
    let shown = row().await;
    assert_eq!((&shown["state"], &shown["epoch"], &shown["ring"]), (&json!("active"), &json!(2), &json!("production")));
    let pairs = world.app.compliance.pairs(&pc.key.endpoint_id()).unwrap();
    assert_eq!(pairs.len(), 1);
}

// proves: G4
#[tokio::test]
async fn a_node_that_endpoints_of_its_site_say_withholds_is_named_and_no_other() {
    let world = world().await;
    world.add_site("brno", "10.2.0.0/16").await.expect_ok();
    let node = world.enrolled_node(1).await;
    let far = key(3);
    world.enrol(&far, "node", &world.token("node", "brno", None).await).await.expect_ok();
    let mut pc = world.enrolled_endpoint(2, "pilot").await;
    let mut report = OutcomeReport::from_payload(&pc.payload(1, OutcomeKind::Heartbeat, "", "")).unwrap();
    let word = |key: &sluice_identity::DeviceKey| WithheldBy { node: key.public(), reports: 3, at: report.device_time };
    report.withheld = vec![word(&node), word(&far), word(&key(9))];
    let envelope = pc.sign(&serde_json::to_vec(&report).unwrap());
    pc.head += 1;
    world.hand_over(&pc.key, &[envelope]).await.expect_ok();
    let nodes = world.get("bob", "/v1/nodes").await.json()["nodes"].clone();
    let of = |key: &sluice_identity::DeviceKey| {
        let nodes = nodes.as_array().unwrap();
        nodes.iter().find(|node| node["key"] == key.public().to_hex()).unwrap()["withheld"].clone()
    };
    assert_eq!((&of(&node)[0]["reports"], &of(&node)[0]["endpoint"]), (&json!(3), &json!(pc.key.endpoint_id())));
    assert_eq!(of(&far), json!([]), "an endpoint has no business with a node of another site");
}

// proves: I1
#[tokio::test]
async fn an_endpoint_that_is_silent_for_longer_than_is_set_is_unknown() {
    let world = World::with(|settings| settings.reports.silence_secs = 0).await;
    world.add_site("lyon", "10.1.0.0/16").await.expect_ok();
    let mut pc = world.enrolled_endpoint(2, "pilot").await;
    release(&world, "1", &["pilot"]).await;
    let report = pc.report(OutcomeKind::Installed, "demo/1", "1");
    world.hand_over(&pc.key, &[report]).await.expect_ok();
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    assert_eq!(counts(&compliance(&world, "patches").await[0]), [1, 0, 0, 0, 0, 0, 1]);
    assert_eq!(compliance(&world, "endpoints").await[0]["state"], "unknown");
    assert_eq!(world.get("bob", "/v1/endpoints").await.json()["endpoints"][0]["is_silent"], true);
}

/// Publishes and approves `demo/<version>`.
async fn release(world: &World, version: &str, rings: &[&str]) {
    let deb = world.deb("demo", version, version.as_bytes()[0], 1_000);
    let file = format!("demo_{version}.deb");
    world.publish("paul", &format!("demo/{version}"), &[(file.as_str(), &deb)]).await.expect_ok();
    for ring in rings {
        world.approve("bob", &format!("demo/{version}"), ring).await.expect_ok();
    }
}

// proves: I1, I3
#[tokio::test]
async fn counts_rows_and_csv_add_up_from_offer_to_rollback() {
    let world = world().await;
    let node = world.enrolled_node(1).await;
    let mut installs = world.enrolled_endpoint(2, "pilot").await;
    let mut fails = world.enrolled_endpoint(3, "pilot").await;
    let mut idle = world.enrolled_endpoint(4, "pilot").await;
    let _silent = world.enrolled_endpoint(5, "pilot").await;
    let mut produces = world.enrolled_endpoint(6, "production").await;
    release(&world, "1", &["pilot", "production"]).await;
    let first = [
        installs.report(OutcomeKind::Installed, "demo/1", "1"),
        fails.report(OutcomeKind::Installed, "demo/1", "1"),
        idle.report(OutcomeKind::Heartbeat, "", ""),
        produces.report(OutcomeKind::Installed, "demo/1", "1"),
    ];
    assert_eq!(world.hand_over(&node, &first).await.expect_ok().json()["stored"], 4);
    let rows = compliance(&world, "patches").await;
    assert_eq!((rows.len(), &rows[0]["ring"], counts(&rows[0])), (2, &json!("pilot"), [4, 2, 1, 0, 0, 0, 1]));
    assert_eq!(counts(&rows[1]), [1, 1, 0, 0, 0, 0, 0]);

    release(&world, "2", &["pilot"]).await;
    let second =
        [installs.report(OutcomeKind::Installed, "demo/2", "2"), fails.report(OutcomeKind::Failed, "demo/2", "1")];
    world.hand_over(&node, &second).await.expect_ok();
    let rows = compliance(&world, "patches").await;
    assert_eq!((&rows[0]["patch"], counts(&rows[0])), (&json!("demo/2"), [4, 1, 1, 1, 0, 0, 1]));
    let explain = async |device: &Device| {
        let path = format!("/v1/endpoints/{}/explanation", device.key.endpoint_id());
        world.get("bob", &path).await.expect_ok().json()["lines"].to_string()
    };
    assert!(explain(&installs).await.contains("demo: up to date with demo/2"), "{}", explain(&installs).await);
    assert!(explain(&fails).await.contains("dependency"), "{}", explain(&fails).await);
    assert!(explain(&idle).await.contains("demo: install demo/2"), "{}", explain(&idle).await);

    world.retract("bob", "demo/2", &[]).await.expect_ok();
    let rows = compliance(&world, "patches").await;
    assert_eq!((&rows[0]["patch"], counts(&rows[0])), (&json!("demo/1"), [4, 1, 2, 0, 0, 0, 1]));
    assert_eq!((&rows[1]["state"], counts(&rows[1])), (&json!("retracted"), [2, 0, 0, 1, 1, 0, 0]));
    let told = explain(&installs).await;
    assert!(told.contains("demo: roll back to demo/1: demo/2 is retracted (#1: it eats files)"), "{told}");
    let retraction = world.get("bob", "/v1/retractions/1").await.json();
    assert_eq!(retraction["endpoints_installed"], json!([installs.key.endpoint_id()]));
    assert_eq!(retraction["nodes_waiting"], json!([node.public()]));

    world.hand_over(&node, &[installs.report(OutcomeKind::RolledBack, "demo/2", "1")]).await.expect_ok();
    let rows = compliance(&world, "patches").await;
    assert_eq!(counts(&rows[0]), [4, 2, 1, 0, 0, 0, 1], "version 1 is back, proven by its packages");
    assert_eq!(counts(&rows[1]), [2, 0, 0, 1, 0, 1, 0]);
    let retraction = world.get("bob", "/v1/retractions/1").await.json();
    assert_eq!(retraction["endpoints_rolled_back"], json!([installs.key.endpoint_id()]));
    totals_agree(&world).await;
}

/// The three views and the CSV say the same.
async fn totals_agree(world: &World) {
    let patches = compliance(world, "patches").await;
    let sites = compliance(world, "sites").await;
    let pairs = compliance(world, "endpoints").await;
    let sum = |rows: &[Value]| {
        rows.iter().map(counts).fold([0; 7], |sum, one| std::array::from_fn(|column| sum[column] + one[column]))
    };
    let by_hand = |state: &str| pairs.iter().filter(|row| row["state"] == state).count() as u64;
    let states = ["installed", "missing", "failed", "installed_retracted", "rolled_back", "unknown"];
    let expected: Vec<u64> = std::iter::once(pairs.len() as u64).chain(states.map(by_hand)).collect();
    assert_eq!(sum(&patches).to_vec(), expected);
    assert_eq!(sum(&sites).to_vec(), expected);
    let csv = request("bob", "GET", "/v1/compliance/endpoints").header("accept", "text/csv").body(Body::empty());
    let csv = world.send(csv.unwrap()).await;
    assert!(csv.header("content-type").starts_with("text/csv"));
    assert_eq!(csv.text().lines().count(), pairs.len() + 1, "{}", csv.text());
    assert!(csv.text().contains(",rolled_back,,demo=0,demo=1,,1.234,"), "{}", csv.text());
    let narrowed = compliance(world, "endpoints?patch=demo/2&site=lyon").await;
    assert_eq!(narrowed.len(), pairs.iter().filter(|row| row["patch"] == "demo/2").count());
}

// proves: F4
#[tokio::test]
async fn a_node_that_fenced_a_retraction_stands_with_the_time_at_which_it_first_said_so() {
    let world = world().await;
    let node = world.enrolled_node(1).await;
    release(&world, "1", &["pilot"]).await;
    world.retract("bob", "demo/1", &[]).await.expect_ok();
    let status = |fenced: u64| {
        serde_json::to_value(sluice_api::device::NodeStatus { fenced_serial: fenced, ..Default::default() }).unwrap()
    };
    let progress = async |world: &World| world.get("bob", "/v1/retractions/1").await.json();
    world.device_post(&node, "/status", &status(0)).await.expect_ok();
    assert_eq!(progress(&world).await["nodes_waiting"].as_array().unwrap().len(), 1);
    world.device_post(&node, "/status", &status(1)).await.expect_ok();
    let fenced = progress(&world).await["nodes_fenced"][0].clone();
    assert_eq!(fenced["node"], node.public().to_hex());
    world.device_post(&node, "/status", &status(1)).await.expect_ok();
    let world = world.reopen().await;
    assert_eq!(progress(&world).await["nodes_fenced"][0], fenced, "the time stays, also across a restart");
}
