//! What people are told of an endpoint whose reports are not believed, and what ends it.

use sluice_api::admin::EndpointQuarantine;
use sluice_compliance::Broken;
use sluice_compliance_store::Quarantine;
use sluice_repo_store::members::EndpointRecord;

/// The quarantine in its API form.
pub fn to_api(quarantine: &Quarantine, endpoint: &EndpointRecord) -> EndpointQuarantine {
    let broken = quarantine.broken;
    EndpointQuarantine {
        kind: match broken {
            Broken::Cloned { .. } => "cloned".to_owned(),
            Broken::Altered { .. } => "altered".to_owned(),
        },
        reason: broken.to_string(),
        seq: broken.seq(),
        since: quarantine.at,
        remedy: remedy(endpoint),
    }
}

/// What to do about it.
pub fn remedy(endpoint: &EndpointRecord) -> String {
    format!(
        "find every machine that uses this key; on each copy remove device.key and enrol it with a token of its own; on \
         the one that keeps the key run `sluice-agent enrol` again with a new token (sluice token new --kind endpoint \
         --site {} --ring {}); if the key was stolen, run: sluice revoke endpoint {}",
        endpoint.site, endpoint.ring, endpoint.id
    )
}

/// What a report is answered with.
pub fn refusal(broken: &Broken) -> String {
    format!(
        "the endpoint is in quarantine: {broken}; nothing from that report on is believed until the machine is enrolled \
         anew: remove device.key on every copy, and run `sluice-agent enrol` with a new token on each machine"
    )
}
