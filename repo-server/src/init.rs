//! `sluice-repo init --dev`: keys, the first signed metadata, and the first admin's token.
//!
//! Everything is made in an empty folder; when a step fails, what was made is removed again.

use crate::authority::Authority;
use crate::clock;
use anyhow::{Context, ensure};
use sluice_identity::DeviceKey;
use sluice_metadata::{InitParams, Keyring, RepositoryProfile, Signer, Writer, dev_roles};
use sluice_model::{
    AccessScope, Limits, Member, MemberAddresses, MemberKind, PersonName, PersonRole, Revoked, RingName, Roster,
    Timestamp, Topology,
};
use sluice_repo_store::Store;
use sluice_repo_store::audit::{self, NewAuditLine};
use sluice_repo_store::metadata::{self, NewMetadata};
use sluice_repo_store::tokens::{self, PersonTokenRecord, SecretHash};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

/// Lease of the first timestamp: the server re-signs with its own setting when it starts.
const FIRST_LEASE: Duration = Duration::from_secs(24 * 3_600);
/// How long the first admin's token is taken.
const FIRST_TOKEN_FOR: Duration = Duration::from_secs(90 * 24 * 3_600);
/// The first admin.
const FIRST_ADMIN: &str = "admin";

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
    let keyring = make_keys(&data.join("keys"), &rings)?;
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
    let (authority, _tasks) = Authority::open(store, keyring, FIRST_LEASE)?;
    let made = first_documents(&authority, &device_key, rings, name.to_owned()).await?;
    sync_folder(data)?;
    Ok(made)
}

async fn first_documents(
    authority: &Authority,
    device_key: &DeviceKey,
    rings: Vec<RingName>,
    name: String,
) -> anyhow::Result<Made> {
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
                    detail: format!("profile dev, rings {rings}, first admin {FIRST_ADMIN}"),
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
        revoked: None,
    };
    Ok((token, record))
}

fn random(bytes: &mut [u8]) -> anyhow::Result<()> {
    getrandom::fill(bytes).map_err(|error| anyhow::anyhow!("the system gave no random bytes: {error}"))
}

fn make_keys(folder: &Path, rings: &[RingName]) -> anyhow::Result<Keyring> {
    let mut keyring = Keyring::default();
    for role in dev_roles(rings) {
        let mut seed = [0; 32];
        random(&mut seed)?;
        let signer = Signer::from_seed(seed);
        write_private(&folder.join(format!("{role}.key")), signer.to_pkcs8_pem().as_bytes())?;
        keyring.insert(role, signer);
    }
    sync_folder(folder)?;
    Ok(keyring)
}

/// Reads every key of `<data>/keys`.
pub fn load_keys(folder: &Path) -> anyhow::Result<Keyring> {
    let mut keyring = Keyring::default();
    let entries = fs::read_dir(folder).with_context(|| format!("reading the signing keys in {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let Some(role) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".key")) else { continue };
        let role = role.parse().with_context(|| format!("{} is not named after a role", path.display()))?;
        let pem = zeroize::Zeroizing::new(
            fs::read_to_string(&path).with_context(|| format!("reading the signing key {}", path.display()))?,
        );
        let signer =
            Signer::from_pkcs8_pem(&pem).with_context(|| format!("reading the signing key {}", path.display()))?;
        keyring.insert(role, signer);
    }
    Ok(keyring)
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

fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().with_context(|| format!("writing {}", path.display()))
}

fn sync_folder(path: &Path) -> anyhow::Result<()> {
    fs::File::open(path).and_then(|folder| folder.sync_all()).with_context(|| format!("syncing {}", path.display()))
}

fn remove_contents(data: &Path) {
    let Ok(entries) = fs::read_dir(data) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        // What stays is named by the next init.
        let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
    }
}
