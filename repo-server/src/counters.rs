//! What the origin sends to each site: paced together by the site's signed WAN cap, counted together.
//!
//! All nodes of a site share one limiter, so that the link's cap holds however many of them ask.

use axum::body::Body;
use bytes::Bytes;
use sluice_exchange::claims::Claims;
use sluice_model::{ChunkId, Limits, SiteName, Timestamp};
use sluice_pacing::WanCalendar;
use sluice_transport::{ServeCounters, Throttle};
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Chunk ids remembered for a site: 1,000,000 of 1 MiB are a terabyte; at the bound counting begins anew.
const DISTINCT_CHUNKS_MAX: usize = 1_000_000;

/// The way to one site.
#[derive(Debug)]
pub struct SiteLink {
    /// What every byte to the site passes.
    pub throttle: Throttle,
    /// Frames of the exchange protocol.
    pub exchange: Arc<ServeCounters>,
    claims: Mutex<Claims>,
    metadata_bytes: AtomicU64,
    distinct: Mutex<HashSet<ChunkId>>,
    distinct_bytes: AtomicU64,
}

/// Counters of a site since the program started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SiteCounts {
    /// Chunk frames, headers and trailers included, and frames without a body.
    pub origin_bytes: u64,
    /// Chunk bytes, each chunk once.
    pub distinct_bytes: u64,
    /// Metadata, documents and manifests.
    pub metadata_bytes: u64,
    /// Highest bytes in any one second, all of the above together.
    pub wan_peak_bytes_per_sec: u64,
}

impl SiteLink {
    fn new() -> Self {
        Self {
            throttle: Throttle::unlimited(),
            exchange: Arc::new(ServeCounters::default()),
            claims: Mutex::default(),
            metadata_bytes: AtomicU64::new(0),
            distinct: Mutex::new(HashSet::new()),
            distinct_bytes: AtomicU64::new(0),
        }
    }

    /// Which node of the site was sent which chunk.
    pub fn claims(&self) -> MutexGuard<'_, Claims> {
        lock(&self.claims)
    }

    /// Notes that a chunk is being sent.
    pub fn add_chunk(&self, chunk: ChunkId, length: u64) {
        let mut distinct = lock(&self.distinct);
        if distinct.len() >= DISTINCT_CHUNKS_MAX {
            distinct.clear();
        }
        if distinct.insert(chunk) {
            self.distinct_bytes.fetch_add(length, Ordering::Relaxed);
        }
    }

    /// A body that passes the site's limiter slice by slice and is counted as it goes.
    pub fn paced_metadata(self: &Arc<Self>, bytes: Bytes) -> Body {
        let link = self.clone();
        Body::from_stream(futures::stream::unfold((link, bytes), |(link, mut left)| async move {
            if left.is_empty() {
                return None;
            }
            let granted = link.throttle.take_slice(left.len() as u64).await;
            link.metadata_bytes.fetch_add(granted, Ordering::Relaxed);
            let slice = left.split_to(usize::try_from(granted).unwrap_or(left.len()).min(left.len()));
            Some((Ok::<_, std::convert::Infallible>(slice), (link, left)))
        }))
    }

    /// The counters now.
    pub fn counts(&self) -> SiteCounts {
        let manifests = self.exchange.metadata_frame_bytes();
        SiteCounts {
            origin_bytes: self.exchange.sent_bytes().saturating_sub(manifests),
            distinct_bytes: self.distinct_bytes.load(Ordering::Relaxed),
            metadata_bytes: self.metadata_bytes.load(Ordering::Relaxed) + manifests,
            wan_peak_bytes_per_sec: self.throttle.peak_per_sec(),
        }
    }
}

/// Every site's way.
#[derive(Debug)]
pub struct SiteLinks {
    by_site: Mutex<BTreeMap<SiteName, Arc<SiteLink>>>,
    /// Devices that belong to no site yet: they are enrolling.
    elsewhere: Arc<SiteLink>,
}

impl Default for SiteLinks {
    fn default() -> Self {
        Self { by_site: Mutex::default(), elsewhere: Arc::new(SiteLink::new()) }
    }
}

impl SiteLinks {
    /// The way to a site, made on first use; `None` is for devices that belong to no site.
    pub fn of(&self, site: Option<&SiteName>) -> Arc<SiteLink> {
        let Some(site) = site else { return self.elsewhere.clone() };
        lock(&self.by_site).entry(site.clone()).or_insert_with(|| Arc::new(SiteLink::new())).clone()
    }

    /// Sets the caps that the signed limits and schedules give at `now`; streams that are running follow at once. Answers
    /// when a schedule changes one of them.
    pub fn apply(&self, limits: &Limits, sites: impl Iterator<Item = SiteName>, now: Timestamp) -> Option<Timestamp> {
        let mut next = None;
        for site in sites {
            let calendar = WanCalendar::new(limits.site(&site).wan_bytes_per_sec, limits.schedules.get(&site));
            let holds = calendar.at(now);
            self.of(Some(&site)).throttle.set_rate(holds.bytes_per_sec);
            next = next.into_iter().chain(holds.until).min();
        }
        next
    }

    /// Every site that was spoken to or has a cap, with its counters.
    pub fn counts(&self) -> Vec<(SiteName, SiteCounts)> {
        lock(&self.by_site).iter().map(|(site, link)| (site.clone(), link.counts())).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Counters stay usable after a panic elsewhere, which stops the program anyway.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use sluice_model::{ByteRate, SiteLimits};

    #[test]
    fn a_chunk_that_is_sent_twice_is_distinct_once() {
        let link = SiteLink::new();
        link.add_chunk(ChunkId::from_bytes([1; 32]), 100);
        link.add_chunk(ChunkId::from_bytes([1; 32]), 100);
        link.add_chunk(ChunkId::from_bytes([2; 32]), 50);
        assert_eq!(link.counts().distinct_bytes, 150);
    }

    #[tokio::test(start_paused = true)]
    async fn metadata_passes_the_cap_of_its_site_and_is_counted() {
        let links = SiteLinks::default();
        let site: SiteName = "lyon".parse().unwrap();
        let rate = ByteRate::bytes_per_sec(100_000);
        let caps = SiteLimits { wan_bytes_per_sec: rate, serve_bytes_per_sec: None };
        let limits = Limits { schema: 1, sites: [(site.clone(), caps)].into(), ..Limits::default() };
        assert_eq!(links.apply(&limits, [site.clone()].into_iter(), Timestamp::default()), None);
        let link = links.of(Some(&site));
        let began = tokio::time::Instant::now();
        let sent = link.paced_metadata(Bytes::from(vec![7; 300_000])).collect().await.unwrap().to_bytes();
        let took = began.elapsed().as_secs_f64();
        assert_eq!(sent.len(), 300_000);
        assert!((2.8..3.1).contains(&took), "{took}");
        let counts = link.counts();
        assert_eq!(counts.metadata_bytes, 300_000);
        assert!(counts.wan_peak_bytes_per_sec <= 106_000, "{counts:?}");
        assert_eq!(links.of(None).counts(), SiteCounts::default());
    }
}
