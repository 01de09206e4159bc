//! Every attack on the metadata has its own refusal, and a refusal changes nothing.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use sluice_metadata::{MetadataError, Profile, RoleName, Signer, Trusted, View, ViewError, Writer};
use sluice_model::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;
use support::*;

/// A repository of three commits, and a client that saw the second.
fn scene() -> (Writer, Trusted, Forge, Forge) {
    let (mut writer, _) = init();
    let pilot = RoleName::release(&rings()[1]);
    let first = Forge::of(&writer);
    writer.set_entries(&pilot, BTreeMap::from([patch("pilot", "a.deb", 1)])).unwrap();
    writer.set_entries(&RoleName::retractions(), BTreeMap::from([tombstone(1)])).unwrap();
    writer.commit(&keyring(), at(1), LEASE).unwrap();
    let client = Forge::of(&writer).verify_from_root(at(1)).unwrap();
    writer.set_entries(&pilot, BTreeMap::from([patch("pilot", "a.deb", 1), patch("pilot", "b.deb", 2)])).unwrap();
    writer.commit(&keyring(), at(2), LEASE).unwrap();
    let newest = Forge::of(&writer);
    (writer, client, first, newest)
}

fn at(minutes: u64) -> Timestamp {
    start().plus(Duration::from_secs(60 * minutes))
}

/// What the client of [`scene`] says to the newest state after `change`.
fn refused(change: impl FnOnce(&mut Forge, &Forge)) -> String {
    let (_, client, first, mut newest) = scene();
    let before = client.files();
    change(&mut newest, &first);
    let error = client.apply(&mut newest.read(), at(3)).unwrap_err();
    assert_eq!(client.files(), before);
    error.to_string()
}

fn expires(text: &'static str) -> impl FnOnce(&mut Value) {
    move |signed| signed["expires"] = json!(text)
}

#[test]
fn the_honest_state_is_accepted() {
    let (writer, client, _, newest) = scene();
    let client = client.apply(&mut newest.read(), at(3)).unwrap().trusted;
    assert_eq!(client.versions(), writer.trusted().versions());
}

#[test]
fn older_versions_are_refused_role_by_role() {
    let text = refused(|forge, first| forge.files = first.files.clone());
    assert_eq!(text, "timestamp: version 1 is older than the trusted version 2");
    let text = refused(|forge, first| {
        forge.files.insert("1.snapshot.json".into(), first.files["1.snapshot.json"].clone());
        forge.edit("timestamp", |signed| signed["meta"]["snapshot.json"] = first.meta_of("snapshot"));
    });
    assert_eq!(text, "snapshot: version 1 is older than the trusted version 2");
    for role in ["rel-pilot", "retractions"] {
        let text = refused(|forge, first| {
            let meta = first.meta_of(role);
            forge.edit("snapshot", |signed| signed["meta"][format!("{role}.json")] = meta).relink(&[]);
        });
        assert_eq!(text, format!("{role}: version 1 is older than the trusted version 2"));
    }
    let text = refused(|forge, _| {
        forge.edit("snapshot", |signed| signed["meta"]["targets.json"]["version"] = json!(0)).relink(&[]);
    });
    assert!(text.contains("must be at least 1"), "{text}");
    let (_, mut client, first, _) = scene();
    let root = &first.files["1.root.json"];
    client.update_root(root).unwrap();
    let mut other = first.clone();
    other.edit("root", expires("2030-01-01T00:00:00Z"));
    let error = client.update_root(&other.files["1.root.json"]).unwrap_err();
    assert_eq!(error.to_string(), "root: version 1, but version 2 was expected");
}

#[test]
fn two_files_under_one_version_are_refused() {
    let same = |role: &str| format!("{role}: version 2 was seen before with other bytes");
    let (_, client, _, _) = scene();
    let mut forge =
        Forge { files: client.files().into_iter().map(|(n, b)| (n, b.to_vec())).collect(), keyring: keyring() };
    let original = forge.clone();
    forge.edit("timestamp", |signed| signed["x-note"] = json!("other"));
    assert_eq!(client.apply(&mut forge.read(), at(3)).unwrap_err().to_string(), same("timestamp"));
    let mut forge = original.clone();
    forge.edit("snapshot", |signed| signed["x-note"] = json!("other")).edit("timestamp", bump).relink(&[]);
    assert_eq!(client.apply(&mut forge.read(), at(3)).unwrap_err().to_string(), same("snapshot"));
    let mut forge = original;
    forge.edit("retractions", |signed| signed["targets"] = json!({})).republish(&["retractions"]);
    assert_eq!(client.apply(&mut forge.read(), at(3)).unwrap_err().to_string(), same("retractions"));
}

#[test]
fn files_of_two_states_cannot_be_mixed() {
    let (_, client, first, newest) = scene();
    for role in ["snapshot", "rel-pilot"] {
        let mut mixed = newest.clone();
        let older = first.files[&first.file_of(role)].clone();
        *mixed.bytes_of(role) = older;
        let error = client.apply(&mut mixed.read(), at(3)).unwrap_err();
        assert!(matches!(error, MetadataError::WrongLength { .. } | MetadataError::WrongHash { .. }), "{error}");
        mixed.files.remove(&mixed.file_of(role));
        assert!(matches!(client.apply(&mut mixed.read(), at(3)), Err(MetadataError::Missing { .. })));
    }
}

#[test]
fn expired_metadata_is_refused_whichever_role_it_is() {
    let over = "2026-11-21T20:40:00Z";
    for role in ["timestamp", "snapshot", "fleet", "targets", "retractions"] {
        let text = refused(|forge, _| {
            forge.edit(role, |signed| {
                expires("2026-11-21T20:40:00Z")(signed);
                if role != "timestamp" && role != "snapshot" {
                    bump(signed);
                }
            });
            match role {
                "timestamp" => {}
                "snapshot" => _ = forge.relink(&[]),
                role => _ = forge.relink(&[role]),
            }
        });
        assert_eq!(text, format!("{role}: expired at {}", over.replace("00Z", "00.000Z")));
    }
    let (_, client, _, newest) = scene();
    let later = at(2).plus(LEASE);
    let error = client.apply(&mut newest.read(), later).unwrap_err();
    assert_eq!(error, MetadataError::Expired { role: RoleName::timestamp(), expired_at: later });
    let year = at(0).plus(Duration::from_secs(366 * 24 * 3600));
    let error = client.apply(&mut newest.read(), year).unwrap_err();
    assert!(matches!(error, MetadataError::Expired { role, .. } if role == RoleName::root()));
}

#[test]
fn a_release_role_that_ran_out_stops_its_ring_and_no_other() {
    let (_, client, _, mut newest) = scene();
    newest.edit("rel-pilot", |signed| {
        expires("2026-11-21T20:40:00Z")(signed);
        bump(signed);
    });
    newest.relink(&["rel-pilot"]);
    let client = client.apply(&mut newest.read(), at(3)).unwrap().trusted;
    let view = View::of(&client).unwrap();
    let [validation, pilot, production] = [0, 1, 2].map(|idx| rings()[idx].clone());
    assert!(view.has_lapsed(&pilot, at(3)) && !view.has_lapsed(&production, at(3)));
    assert!(!view.has_lapsed(&pilot, at(2)), "its very end is what counts");
    assert_eq!(view.open_rings(&rings(), at(3)), [validation, production]);
    assert_eq!(view.lease_until, at(2).plus(LEASE), "the lease of everything else is the timestamp's");
    assert!(!view.releases[&pilot].is_empty(), "its rows are known still: they lead back from what is retracted");
}

#[test]
fn a_freeze_ends_with_the_lease_even_when_only_the_snapshot_is_old() {
    let (_, client, _, _) = scene();
    let mut frozen =
        Forge { files: client.files().into_iter().map(|(n, b)| (n, b.to_vec())).collect(), keyring: keyring() };
    // The timestamp key alone is stolen: the attacker signs new timestamps over the old snapshot for ever.
    frozen.edit("timestamp", |signed| {
        bump(signed);
        expires("2030-01-01T00:00:00Z")(signed);
    });
    let client = client.apply(&mut frozen.read(), at(3)).unwrap().trusted;
    let fleet_signed_at = at(0);
    assert_eq!(client.lease_until(), Some(fleet_signed_at.plus(Duration::from_secs(7 * 24 * 3600))));
}

#[test]
fn a_wrong_key_a_missing_signature_and_a_doubled_one_are_refused() {
    let stranger = Signer::from_seed([99; 32]);
    for role in ["timestamp", "snapshot", "rel-pilot", "retractions"] {
        let text = refused(|forge, _| {
            let value: Value = serde_json::from_slice(forge.bytes_of(role)).unwrap();
            let mut signed = value["signed"].clone();
            if !["timestamp", "snapshot", "rel-pilot"].contains(&role) {
                bump(&mut signed);
            }
            let bytes = sign(&signed, std::slice::from_ref(&stranger));
            let version = signed["version"].as_u64().unwrap();
            let file = if role == "timestamp" { "timestamp.json".into() } else { format!("{version}.{role}.json") };
            forge.files.insert(file, bytes);
            match role {
                "timestamp" => {}
                "snapshot" => _ = forge.relink(&[]),
                role => _ = forge.relink(&[role]),
            }
        });
        let by = if ["timestamp", "snapshot"].contains(&role) { "root 1" } else { "targets 1" };
        assert_eq!(text, format!("{role}: 0 valid signatures of the 1 that {by} demands"));
    }
    let text = refused(|forge, _| {
        let mut value: Value = serde_json::from_slice(forge.bytes_of("timestamp")).unwrap();
        let twice = value["signatures"][0].clone();
        value["signatures"].as_array_mut().unwrap().push(twice);
        *forge.bytes_of("timestamp") = serde_json::to_vec(&value).unwrap();
    });
    assert!(text.starts_with("timestamp: two signatures name the key "), "{text}");
}

#[test]
fn a_threshold_counts_distinct_keys() {
    let (_, client, _, mut newest) = scene();
    let second = Signer::from_seed([77; 32]);
    let first_key = newest.keyring.signers(&RoleName::timestamp())[0].key_id().to_string();
    newest.edit("root", |signed| {
        bump(signed);
        signed["keys"][second.key_id().as_str()] = json!({"keytype": "ed25519", "scheme": "ed25519",
            "keyval": {"public": hex::encode(second.public_key())}});
        signed["roles"]["timestamp"] = json!({"keyids": [first_key, second.key_id().as_str()], "threshold": 2});
    });
    let error = client.apply(&mut newest.read(), at(3)).unwrap_err();
    assert_eq!(error.to_string(), "timestamp: 1 valid signatures of the 2 that root 2 demands");
    newest.keyring.insert(RoleName::timestamp(), second);
    newest.edit("timestamp", bump);
    client.apply(&mut newest.read(), at(3)).unwrap();

    // The same key under a second id would count twice: an id must be the hash of its key.
    let text = refused(|forge, _| {
        forge.edit("root", |signed| {
            bump(signed);
            let key = signed["keys"][&first_key].clone();
            signed["keys"]["ab".repeat(32)] = key;
            signed["roles"]["timestamp"] = json!({"keyids": [first_key, "ab".repeat(32)], "threshold": 2});
        });
    });
    assert_eq!(text, format!("root: key id {} is not the SHA-256 of its key", "ab".repeat(32)));
    let text = refused(|forge, _| {
        forge.edit("root", |signed| {
            bump(signed);
            signed["roles"]["timestamp"]["keyids"] = json!([first_key, first_key]);
        });
    });
    assert!(text.contains("twice"), "{text}");
}

#[test]
fn a_root_needs_the_old_and_the_new_keys_the_next_version_and_the_same_repository() {
    let text = refused(|forge, _| {
        forge.keyring = Default::default();
        forge.keyring.insert(RoleName::root(), Signer::from_seed([98; 32]));
        forge.edit("root", bump);
    });
    assert_eq!(text, "root: 0 valid signatures of the 1 that root 1 demands");
    let text = refused(|forge, _| {
        let next = Signer::from_seed([97; 32]);
        forge.edit("root", |signed| {
            bump(signed);
            let id = next.key_id().to_string();
            signed["keys"][&id] = json!({"keytype": "ed25519", "scheme": "ed25519",
                "keyval": {"public": hex::encode(next.public_key())}});
            signed["roles"]["root"]["keyids"] = json!([id]);
        });
    });
    assert_eq!(text, "root: 0 valid signatures of the 1 that root 2 demands");
    let text = refused(|forge, _| {
        forge.edit("root", |signed| signed["version"] = json!(3));
        let skipped = forge.files["3.root.json"].clone();
        forge.files.insert("2.root.json".into(), skipped);
    });
    assert_eq!(text, "root: version 3, but version 2 was expected");
}

#[test]
fn a_rotation_of_the_online_keys_heals_a_fast_forward() {
    let (_, client, _, mut newest) = scene();
    // Stolen keys move every version far ahead.
    newest.edit("rel-pilot", |signed| signed["version"] = json!(1_000_000));
    newest.edit("snapshot", |signed| signed["version"] = json!(1_000_000));
    newest.edit("timestamp", |signed| signed["version"] = json!(1_000_000)).relink(&["rel-pilot"]);
    let poisoned = client.apply(&mut newest.read(), at(3)).unwrap().trusted;
    assert_eq!(poisoned.timestamp_version(), 1_000_000);

    let (_, _, _, mut honest) = scene();
    let error = poisoned.apply(&mut honest.read(), at(3)).unwrap_err();
    assert!(matches!(error, MetadataError::Rollback { .. }));
    let fresh = [("timestamp", [70; 32]), ("snapshot", [71; 32])].map(|(name, seed)| (name, Signer::from_seed(seed)));
    honest.edit("root", |signed| {
        bump(signed);
        for (name, key) in &fresh {
            let id = key.key_id().to_string();
            signed["keys"][&id] = json!({"keytype": "ed25519", "scheme": "ed25519",
                "keyval": {"public": hex::encode(key.public_key())}});
            signed["roles"][*name]["keyids"] = json!([id]);
        }
    });
    let old = poisoned.apply(&mut honest.read(), at(3)).unwrap_err();
    assert!(matches!(old, MetadataError::ThresholdNotReached { .. }), "the stolen keys are worth nothing: {old}");
    for (name, key) in fresh {
        honest.keyring.insert(role(name), key);
    }
    honest.republish(&[]);
    let healed = poisoned.apply(&mut honest.read(), at(3)).unwrap().trusted;
    assert_eq!(healed.timestamp_version(), 4);
    assert!(View::of(&healed).unwrap().releases[&rings()[1]].len() == 2);
}

#[test]
fn wrong_lengths_hashes_and_oversize_are_refused_before_parsing() {
    let text = refused(|forge, _| forge.bytes_of("snapshot").push(b' '));
    assert!(text.starts_with("snapshot: ") && text.contains("but the signed metadata says"), "{text}");
    let text = refused(|forge, _| *forge.bytes_of("rel-pilot").last_mut().unwrap() = b' ');
    assert!(text.starts_with("rel-pilot: sha256 is "), "{text}");
    for (role, length) in [("timestamp", 4_097), ("snapshot", 524_289), ("rel-pilot", 1_048_577)] {
        let text = refused(|forge, _| *forge.bytes_of(role) = vec![b'['; length]);
        assert_eq!(text, format!("{role}: {length} bytes are more than the {} that are allowed", length - 1));
    }
    let text = refused(|forge, _| drop(forge.files.insert("2.root.json".into(), vec![b'['; 65_537])));
    assert_eq!(text, "root: 65537 bytes are more than the 65536 that are allowed");
}

/// Replaces text in a file and signs nothing: the scan comes before the signatures.
fn replace(forge: &mut Forge, role: &str, from: &str, to: &str) {
    let text = String::from_utf8(forge.bytes_of(role).clone()).unwrap();
    assert!(text.contains(from));
    *forge.bytes_of(role) = text.replacen(from, to, 1).into_bytes();
}

#[test]
fn json_with_two_meanings_is_refused() {
    let text = refused(|forge, _| replace(forge, "timestamp", "\"version\":3", "\"version\":2,\"version\":3"));
    assert!(text.starts_with("timestamp: duplicate key \"version\""), "{text}");
    let text = refused(|forge, _| replace(forge, "timestamp", "\"version\":3", "\"version\":3.0"));
    assert!(text.contains("not an integer"), "{text}");
    let deep = format!("\"version\":{}1{}", "[".repeat(30), "]".repeat(30));
    let text = refused(|forge, _| replace(forge, "timestamp", "\"version\":3", &deep));
    assert!(text.contains("nested deeper than 24"), "{text}");
    let text = refused(|forge, _| forge.bytes_of("timestamp").extend_from_slice(b"{}"));
    assert!(text.contains("trailing characters"), "{text}");
}

#[test]
fn what_breaks_the_format_is_refused_even_when_it_is_signed() {
    type Edit = fn(&mut Value);
    let cases: [(&str, Edit, &str); 11] = [
        ("timestamp", |s| s["meta"]["more.json"] = s["meta"]["snapshot.json"].clone(), "more.json"),
        ("timestamp", |s| s["expires"] = json!("2027-01-01T00:00:00.5Z"), "expires"),
        ("timestamp", |s| s["spec_version"] = json!("2.0.0"), "spec_version"),
        ("timestamp", |s| s["unknown"] = json!(1), "unknown"),
        ("timestamp", |s| s["meta"]["snapshot.json"]["hashes"]["sha512"] = json!("00"), "sha512"),
        ("timestamp", |s| s["_type"] = json!("snapshot"), "says that it is \"snapshot\""),
        ("timestamp", |s| s["x-issued"] = json!(1), "issued at 1970"),
        ("timestamp", |s| s["x-retractions"]["serial"] = json!(0), "its highest retraction is 0"),
        ("root", |s| (bump(s), s["x-repo-id"] = json!("other")).0, "repository id \"other\""),
        ("root", |s| (bump(s), s["consistent_snapshot"] = json!(false)).0, "must be true"),
        ("root", |s| (bump(s), s["roles"]["root"]["threshold"] = json!(0)).0, "must be at least 1"),
    ];
    for (role, edit, expected) in cases {
        let text = refused(|forge, _| {
            forge.edit(role, edit);
        });
        assert!(text.starts_with(role) && text.contains(expected), "{expected}: {text}");
    }
    let cases: [(&str, Edit, &str); 6] = [
        ("rel-pilot", |s| s["targets"]["../etc/passwd"] = s["targets"]["patches/pilot/a.deb"].clone(), "target name"),
        ("rel-pilot", |s| s["delegations"] = json!({"keys": {}, "roles": []}), "delegations"),
        ("targets", |s| s["delegations"]["roles"][0]["terminating"] = json!(false), "terminating"),
        ("targets", |s| s["delegations"]["roles"][1]["name"] = json!("retractions"), "is taken"),
        ("targets", |s| s["delegations"]["roles"] = json!(vec![0; 33]), "33 items are more than 32"),
        ("targets", |s| s["targets"]["fleet/roster"] = json!({}), "1 targets are more than 0"),
    ];
    for (role, edit, expected) in cases {
        let text = refused(|forge, _| {
            forge.edit(role, |s| (bump(s), edit(s)).0).relink(&[role]);
        });
        assert!(text.starts_with(role) && text.contains(expected), "{expected}: {text}");
    }
}

#[test]
fn a_snapshot_can_neither_drop_a_role_nor_lack_a_delegated_one() {
    let drop_role = |s: &mut Value| drop(s["meta"].as_object_mut().unwrap().remove("retractions.json"));
    let text = refused(|forge, _| {
        forge.edit("snapshot", drop_role).relink(&[]);
    });
    assert_eq!(text, "snapshot: no longer lists retractions");
    let (_, _, _, mut forge) = scene();
    forge.edit("snapshot", drop_role).relink(&[]);
    let error = forge.verify_from_root(at(3)).unwrap_err();
    assert_eq!(error.to_string(), "snapshot: does not list retractions, which is delegated to");
}

#[test]
fn a_row_outside_a_role_s_paths_has_no_effect_and_is_named() {
    let (_, client, _, mut forge) = scene();
    forge.edit("rel-pilot", |signed| {
        bump(signed);
        let row = signed["targets"]["patches/pilot/a.deb"].clone();
        for name in ["patches/production/a.deb", "fleet/roster", "elsewhere/a.deb", "patches/pilot/deep/a.deb"] {
            signed["targets"][name] = row.clone();
        }
    });
    forge.relink(&["rel-pilot"]);
    let view = View::of(&client.apply(&mut forge.read(), at(3)).unwrap().trusted).unwrap();
    assert!(view.releases[&rings()[2]].is_empty() && view.document("fleet/roster").is_none());
    assert_eq!(view.releases[&rings()[1]].len(), 2);
    let ignored: Vec<String> = view.ignored.iter().map(|row| format!("{}: {}", row.target, row.reason)).collect();
    assert_eq!(
        ignored,
        [
            "elsewhere/a.deb: no delegation covers it",
            "fleet/roster: fleet decides on it",
            "patches/pilot/deep/a.deb: no delegation covers it",
            "patches/production/a.deb: rel-production decides on it",
        ]
    );
}

#[test]
fn the_first_delegation_that_covers_a_name_is_the_kill_switch() {
    let (_, client, _, mut forge) = scene();
    forge.edit("targets", |signed| {
        bump(signed);
        let paths = signed["delegations"]["roles"][0]["paths"].as_array_mut().unwrap();
        paths.push(json!("patches/*/a.deb"));
    });
    forge.relink(&["targets"]);
    let view = View::of(&client.apply(&mut forge.read(), at(3)).unwrap().trusted).unwrap();
    let left: Vec<&str> = view.releases[&rings()[1]].iter().map(|row| row.target.file()).collect();
    assert_eq!(left, ["b.deb"]);
    assert_eq!(view.ignored[0].reason, "retractions decides on it");
}

#[test]
fn a_withheld_or_unreadable_tombstone_leaves_no_view() {
    let (_, client, _, newest) = scene();
    let mut forge = newest.clone();
    forge.edit("timestamp", |signed| signed["x-retractions"] = json!({"count": 2, "serial": 2}));
    let trusted = client.apply(&mut forge.read(), at(3)).unwrap().trusted;
    assert!(matches!(View::of(&trusted), Err(ViewError::RetractionsWithheld { serial: 1, serial_signed: 2, .. })));
    let mut forge = newest;
    forge.edit("retractions", |signed| {
        bump(signed);
        signed["targets"]["retractions/1"]["custom"]["tombstone"]["serial"] = json!(2);
    });
    forge.relink(&["retractions"]);
    let trusted = client.apply(&mut forge.read(), at(3)).unwrap().trusted;
    let error = View::of(&trusted).unwrap_err().to_string();
    assert_eq!(error, "retractions: retractions/1: serial 2 is not its name");
}

#[test]
fn a_cached_role_loses_its_authority_when_its_keys_change() {
    let (_, client, _, mut forge) = scene();
    let next = Signer::from_seed([60; 32]);
    forge.edit("targets", |signed| {
        bump(signed);
        let id = next.key_id().to_string();
        signed["delegations"]["keys"][&id] = json!({"keytype": "ed25519", "scheme": "ed25519",
            "keyval": {"public": hex::encode(next.public_key())}});
        signed["delegations"]["roles"][0]["keyids"] = json!([id]);
    });
    forge.republish(&["targets"]);
    let error = client.apply(&mut forge.read(), at(3)).unwrap_err();
    assert_eq!(error.to_string(), "retractions: 0 valid signatures of the 1 that targets 2 demands");
}

#[test]
fn a_file_that_comes_too_early_or_from_nowhere_is_refused() {
    let (_, _, _, newest) = scene();
    let mut fresh = Trusted::new(&newest.files["1.root.json"], Profile::Strict).unwrap();
    let snapshot = &newest.files[&newest.file_of("snapshot")];
    let error = fresh.update_snapshot(snapshot, at(3)).unwrap_err();
    assert_eq!(error.to_string(), "snapshot: cannot be verified before timestamp");
    let pilot = &newest.files[&newest.file_of("rel-pilot")];
    let (name, targets) = (role("rel-pilot"), RoleName::targets());
    let error = fresh.update_role(&name, &targets, pilot, at(3)).unwrap_err();
    assert_eq!(error.to_string(), "rel-pilot: cannot be verified before snapshot");
    fresh = newest.verify_from_root(at(3)).unwrap();
    let error = fresh.update_role(&name, &RoleName::fleet(), pilot, at(3)).unwrap_err();
    assert_eq!(error.to_string(), "fleet does not delegate to rel-pilot");
    let error = fresh.update_role(&role("rel-moon"), &targets, pilot, at(3)).unwrap_err();
    assert_eq!(error.to_string(), "targets does not delegate to rel-moon");
}

#[test]
fn a_key_that_is_only_added_does_not_open_the_way_back() {
    let (_, client, first, mut newest) = scene();
    let added = Signer::from_seed([72; 32]);
    newest.edit("root", |signed| {
        bump(signed);
        let id = added.key_id().to_string();
        signed["keys"][&id] = json!({"keytype": "ed25519", "scheme": "ed25519",
            "keyval": {"public": hex::encode(added.public_key())}});
        signed["roles"]["timestamp"]["keyids"].as_array_mut().unwrap().push(json!(id));
    });
    let with_new_root = |state: &Forge| {
        let mut files = state.files.clone();
        files.insert("2.root.json".into(), newest.files["2.root.json"].clone());
        Forge { files, keyring: keyring() }
    };
    let error = client.apply(&mut with_new_root(&first).read(), at(3)).unwrap_err();
    assert!(matches!(error, MetadataError::Rollback { .. }), "{error}");
    let moved = client.apply(&mut with_new_root(&newest).read(), at(3)).unwrap().trusted;
    assert_eq!((moved.root_version(), moved.timestamp_version()), (2, 3));
    let files = moved.files();
    assert_eq!(Trusted::restore(&files, Profile::Strict, &[]).unwrap().versions(), moved.versions());
}
