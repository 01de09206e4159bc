//! Where the server's address and the person's token come from, and the file that `login` keeps them in.
//!
//! Order: `SLUICE_URL` with `SLUICE_TOKEN`, then the credentials file. The token of the file goes only to the address of
//! the file. The file is refused when others than its owner could read it.

use crate::failure::Failure;
use serde::{Deserialize, Serialize};
use sluice_api_client::AdminClient;
use sluice_identity::Fingerprint;
use std::io::{ErrorKind, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Longest credentials or token file that is read.
const FILE_BYTES_MAX: u64 = 16 << 10;

/// What `login` stores.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// Base URL of the repo server.
    pub url: String,
    /// The person's token.
    pub token: String,
    /// The internal CA that the server must show over HTTPS; without it the system's authorities are asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
}

/// What the command line and the environment say.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// `--credentials`.
    pub file: Option<PathBuf>,
    /// `--url` or `SLUICE_URL`.
    pub url: Option<String>,
    /// `SLUICE_TOKEN`.
    pub token: Option<String>,
    /// `SLUICE_FINGERPRINT`.
    pub fingerprint: Option<String>,
}

impl Given {
    /// The credentials file: `--credentials`, else `sluice/credentials.toml` in the user's configuration folder.
    pub fn path(&self) -> Result<PathBuf, Failure> {
        if let Some(path) = &self.file {
            return Ok(path.clone());
        }
        let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let config = folder("XDG_CONFIG_HOME").or_else(|| folder("HOME").map(|home| home.join(".config")));
        let config = config.ok_or_else(|| {
            Failure::Usage(
                "neither XDG_CONFIG_HOME nor HOME is set; name the credentials file with --credentials".into(),
            )
        })?;
        Ok(config.join("sluice").join("credentials.toml"))
    }

    /// Address and token for a command.
    pub fn resolve(&self) -> Result<Credentials, Failure> {
        if let (Some(url), Some(token)) = (&self.url, &self.token) {
            let fingerprint = self.given_fingerprint()?;
            return Ok(Credentials { url: url.clone(), token: token.clone(), fingerprint });
        }
        let path = self.path()?;
        let Some(stored) = Credentials::load(&path)? else {
            let what = if self.url.is_some() { "the token" } else { "the server" };
            return Err(Failure::Usage(format!(
                "{what} is not known; run `sluice login URL`, or set SLUICE_URL and SLUICE_TOKEN"
            )));
        };
        match (&self.url, &self.token) {
            (Some(url), None) if url.trim_end_matches('/') != stored.url.trim_end_matches('/') => {
                Err(Failure::Usage(format!(
                    "the token in {} is for {}, not for {url}; run `sluice login {url}`, or set SLUICE_TOKEN",
                    path.display(),
                    stored.url
                )))
            }
            (None, Some(token)) => Ok(Credentials { token: token.clone(), ..stored }),
            _ => Ok(stored),
        }
    }
}

impl Given {
    fn given_fingerprint(&self) -> Result<Option<Fingerprint>, Failure> {
        let parsed = self.fingerprint.as_ref().map(|text| text.parse::<Fingerprint>()).transpose();
        parsed.map_err(|error| Failure::Usage(format!("SLUICE_FINGERPRINT: {error}")))
    }
}

impl Credentials {
    /// A client with these.
    pub fn client(&self) -> Result<AdminClient, Failure> {
        check_not_in_clear(&self.url)?;
        Ok(match self.fingerprint {
            Some(authority) => AdminClient::pinned(&self.url, Some(&self.token), authority)?,
            None => AdminClient::new(&self.url, Some(&self.token))?,
        })
    }

    /// Reads the file; `None` when there is none.
    pub fn load(path: &Path) -> Result<Option<Self>, Failure> {
        let file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::path("read", path, error)),
        };
        let mode = file.metadata().map_err(|error| Failure::path("read", path, error))?.permissions().mode();
        if mode & 0o077 != 0 {
            let advice = format!("its mode is {:o}; run `chmod 600 {}`", mode & 0o777, path.display());
            return Err(Failure::path("trust", path, std::io::Error::other(advice)));
        }
        let text = read_bounded(file).map_err(|error| Failure::path("read", path, error))?;
        let read = toml::from_str(&text).map_err(|error| std::io::Error::other(error.message().to_owned()));
        read.map(Some).map_err(|error| Failure::path("read", path, error))
    }

    /// Writes the file, readable by its owner only, in one step.
    pub fn store(&self, path: &Path) -> Result<(), Failure> {
        let wrong = |error| Failure::path("write", path, error);
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(wrong)?;
        }
        let new = path.with_extension(format!("new-{}", std::process::id()));
        let written = self.write_new(&new).and_then(|()| std::fs::rename(&new, path));
        if written.is_err() {
            let _ = std::fs::remove_file(&new);
        }
        written.map_err(wrong)
    }

    fn write_new(&self, path: &Path) -> std::io::Result<()> {
        let text = toml::to_string(self).map_err(std::io::Error::other)?;
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    }
}

/// A small file as text.
pub fn read_bounded(file: impl Read) -> std::io::Result<String> {
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::other(format!("longer than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

/// Plain HTTP is for loopback: elsewhere the token would cross the network in clear before the server can refuse it.
pub fn check_not_in_clear(url: &str) -> Result<(), Failure> {
    let lower = url.to_ascii_lowercase();
    // Forms that two parsers read in two ways have no place where a token goes.
    if lower.contains(['@', '\\']) || !(lower.starts_with("http://") || lower.starts_with("https://")) {
        let text = format!("{url:?} is not a usable server address; write for instance http://127.0.0.1:8470");
        return Err(Failure::Usage(text));
    }
    let Some(rest) = lower.strip_prefix("http://") else { return Ok(()) };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    if host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()) {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "{url} would carry the token in clear; use the server's https address, or an SSH tunnel: ssh -L 8470:127.0.0.1:8470 {host}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_file_is_private_and_a_public_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/credentials.toml");
        let stored = Credentials { url: "http://127.0.0.1:1".into(), token: "slp1-x".into(), fingerprint: None };
        stored.store(&path).unwrap();
        stored.store(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Credentials::load(&path).unwrap().unwrap().token, "slp1-x");
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        let failure = Credentials::load(&path).err().unwrap();
        assert!(failure.text().contains("chmod 600"), "{}", failure.text());
    }

    #[test]
    fn a_stored_token_goes_only_where_it_was_stored_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        Credentials { url: "http://127.0.0.1:1/".into(), token: "stored".into(), fingerprint: None }
            .store(&path)
            .unwrap();
        let given = |url: Option<&str>, token: Option<&str>| Given {
            file: Some(path.clone()),
            url: url.map(str::to_owned),
            token: token.map(str::to_owned),
            fingerprint: None,
        };
        assert_eq!(given(None, None).resolve().unwrap().token, "stored");
        assert_eq!(given(Some("http://127.0.0.1:1"), None).resolve().unwrap().token, "stored");
        assert_eq!(given(Some("http://evil"), Some("own")).resolve().unwrap().url, "http://evil");
        let failure = given(Some("http://127.0.0.1:2"), None).resolve().err().unwrap();
        assert!(failure.to_string().contains("is for http://127.0.0.1:1/"), "{failure}");
    }

    #[test]
    fn a_token_never_crosses_a_network_in_clear() {
        for url in ["http://127.0.0.1:8470", "http://localhost", "http://[::1]:8470/", "https://repo.example"] {
            assert!(check_not_in_clear(url).is_ok(), "{url}");
        }
        for url in [
            "http://repo.example:8470",
            "http://10.0.0.1",
            "http://127.0.0.1@evil",
            "http://evil\\@localhost",
            "HTTP://evil",
            "evil",
        ] {
            assert!(check_not_in_clear(url).is_err(), "{url}");
        }
    }
}
