//! The public TUF conformance suite, replayed: every command that it gave `sluice tuf-client`, with the answers that its
//! server gave, the clock of that day, and what the client had to hold afterwards. `conformance/record.py` recorded it.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::io::BufReader;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use support::*;

/// Cases that talk to a client; three more of the suite's 113 test its own simulator.
const CASES: usize = 110;
const THREADS: usize = 4;

static EXCHANGES: LazyLock<Value> = LazyLock::new(|| {
    let packed: &[u8] = include_bytes!("conformance/exchanges.json.xz");
    let mut bytes = Vec::new();
    lzma_rs::xz_decompress(&mut BufReader::new(packed), &mut bytes).unwrap();
    serde_json::from_slice(&bytes).unwrap()
});

/// Requests that are still to come, and what went wrong.
#[derive(Default)]
struct Script {
    expected: VecDeque<(String, u16, String)>,
    wrong: Vec<String>,
}

#[test]
fn every_exchange_of_the_public_conformance_suite_ends_as_recorded() {
    let cases = EXCHANGES["cases"].as_array().unwrap();
    assert_eq!(cases.len(), CASES);
    let next = AtomicUsize::new(0);
    let failures: Vec<String> = std::thread::scope(|scope| {
        let replay = || {
            let replayer = Replayer::start();
            let mut failures = Vec::new();
            while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                failures.extend(replayer.replay(case).err());
            }
            failures
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(replay)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(failures.is_empty(), "{} of {CASES} cases:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn a_request_that_was_not_recorded_fails_the_replay() {
    let cases = EXCHANGES["cases"].as_array().unwrap();
    let case = cases.iter().find(|case| case["name"] == "test_basic_refresh_requests").unwrap();
    let replayer = Replayer::start();
    replayer.replay(case).unwrap();
    let mut other = case.clone();
    let requests = other["runs"][1]["requests"].as_array_mut().unwrap();
    requests.remove(2);
    let error = replayer.replay(&other).unwrap_err();
    assert!(error.contains("1.snapshot.json was not recorded"), "{error}");
    let mut other = case.clone();
    other["runs"][1]["metadata"].as_object_mut().unwrap().remove("targets.json");
    let error = replayer.replay(&other).unwrap_err();
    assert!(error.contains("holds other files"), "{error}");
}

struct Replayer {
    script: Arc<Mutex<Script>>,
    server: Server,
}

impl Replayer {
    fn start() -> Self {
        let script = Arc::new(Mutex::new(Script::default()));
        let answers = script.clone();
        let server = serve(move |request| {
            let path = request.line.split(' ').nth(1).unwrap_or_default().to_owned();
            let mut script = answers.lock().unwrap();
            match script.expected.front() {
                Some((expected, _, _)) if *expected == path => {
                    let (_, status, body) = script.expected.pop_front().unwrap();
                    (status, Vec::new(), body)
                }
                _ => {
                    script.wrong.push(format!("{path} was not recorded here"));
                    (500, Vec::new(), String::new())
                }
            }
        });
        Self { script, server }
    }

    fn replay(&self, case: &Value) -> Result<(), String> {
        let dir = tempfile::tempdir().unwrap();
        for (idx, run) in case["runs"].as_array().unwrap().iter().enumerate() {
            self.run(dir.path(), run).map_err(|error| format!("{} run {idx}: {error}", case["name"]))?;
        }
        Ok(())
    }

    fn run(&self, dir: &Path, run: &Value) -> Result<(), String> {
        let request = |row: &Value| {
            let body = row[2].as_u64().map_or(String::new(), content);
            (row[0].as_str().unwrap().to_owned(), u16::try_from(row[1].as_u64().unwrap()).unwrap(), body)
        };
        let expected = run["requests"].as_array().unwrap().iter().map(request).collect();
        *self.script.lock().unwrap() = Script { expected, wrong: Vec::new() };
        let said = said(&mut self.command(dir, run), "");
        let script = std::mem::take(&mut *self.script.lock().unwrap());
        if !script.wrong.is_empty() {
            return Err(script.wrong.join(", "));
        }
        if let Some((path, _, _)) = script.expected.front() {
            return Err(format!("{path} was never asked for: {}", said.err));
        }
        if i64::from(said.code) != run["exit"].as_i64().unwrap() {
            return Err(format!("exit code {} instead of {}: {}", said.code, run["exit"], said.err));
        }
        for kind in ["metadata", "targets"].into_iter().filter(|kind| !run[kind].is_null()) {
            let held = files(&dir.join(kind));
            let recorded: BTreeMap<String, String> = run[kind]
                .as_object()
                .unwrap()
                .iter()
                .map(|(name, idx)| (name.clone(), content(idx.as_u64().unwrap())))
                .collect();
            if held != recorded {
                return Err(format!("{kind} holds other files: {:?}, not {:?}", held.keys(), recorded.keys()));
            }
        }
        Ok(())
    }

    fn command(&self, dir: &Path, run: &Value) -> std::process::Command {
        let mut command = sluice(dir);
        command.arg("tuf-client").arg("--metadata-dir").arg(dir.join("metadata"));
        command.args(["--now", run["now"].as_str().unwrap()]);
        if run["verb"] == "init" {
            let root = dir.join("initial_root.json");
            std::fs::write(&root, content(run["root"].as_u64().unwrap())).unwrap();
            command.arg("init").arg(root);
            return command;
        }
        command.args(["--metadata-url", &format!("{}/metadata/", self.server.url)]);
        if run["verb"] == "download" {
            command.args(["--target-base-url", &format!("{}/targets/", self.server.url)]);
            command.arg("--target-dir").arg(dir.join("targets"));
        }
        for name in run["names"].as_array().unwrap() {
            command.args(["--target-name", name.as_str().unwrap()]);
        }
        command.arg(run["verb"].as_str().unwrap());
        command
    }
}

fn content(idx: u64) -> String {
    EXCHANGES["contents"][usize::try_from(idx).unwrap()].as_str().unwrap().to_owned()
}

/// Every file there is, whatever its name.
fn files(dir: &Path) -> BTreeMap<String, String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return BTreeMap::new() };
    let read = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap();
        (name, std::fs::read_to_string(entry.path()).unwrap())
    };
    entries.map(|entry| read(entry.unwrap())).collect()
}
