//! Writes metadata and tombstones through the real stores until somebody kills it (`tests/kills.rs`).
//!
//! `kill-writer <kind> <file>`: goes on from what `file` holds. Each generation signs one more tombstone, commits it
//! together with the metadata that names it, and only then writes the timestamp's version as a line. Kind `node` is the
//! state store of nodes and agents, `repository` the repo server's; `torn` is the node's with its one transaction cut in
//! two, a mistake that the test must see.

use anyhow::{Context, Result, bail};
use sluice_metadata::{InitParams, Keyring, Publication, RepositoryProfile, RoleName, Signer, TargetEntry, Writer};
use sluice_metadata::{View, dev_roles};
use sluice_model::{ArtifactId, RingName, Sha256, TargetName, Timestamp, Tombstone};
use sluice_repo_store::metadata::NewMetadata;
use sluice_repo_store::{Store, metadata};
use sluice_state_store::StateStore;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// More than a test waits for; the writer ends by itself when nobody kills it.
const GENERATIONS_MAX: u64 = 800;
/// Generation 0; each is a second later.
const BEGUN: Timestamp = Timestamp::from_millis(1_790_000_000_000);
const LEASE: Duration = Duration::from_secs(24 * 3_600);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, kind, file] = arguments.as_slice() else { bail!("usage: kill-writer node|torn|repository FILE") };
    let mut store = Kept::open(kind, Path::new(file))?;
    let keyring = keyring()?;
    let mut writer = match store.files()? {
        files if files.is_empty() => {
            let (writer, publication) = Writer::init(params()?, &keyring)?;
            store.commit(&writer, publication, None)?;
            writer
        }
        files => Writer::load(&files)?,
    };
    say(&writer)?;
    for generation in writer.trusted().timestamp_version()..GENERATIONS_MAX {
        let tombstone = tombstone(generation)?;
        let document = serde_json::to_vec(&tombstone)?;
        let mut entries = writer.entries(&RoleName::retractions()).context("no retractions role")?.clone();
        entries.insert(name(generation)?, row(&tombstone, &document)?);
        writer.set_entries(&RoleName::retractions(), entries)?;
        let now = BEGUN.plus(Duration::from_secs(generation));
        let publication = writer.commit(&keyring, now, LEASE)?;
        store.commit(&writer, publication, Some(document))?;
        say(&writer)?;
    }
    Ok(())
}

/// What is durable now.
fn say(writer: &Writer) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", writer.trusted().timestamp_version())?;
    Ok(out.flush()?)
}

/// The stores of the programs, as the programs call them.
enum Kept {
    Node { store: StateStore, is_torn: bool },
    Repository(Store),
}

impl Kept {
    fn open(kind: &str, file: &Path) -> Result<Self> {
        Ok(match kind {
            "node" => Self::Node { store: StateStore::open(file)?, is_torn: false },
            "torn" => Self::Node { store: StateStore::open(file)?, is_torn: true },
            "repository" => Self::Repository(Store::open(file)?),
            other => bail!("no store of kind {other}"),
        })
    }

    fn files(&self) -> Result<Vec<(String, Arc<[u8]>)>> {
        match self {
            Self::Node { store, .. } => Ok(store.metadata_files()?),
            Self::Repository(store) => {
                let files = store.read(metadata::current_files)?;
                Ok(files.into_iter().map(|(name, bytes)| (name, Arc::from(bytes))).collect())
            }
        }
    }

    fn commit(&mut self, writer: &Writer, publication: Publication, document: Option<Vec<u8>>) -> Result<()> {
        let files = writer.trusted().files();
        match self {
            Self::Node { store, is_torn } => {
                let view = View::of(writer.trusted())?;
                if *is_torn {
                    store.commit_metadata(&files, &[])?;
                }
                store.commit_metadata(&files, &view.tombstones)?;
            }
            Self::Repository(store) => {
                let before = store.read(metadata::current_files)?;
                let is_gone = |name: &String| !files.iter().any(|(kept, _)| kept == name);
                let new = NewMetadata {
                    replaced_files: before.into_iter().map(|(name, _)| name).filter(is_gone).collect(),
                    files: publication.files,
                    documents: document.into_iter().map(|bytes| (sha256(&bytes), bytes)).collect(),
                    replaced_documents: Vec::new(),
                };
                let now = writer.trusted().issued_at().unwrap_or(BEGUN);
                store.write(|tx| metadata::put(tx, &new, now))?;
            }
        }
        Ok(())
    }
}

fn params() -> Result<InitParams> {
    let rings = vec![ring()?];
    Ok(InitParams { repo_id: "kills".into(), profile: RepositoryProfile::Dev, rings, now: BEGUN, lease: LEASE })
}

fn ring() -> Result<RingName> {
    Ok("production".parse()?)
}

/// Always the same keys, so that every run goes on where the last was killed.
fn keyring() -> Result<Keyring> {
    let mut keyring = Keyring::default();
    for (index, role) in (1..).zip(dev_roles(&[ring()?])) {
        keyring.insert(role, Signer::from_seed([index; 32]));
    }
    Ok(keyring)
}

fn name(serial: u64) -> Result<TargetName> {
    Ok(format!("retractions/{serial}").parse()?)
}

/// Read as every client reads it, so that a member more in its form is not this program's business.
fn tombstone(serial: u64) -> Result<Tombstone> {
    let mut hash = [7; 32];
    hash[..8].copy_from_slice(&serial.to_be_bytes());
    let (sha256, blake3) = (Sha256::from_bytes(hash).to_hex(), ArtifactId::from_bytes(hash).to_hex());
    Ok(serde_json::from_value(serde_json::json!({
        "schema": 1,
        "serial": serial,
        "patch": "demo/1",
        "content": [{"sha256": sha256, "blake3": blake3}],
        "reason": "a test of kills",
        "by": "ann",
        "at": BEGUN.as_millis(),
    }))?)
}

fn row(tombstone: &Tombstone, document: &[u8]) -> Result<TargetEntry> {
    let custom = serde_json::json!({ "tombstone": serde_json::to_value(tombstone)? });
    Ok(TargetEntry { length: document.len() as u64, sha256: sha256(document), custom: Some(custom) })
}

fn sha256(bytes: &[u8]) -> Sha256 {
    let mut hash = [0; 32];
    hash.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    Sha256::from_bytes(hash)
}
