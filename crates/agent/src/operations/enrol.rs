//! Enrols this machine: verified metadata first, the secret last.

use crate::clock;
use crate::documents::Documents;
use crate::enrolment::Enrolment;
use crate::folder::{DataFolder, FolderError};
use crate::nodes::Source;
use crate::restate;
use sluice_api::device::DeviceKind;
use sluice_api_client::{
    Bootstrap, BootstrapError, EnrolmentTokenText, RepositoryClient, TokenError, bootstrap, enrol_request, refresh,
};
use sluice_identity::{DeviceKey, KeyFileError};
use sluice_metadata::{RepositoryProfile, Trusted, View};
use sluice_model::{EndpointId, RingName, SiteName};
use sluice_state_store::{StateError, StateStore};
use std::path::PathBuf;
use std::sync::Arc;

/// What was asked for.
#[derive(Clone, Debug)]
pub struct EnrolRequest {
    /// Base URL of the repository.
    pub repository: String,
    /// The token's text.
    pub token: String,
    /// Data folder.
    pub data: PathBuf,
    /// For people; the host name when empty.
    pub name: Option<String>,
    /// A development root is fine here.
    pub accept_dev_root: bool,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolled {
    /// What signed documents call this machine.
    pub endpoint: EndpointId,
    /// Where it belongs.
    pub site: SiteName,
    /// Which ring offers to it.
    pub ring: Option<RingName>,
}

/// Why it was not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// Not a token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The key file.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The store.
    #[error(transparent)]
    State(#[from] StateError),
    /// The repository.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// A development root where nobody allowed one.
    #[error(
        "this repository's root is a development root: every key lies on one server. Add --accept-dev-root if that is meant; the token was not used"
    )]
    DevRoot,
}

/// Enrols, and stores what was verified.
pub async fn run(request: EnrolRequest) -> Result<Enrolled, EnrolError> {
    let token: EnrolmentTokenText = request.token.parse()?;
    let folder = DataFolder::open(&request.data)?;
    let key = DeviceKey::load_or_create(&folder.key())?;
    let store = StateStore::open(folder.state())?;
    let before = Enrolment::load(&store)?;
    let boot = bootstrap(&request.repository, &token, clock::timestamp()).await?;
    if boot.view.profile == RepositoryProfile::Dev && !request.accept_dev_root {
        return Err(EnrolError::DevRoot);
    }
    let name = request.name.unwrap_or_else(host_name);
    let form = enrol_request(&token, &boot.root_sha256, DeviceKind::Endpoint, name, Default::default(), &key);
    let answer = boot.enrol(&form, &key).await?;
    let enrolment = Enrolment {
        repository: request.repository,
        site: answer.site.clone(),
        ring: answer.ring.clone(),
        endpoint: Some(key.endpoint_id()),
        epoch: answer.epoch,
        accepts_dev_root: request.accept_dev_root,
    };
    keep_newest(&store, &boot, &enrolment, (&answer.floor, &key.endpoint_id())).await?;
    enrolment.save(&store)?;
    if let Some(before) = before {
        begin_anew(&store, &before, &enrolment)?;
    }
    Ok(Enrolled { endpoint: key.endpoint_id(), site: answer.site, ring: answer.ring })
}

/// Drops reports that nobody takes any more, and has everything said again. The journal of another key says nothing here.
fn begin_anew(store: &StateStore, before: &Enrolment, now: &Enrolment) -> Result<(), StateError> {
    let is_other_key = before.endpoint.is_some() && before.endpoint != now.endpoint;
    let dropped = if is_other_key { store.journal_clear()? } else { store.journal_close_before(now.epoch)? };
    if dropped > 0 {
        tracing::warn!(reports = dropped, "reports of the enrolment before were never acknowledged; they are dropped");
    }
    restate::note_enrolled_anew(store)
}

/// Stores the metadata that satisfies the floor and the documents that it signs, so that the first run finds its nodes
/// with the repository down. When a second look at the repository fails, the roots alone are stored.
async fn keep_newest(
    store: &StateStore,
    boot: &Bootstrap,
    enrolment: &Enrolment,
    (floor, endpoint): (&[(String, u64)], &EndpointId),
) -> Result<(), EnrolError> {
    // The answer's floor may name versions that are newer than what was verified a moment ago.
    let mut trusted: Trusted = boot.trusted.clone();
    trusted.set_floor(floor);
    if let Ok(repository) = RepositoryClient::new(&enrolment.repository)
        && let Ok(refreshed) = refresh(&trusted, &repository, clock::timestamp()).await
        && let Ok(view) = View::of(&refreshed.trusted)
    {
        store.commit_metadata(&refreshed.trusted.files(), &view.tombstones)?;
        store.raise_floor(floor)?;
        let sources = [Source::Repository(Arc::new(repository))];
        let documents = Documents { store, view: &view, sources: &sources };
        if let Err(error) = documents.fleet(&enrolment.site, endpoint).await {
            tracing::warn!(%error, "the first run needs the repository: a document is not here yet");
        }
        return Ok(());
    }
    let mut files = boot.trusted.files();
    files.retain(|(name, _)| name.ends_with(".root.json"));
    store.commit_metadata(&files, &boot.view.tombstones)?;
    store.raise_floor(floor)?;
    Ok(())
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "endpoint".to_owned() } else { name.to_owned() }
}
