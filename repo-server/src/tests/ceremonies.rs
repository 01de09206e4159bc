//! Key ceremonies at the server: who must sign is who decides, and what nobody signed does not come into force.

use super::world::{Answer, World, sha256};
use crate::key_files;
use serde_json::{Value, json};
use sluice_metadata::{
    DraftFile, InitPlan, Profile, ReleasePlan, RepositoryProfile, RingPlan, RoleName, RootPlan, Signer, TargetEntry,
    TargetsPlan, Terms, Trusted, View, Writer,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Keys that people hold, none of which the server ever sees.
pub(super) struct People;

impl People {
    pub fn key(name: &str) -> Signer {
        Signer::from_seed(*blake3::hash(name.as_bytes()).as_bytes())
    }

    pub fn terms(names: &[&str], threshold: u32) -> Terms {
        Terms::new(names.iter().map(|name| Self::key(name).public_key()), threshold)
    }

    pub fn names(names: &[&str]) -> BTreeMap<sluice_metadata::KeyId, String> {
        names.iter().map(|name| (Self::key(name).key_id(), (*name).to_owned())).collect()
    }

    pub fn sign(draft: &mut DraftFile, names: &[&str]) {
        names.iter().for_each(|name| draft.sign(&Self::key(name)));
    }
}

/// A production repository: ann, ben and cat hold root and targets, bob and dora approve production.
pub(super) async fn production(data: &Path, profile: RepositoryProfile) {
    let ring = |name: &str, approvers: &[&str]| RingPlan {
        name: name.parse().unwrap(),
        approvers: approvers.iter().map(|name| People::key(name).public_key()).collect(),
    };
    let plan = InitPlan {
        repo_id: "test".into(),
        profile,
        rings: vec![ring("validation", &[]), ring("pilot", &[]), ring("production", &["bob", "dora"])],
        root: People::terms(&["ann", "ben", "cat"], 2),
        targets: People::terms(&["ann", "ben", "cat"], 2),
        names: People::names(&["ann", "ben", "cat", "bob", "dora"]),
        now: crate::clock::timestamp(),
    };
    let paths = crate::init::prepare(data, plan).unwrap();
    assert_eq!(paths.len(), 3, "root, targets and the ring with approvers");
    for path in &paths {
        let mut draft = read(path);
        let is_ring = draft.role().ring().is_some();
        People::sign(&mut draft, if is_ring { &["dora"] } else { &["ann", "cat"] });
        std::fs::write(path, draft.to_bytes()).unwrap();
    }
    match crate::init::publish(data, &paths).await.unwrap() {
        crate::init::Published::First(made) => assert!(made.token.starts_with("slp1-")),
        crate::init::Published::Next(_) => panic!("there was no repository before"),
    }
}

fn read(path: &Path) -> DraftFile {
    DraftFile::read_named(path.file_name().unwrap().to_str().unwrap(), &std::fs::read(path).unwrap()).unwrap()
}

impl World {
    fn file(&self, role: &str) -> DraftFile {
        let served = self.app.served();
        let duty = served.duties.iter().find(|duty| duty.role.as_str() == role).unwrap();
        DraftFile::read(&duty.role, &served.files[&format!("{}.{role}.json", duty.version)]).unwrap()
    }

    fn root_plan(&self) -> RootPlan {
        RootPlan::of(&self.file("root")).unwrap()
    }

    fn targets_plan(&self) -> TargetsPlan {
        TargetsPlan::of(&self.file("targets")).unwrap()
    }

    async fn publish_files(&self, drafts: &[&DraftFile]) -> Answer {
        let file =
            |draft: &&DraftFile| (draft.file_name(), serde_json::from_slice::<Value>(&draft.to_bytes()).unwrap());
        let files: BTreeMap<String, Value> = drafts.iter().map(file).collect();
        self.post("admin", "/v1/ceremonies", &json!({ "files": files })).await
    }

    async fn new_key(&self, role: &str) -> [u8; 32] {
        let made = self.post("admin", "/v1/ceremonies/keys", &json!({ "role": role })).await;
        hex::decode(made.expect_ok().json()["public"].as_str().unwrap()).unwrap().try_into().unwrap()
    }

    /// The next root, signed by the server itself as in profile dev, with another key of the timestamp.
    pub(super) async fn rotate_timestamp_key(&self) {
        let key = self.new_key("timestamp").await;
        let mut plan = self.root_plan().next(crate::clock::timestamp());
        plan.roles.insert(RoleName::timestamp(), Terms::new([key], 1));
        self.publish_files(&[&plan.to_draft()]).await.expect_ok();
    }

    /// What a client that trusts the first root says now.
    pub(super) fn client(&self) -> Trusted {
        let served = self.app.served();
        let trusted = Trusted::new(&served.files["1.root.json"], Profile::Strict).unwrap();
        let read = &mut |name: &str| served.files.get(name).map(|bytes| bytes.to_vec());
        trusted.apply(read, crate::clock::timestamp()).unwrap().trusted
    }

    fn rows(&self, ring: &str) -> Vec<String> {
        let view = View::of(&self.client()).unwrap();
        view.releases[&ring.parse().unwrap()].iter().map(|row| row.target.to_string()).collect()
    }

    async fn proposal(&self, ring: &str) -> DraftFile {
        let proposal = self.get("bob", &format!("/v1/rings/{ring}/proposal")).await;
        let file = proposal.expect_ok().json()["file"].to_string();
        DraftFile::read(&format!("rel-{ring}").parse().unwrap(), file.as_bytes()).unwrap()
    }

    async fn send_signed(&self, person: &str, ring: &str, draft: &DraftFile) -> Answer {
        let file: Value = serde_json::from_slice(&draft.to_bytes()).unwrap();
        self.post(person, &format!("/v1/rings/{ring}/proposal/signatures"), &json!({ "file": file })).await
    }
}

#[tokio::test]
async fn a_production_repository_begins_with_its_holders_signatures_and_not_before() {
    let world = World::production(RepositoryProfile::Standard).await;
    let view = View::of(&world.client()).unwrap();
    assert_eq!((view.profile, view.rings.len()), (RepositoryProfile::Standard, 3));
    let keys: Vec<String> = std::fs::read_dir(world.app.data.join("keys"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".key"))
        .collect();
    assert_eq!(keys.len(), 8, "{keys:?}");
    assert!(!keys.iter().any(|key| key.starts_with("root") || key.starts_with("targets")), "{keys:?}");
    let rings = world.get("bob", "/v1/rings").await.json();
    let thresholds: Vec<u64> =
        rings["rings"].as_array().unwrap().iter().map(|ring| ring["threshold"].as_u64().unwrap()).collect();
    assert_eq!(thresholds, [1, 1, 2]);
}

#[tokio::test]
async fn without_enough_signatures_there_is_no_repository() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("repo");
    let plan = InitPlan {
        repo_id: "test".into(),
        profile: RepositoryProfile::Standard,
        rings: vec![RingPlan { name: "pilot".parse().unwrap(), approvers: Vec::new() }],
        root: People::terms(&["ann", "ben", "cat"], 2),
        targets: People::terms(&["ann", "ben", "cat"], 2),
        names: People::names(&["ann", "ben", "cat"]),
        now: crate::clock::timestamp(),
    };
    let paths = crate::init::prepare(&data, plan).unwrap();
    for signers in [&[][..], &["ann"], &["ann", "eve"]] {
        for path in &paths {
            let mut draft = read(path);
            People::sign(&mut draft, signers);
            std::fs::write(path, draft.to_bytes()).unwrap();
        }
        let refused = crate::init::publish(&data, &paths).await.err().unwrap();
        assert!(format!("{refused:#}").contains("must be signed"), "{refused:#}");
        assert!(!data.join("repo.redb").exists());
    }
}

#[tokio::test]
async fn a_ring_with_approvers_takes_nothing_until_one_of_them_signs_and_then_the_whole_set() {
    let world = World::production(RepositoryProfile::Standard).await;
    let (one, two) = (world.deb("one", "1", 1, 2_000), world.deb("two", "1", 2, 2_000));
    world.publish("paul", "one/1", &[("one.deb", &one)]).await.expect_ok();
    world.publish("paul", "two/1", &[("two.deb", &two)]).await.expect_ok();
    for patch in ["one/1", "two/1"] {
        let answer = world.approve("bob", patch, "production").await;
        assert_eq!(answer.expect_ok().json()["proposed_into"], json!(["production"]));
        assert_eq!(answer.json()["state"], "draft");
        assert_eq!(answer.json()["approvals"], json!([]));
    }
    assert!(world.rows("production").is_empty());
    world.fetch(&format!("/content/sha256/{}", sha256(&one)), &[]).await.expect(404, "not-found", &[]);

    let world = world.reopen().await;
    let mut draft = world.proposal("production").await;
    let unsigned = draft.clone();
    world.send_signed("bob", "production", &unsigned).await.expect(422, "invalid", &["no new valid signature"]);
    draft.sign(&People::key("eve"));
    world.send_signed("bob", "production", &draft).await.expect(422, "invalid", &["no new valid signature"]);
    People::sign(&mut draft, &["bob"]);
    world.send_signed("alice", "production", &draft).await.expect(403, "separation-of-duties", &["bob"]);
    let answer = world.send_signed("bob", "production", &draft).await;
    assert_eq!(answer.expect_ok().json()["is_published"], true, "{}", answer.text());
    assert_eq!(answer.json()["patches"], json!(["one/1", "two/1"]));
    assert_eq!(world.rows("production"), ["patches/production/one.deb", "patches/production/two.deb"]);
    let patch = world.get("bob", "/v1/patches/one/1").await.json();
    assert_eq!(
        (&patch["state"], &patch["approvals"][0]["by"], &patch["proposed_into"]),
        (&json!("released"), &json!("bob"), &json!([]))
    );
    assert_eq!(world.fetch(&format!("/content/sha256/{}", sha256(&one)), &[]).await.body, one);
}

#[tokio::test]
async fn a_publisher_signs_his_own_patch_into_no_ring_even_with_an_approver_s_key() {
    let world = World::production(RepositoryProfile::Standard).await;
    world.add_person("dora", vec![sluice_model::PersonRole::Publisher, sluice_model::PersonRole::Approver]);
    let deb = world.deb("one", "1", 1, 2_000);
    world.publish("dora", "one/1", &[("one.deb", &deb)]).await.expect_ok();
    world.approve("dora", "one/1", "production").await.expect(403, "separation-of-duties", &["dora"]);
    world.approve("bob", "one/1", "production").await.expect_ok();
    let mut draft = world.proposal("production").await;
    People::sign(&mut draft, &["dora"]);
    world.send_signed("dora", "production", &draft).await.expect(403, "separation-of-duties", &["dora"]);
    assert!(world.rows("production").is_empty());
}

#[tokio::test]
async fn what_was_signed_must_be_what_is_proposed_now() {
    let world = World::production(RepositoryProfile::Standard).await;
    let (one, two) = (world.deb("one", "1", 1, 2_000), world.deb("two", "1", 2, 2_000));
    world.publish("paul", "one/1", &[("one.deb", &one)]).await.expect_ok();
    world.publish("paul", "two/1", &[("two.deb", &two)]).await.expect_ok();
    world.approve("bob", "one/1", "production").await.expect_ok();
    let mut old = world.proposal("production").await;
    People::sign(&mut old, &["bob"]);
    world.approve("bob", "two/1", "production").await.expect_ok();
    world.send_signed("bob", "production", &old).await.expect(409, "conflict", &["changed since"]);

    // An approver's tool that adds a row of its own is refused just so.
    let draft = world.proposal("production").await;
    let mut plan = ReleasePlan::of(&draft).unwrap();
    let row = plan.entries.values().next().unwrap().clone();
    plan.entries.insert("patches/production/more.deb".parse().unwrap(), row);
    let mut more = plan.to_draft().unwrap();
    People::sign(&mut more, &["bob"]);
    world.send_signed("bob", "production", &more).await.expect(409, "conflict", &[]);
    assert!(world.rows("production").is_empty());
}

#[tokio::test]
async fn a_stolen_server_cannot_publish_into_a_ring_with_approvers() {
    let world = World::production(RepositoryProfile::Standard).await;
    let keyring = key_files::load(&world.app.data.join("keys")).unwrap();
    let served = world.app.served();
    let files: Vec<_> = served.files.iter().map(|(name, bytes)| (name.clone(), bytes.to_vec().into())).collect();
    let writer = Writer::load(&files).unwrap();
    let victim = world.client();
    let now = crate::clock::timestamp();
    let evil = BTreeMap::from([evil_row("production")]);
    let lease = Duration::from_secs(3_600);

    // With the program's own writer and every key of the server.
    let mut thief = writer.clone();
    thief.set_entries(&role("rel-production"), evil.clone()).unwrap();
    assert!(thief.commit(&keyring, now, lease).unwrap_err().to_string().contains("needs 2 signatures"));
    let mut forged = writer.draft_role(&role("rel-production"), evil, now).unwrap();
    keyring.iter().flat_map(|(_, signers)| signers).for_each(|signer| forged.sign(signer));
    let mut thief = writer.clone();
    thief.give(forged.clone()).unwrap();
    assert!(thief.commit(&keyring, now, lease).unwrap_err().to_string().contains("1 of the 2 signatures"));
    world.publish_files(&[&forged]).await.expect(409, "conflict", &["1 of the 2 signatures"]);
    world.send_signed("bob", "production", &forged).await.expect(409, "conflict", &["not what is proposed"]);

    // Written past our own writer: snapshot and timestamp are the thief's to sign, and the client still refuses.
    let stolen = forge(&served.files, &keyring, &forged);
    let refused = victim.apply(&mut |name| stolen.get(name).cloned(), now).unwrap_err();
    assert!(
        refused.to_string().contains("rel-production") && refused.to_string().contains("1 valid signatures of the 2"),
        "{refused}"
    );

    // The same theft reaches a ring that the server signs alone: the check above can fail.
    let mut alone = writer.draft_role(&role("rel-pilot"), BTreeMap::from([evil_row("pilot")]), now).unwrap();
    keyring.signers(&role("rel-pilot")).iter().for_each(|signer| alone.sign(signer));
    let stolen = forge(&served.files, &keyring, &alone);
    victim.apply(&mut |name| stolen.get(name).cloned(), now).unwrap();
}

fn role(name: &str) -> RoleName {
    name.parse().unwrap()
}

fn evil_row(ring: &str) -> (sluice_model::TargetName, TargetEntry) {
    let entry = TargetEntry { length: 4, sha256: crate::draft::sha256_of(b"evil"), custom: None };
    (format!("patches/{ring}/evil.deb").parse().unwrap(), entry)
}

/// The served files with `file` put among them by whoever holds the keys of snapshot and timestamp.
fn forge(
    files: &BTreeMap<String, bytes::Bytes>,
    keyring: &sluice_metadata::Keyring,
    file: &DraftFile,
) -> BTreeMap<String, Vec<u8>> {
    let mut stolen: BTreeMap<String, Vec<u8>> =
        files.iter().map(|(name, bytes)| (name.clone(), bytes.to_vec())).collect();
    let meta = |version: u64, bytes: &[u8]| json!({ "version": version, "length": bytes.len(), "hashes": { "sha256": sha256(bytes) } });
    let bytes = file.to_bytes();
    let (name, old) = stolen.iter().find(|(name, _)| name.ends_with(".snapshot.json")).unwrap();
    let (name, mut snapshot) = (name.clone(), serde_json::from_slice::<Value>(old).unwrap()["signed"].take());
    let version = snapshot["version"].as_u64().unwrap() + 1;
    snapshot["version"] = version.into();
    snapshot["meta"][format!("{}.json", file.role())] = meta(file.version(), &bytes);
    let snapshot = sign(&snapshot, &keyring.signers(&RoleName::snapshot())[0]);
    let mut timestamp = serde_json::from_slice::<Value>(&stolen["timestamp.json"]).unwrap()["signed"].take();
    timestamp["version"] = (timestamp["version"].as_u64().unwrap() + 1).into();
    timestamp["meta"]["snapshot.json"] = meta(version, &snapshot);
    stolen.remove(&name);
    stolen.insert("timestamp.json".into(), sign(&timestamp, &keyring.signers(&RoleName::timestamp())[0]));
    stolen.insert(format!("{version}.snapshot.json"), snapshot);
    stolen.insert(file.file_name(), bytes);
    stolen
}

/// `serde_json` writes keys in order and ASCII texts plainly: the canonical form of what these tests sign.
fn sign(signed: &Value, signer: &Signer) -> Vec<u8> {
    let signature = hex::encode(signer.sign(signed.to_string().as_bytes()));
    json!({ "signatures": [{ "keyid": signer.key_id().as_str(), "sig": signature }], "signed": signed })
        .to_string()
        .into_bytes()
}

#[tokio::test]
async fn a_retracted_patch_stays_listed_until_an_approver_signs_again_and_is_blocked_at_once() {
    let world = World::production(RepositoryProfile::Standard).await;
    let deb = world.deb("one", "1", 1, 2_000);
    world.publish("paul", "one/1", &[("one.deb", &deb)]).await.expect_ok();
    world.approve("bob", "one/1", "production").await.expect_ok();
    let mut draft = world.proposal("production").await;
    People::sign(&mut draft, &["bob"]);
    world.send_signed("bob", "production", &draft).await.expect_ok();
    let path = format!("/content/sha256/{}", sha256(&deb));
    assert_eq!(world.fetch(&path, &[]).await.body, deb);

    world.retract("bob", "one/1", &[]).await.expect_ok();
    assert_eq!(world.rows("production"), ["patches/production/one.deb"], "an approver has not signed yet");
    world.fetch(&path, &[]).await.expect(410, "retracted", &[]);
    assert_eq!(View::of(&world.client()).unwrap().tombstones.len(), 1);

    let mut draft = world.proposal("production").await;
    assert!(ReleasePlan::of(&draft).unwrap().entries.is_empty());
    People::sign(&mut draft, &["bob"]);
    world.send_signed("bob", "production", &draft).await.expect_ok();
    assert!(world.rows("production").is_empty());
    world.fetch(&path, &[]).await.expect(410, "retracted", &[]);
}

#[tokio::test]
async fn a_proposal_loses_a_patch_that_is_retracted_meanwhile() {
    let world = World::production(RepositoryProfile::Standard).await;
    let (one, two) = (world.deb("one", "1", 1, 2_000), world.deb("two", "1", 2, 2_000));
    world.publish("paul", "one/1", &[("one.deb", &one)]).await.expect_ok();
    world.publish("paul", "two/1", &[("two.deb", &two)]).await.expect_ok();
    world.approve("bob", "one/1", "production").await.expect_ok();
    world.approve("bob", "two/1", "production").await.expect_ok();
    let mut old = world.proposal("production").await;
    People::sign(&mut old, &["bob"]);
    world.retract("bob", "one/1", &[]).await.expect_ok();
    world.send_signed("bob", "production", &old).await.expect(409, "conflict", &[]);
    let mut new = world.proposal("production").await;
    People::sign(&mut new, &["bob"]);
    assert_eq!(world.send_signed("bob", "production", &new).await.expect_ok().json()["patches"], json!(["two/1"]));
    assert_eq!(world.rows("production"), ["patches/production/two.deb"]);
}

#[tokio::test]
async fn a_renewal_of_a_ring_is_signed_like_everything_else() {
    let world = World::production(RepositoryProfile::Standard).await;
    let mut draft = world.proposal("production").await;
    let version = draft.version();
    People::sign(&mut draft, &["dora"]);
    world.add_person("dora", vec![sluice_model::PersonRole::Approver]);
    let answer = world.send_signed("dora", "production", &draft).await;
    assert_eq!(
        (&answer.expect_ok().json()["version"], &answer.json()["is_published"]),
        (&json!(version), &json!(true))
    );
    let mut forever = ReleasePlan::of(&world.proposal("production").await).unwrap();
    forever.expires = crate::clock::timestamp().plus(Duration::from_secs(1_000 * 24 * 3_600));
    let mut forever = forever.to_draft().unwrap();
    People::sign(&mut forever, &["dora"]);
    world.send_signed("dora", "production", &forever).await.expect(409, "conflict", &[]);
    world.get("bob", "/v1/rings/pilot/proposal").await.expect(409, "conflict", &["signs ring pilot alone"]);
}

#[tokio::test]
async fn every_role_is_rotated_and_what_the_server_lost_is_deleted() {
    let world = World::production(RepositoryProfile::Standard).await;
    let before = world.client();
    // Root, by two of the old and two of the new holders: cat leaves, fay comes.
    let mut plan = world.root_plan().next(crate::clock::timestamp());
    plan.roles.insert(RoleName::root(), People::terms(&["ann", "ben", "fay"], 2));
    plan.roles.insert(RoleName::targets(), People::terms(&["ann", "ben", "fay"], 2));
    plan.roles.insert(RoleName::timestamp(), Terms::new([world.new_key("timestamp").await], 1));
    plan.roles.insert(RoleName::snapshot(), Terms::new([world.new_key("snapshot").await], 1));
    let mut root = plan.to_draft();
    People::sign(&mut root, &["cat", "fay"]);
    world.publish_files(&[&root]).await.expect(409, "conflict", &["root", "1 of the 2 signatures"]);
    People::sign(&mut root, &["ann"]);
    // Targets was signed by ann and cat; the new root does not take cat's word.
    world.publish_files(&[&root]).await.expect(409, "conflict", &["targets", "publish both together"]);

    // Targets: every online role gets a new key, dora leaves production, a ring comes.
    let mut plan = world.targets_plan().next(crate::clock::timestamp());
    for name in ["retractions", "fleet", "policy", "rel-validation", "rel-pilot"] {
        let key = world.new_key(name).await;
        let row = plan.delegations.iter_mut().find(|row| row.role.as_str() == name).unwrap();
        row.terms = Terms::new([key], 1);
    }
    let canary = sluice_metadata::DelegationPlan {
        role: role("rel-canary"),
        terms: Terms::new([world.new_key("rel-canary").await], 1),
        paths: vec!["patches/canary/*".into()],
    };
    plan.delegations.insert(4, canary);
    let row = plan.delegations.iter_mut().find(|row| row.role.as_str() == "rel-production").unwrap();
    row.terms.keys.remove(&People::key("dora").key_id());
    let mut targets = plan.to_draft();
    People::sign(&mut targets, &["ben", "fay"]);
    // Production was signed by dora, who may not any more.
    world.publish_files(&[&root, &targets]).await.expect(409, "conflict", &["rel-production"]);
    let first = ReleasePlan::first(role("rel-production"), crate::clock::timestamp());
    let mut production = ReleasePlan { version: 2, ..first }.to_draft().unwrap();
    People::sign(&mut production, &["dora"]);
    world.publish_files(&[&root, &targets, &production]).await.expect(409, "conflict", &["rel-production"]);
    People::sign(&mut production, &["bob"]);
    let done = world.publish_files(&[&root, &targets, &production]).await;
    assert_eq!(done.expect_ok().json()["keys_deleted"].as_array().unwrap().len(), 7, "{}", done.text());

    // A client of the first root and one that followed all along agree.
    let after = world.client();
    assert_eq!(after.root_version(), 2);
    let served = world.app.served();
    let followed =
        before.apply(&mut |name| served.files.get(name).map(|bytes| bytes.to_vec()), crate::clock::timestamp());
    assert_eq!(followed.unwrap().trusted.versions(), after.versions());
    let rings: Vec<String> = View::of(&after).unwrap().rings.iter().map(ToString::to_string).collect();
    assert_eq!(rings, ["validation", "canary", "pilot", "production"]);

    // The old keys are gone from the disk, and the server goes on after a restart with the new ones.
    let is_role_key =
        |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().path().extension() == Some("key".as_ref());
    let keys = std::fs::read_dir(world.app.data.join("keys")).unwrap();
    assert_eq!(keys.filter_map(|entry| is_role_key(entry).then_some(())).count(), 9);
    let world = world.reopen().await;
    let deb = world.deb("one", "1", 1, 2_000);
    world.publish("paul", "one/1", &[("one.deb", &deb)]).await.expect_ok();
    world.approve("bob", "one/1", "canary").await.expect_ok();
    assert_eq!(world.rows("canary"), ["patches/canary/one.deb"]);
    world.retract("bob", "one/1", &[]).await.expect_ok();
    assert!(world.rows("canary").is_empty());
}

#[tokio::test]
async fn clients_recover_from_a_fast_forward_with_stolen_timestamp_and_snapshot_keys() {
    let world = World::production(RepositoryProfile::Standard).await;
    let keyring = key_files::load(&world.app.data.join("keys")).unwrap();
    let served = world.app.served();
    // The thief moves every version that he can to the end of numbers, ahead in time as well.
    let mut stolen: BTreeMap<String, Vec<u8>> =
        served.files.iter().map(|(name, bytes)| (name.clone(), bytes.to_vec())).collect();
    let name = stolen.keys().find(|name| name.ends_with(".snapshot.json")).unwrap().clone();
    let mut snapshot = serde_json::from_slice::<Value>(&stolen.remove(&name).unwrap()).unwrap()["signed"].take();
    let far = (1_u64 << 53) - 1;
    snapshot["version"] = far.into();
    let snapshot = sign(&snapshot, &keyring.signers(&RoleName::snapshot())[0]);
    let mut timestamp = serde_json::from_slice::<Value>(&stolen["timestamp.json"]).unwrap()["signed"].take();
    timestamp["version"] = far.into();
    timestamp["meta"]["snapshot.json"] =
        json!({ "version": far, "length": snapshot.len(), "hashes": { "sha256": sha256(&snapshot) } });
    stolen.insert("timestamp.json".into(), sign(&timestamp, &keyring.signers(&RoleName::timestamp())[0]));
    stolen.insert(format!("{far}.snapshot.json"), snapshot);
    let now = crate::clock::timestamp();
    let victim = world.client().apply(&mut |name| stolen.get(name).cloned(), now).unwrap().trusted;
    assert_eq!(victim.timestamp_version(), far);
    let honest = |name: &str| world.app.served().files.get(name).map(|bytes| bytes.to_vec());
    let stuck = victim.apply(&mut |name| honest(name), now).unwrap_err();
    assert!(stuck.to_string().contains("older"), "{stuck}");

    let mut plan = world.root_plan().next(now);
    plan.roles.insert(RoleName::timestamp(), Terms::new([world.new_key("timestamp").await], 1));
    plan.roles.insert(RoleName::snapshot(), Terms::new([world.new_key("snapshot").await], 1));
    let mut root = plan.to_draft();
    People::sign(&mut root, &["ann", "ben"]);
    world.publish_files(&[&root]).await.expect_ok();
    let healed = victim.apply(&mut |name| honest(name), crate::clock::timestamp()).unwrap().trusted;
    assert_eq!(healed.versions(), world.client().versions());
    // The stolen keys are worth nothing to it any more.
    stolen.insert("2.root.json".into(), honest("2.root.json").unwrap());
    assert!(healed.apply(&mut |name| stolen.get(name).cloned(), now).is_err());
}

#[tokio::test]
async fn a_dev_repository_becomes_a_production_one_and_its_clients_follow() {
    let world = World::new().await;
    let deb = world.deb("one", "1", 1, 2_000);
    world.publish("paul", "one/1", &[("one.deb", &deb)]).await.expect_ok();
    world.approve("bob", "one/1", "production").await.expect_ok();
    let enrolled = world.client();
    let named_by_tokens = world.app.root_sha256();

    let now = crate::clock::timestamp();
    let mut plan = world.root_plan().next(now);
    plan.profile = RepositoryProfile::Standard;
    plan.roles.insert(RoleName::root(), People::terms(&["ann", "ben", "cat"], 2));
    plan.roles.insert(RoleName::targets(), People::terms(&["ann", "ben", "cat"], 2));
    plan.names = People::names(&["ann", "ben", "cat"]);
    let mut root = plan.to_draft();
    let mut plan = world.targets_plan().next(now);
    plan.names = People::names(&["dora"]);
    let row = plan.delegations.iter_mut().find(|row| row.role.as_str() == "rel-production").unwrap();
    row.terms.keys.extend(People::terms(&["dora"], 1).keys);
    row.terms.threshold = 2;
    let mut targets = plan.to_draft();
    let live = ReleasePlan::of(&world.file("rel-production")).unwrap();
    let mut production = ReleasePlan { version: live.version + 1, ..live }.to_draft().unwrap();
    People::sign(&mut root, &["ann", "ben"]);
    People::sign(&mut targets, &["ann", "cat"]);
    People::sign(&mut production, &["dora"]);
    let done = world.publish_files(&[&root, &targets, &production]).await;
    assert_eq!(done.expect_ok().json()["keys_deleted"].as_array().unwrap().len(), 2, "{}", done.text());

    let served = world.app.served();
    let followed =
        enrolled.apply(&mut |name| served.files.get(name).map(|bytes| bytes.to_vec()), crate::clock::timestamp());
    let followed = followed.unwrap().trusted;
    assert_eq!(followed.repository_profile(), RepositoryProfile::Standard);
    assert_eq!(world.rows("production"), ["patches/production/one.deb"]);
    assert_eq!(world.app.root_sha256(), named_by_tokens, "tokens that were given out still work");
    let names: Vec<String> = std::fs::read_dir(world.app.data.join("keys"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(!names.contains(&"root.key".into()) && !names.contains(&"targets.key".into()), "{names:?}");
    // From now on the server alone changes neither root nor production.
    let plan = world.root_plan().next(crate::clock::timestamp());
    world.publish_files(&[&plan.to_draft()]).await.expect(409, "conflict", &["2 of the 2 signatures"]);
    let two = world.deb("two", "1", 2, 2_000);
    world.publish("paul", "two/1", &[("two.deb", &two)]).await.expect_ok();
    let answer = world.approve("bob", "two/1", "production").await;
    assert_eq!(answer.expect_ok().json()["proposed_into"], json!(["production"]));
    assert_eq!(world.rows("production").len(), 1);
}

#[tokio::test]
async fn the_kill_switch_takes_a_patch_away_and_the_server_goes_on() {
    let world = World::production(RepositoryProfile::Standard).await;
    let deb = world.deb("one", "1", 1, 2_000);
    world.publish("paul", "one/1", &[("one.deb", &deb)]).await.expect_ok();
    world.approve("bob", "one/1", "pilot").await.expect_ok();
    let mut plan = world.targets_plan().next(crate::clock::timestamp());
    plan.delegations[0].paths.push("patches/pilot/one.deb".into());
    let mut targets = plan.to_draft();
    People::sign(&mut targets, &["ann", "ben"]);
    world.publish_files(&[&targets]).await.expect_ok();
    assert!(world.rows("pilot").is_empty());
    assert_eq!(View::of(&world.client()).unwrap().ignored.len(), 1);
    world.fetch(&format!("/content/sha256/{}", sha256(&deb)), &[]).await.expect(404, "not-found", &[]);
    let two = world.deb("two", "1", 2, 2_000);
    world.publish("paul", "two/1", &[("two.deb", &two)]).await.expect_ok();
    world.approve("bob", "two/1", "pilot").await.expect_ok();
    assert_eq!(world.rows("pilot"), ["patches/pilot/two.deb"]);
}

#[tokio::test]
async fn the_calendar_names_who_must_sign_and_what_would_stop() {
    let world = World::production(RepositoryProfile::Strict).await;
    assert_eq!(world.app.authority.lease(), Duration::from_secs(3_600), "a strict repository has a lease of an hour");
    let calendar = world.get("bob", "/v1/calendar").await.json();
    let row = |role: &str| {
        let rows = calendar["roles"].as_array().unwrap();
        rows.iter().find(|row| row["role"] == role).unwrap_or_else(|| panic!("{role}: {calendar}")).clone()
    };
    let root = row("root");
    let mut people: Vec<&str> = root["people"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    people.sort_unstable();
    assert_eq!((people, &root["threshold"]), (vec!["ann", "ben", "cat"], &json!(2)));
    assert_eq!((&root["nearness"], &root["is_renewed_by_server"]), (&json!("quiet"), &json!(false)));
    assert!(root["stops"].as_str().unwrap().starts_with("everything"));
    let production = row("rel-production");
    assert!(production["stops"].as_str().unwrap().contains("ring production; other rings go on"));
    assert!(production["next"].as_str().unwrap().contains("sluice approve --ring production --key"));
    assert_eq!(row("timestamp")["is_renewed_by_server"], true);
    assert_eq!(calendar["roles"].as_array().unwrap().len(), 10);
}

#[tokio::test]
async fn what_is_no_ceremony_is_refused_by_name() {
    let world = World::production(RepositoryProfile::Standard).await;
    let refused = async |files: Value| world.post("admin", "/v1/ceremonies", &json!({ "files": files })).await;
    refused(json!({})).await.expect(422, "invalid", &["1 to"]);
    refused(json!({ "root.json": {} })).await.expect(422, "invalid", &["VERSION.ROLE.json"]);
    refused(json!({ "2.root.json": { "signed": {}, "signatures": [] } })).await.expect(
        422,
        "invalid",
        &["2.root.json"],
    );
    let mut plan = world.root_plan().next(crate::clock::timestamp());
    plan.version = 3;
    let mut root = plan.to_draft();
    People::sign(&mut root, &["ann", "ben"]);
    world.publish_files(&[&root]).await.expect(409, "conflict", &["version 3", "next one is 2"]);
    world.post("admin", "/v1/ceremonies/keys", &json!({ "role": "root" })).await.expect(
        422,
        "invalid",
        &["sluice key new"],
    );
    world.post("bob", "/v1/ceremonies/keys", &json!({ "role": "fleet" })).await.expect(403, "forbidden", &["admin"]);
    for _ in 0..3 {
        world.new_key("fleet").await;
    }
    world.post("admin", "/v1/ceremonies/keys", &json!({ "role": "fleet" })).await.expect(507, "full", &["already"]);
}
