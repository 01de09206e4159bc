//! The signed policy document `policy/limits`.

use crate::{ByteRate, Network, RingName, SiteName, normalise};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Limits of one site.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SiteLimits {
    /// What all nodes of the site together may move over its WAN link; `None`: no cap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wan_bytes_per_sec: Option<ByteRate>,
    /// What each node may serve to endpoints and peers; `None`: no cap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serve_bytes_per_sec: Option<ByteRate>,
}

/// Rings that a plain client from a source network may have.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PlainNetwork {
    /// The client's network.
    pub network: Network,
    /// The rings whose content it may have.
    pub rings: Vec<RingName>,
}

/// `policy/limits`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Limits {
    /// Format; 1.
    pub schema: u32,
    /// By site; a site that is absent has no caps.
    pub sites: BTreeMap<SiteName, SiteLimits>,
    /// Rings of plain clients that no network below names.
    pub plain_rings: Vec<RingName>,
    /// Exceptions by source network.
    #[serde(default)]
    pub plain_networks: Vec<PlainNetwork>,
}

impl Limits {
    /// The limits of `site`.
    pub fn site(&self, site: &SiteName) -> SiteLimits {
        self.sites.get(site).copied().unwrap_or_default()
    }

    /// The rings that a plain client from `address` may have: the longest matching network's, else the default's.
    pub fn plain_rings_for(&self, address: IpAddr) -> &[RingName] {
        let address = normalise(address);
        self.plain_networks
            .iter()
            .filter(|plain| plain.network.contains(&address))
            .max_by_key(|plain| plain.network.prefix_len())
            .map_or(&self.plain_rings, |plain| &plain.rings)
    }
}
