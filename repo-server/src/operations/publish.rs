//! Turns finished uploads into a patch: checked as packages, cut and hashed in one pass, recorded as a draft.
//!
//! Nothing is consumed before everything held: uploads stay until the record is durable, content that was cut for a
//! publication that failed is removed (or, after a crash, swept at the next start).

use crate::authorize::Principal;
use crate::clock;
use crate::operations::deb::Package;
use crate::operations::{Failure, audited, deb, restore, upload};
use crate::state::App;
use sluice_api::admin::{NewArtifact, NewPatch};
use sluice_api::problem::ProblemType;
use sluice_content_store::ImportError;
use sluice_model::limits::ARTIFACTS_PER_PATCH_MAX;
use sluice_model::{ArtifactId, PatchRef, RingName, Sha256, TargetName, Tombstone};
use sluice_repo_store::audit::{self, NewAuditLine};
use sluice_repo_store::patches::{self, ArtifactRecord, PatchRecord};
use sluice_repo_store::{WriteTx, controls, uploads};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// CVEs of one patch: a monthly kernel update mends some hundred.
const CVES_MAX: usize = 1_000;
/// How long the bytes of a retracted patch stay, blocked, in case two people reinstate it.
const RETRACTED_KEPT: Duration = Duration::from_secs(30 * 24 * 3_600);
/// Patches that one patch supersedes.
const SUPERSEDES_MAX: usize = 64;

/// Publishes, or gives the patch that exists with this very content.
pub async fn run(app: &App, principal: &Principal, new: NewPatch) -> Result<PatchRecord, Failure> {
    let subject = format!("{}/{}", new.name, new.version);
    let outcome = publish(app, principal, new).await;
    audited::outcome(app, principal.person.as_str(), "patch.publish", &subject, outcome).await
}

async fn publish(app: &App, principal: &Principal, new: NewPatch) -> Result<PatchRecord, Failure> {
    check_request(&new)?;
    if let Some(existing) = existing(app, &new)? {
        forget_uploads(app, principal, &new).await;
        return Ok(existing);
    }
    // One publication at a time: cutting uses every core, and two of the same patch must not race.
    let _turn = app.publishing.lock().await;
    if let Some(existing) = existing(app, &new)? {
        return Ok(existing);
    }
    let _busy: Vec<_> =
        new.artifacts.iter().map(|artifact| app.busy_uploads.take(&artifact.upload)).collect::<Result<_, _>>()?;
    let packages = check_uploads(app, principal, &new).await?;
    let mut cut = Cut { made: Vec::new(), records: Vec::new(), controls: Vec::new() };
    let outcome = async {
        for (artifact, package) in new.artifacts.iter().zip(packages) {
            cut_one(app, &mut cut, artifact, package).await?;
        }
        record(app, principal, &new, &cut).await
    };
    let outcome = outcome.await;
    if outcome.is_err() {
        discard(app, &cut.made).await;
    }
    let record = outcome?;
    for artifact in &new.artifacts {
        // The record is durable; a file that stays is swept later.
        let _ = tokio::fs::remove_file(upload::part_path(app, &artifact.upload)).await;
    }
    Ok(record)
}

fn check_request(new: &NewPatch) -> Result<(), Failure> {
    let invalid = |detail: String| Err(Failure::refused(ProblemType::Invalid, detail));
    if !(1..=ARTIFACTS_PER_PATCH_MAX).contains(&new.artifacts.len()) {
        return invalid(format!(
            "a patch has 1 to {ARTIFACTS_PER_PATCH_MAX} artifacts; this one {}",
            new.artifacts.len()
        ));
    }
    if new.cves.len() > CVES_MAX || new.supersedes.len() > SUPERSEDES_MAX {
        return invalid(format!(
            "a patch names at most {CVES_MAX} CVEs and supersedes at most {SUPERSEDES_MAX} patches"
        ));
    }
    let (mut targets, mut uploads, mut contents) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for artifact in &new.artifacts {
        let target = target_of(&artifact.file_name)?;
        if !targets.insert(target) {
            return invalid(format!("two artifacts are called {}", artifact.file_name));
        }
        if !uploads.insert(&artifact.upload) || !contents.insert(artifact.sha256) {
            return invalid(format!("{} stands there twice", artifact.file_name));
        }
    }
    Ok(())
}

/// What the file will be called in signed metadata; the ring does not matter here.
fn target_of(file_name: &str) -> Result<TargetName, Failure> {
    let any: RingName = "any".parse().expect("a valid ring name");
    let target = TargetName::of_patch(&any, file_name);
    match target {
        Ok(target) if !file_name.contains('/') => Ok(target),
        _ => {
            let shown: String = file_name.chars().take(80).collect();
            let detail = format!(
                "the file name {shown:?} cannot be used: letters, digits, '.', '_', '+', '-', '~' and ':', beginning with \
                 a letter or digit, at most 128 characters, without '/' and '..'"
            );
            Err(Failure::refused(ProblemType::Invalid, detail))
        }
    }
}

/// The patch, when it was published before with this content; another content under its version is a conflict.
fn existing(app: &App, new: &NewPatch) -> Result<Option<PatchRecord>, Failure> {
    let patch = PatchRef { name: new.name.clone(), version: new.version.clone() };
    app.store.read(|tx| {
        for artifact in &new.artifacts {
            check_not_retracted(tx, artifact)?;
        }
        let Some(record) = patches::get(tx, &patch)? else { return Ok(None) };
        let named = |artifact: &NewArtifact| (artifact.file_name.clone(), artifact.sha256);
        let stored: BTreeSet<_> = record.artifacts.iter().map(|a| (a.file_name.clone(), a.sha256)).collect();
        if new.artifacts.iter().map(named).collect::<BTreeSet<_>>() == stored {
            // What a restore brought back has no publisher, and maybe no content here: both come now.
            return Ok(Some(record).filter(|record| record.published_by.as_str() != restore::NOBODY));
        }
        let detail =
            format!("{patch} was published before with other files; a version is never changed: choose a new one");
        Err(Failure::refused(ProblemType::Conflict, detail))
    })
}

fn check_not_retracted(tx: &impl sluice_repo_store::Reads, artifact: &NewArtifact) -> Result<(), Failure> {
    let Some(serial) = patches::retracted_by(tx, &artifact.sha256)? else { return Ok(()) };
    let reason = patches::tombstone(tx, serial)?.map_or_else(String::new, |tombstone| {
        format!(" as {} by {}: {}", tombstone.patch, tombstone.by, tombstone.reason)
    });
    let detail = format!(
        "the content of {} was retracted{reason} (retraction {serial}); no new name revives it: publish mended content",
        artifact.file_name
    );
    Err(Failure::refused(ProblemType::ContentRetracted, detail))
}

/// Every upload is the caller's, complete, and a package. Nothing is changed.
async fn check_uploads(app: &App, principal: &Principal, new: &NewPatch) -> Result<Vec<Package>, Failure> {
    let mut packages = Vec::with_capacity(new.artifacts.len());
    let mut seen = BTreeSet::new();
    for artifact in &new.artifacts {
        let record = upload::find(app, principal, &artifact.upload).await?;
        if record.offset != record.length {
            let detail = format!(
                "{} has {} of {} bytes; continue its upload at that offset",
                artifact.file_name, record.offset, record.length
            );
            return Err(Failure::refused(ProblemType::UploadIncomplete, detail));
        }
        let package = deb::package(&upload::part_path(app, &artifact.upload), &artifact.file_name).await?;
        let fields = &package.fields;
        if !seen.insert((fields.package.clone(), fields.architecture.clone())) {
            let detail = format!("two artifacts are the package {} for {}", fields.package, fields.architecture);
            return Err(Failure::refused(ProblemType::Invalid, detail));
        }
        packages.push(package);
    }
    Ok(packages)
}

/// What was cut so far.
struct Cut {
    /// Content that was not there before this publication.
    made: Vec<ArtifactId>,
    records: Vec<ArtifactRecord>,
    /// The control files, by content.
    controls: Vec<(Sha256, String)>,
}

async fn cut_one(app: &App, cut: &mut Cut, artifact: &NewArtifact, package: Package) -> Result<(), Failure> {
    let fields = package.fields;
    // A second name for the same bytes: the store takes it, the upload stays until the record is durable.
    let link = LinkedFile::of(&upload::part_path(app, &artifact.upload)).await?;
    let imported = app.content.import(&link.path, Some(artifact.sha256), |_| ()).await;
    let imported = imported.map_err(|error| import_failure(error, artifact))?;
    let found = &imported.cut;
    if !imported.was_known {
        cut.made.push(found.artifact);
    }
    cut.controls.push((found.sha256, package.control));
    let manifest = found.manifest.reference();
    cut.records.push(ArtifactRecord {
        file_name: artifact.file_name.clone(),
        length: found.length,
        sha256: found.sha256,
        sha512: found.sha512,
        blake3: found.artifact,
        manifest: manifest.blake3,
        manifest_length: manifest.length,
        chunker: manifest.chunker,
        chunk_count: found.manifest.chunk_count(),
        package: fields.package,
        package_version: fields.version,
        architecture: fields.architecture,
    });
    Ok(())
}

async fn record(app: &App, principal: &Principal, new: &NewPatch, cut: &Cut) -> Result<PatchRecord, Failure> {
    let record = PatchRecord {
        patch: PatchRef { name: new.name.clone(), version: new.version.clone() },
        severity: new.severity,
        cves: new.cves.clone(),
        supersedes: new.supersedes.clone(),
        published_by: principal.person.clone(),
        published_at: clock::timestamp(),
        artifacts: cut.records.clone(),
        approvals: Vec::new(),
        retraction: None,
    };
    let (row, new, controls) = (record.clone(), new.clone(), cut.controls.clone());
    app.store
        .change(move |tx| {
            for (sha256, control) in &controls {
                controls::put(tx, sha256, control)?;
            }
            store_record(tx, &row, &new)
        })
        .await?;
    Ok(record)
}

fn store_record(tx: &WriteTx, record: &PatchRecord, new: &NewPatch) -> Result<(), Failure> {
    for artifact in &new.artifacts {
        // Again, inside the transaction: a retraction may have come while the files were cut.
        check_not_retracted(tx, artifact)?;
        uploads::remove(tx, &artifact.upload)?;
    }
    let approvals = patches::get(tx, &record.patch)?.map(|before| before.approvals).unwrap_or_default();
    patches::put(tx, &PatchRecord { approvals, ..record.clone() })?;
    let files = record.artifacts.iter().map(|artifact| format!("{} {}", artifact.file_name, artifact.sha256));
    audit::append(
        tx,
        NewAuditLine {
            at: record.published_at,
            who: record.published_by.to_string(),
            action: "patch.publish",
            subject: record.patch.to_string(),
            done: true,
            detail: files.collect::<Vec<_>>().join(", "),
        },
    )?;
    Ok(())
}

/// Removes content that only a failed publication brought, except what a patch has meanwhile.
async fn discard(app: &App, made: &[ArtifactId]) {
    for artifact in made {
        if let Err(error) = app.content.remove(artifact).await {
            tracing::warn!(%artifact, error = &error as &dyn std::error::Error, "unused content stays until the next start");
        }
    }
}

async fn forget_uploads(app: &App, principal: &Principal, new: &NewPatch) {
    for artifact in &new.artifacts {
        let _ = upload::remove(app, principal, &artifact.upload).await;
    }
}

/// Removes content that no patch has: what a crash left of a publication, and retracted bytes that nobody reinstated in
/// [`RETRACTED_KEPT`].
pub async fn sweep_content(app: &App) -> Result<(), Failure> {
    let _turn = app.publishing.lock().await;
    let now = clock::timestamp();
    let tombstones = app.store.look(|tx| Ok::<_, Failure>(patches::tombstones(tx)?)).await?;
    let young = |tombstone: &&Tombstone| now.since(tombstone.at) < RETRACTED_KEPT;
    let reinstated = app.served().view.reinstatements.values().flatten().map(|found| found.serial).collect::<Vec<_>>();
    let kept: BTreeSet<u64> =
        tombstones.iter().filter(young).map(|tombstone| tombstone.serial).chain(reinstated).collect();
    let wanted: BTreeSet<ArtifactId> = app
        .store
        .look(|tx| Ok::<_, Failure>(patches::list(tx)?))
        .await?
        .into_iter()
        .filter(|record| record.retraction.is_none_or(|serial| kept.contains(&serial)))
        .flat_map(|record| record.artifacts)
        .map(|artifact| artifact.blake3)
        .collect();
    upload::remove_links(app).await?;
    for artifact in app.content.artifacts() {
        if !wanted.contains(&artifact) {
            app.content.remove(&artifact).await.map_err(|error| Failure::broken("removing unused content", error))?;
            tracing::info!(%artifact, "content that no patch has was removed");
        }
    }
    Ok(())
}

/// A second name of an upload's file; removed on drop when the content store did not take it.
struct LinkedFile {
    path: PathBuf,
}

impl LinkedFile {
    async fn of(part: &Path) -> Result<Self, Failure> {
        let path = part.with_extension("import");
        let _ = tokio::fs::remove_file(&path).await;
        tokio::fs::hard_link(part, &path).await.map_err(upload::file_failure)?;
        Ok(Self { path })
    }
}

impl Drop for LinkedFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn import_failure(error: ImportError, artifact: &NewArtifact) -> Failure {
    match error {
        ImportError::WrongSha256 { got, expected } => {
            let detail = format!(
                "{} arrived with sha256 {got}, but {expected} was promised; upload it again",
                artifact.file_name
            );
            Failure::refused(ProblemType::DigestMismatch, detail)
        }
        ImportError::Io { source, .. } => upload::file_failure(source),
        other => Failure::broken("cutting an artifact", other),
    }
}
