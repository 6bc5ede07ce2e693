//! The writer: one task a process groups waiting writes into one transaction, numbers their changes densely in
//! commit order, commits once, then answers all of them. A write that refuses leaves nothing behind: nearly all
//! refuse before they have written anything; where one had, the group runs again with a savepoint for each.
//!
//! On PostgreSQL a group begins by locking the feed's head, before its first query, so that the snapshot
//! follows the wait and several servers' groups are ordered; a serialization failure runs the group again.
//! Closures may therefore run more than once.

use crate::batch;
use crate::conn::Conn;
use crate::{Config, DbError, Row, Value};
use base::{Epoch, Seq, Time, Uid};
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// Writes that share a commit at most.
const GROUP_MAX: usize = 256;
/// Times a group is run again after a serialization failure.
const RERUNS_MAX: usize = 10;
/// Times a lost connection is opened again for one group, with growing pauses (in all about 6 s).
const REOPENS_MAX: u32 = 6;

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// It is new or changed.
    Put,
    /// It is gone.
    Delete,
}

/// One entry of the change feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its place.
    pub seq: Seq,
    /// The object's kind.
    pub kind: String,
    /// The object.
    pub uid: Uid,
    /// Its project; empty for wider scopes.
    pub project: String,
    /// Its name.
    pub name: String,
    /// What happened.
    pub op: Op,
}

/// A write under way.
pub struct Tx<'c> {
    conn: &'c mut Conn,
    now: Time,
    head: u64,
    changes: Vec<Change>,
    /// The leader's term, once it was read in this transaction.
    held: Option<Epoch>,
    /// Whether the present write may have left something in the transaction.
    is_dirty: bool,
}

impl Tx<'_> {
    /// Runs a statement; how many rows it changed.
    pub async fn execute(&mut self, sql: &str, args: &[Value]) -> Result<u64, DbError> {
        self.is_dirty = true;
        self.conn.execute(sql, args).await
    }

    /// Runs a statement and reads all its rows.
    pub async fn fetch(&mut self, sql: &str, args: &[Value]) -> Result<Vec<Row>, DbError> {
        let rows = self.conn.fetch(sql, args).await;
        // PostgreSQL ends a transaction in which a statement failed.
        self.is_dirty |= rows.is_err() || !sql.starts_with("SELECT");
        rows
    }

    /// Runs a statement and reads its first row.
    pub async fn fetch_one(&mut self, sql: &str, args: &[Value]) -> Result<Option<Row>, DbError> {
        Ok(self.fetch(sql, args).await?.into_iter().next())
    }

    /// Which database this is.
    pub(crate) fn is_postgres(&self) -> bool {
        self.conn.is_postgres()
    }

    /// The group's time.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Puts an entry into the change feed; its sequence number.
    pub fn change(&mut self, kind: &str, uid: Uid, project: &str, name: &str, op: Op) -> Seq {
        let seq = Seq(self.head + self.changes.len() as u64 + 1);
        let (kind, project, name) = (kind.to_owned(), project.to_owned(), name.to_owned());
        self.changes.push(Change {
            seq,
            kind,
            uid,
            project,
            name,
            op,
        });
        seq
    }

    /// Fails unless `epoch` is the leader's present term.
    pub async fn check_epoch(&mut self, epoch: Epoch) -> Result<(), DbError> {
        let held = match self.held {
            Some(held) => held,
            None => {
                let row = self
                    .fetch_one("SELECT epoch FROM leases WHERE name = 'leader'", &[])
                    .await?;
                Epoch(row.map_or(Ok(0), |row| row.count(0))?)
            }
        };
        self.held = Some(held);
        if held == epoch {
            Ok(())
        } else {
            Err(DbError::Superseded { ours: epoch, held })
        }
    }

    /// A lease changes: the term is read again before it is relied on.
    pub(crate) fn forget_epoch(&mut self) {
        self.held = None;
    }
}

/// A write whose result type is forgotten.
pub(crate) trait Write: Send {
    fn run<'t>(&'t mut self, tx: &'t mut Tx<'_>) -> BoxFuture<'t, Ran>;
    fn answer(self: Box<Self>, group: Result<(), DbError>);
}

/// How a closure ended.
pub(crate) enum Ran {
    Well,
    /// It refused; its savepoint is undone and the others go on.
    Refused,
    /// The whole group must run again.
    Serialization,
    /// The connection is gone.
    Lost,
    /// The disk is full: nothing of the group can be committed.
    Full,
}

struct Closure<F, T, E> {
    closure: F,
    epoch: Option<Epoch>,
    result: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, E>>,
}

impl<F, T, E> Write for Closure<F, T, E>
where
    F: for<'t, 'c> Fn(&'t mut Tx<'c>) -> BoxFuture<'t, Result<T, E>> + Send,
    T: Send,
    E: From<DbError> + AsDbError + Send,
{
    fn run<'t>(&'t mut self, tx: &'t mut Tx<'_>) -> BoxFuture<'t, Ran> {
        Box::pin(async move {
            let result = match self.epoch {
                Some(epoch) => match tx.check_epoch(epoch).await {
                    Ok(()) => (self.closure)(tx).await,
                    Err(error) => Err(error.into()),
                },
                None => (self.closure)(tx).await,
            };
            let ran = match &result {
                Ok(_) => Ran::Well,
                Err(error) => match error.as_db_error() {
                    Some(error) if error.is_serialization() => Ran::Serialization,
                    Some(error) if error.is_full() => Ran::Full,
                    Some(error) if error.is_lost() => Ran::Lost,
                    _ => Ran::Refused,
                },
            };
            self.result = Some(result);
            ran
        })
    }

    fn answer(self: Box<Self>, group: Result<(), DbError>) {
        let result = match (group, self.result) {
            (Ok(()), Some(result)) | (Err(_), Some(result @ Err(_))) => result,
            (Err(error), _) => Err(error.into()),
            (Ok(()), None) => Err(DbError::Stopped.into()),
        };
        // Whoever asked may have gone; the write stands.
        let _ = self.reply.send(result);
    }
}

/// Errors that may carry a database's error, so that the writer can tell a failure of the database from a refusal.
pub trait AsDbError {
    /// The database's error, if it is one.
    fn as_db_error(&self) -> Option<&DbError>;
}

impl AsDbError for DbError {
    fn as_db_error(&self) -> Option<&DbError> {
        Some(self)
    }
}

/// Sends writes to the writer.
#[derive(Clone)]
pub(crate) struct Writer {
    pub(crate) queue: mpsc::Sender<Box<dyn Write>>,
}

impl Writer {
    pub(crate) async fn write<F, T, E>(&self, epoch: Option<Epoch>, closure: F) -> Result<T, E>
    where
        F: for<'t, 'c> Fn(&'t mut Tx<'c>) -> BoxFuture<'t, Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: From<DbError> + AsDbError + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let write = Box::new(Closure {
            closure,
            epoch,
            result: None,
            reply,
        });
        self.queue
            .send(write)
            .await
            .map_err(|_| E::from(DbError::Stopped))?;
        answer
            .await
            .unwrap_or_else(|_| Err(DbError::Stopped.into()))
    }
}

/// The task. Ends when the last sender is gone.
pub(crate) async fn run(
    config: Arc<Config>,
    mut conn: Conn,
    mut queue: mpsc::Receiver<Box<dyn Write>>,
    head: watch::Sender<Seq>,
) {
    let mut group = Vec::new();
    while queue.recv_many(&mut group, GROUP_MAX).await > 0 {
        let outcome = commit(&config, &mut conn, &mut group).await;
        let (writes, result) = (std::mem::take(&mut group), outcome);
        match result {
            Ok(seq) => {
                head.send_if_modified(|held| {
                    let newer = seq > *held;
                    *held = seq.max(*held);
                    newer
                });
                for write in writes {
                    write.answer(Ok(()));
                }
            }
            Err(error) => {
                let text = error.to_string();
                tracing::warn!(error = %text, "a group of writes failed");
                for write in writes {
                    write.answer(Err(match error {
                        DbError::Full => DbError::Full,
                        _ => DbError::Unavailable(text.clone()),
                    }));
                }
            }
        }
    }
    conn.close().await;
}

async fn commit(
    config: &Config,
    conn: &mut Conn,
    group: &mut [Box<dyn Write>],
) -> Result<Seq, DbError> {
    let mut reruns = 0;
    let mut reopens = 0;
    let mut savepoints = false;
    loop {
        let mut committing = None;
        match attempt(config, conn, group, savepoints, &mut committing).await {
            Ok(Some(seq)) => return Ok(seq),
            Ok(None) => savepoints = true,
            Err(error) if error.is_serialization() && reruns < RERUNS_MAX => {
                reruns += 1;
                // The connection may have ended the transaction itself.
                let _ = conn.script("ROLLBACK").await;
            }
            Err(error) if error.is_full() => {
                // A fresh connection finds the same disk.
                let _ = conn.script("ROLLBACK").await;
                return Err(DbError::Full);
            }
            Err(error) if error.is_locked() => {
                // A fresh connection would wait for the same lock: whoever waits is told instead.
                let _ = conn.script("ROLLBACK").await;
                return Err(DbError::Unavailable(
                    "another process holds the lock of the database's file".to_owned(),
                ));
            }
            Err(error) if reopens < REOPENS_MAX => {
                tracing::info!(
                    error = &error as &dyn std::error::Error,
                    "opening the database again"
                );
                tokio::time::sleep(Duration::from_millis(100 << reopens)).await;
                reopens += 1;
                if let Ok(fresh) = crate::open_conn(config).await {
                    *conn = fresh;
                }
                if let Some((seq, transaction)) = committing
                    && was_committed(config, conn, transaction).await?
                {
                    return Ok(seq);
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// Runs a group once. `None` where it was undone because a write refused that had written: with savepoints that
/// cannot be.
async fn attempt(
    config: &Config,
    conn: &mut Conn,
    group: &mut [Box<dyn Write>],
    savepoints: bool,
    committing: &mut Option<(Seq, i64)>,
) -> Result<Option<Seq>, DbError> {
    if conn.is_postgres() {
        conn.script("BEGIN ISOLATION LEVEL SERIALIZABLE; LOCK TABLE feed_head IN EXCLUSIVE MODE")
            .await?;
    } else {
        conn.script("BEGIN IMMEDIATE").await?;
    }
    let rows = conn.fetch("SELECT seq FROM feed_head", &[]).await?;
    let head = rows.first().map_or(Ok(0), |row| row.count(0))?;
    let mut tx = Tx {
        conn,
        now: (config.clock)(),
        head,
        changes: Vec::new(),
        held: None,
        is_dirty: false,
    };
    let is_alone = group.len() == 1;
    for write in group.iter_mut() {
        let n_changes = tx.changes.len();
        tx.is_dirty = false;
        if savepoints {
            tx.conn.script("SAVEPOINT one").await?;
        }
        match write.run(&mut tx).await {
            Ran::Well if savepoints => tx.conn.script("RELEASE SAVEPOINT one").await?,
            Ran::Well => {}
            Ran::Refused => {
                tx.changes.truncate(n_changes);
                if savepoints {
                    tx.forget_epoch();
                    tx.conn
                        .script("ROLLBACK TO SAVEPOINT one; RELEASE SAVEPOINT one")
                        .await?;
                } else if tx.is_dirty {
                    tx.conn.script("ROLLBACK").await?;
                    return Ok(is_alone.then_some(Seq(head)));
                }
            }
            Ran::Serialization => return Err(DbError::Serialization),
            Ran::Full => return Err(DbError::Full),
            Ran::Lost => return Err(DbError::Unavailable("the connection was lost".to_owned())),
        }
    }
    let changes = std::mem::take(&mut tx.changes);
    let seq = Seq(head + changes.len() as u64);
    insert_changes(&mut tx, &changes).await?;
    if !changes.is_empty() {
        let sql = if conn.is_postgres() {
            "UPDATE feed_head SET seq = $1 RETURNING CAST(txid_current() AS BIGINT)"
        } else {
            "UPDATE feed_head SET seq = $1 RETURNING 0"
        };
        let rows = conn.fetch(sql, &[seq.into()]).await?;
        if conn.is_postgres() {
            let transaction = rows.first().map_or(Ok(0), |row| row.int(0))?;
            *committing = Some((seq, transaction));
        }
    }
    conn.script("COMMIT").await?;
    Ok(Some(seq))
}

/// Whether a transaction whose `COMMIT` was not answered was committed. To run it again would refuse callers
/// what they have done. Tries as often as a group does.
async fn was_committed(
    config: &Config,
    conn: &mut Conn,
    transaction: i64,
) -> Result<bool, DbError> {
    let mut last = DbError::Unavailable("the connection was lost".to_owned());
    for n in 0..=REOPENS_MAX {
        match conn
            .fetch("SELECT txid_status($1)", &[transaction.into()])
            .await
            .and_then(|rows| rows.first().map_or(Ok(String::new()), |row| row.text(0)))
        {
            Ok(word) if word == "committed" => return Ok(true),
            Ok(word) if word == "aborted" => return Ok(false),
            // Its session has not noticed yet.
            Ok(_) => {}
            Err(error) => {
                last = error;
                if let Ok(fresh) = crate::open_conn(config).await {
                    *conn = fresh;
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(100 << n)).await;
    }
    Err(last)
}

async fn insert_changes(tx: &mut Tx<'_>, changes: &[Change]) -> Result<(), DbError> {
    let now = tx.now;
    let row = |change: &Change| -> [Value; 7] {
        let op = match change.op {
            Op::Put => "put",
            Op::Delete => "delete",
        };
        [
            change.seq.into(),
            change.kind.as_str().into(),
            change.uid.into(),
            change.project.as_str().into(),
            change.name.as_str().into(),
            op.into(),
            now.into(),
        ]
    };
    let rows: Vec<[Value; 7]> = changes.iter().map(row).collect();
    let table = "changes (seq, kind, uid, project, name, op, at)";
    batch::insert(tx, table, &rows, "").await
}
