//! Carries SQLite's log of changes over into the database's file, beside the writer: a commit that did so itself
//! would now and then wait for two more syncs of the disk, and everybody in its group with it.

use crate::conn::Conn;
use crate::{Config, DbError, Location};
use base::Seq;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Changes after which it is done …
const CHANGES: u64 = 500;
/// … or at least this often: what the feed does not tell, such as leases, is written too.
const PERIOD: Duration = Duration::from_secs(10);
/// Between two at least, so that a busy database is not all the time at it.
const PAUSE: Duration = Duration::from_millis(200);
/// Pages of the log (256 MiB) at which writers are held up until all of it is carried over. Without that, a
/// reader at any time would let it grow for ever.
const PAGES_MAX: u64 = 65_536;

/// The task. It is ended from outside.
pub(crate) async fn run(config: Arc<Config>, mut head: watch::Receiver<Seq>) {
    if matches!(config.location, Location::Postgres(_)) {
        return;
    }
    let mut conn = None;
    loop {
        if let Err(error) = carry(&config, &mut conn).await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "the log of changes cannot be carried over now"
            );
            conn = None;
        }
        let done = head.borrow().0;
        let far = head.wait_for(|seq| seq.0 >= done + CHANGES);
        // Both ways lead to the same work.
        let _ = tokio::time::timeout(PERIOD, far).await.map(drop);
        tokio::time::sleep(PAUSE).await;
    }
}

async fn carry(config: &Config, kept: &mut Option<Conn>) -> Result<(), DbError> {
    let conn = match kept {
        Some(conn) => conn,
        None => kept.insert(crate::open_conn(config).await?),
    };
    // Answers whether it was hindered, the pages of the log, and those carried over.
    let rows = conn.fetch("PRAGMA wal_checkpoint(PASSIVE)", &[]).await?;
    let pages = rows.first().map_or(Ok(0), |row| row.int(1))?;
    if u64::try_from(pages).unwrap_or(0) > PAGES_MAX {
        conn.fetch("PRAGMA wal_checkpoint(RESTART)", &[]).await?;
    }
    Ok(())
}
