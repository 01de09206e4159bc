//! Schedules of sites: when their WAN links may be used otherwise than usual.

use crate::{Reads, Rows, StoreError, WriteTx};
use sluice_model::{SiteName, SiteSchedule};

const SCHEDULES: Rows<&str> = Rows::new("schedules_1");

pub(crate) fn create(tx: &WriteTx) -> Result<(), StoreError> {
    tx.create(SCHEDULES)
}

/// Writes the schedule of `site`, replacing an older one; `None` removes it.
pub fn put(tx: &WriteTx, site: &SiteName, schedule: Option<&SiteSchedule>) -> Result<(), StoreError> {
    match schedule {
        Some(schedule) => tx.put(SCHEDULES, site.as_str(), schedule),
        None => tx.remove(SCHEDULES, site.as_str()).map(|_| ()),
    }
}

/// The schedule of `site`.
pub fn get(tx: &impl Reads, site: &SiteName) -> Result<Option<SiteSchedule>, StoreError> {
    tx.get(SCHEDULES, site.as_str())
}
