//! Sites with their boundaries and limits.

use crate::{Reads, Rows, StoreError, WriteTx};
use serde::{Deserialize, Serialize};
use sluice_model::{ByteRate, Network, RingName, SiteName, Timestamp};

const SITES: Rows<&str> = Rows::new("sites_1");

pub(crate) fn create(tx: &WriteTx) -> Result<(), StoreError> {
    tx.create(SITES)
}

/// A site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteRecord {
    /// Its name.
    pub name: SiteName,
    /// The networks that belong to it.
    pub boundaries: Vec<Network>,
    /// All its nodes together, over the WAN link; `None`: no cap.
    pub wan_bytes_per_sec: Option<ByteRate>,
    /// Each node, to endpoints and peers; `None`: no cap.
    pub serve_bytes_per_sec: Option<ByteRate>,
    /// Rings of plain clients from its boundaries; `None`: the repository's default.
    pub plain_rings: Option<Vec<RingName>>,
    /// When it was added.
    pub added_at: Timestamp,
}

/// Writes a site, replacing its older record.
pub fn put(tx: &WriteTx, site: &SiteRecord) -> Result<(), StoreError> {
    tx.put(SITES, site.name.as_str(), site)
}

/// The site of that name.
pub fn get(tx: &impl Reads, name: &SiteName) -> Result<Option<SiteRecord>, StoreError> {
    tx.get(SITES, name.as_str())
}

/// Every site by name.
pub fn list(tx: &impl Reads) -> Result<Vec<SiteRecord>, StoreError> {
    tx.list::<&str, &str, _>(SITES, .., usize::MAX)
}
