//! The head of an answer about an artifact, and what its body is made of: the same at the repository and on every node,
//! because all of it comes from signed metadata.
//!
//! RFC 9110 says which fields a status has, RFC 9530 the digests, RFC 6266 the file's name. What differs from server to
//! server (`Cache-Status`, `Link`, `Date`) is for the server to add.

use crate::range::{Conditions, Resource, Selection, select};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sluice_model::{ArtifactKind, ReleasedArtifact, Timestamp};
use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, UNIX_EPOCH};

/// What caches may do with content. The bytes under a digest never change, and nobody may code them; yet every use is
/// asked for again, because the content may be retracted.
pub const CONTENT_CACHING: &str = "no-cache, no-transform, immutable";

/// A stretch of an answer's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Between parts of a multi-range answer.
    Text(String),
    /// Of the artifact.
    Content(Range<u64>),
}

impl Part {
    /// In bytes.
    pub fn length(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Content(range) => range.end - range.start,
        }
    }
}

/// An answer before its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// 200, 206 or 304.
    pub status: u16,
    /// Names in lower case; every value is visible ASCII.
    pub headers: Vec<(&'static str, String)>,
    /// `None`: the status has no body.
    pub parts: Option<VecDeque<Part>>,
}

/// Why the conditions of a request give no content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unmet {
    /// 412.
    #[error("the content is not what If-Match or If-Unmodified-Since names; ask without it")]
    Precondition,
    /// 416, with [`Unmet::content_range`].
    #[error("the content has {length} bytes; ask for a range inside it")]
    Range {
        /// Of the content, in bytes.
        length: u64,
    },
}

impl Unmet {
    /// `Content-Range` of the answer (RFC 9110 section 14.4).
    pub fn content_range(&self) -> Option<String> {
        match self {
            Self::Precondition => None,
            Self::Range { length } => Some(format!("bytes */{length}")),
        }
    }
}

/// What a `GET` or `HEAD` of `row` is answered. `modified` is the earliest approval of the content into any ring, so that
/// it does not depend on who asks.
pub fn answer(row: &ReleasedArtifact, modified: Timestamp, conditions: &Conditions<'_>) -> Result<Answer, Unmet> {
    let etag = format!("\"sha256:{}\"", row.sha256);
    let last_modified_secs = modified.as_millis() / 1_000;
    let resource = Resource { length: row.length, etag: &etag, last_modified_secs };
    let mut headers = vec![("etag", etag.clone()), ("cache-control", CONTENT_CACHING.to_owned())];
    let (status, parts) = match select(&resource, conditions) {
        // What the client has of the representation stands: section 15.4.5 wants nothing else told about it.
        Selection::NotModified => return Ok(Answer { status: 304, headers, parts: None }),
        Selection::PreconditionFailed => return Err(Unmet::Precondition),
        Selection::Unsatisfiable => return Err(Unmet::Range { length: row.length }),
        Selection::Whole => (200, VecDeque::from([Part::Content(0..row.length)])),
        Selection::Part(range) => {
            headers.push(("content-range", content_range(&range, row.length)));
            (206, VecDeque::from([Part::Content(range)]))
        }
        Selection::Parts(ranges) => (206, multipart(row, &ranges)),
    };
    let kind = match parts.len() {
        0 | 1 => media_type(&row.custom.artifact).to_owned(),
        _ => format!("multipart/byteranges; boundary={}", boundary(row)),
    };
    let length: u64 = parts.iter().map(Part::length).sum();
    headers.extend([
        ("last-modified", httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(last_modified_secs))),
        ("accept-ranges", "bytes".to_owned()),
        ("content-length", length.to_string()),
        ("content-type", kind),
        ("content-disposition", format!("attachment; filename=\"{}\"", quotable(row.target.file()))),
        ("x-content-type-options", "nosniff".to_owned()),
    ]);
    headers.extend(digests(row));
    Ok(Answer { status, headers, parts: Some(parts) })
}

/// Of the whole artifact, whatever part of it is sent: RFC 9530, and what it replaced (RFC 3230), which is all that some
/// download clients know. BLAKE3 is not registered for either.
fn digests(row: &ReleasedArtifact) -> [(&'static str, String); 2] {
    let sha256 = STANDARD.encode(row.sha256.as_bytes());
    let sha512 = STANDARD.encode(row.custom.sha512.as_bytes());
    [("repr-digest", format!("sha-256=:{sha256}:, sha-512=:{sha512}:")), ("digest", format!("SHA-256={sha256}"))]
}

/// Media type of an artifact.
pub fn media_type(kind: &ArtifactKind) -> &'static str {
    match kind {
        ArtifactKind::Deb(_) => "application/vnd.debian.binary-package",
    }
}

fn content_range(range: &Range<u64>, length: u64) -> String {
    format!("bytes {}-{}/{length}", range.start, range.end.saturating_sub(1))
}

/// RFC 9110 section 14.6.
fn multipart(row: &ReleasedArtifact, ranges: &[Range<u64>]) -> VecDeque<Part> {
    let (boundary, kind) = (boundary(row), media_type(&row.custom.artifact));
    let mut parts = VecDeque::with_capacity(2 * ranges.len() + 1);
    for range in ranges {
        let ranged = content_range(range, row.length);
        let head = format!("\r\n--{boundary}\r\nContent-Type: {kind}\r\nContent-Range: {ranged}\r\n\r\n");
        parts.extend([Part::Text(head), Part::Content(range.clone())]);
    }
    parts.push_back(Part::Text(format!("\r\n--{boundary}--\r\n")));
    parts
}

/// No artifact can be made that holds the beginning of its own hash.
fn boundary(row: &ReleasedArtifact) -> String {
    format!("sluice-{}", &row.sha256.to_hex()[..32])
}

/// A file name inside a quoted string.
fn quotable(name: &str) -> String {
    name.chars().map(|c| if (' '..='~').contains(&c) && c != '"' && c != '\\' { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests;
