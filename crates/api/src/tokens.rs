//! Tokens that exist, without their secrets.

use serde::{Deserialize, Serialize};
use sluice_model::{PersonName, PersonRole, RingName, SiteName, Timestamp};
use std::collections::BTreeSet;
use utoipa::ToSchema;

/// One token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct TokenRow {
    pub id: String,
    /// `person`, `node` or `endpoint`.
    pub kind: String,
    /// Whose, for a person's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub person: Option<PersonName>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub roles: Vec<PersonRole>,
    /// Where it counts; absent is everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub sites: Option<BTreeSet<SiteName>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub rings: Option<BTreeSet<RingName>>,
    pub created_by: String,
    #[schema(value_type = u64)]
    pub created_at: Timestamp,
    #[schema(value_type = u64)]
    pub expires_at: Timestamp,
    /// `valid`, `expired`, `revoked` or `used`.
    pub state: String,
}

/// Every token that is kept: valid ones, and for a while those that no longer are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct Tokens {
    pub tokens: Vec<TokenRow>,
}

/// Which tokens were ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct RevokedTokens {
    pub ids: Vec<String>,
}
