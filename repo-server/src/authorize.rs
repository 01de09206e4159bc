//! Who may do what: one constant matrix of roles, and the two rules that look at the thing itself.
//!
//! People are compared, not tokens: two tokens of one person are one person.

use crate::operations::Failure;
use sluice_api::problem::ProblemType;
use sluice_model::{PersonName, PersonRole};

/// Who asks, as his token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The person.
    pub person: PersonName,
    /// Roles of this token.
    pub roles: Vec<PersonRole>,
}

/// What is asked for. Every route declares one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Reads lists, states and reports.
    Look,
    /// Uploads bytes, and looks at, uses and removes them.
    Upload,
    /// Creates a patch.
    Publish,
    /// Approves a patch into a ring.
    Approve,
    /// Retracts.
    Retract,
    /// Sites, rings, tokens, persons, nodes, endpoints.
    Administer,
}

/// The thing that an action is about, as far as the rules look at it.
#[derive(Clone, Copy, Debug)]
pub enum Resource<'a> {
    /// Nothing in particular.
    Repository,
    /// An upload of this person.
    Upload(&'a PersonName),
    /// A patch that this person published.
    Patch(&'a PersonName),
}

/// Which roles may do what. An action is allowed when the token carries one of its roles.
const MATRIX: &[(Action, &[PersonRole])] = &[
    (Action::Look, &PersonRole::ALL),
    (Action::Upload, &[PersonRole::Publisher]),
    (Action::Publish, &[PersonRole::Publisher]),
    (Action::Approve, &[PersonRole::Approver]),
    (Action::Retract, &[PersonRole::Retractor]),
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
    match (action, resource) {
        (Action::Approve, Resource::Patch(publisher)) if *publisher == principal.person => {
            let detail = format!("{publisher} published this patch; somebody else must approve it");
            Err(Failure::refused(ProblemType::SeparationOfDuties, detail))
        }
        // Whether it exists is nobody else's business.
        (_, Resource::Upload(owner)) if *owner != principal.person => Err(Failure::refused(
            ProblemType::NotFound,
            "there is no such upload; it may have expired: start a new one",
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTIONS: [Action; 6] =
        [Action::Look, Action::Upload, Action::Publish, Action::Approve, Action::Retract, Action::Administer];

    fn principal(name: &str, roles: &[PersonRole]) -> Principal {
        Principal { person: name.parse().unwrap(), roles: roles.to_vec() }
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
        assert!(
            authorize(&paul, Action::Approve, Resource::Patch(&own)).unwrap_err().is(ProblemType::SeparationOfDuties)
        );
        authorize(&paul, Action::Approve, Resource::Patch(&other)).unwrap();
        authorize(&paul, Action::Retract, Resource::Patch(&own)).unwrap();
    }

    #[test]
    fn an_upload_of_somebody_else_does_not_exist() {
        let paul = principal("paul", &[PersonRole::Publisher]);
        let other = "anna".parse().unwrap();
        assert!(authorize(&paul, Action::Upload, Resource::Upload(&other)).unwrap_err().is(ProblemType::NotFound));
    }
}
