//! Requests that wait for a second person.

use serde::{Deserialize, Serialize};
use sluice_model::{PersonName, Timestamp};
use utoipa::ToSchema;

/// One of them. Also the body of a 202: the operation is not done yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct PendingRequest {
    pub id: String,
    /// What is to be done, for instance `suspension.lift`.
    pub kind: String,
    /// To what.
    pub subject: String,
    #[schema(value_type = String)]
    pub by: PersonName,
    #[schema(value_type = u64)]
    pub at: Timestamp,
    /// The first moment at which it can no longer be confirmed.
    #[schema(value_type = u64)]
    pub expires_at: Timestamp,
    /// What is missing, in words.
    pub missing: String,
}

/// Every request that can still be confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct PendingRequests {
    pub requests: Vec<PendingRequest>,
}
