//! The server's signing keys on disk: `<data>/keys/<role>.key`, or `<role>.<id>.key` for further ones, mode 0600.

use anyhow::Context;
use sluice_metadata::{KeyId, Keyring, RoleName, Signer};
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Characters of a key id in a file name.
const ID_CHARS: usize = 16;

/// A key of fresh random bytes.
pub fn new_signer() -> anyhow::Result<Signer> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| anyhow::anyhow!("the system gave no random bytes: {error}"))?;
    Ok(Signer::from_seed(seed))
}

/// Writes a further key of a role, durably, beside the ones that it has.
pub fn write(folder: &Path, role: &RoleName, signer: &Signer) -> anyhow::Result<()> {
    let id = signer.key_id();
    let id = id.as_str().get(..ID_CHARS).unwrap_or_default();
    write_private(&folder.join(format!("{role}.{id}.key")), signer.to_pkcs8_pem().as_bytes())?;
    sync_folder(folder)
}

/// Makes the first key of each role.
pub fn make(folder: &Path, roles: Vec<RoleName>) -> anyhow::Result<Keyring> {
    let mut keyring = Keyring::default();
    for role in roles {
        let signer = new_signer()?;
        write_private(&folder.join(format!("{role}.key")), signer.to_pkcs8_pem().as_bytes())?;
        keyring.insert(role, signer);
    }
    sync_folder(folder)?;
    Ok(keyring)
}

/// Reads every key of `<data>/keys`.
pub fn load(folder: &Path) -> anyhow::Result<Keyring> {
    let mut keyring = Keyring::default();
    for (_, role, signer) in entries(folder)? {
        keyring.insert(role, signer);
    }
    Ok(keyring)
}

/// Removes the files of these keys.
pub fn delete(folder: &Path, keys: &BTreeSet<KeyId>) -> anyhow::Result<()> {
    for (path, _, signer) in entries(folder)? {
        if keys.contains(&signer.key_id()) {
            fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    sync_folder(folder)
}

fn entries(folder: &Path) -> anyhow::Result<Vec<(PathBuf, RoleName, Signer)>> {
    let mut found = Vec::new();
    let entries = fs::read_dir(folder).with_context(|| format!("reading the signing keys in {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let Some(stem) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".key")) else { continue };
        let role = stem.split('.').next().unwrap_or(stem);
        let role = role.parse().with_context(|| format!("{} is not named after a role", path.display()))?;
        let reading = || format!("reading the signing key {}", path.display());
        let pem = zeroize::Zeroizing::new(fs::read_to_string(&path).with_context(reading)?);
        let signer = Signer::from_pkcs8_pem(&pem).with_context(reading)?;
        found.push((path, role, signer));
    }
    Ok(found)
}

/// Writes a file that only its owner reads, durably; an existing one is an error.
pub fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().with_context(|| format!("writing {}", path.display()))
}

/// Makes the names in a folder durable.
pub fn sync_folder(path: &Path) -> anyhow::Result<()> {
    fs::File::open(path).and_then(|folder| folder.sync_all()).with_context(|| format!("syncing {}", path.display()))
}
