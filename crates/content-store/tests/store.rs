//! The store on real files.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use bytes::Bytes;
use sluice_content_store::{AdmitError, ContentStore, ImportError, OpenError, PutError, ReadError, StoreLimits};
use sluice_model::Timestamp;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::Duration;
use support::{Artifact, Running, limits, noise, without_memory};

#[tokio::test]
async fn a_chunk_can_be_read_as_soon_as_it_was_put_and_a_watcher_hears_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::open(dir.path(), limits());
    let artifact = Artifact::noise(1, 3_000_000);
    running.admit(&artifact).await;
    let reader = running.store.reader(&artifact.cut.artifact).unwrap();
    assert!(matches!(reader.read(1).await, Err(ReadError::Missing { idx: 1, .. })));
    let mut changed = reader.changed();
    changed.mark_unchanged();
    running.store.put(&artifact.cut.artifact, 1, artifact.chunk(1)).await.unwrap();
    changed.changed().await.unwrap();
    assert!(reader.has(1) && !reader.has(0) && !reader.is_complete());
    assert_eq!(reader.read(1).await.unwrap(), artifact.chunk(1));
    assert_eq!(reader.present_bytes(), artifact.chunk(1).len() as u64);
    assert_eq!(running.store.by_sha256(&artifact.cut.sha256), Some(artifact.cut.artifact));
    assert_eq!(running.store.manifest_bytes(&artifact.cut.manifest.id()), Some(artifact.cut.manifest.encode()));
    running.stop().await;
}

#[tokio::test]
async fn bytes_that_are_not_the_chunk_are_refused_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::open(dir.path(), limits());
    let artifact = Artifact::noise(1, 1_000_000);
    let id = artifact.cut.artifact;
    assert!(matches!(running.store.put(&id, 0, artifact.chunk(0)).await, Err(PutError::Unknown(_))));
    running.admit(&artifact).await;
    let mut wrong = artifact.chunk(0).to_vec();
    wrong[77] ^= 1;
    assert!(matches!(running.store.put(&id, 0, Bytes::from(wrong)).await, Err(PutError::WrongBytes(_))));
    assert!(matches!(running.store.put(&id, 0, artifact.chunk(1)).await, Err(PutError::WrongBytes(_))));
    assert!(matches!(running.store.put(&id, 9_999, artifact.chunk(1)).await, Err(PutError::WrongBytes(_))));
    assert_eq!(running.store.usage().unwrap().stored_bytes, 0);
    running.stop().await;
}

#[tokio::test]
async fn after_a_crash_the_committed_chunks_count_and_the_batch_that_was_not_committed_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let never = StoreLimits { batch_after: Duration::from_secs(3600), ..without_memory() };
    let running = Running::open(dir.path(), never.clone());
    let artifact = Artifact::noise(2, 4_000_000);
    let id = artifact.cut.artifact;
    running.admit(&artifact).await;
    for idx in 0..4 {
        running.store.put(&id, idx, artifact.chunk(idx)).await.unwrap();
    }
    running.store.flush().await.unwrap();
    running.store.put(&id, 4, artifact.chunk(4)).await.unwrap();
    assert!(running.store.reader(&id).unwrap().has(4));
    running.crash().await;

    let running = Running::open(dir.path(), never);
    let reader = running.store.reader(&id).unwrap();
    assert_eq!(reader.bitmap().iter().collect::<Vec<_>>(), [0, 1, 2, 3]);
    running.put_all(&artifact).await;
    running.read_all(&artifact).await;
    running.stop().await;
    let running = Running::open(dir.path(), limits());
    assert!(running.store.reader(&id).unwrap().is_complete());
    running.read_all(&artifact).await;
    running.stop().await;
}

#[tokio::test]
async fn a_batch_becomes_durable_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let soon = StoreLimits { batch_after: Duration::from_millis(20), ..limits() };
    let running = Running::open(dir.path(), soon);
    let artifact = Artifact::noise(3, 500_000);
    running.admit(&artifact).await;
    running.put_all(&artifact).await;
    let mut attempts = 0;
    // The index is locked while the store is open, so durability is seen by crashing and looking; begin anew until then.
    let mut running = running;
    loop {
        tokio::time::sleep(Duration::from_millis(60)).await;
        running.crash().await;
        running = Running::open(dir.path(), StoreLimits { batch_after: Duration::from_millis(20), ..limits() });
        if running.store.reader(&artifact.cut.artifact).unwrap().is_complete() {
            break;
        }
        attempts += 1;
        assert!(attempts < 100, "nothing became durable");
        running.put_all(&artifact).await;
    }
    running.stop().await;
}

#[tokio::test]
async fn a_flipped_byte_on_disk_is_never_read_and_the_chunk_no_longer_counts() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::open(dir.path(), without_memory());
    let artifact = Artifact::noise(4, 2_000_000);
    let id = artifact.cut.artifact;
    running.admit(&artifact).await;
    running.put_all(&artifact).await;
    running.store.flush().await.unwrap();
    let offset = artifact.cut.manifest.range(2).start + 1_000;
    flip(&artifact.path(dir.path()), offset);

    let reader = running.store.reader(&id).unwrap();
    let (first, second) = tokio::join!(reader.read(2), reader.read(2));
    for read in [first, second] {
        assert!(matches!(read, Err(ReadError::Corrupt { idx: 2, .. } | ReadError::Missing { idx: 2, .. })), "{read:?}");
    }
    assert!(!reader.has(2) && reader.has(1));
    assert_eq!(reader.read(1).await.unwrap(), artifact.chunk(1));
    running.crash().await;

    let running = Running::open(dir.path(), without_memory());
    assert!(!running.store.reader(&id).unwrap().has(2), "the cleared bit is durable");
    running.store.put(&id, 2, artifact.chunk(2)).await.unwrap();
    running.read_all(&artifact).await;
    running.stop().await;
}

#[tokio::test]
async fn files_that_are_cut_off_or_missing_lose_the_chunks_that_are_gone_and_take_them_again() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::open(dir.path(), without_memory());
    let (short, gone) = (Artifact::noise(5, 2_000_000), Artifact::noise(6, 1_500_000));
    for artifact in [&short, &gone] {
        running.admit(artifact).await;
        running.put_all(artifact).await;
    }
    // While it is open: the next read finds out.
    OpenOptions::new().write(true).open(short.path(dir.path())).unwrap().set_len(300_000).unwrap();
    running.store.flush().await.unwrap();
    let last = short.count() - 1;
    let read = running.store.reader(&short.cut.artifact).unwrap().read(last).await;
    assert!(matches!(read, Err(ReadError::Corrupt { .. })), "{read:?}");
    fs::remove_file(gone.path(dir.path())).unwrap();
    let read = running.store.reader(&gone.cut.artifact).unwrap().read(0).await;
    assert!(matches!(read, Err(ReadError::Corrupt { .. })), "{read:?}");
    running.stop().await;

    // When it is opened: lengths are looked at.
    let running = Running::open(dir.path(), without_memory());
    let kept = running.store.reader(&short.cut.artifact).unwrap().bitmap();
    assert!(kept.iter().all(|idx| short.cut.manifest.range(idx).end <= 300_000));
    assert_eq!(running.store.reader(&gone.cut.artifact).unwrap().bitmap().count(), 0);
    for artifact in [&short, &gone] {
        running.put_all(artifact).await;
        running.store.flush().await.unwrap();
        running.read_all(artifact).await;
    }
    running.stop().await;
}

#[tokio::test]
async fn the_same_content_is_stored_once_however_often_it_is_imported() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::open(&dir.path().join("store"), without_memory());
    let artifact = Artifact::noise(7, 20_000_000);
    for was_known in [false, true] {
        let upload = dir.path().join("upload");
        fs::write(&upload, &artifact.bytes).unwrap();
        let (seen, heard) = std::sync::mpsc::sync_channel(1_000);
        let progress = move |bytes| seen.try_send(bytes).unwrap();
        let imported = running.store.import(&upload, Some(artifact.cut.sha256), progress).await.unwrap();
        assert_eq!((imported.was_known, &imported.cut), (was_known, &artifact.cut));
        assert_eq!(heard.try_iter().last(), Some(20_000_000));
        assert!(!upload.exists());
        running.read_all(&artifact).await;
    }
    let usage = running.store.usage().unwrap();
    assert_eq!((usage.artifacts, usage.stored_bytes), (1, 20_000_000));
    running.crash().await;
    let running = Running::open(&dir.path().join("store"), without_memory());
    running.read_all(&artifact).await;
    running.stop().await;
}

#[tokio::test]
async fn an_import_that_is_not_what_was_promised_leaves_the_file_and_the_store_alone() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::open(&dir.path().join("store"), limits());
    let (artifact, other) = (Artifact::noise(8, 100_000), Artifact::noise(9, 10));
    let upload = dir.path().join("upload");
    fs::write(&upload, &artifact.bytes).unwrap();
    let imported = running.store.import(&upload, Some(other.cut.sha256), |_| ()).await;
    assert!(matches!(imported, Err(ImportError::WrongSha256 { .. })));
    assert!(upload.exists() && running.store.artifacts().is_empty());
    let missing = running.store.import(&dir.path().join("nowhere"), None, |_| ()).await;
    assert!(matches!(missing, Err(ImportError::Io { .. })));
    running.stop().await;
}

#[tokio::test]
async fn an_import_repairs_what_was_damaged_and_completes_what_was_fetched_in_part() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::open(&dir.path().join("store"), without_memory());
    let artifact = Artifact::noise(10, 2_000_000);
    running.admit(&artifact).await;
    running.store.put(&artifact.cut.artifact, 1, artifact.chunk(1)).await.unwrap();
    let reader = running.store.reader(&artifact.cut.artifact).unwrap();
    let upload = dir.path().join("upload");
    fs::write(&upload, &artifact.bytes).unwrap();
    assert!(running.store.import(&upload, None, |_| ()).await.unwrap().was_known);
    assert!(reader.is_complete());
    running.read_all(&artifact).await;
    running.stop().await;
}

#[tokio::test]
async fn chunks_that_another_artifact_has_are_copied_and_not_fetched() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::open(dir.path(), without_memory());
    let mut bytes = noise(11, 6_000_000);
    let old = Artifact::of(bytes.clone());
    bytes.splice(2_000_000..2_000_010, noise(12, 40));
    let new = Artifact::of(bytes);
    running.admit(&old).await;
    running.put_all(&old).await;
    running.store.flush().await.unwrap();
    running.admit(&new).await;
    let reader = running.store.reader(&new.cut.artifact).unwrap();
    let missing: Vec<u32> = reader.bitmap().missing().collect();
    assert!((1..=3).contains(&missing.len()), "{missing:?}");
    for idx in missing {
        running.store.put(&new.cut.artifact, idx, new.chunk(idx)).await.unwrap();
    }
    running.read_all(&new).await;
    running.store.remove(&old.cut.artifact).await.unwrap();
    running.read_all(&new).await;
    running.stop().await;
}

#[tokio::test]
async fn a_damaged_chunk_of_another_artifact_is_not_copied() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::open(dir.path(), without_memory());
    let mut bytes = noise(13, 3_000_000);
    let old = Artifact::of(bytes.clone());
    bytes.extend_from_slice(b"tail");
    let new = Artifact::of(bytes);
    running.admit(&old).await;
    running.put_all(&old).await;
    running.store.flush().await.unwrap();
    flip(&old.path(dir.path()), 10);
    running.admit(&new).await;
    let reader = running.store.reader(&new.cut.artifact).unwrap();
    assert!(!reader.has(0) && reader.has(1));
    running.stop().await;
}

#[tokio::test]
async fn a_removed_artifact_is_gone_at_once_for_readers_that_have_it_and_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::open(dir.path(), limits());
    let artifact = Artifact::noise(14, 1_000_000);
    let id = artifact.cut.artifact;
    running.admit(&artifact).await;
    running.put_all(&artifact).await;
    let reader = running.store.reader(&id).unwrap();
    reader.read(0).await.unwrap();
    running.store.remove(&id).await.unwrap();
    running.store.remove(&id).await.unwrap();
    assert!(matches!(reader.read(0).await, Err(ReadError::Removed(_))));
    assert!(running.store.reader(&id).is_none() && running.store.by_sha256(&artifact.cut.sha256).is_none());
    assert!(!artifact.path(dir.path()).exists());
    assert!(matches!(running.store.put(&id, 0, artifact.chunk(0)).await, Err(PutError::Unknown(_))));
    running.crash().await;
    let running = Running::open(dir.path(), limits());
    assert!(running.store.artifacts().is_empty());
    running.admit(&artifact).await;
    assert_eq!(running.store.reader(&id).unwrap().bitmap().count(), 0);
    running.stop().await;
}

#[tokio::test]
async fn an_artifact_is_one_contiguous_file_with_room_for_all_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::open(dir.path(), limits());
    let artifact = Artifact::noise(15, 3_000_000);
    running.admit(&artifact).await;
    let metadata = fs::metadata(artifact.path(dir.path())).unwrap();
    assert_eq!(metadata.len(), 3_000_000);
    assert!(metadata.blocks() * 512 >= 3_000_000, "{} blocks", metadata.blocks());
    running.put_all(&artifact).await;
    running.stop().await;
    assert_eq!(fs::read(artifact.path(dir.path())).unwrap(), artifact.bytes);
}

#[tokio::test]
async fn an_artifact_that_the_reserve_leaves_no_room_for_is_refused_with_the_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::open(dir.path(), StoreLimits { reserve_bytes: u64::MAX, ..limits() });
    let artifact = Artifact::noise(16, 100_000);
    let refused = running.store.admit(artifact.admission()).await;
    assert!(matches!(refused, Err(AdmitError::Full { needed: 100_000, free: 0 })), "{refused:?}");
    assert!(running.store.trouble().unwrap().contains("disk full"));
    assert!(!artifact.path(dir.path()).exists());
    running.stop().await;
}

#[tokio::test]
async fn a_store_has_one_process_and_forgets_files_that_its_index_does_not_know() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::open(dir.path(), limits());
    assert!(matches!(ContentStore::open(dir.path(), limits()), Err(OpenError::InUse(_))));
    running.stop().await;
    let stranger = Artifact::noise(17, 10);
    fs::create_dir_all(stranger.path(dir.path()).parent().unwrap()).unwrap();
    fs::write(stranger.path(dir.path()), b"left by a crash").unwrap();
    let running = Running::open(dir.path(), limits());
    assert!(!stranger.path(dir.path()).exists());
    running.stop().await;
}

#[tokio::test]
async fn an_empty_artifact_is_complete_when_it_is_admitted() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::open(dir.path(), limits());
    let empty = Artifact::of(Vec::new());
    running.admit(&empty).await;
    assert!(running.store.reader(&empty.cut.artifact).unwrap().is_complete());
    running.stop().await;
}

#[tokio::test]
async fn the_last_use_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::open(dir.path(), limits());
    let artifact = Artifact::noise(18, 1_000);
    running.admit(&artifact).await;
    running.store.touch(&artifact.cut.artifact, Timestamp::from_millis(1_700_000_000_000));
    running.stop().await;
    let running = Running::open(dir.path(), limits());
    assert_eq!(running.store.last_used(&artifact.cut.artifact), Some(Timestamp::from_millis(1_700_000_000_000)));
    running.stop().await;
}

#[tokio::test]
async fn many_writers_and_readers_at_once_see_only_right_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let small_memory = StoreLimits { memory_bytes: 1 << 20, batch_bytes: 1 << 20, ..limits() };
    let running = Running::open(dir.path(), small_memory);
    let artifact = std::sync::Arc::new(Artifact::noise(19, 9_000_000));
    running.admit(&artifact).await;
    let mut tasks = tokio::task::JoinSet::new();
    for worker in 0..8u32 {
        let (store, artifact) = (running.store.clone(), artifact.clone());
        tasks.spawn(async move {
            let reader = store.reader(&artifact.cut.artifact).unwrap();
            let mut changed = reader.changed();
            for step in 0..artifact.count() {
                let idx = (step * 7 + worker) % artifact.count();
                if worker % 2 == 0 {
                    store.put(&artifact.cut.artifact, idx, artifact.chunk(idx)).await.unwrap();
                }
                while !reader.has(idx) {
                    changed.changed().await.unwrap();
                }
                assert_eq!(reader.read(idx).await.unwrap(), artifact.chunk(idx));
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    running.stop().await;
}

fn flip(path: &std::path::Path, offset: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}
