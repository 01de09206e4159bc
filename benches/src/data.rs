//! The artifact that is moved: as a file for the control and, the same bytes, in a node's store for the product.

use anyhow::{Context, ensure};
use rustix::fs::{FallocateFlags, fallocate};
use sluice_content::{Cut, Manifest};
use sluice_content_store::{Admission, ContentStore, StoreLimits, WriterTask};
use sluice_model::Sha256;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// An artifact on disk and in the page cache.
pub struct Data {
    pub source: File,
    pub manifest: Arc<Manifest>,
    sha256: Sha256,
    folder: PathBuf,
}

impl Data {
    /// Writes `length` bytes that do not repeat, and publishes them into the sender's store.
    pub fn create(folder: &Path, length: u64) -> anyhow::Result<()> {
        let mut file = File::create(folder.join("artifact"))?;
        let mut bytes = blake3::Hasher::new().update(b"sluice-bench").finalize_xof();
        let mut block = vec![0; 1 << 20];
        let mut left = length;
        while left > 0 {
            let now = left.min(block.len() as u64) as usize;
            bytes.fill(&mut block[..now]);
            file.write_all(&block[..now]).context("cannot write the artifact")?;
            left -= now as u64;
        }
        file.sync_all()?;
        std::fs::hard_link(folder.join("artifact"), folder.join("published"))?;
        let cut = tokio::runtime::Runtime::new()?.block_on(publish(folder))?;
        std::fs::write(folder.join("manifest"), cut.manifest.encode())?;
        std::fs::write(folder.join("sha256"), cut.sha256.to_hex())?;
        Ok(())
    }

    /// What [`Data::create`] wrote.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        let source = File::open(folder.join("artifact"))?;
        let manifest = Manifest::decode_trusted(&std::fs::read(folder.join("manifest"))?)?;
        ensure!(source.metadata()?.len() == manifest.length(), "the artifact is not as long as its manifest says");
        let sha256 = std::fs::read_to_string(folder.join("sha256"))?.parse()?;
        Ok(Self { source, manifest: Arc::new(manifest), sha256, folder: folder.to_owned() })
    }

    /// The sender's store.
    pub fn sending_store(&self) -> anyhow::Result<(ContentStore, WriterTask)> {
        Ok(ContentStore::open(&self.folder.join("sender"), StoreLimits::default())?)
    }

    /// A new store for the receiver; the folder is deleted with the second value.
    pub fn receiving_store(&self) -> anyhow::Result<((ContentStore, WriterTask), tempfile::TempDir)> {
        let folder = tempfile::tempdir_in(&self.folder)?;
        Ok((ContentStore::open(folder.path(), StoreLimits::default())?, folder))
    }

    /// What the receiver was told by signed metadata.
    pub fn admission(&self) -> Admission {
        Admission { manifest: Arc::clone(&self.manifest), sha256: self.sha256 }
    }

    /// A new preallocated file for the bytes that arrive. It is unlinked already.
    pub fn target(&self) -> anyhow::Result<File> {
        let path = self.folder.join("received");
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        std::fs::remove_file(&path)?;
        fallocate(&file, FallocateFlags::empty(), 0, self.manifest.length()).context("cannot preallocate")?;
        Ok(file)
    }
}

async fn publish(folder: &Path) -> anyhow::Result<Cut> {
    let (store, task) = ContentStore::open(&folder.join("sender"), StoreLimits::default())?;
    let stop = CancellationToken::new();
    let importing = async {
        let imported = store.import(&folder.join("published"), None, |_| {}).await;
        stop.cancel();
        imported
    };
    let (ran, imported) = tokio::join!(task.run(stop.clone()), importing);
    ran?;
    Ok(imported?.cut)
}
