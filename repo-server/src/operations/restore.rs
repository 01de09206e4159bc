//! Brings a repo server that was restored from a backup past everything that it forgot (ADR 15).
//!
//! Somebody says that it was restored ([`declare`]); from then on nothing is signed until its nodes, which dial in by
//! themselves, have shown the signed files that they hold ([`take`]); then the newest of them are taken over, every version
//! jumps past what may have been signed since, and the audit log says so ([`finish`]).
//!
//! Invariants
//! - Only what this server's own chain of roots signed is believed; who brings it does not matter.
//! - A server that nobody told of a restore changes nothing for what it is shown: its keys may be stolen. It raises an alarm.

mod adopt;
mod evidence;
mod records;

pub use records::{NOBODY, unknown_key};

use crate::clock;
use crate::operations::{Failure, audited, member_only};
use crate::state::App;
use sluice_api::restore::{NewerAnswer, NewerMetadata};
use sluice_metadata::Trusted;
use sluice_model::{LogHead, MemberKey, Timestamp};
use sluice_repo_store::restore::{self, RestoreRecord};
use sluice_repo_store::tokens::{self, EnrolmentTokenRecord};
use sluice_repo_store::{Store, audit, metadata};
use std::sync::Arc;

/// What [`declare`] did.
pub struct Declared {
    /// The audit log of the backup.
    pub backup: LogHead,
    /// Its timestamp.
    pub timestamp_version: u64,
    /// Enrolment tokens that are no longer taken.
    pub tokens_ended: usize,
}

/// Notes that the data was restored from a backup, while the server does not run.
///
/// Enrolment tokens that look unused end: they may have been used since.
pub fn declare(store: &Store, by: &str, reason: &str, wait_secs: u64) -> Result<Declared, Failure> {
    let now = clock::timestamp();
    store.write(|tx| {
        let known = restore::pending(tx)?;
        let files = metadata::current_files(tx)?.into_iter().map(|(name, bytes)| (name, Arc::from(bytes)));
        let files: Vec<(String, Arc<[u8]>)> = files.collect();
        let trusted = Trusted::restore(&files, sluice_metadata::Profile::Strict, &[])
            .map_err(|error| Failure::broken("reading the stored metadata", error))?;
        let backup = match &known {
            Some(known) => known.backup,
            None => audit::head(tx)?,
        };
        let timestamp_version = trusted.timestamp_version();
        let tokens_ended = end_tokens(tx, now)?;
        let detail = format!(
            "restored from a backup of {} entries and timestamp {timestamp_version}: {reason}; {tokens_ended} enrolment \
             tokens ended",
            backup.size
        );
        audit::append(tx, audited::done(by, "server.restore", "repository", detail))?;
        let (by, reason) = (by.to_owned(), reason.to_owned());
        restore::put(tx, &RestoreRecord { at: now, by, reason, backup, timestamp_version, wait_secs })?;
        Ok(Declared { backup, timestamp_version, tokens_ended })
    })
}

fn end_tokens(tx: &sluice_repo_store::WriteTx, now: Timestamp) -> Result<usize, Failure> {
    let all = tokens::enrolments(tx)?;
    let unused: Vec<EnrolmentTokenRecord> =
        all.into_iter().filter(|token| token.used.is_none() && token.expires_at > now).collect();
    for token in &unused {
        tokens::put_enrolment(tx, &EnrolmentTokenRecord { expires_at: now, ..token.clone() })?;
    }
    Ok(unused.len())
}

/// Whether the device may show anything: a member always; while a restore is under way anybody, because a node that
/// enrolled after the backup is a stranger to it.
pub fn check_shower(app: &App, key: MemberKey) -> Result<(), Failure> {
    if app.restore.record().is_some() {
        return Ok(());
    }
    member_only(&app.served(), &key).map(|_| ())
}

/// Takes what a device shows.
pub async fn take(app: &App, key: MemberKey, newer: NewerMetadata) -> Result<NewerAnswer, Failure> {
    check_shower(app, key)?;
    let served = app.served();
    let judged = tokio::task::spawn_blocking(move || {
        let shown = evidence::verify(&served, &newer)?;
        let is_news = evidence::is_news(&served, &newer, &shown);
        Ok::<_, Failure>((shown, is_news))
    });
    let (shown, is_news) = judged.await.map_err(|error| Failure::broken("verifying shown metadata", error))??;
    let version = shown.trusted.timestamp_version();
    if app.restore.record().is_some() {
        let is_taken = app.restore.take(key, shown);
        tracing::info!(node = %key, version, is_news, "a node has shown what it holds");
        return Ok(if is_taken { NewerAnswer::Taken } else { NewerAnswer::Known });
    }
    if !is_news {
        return Ok(NewerAnswer::Known);
    }
    app.gauges.note_forgotten();
    let own = app.served().view.timestamp_version;
    tracing::error!(
        node = %key, version, own,
        "ALARM: a node holds metadata that this server's keys signed and this server does not know. If it was restored from a \
         backup: stop it, run `sluice-repo restore`, start it (docs/restore.md). If not, its keys are stolen: docs/ceremonies.md"
    );
    let detail = format!("shown signed metadata that is not known here: timestamp {version}, own {own}");
    audited::refused(app, &key.to_hex(), "metadata.newer", "repository", &detail).await;
    Ok(NewerAnswer::Alarmed)
}

/// Takes over what was learned, jumps, marks the gap, and lets the server sign again.
pub async fn finish(app: &App) -> Result<(), Failure> {
    let Some(record) = app.restore.record() else { return Ok(()) };
    let learned = app.restore.learned();
    let report = app.authority.adopt(move |draft, tx| adopt::run(draft, tx, &record, &learned)).await?;
    app.restore.close();
    app.authority.end_restore();
    app.follow_limits();
    tracing::warn!(
        nodes = report.nodes_heard,
        retractions = report.retractions,
        devices = report.devices,
        patches = report.patches,
        "restored: what the nodes showed is taken over, versions are past it, and the gap is marked in the audit log"
    );
    Ok(())
}
