//! A real `sluice-repo` process in a temporary folder.
#![allow(dead_code, clippy::unwrap_used, reason = "helpers of tests; each test program uses a part of them")]

use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_sluice-repo");
/// Everything that is waited for comes long before this.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Repo {
    pub dir: tempfile::TempDir,
    pub admin: String,
    pub child: Option<Child>,
    pub url: String,
    pub http: Client,
    environment: Vec<(String, String)>,
}

impl Repo {
    /// Made and running.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// The same with settings overridden through the environment.
    pub async fn start_with(environment: &[(&str, &str)]) -> Self {
        sluice_identity::install_provider();
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("repo");
        let made = Command::new(PROGRAM).args(["init", "--dev", "--data"]).arg(&data).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let text = String::from_utf8(made.stdout).unwrap();
        let admin = text.split_whitespace().find(|word| word.starts_with("slp1-")).unwrap().to_owned();
        let environment = environment.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let mut repo = Self { dir, admin, child: None, url: String::new(), http: Client::new(), environment };
        repo.serve().await;
        repo
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("repo")
    }

    /// Starts the program on the folder as it is.
    pub async fn serve(&mut self) {
        let log = File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let _ = std::fs::remove_file(self.data().join("listening.json"));
        let environment = self.environment.clone();
        self.child = Some(serve(&self.data(), "127.0.0.1:0").envs(environment).stderr(log).spawn().unwrap());
        let listening = self.data().join("listening.json");
        let end = later();
        while !listening.exists() {
            assert!(self.child.as_mut().unwrap().try_wait().unwrap().is_none(), "it ended: {}", self.log());
            assert!(before(end), "it does not listen: {}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let listening: Value = serde_json::from_slice(&std::fs::read(listening).unwrap()).unwrap();
        self.url = format!("http://{}", listening["http"].as_str().unwrap());
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Pulls the plug.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Asks it to stop and waits.
    pub async fn terminate(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        let told = Command::new("kill").arg(child.id().to_string()).status().unwrap();
        assert!(told.success());
        let end = later();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            assert!(before(end), "it does not stop: {}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub fn ask(&self, token: &str, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        request.bearer_auth(token).header("Tus-Resumable", "1.0.0")
    }

    pub async fn json(&self, token: &str, path: &str) -> Value {
        self.ask(token, Method::GET, path).send().await.unwrap().json().await.unwrap()
    }

    /// A token of a person with these roles.
    pub async fn person(&self, person: &str, roles: &[&str]) -> String {
        let body = json!({ "person": person, "roles": roles });
        let made = self.ask(&self.admin, Method::POST, "/v1/person-tokens").json(&body).send().await.unwrap();
        let made: Value = made.json().await.unwrap();
        made["token"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned()
    }

    pub async fn begin_upload(&self, token: &str, length: usize) -> String {
        let begun = self.ask(token, Method::POST, "/v1/uploads").header("Upload-Length", length).send().await.unwrap();
        assert_eq!(begun.status().as_u16(), 201, "{}", begun.text().await.unwrap());
        let location = begun.headers()["location"].to_str().unwrap();
        location.rsplit('/').next().unwrap().to_owned()
    }

    pub fn append(&self, token: &str, id: &str, offset: usize) -> RequestBuilder {
        self.ask(token, Method::PATCH, &format!("/v1/uploads/{id}"))
            .header("Upload-Offset", offset)
            .header("Content-Type", "application/offset+octet-stream")
    }

    pub async fn offset(&self, token: &str, id: &str) -> usize {
        let head = self.ask(token, Method::HEAD, &format!("/v1/uploads/{id}")).send().await.unwrap();
        assert!(head.status().is_success(), "{}", head.status());
        head.headers()["upload-offset"].to_str().unwrap().parse().unwrap()
    }

    pub async fn publish(&self, token: &str, upload: &str, version: &str, deb: &[u8]) -> Response {
        let artifact = json!({ "upload": upload, "file_name": format!("demo_{version}.deb"), "sha256": sha256(deb) });
        let new = json!({ "name": "demo", "version": version, "severity": "high", "artifacts": [artifact] });
        self.ask(token, Method::POST, "/v1/patches").json(&new).send().await.unwrap()
    }
}

impl Drop for Repo {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// `sluice-repo serve` on free ports, plain HTTP at `http`.
pub fn serve(data: &Path, http: &str) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(["serve", "--data"]).arg(data).args(["--http", http, "--https", "127.0.0.1:0"]);
    command.args(["--device", "127.0.0.1:0", "--overlay", "127.0.0.1:0"]);
    command.env("SLUICE_STORE_RESERVE_BYTES", "0").env_remove("RUST_LOG");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

#[expect(clippy::disallowed_methods, reason = "a test waits by the clock of the machine")]
pub fn now() -> Instant {
    Instant::now()
}

fn later() -> Instant {
    now() + PATIENCE
}

fn before(end: Instant) -> bool {
    now() < end
}

pub fn noise(seed: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(ring::digest::digest(&ring::digest::SHA256, bytes))
}

/// A package `demo` in that version, with about `length` bytes.
pub fn deb(dir: &Path, version: &str, length: usize) -> Vec<u8> {
    let root = dir.join(format!("demo-{version}"));
    std::fs::create_dir_all(root.join("DEBIAN")).unwrap();
    std::fs::create_dir_all(root.join("usr/share/demo")).unwrap();
    let control = format!(
        "Package: demo\nVersion: {version}\nArchitecture: all\nMaintainer: T <t@example.org>\nDescription: test\n"
    );
    std::fs::write(root.join("DEBIAN/control"), control).unwrap();
    std::fs::write(root.join("usr/share/demo/data"), noise(version.len() as u8, length)).unwrap();
    let out = dir.join(format!("demo-{version}.deb"));
    let built = Command::new("dpkg-deb").args(["--root-owner-group", "-Znone", "--build"]).arg(root).arg(&out).output();
    assert!(built.unwrap().status.success());
    std::fs::read(out).unwrap()
}
