//! `root draft`, `sign`, `publish` and `show`.

use crate::clock;
use crate::credentials::Given;
use crate::drafting::{self, Drafted, Explained, PublishArgs};
use crate::failure::Failure;
use crate::key_file::HolderKey;
use crate::output::Output;
use crate::signing::SignArgs;
use crate::trust::Trust;
use clap::{Subcommand, ValueEnum};
use sluice_api::ceremony::{CeremonyState, NewServerKey};
use sluice_api_client::AdminClient;
use sluice_metadata::{
    DraftFile, KeyId, RepositoryProfile, RoleName, RootPlan, TargetsPlan, Terms, Trusted, explain_root, plans,
};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Root: who signs what, and the online keys of timestamp and snapshot.
#[derive(Debug, clap::Args)]
pub struct Group {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write the next version of root as a draft, to be signed by its holders.
    Draft(Box<Draft>),
    /// Read what a draft of root changes, and sign it.
    #[command(after_help = "Example:\n  sluice root sign ceremony/2.root.json --key ann.key")]
    Sign(SignArgs),
    /// Bring signed files into force, all together or none.
    #[command(
        after_help = "Refused below the threshold of the old holders or of the new ones.\n\nExample:\n  sluice root publish ceremony/2.root.json ceremony/3.targets.json"
    )]
    Publish(PublishArgs),
    /// Show what root says: the one in force, or a file.
    #[command(after_help = "Examples:\n  sluice root show\n  sluice root show ceremony/2.root.json")]
    Show(Show),
}

const AFTER_HELP: &str = "\
The draft follows the root in force, verified from the root that this machine trusts. Without
changes it renews root for a year.

Examples:
  sluice root draft --out ceremony                          renew
  sluice root draft --out ceremony --root-key eve=eve.key.pub --drop-root-key cat
  sluice root draft --out ceremony --rotate timestamp --rotate snapshot
  sluice root draft --out ceremony --profile standard \\
      --root-key ann=ann.key.pub --root-key ben=ben.key.pub --root-key cat=cat.key.pub \\
      --targets-key ann=ann.key.pub --targets-key ben=ben.key.pub --targets-key cat=cat.key.pub";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
struct Draft {
    /// Folder for the drafts and for what they follow.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    trust: TrustArgs,
    /// A new holder of root; may be repeated.
    #[arg(long = "root-key", value_name = "NAME=FILE")]
    root_keys: Vec<HolderKey>,
    /// A holder of root who no longer is one, by name or key id; may be repeated.
    #[arg(long = "drop-root-key", value_name = "NAME")]
    drop_root_keys: Vec<String>,
    /// How many holders of root must sign.
    #[arg(long, value_name = "N")]
    root_threshold: Option<u32>,
    /// A new holder of targets; may be repeated.
    #[arg(long = "targets-key", value_name = "NAME=FILE")]
    targets_keys: Vec<HolderKey>,
    /// A holder of targets who no longer is one, by name or key id; may be repeated.
    #[arg(long = "drop-targets-key", value_name = "NAME")]
    drop_targets_keys: Vec<String>,
    /// How many holders of targets must sign.
    #[arg(long, value_name = "N")]
    targets_threshold: Option<u32>,
    /// Give an online role a new key of the server; the old one is worth nothing any more.
    #[arg(long, value_enum)]
    rotate: Vec<OnlineRole>,
    /// From dev to production: the server's own keys of root and targets go.
    #[arg(long, value_parser = ["standard", "strict"])]
    profile: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OnlineRole {
    Timestamp,
    Snapshot,
}

/// What this machine trusts.
#[derive(Debug, Clone, clap::Args)]
pub struct TrustArgs {
    /// A root that you trust, from a holder; needed once on each machine.
    #[arg(long, value_name = "FILE")]
    pub root: Option<PathBuf>,
    /// Folder of what this machine trusts [default: `trust` beside the credentials file].
    #[arg(long, value_name = "DIR")]
    pub trust: Option<PathBuf>,
}

impl TrustArgs {
    /// Where it is kept.
    pub fn folder(&self, given: &Given) -> Result<PathBuf, Failure> {
        match &self.trust {
            Some(folder) => Ok(folder.clone()),
            None => Ok(given.path()?.with_file_name("trust")),
        }
    }

    /// What is in force, verified.
    pub async fn verified(&self, client: &AdminClient, given: &Given) -> Result<Trusted, Failure> {
        let repo_id = client.whoami().await?.repository;
        Trust::open(&self.folder(given)?, &repo_id, self.root.as_deref())?.follow(client).await
    }
}

/// `show [FILE]`.
#[derive(Debug, clap::Args)]
pub struct Show {
    /// A file instead of what is in force.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    trust: TrustArgs,
}

impl Group {
    pub async fn run(self, given: &Given, output: &Output) -> Result<(), Failure> {
        match self.command {
            Command::Draft(draft) => draft.run(given, output).await,
            Command::Sign(sign) => sign.root(given, output),
            Command::Publish(publish) => publish.run(&given.resolve()?.client()?, output).await,
            Command::Show(show) => {
                let explain = |plan: &RootPlan| explain_root(None, plan);
                show.run(given, output, (drafting::root_plan, |plans| plans.0, explain)).await
            }
        }
    }
}

impl Show {
    /// Explains the plan of a file, or of what is in force: how it is read, chosen and put into words is the role's.
    pub async fn run<P>(
        self,
        given: &Given,
        output: &Output,
        (of_file, in_force_of, explain): (
            impl Fn(&DraftFile) -> Result<P, Failure>,
            impl Fn((RootPlan, TargetsPlan)) -> P,
            impl Fn(&P) -> Vec<String>,
        ),
    ) -> Result<(), Failure> {
        let plan = match &self.file {
            Some(file) => of_file(&drafting::read(file)?)?,
            None => in_force_of(in_force(&self.trust.verified(&given.resolve()?.client()?, given).await?)?),
        };
        output.report(&Explained { lines: explain(&plan) })
    }
}

/// What root and targets in force say.
pub fn in_force(trusted: &Trusted) -> Result<(RootPlan, TargetsPlan), Failure> {
    plans(trusted).map_err(|error| Failure::NotSigned(error.to_string()))
}

/// The file of a role that is in force.
pub fn file_in_force(trusted: &Trusted, name: &str) -> Result<(String, Vec<u8>), Failure> {
    let found = trusted.files().into_iter().find(|(known, _)| known == name);
    let missing = || Failure::NotSigned(format!("{name} is missing from what is in force"));
    found.map(|(name, bytes)| (name, bytes.to_vec())).ok_or_else(missing)
}

impl Draft {
    async fn run(self, given: &Given, output: &Output) -> Result<(), Failure> {
        let client = given.resolve()?.client()?;
        let trusted = self.trust.verified(&client, given).await?;
        let (before, targets) = in_force(&trusted)?;
        let state = client.ceremony_state().await?;
        let mut after = before.next(clock::now());
        self.edit(&mut after, &state)?;
        for role in &self.rotate {
            let role = match role {
                OnlineRole::Timestamp => RoleName::timestamp(),
                OnlineRole::Snapshot => RoleName::snapshot(),
            };
            let key = client.new_server_key(&NewServerKey { role: role.to_string() }).await?;
            after.roles.insert(role, Terms::new([public_key(&key.public)?], 1));
        }
        let draft = after.to_draft();
        let mut files = vec![file_in_force(&trusted, &format!("{}.root.json", before.version))?];
        files.push((draft.file_name(), draft.to_bytes()));
        let mut next =
            vec![format!("holders of root, old and new: sluice root sign {}", self.path(&draft.file_name()))];
        let mut publish = vec![self.path(&draft.file_name())];
        let live = file_in_force(&trusted, &format!("{}.targets.json", targets.version))?;
        let live_draft = sluice_metadata::DraftFile::read_named(&live.0, &live.1)
            .map_err(|error| Failure::NotSigned(error.to_string()))?;
        if !live_draft.reaches(&after.terms(&RoleName::targets())) {
            let draft = targets.next(clock::now()).to_draft();
            files.push(live);
            files.push((draft.file_name(), draft.to_bytes()));
            next.push(format!("holders of targets: sluice targets sign {}", self.path(&draft.file_name())));
            publish.push(self.path(&draft.file_name()));
        }
        next.push(format!("then: sluice root publish {}", publish.join(" ")));
        let files = drafting::write_all(&self.out, &files)?;
        output.report(&Drafted { files, lines: explain_root(Some(&before), &after), next })
    }

    fn path(&self, name: &str) -> String {
        self.out.join(name).display().to_string()
    }

    fn edit(&self, plan: &mut RootPlan, state: &CeremonyState) -> Result<(), Failure> {
        let was_dev = plan.profile == RepositoryProfile::Dev;
        if let Some(profile) = self.profile.as_deref().and_then(RepositoryProfile::parse) {
            plan.profile = profile;
        }
        let leaves_dev = was_dev && plan.profile != RepositoryProfile::Dev;
        let edits = [
            (RoleName::root(), &self.root_keys, &self.drop_root_keys, self.root_threshold),
            (RoleName::targets(), &self.targets_keys, &self.drop_targets_keys, self.targets_threshold),
        ];
        for (role, add, drop, threshold) in edits {
            let mut terms = plan.terms(&role);
            if leaves_dev {
                for key in state.server_keys.get(role.as_str()).into_iter().flatten() {
                    terms.keys.remove(&KeyId::of(&public_key(key)?));
                }
                terms.threshold = 2;
            }
            drop_keys(&mut terms, drop, &plan.names, &role)?;
            for holder in add {
                let (id, key) = holder.read()?;
                plan.names.insert(id.clone(), holder.name.to_string());
                terms.keys.insert(id, key);
            }
            terms.threshold = threshold.unwrap_or(terms.threshold);
            check_terms(&role, &terms)?;
            plan.roles.insert(role, terms);
        }
        Ok(())
    }
}

/// Takes keys away by the name of their holder or by id.
pub fn drop_keys(
    terms: &mut Terms,
    drop: &[String],
    names: &BTreeMap<KeyId, String>,
    role: &RoleName,
) -> Result<(), Failure> {
    for dropped in drop {
        let count = terms.keys.len();
        terms.keys.retain(|id, _| names.get(id) != Some(dropped) && !id.as_str().starts_with(dropped.as_str()));
        if terms.keys.len() == count {
            return Err(Failure::Usage(format!(
                "{role} has no key of {dropped}; `sluice root show` names its holders"
            )));
        }
    }
    Ok(())
}

/// A threshold that its keys can reach.
pub fn check_terms(role: &RoleName, terms: &Terms) -> Result<(), Failure> {
    let count = terms.keys.len();
    if terms.threshold == 0 || terms.threshold as usize > count {
        let text = format!("{role}: {count} keys cannot give {} signatures; name more holders", terms.threshold);
        return Err(Failure::Usage(text));
    }
    Ok(())
}

/// 64 hexadecimal characters.
pub fn public_key(text: &str) -> Result<[u8; 32], Failure> {
    let wrong = || Failure::NotSigned("the server named a public key that is none".into());
    let mut key = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return Err(wrong());
    }
    for (idx, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * idx..2 * idx + 2], 16).map_err(|_| wrong())?;
    }
    Ok(key)
}
