//! What can go wrong between a client and a server, whose fault it is, and whether trying again helps.

use sluice_api::problem::{Problem, ProblemType};
use sluice_identity::Fingerprint;
use sluice_model::MemberKey;
use std::path::PathBuf;
use std::time::Duration;

/// Whose fault a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// What was asked.
    Request,
    /// The server that was asked, or the way to it.
    Peer,
    /// This machine.
    Local,
}

/// Whether trying again helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The same request fails again.
    Never,
    /// Later, at the earliest after this long.
    After(Duration),
    /// At once, at another server.
    ElsewhereNow,
}

/// A failed request.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The base URL cannot be used.
    #[error("{text:?} is not a usable server address ({reason}); write for instance http://127.0.0.1:8470")]
    BadUrl {
        /// What was given.
        text: String,
        /// Why not.
        reason: String,
    },
    /// No connection.
    #[error("cannot reach {url}; check that the server is running there and that nothing blocks the way")]
    Unreachable {
        /// Which URL.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// The server proved another key than the expected one.
    #[error("the server at {url} does not have the key {expected} that the signed roster names; it is not asked")]
    WrongKey {
        /// Which URL.
        url: String,
        /// Whose key was expected.
        expected: MemberKey,
        /// What the handshake said.
        source: reqwest::Error,
    },
    /// The server shows no certificate of the pinned authority.
    #[error(
        "the server at {url} shows no certificate of the authority that `login` pinned; nothing was sent. When its CA was \
         replaced, compare `sluice-repo fingerprint` on the server and log in again with --fingerprint; otherwise somebody \
         stands in between"
    )]
    NotPinned {
        /// Which URL.
        url: String,
        /// The authority that it shows, when it shows one.
        got: Option<Fingerprint>,
        /// What the handshake said.
        source: reqwest::Error,
    },
    /// No answer in time.
    #[error("no answer from {url} in time; the server is overloaded or the way to it is broken")]
    TimedOut {
        /// Which URL.
        url: String,
        /// Where it stood.
        source: reqwest::Error,
    },
    /// The connection broke within an answer.
    #[error("the connection to {url} broke in the middle of the answer")]
    Broken {
        /// Which URL.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// The server answered with a problem.
    #[error("{problem}")]
    Problem {
        /// Which URL.
        url: String,
        /// What it said.
        problem: Box<Problem>,
    },
    /// The server answered with an error status that is no problem document.
    #[error("{url} answered with status {status}; is this a Sluice server?")]
    Status {
        /// Which URL.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// The answer is longer than anything that belongs there.
    #[error("the answer of {url} is longer than {limit_bytes} bytes, the most that is read here")]
    TooLarge {
        /// Which URL.
        url: String,
        /// The bound.
        limit_bytes: u64,
    },
    /// The answer cannot be read.
    #[error("the answer of {url} cannot be read ({reason}); client and server may not fit together")]
    Malformed {
        /// Which URL.
        url: String,
        /// Why.
        reason: String,
    },
    /// A local file cannot be read.
    #[error("cannot read {}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A local file changed while it was sent.
    #[error("{} changed while it was uploaded; nothing was published, run the command again", path.display())]
    FileChanged {
        /// Which file.
        path: PathBuf,
    },
}

impl ClientError {
    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        match self {
            Self::BadUrl { .. } => Blame::Request,
            Self::Problem { problem, .. } if problem.status < 500 => Blame::Request,
            Self::File { .. } | Self::FileChanged { .. } => Blame::Local,
            _ => Blame::Peer,
        }
    }

    /// Whether trying again helps.
    pub fn retry(&self) -> Retry {
        match self {
            Self::BadUrl { .. } | Self::File { .. } | Self::FileChanged { .. } => Retry::Never,
            Self::Problem { problem, .. } if problem.is(ProblemType::QuotaExceeded) => {
                Retry::After(Duration::from_secs(10))
            }
            Self::Problem { problem, .. } if problem.status < 500 => Retry::Never,
            _ => Retry::ElsewhereNow,
        }
    }

    /// The problem that the server answered with, if it did.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Problem { problem, .. } => Some(problem),
            _ => None,
        }
    }

    /// Whether the server answered with a problem of type `kind`.
    pub fn is_problem(&self, kind: ProblemType) -> bool {
        self.problem().is_some_and(|problem| problem.is(kind))
    }

    /// Whether no server answered: unreachable, timed out or broken off.
    pub fn is_connection(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::WrongKey { .. }
                | Self::NotPinned { .. }
                | Self::TimedOut { .. }
                | Self::Broken { .. }
        )
    }

    /// The error of sending or reading, told apart.
    pub(crate) fn of(url: &str, expected: Option<MemberKey>, error: reqwest::Error) -> Self {
        let url = url.to_owned();
        let source = error.without_url();
        if let (Some(expected), true) = (expected, is_wrong_key(&source)) {
            return Self::WrongKey { url, expected, source };
        }
        if source.is_connect() {
            Self::Unreachable { url, source }
        } else if source.is_timeout() {
            Self::TimedOut { url, source }
        } else {
            Self::Broken { url, source }
        }
    }
}

/// Whether a [`sluice_identity::WrongServerKey`] stands anywhere in the chain.
fn is_wrong_key(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<std::io::Error>();
        if io.is_some_and(|io| sluice_identity::wrong_server_key(io).is_some()) {
            return true;
        }
        // An io::Error shows the source of what it wraps, not what it wraps.
        cause = match io.and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    false
}
