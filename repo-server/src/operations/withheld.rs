//! Which nodes took reports and let none through, as endpoints of their own site say it.
//!
//! An endpoint's word about a node of another site, or of a node that is no member, is not repeated to anybody: it has no
//! business there. One endpoint's word proves nothing; that several say it of one node does.

use crate::clock;
use crate::operations::{Failure, compliance};
use crate::state::App;
use sluice_api::admin::WithheldReports;
use sluice_model::{EndpointState, MemberKey, Timestamp};
use sluice_repo_store::members::{self, EndpointRecord};
use std::collections::BTreeMap;
use std::time::Duration;

/// Words that are older say nothing about the node as it is.
const SHOWN_FOR: Duration = Duration::from_secs(7 * 24 * 3600);
/// Words about one node in one answer.
const WORDS_MAX: usize = 100;

/// What endpoints said lately, by node, the latest word first.
pub async fn by_node(app: &App) -> Result<BTreeMap<MemberKey, Vec<WithheldReports>>, Failure> {
    let since = clock::timestamp().as_millis().saturating_sub(u64::try_from(SHOWN_FOR.as_millis()).unwrap_or(u64::MAX));
    let words = compliance::read(app, move |store| store.withheld(Timestamp::from_millis(since))).await?;
    if words.is_empty() {
        return Ok(BTreeMap::new());
    }
    let records = app.store.look(|tx| Ok::<_, Failure>(members::endpoints(tx)?)).await?;
    let records: BTreeMap<_, EndpointRecord> = records.into_iter().map(|record| (record.id, record)).collect();
    let served = app.served();
    let mut found = BTreeMap::new();
    for (node, words) in words {
        let Some(member) = served.roster.member(&node) else { continue };
        let mut rows: Vec<WithheldReports> = words
            .into_iter()
            .filter_map(|(endpoint, word)| {
                let record = records.get(&endpoint)?;
                let counts = record.state == EndpointState::Active && Some(&record.site) == member.site.as_ref();
                let name = record.name.clone();
                counts.then_some(WithheldReports { endpoint, endpoint_name: name, reports: word.reports, at: word.at })
            })
            .collect();
        rows.sort_by_key(|row| (std::cmp::Reverse(row.at), row.endpoint));
        rows.truncate(WORDS_MAX);
        found.insert(node, rows);
    }
    Ok(found)
}
