//! Writes into the records what verified documents say. What only the backup has stays: it was true once, and what ended
//! since is named by the documents.

use crate::draft::Draft;
use crate::operations::{Failure, retract};
use sluice_metadata::View;
use sluice_model::{
    ArtifactKind, EndpointId, EndpointRow, EndpointRows, EndpointState, Limits, MemberAddresses, MemberKey, MemberKind,
    PatchRef, PersonName, ReleasedArtifact, RetractedContent, Revoked, RingName, Roster, Sha256, SiteName, Timestamp,
    Tombstone, Topology,
};
use sluice_repo_store::members::{self, EndpointRecord, NodeRecord};
use sluice_repo_store::patches::{self, ApprovalRecord, ArtifactRecord, PatchRecord};
use sluice_repo_store::sites::{self, SiteRecord};
use sluice_repo_store::{WriteTx, schedules};
use std::collections::{BTreeMap, BTreeSet};

/// Who published or approved what only the signed files tell of: they name no person. The name is no one's token's, and a
/// patch of this publisher is published again before it is approved further.
pub const NOBODY: &str = "restored";

/// Sites of the topology that the backup does not have, and new limits of those that it has.
pub fn take_sites(tx: &WriteTx, topology: &Topology, limits: &Limits, now: Timestamp) -> Result<(), Failure> {
    for site in &topology.sites {
        let caps = limits.site(&site.name);
        let mut plain = limits.plain_networks.iter().filter(|plain| site.boundaries.contains(&plain.network));
        let before = sites::get(tx, &site.name)?;
        let record = SiteRecord {
            name: site.name.clone(),
            boundaries: site.boundaries.clone(),
            wan_bytes_per_sec: caps.wan_bytes_per_sec,
            serve_bytes_per_sec: caps.serve_bytes_per_sec,
            plain_rings: plain.next().map(|plain| plain.rings.clone()),
            added_at: before.as_ref().map_or(now, |before| before.added_at),
        };
        if before.as_ref() != Some(&record) {
            sites::put(tx, &record)?;
        }
        schedules::put(tx, &site.name, limits.schedules.get(&site.name))?;
    }
    Ok(())
}

/// Nodes of the roster and revoked keys; how many were new or otherwise.
pub fn take_nodes(tx: &WriteTx, roster: &Roster, revoked: &Revoked, now: Timestamp) -> Result<usize, Failure> {
    let mut changed = 0;
    for member in roster.members.iter().filter(|member| member.kind == MemberKind::Node) {
        let Some(site) = member.site.clone() else { continue };
        let before = members::node(tx, &member.key)?;
        let record = NodeRecord {
            key: member.key,
            site,
            name: member.name.clone(),
            addresses: member.addresses.clone(),
            enrolled_at: before.as_ref().map_or(now, |before| before.enrolled_at),
            revoked_at: None,
        };
        if before.as_ref() != Some(&record) {
            members::put_node(tx, &record)?;
            changed += 1;
        }
    }
    for key in &revoked.members {
        let before = members::node(tx, key)?;
        if before.as_ref().is_some_and(|before| before.revoked_at.is_some()) {
            continue;
        }
        // A node that came and went after the backup: its key stays revoked, the rest nobody knows.
        let unknown = || NodeRecord {
            key: *key,
            site: NOBODY.parse().expect("a site name"),
            name: key.short(),
            addresses: MemberAddresses::default(),
            enrolled_at: now,
            revoked_at: None,
        };
        members::put_node(tx, &NodeRecord { revoked_at: Some(now), ..before.unwrap_or_else(unknown) })?;
        changed += 1;
    }
    Ok(changed)
}

/// A key that is not known: the documents name endpoints by its hash, and the endpoint brings it when it next speaks to this
/// server itself.
pub fn unknown_key() -> MemberKey {
    MemberKey::from_bytes([0; 32])
}

/// Endpoints of the sites' documents and revoked ones; how many were new or otherwise.
pub fn take_endpoints(tx: &WriteTx, documents: &[EndpointRows], revoked: &Revoked) -> Result<usize, Failure> {
    let mut newest: BTreeMap<EndpointId, (&SiteName, &EndpointRow)> = BTreeMap::new();
    for document in documents {
        for row in &document.endpoints {
            let known = newest.entry(row.endpoint).or_insert((&document.site, row));
            if known.1.enrolled_at < row.enrolled_at {
                *known = (&document.site, row);
            }
        }
    }
    let mut changed = 0;
    for (id, (site, row)) in newest {
        let before = members::endpoint(tx, &id)?;
        let is_revoked = revoked.endpoints.contains(&id) || row.state == EndpointState::Revoked;
        let record = EndpointRecord {
            id,
            key: before.as_ref().map_or_else(unknown_key, |before| before.key),
            site: site.clone(),
            ring: row.ring.clone(),
            name: before.as_ref().map_or_else(|| id.to_hex().chars().take(12).collect(), |before| before.name.clone()),
            state: if is_revoked { EndpointState::Revoked } else { row.state },
            enrolled_at: row.enrolled_at,
        };
        if before.as_ref() != Some(&record) {
            members::put_endpoint(tx, &record)?;
            changed += 1;
        }
    }
    for id in &revoked.endpoints {
        if let Some(before) = members::endpoint(tx, id)?.filter(|before| before.state != EndpointState::Revoked) {
            members::put_endpoint(tx, &EndpointRecord { state: EndpointState::Revoked, ..before })?;
            changed += 1;
        }
    }
    Ok(changed)
}

/// A patch with its rows in each ring.
struct Listed<'a> {
    patch: PatchRef,
    rings: BTreeMap<&'a RingName, Vec<&'a ReleasedArtifact>>,
}

/// Patches and approvals that the release roles list; how many were new.
pub fn take_patches(tx: &WriteTx, view: &View) -> Result<usize, Failure> {
    let nobody: PersonName = NOBODY.parse().expect("a person's name");
    let mut by_patch: BTreeMap<(String, String), Listed<'_>> = BTreeMap::new();
    for (ring, rows) in &view.releases {
        for row in rows {
            let patch = row.custom.patch_ref();
            let key = (patch.name.to_string(), patch.version.to_string());
            let listed = by_patch.entry(key).or_insert_with(|| Listed { patch, rings: BTreeMap::new() });
            listed.rings.entry(ring).or_default().push(row);
        }
    }
    let mut changed = 0;
    for Listed { patch, rings } in by_patch.into_values() {
        let before = patches::get(tx, &patch)?;
        let is_known = before.is_some();
        let Some(rows) = rings.values().next() else { continue };
        let mut record = before.unwrap_or_else(|| of_rows(&patch, rows, &nobody));
        let mut is_new = !is_known;
        for (ring, rows) in rings {
            let Some(row) = rows.first().filter(|_| !record.approvals.iter().any(|known| known.ring == *ring)) else {
                continue;
            };
            let custom = &row.custom;
            record.approvals.push(ApprovalRecord {
                ring: ring.clone(),
                by: nobody.clone(),
                at: custom.approved_at,
                serial: custom.approved_serial,
                release_version: 0,
            });
            is_new = true;
        }
        if is_new {
            patches::put(tx, &record)?;
            changed += 1;
        }
    }
    Ok(changed)
}

fn of_rows(patch: &PatchRef, rows: &[&ReleasedArtifact], nobody: &PersonName) -> PatchRecord {
    let mut rows = rows.to_vec();
    rows.sort_by_key(|row| row.custom.set.index);
    let artifact = |row: &&ReleasedArtifact| {
        let custom = &row.custom;
        let ArtifactKind::Deb(deb) = &custom.artifact;
        ArtifactRecord {
            file_name: row.target.file().to_owned(),
            length: row.length,
            sha256: row.sha256,
            sha512: custom.sha512,
            blake3: custom.blake3,
            manifest: custom.manifest.blake3,
            manifest_length: custom.manifest.length,
            chunker: custom.manifest.chunker.clone(),
            chunk_count: 0,
            package: deb.package.clone(),
            package_version: deb.version.clone(),
            architecture: deb.architecture.clone(),
        }
    };
    let first = &rows[0].custom;
    PatchRecord {
        patch: patch.clone(),
        severity: first.severity,
        cves: first.cves.clone(),
        supersedes: first.supersedes.clone(),
        published_by: nobody.clone(),
        published_at: first.approved_at,
        artifacts: rows.iter().map(artifact).collect(),
        approvals: Vec::new(),
        retraction: None,
    }
}

/// Every tombstone that is not known here; how many. One whose serial stands for another retraction by now gets the next
/// one: what counts is the content.
pub fn take_tombstones(draft: &mut Draft, tx: &WriteTx, shown: &[Tombstone]) -> Result<usize, Failure> {
    let mut shown: Vec<&Tombstone> = shown.iter().collect();
    shown.sort_by_key(|tombstone| tombstone.serial);
    let mut count = 0;
    for tombstone in shown {
        if patches::tombstone(tx, tombstone.serial)?.is_some_and(|known| known.content == tombstone.content) {
            continue;
        }
        let is_listed = draft.lists_tombstone(tombstone);
        let highest = patches::tombstones(tx)?.last().map_or(0, |known| known.serial).max(draft.highest_serial());
        let is_blocked =
            |content: &RetractedContent| Ok::<_, Failure>(patches::retracted_by(tx, &content.sha256)?.is_some());
        if !is_listed && tombstone.serial <= highest && all(&tombstone.content, is_blocked)? {
            continue;
        }
        // Without a gap, or archives could not hold them.
        let serial = if is_listed { tombstone.serial } else { highest + 1 };
        let tombstone = Tombstone { serial, ..tombstone.clone() };
        if !is_listed {
            draft.add_tombstone(&tombstone)?;
            let content: BTreeSet<Sha256> = tombstone.content.iter().map(|content| content.sha256).collect();
            retract::remove_rows(draft, &content)?;
        }
        patches::put_tombstone(tx, &tombstone)?;
        if let Some(record) = patches::get(tx, &tombstone.patch)?.filter(|record| record.retraction.is_none()) {
            patches::put(tx, &PatchRecord { retraction: Some(serial), ..record })?;
        }
        count += 1;
    }
    Ok(count)
}

fn all<T>(items: &[T], check: impl Fn(&T) -> Result<bool, Failure>) -> Result<bool, Failure> {
    for item in items {
        if !check(item)? {
            return Ok(false);
        }
    }
    Ok(true)
}
