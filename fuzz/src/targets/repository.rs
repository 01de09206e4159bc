//! A small repository with known keys, so that a target can hand in signed files.

use sluice_metadata::{InitParams, Keyring, Profile, RepositoryProfile, RoleName, Signer, Trusted, Writer, dev_roles};
use sluice_model::{RingName, Timestamp};
use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

/// When it was made: 2026-09-21.
const BEGUN: Timestamp = Timestamp::from_millis(1_790_000_000_000);
const LEASE: Duration = Duration::from_secs(24 * 3_600);

/// The repository.
pub struct Repository {
    /// Its files, by name.
    pub files: BTreeMap<String, Vec<u8>>,
    /// What a client trusts that took all of them.
    pub trusted: Trusted,
    /// A client that knows the root only.
    pub fresh: Trusted,
    /// One second after it was made.
    pub now: Timestamp,
    keyring: Keyring,
}

/// The one of this process.
pub fn repository() -> &'static Repository {
    static REPOSITORY: OnceLock<Repository> = OnceLock::new();
    REPOSITORY.get_or_init(make)
}

fn make() -> Repository {
    let rings: Vec<RingName> = ["pilot", "production"].map(|ring| ring.parse().expect("a ring")).into();
    let mut keyring = Keyring::default();
    for (number, role) in (1..).zip(dev_roles(&rings)) {
        keyring.insert(role, Signer::from_seed([number; 32]));
    }
    let params =
        InitParams { repo_id: "fuzz".into(), profile: RepositoryProfile::Dev, rings, now: BEGUN, lease: LEASE };
    let (writer, publication) = Writer::init(params, &keyring).expect("a repository");
    let files: BTreeMap<String, Vec<u8>> = publication.files.into_iter().collect();
    let root = files.get("1.root.json").expect("a root");
    let fresh = Trusted::new(root, Profile::Strict).expect("our own root");
    let now = BEGUN.plus(Duration::from_secs(1));
    Repository { trusted: writer.trusted().clone(), fresh, files, now, keyring }
}

impl Repository {
    /// The keys of a role; root's for a name that is none.
    pub fn signers(&self, role: &str) -> &[Signer] {
        let role = role.parse().unwrap_or_else(|_| RoleName::root());
        match self.keyring.signers(&role) {
            [] => self.keyring.signers(&RoleName::root()),
            signers => signers,
        }
    }
}
