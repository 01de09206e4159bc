//! The commands, one file a group.

mod approve;
mod audit;
mod bans;
mod calendar;
mod completions;
mod compliance;
mod endpoints;
mod explain;
mod key;
mod login;
mod nodes;
mod outcomes;
mod patches;
mod publish;
mod requests;
mod retract;
mod retractions;
mod revoke;
mod ring;
mod root;
mod site;
mod status;
mod suspensions;
mod targets;
mod token;
mod tuf_client;
mod whoami;

pub use root::{TrustArgs, file_in_force};
pub use tuf_client::TufError;

use crate::arguments::Arguments;
use crate::failure::Failure;
use crate::output::Output;
use clap::Subcommand;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Store the address of a repo server and your token.
    Login(login::Login),
    /// Show whose token this is and what it may do.
    Whoami(whoami::Whoami),
    /// Show the repository at a glance.
    Status(status::Show),
    /// Upload files as a patch.
    Publish(publish::Publish),
    /// Approve a patch into a ring.
    Approve(approve::Approve),
    /// Retract a patch everywhere, by content.
    Retract(retract::Retract),
    /// Take a retraction back in one ring; two people.
    Reinstate(retract::Reinstate),
    /// Stop a patch, a package or everything, for the fleet or one site.
    Suspend(suspensions::Suspend),
    /// Show suspensions, and lift them.
    Suspensions(suspensions::Suspensions),
    /// Show retractions and how far they have come.
    Retractions(retractions::Retractions),
    /// List patches, or show one.
    Patches(patches::List),
    /// Sites, their networks and caps.
    Site(site::Group),
    /// Rings.
    Ring(ring::Group),
    /// Keys that people hold: of root, of targets, of a ring.
    Key(key::Group),
    /// Root: who signs what, and the online keys of timestamp and snapshot.
    Root(root::Group),
    /// Targets: rings, their approvers, and the server's other keys.
    Targets(targets::Group),
    /// Show who must sign what until when.
    Calendar(calendar::Show),
    /// Tokens that enrol devices or identify persons.
    Token(token::Group),
    /// List nodes with what they carried.
    Nodes(nodes::List),
    /// Members whose bytes nobody takes: each signed bytes that were wrong.
    Bans(bans::Group),
    /// List endpoints.
    Endpoints(endpoints::List),
    /// Take a node or an endpoint out for good.
    Revoke(revoke::Group),
    /// List what endpoints reported.
    Outcomes(outcomes::List),
    /// Show who has what, by patch, site or endpoint.
    Compliance(compliance::Show),
    /// Say why an endpoint has what it has.
    Explain(explain::Group),
    /// List who did what; export the log, and verify an export offline.
    Audit(audit::Audit),
    /// What waits for a second person.
    Requests(requests::Requests),
    /// Verify and download from any TUF repository.
    TufClient(tuf_client::TufClient),
    /// Print a completion script for a shell.
    Completions(completions::Print),
}

/// Runs one command.
pub async fn run(arguments: Arguments, output: &Output) -> Result<(), Failure> {
    let given = arguments.given();
    let client = || given.resolve()?.client();
    match arguments.command {
        Command::Login(command) => command.run(&given, output).await,
        Command::Completions(command) => command.run(output),
        Command::TufClient(command) => command.run().await,
        Command::Whoami(command) => command.run(&client()?, output).await,
        Command::Status(command) => command.run(&client()?, output).await,
        Command::Publish(command) => command.run(&client()?, output).await,
        Command::Approve(command) => command.run(&given, output).await,
        Command::Key(command) => command.run(output),
        Command::Root(command) => command.run(&given, output).await,
        Command::Targets(command) => command.run(&given, output).await,
        Command::Calendar(command) => command.run(&client()?, output).await,
        Command::Retract(command) => command.run(&client()?, output).await,
        Command::Reinstate(command) => command.run(&client()?, output).await,
        Command::Suspend(command) => command.run(&client()?, output).await,
        Command::Suspensions(command) => command.run(&client()?, output).await,
        Command::Retractions(command) => command.run(&client()?, output).await,
        Command::Patches(command) => command.run(&client()?, output).await,
        Command::Site(command) => command.run(&client()?, output).await,
        Command::Ring(command) => command.run(&client()?, output).await,
        Command::Token(command) => command.run(&client()?, output).await,
        Command::Nodes(command) => command.run(&client()?, output).await,
        Command::Bans(command) => command.run(&client()?, output).await,
        Command::Endpoints(command) => command.run(&client()?, output).await,
        Command::Revoke(command) => command.run(&client()?, output).await,
        Command::Outcomes(command) => command.run(&client()?, output).await,
        Command::Compliance(command) => command.run(&client()?, output).await,
        Command::Explain(command) => command.run(&client()?, output).await,
        Command::Audit(command) => command.run(client, output).await,
        Command::Requests(command) => command.run(&client()?, output).await,
    }
}
