//! `/tuf/metadata` and `/tuf/targets`: the repository as any TUF client sees it, on both listeners.

use crate::http::authenticate::DeviceCaller;
use crate::http::content;
use crate::http::extract::Params;
use crate::operations::Failure;
use crate::state::{App, Shared};
use axum::Extension;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderValue, Method};
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use sluice_api::problem::ProblemType;
use sluice_model::{Sha256, TargetName};
use sluice_repo_store::metadata;

/// Longest metadata file name: a version of twenty digits and a role of 64 characters.
const FILE_NAME_CHARS_MAX: usize = 96;

pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/tuf/metadata/{file}", get(metadata_file)).route("/tuf/targets/{*path}", get(target))
}

/// A metadata file, current or replaced a short while ago. Foreign clients go by 404 for roots that do not exist.
async fn metadata_file(
    State(app): State<Shared>,
    Params(file): Params<String>,
    caller: Option<Extension<DeviceCaller>>,
    method: Method,
) -> Result<Response, Failure> {
    let missing = || Failure::refused(ProblemType::NotFound, format!("there is no metadata file {file}"));
    if file.len() > FILE_NAME_CHARS_MAX {
        return Err(missing());
    }
    let served = app.served();
    let bytes = match served.files.get(&file) {
        Some(bytes) => Some(bytes.clone()),
        None => app.store.read(|tx| metadata::file(tx, &file))?.map(Bytes::from),
    };
    // Only the timestamp changes under its name.
    let caching = if file == "timestamp.json" { "no-cache" } else { "public, max-age=31536000, immutable" };
    Ok(send(&app, caller, method, bytes.ok_or_else(missing)?, caching).await)
}

/// A target: content of a release role, or a signed document.
async fn target(
    State(app): State<Shared>,
    Params(path): Params<String>,
    caller: Option<Extension<DeviceCaller>>,
    request: Request,
) -> Result<Response, Failure> {
    let missing = || Failure::refused(ProblemType::NotFound, "no signed role lists this target".to_owned());
    let (sha256, name) = parse(&path).ok_or_else(missing)?;
    if name.as_str().starts_with("patches/") && !name.file().starts_with("reinstated-") {
        return content::send_target(&app, &name, &sha256, &request);
    }
    let served = app.served();
    let current = served.view.documents.get(&name).is_some_and(|document| document.sha256 == sha256);
    let bytes = match served.documents.get(&name) {
        Some(bytes) if current => Some(bytes.clone()),
        _ => app.store.read(|tx| metadata::document(tx, &sha256))?.map(Bytes::from),
    };
    let caching = "public, max-age=31536000, immutable";
    Ok(send(&app, caller, request.method().clone(), bytes.ok_or_else(missing)?, caching).await)
}

/// `<dir>/<sha256>.<name>` as the specification has it, or `<sha256>.<dir>/<name>` as one client asks.
fn parse(path: &str) -> Option<(Sha256, TargetName)> {
    let (dir, file) = path.rsplit_once('/')?;
    let hashed = |text: &str| {
        let (hash, rest) = text.split_once('.')?;
        Some((hash.parse::<Sha256>().ok()?, rest.to_owned()))
    };
    if let Some((sha256, file)) = hashed(file) {
        return Some((sha256, format!("{dir}/{file}").parse().ok()?));
    }
    let (sha256, rest) = hashed(path)?;
    Some((sha256, rest.parse().ok()?))
}

/// Metadata and documents that cross a site's link pass its limiter and are counted.
async fn send(
    app: &App,
    caller: Option<Extension<DeviceCaller>>,
    method: Method,
    bytes: Bytes,
    caching: &'static str,
) -> Response {
    let length = bytes.len();
    let body = match caller {
        Some(Extension(caller)) if method == Method::GET => app.links_of(&caller.key).paced_metadata(bytes),
        _ => Body::from(bytes),
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching));
    response
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
