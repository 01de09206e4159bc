//! The signed files of a repository over plain HTTP: for a device that has no place in the fleet yet.

use crate::error::ClientError;
use crate::http::{Http, Timeouts};
use crate::refresh::MetadataSource;
use bytes::Bytes;
use serde::Deserialize;
use sluice_api::{DEVICE_PREFIX, METADATA_PREFIX, TARGETS_PREFIX};
use sluice_metadata::DocumentRef;
use sluice_model::TargetName;
use std::net::SocketAddr;

/// Longest `bootstrap` answer.
const HINTS_BYTES_MAX: u64 = 64 << 10;

/// A reader of signed files. Nothing that it returns is verified.
#[derive(Clone)]
pub struct RepositoryClient {
    http: Http,
}

/// Where the origin may be reached. Hints only: the key that counts is the signed roster's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Hints {
    #[serde(default)]
    pub(crate) device_addresses: Vec<SocketAddr>,
}

impl RepositoryClient {
    /// A reader at `base_url`, for instance `http://repo.example:8470`.
    pub fn new(base_url: &str) -> Result<Self, ClientError> {
        Ok(Self { http: Http::open(base_url, None, Timeouts::default())? })
    }

    /// The base URL, without a slash at the end.
    pub fn base_url(&self) -> &str {
        self.http.base()
    }

    /// The bytes of a document; verify them with `sluice_metadata::verify_document`.
    pub async fn document(&self, name: &TargetName, document: &DocumentRef) -> Result<Option<Bytes>, ClientError> {
        document_of(&self.http, name, document).await
    }

    pub(crate) async fn hints(&self) -> Result<Hints, ClientError> {
        self.http.get_json(&format!("{DEVICE_PREFIX}/bootstrap"), HINTS_BYTES_MAX).await
    }
}

impl MetadataSource for RepositoryClient {
    async fn metadata_file(&self, file: &str, length_max: u64) -> Result<Option<Bytes>, ClientError> {
        metadata_of(&self.http, file, length_max).await
    }
}

pub(crate) async fn metadata_of(http: &Http, file: &str, length_max: u64) -> Result<Option<Bytes>, ClientError> {
    http.get_bytes(&format!("{METADATA_PREFIX}/{file}"), length_max).await
}

pub(crate) async fn document_of(
    http: &Http,
    name: &TargetName,
    document: &DocumentRef,
) -> Result<Option<Bytes>, ClientError> {
    let path = format!("{TARGETS_PREFIX}/{}/{}.{}", name.directory(), document.sha256, name.file());
    http.get_bytes(&path, document.length).await
}
