//! Shows a person what a signature would cover, and asks.

use crate::failure::{Failure, one_line};
use std::io::{BufRead, IsTerminal, Write};

/// Prints the lines to stderr and goes on when the person says yes, or said so beforehand.
pub fn ask(lines: &[String], said_yes: bool) -> Result<(), Failure> {
    for (idx, line) in lines.iter().enumerate() {
        let indent = if idx == 0 { "" } else { "  " };
        anstream::eprintln!("{indent}{}", one_line(line));
    }
    if said_yes {
        return Ok(());
    }
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        let text = "nothing was signed: there is no terminal to ask on; read what is above and say --yes";
        return Err(Failure::Usage(text.into()));
    }
    let cannot = |error| Failure::file("cannot ask on the terminal", error);
    let mut stderr = std::io::stderr();
    write!(stderr, "Sign this? Type yes: ").and_then(|()| stderr.flush()).map_err(cannot)?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer).map_err(cannot)?;
    match answer.trim() {
        "yes" => Ok(()),
        _ => Err(Failure::NotSigned("nothing was signed: the answer was not yes".into())),
    }
}
