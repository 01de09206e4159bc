//! Progress of an upload on stderr: a bar on a terminal, four plain lines elsewhere.

use crate::units;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Mutex;

/// Progress of one file.
pub enum Progress {
    /// On a terminal.
    Bar(ProgressBar),
    /// Anywhere else: a line each time another quarter is there.
    Lines {
        /// File name.
        name: String,
        /// Quarters told.
        quarters: Mutex<u64>,
    },
}

impl Progress {
    /// Begins; `length` in bytes.
    pub fn begin(name: &str, length: u64) -> Self {
        if !std::io::stderr().is_terminal() {
            anstream::eprintln!("{name}: uploading {}", units::bytes(length));
            return Self::Lines { name: name.to_owned(), quarters: Mutex::new(0) };
        }
        let bar = ProgressBar::new(length).with_message(name.to_owned());
        let style = ProgressStyle::with_template(
            "{msg} [{bar:30}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {eta}",
        )
        .expect("the template is valid")
        .progress_chars("=> ");
        Self::Bar(bar.with_style(style))
    }

    /// The server has `done` of `length` bytes.
    pub fn advance(&self, done: u64, length: u64) {
        match self {
            Self::Bar(bar) => bar.set_position(done),
            Self::Lines { name, quarters } => {
                let reached =
                    (u128::from(done) * 4).checked_div(u128::from(length)).map_or(4, |reached| reached as u64);
                let mut told = quarters.lock().expect("nothing panics while it holds this lock");
                if reached > *told {
                    *told = reached;
                    anstream::eprintln!("{name}: {} %", reached * 25);
                }
            }
        }
    }

    /// Done: the bar goes away, lines stay.
    pub fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
