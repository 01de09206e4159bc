//! Sends the audit log as it stands, to be verified elsewhere: `sluice_audit` has the form and the judge.
//!
//! Memory is that of one page. Everything sent is covered by the last head, which is signed before the first line.

use crate::authorize::Principal;
use crate::operations::{Failure, audited};
use crate::state::Shared;
use bytes::Bytes;
use futures::stream::{self, Stream};
use sluice_audit::{begin_line, head_line, leaf_line, root_line};
use sluice_repo_store::{ReadTx, audit};

/// Leaves read at once: 150 bytes each as a rule, 96 KiB at the very worst.
const PAGE_LEAVES: usize = 256;

/// The log up to its newest signed head, line by line.
pub async fn run(
    app: &Shared,
    principal: &Principal,
) -> Result<impl Stream<Item = Result<Bytes, Failure>> + use<>, Failure> {
    let line = audited::done(&principal.person, "audit.export", "audit log", "exported the whole log");
    app.store.change(move |tx| audit::append(tx, line)).await?;
    if let Err(failure) = app.authority.renew().await {
        // The log up to the head before is as good; what is newer is in the next export.
        tracing::warn!(error = &failure as &dyn std::error::Error, "the audit log is exported up to an older head");
    }
    let (size, timestamp) = app
        .store
        .look(|tx| Ok::<_, Failure>(audit::last_head(tx)?))
        .await?
        .ok_or_else(|| Failure::broken("exporting the audit log", "no head was signed yet"))?;
    let served = app.served();
    let mut number = 1;
    let mut opening = begin_line(&served.view.repo_id, size);
    for root in roots(&served.files) {
        number += 1;
        opening.extend(root_line(number, root));
    }
    let export = Export { app: app.clone(), size, timestamp, sent: 0, number };
    let pages = stream::try_unfold(Some(export), |export| async move {
        let Some(export) = export else { return Ok(None) };
        let (page, rest) = export.page().await?;
        Ok(Some((Bytes::from(page), rest)))
    });
    let opening = stream::once(async move { Ok(Bytes::from(opening)) });
    Ok(futures::StreamExt::chain(opening, pages))
}

/// Every root, the first one first.
fn roots<'a>(files: impl IntoIterator<Item = (&'a String, &'a Bytes)>) -> Vec<&'a Bytes> {
    let version = |name: &str| name.strip_suffix(".root.json")?.parse::<u64>().ok();
    let mut roots: Vec<(u64, &Bytes)> =
        files.into_iter().filter_map(|(name, bytes)| Some((version(name)?, bytes))).collect();
    roots.sort_by_key(|(version, _)| *version);
    roots.into_iter().map(|(_, bytes)| bytes).collect()
}

/// How far an export has come.
struct Export {
    app: Shared,
    /// Leaves in all.
    size: u64,
    /// The signed head over all of them; by now the store may have let it go for a newer one.
    timestamp: Vec<u8>,
    /// Leaves sent.
    sent: u64,
    /// Lines sent.
    number: u64,
}

impl Export {
    /// The next lines, and what is left after them.
    async fn page(mut self) -> Result<(Vec<u8>, Option<Self>), Failure> {
        let (sent, size) = (self.sent, self.size);
        let (leaves, heads) = self.app.store.look(move |tx| read(tx, sent, size)).await?;
        let mut page = Vec::new();
        let mut heads = heads.into_iter().peekable();
        for (seq, leaf) in leaves {
            if seq != self.sent + 1 {
                return Err(Failure::broken("exporting the audit log", format!("entry {} is missing", self.sent + 1)));
            }
            self.sent = seq;
            page.extend(leaf_line(self.next_number(), &leaf));
            if let Some((_, timestamp)) = heads.next_if(|(head, _)| *head == seq && seq < size) {
                page.extend(head_line(self.next_number(), &timestamp));
            }
        }
        if self.sent < size {
            return Ok((page, Some(self)));
        }
        page.extend(head_line(self.next_number(), &self.timestamp));
        Ok((page, None))
    }

    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }
}

type Rows = Vec<(u64, Vec<u8>)>;

fn read(tx: &ReadTx, sent: u64, size: u64) -> Result<(Rows, Rows), Failure> {
    let leaves = audit::leaves(tx, sent, size, PAGE_LEAVES)?;
    let Some((last, _)) = leaves.last() else {
        return Err(Failure::broken("exporting the audit log", format!("entry {} is missing", sent + 1)));
    };
    let heads = audit::heads(tx, sent, *last, PAGE_LEAVES)?;
    Ok((leaves, heads))
}
