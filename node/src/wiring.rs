//! The node's bill of materials: builds every part, spawns every task into one set, stops them in time.

use crate::clock;
use crate::counters::Counters;
use crate::device_loop::DeviceLoop;
use crate::exchange_loop::{self, ExchangeParts};
use crate::exchange_server::ExchangeServer;
use crate::hold_loop;
use crate::http::health::Gauges;
use crate::http::{self, NodeHttp};
use crate::http_loop;
use crate::limit_loop::{self, Throttles};
use crate::listening::{Listening, ListeningFile};
use crate::metadata_loop::{GOSSIP_QUEUE_MAX, MetadataLoop};
use crate::operations::join::{key_path, state_path};
use crate::operations::restore::{self, Joined, RestoreError};
use crate::origin::Origin;
use crate::overlay_loop::OverlayLoop;
use crate::report_loop::ReportLoop;
use crate::show_loop;
use crate::status_loop::StatusLoop;
use crate::trouble::Trouble;
use crate::view::{NodeView, ViewPublisher};
use crate::witness_loop::WitnessLoop;
use anyhow::{Context, anyhow};
use sluice_api::gossip::metadata_topic;
use sluice_content_store::{ContentStore, StoreLimits};
use sluice_identity::DeviceKey;
use sluice_metadata::RepositoryProfile;
use sluice_model::MemberAddresses;
use sluice_overlay::{Overlay, OverlayConfig};
use sluice_settings::{CarrierChoice, NodeSettings};
use sluice_state_store::{StateStore, hold};
use sluice_telemetry::metrics::Metrics;
use sluice_transport::{Carrier, DeviceListener, Dialer, LinkKind, ListenLimits, QuicListener};
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// After the signal to stop, how long tasks have; a service manager gives 10 s and more.
const STOP_TIMEOUT: Duration = Duration::from_secs(8);

/// The tasks of the program. An exit before `stop` ends the program.
struct Tasks {
    set: JoinSet<(&'static str, anyhow::Result<()>)>,
    stop: CancellationToken,
}

impl Tasks {
    fn spawn<F>(&mut self, name: &'static str, task: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.set.spawn(async move { (name, task.await) });
    }

    /// For tasks that cannot fail.
    fn spawn_steady(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn(name, async move {
            task.await;
            Ok(())
        });
    }
}

/// Runs the node until a signal, or until a task ends that should not.
pub async fn serve(settings: NodeSettings, data: PathBuf) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let mut tasks = Tasks { set: JoinSet::new(), stop: stop.clone() };
    let listening = start(&settings, &data, &mut tasks).await?;
    let file = ListeningFile::write(&data, &listening).context("cannot write listening.json")?;
    ready(&listening, &data);
    let outcome = until_over(&mut tasks).await;
    stop.cancel();
    let stopped = drain(&mut tasks).await;
    drop(file);
    let outcome = outcome.and(stopped);
    if outcome.is_ok() {
        tracing::info!("stopped");
    }
    outcome
}

/// Builds everything in the order of the arrows and spawns it.
async fn start(settings: &NodeSettings, data: &Path, tasks: &mut Tasks) -> anyhow::Result<Listening> {
    let (key, store, joined, mut first) = load(data)?;
    first.hold = hold::read(data);
    let (hold_sender, held) = watch::channel(first.hold.clone());
    warn_about(&first);
    let metrics = Metrics::default();
    let counters = Counters::new(&metrics);
    let trouble = Trouble::default();
    let throttles = Throttles::of(&first);
    let origin = Arc::new(Origin::new(key.clone(), joined.origin_addresses, throttles.wan.clone(), counters.clone()));
    origin.follow(&first.roster)?;
    let limits = StoreLimits {
        reserve_bytes: settings.cache.reserve_bytes,
        memory_bytes: usize::try_from(settings.cache.memory_bytes).unwrap_or(usize::MAX),
        ..StoreLimits::default()
    };
    let (content, content_task) = ContentStore::open(&data.join("content"), limits)?;

    let http_listener = bind_http(settings.listen.http).await?;
    let listen_limits = ListenLimits { link: LinkKind::Lan, ..ListenLimits::default() };
    let tcp = DeviceListener::bind(settings.listen.device, &key, listen_limits)
        .map_err(|error| in_use("device connections", settings.listen.device, error))?;
    let device_address = tcp.local_addr()?;
    let carrier = match settings.exchange.carrier {
        CarrierChoice::Tcp => Carrier::Tcp,
        CarrierChoice::Quic => Carrier::Quic,
    };
    let quic = match carrier {
        Carrier::Quic => Some(QuicListener::bind(device_address, &key, listen_limits)?),
        Carrier::Tcp => None,
    };
    let (overlay, overlay_task, overlay_events) = Overlay::open(OverlayConfig {
        seed: key.signer().seed(),
        listen: settings.listen.overlay,
        topics: vec![metadata_topic(&first.view.repo_id)],
    })
    .await?;
    let listening = Listening {
        http: http_listener.local_addr()?,
        device: device_address,
        overlay: overlay.listen_addresses().first().copied().context("the overlay listens nowhere")?,
    };
    let addresses = announced(&listening, settings, &origin);

    let (publisher, view) = ViewPublisher::new(first);
    let dialer = Dialer::new(key.clone(), carrier)?;
    let parts = ExchangeParts {
        views: view.clone(),
        store: content.clone(),
        state: store.clone(),
        counters: counters.clone(),
        trouble: trouble.clone(),
        dialer,
        wan: throttles.wan.clone(),
        wan_now: throttles.wan_now(),
    };
    let (fetch, exchange) = exchange_loop::open(parts, &tasks.stop)?;
    let (spool, spool_task) = store.spool();
    let (gossip_sender, gossip) = mpsc::channel(GOSSIP_QUEUE_MAX);
    let (fenced_sender, fenced) = watch::channel(0);
    let [look, report, tell] = std::array::from_fn(|_| Arc::new(Notify::new()));

    let node = NodeHttp {
        view: view.clone(),
        content: content.clone(),
        fetch: fetch.clone(),
        serve: throttles.serve.clone(),
        counters: counters.clone(),
        spool,
        spooled: Arc::clone(&report),
        store: store.clone(),
        fenced: fenced.clone(),
        metrics: metrics.clone(),
        gauges: Gauges::new(&metrics),
    };
    let device_loop = DeviceLoop {
        tcp,
        quic,
        router: http::device_router(node.clone()),
        views: view.clone(),
        exchange: ExchangeServer {
            key: key.clone(),
            views: view.clone(),
            store: content.clone(),
            fetch: fetch.clone(),
            state: store.clone(),
            counters: counters.clone(),
            serve: throttles.serve.clone(),
        },
    };
    let (behind, shown) = watch::channel(None);
    let metadata_loop = MetadataLoop {
        origin: Arc::clone(&origin),
        store: store.clone(),
        content: content.clone(),
        publisher,
        view: view.clone(),
        gossip,
        poke: Arc::clone(&look),
        fenced: fenced_sender,
        hold: held,
        behind,
        poll: Duration::from_millis(settings.origin.metadata_poll_ms.max(100)),
    };
    let overlay_loop = OverlayLoop {
        overlay,
        events: overlay_events,
        view: view.clone(),
        gossip: gossip_sender,
        fetch,
        origin: Arc::clone(&origin),
        origin_up: vec![look, Arc::clone(&report), Arc::clone(&tell)],
        links: metrics.gauge("overlay_links", "Members that are connected on the overlay"),
    };
    let report_loop = ReportLoop {
        origin: Arc::clone(&origin),
        store: store.clone(),
        view: view.clone(),
        poke: report,
        retry_max: Duration::from_millis(settings.origin.report_retry_ms_max),
    };
    let (witness_loop, log_alarm) =
        WitnessLoop::new(Arc::clone(&origin), store.clone(), view.clone(), Arc::clone(&tell), &metrics);
    let status_loop = StatusLoop {
        origin: Arc::clone(&origin),
        counters,
        trouble,
        log_alarm,
        store,
        content,
        view: view.clone(),
        fenced,
        poke: tell,
        addresses,
        boot: boot_number(),
        started_at: clock::timestamp(),
        every: Duration::from_millis(settings.origin.status_ms.max(100)),
        told_bans: std::collections::BTreeSet::new(),
    };

    let stop = tasks.stop.clone();
    tasks.spawn("content store", with(stop.clone(), |stop| async move { Ok(content_task.run(stop).await?) }));
    tasks.spawn("spool", with(stop.clone(), |stop| async move { Ok(spool_task.run(stop).await?) }));
    tasks.spawn("overlay", with(stop.clone(), |stop| async move { Ok(overlay_task.run(stop).await?) }));
    tasks.spawn("metadata loop", with(stop.clone(), |stop| async move { Ok(metadata_loop.run(stop).await?) }));
    tasks.spawn("overlay loop", with(stop.clone(), |stop| async move { Ok(overlay_loop.run(stop).await?) }));
    tasks.spawn("exchange loop", with(stop.clone(), |stop| exchange.run(stop)));
    tasks.spawn("report loop", with(stop.clone(), |stop| async move { Ok(report_loop.run(stop).await?) }));
    tasks.spawn("witness loop", with(stop.clone(), |stop| async move { Ok(witness_loop.run(stop).await?) }));
    tasks.spawn_steady("show loop", show_loop::run(Arc::clone(&origin), shown, stop.clone()));
    tasks.spawn_steady("status loop", status_loop.run(stop.clone()));
    tasks.spawn_steady("hold loop", hold_loop::run(data.to_owned(), hold_sender, stop.clone()));
    tasks.spawn_steady("limit loop", limit_loop::run(throttles, origin, view.clone(), stop.clone()));
    tasks.spawn_steady("device loop", device_loop.run(stop.clone()));
    tasks.spawn_steady("http loop", http_loop::run(http_listener, http::plain_router(node), view, stop));
    Ok(listening)
}

fn with<F>(stop: CancellationToken, task: impl FnOnce(CancellationToken) -> F) -> F {
    task(stop)
}

fn load(data: &Path) -> anyhow::Result<(DeviceKey, StateStore, Joined, NodeView)> {
    if !state_path(data).exists() {
        return Err(RestoreError::NotJoined.into());
    }
    let key = DeviceKey::load(&key_path(data))?;
    let store = StateStore::open(state_path(data))?;
    let joined = restore::joined(&store, key.public())?.ok_or(RestoreError::NotJoined)?;
    let first = restore::restore(&store, &joined.place)?;
    Ok((key, store, joined, first))
}

fn warn_about(first: &NodeView) {
    if first.view.profile == RepositoryProfile::Dev {
        tracing::warn!("the repository's root is of profile dev: every key is on one server; not for production");
    }
    let freshness = first.freshness();
    if !freshness.is_within_lease() {
        tracing::warn!(%freshness, "nothing is served until newer metadata arrives");
    }
}

async fn bind_http(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| in_use("HTTP", address, error))
}

fn in_use(what: &str, address: SocketAddr, error: std::io::Error) -> anyhow::Error {
    anyhow::Error::new(error).context(format!(
        "cannot listen for {what} on {address}; choose another address in [listen], or stop what uses it"
    ))
}

/// What other members are told: a wildcard becomes the address from which this machine reaches the origin.
fn announced(listening: &Listening, settings: &NodeSettings, origin: &Origin) -> MemberAddresses {
    let own = own_address(origin);
    let resolve = |wanted: SocketAddr, bound: SocketAddr| {
        let ip = if wanted.ip().is_unspecified() { own } else { bound.ip() };
        vec![SocketAddr::new(ip, bound.port())]
    };
    MemberAddresses {
        device: resolve(settings.listen.device, listening.device),
        overlay: resolve(settings.listen.overlay, listening.overlay),
        http: resolve(settings.listen.http, listening.http),
    }
}

/// Asks the routing table; no packet is sent.
fn own_address(origin: &Origin) -> IpAddr {
    let reached = origin.addresses().first().copied().and_then(|origin| {
        let any = if origin.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).ok()?;
        socket.connect(origin).ok()?;
        Some(socket.local_addr().ok()?.ip())
    });
    reached.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// Tells one start of this program from another.
fn boot_number() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u64(clock::timestamp().as_millis());
    hasher.finish()
}

fn ready(listening: &Listening, data: &Path) {
    tracing::info!(http = %listening.http, device = %listening.device, overlay = %listening.overlay, "listening");
    tracing::info!(data = %data.display(), "data folder");
    tracing::info!(
        "next: point endpoints of this site at http://{}, or enrol them with: sluice-agent enrol",
        listening.http
    );
    // Without a service manager there is nobody to tell.
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::debug!(%error, "the service manager was not told");
    }
}

/// `Ok` after a signal; the error of a task that ended by itself.
async fn until_over(tasks: &mut Tasks) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => tracing::info!("stopping: SIGTERM"),
        _ = interrupt.recv() => tracing::info!("stopping: SIGINT"),
        Some(ended) = tasks.set.join_next() => return Err(unexpected(ended)),
    }
    Ok(())
}

fn unexpected(ended: Result<(&'static str, anyhow::Result<()>), tokio::task::JoinError>) -> anyhow::Error {
    match ended {
        Ok((name, Ok(()))) => anyhow!("the task {name:?} ended unexpectedly"),
        Ok((name, Err(error))) => error.context(format!("the task {name:?} failed")),
        Err(error) => anyhow::Error::new(error).context("a task panicked"),
    }
}

/// Waits for every task; what is not done in time is cut.
async fn drain(tasks: &mut Tasks) -> anyhow::Result<()> {
    let mut outcome = Ok(());
    let drained = tokio::time::timeout(STOP_TIMEOUT, async {
        while let Some(ended) = tasks.set.join_next().await {
            match ended {
                Ok((_, Ok(()))) => {}
                failed => outcome = Err(unexpected(failed)),
            }
        }
    })
    .await;
    if drained.is_err() {
        tracing::warn!(tasks = tasks.set.len(), "not everything stopped in time; cut");
        tasks.set.abort_all();
    }
    outcome
}
