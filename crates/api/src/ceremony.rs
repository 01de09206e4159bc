//! Key ceremonies, proposals of rings that need an approver's key, and the expiry calendar (below `/v1`).
//!
//! | method and path | role | body -> answer |
//! |---|---|---|
//! | `GET /ceremonies` | admin | -> [`CeremonyState`] |
//! | `POST /ceremonies` | admin | [`CeremonyFiles`] -> [`CeremonyDone`] |
//! | `POST /ceremonies/keys` | admin | [`NewServerKey`] -> [`ServerKey`] |
//! | `GET /rings/{ring}/proposal` | any | -> [`Proposal`] |
//! | `POST /rings/{ring}/proposal/signatures` | approver | [`SignedProposal`] -> [`ProposalOutcome`] |
//! | `GET /calendar` | any | -> [`Calendar`] |

use serde::{Deserialize, Serialize};
use sluice_model::{PatchRef, PersonName, RingName, Timestamp};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// What a draft of root or targets begins with.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CeremonyState {
    /// `x-repo-id`.
    pub repository: String,
    /// `dev`, `standard` or `strict`.
    pub profile: String,
    /// Roles that cannot go on without a person's signature, with how many signatures the server lacks for each.
    pub needs_people: BTreeMap<String, u32>,
    /// Public keys of which the server holds the secret, by role: 64 hexadecimal characters each.
    pub server_keys: BTreeMap<String, Vec<String>>,
}

/// Files that people signed, to come into force together.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CeremonyFiles {
    /// File name (`2.root.json`, `5.targets.json`, `7.rel-pilot.json`) to the TUF file itself.
    #[schema(value_type = Object)]
    pub files: BTreeMap<String, serde_json::Value>,
}

/// What came into force.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CeremonyDone {
    /// Names of the files that people signed.
    pub published: Vec<String>,
    /// Names of the files that the server signed anew because of them.
    pub signed_by_server: Vec<String>,
    /// Ids of the server's keys that lost their role and were deleted.
    pub keys_deleted: Vec<String>,
}

/// A further key of the server, to be named by a draft.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NewServerKey {
    /// For which role: `timestamp`, `snapshot`, `retractions`, `fleet`, `policy` or `rel-<ring>`.
    pub role: String,
}

/// A key of which the server holds the secret.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct ServerKey {
    pub role: String,
    pub keyid: String,
    /// 64 hexadecimal characters.
    pub public: String,
}

/// Who may sign a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct RoleSigner {
    pub keyid: String,
    /// The person who holds it, as root or targets name him.
    pub name: Option<String>,
    pub is_server: bool,
    /// Whether a signature of it is there already.
    pub has_signed: bool,
}

/// The next version of a ring's release role, waiting for signatures.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Proposal {
    /// Which ring.
    #[schema(value_type = String)]
    pub ring: RingName,
    /// Version that is served now.
    pub version: u64,
    /// How many must sign.
    pub threshold: u32,
    /// Who may.
    pub signers: Vec<RoleSigner>,
    /// The patches that it adds. Nothing here is believed by who signs: the file is read instead.
    pub patches: Vec<ProposedPatch>,
    /// `N.rel-<ring>.json`.
    pub file_name: String,
    /// The TUF file with the signatures so far.
    #[schema(value_type = Object)]
    pub file: serde_json::Value,
}

/// A patch that waits for an approver's signature.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct ProposedPatch {
    #[schema(value_type = String)]
    pub patch: PatchRef,
    #[schema(value_type = String)]
    pub published_by: PersonName,
    #[schema(value_type = String)]
    pub proposed_by: PersonName,
    #[schema(value_type = u64)]
    pub proposed_at: Timestamp,
}

/// A proposal with a signature more.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SignedProposal {
    /// The TUF file as it was proposed, signed.
    #[schema(value_type = Object)]
    pub file: serde_json::Value,
}

/// What became of it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ProposalOutcome {
    /// Which ring.
    #[schema(value_type = String)]
    pub ring: RingName,
    /// Whether it is signed and served now.
    pub is_published: bool,
    /// Its version.
    pub version: u64,
    /// How many signatures are missing.
    pub missing: u32,
    /// The patches that it adds.
    #[schema(value_type = Vec<String>)]
    pub patches: Vec<PatchRef>,
}

/// Who must sign what until when, soonest first.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct Calendar {
    pub roles: Vec<CalendarRow>,
}

/// One role of the calendar.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CalendarRow {
    /// Which role.
    pub role: String,
    /// Its version.
    pub version: u64,
    /// When it runs out.
    #[schema(value_type = u64)]
    pub expires_at: Timestamp,
    /// `quiet`, `30-days`, `14-days`, `7-days`, `1-day` or `lapsed`.
    pub nearness: String,
    /// Whether the server renews it by itself.
    pub is_renewed_by_server: bool,
    /// How many must sign.
    pub threshold: u32,
    /// The persons who may sign it; keys without a name are named by the beginning of their id.
    pub people: Vec<String>,
    /// What stops when it runs out.
    pub stops: String,
    /// What to do.
    pub next: String,
}
