//! A small secret file: mode 0600, appears whole and only once, never read when others could have read it.

use crate::KeyFileError;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Largest key file that is read; a PKCS#8 v1 Ed25519 key takes 119 bytes as PEM, a P-256 one 241.
pub(crate) const BYTES_MAX: u64 = 4 << 10;

/// The text of the file, when only its owner could ever have read it.
pub(crate) fn read(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    let fail = |action| move |source| KeyFileError::Io { action, path: path.to_owned(), source };
    let mut file = File::open(path).map_err(fail("open"))?;
    let meta = file.metadata().map_err(fail("read"))?;
    if !meta.is_file() || meta.len() > BYTES_MAX {
        return Err(KeyFileError::NotAKeyFile { path: path.to_owned() });
    }
    if meta.mode() & 0o077 != 0 {
        return Err(KeyFileError::Permissions { path: path.to_owned(), mode: meta.mode() & 0o7777 });
    }
    let mut text = Zeroizing::new(String::with_capacity(BYTES_MAX as usize));
    (&mut file).take(BYTES_MAX).read_to_string(&mut text).map_err(fail("read"))?;
    Ok(text)
}

/// Writes a temporary file, syncs it and links it to `path`, so that a crash leaves no torn key and an existing file is
/// never replaced.
pub(crate) fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut suffix = [0u8; 8];
    getrandom::fill(&mut suffix).map_err(|_| io::Error::other("no entropy"))?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.new", hex::encode(suffix)));
    let temporary = PathBuf::from(temporary);
    let result = write_and_link(&temporary, path, bytes);
    let removed = std::fs::remove_file(&temporary);
    result.and(removed)?;
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn write_and_link(temporary: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::hard_link(temporary, path)
}
