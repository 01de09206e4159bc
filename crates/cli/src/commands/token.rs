//! `token new`, `token list`, `token revoke`, `token rotate`.

use crate::failure::Failure;
use crate::output::{Output, Report, table};
use crate::units;
use clap::{Subcommand, ValueEnum};
use sluice_api::admin::{EnrolmentToken, NewEnrolmentToken, NewPersonToken, PersonToken};
use sluice_api::device::DeviceKind;
use sluice_api::tokens::{RevokedTokens, Tokens};
use sluice_api_client::AdminClient;
use sluice_model::{PersonName, PersonRole, RingName, SiteName, Timestamp};

/// Tokens that enrol devices or identify persons.
#[derive(Debug, clap::Args)]
pub struct Group {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a token. It is shown once and stored nowhere in clear.
    New(New),
    /// List tokens, without their secrets.
    #[command(after_help = "Example:\n  sluice token list")]
    List,
    /// End a token, or every token of a person, from the next request on.
    #[command(after_help = "Examples:\n  sluice token revoke 1f2e3d4c5b6a7988\n  sluice token revoke --person bob")]
    Revoke {
        /// Id of the token, from the list.
        #[arg(required_unless_present = "person", conflicts_with = "person")]
        id: Option<String>,
        /// End all tokens of this person.
        #[arg(long, value_name = "NAME")]
        person: Option<PersonName>,
    },
    /// Replace your own token by a new one with the same rights; the old one is taken for ten more minutes.
    #[command(after_help = "Example:\n  sluice token rotate")]
    Rotate,
}

const AFTER_HELP: &str = "\
A device's token works once and for one hour, a person's for 90 days, unless --valid-secs says
otherwise.

Examples:
  sluice token new --kind node --site lyon
  sluice token new --kind endpoint --site lyon --ring pilot
  sluice token new --kind person --person alice --role publisher
  sluice token new --kind person --person bob --role approver --role retractor
  sluice token new --kind person --person carol --role admin --at-site lyon";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
struct New {
    /// What the token is for.
    #[arg(long, value_enum)]
    kind: Kind,
    /// Site of the device.
    #[arg(long, required_if_eq_any = [("kind", "node"), ("kind", "endpoint")], conflicts_with = "person")]
    site: Option<SiteName>,
    /// Ring of the endpoint.
    #[arg(long, required_if_eq("kind", "endpoint"), conflicts_with = "person")]
    ring: Option<RingName>,
    /// Name of the person.
    #[arg(long, value_name = "NAME", required_if_eq("kind", "person"))]
    person: Option<PersonName>,
    /// A role of the person (viewer, publisher, approver, deployer, retractor, auditor, admin); may be repeated.
    #[arg(long = "role", value_name = "ROLE", required_if_eq("kind", "person"))]
    roles: Vec<PersonRole>,
    /// Limit the person to what touches this site and no other; may be repeated.
    #[arg(long, value_name = "SITE", requires = "person")]
    at_site: Vec<SiteName>,
    /// Limit the person to what touches this ring and no other; may be repeated.
    #[arg(long, value_name = "RING", requires = "person")]
    in_ring: Vec<RingName>,
    /// How long the token is valid.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    valid_secs: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    Node,
    Endpoint,
    Person,
}

impl Group {
    pub async fn run(self, client: &AdminClient, output: &Output) -> Result<(), Failure> {
        let new = match self.command {
            Command::New(new) => new,
            Command::List => return output.report(&client.tokens().await?),
            Command::Rotate => return output.report(&client.rotate_token().await?),
            Command::Revoke { id: Some(id), .. } => return output.report(&client.revoke_token(&id).await?),
            Command::Revoke { person: Some(person), .. } => {
                return output.report(&client.revoke_tokens_of(&person).await?);
            }
            Command::Revoke { .. } => return Err(Failure::Usage("name a token's id, or --person".into())),
        };
        let device = match new.kind {
            Kind::Node => DeviceKind::Node,
            Kind::Endpoint => DeviceKind::Endpoint,
            Kind::Person => return new.person(client, output).await,
        };
        if new.kind == Kind::Node && new.ring.is_some() {
            return Err(Failure::Usage("a node has no ring; --ring is for endpoints".into()));
        }
        let (Some(site), true) = (new.site, new.roles.is_empty()) else {
            return Err(Failure::Usage("a device has a --site and no --role".into()));
        };
        let token = NewEnrolmentToken { kind: device, site, ring: new.ring, valid_secs: new.valid_secs };
        output.report(&client.new_enrolment_token(&token).await?)
    }
}

impl New {
    async fn person(self, client: &AdminClient, output: &Output) -> Result<(), Failure> {
        let Some(person) = self.person else {
            return Err(Failure::Usage("a person's token needs --person".into()));
        };
        let some = |is_empty: bool| (!is_empty).then_some(());
        let token = NewPersonToken {
            person,
            roles: self.roles,
            sites: some(self.at_site.is_empty()).map(|()| self.at_site.into_iter().collect()),
            rings: some(self.in_ring.is_empty()).map(|()| self.in_ring.into_iter().collect()),
            valid_secs: self.valid_secs,
        };
        output.report(&client.new_person_token(&token).await?)
    }
}

impl Report for Tokens {
    fn text(&self, now: Timestamp) -> String {
        let rows = self.tokens.iter().map(|token| {
            vec![
                token.id.clone(),
                token.person.as_ref().map_or_else(|| token.kind.clone(), ToString::to_string),
                units::list(&token.roles),
                token.sites.as_ref().map_or_else(|| "all".into(), units::list),
                token.rings.as_ref().map_or_else(|| "all".into(), units::list),
                token.state.clone(),
                units::relative(token.expires_at, now),
            ]
        });
        table(&["ID", "FOR", "ROLES", "SITES", "RINGS", "STATE", "EXPIRES"], rows, "no tokens")
    }
}

impl Report for RevokedTokens {
    fn text(&self, _now: Timestamp) -> String {
        format!("no longer taken: {}\n", self.ids.join(", "))
    }
}

impl Report for EnrolmentToken {
    fn text(&self, now: Timestamp) -> String {
        let (what, command) = match self.kind {
            DeviceKind::Node => ("a node", "sluice-node join"),
            DeviceKind::Endpoint => ("an endpoint", "sluice-agent enrol"),
        };
        let ring = self.ring.as_ref().map(|ring| format!(", ring {ring}")).unwrap_or_default();
        format!(
            "{}\n\nEnrols {what} at {}{ring}, once, and expires {}. It is not shown again. On the device:\n  {command} --repository {} --token TOKEN\n",
            self.token,
            self.site,
            units::relative(self.expires_at, now),
            self.repository_url,
        )
    }
}

impl Report for PersonToken {
    fn text(&self, now: Timestamp) -> String {
        format!(
            "{}\n\nFor {} ({}), expires {}. It is not shown again. On that person's machine:\n  sluice login URL\n",
            self.token,
            self.person,
            units::list(&self.roles),
            units::relative(self.expires_at, now),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn a_token_comes_with_the_command_that_uses_it() {
        let token = EnrolmentToken {
            id: "aa".into(),
            token: "slt1-aa-bb-cc".into(),
            kind: DeviceKind::Endpoint,
            site: "lyon".parse().unwrap(),
            ring: Some("pilot".parse().unwrap()),
            expires_at: Timestamp::from_millis(3_600_000),
            repository_url: "http://127.0.0.1:8470".into(),
        };
        expect![[r#"
            slt1-aa-bb-cc

            Enrols an endpoint at lyon, ring pilot, once, and expires in 60 min. It is not shown again. On the device:
              sluice-agent enrol --repository http://127.0.0.1:8470 --token TOKEN
        "#]]
        .assert_eq(&token.text(Timestamp::default()));
    }
}
