//! Makes tokens: those that enrol one device, and those of persons. A secret is shown once and kept as a hash.

use crate::authorize::{Action, Principal, Resource, authorize};
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

/// How long a token may be renewed by its owner, from its making: then an admin looks at it again.
const RENEWABLE: Duration = Duration::from_secs(365 * 24 * 3_600);
/// How long a token that ended is still listed.
const KEPT_AFTER_END: Duration = Duration::from_secs(90 * 24 * 3_600);
/// Tokens of persons, ended ones too.
const PERSON_TOKENS_MAX: usize = 4_096;

/// Makes a token that enrols one device.
pub async fn new_enrolment(
    app: &App,
    principal: &Principal,
    new: NewEnrolmentToken,
) -> Result<EnrolmentToken, Failure> {
    authorize(principal, Action::Administer, Resource::Reach { site: Some(&new.site), ring: new.ring.as_ref() })?;
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
    let roots = app.roots_sha256();
    let root = roots.first().ok_or_else(|| Failure::broken("reading the root in force", "it is not stored"))?;
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
    let scope = AccessScope { sites: new.sites, rings: new.rings };
    check_scope(app, &scope)?;
    let who = principal.person.to_string();
    let now = crate::clock::timestamp();
    app.store.change(move |tx| issue(tx, &who, new.person, new.roles, scope, now, valid)).await
}

/// Makes a person's token inside an open transaction: also how `init` makes the first ones. `who` is its maker.
pub fn issue(
    tx: &WriteTx,
    who: &str,
    person: PersonName,
    mut roles: Vec<PersonRole>,
    scope: AccessScope,
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
    sweep(tx, now)?;
    let (record, secret) = put_new(
        tx,
        PersonTokenRecord {
            id: String::new(),
            secret: SecretHash::of(&[0; 32]),
            person,
            roles,
            scope,
            created_by: who.to_owned(),
            created_at: now,
            expires_at: now.plus(valid),
            renewable_until: now.plus(valid.max(RENEWABLE)),
            revoked: None,
        },
    )?;
    let names = record.roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(", ");
    let (scope, id, until) = (&record.scope, &record.id, record.expires_at);
    let detail = format!("roles {names}; {scope}; token {id}, until {until}");
    audit::append(tx, audited::done(who, "person-token.new", &record.person, detail))?;
    Ok(shown(record, &secret))
}

/// Gives `record` an id and a secret of its own, stores it, and gives the secret back.
pub fn put_new(tx: &WriteTx, record: PersonTokenRecord) -> Result<(PersonTokenRecord, [u8; 32]), Failure> {
    let secret = audited::random::<32>()?;
    let id = hex::encode(audited::random::<8>()?);
    let record = PersonTokenRecord { id, secret: SecretHash::of(&secret), ..record };
    tokens::put_person(tx, &record)?;
    Ok((record, secret))
}

/// The form in which a new token is shown, once.
pub fn shown(record: PersonTokenRecord, secret: &[u8; 32]) -> PersonToken {
    PersonToken {
        token: format!("slp1-{}-{}", record.id, hex::encode(secret)),
        id: record.id,
        person: record.person,
        roles: record.roles,
        expires_at: record.expires_at,
    }
}

/// Forgets tokens that ended long ago, and refuses when too many are left.
fn sweep(tx: &WriteTx, now: Timestamp) -> Result<(), Failure> {
    let mut kept = 0;
    for record in tokens::persons(tx)? {
        let ended = record.revoked.as_ref().map_or(record.expires_at, |revoked| revoked.at.min(record.expires_at));
        if ended.plus(KEPT_AFTER_END) < now {
            tokens::remove_person(tx, &record.id)?;
        } else {
            kept += 1;
        }
    }
    for record in tokens::enrolments(tx)? {
        if record.expires_at.plus(KEPT_AFTER_END) < now {
            tokens::remove_enrolment(tx, &record.id)?;
        }
    }
    if kept >= PERSON_TOKENS_MAX {
        let detail = format!("there are {kept} tokens of persons already; revoke those that nobody uses");
        return Err(Failure::refused(ProblemType::Full, detail));
    }
    Ok(())
}

/// A scope that names nothing, or what does not exist, is a slip of the pen.
fn check_scope(app: &App, scope: &AccessScope) -> Result<(), Failure> {
    let served = app.served();
    let names_nothing = scope.sites.as_ref().is_some_and(|sites| sites.is_empty())
        || scope.rings.as_ref().is_some_and(|rings| rings.is_empty());
    if names_nothing {
        return Err(invalid(
            "a scope names at least one site or ring; leave it away for a token that counts everywhere",
        ));
    }
    if let Some(site) =
        scope.sites.iter().flatten().find(|site| !served.topology.sites.iter().any(|s| s.name == **site))
    {
        return Err(invalid(&format!("there is no site {site}; `sluice site list` shows all sites")));
    }
    if let Some(ring) = scope.rings.iter().flatten().find(|ring| !served.view.rings.contains(ring)) {
        return Err(invalid(&format!("there is no ring {ring}; `sluice ring list` shows all rings")));
    }
    Ok(())
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
