//! The redb index: which artifacts there are, their manifests, their committed chunks, and where a chunk lies.
//!
//! One handle, used by the writer alone. After any error the handle is dropped and the next use opens the file again:
//! redb refuses every write after one I/O error until it is reopened.

use crate::error::OpenError;
use redb::{
    Database, MultimapTableDefinition, ReadableDatabase, ReadableTable, TableDefinition, TableError, WriteTransaction,
};
use serde::{Deserialize, Serialize};
use sluice_content::{Bitmap, Manifest};
use sluice_model::{ArtifactId, ChunkId, ManifestId, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Artifact id -> version byte and [`Record`] in postcard.
const ARTIFACTS: TableDefinition<[u8; 32], &[u8]> = TableDefinition::new("artifacts_1");
/// Manifest id -> its bytes.
const MANIFESTS: TableDefinition<[u8; 32], &[u8]> = TableDefinition::new("manifests_1");
/// Artifact id -> committed chunks, as [`Bitmap::encode`] writes them.
const BITMAPS: TableDefinition<[u8; 32], &[u8]> = TableDefinition::new("bitmaps_1");
/// Chunk id -> (artifact id, index): where its bytes were committed once. A row may outlive the chunk: a reader checks.
const PLACES: MultimapTableDefinition<[u8; 32], ([u8; 32], u32)> = MultimapTableDefinition::new("places_1");

const RECORD_VERSION: u8 = 1;
/// redb's page cache. Rows are small and read once; its default is a gigabyte.
const PAGE_CACHE_BYTES: usize = 8 << 20;

pub(crate) type IndexError = Box<redb::Error>;

/// What is kept of an artifact besides its manifest and bitmap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) state: RecordState,
    pub(crate) manifest: ManifestId,
    pub(crate) sha256: Sha256,
    pub(crate) last_used_ms: u64,
}

/// Why an artifact is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RecordState {
    /// A live release listed it when it was admitted.
    Released,
}

/// An artifact as it was stored.
pub(crate) struct Stored {
    pub(crate) record: Record,
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) committed: Bitmap,
}

pub(crate) struct Index {
    path: PathBuf,
    database: Option<Database>,
}

impl Index {
    pub(crate) fn open(path: PathBuf) -> Result<Self, OpenError> {
        let mut index = Self { path, database: None };
        let prepared = index.write(|transaction| {
            transaction.open_table(ARTIFACTS)?;
            transaction.open_table(MANIFESTS)?;
            transaction.open_table(BITMAPS)?;
            transaction.open_multimap_table(PLACES)?;
            Ok(())
        });
        match prepared {
            Ok(()) => Ok(index),
            Err(error) if matches!(*error, redb::Error::DatabaseAlreadyOpen) => Err(OpenError::InUse(index.path)),
            Err(source) => Err(OpenError::Index { path: index.path, source }),
        }
    }

    /// Everything in it.
    pub(crate) fn load(&mut self) -> Result<Vec<Stored>, OpenError> {
        let path = self.path.clone();
        let rows = self.read(rows).map_err(|source| OpenError::Index { path: path.clone(), source })?;
        rows.into_iter()
            .map(|row| stored(&row).map_err(|reason| OpenError::Row { path: path.clone(), reason }))
            .collect()
    }

    /// A new artifact, with the chunks that are there and synced already.
    pub(crate) fn insert(
        &mut self,
        record: &Record,
        manifest: &Manifest,
        committed: &Bitmap,
    ) -> Result<(), IndexError> {
        let artifact = *manifest.artifact().as_bytes();
        self.write(|transaction| {
            transaction.open_table(ARTIFACTS)?.insert(artifact, encode(record).as_slice())?;
            transaction.open_table(MANIFESTS)?.insert(record.manifest.as_bytes(), manifest.encode().as_slice())?;
            put_bits(transaction, manifest, committed, &mut committed.iter())
        })
    }

    /// The committed chunks of artifacts, of which `fresh` are new, in one transaction.
    pub(crate) fn commit(&mut self, batch: &[BitmapCommit]) -> Result<(), IndexError> {
        self.write(|transaction| {
            for commit in batch {
                let artifact = commit.manifest.artifact();
                transaction.open_table(ARTIFACTS)?.insert(artifact.as_bytes(), encode(&commit.record).as_slice())?;
                put_bits(transaction, &commit.manifest, &commit.committed, &mut commit.fresh.iter().copied())?;
            }
            Ok(())
        })
    }

    /// Takes an artifact and everything about it away.
    pub(crate) fn remove(&mut self, manifest: &Manifest, manifest_id: &ManifestId) -> Result<(), IndexError> {
        let artifact = *manifest.artifact().as_bytes();
        self.write(|transaction| {
            transaction.open_table(ARTIFACTS)?.remove(artifact)?;
            transaction.open_table(BITMAPS)?.remove(artifact)?;
            transaction.open_table(MANIFESTS)?.remove(manifest_id.as_bytes())?;
            let mut places = transaction.open_multimap_table(PLACES)?;
            for idx in 0..manifest.chunk_count() {
                places.remove(manifest.chunk_id(idx).as_bytes(), (artifact, idx))?;
            }
            Ok(())
        })
    }

    /// Where the bytes of a chunk may lie, at most `count_max` places.
    pub(crate) fn places(&mut self, chunk: &ChunkId, count_max: usize) -> Result<Vec<(ArtifactId, u32)>, IndexError> {
        self.read(|transaction| {
            let table = transaction.open_multimap_table(PLACES)?;
            let mut found = Vec::new();
            for place in table.get(chunk.as_bytes())?.take(count_max) {
                let (artifact, idx) = place?.value();
                found.push((ArtifactId::from_bytes(artifact), idx));
            }
            Ok(found)
        })
    }

    fn write(&mut self, work: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>) -> Result<(), IndexError> {
        let done = self.database().and_then(|database| {
            let mut transaction = database.begin_write()?;
            transaction.set_quick_repair(true);
            work(&transaction)?;
            Ok(transaction.commit()?)
        });
        self.drop_if_failed(done)
    }

    fn read<T>(
        &mut self,
        work: impl FnOnce(&redb::ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, IndexError> {
        let done = self.database().and_then(|database| work(&database.begin_read()?));
        self.drop_if_failed(done)
    }

    fn database(&mut self) -> Result<&Database, redb::Error> {
        if self.database.is_none() {
            self.database = Some(Database::builder().set_cache_size(PAGE_CACHE_BYTES).create(&self.path)?);
        }
        Ok(self.database.as_ref().expect("it was opened just now"))
    }

    fn drop_if_failed<T>(&mut self, done: Result<T, redb::Error>) -> Result<T, IndexError> {
        done.map_err(|error| {
            self.database = None;
            Box::new(error)
        })
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// New committed chunks of one artifact.
pub(crate) struct BitmapCommit {
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) record: Record,
    pub(crate) committed: Bitmap,
    pub(crate) fresh: Vec<u32>,
}

fn put_bits(
    transaction: &WriteTransaction,
    manifest: &Manifest,
    committed: &Bitmap,
    fresh: &mut dyn Iterator<Item = u32>,
) -> Result<(), redb::Error> {
    let artifact = *manifest.artifact().as_bytes();
    transaction.open_table(BITMAPS)?.insert(artifact, committed.encode().as_slice())?;
    let mut places = transaction.open_multimap_table(PLACES)?;
    for idx in fresh {
        places.insert(manifest.chunk_id(idx).as_bytes(), (artifact, idx))?;
    }
    Ok(())
}

struct Row {
    artifact: [u8; 32],
    record: Vec<u8>,
    manifest: Option<Vec<u8>>,
    bitmap: Option<Vec<u8>>,
}

fn rows(transaction: &redb::ReadTransaction) -> Result<Vec<Row>, redb::Error> {
    let artifacts = match transaction.open_table(ARTIFACTS) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        table => table?,
    };
    let (manifests, bitmaps) = (transaction.open_table(MANIFESTS)?, transaction.open_table(BITMAPS)?);
    let mut rows = Vec::new();
    for entry in artifacts.iter()? {
        let (artifact, record) = entry?;
        let (artifact, record) = (artifact.value(), record.value().to_vec());
        let manifest = match decode(&record) {
            Ok(record) => manifests.get(record.manifest.as_bytes())?.map(|bytes| bytes.value().to_vec()),
            Err(_) => None,
        };
        let bitmap = bitmaps.get(artifact)?.map(|bytes| bytes.value().to_vec());
        rows.push(Row { artifact, record, manifest, bitmap });
    }
    Ok(rows)
}

fn stored(row: &Row) -> Result<Stored, String> {
    let name = ArtifactId::from_bytes(row.artifact);
    let record = decode(&row.record).map_err(|reason| format!("artifact {name}: {reason}"))?;
    let bytes = row.manifest.as_deref().ok_or_else(|| format!("artifact {name} has no manifest"))?;
    let manifest = Manifest::decode_trusted(bytes).map_err(|error| format!("artifact {name}: {error}"))?;
    if manifest.artifact() != name || manifest.id() != record.manifest {
        return Err(format!("artifact {name} has the manifest of another one"));
    }
    let bitmap = row.bitmap.as_deref().ok_or_else(|| format!("artifact {name} has no bitmap"))?;
    let committed =
        Bitmap::decode(manifest.chunk_count(), bitmap).map_err(|error| format!("artifact {name}: {error}"))?;
    Ok(Stored { record, manifest: Arc::new(manifest), committed })
}

fn encode(record: &Record) -> Vec<u8> {
    postcard::to_extend(record, vec![RECORD_VERSION]).expect("a record has only plain fields")
}

fn decode(bytes: &[u8]) -> Result<Record, String> {
    match bytes.split_first() {
        Some((&RECORD_VERSION, rest)) => postcard::from_bytes(rest).map_err(|error| error.to_string()),
        Some((version, _)) => Err(format!("its record has version {version}, this program reads {RECORD_VERSION}")),
        None => Err("its record is empty".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_a_record_are_the_format() {
        let record = Record {
            state: RecordState::Released,
            manifest: ManifestId::from_bytes([1; 32]),
            sha256: Sha256::from_bytes([2; 32]),
            last_used_ms: 300,
        };
        let expected = format!("010020{}20{}ac02", "01".repeat(32), "02".repeat(32));
        assert_eq!(hex::encode(encode(&record)), expected);
        assert_eq!(decode(&encode(&record)), Ok(record));
        assert!(decode(&[2, 0]).is_err() && decode(&[]).is_err() && decode(&[1]).is_err());
    }
}
