//! Enrolled devices: nodes and endpoints, revoked ones too, and the last word of each node about itself.
//!
//! A device is never forgotten: its key stays here after it was revoked, so that it cannot enrol again.

use crate::{Reads, Rows, StoreError, WriteTx};
use serde::{Deserialize, Serialize};
use sluice_model::{EndpointId, EndpointState, MemberAddresses, MemberKey, RingName, SiteName, Timestamp};

const NODES: Rows<&[u8]> = Rows::new("nodes_1");
const ENDPOINTS: Rows<&[u8]> = Rows::new("endpoints_1");
const NODE_WORDS: Rows<&[u8]> = Rows::new("node_words_1");

pub(crate) fn create(tx: &WriteTx) -> Result<(), StoreError> {
    tx.create(NODES)?;
    tx.create(ENDPOINTS)?;
    tx.create(NODE_WORDS)
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
                put_word(tx, &word)
            })
            .unwrap();
        drop(store);
        let store = Store::open(&path).unwrap();
        store
            .read(|tx| {
                assert_eq!(super::node(tx, &key)?, Some(node));
                assert_eq!(endpoints(tx)?, [endpoint]);
                assert_eq!(words(tx)?, [word]);
                Ok::<_, StoreError>(())
            })
            .unwrap();
    }
}
