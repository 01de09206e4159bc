//! Which node took an endpoint's reports and let none of them through, as the endpoint says it in a report that counts.
//!
//! An endpoint's newest word about a node replaces its older one, so that a word that comes twice counts once.

use crate::record::{EndpointKey, WITHHELD, Withheld, decode, encode};
use crate::{ComplianceStore, StoreError};
use redb::{ReadableTable, WriteTransaction};
use sluice_compliance::{Order, OutcomeReport, WITHHELD_MAX};
use sluice_model::{EndpointId, MemberKey, Timestamp};
use std::collections::BTreeMap;

pub(crate) fn note(
    tx: &WriteTransaction,
    endpoint: EndpointKey,
    report: &OutcomeReport,
    now: Timestamp,
) -> Result<(), StoreError> {
    if report.withheld.is_empty() {
        return Ok(());
    }
    let order = Order { epoch: report.epoch, seq: report.seq };
    let mut table = tx.open_table(WITHHELD)?;
    for withheld in &report.withheld {
        let key = (endpoint, *withheld.node.as_bytes());
        let known = table.get(key)?.map(|row| decode::<Withheld>("withheld_1", row.value())).transpose()?;
        // A repeated word is not a newer one: the time stays that of the first report with this count.
        if known.as_ref().is_some_and(|known| known.order >= order || known.reports == withheld.reports) {
            continue;
        }
        let row = Withheld { reports: withheld.reports, at: now, order };
        table.insert(key, encode(&row).as_slice())?;
    }
    drop_oldest(&mut table, endpoint)
}

/// An endpoint that names ever new keys fills its own rows only.
fn drop_oldest(
    table: &mut redb::Table<'_, (EndpointKey, [u8; 32]), &'static [u8]>,
    endpoint: EndpointKey,
) -> Result<(), StoreError> {
    let mut rows = Vec::new();
    for row in table.range((endpoint, [0; 32])..=(endpoint, [0xff; 32]))? {
        let (key, value) = row?;
        let withheld: Withheld = decode("withheld_1", value.value())?;
        rows.push((withheld.order, key.value()));
    }
    rows.sort();
    let surplus = rows.len().saturating_sub(WITHHELD_MAX);
    for (_, key) in &rows[..surplus] {
        table.remove(*key)?;
    }
    Ok(())
}

pub(crate) fn forget(tx: &WriteTransaction, endpoint: EndpointKey) -> Result<(), StoreError> {
    tx.open_table(WITHHELD)?.retain_in((endpoint, [0; 32])..=(endpoint, [0xff; 32]), |_, _| false)?;
    Ok(())
}

impl ComplianceStore {
    /// What endpoints said since `since` of nodes that withheld their reports, by node. O(rows), of which there are at
    /// most sixteen an endpoint and usually none.
    pub fn withheld(&self, since: Timestamp) -> Result<BTreeMap<MemberKey, Vec<(EndpointId, Withheld)>>, StoreError> {
        self.database.read(|tx| {
            let mut found: BTreeMap<MemberKey, Vec<_>> = BTreeMap::new();
            for row in tx.open_table(WITHHELD)?.iter()? {
                let (key, value) = row?;
                let withheld: Withheld = decode("withheld_1", value.value())?;
                if withheld.at >= since {
                    let (endpoint, node) = key.value();
                    let word = (EndpointId::from_bytes(endpoint), withheld);
                    found.entry(MemberKey::from_bytes(node)).or_default().push(word);
                }
            }
            Ok(found)
        })
    }
}
