//! `endpoints`, and how a person may name one.

use crate::failure::Failure;
use crate::output::{Output, Report, table};
use crate::units;
use sluice_api::admin::{Endpoint, Endpoints};
use sluice_api_client::AdminClient;
use sluice_model::{EndpointId, Timestamp};

/// List endpoints.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  sluice endpoints")]
pub struct List {}

impl List {
    pub async fn run(self, client: &AdminClient, output: &Output) -> Result<(), Failure> {
        output.report(&client.endpoints().await?)
    }
}

impl Report for Endpoints {
    fn text(&self, now: Timestamp) -> String {
        let rows = self.endpoints.iter().map(|endpoint| {
            vec![
                endpoint.name.clone(),
                endpoint.site.to_string(),
                endpoint.ring.to_string(),
                endpoint.state.clone(),
                units::relative(endpoint.enrolled_at, now),
                units::relative_or_never(endpoint.last_report_at, now),
                endpoint.id.to_string(),
            ]
        });
        let heading = ["ENDPOINT", "SITE", "RING", "STATE", "ENROLLED", "LAST REPORT", "ID"];
        table(
            &heading,
            rows,
            "no endpoints; make a token with `sluice token new --kind endpoint --site SITE --ring RING`",
        )
    }
}

/// The endpoint that a person means: its id, the beginning of it (4 characters or more), or its name.
pub async fn resolve(client: &AdminClient, text: &str) -> Result<EndpointId, Failure> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    choose(&client.endpoints().await?.endpoints, text)
}

fn choose(endpoints: &[Endpoint], text: &str) -> Result<EndpointId, Failure> {
    let is_meant = |endpoint: &&Endpoint| {
        endpoint.name == text || (text.len() >= 4 && endpoint.id.to_hex().starts_with(&text.to_ascii_lowercase()))
    };
    let found: Vec<&Endpoint> = endpoints.iter().filter(is_meant).collect();
    match found.as_slice() {
        [one] => Ok(one.id),
        [] => Err(Failure::Usage(format!("no endpoint is called {text:?}; `sluice endpoints` lists them"))),
        several => {
            let ids = units::list(several.iter().map(|endpoint| endpoint.id));
            Err(Failure::Usage(format!("{text:?} may be {ids}: write more of the id")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_meant_by_id_beginning_or_name_but_never_by_a_guess() {
        let endpoint = |name: &str, byte| Endpoint {
            id: EndpointId::from_bytes([byte; 32]),
            name: name.into(),
            site: "lyon".parse().unwrap(),
            ring: "pilot".parse().unwrap(),
            state: "active".into(),
            enrolled_at: Timestamp::default(),
            last_report_at: None,
        };
        let all = [endpoint("desk", 0xab), endpoint("desk", 0xcd), endpoint("till", 0xef)];
        assert_eq!(choose(&all, "till").unwrap(), all[2].id);
        assert_eq!(choose(&all, "ABAB").unwrap(), all[0].id);
        for text in ["desk", "aba", "none"] {
            assert!(choose(&all, text).is_err(), "{text}");
        }
    }
}
