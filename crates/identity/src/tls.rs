//! The rustls configurations of device links: TLS 1.3, ring, mutual raw keys, no resumption.

use crate::DeviceKey;
use crate::raw_key::{AnyRawKey, PinnedServer, RefusedKey, spki};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::ring::cipher_suite::{
    TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
};
use rustls::crypto::{CryptoProvider, ring as provider};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ServerConfig};
use sluice_model::MemberKey;
use std::sync::Arc;

/// ALPN of HTTP on a device link.
pub const ALPN_HTTP: &[u8] = b"http/1.1";
/// ALPN of the exchange protocol, version 1.
pub const ALPN_EXCHANGE: &[u8] = b"sluice-exchange/1";

/// Installs ring as the process's one TLS provider: the first line of every `main`. Calling it again does nothing.
pub fn install_provider() {
    // An error means that a provider is installed already; `tidy` keeps every other one out of the tree.
    let _ = provider::default_provider().install_default();
}

/// What a device listener offers: its own raw key; a client without a raw Ed25519 key does not finish the handshake.
pub fn server_config(key: &DeviceKey, alpns: &[&[u8]]) -> Arc<ServerConfig> {
    let provider = device_provider();
    let verifier = AnyRawKey { algorithms: provider.signature_verification_algorithms };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("ring offers TLS 1.3 suites")
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(certified(key))));
    config.alpn_protocols = alpns.iter().map(|alpn| alpn.to_vec()).collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Arc::new(config)
}

/// How a device calls another one whose key it knows: any other key ends the handshake with
/// [`crate::WrongServerKey`].
pub fn client_config(key: &DeviceKey, expected: MemberKey, alpns: &[&[u8]]) -> Arc<ClientConfig> {
    client_config_noting(key, expected, alpns).0
}

/// The same, with what it refused: for one connection over QUIC.
pub fn client_config_noting(key: &DeviceKey, expected: MemberKey, alpns: &[&[u8]]) -> (Arc<ClientConfig>, RefusedKey) {
    let provider = device_provider();
    let refused = RefusedKey::default();
    let verifier =
        PinnedServer { expected, algorithms: provider.signature_verification_algorithms, refused: refused.clone() };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("ring offers TLS 1.3 suites")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(certified(key))));
    config.alpn_protocols = alpns.iter().map(|alpn| alpn.to_vec()).collect();
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    config.enable_early_data = false;
    (Arc::new(config), refused)
}

/// ring, TLS 1.3 suites only, AES-128-GCM first: the fastest where AES is in hardware.
fn device_provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![TLS13_AES_128_GCM_SHA256, TLS13_CHACHA20_POLY1305_SHA256, TLS13_AES_256_GCM_SHA384],
        ..provider::default_provider()
    })
}

fn certified(key: &DeviceKey) -> Arc<CertifiedKey> {
    let pem = key.signer().to_pkcs8_pem();
    let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).expect("a signer writes PKCS#8 PEM");
    let signing = provider::sign::any_eddsa_type(&der).expect("a device key is an Ed25519 key");
    Arc::new(CertifiedKey::new(vec![spki(&key.public())], signing))
}
