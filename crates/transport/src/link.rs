//! What a connection is for, what carries it, and where it goes.

use std::fmt;
use std::str::FromStr;

/// The protocol spoken inside a device connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Alpn {
    /// HTTP/1.1: the device API.
    Http,
    /// The exchange protocol.
    Exchange,
}

impl Alpn {
    /// The name in the handshake.
    pub fn as_bytes(self) -> &'static [u8] {
        match self {
            Self::Http => sluice_identity::ALPN_HTTP,
            Self::Exchange => sluice_identity::ALPN_EXCHANGE,
        }
    }

    /// From what the handshake chose; a peer that names no protocol speaks HTTP.
    pub(crate) fn from_negotiated(name: Option<&[u8]>) -> Self {
        if name == Some(sluice_identity::ALPN_EXCHANGE) { Self::Exchange } else { Self::Http }
    }
}

/// Where the other side is: decides congestion control.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LinkKind {
    /// The same site.
    Lan,
    /// Another site or the origin.
    Wan,
}

/// What carries the frames of the exchange protocol.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Carrier {
    /// TLS 1.3 over TCP: the default, several times cheaper in CPU.
    #[default]
    Tcp,
    /// QUIC with BBR: for a link that loses packets where the kernel offers no BBR.
    Quic,
}

/// The text is no carrier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a carrier; write tcp or quic")]
pub struct UnknownCarrier(pub String);

impl FromStr for Carrier {
    type Err = UnknownCarrier;

    fn from_str(text: &str) -> Result<Self, UnknownCarrier> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "quic" => Ok(Self::Quic),
            other => Err(UnknownCarrier(other.chars().take(80).collect())),
        }
    }
}

impl fmt::Display for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Quic => "quic",
        })
    }
}
