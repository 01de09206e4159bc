//! What the trailer of a chunk frame signs, so that a wrong chunk convicts its sender.
//!
//! The sender signs, with its device key and the purpose [`PURPOSE`], the receiver's key, the artifact, the index and
//! the BLAKE3 of the bytes that it sent. A receiver that finds the bytes wrong keeps the statement and the signature:
//! anybody with the manifest can then see that the sender vouched for bytes that are not the chunk.

use sluice_model::{ArtifactId, MemberKey};

/// The signing purpose: signed is `sluice/chunk/1\0` and the statement.
pub const PURPOSE: &str = "chunk";
/// Length of a statement.
pub const STATEMENT_LEN: usize = 32 + 32 + 4 + 32;

/// The bytes that the trailer covers: receiver (32), artifact (32), index (4, big end first), BLAKE3 of the bytes (32).
pub fn statement(receiver: &MemberKey, artifact: &ArtifactId, index: u32, sent: &[u8; 32]) -> [u8; STATEMENT_LEN] {
    let mut bytes = [0; STATEMENT_LEN];
    bytes[..32].copy_from_slice(receiver.as_bytes());
    bytes[32..64].copy_from_slice(artifact.as_bytes());
    bytes[64..68].copy_from_slice(&index.to_be_bytes());
    bytes[68..].copy_from_slice(sent);
    bytes
}

/// BLAKE3 of the bytes of a chunk body, as the statement names it.
pub fn hash_sent(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_has_this_layout() {
        let receiver = MemberKey::from_bytes([1; 32]);
        let artifact = ArtifactId::from_bytes([2; 32]);
        let bytes = statement(&receiver, &artifact, 0x0304, &[5; 32]);
        assert_eq!(bytes[..32], [1; 32]);
        assert_eq!(bytes[32..64], [2; 32]);
        assert_eq!(bytes[64..68], [0, 0, 3, 4]);
        assert_eq!(bytes[68..], [5; 32]);
    }
}
