//! What nodes and agents say to the origin and agents to nodes, over TLS 1.3 with raw keys.
//!
//! | path (below `/device/v1`) | who calls whom | body |
//! |---|---|---|
//! | `POST /enrol` | device -> origin | [`EnrolRequest`] -> [`EnrolAnswer`] |
//! | `POST /announce` | node -> origin | [`Announcement`] -> 204 |
//! | `POST /status` | node -> origin | [`NodeStatus`] -> 204 |
//! | `POST /newer-metadata` | node -> origin | [`crate::restore::NewerMetadata`] -> [`crate::restore::NewerReceipt`] |
//! | `POST /bans` | node -> origin | [`crate::bans::BanReport`] -> 204 |
//! | `POST /outcomes` | agent -> node, node -> origin | [`ReportBatch`] -> [`ReportReceipt`] |
//! | `GET /acknowledgements` | agent -> node | -> [`Acknowledgements`] of the calling endpoint |

use serde::{Deserialize, Serialize};
use sluice_model::{EndpointId, MemberAddresses, MemberKey, RingName, SiteName, Timestamp, dsse::DsseEnvelope};

/// What a token enrols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// A caching node.
    Node,
    /// A managed machine.
    Endpoint,
}

/// Asks to be enrolled with the key of the TLS connection.
#[derive(Clone, Serialize, Deserialize)]
pub struct EnrolRequest {
    /// Node or endpoint; must be the token's.
    pub kind: DeviceKind,
    /// Id of the token, hex.
    pub token_id: String,
    /// Secret of the token, 32 bytes in hex.
    pub token_secret: String,
    /// Host name or what the operator calls it, for people.
    pub name: String,
    /// Where the device believes that it will be. Only the token decides: another site is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<SiteName>,
    /// The same of its ring.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ring: Option<RingName>,
    /// A node's listen addresses; empty for endpoints.
    #[serde(default)]
    pub addresses: MemberAddresses,
    /// Signature by the device key over purpose `enrol`, token id (bytes) and SHA-256 of root.json; 64 bytes in hex.
    pub signature: String,
}

/// The device is enrolled: the signed fleet documents that name it are published.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EnrolAnswer {
    /// The token's site.
    pub site: SiteName,
    /// The token's ring; `None` for a node.
    pub ring: Option<RingName>,
    /// Versions below which the device must never accept a role: (role name, version).
    pub floor: Vec<(String, u64)>,
    /// Number of an endpoint's report chain: one more at each enrolment of its key.
    #[serde(default = "first_epoch")]
    pub epoch: u32,
}

fn first_epoch() -> u32 {
    1
}

/// A node's addresses, told at each start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// Where it listens now.
    pub addresses: MemberAddresses,
}

/// Counters and state of a node; cumulative since its store was made, kept across restarts where marked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Program version.
    pub version: String,
    /// Random per process start: counters restart with it.
    pub boot: u64,
    /// When the process started.
    pub started_at: Timestamp,
    /// Exchange frames from the origin, headers and trailers included.
    pub origin_bytes: u64,
    /// Exchange frames from peers, headers and trailers included.
    pub peer_bytes: u64,
    /// Exchange frames sent to peers.
    pub peer_served_bytes: u64,
    /// Content bytes sent to endpoints.
    pub served_bytes: u64,
    /// Metadata, documents and manifests fetched across the WAN.
    pub metadata_bytes: u64,
    /// Distinct chunks that this node led across the WAN.
    pub chunks_led: u64,
    /// Chunks dropped because their bytes were wrong: on disk, or from a peer.
    pub corrupt_chunks: u64,
    /// Highest bytes received from the origin in any one second.
    pub wan_peak_bytes_per_sec: u64,
    /// Bytes of content on disk that verified.
    pub stored_bytes: u64,
    /// Outcome reports waiting for the origin.
    pub spooled_reports: u64,
    /// Highest tombstone serial whose content is fenced here: committed, not served, cut, deleted.
    pub fenced_serial: u64,
    /// Version of the timestamp role in force.
    pub timestamp_version: u64,
    /// Peers that this node banned, and why.
    pub banned: Vec<BannedPeer>,
    /// Last reason why caching stopped, when it did (disk full).
    #[serde(default)]
    pub trouble: Option<String>,
}

/// A peer that sent wrong bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct BannedPeer {
    /// Whom.
    #[schema(value_type = String)]
    pub peer: MemberKey,
    /// When.
    #[schema(value_type = u64)]
    pub at: Timestamp,
    /// Why, naming artifact and chunk.
    pub reason: String,
}

/// Outcome reports, oldest first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReportBatch {
    /// At most [`sluice_model::limits::REPORTS_PER_BATCH_MAX`].
    pub reports: Vec<DsseEnvelope>,
}

/// What became of a batch. A node answers with `spooled`; the origin with signed acknowledgements.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ReportReceipt {
    /// How many are durable at the receiver.
    pub stored: u64,
    /// Signed by the origin; empty from a node.
    #[serde(default)]
    pub acknowledgements: Vec<SignedAcknowledgement>,
    /// Reports that were not taken, and why. They must not be sent again unchanged.
    #[serde(default)]
    pub refused: Vec<RefusedReport>,
}

/// A report that was not taken.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RefusedReport {
    /// Index in the batch.
    pub index: usize,
    /// Why, and what to do.
    pub reason: String,
}

/// The origin's word that every report of (endpoint, epoch) up to `seq` is durable and counted, and no later one.
///
/// A later word (by `at`) with a lower `seq` says that the origin lost reports, because it was restored from a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedAcknowledgement {
    /// Whose reports.
    pub endpoint: EndpointId,
    /// Epoch of the endpoint's chain.
    pub epoch: u32,
    /// Highest seq without a gap; 0 while there is none.
    pub seq: u64,
    /// When it was given, by the origin's clock.
    pub at: Timestamp,
    /// The origin that signed.
    pub signer: MemberKey,
    /// Signature by `signer` with purpose `ack` over [`SignedAcknowledgement::signed_bytes`]; 64 bytes in hex.
    pub signature: String,
}

impl SignedAcknowledgement {
    /// What the signature covers: endpoint (32 bytes), epoch (4, big end first), seq (8), at (8, milliseconds).
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut bytes = self.endpoint.as_bytes().to_vec();
        bytes.extend_from_slice(&self.epoch.to_be_bytes());
        bytes.extend_from_slice(&self.seq.to_be_bytes());
        bytes.extend_from_slice(&self.at.as_millis().to_be_bytes());
        bytes
    }
}

/// Acknowledgements for the calling endpoint.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Acknowledgements {
    /// The last per epoch.
    pub acknowledgements: Vec<SignedAcknowledgement>,
}
