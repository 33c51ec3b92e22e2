//! Tables for people: columns as wide as what is in them, two spaces between them, no lines.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use std::fmt;

/// A table with a heading.
pub(crate) struct Columns(Table);

impl Columns {
    /// An empty table with these headings.
    pub(crate) fn new<const N: usize>(headings: [&str; N]) -> Self {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        // The terminal breaks lines that are too long; a table that is piped has no width.
        table.set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(headings);
        table.column_iter_mut().for_each(|column| {
            column.set_padding((0, 2));
        });
        Self(table)
    }

    /// Numbers stand on the right of this column.
    pub(crate) fn right(mut self, column: usize) -> Self {
        if let Some(column) = self.0.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        self
    }

    /// Adds a row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.0.add_row(cells);
    }
}

impl fmt::Display for Columns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.lines().map(|line| line.trim_end().to_owned()).collect();
        f.write_str(&lines.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let mut table = Columns::new(["name", "n", "text"]).right(1);
        table.row(["a longer name".into(), "7".into(), "\u{b5}s".into()]);
        table.row(["b".into(), "1234".into(), "end".into()]);
        let text = "name              n  text\n\
                    a longer name     7  \u{b5}s\n\
                    b              1234  end";
        assert_eq!(table.to_string(), text);
    }
}
