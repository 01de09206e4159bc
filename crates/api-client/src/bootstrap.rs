//! From a repository's URL and a token's text to verified metadata, the roster, and a place in the fleet.
//!
//! Order (trust.md section 4): the root whose hash the token names; everything verified from it up to the roster; TLS
//! pinned to the origin's key of that roster; only then the secret.

use crate::device::DeviceClient;
use crate::error::ClientError;
use crate::http::Timeouts;
use crate::refresh::{MetadataSource, RefreshError, refresh};
use crate::repository::RepositoryClient;
use crate::token::EnrolmentTokenText;
use bytes::Bytes;
use sluice_api::device::{DeviceKind, EnrolAnswer, EnrolRequest};
use sluice_identity::DeviceKey;
use sluice_metadata::{DocumentError, MetadataError, Profile, Trusted, View, ViewError, read_document};
use sluice_model::{Member, MemberAddresses, Roster, Sha256, TargetName, Timestamp};
use std::net::SocketAddr;

/// Root metadata is at most this long.
const ROOT_BYTES_MAX: u64 = 64 << 10;
/// Roots among which the one that the token names is looked for: a rotation a week for four years.
const ROOTS_MAX: u64 = 256;
/// Addresses of the origin that are tried.
const ADDRESSES_MAX: usize = 8;

/// What a device knows before it is enrolled, all of it verified.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    /// Whole metadata.
    pub trusted: Trusted,
    /// What it says.
    pub view: View,
    /// The signed roster.
    pub roster: Roster,
    /// Its bytes as signed, to be stored.
    pub roster_bytes: Bytes,
    /// The repo server's row.
    pub origin: Member,
    /// Where to try to reach it: the roster's addresses, then hints. The key decides who is there.
    pub origin_addresses: Vec<SocketAddr>,
    /// SHA-256 of the root that the token names.
    pub root_sha256: Sha256,
}

/// Why a device could not be enrolled. Nothing was changed here; the token is still good unless the origin says not.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// No answer, or a refusal.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Metadata could not be fetched or was refused.
    #[error(transparent)]
    Refresh(#[from] RefreshError),
    /// Root cannot be used.
    #[error("the repository's root metadata was refused")]
    Root(#[source] MetadataError),
    /// Another repository than the token's, or somebody in between.
    #[error(
        "{url} is not the repository of this token: none of its root metadata has the hash that the token names, {expected}; the newest has {found}. Check the URL; if it is right, somebody answers in its place"
    )]
    OtherRepository {
        /// What was asked.
        url: String,
        /// First half of the newest root's hash.
        found: String,
        /// First half of the hash named by the token.
        expected: String,
    },
    /// The metadata has no meaning.
    #[error("the repository's metadata cannot be used")]
    View(#[from] ViewError),
    /// The signed metadata names no roster, or the server does not have it.
    #[error("the repository at {url} has no roster; is it still being set up?")]
    NoRoster {
        /// What was asked.
        url: String,
    },
    /// The roster's bytes are not the signed ones.
    #[error("the repository's roster was refused")]
    Roster(#[from] DocumentError),
    /// No origin to enrol at.
    #[error("the signed roster names no origin with an address; start `sluice-repo serve` once and try again")]
    NoOrigin,
}

/// Fetches and verifies everything up to the roster from the repository at `url`.
pub async fn bootstrap(url: &str, token: &EnrolmentTokenText, now: Timestamp) -> Result<Bootstrap, BootstrapError> {
    let repository = RepositoryClient::new(url)?;
    let (root, root_sha256) = named_root(&repository, token).await?;
    let trusted = Trusted::new(&root, Profile::Strict).map_err(BootstrapError::Root)?;
    let trusted = refresh(&trusted, &repository, now).await?.trusted;
    let view = View::of(&trusted)?;
    let (roster, roster_bytes) = roster_of(&repository, &view).await?;
    let origin = roster.origins().next().cloned().ok_or(BootstrapError::NoOrigin)?;
    let hints = repository.hints().await.unwrap_or_default();
    let origin_addresses = addresses(&repository, &origin, &hints.device_addresses).await;
    if origin_addresses.is_empty() {
        return Err(BootstrapError::NoOrigin);
    }
    Ok(Bootstrap { trusted, view, roster, roster_bytes, origin, origin_addresses, root_sha256 })
}

impl Bootstrap {
    /// Enrols this device: each address of the origin is tried until one answers. The secret goes only to its key.
    pub async fn enrol(&self, request: &EnrolRequest, key: &DeviceKey) -> Result<EnrolAnswer, BootstrapError> {
        let mut last = BootstrapError::NoOrigin;
        for address in &self.origin_addresses {
            let client = DeviceClient::new(*address, self.origin.key, key, Timeouts::default())?;
            match client.enrol(request).await {
                Ok(answer) => return Ok(answer),
                Err(error) if error.is_connection() => last = error.into(),
                Err(error) => return Err(error.into()),
            }
        }
        Err(last)
    }
}

/// The request that enrols the device of `key`: signed over purpose `enrol`, token id and SHA-256 of root.json.
pub fn enrol_request(
    token: &EnrolmentTokenText,
    root_sha256: &Sha256,
    kind: DeviceKind,
    name: String,
    addresses: MemberAddresses,
    key: &DeviceKey,
) -> EnrolRequest {
    let signed = [token.id.as_slice(), root_sha256.as_bytes()].concat();
    EnrolRequest {
        kind,
        token_id: token.id_hex(),
        token_secret: token.secret_hex().to_string(),
        name,
        site: None,
        ring: None,
        addresses,
        signature: hex::encode(key.signer().sign_purpose("enrol", &signed)),
    }
}

/// The root that was in force when the token was made, which is trusted by its hash; later ones are followed from there.
async fn named_root(
    repository: &RepositoryClient,
    token: &EnrolmentTokenText,
) -> Result<(Bytes, Sha256), BootstrapError> {
    let mut newest = None;
    for version in 1..=ROOTS_MAX {
        let Some(root) = repository.metadata_file(&format!("{version}.root.json"), ROOT_BYTES_MAX).await? else {
            break;
        };
        let sha256 = sha256_of(&root);
        if token.names_root(sha256.as_bytes()) {
            return Ok((root, sha256));
        }
        newest = Some(sha256);
    }
    let Some(newest) = newest else { return Err(RefreshError::Missing { file: "1.root.json".to_owned() }.into()) };
    Err(BootstrapError::OtherRepository {
        url: repository.base_url().to_owned(),
        found: hex::encode(&newest.as_bytes()[..16]),
        expected: hex::encode(token.root_prefix),
    })
}

async fn roster_of(repository: &RepositoryClient, view: &View) -> Result<(Roster, Bytes), BootstrapError> {
    let none = || BootstrapError::NoRoster { url: repository.base_url().to_owned() };
    let name: TargetName = "fleet/roster".parse().expect("a valid target name");
    let document = view.documents.get(&name).ok_or_else(none)?;
    let bytes = repository.document(&name, document).await?.ok_or_else(none)?;
    Ok((read_document::<Roster>(document, &bytes)?, bytes))
}

/// The roster's addresses, then the hints. An origin that listens on every address is reached where the repository is.
async fn addresses(repository: &RepositoryClient, origin: &Member, hints: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in origin.addresses.device.iter().chain(hints) {
        let found = if address.ip().is_unspecified() {
            resolve_host(repository.base_url(), address.port()).await
        } else {
            vec![*address]
        };
        for address in found {
            if !addresses.contains(&address) && addresses.len() < ADDRESSES_MAX {
                addresses.push(address);
            }
        }
    }
    addresses
}

async fn resolve_host(base_url: &str, port: u16) -> Vec<SocketAddr> {
    let Ok(url) = reqwest::Url::parse(base_url) else { return Vec::new() };
    let Some(host) = url.host_str() else { return Vec::new() };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    tokio::net::lookup_host((host, port)).await.map(Iterator::collect).unwrap_or_default()
}

fn sha256_of(bytes: &[u8]) -> Sha256 {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let mut sha256 = [0u8; 32];
    sha256.copy_from_slice(digest.as_ref());
    Sha256::from_bytes(sha256)
}
