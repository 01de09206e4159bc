//! What ends a command: the exit code, what happened, what stands in the way and what to do next.

use sluice_api::problem::{Problem, ProblemType, TYPE_PREFIX};
use sluice_api_client::{Blame, ClientError};
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

/// Exit codes, as `sluice --help` documents them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The server answered with a problem; for `tuf-client`, whatever it did not accept.
    Refused = 1,
    /// The command line, the address or the credentials cannot be used; nothing was changed.
    Usage = 2,
    /// The server cannot be reached.
    Unreachable = 3,
    /// A file of this machine cannot be read or written.
    File = 4,
    /// The answer is not one of a Sluice server of this version.
    Unreadable = 5,
}

/// Why a command ends without success.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line, the address or the credentials; nothing was changed.
    #[error("{0}")]
    Usage(String),
    /// A local file.
    #[error("{what}")]
    File {
        /// Which file, and what was tried.
        what: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The server or the way to it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// `tuf-client` knows only accepted and refused.
    #[error(transparent)]
    Tuf(#[from] crate::commands::TufError),
    /// What was to be signed is not what it should be; nothing was signed.
    #[error("{0}")]
    NotSigned(String),
    /// What the server has in force does not verify from the root that this machine trusts.
    #[error("what the server has in force does not verify from the root that this machine trusts")]
    Unverified(#[source] Box<sluice_api_client::RefreshError>),
    /// An audit log is not the one that was signed.
    #[error("the log is not what was signed")]
    Audit(#[from] sluice_audit::Fault),
    /// Whoever read our output has gone; not worth a word.
    #[error("the output was closed")]
    OutputClosed,
}

impl Failure {
    /// A local file trouble.
    pub fn file(what: impl Into<String>, source: std::io::Error) -> Self {
        Self::File { what: what.into(), source }
    }

    /// `cannot <verb> <path>`.
    pub fn path(verb: &str, path: &Path, source: std::io::Error) -> Self {
        Self::file(format!("cannot {verb} {}", path.display()), source)
    }

    /// Its exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::File { .. } | Self::OutputClosed => Exit::File,
            Self::Tuf(_) | Self::Audit(_) | Self::NotSigned(_) | Self::Unverified(_) => Exit::Refused,
            Self::Client(error) if error.problem().is_some() => Exit::Refused,
            Self::Client(error) if error.is_connection() => Exit::Unreachable,
            Self::Client(error) => match error.blame() {
                Blame::Request => Exit::Usage,
                Blame::Local => Exit::File,
                Blame::Peer => Exit::Unreadable,
            },
        }
    }

    /// The text for stderr, with colours.
    pub fn text(&self) -> String {
        match self {
            Self::Client(ClientError::Problem { problem, .. }) => problem_text(problem),
            error => {
                let mut text = format!("{ERROR} {error}\n");
                let mut cause = std::error::Error::source(error);
                while let Some(source) = cause {
                    let _ = writeln!(text, "  because: {source}");
                    cause = source.source();
                }
                text
            }
        }
    }

    /// Prints it and gives the exit code.
    pub fn report(&self) -> ExitCode {
        if !matches!(self, Self::OutputClosed) {
            anstream::eprint!("{}", self.text());
        }
        ExitCode::from(self.exit() as u8)
    }
}

/// `error:` in bold red; anstream takes the colour away where it does not belong.
const ERROR: &str = "\u{1b}[1;31merror:\u{1b}[0m";

/// Title with status and type, detail, blocks, next step, request id.
fn problem_text(problem: &Problem) -> String {
    let kind = problem.kind.strip_prefix(TYPE_PREFIX).unwrap_or(&problem.kind);
    let mut text = format!("{ERROR} {} ({} {kind})\n", one_line(&problem.title), problem.status);
    let _ = writeln!(text, "  {}", one_line(&problem.detail));
    if !problem.blocks.is_empty() {
        text.push_str("  in the way:\n");
    }
    for block in &problem.blocks {
        let _ = writeln!(text, "  - {}", one_line(block));
    }
    if let Some(next) = next_step(problem) {
        let _ = writeln!(text, "  next: {next}");
    }
    if let Some(id) = &problem.request_id {
        let _ = writeln!(text, "  request: {}", one_line(id));
    }
    text
}

/// Text of a server on one line and without control characters: it must not paint on the terminal.
pub fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// What to do about it, where the type says so.
fn next_step(problem: &Problem) -> Option<&'static str> {
    let kind = ProblemType::ALL.iter().copied().find(|kind| problem.is(*kind))?;
    Some(match kind {
        ProblemType::Unauthenticated => {
            "store a valid token with `sluice login URL`; an admin makes one with `sluice token new --kind person`"
        }
        ProblemType::Forbidden => {
            "`sluice whoami` shows your roles; an admin gives others with `sluice token new --kind person`"
        }
        ProblemType::SeparationOfDuties => "ask another approver to run this",
        ProblemType::TlsRequired => {
            "run this on the server itself, through an SSH tunnel to its loopback address, or over https"
        }
        ProblemType::NotFound => {
            "`sluice patches`, `sluice site list`, `sluice ring list` and `sluice endpoints` show what there is"
        }
        ProblemType::ContentRetracted => "`sluice retractions show` names the retraction; publish other bytes",
        ProblemType::UploadIncomplete | ProblemType::DigestMismatch => "check the file and publish again",
        ProblemType::QuotaExceeded | ProblemType::NotReady => "wait a little and run it again",
        ProblemType::LeaseExpired => "`sluice status` shows the lease; the server has to sign a new timestamp",
        ProblemType::Full => "make room on the server's disk and run it again",
        ProblemType::Internal => "give the request id to whoever runs the server: its log has the cause",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn refused(problem: Problem) -> Failure {
        Failure::Client(ClientError::Problem { url: "http://127.0.0.1:1/v1".into(), problem: Box::new(problem) })
    }

    fn plain(failure: &Failure) -> String {
        anstream::adapter::strip_str(&failure.text()).to_string()
    }

    #[test]
    fn a_problem_is_printed_whole_and_cannot_paint_on_the_terminal() {
        let mut problem = Problem::new(ProblemType::SeparationOfDuties, "alice published openssl/3\u{1b}[2J")
            .with_blocks(vec!["published by alice".into(), "needs another\nperson".into()]);
        problem.request_id = Some("r-17".into());
        let failure = refused(problem);
        assert_eq!(failure.exit(), Exit::Refused);
        expect![[r#"
            error: A publisher cannot approve what he published (403 separation-of-duties)
              alice published openssl/3 [2J
              in the way:
              - published by alice
              - needs another person
              next: ask another approver to run this
              request: r-17
        "#]]
        .assert_eq(&plain(&failure));
    }

    #[test]
    fn a_file_trouble_names_file_and_cause() {
        let failure = Failure::path("read", Path::new("a.deb"), std::io::Error::other("it is gone"));
        assert_eq!(failure.exit(), Exit::File);
        expect![[r#"
            error: cannot read a.deb
              because: it is gone
        "#]]
        .assert_eq(&plain(&failure));
    }

    #[test]
    fn an_unknown_problem_type_is_still_printed() {
        let mut problem = Problem::new(ProblemType::Conflict, "no");
        problem.kind = "urn:sluice:problem:from-the-future".into();
        assert!(plain(&refused(problem)).contains("(409 from-the-future)"));
    }
}
