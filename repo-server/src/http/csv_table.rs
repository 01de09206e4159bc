//! A CSV answer (RFC 4180) that a spreadsheet opens without running anything in it.

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

/// Media type of the answer.
const MEDIA_TYPE: &str = "text/csv; charset=utf-8; header=present";

/// A table that is being filled.
pub struct CsvTable(csv::Writer<Vec<u8>>);

impl CsvTable {
    /// A table with these columns.
    pub fn new<'a>(columns: impl Iterator<Item = &'a str>) -> Self {
        let writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
        let mut table = Self(writer);
        table.row(columns.map(str::to_owned));
        table
    }

    /// Adds a row. A cell that a spreadsheet would take for a formula begins with an apostrophe instead.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells = cells.into_iter().map(|cell| match cell.as_bytes().first() {
            Some(b'=' | b'+' | b'-' | b'@' | b'\t' | b'\r') => format!("'{cell}"),
            _ => cell,
        });
        self.0.write_record(cells).expect("rows have as many cells as there are columns, and memory does not fail");
    }

    /// The table's text.
    pub fn into_text(self) -> Vec<u8> {
        self.0.into_inner().expect("memory does not fail")
    }
}

impl IntoResponse for CsvTable {
    fn into_response(self) -> Response {
        ([(CONTENT_TYPE, MEDIA_TYPE)], self.into_text()).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_where_needed_and_no_cell_is_a_formula() {
        let mut table = CsvTable::new(["a", "b"].into_iter());
        table.row(["x,\"y\"".to_owned(), "=1+1".to_owned()]);
        assert_eq!(String::from_utf8(table.into_text()).unwrap(), "a,b\r\n\"x,\"\"y\"\"\",'=1+1\r\n");
    }
}
