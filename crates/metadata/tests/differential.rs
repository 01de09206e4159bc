//! Two verifiers over one mutated repository: what ours accepts, sigstore-tuf accepts too, and both say the same of every
//! target. 2,000 cases every run, 100,000 with `SLUICE_TEST_FULL=1`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

#[path = "differential/mutate.rs"]
mod mutate;
#[path = "differential/oracle.rs"]
mod oracle;
mod support;

use mutate::Rng;
use oracle::{Cache, Oracle};
use serde_json::json;
use sluice_metadata::{Lookup, Profile, RoleName, Trusted, View};
use sluice_model::{Sha256, Timestamp};
use std::collections::BTreeMap;
use std::time::Duration;
use support::*;

const CASES: u64 = 2_000;
const CASES_FULL: u64 = 100_000;

/// A repository in its published states, and what each client knew after each of them.
struct Scene {
    states: Vec<Forge>,
    names: Vec<String>,
    is_ours: bool,
    known: Vec<(Option<Trusted>, Trusted, Cache)>,
}

impl Scene {
    fn new(states: Vec<Forge>, names: &[&str], is_ours: bool) -> Self {
        let mut scene =
            Self { states, names: names.iter().map(|name| (*name).to_owned()).collect(), is_ours, known: Vec::new() };
        for state in &scene.states {
            let root = &state.files["1.root.json"];
            let ours = |profile| {
                let trusted = Trusted::new(root, profile).unwrap();
                trusted.apply(&mut state.read(), at(4)).unwrap().trusted
            };
            let cache = Cache::default();
            Oracle::refreshed(root, cache.clone(), &state.files, theirs(at(4))).unwrap();
            scene.known.push((is_ours.then(|| ours(Profile::Strict)), ours(Profile::Foreign), cache));
        }
        scene
    }
}

fn at(minutes: u64) -> Timestamp {
    start().plus(Duration::from_secs(60 * minutes))
}

fn theirs(now: Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(now.as_millis().try_into().unwrap()).unwrap()
}

/// Our own repository, three publications.
fn ours() -> Scene {
    let (mut writer, _) = init();
    let mut states = vec![Forge::of(&writer)];
    let pilot = RoleName::release(&rings()[1]);
    let rows = [patch("pilot", "a.deb", 1), patch("pilot", "b.deb", 2)];
    for count in 1..=2 {
        writer.set_entries(&pilot, BTreeMap::from_iter(rows[..count].iter().cloned())).unwrap();
        writer.set_entries(&RoleName::retractions(), BTreeMap::from([tombstone(1)])).unwrap();
        writer.set_entries(&RoleName::fleet(), BTreeMap::from([document("fleet/roster", &[1])])).unwrap();
        writer.commit(&keyring(), at(count as u64), LEASE).unwrap();
        states.push(Forge::of(&writer));
    }
    let names =
        ["patches/pilot/a.deb", "patches/pilot/b.deb", "retractions/1", "fleet/roster", "patches/pilot/new.deb"];
    Scene::new(states, &names, true)
}

/// A foreign repository: delegations over three levels, a role that two others delegate to, hash prefixes.
fn nested() -> Scene {
    use support::foreign::{delegated, keys, repository, row, targets};
    let hash = sha256(b"d/one").to_hex();
    let top = targets(
        json!({"top": row("top")}),
        json!({"keys": keys(&["a", "b", "d"]), "roles": [
            delegated("a", "paths", &["a/*", "shared/*"], false),
            delegated("d", "path_hash_prefixes", &[&hash[..2]], true),
            delegated("b", "paths", &["*/*"], false)]}),
    );
    let child = json!({"keys": keys(&["c"]), "roles": [delegated("c", "paths", &["shared/*", "a/c*"], false)]});
    let none = json!({"keys": {}, "roles": []});
    let forge = repository(&[
        ("targets", top),
        ("a", targets(json!({"a/one": row("a one")}), child.clone())),
        ("b", targets(json!({"b/one": row("b one"), "a/one": row("not a's")}), child)),
        ("c", targets(json!({"shared/one": row("shared"), "a/c": row("a c")}), none.clone())),
        ("d", targets(json!({"d/one": row("d one")}), none)),
    ]);
    let mut next = forge.clone();
    next.edit("a", |signed| {
        bump(signed);
        signed["targets"]["a/two"] = row("a two");
    });
    next.republish(&["a"]);
    let names = ["top", "a/one", "a/two", "b/one", "shared/one", "a/c", "d/one", "a/new", "nothing"];
    Scene::new(vec![forge, next], &names, false)
}

/// What came of one case.
#[derive(Default)]
struct Tally {
    strict: u64,
    foreign: u64,
    found: u64,
    theirs: u64,
    cases: u64,
}

/// One mutated state, judged by all. The error tells the seed and what was done.
fn judge(scene: &Scene, seed: u64, tally: &mut Tally) -> Result<(), String> {
    let mut rng = Rng(seed);
    let mut forge = scene.states.last().unwrap().clone();
    let done = mutate::mutate(&mut forge, &scene.states[..scene.states.len() - 1], &mut rng);
    let now = at(rng.pick(&[5, 5, 5, 23 * 60, 25 * 60, 8 * 24 * 60]));
    let known = rng.below(scene.known.len() + 1).checked_sub(1).map(|idx| &scene.known[idx]);
    let root = &scene.states[0].files["1.root.json"];
    let wrong = |text: String| format!("seed {seed}: {done:?}: {text}");

    // The other client on the files that ours believes: what ours holds already it does not fetch again.
    let oracle = |trusted: Option<&Trusted>, cache: Cache| {
        let mut files = forge.files.clone();
        let held = trusted.map_or_else(Vec::new, Trusted::files);
        files.extend(held.into_iter().map(|(name, bytes)| (name, bytes.to_vec())));
        Oracle::refreshed(root, cache, &files, theirs(now))
    };
    let cache = || known.map_or_else(Cache::default, |(_, _, cache)| cache.copy());
    tally.cases += 1;
    tally.theirs += u64::from(oracle(None, cache()).is_ok());
    if scene.is_ours {
        let before = known.and_then(|(strict, _, _)| strict.clone());
        let before = before.unwrap_or_else(|| Trusted::new(root, Profile::Strict).unwrap());
        if let Some(trusted) = refreshed(&before, &forge, now).filter(|t| t.lease_until().is_some_and(|end| end > now))
        {
            tally.strict += 1;
            // The specification voids the old timestamp when an online key goes (section 5.3.11); the other client keeps
            // it where its own key stayed.
            let is_recovery = trusted.root_version() > 1 && before.timestamp_version() > 0;
            let judged = oracle(Some(&trusted), cache())
                .or_else(|error| if is_recovery { oracle(Some(&trusted), Cache::default()) } else { Err(error) });
            let mut judge = judged.map_err(|error| wrong(format!("strict accepts, the other says {error}")))?;
            if let Ok(view) = View::of(&trusted) {
                // A ring whose role has lapsed is not installed from; the rest is.
                let rows = view.releases.iter().filter(|(ring, _)| !view.has_lapsed(ring, now));
                for artifact in rows.flat_map(|(_, rows)| rows) {
                    agree(&mut judge, artifact.target.as_str(), artifact.length, &artifact.sha256).map_err(wrong)?;
                }
                for (name, document) in &view.documents {
                    agree(&mut judge, name.as_str(), document.length, &document.sha256).map_err(wrong)?;
                }
            }
        }
    }
    let before = known.map(|(_, foreign, _)| foreign.clone());
    let before = before.unwrap_or_else(|| Trusted::new(root, Profile::Foreign).unwrap());
    let Some(mut trusted) = refreshed(&before, &forge, now).filter(|t| t.check_not_expired(now).is_ok()) else {
        return Ok(());
    };
    tally.foreign += 1;
    let mut oracle =
        oracle(Some(&trusted), cache()).map_err(|error| wrong(format!("foreign accepts, the other says {error}")))?;
    for name in &scene.names {
        if let Some((length, hash)) = found(&mut trusted, &forge, name, now) {
            tally.found += 1;
            match oracle.find(name) {
                Ok(Some((other, sha256))) if other == length && (sha256 == hash || hash.is_none()) => {}
                other => return Err(wrong(format!("{name}: found {length} {hash:?}, the other says {other:?}"))),
            }
        }
    }
    Ok(())
}

fn agree(oracle: &mut Oracle, name: &str, length: u64, sha256: &Sha256) -> Result<(), String> {
    match oracle.find(name)? {
        Some((other, Some(hash))) if other == length && hash == sha256.to_hex() => Ok(()),
        other => Err(format!("{name}: {length} {sha256}, the other says {other:?}")),
    }
}

/// Ours, fetching as its shells do: no timestamp is no refresh.
fn refreshed(before: &Trusted, forge: &Forge, now: Timestamp) -> Option<Trusted> {
    forge.files.get("timestamp.json")?;
    Some(before.apply(&mut forge.read(), now).ok()?.trusted)
}

fn found(trusted: &mut Trusted, forge: &Forge, name: &str, now: Timestamp) -> Option<(u64, Option<String>)> {
    loop {
        match trusted.find(name).ok()? {
            Lookup::Found(target) => {
                return Some((target.length, target.hashes.to_hex().filter(|hash| hash.len() == 64)));
            }
            Lookup::NotFound => return None,
            Lookup::Wanted(wanted) => drop(trusted.accept(&wanted, forge.files.get(&wanted.file)?, now).ok()?),
        }
    }
}

fn run(scene: fn() -> Scene) {
    oracle::install();
    let scene = scene();
    let is_full = std::env::var("SLUICE_TEST_FULL").is_ok_and(|value| value == "1");
    let cases = if is_full { CASES_FULL } else { CASES } / 2;
    let mut tally = Tally::default();
    let wrong: Vec<String> = (0..cases).filter_map(|seed| judge(&scene, seed, &mut tally).err()).collect();
    println!(
        "{} cases: strict accepts {}, foreign {}, the other {}; {} targets found",
        tally.cases, tally.strict, tally.foreign, tally.theirs, tally.found
    );
    assert!(wrong.is_empty(), "{} of {cases}:\n{}", wrong.len(), wrong[..wrong.len().min(10)].join("\n"));
    // Where nothing is accepted, or everything, the comparison says nothing.
    assert!(tally.foreign * 20 > tally.cases && tally.foreign < tally.cases, "foreign accepts {}", tally.foreign);
    assert!(!scene.is_ours || tally.strict * 50 > tally.cases, "strict accepts {}", tally.strict);
}

#[test]
fn what_ours_accepts_of_our_own_mutated_repository_the_other_client_accepts_too() {
    run(ours);
}

#[test]
fn what_ours_accepts_of_a_mutated_foreign_repository_the_other_client_accepts_too() {
    run(nested);
}
