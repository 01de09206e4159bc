//! The lines of an exported log.
//!
//! `<line number> <hash> <kind> <content>`, each ended by one newline. The hash is the leaf hash (SHA-256 of `0x00` and
//! the content), for every kind, so that a changed byte is found in its own line; the number finds a line that is gone
//! or elsewhere. Kinds, in this order: one `log` ([`Begin`]), one `root` for each root metadata file from the first on
//! (base64), then `leaf` lines (the entry's own bytes) with a `head` line (a signed `timestamp.json`, base64) wherever
//! one that covers all leaves above it was kept; the last line is a `head`.

use crate::leaf_hash;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// Bytes of one line: a root metadata file of 64 KiB in base64 is the longest.
pub const LINE_BYTES_MAX: usize = 128 << 10;
/// Format of the lines.
pub(crate) const FORMAT: u32 = 1;

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Begin {
    /// Of the lines.
    pub format: u32,
    /// `x-repo-id`.
    pub repository: String,
    /// How many entries follow.
    pub size: u64,
}

/// Kind of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Log,
    Root,
    Leaf,
    Head,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Log, Self::Root, Self::Leaf, Self::Head];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Root => "root",
            Self::Leaf => "leaf",
            Self::Head => "head",
        }
    }
}

/// The `log` line of a log of `size` entries; always line 1.
pub fn begin_line(repository: &str, size: u64) -> Vec<u8> {
    let begin = Begin { format: FORMAT, repository: repository.to_owned(), size };
    let content = serde_json::to_vec(&begin).expect("texts and numbers");
    line(1, Kind::Log, &content)
}

/// A `root` line.
pub fn root_line(number: u64, root: &[u8]) -> Vec<u8> {
    line(number, Kind::Root, STANDARD.encode(root).as_bytes())
}

/// A `leaf` line.
pub fn leaf_line(number: u64, leaf: &[u8]) -> Vec<u8> {
    line(number, Kind::Leaf, leaf)
}

/// A `head` line.
pub fn head_line(number: u64, timestamp: &[u8]) -> Vec<u8> {
    line(number, Kind::Head, STANDARD.encode(timestamp).as_bytes())
}

fn line(number: u64, kind: Kind, content: &[u8]) -> Vec<u8> {
    let mut line = format!("{number} {} {} ", leaf_hash(content), kind.as_str()).into_bytes();
    line.extend_from_slice(content);
    line.push(b'\n');
    line
}

/// A line taken apart; nothing is checked yet but its form.
pub(crate) struct Line<'a> {
    pub(crate) number: &'a str,
    pub(crate) hash: &'a str,
    pub(crate) kind: Kind,
    pub(crate) content: &'a [u8],
}

impl<'a> Line<'a> {
    /// Takes a line without its newline apart.
    pub(crate) fn split(line: &'a [u8]) -> Option<Self> {
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let mut text = || parts.next().and_then(|part| std::str::from_utf8(part).ok());
        let (number, hash, kind) = (text()?, text()?, text()?);
        let kind = Kind::ALL.into_iter().find(|known| known.as_str() == kind)?;
        Some(Self { number, hash, kind, content: parts.next()? })
    }

    pub(crate) fn decoded(&self) -> Option<Vec<u8>> {
        STANDARD.decode(self.content).ok()
    }
}
