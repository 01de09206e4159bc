//! What was acknowledged is there after `kill -9`, once.
#![allow(clippy::unwrap_used)]

mod support;

use sluice_compliance::{OutcomeKind, Verdict};
use sluice_model::EndpointId;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use support::{Running, report};

const CHILD_FILE: &str = "SLUICE_TEST_COMPLIANCE_FILE";
const KILLS: u64 = 5;
const ACKNOWLEDGED_BEFORE_KILL: usize = 7;

/// Run by the test below in a process of its own: reports without end, one line for each acknowledgement.
#[tokio::test]
async fn child_that_ingests_until_it_is_killed() {
    let Ok(path) = std::env::var(CHILD_FILE) else { return };
    let running = Running::open(Path::new(&path));
    let known = running.store.acknowledged(&EndpointId::from_bytes([1; 32]), 1).unwrap().map_or(0, |ack| ack.seq);
    for seq in known + 1.. {
        let ingested = running.store.ingest(vec![report(1, seq, "1", OutcomeKind::Installed)]).await.unwrap();
        writeln!(std::io::stdout(), "acknowledged {}", ingested.acknowledged[0].seq).unwrap();
    }
}

// proves: I2
#[tokio::test]
async fn an_acknowledged_report_survives_kill_9_and_counts_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.redb");
    for _ in 0..KILLS {
        let promised = acknowledge_and_kill(&path);
        let running = Running::open(&path);
        let endpoint = EndpointId::from_bytes([1; 32]);
        let kept = running.store.acknowledged(&endpoint, 1).unwrap().unwrap().seq;
        assert!(kept >= promised, "{promised} was acknowledged, {kept} is there");
        let again = running.store.ingest(vec![report(1, promised, "1", OutcomeKind::Installed)]).await.unwrap();
        assert_eq!(again.verdicts, [Verdict::Duplicate]);
        let tally = running.store.tally(support::NOW, sluice_compliance::SILENCE_MAX).unwrap();
        assert_eq!(tally.pairs.values().sum::<u64>(), 1, "{tally:?}");
        running.close().await;
    }
}

/// The highest number that the child said was acknowledged before it died.
fn acknowledge_and_kill(path: &Path) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_ingests_until_it_is_killed", "--nocapture"])
        .env(CHILD_FILE, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let promised = lines
        .filter_map(|line| line.rsplit_once("acknowledged ").and_then(|(_, seq)| seq.parse::<u64>().ok()))
        .take(ACKNOWLEDGED_BEFORE_KILL)
        .last();
    child.kill().unwrap();
    child.wait().unwrap();
    promised.unwrap()
}
