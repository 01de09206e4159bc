//! Reads a settings file, lays the environment over it, and refuses what it does not know.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Prefix of environment overrides.
const ENV_PREFIX: &str = "SLUICE_";

/// Why the settings could not be used. Every message names the file or variable and the key.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read the settings file {path}; check the path given with --config")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("the settings file {path} is not valid TOML")]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        source: toml::de::Error,
    },
    /// An environment variable names a key that does not exist.
    #[error("the environment variable {name} names no setting; section [{section}] has: {known}")]
    UnknownVariable {
        /// The variable.
        name: String,
        /// The section.
        section: String,
        /// Its keys.
        known: String,
    },
    /// A key is unknown or a value has the wrong type.
    #[error("a setting from {origin} cannot be used: {message}")]
    Value {
        /// The file, or `the defaults and the environment`.
        origin: String,
        /// Key and reason.
        message: String,
    },
}

/// Loads settings of type `S` from `path` (defaults when `None`) with overrides from `environment`.
///
/// The caller passes `std::env::vars()`; variables that do not begin with `SLUICE_<SECTION>_` of a section of `S` are
/// not ours and are left alone.
pub fn load<S>(path: Option<&Path>, environment: impl Iterator<Item = (String, String)>) -> Result<S, SettingsError>
where
    S: DeserializeOwned + Serialize + Default,
{
    let defaults = Table::try_from(S::default()).expect("the defaults are a TOML table");
    let mut table = defaults.clone();
    let mut origin = "the defaults and the environment".to_owned();
    if let Some(path) = path {
        let text = std::fs::read_to_string(path).map_err(|source| SettingsError::Read { path: path.into(), source })?;
        let file: Table = text.parse().map_err(|source| SettingsError::Syntax { path: path.into(), source })?;
        overlay(&mut table, file);
        origin = path.display().to_string();
    }
    for (name, value) in environment {
        apply_variable(&mut table, &defaults, &name, &value)?;
    }
    Value::Table(table)
        .try_into()
        .map_err(|error: toml::de::Error| SettingsError::Value { origin, message: error.message().to_owned() })
}

fn overlay(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(inner)), Value::Table(value)) => overlay(inner, value),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

fn apply_variable(table: &mut Table, defaults: &Table, name: &str, value: &str) -> Result<(), SettingsError> {
    let Some(rest) = name.strip_prefix(ENV_PREFIX).map(str::to_ascii_lowercase) else { return Ok(()) };
    let Some((section, key)) = defaults.keys().find_map(|section| {
        Some((section.clone(), rest.strip_prefix(section.as_str())?.strip_prefix('_')?.to_owned()))
    }) else {
        return Ok(());
    };
    let known = defaults.get(&section).and_then(Value::as_table).cloned().unwrap_or_default();
    let Some(default) = known.get(&key) else {
        let known = known.keys().cloned().collect::<Vec<_>>().join(", ");
        return Err(SettingsError::UnknownVariable { name: name.to_owned(), section, known });
    };
    let parsed = match default {
        Value::Integer(_) => value.parse().map(Value::Integer).ok(),
        Value::Boolean(_) => value.parse().map(Value::Boolean).ok(),
        _ => Some(Value::String(value.to_owned())),
    };
    let parsed = parsed.ok_or_else(|| SettingsError::Value {
        origin: format!("the environment variable {name}"),
        message: format!("{value:?} is not a {}", default.type_str()),
    })?;
    if let Some(Value::Table(inner)) = table.get_mut(&section) {
        inner.insert(key, parsed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AgentSettings, NodeSettings, RepoSettings};

    fn env(pairs: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Vec<_>>().into_iter()
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn the_environment_wins_over_the_file_and_the_file_over_the_default() {
        let file = file("[lease]\nserving_secs = 60\n[listen]\nhttp = \"127.0.0.1:1\"\n");
        let settings: RepoSettings = load(Some(file.path()), env(&[("SLUICE_LISTEN_HTTP", "127.0.0.1:2")])).unwrap();
        assert_eq!(settings.lease.serving_secs, 60);
        assert_eq!(settings.listen.http.port(), 2);
        assert_eq!(settings.listen.device, RepoSettings::default().listen.device);
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_name() {
        let file = file("[cache]\nreserve = 3\n");
        let error = load::<NodeSettings>(Some(file.path()), env(&[])).unwrap_err().to_string();
        assert!(error.contains("reserve") && error.contains(&file.path().display().to_string()), "{error}");
        let error = load::<AgentSettings>(None, env(&[("SLUICE_POLL_SECS", "3")])).unwrap_err().to_string();
        assert!(error.contains("SLUICE_POLL_SECS") && error.contains("metadata_ms"), "{error}");
    }

    #[test]
    fn a_value_of_the_wrong_type_is_refused_and_foreign_variables_are_left_alone() {
        assert!(load::<AgentSettings>(None, env(&[("SLUICE_POLL_METADATA_MS", "soon")])).is_err());
        let settings: AgentSettings = load(None, env(&[("SLUICE_TOKEN", "x"), ("HOME", "/")])).unwrap();
        assert_eq!(settings, AgentSettings::default());
    }

    #[test]
    fn a_missing_or_broken_file_is_named() {
        assert!(load::<RepoSettings>(Some(Path::new("/nonexistent.toml")), env(&[])).is_err());
        let broken = file("[lease\n");
        let error = load::<RepoSettings>(Some(broken.path()), env(&[])).unwrap_err();
        assert!(matches!(error, SettingsError::Syntax { .. }));
    }
}
