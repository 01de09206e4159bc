//! The repo server's internal certificate authority, for browsers, curl and apt: they know no raw keys.
//!
//! Keys are P-256, because browsers refuse Ed25519 certificates. The CA lives for ten years in two files of one folder;
//! leaves live for days, only in memory, and are made anew at each start and after two thirds of their life.
//!
//! Invariants
//! - The CA's key is made once, exclusively, with mode 0600; a CA certificate that does not belong to it is refused.
//! - A leaf is valid for at most [`LEAF_LIFETIME_MAX`], its beginning in the past included, and cannot sign others.

use crate::{Fingerprint, KeyFileError, private_file};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sluice_model::Timestamp;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use time::OffsetDateTime;

/// Longest life of a leaf.
pub const LEAF_LIFETIME_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Life of the CA.
const CA_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);
/// A certificate begins so far in the past, for clients whose clock is behind; a leaf at most a tenth of its life.
const BACKDATED: Duration = Duration::from_secs(300);

/// Why there is no CA, or no leaf.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The CA's key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The CA's certificate cannot be read or written.
    #[error("cannot {action} the certificate {}", path.display())]
    Io {
        /// `read` or `create`.
        action: &'static str,
        /// The certificate file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The certificate is not of this key.
    #[error(
        "{} is not the certificate of the key beside it; put the right one back, or remove both: a new CA is then made, \
         and everybody must log in again with its fingerprint", path.display()
    )]
    OtherCertificate {
        /// The certificate file.
        path: PathBuf,
    },
    /// A name that no certificate can carry.
    #[error("{name:?} cannot stand in a certificate; names are host names or IP addresses")]
    Name {
        /// The name.
        name: String,
    },
    /// The library refused.
    #[error("a certificate could not be made")]
    Library(#[from] rcgen::Error),
}

/// The authority. Its `Debug` form shows no secret.
#[derive(Debug)]
pub struct InternalCa {
    key: KeyPair,
    certificate: CertificateDer<'static>,
    pem: String,
}

/// A leaf with its key.
#[derive(Debug)]
pub struct Leaf {
    /// The leaf, then the CA: what the server shows.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its P-256 key, PKCS#8.
    pub key: PrivateKeyDer<'static>,
    /// From when it is valid.
    pub not_before: Timestamp,
    /// From when a new one should be shown instead.
    pub renew_at: Timestamp,
    /// Until when it is valid.
    pub not_after: Timestamp,
}

impl InternalCa {
    /// Where the certificate of the CA in `folder` is.
    pub fn certificate_path(folder: &Path) -> PathBuf {
        folder.join("ca.pem")
    }

    /// Reads `ca.key` and `ca.pem` in `folder`, or makes what is not there.
    pub fn load_or_create(folder: &Path, now: Timestamp) -> Result<Self, CaError> {
        let create = |source| CaError::Io { action: "create", path: folder.to_owned(), source };
        std::fs::create_dir_all(folder).map_err(create)?;
        let key = load_or_create_key(&folder.join("ca.key"))?;
        let path = Self::certificate_path(folder);
        let pem = match std::fs::read_to_string(&path) {
            Ok(pem) => pem,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let pem = authority_params(&key, now).self_signed(&key)?.pem();
                let create = |source| CaError::Io { action: "create", path: path.clone(), source };
                private_file::create(&path, pem.as_bytes()).map_err(create)?;
                pem
            }
            Err(source) => return Err(CaError::Io { action: "read", path, source }),
        };
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| CaError::Io {
            action: "read",
            path: path.clone(),
            source: io::Error::other(error),
        })?;
        // Every certificate holds the public key in clear: that of this key must be in it.
        let public = key.subject_public_key_info();
        if !certificate.windows(public.len()).any(|window| window == public) {
            return Err(CaError::OtherCertificate { path });
        }
        Ok(Self { key, certificate, pem })
    }

    /// What `sluice login` pins.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }

    /// The CA's certificate, for `curl --cacert` and browsers.
    pub fn certificate_pem(&self) -> &str {
        &self.pem
    }

    /// A leaf with a key of its own for these host names and addresses, valid for `lifetime`, which is cut to
    /// [`LEAF_LIFETIME_MAX`].
    pub fn issue(&self, names: &[String], now: Timestamp, lifetime: Duration) -> Result<Leaf, CaError> {
        let lifetime = lifetime.min(LEAF_LIFETIME_MAX);
        let not_before = back(now, BACKDATED.min(lifetime / 10));
        let not_after = not_before.plus(lifetime);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        for name in names {
            let one = CertificateParams::new(vec![name.clone()]).map_err(|_| CaError::Name { name: name.clone() })?;
            params.subject_alt_names.extend(one.subject_alt_names);
        }
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "Sluice repo server");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial()?);
        params.not_before = date(not_before);
        params.not_after = date(not_after);
        let issuer = Issuer::new(authority_params(&self.key, now), &self.key);
        let certificate = params.signed_by(&key, &issuer)?;
        Ok(Leaf {
            chain: vec![certificate.der().clone(), self.certificate.clone()],
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            not_before,
            renew_at: not_before.plus(lifetime * 2 / 3),
            not_after,
        })
    }
}

fn load_or_create_key(path: &Path) -> Result<KeyPair, CaError> {
    match private_file::read(path) {
        Ok(pem) => {
            let malformed =
                |error: rcgen::Error| KeyFileError::Malformed { path: path.to_owned(), reason: error.to_string() };
            Ok(KeyPair::from_pkcs8_pem_and_sign_algo(&pem, &PKCS_ECDSA_P256_SHA256).map_err(malformed)?)
        }
        Err(KeyFileError::Io { action: "open", source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            let pem = zeroize::Zeroizing::new(key.serialize_pem());
            private_file::create(path, pem.as_bytes()).map_err(|source| KeyFileError::Io {
                action: "create",
                path: path.to_owned(),
                source,
            })?;
            Ok(key)
        }
        Err(error) => Err(error.into()),
    }
}

/// The subject is made from the key alone, so that leaves name the same issuer after every start.
fn authority_params(key: &KeyPair, now: Timestamp) -> CertificateParams {
    let digest = ring::digest::digest(&ring::digest::SHA256, &key.subject_public_key_info());
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let name = format!("Sluice internal CA {}", hex::encode(&digest.as_ref()[..8]));
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date(back(now, BACKDATED));
    params.not_after = date(now.plus(CA_LIFETIME));
    params
}

fn serial() -> Result<SerialNumber, CaError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| KeyFileError::Entropy)?;
    // RFC 5280: positive.
    bytes[0] = bytes[0] & 0x7f | 1;
    Ok(SerialNumber::from_slice(&bytes))
}

fn back(at: Timestamp, by: Duration) -> Timestamp {
    let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
    Timestamp::from_millis(at.as_millis().saturating_sub(by))
}

fn date(at: Timestamp) -> OffsetDateTime {
    let secs = i64::try_from(at.as_millis() / 1_000).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(secs).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    #[test]
    fn the_authority_is_made_once_privately_and_read_back_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("https");
        let made = InternalCa::load_or_create(&folder, NOW).unwrap();
        let again = InternalCa::load_or_create(&folder, NOW.plus(CA_LIFETIME)).unwrap();
        assert_eq!(again.fingerprint(), made.fingerprint());
        let mode = std::fs::metadata(folder.join("ca.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::set_permissions(folder.join("ca.key"), PermissionsExt::from_mode(0o640)).unwrap();
        let error = InternalCa::load_or_create(&folder, NOW).unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }

    #[test]
    fn a_certificate_of_another_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        InternalCa::load_or_create(&one, NOW).unwrap();
        InternalCa::load_or_create(&two, NOW).unwrap();
        std::fs::copy(two.join("ca.pem"), one.join("ca.pem")).unwrap();
        assert!(matches!(InternalCa::load_or_create(&one, NOW), Err(CaError::OtherCertificate { .. })));
    }

    #[test]
    fn a_leaf_lives_for_seven_days_at_most_and_is_renewed_at_two_thirds() {
        let folder = tempfile::tempdir().unwrap();
        let ca = InternalCa::load_or_create(folder.path(), NOW).unwrap();
        let day = Duration::from_secs(24 * 3_600);
        let leaf = ca.issue(&["repo.example".into(), "::1".into()], NOW, 30 * day).unwrap();
        assert_eq!(leaf.not_before.plus(7 * day), leaf.not_after);
        assert_eq!(leaf.not_before.plus(7 * day * 2 / 3), leaf.renew_at);
        assert!(leaf.not_before < NOW && NOW < leaf.renew_at);
        let other = ca.issue(&["repo.example".into()], NOW, day).unwrap();
        assert_ne!(other.chain[0], leaf.chain[0]);
        assert_eq!(other.chain[1], leaf.chain[1]);
        assert!(matches!(ca.issue(&["ä".into()], NOW, day), Err(CaError::Name { .. })));
    }
}
