//! Where public traces lie, and how their tables are read.

use std::path::{Path, PathBuf};
use thiserror::Error;

/// A trace that could not be read.
#[derive(Debug, Error)]
pub enum DataError {
    /// The file could not be opened.
    #[error("could not read `{path}`")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A column is missing.
    #[error("`{path}` has no column `{column}`")]
    Column {
        /// Which file.
        path: PathBuf,
        /// Which column.
        column: String,
    },
    /// A row is cut short.
    #[error("`{path}` line {line} has {cells} cells; the header has {columns}")]
    Row {
        /// Which file.
        path: PathBuf,
        /// Line from 1.
        line: usize,
        /// How many it has.
        cells: usize,
        /// How many the header has.
        columns: usize,
    },
    /// A cell does not hold what its column says.
    #[error("`{path}` line {line}: `{text}` is not a value of column `{column}`")]
    Cell {
        /// Which file.
        path: PathBuf,
        /// Line from 1.
        line: usize,
        /// Which column.
        column: String,
        /// What stands there.
        text: String,
    },
}

/// The folder of traces: `MOONSHOT_DATA`, else `../shared/data` beside the repository; `None` where
/// there is none.
pub fn data_dir() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let dir = std::env::var_os("MOONSHOT_DATA").map_or(root, PathBuf::from);
    dir.is_dir().then_some(dir)
}
