//! A disk that is really full: a small tmpfs. Needs the right to mount.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use sluice_content_store::{AdmitError, FlushError, StoreLimits};
use std::fs;
use std::path::Path;
use std::process::Command;
use support::{Artifact, Running, limits, without_memory};

struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(dir.path())
            .output()
            .is_ok_and(|output| output.status.success());
        if !mounted {
            skip("content_store_full", "mounting a small tmpfs is not allowed here (run as root)");
            return None;
        }
        Some(Self(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_refuses_the_next_artifact_and_goes_on_serving_those_that_are_there() {
    let Some(disk) = SmallDisk::mount("12m") else { return };
    let running = Running::open(disk.path(), StoreLimits { reserve_bytes: 3 << 20, ..without_memory() });
    let (first, second) = (Artifact::noise(1, 5_000_000), Artifact::noise(2, 6_000_000));
    running.admit(&first).await;
    running.put_all(&first).await;
    for _ in 0..3 {
        let refused = running.store.admit(second.admission()).await;
        assert!(matches!(refused, Err(AdmitError::Full { needed: 6_000_000, .. })), "{refused:?}");
        assert!(running.store.reader(&second.cut.artifact).is_none() && !second.path(disk.path()).exists());
        running.read_all(&first).await;
    }
    assert!(running.store.trouble().is_some());
    running.store.flush().await.unwrap();
    assert!(running.store.trouble().is_some(), "a full disk is over when something fits, not when a batch is durable");
    running.store.remove(&first.cut.artifact).await.unwrap();
    running.admit(&second).await;
    assert_eq!(running.store.trouble(), None);
    running.put_all(&second).await;
    running.read_all(&second).await;
    running.stop().await;
}

#[tokio::test]
async fn an_index_that_could_not_be_written_is_opened_again_and_nothing_is_lost() {
    let Some(disk) = SmallDisk::mount("16m") else { return };
    let running = Running::open(disk.path(), limits());
    let artifact = Artifact::noise(3, 4_000_000);
    running.admit(&artifact).await;
    running.store.put(&artifact.cut.artifact, 0, artifact.chunk(0)).await.unwrap();
    running.store.flush().await.unwrap();
    // Not one page is left, and the index must grow for thousands of rows.
    let ballast = disk.path().join("ballast");
    fill(&ballast);
    let many: Vec<Artifact> = (0..400).map(|seed| Artifact::noise(1_000 + seed, 40)).collect();
    let mut refused = 0;
    for small in &many {
        refused += usize::from(running.store.admit(small.admission()).await.is_err());
    }
    assert!(refused > 0, "the disk was not full");
    running.put_all(&artifact).await;
    running.read_all(&artifact).await;
    match running.store.flush().await {
        Ok(()) | Err(FlushError::Index(_)) => {}
        Err(other) => panic!("{other}"),
    }
    fs::remove_file(&ballast).unwrap();
    running.store.flush().await.unwrap();
    running.read_all(&artifact).await;
    for small in &many {
        running.admit(small).await;
    }
    assert_eq!(running.store.trouble(), None);
    running.crash().await;
    let running = Running::open(disk.path(), without_memory());
    running.read_all(&artifact).await;
    assert_eq!(running.store.artifacts().len(), 401);
    running.stop().await;
}

fn fill(path: &Path) {
    use std::io::Write;
    let mut file = fs::File::create(path).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
}

/// Says visibly that something could not be tested; `cargo xtask test` lists what stands in this folder.
fn skip(test: &str, reason: &str) {
    println!("skipped: {test}: {reason}");
    if let Some(folder) = std::env::var_os("SLUICE_SKIPPED_DIR") {
        let _ = std::fs::write(std::path::Path::new(&folder).join(test), reason);
    }
}
