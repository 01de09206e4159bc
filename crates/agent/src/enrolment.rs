//! What enrolment left behind: where this endpoint belongs.

use serde::{Deserialize, Serialize};
use sluice_model::{EndpointId, RingName, SiteName};
use sluice_state_store::{StateError, StateStore};

const KEY: &str = "enrolment";

/// Kept in the state store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolment {
    /// Base URL of the repository: metadata is read there when no node of the site answers.
    pub repository: String,
    /// Our site.
    pub site: SiteName,
    /// The ring at enrolment, for people; the signed endpoint list decides.
    pub ring: Option<RingName>,
    /// The key that enrolled; `None`: an older version did not note it.
    #[serde(default)]
    pub endpoint: Option<EndpointId>,
    /// Number of the report chain: one more at each enrolment of the key.
    pub epoch: u32,
    /// Somebody said that a development root is fine here.
    pub accepts_dev_root: bool,
}

impl Enrolment {
    /// The stored one; `None` before enrolment.
    pub fn load(store: &StateStore) -> Result<Option<Self>, StateError> {
        // A value that cannot be read is of another version of this program: enrolling again mends it.
        Ok(store.get(KEY)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// Stores it, durably.
    pub fn save(&self, store: &StateStore) -> Result<(), StateError> {
        store.put(KEY, &serde_json::to_vec(self).expect("an enrolment is JSON"))
    }
}
