//! Resumable upload with tus 1.0 core: create, ask where it stands, send the rest, again after a broken connection.

use crate::admin::AdminClient;
use crate::error::{ClientError, Retry};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::stream::{self, Stream};
use reqwest::{Method, Response, StatusCode};
use sluice_api::ADMIN_PREFIX;
use sluice_model::Sha256;
use std::io::SeekFrom;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

const TUS_VERSION: &str = "1.0.0";
/// Read and sent at once; two or three of these are in memory.
const SLICE_BYTES: usize = 256 << 10;
/// Broken connections in a row, without a byte of progress between, after which an upload gives up.
const ATTEMPTS_MAX: u32 = 5;

/// A finished upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uploaded {
    /// Id for `NewArtifact::upload`.
    pub upload: String,
    /// Last part of the path.
    pub file_name: String,
    /// Of the file as it is on this machine.
    pub sha256: Sha256,
    /// In bytes.
    pub length: u64,
}

/// Called with (bytes that the server has, length of the file).
type Progress = Arc<dyn Fn(u64, u64) + Send + Sync>;

impl AdminClient {
    /// Hashes the file, then uploads it; a broken connection is taken up where the server stands.
    ///
    /// Dropping the future leaves a part upload at the server, which expires there after 24 h.
    pub async fn upload(
        &self,
        path: &Path,
        progress: impl Fn(u64, u64) + Send + Sync + 'static,
    ) -> Result<Uploaded, ClientError> {
        let (sha256, length) = hash_file(path).await?;
        let file_name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let location = self.create_upload(&file_name, length).await?;
        self.send_upload(path, &location, length, Arc::new(progress)).await?;
        let upload = location.rsplit('/').next().unwrap_or_default().to_owned();
        Ok(Uploaded { upload, file_name, sha256, length })
    }

    async fn create_upload(&self, file_name: &str, length: u64) -> Result<String, ClientError> {
        let request = self
            .http
            .request(Method::POST, &format!("{ADMIN_PREFIX}/uploads"))?
            .header("tus-resumable", TUS_VERSION)
            .header("upload-length", length)
            .header("upload-metadata", format!("filename {}", STANDARD.encode(file_name)));
        let answer = self.http.send(request).await?;
        let location = answer.headers().get("location").and_then(|value| value.to_str().ok()).map(str::to_owned);
        location.ok_or_else(|| ClientError::Malformed {
            url: answer.url().to_string(),
            reason: "it names no location for the upload".to_owned(),
        })
    }

    async fn send_upload(
        &self,
        path: &Path,
        location: &str,
        length: u64,
        progress: Progress,
    ) -> Result<(), ClientError> {
        let mut offset = 0;
        let mut failures = 0;
        while offset < length {
            let result = self.send_part(path, location, offset, length, progress.clone()).await;
            let stands = match result {
                Ok(stands) => stands,
                Err(error) if failures + 1 < ATTEMPTS_MAX && may_resume(&error) => {
                    tracing::info!(%error, offset, "the upload broke off; asking where it stands");
                    tokio::time::sleep(Duration::from_millis(200 << failures)).await;
                    self.upload_offset(location).await.unwrap_or(offset)
                }
                Err(error) => return Err(error),
            };
            failures = if stands > offset { 0 } else { failures + 1 };
            if failures >= ATTEMPTS_MAX {
                return Err(ClientError::FileChanged { path: path.to_owned() });
            }
            offset = stands;
            progress(offset, length);
        }
        Ok(())
    }

    /// Sends from `offset` to the end; the offset that the server answers.
    async fn send_part(
        &self,
        path: &Path,
        location: &str,
        offset: u64,
        length: u64,
        progress: Progress,
    ) -> Result<u64, ClientError> {
        let file = open_at(path, offset).await.map_err(|source| ClientError::File { path: path.to_owned(), source })?;
        let body = reqwest::Body::wrap_stream(slices(file, offset, length, progress));
        let request = self
            .http
            .request(Method::PATCH, location)?
            .header("tus-resumable", TUS_VERSION)
            .header("upload-offset", offset)
            .header("content-type", "application/offset+octet-stream")
            .header("content-length", length - offset)
            .body(body);
        offset_of(&self.http.send(request).await?)
    }

    async fn upload_offset(&self, location: &str) -> Result<u64, ClientError> {
        let request = self.http.request(Method::HEAD, location)?.header("tus-resumable", TUS_VERSION);
        offset_of(&self.http.send(request).await?)
    }
}

/// A broken connection, a busy server, or an offset that moved (409) are asked about again; a refusal is final.
fn may_resume(error: &ClientError) -> bool {
    match error {
        ClientError::Problem { problem, .. } if problem.status == StatusCode::CONFLICT.as_u16() => true,
        ClientError::Problem { problem, .. } if problem.status == 507 => false,
        error => error.retry() != Retry::Never,
    }
}

fn offset_of(answer: &Response) -> Result<u64, ClientError> {
    let offset = answer.headers().get("upload-offset").and_then(|value| value.to_str().ok()?.parse().ok());
    offset.ok_or_else(|| ClientError::Malformed {
        url: answer.url().to_string(),
        reason: "it names no upload offset".to_owned(),
    })
}

async fn open_at(path: &Path, offset: u64) -> std::io::Result<File> {
    let mut file = File::open(path).await?;
    file.seek(SeekFrom::Start(offset)).await?;
    Ok(file)
}

/// The file from `offset` to `length` in slices; a file that ended early breaks the stream.
fn slices(
    file: File,
    offset: u64,
    length: u64,
    progress: Progress,
) -> impl Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    stream::try_unfold((file, offset), move |(mut file, offset)| {
        let progress = progress.clone();
        async move {
            if offset >= length {
                return Ok(None);
            }
            let want = usize::try_from(length - offset).unwrap_or(usize::MAX).min(SLICE_BYTES);
            let mut slice = vec![0u8; want];
            let got = file.read(&mut slice).await?;
            if got == 0 {
                return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the file became shorter"));
            }
            slice.truncate(got);
            progress(offset, length);
            Ok(Some((Bytes::from(slice), (file, offset + got as u64))))
        }
    })
}

/// SHA-256 and length, in one pass off the async threads.
async fn hash_file(path: &Path) -> Result<(Sha256, u64), ClientError> {
    let owned = path.to_owned();
    let hashed = tokio::task::spawn_blocking(move || {
        let mut file = std::fs::File::open(owned)?;
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        let mut slice = vec![0u8; SLICE_BYTES];
        let mut length = 0u64;
        loop {
            let got = std::io::Read::read(&mut file, &mut slice)?;
            if got == 0 {
                break;
            }
            context.update(&slice[..got]);
            length += got as u64;
        }
        let mut sha256 = [0u8; 32];
        sha256.copy_from_slice(context.finish().as_ref());
        Ok((Sha256::from_bytes(sha256), length))
    })
    .await
    .expect("hashing does not panic");
    hashed.map_err(|source| ClientError::File { path: path.to_owned(), source })
}
