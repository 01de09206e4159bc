//! Files of a server that need not be one of ours: any TUF repository. Nothing that it sends is believed here.

use crate::error::ClientError;
use crate::http::{Http, Timeouts};
use bytes::Bytes;
use reqwest::{Method, Response};

/// Fetches files below one base URL.
pub struct FileClient {
    http: Http,
}

/// A file that is arriving.
pub struct FileStream {
    http: Http,
    answer: Response,
}

impl FileClient {
    /// A client of the files below `base`; a `/` at its end makes no difference.
    pub fn open(base: &str, timeouts: Timeouts) -> Result<Self, ClientError> {
        Ok(Self { http: Http::open(base, None, timeouts)? })
    }

    /// A whole file of at most `length_max` bytes. `path` is encoded already and does not begin with `/`. `None` when the
    /// server has no such file: 404, or 403, with which object stores say the same.
    pub async fn get(&self, path: &str, length_max: u64) -> Result<Option<Bytes>, ClientError> {
        match self.stream(path).await? {
            Some(stream) => self.http.body(stream.answer, length_max).await.map(Some),
            None => Ok(None),
        }
    }

    /// As [`FileClient::get`], for content that does not fit into memory; the caller stops at its own bound.
    pub async fn stream(&self, path: &str) -> Result<Option<FileStream>, ClientError> {
        let request = self.http.request(Method::GET, &format!("/{path}"))?;
        let error = match self.http.send(request).await {
            Ok(answer) => return Ok(Some(FileStream { http: self.http.clone(), answer })),
            Err(error) => error,
        };
        let status = match &error {
            ClientError::Status { status, .. } => *status,
            ClientError::Problem { problem, .. } => problem.status,
            _ => return Err(error),
        };
        if matches!(status, 403 | 404) { Ok(None) } else { Err(error) }
    }
}

impl FileStream {
    /// The next part; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        self.http.part(&mut self.answer).await
    }
}
