//! The signed policy documents `policy/limits` and `policy/suspensions`.

use crate::{
    ByteRate, Network, PackageName, PatchName, PersonName, RingName, SiteName, SiteSchedule, Timestamp, normalise,
};
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
    /// When the WAN link of a site may be used otherwise than its cap says.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub schedules: BTreeMap<SiteName, SiteSchedule>,
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

/// Versions from one to another, both included; an end that is not given is open. In the order of Debian versions.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct VersionRange {
    /// The lowest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The highest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// What a suspension stops.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SuspensionSubject {
    /// Everything: the kill switch.
    Everything,
    /// Versions of a patch.
    Patch {
        /// Its name.
        name: PatchName,
        /// Of the patch.
        #[serde(default)]
        versions: VersionRange,
    },
    /// Patches that bring versions of a package.
    Package {
        /// Its name.
        name: PackageName,
        /// Of the package.
        #[serde(default)]
        versions: VersionRange,
    },
}

/// Where a suspension is in force.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SuspensionScope {
    /// Everywhere.
    Fleet,
    /// At one site.
    Site(SiteName),
}

impl SuspensionScope {
    /// Whether it reaches `site`.
    pub fn covers(&self, site: &SiteName) -> bool {
        match self {
            Self::Fleet => true,
            Self::Site(name) => name == site,
        }
    }
}

/// One suspension: downloads end, what is staged stays locked, nothing is installed, until two people lift it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Suspension {
    /// From 1, one more each; never used again.
    pub id: u64,
    /// What.
    pub subject: SuspensionSubject,
    /// Where.
    pub scope: SuspensionScope,
    /// Why.
    pub reason: String,
    /// Who.
    pub by: PersonName,
    /// When.
    pub at: Timestamp,
}

/// `policy/suspensions`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Suspensions {
    /// Format; 1.
    pub schema: u32,
    /// In force, by id; at most [`crate::limits::SUSPENSIONS_MAX`].
    pub suspensions: Vec<Suspension>,
    /// The highest id that was ever given.
    #[serde(default)]
    pub id_max: u64,
}

impl Suspensions {
    /// Those that reach `site`.
    pub fn at<'a>(&'a self, site: &'a SiteName) -> impl Iterator<Item = &'a Suspension> {
        self.suspensions.iter().filter(move |suspension| suspension.scope.covers(site))
    }
}
