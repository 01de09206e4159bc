//! Reads of the last committed state.

use crate::ingest::{endpoint_index, patch_index, site_index};
use crate::record::{
    BY_HEARD, CHAINS, COUNTERS, ChainRecord, ChainState, ENDPOINTS, EndpointKey, HEARD_COUNTS, Heard, INDEX, OUTCOMES,
    Outcome, PAIRS, Pair, PairRecord, QUARANTINE, Quarantine, StoredOutcome, decode,
};
use crate::{Acknowledged, ComplianceStore, StoreError};
use redb::{ReadTransaction, ReadableTable};
use sluice_compliance::{Chain, Standing};
use sluice_model::{EndpointId, PatchRef, RingName, SiteName, Timestamp};
use std::collections::BTreeMap;
use std::time::Duration;

/// Rows that one page looks at; a filter that matches few of them gives a short page with a `next`.
const ROWS_LOOKED_AT_MAX: usize = 10_000;

/// Which reports are wanted; every part that is given must match.
#[derive(Clone, Debug, Default)]
pub struct OutcomeFilter {
    /// Of this endpoint.
    pub endpoint: Option<EndpointId>,
    /// About this patch.
    pub patch: Option<PatchRef>,
    /// Of endpoints that were at this site.
    pub site: Option<SiteName>,
    /// Positions above this one.
    pub after: u64,
    /// How many at most.
    pub limit: usize,
}

/// A page of reports, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The reports.
    pub outcomes: Vec<Outcome>,
    /// `after` of the next page, when there may be one.
    pub next: Option<u64>,
}

/// Counts of the endpoints that are known: silent for no longer than allowed, with a whole chain; and the facts of the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Known endpoints by site and ring.
    pub known: BTreeMap<(SiteName, RingName), u64>,
    /// Their pairs by ring, patch, site and standing.
    pub pairs: BTreeMap<(RingName, PatchRef, SiteName, Standing), u64>,
    /// Pairs of endpoints that have reported and are not known now, by ring, patch and site.
    pub doubtful: BTreeMap<(RingName, PatchRef, SiteName), u64>,
}

impl ComplianceStore {
    /// A page of reports. Looks at no more than ten thousand rows.
    pub fn outcomes(&self, filter: &OutcomeFilter) -> Result<Page, StoreError> {
        self.database.read(|tx| page(tx, filter))
    }

    /// The report at `position`.
    pub fn outcome(&self, position: u64) -> Result<Option<Outcome>, StoreError> {
        self.database.read(|tx| outcome(tx, position))
    }

    /// The endpoint's facts by patch.
    pub fn pairs(&self, endpoint: &EndpointId) -> Result<Vec<Pair>, StoreError> {
        let found = self.database.read(|tx| pairs(tx, endpoint.as_bytes()))?;
        let pair = |(patch, record): (PatchRef, PairRecord)| Pair {
            patch,
            standing: record.standing,
            position: record.position,
        };
        Ok(found.into_iter().map(pair).collect())
    }

    /// Every pair of these patches, by patch. O(pairs): for the drill-down of retractions.
    pub fn endpoints_of(
        &self,
        patches: &[PatchRef],
    ) -> Result<BTreeMap<PatchRef, Vec<(EndpointId, Standing)>>, StoreError> {
        let wanted: BTreeMap<String, &PatchRef> = patches.iter().map(|patch| (patch.to_string(), patch)).collect();
        self.database.read(|tx| {
            let mut found: BTreeMap<PatchRef, Vec<_>> = BTreeMap::new();
            for row in tx.open_table(PAIRS)?.iter()? {
                let (key, value) = row?;
                let (endpoint, patch) = key.value();
                if let Some(patch) = wanted.get(patch) {
                    let record: PairRecord = decode("pairs_1", value.value())?;
                    let pair = (EndpointId::from_bytes(endpoint), record.standing);
                    found.entry((*patch).clone()).or_default().push(pair);
                }
            }
            Ok(found)
        })
    }

    /// The newest chain of every endpoint of which something came: its epoch and how far it is. O(chains).
    pub fn chains(&self) -> Result<BTreeMap<EndpointId, (u32, ChainState)>, StoreError> {
        self.database.read(|tx| {
            let mut chains = BTreeMap::new();
            for row in tx.open_table(CHAINS)?.iter()? {
                let (key, value) = row?;
                let (endpoint, epoch) = key.value();
                let chain = Chain::from(decode::<ChainRecord>("chains_1", value.value())?);
                let state = ChainState { head_seq: chain.head_seq, held_count: chain.held.len() as u64 };
                // Epochs of one endpoint come in their order: the newest stays.
                chains.insert(EndpointId::from_bytes(endpoint), (epoch, state));
            }
            Ok(chains)
        })
    }

    /// What is known of the endpoint itself; `None` before its first report that counts.
    pub fn heard(&self, endpoint: &EndpointId) -> Result<Option<Heard>, StoreError> {
        self.database.read(|tx| heard(tx, endpoint.as_bytes()))
    }

    /// The same, of every endpoint that has reported.
    pub fn all_heard(&self) -> Result<BTreeMap<EndpointId, Heard>, StoreError> {
        self.database.read(|tx| {
            let table = tx.open_table(ENDPOINTS)?;
            table
                .iter()?
                .map(|row| {
                    let (key, value) = row?;
                    Ok((EndpointId::from_bytes(key.value()), decode("heard_endpoints_1", value.value())?))
                })
                .collect()
        })
    }

    /// What may be acknowledged of a chain now.
    pub fn acknowledged(&self, endpoint: &EndpointId, epoch: u32) -> Result<Option<Acknowledged>, StoreError> {
        self.database.read(|tx| {
            let table = tx.open_table(CHAINS)?;
            let Some(row) = table.get((*endpoint.as_bytes(), epoch))? else { return Ok(None) };
            let chain = Chain::from(decode::<ChainRecord>("chains_1", row.value())?);
            Ok(chain.acknowledged().map(|seq| Acknowledged { endpoint: *endpoint, epoch, seq }))
        })
    }

    /// Every chain that is broken.
    pub fn quarantined(&self) -> Result<Vec<Quarantine>, StoreError> {
        self.database.read(|tx| {
            let table = tx.open_table(QUARANTINE)?;
            table.iter()?.map(|row| decode("quarantine_1", row?.1.value())).collect()
        })
    }

    /// Counts at `now`; whoever was silent for longer than `silence_max` is not known. O(counters + pairs of endpoints
    /// that are silent or whose chain is broken).
    pub fn tally(&self, now: Timestamp, silence_max: Duration) -> Result<Tally, StoreError> {
        let silence_ms = u64::try_from(silence_max.as_millis()).unwrap_or(u64::MAX);
        let heard_from = Timestamp::from_millis(now.as_millis().saturating_sub(silence_ms));
        self.database.read(|tx| tally(tx, heard_from))
    }
}

fn outcome(tx: &ReadTransaction, position: u64) -> Result<Option<Outcome>, StoreError> {
    let table = tx.open_table(OUTCOMES)?;
    let Some(row) = table.get(position)? else { return Ok(None) };
    let stored: StoredOutcome = decode("outcomes_1", row.value())?;
    let report = stored.report(position)?;
    Ok(Some(Outcome { position, report, site: stored.site, ring: stored.ring, received_at: stored.received_at }))
}

fn heard(tx: &ReadTransaction, endpoint: &[u8; 32]) -> Result<Option<Heard>, StoreError> {
    let table = tx.open_table(ENDPOINTS)?;
    table.get(*endpoint)?.map(|row| decode("heard_endpoints_1", row.value())).transpose()
}

fn page(tx: &ReadTransaction, filter: &OutcomeFilter) -> Result<Page, StoreError> {
    let mut page = Page::default();
    let from = filter.after.saturating_add(1);
    for (looked_at, position) in positions(tx, filter, from)?.enumerate() {
        let position = position?;
        if page.outcomes.len() >= filter.limit || looked_at >= ROWS_LOOKED_AT_MAX {
            page.next = Some(position - 1);
            break;
        }
        let found = outcome(tx, position)?.ok_or(StoreError::Dangling { table: "outcomes_1" })?;
        if matches(filter, &found) {
            page.outcomes.push(found);
        }
    }
    Ok(page)
}

type Positions = Box<dyn Iterator<Item = Result<u64, StoreError>>>;

/// Positions to look at, by the most selective index that the filter allows.
fn positions(tx: &ReadTransaction, filter: &OutcomeFilter, from: u64) -> Result<Positions, StoreError> {
    let key = match filter {
        OutcomeFilter { endpoint: Some(endpoint), .. } => endpoint_index(endpoint),
        OutcomeFilter { patch: Some(patch), .. } => patch_index(patch),
        OutcomeFilter { site: Some(site), .. } => site_index(site),
        _ => {
            let rows = tx.open_table(OUTCOMES)?.range(from..)?;
            return Ok(Box::new(rows.map(|row| Ok(row?.0.value()))));
        }
    };
    let rows = tx.open_table(INDEX)?.range((key.as_str(), from)..=(key.as_str(), u64::MAX))?;
    Ok(Box::new(rows.map(|row| Ok(row?.0.value().1))))
}

fn matches(filter: &OutcomeFilter, outcome: &Outcome) -> bool {
    filter.endpoint.is_none_or(|endpoint| outcome.report.endpoint == endpoint)
        && filter.patch.as_ref().is_none_or(|patch| outcome.report.patch.as_ref() == Some(patch))
        && filter.site.as_ref().is_none_or(|site| outcome.site == *site)
}

fn tally(tx: &ReadTransaction, heard_from: Timestamp) -> Result<Tally, StoreError> {
    let mut tally = Tally::default();
    for row in tx.open_table(HEARD_COUNTS)?.iter()? {
        let (key, count) = row?;
        let (site, ring) = key.value();
        tally.known.insert((name(site)?, name(ring)?), count.value());
    }
    for row in tx.open_table(COUNTERS)?.iter()? {
        let (key, count) = row?;
        let (ring, patch, site, standing) = key.value();
        let standing = Standing::ALL.into_iter().find(|known| *known as u8 == standing);
        let standing = standing.ok_or(StoreError::Dangling { table: "counters_1" })?;
        tally.pairs.insert((name(ring)?, name(patch)?, name(site)?, standing), count.value());
    }
    take_out_silent(tx, &mut tally, heard_from)?;
    for row in tx.open_table(QUARANTINE)?.iter()? {
        let (endpoint, epoch) = row?.0.value();
        if let Some(heard) = heard(tx, &endpoint)?.filter(|heard| heard.epoch == epoch && heard.broken.is_some()) {
            for (patch, _) in pairs(tx, &endpoint)? {
                *tally.doubtful.entry((heard.ring.clone(), patch, heard.site.clone())).or_default() += 1;
            }
        }
    }
    Ok(tally)
}

fn take_out_silent(tx: &ReadTransaction, tally: &mut Tally, heard_from: Timestamp) -> Result<(), StoreError> {
    for row in tx.open_table(BY_HEARD)?.range(..(heard_from.as_millis(), [0; 32]))? {
        let (_, endpoint) = row?.0.value();
        let heard = heard(tx, &endpoint)?.ok_or(StoreError::Dangling { table: "heard_endpoints_1" })?;
        take_one(&mut tally.known, (heard.site.clone(), heard.ring.clone()));
        for (patch, pair) in pairs(tx, &endpoint)? {
            take_one(&mut tally.pairs, (heard.ring.clone(), patch.clone(), heard.site.clone(), pair.standing));
            *tally.doubtful.entry((heard.ring.clone(), patch, heard.site.clone())).or_default() += 1;
        }
    }
    Ok(())
}

fn pairs(tx: &ReadTransaction, endpoint: &EndpointKey) -> Result<Vec<(PatchRef, PairRecord)>, StoreError> {
    let table = tx.open_table(PAIRS)?;
    let rows = table.range((*endpoint, "")..(*endpoint, "\u{7f}"))?;
    rows.map(|row| {
        let (key, value) = row?;
        let patch = key.value().1.parse().map_err(|_| StoreError::Dangling { table: "pairs_1" })?;
        Ok((patch, decode("pairs_1", value.value())?))
    })
    .collect()
}

fn take_one<K: Ord>(counts: &mut BTreeMap<K, u64>, key: K) {
    if let Some(count) = counts.get_mut(&key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

fn name<T: std::str::FromStr>(text: &str) -> Result<T, StoreError> {
    text.parse().map_err(|_| StoreError::Dangling { table: "counters_1" })
}
