//! `login`: asks for the token, checks it at the server, stores both.

use crate::credentials::{Credentials, Given, read_bounded};
use crate::failure::Failure;
use crate::hidden_input;
use crate::output::Output;
use sluice_api_client::AdminClient;
use sluice_identity::Fingerprint;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;

const AFTER_HELP: &str = "\
The token is read from --token-file, from the standard input, or asked for on a terminal; never
from the command line, where other users could see it. It is tried at the server before it is
stored.

Over https the server shows a certificate of its internal CA. Its fingerprint is pinned: give it
with --fingerprint as `sluice-repo fingerprint` prints it on the server, or compare it when asked.

Examples:
  sluice login http://127.0.0.1:8470
  sluice login https://repo.example:8473 --fingerprint sha256:5e88...
  sluice login http://127.0.0.1:8470 --token-file /run/secrets/sluice
  pass show sluice | sluice login http://127.0.0.1:8470";

/// Store the address of a repo server and your token.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Login {
    /// Address of the repo server.
    #[arg(value_name = "URL")]
    server: String,

    /// File that holds the token.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Fingerprint of the server's internal CA, as `sluice-repo fingerprint` prints it.
    #[arg(long, value_name = "SHA256")]
    fingerprint: Option<Fingerprint>,
}

impl Login {
    pub async fn run(self, given: &Given, output: &Output) -> Result<(), Failure> {
        let path = given.path()?;
        let url = self.server.trim_end_matches('/').to_owned();
        // Before the token is asked for: a wrong address needs no token.
        crate::credentials::check_not_in_clear(&url)?;
        let fingerprint = self.authority(&url).await?;
        let token = self.read_token()?.trim().to_owned();
        if token.is_empty() {
            return Err(Failure::Usage(
                "the token is empty; an admin makes one with `sluice token new --kind person`".into(),
            ));
        }
        let credentials = Credentials { url, token, fingerprint };
        let who = credentials.client()?.whoami().await?;
        credentials.store(&path)?;
        anstream::eprintln!("stored in {}", path.display());
        output.report(&who)
    }

    /// The authority to pin: as given, or as shown and agreed to; none where the system's authorities vouch for the server.
    async fn authority(&self, url: &str) -> Result<Option<Fingerprint>, Failure> {
        if self.fingerprint.is_some() || !url.to_ascii_lowercase().starts_with("https://") {
            return Ok(self.fingerprint);
        }
        if AdminClient::new(url, None)?.reach().await.is_ok() {
            return Ok(None);
        }
        let Some(shown) = AdminClient::shown_authority(url).await? else {
            return Err(Failure::Usage(format!(
                "the system's authorities do not vouch for {url}, and it shows no authority of its own to pin"
            )));
        };
        let said = format!("{url} shows the authority {shown}");
        if !std::io::stdin().is_terminal() {
            return Err(Failure::Usage(format!(
                "{said}; compare it with `sluice-repo fingerprint` on the server, then: sluice login {url} --fingerprint {shown}"
            )));
        }
        anstream::eprintln!("{said}");
        let agreed = ask_agreement().map_err(|error| Failure::file("cannot read the answer", error))?;
        if agreed { Ok(Some(shown)) } else { Err(Failure::Usage("not agreed; nothing was sent or stored".into())) }
    }

    fn read_token(&self) -> Result<String, Failure> {
        if let Some(path) = &self.token_file {
            let text = std::fs::File::open(path).and_then(read_bounded);
            return text.map_err(|error| Failure::path("read", path, error));
        }
        let stdin = std::io::stdin();
        let text = match stdin.is_terminal() {
            true => hidden_input::ask("token: "),
            false => read_bounded(stdin.lock()),
        };
        text.map_err(|error| Failure::file("cannot read the token from the standard input", error))
    }
}

/// Whether the person on the terminal types `yes`.
fn ask_agreement() -> std::io::Result<bool> {
    let mut stderr = std::io::stderr();
    write!(stderr, "is that what `sluice-repo fingerprint` prints on the server? (yes/no): ")?;
    stderr.flush()?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(line.trim() == "yes")
}
