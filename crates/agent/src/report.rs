//! Outcome reports: numbered, chained, signed, and durable in the journal before anybody hears of them.

use crate::clock;
use crate::delivery::withheld;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use sluice_compliance::{AttemptNote, ByteSource, FailureClass, OutcomeKind, OutcomeReport, PackageVersion};
use sluice_identity::DeviceKey;
use sluice_metadata::dsse;
use sluice_model::dsse::{DsseEnvelope, OUTCOME_REPORT_TYPE};
use sluice_model::limits::REPORT_BYTES_MAX;
use sluice_model::{PatchRef, RingName, Sha256};
use sluice_state_store::{JournalEntry, StateError, StateStore};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What happened, before it is numbered and signed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What it came to.
    pub kind: OutcomeKind,
    /// Which patch.
    pub patch: Option<PatchRef>,
    /// Its artifacts, in set order.
    pub sha256: Vec<Sha256>,
    /// Class of a failure.
    pub class: Option<FailureClass>,
    /// dpkg's words, or ours.
    pub detail: String,
    /// Before.
    pub before: Vec<PackageVersion>,
    /// After.
    pub after: Vec<PackageVersion>,
    /// Where bytes came from.
    pub sources: Vec<ByteSource>,
    /// From decision to proof.
    pub duration_ms: u64,
}

impl Outcome {
    /// One with nothing but its kind and patch.
    pub fn of(kind: OutcomeKind, patch: Option<PatchRef>) -> Self {
        Self {
            kind,
            patch,
            sha256: Vec::new(),
            class: None,
            detail: String::new(),
            before: Vec::new(),
            after: Vec::new(),
            sources: Vec::new(),
            duration_ms: 0,
        }
    }
}

/// Writes the journal of one endpoint and epoch. There is one.
pub struct Reporter {
    store: StateStore,
    key: DeviceKey,
    epoch: u32,
    boot_id: String,
}

impl Reporter {
    /// For this epoch.
    pub fn new(store: StateStore, key: DeviceKey, epoch: u32) -> Self {
        let boot_id = std::fs::read_to_string(BOOT_ID).map(|text| text.trim().to_owned()).unwrap_or_default();
        Self { store, key, epoch, boot_id }
    }

    /// Numbers, signs and stores a report; it is durable when this returns. `attempt` counts failed attempts in a row, of
    /// which this is the last.
    pub fn append(
        &self,
        outcome: Outcome,
        attempt: Option<AttemptNote>,
        ring: Option<&RingName>,
        timestamp_version: u64,
    ) -> Result<u64, StateError> {
        let withheld = withheld::known(&self.store)?;
        let head = self.store.journal_head()?.filter(|head| head.epoch == self.epoch);
        let (seq, previous) =
            head.as_ref().map_or((1, Sha256::from_bytes([0; 32])), |head| (head.seq + 1, hash_of(head)));
        let mut report = OutcomeReport {
            schema: 1,
            endpoint: self.key.endpoint_id(),
            epoch: self.epoch,
            seq,
            previous,
            outcome: outcome.kind,
            patch: outcome.patch,
            ring: ring.cloned(),
            sha256: outcome.sha256,
            class: outcome.class,
            detail: outcome.detail,
            before: outcome.before,
            after: outcome.after,
            sources: outcome.sources,
            duration_ms: outcome.duration_ms,
            boot_id: self.boot_id.clone(),
            timestamp_version,
            device_time: clock::timestamp(),
            attempt,
            withheld,
        };
        let envelope = self.sign_within_bound(&mut report);
        self.store.journal_append(self.epoch, seq, &envelope)?;
        withheld::note_said(&self.store, &report.withheld)?;
        tracing::info!(seq, outcome = ?report.outcome, patch = report.patch.as_ref().map(tracing::field::display), "outcome is in the journal");
        Ok(seq)
    }

    /// Whether the newest report says that `patch` is installed.
    pub fn last_says_installed(&self, patch: &PatchRef) -> Result<bool, StateError> {
        let head = self.store.journal_head()?.filter(|head| head.epoch == self.epoch);
        let report = head.and_then(|head| serde_json::from_slice::<OutcomeReport>(&payload_of(&head)?).ok());
        Ok(report
            .is_some_and(|report| report.outcome == OutcomeKind::Installed && report.patch.as_ref() == Some(patch)))
    }

    /// What is least needed is cut first: words, then sources, then lists.
    fn sign_within_bound(&self, report: &mut OutcomeReport) -> DsseEnvelope {
        for cut in 0.. {
            let payload = serde_json::to_vec(report).expect("a report is JSON");
            let keyid = report.endpoint.to_hex();
            let envelope = dsse::sign(self.key.signer(), OUTCOME_REPORT_TYPE, &payload, &keyid);
            let length = serde_json::to_vec(&envelope).expect("an envelope is JSON").len();
            if length <= REPORT_BYTES_MAX || cut > 3 {
                return envelope;
            }
            match cut {
                0 => report.detail = report.detail.chars().take(1_000).collect(),
                1 => report.sources.clear(),
                2 => report.before.clear(),
                _ => report.after.clear(),
            }
        }
        unreachable!("the loop ends at the fourth cut")
    }
}

fn payload_of(entry: &JournalEntry) -> Option<Vec<u8>> {
    STANDARD.decode(&entry.envelope.payload).ok()
}

fn hash_of(entry: &JournalEntry) -> Sha256 {
    let payload = payload_of(entry).expect("the journal holds envelopes that this program made");
    let mut hash = [0u8; Sha256::LEN];
    hash.copy_from_slice(digest(&SHA256, &payload).as_ref());
    Sha256::from_bytes(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_model::Timestamp;

    fn reporter(path: &std::path::Path, key: &DeviceKey) -> Reporter {
        Reporter::new(StateStore::open(path).unwrap(), key.clone(), 1)
    }

    fn read(store: &StateStore, key: &DeviceKey) -> Vec<(OutcomeReport, Vec<u8>)> {
        let mut entries = store.journal_latest(100).unwrap();
        entries.reverse();
        entries
            .iter()
            .map(|entry| {
                let payload = dsse::verify(&entry.envelope, key.public().as_bytes(), OUTCOME_REPORT_TYPE).unwrap();
                (serde_json::from_slice(&payload).unwrap(), payload)
            })
            .collect()
    }

    #[test]
    fn reports_are_chained_and_numbered_on_across_a_restart_and_an_acknowledgement() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.redb");
        let key = DeviceKey::generate().unwrap();
        let first = reporter(&path, &key);
        first.append(Outcome::of(OutcomeKind::Heartbeat, None), None, None, 1).unwrap();
        first.append(Outcome::of(OutcomeKind::Installed, Some("jq/1".parse().unwrap())), None, None, 1).unwrap();
        assert!(first.last_says_installed(&"jq/1".parse().unwrap()).unwrap());
        assert!(!first.last_says_installed(&"jq/2".parse().unwrap()).unwrap());
        first.store.journal_acknowledge(1, 2, Timestamp::from_millis(1)).unwrap();
        drop(first);
        let second = reporter(&path, &key);
        assert_eq!(second.append(Outcome::of(OutcomeKind::Heartbeat, None), None, None, 1).unwrap(), 3);

        let reports = read(&second.store, &key);
        let mut previous = Sha256::from_bytes([0; 32]);
        for (idx, (report, payload)) in reports.iter().enumerate() {
            assert_eq!((report.seq, report.previous), (idx as u64 + 1, previous));
            previous.clone_from(&Sha256::from_bytes(digest(&SHA256, payload).as_ref().try_into().unwrap()));
        }
        assert_eq!(reports.len(), 3);
    }

    #[test]
    fn a_new_epoch_begins_a_new_chain() {
        let dir = tempfile::tempdir().unwrap();
        let key = DeviceKey::generate().unwrap();
        let first = reporter(&dir.path().join("state.redb"), &key);
        first.append(Outcome::of(OutcomeKind::Heartbeat, None), None, None, 1).unwrap();
        let second = Reporter::new(first.store.clone(), key.clone(), 2);
        assert_eq!(second.append(Outcome::of(OutcomeKind::Heartbeat, None), None, None, 1).unwrap(), 1);
        let reports = read(&second.store, &key);
        assert_eq!((reports[1].0.epoch, reports[1].0.previous), (2, Sha256::from_bytes([0; 32])));
    }

    #[test]
    fn a_report_with_endless_words_is_cut_to_its_bound_and_still_verifies() {
        let dir = tempfile::tempdir().unwrap();
        let key = DeviceKey::generate().unwrap();
        let reporter = reporter(&dir.path().join("state.redb"), &key);
        let mut outcome = Outcome::of(OutcomeKind::Failed, Some("jq/1".parse().unwrap()));
        outcome.detail = "ü".repeat(4_000);
        outcome.before = (0..64)
            .map(|idx| PackageVersion {
                package: format!("package-{idx}-{}", "x".repeat(60)),
                version: Some("1".repeat(40)),
            })
            .collect();
        outcome.after = outcome.before.clone();
        reporter.append(outcome, None, None, 1).unwrap();
        let entry = &reporter.store.journal_latest(1).unwrap()[0];
        assert!(serde_json::to_vec(&entry.envelope).unwrap().len() <= REPORT_BYTES_MAX);
        assert_eq!(read(&reporter.store, &key)[0].0.after.len(), 64);
    }
}
