//! The bill of materials: opens everything that the agent is made of, and runs its tasks.

use crate::delivery::Delivery;
use crate::delivery_loop;
use crate::dpkg::{Dpkg, DpkgError};
use crate::enrolment::Enrolment;
use crate::folder::DataFolder;
use crate::nodes::Links;
use crate::operations::run::RunError;
use crate::pass::{Agent, Parts, PassError};
use crate::poll_loop;
use crate::trust::{Trust, TrustError};
use sluice_identity::{DeviceKey, KeyFileError};
use sluice_settings::AgentSettings;
use sluice_state_store::{StateError, StateStore};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A node is given at least this long to bring reports through.
const WITHIN_LEAST: Duration = Duration::from_millis(200);

/// Why the agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the store.
    #[error("an agent already runs with the data folder {}", data.display())]
    Running {
        /// The folder.
        data: PathBuf,
    },
    /// Not enrolled.
    #[error(
        "this machine is not enrolled (data folder {}); get a token with `sluice token new --kind endpoint --site SITE --ring RING` and run `sluice-agent enrol`",
        data.display()
    )]
    NotEnrolled {
        /// The folder.
        data: PathBuf,
    },
    /// The store.
    #[error(transparent)]
    State(#[from] StateError),
    /// The key.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// dpkg.
    #[error(transparent)]
    Dpkg(#[from] DpkgError),
    /// Metadata.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The first look.
    #[error("there is nothing to explain yet; run `sluice-agent run --once`")]
    Look(#[source] Box<PassError>),
}

/// Everything, ready to run.
pub struct Opened {
    /// Acts.
    pub(crate) agent: Agent,
    /// Delivers.
    pub(crate) delivery: Delivery,
    /// Whom the delivery talks to.
    pub(crate) links: watch::Receiver<Arc<Links>>,
    /// Wakes the delivery.
    pub(crate) journaled: Arc<Notify>,
}

/// Opens key, store, metadata and dpkg.
pub(crate) fn open(folder: &DataFolder, settings: AgentSettings, stop: CancellationToken) -> Result<Opened, OpenError> {
    let data = folder.path().to_owned();
    let store = match StateStore::open(folder.state()) {
        Err(StateError::InUse { .. }) => return Err(OpenError::Running { data }),
        other => other?,
    };
    let not_enrolled = || OpenError::NotEnrolled { data: data.clone() };
    let enrolment = Enrolment::load(&store)?.ok_or_else(not_enrolled)?;
    let key = DeviceKey::load(&folder.key())?;
    let trust = Trust::load(store.clone(), enrolment.accepts_dev_root)?.ok_or_else(not_enrolled)?;
    let dpkg = Dpkg::open(settings.dpkg.clone())?;
    tracing::info!(
        endpoint = %key.endpoint_id(),
        site = %enrolment.site,
        data = %data.display(),
        root = %dpkg.root().display(),
        timestamp_version = trust.timestamp_version(),
        "sluice-agent; `sluice-agent explain` says what it decides and why"
    );
    let links = first_links(&store, &trust, &enrolment, &key);
    let (sender, receiver) = watch::channel(Arc::new(links));
    let journaled = Arc::new(Notify::new());
    let within = Duration::from_millis(settings.poll.acknowledged_within_ms).max(WITHIN_LEAST);
    let delivery = Delivery::new(store.clone(), key.endpoint_id(), enrolment.epoch, within);
    let parts = Parts {
        key,
        store,
        folder: folder.clone(),
        dpkg,
        trust,
        enrolment,
        settings,
        links: sender,
        journaled: journaled.clone(),
        stop,
    };
    Ok(Opened { agent: Agent::new(parts)?, delivery, links: receiver, journaled })
}

/// Of the roster that is stored and still signed; a roster that is not leads to the repository first.
fn first_links(store: &StateStore, trust: &Trust, enrolment: &Enrolment, key: &DeviceKey) -> Links {
    let roster = || {
        let view = trust.view()?;
        let document = view.document("fleet/roster")?;
        let bytes = store.get("document/fleet/roster").ok()??;
        sluice_metadata::read_document(document, &bytes).ok()
    };
    roster().map(|roster| Links::of(&roster, &enrolment.site, key, &Links::default())).unwrap_or_default()
}

/// Runs the two long-lived tasks until `stop`: `poll_loop` acts, `delivery_loop` reports. The first that fails stops the
/// other; a running dpkg is waited for.
pub(crate) async fn run(opened: Opened, every: Duration, stop: CancellationToken) -> Result<(), RunError> {
    let mut tasks: JoinSet<(&'static str, Result<(), RunError>)> = JoinSet::new();
    let delivering = delivery_loop::run(opened.delivery, opened.links, opened.journaled, stop.clone());
    tasks.spawn(async move { ("delivery_loop", delivering.await.map_err(RunError::from)) });
    let polling = poll_loop::run(opened.agent, every, stop.clone());
    tasks.spawn(async move { ("poll_loop", polling.await.map_err(RunError::from)) });
    notify_ready();
    let mut result = Ok(());
    while let Some(ended) = tasks.join_next().await {
        let ended = match ended {
            Ok((_, Ok(()))) if stop.is_cancelled() => Ok(()),
            Ok((name, Ok(()))) => Err(RunError::Task(name)),
            Ok((_, Err(error))) => Err(error),
            Err(error) => Err(RunError::Panicked(error)),
        };
        stop.cancel();
        result = result.and(ended);
    }
    result
}

/// Tells systemd, where it asked to be told.
fn notify_ready() {
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::debug!(%error, "systemd was not told");
    }
}
