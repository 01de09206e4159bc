//! What a person may do in the admin API.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A role that a person's token carries. One token may carry several.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PersonRole {
    /// Uploads artifacts and creates patches; never approves a patch that he published.
    Publisher,
    /// Approves a patch into a ring.
    Approver,
    /// Retracts.
    Retractor,
    /// Sites, rings, enrolment tokens, persons' tokens.
    Admin,
}

impl PersonRole {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Publisher, Self::Approver, Self::Retractor, Self::Admin];

    /// The lower-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publisher => "publisher",
            Self::Approver => "approver",
            Self::Retractor => "retractor",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for PersonRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for PersonRole {
    type Err = crate::NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| crate::NameError {
            kind: "role",
            rule: "publisher, approver, retractor or admin",
            text: text.chars().take(80).collect(),
        })
    }
}
