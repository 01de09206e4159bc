//! Old tombstones in archives: none is lost, none counts twice, and the timestamp's count is checked without their bytes.
#![allow(clippy::unwrap_used, reason = "tests")]

use sluice_metadata::{
    InitParams, Keyring, Publication, RepositoryProfile, RoleName, Signer, TargetEntry, View, WriteError, Writer,
    dev_roles, fold,
};
use sluice_model::{ArtifactId, RetractedContent, RingName, Sha256, TargetName, Timestamp, Tombstone};
use std::collections::BTreeMap;
use std::time::Duration;

const LEASE: Duration = Duration::from_secs(3_600);
type Entries = BTreeMap<TargetName, TargetEntry>;

fn now() -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000)
}

fn repository() -> (Writer, Keyring, Publication) {
    let rings: Vec<RingName> = vec!["pilot".parse().unwrap()];
    let mut keyring = Keyring::default();
    for (idx, role) in dev_roles(&rings).into_iter().enumerate() {
        keyring.insert(role, Signer::from_seed([idx as u8 + 1; 32]));
    }
    let params =
        InitParams { repo_id: "test".into(), profile: RepositoryProfile::Dev, rings, now: now(), lease: LEASE };
    let (writer, first) = Writer::init(params, &keyring).unwrap();
    (writer, keyring, first)
}

fn hash(serial: u64) -> Sha256 {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&serial.to_be_bytes());
    Sha256::from_bytes(bytes)
}

fn tombstone(serial: u64) -> Tombstone {
    Tombstone {
        schema: 1,
        serial,
        patch: format!("demo/{serial}").parse().unwrap(),
        content: vec![RetractedContent { sha256: hash(serial), blake3: ArtifactId::from_bytes([7; 32]) }],
        reason: "bad".into(),
        by: "rita".parse().unwrap(),
        at: now(),
        approved: BTreeMap::from([("pilot".parse().unwrap(), serial)]),
    }
}

fn add(entries: &mut Entries, serial: u64) {
    let custom = Some(serde_json::json!({ "tombstone": tombstone(serial) }));
    let entry = TargetEntry { length: 1, sha256: hash(serial), custom };
    entries.insert(format!("retractions/{serial}").parse().unwrap(), entry);
}

#[test]
fn two_thousand_tombstones_are_folded_and_every_serial_is_found_again() {
    let (mut writer, keyring, _) = repository();
    let role = RoleName::retractions();
    let mut archives: BTreeMap<TargetName, Vec<u8>> = BTreeMap::new();
    for serial in 1..=2_000 {
        let mut entries = writer.entries(&role).unwrap().clone();
        if let Some(folded) = fold(&entries) {
            archives.insert(folded.target, folded.bytes);
            entries = folded.entries;
        }
        add(&mut entries, serial);
        writer.set_entries(&role, entries).unwrap();
        if serial % 500 == 0 {
            writer.commit(&keyring, now(), LEASE).unwrap();
        }
    }
    let view = View::of(writer.trusted()).unwrap();
    let mut serials: Vec<u64> = Vec::new();
    for archive in &view.archives {
        let bytes = &archives[&archive.target];
        assert!(view.documents.contains_key(&archive.target), "its bytes are a signed document");
        let read = archive.read(bytes).unwrap();
        assert_eq!(read.len() as u64, archive.count());
        assert!(archive.is_covered_by(&read) && !archive.is_covered_by(&read[1..]));
        assert_eq!(read[0].approved, tombstone(read[0].serial).approved);
        serials.extend(read.iter().map(|tombstone| tombstone.serial));
        // One byte of it changed, or another archive under its name, is refused.
        let mut bad = bytes.clone();
        bad[40] ^= 1;
        archive.read(&bad).unwrap_err();
    }
    serials.extend(view.tombstones.iter().map(|tombstone| tombstone.serial));
    assert!(serials.into_iter().eq(1..=2_000));
    assert!(view.archives.len() >= 2 && view.tombstones.len() <= 1_000);
}

#[test]
fn a_tombstone_leaves_the_list_only_for_an_archive_that_says_it_holds_it() {
    let (mut writer, keyring, _) = repository();
    let role = RoleName::retractions();
    let mut entries = Entries::new();
    (1..=1_000).for_each(|serial| add(&mut entries, serial));
    writer.set_entries(&role, entries.clone()).unwrap();
    writer.commit(&keyring, now(), LEASE).unwrap();
    let folded = fold(&entries).unwrap();

    let mut lost = entries.clone();
    lost.remove(&"retractions/7".parse().unwrap());
    assert!(matches!(writer.set_entries(&role, lost), Err(WriteError::TombstoneLost(name)) if name.file() == "7"));
    let mut without = folded.entries.clone();
    without.remove(&folded.target);
    assert!(matches!(writer.set_entries(&role, without), Err(WriteError::TombstoneLost(_))));
    writer.set_entries(&role, folded.entries.clone()).unwrap();
    writer.commit(&keyring, now(), LEASE).unwrap();
    assert_eq!(View::of(writer.trusted()).unwrap().archives.len(), 1);

    // An archive that holds what is still listed, or leaves a gap, has no meaning.
    let mut twice = folded.entries;
    let archive = twice.get_mut(&folded.target).unwrap();
    archive.custom = Some(serde_json::json!({ "archive": { "schema": 1, "first": 1, "last": 501 } }));
    let refused = writer.clone().set_entries(&role, twice).map_err(|error| error.to_string());
    assert!(refused.unwrap_err().contains("archive-0001"), "an archive is never changed");
}
