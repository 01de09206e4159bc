//! SIGKILL at random points of metadata and tombstone writes: the store is before or after, never between, never older.
//! proves: P9, attack 14.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use sluice_metadata::{Profile, RoleName, Trusted, View, Writer};
use sluice_model::Timestamp;
use sluice_repo_store::{Store, metadata};
use sluice_state_store::StateStore;
use sluice_tests::is_full_tier;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

/// Kills of one kind of store, every run and before a release: half of 200 and of 1,000.
const KILLS: u64 = 100;
const KILLS_FULL: u64 = 500;
/// A store is killed so often before a new one is begun: a chain of recoveries, with room for its tombstones.
const KILLS_IN_A_ROW: u64 = 20;
/// A kill comes at most so many commits after the start; the last of them is left to chance in microseconds.
const COMMITS_MAX: u64 = 4;
const CHANCE_MICROS: u64 = 12_000;
/// Versions that one run of the writer tells at most: it ends by itself long before.
const VERSIONS_MAX: usize = 1_000;
/// The writer starts within this, else it is broken.
const START_MAX: Duration = Duration::from_secs(20);

/// What a killed store held, against what was acknowledged.
#[derive(Default, Debug)]
struct Found {
    /// The last acknowledged state.
    acknowledged: u64,
    /// One that was durable and not acknowledged yet: the kill fell between the two.
    unacknowledged: u64,
    /// What must never be.
    wrong: Vec<String>,
}

/// A small generator: the chances of a run depend on nothing but its seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// Runs the writer, kills it, and gives the last version that it acknowledged.
fn run_and_kill(kind: &str, file: &Path, chance: &mut Chance) -> u64 {
    let mut child = Command::new(env!("CARGO_BIN_EXE_kill-writer"))
        .arg(kind)
        .arg(file)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let (versions, arrived) = mpsc::sync_channel(VERSIONS_MAX);
    let reader = std::thread::spawn(move || {
        for line in out.lines().map_while(Result::ok) {
            let _ = versions.send(line.parse::<u64>().unwrap());
        }
    });
    let mut last = arrived.recv_timeout(START_MAX).expect("the writer says what is durable");
    for _ in 0..chance.below(COMMITS_MAX) {
        last = arrived.recv_timeout(START_MAX).expect("the writer goes on");
    }
    std::thread::sleep(Duration::from_micros(chance.below(CHANCE_MICROS)));
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "the writer ended by itself: {status}");
    reader.join().unwrap();
    arrived.try_iter().last().unwrap_or(last)
}

/// The version that a store holds; an error when it is not one whole state.
fn version_in(kind: &str, file: &Path) -> Result<u64, String> {
    if kind == "repository" { repository_version(file) } else { node_version(file) }
}

fn node_version(file: &Path) -> Result<u64, String> {
    let store = StateStore::open(file).map_err(|error| error.to_string())?;
    let files = store.metadata_files().map_err(|error| error.to_string())?;
    let trusted = Trusted::restore(&files, Profile::Strict, &[]).map_err(|error| error.to_string())?;
    let view = View::of(&trusted).map_err(|error| error.to_string())?;
    let tombstones = store.tombstones().map_err(|error| error.to_string())?;
    if tombstones != view.tombstones {
        return Err(format!("{} tombstones beside metadata that lists {}", tombstones.len(), view.tombstones.len()));
    }
    Ok(trusted.timestamp_version())
}

fn repository_version(file: &Path) -> Result<u64, String> {
    let store = Store::open(file).map_err(|error| error.to_string())?;
    let files = store.read(metadata::current_files).map_err(|error| error.to_string())?;
    let files: Vec<(String, Arc<[u8]>)> = files.into_iter().map(|(name, bytes)| (name, Arc::from(bytes))).collect();
    let writer = Writer::load(&files).map_err(|error| error.to_string())?;
    let rows = writer.entries(&RoleName::retractions()).ok_or("no retractions")?;
    for (target, row) in rows {
        let document = store.read(|tx| metadata::document(tx, &row.sha256)).map_err(|error| error.to_string())?;
        if document.is_none_or(|bytes| bytes.len() as u64 != row.length) {
            return Err(format!("{target} is signed, and its document is not stored"));
        }
    }
    View::of(writer.trusted()).map_err(|error| error.to_string())?;
    writer.trusted().issued_at().filter(|at| *at > Timestamp::default()).ok_or("no time")?;
    Ok(writer.trusted().timestamp_version())
}

fn folder(kind: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("sluice-kills-{kind}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn kill_often(kind: &str, kills: u64) -> Found {
    let folder = folder(kind);
    let mut chance = Chance(kills);
    let mut found = Found::default();
    let mut before = 0;
    for kill in 0..kills {
        if kill % KILLS_IN_A_ROW == 0 {
            before = 0;
        }
        let file = folder.join(format!("{}.redb", kill / KILLS_IN_A_ROW));
        let acknowledged = run_and_kill(kind, &file, &mut chance);
        if acknowledged < before {
            found.wrong.push(format!("kill {kill}: began again at {acknowledged}, after {before}"));
        }
        match version_in(kind, &file) {
            Ok(version) if version == acknowledged => found.acknowledged += 1,
            Ok(version) if version == acknowledged + 1 => found.unacknowledged += 1,
            Ok(version) => found.wrong.push(format!("kill {kill}: version {version}, acknowledged was {acknowledged}")),
            Err(between) => found.wrong.push(format!("kill {kill}, after version {acknowledged}: {between}")),
        }
        before = acknowledged;
        if !found.wrong.is_empty() {
            break;
        }
    }
    println!(
        "{kind}: {kills} kills; {} times the last acknowledged state, {} times one more, {} times neither",
        found.acknowledged,
        found.unacknowledged,
        found.wrong.len()
    );
    std::fs::remove_dir_all(&folder).unwrap();
    found
}

fn kills() -> u64 {
    if is_full_tier() { KILLS_FULL } else { KILLS }
}

#[test]
fn a_node_killed_at_any_point_holds_metadata_and_tombstones_of_one_moment_and_never_an_older_one() {
    let found = kill_often("node", kills());
    assert!(found.wrong.is_empty(), "{:#?}", found.wrong);
    assert!(found.acknowledged > 0 && found.unacknowledged > 0, "the kills did not fall into writes: {found:?}");
}

#[test]
fn a_repository_killed_at_any_point_holds_files_and_documents_of_one_moment_and_never_an_older_one() {
    let found = kill_often("repository", kills());
    assert!(found.wrong.is_empty(), "{:#?}", found.wrong);
    assert!(found.acknowledged > 0 && found.unacknowledged > 0, "the kills did not fall into writes: {found:?}");
}

#[test]
fn a_store_that_wrote_metadata_and_tombstones_apart_is_caught() {
    let found = kill_often("torn", KILLS);
    assert!(
        found.wrong.iter().any(|wrong| wrong.contains("tombstones beside metadata")),
        "the mistake was not seen in {KILLS} kills: {found:?}"
    );
}
