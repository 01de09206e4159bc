//! `tuf-client`: a client of any TUF repository, with the verbs of the public conformance suite.
//!
//! Decides nothing about trust: every file goes through the same verifier as everything else that Sluice believes, with
//! its foreign profile. This folder fetches, stores and writes.
//!
//! Invariants
//! - What is stored was accepted; the bytes are those that were received.
//! - A store that cannot be read, or no longer verifies, is an error, never an empty store.
//! - A target takes its name in the target directory only after its last byte was verified.

mod download;
mod refresh;
mod store;

use crate::clock;
use crate::failure::Failure;
use sluice_api_client::ClientError;
use sluice_metadata::{MetadataError, Profile, Trusted};
use sluice_model::Timestamp;
use std::path::{Path, PathBuf};
use store::Store;

const AFTER_HELP: &str = "\
Keeps what it trusts as ROLE.json in the metadata directory, the bytes as they were received. Reads
Ed25519, ECDSA P-256 and RSA-PSS keys. Speaks the protocol of the public TUF conformance suite.

Examples:
  sluice tuf-client --metadata-dir trusted init root.json
  sluice tuf-client --metadata-dir trusted --metadata-url https://example.org/metadata refresh
  sluice tuf-client --metadata-dir trusted --metadata-url https://example.org/metadata \\
      --target-name a/b.txt --target-base-url https://example.org/targets --target-dir files download

Exit codes:
  0  done and verified
  1  refused; what was trusted before still is";

/// Verify and download from any TUF repository.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct TufClient {
    /// Where trusted metadata is kept.
    #[arg(long, value_name = "DIR")]
    metadata_dir: PathBuf,
    /// Where metadata is fetched from.
    #[arg(long, value_name = "URL")]
    metadata_url: Option<String>,
    /// What to download; may be repeated.
    #[arg(long, value_name = "NAME")]
    target_name: Vec<String>,
    /// Where targets are fetched from.
    #[arg(long, value_name = "URL")]
    target_base_url: Option<String>,
    /// Where targets are written to, with `/` and other special characters of their names encoded.
    #[arg(long, value_name = "DIR")]
    target_dir: Option<PathBuf>,
    /// Judge expiry at this time instead of now (RFC 3339); for tests and for looking at old repositories.
    #[arg(long, value_name = "TIME", env = "SLUICE_TUF_CLIENT_NOW", hide_env_values = true)]
    now: Option<Timestamp>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Trust this root from now on; the metadata directory must not trust one yet.
    Init {
        /// A root.json that came by a way you trust.
        #[arg(value_name = "ROOT")]
        root: PathBuf,
    },
    /// Fetch and verify the newest metadata.
    Refresh,
    /// Refresh, then fetch and verify targets.
    Download,
}

/// Why something was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum TufError {
    /// An option is missing.
    #[error("{verb} needs {option}; `sluice tuf-client --help` shows an example")]
    MissingOption {
        /// What was asked.
        verb: &'static str,
        /// What is missing.
        option: &'static str,
    },
    /// The metadata directory has a root already.
    #[error("{} is trusted already; name another directory, or remove this one to begin again", path.display())]
    AlreadyTrusted {
        /// Its root.
        path: PathBuf,
    },
    /// The metadata directory has no root.
    #[error("{} does not exist; begin with `sluice tuf-client --metadata-dir DIR init ROOT`", path.display())]
    NotTrusted {
        /// Where it would be.
        path: PathBuf,
    },
    /// A file of this machine.
    #[error("cannot {verb} {}; check the directory's owner and the room on its disk", path.display())]
    File {
        /// What was tried.
        verb: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A stored file was changed, or is not one of ours.
    #[error("{} no longer verifies; begin again in an empty directory with a root you trust", path.display())]
    StoreBroken {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        source: MetadataError,
    },
    /// The given root verifies nothing, not even itself.
    #[error("{} is not a root that can be trusted; get it anew from whoever runs the repository", path.display())]
    BadRoot {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        source: MetadataError,
    },
    /// The verifier said no.
    #[error("the repository's metadata was refused; what was trusted before still is")]
    Refused(#[from] MetadataError),
    /// The network or the server.
    #[error("a file could not be fetched; run it again when the repository can be reached")]
    Fetch(#[from] ClientError),
    /// A root walk without end.
    #[error("the repository has more than {max} new roots; begin again with a newer root")]
    TooManyRoots {
        /// The bound.
        max: usize,
    },
    /// No role lists the target.
    #[error("no role that may speak for {0:?} lists it; check the name")]
    NoSuchTarget(String),
    /// A name that would mean another place in a URL.
    #[error("{0:?} cannot be fetched: parts of a name must not be empty, '.' or '..'")]
    UnusableName(String),
    /// No hash of the target that can be checked.
    #[error("{0:?} is listed without a sha256 or sha512, so it cannot be verified")]
    NoKnownHash(String),
    /// The server has no such file.
    #[error("the server does not have {0:?}, which signed metadata names; tell whoever runs it")]
    TargetMissing(String),
    /// The server sent something else.
    #[error("what the server sent is not the {0:?} that signed metadata names; nothing was kept")]
    WrongTarget(String),
}

impl TufClient {
    pub async fn run(self) -> Result<(), Failure> {
        let now = self.now.unwrap_or_else(clock::now);
        let store = Store::at(&self.metadata_dir);
        match &self.action {
            Action::Init { root } => init(&store, root)?,
            Action::Refresh => {
                self.refreshed("refresh", store, now).await?;
            }
            Action::Download => {
                let base = need("download", "--target-base-url", self.target_base_url.as_deref())?;
                let dir = need("download", "--target-dir", self.target_dir.as_deref())?;
                need("download", "--target-name", self.target_name.first())?;
                let mut session = self.refreshed("download", store, now).await?;
                let downloads = download::Downloads::open(base, dir)?;
                for name in &self.target_name {
                    downloads.fetch(&mut session, name).await?;
                }
            }
        }
        Ok(())
    }

    async fn refreshed(&self, verb: &'static str, store: Store, now: Timestamp) -> Result<refresh::Session, TufError> {
        let url = need(verb, "--metadata-url", self.metadata_url.as_deref())?;
        let mut session = refresh::Session::open(store, url, now)?;
        session.refresh().await?;
        Ok(session)
    }
}

fn need<T>(verb: &'static str, option: &'static str, given: Option<T>) -> Result<T, TufError> {
    given.ok_or(TufError::MissingOption { verb, option })
}

fn init(store: &Store, root: &Path) -> Result<(), TufError> {
    let bytes = store::read(root)?.ok_or_else(|| TufError::File {
        verb: "read",
        path: root.into(),
        source: std::io::ErrorKind::NotFound.into(),
    })?;
    Trusted::new(&bytes, Profile::Foreign).map_err(|source| TufError::BadRoot { path: root.into(), source })?;
    store.create_root(&bytes)
}
