//! `publish`: checks the files, uploads each resumably, then creates the patch of them.

use crate::failure::Failure;
use crate::output::Output;
use crate::progress::Progress;
use sluice_api::admin::{NewArtifact, NewPatch};
use sluice_api_client::AdminClient;
use sluice_model::limits::ARTIFACTS_PER_PATCH_MAX;
use sluice_model::{Cve, PatchName, PatchRef, PatchVersion, Severity};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const AFTER_HELP: &str = "\
All files together are one patch: an endpoint installs all of them in one transaction or none.
The sha256 of each file is computed here and compared with what arrived. An upload that breaks
off is taken up where the server stands; run the command again if it gave up.

Examples:
  sluice publish openssl_3.0.22-1_amd64.deb --name openssl --patch-version 3.0.22-1 \\
      --severity critical --cve CVE-2026-12345
  sluice publish jq_1.7.1-3_amd64.deb libjq1_1.7.1-3_amd64.deb --name jq --patch-version 1.7.1-3 \\
      --severity high --supersedes jq/1.6-2";

/// Upload files as a patch.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Publish {
    /// The packages.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Name of the patch, the same over all its versions.
    #[arg(long)]
    name: PatchName,
    /// Version of the patch.
    #[arg(long, value_name = "VERSION")]
    patch_version: PatchVersion,
    /// How bad it is not to have it: low, medium, high or critical.
    #[arg(long)]
    severity: Severity,
    /// A CVE that it mends; may be repeated.
    #[arg(long = "cve", value_name = "CVE")]
    cves: Vec<Cve>,
    /// A patch that it replaces; may be repeated.
    #[arg(long, value_name = "NAME/VERSION")]
    supersedes: Vec<PatchRef>,
}

impl Publish {
    pub async fn run(self, client: &AdminClient, output: &Output) -> Result<(), Failure> {
        let lengths = check_files(&self.files)?;
        let mut artifacts = Vec::new();
        for (path, length) in self.files.iter().zip(lengths) {
            artifacts.push(upload(client, path, length).await?);
        }
        let patch = NewPatch {
            name: self.name,
            version: self.patch_version,
            severity: self.severity,
            cves: self.cves,
            supersedes: self.supersedes,
            artifacts,
        };
        output.report(&client.create_patch(&patch).await?)
    }
}

async fn upload(client: &AdminClient, path: &Path, length: u64) -> Result<NewArtifact, Failure> {
    let progress = Arc::new(Progress::begin(&file_name(path), length));
    let shown = progress.clone();
    let uploaded = client.upload(path, move |done, length| shown.advance(done, length)).await;
    progress.finish();
    let uploaded = uploaded?;
    Ok(NewArtifact { upload: uploaded.upload, file_name: uploaded.file_name, sha256: uploaded.sha256 })
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The lengths; refuses before anything is sent what could not be published.
fn check_files(files: &[PathBuf]) -> Result<Vec<u64>, Failure> {
    if files.len() > ARTIFACTS_PER_PATCH_MAX {
        return Err(Failure::Usage(format!("a patch has at most {ARTIFACTS_PER_PATCH_MAX} files")));
    }
    let mut names = BTreeSet::new();
    let mut lengths = Vec::new();
    for path in files {
        let metadata = std::fs::metadata(path).map_err(|error| Failure::path("read", path, error))?;
        if !metadata.is_file() {
            let reason = std::io::Error::other("it is not a regular file");
            return Err(Failure::path("publish", path, reason));
        }
        if !names.insert(file_name(path)) {
            return Err(Failure::Usage(format!("two files are called {}; each needs its own name", file_name(path))));
        }
        lengths.push(metadata.len());
    }
    Ok(lengths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;

    #[test]
    fn files_are_checked_before_anything_is_sent() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a.deb"), dir.path().join("b/a.deb"));
        std::fs::create_dir(dir.path().join("b")).unwrap();
        std::fs::write(&a, "12345").unwrap();
        std::fs::write(&b, "1").unwrap();
        assert_eq!(check_files(std::slice::from_ref(&a)).unwrap(), [5]);
        let twice = check_files(&[a.clone(), b]).unwrap_err();
        assert!(twice.exit() == Exit::Usage && twice.to_string().contains("a.deb"), "{twice}");
        assert_eq!(check_files(&[dir.path().join("absent.deb")]).unwrap_err().exit(), Exit::File);
        assert_eq!(check_files(&[dir.path().to_owned()]).unwrap_err().exit(), Exit::File);
        assert_eq!(check_files(&vec![a; 65]).unwrap_err().exit(), Exit::Usage);
    }
}
