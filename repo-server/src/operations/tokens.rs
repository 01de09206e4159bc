//! Makes tokens: those that enrol one device, and those of persons. A secret is shown once and kept as a hash.

use crate::authorize::Principal;
use crate::operations::{Failure, audited, sites};
use crate::state::App;
use sluice_api::admin::{EnrolmentToken, NewEnrolmentToken, NewPersonToken, PersonToken};
use sluice_api::device::DeviceKind;
use sluice_api::problem::ProblemType;
use sluice_model::{AccessScope, PersonName, PersonRole, Timestamp};
use sluice_repo_store::tokens::{self, EnrolmentTokenRecord, PersonTokenRecord, SecretHash, TokenKind};
use sluice_repo_store::{WriteTx, audit};
use std::time::Duration;

/// How long an enrolment token is taken unless said otherwise.
const ENROLMENT_VALID_SECS: u64 = 3_600;
/// How long it can be taken at most: a token that lies about is a way in.
const ENROLMENT_VALID_SECS_MAX: u64 = 30 * 24 * 3_600;
/// How long a person's token is taken unless said otherwise.
const PERSON_VALID_SECS: u64 = 90 * 24 * 3_600;
/// At most: a year, as the root metadata.
const PERSON_VALID_SECS_MAX: u64 = 365 * 24 * 3_600;

/// Makes a token that enrols one device.
pub async fn new_enrolment(
    app: &App,
    principal: &Principal,
    new: NewEnrolmentToken,
) -> Result<EnrolmentToken, Failure> {
    let kind = match (new.kind, &new.ring) {
        (DeviceKind::Node, None) => TokenKind::Node,
        (DeviceKind::Endpoint, Some(_)) => TokenKind::Endpoint,
        (DeviceKind::Node, Some(_)) => return Err(invalid("a node serves every ring; leave `ring` away")),
        (DeviceKind::Endpoint, None) => return Err(invalid("an endpoint's token names its ring; give `ring`")),
    };
    let valid = valid_for(new.valid_secs, ENROLMENT_VALID_SECS, ENROLMENT_VALID_SECS_MAX)?;
    let secret = audited::random::<32>()?;
    let id = hex::encode(audited::random::<8>()?);
    let who = principal.person.clone();
    let token_id = id.clone();
    let record = app
        .authority
        .change(move |draft, tx| {
            sites::find(tx, &new.site)?;
            if let Some(ring) = &new.ring {
                sites::check_ring(draft, ring)?;
            }
            let record = EnrolmentTokenRecord {
                id: token_id,
                secret: SecretHash::of(&secret),
                kind,
                site: new.site,
                ring: new.ring,
                created_by: who.clone(),
                created_at: draft.now(),
                expires_at: draft.now().plus(valid),
                used: None,
            };
            tokens::put_enrolment(tx, &record)?;
            audit::append(tx, audited::done(who, "enrolment-token.new", &record.id, describe(&record)))?;
            Ok(record)
        })
        .await?;
    let root = app.root_sha256().ok_or_else(|| Failure::broken("reading the first root", "it is not stored"))?;
    Ok(EnrolmentToken {
        token: format!("slt1-{id}-{}-{}", hex::encode(secret), hex::encode(&root.as_bytes()[..16])),
        id,
        kind: new.kind,
        site: record.site,
        ring: record.ring,
        expires_at: record.expires_at,
        repository_url: repository_url(app),
    })
}

/// Makes a token for a person.
pub async fn new_person(app: &App, principal: &Principal, new: NewPersonToken) -> Result<PersonToken, Failure> {
    let valid = valid_for(new.valid_secs, PERSON_VALID_SECS, PERSON_VALID_SECS_MAX)?;
    let who = principal.person.to_string();
    let now = crate::clock::timestamp();
    app.store.change(move |tx| issue(tx, &who, new.person, new.roles, now, valid)).await
}

/// Makes a person's token inside an open transaction: also how `init` makes the first ones. `who` is its maker.
pub fn issue(
    tx: &WriteTx,
    who: &str,
    person: PersonName,
    mut roles: Vec<PersonRole>,
    now: Timestamp,
    valid: Duration,
) -> Result<PersonToken, Failure> {
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() {
        return Err(invalid(
            "a token needs at least one role: viewer, publisher, approver, deployer, retractor, auditor or admin",
        ));
    }
    let secret = audited::random::<32>()?;
    let record = PersonTokenRecord {
        id: hex::encode(audited::random::<8>()?),
        secret: SecretHash::of(&secret),
        person,
        roles,
        scope: AccessScope::default(),
        created_by: who.to_owned(),
        created_at: now,
        expires_at: now.plus(valid),
        revoked: None,
    };
    tokens::put_person(tx, &record)?;
    let names = record.roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(", ");
    let detail = format!("roles {names}; token {}, until {}", record.id, record.expires_at);
    audit::append(tx, audited::done(who, "person-token.new", &record.person, detail))?;
    Ok(PersonToken {
        token: format!("slp1-{}-{}", record.id, hex::encode(secret)),
        id: record.id,
        person: record.person,
        roles: record.roles,
        expires_at: record.expires_at,
    })
}

/// Where devices reach the plain HTTP listener, as far as this server knows.
fn repository_url(app: &App) -> String {
    match app.listening.get() {
        Some(listening) => format!("http://{}", listening.http),
        None => format!("http://{}", app.settings.listen.http),
    }
}

fn describe(token: &EnrolmentTokenRecord) -> String {
    let kind = match (&token.kind, &token.ring) {
        (TokenKind::Endpoint, Some(ring)) => format!("an endpoint of ring {ring}"),
        _ => "a node".into(),
    };
    format!("enrols {kind} at site {}, until {}", token.site, token.expires_at)
}

fn valid_for(asked: Option<u64>, default: u64, most: u64) -> Result<Duration, Failure> {
    let secs = asked.unwrap_or(default);
    if (1..=most).contains(&secs) {
        return Ok(Duration::from_secs(secs));
    }
    Err(invalid(&format!("valid_secs must be 1 to {most}")))
}

fn invalid(detail: &str) -> Failure {
    Failure::refused(ProblemType::Invalid, detail)
}
