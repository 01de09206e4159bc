//! Judges an exported log without its server: every line by its own hash and number, the whole by the signed heads.
//!
//! Lines come one by one; memory is that of one line and one hash a level of the tree. A change of one line is named by
//! that line. Whoever changes lines together with their hashes meets the next signed head, and the fault names the lines
//! between it and the head before. What no head covers is not believed at all: the last line is a head over everything.

use crate::entry::{Entry, Event};
use crate::export::{Begin, FORMAT, Kind, LINE_BYTES_MAX, Line};
use crate::gap::Gap;
use crate::tree::{Peaks, leaf_hash, sha256};
use sluice_metadata::{Profile, Trusted, log_head_signed_by};
use sluice_model::{LogHead, Sha256, Timestamp};

/// What the verifier trusts before it looks.
#[derive(Clone, Debug)]
pub enum Anchor {
    /// A root metadata file, whole: one of those in the log must be it.
    Root(Vec<u8>),
    /// SHA-256 of a root metadata file, as enrolment tokens and agents know it.
    RootHash(Sha256),
    /// The Ed25519 public key that signed the last head.
    TimestampKey([u8; 32]),
}

/// Where a log is not what was signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct Fault {
    /// From 1.
    pub line: u64,
    /// What is wrong there.
    pub what: What,
}

/// What is wrong at a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum What {
    /// No newline at its end: the file was cut.
    #[error("the file is cut off here")]
    CutOff,
    /// More than [`LINE_BYTES_MAX`].
    #[error("longer than {LINE_BYTES_MAX} bytes, which no line is")]
    TooLong,
    /// Not `NUMBER HASH KIND CONTENT`.
    #[error("not a line of an audit log")]
    NoLine,
    /// Another line's number: something before it was removed, added or moved.
    #[error("this is line {found} of the log: a line was removed, added or moved here")]
    WrongNumber {
        /// As it says.
        found: String,
    },
    /// The content or the hash was changed.
    #[error("its content does not have its hash: the line was changed")]
    WrongHash,
    /// A kind of line that cannot stand here.
    #[error("a {found} line cannot stand here")]
    WrongKind {
        /// Which.
        found: &'static str,
    },
    /// Hash and number are right but the content means nothing.
    #[error("its content cannot be read: {0}")]
    Unreadable(String),
    /// A later program wrote it.
    #[error("the log has format {found}, and this program reads {FORMAT}: use a newer one")]
    OtherFormat {
        /// As it says.
        found: u32,
    },
    /// An entry that does not follow the one before.
    #[error("entry {found} stands where entry {expected} belongs")]
    WrongSeq {
        /// As it says.
        found: u64,
        /// By its place.
        expected: u64,
    },
    /// A root that does not follow the one before, or is not valid.
    #[error("the root metadata is refused: {0}")]
    BadRoot(String),
    /// None of the roots is the one that is trusted.
    #[error("none of the log's roots is the one that you trust: this is another repository's log, or a forgery")]
    OtherRoot,
    /// A head that is not signed as it must be.
    #[error("the signed head is refused: {0}")]
    BadHead(String),
    /// A head over another number of entries than stand before it.
    #[error("the head is signed over {signed} entries and {found} stand before it: entries were removed or added")]
    OtherSize {
        /// By the head.
        signed: u64,
        /// Seen.
        found: u64,
    },
    /// A head over other entries: those since the head before were changed together with their hashes.
    #[error("the head is signed over other entries: something between line {since} and here was rewritten")]
    Rewritten {
        /// The last line that is surely as it was.
        since: u64,
    },
    /// The file ends without a head over all entries.
    #[error("the log ends after {found} of {expected} entries, or without a signed head: its end was removed")]
    Ended {
        /// Entries seen.
        found: u64,
        /// Entries that the first line promised.
        expected: u64,
    },
    /// A head that somebody else saw is not one of this log.
    #[error("somebody else was shown a log of {size} entries with another root: history was rewritten or cut")]
    NotAsSeen {
        /// Of the head that was seen.
        size: u64,
    },
    /// The same, but the log says itself that these entries were lost.
    #[error(
        "somebody else was shown a log of {size} entries, and entry {mark} of this one says that those after {backup} were lost when {by} restored the server from a backup: what they said cannot be shown"
    )]
    InGap {
        /// Of the head that was seen.
        size: u64,
        /// The entry that marks the gap.
        mark: u64,
        /// Entries of the backup.
        backup: u64,
        /// Who restored it.
        by: String,
    },
}

/// A signed head of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Size and root.
    pub head: LogHead,
    /// When it was signed.
    pub issued_at: Timestamp,
}

/// A log that is as it was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// `x-repo-id`.
    pub repository: String,
    /// The last head.
    pub last: Checkpoint,
    /// How many signed heads were met.
    pub heads: u64,
    /// The version of the newest root.
    pub root_version: u64,
    /// Gaps that the log marks, with the number of the entry that does.
    pub gaps: Vec<(u64, Gap)>,
}

/// A log being judged.
#[derive(Debug)]
pub struct Checker {
    anchor: Anchor,
    seen: Vec<LogHead>,
    line: u64,
    begin: Option<Begin>,
    /// The chain of roots, each trusted with nothing but itself.
    roots: Vec<Trusted>,
    is_anchored: bool,
    /// Which of the roots the last head verified by: never an older one again.
    root_idx: usize,
    peaks: Peaks,
    last: Option<Checkpoint>,
    last_head_line: u64,
    heads: u64,
    /// Whether the last head is signed as the anchor asks.
    is_last_anchored: bool,
    /// Marks met so far.
    gaps: Vec<(u64, Gap)>,
    /// Heads that others saw and this log does not have, by the line where that shows.
    not_as_seen: Vec<(u64, LogHead)>,
}

impl Checker {
    /// Begins a log. `seen` are heads that others were shown, for instance from a node's `timestamp.json`.
    pub fn new(anchor: Anchor, mut seen: Vec<LogHead>) -> Self {
        seen.sort_by_key(|head| head.size);
        Self {
            is_anchored: matches!(anchor, Anchor::TimestampKey(_)),
            anchor,
            seen,
            line: 0,
            begin: None,
            roots: Vec::new(),
            root_idx: 0,
            peaks: Peaks::default(),
            last: None,
            last_head_line: 0,
            heads: 0,
            is_last_anchored: false,
            gaps: Vec::new(),
            not_as_seen: Vec::new(),
        }
    }

    /// Takes the next line with its newline, and gives the entry when it holds one. The entry is believed when
    /// [`Checker::finish`] was reached.
    pub fn push(&mut self, line: &[u8]) -> Result<Option<Entry>, Fault> {
        self.line += 1;
        let at = self.line;
        self.take(line).map_err(|what| Fault { line: at, what })
    }

    fn take(&mut self, line: &[u8]) -> Result<Option<Entry>, What> {
        if line.len() > LINE_BYTES_MAX {
            return Err(What::TooLong);
        }
        let line = line.strip_suffix(b"\n").ok_or(What::CutOff)?;
        let line = Line::split(line).ok_or(What::NoLine)?;
        if line.number != self.line.to_string() {
            return Err(What::WrongNumber { found: line.number.chars().take(20).collect() });
        }
        let hash = leaf_hash(line.content);
        if line.hash != hash.to_hex() {
            return Err(What::WrongHash);
        }
        match (line.kind, &self.begin) {
            (Kind::Log, None) => self.begin(line.content).map(|()| None),
            (Kind::Root, Some(_)) if self.peaks.size() == 0 && self.heads == 0 => {
                let root = line.decoded().ok_or_else(|| What::Unreadable("not base64".into()))?;
                self.take_root(&root).map(|()| None)
            }
            (Kind::Leaf, Some(_)) if self.is_anchored => self.take_leaf(line.content, hash).map(Some),
            (Kind::Head, Some(_)) if self.is_anchored => {
                let timestamp = line.decoded().ok_or_else(|| What::Unreadable("not base64".into()))?;
                self.take_head(&timestamp).map(|()| None)
            }
            (Kind::Leaf | Kind::Head, Some(_)) if !self.roots.is_empty() => Err(What::OtherRoot),
            (kind, _) => Err(What::WrongKind { found: kind.as_str() }),
        }
    }

    fn begin(&mut self, content: &[u8]) -> Result<(), What> {
        let begin: Begin = serde_json::from_slice(content).map_err(|error| What::Unreadable(error.to_string()))?;
        if begin.format != FORMAT {
            return Err(What::OtherFormat { found: begin.format });
        }
        self.begin = Some(begin);
        Ok(())
    }

    fn take_root(&mut self, root: &[u8]) -> Result<(), What> {
        let bad = |error: sluice_metadata::MetadataError| What::BadRoot(error.to_string());
        if let Some(before) = self.roots.last() {
            let mut chain = before.clone();
            chain.accept(&before.next_root(), root, Timestamp::default()).map_err(bad)?;
        }
        let trusted = Trusted::new(root, Profile::Strict).map_err(bad)?;
        if self.begin.as_ref().is_some_and(|begin| begin.repository != trusted.repo_id()) {
            return Err(What::BadRoot(format!("it is of repository {}", trusted.repo_id())));
        }
        self.is_anchored |= match &self.anchor {
            Anchor::Root(known) => known == root,
            Anchor::RootHash(known) => *known == sha256(root),
            Anchor::TimestampKey(_) => true,
        };
        self.roots.push(trusted);
        Ok(())
    }

    fn take_leaf(&mut self, content: &[u8], hash: Sha256) -> Result<Entry, What> {
        let entry = Entry::read(content).map_err(|error| What::Unreadable(error.to_string()))?;
        let expected = self.peaks.size() + 1;
        if entry.seq != expected {
            return Err(What::WrongSeq { found: entry.seq, expected });
        }
        self.peaks.push(hash);
        let at = self.peaks.size();
        if let Event::Gap(gap) = &entry.event {
            self.gaps.push((at, gap.clone()));
        }
        // Judged at the end: a mark that explains it comes later.
        let others = self.seen.iter().filter(|head| head.size == at && head.root != self.peaks.root());
        self.not_as_seen.extend(others.map(|head| (self.line, *head)));
        Ok(entry)
    }

    fn take_head(&mut self, timestamp: &[u8]) -> Result<(), What> {
        let checkpoint = self.read_head(timestamp)?;
        let found = self.peaks.size();
        if checkpoint.head.size != found {
            return Err(What::OtherSize { signed: checkpoint.head.size, found });
        }
        if checkpoint.head.root != self.peaks.root() {
            return Err(What::Rewritten { since: self.last_head_line.max(1 + self.roots.len() as u64) });
        }
        self.last = Some(checkpoint);
        self.last_head_line = self.line;
        self.heads += 1;
        Ok(())
    }

    /// The head, signed as the root of its time asks: roots are tried from the one of the head before to the newest.
    fn read_head(&mut self, timestamp: &[u8]) -> Result<Checkpoint, What> {
        let mut why = "no root stands before it".to_owned();
        self.is_last_anchored = true;
        if let Anchor::TimestampKey(key) = &self.anchor {
            if let Ok((head, issued_at)) = log_head_signed_by(key, timestamp) {
                return Ok(Checkpoint { head, issued_at });
            }
            // The key may be newer than this head; what counts is the last one, which covers all before.
            self.is_last_anchored = false;
        }
        for idx in self.root_idx..self.roots.len() {
            let mut trusted = self.roots[idx].clone();
            // A head is judged by its signature, not by its lease, which is long over.
            match trusted.accept(&trusted.next_timestamp(), timestamp, Timestamp::default()) {
                Ok(_) => {
                    self.root_idx = idx;
                    return match (trusted.log_head(), trusted.issued_at()) {
                        (Some(head), Some(issued_at)) => Ok(Checkpoint { head, issued_at }),
                        _ => Err(What::BadHead("it names no log".into())),
                    };
                }
                Err(error) => why = error.to_string(),
            }
        }
        Err(What::BadHead(why))
    }

    /// The end of the file.
    pub fn finish(self) -> Result<Verdict, Fault> {
        let expected = self.begin.as_ref().map_or(0, |begin| begin.size);
        let ended = Fault { line: self.line + 1, what: What::Ended { found: self.peaks.size(), expected } };
        let (Some(begin), Some(last)) = (self.begin, self.last) else { return Err(ended) };
        if last.head.size != expected || self.peaks.size() != expected || self.last_head_line != self.line {
            return Err(ended);
        }
        let beyond = self.seen.iter().filter(|head| head.size > expected).map(|head| (self.line + 1, *head));
        if let Some((line, head)) = self.not_as_seen.iter().copied().chain(beyond).next() {
            let mark = self.gaps.iter().find(|(_, gap)| gap.covers(head.size));
            let what = match mark {
                Some((mark, gap)) => {
                    What::InGap { size: head.size, mark: *mark, backup: gap.backup.size, by: gap.by.clone() }
                }
                None => What::NotAsSeen { size: head.size },
            };
            return Err(Fault { line, what });
        }
        if !self.is_last_anchored {
            let why = "the key that you trust did not sign it".to_owned();
            return Err(Fault { line: self.line, what: What::BadHead(why) });
        }
        let root_version = self.roots.last().map_or(0, Trusted::root_version);
        Ok(Verdict { repository: begin.repository, last, heads: self.heads, root_version, gaps: self.gaps })
    }
}
