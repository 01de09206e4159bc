#![allow(dead_code, unused, clippy::all)]
use bytes::Bytes;
use sluice_model::*;
use std::sync::Arc;
#[derive(Clone)]
pub struct ContentStore;
#[derive(Clone)]
pub struct ArtifactReader;
#[derive(Default)]
pub struct StoreLimits {
    pub reserve_bytes: u64,
    pub memory_bytes: u64,
    pub x: u8,
}
pub struct WriterTask;
impl WriterTask {
    pub async fn run(self, _s: tokio_util::sync::CancellationToken) -> Result<(), std::io::Error> {
        todo!()
    }
}
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub enum ImportError {
    #[error("io")]
    Io(std::io::Error),
    #[error("full")]
    Full,
}
pub struct Imported {
    pub cut: sluice_content::Cut,
    pub was_known: bool,
}
impl ContentStore {
    pub async fn open(p: &std::path::Path, _l: StoreLimits) -> Result<(Self, WriterTask), std::io::Error> {
        todo!()
    }
    pub async fn import(&self, p: &std::path::Path) -> Result<Imported, ImportError> {
        todo!()
    }
    pub fn reader(&self, a: &ArtifactId) -> Option<ArtifactReader> {
        todo!()
    }
    pub async fn remove(&self, a: &ArtifactId) -> Result<(), std::io::Error> {
        todo!()
    }
    pub fn artifacts(&self) -> Vec<ArtifactId> {
        todo!()
    }
}
impl ArtifactReader {
    pub fn manifest(&self) -> &Arc<sluice_content::Manifest> {
        todo!()
    }
    pub async fn read(&self, i: u32) -> Result<Bytes, std::io::Error> {
        todo!()
    }
    pub fn has(&self, i: u32) -> bool {
        todo!()
    }
}
