//! Keeps the index document of every ring (`policy/apt-<ring>`) equal to what the ring lists: rows that a client could
//! have, as apt reads them, signed with the archive key.
//!
//! What is suspended in the whole fleet is left out like what is retracted; what one site suspends stays listed, and that
//! site's nodes refuse it.

use crate::operations::Failure;
use crate::served::Served;
use crate::state::App;
use sluice_api::problem::ProblemType;
use sluice_apt_view::{AptDocument, Plan, Planned, Row, Terms, document_name, plan};
use sluice_model::{ReleasedArtifact, RingName, Timestamp};
use sluice_repo_store::controls;
use sluice_rollout::WantedContent;
use std::sync::Arc;
use std::time::Duration;

/// Brings the documents of all rings up to date, in one change of the signed state; whether there was anything to do.
pub async fn refresh(app: &App, now: Timestamp) -> Result<bool, Failure> {
    // Nothing is signed until a restore from a backup is done.
    if app.restore.record().is_some() {
        return Ok(false);
    }
    let served = app.served();
    let key = app.archive_key.public_armor().map_err(|error| Failure::broken("writing the archive key", error))?;
    let valid_for = Duration::from_secs(app.settings.apt.valid_secs);
    let inputs = Arc::clone(&served);
    let plans = app.store.look(move |tx| {
        let mut plans = Vec::new();
        for ring in &inputs.view.rings {
            let rows = offered(&inputs, ring);
            let controls = controls::of(tx, rows.iter().map(|row| &row.sha256))?;
            let rows: Vec<Row<'_>> = rows
                .into_iter()
                .map(|released| Row { released, control: controls.get(&released.sha256).map(String::as_str) })
                .collect();
            let terms = Terms { repo_id: &inputs.view.repo_id, ring, key: &key, now, valid_for };
            if let Plan::Sign(planned) = plan(current(&inputs, ring).as_ref(), &rows, &terms) {
                plans.push(*planned);
            }
        }
        Ok::<_, Failure>(plans)
    });
    let documents: Vec<AptDocument> =
        plans.await?.into_iter().map(|planned| sign(app, planned)).collect::<Result<_, _>>()?;
    if documents.is_empty() {
        return Ok(false);
    }
    app.authority
        .change(move |draft, _| documents.iter().try_for_each(|document| draft.set_apt_document(document)))
        .await?;
    Ok(true)
}

/// The rows of a ring that a client may have.
fn offered<'a>(served: &'a Served, ring: &RingName) -> Vec<&'a ReleasedArtifact> {
    let rows = served.view.releases.get(ring).map_or(&[][..], Vec::as_slice);
    let is_live = |row: &&ReleasedArtifact| {
        let live = served.catalogue.live_rows(WantedContent::Sha256(row.sha256));
        live.iter().any(|other| other.ring == *ring && other.target == row.target)
    };
    rows.iter().filter(is_live).collect()
}

/// The document in force. One that cannot be read is made anew.
fn current(served: &Served, ring: &RingName) -> Option<AptDocument> {
    let bytes = served.documents.get(&document_name(ring))?;
    match AptDocument::read(ring, bytes) {
        Ok(document) => Some(document),
        Err(error) => {
            tracing::warn!(%ring, %error, "the index document in force cannot be read; it is made anew");
            None
        }
    }
}

fn sign(app: &App, planned: Planned) -> Result<AptDocument, Failure> {
    for (target, reason) in &planned.left_out {
        tracing::warn!(%target, reason, "apt is not offered a released artifact");
    }
    let signing = |error| Failure::broken("signing an apt index", error);
    let at = planned.signed_at();
    let in_release = app.archive_key.clear_sign(planned.release(), at).map_err(signing)?;
    let release_gpg = app.archive_key.detached_sign(planned.release(), at).map_err(signing)?;
    planned.signed(in_release, release_gpg).map_err(|error| Failure::refused(ProblemType::Full, error.to_string()))
}
