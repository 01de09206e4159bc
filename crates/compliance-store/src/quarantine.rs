//! What a broken chain leaves behind: the evidence, and which patches it spoke of.
//!
//! Nothing that a broken chain says from its break on is believed. That it spoke of a patch is kept: a machine that may
//! have a retracted patch is counted as unknown there, not left out. Which patches those are depends on the reports that
//! came, not on their order.

use crate::StoreError;
use crate::ingest::{NewOutcome, mark_broken};
use crate::record::{EndpointKey, HELD, PAIRS, PairRecord, QUARANTINE, Quarantine, StoredOutcome, decode, encode};
use redb::{ReadableTable, WriteTransaction};
use sluice_compliance::{Broken, Fact, OutcomeReport, Standing, standings};

/// A report of a chain that is broken.
pub(crate) struct Evidence<'a> {
    /// How the chain is broken now.
    pub broken: Broken,
    /// Whether this very report broke it, or moved the break.
    pub is_new: bool,
    /// Whether the report lies below the break: it counts, or waits.
    pub is_believed: bool,
    /// The report.
    pub new: &'a NewOutcome,
}

pub(crate) fn note(
    tx: &WriteTransaction,
    (endpoint, epoch): (EndpointKey, u32),
    evidence: &Evidence<'_>,
) -> Result<(), StoreError> {
    let Evidence { broken, is_new, is_believed, new } = evidence;
    if *is_new {
        let quarantine = Quarantine {
            endpoint: new.report.endpoint,
            epoch,
            broken: *broken,
            at: first_at(tx, (endpoint, epoch))?.unwrap_or(new.received_at),
            payload: new.payload.clone(),
            signature: new.signature.clone(),
        };
        tx.open_table(QUARANTINE)?.insert((endpoint, epoch), encode(&quarantine).as_slice())?;
        mark_broken(tx, endpoint, epoch, *broken)?;
        mention_held(tx, (endpoint, epoch), broken.seq())?;
    }
    if *is_believed { Ok(()) } else { mention(tx, endpoint, &new.report) }
}

fn first_at(tx: &WriteTransaction, key: (EndpointKey, u32)) -> Result<Option<sluice_model::Timestamp>, StoreError> {
    let table = tx.open_table(QUARANTINE)?;
    let known = table.get(key)?.map(|row| decode::<Quarantine>("quarantine_1", row.value())).transpose()?;
    Ok(known.map(|known| known.at))
}

/// Reports that waited at or beyond the break will never count.
fn mention_held(
    tx: &WriteTransaction,
    (endpoint, epoch): (EndpointKey, u32),
    break_seq: u64,
) -> Result<(), StoreError> {
    let mut doubtful: Vec<StoredOutcome> = Vec::new();
    {
        let mut held = tx.open_table(HELD)?;
        let range = (endpoint, epoch, break_seq)..=(endpoint, epoch, u64::MAX);
        for row in held.extract_from_if(range, |_, _| true)? {
            doubtful.push(decode("held_1", row?.1.value())?);
        }
    }
    for outcome in &doubtful {
        mention(tx, endpoint, &outcome.report(0)?)?;
    }
    Ok(())
}

/// Keeps that the endpoint spoke of the patch, unless a report that counts did already.
fn mention(tx: &WriteTransaction, endpoint: EndpointKey, report: &OutcomeReport) -> Result<(), StoreError> {
    let (Some(fact), Some(patch)) = (Fact::of(report), &report.patch) else { return Ok(()) };
    let mut pairs = tx.open_table(PAIRS)?;
    let name = patch.to_string();
    if pairs.get((endpoint, name.as_str()))?.is_some() {
        return Ok(());
    }
    let alone = standings(&[(patch.version.clone(), fact.clone())]);
    let standing = alone.first().map_or(Standing::Blocked, |(_, standing)| *standing);
    // No position: the report is evidence, and not in the list of those that count.
    let record = PairRecord { fact, standing, position: 0 };
    pairs.insert((endpoint, name.as_str()), encode(&record).as_slice())?;
    Ok(())
}
