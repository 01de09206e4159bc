//! The signed documents of the fleet and of the policy, made from the records of the same transaction.
//!
//! Each document is a pure function of its records, in a fixed order, so that equal records give equal bytes.

use crate::draft::Draft;
use crate::operations::Failure;
use sluice_model::{
    EndpointRow, EndpointRows, EndpointState, Limits, Member, MemberKind, PlainNetwork, Revoked, RingName, Roster,
    Site, SiteLimits, SiteName, Topology,
};
use sluice_repo_store::WriteTx;
use sluice_repo_store::members::{self, EndpointRecord, NodeRecord};
use sluice_repo_store::schedules;
use sluice_repo_store::sites::{self, SiteRecord};

/// Writes the roster and the revoked keys anew, after a node came, moved or was revoked.
pub fn write_members(draft: &mut Draft, tx: &WriteTx) -> Result<(), Failure> {
    let nodes = members::nodes(tx)?;
    let before = draft.roster()?;
    draft.set_roster(&roster(before.origins().cloned(), &nodes))?;
    write_revoked(draft, tx, &nodes)
}

/// Writes the endpoints of a site anew, after one of them came or was revoked.
pub fn write_endpoints(draft: &mut Draft, tx: &WriteTx, site: &SiteName) -> Result<(), Failure> {
    draft.set_endpoints(&endpoints(site, &members::endpoints(tx)?))
}

/// Writes the revoked keys anew.
pub fn write_revoked(draft: &mut Draft, tx: &WriteTx, nodes: &[NodeRecord]) -> Result<(), Failure> {
    let revoked = revoked(nodes, &members::endpoints(tx)?);
    if draft.revoked()? != revoked {
        draft.set_revoked(&revoked)?;
    }
    Ok(())
}

/// Writes topology and limits anew, after a site came or its limits changed.
pub fn write_sites(draft: &mut Draft, tx: &WriteTx) -> Result<(), Failure> {
    let sites = sites::list(tx)?;
    let topology = topology(&sites);
    if draft.topology()? != topology {
        draft.set_topology(&topology)?;
    }
    let default_ring = draft.served().view.rings.last().cloned();
    let mut limits = limits(&sites, default_ring.into_iter().collect());
    for site in sites {
        if let Some(schedule) = schedules::get(tx, &site.name)? {
            limits.schedules.insert(site.name, schedule);
        }
    }
    if draft.limits()? != limits {
        draft.set_limits(&limits)?;
    }
    Ok(())
}

/// Origins first, then the nodes that are members, by site and name.
pub fn roster(origins: impl Iterator<Item = Member>, nodes: &[NodeRecord]) -> Roster {
    let mut live: Vec<&NodeRecord> = nodes.iter().filter(|node| node.revoked_at.is_none()).collect();
    live.sort_by(|a, b| (&a.site, &a.name, a.key).cmp(&(&b.site, &b.name, b.key)));
    let nodes = live.into_iter().map(|node| Member {
        key: node.key,
        kind: MemberKind::Node,
        site: Some(node.site.clone()),
        name: node.name.clone(),
        addresses: node.addresses.clone(),
    });
    Roster { schema: 1, members: origins.chain(nodes).collect() }
}

/// Every key that was revoked.
pub fn revoked(nodes: &[NodeRecord], endpoints: &[EndpointRecord]) -> Revoked {
    let endpoints = endpoints.iter().filter(|endpoint| endpoint.state == EndpointState::Revoked);
    Revoked {
        schema: 1,
        members: nodes.iter().filter(|node| node.revoked_at.is_some()).map(|node| node.key).collect(),
        endpoints: endpoints.map(|endpoint| endpoint.id).collect(),
    }
}

/// The endpoints of `site`, by id, revoked ones too: an agent that was revoked is to see it.
pub fn endpoints(site: &SiteName, all: &[EndpointRecord]) -> EndpointRows {
    let rows = all.iter().filter(|endpoint| endpoint.site == *site).map(|endpoint| EndpointRow {
        endpoint: endpoint.id,
        ring: endpoint.ring.clone(),
        state: endpoint.state,
        enrolled_at: endpoint.enrolled_at,
    });
    EndpointRows { schema: 1, site: site.clone(), endpoints: rows.collect() }
}

/// Every site with its boundaries.
pub fn topology(sites: &[SiteRecord]) -> Topology {
    let site = |site: &SiteRecord| Site { name: site.name.clone(), boundaries: site.boundaries.clone() };
    Topology { schema: 1, sites: sites.iter().map(site).collect() }
}

/// Every site's caps; plain clients get `default_rings` unless their site says otherwise for its boundaries.
pub fn limits(sites: &[SiteRecord], default_rings: Vec<RingName>) -> Limits {
    let mut limits = Limits { schema: 1, plain_rings: default_rings, ..Limits::default() };
    for site in sites {
        let caps =
            SiteLimits { wan_bytes_per_sec: site.wan_bytes_per_sec, serve_bytes_per_sec: site.serve_bytes_per_sec };
        limits.sites.insert(site.name.clone(), caps);
        if let Some(rings) = &site.plain_rings {
            let network = |network: &sluice_model::Network| PlainNetwork { network: *network, rings: rings.clone() };
            limits.plain_networks.extend(site.boundaries.iter().map(network));
        }
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_model::{MemberAddresses, MemberKey, Timestamp};

    fn node(byte: u8, site: &str, name: &str, is_revoked: bool) -> NodeRecord {
        NodeRecord {
            key: MemberKey::from_bytes([byte; 32]),
            site: site.parse().unwrap(),
            name: name.into(),
            addresses: MemberAddresses::default(),
            enrolled_at: Timestamp::from_millis(1),
            revoked_at: is_revoked.then_some(Timestamp::from_millis(2)),
        }
    }

    #[test]
    fn a_revoked_node_leaves_the_roster_and_stands_among_the_revoked() {
        let origin = Member {
            key: MemberKey::from_bytes([9; 32]),
            kind: MemberKind::Origin,
            site: None,
            name: "origin".into(),
            addresses: MemberAddresses::default(),
        };
        let nodes = [node(1, "lyon", "b", false), node(2, "brno", "a", true), node(3, "lyon", "a", false)];
        let roster = roster([origin].into_iter(), &nodes);
        let names: Vec<_> = roster.members.iter().map(|member| member.name.as_str()).collect();
        assert_eq!(names, ["origin", "a", "b"]);
        assert!(roster.member(&nodes[1].key).is_none());
        assert_eq!(revoked(&nodes, &[]).members, [nodes[1].key]);
    }

    #[test]
    fn plain_clients_of_a_site_get_its_rings_and_all_others_the_default() {
        let site = |name: &str, network: &str, rings: Option<Vec<RingName>>| SiteRecord {
            name: name.parse().unwrap(),
            boundaries: vec![network.parse().unwrap()],
            wan_bytes_per_sec: None,
            serve_bytes_per_sec: None,
            plain_rings: rings,
            added_at: Timestamp::from_millis(1),
        };
        let pilot: RingName = "pilot".parse().unwrap();
        let production: RingName = "production".parse().unwrap();
        let sites = [site("lyon", "10.1.0.0/16", Some(vec![pilot.clone()])), site("brno", "10.2.0.0/16", None)];
        let limits = limits(&sites, vec![production.clone()]);
        assert_eq!(limits.plain_rings_for("10.1.2.3".parse().unwrap()), [pilot]);
        assert_eq!(limits.plain_rings_for("10.2.2.3".parse().unwrap()), [production]);
        assert_eq!(topology(&sites).resolve("10.2.2.3".parse().unwrap()).unwrap().name.as_str(), "brno");
    }
}
