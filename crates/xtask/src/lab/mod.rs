//! Folders, processes and commands: what the demo and the tests of whole programs are made of.

pub mod apt_root;
pub mod fan_out;
pub mod network;
pub mod packages;
pub mod roots;
pub mod world;

use anyhow::{Context, Result, anyhow, bail};
use network::Network;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for a process to listen.
const START_SECS_MAX: u64 = 20;
/// Longest wait for a clean stop: what the programs promise.
const STOP_SECS_MAX: u64 = 10;
/// Between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A running program.
struct Process {
    child: Child,
    data: PathBuf,
}

/// Addresses that a program wrote after it bound its sockets.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Listening {
    pub http: String,
    pub device: String,
    pub overlay: String,
}

/// Who calls the admin API.
#[derive(Clone, Debug)]
pub struct Person {
    pub name: &'static str,
    pub token: String,
}

/// The laboratory: one temporary folder, the programs, and what runs.
pub struct Lab {
    dir: PathBuf,
    programs: PathBuf,
    running: BTreeMap<String, Process>,
    url: String,
    notes: Vec<String>,
    is_kept: bool,
    /// Where the programs run when not on loopback. Removed after they have ended.
    network: Option<Network>,
}

/// What a command printed, and its exit code.
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Lab {
    /// A new folder `<name>-<pid>` below the system's temporary one; our programs are in `programs`.
    pub fn new(name: &str, programs: PathBuf) -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Self {
            dir,
            programs,
            running: BTreeMap::new(),
            url: String::new(),
            notes: Vec::new(),
            is_kept: false,
            network: None,
        })
    }

    /// Puts the programs that are started from now on into the namespaces of `network`.
    pub fn set_network(&mut self, network: Network) {
        self.network = Some(network);
    }

    /// The namespaces, when there are any.
    pub fn network(&self) -> Option<&Network> {
        self.network.as_ref()
    }

    /// Gives the node `name` a namespace, when there are any.
    pub fn place(&mut self, name: &str) -> Result<()> {
        self.network.as_mut().map_or(Ok(()), |network| network.place(name))
    }

    /// The address at which the program `name` is to listen.
    pub fn address_of(&self, name: &str) -> String {
        self.network.as_ref().map_or_else(|| "127.0.0.1".to_owned(), |network| network.address_of(name))
    }

    /// Any program on the path, where the program `name` runs.
    pub fn command_at(&self, name: &str, program: impl AsRef<OsStr>) -> Command {
        let Some(network) = &self.network else { return Command::new(program) };
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &network.namespace_of(name)]).arg(program);
        command
    }

    /// `command` as it is to be run for the program `name`.
    fn placed(&self, name: &str, command: &Command) -> Command {
        let mut placed = self.command_at(name, command.get_program());
        placed.args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => placed.env(key, value),
                None => placed.env_remove(key),
            };
        }
        if let Some(dir) = command.get_current_dir() {
            placed.current_dir(dir);
        }
        placed
    }

    /// Runs a command to its end, where the program `name` runs.
    pub fn said_at(&self, name: &str, command: &Command) -> Result<Said> {
        said(&mut self.placed(name, command))
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A folder of that name, made when it is not there.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.dir.join(name);
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }

    /// A program of ours, ready for arguments.
    pub fn program(&self, name: &str) -> Command {
        Command::new(self.programs.join(name))
    }

    /// Process id of a running program.
    pub fn pid(&self, name: &str) -> Result<u32> {
        self.running.get(name).map(|process| process.child.id()).ok_or_else(|| anyhow!("{name} does not run"))
    }

    /// What a program printed so far.
    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.join(format!("{name}.log"))).unwrap_or_default()
    }

    /// Where the admin API is.
    pub fn set_url(&mut self, url: &str) {
        self.url = url.to_owned();
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Adds a line that `--keep` prints.
    pub fn note(&mut self, line: String) {
        self.notes.push(line);
    }

    /// Starts `command` as `name`, its output in `<name>.log`, its data in `data`.
    pub fn start(&mut self, name: &str, data: &Path, command: &mut Command) -> Result<()> {
        let path = self.dir.join(format!("{name}.log"));
        let log = File::options().create(true).append(true).open(&path)?;
        let child = self
            .placed(name, command)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        self.running.insert(name.to_owned(), Process { child, data: data.to_owned() });
        Ok(())
    }

    /// Waits until `name` wrote where it listens.
    pub fn listening(&mut self, name: &str) -> Result<Listening> {
        let file = self.process(name)?.data.join("listening.json");
        let mut found = None;
        let is_up = wait(Duration::from_secs(START_SECS_MAX), || {
            if let Some(status) = self.process(name)?.child.try_wait()? {
                bail!("{name} ended with {status} while it started");
            }
            found = std::fs::read_to_string(&file).ok().and_then(|text| serde_json::from_str(&text).ok());
            Ok(found.is_some())
        })?;
        if !is_up {
            bail!("{name} did not listen within {START_SECS_MAX} s");
        }
        found.ok_or_else(|| anyhow!("{name} wrote no addresses"))
    }

    /// SIGKILL, as a power cut would.
    pub fn kill(&mut self, name: &str) -> Result<()> {
        let mut process = self.running.remove(name).ok_or_else(|| anyhow!("{name} does not run"))?;
        process.child.kill()?;
        process.child.wait()?;
        // A killed program cannot take its address file away.
        let _ = std::fs::remove_file(process.data.join("listening.json"));
        Ok(())
    }

    /// SIGTERM; returns how long the clean stop took.
    pub fn terminate(&mut self, name: &str) -> Result<Duration> {
        let mut process = self.running.remove(name).ok_or_else(|| anyhow!("{name} does not run"))?;
        let begun = Instant::now();
        send(process.child.id(), rustix::process::Signal::TERM)?;
        let mut status = None;
        let ended = wait(Duration::from_secs(STOP_SECS_MAX), || {
            status = process.child.try_wait()?;
            Ok(status.is_some())
        })?;
        if !ended {
            process.child.kill()?;
            bail!("{name} did not stop within {STOP_SECS_MAX} s of SIGTERM");
        }
        match status {
            Some(status) if status.success() => Ok(begun.elapsed()),
            other => bail!("{name} did not stop cleanly: {other:?}"),
        }
    }

    /// The admin command as `person`, answer as JSON.
    pub fn ask(&self, person: &Person, arguments: &[&str]) -> Result<Value> {
        let said = self.say(person, arguments)?;
        if said.code != 0 {
            bail!("sluice {} ended with {}: {}", arguments.join(" "), said.code, said.err.trim());
        }
        serde_json::from_str(&said.out)
            .with_context(|| format!("sluice {} printed no JSON: {}", arguments.join(" "), said.out))
    }

    /// The admin command as `person`, whatever comes of it.
    pub fn say(&self, person: &Person, arguments: &[&str]) -> Result<Said> {
        let mut command = self.program("sluice");
        command.env("SLUICE_URL", &self.url).env("SLUICE_TOKEN", &person.token);
        command.args(["-o", "json"]).args(arguments);
        self.said_at("sluice", &command)
    }

    /// Stops a program in its tracks (SIGSTOP), until [`Lab::resume`].
    pub fn pause(&self, name: &str) -> Result<()> {
        send(self.pid(name)?, rustix::process::Signal::STOP)
    }

    /// Lets it go on (SIGCONT).
    pub fn resume(&self, name: &str) -> Result<()> {
        send(self.pid(name)?, rustix::process::Signal::CONT)
    }

    /// Ends everything, the endpoints first.
    pub fn stop_all(&mut self) {
        let mut names: Vec<String> = self.running.keys().cloned().collect();
        names.sort_by_key(|name| (name == "repo", name.starts_with("node")));
        for name in names {
            if let Err(error) = self.terminate(&name) {
                println!("  while stopping: {error:#}");
            }
        }
    }

    /// The end of each log, for a failure on a machine that one cannot look at.
    pub fn show_last_lines(&self) {
        let mut logs: Vec<PathBuf> = std::fs::read_dir(&self.dir)
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.extension().is_some_and(|ending| ending == "log"))
            .collect();
        logs.sort();
        for log in logs {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            println!("--- the end of {}", log.display());
            for line in lines.iter().skip(lines.len().saturating_sub(12)) {
                println!("{line}");
            }
        }
    }

    /// Stops everything and removes the folder.
    pub fn clean_up(&mut self) -> Result<()> {
        let names: Vec<String> = self.running.keys().cloned().collect();
        let mut slowest = Duration::ZERO;
        for name in names.iter().filter(|name| *name != "repo").chain(names.iter().filter(|name| *name == "repo")) {
            slowest = slowest.max(self.terminate(name)?);
        }
        println!("every program stopped cleanly on SIGTERM, the slowest after {:.1} s", slowest.as_secs_f64());
        std::fs::remove_dir_all(&self.dir).with_context(|| format!("cannot remove {}", self.dir.display()))
    }

    /// Leaves the folder where it is, for whoever looks why something failed.
    pub fn keep_folder(&mut self) {
        self.is_kept = true;
    }

    /// Leaves everything as it is and says where it is.
    pub fn keep(&mut self) -> Result<()> {
        self.is_kept = true;
        println!("\nleft running; data, package roots and logs are in {}", self.dir.display());
        for line in &self.notes {
            println!("  {line}");
        }
        let pids: Vec<String> = self.running.values().map(|process| process.child.id().to_string()).collect();
        println!("  end it with: kill {} && rm -r {}", pids.join(" "), self.dir.display());
        Ok(())
    }

    fn process(&mut self, name: &str) -> Result<&mut Process> {
        self.running.get_mut(name).ok_or_else(|| anyhow!("{name} does not run"))
    }
}

fn send(pid: u32, signal: rustix::process::Signal) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).context("the child has no pid")?;
    rustix::process::kill_process(pid, signal).context("cannot signal the child")
}

/// Runs a command to its end.
pub fn said(command: &mut Command) -> Result<Said> {
    let shown = crate::cargo::shown(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start: {shown}"))?;
    Ok(Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Looks at a condition until it holds or time is up; says which.
pub fn wait(at_most: Duration, mut holds: impl FnMut() -> Result<bool>) -> Result<bool> {
    let begun = Instant::now();
    loop {
        if holds()? {
            return Ok(true);
        }
        if begun.elapsed() > at_most {
            return Ok(false);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

impl Drop for Lab {
    /// A test leaves no process behind; when it failed, its folder stays for whoever looks why.
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        for process in self.running.values_mut() {
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
        if std::thread::panicking() {
            println!("logs and data are kept in {}", self.dir.display());
            self.show_last_lines();
        } else {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}
