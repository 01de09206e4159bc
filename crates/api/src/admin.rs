//! The admin API below `/v1`: bearer tokens of persons.
//!
//! | method and path | role | body -> answer |
//! |---|---|---|
//! | `GET /whoami` | any | -> [`WhoAmI`] |
//! | `GET /status` | any | -> [`Status`] |
//! | `POST /uploads`, `HEAD`/`PATCH`/`DELETE /uploads/{id}` | publisher | tus 1.0 core, creation, termination |
//! | `POST /patches` | publisher | [`NewPatch`] -> [`Patch`] |
//! | `GET /patches`, `GET /patches/{name}/{version}` | any | -> [`Patches`], [`Patch`] |
//! | `POST /patches/{name}/{version}/approvals` | approver | [`NewApproval`] -> [`Patch`] |
//! | `POST /patches/{name}/{version}/retraction` | retractor | [`NewRetraction`] -> [`Retraction`] |
//! | `POST /patches/{name}/{version}/retraction-plan` | retractor | [`RetractionScope`] -> [`RetractionPlan`] |
//! | `GET /suspensions`, `POST /suspensions` | any, deployer or retractor | [`NewSuspension`] -> [`Suspension`]/[`Suspensions`] |
//! | `POST /suspensions/{id}/lift` | two approvers | [`NewLift`] -> 200 [`Suspension`], or 202 [`WaitingRequest`] |
//! | `POST /reinstatements` | two approvers | [`NewReinstatement`] -> 200 [`Patch`], or 202 [`WaitingRequest`] |
//! | `GET /retractions`, `GET /retractions/{serial}` | any | -> [`Retractions`], [`Retraction`] |
//! | `GET /sites`, `POST /sites`, `PUT /sites/{site}/limits` | any, admin | [`NewSite`], [`NewSiteLimits`] -> [`Site`]/[`Sites`] |
//! | `GET /rings` | any | -> [`Rings`] |
//! | `POST /enrolment-tokens` | admin | [`NewEnrolmentToken`] -> [`EnrolmentToken`] |
//! | `POST /person-tokens` | admin | [`NewPersonToken`] -> [`PersonToken`] |
//! | `GET /tokens`, `DELETE /tokens/{id}`, `DELETE /tokens/persons/{person}` | admin | -> [`Tokens`](crate::tokens::Tokens), [`RevokedTokens`](crate::tokens::RevokedTokens) |
//! | `POST /tokens/own/rotation`, `DELETE /tokens/own` | any | -> [`PersonToken`], [`RevokedTokens`](crate::tokens::RevokedTokens) |
//! | `GET /requests`, `DELETE /requests/{id}` | any, who asked or admin | -> [`PendingRequests`](crate::requests::PendingRequests) |
//! | `GET /nodes`, `DELETE /nodes/{key}` | any, admin | -> [`Nodes`] |
//! | `GET /bans`, `POST /bans/{key}/lift` | any, admin | [`crate::bans`] |
//! | `GET /endpoints`, `DELETE /endpoints/{id}` | any, admin | -> [`Endpoints`] |
//! | `GET /endpoints/{id}/explanation` | any | -> [`Explanation`] |
//! | `GET /outcomes?endpoint&patch&site&after&limit` | any | -> [`Outcomes`] |
//! | `GET /compliance/patches`, `GET /compliance/sites`, `GET /compliance/endpoints` | any | -> [`ComplianceByPatch`], [`ComplianceBySite`], [`ComplianceByEndpoint`] (`Accept: text/csv` gives CSV) |
//! | `GET /audit?after&limit`, `GET /audit/export` | auditor, admin | -> [`AuditEntries`], lines of `sluice-audit` |

use crate::device::{BannedPeer, DeviceKind};
use serde::{Deserialize, Serialize};
use sluice_model::{
    ArtifactId, ByteRate, Cve, EndpointId, MemberAddresses, MemberKey, Network, PatchName, PatchRef, PatchVersion,
    PersonName, PersonRole, RingName, ScheduleWindow, Severity, Sha256, SiteName, SuspensionScope, SuspensionSubject,
    Timestamp, WindowCap, ZoneName,
};
use std::collections::BTreeSet;
use utoipa::ToSchema;

/// Who the token belongs to.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct WhoAmI {
    #[schema(value_type = String)]
    pub person: PersonName,
    #[schema(value_type = Vec<String>)]
    pub roles: Vec<PersonRole>,
    /// Where the token may change something, in words: `everywhere`, or sites and rings.
    #[serde(default)]
    pub scope: String,
    /// Id of the token.
    #[serde(default)]
    pub token: String,
    /// The first moment at which it is no longer taken.
    #[serde(default)]
    #[schema(value_type = u64)]
    pub expires_at: Timestamp,
    pub repository: String,
    /// `dev`, `standard` or `strict`, from the signed root.
    pub profile: String,
}

/// The repository at a glance.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct Status {
    pub repository: String,
    pub profile: String,
    pub version: String,
    pub timestamp_version: u64,
    /// When the newest timestamp was issued, and until when it may be served from.
    #[schema(value_type = u64)]
    pub issued_at: Timestamp,
    #[schema(value_type = u64)]
    pub lease_until: Timestamp,
    pub patches: u64,
    pub retractions: u64,
    pub sites: u64,
    pub nodes: u64,
    pub nodes_connected: u64,
    pub endpoints: u64,
    /// SHA-256 of the root metadata that enrolment tokens name.
    #[schema(value_type = String)]
    pub root_sha256: Sha256,
}

/// Creates a patch of finished uploads.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NewPatch {
    /// Same over all versions.
    #[schema(value_type = String)]
    pub name: PatchName,
    /// This version.
    #[schema(value_type = String)]
    pub version: PatchVersion,
    /// How bad it is not to have it.
    #[schema(value_type = String)]
    pub severity: Severity,
    /// What it mends.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub cves: Vec<Cve>,
    /// Patches that this one replaces.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub supersedes: Vec<PatchRef>,
    /// Finished uploads, all installed in one transaction.
    pub artifacts: Vec<NewArtifact>,
}

/// One finished upload.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NewArtifact {
    /// Id from the upload's `Location`.
    pub upload: String,
    /// File name as it will be called in the signed metadata.
    pub file_name: String,
    /// What the publisher's own machine computed; compared with what arrived.
    #[schema(value_type = String)]
    pub sha256: Sha256,
}

/// One artifact of a patch.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct Artifact {
    pub file_name: String,
    pub length: u64,
    #[schema(value_type = String)]
    pub sha256: Sha256,
    #[schema(value_type = String)]
    pub blake3: ArtifactId,
    pub chunks: u32,
    pub package: String,
    pub package_version: String,
    pub architecture: String,
}

/// State of a patch in one ring.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct RingApproval {
    #[schema(value_type = String)]
    pub ring: RingName,
    #[schema(value_type = String)]
    pub by: PersonName,
    #[schema(value_type = u64)]
    pub at: Timestamp,
    /// Version of the release role that first listed it.
    pub release_version: u64,
}

/// A patch with its artifacts and approvals.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct Patch {
    #[schema(value_type = String)]
    pub name: PatchName,
    #[schema(value_type = String)]
    pub version: PatchVersion,
    /// `draft`, `released`, `superseded` or `retracted`.
    pub state: String,
    #[schema(value_type = String)]
    pub severity: Severity,
    #[schema(value_type = Vec<String>)]
    pub cves: Vec<Cve>,
    #[schema(value_type = Vec<String>)]
    pub supersedes: Vec<PatchRef>,
    #[schema(value_type = String)]
    pub published_by: PersonName,
    #[schema(value_type = u64)]
    pub published_at: Timestamp,
    pub artifacts: Vec<Artifact>,
    pub approvals: Vec<RingApproval>,
    /// Rings whose approvers have still to sign it.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub proposed_into: Vec<RingName>,
    /// Serial of the tombstone that retracts it.
    pub retraction: Option<u64>,
}

/// Every patch, newest first.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct Patches {
    pub patches: Vec<Patch>,
}

/// Approves into a ring.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct NewApproval {
    #[schema(value_type = String)]
    pub ring: RingName,
}

/// Retracts.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct NewRetraction {
    /// 1 to 1,000 characters.
    pub reason: String,
    /// Other patches that share an artifact and are meant to go too; a shared artifact that is not named answers 409.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub also: Vec<PatchRef>,
}

/// A retraction and how far it has come.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct Retraction {
    pub serial: u64,
    #[schema(value_type = String)]
    pub patch: PatchRef,
    pub reason: String,
    #[schema(value_type = String)]
    pub by: PersonName,
    #[schema(value_type = u64)]
    pub at: Timestamp,
    #[schema(value_type = Vec<String>)]
    pub sha256: Vec<Sha256>,
    /// Nodes whose acknowledgement says that it is fenced.
    pub nodes_fenced: Vec<FencedNode>,
    /// Nodes that have not said so yet.
    #[schema(value_type = Vec<String>)]
    pub nodes_waiting: Vec<MemberKey>,
    /// Every node of the roster, each counted once.
    pub nodes: RetractionNodes,
    /// When the last lease that a waiting node may hold runs out: it serves nothing after it.
    #[schema(value_type = u64)]
    pub blocked_at_the_latest: Timestamp,
    /// Endpoints whose last word is that the patch is installed.
    #[schema(value_type = Vec<String>)]
    pub endpoints_installed: Vec<EndpointId>,
    /// Endpoints that reported the rollback.
    #[schema(value_type = Vec<String>)]
    pub endpoints_rolled_back: Vec<EndpointId>,
}

/// The nodes of the roster by what is known of them and one retraction; the counts add up to `total`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RetractionNodes {
    /// Acknowledged: committed, not served, cut, deleted.
    pub fenced: u64,
    /// Connected, and has not acknowledged yet.
    pub connected: u64,
    /// Not connected; may serve until its lease ends.
    pub offline: u64,
    /// Not connected, and every lease that it can hold has run out: it serves nothing.
    pub expired: u64,
    /// Enrolled and never heard of: it has nothing to serve.
    pub never_seen: u64,
    /// All of them.
    pub total: u64,
}

/// What would be retracted.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct RetractionScope {
    /// Other patches that are meant to go too.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub also: Vec<PatchRef>,
}

/// What a retraction would do. Nothing happened yet.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RetractionPlan {
    /// Each gets a tombstone.
    #[schema(value_type = Vec<String>)]
    pub patches: Vec<PatchRef>,
    /// Every file that would be blocked for good.
    pub artifacts: Vec<PlannedArtifact>,
    /// Patches that share a file and must be named in `also` first.
    #[schema(value_type = Vec<String>)]
    pub not_named: Vec<PatchRef>,
    /// Where endpoints would go back to, by ring.
    pub ways_back: Vec<WayBack>,
    /// Nodes that would be told.
    pub nodes: u64,
    /// Endpoints whose last word is that one of the patches is installed.
    #[schema(value_type = Vec<String>)]
    pub endpoints_installed: Vec<EndpointId>,
    /// Tombstones of the last hour.
    pub tombstones_last_hour: u64,
    /// Whether the brake asks for a second person.
    pub needs_second_person: bool,
}

/// A file that would be blocked, and who else has it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct PlannedArtifact {
    pub file_name: String,
    #[schema(value_type = String)]
    pub sha256: Sha256,
    /// Every patch that has it.
    #[schema(value_type = Vec<String>)]
    pub patches: Vec<PatchRef>,
}

/// Where a ring's endpoints would go back to.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct WayBack {
    #[schema(value_type = String)]
    pub ring: RingName,
    #[schema(value_type = String)]
    pub from: PatchRef,
    /// Nothing: they would keep it and say so.
    #[schema(value_type = Option<String>)]
    pub to: Option<PatchRef>,
}

/// Asks for a suspension; in force at once, and until two people lift it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NewSuspension {
    /// `"everything"`, `{"patch": {"name", "versions": {"from", "to"}}}` or `{"package": {...}}`.
    #[schema(value_type = Object)]
    pub subject: SuspensionSubject,
    /// `"fleet"` or `{"site": name}`.
    #[schema(value_type = Object)]
    pub scope: SuspensionScope,
    /// 1 to 1,000 characters.
    pub reason: String,
}

/// A suspension in force.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct Suspension {
    pub id: u64,
    #[schema(value_type = Object)]
    pub subject: SuspensionSubject,
    #[schema(value_type = Object)]
    pub scope: SuspensionScope,
    pub reason: String,
    #[schema(value_type = String)]
    pub by: PersonName,
    #[schema(value_type = u64)]
    pub at: Timestamp,
    /// Offered patches that it stops now, by ring and name.
    pub stops: Vec<String>,
}

/// Every suspension in force.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct Suspensions {
    pub suspensions: Vec<Suspension>,
}

/// Asks to lift a suspension; the second person's call does it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NewLift {
    /// 1 to 1,000 characters, for the audit log.
    pub reason: String,
}

/// Asks to reinstate a retracted patch in one ring; the second person's call does it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NewReinstatement {
    /// Serial of the retraction that is to be lifted.
    pub serial: u64,
    /// Where.
    #[schema(value_type = String)]
    pub ring: RingName,
    /// 1 to 1,000 characters; signed into the reinstatement.
    pub reason: String,
}

/// The answer to what may need two people.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Asked<T> {
    /// Done (200).
    Done(T),
    /// Not yet (202).
    Waiting(WaitingRequest),
}

/// Nothing happened yet: another person must ask for the same.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct WaitingRequest {
    pub id: String,
    pub kind: String,
    pub subject: String,
    #[schema(value_type = String)]
    pub by: PersonName,
    #[schema(value_type = u64)]
    pub expires_at: Timestamp,
    /// What is missing, in words.
    pub missing: String,
}

/// A node that acknowledged a retraction.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct FencedNode {
    #[schema(value_type = String)]
    pub node: MemberKey,
    pub name: String,
    #[schema(value_type = u64)]
    pub at: Timestamp,
}

/// Every retraction, newest first.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct Retractions {
    pub retractions: Vec<Retraction>,
}

/// Adds a site.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NewSite {
    /// Its name.
    #[schema(value_type = String)]
    pub name: SiteName,
    /// Networks in CIDR notation.
    #[schema(value_type = Vec<String>)]
    pub boundaries: Vec<Network>,
    /// Limits.
    #[serde(default)]
    pub limits: NewSiteLimits,
}

/// Caps of a site; an absent one is no cap. Takes effect with the next signed policy.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct NewSiteLimits {
    /// All nodes together, over the WAN link, bytes per second.
    #[serde(default)]
    #[schema(value_type = Option<u64>)]
    pub wan_bytes_per_sec: Option<ByteRate>,
    /// Each node, to endpoints and peers, bytes per second.
    #[serde(default)]
    #[schema(value_type = Option<u64>)]
    pub serve_bytes_per_sec: Option<ByteRate>,
    /// Rings that plain clients from the site's boundaries may have; `None`: the repository's default (the last ring).
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    pub plain_rings: Option<Vec<RingName>>,
}

/// When the WAN link of a site may be used otherwise than its cap says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Schedule {
    /// IANA time zone whose wall clock counts, for instance `Europe/Paris`.
    #[schema(value_type = String)]
    pub zone: ZoneName,
    /// `<days> <from>-<to> <cap>`, for instance `mon-fri 08:00-18:00 5mbit`; the cap may be `closed` (no content, only
    /// metadata and reports) or `uncapped`. The first one that is open counts.
    #[schema(value_type = Vec<String>)]
    pub windows: Vec<ScheduleWindow>,
}

/// A site and what its link carried.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct Site {
    #[schema(value_type = String)]
    pub name: SiteName,
    #[schema(value_type = Vec<String>)]
    pub boundaries: Vec<Network>,
    #[schema(value_type = Option<u64>)]
    pub wan_bytes_per_sec: Option<ByteRate>,
    #[schema(value_type = Option<u64>)]
    pub serve_bytes_per_sec: Option<ByteRate>,
    /// `None`: the cap holds at all times.
    #[serde(default)]
    pub schedule: Option<Schedule>,
    /// What holds now for content over the WAN link: a rate, `closed` or `uncapped`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub wan_now: Option<WindowCap>,
    pub nodes: u64,
    pub endpoints: u64,
    /// Exchange frames that the origin sent to the site's nodes since it started, headers and trailers included.
    pub origin_bytes: u64,
    /// Distinct chunk bytes among them: what one copy would have cost.
    pub distinct_bytes: u64,
    /// Metadata, documents and manifests sent to the site's nodes.
    pub metadata_bytes: u64,
    /// Highest bytes of `origin_bytes` and `metadata_bytes` together in any one second.
    pub wan_peak_bytes_per_sec: u64,
}

/// Every site.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct Sites {
    pub sites: Vec<Site>,
}

/// Every ring in lifecycle order.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct Rings {
    pub rings: Vec<Ring>,
}

/// A ring.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct Ring {
    #[schema(value_type = String)]
    pub name: RingName,
    /// Patches that its release role lists, retracted ones left out.
    pub patches: u64,
    pub endpoints: u64,
    /// Signatures that its release role needs.
    pub threshold: u32,
}

/// Asks for a token that enrols one device.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NewEnrolmentToken {
    /// What it enrols.
    pub kind: DeviceKind,
    /// Where.
    #[schema(value_type = String)]
    pub site: SiteName,
    /// For endpoints, and only for them.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub ring: Option<RingName>,
    /// Default 3,600.
    #[serde(default)]
    pub valid_secs: Option<u64>,
}

/// A token that enrols one device; shown once.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct EnrolmentToken {
    pub id: String,
    /// `slt1-<id>-<secret>-<first 16 bytes of sha256(root.json)>`, all hex.
    pub token: String,
    pub kind: DeviceKind,
    #[schema(value_type = String)]
    pub site: SiteName,
    #[schema(value_type = Option<String>)]
    pub ring: Option<RingName>,
    #[schema(value_type = u64)]
    pub expires_at: Timestamp,
    /// Base URL of the repository for `join` and `enrol`.
    pub repository_url: String,
}

/// Asks for a person's token.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct NewPersonToken {
    #[schema(value_type = String)]
    pub person: PersonName,
    #[schema(value_type = Vec<String>)]
    pub roles: Vec<PersonRole>,
    /// Only what touches these sites and no other; absent is everywhere.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    pub sites: Option<BTreeSet<SiteName>>,
    /// Only what touches these rings and no other; absent is every ring.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    pub rings: Option<BTreeSet<RingName>>,
    /// Default 90 days.
    #[serde(default)]
    pub valid_secs: Option<u64>,
}

/// A person's token; shown once.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct PersonToken {
    pub id: String,
    /// `slp1-<id>-<secret>`, hex.
    pub token: String,
    #[schema(value_type = String)]
    pub person: PersonName,
    #[schema(value_type = Vec<String>)]
    pub roles: Vec<PersonRole>,
    #[schema(value_type = u64)]
    pub expires_at: Timestamp,
}

/// A node as the repo server sees it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct Node {
    #[schema(value_type = String)]
    pub key: MemberKey,
    pub name: String,
    #[schema(value_type = String)]
    pub site: SiteName,
    /// `connected` (overlay link up), `offline` or `never-seen`.
    pub link: String,
    #[schema(value_type = Option<u64>)]
    pub last_status_at: Option<Timestamp>,
    #[schema(value_type = Object)]
    pub addresses: MemberAddresses,
    pub version: String,
    pub timestamp_version: u64,
    pub fenced_serial: u64,
    pub origin_bytes: u64,
    pub peer_bytes: u64,
    pub peer_served_bytes: u64,
    pub served_bytes: u64,
    pub metadata_bytes: u64,
    pub chunks_led: u64,
    pub corrupt_chunks: u64,
    pub stored_bytes: u64,
    pub spooled_reports: u64,
    pub banned: Vec<BannedPeer>,
    pub trouble: Option<String>,
    /// Endpoints that say that it took their reports and let none through, in the last seven days.
    #[serde(default)]
    pub withheld: Vec<WithheldReports>,
}

/// An endpoint's word about a node that took its reports, through which none came back acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct WithheldReports {
    #[schema(value_type = String)]
    pub endpoint: EndpointId,
    pub endpoint_name: String,
    /// Reports that had to go another way.
    pub reports: u64,
    /// When the endpoint's word arrived.
    #[schema(value_type = u64)]
    pub at: Timestamp,
}

/// Every node.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct Nodes {
    pub nodes: Vec<Node>,
}

/// An endpoint.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct Endpoint {
    #[schema(value_type = String)]
    pub id: EndpointId,
    pub name: String,
    #[schema(value_type = String)]
    pub site: SiteName,
    #[schema(value_type = String)]
    pub ring: RingName,
    /// `active`, `quarantined` or `revoked`.
    pub state: String,
    #[schema(value_type = u64)]
    pub enrolled_at: Timestamp,
    #[schema(value_type = Option<u64>)]
    pub last_report_at: Option<Timestamp>,
    /// It was silent for too long, or never heard: its compliance is unknown.
    #[serde(default)]
    pub is_silent: bool,
    /// How often its key enrolled; its reports are numbered anew each time.
    #[serde(default)]
    pub epoch: u32,
    /// Reports that count, without a gap, in this epoch.
    #[serde(default)]
    pub reports: u64,
    /// Reports that wait for an earlier one that has not come.
    #[serde(default)]
    pub waiting_reports: u64,
    /// Why nothing that it says is believed, when that is so.
    #[serde(default)]
    pub quarantine: Option<EndpointQuarantine>,
}

/// Why an endpoint's reports are not believed, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct EndpointQuarantine {
    /// `cloned` or `altered`.
    pub kind: String,
    /// In words.
    pub reason: String,
    /// The first number of the chain that is in doubt; nothing from it on counts.
    pub seq: u64,
    #[schema(value_type = u64)]
    pub since: Timestamp,
    /// What to do.
    pub remedy: String,
}

/// Every endpoint.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct Endpoints {
    pub endpoints: Vec<Endpoint>,
}

/// One outcome report, verified and counted.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct Outcome {
    /// Position in the store; `after` of the next page.
    pub position: u64,
    #[schema(value_type = String)]
    pub endpoint: EndpointId,
    pub endpoint_name: String,
    #[schema(value_type = String)]
    pub site: SiteName,
    #[schema(value_type = String)]
    pub ring: RingName,
    pub epoch: u32,
    pub seq: u64,
    #[schema(value_type = Option<String>)]
    pub patch: Option<PatchRef>,
    /// `installed`, `failed`, `rolled_back`, `rollback_failed`, `blocked` or `heartbeat`.
    pub outcome: String,
    /// Class of a failure, for instance `dependency`.
    pub class: Option<String>,
    /// What the package manager said.
    pub detail: String,
    /// Versions by package before and after.
    pub before: Vec<PackageState>,
    pub after: Vec<PackageState>,
    /// Nodes that the bytes came from, and how many.
    pub sources: Vec<Source>,
    pub duration_ms: u64,
    /// By the device's clock.
    #[schema(value_type = u64)]
    pub device_time: Timestamp,
    #[schema(value_type = u64)]
    pub received_at: Timestamp,
}

/// A package and its version.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct PackageState {
    pub package: String,
    /// `None`: not installed.
    pub version: Option<String>,
}

/// Where an endpoint's bytes came from.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct Source {
    #[schema(value_type = String)]
    pub node: MemberKey,
    pub bytes: u64,
}

/// A page of outcomes, oldest first.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct Outcomes {
    pub outcomes: Vec<Outcome>,
    /// `after` of the next page, when there is one.
    pub next: Option<u64>,
    /// Endpoints that the filter is about and whose reports are not believed, with what to do; on the first page only.
    #[serde(default)]
    pub quarantined: Vec<QuarantinedEndpoint>,
}

/// An endpoint in quarantine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct QuarantinedEndpoint {
    #[schema(value_type = String)]
    pub endpoint: EndpointId,
    pub endpoint_name: String,
    #[serde(flatten)]
    pub quarantine: EndpointQuarantine,
}

/// Counts of endpoints by compliance state. They add up to `endpoints`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct ComplianceCounts {
    pub endpoints: u64,
    /// Proven installed.
    pub installed: u64,
    /// Applicable and not installed.
    pub missing: u64,
    pub failed: u64,
    /// Installed and since retracted.
    pub installed_retracted: u64,
    pub rolled_back: u64,
    /// No fresh word from the endpoint.
    pub unknown: u64,
}

/// Compliance of one patch in one ring.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct PatchCompliance {
    #[schema(value_type = String)]
    pub patch: PatchRef,
    #[schema(value_type = String)]
    pub ring: RingName,
    #[schema(value_type = String)]
    pub severity: Severity,
    pub state: String,
    #[serde(flatten)]
    pub counts: ComplianceCounts,
}

/// By patch and ring.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct ComplianceByPatch {
    #[schema(value_type = u64)]
    pub as_of: Timestamp,
    pub rows: Vec<PatchCompliance>,
}

/// Compliance of one site over the patches that are offered to its endpoints.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct SiteCompliance {
    #[schema(value_type = String)]
    pub site: SiteName,
    /// Endpoint and offered patch pairs.
    #[serde(flatten)]
    pub counts: ComplianceCounts,
}

/// By site.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct ComplianceBySite {
    #[schema(value_type = u64)]
    pub as_of: Timestamp,
    pub rows: Vec<SiteCompliance>,
}

/// One endpoint and one patch.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct EndpointCompliance {
    #[schema(value_type = String)]
    pub endpoint: EndpointId,
    pub name: String,
    #[schema(value_type = String)]
    pub site: SiteName,
    #[schema(value_type = String)]
    pub ring: RingName,
    #[schema(value_type = String)]
    pub patch: PatchRef,
    /// `installed`, `missing`, `failed`, `installed_retracted`, `rolled_back` or `unknown`.
    pub state: String,
    pub class: Option<String>,
    pub before: Vec<PackageState>,
    pub after: Vec<PackageState>,
    pub sources: Vec<Source>,
    pub duration_ms: u64,
    #[schema(value_type = Option<u64>)]
    pub at: Option<Timestamp>,
}

/// By endpoint and patch.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct ComplianceByEndpoint {
    #[schema(value_type = u64)]
    pub as_of: Timestamp,
    pub rows: Vec<EndpointCompliance>,
}

/// One line of the audit log.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct AuditEntry {
    /// From 1, without gaps.
    pub seq: u64,
    #[schema(value_type = u64)]
    pub at: Timestamp,
    /// A person, `server`, or a device's key.
    pub who: String,
    /// For instance `patch.approve`.
    pub action: String,
    /// What it was done to.
    pub subject: String,
    /// `done` or `refused`.
    pub result: String,
    pub detail: String,
    /// BLAKE3 over the previous line's hash and this line, hex.
    pub hash: String,
}

/// A page of audit lines, oldest first.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct AuditEntries {
    pub entries: Vec<AuditEntry>,
    pub next: Option<u64>,
}

/// Why an endpoint has what it has: the same words that its agent prints.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct Explanation {
    #[schema(value_type = String)]
    pub endpoint: EndpointId,
    pub name: String,
    #[schema(value_type = String)]
    pub site: SiteName,
    #[schema(value_type = String)]
    pub ring: RingName,
    /// One line a patch, in the agent's words.
    pub lines: Vec<String>,
}
