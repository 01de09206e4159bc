//! A process that writes is killed with SIGKILL at any moment; what it committed counts and verifies.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;
use support::{Artifact, Running, without_memory};

const FOLDER: &str = "SLUICE_TEST_STORE";
const LENGTH: usize = 24_000_000;

fn fast_batches() -> sluice_content_store::StoreLimits {
    sluice_content_store::StoreLimits {
        batch_bytes: 2 << 20,
        batch_after: Duration::from_millis(5),
        ..without_memory()
    }
}

/// Not a test of its own: the process that is killed. Without the folder in its environment it does nothing.
#[tokio::test]
async fn child_that_writes_until_it_is_killed() {
    let Some(dir) = std::env::var_os(FOLDER) else { return };
    let running = Running::open(dir.as_ref(), fast_batches());
    let artifact = Artifact::noise(1, LENGTH);
    let other = Artifact::noise(2, 3_000_000);
    running.admit(&artifact).await;
    loop {
        for idx in 0..artifact.count() {
            running.store.put(&artifact.cut.artifact, idx, artifact.chunk(idx)).await.unwrap();
            println!("put {idx}");
        }
        running.admit(&other).await;
        running.put_all(&other).await;
        running.store.remove(&other.cut.artifact).await.unwrap();
        running.store.flush().await.unwrap();
        println!("round");
    }
}

#[tokio::test]
async fn a_writer_that_is_killed_leaves_only_chunks_that_verify_and_loses_at_most_a_batch() {
    let dir = tempfile::tempdir().unwrap();
    let artifact = Artifact::noise(1, LENGTH);
    let mut committed_before = 0;
    // Each process goes on where the one before was killed; the kill comes after another number of lines each time.
    for lines in [1usize, 3, 5, 9, 14, 22, 30, 60] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_writes_until_it_is_killed", "--nocapture", "--test-threads", "1"])
            .env(FOLDER, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let heard = output.lines().map_while(Result::ok).filter(|line| line.contains("put") || line.contains("round"));
        let puts = heard.take(lines).count();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(puts, lines, "the child ended by itself");

        let running = Running::open(dir.path(), fast_batches());
        let reader = running.store.reader(&artifact.cut.artifact).unwrap();
        let bitmap = reader.bitmap();
        for idx in bitmap.iter() {
            assert_eq!(reader.read(idx).await.unwrap(), artifact.chunk(idx), "chunk {idx} after {lines} lines");
        }
        // A batch is 2 MiB, a chunk at most 4 MiB: of what was put before the kill at most that is missing.
        let lost = (0..lines.min(artifact.count() as usize) as u32).filter(|idx| !bitmap.has(*idx));
        let lost_bytes: u64 = lost.map(|idx| u64::from(artifact.cut.manifest.chunk_length(idx))).sum();
        assert!(lost_bytes <= (2 << 20) + (4 << 20), "{lost_bytes} bytes lost after {lines} lines");
        assert!(bitmap.count() >= committed_before, "a committed chunk was lost");
        committed_before = bitmap.count();
        running.stop().await;
    }
    assert!(committed_before > 0);
}
