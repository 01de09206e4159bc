//! Who is at the other end of a connection: put into each request by the listener that accepted it.

use sluice_model::{EndpointId, MemberKey};
use std::net::SocketAddr;

/// The other end. Forwarding headers are never looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A device that proved its key in the TLS handshake. Whether it is enrolled is decided for each request, from the
    /// newest view, so that a revocation takes hold on connections that are open.
    Device {
        /// The key.
        key: MemberKey,
        /// From where.
        remote: SocketAddr,
    },
    /// Anybody, over plain HTTP.
    Plain {
        /// From where.
        remote: SocketAddr,
    },
}

impl Caller {
    /// From where.
    pub fn remote(&self) -> SocketAddr {
        match self {
            Self::Device { remote, .. } | Self::Plain { remote } => *remote,
        }
    }

    /// What fleet documents would call the device, enrolled or not.
    pub fn endpoint_id(&self) -> Option<EndpointId> {
        match self {
            Self::Device { key, .. } => Some(sluice_identity::endpoint_id_of(key)),
            Self::Plain { .. } => None,
        }
    }
}
