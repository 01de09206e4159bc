//! TUF clients that are not ours, each a process that answers one request after the other.

use anyhow::{Context, Result};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A running foreign client.
pub struct ForeignClient {
    name: &'static str,
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// What it is asked.
pub struct Request<'a> {
    /// Where it keeps its state: what it trusts between two requests.
    pub folder: &'a Path,
    /// The root that it begins with.
    pub root: &'a Path,
    /// `host:port` of a repository or node.
    pub host: &'a str,
    /// A target to look up and download after the refresh.
    pub target: Option<&'a str>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// The metadata was refused; the client's own error.
    Refused(String),
    /// The metadata was taken, this timestamp version; no target was asked for.
    Taken(u64),
    /// The metadata was taken, and no role that counts lists the target.
    NotFound,
    /// The target is listed and its bytes did not come: HTTP status (0 when that was not it), and the client's own error.
    NotDelivered(u64, String),
    /// Downloaded and verified: sha256.
    Got(String),
}

impl ForeignClient {
    /// python-tuf and tuf-js, those that are installed (`cargo xtask setup`).
    ///
    /// # Errors
    /// One is installed and does not start.
    pub fn all() -> Result<Vec<Self>> {
        let mut all = Vec::new();
        if let Some(python) = crate::foreign_python() {
            let mut command = Command::new(python);
            all.push(Self::start("python-tuf", command.args(["-c", include_str!("foreign.py")]))?);
        }
        if let Some(modules) = std::env::var_os("SLUICE_FOREIGN_NODE_PATH").filter(|path| Path::new(path).is_dir()) {
            let mut command = Command::new("node");
            all.push(Self::start(
                "tuf-js",
                command.args(["-e", include_str!("foreign.js")]).env("NODE_PATH", modules),
            )?);
        }
        Ok(all)
    }

    fn start(name: &'static str, command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let requests = child.stdin.take().context("standard input is piped")?;
        let answers = BufReader::new(child.stdout.take().context("standard output is piped")?);
        Ok(Self { name, child, requests, answers })
    }

    /// For people.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// One refresh with the client's stored state, and a download when a target is named.
    ///
    /// # Errors
    /// The client ended.
    pub fn ask(&mut self, request: &Request<'_>) -> Result<Said> {
        let line = serde_json::json!({
            "folder": request.folder,
            "root": request.root,
            "metadata": format!("http://{}/tuf/metadata/", request.host),
            "targets": format!("http://{}/tuf/targets/", request.host),
            "target": request.target,
        });
        writeln!(self.requests, "{line}").with_context(|| format!("{} is gone", self.name))?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        let said: Value = serde_json::from_str(&answer).with_context(|| format!("{} said {answer:?}", self.name))?;
        Ok(read(&said))
    }
}

fn read(said: &Value) -> Said {
    let text = |name: &str| said[name].as_str().map(str::to_owned);
    if let Some(error) = text("error") {
        return Said::Refused(error);
    }
    match (said["found"].as_bool(), text("sha256"), text("download_error")) {
        (None, _, _) => Said::Taken(said["timestamp"].as_u64().unwrap_or_default()),
        (Some(false), _, _) => Said::NotFound,
        (_, Some(sha256), _) => Said::Got(sha256),
        (_, _, error) => Said::NotDelivered(said["status"].as_u64().unwrap_or_default(), error.unwrap_or_default()),
    }
}

impl Drop for ForeignClient {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
