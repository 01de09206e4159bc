//! A process that appends to the spool is killed in the middle: what it saw acknowledged is there.

#![allow(clippy::unwrap_used)]

use sluice_model::EndpointId;
use sluice_model::dsse::{DsseEnvelope, DsseSignature};
use sluice_state_store::{NewReport, StateStore};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use tokio_util::sync::CancellationToken;

const CHILD_PATH: &str = "SLUICE_TEST_SPOOL";

fn report(number: u64) -> NewReport {
    let envelope = DsseEnvelope {
        payload_type: "t".into(),
        payload: number.to_string(),
        signatures: vec![DsseSignature { keyid: "k".into(), sig: format!("s{number}") }],
    };
    NewReport {
        endpoint: EndpointId::from_bytes([(number / 1_000_000) as u8; 32]),
        is_urgent: number.is_multiple_of(7),
        envelope,
    }
}

/// The child: appends for ever from several writers and prints each number after its append was acknowledged.
fn append_until_killed(path: &Path) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = StateStore::open(path).unwrap();
        let (spool, task) = store.spool();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move { task.run(CancellationToken::new()).await.unwrap() });
        for writer in 0..8u64 {
            let spool = spool.clone();
            tasks.spawn(async move {
                for number in 0.. {
                    let number = writer * 1_000_000 + number;
                    spool.append(vec![report(number)]).await.unwrap();
                    let mut out = std::io::stdout().lock();
                    writeln!(out, "acknowledged {number}").unwrap();
                    out.flush().unwrap();
                }
            });
        }
        tasks.join_next().await;
    });
}

#[test]
fn an_append_that_was_acknowledged_survives_kill_minus_nine() {
    if let Some(path) = std::env::var_os(CHILD_PATH) {
        append_until_killed(Path::new(&path));
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let mut acknowledged = Vec::new();
    for round in 1..=3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["an_append_that_was_acknowledged_survives_kill_minus_nine", "--exact", "--nocapture"])
            .env(CHILD_PATH, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let goal = acknowledged.len() + 40 * round;
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        while acknowledged.len() < goal {
            let line = lines.next().expect("the child runs until it is killed").unwrap();
            if let Some(number) = line.rsplit_once("acknowledged ") {
                acknowledged.push(number.1.to_owned());
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it managed to print before it died was acknowledged too; a line cut by the kill is not.
        let mut rest: Vec<String> = lines.map_while(Result::ok).collect();
        rest.pop();
        acknowledged.extend(rest.iter().filter_map(|line| Some(line.rsplit_once("acknowledged ")?.1.to_owned())));
    }
    let store = StateStore::open(&path).unwrap();
    let stored: std::collections::HashSet<String> =
        store.next_spooled(1_000_000).unwrap().into_iter().map(|row| row.envelope.payload).collect();
    for number in acknowledged {
        assert!(stored.contains(&number), "report {number} was acknowledged and is gone");
    }
    assert_eq!(stored.len() as u64, store.spooled_count().unwrap(), "nothing is doubled");
}
