//! Brings the journal to a node, and takes reports out of it when the origin's signed word is back.
//!
//! A report is handed to one node; when no acknowledgement came in time, to the next one, and in the end to the repository
//! itself: a node that drops reports is gone round, and named when another way worked ([`ways`], [`withheld`]). Only a
//! signature by an origin of the verified roster counts. A node's word that a report is not wanted is only that node's:
//! the repository's own word is final.
//!
//! A later acknowledgement that names a lower number says that the repository was restored from a backup: what it lost is
//! taken out of the kept reports and delivered again.

mod ways;
pub(crate) mod withheld;

use crate::clock;
use crate::nodes::{Links, Node};
use serde::{Deserialize, Serialize};
use sluice_api::device::{ReportBatch, ReportReceipt, SignedAcknowledgement};
use sluice_api_client::ClientError;
use sluice_metadata::verify_purpose;
use sluice_model::limits::REPORTS_PER_BATCH_MAX;
use sluice_model::{EndpointId, MemberKey, Timestamp};
use sluice_state_store::{JournalEntry, StateError, StateStore};
use std::collections::BTreeSet;
use std::time::Duration;
use ways::{Check, Choice, Ways};

/// Acknowledged reports are kept this long, for a repo server that was restored from a backup.
const KEEP_ACKNOWLEDGED: Duration = Duration::from_secs(7 * 24 * 3600);
/// Purpose of the origin's signature.
const ACK_PURPOSE: &str = "ack";
/// Where the origin's last word is kept.
const LAST_WORD: &str = "acknowledged";

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// Nothing waits for an acknowledgement.
    Nothing,
    /// Nothing waits, but a node is to be asked what became of the reports that it took.
    Checking,
    /// Everything is at a node; acknowledgements are awaited.
    Awaited,
    /// No node took it.
    NoNode,
}

/// The origin's last word about this endpoint's chain.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct LastWord {
    endpoint: EndpointId,
    epoch: u32,
    at: Timestamp,
}

/// The delivering half of the program. One task owns it.
pub struct Delivery {
    store: StateStore,
    endpoint: EndpointId,
    epoch: u32,
    ways: Ways,
    /// Reports that the repository refused as they are; said once.
    refused: BTreeSet<(u32, u64)>,
    /// The node that answered last.
    last_good: Option<MemberKey>,
    complained: bool,
}

impl Delivery {
    /// For the journal of `endpoint` in `epoch`; a way is given `within` until the acknowledgement is back.
    pub fn new(store: StateStore, endpoint: EndpointId, epoch: u32, within: Duration) -> Self {
        let ways = Ways::new(within);
        Self { store, endpoint, epoch, ways, refused: BTreeSet::new(), last_good: None, complained: false }
    }

    /// How long a way is given.
    pub fn within(&self) -> Duration {
        self.ways.within
    }

    /// Hands over what was not handed over yet, and asks for acknowledgements.
    pub async fn step(&mut self, links: &Links) -> Result<Delivered, StateError> {
        self.check_back(links).await?;
        let waiting = self.waiting()?;
        if waiting.is_empty() {
            return Ok(self.nothing());
        }
        for way in self.ways.mark_overdue(clock::now()) {
            let name = links.name(&way);
            tracing::warn!(node = name, "no acknowledgement in time; the reports go another way");
        }
        let is_handed = |entry: &JournalEntry| self.ways.is_handed((entry.epoch, entry.seq));
        let fresh: Vec<&JournalEntry> = waiting.iter().filter(|entry| !is_handed(entry)).collect();
        if !fresh.is_empty() && !self.hand_over(links, &fresh).await? {
            self.ways.note_failing(clock::now());
            return Ok(Delivered::NoNode);
        }
        self.collect(links).await?;
        Ok(if self.waiting()?.is_empty() { self.nothing() } else { Delivered::Awaited })
    }

    fn nothing(&self) -> Delivered {
        if self.ways.has_checks() { Delivered::Checking } else { Delivered::Nothing }
    }

    fn waiting(&self) -> Result<Vec<JournalEntry>, StateError> {
        let mut waiting = self.store.journal_unacknowledged(REPORTS_PER_BATCH_MAX)?;
        waiting.retain(|entry| !self.refused.contains(&(entry.epoch, entry.seq)));
        Ok(waiting)
    }

    /// The ways to try now, with their clients; an address that fails is followed by the way's next one.
    fn in_order(&self, links: &Links) -> Result<Vec<Node>, StateError> {
        let mut nodes: Vec<MemberKey> = links.in_order(self.last_good).iter().map(|node| node.key).collect();
        nodes.dedup();
        let direct: Vec<MemberKey> = links.direct.iter().map(|node| node.key).collect();
        let suspects = withheld::suspects(&self.store)?;
        let choice = Choice { nodes: &nodes, direct: &direct, suspects: &suspects };
        let order = self.ways.order(&choice, clock::now());
        Ok(order.iter().flat_map(|key| links.of_key(key)).cloned().collect())
    }

    /// `true` once one way has them durably.
    async fn hand_over(&mut self, links: &Links, entries: &[&JournalEntry]) -> Result<bool, StateError> {
        let batch = ReportBatch { reports: entries.iter().map(|entry| entry.envelope.clone()).collect() };
        for way in self.in_order(links)? {
            match way.client.outcomes(&batch).await {
                Ok(receipt) => {
                    if self.take_receipt(links, &way, entries, receipt)? {
                        return Ok(true);
                    }
                }
                Err(error) => self.complain(&way, &error),
            }
        }
        Ok(false)
    }

    fn take_receipt(
        &mut self,
        links: &Links,
        way: &Node,
        entries: &[&JournalEntry],
        receipt: ReportReceipt,
    ) -> Result<bool, StateError> {
        let is_direct = links.origins.contains(&way.key);
        for acknowledgement in &receipt.acknowledgements {
            self.accept(acknowledgement, links, way.key)?;
        }
        for refused in &receipt.refused {
            let Some(entry) = entries.get(refused.index) else { continue };
            if is_direct {
                tracing::error!(seq = entry.seq, reason = %refused.reason, "the repository refused a report");
                self.refused.insert((entry.epoch, entry.seq));
            } else {
                tracing::warn!(node = %way.name, seq = entry.seq, reason = %refused.reason, "refused by a node");
            }
        }
        let is_answered = receipt.stored + receipt.refused.len() as u64 >= entries.len() as u64;
        if !is_direct && !receipt.refused.is_empty() {
            self.ways.note_refused(way.key, clock::now());
            return Ok(false);
        }
        if !is_answered {
            tracing::warn!(node = %way.name, stored = receipt.stored, "took only a part");
            return Ok(false);
        }
        let up_to = entries.iter().map(|entry| (entry.epoch, entry.seq)).max().unwrap_or_default();
        tracing::debug!(node = %way.name, reports = entries.len(), "reports are handed over");
        let is_through = self.store.journal_acknowledged_seq(self.epoch)? >= up_to.1 && up_to.0 == self.epoch;
        if !is_through {
            self.ways.note_handed(way.key, up_to, entries.len() as u64, clock::now());
        }
        if !is_direct {
            self.last_good = Some(way.key);
        }
        self.complained = false;
        Ok(true)
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
        for node in links.in_order(self.ways.current()) {
            let Ok(answer) = node.client.acknowledgements().await else { continue };
            let mut count = 0;
            for acknowledgement in &answer.acknowledgements {
                count += self.accept(acknowledgement, links, node.key)?;
            }
            if count > 0 {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Asks nodes whose reports came through another way whether they know it by now. A node that carried them has the
    /// origin's word; one that does not have it did not carry them.
    async fn check_back(&mut self, links: &Links) -> Result<(), StateError> {
        for check in self.ways.due_checks(clock::now()) {
            let Some(node) = links.nodes.iter().find(|node| node.key == check.way) else { continue };
            let Ok(answer) = node.client.acknowledgements().await else {
                self.ways.check_later(check, clock::now());
                continue;
            };
            let is_through = answer
                .acknowledgements
                .iter()
                .any(|ack| (ack.epoch, ack.seq) >= check.up_to && self.check(ack, &links.origins).is_ok());
            if !is_through {
                self.name(node, &check)?;
            }
        }
        Ok(())
    }

    fn name(&mut self, node: &Node, check: &Check) -> Result<(), StateError> {
        tracing::error!(
            node = %node.name,
            reports = check.reports,
            "took reports and let none through, while another way worked; the repository is told, and the node is avoided"
        );
        self.last_good = self.last_good.filter(|key| *key != node.key);
        withheld::note(&self.store, node.key, check.reports)
    }

    /// Marks what a valid acknowledgement covers; answers how many reports that were.
    fn accept(&mut self, ack: &SignedAcknowledgement, links: &Links, by: MemberKey) -> Result<u64, StateError> {
        if let Err(reason) = self.check(ack, &links.origins) {
            tracing::warn!(signer = %ack.signer.short(), reason, "an acknowledgement was not believed");
            return Ok(0);
        }
        let head = self.store.journal_head()?.map_or((0, 0), |head| (head.epoch, head.seq));
        if (ack.epoch, ack.seq) > head {
            tracing::error!(
                epoch = ack.epoch,
                seq = ack.seq,
                "the repository has reports of this endpoint that it never wrote: a copy of this machine's key is in use, \
                 or this machine was set back; enrol it anew"
            );
        }
        let now = clock::timestamp();
        let count = tokio::task::block_in_place(|| {
            self.reopen(ack)?;
            let count = self.store.journal_acknowledge(ack.epoch, ack.seq, now)?;
            let before = now.as_millis().saturating_sub(KEEP_ACKNOWLEDGED.as_millis() as u64);
            self.store.journal_prune(Timestamp::from_millis(before))?;
            Ok::<_, StateError>(count)
        })?;
        self.ways.note_acknowledged((ack.epoch, ack.seq), by, clock::now());
        if count > 0 {
            tracing::info!(reports = count, seq = ack.seq, "acknowledged by the repository");
        }
        Ok(count)
    }

    /// When the origin's latest word is that it has less than it said before, what it lacks waits again.
    fn reopen(&mut self, ack: &SignedAcknowledgement) -> Result<(), StateError> {
        // A word that another version kept is as good as none.
        let last: Option<LastWord> = self.store.get(LAST_WORD)?.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let last = last.filter(|last| last.endpoint == self.endpoint);
        let is_news = last.is_none_or(|last| (ack.epoch, ack.at) > (last.epoch, last.at));
        if ack.epoch != self.epoch || !is_news {
            return Ok(());
        }
        let word = LastWord { endpoint: ack.endpoint, epoch: ack.epoch, at: ack.at };
        self.store.put(LAST_WORD, &serde_json::to_vec(&word).expect("numbers are JSON"))?;
        let acknowledged = self.store.journal_acknowledged_seq(self.epoch)?;
        if ack.seq >= acknowledged {
            return Ok(());
        }
        self.ways.forget_handed();
        match self.store.journal_reopen(self.epoch, ack.seq)? {
            Some((lowest, reports)) if lowest == ack.seq + 1 => {
                tracing::warn!(
                    reports,
                    from = lowest,
                    "the repository lost reports that it had acknowledged (it was restored from a backup?); sending them again"
                );
            }
            _ => tracing::error!(
                lacks = ack.seq + 1,
                "the repository lost reports that this endpoint keeps no longer; run `sluice-agent enrol` with a new token"
            ),
        }
        Ok(())
    }

    /// Why an acknowledgement is not to be believed.
    fn check(&self, ack: &SignedAcknowledgement, origins: &[MemberKey]) -> Result<(), &'static str> {
        if ack.endpoint != self.endpoint {
            return Err("it is for another endpoint");
        }
        if !origins.contains(&ack.signer) {
            return Err("its signer is no origin of the signed roster");
        }
        let signature = hex::decode(&ack.signature).map_err(|_| "its signature is not hex")?;
        verify_purpose(ack.signer.as_bytes(), ACK_PURPOSE, &ack.signed_bytes(), &signature)
            .map_err(|_| "its signature does not verify")
    }
}

#[cfg(test)]
mod tests;
