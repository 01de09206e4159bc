//! Watches that the repo server's audit log only grows: each new timestamp's head must continue the last one that was
//! proven here.
//!
//! It holds nothing up. What cannot be proven is an alarm: in the log, in `/metrics` and in this node's status, from the
//! moment it is noticed until a proof comes, also across restarts. One thing settles it without a proof: an entry of the
//! log itself that says that a restore from a backup lost what was seen, while all that was seen before the backup is
//! proven to be there. Such a gap is counted and said for good; a history that was rewritten in silence has no such entry.

use crate::clock;
use crate::http::problem::chain;
use crate::origin::Origin;
use crate::view::ViewHandle;
use sluice_api_client::ClientError;
use sluice_audit::{Doubt, Gap, PROOF_HASHES_MAX, SeenHeads, Step, judge, verify_consistency, verify_gap};
use sluice_model::LogHead;
use sluice_state_store::{StateError, StateStore};
use sluice_telemetry::metrics::{Gauge, Metrics};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// Where the heads that were proven are kept, thinned out.
const HEADS_KEY: &str = "audit_log_heads";
/// Where only the last one was kept before.
const HEAD_KEY: &str = "audit_log_head";
/// Where the number of gaps is kept.
const GAPS_KEY: &str = "audit_log_gaps";
/// Between two questions about the same head.
const RETRY: Duration = Duration::from_secs(20);
/// How long the origin may be out of reach before that is an alarm of its own: a quarter of an hour is what "fresh" means.
const SILENCE_MAX: Duration = Duration::from_secs(900);

/// What is doubted now, in words; shared with the status loop.
pub type Alarm = watch::Receiver<Option<String>>;

/// What the loop works with.
pub struct WitnessLoop {
    origin: Arc<Origin>,
    store: StateStore,
    view: ViewHandle,
    alarm: watch::Sender<Option<String>>,
    /// Told when the alarm begins or ends.
    tell: Arc<Notify>,
    size: Gauge,
    doubted: Gauge,
    gaps: Gauge,
}

impl WitnessLoop {
    /// The loop, and where its alarm is read.
    pub fn new(
        origin: Arc<Origin>,
        store: StateStore,
        view: ViewHandle,
        tell: Arc<Notify>,
        metrics: &Metrics,
    ) -> (Self, Alarm) {
        let (alarm, alarmed) = watch::channel(None);
        let size =
            metrics.gauge("audit_log_size", "Entries of the audit log that are proven to continue what was seen");
        let doubted =
            metrics.gauge("audit_log_doubted", "1 while the audit log is not shown to be the one that was seen");
        let gaps =
            metrics.gauge("audit_log_gaps", "Gaps after a restore that the audit log marks and this node accepted");
        (Self { origin, store, view, alarm, tell, size, doubted, gaps }, alarmed)
    }

    /// Runs until `stop`. The error is that of the disk.
    pub async fn run(self, stop: CancellationToken) -> Result<(), StateError> {
        let mut views = self.view.changed();
        let mut seen = self.load().await?;
        self.size.set(seen.newest().map_or(0, |head| i64::try_from(head.size).unwrap_or(i64::MAX)));
        // Since when a head waits for its proof.
        let mut unproven: Option<Instant> = None;
        loop {
            let signed = views.borrow_and_update().trusted.log_head();
            let judged = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                judged = self.look(&seen, signed, &mut unproven) => judged,
            };
            let is_settled = matches!(judged, Judged::Same | Judged::Proven(_) | Judged::Gap(..));
            match judged {
                Judged::Proven(head) => {
                    seen.push(head);
                    self.save(&seen).await?;
                    self.set_alarm(None);
                }
                Judged::Gap(gap, head) => {
                    seen.settle(&gap, head);
                    self.save(&seen).await?;
                    self.note_gap(&gap).await?;
                    self.set_alarm(None);
                }
                Judged::Same => self.set_alarm(None),
                Judged::Doubted(doubt) => self.set_alarm(Some(doubt)),
                Judged::Waiting => {}
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                changed = views.changed() => if changed.is_err() { return Ok(()) },
                () = tokio::time::sleep(RETRY), if !is_settled => {}
            }
        }
    }

    async fn look(&self, seen: &SeenHeads, signed: Option<LogHead>, unproven: &mut Option<Instant>) -> Judged {
        let judged = self.judge(seen.newest(), signed, unproven).await;
        let (Some(last), Some(to)) = (seen.newest(), signed) else { return judged };
        if !matches!(judged, Judged::Doubted(_)) {
            return judged;
        }
        match self.marked_gap(seen, last, to).await {
            Some(gap) => {
                *unproven = None;
                Judged::Gap(gap, to)
            }
            None => judged,
        }
    }

    /// The gap by which the log itself explains that it does not continue `last`, if all before the backup is there.
    async fn marked_gap(&self, seen: &SeenHeads, last: LogHead, to: LogHead) -> Option<Gap> {
        let asked = self.origin.ask(|client| async move { client.log_gap(last.size, to.size).await });
        let mark = asked.await.inspect_err(|error| tracing::debug!(error = chain(error), "no gap is marked")).ok()?;
        let gap = match verify_gap(&last, &to, mark.seq, &mark.leaf, &mark.hashes) {
            Ok(gap) => gap,
            Err(reason) => {
                tracing::warn!(%reason, "what the repo server shows does not explain its audit log");
                return None;
            }
        };
        // Nothing was seen before the backup: a node that joined after it.
        let Some(from) = seen.newest_within(gap.backup.size) else { return Some(gap) };
        let asked = self.origin.ask(|client| async move { client.log_consistency(from.size, to.size).await });
        let proof = asked.await.ok()?;
        match verify_consistency(&from, &to, &proof.hashes) {
            Ok(()) => Some(gap),
            Err(reason) => {
                tracing::warn!(%reason, "a gap is marked, but what stood before it was changed");
                None
            }
        }
    }

    async fn note_gap(&self, gap: &Gap) -> Result<(), StateError> {
        tracing::warn!(
            backup = gap.backup.size,
            lost = gap.lost.size,
            by = gap.by,
            reason = gap.reason,
            "the repo server was restored from a backup, and its audit log says so: what it wrote after the backup is lost"
        );
        let store = self.store.clone();
        let counted = tokio::task::spawn_blocking(move || {
            let count = store.get_u64(GAPS_KEY)?.unwrap_or(0).saturating_add(1);
            store.put_u64(GAPS_KEY, count).map(|()| count)
        });
        if let Ok(count) = counted.await {
            self.gaps.set(i64::try_from(count?).unwrap_or(i64::MAX));
        }
        Ok(())
    }

    async fn judge(&self, proven: Option<LogHead>, signed: Option<LogHead>, unproven: &mut Option<Instant>) -> Judged {
        let (from, to) = match judge(proven, signed) {
            Step::Nothing => return Judged::Same,
            Step::Take(head) => return Judged::Proven(head),
            Step::Doubt(doubt) => return Judged::Doubted(doubt),
            Step::Ask { from, to } => (from, to),
        };
        let since = *unproven.get_or_insert_with(clock::now);
        let answer = self.origin.ask(|client| async move { client.log_consistency(from.size, to.size).await }).await;
        let doubt = |why: String| Judged::Doubted(Doubt::Unproven { size: to.size, why });
        match answer {
            Ok(proof) if proof.hashes.len() > PROOF_HASHES_MAX => doubt("the proof is too long".into()),
            Ok(proof) => match verify_consistency(&from, &to, &proof.hashes) {
                Ok(()) => {
                    *unproven = None;
                    Judged::Proven(to)
                }
                Err(error) => Judged::Doubted(Doubt::Other(error)),
            },
            Err(error) if is_absence(&error) && clock::now().saturating_duration_since(since) < SILENCE_MAX => {
                tracing::debug!(error = chain(&error), "the origin was not asked about its audit log");
                Judged::Waiting
            }
            Err(error) => doubt(chain(&error)),
        }
    }

    fn set_alarm(&self, doubt: Option<Doubt>) {
        let text = doubt.map(|doubt| doubt.to_string());
        let is_new = self.alarm.send_if_modified(|current| {
            let is_new = *current != text;
            current.clone_from(&text);
            is_new
        });
        self.doubted.set(i64::from(text.is_some()));
        if !is_new {
            return;
        }
        match text {
            Some(doubt) => tracing::error!(%doubt, "ALARM: the audit log of the repo server is in doubt"),
            None => tracing::info!("the audit log of the repo server is shown to be the one that was seen"),
        }
        self.tell.notify_one();
    }

    async fn load(&self) -> Result<SeenHeads, StateError> {
        let store = self.store.clone();
        let stored = tokio::task::spawn_blocking(move || {
            Ok::<_, StateError>((store.get(HEADS_KEY)?, store.get(HEAD_KEY)?, store.get_u64(GAPS_KEY)?))
        });
        let (heads, head, gaps) = stored.await.unwrap_or(Ok((None, None, None)))?;
        self.gaps.set(gaps.map_or(0, |gaps| i64::try_from(gaps).unwrap_or(i64::MAX)));
        // What cannot be read back is no head: the next one is taken as the first.
        let heads = heads.and_then(|bytes| serde_json::from_slice::<SeenHeads>(&bytes).ok());
        let head = head.and_then(|bytes| serde_json::from_slice::<LogHead>(&bytes).ok());
        Ok(heads.unwrap_or_else(|| {
            let mut heads = SeenHeads::default();
            head.into_iter().for_each(|head| heads.push(head));
            heads
        }))
    }

    async fn save(&self, seen: &SeenHeads) -> Result<(), StateError> {
        self.size.set(seen.newest().map_or(0, |head| i64::try_from(head.size).unwrap_or(i64::MAX)));
        let store = self.store.clone();
        let bytes = serde_json::to_vec(seen).expect("numbers and hashes");
        tokio::task::spawn_blocking(move || store.put(HEADS_KEY, &bytes)).await.unwrap_or(Ok(()))
    }
}

/// What came of a look.
enum Judged {
    Same,
    Proven(LogHead),
    Doubted(Doubt),
    /// The log itself says that a restore lost what was seen, and all before that is there.
    Gap(Gap, LogHead),
    /// Nobody could be asked yet.
    Waiting,
}

/// Whether nobody answered, or nobody who could just now: a refusal or a wrong answer is another matter.
fn is_absence(error: &ClientError) -> bool {
    let is_busy = error.problem().is_some_and(|problem| problem.status >= 500 || problem.status == 429);
    is_busy || error.is_connection() || matches!(error, ClientError::BadUrl { .. })
}
