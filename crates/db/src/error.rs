//! Failures of the database.

use base::{Code, Epoch};

/// A failed call.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// It could not be opened.
    #[error("cannot open the database")]
    Open(#[source] sqlx::Error),
    /// A statement failed.
    #[error("a statement failed")]
    Query(#[source] sqlx::Error),
    /// A migration failed.
    #[error("cannot bring the schema to version {version}")]
    Migrate {
        /// To which version.
        version: i64,
        /// Why.
        #[source]
        source: Box<DbError>,
    },
    /// A newer server has used this database.
    #[error(
        "the database has schema version {found}; this program knows {known}: use a newer moonshot"
    )]
    TooNew {
        /// Found.
        found: i64,
        /// Known.
        known: i64,
    },
    /// The schema is older than this program's, which is asked only to read.
    #[error(
        "the database has schema version {found}, this program makes {known}: start its server once, which brings it up to date"
    )]
    TooOld {
        /// Found.
        found: i64,
        /// Known.
        known: i64,
    },
    /// A column holds something else than was written.
    #[error("column {at} should hold {wanted} and holds {found}")]
    Shape {
        /// Which column.
        at: usize,
        /// What it should hold.
        wanted: &'static str,
        /// What it holds.
        found: String,
    },
    /// Another server leads.
    #[error("epoch {ours} was superseded by epoch {held}")]
    Superseded {
        /// The caller's.
        ours: Epoch,
        /// The present one.
        held: Epoch,
    },
    /// The feed position is no longer kept.
    #[error("the change feed begins at {first}; list again")]
    Gone {
        /// The first position that is kept.
        first: u64,
    },
    /// Concurrent transactions contradicted each other too often.
    #[error("the transaction could not be ordered among others")]
    Serialization,
    /// The database is away.
    #[error("the database is away: {0}")]
    Unavailable(String),
    /// Its disk is full.
    #[error("the database's disk is full")]
    Full,
    /// The program is stopping.
    #[error("the database is closed")]
    Stopped,
}

impl DbError {
    /// The kind, for clients.
    pub fn code(&self) -> Code {
        match self {
            DbError::Superseded { .. } => Code::Conflict,
            DbError::Gone { .. } => Code::Gone,
            DbError::Full => Code::Exhausted,
            DbError::Open(_)
            | DbError::Serialization
            | DbError::Unavailable(_)
            | DbError::Stopped => Code::Unavailable,
            DbError::Query(_) if self.is_lost() => Code::Unavailable,
            DbError::Query(_)
            | DbError::Migrate { .. }
            | DbError::TooNew { .. }
            | DbError::TooOld { .. }
            | DbError::Shape { .. } => Code::Internal,
        }
    }

    /// Whether running the transaction again may help.
    pub(crate) fn is_serialization(&self) -> bool {
        match self {
            DbError::Serialization => true,
            DbError::Query(sqlx::Error::Database(error)) => {
                matches!(error.code().as_deref(), Some("40001" | "40P01"))
            }
            _ => false,
        }
    }

    /// Whether the connection or the database is gone or busy, so that a fresh connection may help.
    pub(crate) fn is_lost(&self) -> bool {
        match self {
            DbError::Unavailable(_) => true,
            DbError::Query(error) => match error {
                sqlx::Error::Io(_)
                | sqlx::Error::Tls(_)
                | sqlx::Error::Protocol(_)
                | sqlx::Error::WorkerCrashed => true,
                // PostgreSQL: connection exceptions, shutdown; SQLite: busy, locked, I/O, full, cannot open.
                sqlx::Error::Database(error) => error.code().is_some_and(|code| {
                    code.starts_with("08")
                        || code.starts_with("57P")
                        // The low byte is the kind; the rest says more (261: busy, recovering).
                        || (code.len() < 5
                            && code
                                .parse::<u32>()
                                .is_ok_and(|code| matches!(code & 0xff, 5 | 6 | 10 | 13 | 14)))
                }),
                _ => false,
            },
            _ => false,
        }
    }

    /// Whether another process holds SQLite's lock: it was waited for already.
    pub(crate) fn is_locked(&self) -> bool {
        matches!(self, DbError::Query(sqlx::Error::Database(error))
        if error.code().is_some_and(|code| {
            code.len() < 5 && code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 5 | 6))
        }))
    }

    /// Whether its disk is full.
    pub(crate) fn is_full(&self) -> bool {
        match self {
            DbError::Full => true,
            DbError::Query(sqlx::Error::Database(error)) => error.code().is_some_and(|code| {
                // SQLite: full; PostgreSQL: disk full.
                code == "53100"
                    || (code.len() < 5 && code.parse::<u32>().is_ok_and(|code| code & 0xff == 13))
            }),
            _ => false,
        }
    }

    /// Whether the statement contradicted a unique index: the name is taken.
    pub fn is_duplicate(&self) -> bool {
        matches!(self, DbError::Query(sqlx::Error::Database(error)) if error.is_unique_violation())
    }
}
