//! The other client: sigstore-tuf with ring for its cryptography, over files in memory.

use sigstore_crypto::{CryptoProvider, Error, HashContext, SigningScheme};
use sigstore_tuf::transport::FetchFuture;
use sigstore_tuf::{MetadataStore, Repository, Updater};
use sigstore_types::HashAlgorithm;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

#[derive(Debug)]
struct Ring;

struct Digest(ring::digest::Context);

impl HashContext for Digest {
    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn finalize(self: Box<Self>) -> Vec<u8> {
        self.0.finish().as_ref().to_vec()
    }
}

impl CryptoProvider for Ring {
    fn hash(&self, algorithm: HashAlgorithm) -> Result<Box<dyn HashContext>, Error> {
        let algorithm = match algorithm {
            HashAlgorithm::Sha2256 => &ring::digest::SHA256,
            HashAlgorithm::Sha2384 => &ring::digest::SHA384,
            HashAlgorithm::Sha2512 => &ring::digest::SHA512,
            _ => return Err(Error::UnsupportedAlgorithm("hash".into())),
        };
        Ok(Box::new(Digest(ring::digest::Context::new(algorithm))))
    }

    fn verify_raw(&self, scheme: SigningScheme, key: &[u8], data: &[u8], signature: &[u8]) -> Result<(), Error> {
        let algorithm: &dyn ring::signature::VerificationAlgorithm = match scheme {
            SigningScheme::Ed25519 => &ring::signature::ED25519,
            SigningScheme::EcdsaP256Sha256 => &ring::signature::ECDSA_P256_SHA256_ASN1,
            SigningScheme::RsaPssSha256 => &ring::signature::RSA_PSS_2048_8192_SHA256,
            _ => return Err(Error::UnsupportedAlgorithm("scheme".into())),
        };
        ring::signature::UnparsedPublicKey::new(algorithm, key)
            .verify(data, signature)
            .map_err(|_| Error::Verification("wrong".into()))
    }

    fn verify_prehashed(&self, _: SigningScheme, _: &[u8], _: &[u8], _: &[u8]) -> Result<(), Error> {
        Err(Error::UnsupportedAlgorithm("prehashed".into()))
    }
}

pub fn install() {
    let _ = sigstore_crypto::install_default_provider(&Ring);
}

pub type Files = BTreeMap<String, Vec<u8>>;

struct Mirror(Files);

impl Repository for Mirror {
    fn fetch_metadata<'a>(&'a self, name: &'a str, max_length: u64) -> FetchFuture<'a> {
        let found = self.0.get(name).filter(|bytes| bytes.len() as u64 <= max_length).cloned();
        Box::pin(async move { Ok(found) })
    }

    fn fetch_target<'a>(&'a self, _: &'a str, _: u64) -> FetchFuture<'a> {
        Box::pin(async { Ok(None) })
    }
}

/// What the client keeps from one run to the next.
#[derive(Clone, Default)]
pub struct Cache(Arc<Mutex<Files>>);

impl Cache {
    pub fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.0.lock().unwrap().clone())))
    }
}

impl MetadataStore for Cache {
    fn load(&self, name: &str) -> sigstore_tuf::Result<Option<Vec<u8>>> {
        Ok(self.0.lock().unwrap().get(name).cloned())
    }

    fn store(&self, name: &str, bytes: &[u8]) -> sigstore_tuf::Result<()> {
        self.0.lock().unwrap().insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }
}

/// One run of the other client.
pub struct Oracle {
    updater: Updater,
    now: jiff::Timestamp,
}

impl Oracle {
    /// Refreshes from `files`, with what `cache` holds from runs before.
    pub fn refreshed(root: &[u8], cache: Cache, files: &Files, now: jiff::Timestamp) -> Result<Self, String> {
        let updater = Updater::new(Mirror(files.clone()), root).map_err(|error| error.to_string())?;
        let mut updater = updater.with_store(cache);
        at_once(updater.refresh(now)).map_err(|error| error.to_string())?;
        Ok(Self { updater, now })
    }

    /// Length and SHA-256 of a target, `None` where no role lists it.
    pub fn find(&mut self, name: &str) -> Result<Option<(u64, Option<String>)>, String> {
        let found = at_once(self.updater.get_target_info(name, self.now)).map_err(|error| error.to_string())?;
        Ok(found.map(|target| (target.length, target.hashes.get("sha256").cloned())))
    }
}

/// Everything is in memory, so nothing is ever pending.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut future = Box::pin(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("memory is never pending"),
    }
}
