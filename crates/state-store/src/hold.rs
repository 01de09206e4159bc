//! A hold: somebody at this machine said that nothing moves. It needs no WAN, and it never lifts itself.
//!
//! It is a file in the data folder, so that it outlives restarts and that the command can write it while the program runs,
//! which alone may open the state file. Whatever cannot be read there is a hold too.

use serde::{Deserialize, Serialize};
use sluice_model::Timestamp;
use sluice_model::limits::TEXT_CHARS_MAX;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// State file of a node or agent, by which its folder is known.
const STATE_FILE: &str = "state.redb";

/// Since when, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Since when.
    pub since: Timestamp,
    /// Why, in the words of whoever set it.
    pub reason: String,
}

/// Why a hold could not be set or lifted.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// The reason is empty or too long.
    #[error("a hold needs a reason of 1 to {TEXT_CHARS_MAX} characters")]
    Reason,
    /// Nobody lives in the folder.
    #[error("{} is not the data folder of a node or agent; name it with --data", .0.display())]
    NotOurs(PathBuf),
    /// The folder.
    #[error("the hold in {} cannot be changed", path.display())]
    Folder {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Where a hold is kept.
fn file(data: &Path) -> PathBuf {
    data.join("hold.json")
}

/// The hold that is set in the data folder; `None`: none is.
pub fn read(data: &Path) -> Option<Hold> {
    match std::fs::read(file(data)) {
        Ok(bytes) => Some(serde_json::from_slice(&bytes).unwrap_or_else(|error| unreadable(&error.to_string()))),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => Some(unreadable(&error.to_string())),
    }
}

fn unreadable(why: &str) -> Hold {
    Hold { since: Timestamp::default(), reason: format!("hold.json cannot be read: {why}") }
}

/// Sets a hold. One that is set already stays, with its first reason.
pub fn set(data: &Path, reason: &str, now: Timestamp) -> Result<Hold, HoldError> {
    let reason = reason.trim();
    if !(1..=TEXT_CHARS_MAX).contains(&reason.chars().count()) {
        return Err(HoldError::Reason);
    }
    check_ours(data)?;
    if let Some(hold) = read(data) {
        return Ok(hold);
    }
    let hold = Hold { since: now, reason: reason.to_owned() };
    let failed = |source| HoldError::Folder { path: file(data), source };
    let bytes = serde_json::to_vec(&hold).expect("a hold is text and a number");
    let part = data.join("hold.json.part");
    let mut written = std::fs::File::create(&part).map_err(failed)?;
    written.write_all(&bytes).and_then(|()| written.sync_all()).map_err(failed)?;
    std::fs::rename(&part, file(data)).map_err(failed)?;
    std::fs::File::open(data).and_then(|folder| folder.sync_all()).map_err(failed)?;
    Ok(hold)
}

/// Lifts the hold; `None` when there was none.
pub fn lift(data: &Path) -> Result<Option<Hold>, HoldError> {
    check_ours(data)?;
    let hold = read(data);
    match std::fs::remove_file(file(data)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(HoldError::Folder { path: file(data), source: error }),
        _ => Ok(hold),
    }
}

fn check_ours(data: &Path) -> Result<(), HoldError> {
    if data.join(STATE_FILE).exists() { Ok(()) } else { Err(HoldError::NotOurs(data.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_outlives_everything_but_its_lifting_and_an_unreadable_one_holds() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path();
        let at = Timestamp::from_millis(7);
        assert!(matches!(set(data, "x", at), Err(HoldError::NotOurs(_))));
        std::fs::write(data.join(STATE_FILE), b"").unwrap();
        assert!(matches!(set(data, "  ", at), Err(HoldError::Reason)));
        assert_eq!(read(data), None);
        let first = set(data, "the auditor is here", at).unwrap();
        assert_eq!(set(data, "another reason", Timestamp::from_millis(8)).unwrap(), first);
        assert_eq!(read(data), Some(first.clone()));
        assert_eq!(lift(data).unwrap(), Some(first));
        assert_eq!(lift(data).unwrap(), None);
        std::fs::write(file(data), b"{half").unwrap();
        assert!(read(data).unwrap().reason.contains("cannot be read"));
    }
}
