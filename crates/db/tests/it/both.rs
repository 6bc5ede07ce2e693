//! A fresh database of each kind for a case, and a clock that the case moves.

use base::{Generation, Seq, Time, Uid};
use db::objects::Object;
use db::{AsDbError, Config, Db, DbError, Location, Tx};
use futures_util::future::BoxFuture;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Runs each case on both databases.
macro_rules! both {
    ($($case:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() { super::$case(crate::both::Place::sqlite()).await; })*
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() { super::$case(crate::both::Place::postgres()).await; })*
        }
    };
}
pub(crate) use both;

/// Where a case's database is.
pub(crate) struct Place {
    pub(crate) location: Location,
    pub(crate) now: Arc<AtomicI64>,
    _dir: Option<tempfile::TempDir>,
}

/// The case's time at first.
pub(crate) const START: i64 = 1_800_000_000_000;

impl Place {
    pub(crate) fn sqlite() -> Place {
        let dir = tempfile::tempdir().unwrap();
        Place {
            location: Location::Sqlite(dir.path().join("moonshot.sqlite")),
            now: Arc::new(AtomicI64::new(START)),
            _dir: Some(dir),
        }
    }

    pub(crate) fn postgres() -> Place {
        Place::at(Location::Postgres(e2e::Postgres::shared().database()))
    }

    pub(crate) fn at(location: Location) -> Place {
        Place {
            location,
            now: Arc::new(AtomicI64::new(START)),
            _dir: None,
        }
    }

    /// Opens it, as one server process would.
    pub(crate) async fn open(&self) -> Db {
        Db::open(self.config()).await.unwrap()
    }

    pub(crate) fn config(&self) -> Config {
        let now = Arc::clone(&self.now);
        Config {
            location: self.location.clone(),
            clock: Arc::new(move || Time::from_ms(now.load(Ordering::Relaxed))),
        }
    }

    pub(crate) fn pass(&self, ms: i64) {
        self.now.fetch_add(ms, Ordering::Relaxed);
    }
}

/// A new uid.
pub(crate) fn uid() -> Uid {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    Uid::v7(Time::from_ms(START), u128::from(n) << 20)
}

/// A small object.
pub(crate) fn object(name: &str) -> Object {
    Object {
        uid: uid(),
        kind: "Job".to_owned(),
        tenant: "default".to_owned(),
        project: "default".to_owned(),
        cluster: String::new(),
        name: name.to_owned(),
        owner: "ada".to_owned(),
        creator: "ada".to_owned(),
        generation: Generation(1),
        seq: Seq(0),
        phase: "Queued".to_owned(),
        spec: json!({"command": ["true"], "note": "ünïcode \u{1F680}"}),
        desired: json!({}),
        status: json!({"phase": "Queued"}),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        created_at: Time::from_ms(START),
        updated_at: Time::from_ms(START),
        deleted_at: None,
        finished_at: None,
        is_current: true,
    }
}

/// Inserts an object in a write of its own.
pub(crate) async fn insert(db: &Db, object: Object) -> Result<Seq, DbError> {
    db.write(None, move |tx| {
        let object = object.clone();
        Box::pin(async move { db::objects::insert(tx, &object).await })
    })
    .await
}

/// A write whose closure needs one argument that can be cloned.
pub(crate) async fn with<A, T, E>(
    db: &Db,
    argument: A,
    closure: for<'t, 'c> fn(&'t mut Tx<'c>, A) -> BoxFuture<'t, Result<T, E>>,
) -> Result<T, E>
where
    A: Clone + Send + Sync + 'static,
    T: Send + 'static,
    E: From<DbError> + AsDbError + Send + 'static,
{
    db.write(None, move |tx| closure(tx, argument.clone()))
        .await
}
