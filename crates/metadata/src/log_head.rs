//! What a signed timestamp says of the audit log, for whoever knows nothing but the key that signed it.

use crate::body::TimestampBody;
use crate::envelope::{Keys, RoleKeys, Unverified, malformed};
use crate::key::PublicKey;
use crate::trusted::TIMESTAMP_BYTES_MAX;
use crate::{KeyId, MetadataError, Profile, RoleName, RoleVersion};
use sluice_model::{LogHead, Timestamp};

/// `x-log` and `x-issued` of a `timestamp.json` that the Ed25519 key `key` signed. Neither its lease nor the key's place in
/// any root is judged.
pub fn log_head_signed_by(key: &[u8; 32], timestamp: &[u8]) -> Result<(LogHead, Timestamp), MetadataError> {
    let role = RoleName::timestamp();
    let length = timestamp.len() as u64;
    if length > TIMESTAMP_BYTES_MAX {
        return Err(MetadataError::TooLarge { role, length, length_max: TIMESTAMP_BYTES_MAX });
    }
    let file = Unverified::parse(&role, timestamp, Profile::Strict)?;
    let keys = Keys::from([(KeyId::of(key), PublicKey::Ed25519(*key))]);
    let signed = file.verify(&RoleKeys { keys, threshold: 1 }, RoleVersion { role: role.clone(), version: 0 })?;
    let body = TimestampBody::parse(signed, Profile::Strict)?;
    let head = body.log.ok_or_else(|| malformed(&role, "signed.x-log", "missing"))?;
    Ok((head, body.issued_at))
}
