//! What a witness makes of the head that a new timestamp signs.
//!
//! A witness holds nothing up: it says what it could not make sure of, and keeps the last head that it could.

use crate::proof::{ProofError, verify_consistency};
use sluice_model::LogHead;

/// Why a witness doubts the log. It stays until a proof leads from the head that it trusts to the one that is signed, which
/// a log that was rewritten never has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// The timestamp no longer names a log.
    #[error("the timestamp names no audit log any more; {seen} entries were seen")]
    Gone {
        /// Entries of the head that is trusted.
        seen: u64,
    },
    /// The log is another one.
    #[error("the audit log is not the one that was seen: {0}; history was rewritten, or the server was restored")]
    Other(#[from] ProofError),
    /// Nobody proves that it is the same.
    #[error("the server does not show that its audit log of {size} entries continues the one that was seen: {why}")]
    Unproven {
        /// Of the head that is signed now.
        size: u64,
        /// In words.
        why: String,
    },
}

/// What to do about a head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It is the one that is trusted already.
    Nothing,
    /// The first one: trust it from now on.
    Take(LogHead),
    /// Ask for the proof that leads from one to the other.
    Ask {
        /// Trusted.
        from: LogHead,
        /// Signed now.
        to: LogHead,
    },
    /// No proof can help.
    Doubt(Doubt),
}

/// Compares the head that was proven last with the one that is signed now.
pub fn judge(proven: Option<LogHead>, signed: Option<LogHead>) -> Step {
    match (proven, signed) {
        (None, None) => Step::Nothing,
        (None, Some(head)) => Step::Take(head),
        (Some(head), None) => Step::Doubt(Doubt::Gone { seen: head.size }),
        (Some(from), Some(to)) if from == to => Step::Nothing,
        (Some(from), Some(to)) if from.size < to.size => Step::Ask { from, to },
        (Some(from), Some(to)) => match verify_consistency(&from, &to, &[]) {
            Err(error) => Step::Doubt(error.into()),
            Ok(()) => Step::Nothing,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_model::Sha256;

    fn head(size: u64, byte: u8) -> LogHead {
        LogHead { size, root: Sha256::from_bytes([byte; 32]) }
    }

    #[test]
    fn only_a_longer_log_is_worth_a_question() {
        let seen = head(7, 1);
        assert_eq!(judge(None, None), Step::Nothing);
        assert_eq!(judge(None, Some(seen)), Step::Take(seen));
        assert_eq!(judge(Some(seen), Some(seen)), Step::Nothing);
        assert_eq!(judge(Some(seen), Some(head(8, 2))), Step::Ask { from: seen, to: head(8, 2) });
        assert_eq!(judge(Some(seen), None), Step::Doubt(Doubt::Gone { seen: 7 }));
        let shrunk = judge(Some(seen), Some(head(6, 1)));
        assert_eq!(shrunk, Step::Doubt(Doubt::Other(ProofError::Shrunk { from: 7, to: 6 })));
        let forked = judge(Some(seen), Some(head(7, 2)));
        assert_eq!(forked, Step::Doubt(Doubt::Other(ProofError::Forked { size: 7 })));
    }
}
