//! The loop over real stores and really signed metadata; the origin cannot be reached.

use super::*;
use crate::operations::restore;
use crate::testing::{Repository, Stores, bundle, no_origin, place, published, view_with};
use sluice_model::RetractedContent;
use std::path::Path;

struct Running {
    stores: Stores,
    view: ViewHandle,
    gossip: mpsc::Sender<Gossiped>,
    fenced: watch::Receiver<u64>,
}

impl Running {
    /// Starts with what is stored below `dir`.
    fn start(dir: &Path) -> Self {
        let stores = Stores::open(dir);
        let first = restore::restore(&stores.state, &place()).unwrap();
        Self::over(stores, first)
    }

    /// Stores and starts with the repository's first metadata.
    async fn join(dir: &Path, repository: &Repository) -> Self {
        let stores = Stores::open(dir);
        let first = view_with(repository.first(), &[]);
        advance::commit(&stores.state, &first).await.unwrap();
        Self::over(stores, first)
    }

    fn over(mut stores: Stores, first: NodeView) -> Self {
        let (publisher, view) = published(first);
        let (gossip, queue) = mpsc::channel(GOSSIP_QUEUE_MAX);
        let (fenced_sender, fenced) = watch::channel(0);
        let task = MetadataLoop {
            origin: no_origin(),
            store: stores.state.clone(),
            content: stores.content.clone(),
            publisher,
            view: view.clone(),
            gossip: queue,
            poke: Arc::new(Notify::new()),
            fenced: fenced_sender,
            hold: watch::channel(None).1,
            behind: watch::channel(None).0,
            poll: Duration::from_secs(3_600),
        };
        let stop = stores.stop.clone();
        stores.tasks.spawn(async move { task.run(stop).await.unwrap() });
        Self { stores, view, gossip, fenced }
    }

    async fn judge(&self, bundle: MetadataBundle) -> Verdict {
        let (verdict, judged) = oneshot::channel();
        self.gossip.send(Gossiped { bundle, verdict }).await.unwrap();
        judged.await.unwrap()
    }

    async fn until_version(&self, version: u64) {
        self.view.changed().wait_for(|view| view.timestamp_version == version).await.unwrap();
    }

    async fn close(self) {
        drop((self.view, self.gossip, self.fenced));
        self.stores.close().await;
    }
}

fn version(publication: &sluice_metadata::Publication) -> u64 {
    let (_, timestamp) = publication.files.last().unwrap();
    serde_json::from_slice::<serde_json::Value>(timestamp).unwrap()["signed"]["version"].as_u64().unwrap()
}

#[tokio::test]
async fn newer_metadata_is_taken_and_older_or_altered_metadata_never_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut repository = Repository::new();
    let running = Running::join(dir.path(), &repository).await;
    let yesterday = repository.renew();
    let today = repository.renew();

    assert_eq!(running.judge(bundle(&today)).await, Verdict::Accept);
    running.until_version(version(&today)).await;
    assert_eq!(running.judge(bundle(&today)).await, Verdict::Ignore, "nothing new");
    assert_eq!(running.judge(bundle(&yesterday)).await, Verdict::Ignore, "old");
    let mut altered = bundle(&repository.renew());
    for file in &mut altered.files {
        let text = String::from_utf8(file.bytes.clone()).unwrap();
        file.bytes = text.replace("\"version\":4", "\"version\":9").into_bytes();
    }
    assert_eq!(running.judge(altered).await, Verdict::Reject, "not what was signed");
    assert_eq!(running.view.load().timestamp_version, version(&today));
    running.close().await;

    let running = Running::start(dir.path());
    assert_eq!(running.view.load().timestamp_version, version(&today));
    assert_eq!(running.judge(bundle(&yesterday)).await, Verdict::Ignore);
    assert_eq!(running.view.load().timestamp_version, version(&today), "old metadata is refused after a restart too");
    running.close().await;
}

#[tokio::test]
async fn a_retraction_is_durable_before_it_is_seen_and_its_content_is_gone_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut repository = Repository::new();
    let mut running = Running::join(dir.path(), &repository).await;
    let file = dir.path().join("artifact");
    std::fs::write(&file, vec![7u8; 300_000]).unwrap();
    let imported = running.stores.content.import(&file, None, |_| {}).await.unwrap();
    let artifact = imported.cut.artifact;
    assert!(running.stores.content.reader(&artifact).is_some());

    let retraction = repository.retract(1, RetractedContent { sha256: imported.cut.sha256, blake3: artifact });
    assert_eq!(running.judge(bundle(&retraction)).await, Verdict::Accept);
    let mut views = running.view.changed();
    let seen = views.wait_for(|view| view.tombstone_serial() == 1).await.unwrap().clone();
    assert_eq!(running.stores.state.tombstones().unwrap(), seen.tombstones, "durable before it is seen");
    running.fenced.wait_for(|serial| *serial == 1).await.unwrap();
    assert!(running.stores.content.reader(&artifact).is_none(), "gone before it is called fenced");
    drop((views, seen));
    running.close().await;

    let mut running = Running::start(dir.path());
    assert_eq!(running.view.load().tombstone_serial(), 1);
    running.fenced.wait_for(|serial| *serial == 1).await.unwrap();
    running.close().await;
}

#[tokio::test]
async fn content_of_a_retraction_that_a_crash_cut_short_is_removed_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut repository = Repository::new();
    let stores = Stores::open(dir.path());
    let file = dir.path().join("artifact");
    std::fs::write(&file, vec![3u8; 100_000]).unwrap();
    let imported = stores.content.import(&file, None, |_| {}).await.unwrap();
    let content = RetractedContent { sha256: imported.cut.sha256, blake3: imported.cut.artifact };
    let first = repository.first();
    let retraction = bundle(&repository.retract(1, content));
    let mut read = |name: &str| retraction.file(name).map(<[u8]>::to_vec);
    let trusted = first.apply(&mut read, clock::timestamp()).unwrap().trusted;
    advance::commit(&stores.state, &view_with(trusted, &[])).await.unwrap();
    stores.close().await;

    let mut running = Running::start(dir.path());
    running.fenced.wait_for(|serial| *serial == 1).await.unwrap();
    assert!(running.stores.content.reader(&imported.cut.artifact).is_none());
    running.close().await;
}

#[tokio::test]
async fn a_hint_is_forwarded_and_believed_only_with_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut repository = Repository::new();
    let running = Running::join(dir.path(), &repository).await;
    let content =
        RetractedContent { sha256: sluice_model::Sha256::from_bytes([5; 32]), blake3: ArtifactId::from_bytes([5; 32]) };
    let mut hint = bundle(&repository.retract(1, content));
    hint.files.retain(|file| file.name == TIMESTAMP_FILE);
    let before = running.view.load().timestamp_version;
    assert_eq!(running.judge(hint).await, Verdict::Accept);
    assert_eq!(running.view.load().timestamp_version, before);
    running.close().await;
}

#[test]
fn a_fork_is_held_against_its_sender_and_an_old_version_is_not() {
    let role = sluice_metadata::RoleName::timestamp();
    let old = MetadataError::Rollback { role: role.clone(), found: 3, trusted: 4 };
    assert_eq!(judge_refusal(&old), Verdict::Ignore);
    let forked = MetadataError::SameVersionOtherBytes { role, version: 4 };
    assert_eq!(judge_refusal(&forked), Verdict::Reject);
}

#[tokio::test]
async fn a_start_with_the_clock_set_back_serves_nothing_until_a_newer_timestamp_arrives() {
    let dir = tempfile::tempdir().unwrap();
    let mut repository = Repository::new();
    Running::join(dir.path(), &repository).await.close().await;

    let running = Running::start(dir.path());
    let stored = running.view.load();
    let set_back = sluice_model::Timestamp::from_millis(stored.issued_at.as_millis() - 1);
    assert!(!stored.freshness_at(set_back, clock::since_boot()).is_within_lease());
    assert!(stored.freshness_at(stored.issued_at, clock::since_boot()).is_within_lease(), "the clock is right again");

    let newer = repository.renew();
    assert_eq!(running.judge(bundle(&newer)).await, Verdict::Accept);
    running.until_version(version(&newer)).await;
    let newer = running.view.load();
    assert!(
        newer.freshness_at(set_back, clock::since_boot()).is_within_lease(),
        "the steady clock counts from its arrival"
    );
    drop((stored, newer));
    running.close().await;
}
