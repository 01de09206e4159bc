//! How far a download is: a bar on a terminal, a line every few seconds elsewhere.

use crate::clock;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

const LINE_EVERY: Duration = Duration::from_secs(5);

/// Progress of one file.
pub struct Progress {
    label: String,
    total: u64,
    bar: Option<ProgressBar>,
    next_line: Instant,
}

impl Progress {
    /// Of `total` bytes.
    pub fn new(label: String, total: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| bar(&label, total));
        Self { label, total, bar, next_line: clock::now() + LINE_EVERY }
    }

    /// So many bytes are here.
    pub fn at(&mut self, bytes: u64) {
        match &self.bar {
            Some(bar) => bar.set_position(bytes),
            None if clock::now() >= self.next_line => {
                self.next_line = clock::now() + LINE_EVERY;
                let percent = bytes.saturating_mul(100) / self.total.max(1);
                tracing::info!(bytes, total = self.total, "downloading {}: {percent} %", self.label);
            }
            None => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(label: &str, total: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total).with_style(style).with_message(label.to_owned())
}
