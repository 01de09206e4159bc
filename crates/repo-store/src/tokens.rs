//! Enrolment tokens of devices and bearer tokens of persons. Only the BLAKE3 of a secret is kept.
//!
//! A secret is 256 random bits, so one hash without salt or stretching hides it.

use crate::{Reads, Rows, StoreError, WriteTx};
use serde::{Deserialize, Serialize};
use sluice_model::{AccessScope, MemberKey, PersonName, PersonRole, RingName, SiteName, Timestamp};

const ENROLMENT: Rows<&str> = Rows::new("enrolment_tokens_1");
const PERSONS: Rows<&str> = Rows::new("person_tokens_2");

pub(crate) fn create(tx: &WriteTx) -> Result<(), StoreError> {
    tx.create(ENROLMENT)?;
    tx.create(PERSONS)
}

/// What a token's secret is known by.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// Of a secret.
    pub fn of(secret: &[u8; 32]) -> Self {
        Self(*blake3::hash(secret).as_bytes())
    }

    /// Whether it is this secret's; takes the same time whatever the answer.
    pub fn matches(&self, secret: &[u8; 32]) -> bool {
        blake3::Hash::from_bytes(self.0) == blake3::hash(secret)
    }
}

impl std::fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretHash")
    }
}

/// What an enrolment token enrols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenKind {
    /// A caching node.
    Node,
    /// An endpoint of this ring.
    Endpoint,
}

/// A token that enrols one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolmentTokenRecord {
    /// 16 lower-case hex characters.
    pub id: String,
    /// Of its secret.
    pub secret: SecretHash,
    /// What it enrols.
    pub kind: TokenKind,
    /// Where.
    pub site: SiteName,
    /// For endpoints.
    pub ring: Option<RingName>,
    /// Who asked for it.
    pub created_by: PersonName,
    /// When.
    pub created_at: Timestamp,
    /// The first moment at which it is no longer taken.
    pub expires_at: Timestamp,
    /// Set in the transaction of the enrolment.
    pub used: Option<TokenUse>,
}

/// The one use of an enrolment token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenUse {
    /// Key of the device that it enrolled.
    pub by: MemberKey,
    /// When.
    pub at: Timestamp,
}

/// A person's bearer token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersonTokenRecord {
    /// 16 lower-case hex characters.
    pub id: String,
    /// Of its secret.
    pub secret: SecretHash,
    /// Whose.
    pub person: PersonName,
    /// What it may do.
    pub roles: Vec<PersonRole>,
    /// Where it may do it.
    pub scope: AccessScope,
    /// Who made it: a person, or `server` for the first.
    pub created_by: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// The first moment at which it is no longer taken.
    pub expires_at: Timestamp,
    /// Until when its owner may replace it.
    pub renewable_until: Timestamp,
    /// Since when it is no longer taken, and by whom.
    pub revoked: Option<TokenRevocation>,
}

/// The end of a person's token before its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRevocation {
    /// Who ended it.
    pub by: PersonName,
    /// When.
    pub at: Timestamp,
}

/// Writes an enrolment token, replacing its older record.
pub fn put_enrolment(tx: &WriteTx, token: &EnrolmentTokenRecord) -> Result<(), StoreError> {
    tx.put(ENROLMENT, token.id.as_str(), token)
}

/// The enrolment token with that id.
pub fn enrolment(tx: &impl Reads, id: &str) -> Result<Option<EnrolmentTokenRecord>, StoreError> {
    tx.get(ENROLMENT, id)
}

/// Removes an enrolment token; whether there was one.
pub fn remove_enrolment(tx: &WriteTx, id: &str) -> Result<bool, StoreError> {
    tx.remove(ENROLMENT, id)
}

/// Every enrolment token, by id.
pub fn enrolments(tx: &impl Reads) -> Result<Vec<EnrolmentTokenRecord>, StoreError> {
    tx.list::<_, &str, _>(ENROLMENT, .., usize::MAX)
}

/// Removes a person's token; whether there was one.
pub fn remove_person(tx: &WriteTx, id: &str) -> Result<bool, StoreError> {
    tx.remove(PERSONS, id)
}

/// Every person's token, by id.
pub fn persons(tx: &impl Reads) -> Result<Vec<PersonTokenRecord>, StoreError> {
    tx.list::<_, &str, _>(PERSONS, .., usize::MAX)
}

/// Writes a person's token, replacing its older record.
pub fn put_person(tx: &WriteTx, token: &PersonTokenRecord) -> Result<(), StoreError> {
    tx.put(PERSONS, token.id.as_str(), token)
}

/// The person's token with that id.
pub fn person(tx: &impl Reads, id: &str) -> Result<Option<PersonTokenRecord>, StoreError> {
    tx.get(PERSONS, id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;

    #[test]
    fn a_secret_is_known_by_its_hash_alone() {
        let hash = SecretHash::of(&[7; 32]);
        assert!(hash.matches(&[7; 32]));
        assert!(!hash.matches(&[8; 32]));
        assert_eq!(format!("{hash:?}"), "SecretHash");
    }

    #[test]
    fn a_token_that_was_used_in_a_change_that_failed_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("repo.redb")).unwrap();
        let token = EnrolmentTokenRecord {
            id: "00".into(),
            secret: SecretHash::of(&[7; 32]),
            kind: TokenKind::Endpoint,
            site: "lyon".parse().unwrap(),
            ring: Some("pilot".parse().unwrap()),
            created_by: "ann".parse().unwrap(),
            created_at: Timestamp::from_millis(1),
            expires_at: Timestamp::from_millis(2),
            used: None,
        };
        store.write(|tx| put_enrolment(tx, &token)).unwrap();
        let failed: Result<(), StoreError> = store.write(|tx| {
            let by = MemberKey::from_bytes([1; 32]);
            put_enrolment(
                tx,
                &EnrolmentTokenRecord { used: Some(TokenUse { by, at: token.expires_at }), ..token.clone() },
            )?;
            Err(StoreError::Stopped)
        });
        assert!(failed.is_err());
        assert_eq!(store.read(|tx| enrolment(tx, "00")).unwrap(), Some(token));
    }
}
