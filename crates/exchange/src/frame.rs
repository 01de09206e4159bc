//! The frames of the exchange protocol, version 1: fixed sizes, big end first.
//!
//! A connection begins with the 8-byte [`HELLO`] from the client. Then the client sends 64-byte [`Request`]s, as many
//! as it likes without waiting; the server answers each chunk asked for with one reply (in any order over requests):
//! a 16-byte [`ReplyHeader`], `length` bytes of body and, where the header says [`TRAILER`], 64 bytes of signature
//! (see [`crate::evidence`]). `Refused` ends its request at once. `Elsewhere` names in its body the member of the asker's
//! site that has the chunk or is being sent it (see [`crate::claims`]); who cannot get it there asks again with [`INSIST`].
//! A request of kind cancel carries the id of an earlier one and has no reply of its own: the earlier one ends with
//! `Refused`, or with the frame that was already on its way.
//!
//! | request | bytes | | reply header | bytes |
//! |---|---|---|---|---|
//! | version | 0 | | version | 0 |
//! | kind | 1 | | kind | 1 |
//! | flags | 2..4 | | flags | 2..4 |
//! | request id | 4..8 | | request id | 4..8 |
//! | artifact or manifest id | 8..40 | | chunk index, or code of `Refused` | 8..12 |
//! | first chunk | 40..44 | | body length | 12..16 |
//! | chunk count | 44..48 | | | |
//! | window in ms | 48..52 | | | |
//! | reserved, zero | 52..64 | | | |
//!
//! Invariants
//! - What decodes encodes to the same bytes; every bit that has no meaning yet must be zero.
//! - A decoded header's body fits the bound of its kind, so the receiver may allocate it.

use crate::have::HAVE_BYTES_MAX;
use sluice_model::limits::{CHUNK_BYTES_MAX, MANIFEST_BYTES_MAX};
use sluice_model::{ArtifactId, ManifestId, MemberKey};

/// Version of the frames.
pub const VERSION: u8 = 1;
/// What a client sends first: magic, version, three zero bytes.
pub const HELLO: [u8; HELLO_LEN] = *b"SLX1\x01\0\0\0";
/// Length of the hello.
pub const HELLO_LEN: usize = 8;
/// Length of a request.
pub const REQUEST_LEN: usize = 64;
/// Length of a reply header.
pub const REPLY_HEADER_LEN: usize = 16;
/// Length of the trailer that [`TRAILER`] announces.
pub const TRAILER_LEN: usize = 64;
/// Reply flag: the body of a chunk is followed by the sender's signature.
pub const TRAILER: u16 = 1;
/// Request flag on chunks: send them even if another member of the asker's site was sent them.
pub const INSIST: u16 = 1;
/// Length of the body of `Elsewhere`: a member's key.
pub const ELSEWHERE_LEN: usize = 32;
/// Chunks of one request: 64 of 1 MiB are far more than any window, and bound what one request makes a server do.
pub const REQUEST_CHUNKS_MAX: u32 = 64;
/// Longest window: a request is not a lease on a server's memory.
pub const WINDOW_MS_MAX: u32 = 120_000;

/// Why bytes are not a frame of this version. The connection ends: nothing after it can be found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The first eight bytes are no hello.
    #[error("the peer does not speak the exchange protocol: hello {got:02x?}")]
    NotAHello {
        /// What came.
        got: [u8; HELLO_LEN],
    },
    /// A version that this program does not know.
    #[error("exchange protocol version {got} is not known here (known: {VERSION})")]
    UnknownVersion {
        /// What came.
        got: u8,
    },
    /// A kind that this version does not have.
    #[error("unknown frame kind {got}")]
    UnknownKind {
        /// What came.
        got: u8,
    },
    /// A flag that this version does not have, or not on this kind.
    #[error("unknown flags {got:#06x} on frame kind {kind}")]
    UnknownFlags {
        /// What came.
        got: u16,
        /// On which kind.
        kind: u8,
    },
    /// A reserved or unused field is not zero.
    #[error("a reserved field is not zero in frame kind {kind}")]
    ReservedNotZero {
        /// In which kind.
        kind: u8,
    },
    /// A number is outside its bounds.
    #[error("{field} is {got}, at most {max} in frame kind {kind}")]
    TooLarge {
        /// In which kind.
        kind: u8,
        /// Which number.
        field: &'static str,
        /// What came.
        got: u64,
        /// The bound.
        max: u64,
    },
    /// A request for no chunk.
    #[error("a request for no chunk")]
    Empty,
    /// The body of an `Elsewhere` is no key.
    #[error("a reply names a member by {got} bytes instead of {ELSEWHERE_LEN}")]
    NotAKey {
        /// Its length.
        got: u32,
    },
}

/// Checks a hello.
pub fn check_hello(bytes: &[u8; HELLO_LEN]) -> Result<(), FrameError> {
    if bytes[..4] != HELLO[..4] || bytes[5..] != HELLO[5..] {
        return Err(FrameError::NotAHello { got: *bytes });
    }
    match bytes[4] {
        VERSION => Ok(()),
        got => Err(FrameError::UnknownVersion { got }),
    }
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// `count` chunks of an artifact from `first`. For each the server may wait up to `window_ms` when it does not
    /// have it yet but is fetching it.
    Chunks {
        /// Of what.
        artifact: ArtifactId,
        /// Index of the first.
        first: u32,
        /// 1 to [`REQUEST_CHUNKS_MAX`].
        count: u32,
        /// At most [`WINDOW_MS_MAX`]; 0: answer at once.
        window_ms: u32,
        /// Whether to send what another member of the asker's site was sent.
        insists: bool,
    },
    /// An encoded manifest.
    Manifest {
        /// BLAKE3 of it.
        manifest: ManifestId,
    },
    /// Which chunks of an artifact the server has and is fetching: the body is a [`crate::have::Have`].
    Have {
        /// Of what.
        artifact: ArtifactId,
    },
    /// The request with this id is no longer of interest.
    Cancel,
}

const ASK_CHUNKS: u8 = 1;
const ASK_MANIFEST: u8 = 2;
const ASK_HAVE: u8 = 3;
const ASK_CANCEL: u8 = 4;

/// A request as sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Chosen by the client, repeated in every reply to it.
    pub id: u32,
    /// What for.
    pub ask: Ask,
}

impl Request {
    /// The 64 bytes.
    pub fn encode(&self) -> [u8; REQUEST_LEN] {
        let mut flags = 0;
        let (kind, name, first, count, window_ms) = match &self.ask {
            Ask::Chunks { artifact, first, count, window_ms, insists } => {
                flags = if *insists { INSIST } else { 0 };
                (ASK_CHUNKS, artifact.as_bytes(), *first, *count, *window_ms)
            }
            Ask::Manifest { manifest } => (ASK_MANIFEST, manifest.as_bytes(), 0, 0, 0),
            Ask::Have { artifact } => (ASK_HAVE, artifact.as_bytes(), 0, 0, 0),
            Ask::Cancel => (ASK_CANCEL, &[0; 32], 0, 0, 0),
        };
        let mut bytes = [0; REQUEST_LEN];
        bytes[0] = VERSION;
        bytes[1] = kind;
        bytes[2..4].copy_from_slice(&flags.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.id.to_be_bytes());
        bytes[8..40].copy_from_slice(name);
        bytes[40..44].copy_from_slice(&first.to_be_bytes());
        bytes[44..48].copy_from_slice(&count.to_be_bytes());
        bytes[48..52].copy_from_slice(&window_ms.to_be_bytes());
        bytes
    }

    /// Reads the 64 bytes.
    pub fn decode(bytes: &[u8; REQUEST_LEN]) -> Result<Self, FrameError> {
        let kind = bytes[1];
        check_version(bytes[0])?;
        if !(ASK_CHUNKS..=ASK_CANCEL).contains(&kind) {
            return Err(FrameError::UnknownKind { got: kind });
        }
        let flags = u16_at(bytes, 2);
        let known_flags = if kind == ASK_CHUNKS { INSIST } else { 0 };
        if flags & !known_flags != 0 {
            return Err(FrameError::UnknownFlags { got: flags, kind });
        }
        let unused_from = match kind {
            ASK_CHUNKS => 52,
            ASK_CANCEL => 8,
            _ => 40,
        };
        if bytes[unused_from..].iter().any(|byte| *byte != 0) {
            return Err(FrameError::ReservedNotZero { kind });
        }
        let mut name = [0; 32];
        name.copy_from_slice(&bytes[8..40]);
        let ask = match kind {
            ASK_CHUNKS => chunks_of(bytes, ArtifactId::from_bytes(name), flags & INSIST != 0)?,
            ASK_MANIFEST => Ask::Manifest { manifest: ManifestId::from_bytes(name) },
            ASK_HAVE => Ask::Have { artifact: ArtifactId::from_bytes(name) },
            _ => Ask::Cancel,
        };
        Ok(Self { id: u32_at(bytes, 4), ask })
    }
}

fn chunks_of(bytes: &[u8; REQUEST_LEN], artifact: ArtifactId, insists: bool) -> Result<Ask, FrameError> {
    let (first, count, window_ms) = (u32_at(bytes, 40), u32_at(bytes, 44), u32_at(bytes, 48));
    if count == 0 {
        return Err(FrameError::Empty);
    }
    at_most(ASK_CHUNKS, "chunk count", count.into(), REQUEST_CHUNKS_MAX.into())?;
    at_most(ASK_CHUNKS, "window", window_ms.into(), WINDOW_MS_MAX.into())?;
    at_most(ASK_CHUNKS, "last chunk", u64::from(first) + u64::from(count), u32::MAX.into())?;
    Ok(Ask::Chunks { artifact, first, count, window_ms, insists })
}

/// Why a server does not serve a request at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// No live release role lists the artifact.
    NotReleased,
    /// A tombstone names the artifact.
    Retracted,
    /// The asker is not in the roster.
    NotAMember,
    /// The server's lease ran out.
    LeaseExpired,
    /// Too many requests are waiting; ask again later or elsewhere.
    Busy,
    /// The asker took the request back.
    Cancelled,
    /// A code of a later version.
    Other(u32),
}

impl Refusal {
    /// The code on the wire.
    pub fn code(self) -> u32 {
        match self {
            Self::NotReleased => 1,
            Self::Retracted => 2,
            Self::NotAMember => 3,
            Self::LeaseExpired => 4,
            Self::Busy => 5,
            Self::Cancelled => 6,
            Self::Other(code) => code,
        }
    }

    /// From the code on the wire; a code that this version does not know is kept.
    pub fn from_code(code: u32) -> Self {
        match code {
            1 => Self::NotReleased,
            2 => Self::Retracted,
            3 => Self::NotAMember,
            4 => Self::LeaseExpired,
            5 => Self::Busy,
            6 => Self::Cancelled,
            other => Self::Other(other),
        }
    }
}

/// What a reply carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// The chunk `index`; `trailer` says whether a signature follows the body.
    Chunk {
        /// Which.
        index: u32,
        /// Whether 64 bytes of signature follow.
        trailer: bool,
    },
    /// The manifest asked for.
    Manifest,
    /// The bitmaps asked for.
    Have,
    /// The server has not got this, and will not have it within the window. For a chunk: its index, else 0.
    NotHere {
        /// Which chunk.
        index: u32,
    },
    /// The whole request is refused.
    Refused(Refusal),
    /// Another member of the asker's site has the chunk `index` or is being sent it; the body is its key.
    Elsewhere {
        /// Which chunk.
        index: u32,
    },
}

const REPLY_CHUNK: u8 = 1;
const REPLY_MANIFEST: u8 = 2;
const REPLY_HAVE: u8 = 3;
const REPLY_NOT_HERE: u8 = 4;
const REPLY_REFUSED: u8 = 5;
const REPLY_ELSEWHERE: u8 = 6;

/// The head of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyHeader {
    /// The request that this answers.
    pub request_id: u32,
    /// What follows.
    pub reply: Reply,
    /// Length of the body in bytes, within the bound of its kind.
    pub length: u32,
}

impl ReplyHeader {
    /// The 16 bytes.
    pub fn encode(&self) -> [u8; REPLY_HEADER_LEN] {
        let (kind, flags, index) = match self.reply {
            Reply::Chunk { index, trailer } => (REPLY_CHUNK, if trailer { TRAILER } else { 0 }, index),
            Reply::Manifest => (REPLY_MANIFEST, 0, 0),
            Reply::Have => (REPLY_HAVE, 0, 0),
            Reply::NotHere { index } => (REPLY_NOT_HERE, 0, index),
            Reply::Refused(refusal) => (REPLY_REFUSED, 0, refusal.code()),
            Reply::Elsewhere { index } => (REPLY_ELSEWHERE, 0, index),
        };
        let mut bytes = [0; REPLY_HEADER_LEN];
        bytes[0] = VERSION;
        bytes[1] = kind;
        bytes[2..4].copy_from_slice(&flags.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.request_id.to_be_bytes());
        bytes[8..12].copy_from_slice(&index.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.length.to_be_bytes());
        bytes
    }

    /// Reads the 16 bytes.
    pub fn decode(bytes: &[u8; REPLY_HEADER_LEN]) -> Result<Self, FrameError> {
        check_version(bytes[0])?;
        let kind = bytes[1];
        let flags = u16_at(bytes, 2);
        let (request_id, index, length) = (u32_at(bytes, 4), u32_at(bytes, 8), u32_at(bytes, 12));
        let known_flags = if kind == REPLY_CHUNK { TRAILER } else { 0 };
        let (reply, length_max) = match kind {
            REPLY_CHUNK => (Reply::Chunk { index, trailer: flags & TRAILER != 0 }, u64::from(CHUNK_BYTES_MAX)),
            REPLY_MANIFEST => (Reply::Manifest, MANIFEST_BYTES_MAX),
            REPLY_HAVE => (Reply::Have, HAVE_BYTES_MAX),
            REPLY_NOT_HERE => (Reply::NotHere { index }, 0),
            REPLY_REFUSED => (Reply::Refused(Refusal::from_code(index)), 0),
            REPLY_ELSEWHERE => (Reply::Elsewhere { index }, ELSEWHERE_LEN as u64),
            got => return Err(FrameError::UnknownKind { got }),
        };
        if flags & !known_flags != 0 {
            return Err(FrameError::UnknownFlags { got: flags, kind });
        }
        if matches!(reply, Reply::Manifest | Reply::Have) && index != 0 {
            return Err(FrameError::ReservedNotZero { kind });
        }
        at_most(kind, "body length", length.into(), length_max)?;
        if kind == REPLY_ELSEWHERE && length != ELSEWHERE_LEN as u32 {
            return Err(FrameError::NotAKey { got: length });
        }
        Ok(Self { request_id, reply, length })
    }

    /// Length of the whole reply on the wire: header, body and trailer.
    pub fn frame_len(&self) -> u64 {
        let trailer = if matches!(self.reply, Reply::Chunk { trailer: true, .. }) { TRAILER_LEN } else { 0 };
        (REPLY_HEADER_LEN + trailer) as u64 + u64::from(self.length)
    }
}

/// The member that the body of an `Elsewhere` names.
pub fn read_elsewhere(body: &[u8]) -> Result<MemberKey, FrameError> {
    let got = body.len() as u32;
    body.try_into().map(MemberKey::from_bytes).map_err(|_| FrameError::NotAKey { got })
}

fn check_version(got: u8) -> Result<(), FrameError> {
    if got == VERSION { Ok(()) } else { Err(FrameError::UnknownVersion { got }) }
}

fn at_most(kind: u8, field: &'static str, got: u64, max: u64) -> Result<(), FrameError> {
    if got <= max { Ok(()) } else { Err(FrameError::TooLarge { kind, field, got, max }) }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests;
