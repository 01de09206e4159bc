//! Where results go: a table for people or the API's own JSON for programs, on stdout.

use crate::clock;
use crate::failure::Failure;
use comfy_table::Table;
use serde::Serialize;
use sluice_model::Timestamp;
use std::io::Write;

/// `-o`: a table for people, or the fields of the admin API for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    // No doc comments here: clap would print them in every help as a list of three lines.
    Table,
    Json,
}

/// An answer that has a form for people.
pub trait Report: Serialize {
    /// Lines, each with its newline; `now` is for ages.
    fn text(&self, now: Timestamp) -> String;
}

/// Stdout in the chosen format.
pub struct Output {
    format: Format,
}

impl Output {
    /// Prints in `format`.
    pub fn new(format: Format) -> Self {
        Self { format }
    }

    /// Prints an answer.
    pub fn report(&self, report: &impl Report) -> Result<(), Failure> {
        match self.format {
            Format::Table => self.raw(&report.text(clock::now())),
            Format::Json => {
                let text = serde_json::to_string_pretty(report).expect("the forms of the API are JSON");
                self.raw(&format!("{text}\n"))
            }
        }
    }

    /// Prints text as it is.
    pub fn raw(&self, text: &str) -> Result<(), Failure> {
        let mut out = anstream::stdout().lock();
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        written.map_err(|error| match error.kind() {
            std::io::ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => Failure::file("cannot write to the standard output", error),
        })
    }
}

/// A table with a heading and no lines; `none` instead of an empty one.
pub fn table(heading: &[&str], rows: impl IntoIterator<Item = Vec<String>>, none: &str) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(heading.iter().copied());
    let mut is_empty = true;
    for row in rows {
        is_empty = false;
        table.add_row(row.iter().map(|cell| crate::failure::one_line(cell)));
    }
    if is_empty {
        return format!("{none}\n");
    }
    let columns = heading.len();
    for column in 0..columns {
        let padding = (0, if column + 1 == columns { 0 } else { 2 });
        if let Some(column) = table.column_mut(column) {
            column.set_padding(padding);
        }
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n") + "\n"
}

/// Names and values, one a line, values aligned.
pub fn fields<const N: usize>(rows: [(&str, String); N]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter().map(|(name, value)| format!("{name:width$}  {}\n", crate::failure::one_line(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn columns_are_aligned_and_cells_stay_on_their_line() {
        let rows = vec![vec!["lyon".into(), "2".into()], vec!["a\nb".into(), "10".into()]];
        expect![[r#"
            SITE  NODES
            lyon  2
            a b   10
        "#]]
        .assert_eq(&table(&["SITE", "NODES"], rows, "no sites"));
        assert_eq!(table(&["SITE"], [], "no sites"), "no sites\n");
        assert_eq!(fields([("a", "1".into()), ("long", "2".into())]), "a     1\nlong  2\n");
    }
}
