//! Content by digest or by target name, with ranges, for foreign clients of the repository itself.
//!
//! The same gate as at a node: a plain client has the rings that the policy gives to its network, a person with a token
//! has all. Each chunk is verified when it is read and judged again before it leaves, so a retraction cuts a download.

use crate::clock;
use crate::http::authenticate::{Remote, authenticate};
use crate::http::extract::Params;
use crate::operations::Failure;
use crate::state::{App, Shared};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderName};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::Response;
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use sluice_api::problem::ProblemType;
use sluice_content::range::{Conditions, Resource, Selection, select};
use sluice_content_store::ArtifactReader;
use sluice_model::{ReleasedArtifact, RingName, Sha256, TargetName};
use sluice_rollout::{Freshness, Purpose, Verdict, WantedContent};
use std::io;
use std::ops::Range;
use std::time::{Duration, UNIX_EPOCH};

/// Separates the parts of a multi-range answer; content cannot be mistaken for it, because lengths are told.
const BOUNDARY: &str = "sluice-part-6f1d2c9b7a40";

pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/content/sha256/{digest}", get(by_sha256)).route("/content/blake3/{digest}", get(by_blake3))
}

async fn by_sha256(
    State(app): State<Shared>,
    Params(digest): Params<Sha256>,
    request: Request,
) -> Result<Response, Failure> {
    send(&app, WantedContent::Sha256(digest), &request)
}

async fn by_blake3(
    State(app): State<Shared>,
    Params(digest): Params<sluice_model::ArtifactId>,
    request: Request,
) -> Result<Response, Failure> {
    send(&app, WantedContent::Blake3(digest), &request)
}

/// The content behind a target of a release role, asked for by its name and digest.
pub(super) fn send_target(
    app: &Shared,
    name: &TargetName,
    sha256: &Sha256,
    request: &Request,
) -> Result<Response, Failure> {
    let served = app.served();
    let listed = served.view.releases.values().flatten().any(|row| row.target == *name && row.sha256 == *sha256);
    if !listed && served.retracted_by(sha256).is_none() {
        return Err(Failure::refused(ProblemType::NotFound, format!("no release role lists {name} with that digest")));
    }
    send(app, WantedContent::Sha256(*sha256), request)
}

fn send(app: &Shared, wanted: WantedContent, request: &Request) -> Result<Response, Failure> {
    let row = admit(app, wanted, request)?;
    let missing =
        || Failure::broken("reading an artifact", format!("{} is released but not stored", row.custom.blake3));
    let reader = app.content.reader(&row.custom.blake3).ok_or_else(missing)?;
    let etag = format!("\"sha256:{}\"", row.sha256);
    let last_modified_secs = row.custom.approved_at.as_millis() / 1_000;
    let resource = Resource { length: row.length, etag: &etag, last_modified_secs };
    let text = |name: HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
    let selection = select(
        &resource,
        &Conditions {
            range: if request.method() == Method::HEAD { None } else { text(header::RANGE) },
            if_range: text(header::IF_RANGE),
            if_match: text(header::IF_MATCH),
            if_none_match: text(header::IF_NONE_MATCH),
            if_modified_since: text(header::IF_MODIFIED_SINCE),
            if_unmodified_since: text(header::IF_UNMODIFIED_SINCE),
        },
    );
    let mut response = answer(app, &row, reader, selection)?;
    let modified = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(last_modified_secs));
    let digest = format!("sha-256=:{}:", STANDARD.encode(row.sha256.as_bytes()));
    for (name, value) in [
        (header::ETAG, etag),
        (header::LAST_MODIFIED, modified),
        (HeaderName::from_static("repr-digest"), digest),
        (header::ACCEPT_RANGES, "bytes".into()),
        (header::CACHE_CONTROL, "no-cache".into()),
    ] {
        response.headers_mut().insert(name, text_value(&value));
    }
    Ok(response)
}

/// Who asks may have it, now.
fn admit(app: &App, wanted: WantedContent, request: &Request) -> Result<ReleasedArtifact, Failure> {
    let served = app.served();
    let now = clock::timestamp();
    let freshness = Freshness::of(served.view.issued_at, served.view.lease_until, Some(now));
    let rings = rings_of(app, request)?;
    let open = served.view.open_rings(&rings, now);
    match served.catalogue.judge(wanted, &open, freshness, Purpose::Ordinary) {
        Verdict::Serve(row) => Ok(row.clone()),
        Verdict::RingClosed { rings: listing } if listing.iter().any(|ring| rings.contains(ring)) => {
            let lapsed = listing.iter().map(|ring| ring.as_str()).collect::<Vec<_>>().join(", ");
            let detail = format!(
                "ring {lapsed} has lapsed: an approver must renew it with `sluice approve --ring {lapsed} --key FILE`"
            );
            Err(Failure::refused(ProblemType::LeaseExpired, detail))
        }
        Verdict::RingClosed { rings } => {
            let rings = rings.iter().map(|ring| ring.as_str()).collect::<Vec<_>>().join(", ");
            let detail = format!("only these rings have this content: {rings}; your network's rings do not");
            Err(Failure::refused(ProblemType::RingClosed, detail))
        }
        Verdict::Suspended(suspension) => Err(Failure::refused(
            ProblemType::Suspended,
            format!("suspension {} ({}) stops it until two people lift it", suspension.id, suspension.reason),
        )),
        Verdict::Retracted(tombstone) => Err(Failure::refused(
            ProblemType::Retracted,
            format!(
                "{} was retracted by {} (retraction {}): {}",
                tombstone.patch, tombstone.by, tombstone.serial, tombstone.reason
            ),
        )),
        Verdict::LeaseExpired(freshness) => {
            Err(Failure::refused(ProblemType::LeaseExpired, format!("the metadata is {freshness}; try again later")))
        }
        Verdict::NotListed => Err(Failure::refused(ProblemType::NotFound, "no release lists this content")),
    }
}

fn rings_of(app: &App, request: &Request) -> Result<Vec<RingName>, Failure> {
    let served = app.served();
    let remote = request.extensions().get::<Remote>().copied();
    if request.headers().contains_key(header::AUTHORIZATION) {
        authenticate(app, request.headers(), remote, request.extensions().get().copied())?;
        return Ok(served.view.rings.clone());
    }
    Ok(remote.map_or_else(Vec::new, |Remote(address)| served.limits.plain_rings_for(address.ip()).to_vec()))
}

fn answer(
    app: &Shared,
    row: &ReleasedArtifact,
    reader: ArtifactReader,
    selection: Selection,
) -> Result<Response, Failure> {
    let ranged = |range: &Range<u64>| format!("bytes {}-{}/{}", range.start, range.end.saturating_sub(1), row.length);
    let content = |parts: Vec<Part>| Body::from_stream(body(app.clone(), row.clone(), reader, parts));
    let mut headers = HeaderMap::new();
    let (status, length, kind, body) = match selection {
        Selection::NotModified => (StatusCode::NOT_MODIFIED, None, None, Body::empty()),
        Selection::PreconditionFailed => {
            let detail = "the content is not the one that If-Match or If-Unmodified-Since names";
            return Err(Failure::refused(ProblemType::PreconditionFailed, detail));
        }
        Selection::Unsatisfiable => {
            let detail = format!("the content has {} bytes; ask for a range inside it", row.length);
            return Err(Failure::refused(ProblemType::RangeNotSatisfiable, detail));
        }
        Selection::Whole => (StatusCode::OK, Some(row.length), None, content(vec![Part::Content(0..row.length)])),
        Selection::Part(range) => {
            headers.insert(header::CONTENT_RANGE, text_value(&ranged(&range)));
            (StatusCode::PARTIAL_CONTENT, Some(range.end - range.start), None, content(vec![Part::Content(range)]))
        }
        Selection::Parts(ranges) => {
            let parts = multipart(&ranges, ranged);
            let length = parts.iter().map(Part::length).sum();
            let kind = format!("multipart/byteranges; boundary={BOUNDARY}");
            (StatusCode::PARTIAL_CONTENT, Some(length), Some(kind), content(parts))
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        let kind = kind.unwrap_or_else(|| "application/vnd.debian.binary-package".into());
        headers.insert(header::CONTENT_TYPE, text_value(&kind));
    }
    *response.headers_mut() = headers;
    Ok(response)
}

fn text_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("header values are made of hex, numbers and dates")
}

/// A stretch of an answer's body.
enum Part {
    Text(Bytes),
    Content(Range<u64>),
}

impl Part {
    fn length(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Content(range) => range.end - range.start,
        }
    }
}

fn multipart(ranges: &[Range<u64>], ranged: impl Fn(&Range<u64>) -> String) -> Vec<Part> {
    let mut parts = Vec::with_capacity(2 * ranges.len() + 1);
    for range in ranges {
        let head = format!(
            "\r\n--{BOUNDARY}\r\nContent-Type: application/octet-stream\r\nContent-Range: {}\r\n\r\n",
            ranged(range)
        );
        parts.push(Part::Text(Bytes::from(head)));
        parts.push(Part::Content(range.clone()));
    }
    parts.push(Part::Text(Bytes::from(format!("\r\n--{BOUNDARY}--\r\n"))));
    parts
}

/// The bytes of `parts`, chunk by chunk; one chunk is in memory at a time.
fn body(
    app: Shared,
    row: ReleasedArtifact,
    reader: ArtifactReader,
    parts: Vec<Part>,
) -> impl Stream<Item = io::Result<Bytes>> {
    stream::iter(parts).flat_map(move |part| match part {
        Part::Text(text) => stream::once(std::future::ready(Ok(text))).boxed(),
        Part::Content(range) => content(app.clone(), row.clone(), reader.clone(), range).boxed(),
    })
}

fn content(
    app: Shared,
    row: ReleasedArtifact,
    reader: ArtifactReader,
    range: Range<u64>,
) -> impl Stream<Item = io::Result<Bytes>> {
    stream::try_unfold(range, move |left| {
        let (app, row, reader) = (app.clone(), row.clone(), reader.clone());
        async move {
            if left.is_empty() {
                return Ok(None);
            }
            if app.served().retracted_by(&row.sha256).is_some() {
                return Err(io::Error::other("the content was retracted meanwhile"));
            }
            let index =
                reader.manifest().chunk_at(left.start).ok_or_else(|| io::Error::other("beyond the manifest"))?;
            let chunk = reader.manifest().range(index);
            let bytes = reader.read(index).await.map_err(io::Error::other)?;
            let end = chunk.end.min(left.end);
            let slice = (left.start - chunk.start) as usize..(end - chunk.start) as usize;
            Ok(Some((bytes.slice(slice), end..left.end)))
        }
    })
}
