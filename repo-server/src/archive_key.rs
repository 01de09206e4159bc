//! The OpenPGP key by which apt knows this repository: `<data>/keys/apt-archive.asc`, mode 0600, beside the other online
//! keys. It signs the indices of every ring and nothing else; what nodes believe is signed by the roles' own keys.

use crate::key_files;
use anyhow::Context;
use sluice_model::Timestamp;
use sluice_openpgp::ArchiveKey;
use std::fs;
use std::path::Path;
use zeroize::Zeroizing;

/// Not `.key`: those are keys of roles.
const FILE: &str = "apt-archive.asc";

/// Reads the key in `folder`, or makes the first one, for the repository `repo_id`.
pub fn load_or_create(folder: &Path, repo_id: &str, now: Timestamp) -> anyhow::Result<ArchiveKey> {
    let path = folder.join(FILE);
    if path.is_file() { load(folder) } else { create(folder, repo_id, now) }
}

/// Reads the key in `folder`.
pub fn load(folder: &Path) -> anyhow::Result<ArchiveKey> {
    let path = folder.join(FILE);
    let reading = || format!("reading the key of the apt indices, {}", path.display());
    let text = Zeroizing::new(fs::read_to_string(&path).with_context(reading)?);
    ArchiveKey::from_armor(&text).with_context(reading)
}

/// Takes the key away under its fingerprint, and makes a new one. The server must be started anew.
pub fn rotate(folder: &Path, repo_id: &str, now: Timestamp) -> anyhow::Result<ArchiveKey> {
    let old = load(folder)?;
    let kept = folder.join(format!("apt-archive.{}.old", old.fingerprint()));
    fs::rename(folder.join(FILE), &kept).with_context(|| format!("keeping the old key as {}", kept.display()))?;
    create(folder, repo_id, now)
}

fn create(folder: &Path, repo_id: &str, now: Timestamp) -> anyhow::Result<ArchiveKey> {
    let user_id = format!("Sluice repository {repo_id} <{repo_id}@sluice.invalid>");
    let key = ArchiveKey::generate(&user_id, now).context("making the key of the apt indices")?;
    let text = key.to_armor().context("writing the key of the apt indices")?;
    key_files::write_private(&folder.join(FILE), text.as_bytes())?;
    key_files::sync_folder(folder)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_key_stays_the_same_until_it_is_rotated_and_only_its_owner_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::from_millis(1_790_000_000_000);
        let first = load_or_create(dir.path(), "demo", now).unwrap().fingerprint();
        assert_eq!(load_or_create(dir.path(), "demo", now).unwrap().fingerprint(), first);
        let mode = fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let second = rotate(dir.path(), "demo", now).unwrap().fingerprint();
        assert_ne!(second, first);
        assert_eq!(load(dir.path()).unwrap().fingerprint(), second);
        assert!(dir.path().join(format!("apt-archive.{first}.old")).is_file());
        assert!(key_files::load(dir.path()).is_ok(), "the keys of roles are read beside it");
    }
}
