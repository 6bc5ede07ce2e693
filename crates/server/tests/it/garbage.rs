//! Garbage collection on a real database and a real directory, with a clock that the test moves, and collectors that
//! die between any two of their steps. Nothing that somebody needs is ever collected; everything else goes.

use crate::engine::Words;
use base::{Code, Digest, Span, Time, Uid};
use db::blobs::{self, State};
use db::objects::{self, Object};
use e2e::Dice;
use serde_json::json;
use server::control::{
    Control, admit::Admit, collector, dirty::Dirty, foreign::Foreign, scheduler,
};
use server::platform::{Clock, Hosts, LogBounds, Parts, Platform};
use server::usecase::{apply, content};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::SystemTime;
use store::TenantPath;
use tokio_util::sync::CancellationToken;

const START: i64 = 1_800_000_000_000;
const GRACE: Span = Span::from_secs(3_600);
const STEPS: usize = 400;
const CONTENTS: u64 = 14;
const HOLDERS: u64 = 5;

struct Moved(Arc<AtomicI64>);

impl Clock for Moved {
    fn now(&self) -> Time {
        Time::from_ms(self.0.load(Ordering::Relaxed))
    }
}

struct Bench {
    now: Arc<AtomicI64>,
    platform: Arc<Platform>,
    control: Control,
    project: TenantPath,
    _dir: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let now = Arc::new(AtomicI64::new(START));
        let db_now = Arc::clone(&now);
        let db = db::Db::open(db::Config {
            location: db::Location::Sqlite(dir.path().join("db.sqlite")),
            clock: Arc::new(move || Time::from_ms(db_now.load(Ordering::Relaxed))),
        })
        .await
        .unwrap();
        let clock: Arc<dyn Clock> = Arc::new(Moved(Arc::clone(&now)));
        let platform = Arc::new(Platform::new(Parts {
            db,
            store: store::Store::directory(&dir.path().join("store")).unwrap(),
            content_grace: GRACE,
            model_sources: Vec::new(),
            logs: logs::Logs::open(dir.path().join("logs")).unwrap(),
            dropped: Arc::default(),
            log_bounds: LogBounds {
                kept: GRACE,
                bytes: base::Bytes(1 << 20),
            },
            sched_log: None,
            engine: Arc::new(Words::default()),
            cluster: "local".to_owned(),
            clock: Arc::clone(&clock),
            venvs: server::control::venv::Venvs::new(dir.path().join("environments")),
            key: vec![7; 32],
            gateway_url: String::new(),
            console_url: None,
            console: None,
            hosts: Hosts::default(),
            node_lost_after: GRACE,
            stop: CancellationToken::new(),
        }));
        apply::seed(&platform).await.unwrap();
        let lease =
            db::leases::acquire(&platform.db, "leader", "me", Span::from_secs(86_400 * 365));
        let epoch = lease.await.unwrap().unwrap();
        let (jobs, apps) = (Dirty::default(), Dirty::default());
        let pods = Foreign::default();
        let admit = Arc::new(Admit {
            db: platform.db.clone(),
            cluster: "local".to_owned(),
            clock: Arc::clone(&clock),
            jobs: jobs.clone(),
            apps: apps.clone(),
            pods: pods.groups.clone(),
        });
        let core = server::control::sched_log::Recorded::new(
            sched::Config::standard(),
            None,
            base::Epoch(1),
        );
        let (handle, _loop) = scheduler::new(core, admit, clock, epoch);
        let control = Control::new(&platform, handle, jobs, apps, pods, epoch);
        Bench {
            now,
            platform,
            control,
            project: TenantPath::new("default").unwrap(),
            _dir: dir,
        }
    }

    async fn put(&self, bytes: &[u8]) -> Digest {
        let (db, store) = (&self.platform.db, &self.platform.store);
        let kept = content::put(db, store, "default", bytes, None, None).await;
        kept.unwrap().digest
    }

    async fn state(&self, digest: Digest) -> State {
        let state: Result<State, db::DbError> = self
            .platform
            .db
            .write(None, move |tx| {
                Box::pin(async move { blobs::state(tx, "default", digest).await })
            })
            .await;
        state.unwrap()
    }

    /// Begins to need content, as a use case does: only what can be had.
    async fn hold(&self, digest: Digest, holder: Uid) -> bool {
        let held: Result<bool, db::DbError> = self
            .platform
            .db
            .write(None, move |tx| {
                Box::pin(async move {
                    if !blobs::touch(tx, "default", digest).await? {
                        return Ok(false);
                    }
                    blobs::hold(tx, "default", digest, holder, "test").await?;
                    Ok(true)
                })
            })
            .await;
        held.unwrap()
    }

    /// The holder goes with all that it needed.
    async fn release(&self, holder: Uid) {
        let released: Result<(), db::DbError> = self
            .platform
            .db
            .write(None, move |tx| {
                Box::pin(async move { objects::remove(tx, &nobody(holder)).await })
            })
            .await;
        released.unwrap();
    }

    /// A collector that dies: after it doomed, or after it removed bytes and before it forgot rows.
    async fn half_a_round(&self, removes: bool) {
        let before = self.control.now() - GRACE;
        let doomed: Result<Vec<blobs::Blob>, db::DbError> = self
            .platform
            .db
            .write(None, move |tx| {
                Box::pin(async move {
                    blobs::doom(tx, before).await?;
                    blobs::doomed(tx).await
                })
            })
            .await;
        for blob in doomed.unwrap().iter().filter(|_| removes) {
            let removed = self
                .platform
                .store
                .remove(&self.project, &blob.digest)
                .await;
            removed.unwrap();
        }
    }

    async fn round(&self) -> collector::Round {
        let all: Vec<u8> = (0..=u8::MAX).collect();
        collector::round(&self.control, GRACE, &all).await.unwrap()
    }

    async fn in_store(&self) -> BTreeSet<Digest> {
        let mut found = BTreeSet::new();
        for shard in 0..=u8::MAX {
            let entries = self
                .platform
                .store
                .list(&self.project, shard)
                .await
                .unwrap();
            found.extend(entries.iter().map(|entry| entry.digest));
        }
        found
    }
}

fn nobody(uid: Uid) -> Object {
    Object {
        uid,
        kind: "Job".to_owned(),
        tenant: String::new(),
        project: "default".to_owned(),
        cluster: String::new(),
        name: "x".to_owned(),
        owner: String::new(),
        creator: String::new(),
        generation: base::Generation(1),
        seq: base::Seq(0),
        phase: String::new(),
        spec: json!({}),
        desired: json!({}),
        status: json!({}),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        created_at: Time::from_ms(0),
        updated_at: Time::from_ms(0),
        deleted_at: None,
        finished_at: None,
        is_current: false,
    }
}

fn bytes(n: u64) -> Vec<u8> {
    format!("content {n} {}", "x".repeat(n as usize * 100)).into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_needed_is_collected_and_everything_else_goes() {
    let bench = Bench::new().await;
    let mut dice = Dice::new();
    let mut held: BTreeMap<Digest, BTreeSet<Uid>> = BTreeMap::new();
    let mut known: Vec<Digest> = Vec::new();
    for step in 0..STEPS {
        match dice.below(8) {
            0 | 1 => {
                let n = dice.below(CONTENTS);
                let (db, store) = (&bench.platform.db, &bench.platform.store);
                let put = content::put(db, store, "default", &bytes(n)[..], None, None).await;
                match put {
                    Ok(kept) => known.push(kept.digest),
                    // Sent again while it is just being removed.
                    Err(error) => assert_eq!(error.problem().status, 503, "step {step}: {error}"),
                }
            }
            2 if !known.is_empty() => {
                let digest = known[dice.below(known.len() as u64) as usize];
                let holder = Uid(u128::from(1 + dice.below(HOLDERS)));
                if bench.hold(digest, holder).await {
                    held.entry(digest).or_default().insert(holder);
                }
            }
            3 => {
                let holder = Uid(u128::from(1 + dice.below(HOLDERS)));
                bench.release(holder).await;
                held.retain(|_, holders| {
                    holders.remove(&holder);
                    !holders.is_empty()
                });
            }
            4 => {
                bench
                    .now
                    .fetch_add(dice.below(2 * 3_600_000) as i64, Ordering::Relaxed);
            }
            5 => bench.half_a_round(dice.below(2) == 0).await,
            _ => {
                bench.round().await;
            }
        }
        for digest in held.keys() {
            assert_eq!(
                bench.state(*digest).await,
                State::Kept,
                "step {step}: {digest}"
            );
            let read = bench.platform.store.size(&bench.project, digest).await;
            assert!(read.is_ok(), "step {step}: {digest} is needed and gone");
        }
    }
    bench.now.fetch_add(2 * 3_600_000, Ordering::Relaxed);
    bench.round().await;
    let needed: BTreeSet<Digest> = held.into_keys().collect();
    assert_eq!(bench.in_store().await, needed);
    let totals = blobs::totals(&bench.platform.db).await.unwrap();
    let kept: u64 = totals.values().sum();
    let project = objects::read(&bench.platform.db, "Project", "", "default")
        .await
        .unwrap()
        .unwrap();
    let stored: base::Bytes = serde_json::from_value(project.status["stored"].clone()).unwrap();
    assert_eq!(stored.0, kept, "the project says what it keeps");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_nobody_wrote_down_go_once_they_are_old() {
    let bench = Bench::new().await;
    // A server that died between the two.
    let kept = bench
        .platform
        .store
        .put(&bench.project, &b"lost"[..], 10, None)
        .await
        .unwrap();
    let written = bench.put(b"written down").await;
    assert_eq!(
        bench.round().await,
        collector::Round::default(),
        "they are young"
    );
    for digest in [kept.digest, written] {
        let path = bench
            .platform
            .store
            .fetch(&bench.project, &digest)
            .await
            .unwrap();
        let file = std::fs::File::options().append(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - 2 * GRACE.as_std())
            .unwrap();
    }
    let done = bench.round().await;
    assert_eq!((done.unknown, done.removed, done.bytes), (1, 1, 4));
    assert_eq!(bench.in_store().await, BTreeSet::from([written]));
    // It can be kept again.
    assert_eq!(bench.put(b"lost").await, kept.digest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_environment_stays_as_long_as_somebody_has_pinned_it() {
    let bench = Bench::new().await;
    let caller = server::usecase::Caller {
        actor: apply::system(),
        request: "test".to_owned(),
    };
    let put = async |kind: &str, spec: serde_json::Value| {
        let object = json!({"apiVersion": "moonshot/v1", "kind": kind,
            "metadata": {"name": "one", "project": "default"}, "spec": spec});
        let object = serde_json::from_value(object).unwrap();
        let applied = apply::apply(&bench.platform, &caller, object, apply::Options::default());
        applied.await.unwrap().object.metadata.uid.unwrap()
    };
    let environment = put("Environment", json!({"pip": ["six"]})).await;
    // As its builder leaves it.
    let built = Digest([5; 32]);
    let dir = bench._dir.path().join("environments").join(built.hex());
    std::fs::create_dir_all(&dir).unwrap();
    let old = SystemTime::now() - 2 * GRACE.as_std();
    std::fs::File::open(&dir)
        .unwrap()
        .set_modified(old)
        .unwrap();
    let db = &bench.platform.db;
    let mut version = db::versions::environment(db, environment, 1)
        .await
        .unwrap()
        .unwrap();
    version.digest = Some(built);
    let written: Result<(), db::DbError> = db
        .write(None, move |tx| {
            let version = version.clone();
            Box::pin(async move { db::versions::put_environment(tx, &version).await })
        })
        .await;
    written.unwrap();
    let job = put("Job", json!({"command": ["true"], "environment": "one"})).await;

    bench.release(environment).await;
    bench.round().await;
    assert!(dir.exists(), "the Job has pinned it");
    assert!(
        db::versions::environment(db, environment, 1)
            .await
            .unwrap()
            .is_some()
    );
    bench.release(job).await;
    let done = bench.round().await;
    assert_eq!((done.environments, dir.exists()), (1, false));
    assert!(
        db::versions::environment(db, environment, 1)
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_project_keeps_no_more_than_it_may() {
    let bench = Bench::new().await;
    let caller = server::usecase::Caller {
        actor: apply::system(),
        request: "test".to_owned(),
    };
    let project = serde_json::from_value(json!({"apiVersion": "moonshot/v1", "kind": "Project",
        "metadata": {"name": "small"}, "spec": {"storage": "1000"}}));
    let options = apply::Options::default();
    apply::apply(&bench.platform, &caller, project.unwrap(), options)
        .await
        .unwrap();
    let (db, store) = (&bench.platform.db, &bench.platform.store);
    let put = async |len: usize, byte: u8, announced: bool| {
        let bytes = vec![byte; len];
        let size = announced.then_some(len as u64);
        content::put(db, store, "small", &bytes[..], size, None).await
    };
    let kept = put(600, 1, true).await.unwrap();
    // What is there already takes no more room, where the sender says what it is.
    let again = content::put(
        db,
        store,
        "small",
        &[1; 600][..],
        Some(600),
        Some(kept.digest),
    );
    assert_eq!(again.await.unwrap(), kept);
    for announced in [true, false] {
        let refused = put(500, 2, announced).await.unwrap_err();
        assert_eq!(refused.problem().code, Code::Exhausted.as_str());
        let told = refused.to_string();
        assert!(
            told.contains("`small`") && told.contains("600") && told.contains("1000"),
            "{told}"
        );
    }
    put(400, 3, false).await.unwrap();
    let refused = content::put_files(
        db,
        store,
        "small",
        std::path::Path::new("/proc/version"),
        10_000,
    );
    assert_eq!(
        refused.await.unwrap_err().problem().code,
        Code::Exhausted.as_str()
    );
    // Another project has room of its own.
    content::put(db, store, "default", &[4; 5_000][..], None, None)
        .await
        .unwrap();
}
