//! Comma-separated tables with a header. The traces quote nothing, so no quoting is read.

use crate::data::DataError;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A table in memory.
pub(crate) struct Table {
    path: PathBuf,
    header: Vec<String>,
    text: String,
}

/// One line of a table.
pub(crate) struct Line<'a> {
    table: &'a Table,
    number: usize,
    cells: Vec<&'a str>,
}

impl Table {
    pub(crate) fn read(path: &Path) -> Result<Self, DataError> {
        let text = std::fs::read_to_string(path).map_err(|source| DataError::Read {
            path: path.to_owned(),
            source,
        })?;
        let header = text.lines().next().unwrap_or("").split(',');
        Ok(Self {
            path: path.to_owned(),
            header: header.map(|name| name.trim().to_owned()).collect(),
            text,
        })
    }

    pub(crate) fn has(&self, column: &str) -> bool {
        self.header.iter().any(|name| name == column)
    }

    pub(crate) fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        let numbered = self.text.lines().enumerate().skip(1);
        let full = numbered.filter(|(_, line)| !line.trim().is_empty());
        full.map(|(at, line)| Line {
            table: self,
            number: at + 1,
            cells: line.split(',').map(str::trim).collect(),
        })
    }
}

impl Line<'_> {
    pub(crate) fn text(&self, column: &str) -> Result<&str, DataError> {
        let at = self.table.header.iter().position(|name| name == column);
        let at = at.ok_or_else(|| DataError::Column {
            path: self.table.path.clone(),
            column: column.to_owned(),
        })?;
        self.cells.get(at).copied().ok_or_else(|| DataError::Row {
            path: self.table.path.clone(),
            line: self.number,
            cells: self.cells.len(),
            columns: self.table.header.len(),
        })
    }

    pub(crate) fn number<T: FromStr>(&self, column: &str) -> Result<T, DataError> {
        let text = self.text(column)?;
        text.parse().map_err(|_| self.bad(column, text))
    }

    /// The error for a cell that does not hold what its column says.
    pub(crate) fn bad(&self, column: &str, text: &str) -> DataError {
        DataError::Cell {
            path: self.table.path.clone(),
            line: self.number,
            column: column.to_owned(),
            text: text.to_owned(),
        }
    }
}
