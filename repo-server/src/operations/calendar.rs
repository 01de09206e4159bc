//! Who must sign what until when, and what stops when nobody does.

use crate::authority::Authority;
use crate::clock;
use crate::served::Served;
use sluice_api::ceremony::CalendarRow;
use sluice_metadata::{Duty, Keyring, Nearness};
use sluice_model::{RingName, Timestamp};
use std::collections::BTreeMap;

/// Characters of a key id that stand for it.
const KEY_ID_CHARS: usize = 16;

/// The calendar, soonest first.
pub async fn rows(authority: &Authority) -> Vec<CalendarRow> {
    let keyring = authority.keyring().await;
    let now = clock::timestamp();
    authority.served().duties.iter().map(|duty| row(duty, &keyring, now)).collect()
}

/// How many must sign the release role of each ring.
pub fn ring_thresholds(served: &Served) -> BTreeMap<RingName, u32> {
    served.duties.iter().filter_map(|duty| Some((duty.role.ring()?, duty.terms.threshold))).collect()
}

/// Whether the server renews it by itself.
pub fn is_renewed_by_server(duty: &Duty, keyring: &Keyring) -> bool {
    keyring.reaches(&duty.role, &duty.terms)
}

fn row(duty: &Duty, keyring: &Keyring, now: Timestamp) -> CalendarRow {
    let is_renewed_by_server = is_renewed_by_server(duty, keyring);
    CalendarRow {
        role: duty.role.to_string(),
        version: duty.version,
        expires_at: duty.expires,
        nearness: Nearness::of(duty.expires, now).as_str().to_owned(),
        is_renewed_by_server,
        threshold: duty.terms.threshold,
        people: people(duty, keyring),
        stops: stops(duty),
        next: if is_renewed_by_server { "nothing: the server renews it".into() } else { next(duty) },
    }
}

/// The persons who may sign a role; a key without a name is named by its id, the server's own are left out.
pub fn people(duty: &Duty, keyring: &Keyring) -> Vec<String> {
    let own: Vec<_> = keyring.signers(&duty.role).iter().map(|signer| signer.key_id()).collect();
    let held = duty.terms.keys.keys().filter(|id| !own.contains(id));
    held.map(|id| match duty.names.get(id) {
        Some(name) => name.clone(),
        None => format!("key {}", id.as_str().get(..KEY_ID_CHARS).unwrap_or(id.as_str())),
    })
    .collect()
}

fn stops(duty: &Duty) -> String {
    match duty.role.ring() {
        Some(ring) => format!("ring {ring}; other rings go on"),
        None => "everything: nothing is served or installed".into(),
    }
}

/// What the people of a role have to do.
pub fn next(duty: &Duty) -> String {
    match (duty.role.as_str(), duty.role.ring()) {
        (_, Some(ring)) => format!("an approver signs it: sluice approve --ring {ring} --key FILE"),
        ("root", _) => "holders renew it: sluice root draft, sign, publish".into(),
        _ => "holders renew it: sluice targets draft, sign, publish".into(),
    }
}

/// Tells the log of what comes near its expiry: once when it gets nearer, and once at each start.
#[derive(Default)]
pub struct Reminder {
    told: BTreeMap<String, Nearness>,
}

impl Reminder {
    /// Looks at the calendar and logs what is new.
    pub async fn look(&mut self, authority: &Authority) {
        let keyring = authority.keyring().await;
        let now = clock::timestamp();
        for duty in authority.served().duties.iter().filter(|duty| !is_renewed_by_server(duty, &keyring)) {
            let nearness = Nearness::of(duty.expires, now);
            let role = duty.role.to_string();
            if self.told.get(&role).copied().unwrap_or(Nearness::Quiet) < nearness {
                tell(duty, nearness, &people(duty, &keyring).join(", "));
            }
            self.told.insert(role, nearness);
        }
    }
}

fn tell(duty: &Duty, nearness: Nearness, people: &str) {
    let (role, expires) = (&duty.role, duty.expires.to_seconds_text());
    let (threshold, stops, next) = (duty.terms.threshold, stops(duty), next(duty));
    match nearness {
        Nearness::Lapsed => {
            tracing::error!(%role, expires, people, threshold, "a role has lapsed and stops {stops}; {next}");
        }
        _ => tracing::warn!(
            %role, expires, people, threshold, within = nearness.as_str(),
            "a role is near its expiry, which would stop {stops}; {next}"
        ),
    }
}
