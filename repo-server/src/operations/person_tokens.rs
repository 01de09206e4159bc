//! What becomes of tokens: listed, ended before their time, and replaced by their owners.
//!
//! Invariants
//! - There is always a token that may make others: the last admin's is not ended.
//! - A replacement may nothing that the old one may not, and not beyond the day that its first maker set.

use crate::authorize::Principal;
use crate::clock;
use crate::operations::tokens::{put_new, shown};
use crate::operations::{Failure, audited};
use crate::state::App;
use sluice_api::admin::PersonToken;
use sluice_api::problem::ProblemType;
use sluice_api::tokens::{RevokedTokens, TokenRow, Tokens};
use sluice_model::{PersonName, PersonRole, Timestamp};
use sluice_repo_store::tokens::{self, EnrolmentTokenRecord, PersonTokenRecord, TokenKind, TokenRevocation};
use sluice_repo_store::{Reads, WriteTx, audit};
use std::time::Duration;

/// How long a replaced token is still taken: the answer with the new one may get lost, and scripts run on.
const OVERLAP: Duration = Duration::from_secs(600);

/// Every token that is kept, persons' first.
pub async fn list(app: &App) -> Result<Tokens, Failure> {
    let now = clock::timestamp();
    app.store
        .look(move |tx| {
            let persons = tokens::persons(tx)?.into_iter().map(|record| person_row(record, now));
            let devices = tokens::enrolments(tx)?.into_iter().map(|record| device_row(record, now));
            Ok(Tokens { tokens: persons.chain(devices).collect() })
        })
        .await
}

/// Ends one token, of a person or a device. Ending it twice changes nothing.
pub async fn revoke(app: &App, principal: &Principal, id: String) -> Result<RevokedTokens, Failure> {
    let who = principal.person.clone();
    let subject = id.clone();
    let outcome = app.store.change(move |tx| {
        let now = clock::timestamp();
        if let Some(record) = tokens::person(tx, &id)? {
            return end(tx, &who, vec![record], now);
        }
        let record = tokens::enrolment(tx, &id)?.ok_or_else(|| no_such_token(&id))?;
        tokens::remove_enrolment(tx, &record.id)?;
        let detail = format!("an enrolment token of site {}", record.site);
        audit::append(tx, audited::done(&who, "token.revoke", &record.id, detail))?;
        Ok(RevokedTokens { ids: vec![record.id] })
    });
    audited::outcome(app, principal.person.as_str(), "token.revoke", &subject, outcome.await).await
}

/// Ends every token of a person: he left, or a device with his token was lost.
pub async fn revoke_person(app: &App, principal: &Principal, person: PersonName) -> Result<RevokedTokens, Failure> {
    let (who, subject) = (principal.person.clone(), person.to_string());
    let outcome = app.store.change(move |tx| {
        let now = clock::timestamp();
        let live = tokens::persons(tx)?.into_iter().filter(|record| record.person == person && is_live(record, now));
        let live: Vec<PersonTokenRecord> = live.collect();
        if live.is_empty() {
            let detail = format!("{person} has no valid token; `sluice token list` shows all tokens");
            return Err(Failure::refused(ProblemType::NotFound, detail));
        }
        end(tx, &who, live, now)
    });
    audited::outcome(app, principal.person.as_str(), "token.revoke", &subject, outcome.await).await
}

/// Ends the token that this request came with.
pub async fn revoke_own(app: &App, principal: &Principal) -> Result<RevokedTokens, Failure> {
    revoke(app, principal, principal.token.clone()).await
}

/// Replaces the token that this request came with: the same rights for as long again, at most until the day that was
/// set when the first of them was made. The old one is taken for ten more minutes.
pub async fn rotate(app: &App, principal: &Principal) -> Result<PersonToken, Failure> {
    let principal = principal.clone();
    app.store
        .change(move |tx| {
            let now = clock::timestamp();
            let old = tokens::person(tx, &principal.token)?.ok_or_else(|| no_such_token(&principal.token))?;
            let lifetime = old.expires_at.since(old.created_at);
            let expires_at = now.plus(lifetime).min(old.renewable_until);
            if expires_at <= old.expires_at.min(now.plus(OVERLAP)) {
                let detail = "this token cannot be renewed any further; ask an admin for a new one";
                return Err(Failure::refused(ProblemType::Conflict, detail));
            }
            let (record, secret) = put_new(
                tx,
                PersonTokenRecord {
                    created_by: principal.person.to_string(),
                    created_at: now,
                    expires_at,
                    ..old.clone()
                },
            )?;
            let until = now.plus(OVERLAP).min(old.expires_at);
            let detail = format!("token {} until {}; {} is taken until {until}", record.id, record.expires_at, old.id);
            tokens::put_person(tx, &PersonTokenRecord { expires_at: until, ..old })?;
            audit::append(tx, audited::done(&principal.person, "person-token.rotate", &record.person, detail))?;
            Ok(shown(record, &secret))
        })
        .await
}

fn end(
    tx: &WriteTx,
    who: &PersonName,
    ended: Vec<PersonTokenRecord>,
    now: Timestamp,
) -> Result<RevokedTokens, Failure> {
    check_an_admin_is_left(tx, &ended, now)?;
    let mut ids = Vec::with_capacity(ended.len());
    for record in ended {
        ids.push(record.id.clone());
        if record.revoked.is_some() {
            continue;
        }
        let detail = format!("token {} of {}", record.id, record.person);
        audit::append(tx, audited::done(who, "token.revoke", &record.person, detail))?;
        let revoked = Some(TokenRevocation { by: who.clone(), at: now });
        tokens::put_person(tx, &PersonTokenRecord { revoked, ..record })?;
    }
    Ok(RevokedTokens { ids })
}

fn check_an_admin_is_left(tx: &impl Reads, ended: &[PersonTokenRecord], now: Timestamp) -> Result<(), Failure> {
    let is_admin = |record: &PersonTokenRecord| {
        record.roles.contains(&PersonRole::Admin) && record.scope.is_everywhere() && is_live(record, now)
    };
    if !ended.iter().any(is_admin) {
        return Ok(());
    }
    let is_ended = |record: &PersonTokenRecord| ended.iter().any(|other| other.id == record.id);
    if tokens::persons(tx)?.iter().any(|record| is_admin(record) && !is_ended(record)) {
        return Ok(());
    }
    let detail = "this is the last valid token of an admin; make another one first, or nobody can make tokens any more";
    Err(Failure::refused(ProblemType::Conflict, detail))
}

fn is_live(record: &PersonTokenRecord, now: Timestamp) -> bool {
    record.revoked.is_none() && now < record.expires_at
}

fn person_row(record: PersonTokenRecord, now: Timestamp) -> TokenRow {
    let state = match (&record.revoked, now < record.expires_at) {
        (Some(_), _) => "revoked",
        (None, true) => "valid",
        (None, false) => "expired",
    };
    TokenRow {
        id: record.id,
        kind: "person".into(),
        person: Some(record.person),
        roles: record.roles,
        sites: record.scope.sites,
        rings: record.scope.rings,
        created_by: record.created_by,
        created_at: record.created_at,
        expires_at: record.expires_at,
        state: state.into(),
    }
}

fn device_row(record: EnrolmentTokenRecord, now: Timestamp) -> TokenRow {
    let state = match (&record.used, now < record.expires_at) {
        (Some(_), _) => "used",
        (None, true) => "valid",
        (None, false) => "expired",
    };
    let kind = match record.kind {
        TokenKind::Node => "node",
        TokenKind::Endpoint => "endpoint",
    };
    TokenRow {
        id: record.id,
        kind: kind.into(),
        person: None,
        roles: Vec::new(),
        sites: Some([record.site].into()),
        rings: record.ring.map(|ring| [ring].into()),
        created_by: record.created_by.to_string(),
        created_at: record.created_at,
        expires_at: record.expires_at,
        state: state.into(),
    }
}

fn no_such_token(id: &str) -> Failure {
    Failure::refused(ProblemType::NotFound, format!("there is no token {id}; `sluice token list` shows all tokens"))
}
