//! Brings the journal to a node, and takes reports out of it when the origin's signed word is back.
//!
//! A report is handed to one node; when no acknowledgement came within [`AGAIN_AFTER`], to the next one: a node that
//! drops reports is gone round. Only a signature by an origin of the verified roster counts.

use crate::clock;
use crate::nodes::{Links, Node};
use sluice_api::device::{ReportBatch, SignedAcknowledgement};
use sluice_api_client::ClientError;
use sluice_metadata::verify_purpose;
use sluice_model::limits::REPORTS_PER_BATCH_MAX;
use sluice_model::{EndpointId, MemberKey};
use sluice_state_store::{JournalEntry, StateError, StateStore};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Acknowledged reports are kept this long, for a repo server that was restored from a backup.
const KEEP_ACKNOWLEDGED: Duration = Duration::from_secs(7 * 24 * 3600);
/// Without an acknowledgement, reports are handed over again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(120);
/// Purpose of the origin's signature.
const ACK_PURPOSE: &str = "ack";

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// Nothing waits for an acknowledgement.
    Nothing,
    /// Everything is at a node; acknowledgements are awaited.
    Awaited,
    /// No node took it.
    NoNode,
}

/// The delivering half of the program. One task owns it.
pub struct Delivery {
    store: StateStore,
    endpoint: EndpointId,
    /// Highest (epoch, seq) handed over, to whom and when.
    handed: Option<Handed>,
    /// Reports that a receiver refused as they are; said once.
    refused: BTreeSet<(u32, u64)>,
    last_good: Option<MemberKey>,
    complained: bool,
}

#[derive(Clone, Copy)]
struct Handed {
    up_to: (u32, u64),
    node: MemberKey,
    at: Instant,
}

impl Delivery {
    /// For the journal of `endpoint`.
    pub fn new(store: StateStore, endpoint: EndpointId) -> Self {
        Self { store, endpoint, handed: None, refused: BTreeSet::new(), last_good: None, complained: false }
    }

    /// Hands over what was not handed over yet, and asks for acknowledgements.
    pub async fn step(&mut self, links: &Links) -> Result<Delivered, StateError> {
        let waiting = self.waiting()?;
        if waiting.is_empty() {
            return Ok(Delivered::Nothing);
        }
        let again = self.handed.filter(|handed| clock::now().saturating_duration_since(handed.at) >= AGAIN_AFTER);
        if let Some(handed) = again {
            tracing::warn!(node = %handed.node.short(), "no acknowledgement; handing the reports to another node");
            self.handed = None;
            self.last_good = links.nodes.iter().map(|node| node.key).find(|key| *key != handed.node).or(self.last_good);
        }
        let is_handed =
            |entry: &JournalEntry| self.handed.is_some_and(|handed| (entry.epoch, entry.seq) <= handed.up_to);
        let fresh: Vec<&JournalEntry> = waiting.iter().filter(|entry| !is_handed(entry)).collect();
        if !fresh.is_empty() && !self.hand_over(links, &fresh).await {
            return Ok(Delivered::NoNode);
        }
        self.collect(links).await?;
        Ok(if self.waiting()?.is_empty() { Delivered::Nothing } else { Delivered::Awaited })
    }

    fn waiting(&self) -> Result<Vec<JournalEntry>, StateError> {
        let mut waiting = self.store.journal_unacknowledged(REPORTS_PER_BATCH_MAX)?;
        waiting.retain(|entry| !self.refused.contains(&(entry.epoch, entry.seq)));
        Ok(waiting)
    }

    /// `true` once one node has them durably.
    async fn hand_over(&mut self, links: &Links, entries: &[&JournalEntry]) -> bool {
        let batch = ReportBatch { reports: entries.iter().map(|entry| entry.envelope.clone()).collect() };
        for node in links.in_order(self.last_good) {
            match node.client.outcomes(&batch).await {
                Ok(receipt) if receipt.stored + receipt.refused.len() as u64 >= entries.len() as u64 => {
                    for refused in receipt.refused {
                        let Some(entry) = entries.get(refused.index) else { continue };
                        tracing::error!(seq = entry.seq, reason = %refused.reason, "a report was refused");
                        self.refused.insert((entry.epoch, entry.seq));
                    }
                    let up_to = entries.iter().map(|entry| (entry.epoch, entry.seq)).max().unwrap_or_default();
                    tracing::debug!(node = %node.name, reports = entries.len(), "reports are at a node");
                    self.handed = Some(Handed { up_to, node: node.key, at: clock::now() });
                    self.last_good = Some(node.key);
                    self.complained = false;
                    return true;
                }
                Ok(receipt) => tracing::warn!(node = %node.name, stored = receipt.stored, "took only a part"),
                Err(error) => self.complain(&node, &error),
            }
        }
        false
    }

    fn complain(&mut self, node: &Node, error: &ClientError) {
        if self.complained {
            tracing::debug!(node = %node.name, %error, "reports were not taken");
        } else {
            tracing::warn!(node = %node.name, %error, "reports were not taken; they stay in the journal");
            self.complained = true;
        }
    }

    /// Asks the nodes, the one that has the reports first, until one knows something new.
    async fn collect(&mut self, links: &Links) -> Result<(), StateError> {
        for node in links.in_order(self.handed.map(|handed| handed.node)) {
            let Ok(answer) = node.client.acknowledgements().await else { continue };
            let mut count = 0;
            for acknowledgement in &answer.acknowledgements {
                count += self.accept(acknowledgement, &links.origins)?;
            }
            if count > 0 {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Marks what a valid acknowledgement covers; answers how many reports that were.
    pub fn accept(&self, acknowledgement: &SignedAcknowledgement, origins: &[MemberKey]) -> Result<u64, StateError> {
        if let Err(reason) = check(acknowledgement, &self.endpoint, origins) {
            tracing::warn!(signer = %acknowledgement.signer.short(), reason, "an acknowledgement was not believed");
            return Ok(0);
        }
        let head = self.store.journal_head()?.map_or((0, 0), |head| (head.epoch, head.seq));
        if (acknowledgement.epoch, acknowledgement.seq) > head {
            tracing::error!(
                epoch = acknowledgement.epoch,
                seq = acknowledgement.seq,
                "the repository has reports of this endpoint that it never wrote: a copy of this machine's key is in use"
            );
        }
        let now = clock::timestamp();
        let count = tokio::task::block_in_place(|| {
            let count = self.store.journal_acknowledge(acknowledgement.epoch, acknowledgement.seq, now)?;
            let before = now.as_millis().saturating_sub(KEEP_ACKNOWLEDGED.as_millis() as u64);
            self.store.journal_prune(sluice_model::Timestamp::from_millis(before))?;
            Ok::<_, StateError>(count)
        })?;
        if count > 0 {
            tracing::info!(reports = count, seq = acknowledgement.seq, "acknowledged by the repository");
        }
        Ok(count)
    }
}

/// Why an acknowledgement is not to be believed.
fn check(ack: &SignedAcknowledgement, endpoint: &EndpointId, origins: &[MemberKey]) -> Result<(), &'static str> {
    if ack.endpoint != *endpoint {
        return Err("it is for another endpoint");
    }
    if !origins.contains(&ack.signer) {
        return Err("its signer is no origin of the signed roster");
    }
    let bytes = SignedAcknowledgement::signed_bytes(&ack.endpoint, ack.epoch, ack.seq);
    let signature = hex::decode(&ack.signature).map_err(|_| "its signature is not hex")?;
    verify_purpose(ack.signer.as_bytes(), ACK_PURPOSE, &bytes, &signature).map_err(|_| "its signature does not verify")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Outcome, Reporter};
    use sluice_compliance::OutcomeKind;
    use sluice_identity::DeviceKey;

    fn ack(endpoint: EndpointId, seq: u64, origin: &DeviceKey) -> SignedAcknowledgement {
        let bytes = SignedAcknowledgement::signed_bytes(&endpoint, 1, seq);
        SignedAcknowledgement {
            endpoint,
            epoch: 1,
            seq,
            signer: origin.public(),
            signature: hex::encode(origin.signer().sign_purpose(ACK_PURPOSE, &bytes)),
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn only_the_signature_of_a_known_origin_over_our_own_chain_takes_reports_out_of_the_journal() {
        let dir = tempfile::tempdir().unwrap();
        let store = StateStore::open(dir.path().join("state.redb")).unwrap();
        let (key, origin, stranger) =
            (DeviceKey::generate().unwrap(), DeviceKey::generate().unwrap(), DeviceKey::generate().unwrap());
        let reporter = Reporter::new(store.clone(), key.clone(), 1);
        for _ in 0..3 {
            reporter.append(Outcome::of(OutcomeKind::Heartbeat, None), None, 1).unwrap();
        }
        let me = key.endpoint_id();
        let delivery = Delivery::new(store.clone(), me);
        let origins = [origin.public()];
        let mut altered = ack(me, 2, &origin);
        altered.seq = 3;
        let refused = [ack(me, 3, &stranger), ack(stranger.endpoint_id(), 3, &origin), altered];
        for refused in &refused {
            assert_eq!(delivery.accept(refused, &origins).unwrap(), 0, "{refused:?}");
        }
        assert_eq!(store.journal_unacknowledged(10).unwrap().len(), 3);
        assert_eq!(delivery.accept(&ack(me, 2, &origin), &origins).unwrap(), 2);
        assert_eq!(delivery.accept(&ack(me, 2, &origin), &origins).unwrap(), 0);
        let left: Vec<u64> = store.journal_unacknowledged(10).unwrap().iter().map(|entry| entry.seq).collect();
        assert_eq!(left, [3]);
    }
}
