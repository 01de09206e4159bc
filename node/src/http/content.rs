//! Content by digest, with ranges and validators: the same answer on every node, because everything in it is signed.

use super::NodeHttp;
use super::body::{ContentBody, ContentSource, Part};
use super::caller::Caller;
use super::problem::Refusal;
use super::running::Running;
use crate::clock;
use crate::gate::GateRequest;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{self, HeaderName};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sluice_api::problem::ProblemType;
use sluice_content::range::{Conditions, Resource, Selection, select};
use sluice_model::{ArtifactKind, ReleasedArtifact};
use sluice_rollout::gate::{PURPOSE_HEADER, PURPOSE_ROLLBACK};
use sluice_rollout::{Purpose, WantedContent};
use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, UNIX_EPOCH};

/// Separates the parts of a multi-range answer. Parts carry their length, so content cannot be taken for it.
const BOUNDARY: &str = "sluice-part-6f1d2c9b7a40";

/// `/content/sha256/<hex>` and `/content/blake3/<hex>`.
pub fn routes() -> Router<NodeHttp> {
    Router::new().route("/content/sha256/{digest}", get(by_sha256)).route("/content/blake3/{digest}", get(by_blake3))
}

async fn by_sha256(
    State(node): State<NodeHttp>,
    Path(digest): Path<String>,
    request: Parts,
) -> Result<Response, Refusal> {
    read(node, WantedContent::Sha256(digest.parse().map_err(|_| not_a_digest())?), &request).await
}

async fn by_blake3(
    State(node): State<NodeHttp>,
    Path(digest): Path<String>,
    request: Parts,
) -> Result<Response, Refusal> {
    read(node, WantedContent::Blake3(digest.parse().map_err(|_| not_a_digest())?), &request).await
}

fn not_a_digest() -> Refusal {
    Refusal::new(ProblemType::Malformed, "content is asked for by a digest of 64 hexadecimal characters")
}

/// Answers a `GET` or `HEAD` of an artifact: gate, conditions, then the bytes, fetched while the answer runs.
pub async fn read(node: NodeHttp, wanted: WantedContent, request: &Parts) -> Result<Response, Refusal> {
    let caller = *request.extensions.get::<Caller>().expect("the listener says who asks");
    let gate = GateRequest { caller, wanted, purpose: purpose_of(&request.headers) };
    let row = gate.judge(&node.view.load())?.clone();
    let etag = format!("\"sha256:{}\"", row.sha256);
    let last_modified_secs = row.custom.approved_at.as_millis() / 1_000;
    let is_get = request.method == Method::GET;
    let selection = {
        let resource = Resource { length: row.length, etag: &etag, last_modified_secs };
        let text = Texts::of(&request.headers);
        select(&resource, &text.conditions(is_get))
    };
    let answer = match Answer::of(selection, &row) {
        Ok(answer) => answer,
        Err(refused) => return Ok(*refused),
    };
    let body = match answer.parts {
        Some(parts) if is_get => {
            node.content.touch(&row.custom.blake3, clock::timestamp());
            let source = ContentSource::open(node.clone(), row.custom.blake3).await?;
            let mut body = ContentBody { source, request: gate, parts, running: None };
            body.prime().await?;
            // That may have taken a while: what was forbidden meanwhile is told as a problem. From here on it is a cut.
            gate.judge(&node.view.load())?;
            body.running = request.extensions.get::<Running>().map(|running| running.begin(gate));
            Body::from_stream(body.into_stream())
        }
        _ => Body::empty(),
    };
    let mut response = Response::new(body);
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    add_validators(response.headers_mut(), &row, &etag, last_modified_secs);
    Ok(response)
}

fn purpose_of(headers: &HeaderMap) -> Purpose {
    let is_rollback = headers.get(PURPOSE_HEADER).is_some_and(|value| value.as_bytes() == PURPOSE_ROLLBACK.as_bytes());
    if is_rollback { Purpose::Rollback } else { Purpose::Ordinary }
}

/// The request's conditions as text, several lines of one header joined.
struct Texts([Option<String>; 6]);

impl Texts {
    fn of(headers: &HeaderMap) -> Self {
        let joined = |name: HeaderName| {
            let lines: Vec<&str> = headers.get_all(name).iter().filter_map(|line| line.to_str().ok()).collect();
            (!lines.is_empty()).then(|| lines.join(", "))
        };
        Self([
            joined(header::RANGE),
            joined(header::IF_RANGE),
            joined(header::IF_MATCH),
            joined(header::IF_NONE_MATCH),
            joined(header::IF_MODIFIED_SINCE),
            joined(header::IF_UNMODIFIED_SINCE),
        ])
    }

    fn conditions(&self, is_get: bool) -> Conditions<'_> {
        let [range, if_range, if_match, if_none_match, if_modified_since, if_unmodified_since] =
            self.0.each_ref().map(|text| text.as_deref());
        Conditions {
            range: range.filter(|_| is_get),
            if_range,
            if_match,
            if_none_match,
            if_modified_since,
            if_unmodified_since,
        }
    }
}

/// An answer before its bytes.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    /// `None`: the answer has no body by its nature.
    parts: Option<VecDeque<Part>>,
}

impl Answer {
    fn of(selection: Selection, row: &ReleasedArtifact) -> Result<Self, Box<Response>> {
        let ranged =
            |range: &Range<u64>| format!("bytes {}-{}/{}", range.start, range.end.saturating_sub(1), row.length);
        let mut headers = HeaderMap::new();
        let mut kind = media_type(&row.custom.artifact).to_owned();
        let (status, parts) = match selection {
            Selection::NotModified => {
                return Ok(Self { status: StatusCode::NOT_MODIFIED, headers, parts: None });
            }
            Selection::PreconditionFailed => {
                let detail = "the content is not what If-Match or If-Unmodified-Since names; ask without it";
                return Err(Box::new(Refusal::new(ProblemType::PreconditionFailed, detail).into_response()));
            }
            Selection::Unsatisfiable => return Err(Box::new(outside(row.length))),
            Selection::Whole => (StatusCode::OK, VecDeque::from([Part::Content(0..row.length)])),
            Selection::Part(range) => {
                headers.insert(header::CONTENT_RANGE, value(&ranged(&range)));
                (StatusCode::PARTIAL_CONTENT, VecDeque::from([Part::Content(range)]))
            }
            Selection::Parts(ranges) => {
                let parts = multipart(&ranges, &kind, ranged);
                kind = format!("multipart/byteranges; boundary={BOUNDARY}");
                (StatusCode::PARTIAL_CONTENT, parts)
            }
        };
        let length: u64 = parts.iter().map(Part::length).sum();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        headers.insert(header::CONTENT_TYPE, value(&kind));
        Ok(Self { status, headers, parts: Some(parts) })
    }
}

fn media_type(kind: &ArtifactKind) -> &'static str {
    match kind {
        ArtifactKind::Deb(_) => "application/vnd.debian.binary-package",
    }
}

/// RFC 9110 section 15.3.7.2.
fn multipart(ranges: &[Range<u64>], kind: &str, ranged: impl Fn(&Range<u64>) -> String) -> VecDeque<Part> {
    let mut parts = VecDeque::with_capacity(2 * ranges.len() + 1);
    for range in ranges {
        let head = format!("\r\n--{BOUNDARY}\r\nContent-Type: {kind}\r\nContent-Range: {}\r\n\r\n", ranged(range));
        parts.push_back(Part::Text(Bytes::from(head)));
        parts.push_back(Part::Content(range.clone()));
    }
    parts.push_back(Part::Text(Bytes::from(format!("\r\n--{BOUNDARY}--\r\n"))));
    parts
}

fn outside(length: u64) -> Response {
    let detail = format!("the content has {length} bytes; ask for a range inside it");
    let mut response = Refusal::new(ProblemType::RangeNotSatisfiable, detail).into_response();
    response.headers_mut().insert(header::CONTENT_RANGE, value(&format!("bytes */{length}")));
    response
}

fn add_validators(headers: &mut HeaderMap, row: &ReleasedArtifact, etag: &str, last_modified_secs: u64) {
    let digest = STANDARD.encode(row.sha256.as_bytes());
    let modified = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(last_modified_secs));
    for (name, text) in [
        (header::ETAG, etag),
        (header::LAST_MODIFIED, &modified),
        (header::ACCEPT_RANGES, "bytes"),
        // A cache in between must ask again: the content may be retracted.
        (header::CACHE_CONTROL, "no-cache"),
        (HeaderName::from_static("repr-digest"), &format!("sha-256=:{digest}:")),
        // What RFC 9530 replaced; some download clients know only this one.
        (HeaderName::from_static("digest"), &format!("SHA-256={digest}")),
    ] {
        headers.insert(name, value(text));
    }
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("made of hex, numbers, dates and our own words")
}

#[cfg(test)]
mod tests;
