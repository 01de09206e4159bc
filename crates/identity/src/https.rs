//! TLS for HTTPS clients: the server shows the newest leaf of the internal CA; our own client pins the CA.
//!
//! The client believes a chain when it holds the certificate that it pinned, and webpki finds the leaf valid under
//! that one authority, for the name, at this time. No other authority counts.

use crate::{Fingerprint, Leaf};
use arc_swap::ArcSwap;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring as provider};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, ServerConfig, SignatureScheme,
};
use std::sync::{Arc, OnceLock};

/// The leaf that new connections are shown; it can be replaced while the server runs.
#[derive(Debug)]
pub struct Certificates {
    newest: ArcSwap<CertifiedKey>,
}

impl Certificates {
    /// Begins with `leaf`.
    pub fn new(leaf: Leaf) -> Arc<Self> {
        Arc::new(Self { newest: ArcSwap::from_pointee(certified(leaf)) })
    }

    /// Shows `leaf` from now on; open connections go on as they are.
    pub fn replace(&self, leaf: Leaf) {
        self.newest.store(Arc::new(certified(leaf)));
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.newest.load_full())
    }
}

fn certified(leaf: Leaf) -> CertifiedKey {
    let key = provider::sign::any_supported_type(&leaf.key).expect("a leaf has a P-256 key");
    CertifiedKey::new(leaf.chain, key)
}

/// What the HTTPS listener offers: TLS 1.2 and 1.3, HTTP/1.1, no client certificates.
pub fn https_server_config(certificates: Arc<Certificates>) -> Arc<ServerConfig> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring offers suites of both versions")
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![crate::ALPN_HTTP.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Arc::new(config)
}

/// The server showed no authority with the pinned fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server's certificate is not of the authority that was pinned")]
pub struct NotPinned {
    /// The authority at the end of the chain that it showed, when it showed one.
    pub got: Option<Fingerprint>,
}

/// Remembers which authority a server showed that was not the pinned one.
#[derive(Clone, Debug, Default)]
pub struct SeenAuthority(Arc<OnceLock<NotPinned>>);

impl SeenAuthority {
    /// What was shown instead, if anything was refused.
    pub fn get(&self) -> Option<NotPinned> {
        self.0.get().cloned()
    }
}

/// How our own HTTPS client calls a repo server whose CA it knows by fingerprint. `None` believes nobody: with it one
/// learns what the server shows.
pub fn pinned_authority_config(pinned: Option<Fingerprint>) -> (ClientConfig, SeenAuthority) {
    let provider = Arc::new(provider::default_provider());
    let seen = SeenAuthority::default();
    let algorithms = provider.signature_verification_algorithms;
    let verifier = PinnedAuthority { pinned, provider: provider.clone(), algorithms, seen: seen.clone() };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring offers suites of both versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    (config, seen)
}

#[derive(Debug)]
struct PinnedAuthority {
    pinned: Option<Fingerprint>,
    provider: Arc<CryptoProvider>,
    algorithms: WebPkiSupportedAlgorithms,
    seen: SeenAuthority,
}

impl PinnedAuthority {
    fn refuse(&self, chain: &[CertificateDer<'_>]) -> rustls::Error {
        let wrong = NotPinned { got: chain.last().map(|last| Fingerprint::of(last)) };
        // Only the first handshake of a configuration is noted.
        let _ = self.seen.0.set(wrong.clone());
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(wrong))))
    }
}

impl ServerCertVerifier for PinnedAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let is_pinned = |shown: &&CertificateDer<'_>| self.pinned == Some(Fingerprint::of(shown));
        let Some(authority) = intermediates.iter().find(is_pinned) else {
            return Err(self.refuse(intermediates));
        };
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
