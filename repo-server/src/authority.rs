//! The one owner of the signing keys and of the signed state: every change of what clients see goes through here.
//!
//! A change is a closure over a [`Draft`] and the open write transaction. What it edits is signed, verified as a client
//! would, stored with the operation's own records and its audit line in that one transaction, and only then served and
//! announced. An error anywhere leaves keys, database and served state as they were.
//!
//! Invariants
//! - Nothing is served that is not durable; nothing durable was signed twice under one version.
//! - While a restore from a backup is under way nothing is signed but the change that ends it.
//! - Nothing is signed while the clock stands before the newest timestamp or moved against monotonic time.

use crate::clock;
use crate::draft::{Draft, sha256_of};
use crate::operations::Failure;
use crate::proposals::Proposals;
use crate::served::Served;
use arc_swap::ArcSwap;
use bytes::Bytes;
use sluice_api::problem::ProblemType;
use sluice_metadata::{Keyring, Publication, RepositoryProfile, RoleName, Signer, WriteError, Writer};
use sluice_model::{Sha256, Timestamp};
use sluice_repo_store::metadata::NewMetadata;
use sluice_repo_store::{Store, WriteTx, audit, metadata, restore};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc, oneshot, watch};

/// Longest lease of a strict repository.
const STRICT_LEASE_MAX: Duration = Duration::from_secs(3_600);
/// How far the system clock may move against monotonic time before nothing more is signed.
const CLOCK_STEP_MAX: Duration = Duration::from_secs(300);
/// Batched changes that may wait; further callers wait for room.
const BATCH_QUEUE_MAX: usize = 256;
/// Changes in one batch.
const BATCH_CHANGES_MAX: usize = 256;
/// Least time between two batches: under load one signing a second.
const BATCH_INTERVAL: Duration = Duration::from_secs(1);
/// Commits that wait to be announced; when nobody drains them the next timestamp tells of them anyway.
const ANNOUNCEMENTS_MAX: usize = 64;

/// What a commit changed, to be gossiped.
pub type Announcement = Arc<Publication>;

/// Handle of the authority; cheap to clone.
#[derive(Clone)]
pub struct Authority {
    store: Store,
    signing: Arc<Mutex<Signing>>,
    served: Arc<ArcSwap<Served>>,
    lease: Duration,
    /// Whether the operator vouched for a clock that stands before the newest timestamp, or that moved.
    accepts_clock: bool,
    started: (Instant, Timestamp),
    /// Whether this server is being restored from a backup.
    restoring: Arc<AtomicBool>,
    announcements: mpsc::Sender<Announcement>,
    batch: mpsc::Sender<Job>,
    /// Version of the timestamp that is served: whoever follows the signed state waits for it to change.
    version: watch::Sender<u64>,
}

struct Signing {
    writer: Writer,
    keyring: Arc<Keyring>,
    proposals: Proposals,
}

type Job = Box<dyn FnOnce(&mut Draft, &WriteTx) -> Answer + Send>;
type Answer = Box<dyn FnOnce(Result<(), String>) + Send>;

/// The other ends of an [`Authority`].
pub struct AuthorityTasks {
    /// One message a commit.
    pub announcements: mpsc::Receiver<Announcement>,
    /// Signs batched changes.
    pub batches: BatchTask,
}

impl Authority {
    /// Takes up the stored metadata. A strict repository shortens `lease` to [`STRICT_LEASE_MAX`].
    ///
    /// With `accepts_clock` it signs although the clock stands before the newest timestamp or moved, because the operator
    /// vouches for it; what is signed then is dated as the newest timestamp, so that no client sees time go backwards.
    pub fn open(
        store: Store,
        keyring: Keyring,
        lease: Duration,
        accepts_clock: bool,
    ) -> Result<(Self, AuthorityTasks), Failure> {
        let (writer, served, proposals, is_restoring) = store.read(|tx| -> Result<_, Failure> {
            let files: Vec<(String, Arc<[u8]>)> =
                metadata::current_files(tx)?.into_iter().map(|(name, bytes)| (name, Arc::from(bytes))).collect();
            let writer = Writer::load(&files).map_err(|error| Failure::broken("reading the stored metadata", error))?;
            let served = Served::of(writer.trusted(), None, |_, reference| {
                Ok(metadata::document(tx, &reference.sha256)?.map(Bytes::from))
            })?;
            Ok((writer, served, Proposals::load(tx)?, restore::pending(tx)?.is_some()))
        })?;
        let lease = match served.view.profile {
            RepositoryProfile::Strict => lease.min(STRICT_LEASE_MAX),
            RepositoryProfile::Dev | RepositoryProfile::Standard => lease,
        };
        let (announcements, announcements_out) = mpsc::channel(ANNOUNCEMENTS_MAX);
        let (batch, jobs) = mpsc::channel(BATCH_QUEUE_MAX);
        let authority = Self {
            store,
            signing: Arc::new(Mutex::new(Signing { writer, keyring: Arc::new(keyring), proposals })),
            version: watch::Sender::new(served.view.timestamp_version),
            served: Arc::new(ArcSwap::from_pointee(served)),
            lease,
            accepts_clock,
            started: (clock::now(), clock::timestamp()),
            restoring: Arc::new(AtomicBool::new(is_restoring)),
            announcements,
            batch,
        };
        let batches = BatchTask { authority: authority.clone(), jobs };
        Ok((authority, AuthorityTasks { announcements: announcements_out, batches }))
    }

    /// How long a timestamp is valid.
    pub fn lease(&self) -> Duration {
        self.lease
    }

    /// What is served now.
    pub fn served(&self) -> Arc<Served> {
        self.served.load_full()
    }

    /// Changes whenever another state is served.
    pub fn versions(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Makes one change and answers when it is durable and served. When `work` edits nothing that is signed, its
    /// records are still stored. Once its turn has come it happens even when the future is dropped.
    pub async fn change<T, W>(&self, work: W) -> Result<T, Failure>
    where
        T: Send + 'static,
        W: FnOnce(&mut Draft, &WriteTx) -> Result<T, Failure> + Send + 'static,
    {
        let signing = self.signing.clone().lock_owned().await;
        let authority = self.clone();
        tokio::task::spawn_blocking(move || authority.commit(signing, work))
            .await
            .map_err(|error| Failure::broken("changing the signed state", error))?
    }

    /// Like [`Authority::change`], but together with others: under load at most one signing a second.
    ///
    /// `work` must refuse before it writes or edits anything, because its neighbours in the batch go on.
    pub async fn change_batched<T, W>(&self, work: W) -> Result<T, Failure>
    where
        T: Send + 'static,
        W: FnOnce(&mut Draft, &WriteTx) -> Result<T, Failure> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |draft, tx| {
            let result = work(draft, tx);
            Box::new(move |committed: Result<(), String>| {
                let result = match committed {
                    Ok(()) => result,
                    Err(reason) => Err(Failure::broken("signing a batch of changes", reason)),
                };
                // The caller may be gone; the change stands.
                let _ = answer.send(result);
            })
        });
        let stopping = || Failure::refused(ProblemType::NotReady, "the repo server is stopping; try again");
        self.batch.send(job).await.map_err(|_| stopping())?;
        answered.await.map_err(|_| stopping())?
    }

    /// The one change that is made while a restore is under way: the one that ends it.
    pub async fn adopt<T, W>(&self, work: W) -> Result<T, Failure>
    where
        T: Send + 'static,
        W: FnOnce(&mut Draft, &WriteTx) -> Result<T, Failure> + Send + 'static,
    {
        self.change(move |draft, tx| {
            draft.adopts = true;
            work(draft, tx)
        })
        .await
    }

    /// The restore is durable: changes are signed again.
    pub fn end_restore(&self) {
        self.restoring.store(false, Ordering::Release);
    }

    /// Signs a new timestamp, and with it every role that is near its expiry. Nothing while a restore is under way.
    pub async fn renew(&self) -> Result<(), Failure> {
        if self.restoring.load(Ordering::Acquire) {
            return Ok(());
        }
        self.change(|draft, _| {
            draft.renew = true;
            Ok(())
        })
        .await
    }

    fn commit<T>(
        &self,
        mut signing: OwnedMutexGuard<Signing>,
        work: impl FnOnce(&mut Draft, &WriteTx) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let now = self.now();
        let (value, made, proposals) = self.store.write(|tx| {
            let proposals = signing.proposals.clone();
            let mut draft = Draft::new(self.served(), signing.writer.clone(), now, signing.keyring.clone(), proposals);
            let value = work(&mut draft, tx)?;
            if (draft.changed || draft.renew) && !draft.adopts && self.restoring.load(Ordering::Acquire) {
                let detail = "the repo server was restored from a backup and waits for its nodes to show what it forgot; \
                              nothing is signed until then; its log names the nodes that it waits for";
                return Err(Failure::refused(ProblemType::NotReady, detail));
            }
            let mut proposals = std::mem::take(&mut draft.proposals);
            let made = if draft.changed || draft.renew { Some(self.sign(draft, &signing.keyring, tx)?) } else { None };
            proposals.store(tx, made.as_ref().map_or(&signing.writer, |(writer, _, _)| writer))?;
            Ok::<_, Failure>((value, made, proposals))
        })?;
        signing.proposals = proposals;
        if let Some((writer, served, publication)) = made {
            signing.writer = writer;
            let version = served.view.timestamp_version;
            self.served.store(Arc::new(served));
            self.version.send_replace(version);
            if self.announcements.try_send(Arc::new(publication)).is_err() {
                tracing::debug!("a commit was not announced: the overlay is behind or down");
            }
        }
        Ok(value)
    }

    /// The time of a change.
    fn now(&self) -> Timestamp {
        let now = clock::timestamp();
        if self.accepts_clock { now.max(self.served.load().view.issued_at) } else { now }
    }

    /// Takes a further key of an online role, which `write` has made durable when it comes back.
    pub async fn add_key(
        &self,
        role: RoleName,
        signer: Signer,
        write: impl FnOnce() -> Result<(), Failure> + Send + 'static,
    ) -> Result<(), Failure> {
        let mut signing = self.signing.clone().lock_owned().await;
        tokio::task::spawn_blocking(move || {
            write()?;
            Arc::make_mut(&mut signing.keyring).insert(role, signer);
            Ok(())
        })
        .await
        .map_err(|error| Failure::broken("adding a key", error))?
    }

    /// The keys of this server.
    pub async fn keyring(&self) -> Arc<Keyring> {
        self.signing.lock().await.keyring.clone()
    }

    /// Replaces the keys of this server, once `store` has made the disk agree.
    pub async fn set_keyring(
        &self,
        keyring: Keyring,
        store: impl FnOnce() -> Result<(), Failure> + Send + 'static,
    ) -> Result<(), Failure> {
        let mut signing = self.signing.clone().lock_owned().await;
        tokio::task::spawn_blocking(move || {
            signing.keyring = Arc::new(keyring);
            store()
        })
        .await
        .map_err(|error| Failure::broken("replacing the keys", error))?
    }

    fn sign(&self, draft: Draft, keyring: &Keyring, tx: &WriteTx) -> Result<(Writer, Served, Publication), Failure> {
        self.check_clock(draft.now())?;
        let now = draft.now();
        let log = audit::head(tx)?;
        let Draft { mut writer, documents, served: before, changed, taken_over, .. } = draft;
        // What was done in this transaction is in it; the files that it leads to are leaves of the next.
        writer.set_log_head(log);
        let publication = if changed {
            writer.commit(keyring, now, self.lease)
        } else {
            writer.resign_timestamp(keyring, now, self.lease)
        }
        .map_err(sign_failure)?;
        let after = Served::of(writer.trusted(), Some(&before), |name, _| {
            Ok(documents.get(name).or_else(|| before.documents.get(name)).cloned())
        })?;
        let mut new = stored(&before, &after, &publication, documents.values());
        new.replaced_files.extend(taken_over.into_iter().filter(|name| !after.files.contains_key(name)));
        metadata::put(tx, &new, now)?;
        if let Some((_, timestamp)) = new.files.iter().find(|(name, _)| name == "timestamp.json") {
            audit::put_head(tx, log.size, timestamp)?;
        }
        Ok((writer, after, publication))
    }

    fn check_clock(&self, now: Timestamp) -> Result<(), Failure> {
        if self.accepts_clock {
            return Ok(());
        }
        let issued = self.served.load().view.issued_at;
        if now < issued {
            let detail = format!(
                "the server's clock says {now}, but the newest timestamp was issued at {issued}; nothing is signed until \
                 the clock is right; if it is right now and was wrong then, start with --accept-clock"
            );
            return Err(Failure::refused(ProblemType::NotReady, detail));
        }
        let (instant, wall) = self.started;
        let expected = wall.plus(clock::now().saturating_duration_since(instant));
        if now.since(expected).max(expected.since(now)) > CLOCK_STEP_MAX {
            let detail = format!(
                "the server's clock says {now}, but by the time that passed since the start it should be {expected}; \
                 nothing is signed: set the clock right and restart the repo server"
            );
            return Err(Failure::refused(ProblemType::NotReady, detail));
        }
        Ok(())
    }
}

fn sign_failure(error: WriteError) -> Failure {
    match error {
        WriteError::RoleFull { .. } | WriteError::RoleTooLarge { .. } => {
            Failure::refused(ProblemType::Full, error.to_string())
        }
        WriteError::ClockBehind { .. } => Failure::refused(ProblemType::NotReady, error.to_string()),
        WriteError::Unsigned { .. } | WriteError::NotNext { .. } => {
            Failure::refused(ProblemType::Conflict, error.to_string())
        }
        other => Failure::broken("signing metadata", other),
    }
}

fn stored<'a>(
    before: &Served,
    after: &Served,
    publication: &Publication,
    documents: impl Iterator<Item = &'a Bytes>,
) -> NewMetadata {
    let shas = |served: &Served| -> BTreeSet<Sha256> { served.view.documents.values().map(|d| d.sha256).collect() };
    NewMetadata {
        files: publication.files.clone(),
        documents: documents.map(|bytes| (sha256_of(bytes), bytes.to_vec())).collect(),
        replaced_files: before.files.keys().filter(|name| !after.files.contains_key(*name)).cloned().collect(),
        replaced_documents: shas(before).difference(&shas(after)).copied().collect(),
    }
}

/// Signs batched changes, at most one batch a [`BATCH_INTERVAL`].
pub struct BatchTask {
    authority: Authority,
    jobs: mpsc::Receiver<Job>,
}

impl BatchTask {
    /// Runs until every handle is gone or `stop` is cancelled; what was taken is finished.
    pub async fn run(mut self, stop: tokio_util::sync::CancellationToken) {
        loop {
            let mut jobs = Vec::new();
            let received = tokio::select! {
                biased;
                () = stop.cancelled() => 0,
                received = self.jobs.recv_many(&mut jobs, BATCH_CHANGES_MAX) => received,
            };
            if received == 0 {
                return;
            }
            self.commit(jobs).await;
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(BATCH_INTERVAL) => {}
            }
        }
    }

    async fn commit(&self, jobs: Vec<Job>) {
        let answers = Arc::new(std::sync::Mutex::new(Vec::with_capacity(jobs.len())));
        let collected = answers.clone();
        let result = self
            .authority
            .change(move |draft, tx| {
                let made: Vec<Answer> = jobs.into_iter().map(|job| job(draft, tx)).collect();
                *collected.lock().expect("nothing panics while it holds the answers") = made;
                Ok(())
            })
            .await;
        let failed = result.err().map(|failure| {
            tracing::error!(error = &failure as &dyn std::error::Error, "a batch of changes was not signed");
            failure.to_string()
        });
        let made = std::mem::take(&mut *answers.lock().expect("nothing panics while it holds the answers"));
        for answer in made {
            answer(failed.clone().map_or(Ok(()), Err));
        }
    }
}
