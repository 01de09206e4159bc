//! Reads the control fields of a Debian package by asking `dpkg-deb`, bounded in time and output.

use crate::operations::Failure;
use sluice_api::problem::ProblemType;
use sluice_apt_view::{CONTROL_BYTES_MAX, check_control};
use sluice_model::DebFields;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::process::Command;

/// What a `.deb` begins with: an `ar` archive whose first member is `debian-binary`.
const MAGIC: &[u8] = b"!<arch>\ndebian-binary";
/// Reading a control file takes milliseconds; a bomb takes for ever.
const TIMEOUT: Duration = Duration::from_secs(30);
/// A whole control file, and one byte more, so that a longer one is seen to be longer.
const OUTPUT_BYTES_MAX: u64 = CONTROL_BYTES_MAX as u64 + 1;
/// Longest version or architecture.
const FIELD_CHARS_MAX: usize = 256;

/// The fields that decide and prove an installation.
const FIELDS: [&str; 3] = ["Package", "Version", "Architecture"];

/// What a package says of itself.
#[derive(Clone, Debug)]
pub struct Package {
    /// The fields that decide and prove an installation, as dpkg reads them.
    pub fields: DebFields,
    /// Its whole control file: what an index lists.
    pub control: String,
}

/// What the package at `path` says; `name` is what the publisher calls it.
pub async fn package(path: &Path, name: &str) -> Result<Package, Failure> {
    let fields = fields(path, name).await?;
    Ok(Package { fields, control: control(path, name).await? })
}

/// The fields of the package at `path`; `name` is what the publisher calls it.
pub async fn fields(path: &Path, name: &str) -> Result<DebFields, Failure> {
    check_magic(path, name).await?;
    parse(&ask_in_time(path, &FIELDS, name).await?, name)
}

/// The control file of the package at `path`, if an index can list it.
pub async fn control(path: &Path, name: &str) -> Result<String, Failure> {
    check_magic(path, name).await?;
    let control = ask_in_time(path, &[], name).await?;
    check_control(&control).map_err(|error| refused(name, &error.to_string()))?;
    Ok(control)
}

async fn ask_in_time(path: &Path, fields: &[&str], name: &str) -> Result<String, Failure> {
    let output = tokio::time::timeout(TIMEOUT, ask_dpkg(path, fields)).await.map_err(|_| {
        refused(name, &format!("dpkg-deb did not read its control file within {} s", TIMEOUT.as_secs()))
    })?;
    output.map_err(|error| error.into_failure(name))
}

async fn check_magic(path: &Path, name: &str) -> Result<(), Failure> {
    let read = async {
        let mut head = [0; MAGIC.len()];
        tokio::fs::File::open(path).await?.read_exact(&mut head).await?;
        Ok::<_, io::Error>(head)
    };
    match read.await {
        Ok(head) if head == MAGIC => Ok(()),
        Ok(_) => Err(refused(name, "it does not begin like one; build it with dpkg-deb")),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(refused(name, "it is shorter than any")),
        Err(error) => Err(Failure::broken("reading an upload", error)),
    }
}

enum AskError {
    Missing,
    Io(io::Error),
    Refused(String),
}

impl AskError {
    fn into_failure(self, name: &str) -> Failure {
        match self {
            Self::Missing => {
                let detail = "the repo server has no dpkg-deb, which reads packages; install the package dpkg there";
                Failure::refused(ProblemType::NotReady, detail)
            }
            Self::Io(error) => Failure::broken("running dpkg-deb", error),
            Self::Refused(reason) => refused(name, &reason),
        }
    }
}

/// The fields as dpkg reads them; without any, the control file as it is.
async fn ask_dpkg(path: &Path, fields: &[&str]) -> Result<String, AskError> {
    let mut child = Command::new("dpkg-deb")
        .arg("--field")
        .arg(path)
        .args(fields)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(
            |error| if error.kind() == io::ErrorKind::NotFound { AskError::Missing } else { AskError::Io(error) },
        )?;
    let stdout = child.stdout.take().expect("stdout is piped");
    let stderr = child.stderr.take().expect("stderr is piped");
    let (mut answer, mut complaint) = (Vec::new(), Vec::new());
    // Bounded readers: a program that writes more is cut off and then fails on its closed pipe.
    let (mut stdout, mut stderr) = (stdout.take(OUTPUT_BYTES_MAX), stderr.take(OUTPUT_BYTES_MAX));
    let (out, err) = tokio::join!(stdout.read_to_end(&mut answer), stderr.read_to_end(&mut complaint));
    out.and(err).map_err(AskError::Io)?;
    drop((stdout, stderr));
    let status = child.wait().await.map_err(AskError::Io)?;
    if status.success() {
        return String::from_utf8(answer).map_err(|_| AskError::Refused("its fields are not UTF-8".into()));
    }
    let complaint = String::from_utf8_lossy(&complaint);
    let last = complaint.lines().last().unwrap_or("dpkg-deb gave no reason").trim();
    Err(AskError::Refused(last.replace(&path.display().to_string(), "the file").chars().take(300).collect()))
}

fn parse(output: &str, name: &str) -> Result<DebFields, Failure> {
    let field = |wanted: &str| {
        let value = output.lines().find_map(|line| line.strip_prefix(wanted)?.strip_prefix(": ")).map(str::trim);
        value.filter(|value| !value.is_empty()).ok_or_else(|| refused(name, &format!("it has no field {wanted}")))
    };
    let plain = |wanted: &str| {
        let value = field(wanted)?;
        let valid = value.len() <= FIELD_CHARS_MAX && value.chars().all(|c| c.is_ascii_graphic());
        if valid { Ok(value.to_owned()) } else { Err(refused(name, &format!("its field {wanted} is not plain text"))) }
    };
    let package = field("Package")?.parse().map_err(|error| refused(name, &format!("{error}")))?;
    Ok(DebFields { package, version: plain("Version")?, architecture: plain("Architecture")? })
}

fn refused(name: &str, reason: &str) -> Failure {
    Failure::refused(ProblemType::NotAPackage, format!("{name} is not a Debian package (.deb): {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_a_package_are_read_and_odd_ones_refused() {
        let fields = parse("Package: jq\nVersion: 1:1.6-2.1\nArchitecture: amd64\n", "jq.deb").unwrap();
        assert_eq!((fields.package.as_str(), fields.version.as_str()), ("jq", "1:1.6-2.1"));
        for output in [
            "",
            "Package: jq\n",
            "Package: ../x\nVersion: 1\nArchitecture: all\n",
            "Package: jq\nVersion: a b\nArchitecture: all\n",
        ] {
            assert!(parse(output, "x.deb").unwrap_err().is(ProblemType::NotAPackage), "{output:?}");
        }
    }

    #[tokio::test]
    async fn what_is_no_package_is_refused_by_its_first_bytes() {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in
            [("short", b"!<ar".as_slice()), ("text", b"hello, this is not a package at all".as_slice())]
        {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            assert!(fields(&path, name).await.unwrap_err().is(ProblemType::NotAPackage), "{name}");
        }
    }

    #[tokio::test]
    async fn an_archive_that_only_begins_like_a_package_is_refused_in_dpkgs_words() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("evil.deb");
        std::fs::write(&path, b"!<arch>\ndebian-binary   0           0     0     100644  4         `\n9.9\n").unwrap();
        let failure = fields(&path, "evil.deb").await.unwrap_err();
        assert!(failure.is(ProblemType::NotAPackage), "{failure}");
        assert!(!failure.to_string().contains(&dir.path().display().to_string()), "{failure}");
    }
}
