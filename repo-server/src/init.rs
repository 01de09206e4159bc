//! `sluice-repo init` and `publish`: the server's keys, the first signed metadata, and the first admin's token.
//!
//! A dev repository is made in one step. A production one is prepared first: its root and targets are drafts that people
//! sign elsewhere, and the repository exists once they are published. Everything is made in an empty folder; when a step
//! fails, what it made is removed again.

use crate::authority::Authority;
use crate::operations::{Failure, ceremony};
use crate::{archive_key, clock, key_files};
use anyhow::{Context, ensure};
use sluice_api::ceremony::CeremonyDone;
use sluice_identity::DeviceKey;
use sluice_metadata::{InitParams, InitPlan, Keyring, RepositoryProfile, Writer, dev_roles, online_roles};
use sluice_model::{
    AccessScope, Limits, Member, MemberAddresses, MemberKind, PersonName, PersonRole, Revoked, RingName, Roster,
    Timestamp, Topology,
};
use sluice_repo_store::Store;
use sluice_repo_store::audit::{self, NewAuditLine};
use sluice_repo_store::metadata::{self, NewMetadata};
use sluice_repo_store::tokens::{self, PersonTokenRecord, SecretHash};
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Lease of the first timestamp: the server re-signs with its own setting when it starts.
const FIRST_LEASE: Duration = Duration::from_secs(24 * 3_600);
/// How long the first admin's token is taken.
const FIRST_TOKEN_FOR: Duration = Duration::from_secs(90 * 24 * 3_600);
/// The first admin.
const FIRST_ADMIN: &str = "admin";

/// Folder of the drafts that people sign.
pub const DRAFTS: &str = "ceremony";

/// What was made.
pub struct Made {
    /// The admin's token; shown once.
    pub token: String,
    /// When it runs out.
    pub token_expires_at: Timestamp,
}

/// Makes a repository in `data`.
pub async fn run(data: &Path, rings: Vec<RingName>, name: &str) -> anyhow::Result<Made> {
    check_empty(data)?;
    make_folder(data)?;
    let made = make(data, rings, name).await;
    if made.is_err() {
        remove_contents(data);
    }
    made
}

async fn make(data: &Path, rings: Vec<RingName>, name: &str) -> anyhow::Result<Made> {
    for folder in ["keys", "uploads", "content"] {
        make_folder(&data.join(folder))?;
    }
    let device_key = DeviceKey::load_or_create(&data.join("device.key")).context("making the device key")?;
    let keyring = key_files::make(&data.join("keys"), dev_roles(&rings))?;
    archive_key::load_or_create(&data.join("keys"), name, clock::timestamp())?;
    let store = Store::open(&data.join("repo.redb"))?;
    let now = clock::timestamp();
    let params = InitParams {
        repo_id: name.to_owned(),
        profile: RepositoryProfile::Dev,
        rings: rings.clone(),
        now,
        lease: FIRST_LEASE,
    };
    let (_, publication) = Writer::init(params, &keyring).context("signing the first metadata")?;
    store.write(|tx| metadata::put(tx, &NewMetadata { files: publication.files, ..NewMetadata::default() }, now))?;
    let (authority, _tasks) = Authority::open(store, keyring, FIRST_LEASE, false)?;
    let made = first_documents(&authority, &device_key).await?;
    key_files::sync_folder(data)?;
    Ok(made)
}

/// Makes the server's own keys in `data`, and the drafts that people sign before there is a repository. Gives their paths.
pub fn prepare(data: &Path, plan: InitPlan) -> anyhow::Result<Vec<PathBuf>> {
    check_empty(data)?;
    make_folder(data)?;
    let made = make_drafts(data, plan);
    if made.is_err() {
        remove_contents(data);
    }
    made
}

fn make_drafts(data: &Path, plan: InitPlan) -> anyhow::Result<Vec<PathBuf>> {
    for folder in ["keys", "uploads", "content", DRAFTS] {
        make_folder(&data.join(folder))?;
    }
    DeviceKey::load_or_create(&data.join("device.key")).context("making the device key")?;
    let rings: Vec<RingName> = plan.rings.iter().map(|ring| ring.name.clone()).collect();
    let keyring = key_files::make(&data.join("keys"), online_roles(&rings))?;
    archive_key::load_or_create(&data.join("keys"), &plan.repo_id, plan.now)?;
    let mut paths = Vec::new();
    for draft in plan.drafts(&keyring).context("drafting root and targets")? {
        let path = data.join(DRAFTS).join(draft.file_name());
        key_files::write_private(&path, &draft.to_bytes())?;
        paths.push(path);
    }
    key_files::sync_folder(&data.join(DRAFTS))?;
    key_files::sync_folder(data)?;
    Ok(paths)
}

/// What came of [`publish`].
pub enum Published {
    /// The repository exists from now on.
    First(Made),
    /// It had been there.
    Next(CeremonyDone),
}

/// Brings files that people signed into force, while the server does not run: the first ones make the repository.
pub async fn publish(data: &Path, files: &[PathBuf]) -> anyhow::Result<Published> {
    let mut read = Vec::new();
    for path in files {
        let name = path.file_name().and_then(|name| name.to_str()).context("a file has no readable name")?;
        let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        read.push((name.to_owned(), bytes));
    }
    let keyring = key_files::load(&data.join("keys"))?;
    if data.join("repo.redb").is_file() {
        let store = Store::open(&data.join("repo.redb")).context(
            "is sluice-repo serving this folder? Then publish over the admin API: sluice root publish FILE...",
        )?;
        let (authority, _tasks) = Authority::open(store, keyring, FIRST_LEASE, false)?;
        let done = ceremony::enforce(&authority, data, "server", read).await;
        return done.map(Published::Next).map_err(explain);
    }
    let device_key = DeviceKey::load(&data.join("device.key"))
        .with_context(|| format!("{} holds no prepared repository; begin with sluice-repo init", data.display()))?;
    let drafts = ceremony::read(read).map_err(explain)?;
    let now = clock::timestamp();
    let (_, publication) =
        Writer::start(drafts, &keyring, now, FIRST_LEASE).context("these files do not make a repository")?;
    let made = begin(data, &device_key, keyring, publication.files, now).await;
    if made.is_err() {
        // A repository without its first documents is none.
        let _ = fs::remove_file(data.join("repo.redb"));
    }
    made.map(Published::First)
}

async fn begin(
    data: &Path,
    device_key: &DeviceKey,
    keyring: Keyring,
    files: Vec<(String, Vec<u8>)>,
    now: Timestamp,
) -> anyhow::Result<Made> {
    let store = Store::open(&data.join("repo.redb"))?;
    store.write(|tx| metadata::put(tx, &NewMetadata { files, ..NewMetadata::default() }, now))?;
    let (authority, _tasks) = Authority::open(store, keyring, FIRST_LEASE, false)?;
    let made = first_documents(&authority, device_key).await?;
    key_files::sync_folder(data)?;
    Ok(made)
}

/// A refusal in the words of its problem; a command line has no other place for them.
fn explain(failure: Failure) -> anyhow::Error {
    match failure {
        Failure::Refused(problem) => anyhow::anyhow!("{problem}"),
        broken => broken.into(),
    }
}

async fn first_documents(authority: &Authority, device_key: &DeviceKey) -> anyhow::Result<Made> {
    let served = authority.served();
    let (rings, name, profile) = (served.view.rings.clone(), served.view.repo_id.clone(), served.view.profile.as_str());
    let origin = Member {
        key: device_key.public(),
        kind: MemberKind::Origin,
        site: None,
        name: name.clone(),
        addresses: MemberAddresses::default(),
    };
    let (token, record) = first_token()?;
    let token_expires_at = record.expires_at;
    authority
        .change(move |draft, tx| {
            draft.set_roster(&Roster { schema: 1, members: vec![origin] })?;
            draft.set_revoked(&Revoked { schema: 1, ..Revoked::default() })?;
            draft.set_topology(&Topology { schema: 1, sites: Vec::new() })?;
            let plain_rings = rings.last().cloned().into_iter().collect();
            draft.set_limits(&Limits { schema: 1, plain_rings, ..Limits::default() })?;
            tokens::put_person(tx, &record)?;
            let rings = rings.iter().map(RingName::as_str).collect::<Vec<_>>().join(", ");
            audit::append(
                tx,
                NewAuditLine {
                    at: draft.now(),
                    who: "server".into(),
                    action: "repository.init",
                    subject: name,
                    done: true,
                    detail: format!("profile {profile}, rings {rings}, first admin {FIRST_ADMIN}"),
                },
            )?;
            Ok(())
        })
        .await?;
    Ok(Made { token, token_expires_at })
}

fn first_token() -> anyhow::Result<(String, PersonTokenRecord)> {
    let (mut id, mut secret) = ([0; 8], [0; 32]);
    random(&mut id)?;
    random(&mut secret)?;
    let id = hex::encode(id);
    let token = format!("slp1-{id}-{}", hex::encode(secret));
    let now = clock::timestamp();
    let record = PersonTokenRecord {
        id,
        secret: SecretHash::of(&secret),
        person: FIRST_ADMIN.parse::<PersonName>().expect("a valid person name"),
        roles: vec![PersonRole::Admin],
        scope: AccessScope::default(),
        created_by: "server".into(),
        created_at: now,
        expires_at: now.plus(FIRST_TOKEN_FOR),
        renewable_until: now.plus(FIRST_TOKEN_FOR),
        revoked: None,
    };
    Ok((token, record))
}

fn random(bytes: &mut [u8]) -> anyhow::Result<()> {
    getrandom::fill(bytes).map_err(|error| anyhow::anyhow!("the system gave no random bytes: {error}"))
}

fn check_empty(data: &Path) -> anyhow::Result<()> {
    let is_empty = match fs::read_dir(data) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(error) => return Err(error).with_context(|| format!("looking into {}", data.display())),
    };
    ensure!(
        is_empty,
        "{} is not empty: a new repository would overwrite what is there; name another folder with --data",
        data.display()
    );
    Ok(())
}

fn make_folder(path: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("making the folder {}", path.display()))
}

fn remove_contents(data: &Path) {
    let Ok(entries) = fs::read_dir(data) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        // What stays is named by the next init.
        let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
    }
}
