//! Enrols a device with the key of its TLS connection: token, device record, signed documents and audit line in one
//! commit.
//!
//! Each reason to refuse has its own words; a wrong secret and an unknown token have the same, so that ids cannot be
//! tried out. A device that lost the answer asks again with the same key and token and gets the same answer.

use crate::draft::Draft;
use crate::operations::fleet_documents::{write_endpoints, write_members};
use crate::operations::{Failure, audited};
use crate::state::App;
use sluice_api::device::{DeviceKind, EnrolAnswer, EnrolRequest};
use sluice_api::problem::{Problem, ProblemType};
use sluice_identity::endpoint_id_of;
use sluice_metadata::verify_purpose;
use sluice_model::limits::ENDPOINTS_PER_SITE_MAX;
use sluice_model::{EndpointState, MemberAddresses, MemberKey, RingName, Sha256, SiteName};
use sluice_repo_store::members::{self, EndpointRecord, NodeRecord};
use sluice_repo_store::tokens::{self, EnrolmentTokenRecord, TokenKind, TokenUse};
use sluice_repo_store::{Reads, WriteTx, audit};
use std::net::SocketAddr;

/// Nodes in the roster at most: at 400 bytes a row the document stays far below its bound.
const NODES_MAX: usize = 10_000;
/// Addresses of one kind that a node may announce.
const ADDRESSES_MAX: usize = 8;
/// Characters of a device's name.
const NAME_CHARS_MAX: usize = 64;

/// Enrols the device with `key`, which its TLS connection from `remote` proved.
pub async fn run(app: &App, key: MemberKey, remote: SocketAddr, request: EnrolRequest) -> Result<EnrolAnswer, Failure> {
    let token_id: String = request.token_id.chars().take(32).collect();
    let result = enrol(app, key, remote, request).await;
    if let Err(Failure::Refused(problem)) = &result {
        let why = format!("{} (from {remote})", problem.detail);
        audited::refused(app, &key.to_hex(), "device.enrol", &format!("token {token_id}"), &why).await;
    }
    result
}

/// An enrolment whose form and signature were checked.
struct Checked {
    key: MemberKey,
    kind: DeviceKind,
    wanted_site: Option<SiteName>,
    wanted_ring: Option<RingName>,
    token_id: String,
    secret: [u8; 32],
    name: String,
    addresses: MemberAddresses,
}

async fn enrol(app: &App, key: MemberKey, remote: SocketAddr, request: EnrolRequest) -> Result<EnrolAnswer, Failure> {
    let checked = check(key, remote, request, &app.roots_sha256())?;
    app.authority.change_batched(move |draft, tx| admit(draft, tx, &checked)).await
}

fn check(key: MemberKey, remote: SocketAddr, request: EnrolRequest, roots: &[Sha256]) -> Result<Checked, Failure> {
    let malformed = |what: &str| Failure::refused(ProblemType::Malformed, format!("{what}; copy the token whole"));
    let (mut id, mut secret, mut signature) = ([0; 8], [0; 32], [0; 64]);
    hex::decode_to_slice(&request.token_id, &mut id).map_err(|_| malformed("token_id is not 16 hex characters"))?;
    hex::decode_to_slice(&request.token_secret, &mut secret)
        .map_err(|_| malformed("token_secret is not 64 hex characters"))?;
    hex::decode_to_slice(&request.signature, &mut signature)
        .map_err(|_| Failure::refused(ProblemType::Malformed, "signature is not 128 hex characters"))?;
    let is_over = |root: &Sha256| {
        let signed = [id.as_slice(), root.as_bytes()].concat();
        verify_purpose(key.as_bytes(), "enrol", &signed, &signature).is_ok()
    };
    if !roots.iter().any(is_over) {
        let detail = "the signature is not by the key of this connection over this token and this repository; enrol with a \
                      token of this repository, from the device itself";
        return Err(Failure::refused(ProblemType::EnrolmentUnproven, detail));
    }
    let addresses = match request.kind {
        DeviceKind::Node => check_addresses(request.addresses, remote)?,
        DeviceKind::Endpoint => MemberAddresses::default(),
    };
    let name = check_name(&request.name)?;
    let (kind, wanted_site, wanted_ring) = (request.kind, request.site, request.ring);
    Ok(Checked { key, kind, wanted_site, wanted_ring, token_id: hex::encode(id), secret, name, addresses })
}

fn admit(draft: &mut Draft, tx: &WriteTx, device: &Checked) -> Result<EnrolAnswer, Failure> {
    let token = tokens::enrolment(tx, &device.token_id)?.filter(|token| token.secret.matches(&device.secret));
    let token = token.ok_or_else(|| refused("no such token; copy it whole, or ask for a new one"))?;
    check_bonds(&token, device)?;
    check_not_revoked(tx, &device.key)?;
    if token.used.as_ref().is_some_and(|used| used.by == device.key) {
        return answer(draft, tx, &token, &device.key);
    }
    check_unused(draft, &token)?;
    check_key(tx, &device.key, device.kind)?;
    match (&token.kind, &token.ring) {
        (TokenKind::Endpoint, Some(ring)) => admit_endpoint(draft, tx, device, &token.site, ring)?,
        _ => admit_node(draft, tx, device, &token.site)?,
    }
    let used = TokenUse { by: device.key, at: draft.now() };
    let token = EnrolmentTokenRecord { used: Some(used), ..token };
    tokens::put_enrolment(tx, &token)?;
    let subject = match device.kind {
        DeviceKind::Node => format!("node {}", device.key),
        DeviceKind::Endpoint => format!("endpoint {}", endpoint_id_of(&device.key)),
    };
    let answer = answer(draft, tx, &token, &device.key)?;
    let ring = token.ring.as_ref().map_or_else(String::new, |ring| format!(", ring {ring}"));
    let again = if answer.epoch > 1 { format!(", anew: epoch {}", answer.epoch) } else { String::new() };
    let detail =
        format!("{} at site {}{ring}{again}, by token {} of {}", device.name, token.site, token.id, token.created_by);
    audit::append(tx, audited::done(device.key, "device.enrol", subject, detail))?;
    Ok(answer)
}

fn answer(
    draft: &Draft,
    tx: &impl Reads,
    token: &EnrolmentTokenRecord,
    key: &MemberKey,
) -> Result<EnrolAnswer, Failure> {
    let epoch = members::epoch(tx, &endpoint_id_of(key))?;
    Ok(EnrolAnswer { site: token.site.clone(), ring: token.ring.clone(), floor: draft.versions(), epoch })
}

/// The token decides what the device is and where it belongs.
fn check_bonds(token: &EnrolmentTokenRecord, device: &Checked) -> Result<(), Failure> {
    let (what, how) = match token.kind {
        TokenKind::Node => ("a node", "sluice-node join"),
        TokenKind::Endpoint => ("an endpoint", "sluice-agent enrol"),
    };
    if (token.kind == TokenKind::Node) != (device.kind == DeviceKind::Node) {
        let detail = format!("the token is for {what}; use it with `{how}`");
        return Err(Failure::refused(ProblemType::EnrolmentWrongKind, detail));
    }
    let is_elsewhere = device.wanted_site.as_ref().is_some_and(|site| *site != token.site);
    if is_elsewhere || (device.wanted_ring.is_some() && device.wanted_ring != token.ring) {
        let ring = token.ring.as_ref().map_or_else(String::new, |ring| format!(", ring {ring}"));
        let detail = format!("the token is for site {}{ring}; ask for one of the place that is meant", token.site);
        return Err(Failure::refused(ProblemType::EnrolmentWrongPlace, detail));
    }
    Ok(())
}

fn check_unused(draft: &Draft, token: &EnrolmentTokenRecord) -> Result<(), Failure> {
    if let Some(used) = &token.used {
        let detail = format!("another device used the token at {}; ask for a new one", used.at.to_seconds_text());
        return Err(Failure::refused(ProblemType::EnrolmentUsed, detail));
    }
    if draft.now() >= token.expires_at {
        let detail = format!("the token was good until {}; ask for a new one", token.expires_at.to_seconds_text());
        return Err(Failure::refused(ProblemType::EnrolmentExpired, detail));
    }
    Ok(())
}

/// That a key was revoked is never forgotten, also when the device asks again for the answer that it had.
fn check_not_revoked(tx: &impl Reads, key: &MemberKey) -> Result<(), Failure> {
    let is_revoked = members::node(tx, key)?.is_some_and(|node| node.revoked_at.is_some())
        || members::endpoint(tx, &endpoint_id_of(key))?
            .is_some_and(|endpoint| endpoint.state == EndpointState::Revoked);
    if is_revoked {
        let detail = "this key was revoked; remove device.key on the device and enrol with the new one that it makes";
        return Err(Failure::refused(ProblemType::DeviceRevoked, detail));
    }
    Ok(())
}

/// An endpoint may enrol anew with its key, by a new token: its reports are then numbered in a new epoch, and a copy
/// that goes on in the old one is heard no more. A node enrols once.
fn check_key(tx: &impl Reads, key: &MemberKey, kind: DeviceKind) -> Result<(), Failure> {
    let is_node = members::node(tx, key)?.is_some();
    let is_endpoint = members::endpoint(tx, &endpoint_id_of(key))?.is_some();
    if is_node || (is_endpoint && kind == DeviceKind::Node) {
        let detail = "this key is enrolled already; a node enrols once, and each device has a key of its own";
        return Err(Failure::refused(ProblemType::AlreadyEnrolled, detail));
    }
    Ok(())
}

fn admit_node(draft: &mut Draft, tx: &WriteTx, device: &Checked, site: &SiteName) -> Result<(), Failure> {
    if draft.roster()?.members.len() >= NODES_MAX {
        return Err(Failure::refused(ProblemType::Full, format!("the roster has {NODES_MAX} members already")));
    }
    let node = NodeRecord {
        key: device.key,
        site: site.clone(),
        name: device.name.clone(),
        addresses: device.addresses.clone(),
        enrolled_at: draft.now(),
        revoked_at: None,
    };
    members::put_node(tx, &node)?;
    write_members(draft, tx)
}

fn admit_endpoint(
    draft: &mut Draft,
    tx: &WriteTx,
    device: &Checked,
    site: &SiteName,
    ring: &RingName,
) -> Result<(), Failure> {
    let id = endpoint_id_of(&device.key);
    let before = members::endpoint(tx, &id)?;
    if draft.endpoints(site)?.endpoints.len() >= ENDPOINTS_PER_SITE_MAX {
        let detail = format!("site {site} has {ENDPOINTS_PER_SITE_MAX} endpoints already; split it in two");
        return Err(Failure::refused(ProblemType::Full, detail));
    }
    let endpoint = EndpointRecord {
        id,
        key: device.key,
        site: site.clone(),
        ring: ring.clone(),
        name: device.name.clone(),
        state: EndpointState::Active,
        enrolled_at: draft.now(),
    };
    members::put_endpoint(tx, &endpoint)?;
    if let Some(before) = before {
        let epoch = members::epoch(tx, &id)?;
        members::put_epoch(tx, &id, epoch.saturating_add(1))?;
        if before.site != *site {
            write_endpoints(draft, tx, &before.site)?;
        }
    }
    write_endpoints(draft, tx, site)
}

/// What a node announces: a wildcard becomes the address from which it spoke, because nobody can dial a wildcard.
pub fn check_addresses(mut addresses: MemberAddresses, remote: SocketAddr) -> Result<MemberAddresses, Failure> {
    for list in [&mut addresses.device, &mut addresses.overlay, &mut addresses.http] {
        if list.len() > ADDRESSES_MAX {
            let detail = format!("a node announces at most {ADDRESSES_MAX} addresses of a kind");
            return Err(Failure::refused(ProblemType::Invalid, detail));
        }
        for address in list.iter_mut() {
            if address.ip().is_unspecified() {
                address.set_ip(remote.ip().to_canonical());
            }
            if address.port() == 0 {
                return Err(Failure::refused(ProblemType::Invalid, format!("{address} has no port")));
            }
        }
        list.sort_unstable();
        list.dedup();
    }
    Ok(addresses)
}

/// A name for people and for tables: nothing that a terminal, a spreadsheet or a log would take for more.
fn check_name(name: &str) -> Result<String, Failure> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._ -".contains(c);
    let is_fine = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(allowed)
        && name.len() <= NAME_CHARS_MAX;
    if is_fine {
        return Ok(name.trim_end().to_owned());
    }
    let detail = "a device's name has 1 to 64 letters, digits, '.', '_', ' ' and '-', beginning with a letter or digit";
    Err(Failure::refused(ProblemType::Invalid, detail))
}

fn refused(why: &str) -> Failure {
    Problem::new(ProblemType::EnrolmentRefused, why).into()
}
