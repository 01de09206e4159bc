//! What a person's machine trusts of a repository: its roots, and the versions below which nothing is believed.
//!
//! A signer who believed the server about what is in force could be shown a small difference to a forged state. So the
//! first root comes from a file that the person got elsewhere (`--root`), and everything after it is verified from there.

use crate::clock;
use crate::failure::Failure;
use sluice_api_client::{AdminClient, refresh};
use sluice_metadata::{Profile, Trusted};
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Largest root.
const ROOT_BYTES_MAX: u64 = 64 << 10;
/// The versions seen.
const VERSIONS: &str = "versions.json";

/// The folder of one repository's trust.
pub struct Trust {
    folder: PathBuf,
    trusted: Trusted,
}

impl Trust {
    /// The trust of the repository `repo_id` below `folder`; begun with the root in `root` when there is none yet.
    pub fn open(folder: &Path, repo_id: &str, root: Option<&Path>) -> Result<Self, Failure> {
        let is_plain = repo_id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !is_plain || repo_id.is_empty() {
            return Err(Failure::NotSigned(format!("the server names its repository {repo_id:?}, which is no id")));
        }
        let folder = folder.join(repo_id);
        let given = root.map(read_root).transpose()?;
        let trusted = match (newest_root(&folder)?, given) {
            (Some(stored), given) => {
                let stored = trust_root(&folder, &stored)?;
                check_given(&stored, given.as_deref(), &folder)?;
                with_floor(stored, &folder)?
            }
            (None, Some(given)) => trust_root(root.unwrap_or(&folder), &given)?,
            (None, None) => {
                let text = format!(
                    "this machine trusts no root of repository {repo_id} yet; get the root file from a holder (not from \
                     the server) and name it once with --root FILE"
                );
                return Err(Failure::Usage(text));
            }
        };
        if trusted.repo_id() != repo_id {
            let text = format!("the root is of repository {}, the server is of {repo_id}", trusted.repo_id());
            return Err(Failure::NotSigned(text));
        }
        Ok(Self { folder, trusted })
    }

    /// Whether this machine trusts a root of the repository.
    pub fn is_begun(folder: &Path, repo_id: &str) -> Result<bool, Failure> {
        Ok(newest_root(&folder.join(repo_id))?.is_some())
    }

    /// Follows the roots below `version` that lie in `files`, as far as each is signed by the holders of the one before.
    /// Asks no server: holders sign on machines without a network. What lies there may never have come into force, so only
    /// the root that was trusted before is remembered.
    pub fn follow_files(self, files: &Path, version: u64) -> Result<Trusted, Failure> {
        store_roots(&self.folder, &self.trusted)?;
        let mut trusted = self.trusted;
        while trusted.root_version().saturating_add(1) < version {
            let path = files.join(trusted.next_root().file);
            if !path.is_file() {
                break;
            }
            // One that does not verify is a draft, or a forgery: what follows it is for the caller to judge.
            let mut next = trusted.clone();
            if next.update_root(&read_root(&path)?).is_err() {
                break;
            }
            trusted = next;
        }
        Ok(trusted)
    }

    /// Verifies what the server has in force, from the trusted root on, and remembers how far it is.
    pub async fn follow(self, client: &AdminClient) -> Result<Trusted, Failure> {
        let walked = refresh(&self.trusted, client, clock::now()).await;
        let trusted = walked.map_err(|error| Failure::Unverified(Box::new(error)))?.trusted;
        store(&self.folder, &trusted)?;
        Ok(trusted)
    }
}

fn read_root(path: &Path) -> Result<Vec<u8>, Failure> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(ROOT_BYTES_MAX + 1).read_to_end(&mut bytes));
    read.map(|_| bytes).map_err(|error| Failure::path("read", path, error))
}

fn trust_root(path: &Path, bytes: &[u8]) -> Result<Trusted, Failure> {
    Trusted::new(bytes, Profile::Strict)
        .map_err(|error| Failure::path("trust the root in", path, std::io::Error::other(error.to_string())))
}

/// A root that is given once more must be the stored one or lead to it.
fn check_given(stored: &Trusted, given: Option<&[u8]>, folder: &Path) -> Result<(), Failure> {
    let Some(given) = given else { return Ok(()) };
    let mut known = roots(folder)?.into_values();
    if known.any(|bytes| bytes == given) {
        return Ok(());
    }
    Err(Failure::NotSigned(format!(
        "the root given is none of those that this machine trusts for repository {} (in {}); if the repository was made \
         anew, remove that folder",
        stored.repo_id(),
        folder.display()
    )))
}

fn roots(folder: &Path) -> Result<BTreeMap<u64, Vec<u8>>, Failure> {
    let mut roots = BTreeMap::new();
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(roots),
        Err(error) => return Err(Failure::path("read", folder, error)),
    };
    for entry in entries {
        let path = entry.map_err(|error| Failure::path("read", folder, error))?.path();
        let version = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".root.json")?.parse().ok());
        if let Some(version) = version {
            roots.insert(version, read_root(&path)?);
        }
    }
    Ok(roots)
}

fn newest_root(folder: &Path) -> Result<Option<Vec<u8>>, Failure> {
    Ok(roots(folder)?.into_values().next_back())
}

fn with_floor(mut trusted: Trusted, folder: &Path) -> Result<Trusted, Failure> {
    let path = folder.join(VERSIONS);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(trusted),
        Err(error) => return Err(Failure::path("read", &path, error)),
    };
    let versions: BTreeMap<String, u64> =
        serde_json::from_slice(&text).map_err(|error| Failure::path("read", &path, error.into()))?;
    trusted.set_floor(&versions.into_iter().collect::<Vec<_>>());
    Ok(trusted)
}

/// Roots first: a floor without its root would refuse the rotation that made it void.
fn store(folder: &Path, trusted: &Trusted) -> Result<(), Failure> {
    store_roots(folder, trusted)?;
    let versions: BTreeMap<String, u64> = trusted.versions().into_iter().collect();
    let text = serde_json::to_vec(&versions).expect("names and numbers are JSON");
    replace(&folder.join(VERSIONS), &text)
}

fn store_roots(folder: &Path, trusted: &Trusted) -> Result<(), Failure> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| Failure::path("make", folder, error))?;
    for (name, bytes) in trusted.files().into_iter().filter(|(name, _)| name.ends_with(".root.json")) {
        replace(&folder.join(name), &bytes)?;
    }
    Ok(())
}

/// Writes a file in one step.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let fresh = path.with_extension(format!("new-{}", std::process::id()));
    let write = || {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&fresh, path)
    };
    let written = write();
    if written.is_err() {
        let _ = std::fs::remove_file(&fresh);
    }
    written.map_err(|error| Failure::path("write", path, error))
}
