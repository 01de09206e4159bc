//! Who a device is and how it proves it: the Ed25519 key file, and the TLS 1.3 configurations in which both sides
//! show RFC 7250 raw public keys. For HTTPS clients, which know no raw keys, the repo server's internal CA.
//!
//! Decides: how a key is kept, what a peer's key is, that a client reaches the key that it expected.
//! Does not decide: who may come in. Any Ed25519 key passes the server's handshake once its signature was checked;
//! the program asks the signed roster right after it (trust.md section 4).
//!
//! Invariants
//! - A key file is created once, exclusively, with mode 0600, and never read when others could have read it.
//! - The handshake signature is verified by rustls's own functions, never asserted.
//! - Device links are TLS 1.3 only, without resumption: every connection proves possession of both keys again.
//! - A leaf of the internal CA lives for at most seven days.

#![warn(missing_docs)]

mod fingerprint;
mod https;
mod internal_ca;
mod key_file;
mod private_file;
mod raw_key;
mod tls;

pub use fingerprint::{Fingerprint, FingerprintError};
pub use https::{Certificates, NotPinned, SeenAuthority, https_server_config, pinned_authority_config};
pub use internal_ca::{CaError, InternalCa, LEAF_LIFETIME_MAX, Leaf};
pub use key_file::{DeviceKey, KeyFileError};
pub use raw_key::{PeerKeyError, RefusedKey, WrongServerKey, peer_key, wrong_server_key};
pub use tls::{ALPN_EXCHANGE, ALPN_HTTP, client_config, client_config_noting, install_provider, server_config};

use sluice_model::{EndpointId, MemberKey};

/// What signed fleet documents call the endpoint that owns `key`: SHA-256 of the 32 key bytes.
pub fn endpoint_id_of(key: &MemberKey) -> EndpointId {
    let digest = ring::digest::digest(&ring::digest::SHA256, key.as_bytes());
    let mut bytes = [0u8; EndpointId::LEN];
    bytes.copy_from_slice(digest.as_ref());
    EndpointId::from_bytes(bytes)
}
