//! Watches that the repo server's audit log only grows: each new timestamp's head must continue the last one that was
//! proven here.
//!
//! It holds nothing up. What cannot be proven is an alarm: in the log, in `/metrics` and in this node's status, from the
//! moment it is noticed until a proof comes, also across restarts.

use crate::clock;
use crate::http::problem::chain;
use crate::origin::Origin;
use crate::view::ViewHandle;
use sluice_api_client::ClientError;
use sluice_audit::{Doubt, PROOF_HASHES_MAX, Step, judge, verify_consistency};
use sluice_model::LogHead;
use sluice_state_store::{StateError, StateStore};
use sluice_telemetry::metrics::{Gauge, Metrics};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// Where the last proven head is kept.
const HEAD_KEY: &str = "audit_log_head";
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
        (Self { origin, store, view, alarm, tell, size, doubted }, alarmed)
    }

    /// Runs until `stop`. The error is that of the disk.
    pub async fn run(self, stop: CancellationToken) -> Result<(), StateError> {
        let mut views = self.view.changed();
        let mut proven = self.load().await?;
        self.size.set(proven.map_or(0, |head| i64::try_from(head.size).unwrap_or(i64::MAX)));
        // Since when a head waits for its proof.
        let mut unproven: Option<Instant> = None;
        loop {
            let signed = views.borrow_and_update().trusted.log_head();
            let judged = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                judged = self.look(proven, signed, &mut unproven) => judged,
            };
            let is_settled = matches!(judged, Judged::Same | Judged::Proven(_));
            match judged {
                Judged::Proven(head) => {
                    proven = Some(head);
                    self.save(head).await?;
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

    async fn look(&self, proven: Option<LogHead>, signed: Option<LogHead>, unproven: &mut Option<Instant>) -> Judged {
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

    async fn load(&self) -> Result<Option<LogHead>, StateError> {
        let store = self.store.clone();
        let stored = tokio::task::spawn_blocking(move || store.get(HEAD_KEY)).await;
        // What cannot be read back is no head: the next one is taken as the first.
        Ok(stored.unwrap_or(Ok(None))?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    async fn save(&self, head: LogHead) -> Result<(), StateError> {
        self.size.set(i64::try_from(head.size).unwrap_or(i64::MAX));
        let store = self.store.clone();
        let bytes = serde_json::to_vec(&head).expect("a number and a hash");
        tokio::task::spawn_blocking(move || store.put(HEAD_KEY, &bytes)).await.unwrap_or(Ok(()))
    }
}

/// What came of a look.
enum Judged {
    Same,
    Proven(LogHead),
    Doubted(Doubt),
    /// Nobody could be asked yet.
    Waiting,
}

/// Whether nobody answered, or nobody who could just now: a refusal or a wrong answer is another matter.
fn is_absence(error: &ClientError) -> bool {
    let is_busy = error.problem().is_some_and(|problem| problem.status >= 500 || problem.status == 429);
    is_busy || error.is_connection() || matches!(error, ClientError::BadUrl { .. })
}
