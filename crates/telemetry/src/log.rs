//! Structured logs on standard error.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;

/// Why logging could not start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter cannot be read.
    #[error("the log filter {filter:?} cannot be used; write for instance info or info,sluice_node=debug")]
    Filter {
        /// What was given.
        filter: String,
        /// Why.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Something else in this process logs already.
    #[error("logging was started twice in this process")]
    Started,
}

/// Starts logging for this process. `RUST_LOG` wins over `filter`.
pub fn init(json: bool, filter: &str) -> Result<(), LogError> {
    let text = std::env::var("RUST_LOG").unwrap_or_else(|_| filter.to_owned());
    let filter = EnvFilter::try_new(&text).map_err(|source| LogError::Filter { filter: text, source })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_timer(SystemTime);
    let started = if json {
        builder.json().flatten_event(true).try_init()
    } else {
        builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init()
    };
    started.map_err(|_| LogError::Started)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_filter_that_cannot_be_read_is_named() {
        let error = super::init(false, "sluice=loudly").unwrap_err().to_string();
        assert!(error.contains("sluice=loudly"), "{error}");
    }
}
