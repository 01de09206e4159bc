//! The nodes of our site, in the order in which this endpoint asks them, and the repository behind them.
//!
//! The order is a hash of endpoint and node: endpoints spread over the nodes, and each keeps to its own. The node that
//! answered last comes first.

use bytes::Bytes;
use ring::digest::{SHA256, digest};
use sluice_api_client::{ClientError, DeviceClient, MetadataSource, RepositoryClient, Timeouts};
use sluice_identity::DeviceKey;
use sluice_metadata::DocumentRef;
use sluice_model::{Member, MemberKey, Roster, SiteName, TargetName};
use std::sync::Arc;
use std::time::Duration;

/// Addresses of one node that are tried.
const ADDRESSES_PER_NODE_MAX: usize = 4;
/// A node that is silent for longer is left for the next one.
const TIMEOUTS: Timeouts =
    Timeouts { connect: Duration::from_secs(3), idle: Duration::from_secs(10), whole: Duration::from_secs(30) };

/// One node at one address.
#[derive(Clone)]
pub struct Node {
    /// Its key.
    pub key: MemberKey,
    /// For people.
    pub name: String,
    /// How to reach it.
    pub client: DeviceClient,
}

/// Whom this endpoint may talk to, by the signed roster.
#[derive(Clone, Default)]
pub struct Links {
    /// The nodes of our site, by preference.
    pub nodes: Vec<Node>,
    /// The repository itself: for reports that no node brings through.
    pub direct: Vec<Node>,
    /// Keys whose acknowledgements count.
    pub origins: Vec<MemberKey>,
}

impl Links {
    /// Of a verified roster. Clients of `old` whose node and address are still there keep their connections.
    pub fn of(roster: &Roster, site: &SiteName, key: &DeviceKey, old: &Self) -> Self {
        let mut members: Vec<_> = roster.nodes_of(site).collect();
        members.sort_by_key(|member| preference(key, &member.key));
        let nodes = members.into_iter().flat_map(|member| clients(member, key, &old.nodes)).collect();
        let direct = roster.origins().flat_map(|member| clients(member, key, &old.direct)).collect();
        Self { nodes, direct, origins: roster.origins().map(|origin| origin.key).collect() }
    }

    /// Whether both name the same members at the same addresses.
    pub fn is_same_as(&self, other: &Self) -> bool {
        let places = |nodes: &[Node]| nodes.iter().map(|node| (node.key, node.client.address())).collect::<Vec<_>>();
        self.origins == other.origins
            && places(&self.nodes) == places(&other.nodes)
            && places(&self.direct) == places(&other.direct)
    }

    /// Every address of that node or origin.
    pub fn of_key<'a>(&'a self, key: &MemberKey) -> impl Iterator<Item = &'a Node> + use<'a> {
        let key = *key;
        self.nodes.iter().chain(&self.direct).filter(move |node| node.key == key)
    }

    /// Its name for people.
    pub fn name(&self, key: &MemberKey) -> String {
        self.of_key(key).next().map_or_else(|| key.short(), |node| node.name.clone())
    }

    /// The nodes with `first` in front.
    pub fn in_order(&self, first: Option<MemberKey>) -> Vec<Node> {
        let mut nodes = self.nodes.clone();
        nodes.sort_by_key(|node| Some(node.key) != first);
        nodes
    }
}

/// A client of each address; those of `old` keep their connections.
fn clients(member: &Member, key: &DeviceKey, old: &[Node]) -> Vec<Node> {
    let mut nodes = Vec::new();
    for address in member.addresses.device.iter().take(ADDRESSES_PER_NODE_MAX) {
        let known = old.iter().find(|node| node.key == member.key && node.client.address() == *address);
        let client = match known {
            Some(node) => Ok(node.client.clone()),
            None => DeviceClient::new(*address, member.key, key, TIMEOUTS),
        };
        match client {
            Ok(client) => nodes.push(Node { key: member.key, name: member.name.clone(), client }),
            Err(error) => tracing::warn!(node = %member.name, %address, %error, "cannot be asked"),
        }
    }
    nodes
}

fn preference(key: &DeviceKey, node: &MemberKey) -> [u8; 8] {
    let text = [key.endpoint_id().as_bytes().as_slice(), node.as_bytes()].concat();
    let mut first = [0u8; 8];
    first.copy_from_slice(&digest(&SHA256, &text).as_ref()[..8]);
    first
}

/// Where signed files are read.
#[derive(Clone)]
pub enum Source {
    /// A node of our site.
    Node(Box<Node>),
    /// The repository itself: signed files only, and only when no node answers.
    Repository(Arc<RepositoryClient>),
}

impl Source {
    /// For people.
    pub fn name(&self) -> &str {
        match self {
            Self::Node(node) => &node.name,
            Self::Repository(repository) => repository.base_url(),
        }
    }

    /// The bytes of a document, unverified.
    pub async fn document(&self, name: &TargetName, document: &DocumentRef) -> Result<Option<Bytes>, ClientError> {
        match self {
            Self::Node(node) => node.client.document(name, document).await,
            Self::Repository(repository) => repository.document(name, document).await,
        }
    }
}

impl MetadataSource for Source {
    async fn metadata_file(&self, file: &str, length_max: u64) -> Result<Option<Bytes>, ClientError> {
        match self {
            Self::Node(node) => node.client.metadata_file(file, length_max).await,
            Self::Repository(repository) => repository.metadata_file(file, length_max).await,
        }
    }
}
