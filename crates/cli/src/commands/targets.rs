//! `targets draft`, `sign`, `publish` and `show`.

use super::root::{Show, TrustArgs, check_terms, drop_keys, file_in_force, in_force, public_key};
use crate::clock;
use crate::credentials::Given;
use crate::drafting::{self, Drafted, PublishArgs};
use crate::failure::Failure;
use crate::key_file::HolderKey;
use crate::output::Output;
use crate::signing::SignArgs;
use clap::Subcommand;
use sluice_api::ceremony::{CeremonyState, NewServerKey};
use sluice_api_client::AdminClient;
use sluice_metadata::{
    DelegationPlan, DraftFile, ReleasePlan, RoleName, TargetsPlan, Terms, Trusted, explain_release, explain_targets,
};
use sluice_model::{PersonName, RingName};
use std::path::PathBuf;
use std::str::FromStr;

/// Targets: rings, their approvers, and the server's other keys.
#[derive(Debug, clap::Args)]
pub struct Group {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write the next version of targets as a draft, to be signed by its holders.
    Draft(Box<Draft>),
    /// Read what a draft of targets changes, and sign it.
    #[command(after_help = "Example:\n  sluice targets sign ceremony/3.targets.json --key ann.key")]
    Sign(SignArgs),
    /// Bring signed files into force, all together or none.
    #[command(after_help = "Example:\n  sluice targets publish ceremony/3.targets.json ceremony/1.rel-canary.json")]
    Publish(PublishArgs),
    /// Show what targets says: the one in force, or a file.
    #[command(after_help = "Examples:\n  sluice targets show\n  sluice targets show ceremony/3.targets.json")]
    Show(Show),
}

const AFTER_HELP: &str = "\
The draft follows the targets in force, verified from the root that this machine trusts. Without
changes it renews targets for a year. A ring with approvers needs the server's signature and one of
theirs; without any, the server's alone.

Examples:
  sluice targets draft --out ceremony                          renew
  sluice targets draft --out ceremony --add-ring canary --after validation
  sluice targets draft --out ceremony --approver production:eve=eve.key.pub --drop-approver production:dora
  sluice targets draft --out ceremony --rotate retractions
  sluice targets draft --out ceremony --block patches/production/openssl_3.0.22-1_amd64.deb";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
struct Draft {
    /// Folder for the drafts and for what they follow.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    trust: TrustArgs,
    /// A new ring.
    #[arg(long, value_name = "RING")]
    add_ring: Option<RingName>,
    /// The ring after which the new one comes; without it the new one is the last.
    #[arg(long, value_name = "RING", requires = "add_ring")]
    after: Option<RingName>,
    /// A new approver of a ring; may be repeated.
    #[arg(long = "approver", value_name = "RING:NAME=FILE")]
    approvers: Vec<OfRing<HolderKey>>,
    /// An approver of a ring who no longer is one; may be repeated.
    #[arg(long = "drop-approver", value_name = "RING:NAME")]
    drop_approvers: Vec<OfRing<PersonName>>,
    /// Give a role a new key of the server: retractions, fleet, policy, rel-RING; may be repeated.
    #[arg(long, value_name = "ROLE")]
    rotate: Vec<RoleName>,
    /// Take a patch's file away from every client at once, whatever its ring says (kill switch); may be repeated.
    #[arg(long, value_name = "TARGET")]
    block: Vec<String>,
    /// End a block; may be repeated.
    #[arg(long, value_name = "TARGET")]
    unblock: Vec<String>,
}

/// `RING:VALUE`.
#[derive(Clone, Debug)]
struct OfRing<T> {
    ring: RingName,
    value: T,
}

impl<T: FromStr<Err: ToString>> FromStr for OfRing<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (ring, value) = text.split_once(':').ok_or("write RING:NAME, for instance production:dora")?;
        let ring = ring.parse().map_err(|error: sluice_model::NameError| error.to_string())?;
        Ok(Self { ring, value: value.parse().map_err(|error: T::Err| error.to_string())? })
    }
}

impl Group {
    pub async fn run(self, given: &Given, output: &Output) -> Result<(), Failure> {
        match self.command {
            Command::Draft(draft) => draft.run(given, output).await,
            Command::Sign(sign) => sign.targets(given, output),
            Command::Publish(publish) => publish.run(&given.resolve()?.client()?, output).await,
            Command::Show(show) => {
                let explain = |plan: &TargetsPlan| explain_targets(None, plan);
                show.run(given, output, (drafting::targets_plan, |plans| plans.1, explain)).await
            }
        }
    }
}

impl Draft {
    async fn run(self, given: &Given, output: &Output) -> Result<(), Failure> {
        let client = given.resolve()?.client()?;
        let trusted = self.trust.verified(&client, given).await?;
        let (root, before) = in_force(&trusted)?;
        let mut state = client.ceremony_state().await?;
        let mut after = before.next(clock::now());
        self.edit(&mut after, &mut state, &client).await?;
        let draft = after.to_draft();
        let mut files = vec![
            file_in_force(&trusted, &format!("{}.root.json", root.version))?,
            file_in_force(&trusted, &format!("{}.targets.json", before.version))?,
            (draft.file_name(), draft.to_bytes()),
        ];
        let mut lines = explain_targets(Some(&before), &after);
        let mut next = vec![format!("holders of targets: sluice targets sign {}", self.path(&draft.file_name()))];
        let mut publish = vec![self.path(&draft.file_name())];
        for row in &after.delegations {
            let Some(release) = release_draft(row, &trusted, &state)? else { continue };
            let plan = ReleasePlan::of(&release).map_err(|error| Failure::NotSigned(error.to_string()))?;
            lines.push(String::new());
            lines.extend(explain_release(None, &plan));
            next.push(format!(
                "an approver of {}: sluice approve --draft {} --artifact FILE...",
                row.role,
                self.path(&release.file_name())
            ));
            publish.push(self.path(&release.file_name()));
            files.push((release.file_name(), release.to_bytes()));
        }
        next.push(format!("then: sluice targets publish {}", publish.join(" ")));
        let files = drafting::write_all(&self.out, &files)?;
        output.report(&Drafted { files, lines, next })
    }

    fn path(&self, name: &str) -> String {
        self.out.join(name).display().to_string()
    }

    async fn edit(
        &self,
        plan: &mut TargetsPlan,
        state: &mut CeremonyState,
        client: &AdminClient,
    ) -> Result<(), Failure> {
        if let Some(ring) = &self.add_ring {
            self.add_ring(plan, ring, new_key(&RoleName::release(ring), state, client).await?)?;
        }
        for role in &self.rotate {
            let key = new_key(role, state, client).await?;
            let own = own_keys(role, state)?;
            let row = row_of(plan, role)?;
            row.terms.keys.retain(|id, public| !own.contains(public) || id.as_str().is_empty());
            row.terms.keys.extend(Terms::new([key], 1).keys);
        }
        for approver in &self.approvers {
            let (id, key) = approver.value.read()?;
            plan.names.insert(id.clone(), approver.value.name.to_string());
            row_of(plan, &RoleName::release(&approver.ring))?.terms.keys.insert(id, key);
        }
        for dropped in &self.drop_approvers {
            let names = plan.names.clone();
            let role = RoleName::release(&dropped.ring);
            drop_keys(&mut row_of(plan, &role)?.terms, &[dropped.value.to_string()], &names, &role)?;
        }
        self.edit_blocks(plan)?;
        for row in plan.delegations.iter_mut().filter(|row| row.role.ring().is_some()) {
            let own = own_keys(&row.role, state)?;
            let has_approvers = row.terms.keys.values().any(|key| !own.contains(key));
            row.terms.threshold = if has_approvers { row.terms.threshold.max(2) } else { 1 };
            check_terms(&row.role, &row.terms)?;
        }
        Ok(())
    }

    fn add_ring(&self, plan: &mut TargetsPlan, ring: &RingName, key: [u8; 32]) -> Result<(), Failure> {
        let role = RoleName::release(ring);
        if plan.delegation(&role).is_some() {
            return Err(Failure::Usage(format!("there is a ring {ring} already")));
        }
        let place = match &self.after {
            None => plan.delegations.len(),
            Some(after) => {
                let known = plan.delegations.iter().position(|row| row.role == RoleName::release(after));
                known.ok_or_else(|| Failure::Usage(format!("there is no ring {after} to come after")))? + 1
            }
        };
        let paths = vec![format!("patches/{ring}/*")];
        plan.delegations.insert(place, DelegationPlan { role, terms: Terms::new([key], 1), paths });
        Ok(())
    }

    /// The first delegation has the first word on a name: what it lists as a path and not as a target is nowhere.
    fn edit_blocks(&self, plan: &mut TargetsPlan) -> Result<(), Failure> {
        let Some(first) = plan.delegations.first_mut() else { return Ok(()) };
        for target in &self.block {
            let name: sluice_model::TargetName =
                target.parse().map_err(|error: sluice_model::NameError| Failure::Usage(error.to_string()))?;
            if !name.as_str().starts_with("patches/") {
                return Err(Failure::Usage(format!("{name} is no patch; write patches/RING/FILE")));
            }
            if !first.paths.contains(target) {
                first.paths.push(target.clone());
            }
        }
        first.paths.retain(|path| !self.unblock.contains(path) || !path.starts_with("patches/"));
        Ok(())
    }
}

async fn new_key(role: &RoleName, state: &mut CeremonyState, client: &AdminClient) -> Result<[u8; 32], Failure> {
    let key = client.new_server_key(&NewServerKey { role: role.to_string() }).await?;
    let public = public_key(&key.public)?;
    state.server_keys.entry(role.to_string()).or_default().push(key.public);
    Ok(public)
}

fn own_keys(role: &RoleName, state: &CeremonyState) -> Result<Vec<[u8; 32]>, Failure> {
    state.server_keys.get(role.as_str()).into_iter().flatten().map(|key| public_key(key)).collect()
}

fn row_of<'a>(plan: &'a mut TargetsPlan, role: &RoleName) -> Result<&'a mut DelegationPlan, Failure> {
    let found = plan.delegations.iter_mut().find(|row| row.role == *role);
    found.ok_or_else(|| Failure::Usage(format!("targets has no role {role}; `sluice targets show` lists them")))
}

/// The next version of a release role that would not verify any more and that the server cannot sign alone.
fn release_draft(row: &DelegationPlan, trusted: &Trusted, state: &CeremonyState) -> Result<Option<DraftFile>, Failure> {
    let own = own_keys(&row.role, state)?;
    let held = row.terms.keys.values().filter(|key| own.contains(key)).count();
    if held >= row.terms.threshold as usize {
        return Ok(None);
    }
    let unreadable = |error: String| Failure::NotSigned(error);
    let version =
        trusted.versions().into_iter().find(|(name, _)| name == row.role.as_str()).map(|(_, version)| version);
    let plan = match version {
        None => ReleasePlan::first(row.role.clone(), clock::now()),
        Some(version) => {
            let (name, bytes) = file_in_force(trusted, &format!("{version}.{}.json", row.role))?;
            let live = DraftFile::read_named(&name, &bytes).map_err(|error| unreadable(error.to_string()))?;
            if live.reaches(&row.terms) {
                return Ok(None);
            }
            let live = ReleasePlan::of(&live).map_err(|error| unreadable(error.to_string()))?;
            let first = ReleasePlan::first(row.role.clone(), clock::now());
            ReleasePlan { version: live.version + 1, entries: live.entries, ..first }
        }
    };
    plan.to_draft().map(Some).map_err(|error| unreadable(error.to_string()))
}
