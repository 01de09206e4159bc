//! The repository as any TUF client sees it: metadata as received, signed documents, and the content behind the targets
//! of release roles.

use super::NodeHttp;
use super::content;
use super::problem::Refusal;
use crate::gate::check_reading;
use crate::http::caller::Caller;
use crate::view::NodeView;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method};
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};
use bytes::Bytes;
use futures::{Stream, stream};
use sluice_api::problem::ProblemType;
use sluice_metadata::{DocumentRef, verify_document};
use sluice_model::{Sha256, TargetName};
use sluice_rollout::WantedContent;
use sluice_transport::Throttle;
use std::io;
use std::sync::Arc;

/// `/tuf/metadata/<file>` and `/tuf/targets/...`.
pub fn routes() -> Router<NodeHttp> {
    Router::new().route("/tuf/metadata/{file}", get(metadata_file)).route("/tuf/targets/{*path}", get(target))
}

/// A metadata file. Foreign clients go by 404 for roots that do not exist yet.
async fn metadata_file(
    State(node): State<NodeHttp>,
    Path(file): Path<String>,
    Extension(caller): Extension<Caller>,
    method: Method,
) -> Result<Response, Refusal> {
    let view = node.view.load();
    check_reading(&view, &caller)?;
    let missing = || Refusal::new(ProblemType::NotFound, "the metadata in force has no such file");
    let bytes = view.metadata_files.get(&file).cloned().ok_or_else(missing)?;
    // Only the timestamp changes under its name.
    let caching = if file == "timestamp.json" { "no-cache" } else { IMMUTABLE };
    Ok(send(&node, bytes, "application/json", caching, &method))
}

const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// Content of a release role, or a signed document.
async fn target(State(node): State<NodeHttp>, Path(path): Path<String>, request: Parts) -> Result<Response, Refusal> {
    let (sha256, name) = parse(&path).ok_or_else(not_listed)?;
    let view = node.view.load();
    if name.as_str().starts_with("patches/") && !name.file().starts_with("reinstated-") {
        check_listed(&view, &name, &sha256)?;
        return content::read(node, WantedContent::Sha256(sha256), &request).await;
    }
    let caller = *request.extensions.get::<Caller>().expect("the listener says who asks");
    check_reading(&view, &caller)?;
    let bytes = document(&view, &name, &sha256).ok_or_else(not_listed)?;
    Ok(send(&node, bytes, "application/json", IMMUTABLE, &request.method))
}

fn not_listed() -> Refusal {
    Refusal::new(ProblemType::NotFound, "no signed role that this node follows lists this target")
}

/// A name that no role gives to this content is not found; whether the caller may have it the gate says, and a retraction
/// is told by the gate, too.
fn check_listed(view: &NodeView, name: &TargetName, sha256: &Sha256) -> Result<(), Refusal> {
    let wanted = WantedContent::Sha256(*sha256);
    let is_retracted = view.catalogue.tombstone(wanted).is_some();
    let is_suspended = view.catalogue.suspension(wanted).is_some();
    let is_listed = || view.catalogue.live_rows(wanted).iter().any(|row| row.target == *name);
    // What is suspended the gate tells, too.
    if is_retracted || is_suspended || is_listed() { Ok(()) } else { Err(not_listed()) }
}

/// A document in force, or a tombstone or reinstatement, whose target bytes are its JSON.
fn document(view: &NodeView, name: &TargetName, sha256: &Sha256) -> Option<Arc<[u8]>> {
    if let Some(held) = view.documents.get(name) {
        return (held.document.sha256 == *sha256).then(|| Arc::clone(&held.bytes));
    }
    let bytes = match name.as_str().strip_prefix("retractions/") {
        Some(serial) => {
            let serial: u64 = serial.parse().ok()?;
            serde_json::to_vec(view.tombstones.iter().find(|tombstone| tombstone.serial == serial)?).ok()?
        }
        None => {
            let serial: u64 = name.file().strip_prefix("reinstated-")?.parse().ok()?;
            let ring = name.directory().strip_prefix("patches/")?.parse().ok()?;
            let found = view.view.reinstatements.get(&ring)?.iter().find(|found| found.serial == serial)?;
            serde_json::to_vec(found).ok()?
        }
    };
    let promised = DocumentRef { length: bytes.len() as u64, sha256: *sha256 };
    verify_document(&promised, &bytes).ok()?;
    Some(bytes.into())
}

/// `<dir>/<sha256>.<name>` as the specification has it, or `<sha256>.<dir>/<name>` as some clients ask.
fn parse(path: &str) -> Option<(Sha256, TargetName)> {
    let hashed = |text: &str| {
        let (hash, rest) = text.split_once('.')?;
        Some((hash.parse::<Sha256>().ok()?, rest.to_owned()))
    };
    let (dir, file) = path.rsplit_once('/')?;
    if let Some((sha256, file)) = hashed(file) {
        return Some((sha256, format!("{dir}/{file}").parse().ok()?));
    }
    let (sha256, rest) = hashed(path)?;
    Some((sha256, rest.parse().ok()?))
}

fn send(node: &NodeHttp, bytes: Arc<[u8]>, kind: &'static str, caching: &'static str, method: &Method) -> Response {
    let length = bytes.len();
    let is_get = *method == Method::GET;
    let body =
        if is_get { Body::from_stream(paced(Bytes::from_owner(bytes), node.serve.clone())) } else { Body::empty() };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching));
    response
}

/// Metadata passes the serve limit like content.
pub(super) fn paced(bytes: Bytes, serve: Throttle) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::unfold((bytes, serve), |(mut left, serve)| async move {
        if left.is_empty() {
            return None;
        }
        let granted = serve.take_slice(left.len() as u64).await;
        let now = left.split_to(granted as usize);
        Some((Ok(now), (left, serve)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_target_address_are_read_and_nothing_else() {
        let hash = "ab".repeat(32);
        let wanted = (hash.parse::<Sha256>().unwrap(), "patches/pilot/jq_1.6.deb".parse::<TargetName>().unwrap());
        assert_eq!(parse(&format!("patches/pilot/{hash}.jq_1.6.deb")), Some(wanted.clone()));
        assert_eq!(parse(&format!("{hash}.patches/pilot/jq_1.6.deb")), Some(wanted));
        for path in
            ["jq.deb".into(), format!("patches/../{hash}.x"), format!("{hash}.x"), "patches/pilot/jq.deb".into()]
        {
            assert_eq!(parse(&path), None, "{path}");
        }
    }
}
