//! What the trailer of a chunk frame signs, so that a wrong chunk convicts its sender.
//!
//! The sender signs, with its device key and the purpose [`PURPOSE`], the receiver's key, the artifact, the index and
//! the BLAKE3 of the bytes that it sent. A receiver that finds the bytes wrong keeps the statement and the signature:
//! anybody with the manifest can then see that the sender vouched for bytes that are not the chunk.
//!
//! Invariant: [`judge`] convicts only on a statement that the accused signed, to the accuser, about a chunk that the
//! manifest has, with another hash than the manifest's. A sender that never signed a wrong hash cannot be convicted,
//! whatever others make up.

use crate::frame::TRAILER_LEN;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sluice_content::Manifest;
use sluice_model::{ArtifactId, BanEvidence, MemberKey};

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

/// A statement with its signature, as they came. Nothing in it may be believed before [`judge`] has convicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// What was signed.
    pub statement: [u8; STATEMENT_LEN],
    /// The trailer of the frame.
    pub signature: [u8; TRAILER_LEN],
}

/// Why evidence convicts nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotConvicted {
    /// The bytes are no evidence at all.
    #[error("this is no evidence: {STATEMENT_LEN} bytes of statement and {TRAILER_LEN} of signature, in base64")]
    Malformed,
    /// Somebody else received the chunk.
    #[error("the statement was made to another receiver than the one that accuses")]
    OtherReceiver,
    /// The accused did not sign it.
    #[error("the signature is not by the accused over this statement")]
    Signature,
    /// The manifest is of another artifact.
    #[error("the statement is about another artifact")]
    OtherArtifact,
    /// The artifact has no such chunk.
    #[error("the artifact has {chunk_count} chunks, the statement is about chunk {index}")]
    Index {
        /// In the statement.
        index: u32,
        /// Of the artifact.
        chunk_count: u32,
    },
    /// The bytes that were sent are the chunk.
    #[error("the statement vouches for the right bytes")]
    RightBytes,
}

impl Evidence {
    /// What convicts the sender of the bytes with the BLAKE3 `sent`.
    pub fn of(
        receiver: &MemberKey,
        artifact: &ArtifactId,
        index: u32,
        sent: &[u8; 32],
        signature: [u8; TRAILER_LEN],
    ) -> Self {
        Self { statement: statement(receiver, artifact, index, sent), signature }
    }

    /// As it is kept and published.
    pub fn to_text(&self) -> BanEvidence {
        BanEvidence { statement: STANDARD.encode(self.statement), signature: STANDARD.encode(self.signature) }
    }

    /// The other way.
    pub fn from_text(text: &BanEvidence) -> Result<Self, NotConvicted> {
        // Decoded only when the length fits, so that a long text costs nothing.
        fn bytes<const N: usize>(text: &str) -> Result<[u8; N], NotConvicted> {
            if text.len() != N.div_ceil(3) * 4 {
                return Err(NotConvicted::Malformed);
            }
            let bytes = STANDARD.decode(text).map_err(|_| NotConvicted::Malformed)?;
            bytes.try_into().map_err(|_| NotConvicted::Malformed)
        }
        Ok(Self { statement: bytes(&text.statement)?, signature: bytes(&text.signature)? })
    }

    /// To whom the bytes were sent, says the statement.
    pub fn receiver(&self) -> MemberKey {
        MemberKey::from_bytes(self.field(0))
    }

    /// Which artifact they were said to belong to.
    pub fn artifact(&self) -> ArtifactId {
        ArtifactId::from_bytes(self.field(32))
    }

    /// Which chunk they were said to be.
    pub fn index(&self) -> u32 {
        u32::from_be_bytes([self.statement[64], self.statement[65], self.statement[66], self.statement[67]])
    }

    /// BLAKE3 of the bytes.
    pub fn sent(&self) -> [u8; 32] {
        self.field(68)
    }

    fn field(&self, at: usize) -> [u8; 32] {
        let mut field = [0; 32];
        field.copy_from_slice(&self.statement[at..at + 32]);
        field
    }
}

/// Whether `evidence`, brought by `accuser`, convicts the accused. `is_signed` says whether the accused signed the
/// statement for [`PURPOSE`]; `manifest` is the one that signed metadata names for the statement's artifact.
pub fn judge(
    evidence: &Evidence,
    accuser: &MemberKey,
    is_signed: impl FnOnce(&Evidence) -> bool,
    manifest: &Manifest,
) -> Result<(), NotConvicted> {
    if evidence.receiver() != *accuser {
        return Err(NotConvicted::OtherReceiver);
    }
    if !is_signed(evidence) {
        return Err(NotConvicted::Signature);
    }
    if evidence.artifact() != manifest.artifact() {
        return Err(NotConvicted::OtherArtifact);
    }
    let (index, chunk_count) = (evidence.index(), manifest.chunk_count());
    if index >= chunk_count {
        return Err(NotConvicted::Index { index, chunk_count });
    }
    if evidence.sent() == *manifest.chunk_id(index).as_bytes() {
        return Err(NotConvicted::RightBytes);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_content::{ChunkerParams, Cutter};

    fn manifest() -> Manifest {
        let bytes: Vec<u8> = (0..600_000u32).flat_map(|n| n.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
        let mut cutter = Cutter::new(ChunkerParams::for_length(bytes.len() as u64));
        cutter.push(&bytes);
        cutter.finish().manifest
    }

    #[test]
    fn only_a_signed_wrong_hash_of_a_real_chunk_sent_to_the_accuser_convicts() {
        let manifest = manifest();
        let (accuser, other) = (MemberKey::from_bytes([1; 32]), MemberKey::from_bytes([2; 32]));
        let (artifact, count) = (manifest.artifact(), manifest.chunk_count());
        assert!(count >= 2, "{count}");
        let right = *manifest.chunk_id(0).as_bytes();
        let evidence =
            |receiver, artifact, index, sent| Evidence::of(&receiver, &artifact, index, &sent, [7; TRAILER_LEN]);
        let good = evidence(accuser, artifact, 0, [9; 32]);
        assert_eq!(judge(&good, &accuser, |_| true, &manifest), Ok(()));
        // The right bytes of one chunk are wrong bytes of another.
        assert_eq!(judge(&evidence(accuser, artifact, 1, right), &accuser, |_| true, &manifest), Ok(()));

        assert_eq!(judge(&good, &accuser, |_| false, &manifest), Err(NotConvicted::Signature));
        assert_eq!(judge(&good, &other, |_| true, &manifest), Err(NotConvicted::OtherReceiver));
        let elsewhere = evidence(accuser, ArtifactId::from_bytes([3; 32]), 0, [9; 32]);
        assert_eq!(judge(&elsewhere, &accuser, |_| true, &manifest), Err(NotConvicted::OtherArtifact));
        for index in [count, u32::MAX] {
            let beyond = evidence(accuser, artifact, index, [9; 32]);
            let refused = NotConvicted::Index { index, chunk_count: count };
            assert_eq!(judge(&beyond, &accuser, |_| true, &manifest), Err(refused));
        }
        let honest = evidence(accuser, artifact, 0, right);
        assert_eq!(judge(&honest, &accuser, |_| true, &manifest), Err(NotConvicted::RightBytes));
    }

    #[test]
    fn evidence_survives_its_text_and_nothing_else_is_evidence() {
        let evidence =
            Evidence::of(&MemberKey::from_bytes([1; 32]), &ArtifactId::from_bytes([2; 32]), 0x0304, &[5; 32], [6; 64]);
        let text = evidence.to_text();
        assert_eq!(Evidence::from_text(&text), Ok(evidence));
        assert_eq!((evidence.index(), evidence.sent()), (0x0304, [5; 32]));
        let swapped = BanEvidence { statement: text.signature.clone(), signature: text.statement.clone() };
        let cut = BanEvidence { statement: text.statement[1..].to_owned(), ..text.clone() };
        let other = BanEvidence { signature: text.signature.replace('B', "!"), ..text.clone() };
        let empty = BanEvidence { statement: String::new(), signature: String::new() };
        for wrong in [swapped, cut, other, empty] {
            assert_eq!(Evidence::from_text(&wrong), Err(NotConvicted::Malformed), "{wrong:?}");
        }
    }

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
