//! Enrolled devices: nodes and endpoints, revoked ones too, and the last word of each node about itself.
//!
//! A device is never forgotten: its key stays here after it was revoked, so that it cannot enrol again.

use crate::{Reads, Rows, StoreError, WriteTx};
use serde::{Deserialize, Serialize};
use sluice_model::{EndpointId, EndpointState, MemberAddresses, MemberKey, RingName, SiteName, Timestamp};
use std::collections::BTreeMap;

const NODES: Rows<&[u8]> = Rows::new("nodes_1");
const ENDPOINTS: Rows<&[u8]> = Rows::new("endpoints_1");
const NODE_WORDS: Rows<&[u8]> = Rows::new("node_words_1");
/// Endpoints that enrolled more than once.
const EPOCHS: Rows<&[u8]> = Rows::new("endpoint_epochs_1");

pub(crate) fn create(tx: &WriteTx) -> Result<(), StoreError> {
    tx.create(NODES)?;
    tx.create(ENDPOINTS)?;
    tx.create(NODE_WORDS)?;
    tx.create(EPOCHS)
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its public key.
    pub key: MemberKey,
    /// Given by the token that enrolled it.
    pub site: SiteName,
    /// A name for people.
    pub name: String,
    /// As it announced them last.
    pub addresses: MemberAddresses,
    /// When it enrolled.
    pub enrolled_at: Timestamp,
    /// When it was revoked; `None` while it is a member.
    pub revoked_at: Option<Timestamp>,
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointRecord {
    /// SHA-256 of its public key.
    pub id: EndpointId,
    /// Its public key.
    pub key: MemberKey,
    /// Given by the token that enrolled it.
    pub site: SiteName,
    /// Given by the token that enrolled it.
    pub ring: RingName,
    /// A name for people.
    pub name: String,
    /// Whether it takes part.
    pub state: EndpointState,
    /// When it enrolled.
    pub enrolled_at: Timestamp,
}

/// How often an endpoint enrolled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Enrolments {
    endpoint: EndpointId,
    epoch: u32,
}

/// The last word of a node about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeWord {
    /// Whose.
    pub node: MemberKey,
    /// When it arrived.
    pub received_at: Timestamp,
    /// The status as JSON, as it was sent.
    pub status: Vec<u8>,
    /// Tombstone serials, rising, and when the node first said that everything up to them is fenced.
    pub fences: Vec<(u64, Timestamp)>,
}

/// Writes a node, replacing its older record.
pub fn put_node(tx: &WriteTx, node: &NodeRecord) -> Result<(), StoreError> {
    tx.put(NODES, node.key.as_bytes().as_slice(), node)
}

/// The node with that key, revoked ones too.
pub fn node(tx: &impl Reads, key: &MemberKey) -> Result<Option<NodeRecord>, StoreError> {
    tx.get(NODES, key.as_bytes().as_slice())
}

/// Every node by key, revoked ones too.
pub fn nodes(tx: &impl Reads) -> Result<Vec<NodeRecord>, StoreError> {
    tx.list::<&[u8], &[u8], _>(NODES, .., usize::MAX)
}

/// Writes an endpoint, replacing its older record.
pub fn put_endpoint(tx: &WriteTx, endpoint: &EndpointRecord) -> Result<(), StoreError> {
    tx.put(ENDPOINTS, endpoint.id.as_bytes().as_slice(), endpoint)
}

/// The endpoint with that id, revoked ones too.
pub fn endpoint(tx: &impl Reads, id: &EndpointId) -> Result<Option<EndpointRecord>, StoreError> {
    tx.get(ENDPOINTS, id.as_bytes().as_slice())
}

/// The number of the endpoint's newest enrolment: its reports are numbered anew from each. From 1.
pub fn epoch(tx: &impl Reads, id: &EndpointId) -> Result<u32, StoreError> {
    let enrolments: Option<Enrolments> = tx.get(EPOCHS, id.as_bytes().as_slice())?;
    Ok(enrolments.map_or(1, |enrolments| enrolments.epoch))
}

/// The same of every endpoint that enrolled more than once.
pub fn epochs(tx: &impl Reads) -> Result<BTreeMap<EndpointId, u32>, StoreError> {
    let enrolments: Vec<Enrolments> = tx.list::<&[u8], &[u8], _>(EPOCHS, .., usize::MAX)?;
    Ok(enrolments.into_iter().map(|one| (one.endpoint, one.epoch)).collect())
}

/// The endpoint enrolled for the `epoch`th time.
pub fn put_epoch(tx: &WriteTx, id: &EndpointId, epoch: u32) -> Result<(), StoreError> {
    tx.put(EPOCHS, id.as_bytes().as_slice(), &Enrolments { endpoint: *id, epoch })
}

/// Every endpoint by id, revoked ones too.
pub fn endpoints(tx: &impl Reads) -> Result<Vec<EndpointRecord>, StoreError> {
    tx.list::<&[u8], &[u8], _>(ENDPOINTS, .., usize::MAX)
}

/// Writes a node's last word.
pub fn put_word(tx: &WriteTx, word: &NodeWord) -> Result<(), StoreError> {
    tx.put(NODE_WORDS, word.node.as_bytes().as_slice(), word)
}

/// The last word of every node that ever said one.
pub fn words(tx: &impl Reads) -> Result<Vec<NodeWord>, StoreError> {
    tx.list::<&[u8], &[u8], _>(NODE_WORDS, .., usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;

    #[test]
    fn devices_are_read_back_as_they_were_written_across_a_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("repo.redb");
        let key = MemberKey::from_bytes([3; 32]);
        let node = NodeRecord {
            key,
            site: "lyon".parse().unwrap(),
            name: "lyon-1".into(),
            addresses: MemberAddresses {
                device: vec!["192.0.2.1:8481".parse().unwrap(), "[2001:db8::1]:8481".parse().unwrap()],
                ..MemberAddresses::default()
            },
            enrolled_at: Timestamp::from_millis(5),
            revoked_at: None,
        };
        let endpoint = EndpointRecord {
            id: EndpointId::from_bytes([4; 32]),
            key,
            site: "lyon".parse().unwrap(),
            ring: "pilot".parse().unwrap(),
            name: "pc-1".into(),
            state: EndpointState::Revoked,
            enrolled_at: Timestamp::from_millis(6),
        };
        let fences = vec![(3, Timestamp::from_millis(9))];
        let word = NodeWord { node: key, received_at: Timestamp::from_millis(9), status: b"{}".to_vec(), fences };
        let store = Store::open(&path).unwrap();
        store
            .write(|tx| {
                put_node(tx, &node)?;
                put_endpoint(tx, &endpoint)?;
                put_epoch(tx, &endpoint.id, 3)?;
                put_word(tx, &word)
            })
            .unwrap();
        drop(store);
        let store = Store::open(&path).unwrap();
        store
            .read(|tx| {
                assert_eq!(super::node(tx, &key)?, Some(node));
                assert_eq!(endpoints(tx)?, std::slice::from_ref(&endpoint));
                assert_eq!(words(tx)?, [word]);
                assert_eq!((epoch(tx, &endpoint.id)?, epoch(tx, &EndpointId::from_bytes([5; 32]))?), (3, 1));
                Ok::<_, StoreError>(())
            })
            .unwrap();
    }
}
