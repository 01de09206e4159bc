//! The signed fleet documents: `fleet/roster`, `fleet/revoked`, `fleet/topology`, `fleet/endpoints-<site>`.

use crate::{EndpointId, MemberKey, Network, RingName, SiteName, Timestamp, normalise};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// What a member of the roster is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberKind {
    /// The repo server as source of last resort.
    Origin,
    /// A site's caching node.
    Node,
}

/// Where a member listens, as it announced at its last start; empty until then.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct MemberAddresses {
    /// TLS 1.3 with raw keys; exchange protocol and device HTTP by ALPN.
    #[serde(default)]
    pub device: Vec<SocketAddr>,
    /// libp2p over TCP.
    #[serde(default)]
    pub overlay: Vec<SocketAddr>,
    /// Plain HTTP for endpoints.
    #[serde(default)]
    pub http: Vec<SocketAddr>,
}

/// One row of the roster. Being in it is admission; leaving it is revocation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Member {
    /// Its Ed25519 public key: identity on the overlay, on TLS and of its signatures.
    pub key: MemberKey,
    /// Origin or node.
    pub kind: MemberKind,
    /// The node's site; `None` for the origin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<SiteName>,
    /// A name for people.
    pub name: String,
    /// Where it listens.
    #[serde(default)]
    pub addresses: MemberAddresses,
}

/// `fleet/roster`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Roster {
    /// Format; 1.
    pub schema: u32,
    /// Every member.
    pub members: Vec<Member>,
}

impl Roster {
    /// The row of `key`.
    pub fn member(&self, key: &MemberKey) -> Option<&Member> {
        self.members.iter().find(|member| member.key == *key)
    }

    /// The repo servers.
    pub fn origins(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.kind == MemberKind::Origin)
    }

    /// The nodes of `site`, in the document's order.
    pub fn nodes_of<'a>(&'a self, site: &'a SiteName) -> impl Iterator<Item = &'a Member> {
        self.members.iter().filter(move |member| member.kind == MemberKind::Node && member.site.as_ref() == Some(site))
    }
}

/// `fleet/revoked`: keys that were members or endpoints and are no longer.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Revoked {
    /// Format; 1.
    pub schema: u32,
    /// Nodes.
    pub members: Vec<MemberKey>,
    /// Endpoints.
    pub endpoints: Vec<EndpointId>,
}

/// A network that belongs to a site.
pub type Boundary = Network;

/// A site of the topology.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Site {
    /// Its name.
    pub name: SiteName,
    /// The networks that belong to it.
    pub boundaries: Vec<Boundary>,
}

/// `fleet/topology`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Topology {
    /// Format; 1.
    pub schema: u32,
    /// Every site.
    pub sites: Vec<Site>,
}

impl Topology {
    /// The site of an address: longest prefix first; between equal prefixes the site that comes first by name.
    pub fn resolve(&self, address: IpAddr) -> Option<&Site> {
        let address = normalise(address);
        let mut best: Option<(u8, &Site)> = None;
        for site in &self.sites {
            for boundary in site.boundaries.iter().filter(|boundary| boundary.contains(&address)) {
                let prefix = boundary.prefix_len();
                let better = best.is_none_or(|(len, other)| prefix > len || (prefix == len && site.name < other.name));
                if better {
                    best = Some((prefix, site));
                }
            }
        }
        best.map(|(_, site)| site)
    }

    /// The site of that name.
    pub fn site(&self, name: &SiteName) -> Option<&Site> {
        self.sites.iter().find(|site| site.name == *name)
    }
}

/// Whether an endpoint takes part.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndpointState {
    /// Takes part.
    Active,
    /// Its key is no longer accepted.
    Revoked,
}

/// One endpoint of a site.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EndpointRow {
    /// Hash of its key.
    pub endpoint: EndpointId,
    /// Its ring, given by the token that enrolled it.
    pub ring: RingName,
    /// Whether it takes part.
    pub state: EndpointState,
    /// When it enrolled.
    pub enrolled_at: Timestamp,
}

/// `fleet/endpoints-<site>`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EndpointRows {
    /// Format; 1.
    pub schema: u32,
    /// Whose.
    pub site: SiteName,
    /// At most [`crate::limits::ENDPOINTS_PER_SITE_MAX`].
    pub endpoints: Vec<EndpointRow>,
}

impl EndpointRows {
    /// The active row of `endpoint`.
    pub fn active(&self, endpoint: &EndpointId) -> Option<&EndpointRow> {
        self.endpoints.iter().find(|row| row.endpoint == *endpoint && row.state == EndpointState::Active)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_wins_and_a_tie_goes_to_the_first_name() {
        let site = |name: &str, nets: &[&str]| Site {
            name: name.parse().unwrap(),
            boundaries: nets.iter().map(|net| net.parse().unwrap()).collect(),
        };
        let topology = Topology {
            schema: 1,
            sites: vec![
                site("wide", &["10.0.0.0/8", "2001:db8::/32"]),
                site("lyon", &["10.1.0.0/16"]),
                site("brno", &["10.1.0.0/16"]),
            ],
        };
        let name = |address: &str| topology.resolve(address.parse().unwrap()).map(|site| site.name.to_string());
        assert_eq!(name("10.1.2.3").as_deref(), Some("brno"));
        assert_eq!(name("::ffff:10.2.0.1").as_deref(), Some("wide"));
        assert_eq!(name("2001:db8::5").as_deref(), Some("wide"));
        assert_eq!(name("192.0.2.1"), None);
    }
}
