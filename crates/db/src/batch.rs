//! Statements of many rows. Their sizes are powers of two, so that few texts are prepared and kept, whatever the
//! number of rows.

use crate::{Db, DbError, Row, Tx, Value};
use base::Uid;
use std::fmt::Write as _;

/// Rows of one statement at most: 64 of the widest table's have 1,216 arguments, far below either database's bound.
const ROWS_MAX: usize = 64;

/// The rows in pieces, the largest first.
pub(crate) fn batches<T>(rows: &[T]) -> impl Iterator<Item = &[T]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let n = 1 << rest.len().checked_ilog2()?;
        let (batch, after) = rest.split_at(ROWS_MAX.min(n));
        rest = after;
        Some(batch)
    })
}

/// `VALUES ($1, $2), ($3, $4)`. In a `FROM` both databases name the columns `column1`, `column2`. SQLite looks a numbered
/// place up by its name, among all others and each time, so there they have none: these are a statement's only places.
pub(crate) fn values(tx: &Tx<'_>, n_rows: usize, width: usize) -> String {
    places(tx.is_postgres(), n_rows, width)
}

fn places(numbered: bool, n_rows: usize, width: usize) -> String {
    let mut text = String::from("VALUES ");
    for row in 0..n_rows {
        text.push_str(if row == 0 { "(" } else { ", (" });
        for at in 1..=width {
            text.push_str(if at == 1 { "" } else { ", " });
            if numbered {
                let _ = write!(text, "${}", row * width + at);
            } else {
                text.push('?');
            }
        }
        text.push(')');
    }
    text
}

/// Inserts rows into `table (column, …)`; `then` is what follows the values, such as `ON CONFLICT DO NOTHING`.
pub(crate) async fn insert<const WIDTH: usize>(
    tx: &mut Tx<'_>,
    table: &str,
    rows: &[[Value; WIDTH]],
    then: &str,
) -> Result<(), DbError> {
    for batch in batches(rows) {
        let values = values(tx, batch.len(), WIDTH);
        let sql = format!("INSERT INTO {table} {values} {then}");
        tx.execute(&sql, batch.as_flattened()).await?;
    }
    Ok(())
}

/// Reads outside a transaction: the rows of `sql` that end with a column, for these uids.
pub(crate) async fn fetch_of(db: &Db, sql: &str, uids: &[Uid]) -> Result<Vec<Row>, DbError> {
    let mut rows = Vec::with_capacity(uids.len());
    for some in batches(uids) {
        let places: Vec<String> = (1..=some.len()).map(|at| format!("${at}")).collect();
        let args: Vec<Value> = some.iter().map(|uid| Value::from(*uid)).collect();
        let sql = format!("{sql} IN ({})", places.join(", "));
        rows.extend(db.fetch(&sql, &args).await?);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_sizes_make_any_number() {
        let sizes = |n: usize| {
            let rows: Vec<usize> = (0..n).collect();
            let sizes: Vec<usize> = batches(&rows).map(<[usize]>::len).collect();
            let all: Vec<usize> = batches(&rows).flatten().copied().collect();
            assert_eq!(all, rows);
            sizes
        };
        assert_eq!(sizes(0), [0_usize; 0]);
        assert_eq!(sizes(1), [1]);
        assert_eq!(sizes(7), [4, 2, 1]);
        assert_eq!(sizes(200), [64, 64, 64, 8]);
    }

    #[test]
    fn places_are_numbered_through() {
        assert_eq!(places(true, 2, 3), "VALUES ($1, $2, $3), ($4, $5, $6)");
        assert_eq!(places(false, 2, 3), "VALUES (?, ?, ?), (?, ?, ?)");
    }
}
