use super::*;
use crate::{DraftFile, RepositoryProfile, RootPlan, TargetsPlan, Terms};
use std::time::Duration;

fn key(seed: u8) -> Signer {
    Signer::from_seed([seed; 32])
}

fn terms(seeds: &[u8], threshold: u32) -> Terms {
    Terms::new(seeds.iter().map(|seed| key(*seed).public_key()), threshold)
}

fn root() -> RootPlan {
    let roles = [
        (RoleName::root(), terms(&[1, 2, 3], 2)),
        (RoleName::targets(), terms(&[4, 5], 2)),
        (RoleName::snapshot(), terms(&[6], 1)),
        (RoleName::timestamp(), terms(&[7], 1)),
    ];
    RootPlan {
        version: 1,
        expires: Timestamp::from_millis(1_795_000_000_000),
        profile: RepositoryProfile::Standard,
        repo_id: "acme".into(),
        roles: roles.into_iter().collect(),
        names: [(1, "ann"), (2, "ben"), (3, "cat"), (4, "dan"), (5, "eve"), (99, "nobody")]
            .into_iter()
            .map(|(seed, name)| (key(seed).key_id(), name.to_owned()))
            .collect(),
    }
}

fn targets() -> TargetsPlan {
    let row = |role: &str, path: &str, terms: Terms| DelegationPlan {
        role: role.parse().unwrap(),
        terms,
        paths: vec![path.into()],
    };
    TargetsPlan {
        version: 1,
        expires: Timestamp::from_millis(1_795_000_000_000),
        delegations: vec![
            row("retractions", "retractions/*", terms(&[10], 1)),
            row("rel-pilot", "patches/pilot/*", terms(&[11], 1)),
            row("rel-production", "patches/production/*", terms(&[12, 13], 2)),
        ],
        names: [(key(13).key_id(), "dora".to_owned())].into(),
    }
}

#[test]
fn a_plan_survives_the_way_through_a_draft_and_names_of_foreign_keys_do_not() {
    let draft = root().to_draft();
    let read = RootPlan::of(&DraftFile::read_named("1.root.json", &draft.to_bytes()).unwrap()).unwrap();
    let mut expected = root();
    expected.names.remove(&key(99).key_id());
    assert_eq!(read, expected);
    let draft = targets().to_draft();
    let read = TargetsPlan::of(&DraftFile::read_named("1.targets.json", &draft.to_bytes()).unwrap()).unwrap();
    assert_eq!(read, targets());
}

#[test]
fn what_a_plan_does_not_say_is_not_wholly_said_by_it() {
    let draft = root().to_draft();
    let text = String::from_utf8(draft.to_bytes()).unwrap();
    let hidden = text.replace("\"x-repo-id\"", "\"x-hidden\":true,\"x-repo-id\"");
    let hidden = DraftFile::read(&RoleName::root(), hidden.as_bytes()).unwrap();
    let plan = RootPlan::of(&hidden).unwrap();
    assert!(!hidden.is_wholly(&plan.to_draft()));
    assert!(draft.is_wholly(&RootPlan::of(&draft).unwrap().to_draft()));
}

#[test]
fn a_signature_counts_once_a_key_and_only_for_the_keys_that_are_named() {
    let plan = root();
    let holders = plan.terms(&RoleName::root());
    let mut ann = plan.to_draft();
    ann.sign(&key(1));
    ann.sign(&key(1));
    assert_eq!((ann.missing(&holders), ann.reaches(&holders)), (1, false));
    let mut ben = plan.to_draft();
    ben.sign(&key(2));
    ben.sign(&key(50));
    ann.merge(&ben).unwrap();
    assert!(ann.reaches(&holders));
    ann.keep_valid(&[&holders]);
    assert!(!String::from_utf8(ann.to_bytes()).unwrap().contains(key(50).key_id().as_str()));

    let mut other = plan.next(Timestamp::from_millis(0)).to_draft();
    assert_eq!(other.merge(&ann), Err(CeremonyError::OtherContent { role: RoleName::root(), version: 2 }));
    let moved = String::from_utf8(ann.to_bytes()).unwrap().replace("\"version\":1", "\"version\":2");
    let moved = DraftFile::read(&RoleName::root(), moved.as_bytes()).unwrap();
    assert_eq!(moved.missing(&holders), 2, "a signature of other bytes counts for nothing");
}

#[test]
fn a_draft_is_explained_line_by_line() {
    let before = root();
    let mut after = before.next(before.expires);
    after.roles.insert(RoleName::root(), terms(&[1, 2, 8], 3));
    after.roles.insert(RoleName::timestamp(), terms(&[9], 1));
    after.names.insert(key(8).key_id(), "fay".into());
    let id = |seed: u8| key(seed).key_id().as_str()[..16].to_owned();
    let lines = explain_root(Some(&before), &after);
    let expected = [
        "root of repository acme, version 2".to_owned(),
        format!("valid until {}", after.expires.to_seconds_text()),
        format!("root: gets fay (key {})", id(8)),
        format!("root: loses cat (key {})", id(3)),
        "root: 3 of 3 must sign; it was 2 of 3".to_owned(),
        format!("timestamp: gets the unnamed key {}", id(9)),
        format!("timestamp: loses the unnamed key {}", id(7)),
    ];
    assert_eq!(lines, expected);
    let renewed = explain_root(Some(&before), &before.next(before.expires.plus(Duration::from_secs(1))));
    assert_eq!(renewed.last().unwrap(), "no key changes: this renews root");

    let before = targets();
    let mut after = before.next(before.expires);
    after.delegations[0].paths.push("patches/production/evil.deb".into());
    after.delegations.remove(1);
    let lines = explain_targets(Some(&before), &after);
    assert!(lines.contains(&"retractions: may list patches/production/evil.deb from now on".to_owned()), "{lines:?}");
    assert!(lines.contains(&"rel-pilot: ends; nothing that it lists is valid any more".to_owned()), "{lines:?}");
    let all = explain_targets(None, &before);
    assert!(all.contains(&format!("rel-production: is signed by dora (key {})", id(13))), "{all:?}");
    assert!(all.contains(&"rel-production: 2 of 2 must sign".to_owned()), "{all:?}");
}

#[test]
fn a_file_that_is_no_draft_is_refused_by_name_and_by_content() {
    let bytes = root().to_draft().to_bytes();
    for name in ["root.json", "x.root.json", "1.root.txt", "1.Root.json"] {
        assert!(DraftFile::read_named(name, &bytes).is_err(), "{name}");
    }
    assert!(DraftFile::read_named("1.targets.json", &bytes).is_err());
    assert!(DraftFile::read_named("1.root.json", b"{\"signed\":{}}").is_err());
    let more = String::from_utf8(bytes).unwrap().replacen('{', "{\"more\":1,", 1);
    assert!(DraftFile::read_named("1.root.json", more.as_bytes()).is_err());
}
