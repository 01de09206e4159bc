//! Bans of members that sent wrong bytes: what a node tells the origin, and what people see.
//!
//! | method and path | who | body -> answer |
//! |---|---|---|
//! | `POST /device/v1/bans` | node -> origin | [`BanReport`] -> 204, or the problem `evidence-refused` |
//! | `GET /v1/bans` | any role | -> [`BanList`] |
//! | `POST /v1/bans/{key}/lift` | admin | [`NewLift`] -> 204 |

use serde::{Deserialize, Serialize};
use sluice_model::{ArtifactId, BanEvidence, MemberKey, PersonName, SiteName, Timestamp};
use utoipa::ToSchema;

/// A node banned `peer` and can prove why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanReport {
    /// Whom.
    pub peer: MemberKey,
    /// The statement that the peer signed, as it came.
    pub evidence: BanEvidence,
    /// How often bans of the peer had been lifted when this one was made, as far as the node knew.
    #[serde(default)]
    pub lifts: u32,
}

/// Lifts a ban.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NewLift {
    /// Why, at most 1,000 characters.
    pub reason: String,
}

/// A member that is or was banned in the whole fleet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct BanRow {
    #[schema(value_type = String)]
    pub key: MemberKey,
    pub name: String,
    #[schema(value_type = Option<String>)]
    pub site: Option<SiteName>,
    #[schema(value_type = u64)]
    pub since: Timestamp,
    /// The node that brought the evidence.
    #[schema(value_type = String)]
    pub accuser: MemberKey,
    pub accuser_name: String,
    /// The member signed that it sent other bytes than these.
    #[schema(value_type = String)]
    pub artifact: ArtifactId,
    pub chunk: u32,
    /// The statement and its signature, standard base64.
    #[schema(value_type = Object)]
    pub evidence: BanEvidence,
    /// Set when the ban was lifted.
    pub lifted: Option<Lift>,
}

/// The end of a ban.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct Lift {
    #[schema(value_type = u64)]
    pub at: Timestamp,
    #[schema(value_type = String)]
    pub by: PersonName,
    pub reason: String,
}

/// A node that sent evidence which convicted nobody: it is broken, or it lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct FalseEvidence {
    #[schema(value_type = String)]
    pub node: MemberKey,
    pub name: String,
    pub count: u64,
    #[schema(value_type = u64)]
    pub last_at: Timestamp,
    pub last_reason: String,
}

/// Every ban, those in force first, and who accused falsely.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct BanList {
    pub bans: Vec<BanRow>,
    pub false_evidence: Vec<FalseEvidence>,
}
