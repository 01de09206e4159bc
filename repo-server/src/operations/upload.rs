//! Resumable uploads: bytes go to `uploads/<id>.part`; an offset is told only after the bytes before it are durable.
//!
//! Order of a write: bytes to the file, `fdatasync`, then the offset in the database. After a crash the file may be
//! longer than the offset; what lies behind it was never acknowledged and is written again.

use crate::authorize::{Action, Principal, Resource, authorize};
use crate::clock;
use crate::operations::Failure;
use crate::state::App;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use sluice_api::problem::ProblemType;
use sluice_model::limits::ARTIFACT_BYTES_MAX;
use sluice_repo_store::uploads::{self, UploadRecord};
use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::fs::{self, File, OpenOptions};
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

/// An upload that nobody finished and used within a day is removed.
pub const EXPIRES_AFTER: Duration = Duration::from_secs(24 * 3_600);
/// Uploads at once, all persons together: 64 artifacts of a patch, four publishers.
const UPLOADS_MAX: u64 = 256;
/// Bytes between two durable offsets inside one request: what a crash can cost.
const SYNC_EVERY_BYTES: u64 = 32 << 20;

/// A client that sends nothing for this long is cut off; what came is kept.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Uploads that a request is writing or a publication is reading: one at a time.
#[derive(Clone, Default)]
pub struct BusyUploads(Arc<Mutex<HashSet<String>>>);

/// The right to touch the file of one upload; given back on drop.
pub struct BusyUpload {
    all: BusyUploads,
    id: String,
}

impl BusyUploads {
    /// Takes the right, or says that somebody else has it.
    pub fn take(&self, id: &str) -> Result<BusyUpload, Failure> {
        let taken = self.0.lock().expect("nothing panics while it holds the set").insert(id.to_owned());
        if !taken {
            let detail = "another request is using this upload; wait for it to end, then ask for the offset";
            return Err(Failure::refused(ProblemType::Conflict, detail));
        }
        Ok(BusyUpload { all: self.clone(), id: id.to_owned() })
    }
}

impl Drop for BusyUpload {
    fn drop(&mut self) {
        self.all.0.lock().expect("nothing panics while it holds the set").remove(&self.id);
    }
}

/// The file of an upload.
pub fn part_path(app: &App, id: &str) -> PathBuf {
    app.data.join("uploads").join(format!("{id}.part"))
}

/// Begins an upload of `length` bytes.
pub async fn create(app: &App, principal: &Principal, length: u64) -> Result<UploadRecord, Failure> {
    if length > ARTIFACT_BYTES_MAX {
        let detail = format!("{length} bytes are more than the {ARTIFACT_BYTES_MAX} that an artifact may have");
        return Err(Failure::refused(ProblemType::TooLarge, detail));
    }
    if length == 0 {
        return Err(Failure::refused(ProblemType::Invalid, "an artifact has at least one byte"));
    }
    check_room(app, length)?;
    let record = UploadRecord {
        id: new_id()?,
        owner: principal.person.clone(),
        length,
        offset: 0,
        created_at: clock::timestamp(),
    };
    File::create_new(part_path(app, &record.id)).await.map_err(file_failure)?;
    let row = record.clone();
    app.store
        .change(move |tx| {
            if uploads::count(tx)? >= UPLOADS_MAX {
                let detail = format!("{UPLOADS_MAX} uploads are open; remove some (DELETE) or wait until they expire");
                return Err(Failure::refused(ProblemType::QuotaExceeded, detail));
            }
            Ok(uploads::put(tx, &row)?)
        })
        .await?;
    Ok(record)
}

/// Whether the disk has room for `length` more bytes beside the reserve.
fn check_room(app: &App, length: u64) -> Result<(), Failure> {
    let disk =
        rustix::fs::statvfs(app.data.as_path()).map_err(|error| Failure::broken("asking for free space", error))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let reserve = app.settings.store.reserve_bytes;
    if free >= length.saturating_add(reserve) {
        return Ok(());
    }
    let detail = format!(
        "the repo server's disk has {free} bytes free, and {reserve} are kept in reserve (store.reserve_bytes): free \
         space there, then upload again"
    );
    Err(Failure::refused(ProblemType::Full, detail))
}

/// The upload, when it is the caller's and has not expired.
pub async fn find(app: &App, principal: &Principal, id: &str) -> Result<UploadRecord, Failure> {
    let gone =
        || Failure::refused(ProblemType::NotFound, "there is no such upload; it may have expired: start a new one");
    let record = app.store.read(|tx| uploads::get(tx, id))?.ok_or_else(gone)?;
    authorize(principal, Action::Upload, Resource::Upload(&record.owner))?;
    if is_expired(&record) { Err(gone()) } else { Ok(record) }
}

fn is_expired(record: &UploadRecord) -> bool {
    clock::timestamp().since(record.created_at) > EXPIRES_AFTER
}

/// Writes `body` at `offset` and gives the new offset, durable. A body that ends early keeps what came.
pub async fn append<E: std::fmt::Display>(
    app: &App,
    principal: &Principal,
    id: &str,
    offset: u64,
    body: impl Stream<Item = Result<Bytes, E>>,
) -> Result<u64, Failure> {
    let _busy = app.busy_uploads.take(id)?;
    let mut record = find(app, principal, id).await?;
    if offset != record.offset {
        let detail = format!("the upload continues at offset {}, not at {offset}; ask for it with HEAD", record.offset);
        return Err(Failure::refused(ProblemType::Conflict, detail));
    }
    let mut file = OpenOptions::new().write(true).open(part_path(app, id)).await.map_err(file_failure)?;
    file.set_len(offset).await.map_err(file_failure)?;
    file.seek(io::SeekFrom::Start(offset)).await.map_err(file_failure)?;
    let mut written = offset;
    let outcome = receive(app, &mut record, &mut file, &mut written, body).await;
    // What arrived before a failure is kept: a full disk or a cut connection is resumed from there.
    let kept = make_durable(app, &mut record, &mut file, written).await;
    outcome?;
    kept?;
    Ok(record.offset)
}

async fn receive<E: std::fmt::Display>(
    app: &App,
    record: &mut UploadRecord,
    file: &mut File,
    written: &mut u64,
    body: impl Stream<Item = Result<Bytes, E>>,
) -> Result<(), Failure> {
    let mut body = pin!(body);
    let cut_off = |why: &str| {
        let detail = format!("the body ended early ({why}); ask for the offset with HEAD and continue there");
        Failure::refused(ProblemType::UploadIncomplete, detail)
    };
    loop {
        let next = tokio::select! {
            () = app.stopping.cancelled() => return Err(cut_off("the repo server is stopping")),
            next = tokio::time::timeout(STALL_TIMEOUT, body.next()) => next,
        };
        let next = next.map_err(|_| cut_off(&format!("nothing came for {} s", STALL_TIMEOUT.as_secs())))?;
        let Some(piece) = next else { return Ok(()) };
        let piece = piece.map_err(|error| cut_off(&error.to_string()))?;
        if *written + piece.len() as u64 > record.length {
            let detail = format!("the body goes beyond the {} bytes that Upload-Length promised", record.length);
            return Err(Failure::refused(ProblemType::TooLarge, detail));
        }
        write_piece(file, &piece).await?;
        *written += piece.len() as u64;
        if *written - record.offset >= SYNC_EVERY_BYTES {
            make_durable(app, record, file, *written).await?;
        }
    }
}

async fn write_piece(file: &mut File, piece: &[u8]) -> Result<(), Failure> {
    file.write_all(piece).await.map_err(file_failure)?;
    // tokio reports the failure of a write with the next call: flush is that call.
    file.flush().await.map_err(file_failure)
}

async fn make_durable(app: &App, record: &mut UploadRecord, file: &mut File, written: u64) -> Result<(), Failure> {
    if written == record.offset {
        return Ok(());
    }
    file.sync_data().await.map_err(file_failure)?;
    let mut row = record.clone();
    row.offset = written;
    let stored = row.clone();
    app.store.change(move |tx| Ok::<_, Failure>(uploads::put(tx, &stored)?)).await?;
    *record = row;
    Ok(())
}

/// Removes an upload and its bytes.
pub async fn remove(app: &App, principal: &Principal, id: &str) -> Result<(), Failure> {
    let _busy = app.busy_uploads.take(id)?;
    find(app, principal, id).await?;
    forget(app, id).await
}

/// Removes the record, then the file: a crash between leaves a file that [`sweep`] removes.
pub async fn forget(app: &App, id: &str) -> Result<(), Failure> {
    let row = id.to_owned();
    app.store.change(move |tx| Ok::<_, Failure>(uploads::remove(tx, &row)?)).await?;
    remove_file(part_path(app, id)).await
}

async fn remove_file(path: PathBuf) -> Result<(), Failure> {
    match fs::remove_file(path).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file_failure(error)),
        _ => Ok(()),
    }
}

/// Removes expired uploads, and files that belong to none.
pub async fn sweep(app: &App) -> Result<(), Failure> {
    let records = app.store.look(|tx| Ok::<_, Failure>(uploads::list(tx)?)).await?;
    for record in records.iter().filter(|record| is_expired(record)) {
        if let Ok(_busy) = app.busy_uploads.take(&record.id) {
            forget(app, &record.id).await?;
            tracing::info!(upload = record.id, owner = %record.owner, "an upload expired");
        }
    }
    let mut files = fs::read_dir(app.data.join("uploads")).await.map_err(file_failure)?;
    while let Some(entry) = files.next_entry().await.map_err(file_failure)? {
        let name = entry.file_name();
        let id = name.to_str().and_then(|name| name.strip_suffix(".part"));
        let Some(id) = id else { continue };
        // A file is made before its record: only one that is not being made now belongs to nobody.
        if app.store.read(|tx| uploads::get(tx, id))?.is_none() && is_old(&entry).await {
            remove_file(entry.path()).await?;
        }
    }
    Ok(())
}

/// Removes second names that a crash left of a publication; nobody may be publishing.
pub async fn remove_links(app: &App) -> Result<(), Failure> {
    let mut files = fs::read_dir(app.data.join("uploads")).await.map_err(file_failure)?;
    while let Some(entry) = files.next_entry().await.map_err(file_failure)? {
        if entry.path().extension().is_some_and(|extension| extension == "import") {
            remove_file(entry.path()).await?;
        }
    }
    Ok(())
}

async fn is_old(entry: &fs::DirEntry) -> bool {
    let modified = entry.metadata().await.ok().and_then(|meta| meta.modified().ok());
    modified.and_then(|time| time.elapsed().ok()).is_some_and(|age| age > Duration::from_secs(60))
}

fn new_id() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Failure::broken("drawing random bytes", error.to_string()))?;
    Ok(hex::encode(bytes))
}

/// A full disk is the operator's to mend and loses nothing; everything else is ours.
pub fn file_failure(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            let detail = "the repo server's disk is full; what was sent so far is kept: free space there, then resume";
            Failure::refused(ProblemType::Full, detail)
        }
        _ => Failure::broken("writing an upload", error),
    }
}
