//! What the node knows and acts on at one moment: an immutable snapshot of verified metadata and what it says.
//!
//! The metadata loop alone makes a new snapshot, after its files and tombstones are committed; every other task loads
//! the newest one for each decision and keeps none.
//!
//! Invariants
//! - Everything in a view was verified; a view is complete or does not exist.
//! - The tombstones of a view are all that were ever seen, whatever the newest `retractions` role lists.
//! - `timestamp_version` never goes back from one view to the next.

use crate::clock;
use sluice_metadata::{DocumentRef, Trusted, View};
use sluice_model::{Bans, EndpointRows, Limits, MemberKey, Roster, SiteName, TargetName, Timestamp, Tombstone};
use sluice_rollout::gate::Catalogue;
use sluice_rollout::lease::{Freshness, TrustedClock};
use sluice_state_store::hold::Hold;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// A signed document as received, and what its bytes were verified against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedDocument {
    /// Length and hash as signed.
    pub document: DocumentRef,
    /// The bytes.
    pub bytes: Arc<[u8]>,
}

/// Where and who this node is; never changes while it is joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Our own key.
    pub key: MemberKey,
    /// Our site.
    pub site: SiteName,
}

/// One snapshot.
#[derive(Clone, Debug)]
pub struct NodeView {
    /// Our own key.
    pub key: MemberKey,
    /// Our site.
    pub site: SiteName,
    /// Verified metadata, for the next step forward.
    pub trusted: Trusted,
    /// What it says.
    pub view: View,
    /// `fleet/roster`.
    pub roster: Roster,
    /// `fleet/bans`.
    pub bans: Bans,
    /// `policy/limits`.
    pub limits: Limits,
    /// `fleet/endpoints-<site>` of our site.
    pub endpoints: EndpointRows,
    /// Which client may have which content; knows every tombstone.
    pub catalogue: Catalogue,
    /// Every tombstone ever seen, by serial.
    pub tombstones: Vec<Tombstone>,
    /// Metadata files as received, by name below `/tuf/metadata/`.
    pub metadata_files: BTreeMap<String, Arc<[u8]>>,
    /// Signed documents by target name (`fleet/roster`): those that this node and its agents need. One that could not
    /// be fetched yet is older than `view` says; its [`SignedDocument::document`] tells.
    pub documents: BTreeMap<TargetName, SignedDocument>,
    /// `x-issued` of the timestamp.
    pub issued_at: Timestamp,
    /// End of the serving lease.
    pub lease_until: Timestamp,
    /// Version of the timestamp.
    pub timestamp_version: u64,
    /// What is known of the time besides the system's clock.
    pub clock: TrustedClock,
    /// A hold that somebody set at this machine.
    pub hold: Option<Hold>,
}

impl NodeView {
    /// How fresh the metadata is now, by the trusted clock. Nothing is served unless it is within its lease.
    pub fn freshness(&self) -> Freshness {
        self.freshness_at(clock::timestamp(), clock::since_boot())
    }

    /// How fresh the metadata is when the system clock says `system` and the machine has been up for `up`.
    pub fn freshness_at(&self, system: Timestamp, up: Duration) -> Freshness {
        Freshness::of(self.issued_at, self.lease_until, self.clock.now(system, up))
    }

    /// Now, by the trusted clock; by the system's when that one stands before what was verified.
    pub fn now(&self) -> Timestamp {
        let system = clock::timestamp();
        self.clock.now(system, clock::since_boot()).unwrap_or(system)
    }

    /// From now to the end of the lease by the trusted clock, and a moment more.
    pub fn until_lease_end(&self) -> Duration {
        self.lease_until.since(self.now()) + Duration::from_millis(1)
    }

    /// The key and site of this node.
    pub fn place(&self) -> Place {
        Place { key: self.key, site: self.site.clone() }
    }

    /// Highest serial of any tombstone; 0 without one.
    pub fn tombstone_serial(&self) -> u64 {
        self.tombstones.last().map_or(0, |tombstone| tombstone.serial)
    }
}

/// Where the newest view is found. Cheap to clone; only the metadata loop holds the [`ViewPublisher`].
#[derive(Clone, Debug)]
pub struct ViewHandle {
    newest: watch::Receiver<Arc<NodeView>>,
}

/// Publishes views.
#[derive(Debug)]
pub struct ViewPublisher {
    newest: watch::Sender<Arc<NodeView>>,
}

impl ViewPublisher {
    /// Begins with the view of what was stored.
    pub fn new(first: NodeView) -> (Self, ViewHandle) {
        let (sender, receiver) = watch::channel(Arc::new(first));
        (Self { newest: sender }, ViewHandle { newest: receiver })
    }

    /// Makes `view` the newest. Its files and tombstones are committed already.
    pub fn publish(&self, view: NodeView) -> Arc<NodeView> {
        let view = Arc::new(view);
        self.newest.send_replace(Arc::clone(&view));
        view
    }
}

impl ViewHandle {
    /// The newest view.
    pub fn load(&self) -> Arc<NodeView> {
        Arc::clone(&self.newest.borrow())
    }

    /// A receiver whose `changed()` completes after each new view.
    pub fn changed(&self) -> watch::Receiver<Arc<NodeView>> {
        self.newest.clone()
    }
}
