//! The last acknowledgement of each report chain, kept by a node for the endpoint that will ask.
//!
//! The last word of the repo server stands, also when it names a lower number than the one before: that is how endpoints
//! learn that the repo server was restored from a backup.

use crate::{StateError, StateStore};
use redb::{ReadableTable, TableDefinition, WriteTransaction};
use sluice_model::EndpointId;

/// Epochs of one endpoint that are kept: a re-enrolled device starts a new one, older ones have nothing left to drop.
const EPOCHS_PER_ENDPOINT_MAX: usize = 4;

/// (endpoint, epoch).
type Chain = ([u8; 32], u32);
/// Seq and the acknowledgement as received.
const ACKNOWLEDGEMENTS: TableDefinition<Chain, (u64, &[u8])> = TableDefinition::new("acknowledgements_1");

/// An acknowledgement in the form in which it travels; this crate reads only which chain and how far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAcknowledgement {
    /// Whose reports.
    pub endpoint: EndpointId,
    /// Epoch of the chain.
    pub epoch: u32,
    /// Highest seq without a gap.
    pub seq: u64,
    /// The signed acknowledgement as received.
    pub bytes: Vec<u8>,
}

pub(crate) fn create_tables(transaction: &WriteTransaction) -> Result<(), StateError> {
    transaction.open_table(ACKNOWLEDGEMENTS)?;
    Ok(())
}

pub(crate) fn store(transaction: &WriteTransaction, new: &[StoredAcknowledgement]) -> Result<(), StateError> {
    let mut table = transaction.open_table(ACKNOWLEDGEMENTS)?;
    for ack in new {
        let endpoint = *ack.endpoint.as_bytes();
        table.insert((endpoint, ack.epoch), (ack.seq, ack.bytes.as_slice()))?;
        let mut epochs = Vec::new();
        for row in table.range((endpoint, 0)..=(endpoint, u32::MAX))? {
            epochs.push(row?.0.value().1);
        }
        let surplus = epochs.len().saturating_sub(EPOCHS_PER_ENDPOINT_MAX);
        for epoch in &epochs[..surplus] {
            table.remove((endpoint, *epoch))?;
        }
    }
    Ok(())
}

impl StateStore {
    /// The last acknowledgement of each epoch of `endpoint`, lowest epoch first.
    pub fn acknowledgements(&self, endpoint: &EndpointId) -> Result<Vec<StoredAcknowledgement>, StateError> {
        let key = *endpoint.as_bytes();
        self.database.read(|transaction| {
            let mut found = Vec::new();
            for row in transaction.open_table(ACKNOWLEDGEMENTS)?.range((key, 0)..=(key, u32::MAX))? {
                let (at, value) = row?;
                let (seq, bytes) = value.value();
                found.push(StoredAcknowledgement {
                    endpoint: *endpoint,
                    epoch: at.value().1,
                    seq,
                    bytes: bytes.to_vec(),
                });
            }
            Ok(found)
        })
    }
}
