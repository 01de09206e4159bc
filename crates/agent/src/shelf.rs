//! Packages on this machine by their SHA-256: half downloaded, whole, and kept for the way back.
//!
//! A file is handed out only after its length and hash matched at that moment; one that rotted is deleted.

use ring::digest::{Context, SHA256};
use sluice_model::{ReleasedArtifact, Sha256};
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

const READ_BYTES: usize = 256 << 10;

/// Two folders: downloads and retained.
#[derive(Clone, Debug)]
pub struct Shelf {
    downloads: PathBuf,
    retained: PathBuf,
}

impl Shelf {
    /// Of these folders, which exist.
    pub fn new(downloads: PathBuf, retained: PathBuf) -> Self {
        Self { downloads, retained }
    }

    /// Where a download grows.
    pub fn part(&self, sha256: &Sha256) -> PathBuf {
        self.downloads.join(format!("{sha256}.part"))
    }

    /// Where its entity tag is kept.
    pub fn tag(&self, sha256: &Sha256) -> PathBuf {
        self.downloads.join(format!("{sha256}.etag"))
    }

    /// Where a whole package is kept.
    pub fn whole(&self, sha256: &Sha256) -> PathBuf {
        self.retained.join(format!("{sha256}.deb"))
    }

    /// The whole package, read and compared with what is signed; `None` when it is not here. Costs one read of it.
    pub fn verified(&self, artifact: &ReleasedArtifact) -> io::Result<Option<PathBuf>> {
        let path = self.whole(&artifact.sha256);
        match hash_file(&path) {
            Ok((sha256, length)) if sha256 == artifact.sha256 && length == artifact.length => Ok(Some(path)),
            Ok(_) => {
                tracing::warn!(path = %path.display(), "a kept package no longer has its signed hash; deleted");
                std::fs::remove_file(&path)?;
                Ok(None)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a verified download a whole package, durably.
    pub fn keep(&self, sha256: &Sha256) -> io::Result<PathBuf> {
        let (part, whole) = (self.part(sha256), self.whole(sha256));
        File::open(&part)?.sync_all()?;
        std::fs::rename(&part, &whole)?;
        let _ = std::fs::remove_file(self.tag(sha256));
        File::open(&self.retained)?.sync_all()?;
        Ok(whole)
    }

    /// Forgets a download.
    pub fn discard(&self, sha256: &Sha256) {
        let _ = std::fs::remove_file(self.part(sha256));
        let _ = std::fs::remove_file(self.tag(sha256));
    }

    /// Deletes everything whose hash is not in `wanted`.
    pub fn prune(&self, wanted: &HashSet<Sha256>) -> io::Result<()> {
        for folder in [&self.downloads, &self.retained] {
            for entry in std::fs::read_dir(folder)? {
                let path = entry?.path();
                let sha256: Option<Sha256> = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
                if !sha256.is_some_and(|sha256| wanted.contains(&sha256)) {
                    tracing::debug!(path = %path.display(), "no longer needed; deleted");
                    std::fs::remove_file(&path)?;
                }
            }
        }
        Ok(())
    }
}

/// SHA-256 and length of a file.
pub fn hash_file(path: &Path) -> io::Result<(Sha256, u64)> {
    let mut context = Context::new(&SHA256);
    let length = hash_into(&mut context, &mut File::open(path)?)?;
    Ok((finish(context), length))
}

/// Feeds the rest of `file`; answers how many bytes that was.
pub fn hash_into(context: &mut Context, file: &mut File) -> io::Result<u64> {
    let mut buffer = vec![0u8; READ_BYTES];
    let mut length = 0;
    loop {
        let got = file.read(&mut buffer)?;
        if got == 0 {
            return Ok(length);
        }
        context.update(&buffer[..got]);
        length += got as u64;
    }
}

/// The hash as its type.
pub fn finish(context: Context) -> Sha256 {
    let mut bytes = [0u8; Sha256::LEN];
    bytes.copy_from_slice(context.finish().as_ref());
    Sha256::from_bytes(bytes)
}
