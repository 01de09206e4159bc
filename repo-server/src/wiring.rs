//! Builds the program, spawns its tasks into one set, and stops them in order. The bill of materials.
//!
//! Start: keys and stores, listeners, then tasks. Stop: SIGTERM or SIGINT cancels the front tasks; when they are done
//! the stores' tasks follow; all within [`STOP_WITHIN`]. A task that ends without being told to stops the program.

use crate::authority::{Authority, AuthorityTasks};
use crate::clock;
use crate::counters::SiteLinks;
use crate::gauges::Gauges;
use crate::node_board::NodeBoard;
use crate::operations::audited::RefusalBudget;
use crate::operations::publish;
use crate::operations::upload::BusyUploads;
use crate::overlay_links::LinkTable;
use crate::overlay_loop::OverlayLoop;
use crate::quotas::Quotas;
use crate::restore_room::RestoreRoom;
use crate::state::{App, Listening, Shared};
use crate::{
    apt_loop, archive_key, certificate_loop, device_loop, http_loop, https_loop, key_files, restore_loop, sweep_loop,
    timestamp_loop,
};
use anyhow::{Context, anyhow, bail};
use sluice_api::gossip::metadata_topic;
use sluice_compliance_store::ComplianceStore;
use sluice_content_store::{ContentStore, StoreLimits, WriterTask};
use sluice_identity::{DeviceKey, InternalCa};
use sluice_metadata::RepositoryProfile;
use sluice_model::MemberAddresses;
use sluice_overlay::{Overlay, OverlayConfig};
use sluice_repo_store::{Store, members, restore};
use sluice_settings::RepoSettings;
use sluice_telemetry::metrics::Metrics;
use sluice_transport::{DeviceListener, HttpsListener, ListenLimits};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// From the signal to the end of the process.
const STOP_WITHIN: Duration = Duration::from_secs(9);
/// Shortest and longest validity of an apt index, seconds.
const APT_VALID_SECS: RangeInclusive<u64> = 10..=30 * 24 * 3_600;
/// Shortest serving lease: tests use it.
const LEASE_SECS_MIN: u64 = 10;

type Tasks = JoinSet<(&'static str, anyhow::Result<()>)>;

/// Runs the repository in `data` until a signal, or until a task fails.
pub async fn serve(settings: RepoSettings, data: PathBuf, accepts_clock: bool) -> anyhow::Result<()> {
    if settings.lease.serving_secs < LEASE_SECS_MIN {
        bail!("lease.serving_secs is {}; at least {LEASE_SECS_MIN}", settings.lease.serving_secs);
    }
    if !APT_VALID_SECS.contains(&settings.apt.valid_secs) {
        let (least, most) = (APT_VALID_SECS.start(), APT_VALID_SECS.end());
        bail!("apt.valid_secs is {}; at least {least}, at most {most}", settings.apt.valid_secs);
    }
    if !data.join("repo.redb").is_file() {
        if data.join(crate::init::DRAFTS).is_dir() {
            bail!(
                "{0} is prepared, and its root and targets are not published yet: have the drafts in {0}/{1} signed, then \
                 `sluice-repo publish --data {0} FILE...`",
                data.display(),
                crate::init::DRAFTS
            );
        }
        bail!("{0} holds no repository; make one with `sluice-repo init --dev --data {0}`", data.display());
    }
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let (front, stores) = (CancellationToken::new(), CancellationToken::new());
    let (mut front_tasks, mut store_tasks) = (Tasks::new(), Tasks::new());
    let app = start((settings, data, accepts_clock), (&mut front_tasks, &front), (&mut store_tasks, &stores)).await?;
    announce_start(&app)?;
    let ended = tokio::select! {
        _ = terminate.recv() => Ok("SIGTERM"),
        _ = interrupt.recv() => Ok("SIGINT"),
        Some(ended) = front_tasks.join_next() => Err(unexpected(ended)),
        Some(ended) = store_tasks.join_next() => Err(unexpected(ended)),
    };
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    tracing::info!(why = ended.as_ref().map_or_else(ToString::to_string, ToString::to_string), "stopping");
    let stopping = async {
        app.stopping.cancel();
        front.cancel();
        while front_tasks.join_next().await.is_some() {}
        stores.cancel();
        while store_tasks.join_next().await.is_some() {}
    };
    if tokio::time::timeout(STOP_WITHIN, stopping).await.is_err() {
        tracing::warn!("some tasks did not stop in time and are cut; everything acknowledged is durable");
    }
    let _ = std::fs::remove_file(app.data.join("listening.json"));
    ended.map(|_| ())
}

fn unexpected(ended: Result<(&'static str, anyhow::Result<()>), tokio::task::JoinError>) -> anyhow::Error {
    match ended {
        Ok((task, Ok(()))) => anyhow!("the task {task} ended although nobody stopped it"),
        Ok((task, Err(error))) => error.context(format!("the task {task} failed")),
        Err(error) => anyhow!("a task panicked: {error}"),
    }
}

async fn start(
    (settings, data, accepts_clock): (RepoSettings, PathBuf, bool),
    (front_tasks, front): (&mut Tasks, &CancellationToken),
    (store_tasks, stores): (&mut Tasks, &CancellationToken),
) -> anyhow::Result<Shared> {
    let Opened { app, authority_tasks: tasks, writer, reports_writer } = open(settings, data, accepts_clock)?;
    let lease = app.authority.lease();
    spawn(store_tasks, "content writer", {
        let stop = stores.clone();
        async move { Ok(writer.run(stop).await?) }
    });
    spawn(store_tasks, "outcome reports", infallible(reports_writer.run(stores.clone())));

    let listen = &app.settings.listen;
    let http = TcpListener::bind(listen.http).await.with_context(|| cannot_listen(listen.http, "http"))?;
    let at = app.settings.https.listen;
    let (certificates, renewal) = certificate_loop::begin(&app, reachable(at).ip())?;
    let https = HttpsListener::bind(at, certificates, https_loop::limits()).with_context(|| {
        format!("cannot listen on {at}; choose another with https.listen (or --https), or stop what uses it")
    })?;
    let device = DeviceListener::bind(listen.device, &app.device_key, ListenLimits::default())
        .with_context(|| cannot_listen(listen.device, "device"))?;
    let config = OverlayConfig {
        seed: app.device_key.signer().seed(),
        listen: listen.overlay,
        topics: vec![metadata_topic(&app.served().view.repo_id)],
    };
    let (overlay, overlay_task, events) =
        Overlay::open(config).await.with_context(|| cannot_listen(listen.overlay, "overlay"))?;
    let overlay_at = overlay.listen_addresses().first().copied().unwrap_or(listen.overlay);
    let listening = Listening {
        http: http.local_addr()?,
        https: https.local_addr()?,
        device: device.local_addr()?,
        overlay: overlay_at,
    };
    app.listening.set(listening).map_err(|_| anyhow!("the listeners were bound twice"))?;

    // A server that is being restored signs nothing yet, and does not know what content it still needs.
    if app.restore.record().is_none() {
        after_signing_began(&app).await?;
    }
    let stop = || front.clone();
    spawn(front_tasks, "signing of batches", infallible(tasks.batches.run(stop())));
    spawn(front_tasks, "timestamp", infallible(timestamp_loop::run(app.authority.clone(), lease, stop())));
    spawn(front_tasks, "restore", infallible(restore_loop::run(app.clone(), stop())));
    spawn(front_tasks, "http", infallible(http_loop::run(app.clone(), http, stop())));
    spawn(front_tasks, "https", infallible(https_loop::run(app.clone(), https, stop())));
    spawn(front_tasks, "certificates", infallible(renewal.run(stop())));
    spawn(front_tasks, "device", infallible(device_loop::run(app.clone(), device, stop())));
    spawn(front_tasks, "apt indices", infallible(apt_loop::run(app.clone(), stop())));
    spawn(front_tasks, "uploads", infallible(sweep_loop::run(app.clone(), stop())));
    let announcements = tasks.announcements;
    let follow = OverlayLoop { app: app.clone(), overlay, events, announcements };
    spawn(front_tasks, "overlay", {
        let stop = stop();
        async move { Ok(overlay_task.run(stop).await?) }
    });
    spawn(front_tasks, "announcements", {
        let stop = stop();
        async move { Ok(follow.run(stop).await?) }
    });
    Ok(app)
}

/// What a start does once this server may sign.
pub async fn after_signing_began(app: &App) -> anyhow::Result<()> {
    publish::sweep_content(app).await?;
    let listening = *app.listening.get().context("the listeners are not bound yet")?;
    tell_roster(app, listening).await
}

/// The program's state and the tasks that must run for it to move.
pub struct Opened {
    /// What requests and tasks share.
    pub app: Shared,
    /// Ends of the authority.
    pub authority_tasks: AuthorityTasks,
    /// Fills artifact files.
    pub writer: WriterTask,
    /// Writes outcome reports.
    pub reports_writer: sluice_compliance_store::WriterTask,
}

/// Opens keys and stores of the repository in `data`; binds nothing.
pub fn open(mut settings: RepoSettings, data: PathBuf, accepts_clock: bool) -> anyhow::Result<Opened> {
    let device_key = DeviceKey::load(&data.join("device.key")).context("reading the device key")?;
    let ca = InternalCa::load_or_create(&data.join(certificate_loop::CA_FOLDER), clock::timestamp())
        .context("opening the internal CA of the HTTPS listener")?;
    let keyring = key_files::load(&data.join("keys"))?;
    let store = Store::open(&data.join("repo.redb")).context("is another sluice-repo serving this folder?")?;
    let lease = Duration::from_secs(settings.lease.serving_secs);
    let (authority, authority_tasks) = Authority::open(store.clone(), keyring, lease, accepts_clock)?;
    let archive_key =
        archive_key::load_or_create(&data.join("keys"), &authority.served().view.repo_id, clock::timestamp())?;
    // A strict repository has a shorter lease than the settings may say.
    settings.lease.serving_secs = authority.lease().as_secs();
    let limits = StoreLimits {
        reserve_bytes: settings.store.reserve_bytes,
        memory_bytes: usize::try_from(settings.store.memory_bytes).unwrap_or(usize::MAX),
        ..StoreLimits::default()
    };
    let (content, writer) = ContentStore::open(&data.join("content"), limits)?;
    let (compliance, reports_writer) =
        ComplianceStore::open(&data.join("compliance.redb")).context("opening the compliance database")?;
    let restored = store.read(restore::pending)?;
    let board = NodeBoard::load(store.read(members::words)?);
    let metrics = Metrics::default();
    let app = Arc::new(App {
        store,
        authority,
        device_key,
        ca,
        archive_key,
        gauges: Gauges::new(&metrics),
        metrics,
        settings,
        boot: boot_id()?,
        content,
        publishing: tokio::sync::Mutex::new(()),
        sites: SiteLinks::default(),
        overlay_links: LinkTable::default(),
        compliance,
        board,
        quotas: Quotas::default(),
        refusals: RefusalBudget::default(),
        restore: RestoreRoom::opened(restored, clock::now()),
        showing: tokio::sync::Mutex::default(),
        busy_uploads: BusyUploads::default(),
        data,
        stopping: CancellationToken::new(),
        listening: OnceLock::new(),
    });
    Ok(Opened { app, authority_tasks, writer, reports_writer })
}

fn spawn(tasks: &mut Tasks, name: &'static str, work: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
    tasks.spawn(async move { (name, work.await) });
}

async fn infallible(work: impl Future<Output = ()>) -> anyhow::Result<()> {
    work.await;
    Ok(())
}

fn cannot_listen(address: SocketAddr, key: &str) -> String {
    let flag = key;
    format!("cannot listen on {address}; choose another with listen.{key} (or --{flag}), or stop what uses it")
}

fn boot_id() -> anyhow::Result<u32> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("the system gave no random bytes: {error}"))?;
    Ok(u32::from_be_bytes(bytes))
}

/// Writes where this origin listens into the signed roster, when it changed: devices trust no other source for it.
async fn tell_roster(app: &App, listening: Listening) -> anyhow::Result<()> {
    let addresses = MemberAddresses {
        device: vec![reachable(listening.device)],
        overlay: vec![reachable(listening.overlay)],
        http: vec![reachable(listening.http)],
    };
    let key = app.device_key.public();
    let known = app.served().roster.member(&key).map(|member| member.addresses.clone());
    match known {
        None => {
            bail!("the device key is not the origin of the signed roster: device.key belongs to another repository")
        }
        Some(known) if known == addresses => Ok(()),
        Some(_) => {
            let change = app.authority.change(move |draft, _| {
                let mut roster = draft.roster()?;
                for member in roster.members.iter_mut().filter(|member| member.key == key) {
                    member.addresses = addresses.clone();
                }
                draft.set_roster(&roster)
            });
            change.await.context("writing this server's addresses into the roster")
        }
    }
}

/// A wildcard is no address that others can dial: the address by which this machine would reach the network is taken
/// instead.
fn reachable(address: SocketAddr) -> SocketAddr {
    if !address.ip().is_unspecified() {
        return address;
    }
    // Connecting a datagram socket sends nothing; it only chooses a route.
    let routed = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
        .and_then(|socket| socket.connect(("192.0.2.1", 9)).and_then(|()| socket.local_addr()));
    let ip = routed.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |local| local.ip());
    SocketAddr::new(ip, address.port())
}

fn announce_start(app: &App) -> anyhow::Result<()> {
    let listening = app.listening.get().expect("the listeners are bound");
    write_listening(&app.data, listening)?;
    let served = app.served();
    if served.view.profile == RepositoryProfile::Dev {
        tracing::warn!("profile dev: every signing key is on this server; not for production");
    }
    tracing::info!(
        http = %listening.http, https = %listening.https, fingerprint = %app.ca.fingerprint(), device = %listening.device, overlay = %listening.overlay, data = %app.data.display(),
        repository = served.view.repo_id, lease_secs = app.settings.lease.serving_secs,
        "serving; next: sluice login http://{} with a person's token, then sluice site add; from other machines: \
         sluice login https://HOST:{} --fingerprint {}",
        listening.http, listening.https.port(), app.ca.fingerprint()
    );
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    Ok(())
}

fn write_listening(data: &Path, listening: &Listening) -> anyhow::Result<()> {
    let (path, fresh) = (data.join("listening.json"), data.join("listening.json.new"));
    let write = || {
        let mut file = std::fs::File::create(&fresh)?;
        file.write_all(serde_json::to_string(listening)?.as_bytes())?;
        std::fs::rename(&fresh, &path)
    };
    write().with_context(|| format!("writing {}", path.display()))
}
