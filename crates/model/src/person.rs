//! What a person may do in the admin API.

use crate::{RingName, SiteName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// A role that a person's token carries. One token may carry several. Every role reads states and lists; what each may
/// do beyond that is the matrix of the repo server.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PersonRole {
    /// Reads, and nothing else.
    Viewer,
    /// Uploads artifacts and creates patches; never approves a patch that he published.
    Publisher,
    /// Approves a patch into a ring; is one of the two who lift a suspension or reinstate.
    Approver,
    /// Steers what is released: suspends, holds.
    Deployer,
    /// Retracts and suspends.
    Retractor,
    /// Reads the audit log.
    Auditor,
    /// Sites, rings, enrolment tokens, persons' tokens, key ceremonies.
    Admin,
}

impl PersonRole {
    /// Every role.
    pub const ALL: [Self; 7] =
        [Self::Viewer, Self::Publisher, Self::Approver, Self::Deployer, Self::Retractor, Self::Auditor, Self::Admin];

    /// The lower-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Publisher => "publisher",
            Self::Approver => "approver",
            Self::Deployer => "deployer",
            Self::Retractor => "retractor",
            Self::Auditor => "auditor",
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
            rule: "viewer, publisher, approver, deployer, retractor, auditor or admin",
            text: text.chars().take(80).collect(),
        })
    }
}

/// Where a person's token may change something. `None` is everywhere. What reaches beyond is refused whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessScope {
    /// Only what touches these sites and no other.
    pub sites: Option<BTreeSet<SiteName>>,
    /// Only what touches these rings and no other.
    pub rings: Option<BTreeSet<RingName>>,
}

impl AccessScope {
    /// Whether it is limited at all.
    pub fn is_everywhere(&self) -> bool {
        self.sites.is_none() && self.rings.is_none()
    }

    /// Whether a change that touches `site` and `ring` lies inside; `None` stands for all of them.
    pub fn covers(&self, site: Option<&SiteName>, ring: Option<&RingName>) -> bool {
        let is_inside = |sites: &BTreeSet<SiteName>| site.is_some_and(|site| sites.contains(site));
        let is_in_ring = |rings: &BTreeSet<RingName>| ring.is_some_and(|ring| rings.contains(ring));
        self.sites.as_ref().is_none_or(is_inside) && self.rings.as_ref().is_none_or(is_in_ring)
    }
}

impl fmt::Display for AccessScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn names<T: fmt::Display>(names: &BTreeSet<T>) -> String {
            names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        }
        match (&self.sites, &self.rings) {
            (None, None) => f.pad("everywhere"),
            (Some(sites), None) => write!(f, "sites {}", names(sites)),
            (None, Some(rings)) => write!(f, "rings {}", names(rings)),
            (Some(sites), Some(rings)) => write!(f, "sites {}; rings {}", names(sites), names(rings)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_covers_what_it_names_and_nothing_that_reaches_beyond() {
        let lyon: SiteName = "lyon".parse().unwrap();
        let brno: SiteName = "brno".parse().unwrap();
        let pilot: RingName = "pilot".parse().unwrap();
        let scope = AccessScope { sites: Some([lyon.clone()].into()), rings: None };
        assert!(scope.covers(Some(&lyon), None) && scope.covers(Some(&lyon), Some(&pilot)));
        assert!(!scope.covers(Some(&brno), None) && !scope.covers(None, Some(&pilot)) && !scope.covers(None, None));
        let both = AccessScope { rings: Some([pilot.clone()].into()), ..scope };
        assert!(both.covers(Some(&lyon), Some(&pilot)));
        assert!(!both.covers(Some(&lyon), None), "the other rings of the site are touched too");
        assert!(AccessScope::default().covers(None, None));
        assert_eq!(both.to_string(), "sites lyon; rings pilot");
    }

    #[test]
    fn every_role_reads_back_from_its_name_and_no_other_text_does() {
        for role in PersonRole::ALL {
            assert_eq!(role.as_str().parse::<PersonRole>().unwrap(), role);
        }
        for text in ["", "Admin", "root", "viewer "] {
            assert!(text.parse::<PersonRole>().is_err(), "{text:?}");
        }
    }
}
