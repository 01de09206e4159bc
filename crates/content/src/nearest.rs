//! In which order a client is told the nodes of a site: those that are known to live first, and within these by
//! rendezvous hashing of the client's address, so that clients spread evenly, one client always comes to the same node,
//! and when a node leaves only its own clients move.

use sluice_model::{MemberKey, normalise};
use std::cmp::Reverse;
use std::net::{IpAddr, SocketAddr};

/// Nodes that one answer names: more do not help a client, and its head has room for few.
pub const NODES_TOLD_MAX: usize = 8;

/// A node as a client could reach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NearNode {
    /// Its key.
    pub key: MemberKey,
    /// Where its plain HTTP is.
    pub address: SocketAddr,
    /// Whether it spoke a moment ago.
    pub is_live: bool,
}

impl NearNode {
    /// `http://10.1.0.7:8480`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Sorts `nodes` for `client` and cuts the list to [`NODES_TOLD_MAX`]. O(n log n), one hash a node.
pub fn order(client: IpAddr, nodes: &mut Vec<NearNode>) {
    let client = client_key(client);
    nodes.sort_by_cached_key(|node| (!node.is_live, Reverse(weight(&client, &node.key)), node.key));
    nodes.truncate(NODES_TOLD_MAX);
}

/// Of the addresses that a node announced, the one that the client can dial: of its own family when there is one.
pub fn address_for(client: IpAddr, announced: &[SocketAddr]) -> Option<SocketAddr> {
    let is_ipv4 = normalise(client).is_ipv4();
    let fits = |address: &&SocketAddr| address.is_ipv4() == is_ipv4;
    announced.iter().find(fits).or(announced.first()).copied()
}

fn client_key(client: IpAddr) -> [u8; 32] {
    match normalise(client) {
        IpAddr::V4(address) => *blake3::hash(&address.octets()).as_bytes(),
        IpAddr::V6(address) => *blake3::hash(&address.octets()).as_bytes(),
    }
}

fn weight(client: &[u8; 32], node: &MemberKey) -> u64 {
    let hash = blake3::keyed_hash(client, node.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn nodes(count: u8) -> Vec<NearNode> {
        let node = |n: u8| NearNode {
            key: MemberKey::from_bytes([n; 32]),
            address: SocketAddr::from(([10, 1, 0, n], 8_480)),
            is_live: true,
        };
        (1..=count).map(node).collect()
    }

    fn ordered(client: IpAddr, mut nodes: Vec<NearNode>) -> Vec<u8> {
        order(client, &mut nodes);
        nodes.iter().map(|node| node.key.as_bytes()[0]).collect()
    }

    fn client(n: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(0x0a01_0000 + n))
    }

    #[test]
    fn clients_spread_evenly_and_each_comes_to_the_same_node() {
        let mut first = [0; 5];
        for n in 0..5_000 {
            let mut reversed = nodes(5);
            reversed.reverse();
            let order = ordered(client(n), nodes(5));
            assert_eq!(order, ordered(client(n), reversed));
            first[usize::from(order[0]) - 1] += 1;
        }
        assert!(first.iter().all(|count| (850..1_150).contains(count)), "{first:?}");
    }

    #[test]
    fn a_silent_node_comes_last_and_only_its_clients_move() {
        for n in 0..500 {
            let before = ordered(client(n), nodes(4));
            let mut nodes = nodes(4);
            nodes[2].is_live = false;
            let after = ordered(client(n), nodes);
            let mut expected: Vec<u8> = before.into_iter().filter(|node| *node != 3).collect();
            expected.push(3);
            assert_eq!(after, expected);
        }
    }

    #[test]
    fn an_ipv4_client_is_the_same_behind_an_ipv6_socket() {
        for n in 0..100 {
            let IpAddr::V4(address) = client(n) else { panic!() };
            assert_eq!(ordered(client(n), nodes(5)), ordered(IpAddr::V6(address.to_ipv6_mapped()), nodes(5)));
        }
    }

    #[test]
    fn a_client_is_told_an_address_of_its_own_family_and_few_nodes() {
        let announced = ["10.1.0.7:80".parse().unwrap(), "[2001:db8::7]:80".parse().unwrap()];
        let told = |client: &str| address_for(client.parse().unwrap(), &announced).unwrap().to_string();
        assert_eq!(told("192.0.2.1"), "10.1.0.7:80");
        assert_eq!(told("::ffff:192.0.2.1"), "10.1.0.7:80");
        assert_eq!(told("2001:db8::1"), "[2001:db8::7]:80");
        assert_eq!(address_for(client(1), &announced[1..]), Some(announced[1]));
        assert_eq!(address_for(client(1), &[]), None);
        assert_eq!(ordered(client(1), nodes(20)).len(), NODES_TOLD_MAX);
    }
}
