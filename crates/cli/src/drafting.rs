//! Draft files on this machine: read, merged, written and sent.

use crate::failure::Failure;
use crate::output::{Output, Report};
use crate::trust;
use serde::Serialize;
use sluice_api::ceremony::{CeremonyDone, CeremonyFiles};
use sluice_api_client::AdminClient;
use sluice_metadata::{DraftFile, RoleName, RootPlan, TargetsPlan};
use sluice_model::Timestamp;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Longest draft that is read.
const DRAFT_BYTES_MAX: u64 = 1 << 20;

/// Reads a draft by the role that its name says.
pub fn read(path: &Path) -> Result<DraftFile, Failure> {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(DRAFT_BYTES_MAX + 1).read_to_end(&mut bytes));
    read.map_err(|error| Failure::path("read", path, error))?;
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    DraftFile::read_named(name, &bytes).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        Failure::path("use", path, std::io::Error::other(format!("{error}{cause}")))
    })
}

/// What root says, refusing what this program could not show.
pub fn root_plan(draft: &DraftFile) -> Result<RootPlan, Failure> {
    let plan = RootPlan::of(draft).map_err(|error| Failure::NotSigned(error.to_string()))?;
    if draft.is_wholly(&plan.to_draft()) { Ok(plan) } else { Err(unknown_members(draft)) }
}

/// What targets says, refusing what this program could not show.
pub fn targets_plan(draft: &DraftFile) -> Result<TargetsPlan, Failure> {
    let plan = TargetsPlan::of(draft).map_err(|error| Failure::NotSigned(error.to_string()))?;
    if draft.is_wholly(&plan.to_draft()) { Ok(plan) } else { Err(unknown_members(draft)) }
}

fn unknown_members(draft: &DraftFile) -> Failure {
    let text = format!(
        "{} holds members that this program does not know and cannot show; nothing was signed",
        draft.file_name()
    );
    Failure::NotSigned(text)
}

/// `publish FILE...`: merges copies of the same draft and sends all of them, to come into force together.
#[derive(Debug, clap::Args)]
pub struct PublishArgs {
    /// Signed files, each named VERSION.ROLE.json; copies with other signatures may be given too.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl PublishArgs {
    pub async fn run(self, client: &AdminClient, output: &Output) -> Result<(), Failure> {
        let mut drafts: BTreeMap<RoleName, DraftFile> = BTreeMap::new();
        for path in &self.files {
            let draft = read(path)?;
            match drafts.get_mut(draft.role()) {
                Some(known) => known.merge(&draft).map_err(|error| Failure::Usage(error.to_string()))?,
                None => {
                    drafts.insert(draft.role().clone(), draft);
                }
            }
        }
        let file = |draft: &DraftFile| serde_json::from_slice(&draft.to_bytes()).expect("a draft is JSON");
        let files = drafts.values().map(|draft| (draft.file_name(), file(draft))).collect();
        output.report(&client.publish_ceremony(&CeremonyFiles { files }).await?)
    }
}

impl Report for CeremonyDone {
    fn text(&self, _now: Timestamp) -> String {
        let mut text = format!("in force: {}\n", self.published.join(", "));
        if !self.signed_by_server.is_empty() {
            text += &format!("signed anew by the server: {}\n", self.signed_by_server.join(", "));
        }
        for key in &self.keys_deleted {
            text += &format!("deleted on the server, as it lost its role: key {key}\n");
        }
        text
    }
}

/// Lines that explain a file, for `show`.
#[derive(Serialize)]
pub struct Explained {
    pub lines: Vec<String>,
}

impl Report for Explained {
    fn text(&self, _now: Timestamp) -> String {
        self.lines.iter().map(|line| crate::failure::one_line(line) + "\n").collect()
    }
}

/// What was drafted, and what to do with it.
#[derive(Serialize)]
pub struct Drafted {
    pub files: Vec<String>,
    pub lines: Vec<String>,
    pub next: Vec<String>,
}

impl Report for Drafted {
    fn text(&self, _now: Timestamp) -> String {
        let mut text = String::new();
        for line in &self.lines {
            text += &(crate::failure::one_line(line) + "\n");
        }
        text += "\nwritten:\n";
        self.files.iter().for_each(|file| text += &format!("  {file}\n"));
        text += "next:\n";
        self.next.iter().for_each(|next| text += &format!("  {next}\n"));
        text
    }
}

/// Writes drafts and the files that they follow into a folder; none may exist there with other content.
pub fn write_all(folder: &Path, files: &[(String, Vec<u8>)]) -> Result<Vec<String>, Failure> {
    std::fs::create_dir_all(folder).map_err(|error| Failure::path("make", folder, error))?;
    let mut written = Vec::new();
    for (name, bytes) in files {
        let path = folder.join(name);
        match std::fs::read(&path) {
            Ok(known) if known == *bytes => {}
            // A draft that nobody signed yet may be drafted again.
            Ok(known) if DraftFile::read_named(name, &known).is_ok_and(|known| known.signature_count() == 0) => {
                trust::replace(&path, bytes)?;
            }
            Ok(_) => {
                let advice = "it exists with other content; name another folder with --out, or remove it";
                return Err(Failure::path("write", &path, std::io::Error::other(advice)));
            }
            Err(_) => crate::key_file::write_new(&path, bytes, 0o644)?,
        }
        written.push(path.display().to_string());
    }
    Ok(written)
}
