//! The device key on disk: PKCS#8 v1 PEM, mode 0600, created exclusively.

use crate::private_file;
use sluice_metadata::Signer;
use sluice_model::{EndpointId, MemberKey};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Why there is no usable key.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// Group or others may read or write the file, so the key may be known to somebody else.
    #[error("{} has mode {mode:04o}: the key may be known to others. If you are sure it is not, run: chmod 600 {}", path.display(), path.display())]
    Permissions {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not a regular file of at most 4 KiB.
    #[error("{} is not a key file (expected a regular file of at most {} bytes)", path.display(), private_file::BYTES_MAX)]
    NotAKeyFile {
        /// The path given.
        path: PathBuf,
    },
    /// The content is not the PKCS#8 private key in PEM that belongs there.
    #[error("{} does not hold the PKCS#8 private key in PEM that belongs there: {reason}", path.display())]
    Malformed {
        /// The key file.
        path: PathBuf,
        /// The parser's words.
        reason: String,
    },
    /// The operating system refused.
    #[error("cannot {action} the key file {}", path.display())]
    Io {
        /// `open`, `read`, `create` or `sync`.
        action: &'static str,
        /// The key file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// No entropy for a new key.
    #[error("the operating system gave no entropy for a new key")]
    Entropy,
}

/// The one Ed25519 key of this device: TLS key, overlay identity and signing key of reports. Cheap to clone.
#[derive(Clone)]
pub struct DeviceKey {
    signer: Arc<Signer>,
    public: MemberKey,
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DeviceKey").field(&self.public).finish()
    }
}

impl DeviceKey {
    /// Reads the key at `path`.
    pub fn load(path: &Path) -> Result<Self, KeyFileError> {
        let pem = private_file::read(path)?;
        let signer = Signer::from_pkcs8_pem(&pem)
            .map_err(|error| KeyFileError::Malformed { path: path.to_owned(), reason: error.to_string() })?;
        Ok(Self::from_signer(signer))
    }

    /// Reads the key at `path`, or makes a new one there when there is none.
    ///
    /// Two programs that start at once end with the same key: the file appears whole and only once.
    pub fn load_or_create(path: &Path) -> Result<Self, KeyFileError> {
        match Self::load(path) {
            Err(KeyFileError::Io { action: "open", source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                let key = Self::generate()?;
                match key.write_new(path) {
                    Ok(()) => Ok(key),
                    Err(source) if source.kind() == io::ErrorKind::AlreadyExists => Self::load(path),
                    Err(source) => Err(KeyFileError::Io { action: "create", path: path.to_owned(), source }),
                }
            }
            other => other,
        }
    }

    /// A new key that is in no file.
    pub fn generate() -> Result<Self, KeyFileError> {
        let mut seed = Zeroizing::new([0u8; 32]);
        getrandom::fill(seed.as_mut_slice()).map_err(|_| KeyFileError::Entropy)?;
        Ok(Self::from_signer(Signer::from_seed(*seed)))
    }

    /// The key that `signer` holds.
    pub fn from_signer(signer: Signer) -> Self {
        let public = MemberKey::from_bytes(signer.public_key());
        Self { signer: Arc::new(signer), public }
    }

    /// The public key: what the roster lists for a member.
    pub fn public(&self) -> MemberKey {
        self.public
    }

    /// What fleet documents call this device when it is an endpoint.
    pub fn endpoint_id(&self) -> EndpointId {
        crate::endpoint_id_of(&self.public)
    }

    /// Signs with this key. Only with a purpose prefix or DSSE, never bare bytes that a peer chose.
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    fn write_new(&self, path: &Path) -> io::Result<()> {
        private_file::create(path, self.signer.to_pkcs8_pem().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    #[test]
    fn a_key_is_made_once_with_mode_0600_and_read_back_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("device.key");
        let made = DeviceKey::load_or_create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert!(std::fs::read_to_string(&path).unwrap().starts_with("-----BEGIN PRIVATE KEY-----"));
        assert_eq!(DeviceKey::load_or_create(&path).unwrap().public(), made.public());
        assert_eq!(DeviceKey::load(&path).unwrap().public(), made.public());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_and_the_error_says_chmod() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("device.key");
        DeviceKey::load_or_create(&path).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o644] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = DeviceKey::load_or_create(&path).unwrap_err();
            assert!(matches!(error, KeyFileError::Permissions { .. }), "{error}");
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_no_key_is_refused_and_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("device.key");
        std::fs::write(&path, "not a key").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(DeviceKey::load_or_create(&path), Err(KeyFileError::Malformed { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "not a key");
        assert!(matches!(DeviceKey::load(folder.path()), Err(KeyFileError::NotAKeyFile { .. })));
        std::fs::write(&path, vec![b'x'; 5000]).unwrap();
        assert!(matches!(DeviceKey::load(&path), Err(KeyFileError::NotAKeyFile { .. })));
    }

    #[test]
    fn a_second_creation_never_overwrites_the_first_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("device.key");
        let first = DeviceKey::load_or_create(&path).unwrap();
        let error = DeviceKey::generate().unwrap().write_new(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(DeviceKey::load(&path).unwrap().public(), first.public());
    }

    #[test]
    fn a_debug_print_shows_no_secret() {
        let key = DeviceKey::from_signer(Signer::from_seed([7; 32]));
        assert!(!format!("{key:?}").contains("07070707"));
    }
}
