//! Merges reports into the file, inside one open transaction.

use crate::quarantine::{self, Evidence};
use crate::record::{
    BY_HEARD, CHAINS, COUNTERS, ChainRecord, ENDPOINTS, EndpointKey, HASHES, HEARD_COUNTS, HELD, Heard, INDEX,
    OUTCOMES, PAIRS, PairRecord, StoredOutcome, decode, encode,
};
use crate::{StoreError, withheld};
use redb::{ReadableTable, WriteTransaction};
use sluice_compliance::{Broken, Chain, Fact, Link, OutcomeReport, Standing, Verdict, standings};
use sluice_model::{EndpointId, PatchRef, PatchVersion, RingName, Sha256, SiteName, Timestamp};
use std::collections::BTreeMap;

/// A report whose signature was verified, with what the server knows of its endpoint.
#[derive(Clone, Debug)]
pub struct NewOutcome {
    /// `OutcomeReport::from_payload(payload)`.
    pub report: OutcomeReport,
    /// The bytes that were signed.
    pub payload: Vec<u8>,
    /// SHA-256 of them.
    pub hash: Sha256,
    /// The endpoint's signature, kept as evidence.
    pub signature: Vec<u8>,
    /// Site of the endpoint.
    pub site: SiteName,
    /// Ring of the endpoint; the report's own word about it is not asked.
    pub ring: RingName,
    /// By the server's clock.
    pub received_at: Timestamp,
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ingested {
    /// One for each report, in order.
    pub verdicts: Vec<Verdict>,
    /// One for each whole chain that was touched.
    pub acknowledged: Vec<Acknowledged>,
}

/// Every report of the chain up to `seq` is durable and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// Whose.
    pub endpoint: EndpointId,
    /// Of the chain.
    pub epoch: u32,
    /// Highest number without a gap.
    pub seq: u64,
}

pub(crate) fn ingest(tx: &WriteTransaction, reports: &[NewOutcome]) -> Result<Ingested, StoreError> {
    let mut ingested = Ingested::default();
    let mut chains: BTreeMap<(EndpointKey, u32), Chain<()>> = BTreeMap::new();
    for new in reports {
        let key = (*new.report.endpoint.as_bytes(), new.report.epoch);
        let chain = match chains.entry(key) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => entry.insert(load_chain(tx, key)?),
        };
        ingested.verdicts.push(merge(tx, chain, key, new)?);
    }
    for (key, chain) in &chains {
        tx.open_table(CHAINS)?.insert(*key, encode(&ChainRecord::from(chain)).as_slice())?;
        if let Some(seq) = chain.acknowledged() {
            ingested.acknowledged.push(Acknowledged { endpoint: EndpointId::from_bytes(key.0), epoch: key.1, seq });
        }
    }
    Ok(ingested)
}

fn load_chain(tx: &WriteTransaction, key: (EndpointKey, u32)) -> Result<Chain<()>, StoreError> {
    let table = tx.open_table(CHAINS)?;
    let record = table.get(key)?.map(|row| decode::<ChainRecord>("chains_1", row.value())).transpose()?;
    Ok(record.map(Chain::from).unwrap_or_default())
}

fn merge(
    tx: &WriteTransaction,
    chain: &mut Chain<()>,
    (endpoint, epoch): (EndpointKey, u32),
    new: &NewOutcome,
) -> Result<Verdict, StoreError> {
    let link = Link { seq: new.report.seq, previous: new.report.previous, hash: new.hash };
    let known = tx.open_table(HASHES)?.get((endpoint, epoch, link.seq))?.map(|row| Sha256::from_bytes(row.value()));
    let before = chain.broken;
    let merged = chain.merge(link, (), |_| known);
    let stored = StoredOutcome {
        payload: new.payload.clone(),
        signature: new.signature.clone(),
        hash: new.hash,
        site: new.site.clone(),
        ring: new.ring.clone(),
        received_at: new.received_at,
    };
    for (counted, ()) in &merged.counted {
        let held = tx.open_table(HELD)?.remove((endpoint, epoch, counted.seq))?.map(|row| row.value().to_vec());
        let outcome = match held {
            Some(bytes) => decode("held_1", &bytes)?,
            None if counted.seq == link.seq => stored.clone(),
            None => return Err(StoreError::Dangling { table: "held_1" }),
        };
        count(tx, ((endpoint, epoch), counted.seq), &outcome, new.received_at, chain.broken)?;
    }
    if merged.is_held {
        tx.open_table(HELD)?.insert((endpoint, epoch, link.seq), encode(&stored).as_slice())?;
    }
    if let Some(broken) = chain.broken {
        let is_believed = merged.is_held || merged.counted.iter().any(|(counted, ())| counted.seq == link.seq);
        let evidence = Evidence { broken, is_new: before != chain.broken, is_believed, new };
        quarantine::note(tx, (endpoint, epoch), &evidence)?;
    }
    Ok(merged.verdict)
}

/// Lets one report count: its row and indexes, its endpoint's last word, its fact, its word about nodes.
fn count(
    tx: &WriteTransaction,
    ((endpoint, epoch), seq): ((EndpointKey, u32), u64),
    outcome: &StoredOutcome,
    now: Timestamp,
    broken: Option<Broken>,
) -> Result<(), StoreError> {
    let position = tx.open_table(OUTCOMES)?.last()?.map_or(1, |(position, _)| position.value() + 1);
    let report = outcome.report(position)?;
    tx.open_table(OUTCOMES)?.insert(position, encode(outcome).as_slice())?;
    tx.open_table(HASHES)?.insert((endpoint, epoch, seq), *outcome.hash.as_bytes())?;
    let mut index = tx.open_table(INDEX)?;
    index.insert((endpoint_index(&report.endpoint).as_str(), position), ())?;
    index.insert((site_index(&outcome.site).as_str(), position), ())?;
    if let Some(patch) = &report.patch {
        index.insert((patch_index(patch).as_str(), position), ())?;
    }
    drop(index);
    let heard = hear(tx, (endpoint, epoch), outcome, now, broken)?;
    withheld::note(tx, endpoint, &report, now)?;
    match (Fact::of(&report), &report.patch) {
        (Some(fact), Some(patch)) => state_fact(tx, endpoint, &heard, patch, fact, position),
        _ => Ok(()),
    }
}

pub(crate) fn endpoint_index(endpoint: &EndpointId) -> String {
    format!("e{endpoint}")
}

pub(crate) fn patch_index(patch: &PatchRef) -> String {
    format!("p{patch}")
}

pub(crate) fn site_index(site: &SiteName) -> String {
    format!("s{site}")
}

pub(crate) fn heard_of(tx: &WriteTransaction, endpoint: EndpointKey) -> Result<Option<Heard>, StoreError> {
    let table = tx.open_table(ENDPOINTS)?;
    let row = table.get(endpoint)?;
    row.map(|row| decode("heard_endpoints_1", row.value())).transpose()
}

/// Moves the endpoint's last word to `now`, and its counts when it changed site, ring or epoch.
fn hear(
    tx: &WriteTransaction,
    (endpoint, epoch): (EndpointKey, u32),
    outcome: &StoredOutcome,
    now: Timestamp,
    broken: Option<Broken>,
) -> Result<Heard, StoreError> {
    let before = heard_of(tx, endpoint)?;
    let mut heard = Heard { site: outcome.site.clone(), ring: outcome.ring.clone(), at: now, epoch, broken };
    if let Some(before) = &before {
        heard.at = now.max(before.at);
        if epoch < before.epoch {
            (heard.epoch, heard.broken) = (before.epoch, before.broken);
        }
        let place = |heard: &Heard| (heard.site.clone(), heard.ring.clone(), heard.epoch, heard.broken);
        if place(before) == place(&heard) {
            move_in_order(tx, endpoint, before, &heard)?;
            tx.open_table(ENDPOINTS)?.insert(endpoint, encode(&heard).as_slice())?;
            return Ok(heard);
        }
        uncount(tx, endpoint, before)?;
        if epoch > before.epoch {
            // A machine that enrolled anew says itself what it has; what its key said before may be another machine's.
            forget_pairs(tx, endpoint)?;
        }
    }
    recount(tx, endpoint, &heard)?;
    tx.open_table(ENDPOINTS)?.insert(endpoint, encode(&heard).as_slice())?;
    Ok(heard)
}

fn move_in_order(
    tx: &WriteTransaction,
    endpoint: EndpointKey,
    before: &Heard,
    heard: &Heard,
) -> Result<(), StoreError> {
    if heard.broken.is_none() {
        let mut order = tx.open_table(BY_HEARD)?;
        order.remove((before.at.as_millis(), endpoint))?;
        order.insert((heard.at.as_millis(), endpoint), ())?;
    }
    Ok(())
}

/// The chain of `epoch` is broken: the endpoint leaves every count, unless it speaks in a newer epoch.
pub(crate) fn mark_broken(
    tx: &WriteTransaction,
    endpoint: EndpointKey,
    epoch: u32,
    broken: Broken,
) -> Result<(), StoreError> {
    let Some(before) = heard_of(tx, endpoint)?.filter(|heard| heard.epoch == epoch) else { return Ok(()) };
    uncount(tx, endpoint, &before)?;
    let heard = Heard { broken: Some(broken), ..before };
    tx.open_table(ENDPOINTS)?.insert(endpoint, encode(&heard).as_slice())?;
    Ok(())
}

/// Takes the endpoint out of every count.
fn uncount(tx: &WriteTransaction, endpoint: EndpointKey, heard: &Heard) -> Result<(), StoreError> {
    if heard.broken.is_some() {
        return Ok(());
    }
    tx.open_table(BY_HEARD)?.remove((heard.at.as_millis(), endpoint))?;
    add_heard(tx, heard, -1)?;
    for (patch, pair) in pairs_of(tx, endpoint)? {
        add(tx, heard, &patch, pair.standing, -1)?;
    }
    Ok(())
}

/// Puts the endpoint into every count.
fn recount(tx: &WriteTransaction, endpoint: EndpointKey, heard: &Heard) -> Result<(), StoreError> {
    if heard.broken.is_some() {
        return Ok(());
    }
    tx.open_table(BY_HEARD)?.insert((heard.at.as_millis(), endpoint), ())?;
    add_heard(tx, heard, 1)?;
    for (patch, pair) in pairs_of(tx, endpoint)? {
        add(tx, heard, &patch, pair.standing, 1)?;
    }
    Ok(())
}

fn pairs_of(tx: &WriteTransaction, endpoint: EndpointKey) -> Result<Vec<(String, PairRecord)>, StoreError> {
    let table = tx.open_table(PAIRS)?;
    let mut pairs = Vec::new();
    for row in table.range((endpoint, "")..(endpoint, "\u{7f}"))? {
        let (key, value) = row?;
        pairs.push((key.value().1.to_owned(), decode("pairs_1", value.value())?));
    }
    Ok(pairs)
}

/// Writes the fact unless a later one is known, and the standings of every version of the patch's name.
fn state_fact(
    tx: &WriteTransaction,
    endpoint: EndpointKey,
    heard: &Heard,
    patch: &PatchRef,
    fact: Fact,
    position: u64,
) -> Result<(), StoreError> {
    // `/` follows the name, and `0` is the character after `/`: every version of this name and of no other.
    let (from, until) = (format!("{}/", patch.name), format!("{}0", patch.name));
    let mut versions: Vec<(PatchVersion, PairRecord)> = Vec::new();
    for row in tx.open_table(PAIRS)?.range((endpoint, from.as_str())..(endpoint, until.as_str()))? {
        let (key, value) = row?;
        let known: PatchRef = key.value().1.parse().map_err(|_| StoreError::Dangling { table: "pairs_1" })?;
        versions.push((known.version, decode("pairs_1", value.value())?));
    }
    let before: BTreeMap<PatchVersion, Standing> =
        versions.iter().map(|(version, pair)| (version.clone(), pair.standing)).collect();
    let standing = Standing::Blocked;
    match versions.iter_mut().find(|(version, _)| *version == patch.version) {
        Some((_, pair)) if pair.fact.order >= fact.order => {}
        Some((_, pair)) => *pair = PairRecord { fact, standing, position },
        None => versions.push((patch.version.clone(), PairRecord { fact, standing, position })),
    }
    let facts: Vec<_> = versions.iter().map(|(version, pair)| (version.clone(), pair.fact.clone())).collect();
    for ((version, standing), (_, pair)) in standings(&facts).into_iter().zip(&mut versions) {
        pair.standing = standing;
        let known = before.get(&version);
        let name = PatchRef { name: patch.name.clone(), version }.to_string();
        if known != Some(&standing) && heard.broken.is_none() {
            if let Some(known) = known {
                add(tx, heard, &name, *known, -1)?;
            }
            add(tx, heard, &name, standing, 1)?;
        }
        tx.open_table(PAIRS)?.insert((endpoint, name.as_str()), encode(pair).as_slice())?;
    }
    Ok(())
}

fn add(tx: &WriteTransaction, heard: &Heard, patch: &str, standing: Standing, by: i64) -> Result<(), StoreError> {
    let mut table = tx.open_table(COUNTERS)?;
    let key = (heard.ring.as_str(), patch, heard.site.as_str(), standing as u8);
    let count = table.get(key)?.map_or(0, |row| row.value()).saturating_add_signed(by);
    if count == 0 {
        table.remove(key)?;
    } else {
        table.insert(key, count)?;
    }
    Ok(())
}

fn add_heard(tx: &WriteTransaction, heard: &Heard, by: i64) -> Result<(), StoreError> {
    let mut table = tx.open_table(HEARD_COUNTS)?;
    let key = (heard.site.as_str(), heard.ring.as_str());
    let count = table.get(key)?.map_or(0, |row| row.value()).saturating_add_signed(by);
    if count == 0 {
        table.remove(key)?;
    } else {
        table.insert(key, count)?;
    }
    Ok(())
}

/// Takes a revoked endpoint out of every count and forgets its facts and its word about nodes.
pub(crate) fn forget(tx: &WriteTransaction, endpoint: &EndpointId) -> Result<(), StoreError> {
    let key = *endpoint.as_bytes();
    if let Some(heard) = heard_of(tx, key)? {
        uncount(tx, key, &heard)?;
        tx.open_table(ENDPOINTS)?.remove(key)?;
    }
    forget_pairs(tx, key)?;
    withheld::forget(tx, key)
}

fn forget_pairs(tx: &WriteTransaction, endpoint: EndpointKey) -> Result<(), StoreError> {
    tx.open_table(PAIRS)?.retain_in((endpoint, "")..(endpoint, "\u{7f}"), |_, _| false)?;
    Ok(())
}
