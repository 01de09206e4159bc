//! Targets: found in signed metadata, fetched in bounds, hashed while they arrive, renamed into place once verified.

use super::TufError;
use super::refresh::Session;
use super::store::file_error;
use sluice_api_client::{FileClient, FileStream, Timeouts};
use sluice_metadata::{ForeignTarget, Hasher, Trusted, percent_encoded};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// From where to where.
pub struct Downloads {
    files: FileClient,
    dir: PathBuf,
}

impl Downloads {
    pub fn open(base_url: &str, dir: &Path) -> Result<Self, TufError> {
        fs::create_dir_all(dir).map_err(file_error("make", dir))?;
        Ok(Self { files: FileClient::open(base_url, Timeouts::default())?, dir: dir.into() })
    }

    /// Brings one target here. A file that has its bytes already is left alone.
    pub async fn fetch(&self, session: &mut Session, name: &str) -> Result<(), TufError> {
        let target = session.find(name).await?;
        let url_path = url_path(&session.trusted, name, &target)?;
        let path = self.dir.join(percent_encoded(name));
        if is_here(&path, &target)? {
            return Ok(());
        }
        let stream = self.files.stream(&url_path).await?;
        let stream = stream.ok_or_else(|| TufError::TargetMissing(name.to_owned()))?;
        let part = self.dir.join(format!(".{}.part", percent_encoded(name)));
        let written = match write(stream, &part, &target).await {
            Ok(true) => fs::rename(&part, &path).map_err(file_error("write", &path)),
            Ok(false) => Err(TufError::WrongTarget(name.to_owned())),
            Err(error) => Err(error),
        };
        if written.is_err() {
            let _ = fs::remove_file(&part);
        }
        written
    }
}

/// Writes until the length is reached or exceeded; whether these are the bytes.
async fn write(mut stream: FileStream, part: &Path, target: &ForeignTarget) -> Result<bool, TufError> {
    let mut file = File::create(part).map_err(file_error("write", part))?;
    let mut hasher = Hasher::default();
    while let Some(bytes) = stream.next().await? {
        hasher.update(&bytes);
        if hasher.length() > target.length {
            return Ok(false);
        }
        file.write_all(&bytes).map_err(file_error("write", part))?;
    }
    file.sync_all().map_err(file_error("write", part))?;
    Ok(hasher.length() == target.length && hasher.is_as_in(&target.hashes))
}

fn is_here(path: &Path, target: &ForeignTarget) -> Result<bool, TufError> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened.map_err(file_error("read", path))?,
    };
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 64 << 10];
    while hasher.length() <= target.length {
        match file.read(&mut buffer).map_err(file_error("read", path))? {
            0 => break,
            count => hasher.update(&buffer[..count]),
        }
    }
    Ok(hasher.length() == target.length && hasher.is_as_in(&target.hashes))
}

/// `<dir>/<hash>.<name>`, or the name alone where the repository does not keep old files; each part encoded.
fn url_path(trusted: &Trusted, name: &str, target: &ForeignTarget) -> Result<String, TufError> {
    if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(TufError::UnusableName(name.to_owned()));
    }
    let hash = target.hashes.to_hex().ok_or_else(|| TufError::NoKnownHash(name.to_owned()))?;
    let mut parts: Vec<String> = name.split('/').map(percent_encoded).collect();
    if let Some(last) = parts.last_mut().filter(|_| trusted.is_consistent_snapshot()) {
        *last = format!("{hash}.{last}");
    }
    Ok(parts.join("/"))
}
