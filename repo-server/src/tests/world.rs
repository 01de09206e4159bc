//! A repository in a temporary folder with its routers and the tokens of some persons.

use crate::authority::{Announcement, BatchTask};
use crate::http::{Remote, public_router};
use crate::state::Shared;
use crate::{init, sweep_loop, wiring};
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::{Extension, Router};
use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use sluice_model::{AccessScope, PersonRole};
use sluice_repo_store::tokens::{self, PersonTokenRecord, SecretHash};
use sluice_settings::RepoSettings;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

pub(super) struct World {
    pub app: Shared,
    router: Router,
    tasks: JoinSet<()>,
    stop: CancellationToken,
    pub dir: TempDir,
    /// What the authority announces, until somebody listens.
    pub announcements: Option<mpsc::Receiver<Announcement>>,
}

/// An answer, read whole.
pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Asserts that this is the problem `name` with the words in it.
    pub fn expect(&self, status: u16, name: &str, words: &[&str]) -> &Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.json()["type"], format!("urn:sluice:problem:{name}"), "{}", self.text());
        assert_eq!(self.json()["request_id"], self.header("x-request-id"));
        for word in words {
            assert!(self.text().contains(word), "{word:?} is not in {}", self.text());
        }
        self
    }

    pub fn expect_ok(&self) -> &Self {
        assert!(self.status.is_success(), "{} {}", self.status, self.text());
        self
    }
}

impl World {
    pub async fn new() -> Self {
        Self::with(|_| ()).await
    }

    pub async fn with(change: impl FnOnce(&mut RepoSettings)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("repo");
        let rings = ["validation", "pilot", "production"].map(|ring| ring.parse().unwrap()).to_vec();
        init::run(&data, rings, "test").await.unwrap();
        Self::begin(dir, change)
    }

    /// A production repository of [`super::ceremonies::production`].
    pub async fn production(profile: sluice_metadata::RepositoryProfile) -> Self {
        let dir = tempfile::tempdir().unwrap();
        super::ceremonies::production(&dir.path().join("repo"), profile).await;
        Self::begin(dir, |_| ())
    }

    fn begin(dir: TempDir, change: impl FnOnce(&mut RepoSettings)) -> Self {
        let mut settings = RepoSettings::default();
        settings.store.reserve_bytes = 0;
        change(&mut settings);
        let world = Self::open(dir, settings);
        for (person, roles) in [
            ("admin", vec![PersonRole::Admin]),
            ("alice", vec![PersonRole::Publisher, PersonRole::Approver]),
            ("paul", vec![PersonRole::Publisher]),
            ("bob", vec![PersonRole::Approver, PersonRole::Retractor, PersonRole::Auditor]),
        ] {
            world.add_person(person, roles);
        }
        world
    }

    fn open(dir: TempDir, settings: RepoSettings) -> Self {
        let opened = wiring::open(settings, dir.path().join("repo"), false).unwrap();
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let (writer, token) = (opened.writer, stop.clone());
        tasks.spawn(async move { writer.run(token).await.unwrap() });
        tasks.spawn(opened.reports_writer.run(stop.clone()));
        let batches: BatchTask = opened.authority_tasks.batches;
        let announcements = Some(opened.authority_tasks.announcements);
        tasks.spawn(batches.run(stop.clone()));
        tasks.spawn(sweep_loop::run(opened.app.clone(), stop.clone()));
        let remote = Remote("127.0.0.1:40000".parse().unwrap());
        let router = public_router(&opened.app).layer(Extension(remote));
        Self { app: opened.app, router, tasks, stop, dir, announcements }
    }

    /// Stops everything and opens the same folder again.
    pub async fn reopen(self) -> Self {
        self.reopen_after(|_| ()).await
    }

    /// The same, with something done to the data folder in between.
    pub async fn reopen_after(mut self, change: impl FnOnce(&Path)) -> Self {
        self.stop.cancel();
        while let Some(done) = self.tasks.join_next().await {
            done.unwrap();
        }
        let settings = self.app.settings.clone();
        let Self { app, router, dir, .. } = self;
        drop((app, router));
        change(&dir.path().join("repo"));
        Self::open(dir, settings)
    }

    /// What the overlay's loop does after each commit.
    pub fn follow_limits(&self) {
        self.app.follow_limits();
    }

    pub fn add_person(&self, person: &str, roles: Vec<PersonRole>) {
        self.add_scoped(person, roles, AccessScope::default());
    }

    pub fn add_scoped(&self, person: &str, roles: Vec<PersonRole>, scope: AccessScope) {
        let record = PersonTokenRecord {
            id: id_of(person),
            secret: SecretHash::of(&[7; 32]),
            person: person.parse().unwrap(),
            roles,
            scope,
            created_by: "server".into(),
            created_at: crate::clock::timestamp(),
            expires_at: crate::clock::timestamp().plus(std::time::Duration::from_secs(3_600)),
            renewable_until: crate::clock::timestamp().plus(std::time::Duration::from_secs(3_600)),
            revoked: None,
        };
        self.app.store.write(|tx| tokens::put_person(tx, &record)).unwrap();
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let (parts, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub async fn send_from(&self, remote: &str, request: Request<Body>) -> Answer {
        let remote = Remote(remote.parse().unwrap());
        let router = public_router(&self.app).layer(Extension(remote));
        let (parts, body) = router.oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub async fn get(&self, person: &str, path: &str) -> Answer {
        self.send(request(person, "GET", path).body(Body::empty()).unwrap()).await
    }

    /// As somebody without a token.
    pub async fn fetch(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut builder = Request::get(path);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        self.send(builder.body(Body::empty()).unwrap()).await
    }

    pub async fn post(&self, person: &str, path: &str, body: &Value) -> Answer {
        self.send(request(person, "POST", path).body(Body::from(body.to_string())).unwrap()).await
    }

    pub async fn begin_upload(&self, person: &str, length: u64) -> Answer {
        let builder = request(person, "POST", "/v1/uploads").header("upload-length", length);
        self.send(builder.body(Body::empty()).unwrap()).await
    }

    pub async fn append(&self, person: &str, id: &str, offset: u64, body: Body) -> Answer {
        let builder = request(person, "PATCH", &format!("/v1/uploads/{id}"))
            .header("upload-offset", offset)
            .header("content-type", "application/offset+octet-stream");
        self.send(builder.body(body).unwrap()).await
    }

    pub async fn head_upload(&self, person: &str, id: &str) -> Answer {
        self.send(request(person, "HEAD", &format!("/v1/uploads/{id}")).body(Body::empty()).unwrap()).await
    }

    /// Uploads all of `bytes` and gives the upload's id.
    pub async fn upload(&self, person: &str, bytes: &[u8]) -> String {
        let begun = self.begin_upload(person, bytes.len() as u64).await;
        begun.expect_ok();
        let id = begun.header("location").rsplit('/').next().unwrap().to_owned();
        self.append(person, &id, 0, Body::from(bytes.to_vec())).await.expect_ok();
        id
    }

    /// What `POST /v1/patches` takes, with the digests of these very files.
    pub async fn new_patch(&self, person: &str, patch: &str, files: &[(&str, &[u8])]) -> Value {
        let (name, version) = patch.split_once('/').unwrap();
        let mut artifacts = Vec::new();
        for (file_name, bytes) in files {
            let upload = self.upload(person, bytes).await;
            artifacts.push(json!({ "upload": upload, "file_name": file_name, "sha256": sha256(bytes) }));
        }
        json!({ "name": name, "version": version, "severity": "high", "cves": ["CVE-2026-1234"], "artifacts": artifacts })
    }

    pub async fn publish(&self, person: &str, patch: &str, files: &[(&str, &[u8])]) -> Answer {
        let new = self.new_patch(person, patch, files).await;
        self.post(person, "/v1/patches", &new).await
    }

    pub async fn approve(&self, person: &str, patch: &str, ring: &str) -> Answer {
        self.post(person, &format!("/v1/patches/{patch}/approvals"), &json!({ "ring": ring })).await
    }

    pub async fn retract(&self, person: &str, patch: &str, also: &[&str]) -> Answer {
        let body = json!({ "reason": "it eats files", "also": also });
        self.post(person, &format!("/v1/patches/{patch}/retraction"), &body).await
    }

    /// A valid package with `extra` bytes of data that `seed` makes.
    pub fn deb(&self, package: &str, version: &str, seed: u8, extra: usize) -> Vec<u8> {
        let root = self.dir.path().join(format!("{package}-{version}-{seed}"));
        let control = root.join("DEBIAN");
        std::fs::create_dir_all(&control).unwrap();
        let fields = format!(
            "Package: {package}\nVersion: {version}\nArchitecture: all\nMaintainer: T <t@example.org>\nDescription: test\n"
        );
        std::fs::write(control.join("control"), fields).unwrap();
        let data = root.join("usr/share").join(package);
        std::fs::create_dir_all(&data).unwrap();
        std::fs::write(data.join("data"), noise(seed, extra)).unwrap();
        build(&root)
    }
}

fn build(root: &Path) -> Vec<u8> {
    let out = PathBuf::from(format!("{}.deb", root.display()));
    let built = Command::new("dpkg-deb")
        .args(["--root-owner-group", "-Znone", "--build"])
        .arg(root)
        .arg(&out)
        .output()
        .expect("dpkg-deb is installed");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    std::fs::read(out).unwrap()
}

pub(super) fn noise(seed: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    crate::draft::sha256_of(bytes).to_hex()
}

pub(super) fn request(person: &str, method: &str, path: &str) -> axum::http::request::Builder {
    let token = format!("slp1-{}-{}", id_of(person), "07".repeat(32));
    Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {token}"))
        .header("tus-resumable", "1.0.0")
}

fn id_of(person: &str) -> String {
    blake3::hash(person.as_bytes()).to_hex()[..16].to_owned()
}
