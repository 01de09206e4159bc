//! Where the agent keeps what: one folder, readable by its owner only.

use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The data folder.
#[derive(Clone, Debug)]
pub struct DataFolder {
    path: PathBuf,
}

/// The folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the data folder {}; choose one that this user may write with --data", path.display())]
pub struct FolderError {
    path: PathBuf,
    source: io::Error,
}

impl DataFolder {
    /// Makes the folder where it is missing, closed to everybody else.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let folder = Self { path: path.to_owned() };
        folder.prepare().map_err(|source| FolderError { path: path.to_owned(), source })?;
        Ok(folder)
    }

    fn prepare(&self) -> io::Result<()> {
        for path in [self.path.clone(), self.downloads(), self.retained()] {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        }
        // A folder that was there before may be open to others, and packages wait in it for dpkg.
        std::fs::set_permissions(&self.path, std::fs::Permissions::from_mode(0o700))
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The device key.
    pub fn key(&self) -> PathBuf {
        self.path.join("device.key")
    }

    /// Metadata, tombstones, journal, memory.
    pub fn state(&self) -> PathBuf {
        self.path.join("state.redb")
    }

    /// Unfinished downloads.
    pub fn downloads(&self) -> PathBuf {
        self.path.join("downloads")
    }

    /// Packages of installed patches and of those to go back to.
    pub fn retained(&self) -> PathBuf {
        self.path.join("retained")
    }

    /// The last explanation, for `explain` while the agent runs.
    pub fn explanation(&self) -> PathBuf {
        self.path.join("explanation.json")
    }
}

/// Writes a file so that it is whole or the old one.
pub fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, bytes)?;
    std::fs::rename(&new, path)
}
