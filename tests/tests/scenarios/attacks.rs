//! The attacks: each a repository as somebody with some of its keys, or none, would serve it.

use crate::forge::{Forge, new_key, sha256};
use crate::server::Reply;
use crate::stage::{Stage, paths_of, target_of};
use crate::table::{Agent, Case, Foreign, Node};
use serde_json::json;
use sluice_model::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

const UNSIGNED: [&str; 2] = ["UnsignedMetadataError", "UnsignedMetadataError"];
const EVIL: &str = "patches/production/evil_1.0_all.deb";

/// Every attack on clients that trust `now`; `yesterday` is what was right before.
pub fn all(stage: &Stage, yesterday: &Forge, now: &Forge) -> Vec<Case> {
    let mut cases = keys(now);
    cases.extend(old_files(yesterday, now));
    cases.extend(bytes(stage, now));
    cases.extend(owners(stage, now));
    cases
}

/// A row that lists content nobody approved.
fn evil() -> serde_json::Value {
    json!({"length": 4, "hashes": {"sha256": sha256(b"evil")}})
}

/// Signatures by too few, or by the wrong.
fn keys(now: &Forge) -> Vec<Case> {
    let mut bad_rotation = now.clone();
    bad_rotation.set_root(&[("root", vec![new_key(40), new_key(41)], 2)]);
    bad_rotation.put_root(&[new_key(40), new_key(41)]);
    bad_rotation.seal();

    let mut one_of_two = now.clone();
    let old = one_of_two.keys["root"].clone();
    one_of_two.set_root(&[("root", vec![new_key(42)], 1)]);
    one_of_two.put_root(&[old[0].clone(), new_key(42)]);
    one_of_two.seal();

    let mut twice = now.clone();
    let server = twice.keys["rel-production"][0].clone();
    twice.change_with("rel-production", &[server.clone(), server], |body| {
        body["targets"][EVIL] = evil();
    });

    let mut release = now.clone();
    let server = release.keys["rel-production"][0].clone();
    release.change_with("rel-production", &[server], |body| {
        body["targets"][EVIL] = evil();
    });

    let mut whole_server = now.clone();
    let online: Vec<_> = ["retractions", "fleet", "policy", "snapshot", "timestamp"]
        .iter()
        .flat_map(|role| whole_server.keys[*role].clone())
        .collect();
    whole_server.change_with("rel-production", &online, |body| {
        body["targets"][EVIL] = evil();
    });

    let short = "valid signatures of the 2 that";
    vec![
        Case::refused("bad rotation: only the new keys signed", bad_rotation, short, UNSIGNED),
        Case::refused("stolen root key, below the threshold", one_of_two, short, UNSIGNED),
        Case::refused(
            "stolen release key, below the threshold",
            release,
            short,
            ["UnsignedMetadataError", "signed by"],
        ),
        Case::refused("stolen release key signs twice", twice, "two signatures name the key", ["", ""]),
        Case::refused(
            "whole server stolen: every online key",
            whole_server,
            short,
            ["UnsignedMetadataError", "signed by"],
        ),
    ]
}

/// Files that were right once.
fn old_files(yesterday: &Forge, now: &Forge) -> Vec<Case> {
    let mut old_snapshot = now.clone();
    let meta = yesterday.signed("timestamp")["meta"].clone();
    old_snapshot.seal();
    old_snapshot.stamp_with(|body| {
        body.insert("meta".into(), meta);
    });

    let mut old_retractions = now.clone();
    let version = old_retractions.version("retractions") - 1;
    let file = old_retractions.files[&format!("{version}.retractions.json")].clone();
    old_retractions.seal_with(
        |body| {
            body["meta"]["retractions.json"] =
                json!({"version": version, "length": file.len(), "hashes": {"sha256": sha256(&file)}});
        },
        |_| {},
    );

    let mut without = now.clone();
    without.seal_with(
        |body| {
            body["meta"].as_object_mut().unwrap().remove("retractions.json");
        },
        |_| {},
    );

    let mut emptied = now.clone();
    emptied.change("retractions", |body| {
        body.insert("targets".into(), json!({}));
    });
    let mut withheld = Case::taken("retraction key signs the tombstones away", emptied);
    withheld.node = Node::Refuses("its highest retraction is 0, before the trusted one's 3");
    withheld.agent = Agent::Refuses("its highest retraction is 0, before the trusted one's 3");

    let mut expired = now.clone();
    expired.seal_with(
        |_| {},
        |body| {
            let then = Timestamp::from_millis(crate::stage::now().as_millis() - 60_000);
            body.insert("expires".into(), json!(then.to_seconds_text()));
        },
    );

    let old_words = "is older than the trusted version";
    vec![
        Case::refused("whole rollback", yesterday.clone(), old_words, ["BadVersionNumberError", "BadVersionError"]),
        Case::refused(
            "old snapshot under a fresh timestamp",
            old_snapshot,
            old_words,
            ["BadVersionNumberError", "ersion"],
        ),
        Case::refused(
            "old retractions in a new snapshot",
            old_retractions,
            old_words,
            ["BadVersionNumberError", "ersion"],
        ),
        Case::refused(
            "no retractions in a new snapshot",
            without,
            "no longer lists retractions",
            ["RepositoryError", ""],
        ),
        withheld,
        Case::refused("expired timestamp", expired, "expired at", ["ExpiredMetadataError", "Expired"]),
    ]
}

/// Bytes that are not the signed ones.
fn bytes(stage: &Stage, now: &Forge) -> Vec<Case> {
    let mut flipped = now.clone();
    flipped.change("targets", |_| {});
    let name = format!("{}.targets.json", flipped.version("targets"));
    let file = flipped.files.get_mut(&name).unwrap();
    let middle = file.len() / 2;
    file[middle] ^= 0x01;

    let mut mixed = now.clone();
    let mut other = now.clone();
    for (forge, value) in [(&mut mixed, json!(true)), (&mut other, json!(null))] {
        forge.seal_with(
            |body| {
                body.insert("x-other".into(), value);
            },
            |_| {},
        );
    }
    let snapshot = format!("{}.snapshot.json", mixed.version("snapshot"));
    mixed.files.insert(snapshot.clone(), other.files[&snapshot].clone());

    let mut newer = now.clone();
    newer.seal();
    let mut altered = std::fs::read(&stage.good.debs[0].path).unwrap();
    altered[1000] ^= 0x80;
    let altered: Arc<[u8]> = altered.into();
    let good = target_of(&stage.good);
    let content = |reply: Reply| -> BTreeMap<String, Reply> {
        paths_of(&good, &stage.good.debs[0].sha256).into_iter().map(|path| (path, reply.clone())).collect()
    };

    let lengths = ["LengthOrHashMismatchError", ""];
    let mut cases = vec![
        Case::refused("flipped bit in a role", flipped, "sha256 is", lengths),
        Case::refused("mix-and-match: two snapshots of one version", mixed, "sha256 is", lengths),
        Case {
            changed: content(Reply::Bytes(altered)),
            direct: Foreign::NotDelivered(0),
            ..Case::taken("flipped bit in an artifact", newer.clone())
        },
        Case {
            changed: content(Reply::Endless),
            direct: Foreign::NotDelivered(0),
            ..Case::taken("endless artifact", newer.clone())
        },
    ];
    let endless = BTreeMap::from([("/tuf/metadata/timestamp.json".to_owned(), Reply::Endless)]);
    cases.push(Case {
        changed: endless,
        node: Node::StaysAfterRequests(3),
        agent: Agent::Refuses("metadata was not taken"),
        direct: Foreign::Refuses(["DownloadLengthMismatchError", "DownloadLengthMismatchError"]),
        ..Case::taken("endless timestamp", newer)
    });
    cases
}

/// What the owners of keys may do, and what they may not.
fn owners(stage: &Stage, now: &Forge) -> Vec<Case> {
    let good = target_of(&stage.good);
    let mut lists = now.clone();
    lists.change("retractions", |body| {
        body["targets"][EVIL] = evil();
    });
    let mut kill = now.clone();
    kill.change("targets", |body| {
        let paths = body["delegations"]["roles"][0]["paths"].as_array_mut().unwrap();
        paths.push(json!(good));
    });
    let mut retracted = now.clone();
    retracted.retract(&good);
    vec![
        Case {
            target: Some(EVIL.to_owned()),
            direct: Foreign::FindsNothing,
            through: Foreign::FindsNothing,
            ..Case::taken("retraction key lists a patch", lists)
        },
        Case {
            serves: [404, 410],
            direct: Foreign::FindsNothing,
            through: Foreign::FindsNothing,
            ..Case::taken("kill switch", kill)
        },
        Case {
            serves: [410, 410],
            through: Foreign::NotDelivered(410),
            ..Case::taken("retraction, release role as it was", retracted)
        },
    ]
}
