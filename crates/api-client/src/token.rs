//! The enrolment token as text: `slt1-<id 16 hex>-<secret 64 hex>-<first 16 bytes of sha256(root.json) 32 hex>`.

use std::fmt;
use std::str::FromStr;
use zeroize::Zeroizing;

/// Why a text is not an enrolment token. The text itself is never shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is not an enrolment token; it begins with slt1- and has 119 characters: copy it whole from `sluice token new`"
)]
pub struct TokenError;

/// An enrolment token, taken apart.
#[derive(Clone)]
pub struct EnrolmentTokenText {
    /// Names the token at the repo server.
    pub id: [u8; 8],
    /// Proves that one has it.
    secret: Zeroizing<[u8; 32]>,
    /// First 16 bytes of SHA-256 of the root metadata that the device is to trust.
    pub root_prefix: [u8; 16],
}

impl EnrolmentTokenText {
    /// A token of these parts.
    pub fn new(id: [u8; 8], secret: [u8; 32], root_prefix: [u8; 16]) -> Self {
        Self { id, secret: Zeroizing::new(secret), root_prefix }
    }

    /// The id in hex.
    pub fn id_hex(&self) -> String {
        hex::encode(self.id)
    }

    /// The secret in hex: only for the request that enrols.
    pub fn secret_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode(*self.secret))
    }

    /// The whole text, to be shown once.
    pub fn to_text(&self) -> Zeroizing<String> {
        let secret = self.secret_hex();
        Zeroizing::new(format!("slt1-{}-{}-{}", self.id_hex(), *secret, hex::encode(self.root_prefix)))
    }

    /// Whether `root_sha256` is the root that the token names.
    pub fn names_root(&self, root_sha256: &[u8; 32]) -> bool {
        root_sha256[..16] == self.root_prefix
    }
}

impl fmt::Debug for EnrolmentTokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EnrolmentTokenText({})", self.id_hex())
    }
}

impl FromStr for EnrolmentTokenText {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let mut parts = text.trim().split('-');
        if parts.next() != Some("slt1") {
            return Err(TokenError);
        }
        let mut token = Self::new([0; 8], [0; 32], [0; 16]);
        decode(parts.next(), &mut token.id)?;
        decode(parts.next(), token.secret.as_mut_slice())?;
        decode(parts.next(), &mut token.root_prefix)?;
        if parts.next().is_some() { Err(TokenError) } else { Ok(token) }
    }
}

fn decode(part: Option<&str>, into: &mut [u8]) -> Result<(), TokenError> {
    hex::decode_to_slice(part.ok_or(TokenError)?, into).map_err(|_| TokenError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_back_as_it_was_written_and_never_printed() {
        let token = EnrolmentTokenText::new([1; 8], [2; 32], [3; 16]);
        let text = token.to_text();
        assert_eq!(text.len(), 119);
        let read: EnrolmentTokenText = text.parse().unwrap();
        assert_eq!(*read.to_text(), *text);
        assert!(!format!("{read:?}").contains("0202"));
    }

    #[test]
    fn a_cut_or_stretched_token_is_refused_without_being_shown() {
        let text = EnrolmentTokenText::new([1; 8], [2; 32], [3; 16]).to_text();
        for wrong in [&text[..118], &format!("{}-00", *text), "slp1-00-11", "", &text.replace("slt1", "slt2")] {
            let error = wrong.parse::<EnrolmentTokenText>().unwrap_err().to_string();
            assert!(!error.contains("0202"), "{error}");
        }
    }
}
