//! Why an operation did not happen: refused with a problem that the caller can act on, or broken on our side.

use sluice_api::problem::{Problem, ProblemType};
use sluice_repo_store::StoreError;
use std::error::Error;

/// The error of every operation. `http::problem` turns it into an answer.
#[derive(Debug)]
pub enum Failure {
    /// The request cannot be granted; the problem says why and what to do next.
    Refused(Box<Problem>),
    /// Something of ours failed. The chain goes to the log, never to the caller.
    Broken {
        /// What was being done, for instance `signing metadata`.
        doing: &'static str,
        /// The chain.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl Failure {
    /// Refuses with what happened and what to do next.
    pub fn refused(kind: ProblemType, detail: impl Into<String>) -> Self {
        Self::Refused(Box::new(Problem::new(kind, detail)))
    }

    /// Refuses and lists what stands in the way.
    pub fn blocked(kind: ProblemType, detail: impl Into<String>, blocks: Vec<String>) -> Self {
        Self::Refused(Box::new(Problem::new(kind, detail).with_blocks(blocks)))
    }

    /// Something of ours failed while `doing` it.
    pub fn broken(doing: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Broken { doing, source: source.into() }
    }

    /// Whether it is a refusal of that type.
    #[cfg(test)]
    pub fn is(&self, kind: ProblemType) -> bool {
        matches!(self, Self::Refused(problem) if problem.is(kind))
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Refused(Box::new(problem))
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        if error.is_full() {
            return Self::refused(ProblemType::Full, "the repo server's disk is full; free space on it and try again");
        }
        Self::broken("using the database", error)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(problem) => write!(f, "{problem}"),
            Self::Broken { doing, .. } => write!(f, "{doing} failed"),
        }
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Refused(_) => None,
            Self::Broken { source, .. } => Some(source.as_ref()),
        }
    }
}
