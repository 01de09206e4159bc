//! Who may do what: one constant matrix of roles, and the two rules that look at the thing itself.
//!
//! People are compared, not tokens: two tokens of one person are one person.

use crate::operations::Failure;
use sluice_api::problem::ProblemType;
use sluice_model::{AccessScope, PersonName, PersonRole, RingName, SiteName, Timestamp};

/// Who asks, as his token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The person.
    pub person: PersonName,
    /// Roles of this token.
    pub roles: Vec<PersonRole>,
    /// Where this token may change something.
    pub scope: AccessScope,
    /// Id of the token.
    pub token: String,
    /// The first moment at which it is no longer taken.
    pub expires_at: Timestamp,
}

/// What is asked for. Every route declares one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Reads lists, states and reports.
    Look,
    /// Replaces or ends his own token.
    OwnToken,
    /// Reads and exports the audit log.
    Audit,
    /// Uploads bytes, and looks at, uses and removes them.
    Upload,
    /// Creates a patch.
    Publish,
    /// Approves a patch into a ring.
    Approve,
    /// Retracts.
    Retract,
    /// Suspends: nothing is offered or installed until it is lifted.
    Suspend,
    /// Lifts a suspension; two people.
    Lift,
    /// Reinstates what was retracted; two people.
    Reinstate,
    /// Holds at one node or endpoint, and lets go again.
    Hold,
    /// Changes keys: root and targets ceremonies.
    Ceremony,
    /// Sites, rings, tokens, persons, nodes, endpoints.
    Administer,
}

impl Action {
    /// Whether it changes nothing, or nothing of anybody else: a scope does not limit it.
    pub fn is_personal(self) -> bool {
        matches!(self, Self::Look | Self::OwnToken | Self::Audit)
    }
}

/// The thing that an action is about, as far as the rules look at it.
#[derive(Clone, Copy, Debug)]
pub enum Resource<'a> {
    /// Not known yet: only the roles are looked at. The operation asks again with the thing itself.
    Repository,
    /// An upload of this person.
    Upload(&'a PersonName),
    /// A patch of this person in one ring, at every site.
    Release {
        /// Who published it.
        published_by: &'a PersonName,
        /// Where it is to go.
        ring: &'a RingName,
    },
    /// What a change touches; `None` is every site, or every ring.
    Reach {
        /// The one site.
        site: Option<&'a SiteName>,
        /// The one ring.
        ring: Option<&'a RingName>,
    },
}

/// Which roles may do what. An action is allowed when the token carries one of its roles.
const MATRIX: &[(Action, &[PersonRole])] = &[
    (Action::Look, &PersonRole::ALL),
    (Action::OwnToken, &PersonRole::ALL),
    (Action::Audit, &[PersonRole::Auditor, PersonRole::Admin]),
    (Action::Upload, &[PersonRole::Publisher]),
    (Action::Publish, &[PersonRole::Publisher]),
    (Action::Approve, &[PersonRole::Approver]),
    (Action::Retract, &[PersonRole::Retractor]),
    (Action::Suspend, &[PersonRole::Deployer, PersonRole::Retractor]),
    (Action::Lift, &[PersonRole::Approver]),
    (Action::Reinstate, &[PersonRole::Approver]),
    (Action::Hold, &[PersonRole::Deployer, PersonRole::Retractor]),
    (Action::Ceremony, &[PersonRole::Admin]),
    (Action::Administer, &[PersonRole::Admin]),
];

/// The roles that may do `action`.
pub fn roles_for(action: Action) -> &'static [PersonRole] {
    MATRIX.iter().find(|(known, _)| *known == action).map_or(&[], |(_, roles)| roles)
}

/// Allows `action` on `resource` or refuses with what is missing.
pub fn authorize(principal: &Principal, action: Action, resource: Resource<'_>) -> Result<(), Failure> {
    let roles = roles_for(action);
    if !roles.iter().any(|role| principal.roles.contains(role)) {
        let needed = roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(" or ");
        let held = principal.roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(", ");
        let detail = format!("this needs the role {needed}; the token of {} carries {held}", principal.person);
        return Err(Failure::refused(ProblemType::Forbidden, detail));
    }
    match resource {
        Resource::Repository => Ok(()),
        // Whether it exists is nobody else's business.
        Resource::Upload(owner) if *owner != principal.person => Err(Failure::refused(
            ProblemType::NotFound,
            "there is no such upload; it may have expired: start a new one",
        )),
        Resource::Upload(_) => Ok(()),
        Resource::Release { published_by, ring } => {
            check_other_person(principal, action, published_by)?;
            check_scope(principal, None, Some(ring))
        }
        Resource::Reach { site, ring } => check_scope(principal, site, ring),
    }
}

fn check_other_person(principal: &Principal, action: Action, publisher: &PersonName) -> Result<(), Failure> {
    if action == Action::Approve && *publisher == principal.person {
        let detail = format!("{publisher} published this patch; somebody else must approve it");
        return Err(Failure::refused(ProblemType::SeparationOfDuties, detail));
    }
    Ok(())
}

fn check_scope(principal: &Principal, site: Option<&SiteName>, ring: Option<&RingName>) -> Result<(), Failure> {
    if principal.scope.covers(site, ring) {
        return Ok(());
    }
    let site = site.map_or_else(|| "every site".to_owned(), |site| format!("site {site}"));
    let ring = ring.map_or_else(|| "every ring".to_owned(), |ring| format!("ring {ring}"));
    let detail = format!(
        "this touches {site} and {ring}; the token of {} is for {} only: ask somebody whose token covers it",
        principal.person, principal.scope
    );
    Err(Failure::refused(ProblemType::OutOfScope, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTIONS: [Action; 13] = [
        Action::Look,
        Action::OwnToken,
        Action::Audit,
        Action::Upload,
        Action::Publish,
        Action::Approve,
        Action::Retract,
        Action::Suspend,
        Action::Lift,
        Action::Reinstate,
        Action::Hold,
        Action::Ceremony,
        Action::Administer,
    ];

    fn principal(name: &str, roles: &[PersonRole]) -> Principal {
        Principal {
            person: name.parse().unwrap(),
            roles: roles.to_vec(),
            scope: AccessScope::default(),
            token: "00".into(),
            expires_at: Timestamp::default(),
        }
    }

    #[test]
    fn every_action_stands_in_the_matrix_once_and_a_token_without_roles_may_nothing() {
        for action in ACTIONS {
            assert_eq!(MATRIX.iter().filter(|(known, _)| *known == action).count(), 1, "{action:?}");
            assert!(!roles_for(action).is_empty(), "{action:?}");
            assert!(authorize(&principal("eve", &[]), action, Resource::Repository).is_err(), "{action:?}");
        }
        assert_eq!(MATRIX.len(), ACTIONS.len());
    }

    #[test]
    fn an_admin_neither_publishes_nor_approves_nor_retracts() {
        let admin = principal("ada", &[PersonRole::Admin]);
        for action in [Action::Upload, Action::Publish, Action::Approve, Action::Retract] {
            let refused = authorize(&admin, action, Resource::Repository).unwrap_err();
            assert!(refused.is(ProblemType::Forbidden), "{action:?}");
        }
        authorize(&admin, Action::Look, Resource::Repository).unwrap();
        authorize(&admin, Action::Administer, Resource::Repository).unwrap();
    }

    #[test]
    fn a_publisher_with_every_role_cannot_approve_his_own_patch() {
        let paul = principal("paul", &PersonRole::ALL);
        let (own, other) = ("paul".parse().unwrap(), "anna".parse().unwrap());
        let ring = "pilot".parse().unwrap();
        let release = |published_by| Resource::Release { published_by, ring: &ring };
        let refused = authorize(&paul, Action::Approve, release(&own)).unwrap_err();
        assert!(refused.is(ProblemType::SeparationOfDuties));
        authorize(&paul, Action::Approve, release(&other)).unwrap();
        authorize(&paul, Action::Retract, release(&own)).unwrap();
    }

    #[test]
    fn a_token_of_one_ring_or_site_reaches_nothing_beyond_it() {
        let pilot: RingName = "pilot".parse().unwrap();
        let production: RingName = "production".parse().unwrap();
        let lyon: SiteName = "lyon".parse().unwrap();
        let paul: PersonName = "paul".parse().unwrap();
        let release = |ring| Resource::Release { published_by: &paul, ring };
        let mut anna = principal("anna", &PersonRole::ALL);
        anna.scope.rings = Some([pilot.clone()].into());
        authorize(&anna, Action::Approve, release(&pilot)).unwrap();
        for resource in [
            release(&production),
            Resource::Reach { site: None, ring: None },
            Resource::Reach { site: Some(&lyon), ring: None },
        ] {
            let refused = authorize(&anna, Action::Approve, resource).unwrap_err();
            assert!(refused.is(ProblemType::OutOfScope), "{resource:?}: {refused}");
        }
        authorize(&anna, Action::Administer, Resource::Reach { site: Some(&lyon), ring: Some(&pilot) }).unwrap();
    }

    #[test]
    fn an_upload_of_somebody_else_does_not_exist() {
        let paul = principal("paul", &[PersonRole::Publisher]);
        let other = "anna".parse().unwrap();
        assert!(authorize(&paul, Action::Upload, Resource::Upload(&other)).unwrap_err().is(ProblemType::NotFound));
    }
}
