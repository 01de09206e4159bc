//! Networks as people write them, and the one form in which an address is compared.

use ipnet::IpNet;
use std::net::IpAddr;

/// A boundary or source network in CIDR notation, IPv4 or IPv6.
pub type Network = IpNet;

/// The address that a policy speaks about: an IPv4-mapped IPv6 address (`::ffff:10.0.0.1`) becomes IPv4.
pub fn normalise(address: IpAddr) -> IpAddr {
    address.to_canonical()
}
