//! Who leads: a row with a term, on the database's clock, renewed while the leader lives.

use crate::{Db, DbError, Row, Tx};
use base::{Epoch, Span};

/// A term as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// Who has it.
    pub holder: String,
    /// Its number.
    pub epoch: Epoch,
    /// How long it lasts unless it is renewed; none is left where it has ended.
    pub left: Span,
}

/// The last term, if there was one. A read alone: whoever waits for a term's end may look often.
pub async fn look(db: &Db, name: &str) -> Result<Option<Term>, DbError> {
    let clock = clock_sql(db.is_shared());
    let sql = format!("SELECT holder, epoch, until - ({clock}) FROM leases WHERE name = $1");
    let rows = db.fetch(&sql, &[name.into()]).await?;
    let term = |row: &Row| {
        Ok(Term {
            holder: row.text(0)?,
            epoch: Epoch(row.count(1)?),
            left: Span::from_ms(u64::try_from(row.int(2)?).unwrap_or(0)),
        })
    };
    rows.first().map(term).transpose()
}

/// Takes the lease or renews it; the term where `holder` has it now. A term changes hands only after it ended.
pub async fn acquire(
    db: &Db,
    name: &'static str,
    holder: &str,
    span: Span,
) -> Result<Option<Epoch>, DbError> {
    let holder = holder.to_owned();
    db.write(None, move |tx| {
        let holder = holder.clone();
        Box::pin(async move {
            tx.forget_epoch();
            let now = clock(tx).await?;
            let until = now + i64::try_from(span.as_ms()).unwrap_or(i64::MAX / 2);
            let row = tx
                .fetch_one(
                    "SELECT holder, epoch, until FROM leases WHERE name = $1",
                    &[name.into()],
                )
                .await?;
            let Some(row) = row else {
                let sql = "INSERT INTO leases (name, holder, epoch, until) VALUES ($1, $2, 1, $3)";
                tx.execute(sql, &[name.into(), holder.as_str().into(), until.into()])
                    .await?;
                return Ok(Some(Epoch(1)));
            };
            let (held_by, epoch, held_until) = (row.text(0)?, row.count(1)?, row.int(2)?);
            if held_by == holder && held_until > now {
                tx.execute(
                    "UPDATE leases SET until = $2 WHERE name = $1",
                    &[name.into(), until.into()],
                )
                .await?;
                return Ok(Some(Epoch(epoch)));
            }
            if held_until > now {
                return Ok(None);
            }
            let sql = "UPDATE leases SET holder = $2, epoch = $3, until = $4 WHERE name = $1";
            tx.execute(
                sql,
                &[
                    name.into(),
                    holder.as_str().into(),
                    (epoch + 1).into(),
                    until.into(),
                ],
            )
            .await?;
            Ok(Some(Epoch(epoch + 1)))
        })
    })
    .await
}

/// Ends whatever term is open. Only for a database that a single server can have open, by that server: the one
/// before is known to be gone, so its lease need not run out.
pub async fn clear(db: &Db, name: &'static str) -> Result<(), DbError> {
    db.write(None, move |tx| {
        Box::pin(async move {
            tx.forget_epoch();
            tx.execute(
                "UPDATE leases SET until = 0 WHERE name = $1",
                &[name.into()],
            )
            .await
            .map(|_| ())
        })
    })
    .await
}

/// Counts on from `highest`: an engine has seen that term, and the database has not (it was restored). Only for who
/// holds the lease now; the next term is a later one.
pub async fn skip_past(
    db: &Db,
    name: &'static str,
    holder: &str,
    highest: Epoch,
) -> Result<(), DbError> {
    let holder = holder.to_owned();
    db.write(None, move |tx| {
        let holder = holder.clone();
        Box::pin(async move {
            let sql = "UPDATE leases SET epoch = $3, until = 0 WHERE name = $1 AND holder = $2 AND epoch < $3";
            tx.execute(sql, &[name.into(), holder.as_str().into(), highest.into()])
                .await
                .map(|_| ())
        })
    })
    .await
}

/// Gives the lease up, so that another need not wait for its end.
pub async fn release(db: &Db, name: &'static str, holder: &str) -> Result<(), DbError> {
    let holder = holder.to_owned();
    db.write(None, move |tx| {
        let holder = holder.clone();
        Box::pin(async move {
            let sql = "UPDATE leases SET until = 0 WHERE name = $1 AND holder = $2";
            tx.execute(sql, &[name.into(), holder.as_str().into()])
                .await?;
            Ok(())
        })
    })
    .await
}

/// Milliseconds since 1970 on the database's clock.
async fn clock(tx: &mut Tx<'_>) -> Result<i64, DbError> {
    let sql = format!("SELECT {}", clock_sql(tx.is_postgres()));
    let row = tx.fetch_one(&sql, &[]).await?;
    row.map_or(Ok(0), |row| row.int(0))
}

fn clock_sql(postgres: bool) -> &'static str {
    if postgres {
        "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)"
    } else {
        "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
    }
}
