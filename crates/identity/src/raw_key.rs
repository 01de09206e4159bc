//! RFC 7250 raw public keys: the form of an Ed25519 SubjectPublicKeyInfo, and what each side checks of it.
//!
//! RFC 8410 fixes the SubjectPublicKeyInfo of an Ed25519 key: 12 bytes of DER header, then the key. Anything else is
//! refused before its signature is looked at.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, PeerIncompatible, SignatureScheme,
};
use sluice_model::MemberKey;
use std::io;
use std::sync::{Arc, OnceLock};

/// SEQUENCE { SEQUENCE { OID 1.3.101.112 }, BIT STRING of 32 bytes }: RFC 8410 section 4.
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Why what a peer showed is not one Ed25519 raw public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerKeyError {
    /// The peer showed no key.
    #[error("the peer showed no key")]
    Missing,
    /// The peer showed a chain, and a raw public key has none.
    #[error("the peer showed {count} certificates where one raw public key belongs")]
    NotOne {
        /// How many.
        count: usize,
    },
    /// Not an Ed25519 SubjectPublicKeyInfo.
    #[error("the peer's key of {bytes} bytes is not a raw Ed25519 public key")]
    NotEd25519 {
        /// Its length.
        bytes: usize,
    },
}

/// The server proved another key than the one expected: the wrong machine, or somebody in between.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the server has key {got}, expected {expected}")]
pub struct WrongServerKey {
    /// The pinned key.
    pub expected: MemberKey,
    /// The key shown.
    pub got: MemberKey,
}

/// The key of the other side of a finished handshake, from what rustls or quinn call its certificates.
pub fn peer_key(certificates: &[CertificateDer<'_>]) -> Result<MemberKey, PeerKeyError> {
    match certificates {
        [] => Err(PeerKeyError::Missing),
        [one] => parse_spki(one),
        more => Err(PeerKeyError::NotOne { count: more.len() }),
    }
}

/// Finds the [`WrongServerKey`] in an error of a handshake, however deep rustls or tokio wrapped it.
pub fn wrong_server_key(error: &io::Error) -> Option<WrongServerKey> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) => other.0.downcast_ref().cloned(),
        _ => None,
    }
}

/// Remembers the key that a client configuration refused: QUIC flattens the error of a handshake to text.
#[derive(Debug, Clone, Default)]
pub struct RefusedKey(Arc<OnceLock<WrongServerKey>>);

impl RefusedKey {
    /// What was refused, if anything was.
    pub fn get(&self) -> Option<WrongServerKey> {
        self.0.get().cloned()
    }
}

/// The SubjectPublicKeyInfo of `key`.
pub(crate) fn spki(key: &MemberKey) -> CertificateDer<'static> {
    let mut der = Vec::with_capacity(SPKI_PREFIX.len() + MemberKey::LEN);
    der.extend_from_slice(&SPKI_PREFIX);
    der.extend_from_slice(key.as_bytes());
    CertificateDer::from(der)
}

fn parse_spki(der: &[u8]) -> Result<MemberKey, PeerKeyError> {
    let wrong = PeerKeyError::NotEd25519 { bytes: der.len() };
    let key = der.strip_prefix(&SPKI_PREFIX).ok_or(wrong.clone())?;
    Ok(MemberKey::from_bytes(key.try_into().map_err(|_| wrong)?))
}

fn refusal(error: impl std::error::Error + Send + Sync + 'static) -> rustls::Error {
    rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
}

fn verify_signature(
    message: &[u8],
    key: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    verify_tls13_signature_with_raw_key(message, &SubjectPublicKeyInfoDer::from(key.as_ref()), signature, algorithms)
}

/// Client side: the server must show exactly the expected key.
#[derive(Debug)]
pub(crate) struct PinnedServer {
    pub(crate) expected: MemberKey,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
    pub(crate) refused: RefusedKey,
}

impl ServerCertVerifier for PinnedServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if !intermediates.is_empty() {
            return Err(refusal(PeerKeyError::NotOne { count: intermediates.len() + 1 }));
        }
        let got = parse_spki(end_entity).map_err(refusal)?;
        if got == self.expected {
            Ok(ServerCertVerified::assertion())
        } else {
            let wrong = WrongServerKey { expected: self.expected, got };
            // Only the first handshake of a configuration is noted.
            let _ = self.refused.0.set(wrong.clone());
            Err(refusal(wrong))
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _key: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::PeerIncompatible(PeerIncompatible::Tls13RequiredForQuic))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_signature(message, key, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// Server side: any Ed25519 raw key passes, because admission is the program's decision; none does not.
#[derive(Debug)]
pub(crate) struct AnyRawKey {
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for AnyRawKey {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        if !intermediates.is_empty() {
            return Err(refusal(PeerKeyError::NotOne { count: intermediates.len() + 1 }));
        }
        parse_spki(end_entity).map_err(refusal)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _key: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::PeerIncompatible(PeerIncompatible::Tls13RequiredForQuic))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_signature(message, key, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_der_form() {
        let key = MemberKey::from_bytes([9; 32]);
        assert_eq!(peer_key(&[spki(&key)]), Ok(key));
    }

    #[test]
    fn nothing_but_one_ed25519_key_is_a_peer_key() {
        let good = spki(&MemberKey::from_bytes([9; 32]));
        assert_eq!(peer_key(&[]), Err(PeerKeyError::Missing));
        assert_eq!(peer_key(&[good.clone(), good.clone()]), Err(PeerKeyError::NotOne { count: 2 }));
        let mut other_algorithm = good.to_vec();
        other_algorithm[8] = 0x6e;
        for wrong in [other_algorithm, good[..43].to_vec(), [good.as_ref(), &[0]].concat(), vec![]] {
            let bytes = wrong.len();
            assert_eq!(peer_key(&[wrong.into()]), Err(PeerKeyError::NotEd25519 { bytes }));
        }
    }
}
