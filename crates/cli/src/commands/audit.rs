//! `audit`, `audit export`, `audit verify`. A list is joined up from pages; an export is copied as it comes; `verify` asks
//! no server.

use crate::failure::Failure;
use crate::output::{Output, Report, table};
use clap::Subcommand;
use serde::Serialize;
use sluice_api::admin::AuditEntries;
use sluice_api_client::AdminClient;
use sluice_audit::{Anchor, Checker, Gap, LINE_BYTES_MAX, Verdict};
use sluice_metadata::log_head_signed_by;
use sluice_model::{LogHead, Sha256, Timestamp};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const AFTER_HELP: &str = "\
Oldest first. Places of the log that are left out are of signed metadata files. Each line carries its
leaf hash in the Merkle tree whose root every timestamp signs (JSON form).

Examples:
  sluice audit
  sluice audit --after 1200 --limit 50
  sluice audit export --to audit.log
  sluice audit verify audit.log --root 1.root.json";

/// Longest root metadata or timestamp file that is read.
const METADATA_BYTES_MAX: u64 = 64 << 10;

/// List who did what; export the log, and verify an export offline.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP, args_conflicts_with_subcommands = true)]
pub struct Audit {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fetch the whole log with its signed heads, to be verified elsewhere.
    #[command(after_help = "Example:\n  sluice audit export --to audit.log")]
    Export {
        /// Where to write it; the file must not exist.
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Verify an exported log without any server: every line, and that all of it is what was signed.
    #[command(after_help = VERIFY_HELP)]
    Verify(Verify),
}

const VERIFY_HELP: &str = "\
Give one thing that you trust: a root metadata file of the repository, its SHA-256, or the public key of
the timestamp role. A log that was cut at an older signed head still verifies by itself: a timestamp.json
from any node (--seen, with --key) shows whether the server once stood by more.

Examples:
  sluice audit verify audit.log --root 1.root.json
  sluice audit verify audit.log --root-sha256 $(sluice -o json status | jq -r .root_sha256)
  sluice audit verify audit.log --key 3b6a27bc... --seen timestamp.json

Exit codes:
  0  every line is as it was signed
  1  something was changed, removed or moved; the text says where";

#[derive(Debug, clap::Args)]
struct Verify {
    /// The exported log.
    log: PathBuf,
    #[command(flatten)]
    anchor: Trusted,
    /// A timestamp.json that the same key signed, from a node or an agent; may be repeated.
    #[arg(long, value_name = "FILE", requires = "key")]
    seen: Vec<PathBuf>,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Trusted {
    /// A root metadata file that you trust.
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// SHA-256 of a root metadata file that you trust.
    #[arg(long, value_name = "HEX")]
    root_sha256: Option<Sha256>,
    /// Public key (Ed25519, 64 hex characters) of the timestamp role.
    #[arg(long, value_name = "HEX")]
    key: Option<Sha256>,
}

/// List who did what.
#[derive(Debug, clap::Args)]
struct List {
    /// After this line.
    #[arg(long, value_name = "SEQ")]
    after: Option<u64>,
    /// At most so many.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    limit: u64,
}

impl Audit {
    /// `client` is made only when a server is asked.
    pub async fn run(
        self,
        client: impl FnOnce() -> Result<AdminClient, Failure>,
        output: &Output,
    ) -> Result<(), Failure> {
        match self.command {
            None => self.list.run(&client()?, output).await,
            Some(Command::Export { to }) => export(&client()?, &to, output).await,
            Some(Command::Verify(verify)) => verify.run(output),
        }
    }
}

impl List {
    async fn run(self, client: &AdminClient, output: &Output) -> Result<(), Failure> {
        let mut after = self.after;
        let mut all = AuditEntries { entries: Vec::new(), next: None };
        loop {
            let left = self.limit.saturating_sub(all.entries.len() as u64);
            let page = client.audit(after, Some(left)).await?;
            let is_empty = page.entries.is_empty();
            all.entries.extend(page.entries);
            all.next = page.next;
            // A page without rows that promises more would go on for ever.
            if page.next.is_none() || is_empty || all.entries.len() as u64 >= self.limit {
                break;
            }
            after = page.next;
        }
        output.report(&all)
    }
}

#[derive(Serialize)]
struct Exported {
    file: PathBuf,
    bytes: u64,
}

impl Report for Exported {
    fn text(&self, _now: Timestamp) -> String {
        let file = self.file.display();
        format!("{file}: {} bytes; verify it with: sluice audit verify {file} --root ROOT\n", self.bytes)
    }
}

async fn export(client: &AdminClient, path: &Path, output: &Output) -> Result<(), Failure> {
    let mut log = client.audit_export().await?;
    let cannot = |error| Failure::path("write", path, error);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(cannot)?;
    let mut bytes = 0;
    while let Some(part) = log.part().await? {
        file.write_all(&part).map_err(cannot)?;
        bytes += part.len() as u64;
    }
    file.sync_all().map_err(cannot)?;
    output.report(&Exported { file: path.to_owned(), bytes })
}

#[derive(Serialize)]
struct Verified {
    repository: String,
    entries: u64,
    root: Sha256,
    signed_at: Timestamp,
    heads: u64,
    root_version: u64,
    gaps: Vec<MarkedGap>,
}

/// A restore from a backup that the log itself tells of.
#[derive(Serialize)]
struct MarkedGap {
    mark: u64,
    #[serde(flatten)]
    gap: Gap,
}

impl Report for Verified {
    fn text(&self, _now: Timestamp) -> String {
        let mut text = format!(
            "the log of {} is as it was signed: {} entries, {} signed heads, the last of {}\nroot of the tree: {}\n",
            self.repository, self.entries, self.heads, self.signed_at, self.root
        );
        for MarkedGap { mark, gap } in &self.gaps {
            text += &format!(
                "gap: entry {mark} says that {} restored the server from a backup of {} entries; of {} that were signed \
                 before, those after it are lost ({})\n",
                gap.by, gap.backup.size, gap.lost.size, gap.reason
            );
        }
        text
    }
}

impl From<Verdict> for Verified {
    fn from(verdict: Verdict) -> Self {
        let Verdict { repository, last, heads, root_version, gaps } = verdict;
        let gaps = gaps.into_iter().map(|(mark, gap)| MarkedGap { mark, gap }).collect();
        let (entries, root) = (last.head.size, last.head.root);
        Self { repository, entries, root, signed_at: last.issued_at, heads, root_version, gaps }
    }
}

impl Verify {
    fn run(self, output: &Output) -> Result<(), Failure> {
        let seen = self.seen.iter().map(|path| self.seen_head(path)).collect::<Result<Vec<_>, _>>()?;
        let mut checker = Checker::new(self.anchor()?, seen);
        let file = File::open(&self.log).map_err(|error| self.unreadable(error))?;
        let mut lines = BufReader::with_capacity(LINE_BYTES_MAX, file);
        let mut line = Vec::new();
        loop {
            line.clear();
            // One byte more than a line may have, so that the checker sees that it is too long.
            let mut bounded = lines.by_ref().take(LINE_BYTES_MAX as u64 + 1);
            let read = bounded.read_until(b'\n', &mut line).map_err(|error| Failure::path("read", &self.log, error))?;
            if read == 0 {
                break;
            }
            checker.push(&line)?;
        }
        output.report(&Verified::from(checker.finish()?))
    }

    fn unreadable(&self, error: std::io::Error) -> Failure {
        if error.kind() == std::io::ErrorKind::NotFound {
            let path = self.log.display();
            return Failure::Usage(format!(
                "there is no file {path}; fetch the log with: sluice audit export --to {path}, or name the export that you have"
            ));
        }
        Failure::path("read", &self.log, error)
    }

    fn anchor(&self) -> Result<Anchor, Failure> {
        let Trusted { root, root_sha256, key } = &self.anchor;
        match (root, root_sha256, key) {
            (Some(path), _, _) => Ok(Anchor::Root(read(path)?)),
            (None, Some(sha256), _) => Ok(Anchor::RootHash(*sha256)),
            (None, None, Some(key)) => Ok(Anchor::TimestampKey(*key.as_bytes())),
            (None, None, None) => Err(Failure::Usage("give --root, --root-sha256 or --key".into())),
        }
    }

    fn seen_head(&self, path: &Path) -> Result<LogHead, Failure> {
        let key = self.anchor.key.ok_or_else(|| Failure::Usage("--seen needs --key".into()))?;
        let (head, _) = log_head_signed_by(key.as_bytes(), &read(path)?)
            .map_err(|error| Failure::Usage(format!("{} is not a timestamp of that key: {error}", path.display())))?;
        Ok(head)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let cannot = |error| Failure::path("read", path, error);
    let mut bytes = Vec::new();
    File::open(path).map_err(cannot)?.take(METADATA_BYTES_MAX).read_to_end(&mut bytes).map_err(cannot)?;
    Ok(bytes)
}

impl Report for AuditEntries {
    fn text(&self, _now: Timestamp) -> String {
        let rows = self.entries.iter().map(|entry| {
            vec![
                entry.seq.to_string(),
                entry.at.to_string(),
                entry.who.clone(),
                entry.action.clone(),
                entry.subject.clone(),
                entry.result.clone(),
                entry.detail.clone(),
            ]
        });
        let mut text = table(&["SEQ", "AT", "WHO", "ACTION", "SUBJECT", "RESULT", "DETAIL"], rows, "no audit lines");
        if let Some(next) = self.next {
            text += &format!("there are more: --after {next}\n");
        }
        text
    }
}
