//! Operations that need two people: the first one's call is kept as a request, the second one's call completes it.
//!
//! It decides whether a request is new, complete or refused; what is then done is the operation's. It runs
//! inside the operation's own transaction, so a request is used up exactly when its operation happened.
//!
//! Invariants
//! - People are counted, not tokens: whoever asked cannot confirm, with whatever token.
//! - What is confirmed is the payload that was asked for, byte for byte.
//! - A request that ran out confirms nothing.

use crate::authorize::Principal;
use crate::operations::{Failure, audited};
use sluice_api::problem::ProblemType;
use sluice_model::{PersonName, Timestamp};
use sluice_repo_store::requests::{self, RequestRecord};
use sluice_repo_store::{Reads, WriteTx, audit};
use std::time::Duration;

/// How long a request waits for its second person: a weekend.
pub const REQUEST_VALID: Duration = Duration::from_secs(72 * 3_600);
/// Requests that may wait at once; 64 KiB each make 16 MiB at most.
pub const REQUESTS_MAX: usize = 256;
/// Bytes of a payload.
pub const PAYLOAD_BYTES_MAX: usize = 64 << 10;

/// What needs two people.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// Also the action of the audit lines, for instance `suspension.lift`.
    pub kind: &'static str,
    /// To what, in words.
    pub subject: String,
    /// What the operation needs to do it; both people must have asked for exactly these bytes.
    pub payload: Vec<u8>,
    /// Who may neither ask nor confirm.
    pub barred: Vec<PersonName>,
}

/// What came of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Another person has to ask for the same. Answer 202.
    Waiting(RequestRecord),
    /// Another person had asked for the same: do it now, in this transaction.
    Ready(RequestRecord),
}

/// One person asks. When another person's request for the same kind, subject and payload waits, it is used up and the
/// answer is `Ready`; asking twice oneself changes nothing.
pub fn ask(tx: &WriteTx, principal: &Principal, proposal: Proposal, now: Timestamp) -> Result<Asked, Failure> {
    if proposal.payload.len() > PAYLOAD_BYTES_MAX {
        let detail =
            format!("a request for a second person is at most {PAYLOAD_BYTES_MAX} bytes; ask for less at once");
        return Err(Failure::refused(ProblemType::TooLarge, detail));
    }
    check_not_barred(principal, proposal.kind, &proposal.barred)?;
    let waiting = sweep(tx, now)?;
    let same = |request: &&RequestRecord| {
        request.kind == proposal.kind && request.subject == proposal.subject && request.payload == proposal.payload
    };
    if let Some(request) = waiting.iter().find(same) {
        if request.by == principal.person {
            return Ok(Asked::Waiting(request.clone()));
        }
        return use_up(tx, principal, request.clone(), proposal.kind).map(Asked::Ready);
    }
    if waiting.len() >= REQUESTS_MAX {
        let detail = format!("{REQUESTS_MAX} requests wait for a second person; confirm or withdraw some of them");
        return Err(Failure::refused(ProblemType::Full, detail));
    }
    let request = RequestRecord {
        id: hex::encode(audited::random::<8>()?),
        kind: proposal.kind.to_owned(),
        subject: proposal.subject,
        payload: proposal.payload,
        by: principal.person.clone(),
        barred: proposal.barred,
        at: now,
        expires_at: now.plus(REQUEST_VALID),
    };
    requests::put(tx, &request)?;
    let detail = format!("asked for {} as request {}; a second person must confirm", proposal.kind, request.id);
    audit::append(tx, audited::done(&principal.person, "request.open", &request.subject, detail))?;
    Ok(Asked::Waiting(request))
}

/// Takes a request back: whoever asked, or an admin.
pub fn withdraw(tx: &WriteTx, principal: &Principal, id: &str) -> Result<(), Failure> {
    let request = requests::get(tx, id)?.ok_or_else(|| no_such_request(id))?;
    let is_admin = principal.roles.contains(&sluice_model::PersonRole::Admin) && principal.scope.is_everywhere();
    if request.by != principal.person && !is_admin {
        let detail = format!("{} asked for this; he or an admin may withdraw it", request.by);
        return Err(Failure::refused(ProblemType::Forbidden, detail));
    }
    requests::remove(tx, id)?;
    let detail = format!("withdrew request {id} of {} for {}", request.by, request.kind);
    audit::append(tx, audited::done(&principal.person, "request.withdraw", &request.subject, detail))?;
    Ok(())
}

/// Requests that can still be confirmed.
pub fn waiting(tx: &impl Reads, now: Timestamp) -> Result<Vec<RequestRecord>, Failure> {
    Ok(requests::list(tx)?.into_iter().filter(|request| now < request.expires_at).collect())
}

fn use_up(
    tx: &WriteTx,
    principal: &Principal,
    request: RequestRecord,
    kind: &'static str,
) -> Result<RequestRecord, Failure> {
    if request.by == principal.person {
        let detail = format!("{} asked for this himself; a second person must confirm it", request.by);
        return Err(Failure::refused(ProblemType::SeparationOfDuties, detail));
    }
    check_not_barred(principal, kind, &request.barred)?;
    requests::remove(tx, &request.id)?;
    let detail = format!("confirmed request {} of {} for {kind}", request.id, request.by);
    audit::append(tx, audited::done(&principal.person, "request.confirm", &request.subject, detail))?;
    Ok(request)
}

fn check_not_barred(principal: &Principal, kind: &str, barred: &[PersonName]) -> Result<(), Failure> {
    if barred.contains(&principal.person) {
        let detail = format!("{} may not take part in {kind} of what is his own; ask two others", principal.person);
        return Err(Failure::refused(ProblemType::SeparationOfDuties, detail));
    }
    Ok(())
}

/// Removes what ran out and gives the rest.
fn sweep(tx: &WriteTx, now: Timestamp) -> Result<Vec<RequestRecord>, Failure> {
    let (waiting, over): (Vec<_>, Vec<_>) =
        requests::list(tx)?.into_iter().partition(|request| now < request.expires_at);
    for request in over {
        requests::remove(tx, &request.id)?;
        let detail = format!("request {} of {} for {} ran out", request.id, request.by, request.kind);
        audit::append(tx, audited::done("server", "request.expire", &request.subject, detail))?;
    }
    Ok(waiting)
}

fn no_such_request(id: &str) -> Failure {
    let detail = format!("no request {id} waits for this; `sluice requests` lists those that do");
    Failure::refused(ProblemType::NotFound, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_model::{AccessScope, PersonRole};
    use sluice_repo_store::Store;

    struct Desk {
        _dir: tempfile::TempDir,
        store: Store,
    }

    fn desk() -> Desk {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("repo.redb")).unwrap();
        Desk { _dir: dir, store }
    }

    fn person(name: &str, token: &str) -> Principal {
        Principal {
            person: name.parse().unwrap(),
            roles: vec![PersonRole::Approver],
            scope: AccessScope::default(),
            token: token.into(),
            expires_at: Timestamp::default(),
        }
    }

    fn lift(payload: &[u8]) -> Proposal {
        Proposal {
            kind: "suspension.lift",
            subject: "suspension 1".into(),
            payload: payload.to_vec(),
            barred: vec!["paul".parse().unwrap()],
        }
    }

    impl Desk {
        fn ask(&self, who: &str, token: &str, payload: &[u8], at: u64) -> Result<Asked, Failure> {
            self.store.write(|tx| ask(tx, &person(who, token), lift(payload), Timestamp::from_millis(at)))
        }

        fn open(&self, who: &str) -> String {
            match self.ask(who, "1", b"x", 0).unwrap() {
                Asked::Waiting(request) => request.id,
                Asked::Ready(request) => panic!("{request:?}"),
            }
        }
    }

    #[test]
    fn one_person_with_two_tokens_is_one_person() {
        let desk = desk();
        let id = desk.open("anna");
        assert!(matches!(desk.ask("anna", "2", b"x", 1).unwrap(), Asked::Waiting(request) if request.id == id));
        assert!(matches!(desk.ask("bob", "3", b"x", 1).unwrap(), Asked::Ready(request) if request.id == id));
        assert!(matches!(desk.ask("carl", "4", b"x", 1).unwrap(), Asked::Waiting(_)), "it is used up");
    }

    #[test]
    fn a_second_person_who_asks_for_the_same_completes_it_and_for_something_else_does_not() {
        let desk = desk();
        desk.open("anna");
        assert!(matches!(desk.ask("bob", "2", b"y", 1).unwrap(), Asked::Waiting(_)));
        assert!(
            matches!(desk.ask("bob", "2", b"x", 1).unwrap(), Asked::Ready(request) if request.by.as_str() == "anna")
        );
    }

    #[test]
    fn who_is_barred_does_not_take_part() {
        let desk = desk();
        assert!(desk.ask("paul", "1", b"x", 0).unwrap_err().is(ProblemType::SeparationOfDuties));
        desk.open("anna");
        assert!(desk.ask("paul", "1", b"x", 1).unwrap_err().is(ProblemType::SeparationOfDuties));
        assert!(matches!(desk.ask("bob", "1", b"x", 1).unwrap(), Asked::Ready(_)));
    }

    #[test]
    fn a_request_that_ran_out_completes_nothing_and_makes_room() {
        let desk = desk();
        let id = desk.open("anna");
        let over = u64::try_from(REQUEST_VALID.as_millis()).unwrap();
        assert!(matches!(desk.ask("bob", "2", b"x", over).unwrap(), Asked::Waiting(request) if request.id != id));
        let now = Timestamp::from_millis(over);
        assert_eq!(desk.store.read(|tx| waiting(tx, now)).unwrap().len(), 1);
    }

    #[test]
    fn requests_are_bounded_in_number_and_size() {
        let desk = desk();
        let large = vec![0; PAYLOAD_BYTES_MAX + 1];
        assert!(desk.ask("anna", "1", &large, 0).unwrap_err().is(ProblemType::TooLarge));
        let fill = desk.store.write(|tx| {
            for at in 0..REQUESTS_MAX {
                ask(tx, &person("anna", "1"), lift(&at.to_be_bytes()), Timestamp::default())?;
            }
            Ok::<_, Failure>(())
        });
        fill.unwrap();
        assert!(desk.ask("anna", "1", b"more", 0).unwrap_err().is(ProblemType::Full));
    }

    #[test]
    fn a_request_is_withdrawn_by_who_asked_or_an_admin_and_left_standing_by_a_failed_operation() {
        let desk = desk();
        let id = desk.open("anna");
        let failed: Result<(), Failure> = desk.store.write(|tx| {
            ask(tx, &person("bob", "2"), lift(b"x"), Timestamp::default())?;
            Err(Failure::refused(ProblemType::Conflict, "the operation failed"))
        });
        failed.unwrap_err();
        assert!(desk.store.write(|tx| withdraw(tx, &person("bob", "2"), &id)).unwrap_err().is(ProblemType::Forbidden));
        desk.store.write(|tx| withdraw(tx, &person("anna", "9"), &id)).unwrap();
        assert!(desk.store.write(|tx| withdraw(tx, &person("anna", "9"), &id)).unwrap_err().is(ProblemType::NotFound));
    }
}
