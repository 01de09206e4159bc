//! The HTTP forms of Sluice: requests, answers and problems, shared by servers and clients.
//!
//! Nothing here decides anything. Field names are the wire format: `docs/openapi.json` is made from them.

pub mod admin;
pub mod audit;
pub mod bans;
pub mod ceremony;
pub mod device;
pub mod gossip;
pub mod problem;
pub mod requests;
pub mod restore;
pub mod tokens;

/// Path prefix of the admin API.
pub const ADMIN_PREFIX: &str = "/v1";
/// Path prefix of what devices (nodes, agents) call over TLS with raw keys.
pub const DEVICE_PREFIX: &str = "/device/v1";
/// Path prefix of TUF metadata: `/tuf/metadata/timestamp.json`, `/tuf/metadata/3.snapshot.json`.
pub const METADATA_PREFIX: &str = "/tuf/metadata";
/// Path prefix of TUF targets: `/tuf/targets/<dir>/<sha256>.<name>`.
pub const TARGETS_PREFIX: &str = "/tuf/targets";
/// Path prefix of content by digest: `/content/sha256/<hex>` and `/content/blake3/<hex>`.
pub const CONTENT_PREFIX: &str = "/content";
/// ALPN of HTTP on a device listener.
pub const ALPN_HTTP: &[u8] = b"http/1.1";
/// ALPN of the exchange protocol on a device listener.
pub const ALPN_EXCHANGE: &[u8] = b"sluice-exchange/1";
