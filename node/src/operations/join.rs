//! Makes this machine a node: root by the token's hash, everything verified up to the roster, TLS pinned to the origin's
//! key, and only then the secret (trust.md section 4).

use super::advance::{self, AdvanceError};
use super::restore::{self, Joined};
use crate::clock;
use crate::counters::Counters;
use crate::origin::Origin;
use crate::view::Place;
use sluice_api::device::{DeviceKind, EnrolAnswer};
use sluice_api::problem::{Problem, ProblemType};
use sluice_api_client::{
    Bootstrap, BootstrapError, ClientError, EnrolmentTokenText, RefreshError, TokenError, bootstrap, enrol_request,
    refresh,
};
use sluice_identity::{DeviceKey, KeyFileError};
use sluice_metadata::{Trusted, View};
use sluice_model::{MemberAddresses, SiteName};
use sluice_rollout::TrustedClock;
use sluice_state_store::{StateError, StateStore};
use sluice_telemetry::metrics::Metrics;
use sluice_transport::Throttle;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long after the enrolment the signed roster may need to name this node: changes are signed once a second.
const ROSTER_TIMEOUT: Duration = Duration::from_secs(30);
const ROSTER_POLL: Duration = Duration::from_millis(200);
/// Longest name of a node.
const NAME_CHARS_MAX: usize = 128;

/// What `join` is told.
pub struct JoinRequest {
    /// The repository's URL.
    pub repository: String,
    /// The enrolment token.
    pub token: String,
    /// The node's data folder.
    pub data: PathBuf,
    /// A name for people; the host's when `None`.
    pub name: Option<String>,
}

/// Why the node did not join. Each text says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The token cannot be read.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The folder cannot be made.
    #[error("cannot create the data folder {path}; check who owns its parent")]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The device key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The state file failed.
    #[error("the state of this node cannot be written")]
    Store(#[from] StateError),
    /// This folder holds a node that joined already.
    #[error(
        "{path} already holds a node of site {site}; start it with: sluice-node serve --data {path}, or join with another --data folder"
    )]
    AlreadyJoined {
        /// The folder.
        path: String,
        /// Its site.
        site: SiteName,
    },
    /// The token has run out.
    #[error(
        "the enrolment token has expired; ask an administrator for a new one: sluice token new --kind node --site SITE"
    )]
    TokenExpired,
    /// The token is unknown, used, or for something else.
    #[error(
        "the enrolment token was refused: {0}. Tokens are for one device, one kind and one site; ask an administrator for a new one: sluice token new --kind node --site SITE"
    )]
    TokenRefused(String),
    /// Anything else on the way.
    #[error("could not enrol at {url}")]
    Bootstrap {
        /// Where.
        url: String,
        /// Why.
        #[source]
        source: BootstrapError,
    },
    /// Metadata after the enrolment.
    #[error("this node is enrolled, but the repository's metadata could not be fetched; run the same command again")]
    Refresh(#[from] RefreshError),
    /// The roster does not name the node in time.
    #[error(
        "this node is enrolled, but the signed roster did not name it within {} s; run: sluice-node serve --data DIR, or look at the repository's log",
        ROSTER_TIMEOUT.as_secs()
    )]
    NotInRoster,
    /// Metadata that cannot be used.
    #[error("the repository's metadata cannot be used")]
    Advance(#[from] AdvanceError),
    /// The way to the origin.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// Joins; afterwards `serve` can start. Safe to repeat until it succeeded.
pub async fn run(request: JoinRequest) -> Result<Joined, JoinError> {
    let token: EnrolmentTokenText = request.token.parse()?;
    let folder = |source| JoinError::Folder { path: request.data.clone(), source };
    std::fs::create_dir_all(&request.data).map_err(folder)?;
    let key = DeviceKey::load_or_create(&key_path(&request.data))?;
    let store = StateStore::open(state_path(&request.data))?;
    if let Some(joined) = restore::joined(&store, key.public())? {
        let path = request.data.display().to_string();
        return Err(JoinError::AlreadyJoined { path, site: joined.place.site });
    }
    let failed = |source| told_apart(&request.repository, source);
    let bootstrap = bootstrap(&request.repository, &token, clock::timestamp()).await.map_err(failed)?;
    let answer = enrol(&bootstrap, &token, request.name, &key).await.map_err(failed)?;
    // A re-imaged machine must not be fed older versions from now on.
    store.raise_floor(&answer.floor)?;

    let place = Place { key: key.public(), site: answer.site };
    let joined = Joined { place, origin_addresses: bootstrap.origin_addresses.clone() };
    let origin = origin(&bootstrap, key)?;
    take_first_view(&store, &joined.place, &origin, bootstrap.trusted, &answer.floor).await?;
    restore::remember(&store, &joined)?;
    Ok(joined)
}

async fn enrol(
    bootstrap: &Bootstrap,
    token: &EnrolmentTokenText,
    name: Option<String>,
    key: &DeviceKey,
) -> Result<EnrolAnswer, BootstrapError> {
    let name: String = name.unwrap_or_else(host_name).chars().take(NAME_CHARS_MAX).collect();
    // Addresses follow with the first `serve`, which knows its ports.
    let addresses = MemberAddresses::default();
    let request = enrol_request(token, &bootstrap.root_sha256, DeviceKind::Node, name, addresses, key);
    bootstrap.enrol(&request, key).await
}

fn origin(bootstrap: &Bootstrap, key: DeviceKey) -> Result<Origin, ClientError> {
    let counters = Counters::new(&Metrics::default());
    let origin = Origin::new(key, bootstrap.origin_addresses.clone(), Throttle::unlimited(), counters);
    origin.follow(&bootstrap.roster)?;
    Ok(origin)
}

/// Refreshes until the signed roster names this node, and stores that view.
async fn take_first_view(
    store: &StateStore,
    place: &Place,
    origin: &Origin,
    mut trusted: Trusted,
    floor: &[(String, u64)],
) -> Result<(), JoinError> {
    trusted.set_floor(floor);
    let deadline = tokio::time::Instant::now() + ROSTER_TIMEOUT;
    loop {
        let now = clock::timestamp();
        let from = &trusted;
        trusted = origin.ask(|client| async move { refresh(from, &client, now).await }).await?.trusted;
        let view = View::of(&trusted).map_err(AdvanceError::from)?;
        let documents = advance::fetch_documents(&view, &place.site, &Default::default(), origin).await;
        let view = advance::build(place, trusted.clone(), documents, &[], first_clock(&trusted))?;
        if view.roster.member(&place.key).is_some() {
            advance::commit(store, &view).await?;
            return Ok(());
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(JoinError::NotInRoster);
        }
        tokio::time::sleep(ROSTER_POLL).await;
    }
}

fn first_clock(trusted: &Trusted) -> TrustedClock {
    TrustedClock::loaded(trusted.issued_at().unwrap_or_default())
}

/// Refusals of the token in words of their own; everything else with its chain.
fn told_apart(url: &str, source: BootstrapError) -> JoinError {
    if let BootstrapError::Client(error) = &source {
        if error.is_problem(ProblemType::EnrolmentExpired) {
            return JoinError::TokenExpired;
        }
        let of_the_token = [
            ProblemType::EnrolmentRefused,
            ProblemType::EnrolmentUsed,
            ProblemType::EnrolmentWrongKind,
            ProblemType::EnrolmentWrongPlace,
            ProblemType::EnrolmentUnproven,
            ProblemType::DeviceRevoked,
            ProblemType::AlreadyEnrolled,
        ];
        let is_it = |problem: &&Problem| of_the_token.iter().any(|kind| problem.is(*kind));
        if let Some(problem) = error.problem().filter(is_it) {
            return JoinError::TokenRefused(problem.detail.clone());
        }
    }
    JoinError::Bootstrap { url: url.to_owned(), source }
}

/// The device key below a data folder.
pub fn key_path(data: &Path) -> PathBuf {
    data.join("device.key")
}

/// The state file below a data folder.
pub fn state_path(data: &Path) -> PathBuf {
    data.join("state.redb")
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "node".to_owned() } else { name.to_owned() }
}
