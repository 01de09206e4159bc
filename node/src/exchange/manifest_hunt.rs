//! Finding the manifest of an artifact: from its leader in the site, then from the next in rank, at last across the WAN.
//!
//! Pure: it is told what happened and when, and answers whom to ask.

use sluice_exchange::picker::{Link, Source};
use sluice_exchange::rank;
use sluice_model::{ChunkId, ManifestId, MemberKey};
use std::time::{Duration, Instant};

/// How long a peer may take: it may fetch the manifest across the WAN first. Two silent peers in a row leave half of the
/// 10 s in which an endpoint must be served.
pub(crate) const PEER_PATIENCE: Duration = Duration::from_millis(2_500);
/// How long the origin may take for at most 10 MiB.
const ORIGIN_PATIENCE: Duration = Duration::from_secs(30);
/// Pause after the origin failed.
const PAUSE: Duration = Duration::from_secs(1);

/// One hunt.
#[derive(Debug)]
pub(crate) struct ManifestHunt {
    manifest: ManifestId,
    asked: Option<(Source, Instant)>,
    failed: Vec<MemberKey>,
    retry_at: Option<Instant>,
    /// How often the origin said no.
    pub origin_failures: u32,
}

impl ManifestHunt {
    pub fn new(manifest: ManifestId) -> Self {
        Self { manifest, asked: None, failed: Vec::new(), retry_at: None, origin_failures: 0 }
    }

    /// Whom to ask now; `None`: wait. The caller sends the request, or reports that it failed.
    pub fn next(&mut self, me: MemberKey, peers: &[(MemberKey, Link)], origin: Link, now: Instant) -> Option<Source> {
        if let Some((source, asked)) = self.asked {
            if now < asked + patience(source) {
                return None;
            }
            self.on_failure(source, now);
        }
        if self.retry_at.is_some_and(|at| at > now) {
            return None;
        }
        let hoped_for = |key: &MemberKey, link: Link| link != Link::Down && !self.failed.contains(key);
        let mut members = vec![me];
        members.extend(peers.iter().filter(|(key, link)| hoped_for(key, *link)).map(|(key, _)| *key));
        let leader = *rank::rendezvous(&ChunkId::from_bytes(*self.manifest.as_bytes()), &members).first()?;
        let (source, link) = if leader == me {
            (Source::Origin, origin)
        } else {
            (Source::Peer(leader), peers.iter().find(|(key, _)| *key == leader)?.1)
        };
        if link != Link::Up {
            return None;
        }
        self.asked = Some((source, now));
        Some(source)
    }

    /// `source` has not got it, refused, sent something else, or is gone.
    pub fn on_failure(&mut self, source: Source, now: Instant) {
        if self.asked.is_none_or(|(asked, _)| asked != source) {
            return;
        }
        self.asked = None;
        match source {
            Source::Peer(key) => self.failed.push(key),
            Source::Origin => {
                self.failed.clear();
                self.origin_failures += 1;
                self.retry_at = Some(now + PAUSE * self.origin_failures.min(10));
            }
        }
    }

    /// When [`ManifestHunt::next`] could answer differently by time alone.
    pub fn next_due(&self) -> Option<Instant> {
        self.asked.map(|(source, asked)| asked + patience(source)).or(self.retry_at)
    }
}

fn patience(source: Source) -> Duration {
    match source {
        Source::Origin => ORIGIN_PATIENCE,
        Source::Peer(_) => PEER_PATIENCE,
    }
}
