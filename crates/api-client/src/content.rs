//! Reads an artifact by its SHA-256, from any byte on, part by part.

use crate::error::ClientError;
use crate::http::{Http, is_partial};
use bytes::Bytes;
use reqwest::{Method, Response, header};
use sluice_api::CONTENT_PREFIX;
use sluice_model::Sha256;

/// Which bytes of which artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentRequest {
    /// SHA-256 of the whole artifact.
    pub sha256: Sha256,
    /// First byte wanted.
    pub from: u64,
    /// The entity tag of what is here already: when the server's is another, it sends all of it.
    pub if_range: Option<String>,
    /// Names and values of further headers.
    pub headers: Vec<(&'static str, String)>,
}

/// What the server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRange {
    /// First byte that follows: the one asked for, or 0 when the server sends everything.
    pub from: u64,
    /// Length of the whole artifact.
    pub total: u64,
}

/// The bytes of an answer, unverified.
pub struct ContentStream {
    http: Http,
    answer: Response,
    range: ContentRange,
    left: u64,
}

impl ContentStream {
    pub(crate) async fn open(http: Http, request: &ContentRequest) -> Result<Self, ClientError> {
        let path = format!("{CONTENT_PREFIX}/sha256/{}", request.sha256);
        let mut builder = http.request(Method::GET, &path)?;
        if request.from > 0 {
            builder = builder.header(header::RANGE, format!("bytes={}-", request.from));
            if let Some(tag) = &request.if_range {
                builder = builder.header(header::IF_RANGE, tag);
            }
        }
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        let answer = http.send(builder).await?;
        let range = range_of(&answer, request.from).ok_or_else(|| ClientError::Malformed {
            url: answer.url().to_string(),
            reason: "its length or range is missing or another than the one asked for".to_owned(),
        })?;
        Ok(Self { left: range.total - range.from, http, answer, range })
    }

    /// What follows.
    pub fn range(&self) -> ContentRange {
        self.range
    }

    /// The strong entity tag, to be given back as `if_range`.
    pub fn etag(&self) -> Option<String> {
        let tag = self.answer.headers().get(header::ETAG)?.to_str().ok()?;
        tag.starts_with('"').then(|| tag.to_owned())
    }

    /// The next bytes; `None` at the end. More than was announced is an error, and so is less.
    ///
    /// Safe to drop: bytes that were not returned are simply not here.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        let part = self.http.part(&mut self.answer).await?;
        let wrong =
            |reason: &str| ClientError::Malformed { url: self.answer.url().to_string(), reason: reason.to_owned() };
        let Some(part) = part else {
            return if self.left == 0 { Ok(None) } else { Err(wrong("it ended early")) };
        };
        self.left = self.left.checked_sub(part.len() as u64).ok_or_else(|| wrong("it is longer than it announced"))?;
        Ok(Some(part))
    }
}

fn range_of(answer: &Response, from: u64) -> Option<ContentRange> {
    if !is_partial(answer.status()) {
        return Some(ContentRange { from: 0, total: answer.content_length()? });
    }
    let text = answer.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (bytes, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = bytes.split_once('-')?;
    let (first, last, total): (u64, u64, u64) = (first.parse().ok()?, last.parse().ok()?, total.parse().ok()?);
    (first == from && last.checked_add(1)? == total && first <= last).then_some(ContentRange { from, total })
}
