//! What a view means for moving bytes: whom to connect to, what may be fetched, how much at once.

use crate::fetch::Unobtainable;
use crate::view::NodeView;
use sluice_exchange::picker::{OriginWindow, Source};
use sluice_model::{ArtifactId, ByteRate, MemberKey, ReleasedArtifact};
use sluice_rollout::gate::WantedContent;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// Bytes in flight at the origin for a whole site: two seconds of its link, within these bounds.
const SITE_WINDOW_BYTES: (u64, u64) = (2 << 20, 8 << 20);
const SITE_WINDOW: Duration = Duration::from_secs(2);
/// Up to so many members, each keeps two requests at the origin; more of them fill the link with one each, and the
/// first chunk of a slow link comes the earlier.
const FEW_MEMBERS: usize = 4;

/// A member that this node exchanges with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Partner {
    pub source: Source,
    pub key: MemberKey,
    pub name: String,
    pub addresses: Vec<SocketAddr>,
}

/// The other nodes of the site that are banned neither here nor in the whole fleet, and the first origin. Of the bans made
/// here the number of lifts at the time stands beside the key.
pub(crate) fn partners(view: &NodeView, banned: &BTreeMap<MemberKey, u32>) -> Vec<Partner> {
    let nodes = view.roster.nodes_of(&view.site).filter(|member| member.key != view.key);
    let is_banned = |key: &MemberKey| banned.contains_key(key) || view.bans.is_banned(key);
    let peers = nodes.filter(|member| !is_banned(&member.key)).map(|member| Partner {
        source: Source::Peer(member.key),
        key: member.key,
        name: member.name.clone(),
        addresses: member.addresses.device.clone(),
    });
    let origin = view.roster.origins().next().map(|member| Partner {
        source: Source::Origin,
        key: member.key,
        name: member.name.clone(),
        addresses: member.addresses.device.clone(),
    });
    origin.into_iter().chain(peers).collect()
}

/// Whether `key` is another node of our site that is not banned: only those get content from us.
pub(crate) fn is_site_peer(view: &NodeView, key: &MemberKey) -> bool {
    *key != view.key && !view.bans.is_banned(key) && view.roster.nodes_of(&view.site).any(|member| member.key == *key)
}

/// The row that says `artifact` may be fetched; every row of it names the same bytes.
pub(crate) fn live_row<'a>(view: &'a NodeView, artifact: &ArtifactId) -> Result<&'a ReleasedArtifact, Unobtainable> {
    let wanted = WantedContent::Blake3(*artifact);
    match view.catalogue.live_rows(wanted).first() {
        Some(row) => Ok(row),
        None if view.catalogue.tombstone(wanted).is_some() => Err(Unobtainable::Retracted),
        None => Err(Unobtainable::NotReleased),
    }
}

/// This member's share of what the site may have in flight at the origin, over `sessions` artifacts.
pub(crate) fn origin_window(cap: Option<ByteRate>, members: usize, sessions: usize) -> OriginWindow {
    let (least, most) = SITE_WINDOW_BYTES;
    let site = cap.map_or(most, |cap| cap.get().saturating_mul(SITE_WINDOW.as_secs()).clamp(least, most));
    let share = site / (members.max(1) as u64 * sessions.max(1) as u64);
    OriginWindow { bytes: share, requests_min: if members <= FEW_MEMBERS { 2 } else { 1 } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_at_the_origin_belongs_to_the_site() {
        let cap = "20mbit".parse().ok();
        assert_eq!(origin_window(cap, 1, 1), OriginWindow { bytes: 5_000_000, requests_min: 2 });
        assert_eq!(origin_window(cap, 5, 2), OriginWindow { bytes: 500_000, requests_min: 1 });
        assert_eq!(origin_window(None, 2, 1).bytes, 4 << 20);
        assert_eq!(origin_window("1kB/s".parse().ok(), 1, 0).bytes, 2 << 20);
    }
}
