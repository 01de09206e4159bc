//! The Debian repository of each ring: `/apt/<ring>/dists/...` and `/apt/<ring>/pool/...`, for an apt that knows nothing of
//! us.
//!
//! Indices come whole from the signed document `policy/apt-<ring>` of one view, so all files of a state change at once;
//! three states before it stay by hash. Packages go through the same gate and the same verification as any content.
//!
//! Invariants
//! - An index file is served only when it is what its signed `Release` lists.
//! - A ring that the caller may not have is refused with the reason, indices and packages alike.

use super::NodeHttp;
use super::content;
use super::problem::{Refusal, chain};
use super::tuf::paced;
use crate::gate::check_ring;
use crate::http::caller::Caller;
use crate::view::NodeView;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{self, HeaderName};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};
use bytes::Bytes;
use sluice_api::problem::ProblemType;
use sluice_apt_view::{AptDocument, Composed, ComposedFile, SUITE, document_name};
use sluice_content::range::{Conditions, Resource, Selection, select};
use sluice_metadata::DocumentRef;
use sluice_model::{RingName, Sha256};
use sluice_rollout::WantedContent;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

/// Index files of all rings that are kept ready in memory: three rings of 1,500 patches, four states of 2.3 MiB each, are
/// 28 MiB. What is beyond it is composed again for each request.
const READY_BYTES_MAX: u64 = 64 << 20;

/// The addresses below `/apt`.
pub fn routes() -> Router<NodeHttp> {
    let ready: Ready = Arc::default();
    Router::new()
        .route("/apt/{ring}/dists/{*path}", get(index))
        .route("/apt/{ring}/pool/{digest}/{file}", get(package))
        .route("/apt/{ring}/key.asc", get(key))
        .layer(Extension(ready))
}

/// A document and the files in it.
struct Repository {
    document: DocumentRef,
    key: Bytes,
    files: Composed<Bytes>,
}

/// Rings whose files were composed; replaced when their document changes.
type Ready = Arc<Mutex<BTreeMap<RingName, Arc<Repository>>>>;

async fn index(
    State(node): State<NodeHttp>,
    Extension(ready): Extension<Ready>,
    Path((ring, path)): Path<(String, String)>,
    request: Parts,
) -> Result<Response, Refusal> {
    let ring = ring_of(&ring)?;
    let view = node.view.load();
    check_ring(&view, &caller(&request), &ring)?;
    let repository = repository(&view, &ready, &ring)?;
    let file = repository.files.file(&path).ok_or_else(|| {
        let detail =
            format!("the repository of ring {ring} has no such file; its suite is {SUITE}, its component main");
        Refusal::new(ProblemType::NotFound, detail)
    })?;
    Ok(answer(&node, file, kind_of(&path), &request))
}

async fn key(
    State(node): State<NodeHttp>,
    Extension(ready): Extension<Ready>,
    Path(ring): Path<String>,
    request: Parts,
) -> Result<Response, Refusal> {
    let ring = ring_of(&ring)?;
    let view = node.view.load();
    check_ring(&view, &caller(&request), &ring)?;
    let key = repository(&view, &ready, &ring)?.key.clone();
    let mut response = Response::new(if request.method == Method::GET { Body::from(key) } else { Body::empty() });
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/pgp-keys"));
    Ok(response)
}

async fn package(
    State(node): State<NodeHttp>,
    Path((ring, digest, _)): Path<(String, String, String)>,
    request: Parts,
) -> Result<Response, Refusal> {
    let ring = ring_of(&ring)?;
    let digest: Sha256 = digest.parse().map_err(|_| not_listed(&ring))?;
    let wanted = WantedContent::Sha256(digest);
    {
        let view = node.view.load();
        check_ring(&view, &caller(&request), &ring)?;
        let is_listed = || view.catalogue.live_rows(wanted).iter().any(|row| row.ring == ring);
        // What is retracted or suspended the gate tells.
        let is_stopped = view.catalogue.tombstone(wanted).is_some() || view.catalogue.suspension(wanted).is_some();
        if !is_stopped && !is_listed() {
            return Err(not_listed(&ring));
        }
    }
    content::read(node, wanted, &request).await
}

fn not_listed(ring: &RingName) -> Refusal {
    Refusal::new(ProblemType::NotFound, format!("ring {ring} lists no such package; run apt-get update and try again"))
}

fn ring_of(text: &str) -> Result<RingName, Refusal> {
    text.parse().map_err(|_| Refusal::new(ProblemType::NotFound, "that is no name of a ring; see /apt/<ring>/"))
}

fn caller(request: &Parts) -> Caller {
    *request.extensions.get::<Caller>().expect("the listener says who asks")
}

/// The repository of a ring as `view` has it. Composing costs some milliseconds a MiB, once for each new document.
fn repository(view: &NodeView, ready: &Ready, ring: &RingName) -> Result<Arc<Repository>, Refusal> {
    let held = view.documents.get(&document_name(ring)).ok_or_else(|| {
        let detail = format!("the index of ring {ring} has not come here yet; try again in a few seconds");
        Refusal::new(ProblemType::NotReady, detail)
    })?;
    let mut ready = ready.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = ready.get(ring).filter(|known| known.document == held.document) {
        return Ok(Arc::clone(known));
    }
    let unusable = |error: &(dyn std::error::Error + 'static)| {
        tracing::error!(%ring, error = chain(error), "a signed index cannot be used; the ring's repository is not served");
        let detail = format!("the signed index of ring {ring} cannot be used; the node's log says why");
        Refusal::new(ProblemType::NotReady, detail)
    };
    let document = AptDocument::read(ring, &held.bytes).map_err(|error| unusable(&error))?;
    let files: Composed<Bytes> = document.compose().map_err(|error| unusable(&error))?;
    let made = Arc::new(Repository { document: held.document, key: Bytes::from(document.key), files });
    ready.retain(|other, _| other != ring && view.view.rings.contains(other));
    let kept: u64 = ready.values().map(|other| other.files.bytes_total()).sum();
    if kept + made.files.bytes_total() <= READY_BYTES_MAX {
        ready.insert(ring.clone(), Arc::clone(&made));
    }
    Ok(made)
}

fn kind_of(path: &str) -> &'static str {
    if path.ends_with(".gpg") { "application/pgp-signature" } else { "text/plain; charset=utf-8" }
}

/// The file, or the part of it that is asked for. Many ranges are answered with the whole, as RFC 9110 allows.
fn answer(node: &NodeHttp, file: &ComposedFile<Bytes>, kind: &'static str, request: &Parts) -> Response {
    let length = file.bytes.len() as u64;
    let etag = format!("\"sha256:{}\"", file.sha256);
    let last_modified_secs = file.modified_at.as_millis() / 1_000;
    let is_get = request.method == Method::GET;
    let selection = {
        let text = |name: HeaderName| request.headers.get(name).and_then(|value| value.to_str().ok());
        let conditions = Conditions {
            range: text(header::RANGE).filter(|_| is_get),
            if_range: text(header::IF_RANGE),
            if_match: text(header::IF_MATCH),
            if_none_match: text(header::IF_NONE_MATCH),
            if_modified_since: text(header::IF_MODIFIED_SINCE),
            if_unmodified_since: text(header::IF_UNMODIFIED_SINCE),
        };
        select(&Resource { length, etag: &etag, last_modified_secs }, &conditions)
    };
    let mut headers = HeaderMap::new();
    let (status, part): (StatusCode, Option<Range<u64>>) = match selection {
        Selection::Whole | Selection::Parts(_) => (StatusCode::OK, Some(0..length)),
        Selection::Part(range) => {
            let range_text = format!("bytes {}-{}/{length}", range.start, range.end.saturating_sub(1));
            headers.insert(header::CONTENT_RANGE, value(&range_text));
            (StatusCode::PARTIAL_CONTENT, Some(range))
        }
        Selection::NotModified => (StatusCode::NOT_MODIFIED, None),
        Selection::PreconditionFailed => (StatusCode::PRECONDITION_FAILED, None),
        Selection::Unsatisfiable => {
            headers.insert(header::CONTENT_RANGE, value(&format!("bytes */{length}")));
            (StatusCode::RANGE_NOT_SATISFIABLE, None)
        }
    };
    let modified = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(last_modified_secs));
    headers.insert(header::ETAG, value(&etag));
    headers.insert(header::LAST_MODIFIED, value(&modified));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    let mut body = Body::empty();
    if let Some(part) = part {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(part.end - part.start));
        if is_get {
            let bytes = file.bytes.slice(part.start as usize..part.end as usize);
            body = Body::from_stream(paced(bytes, node.serve.clone()));
        }
    } else if status != StatusCode::NOT_MODIFIED {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(0_u64));
    }
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("made of hex, numbers, dates and our own words")
}

#[cfg(test)]
mod tests;
