//! The artifact that is moved, its manifest, and the preallocated file that it is moved to.

use anyhow::{Context, ensure};
use rustix::fs::{FallocateFlags, fallocate};
use sluice_content::{ChunkerParams, Cutter, Manifest};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// An artifact on disk and in the page cache.
pub struct Data {
    pub source: File,
    pub manifest: Manifest,
    folder: PathBuf,
}

impl Data {
    /// Writes `length` bytes that do not repeat, and their manifest.
    pub fn create(folder: &Path, length: u64) -> anyhow::Result<()> {
        let mut file = File::create(folder.join("artifact"))?;
        let mut bytes = blake3::Hasher::new().update(b"sluice-bench").finalize_xof();
        let mut cutter = Cutter::new(ChunkerParams::for_length(length));
        let mut block = vec![0; 1 << 20];
        let mut left = length;
        while left > 0 {
            let now = left.min(block.len() as u64) as usize;
            bytes.fill(&mut block[..now]);
            cutter.push(&block[..now]);
            file.write_all(&block[..now]).context("cannot write the artifact")?;
            left -= now as u64;
        }
        file.sync_all()?;
        std::fs::write(folder.join("manifest"), cutter.finish().manifest.encode())?;
        Ok(())
    }

    /// What [`Data::create`] wrote.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        let source = File::open(folder.join("artifact"))?;
        let manifest = Manifest::decode_trusted(&std::fs::read(folder.join("manifest"))?)?;
        ensure!(source.metadata()?.len() == manifest.length(), "the artifact is not as long as its manifest says");
        Ok(Self { source, manifest, folder: folder.to_owned() })
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
