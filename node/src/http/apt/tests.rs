use super::*;
use crate::http::plain_router;
use crate::testing::{Repository, Stores, published, view_with};
use crate::view::{SignedDocument, ViewPublisher};
use axum::http::Request;
use http_body_util::BodyExt;
use sluice_apt_view::{Plan, Terms, plan};
use sluice_model::Timestamp;
use tower::ServiceExt;

const WEEK: Duration = Duration::from_secs(7 * 24 * 3_600);

/// The index document of an empty ring, signed at `secs` after some moment; `word` stands for the signatures.
fn document(secs: u64, word: &str) -> AptDocument {
    let ring = "pilot".parse().unwrap();
    let now = Timestamp::from_millis((1_790_000_000 + secs) * 1_000);
    let terms = Terms { repo_id: "test", ring: &ring, key: "KEY", now, valid_for: WEEK };
    match plan(None, &[], &terms) {
        Plan::Sign(planned) => planned.signed(word.into(), word.into()).unwrap(),
        Plan::Keep => panic!("a first document is planned"),
    }
}

/// A view whose plain clients have the ring pilot, with these bytes as its document.
fn view(bytes: Option<Vec<u8>>) -> NodeView {
    let mut view = view_with(Repository::new().first(), &[]);
    view.limits.plain_rings = vec!["pilot".parse().unwrap()];
    if let Some(bytes) = bytes {
        let digest = some_hash(&bytes);
        let document = DocumentRef { length: bytes.len() as u64, sha256: digest };
        let name = document_name(&"pilot".parse().unwrap());
        view.documents.insert(name, SignedDocument { document, bytes: bytes.into() });
    }
    view
}

/// Tells documents apart; what is signed was checked before it came into a view.
fn some_hash(bytes: &[u8]) -> Sha256 {
    let mut out = [0_u8; Sha256::LEN];
    for (idx, byte) in bytes.iter().enumerate() {
        out[idx % Sha256::LEN] = out[idx % Sha256::LEN].wrapping_mul(31).wrapping_add(*byte);
    }
    Sha256::from_bytes(out)
}

fn json(document: &AptDocument) -> Vec<u8> {
    serde_json::to_vec(document).unwrap()
}

struct Node {
    router: Router,
    publisher: ViewPublisher,
    _stores: Stores,
    _dir: tempfile::TempDir,
}

impl Node {
    fn new(first: NodeView) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut stores = Stores::open(dir.path());
        let (publisher, views) = published(first);
        let caller = Caller::Plain { remote: "192.0.2.7:1234".parse().unwrap() };
        let router = plain_router(stores.http(views)).layer(Extension(caller));
        Self { router, publisher, _stores: stores, _dir: dir }
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> (u16, HeaderMap, String) {
        let request =
            headers.iter().fold(Request::builder().uri(path), |builder, (name, value)| builder.header(*name, *value));
        let response = self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status.as_u16(), parts.headers, String::from_utf8(body.to_vec()).unwrap())
    }
}

const RELEASE: &str = "/apt/pilot/dists/stable/Release";
const IN_RELEASE: &str = "/apt/pilot/dists/stable/InRelease";

#[tokio::test]
async fn an_index_file_has_ranges_and_validators_as_apt_uses_them() {
    let made = document(0, "SIGNED");
    let node = Node::new(view(Some(json(&made))));
    let (status, headers, body) = node.get(RELEASE, &[]).await;
    assert_eq!((status, body.as_str()), (200, made.generations[0].release.as_str()));
    assert_eq!(headers["last-modified"], "Mon, 21 Sep 2026 14:13:20 GMT");
    assert_eq!(headers["content-length"], body.len().to_string().as_str());
    let date = headers["last-modified"].to_str().unwrap().to_owned();
    assert_eq!(node.get(RELEASE, &[("if-modified-since", &date)]).await.0, 304);
    let (status, headers, part) = node.get(RELEASE, &[("range", "bytes=10-"), ("if-range", &date)]).await;
    assert_eq!((status, part.as_str()), (206, &body[10..]));
    assert_eq!(headers["content-range"], format!("bytes 10-{}/{}", body.len() - 1, body.len()).as_str());
    let other = "Mon, 21 Sep 2026 14:13:19 GMT";
    assert_eq!(node.get(RELEASE, &[("range", "bytes=10-"), ("if-range", other)]).await.0, 200);
    assert_eq!(node.get(RELEASE, &[("range", "bytes=999999-")]).await.0, 416);
    assert_eq!(node.get("/apt/pilot/key.asc", &[]).await.2, "KEY");
    assert_eq!(node.get("/apt/pilot/dists/stable/main/i18n/Translation-en", &[]).await.0, 404);
    assert_eq!(node.get("/apt/pilot/dists/stable/main/binary-amd64/Packages", &[]).await.0, 200);
}

#[tokio::test]
async fn all_files_change_with_the_view_and_a_document_that_does_not_compose_is_not_served() {
    let node = Node::new(view(Some(json(&document(0, "FIRST")))));
    assert_eq!(node.get(IN_RELEASE, &[]).await.2, "FIRST");
    let second = document(5, "SECOND");
    node.publisher.publish(view(Some(json(&second))));
    assert_eq!(node.get(IN_RELEASE, &[]).await.2, "SECOND");
    assert_eq!(node.get(RELEASE, &[]).await.2, second.generations[0].release);

    let mut wrong = document(9, "THIRD");
    wrong.generations[0].files[0].length = 1;
    node.publisher.publish(view(Some(json(&wrong))));
    let (status, _, body) = node.get(IN_RELEASE, &[]).await;
    assert_eq!(status, 503, "{body}");
    node.publisher.publish(view(None));
    let (status, _, body) = node.get(IN_RELEASE, &[]).await;
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("try again"), "{body}");
}

#[tokio::test]
async fn a_ring_that_the_source_network_may_not_have_is_refused_index_and_pool_alike() {
    let mut closed = view(Some(json(&document(0, "SIGNED"))));
    closed.limits.plain_rings = vec!["production".parse().unwrap()];
    let node = Node::new(closed);
    let hash = "ab".repeat(32);
    for path in [IN_RELEASE.to_owned(), "/apt/pilot/key.asc".into(), format!("/apt/pilot/pool/{hash}/x.deb")] {
        let (status, _, body) = node.get(&path, &[]).await;
        assert_eq!(status, 403, "{path}: {body}");
        assert!(body.contains("your rings are: production"), "{path}: {body}");
    }
    let open = Node::new(view(Some(json(&document(0, "SIGNED")))));
    assert_eq!(open.get(&format!("/apt/pilot/pool/{hash}/x.deb"), &[]).await.0, 404);
    assert_eq!(open.get("/apt/pilot/pool/nonsense/x.deb", &[]).await.0, 404);
}
