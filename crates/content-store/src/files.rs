//! Artifact files: where they lie, and the few system calls made on them. Blocking; called from blocking threads only.

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;
use sluice_model::ArtifactId;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// Folder of the artifact files below the store's.
const FOLDER: &str = "artifacts";

/// The folder that holds every artifact file.
#[derive(Clone, Debug)]
pub(crate) struct ArtifactFolder {
    root: PathBuf,
    reserve_bytes: u64,
}

/// Why a file could not be made.
#[derive(Debug)]
pub(crate) enum AllocateError {
    Full { needed: u64, free: u64 },
    Io(io::Error),
}

impl ArtifactFolder {
    pub(crate) fn open(store: &Path, reserve_bytes: u64) -> io::Result<Self> {
        let root = store.join(FOLDER);
        fs::create_dir_all(&root)?;
        Ok(Self { root, reserve_bytes })
    }

    /// `artifacts/<first 2 hex>/<64 hex>`.
    pub(crate) fn path_of(&self, artifact: &ArtifactId) -> PathBuf {
        let hex = artifact.to_hex();
        self.root.join(&hex[..2]).join(hex)
    }

    /// Bytes that may be used before the reserve begins.
    pub(crate) fn free_bytes(&self) -> io::Result<u64> {
        let stat = statvfs(&self.root)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize).saturating_sub(self.reserve_bytes))
    }

    /// Makes the file of `artifact` with room for all of it, or extends the one that is there. Nothing is left behind
    /// when there is no room.
    pub(crate) fn allocate(&self, artifact: &ArtifactId, length: u64) -> Result<File, AllocateError> {
        let path = self.path_of(artifact);
        let existed = path.exists();
        self.allocate_at(&path, length).inspect_err(|_| {
            if !existed {
                let _ = fs::remove_file(&path);
            }
        })
    }

    fn allocate_at(&self, path: &Path, length: u64) -> Result<File, AllocateError> {
        make_parent(path).map_err(AllocateError::Io)?;
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path).map_err(AllocateError::Io)?;
        let held = file.metadata().map_err(AllocateError::Io)?.len();
        let free = self.free_bytes().map_err(AllocateError::Io)?;
        let needed = length.saturating_sub(held);
        if needed > free {
            return Err(AllocateError::Full { needed, free });
        }
        if needed == 0 {
            return Ok(file);
        }
        match fallocate(&file, FallocateFlags::empty(), 0, length) {
            Ok(()) => Ok(file),
            // A file system that cannot preallocate gets a sparse file: a full disk then shows at the write.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                file.set_len(length).map_err(AllocateError::Io)?;
                Ok(file)
            }
            Err(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => Err(AllocateError::Full { needed, free }),
            Err(errno) => Err(AllocateError::Io(errno.into())),
        }
    }

    /// Moves a finished, synced file to the place of `artifact`, durably.
    pub(crate) fn take_over(&self, from: &Path, artifact: &ArtifactId) -> io::Result<()> {
        let to = self.path_of(artifact);
        make_parent(&to)?;
        fs::rename(from, &to)?;
        sync_parent(&to)
    }

    /// Unlinks the file of `artifact`; none there is as good.
    pub(crate) fn unlink(&self, artifact: &ArtifactId) -> io::Result<()> {
        match fs::remove_file(self.path_of(artifact)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Unlinks every file that `is_known` does not know: a crash fell between making it and its index row.
    pub(crate) fn unlink_strangers(&self, is_known: impl Fn(&ArtifactId) -> bool) -> io::Result<()> {
        for folder in fs::read_dir(&self.root)? {
            let folder = folder?.path();
            if !folder.is_dir() {
                continue;
            }
            for file in fs::read_dir(folder)? {
                let file = file?;
                let artifact = file.file_name().to_str().and_then(|name| name.parse().ok());
                if !artifact.is_some_and(|artifact| is_known(&artifact)) {
                    tracing::info!(path = %file.path().display(), "removing a file that the index does not know");
                    fs::remove_file(file.path())?;
                }
            }
        }
        Ok(())
    }
}

/// Whether an error says that the disk is full.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn make_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().expect("an artifact path has a folder");
    if parent.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(parent)?;
    sync_parent(parent)
}

/// Makes the entry of `path` in its folder durable.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().expect("an artifact path has a folder");
    File::open(parent)?.sync_all()
}
