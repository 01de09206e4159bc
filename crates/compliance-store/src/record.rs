//! Tables and records. A value is one version byte and a postcard record.

use crate::StoreError;
use redb::{TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sluice_compliance::{Broken, Chain, Fact, Link, Order, OutcomeReport, Standing};
use sluice_model::{EndpointId, PatchRef, RingName, Sha256, SiteName, Timestamp};

pub(crate) type EndpointKey = [u8; 32];

/// Position -> [`StoredOutcome`]: every report that counts, in the order in which it began to count.
pub(crate) const OUTCOMES: TableDefinition<u64, &[u8]> = TableDefinition::new("outcomes_1");
/// (index key, position): `e<endpoint>`, `p<patch>`, `s<site>`.
pub(crate) const INDEX: TableDefinition<(&str, u64), ()> = TableDefinition::new("outcome_index_1");
/// (endpoint, epoch, seq) -> payload hash of a report that counts.
pub(crate) const HASHES: TableDefinition<(EndpointKey, u32, u64), [u8; 32]> = TableDefinition::new("outcome_hashes_1");
/// (endpoint, epoch) -> [`ChainRecord`].
pub(crate) const CHAINS: TableDefinition<(EndpointKey, u32), &[u8]> = TableDefinition::new("chains_1");
/// (endpoint, epoch, seq) -> [`StoredOutcome`] that waits behind a gap.
pub(crate) const HELD: TableDefinition<(EndpointKey, u32, u64), &[u8]> = TableDefinition::new("held_1");
/// (endpoint, patch) -> [`PairRecord`].
pub(crate) const PAIRS: TableDefinition<(EndpointKey, &str), &[u8]> = TableDefinition::new("pairs_1");
/// Endpoint -> [`Heard`].
pub(crate) const ENDPOINTS: TableDefinition<EndpointKey, &[u8]> = TableDefinition::new("heard_endpoints_1");
/// (last heard, endpoint), of endpoints whose chain is whole: the silent ones stand first.
pub(crate) const BY_HEARD: TableDefinition<(u64, EndpointKey), ()> = TableDefinition::new("heard_order_1");
/// (site, ring) -> endpoints in [`BY_HEARD`].
pub(crate) const HEARD_COUNTS: TableDefinition<(&str, &str), u64> = TableDefinition::new("heard_counts_1");
/// (ring, patch, site, standing) -> pairs of endpoints in [`BY_HEARD`].
pub(crate) const COUNTERS: TableDefinition<(&str, &str, &str, u8), u64> = TableDefinition::new("counters_1");
/// (endpoint, epoch) -> [`Quarantine`].
pub(crate) const QUARANTINE: TableDefinition<(EndpointKey, u32), &[u8]> = TableDefinition::new("quarantine_1");
/// (endpoint, node) -> [`Withheld`]: what the endpoint says of a node that took its reports.
pub(crate) const WITHHELD: TableDefinition<(EndpointKey, [u8; 32]), &[u8]> = TableDefinition::new("withheld_1");

const RECORD_FORMAT: u8 = 1;

pub(crate) fn create_tables(tx: &WriteTransaction) -> Result<(), StoreError> {
    tx.open_table(OUTCOMES)?;
    tx.open_table(INDEX)?;
    tx.open_table(HASHES)?;
    tx.open_table(CHAINS)?;
    tx.open_table(HELD)?;
    tx.open_table(PAIRS)?;
    tx.open_table(ENDPOINTS)?;
    tx.open_table(BY_HEARD)?;
    tx.open_table(HEARD_COUNTS)?;
    tx.open_table(COUNTERS)?;
    tx.open_table(QUARANTINE)?;
    tx.open_table(WITHHELD)?;
    Ok(())
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_extend(value, vec![RECORD_FORMAT]).expect("records are plain values without unsized maps")
}

pub(crate) fn decode<T: DeserializeOwned>(table: &'static str, bytes: &[u8]) -> Result<T, StoreError> {
    match bytes.split_first() {
        Some((&RECORD_FORMAT, rest)) => {
            postcard::from_bytes(rest).map_err(|source| StoreError::Record { table, source })
        }
        other => {
            Err(StoreError::RecordFormat { table, found: other.map_or(0, |(format, _)| *format), known: RECORD_FORMAT })
        }
    }
}

/// A report as stored: the bytes that were signed, and what the server knew when it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredOutcome {
    pub payload: Vec<u8>,
    pub signature: Vec<u8>,
    pub hash: Sha256,
    pub site: SiteName,
    pub ring: RingName,
    pub received_at: Timestamp,
}

impl StoredOutcome {
    pub(crate) fn report(&self, position: u64) -> Result<OutcomeReport, StoreError> {
        OutcomeReport::from_payload(&self.payload).map_err(|source| StoreError::Payload { position, source })
    }
}

/// A report that counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Place in the order in which reports began to count; from 1.
    pub position: u64,
    /// What the endpoint said.
    pub report: OutcomeReport,
    /// Site of the endpoint when it came.
    pub site: SiteName,
    /// Ring of the endpoint when it came.
    pub ring: RingName,
    /// By the server's clock.
    pub received_at: Timestamp,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct ChainRecord {
    head_seq: u64,
    head_hash: Sha256,
    held: Vec<Link>,
    broken: Option<Broken>,
}

impl From<&Chain<()>> for ChainRecord {
    fn from(chain: &Chain<()>) -> Self {
        Self {
            head_seq: chain.head_seq,
            head_hash: chain.head_hash,
            held: chain.held.values().map(|(link, ())| *link).collect(),
            broken: chain.broken,
        }
    }
}

impl From<ChainRecord> for Chain<()> {
    fn from(record: ChainRecord) -> Self {
        Self {
            head_seq: record.head_seq,
            head_hash: record.head_hash,
            held: record.held.into_iter().map(|link| (link.seq, (link, ()))).collect(),
            broken: record.broken,
        }
    }
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct PairRecord {
    pub fact: Fact,
    pub standing: Standing,
    pub position: u64,
}

/// One endpoint and one patch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Which patch.
    pub patch: PatchRef,
    /// What the endpoint's reports about the patch's name come to.
    pub standing: Standing,
    /// Position of the last report about this version.
    pub position: u64,
}

/// What is known of an endpoint that has reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// Where it was when it reported last.
    pub site: SiteName,
    /// Its ring then.
    pub ring: RingName,
    /// When its last report arrived that counts.
    pub at: Timestamp,
    /// The newest epoch of which a report counts.
    pub epoch: u32,
    /// Set when that epoch's chain is broken: nothing is known of the endpoint.
    pub broken: Option<Broken>,
}

/// An endpoint's word about a node that took its reports and through which none came back acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withheld {
    /// Reports that had to go another way.
    pub reports: u64,
    /// When the report that says so arrived.
    pub at: Timestamp,
    /// Which report of the endpoint says so.
    pub order: Order,
}

/// What is known of a chain, for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChainState {
    /// Highest number without a gap.
    pub head_seq: u64,
    /// Reports that wait for a lower one.
    pub held_count: u64,
}

/// Evidence that a chain is broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    /// Whose chain.
    pub endpoint: EndpointId,
    /// Of the chain.
    pub epoch: u32,
    /// How.
    pub broken: Broken,
    /// When.
    pub at: Timestamp,
    /// Payload of the report that showed it.
    pub payload: Vec<u8>,
    /// Its signature.
    pub signature: Vec<u8>,
}
