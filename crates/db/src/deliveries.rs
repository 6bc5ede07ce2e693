//! Jobs whose output is still to be delivered. How far each is stands in the Job itself; this only finds them.

use crate::{Db, DbError, Tx};
use base::Uid;

/// The most that are looked at at once; others wait for them.
const OPEN_MAX: i64 = 1_000;

/// A Job has something to deliver.
pub async fn add(tx: &mut Tx<'_>, job: Uid) -> Result<(), DbError> {
    let sql = "INSERT INTO deliveries (job) VALUES ($1) ON CONFLICT (job) DO NOTHING";
    tx.execute(sql, &[job.into()]).await.map(|_| ())
}

/// It was delivered, or never will be.
pub async fn remove(tx: &mut Tx<'_>, job: Uid) -> Result<(), DbError> {
    let sql = "DELETE FROM deliveries WHERE job = $1";
    tx.execute(sql, &[job.into()]).await.map(|_| ())
}

/// Those that are open, oldest first.
pub async fn open(db: &Db) -> Result<Vec<Uid>, DbError> {
    let sql = format!("SELECT job FROM deliveries ORDER BY job LIMIT {OPEN_MAX}");
    let rows = db.fetch(&sql, &[]).await?;
    rows.iter().map(|row| row.uid(0)).collect()
}
