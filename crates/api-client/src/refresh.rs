//! Fetches what verified metadata asks for next, and nothing else, until it is whole.

use crate::error::ClientError;
use bytes::Bytes;
use sluice_metadata::{Change, MetadataError, Trusted, Wanted};
use sluice_model::Timestamp;
use std::future::Future;

/// Roots in one refresh: TUF 1.0.34 section 5.3 asks for a bound; one a day for three years.
const ROOTS_MAX: usize = 1_024;
/// Files in one refresh besides roots: 4 + 29 rings, twice, for a publication that overtakes the walk.
const FILES_MAX: usize = 128;

/// Where metadata files come from.
pub trait MetadataSource {
    /// The file below `/tuf/metadata/`, at most `length_max` bytes; `None` when the server has no such file.
    fn metadata_file(
        &self,
        file: &str,
        length_max: u64,
    ) -> impl Future<Output = Result<Option<Bytes>, ClientError>> + Send;
}

/// Why a refresh came to nothing. What was trusted before still is.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// A file could not be fetched.
    #[error("metadata could not be fetched")]
    Fetch(#[from] ClientError),
    /// A file was refused: a mistake, an old copy, or an attack. The variant of the source tells which.
    #[error("metadata was refused")]
    Refused(#[from] MetadataError),
    /// The server does not have a file that its own signed metadata names.
    #[error("the server does not have {file}, which signed metadata names")]
    Missing {
        /// Its name.
        file: String,
    },
    /// The walk does not end.
    #[error("the metadata asks for more than {max} files in one refresh")]
    TooMany {
        /// The bound.
        max: usize,
    },
}

impl RefreshError {
    /// The verifier's reason, when the server's metadata was refused.
    pub fn refusal(&self) -> Option<&MetadataError> {
        match self {
            Self::Refused(error) => Some(error),
            _ => None,
        }
    }
}

/// Verified, whole metadata.
#[derive(Clone, Debug)]
pub struct Refreshed {
    /// What to trust from now on, and to store.
    pub trusted: Trusted,
    /// Whether anything is newer than before.
    pub is_newer: bool,
    /// Bytes fetched.
    pub fetched_bytes: u64,
}

/// What expiry is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// The trusted clock.
    pub trusted: Timestamp,
    /// The system's clock: what counts once root replaced the timestamp key, because what the old key said of the time,
    /// which the trusted clock rests on, is void then.
    pub system: Timestamp,
}

impl From<Timestamp> for Times {
    fn from(now: Timestamp) -> Self {
        Self { trusted: now, system: now }
    }
}

/// Walks root -> timestamp -> snapshot -> roles from `source`, verifying each file before the next is asked for.
///
/// Works on a copy: an error leaves `trusted` as it was. Dropping the future loses only what was fetched.
pub async fn refresh(
    trusted: &Trusted,
    source: &impl MetadataSource,
    times: impl Into<Times>,
) -> Result<Refreshed, RefreshError> {
    let times = times.into();
    let mut now = times.trusted;
    let mut walk = Walk { next: trusted.clone(), is_newer: false, fetched_bytes: 0 };
    for count in 0.. {
        if count > ROOTS_MAX {
            return Err(RefreshError::TooMany { max: ROOTS_MAX });
        }
        let wanted = walk.next.next_root();
        if !walk.take(source, &wanted, now).await? {
            break;
        }
    }
    if trusted.issued_at().is_some() && walk.next.issued_at().is_none() {
        now = times.system;
    }
    let wanted = walk.next.next_timestamp();
    if !walk.take(source, &wanted, now).await? {
        return Err(RefreshError::Missing { file: wanted.file });
    }
    let mut files = 0;
    loop {
        let needed = walk.next.next_needed();
        let Some(wanted) = needed.first() else { break };
        files += 1;
        if files > FILES_MAX {
            return Err(RefreshError::TooMany { max: FILES_MAX });
        }
        if !walk.take(source, wanted, now).await? {
            return Err(RefreshError::Missing { file: wanted.file.clone() });
        }
    }
    Ok(Refreshed { trusted: walk.next, is_newer: walk.is_newer, fetched_bytes: walk.fetched_bytes })
}

struct Walk {
    next: Trusted,
    is_newer: bool,
    fetched_bytes: u64,
}

impl Walk {
    /// Fetches and verifies one file; `false` when the server does not have it.
    async fn take(
        &mut self,
        source: &impl MetadataSource,
        wanted: &Wanted,
        now: Timestamp,
    ) -> Result<bool, RefreshError> {
        let Some(bytes) = source.metadata_file(&wanted.file, wanted.length_max).await? else { return Ok(false) };
        self.fetched_bytes += bytes.len() as u64;
        self.is_newer |= self.next.accept(wanted, &bytes, now)? == Change::Newer;
        Ok(true)
    }
}
