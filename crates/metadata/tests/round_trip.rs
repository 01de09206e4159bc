//! What the writer signs, the verifier accepts and the view understands; across commits, restarts and renewals.
#![allow(clippy::unwrap_used)]

mod support;

use sluice_metadata::{
    DocumentError, MetadataError, Profile, RoleName, Trusted, View, WriteError, Writer, read_document, verify_document,
};
use sluice_model::Roster;
use std::collections::BTreeMap;
use std::time::Duration;
use support::*;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[test]
fn a_client_follows_several_commits_and_fetches_only_what_changed() {
    let (mut writer, publication) = init();
    assert_eq!(publication.files.last().unwrap().0, "timestamp.json");
    let mut client = Forge::of(&writer).verify_from_root(start()).unwrap();
    let empty = View::of(&client).unwrap();
    assert_eq!(empty.rings, rings());
    assert!(empty.tombstones.is_empty() && empty.documents.is_empty());

    let keyring = keyring();
    let pilot = RoleName::release(&rings()[1]);
    writer.set_entries(&pilot, BTreeMap::from([patch("pilot", "openssl.deb", 1)])).unwrap();
    let bytes = br#"{"schema":1,"members":[]}"#;
    writer.set_entries(&RoleName::fleet(), BTreeMap::from([document("fleet/roster", bytes)])).unwrap();
    let now = start().plus(MINUTE);
    let publication = writer.commit(&keyring, now, LEASE).unwrap();
    let names: Vec<&str> = publication.files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["2.fleet.json", "2.rel-pilot.json", "2.snapshot.json", "timestamp.json"]);

    let applied = client.apply(&mut Forge::of(&writer).read(), now).unwrap();
    assert_eq!(applied.changed.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), names);
    client = applied.trusted;
    let view = View::of(&client).unwrap();
    assert_eq!(view.releases[&rings()[1]][0].custom.patch_ref().to_string(), "openssl/3.0.22-1");
    assert!(view.releases[&rings()[2]].is_empty());
    assert_eq!((view.timestamp_version, view.issued_at, view.lease_until), (2, now, now.plus(LEASE)));
    let roster = view.document("fleet/roster").unwrap();
    assert_eq!(read_document::<Roster>(roster, bytes).unwrap().members, []);
    assert!(matches!(verify_document(roster, b"{}"), Err(DocumentError::WrongBytes { .. })));

    writer.set_entries(&pilot, BTreeMap::new()).unwrap();
    writer.set_entries(&RoleName::retractions(), BTreeMap::from([tombstone(1)])).unwrap();
    let publication = writer.commit(&keyring, now, LEASE).unwrap();
    // The publication alone is enough for who has everything before it: this is what gossip carries.
    let bundle: BTreeMap<String, Vec<u8>> = publication.files.into_iter().collect();
    client = client.apply(&mut |name| bundle.get(name).cloned(), now).unwrap().trusted;
    let view = View::of(&client).unwrap();
    assert_eq!(view.tombstones[0].reason, "crashes\nat \"boot\" \\ é");
    assert!(view.releases[&rings()[1]].is_empty());
}

#[test]
fn a_shell_that_fetches_file_by_file_is_told_each_next_file() {
    let (mut writer, _) = init();
    let mut client = Forge::of(&writer).verify_from_root(start()).unwrap();
    writer.set_entries(&RoleName::retractions(), BTreeMap::from([tombstone(1)])).unwrap();
    writer.commit(&keyring(), start(), LEASE).unwrap();
    let mirror = Forge::of(&writer);

    assert_eq!(client.next_root().file, "2.root.json");
    assert!(client.next_needed().is_empty() && client.is_complete());
    let mut asked = Vec::new();
    let mut wanted = vec![client.next_timestamp()];
    while !wanted.is_empty() {
        for file in wanted {
            let bytes = &mirror.files[&file.file];
            assert!(bytes.len() as u64 <= file.length_max);
            client.accept(&file, bytes, start()).unwrap();
            asked.push(file.file);
        }
        wanted = client.next_needed();
    }
    assert_eq!(asked, ["timestamp.json", "2.snapshot.json", "2.retractions.json"]);
    assert!(client.is_complete());
}

#[test]
fn a_restart_verifies_again_and_does_not_fail_because_time_went_by() {
    let (mut writer, _) = init();
    writer.set_entries(&RoleName::retractions(), BTreeMap::from([tombstone(1)])).unwrap();
    writer.commit(&keyring(), start(), LEASE).unwrap();
    let client = Forge::of(&writer).verify_from_root(start()).unwrap();
    let files = client.files();

    let restored = Trusted::restore(&files, Profile::Strict, &[]).unwrap();
    assert_eq!(restored.versions(), client.versions());
    assert_eq!(restored.lease_until(), Some(start().plus(LEASE)));
    assert_eq!(View::of(&restored).unwrap(), View::of(&client).unwrap());
    // Roots alone are the state of a device that never saw a timestamp.
    let roots: Vec<_> = files.iter().filter(|(name, _)| name.ends_with("root.json")).cloned().collect();
    assert_eq!(Trusted::restore(&roots, Profile::Strict, &[]).unwrap().lease_until(), None);

    for (idx, (name, bytes)) in files.iter().enumerate() {
        let mut without = files.clone();
        without.remove(idx);
        assert!(Trusted::restore(&without, Profile::Strict, &[]).is_err(), "{name} is missing");
        let mut rotten = files.clone();
        let mut altered = bytes.to_vec();
        altered[bytes.len() / 2] ^= 1;
        rotten[idx].1 = altered.into();
        assert!(Trusted::restore(&rotten, Profile::Strict, &[]).is_err(), "{name} is rotten");
    }
}

#[test]
fn a_floor_keeps_a_machine_without_memory_from_older_metadata() {
    let (mut writer, _) = init();
    let old = Forge::of(&writer);
    writer.set_entries(&RoleName::retractions(), BTreeMap::from([tombstone(1)])).unwrap();
    writer.commit(&keyring(), start(), LEASE).unwrap();
    let floor = writer.trusted().versions();
    assert!(floor.contains(&("retractions".into(), 2)));

    let mut machine = Trusted::new(&old.files["1.root.json"], Profile::Strict).unwrap();
    machine.set_floor(&floor);
    let refused = machine.apply(&mut old.read(), start()).unwrap_err();
    assert_eq!(refused, MetadataError::Rollback { role: RoleName::timestamp(), found: 1, trusted: 2 });
    machine.set_floor(&[("retractions".into(), 2)]);
    let refused = machine.apply(&mut old.read(), start()).unwrap_err();
    assert_eq!(refused, MetadataError::Rollback { role: RoleName::retractions(), found: 1, trusted: 2 });
    machine.set_floor(&floor);
    assert!(machine.apply(&mut Forge::of(&writer).read(), start()).is_ok());
    let files: Vec<_> = old.files.iter().map(|(name, bytes)| (name.clone(), bytes.as_slice().into())).collect();
    assert!(matches!(Trusted::restore(&files, Profile::Strict, &floor), Err(MetadataError::Rollback { .. })));
}

#[test]
fn a_timestamp_alone_moves_the_lease_and_roles_near_their_end_are_renewed_with_it() {
    let (mut writer, _) = init();
    let keyring = keyring();
    let names = |publication: sluice_metadata::Publication| -> Vec<String> {
        publication.files.into_iter().map(|(name, _)| name).collect()
    };
    let now = start().plus(MINUTE);
    assert_eq!(names(writer.resign_timestamp(&keyring, now, LEASE).unwrap()), ["timestamp.json"]);
    assert_eq!(writer.trusted().lease_until(), Some(now.plus(LEASE)));

    let now = start().plus(5 * DAY);
    let renewed = names(writer.resign_timestamp(&keyring, now, LEASE).unwrap());
    assert_eq!(renewed, ["2.fleet.json", "2.policy.json", "2.retractions.json", "2.snapshot.json", "timestamp.json"]);

    // A year later everything has expired, root too; one signing brings all of it back and clients can follow.
    let client = Forge::of(&writer).verify_from_root(now).unwrap();
    let now = start().plus(400 * DAY);
    writer.resign_timestamp(&keyring, now, LEASE).unwrap();
    assert_eq!(writer.trusted().root_version(), 2);
    assert_eq!(writer.trusted().lease_until(), Some(now.plus(LEASE)));
    let client = client.apply(&mut Forge::of(&writer).read(), now).unwrap().trusted;
    assert_eq!(client.versions(), writer.trusted().versions());
    assert!(client.files().iter().any(|(name, _)| name == "1.root.json"), "the chain of roots is kept for others");
}

#[test]
fn a_loaded_writer_goes_on_where_the_stored_one_stopped() {
    let (mut writer, _) = init();
    writer.set_entries(&RoleName::retractions(), BTreeMap::from([tombstone(1)])).unwrap();
    writer.commit(&keyring(), start(), LEASE).unwrap();
    let mut loaded = Writer::load(&writer.trusted().files()).unwrap();
    assert_eq!(loaded.entries(&RoleName::retractions()), writer.entries(&RoleName::retractions()));
    let again = loaded.commit(&keyring(), start().plus(MINUTE), LEASE).unwrap();
    assert_eq!(again, writer.commit(&keyring(), start().plus(MINUTE), LEASE).unwrap());
    assert!(matches!(Writer::load(&[]), Err(WriteError::Refused(MetadataError::Missing { .. }))));
}

#[test]
fn what_a_client_would_refuse_is_not_signed_and_nothing_has_changed() {
    let (mut writer, _) = init();
    let keyring = keyring();
    let pilot = RoleName::release(&rings()[1]);
    let set = |writer: &mut Writer, role: &RoleName, rows: Vec<_>| writer.set_entries(role, rows.into_iter().collect());

    let error = set(&mut writer, &pilot, vec![patch("production", "a.deb", 1)]).unwrap_err();
    assert_eq!(error.to_string(), "rel-pilot may not list patches/production/a.deb");
    assert!(matches!(set(&mut writer, &RoleName::targets(), vec![]), Err(WriteError::UnknownRole(_))));
    assert!(matches!(set(&mut writer, &role("rel-moon"), vec![]), Err(WriteError::UnknownRole(_))));
    let many = (0..1_501).map(|n| patch("pilot", &format!("{n}.deb"), n)).collect();
    let error = set(&mut writer, &pilot, many).unwrap_err();
    assert!(matches!(error, WriteError::RoleFull { count: 1_501, count_max: 1_500, .. }), "{error}");
    let mut float = patch("pilot", "a.deb", 1);
    float.1.custom = Some(serde_json::json!({"patch": 1.5}));
    assert!(matches!(set(&mut writer, &pilot, vec![float]), Err(WriteError::BadCustom { .. })));

    let many = (0..1_400).map(|n| patch("pilot", &format!("{n}.deb"), n)).collect();
    set(&mut writer, &pilot, many).unwrap();
    let before = writer.trusted().files();
    assert!(matches!(writer.commit(&keyring, start(), LEASE), Err(WriteError::RoleTooLarge { .. })));
    let mut unreadable = patch("pilot", "a.deb", 1);
    unreadable.1.custom = None;
    set(&mut writer, &pilot, vec![unreadable]).unwrap();
    assert!(matches!(writer.commit(&keyring, start(), LEASE), Err(WriteError::NoEffect { .. })));
    assert_eq!(writer.trusted().files(), before);

    set(&mut writer, &pilot, vec![]).unwrap();
    set(&mut writer, &RoleName::retractions(), vec![tombstone(1)]).unwrap();
    writer.commit(&keyring, start(), LEASE).unwrap();
    assert!(matches!(set(&mut writer, &RoleName::retractions(), vec![]), Err(WriteError::TombstoneLost(_))));
    let earlier = start();
    writer.commit(&keyring, start().plus(MINUTE), LEASE).unwrap();
    assert!(matches!(writer.commit(&keyring, earlier, LEASE), Err(WriteError::ClockBehind { .. })));
    assert!(matches!(writer.commit(&keyring, start().plus(MINUTE), MINUTE / 60), Err(WriteError::LeaseTooShort(_))));
    let error = writer.resign_timestamp(&Default::default(), start().plus(MINUTE), LEASE).unwrap_err();
    assert_eq!(error.to_string(), "timestamp needs 1 signatures and this server holds 0 of its keys");
}
