//! Who sends a request: a person by bearer token, a device by the key of its TLS connection.

use crate::authorize::Principal;
use crate::clock;
use crate::operations::Failure;
use crate::state::App;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use sluice_api::problem::ProblemType;
use sluice_model::MemberKey;
use sluice_repo_store::tokens::{self, PersonTokenRecord};
use std::net::SocketAddr;

/// Address of the peer of an HTTP or HTTPS connection; an extension of each request on it.
#[derive(Clone, Copy, Debug)]
pub struct Remote(pub SocketAddr);

/// The connection is TLS with a certificate of the internal CA; an extension of each request on it.
#[derive(Clone, Copy, Debug)]
pub struct Encrypted;

/// The device at the other end of a TLS connection; an extension of each request on a device listener. The handshake
/// proved the key; whether it is enrolled is for the handler to ask.
#[derive(Clone, Copy, Debug)]
pub struct DeviceCaller {
    /// Its Ed25519 public key.
    pub key: MemberKey,
    /// From where.
    pub remote: SocketAddr,
}

/// The person whose token the request carries. A token that crossed a network in clear is refused unread.
pub fn authenticate(
    app: &App,
    headers: &HeaderMap,
    remote: Option<Remote>,
    encrypted: Option<Encrypted>,
) -> Result<Principal, Failure> {
    let Some(header) = headers.get(AUTHORIZATION) else {
        return Err(unauthenticated("send the header `Authorization: Bearer TOKEN`; `sluice login` stores a token"));
    };
    let is_local = remote.is_some_and(|Remote(address)| address.ip().to_canonical().is_loopback());
    if encrypted.is_none() && !is_local {
        let detail = "tokens are taken over HTTPS or from loopback only; log in again at the https address of this server, \
                      and have an admin replace this token, which crossed the network in clear";
        return Err(Failure::refused(ProblemType::TlsRequired, detail));
    }
    let token = header.to_str().ok().and_then(|text| text.strip_prefix("Bearer ")).map(str::trim);
    let token = token.ok_or_else(|| unauthenticated("the Authorization header is not `Bearer TOKEN`"))?;
    let known = match parse(token) {
        Some((id, secret)) => {
            app.store.read(|tx| tokens::person(tx, id))?.filter(|record| record.secret.matches(&secret))
        }
        None => None,
    };
    match known {
        Some(record) if record.revoked.is_none() && clock::timestamp() < record.expires_at => {
            let PersonTokenRecord { person, roles, scope, id: token, expires_at, .. } = record;
            Ok(Principal { person, roles, scope, token, expires_at })
        }
        _ => Err(unauthenticated(
            "the token is unknown, was revoked or has expired; ask an admin for a new one, then store it with `sluice login`",
        )),
    }
}

/// `slp1-<id, 16 hex>-<secret, 64 hex>`.
fn parse(token: &str) -> Option<(&str, [u8; 32])> {
    let (id, secret) = token.strip_prefix("slp1-")?.split_once('-')?;
    let mut bytes = [0; 32];
    hex::decode_to_slice(secret, &mut bytes).ok()?;
    (id.len() == 16).then_some((id, bytes))
}

fn unauthenticated(detail: &str) -> Failure {
    Failure::refused(ProblemType::Unauthenticated, detail)
}
