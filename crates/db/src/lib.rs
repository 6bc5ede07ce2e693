//! The control database: one schema on SQLite (embedded) and PostgreSQL, one writer a process, a dense
//! change feed, and a lease that names the leader's term.
//!
//! Start with [`Db`], then [`objects`] (everything that has a name and a spec), [`control`] (units, tasks,
//! placements) and [`feed`]. SQL lives here and nowhere else; statements are one text for both databases.
//!
//! [`backup`] carries everything from one database to another; [`check`] says what contradicts itself.
//!
//! What it does not do: decide anything, or know what a spec means.

mod batch;
mod checkpoint;
mod conn;
mod error;
mod pages;
mod schema;
mod value;
mod write;

pub mod access;
pub mod audit;
pub mod backup;
pub mod blobs;
pub mod check;
pub mod control;
pub mod deliveries;
pub mod events;
pub mod feed;
pub mod leases;
pub mod objects;
pub mod versions;

pub use error::DbError;
pub use value::{Row, Value};
pub use write::{AsDbError, Change, Op, Tx};

use base::{Epoch, Seq, Time};
use conn::Conn;
use futures_util::future::BoxFuture;
use sqlx::postgres::PgConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

/// Writes that wait for the writer. A caller that finds it full waits.
const QUEUE_MAX: usize = 4_096;
/// Reads at once.
const READERS_MAX: usize = 8;
/// How long PostgreSQL waits for the next statement of a transaction. A writer holds the lock that all servers' writes
/// wait for: of one that was stopped, or whose machine has gone, it must be taken before the leader's lease ends.
const IN_TRANSACTION_MAX: Duration = Duration::from_secs(4);

/// Where the database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A file, made if it is missing.
    Sqlite(PathBuf),
    /// `postgres://user:password@host/database`.
    Postgres(String),
}

/// How to open a database.
#[derive(Clone)]
pub struct Config {
    /// Where it is.
    pub location: Location,
    /// The server's time.
    pub clock: Arc<dyn Fn() -> Time + Send + Sync>,
}

/// An open database. Cheap to clone; the last clone ends the writer.
#[derive(Clone)]
pub struct Db {
    config: Arc<Config>,
    writer: write::Writer,
    head: watch::Receiver<Seq>,
    readers: Arc<Readers>,
    _tasks: Arc<Ending>,
}

struct Ending(Vec<JoinHandle<()>>);

impl Drop for Ending {
    fn drop(&mut self) {
        // The writer ends by itself once its queue is closed; nothing waits in it.
        self.0.iter().for_each(JoinHandle::abort);
    }
}

struct Readers {
    idle: Mutex<Vec<Conn>>,
    permits: Semaphore,
}

impl Db {
    /// Opens the database and brings its schema up to date.
    pub async fn open(config: Config) -> Result<Db, DbError> {
        let config = Arc::new(config);
        let mut conn = open_conn(&config).await?;
        schema::migrate(&mut conn).await?;
        let rows = conn.fetch("SELECT seq FROM feed_head", &[]).await?;
        let seq = Seq(rows.first().map_or(Ok(0), |row| row.count(0))?);
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let (sender, head) = watch::channel(seq);
        #[expect(
            clippy::disallowed_methods,
            reason = "the handles are kept in the Db and end with it"
        )]
        let tasks = [
            tokio::spawn(write::run(Arc::clone(&config), conn, waiting, sender)),
            tokio::spawn(checkpoint::run(Arc::clone(&config), head.clone())),
        ];
        Ok(Db {
            config,
            writer: write::Writer { queue },
            head,
            readers: Arc::new(Readers {
                idle: Mutex::new(Vec::new()),
                permits: Semaphore::new(READERS_MAX),
            }),
            _tasks: Arc::new(Ending(tasks.into())),
        })
    }

    /// Runs a write in a transaction that it shares with others. It may run more than once, and must do all its
    /// reading through the transaction. With an epoch it fails unless that is the leader's present term.
    pub async fn write<F, T, E>(&self, epoch: Option<Epoch>, closure: F) -> Result<T, E>
    where
        F: for<'t, 'c> Fn(&'t mut Tx<'c>) -> BoxFuture<'t, Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: From<DbError> + AsDbError + Send + 'static,
    {
        self.writer.write(epoch, closure).await
    }

    /// Runs one reading statement.
    pub async fn fetch(&self, sql: &str, args: &[Value]) -> Result<Vec<Row>, DbError> {
        let _permit = self
            .readers
            .permits
            .acquire()
            .await
            .map_err(|_| DbError::Stopped)?;
        let idle = self.readers.idle.lock().await.pop();
        let mut conn = match idle {
            Some(conn) => conn,
            None => open_reader(&self.config).await?,
        };
        let rows = conn.fetch(sql, args).await;
        let usable = rows.as_ref().err().is_none_or(|error| !error.is_lost());
        if usable {
            self.readers.idle.lock().await.push(conn);
            return rows;
        }
        // A connection that idled while the database restarted: once more on a fresh one.
        let mut fresh = open_reader(&self.config).await?;
        let rows = fresh.fetch(sql, args).await?;
        self.readers.idle.lock().await.push(fresh);
        Ok(rows)
    }

    /// The feed's head as this process knows it; changes when a group of writes is committed here.
    pub fn head(&self) -> watch::Receiver<Seq> {
        self.head.clone()
    }

    /// Whether several servers may share it.
    pub fn is_shared(&self) -> bool {
        matches!(self.config.location, Location::Postgres(_))
    }
}

async fn open_conn(config: &Config) -> Result<Conn, DbError> {
    match &config.location {
        Location::Sqlite(path) => {
            // FULL: an acknowledged write survives a power failure; the group shares the cost of the sync.
            let options = SqliteConnectOptions::new()
                .filename(path)
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full)
                // See `checkpoint`.
                .pragma("wal_autocheckpoint", "0")
                .busy_timeout(Duration::from_secs(10))
                .foreign_keys(true);
            options
                .connect()
                .await
                .map(Conn::Sqlite)
                .map_err(DbError::Open)
        }
        Location::Postgres(url) => {
            let conn = PgConnection::connect(url).await.map_err(DbError::Open)?;
            let mut conn = Conn::Postgres(conn);
            let patience = IN_TRANSACTION_MAX.as_millis();
            conn.script(&format!(
                "SET idle_in_transaction_session_timeout = {patience}"
            ))
            .await?;
            Ok(conn)
        }
    }
}

async fn open_reader(config: &Config) -> Result<Conn, DbError> {
    match &config.location {
        Location::Sqlite(path) => {
            let options = SqliteConnectOptions::new()
                .filename(path)
                .read_only(true)
                .busy_timeout(Duration::from_secs(10));
            options
                .connect()
                .await
                .map(Conn::Sqlite)
                .map_err(DbError::Open)
        }
        Location::Postgres(_) => {
            let mut conn = open_conn(config).await?;
            conn.script("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
            Ok(conn)
        }
    }
}
