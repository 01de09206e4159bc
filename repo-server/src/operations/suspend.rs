//! Suspends a patch, a package with a range of versions, or everything, for the fleet or one site; and lifts again.
//!
//! One person suspends, two people lift: stopping is never wrong for long. A suspension never lifts itself.

use crate::authorize::{Action, Principal, Resource, authorize};
use crate::operations::retract::{Outcome, check_reason};
use crate::operations::second_person::{self, Asked, Proposal};
use crate::operations::{Failure, audited};
use crate::served::Served;
use crate::state::App;
use sluice_api::admin::{NewLift, NewSuspension, Suspension as Shown};
use sluice_api::problem::ProblemType;
use sluice_model::limits::SUSPENSIONS_MAX;
use sluice_model::{SiteName, Suspension, SuspensionScope, SuspensionSubject, Suspensions, VersionRange};
use sluice_repo_store::{audit, sites};
use sluice_rollout::Offers;
use sluice_rollout::suspend::stops;

/// Kind of the request that waits for a second person.
const LIFT: &str = "suspension.lift";
/// Longest version in a range.
const VERSION_CHARS_MAX: usize = 128;

/// Suspends, at once. The same subject in the same scope twice is one suspension.
pub async fn suspend(app: &App, principal: &Principal, new: NewSuspension) -> Result<Shown, Failure> {
    let reason = check_reason("a suspension", &new.reason)?;
    check_subject(&new.subject)?;
    let (person, subject) = (principal.person.clone(), describe(&new.subject, &new.scope));
    let who = principal.clone();
    let words = subject.clone();
    let outcome = app
        .authority
        .change(move |draft, tx| {
            authorize(&who, Action::Suspend, Resource::Reach { site: site_of(&new.scope), ring: None })?;
            if let Some(site) = site_of(&new.scope)
                && sites::get(tx, site)?.is_none()
            {
                let detail = format!("there is no site {site}; `sluice site list` lists them");
                return Err(Failure::refused(ProblemType::NotFound, detail));
            }
            let mut all = draft.suspensions()?;
            let same = |known: &&Suspension| known.subject == new.subject && known.scope == new.scope;
            if let Some(known) = all.suspensions.iter().find(same) {
                return Ok(known.clone());
            }
            if all.suspensions.len() >= SUSPENSIONS_MAX {
                let detail = format!("{SUSPENSIONS_MAX} suspensions are in force; lift some, or suspend everything");
                return Err(Failure::refused(ProblemType::Full, detail));
            }
            let made = Suspension {
                id: all.id_max + 1,
                subject: new.subject,
                scope: new.scope,
                reason,
                by: who.person.clone(),
                at: draft.now(),
            };
            all = Suspensions { schema: 1, id_max: made.id, suspensions: all.suspensions };
            all.suspensions.push(made.clone());
            draft.set_suspensions(&all)?;
            let detail = format!("suspension {}: {}", made.id, made.reason);
            audit::append(tx, audited::done(&who.person, "suspension.set", &words, detail))?;
            Ok(made)
        })
        .await;
    let made = audited::outcome(app, person.as_str(), "suspension.set", &subject, outcome).await?;
    Ok(shown(&app.served(), made))
}

/// Lifts a suspension when this is the second person who asks for it.
pub async fn lift(app: &App, principal: &Principal, id: u64, new: NewLift) -> Result<Outcome<Shown>, Failure> {
    let reason = check_reason("lifting a suspension", &new.reason)?;
    let (person, who) = (principal.person.clone(), principal.clone());
    let outcome = app
        .authority
        .change(move |draft, tx| {
            let mut all = draft.suspensions()?;
            let place = all.suspensions.iter().position(|known| known.id == id);
            let place = place.ok_or_else(|| no_such_suspension(id))?;
            let scope = &all.suspensions[place].scope;
            authorize(&who, Action::Lift, Resource::Reach { site: site_of(scope), ring: None })?;
            let subject = format!("suspension {id}");
            let proposal =
                Proposal { kind: LIFT, subject: subject.clone(), payload: id.to_string().into(), barred: vec![] };
            let first = match second_person::ask(tx, &who, proposal, draft.now())? {
                Asked::Waiting(waiting) => return Ok(Outcome::Waiting(waiting)),
                Asked::Ready(request) => request.by,
            };
            let lifted = all.suspensions.remove(place);
            draft.set_suspensions(&all)?;
            let detail =
                format!("{}, by {first} and {}: {reason}", describe(&lifted.subject, &lifted.scope), who.person);
            audit::append(tx, audited::done(&who.person, LIFT, &subject, detail))?;
            Ok(Outcome::Done(lifted))
        })
        .await;
    let outcome = audited::outcome(app, person.as_str(), LIFT, &format!("suspension {id}"), outcome).await?;
    Ok(match outcome {
        Outcome::Done(lifted) => Outcome::Done(Shown { stops: Vec::new(), ..shown(&app.served(), lifted) }),
        Outcome::Waiting(waiting) => Outcome::Waiting(waiting),
    })
}

/// Every suspension in force with what it stops now.
pub fn list(served: &Served) -> Vec<Shown> {
    served.suspensions.suspensions.iter().map(|suspension| shown(served, suspension.clone())).collect()
}

fn no_such_suspension(id: u64) -> Failure {
    let detail = format!("no suspension {id} is in force; `sluice suspensions` lists them");
    Failure::refused(ProblemType::NotFound, detail)
}

fn site_of(scope: &SuspensionScope) -> Option<&SiteName> {
    match scope {
        SuspensionScope::Fleet => None,
        SuspensionScope::Site(site) => Some(site),
    }
}

fn check_subject(subject: &SuspensionSubject) -> Result<(), Failure> {
    let versions = match subject {
        SuspensionSubject::Everything => return Ok(()),
        SuspensionSubject::Patch { versions, .. } | SuspensionSubject::Package { versions, .. } => versions,
    };
    let is_bad = |version: &String| {
        version.is_empty() || version.chars().count() > VERSION_CHARS_MAX || version.chars().any(char::is_control)
    };
    if [&versions.from, &versions.to].into_iter().flatten().any(is_bad) {
        let detail = format!("a version of a range has 1 to {VERSION_CHARS_MAX} printable characters");
        return Err(Failure::refused(ProblemType::Invalid, detail));
    }
    if let VersionRange { from: Some(from), to: Some(to) } = versions
        && sluice_rollout::deb_version::compare(from, to).is_gt()
    {
        let detail = format!("the range from {from} to {to} holds no version; turn it round");
        return Err(Failure::refused(ProblemType::Invalid, detail));
    }
    Ok(())
}

/// For people and the audit log.
fn describe(subject: &SuspensionSubject, scope: &SuspensionScope) -> String {
    let range = |versions: &VersionRange| match (&versions.from, &versions.to) {
        (None, None) => String::new(),
        (from, to) => format!(" {}..{}", from.as_deref().unwrap_or(""), to.as_deref().unwrap_or("")),
    };
    let what = match subject {
        SuspensionSubject::Everything => "everything".to_owned(),
        SuspensionSubject::Patch { name, versions } => format!("patch {name}{}", range(versions)),
        SuspensionSubject::Package { name, versions } => format!("package {name}{}", range(versions)),
    };
    match scope {
        SuspensionScope::Fleet => format!("{what} for the fleet"),
        SuspensionScope::Site(site) => format!("{what} at {site}"),
    }
}

fn shown(served: &Served, suspension: Suspension) -> Shown {
    let mut stopped = Vec::new();
    for ring in &served.view.rings {
        let rows = served.view.releases.get(ring).map_or(&[][..], Vec::as_slice);
        for offers in Offers::of(rows, &served.tombstones_in(ring)).patches.into_values() {
            let Some(set) = offers.offered else { continue };
            if set.artifacts.iter().any(|artifact| stops(&suspension.subject, artifact)) {
                stopped.push(format!("{} in ring {ring}", set.patch));
            }
        }
    }
    Shown {
        id: suspension.id,
        subject: suspension.subject,
        scope: suspension.scope,
        reason: suspension.reason,
        by: suspension.by,
        at: suspension.at,
        stops: stopped,
    }
}
