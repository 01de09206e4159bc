//! A line from the terminal that is not shown.

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::Write;

/// Asks on the terminal and reads the answer without showing it.
pub fn ask(question: &str) -> std::io::Result<String> {
    let mut stderr = std::io::stderr();
    write!(stderr, "{question}")?;
    stderr.flush()?;
    let hidden = HiddenInput::begin()?;
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line);
    drop(hidden);
    writeln!(stderr)?;
    read.map(|_| line)
}

/// The terminal does not echo while this lives.
struct HiddenInput {
    before: Termios,
}

impl HiddenInput {
    fn begin() -> std::io::Result<Self> {
        let before = tcgetattr(rustix::stdio::stdin())?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(rustix::stdio::stdin(), OptionalActions::Flush, &hidden)?;
        Ok(Self { before })
    }
}

impl Drop for HiddenInput {
    fn drop(&mut self) {
        // Nothing better can be done here than to try; the shell resets its terminal too.
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Flush, &self.before);
    }
}
