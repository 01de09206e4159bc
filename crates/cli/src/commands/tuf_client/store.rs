//! Trusted metadata in a directory: `<role>.json`, role names percent-encoded, the bytes as they were received.

use super::TufError;
use sluice_metadata::{RoleName, percent_encoded};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Longest file that is read: more than any role may have.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// One directory.
pub struct Store {
    dir: PathBuf,
}

impl Store {
    pub fn at(dir: &Path) -> Self {
        Self { dir: dir.into() }
    }

    pub fn path(&self, role: &RoleName) -> PathBuf {
        self.dir.join(format!("{}.json", percent_encoded(role.as_str())))
    }

    /// The stored bytes; `None` when there are none.
    pub fn read(&self, role: &RoleName) -> Result<Option<Vec<u8>>, TufError> {
        read(&self.path(role))
    }

    /// The first root: makes the directory, and refuses where one is trusted already.
    pub fn create_root(&self, bytes: &[u8]) -> Result<(), TufError> {
        fs::create_dir_all(&self.dir).map_err(file_error("make", &self.dir))?;
        let path = self.path(&RoleName::root());
        if path.exists() {
            return Err(TufError::AlreadyTrusted { path });
        }
        self.write(&RoleName::root(), bytes)
    }

    /// Replaces a file as a whole: after a crash it is the old or the new one.
    pub fn write(&self, role: &RoleName, bytes: &[u8]) -> Result<(), TufError> {
        let path = self.path(role);
        let part = path.with_extension("part");
        let mut file = File::create(&part).map_err(file_error("write", &part))?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(file_error("write", &part))?;
        fs::rename(&part, &path).map_err(file_error("write", &path))?;
        self.sync()
    }

    /// Forgets a role, on a word of root.
    pub fn remove(&self, role: &RoleName) -> Result<(), TufError> {
        let path = self.path(role);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(file_error("remove", &path)(error)),
            Ok(()) => self.sync(),
        }
    }

    fn sync(&self) -> Result<(), TufError> {
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(file_error("write", &self.dir))
    }
}

/// A small file; `None` when it does not exist.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, TufError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(file_error("read", path))?,
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(file_error("read", path))?;
    Ok(Some(bytes))
}

pub fn file_error(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TufError {
    let path = path.to_owned();
    move |source| TufError::File { verb, path, source }
}
