//! `core.admit`: how many admissions become durable a second: decided gang by gang, written with their placements,
//! and told in the feed. The scheduler loop and its commits are the server's own; nothing else runs, no engine and
//! no HTTP.
//!
//! The peer writes the rows that an admission adds (placements, an event, a feed entry) to the same kind of database
//! through the same driver, many a statement, and knows nothing of gangs or conditions.

use crate::report::{Figure, Report};
use crate::{Failure, Scale, note};
use base::{Attempt, Bytes, Epoch, Generation, Index, MilliCpu, Resources, Seq, Span, Time, Uid};
use db::control::{Task, Unit};
use db::objects::Object;
use db::{Db, DbError, Location, Op, Tx, Value};
use e2e::Postgres;
use sched::*;
use serde_json::json;
use server::control::admit::Admit;
use server::control::dirty::Dirty;
use server::control::job_context::{JobContext, JobIdentity};
use server::control::sched_log::Recorded;
use server::control::scheduler::{self, TaskOwner};
use server::control::unit_row::{StageRow, UnitRow};
use server::pinned::Pinned;
use server::platform::{Clock, SystemClock, new_uid};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

const AIM_RATE: f64 = 2_000.0;
const AIM_OF_BARE: f64 = 0.3;
const PEER: &str = "bare batched insert of the same rows";
/// Admissions that one transaction of the peer writes.
const BARE_GROUP: usize = 1_000;
/// Rows of one statement of the peer, as ours have at most.
const ROWS: usize = 64;
const PATIENCE: Duration = Duration::from_secs(240);
/// How to be safe against a power failure, as the server's own defaults are on both.
const POSTGRES: &str = "-c shared_buffers=256MB -c max_wal_size=4GB";

pub(crate) fn run(scale: Scale, report: &mut Report) -> Result<(), Failure> {
    let n_single = scale.pick(40, 10_000, 50_000);
    let n_gangs = scale.pick(10, 2_000, 10_000);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let dir = tempfile::tempdir()?;
    // A debug build that only shows that it runs need not start another server.
    let postgres = (scale != Scale::Smoke).then(|| Postgres::with(POSTGRES));
    for (n, size) in [(n_single, 1), (n_gangs, 8)] {
        let load = Load { n, size };
        let path = |what: &str| Location::Sqlite(dir.path().join(format!("{what}-{size}.sqlite")));
        let sqlite = [path("ours"), path("bare")];
        runtime.block_on(both("SQLite", sqlite, load, report))?;
        if let Some(postgres) = &postgres {
            let urls = [postgres.database(), postgres.database()].map(Location::Postgres);
            runtime.block_on(both("PostgreSQL", urls, load, report))?;
        }
    }
    Ok(())
}

/// So many gangs of this size.
#[derive(Clone, Copy)]
struct Load {
    n: usize,
    size: u32,
}

async fn both(
    name: &str,
    [ours, bare]: [Location; 2],
    load: Load,
    report: &mut Report,
) -> Result<(), Failure> {
    let Load { n, size } = load;
    let case = match size {
        1 => format!("{name}, {n} Jobs of one replica"),
        _ => format!("{name}, {n} gangs of {size}"),
    };
    let per_second = |took: Duration| n as f64 / took.as_secs_f64();
    let bare = per_second(insert(&open(bare).await?, load).await?);
    let ours = per_second(admit(&open(ours).await?, load).await?);
    note(format!("{case}: {ours:.0}/s, bare {bare:.0}/s"));
    report.add(Figure::rate(&case, ours).beside(PEER, bare).aim(AIM_RATE))?;
    report.add(
        Figure::ratio(&case, ours / bare)
            .beside(PEER, 1.0)
            .aim(AIM_OF_BARE),
    )
}

async fn open(location: Location) -> Result<Db, DbError> {
    if let Location::Sqlite(path) = &location {
        debug_assert!(path.parent().is_some_and(Path::exists));
    }
    let clock = SystemClock::default();
    Db::open(db::Config {
        location,
        clock: Arc::new(move || clock.now()),
    })
    .await
}

// ---- ours ----

/// One gang that waits: its Job and its task.
struct Gang {
    object: Object,
    task: Uid,
}

async fn admit(db: &Db, load: Load) -> Result<Duration, Failure> {
    let clock = Arc::new(SystemClock::default());
    let now = clock.now();
    let epoch = db::leases::acquire(db, "leader", "bench", Span::from_secs(3_600))
        .await?
        .ok_or("a fresh database has no other leader")?;
    let gangs: Arc<Vec<Gang>> = Arc::new((0..load.n).map(|n| gang(n, load, now)).collect());
    for start in (0..load.n).step_by(BARE_GROUP) {
        let gangs = Arc::clone(&gangs);
        let end = (start + BARE_GROUP).min(load.n);
        let write: Result<(), DbError> = db
            .write(None, move |tx| {
                let gangs = Arc::clone(&gangs);
                Box::pin(async move {
                    for gang in &gangs[start..end] {
                        wait(tx, gang).await?;
                    }
                    Ok(())
                })
            })
            .await;
        write?;
    }
    let machines: Arc<Vec<Object>> =
        Arc::new(node_names(load).map(|name| node(name, now)).collect());
    let write: Result<(), DbError> = db
        .write(None, move |tx| {
            let machines = Arc::clone(&machines);
            Box::pin(async move {
                for machine in machines.iter() {
                    db::objects::insert(tx, machine).await?;
                }
                Ok(())
            })
        })
        .await;
    write?;
    let commit = Admit {
        db: db.clone(),
        cluster: "local".to_owned(),
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        jobs: Dirty::default(),
        apps: Dirty::default(),
        pods: Dirty::default(),
    };
    let core = cluster();
    let (handle, sched_loop) = scheduler::new(core, Arc::new(commit), clock, epoch);
    // Nodes are told through the loop, which keeps their names.
    for event in nodes(load) {
        handle.event(event).await;
    }
    for gang in gangs.iter() {
        let (spec, owner) = task(gang)?;
        handle.submit(spec, owner).await;
    }
    let stop = CancellationToken::new();
    let mut head = db.head();
    // Each admission is told once in the feed.
    let last = Seq(head.borrow().0 + load.n as u64);
    let start = Instant::now();
    let mut running = tokio::task::JoinSet::new();
    running.spawn(sched_loop.run(stop.clone()));
    let told = tokio::time::timeout(PATIENCE, head.wait_for(|seq| *seq >= last));
    told.await
        .map_err(|_| "not everything was admitted in time")??;
    let took = start.elapsed();
    stop.cancel();
    while running.join_next().await.is_some() {}
    let count = "SELECT (SELECT COUNT(*) FROM placements WHERE state = 'reserved'), \
         (SELECT COUNT(*) FROM tasks WHERE state = 'admitted')";
    let rows = db.fetch(count, &[]).await?;
    let row = rows.first().ok_or("a count is a row")?;
    let n_placements = load.n as u64 * u64::from(load.size);
    if (row.count(0)?, row.count(1)?) != (n_placements, load.n as u64) {
        return Err(format!("the tables do not have {n_placements} placements").into());
    }
    Ok(took)
}

fn gang(n: usize, load: Load, now: Time) -> Gang {
    let group = json!({"name": "worker", "replicas": load.size});
    let object = Object {
        tenant: "default".to_owned(),
        project: "default".to_owned(),
        phase: "Queued".to_owned(),
        spec: json!({
            "command": ["python", "train.py"], "groups": [group], "resources": {"cpu": "1", "memory": "1Gi"},
        }),
        status: json!({"phase": "Queued"}),
        ..object("Job", format!("job-{n}"), now)
    };
    Gang {
        object,
        task: new_uid(now),
    }
}

/// A node's row: an admission looks whether the node still takes work.
fn node(name: String, now: Time) -> Object {
    Object {
        cluster: "local".to_owned(),
        status: json!({"ready": true}),
        ..object("Node", name, now)
    }
}

fn object(kind: &str, name: String, now: Time) -> Object {
    Object {
        uid: new_uid(now),
        kind: kind.to_owned(),
        tenant: String::new(),
        project: String::new(),
        cluster: String::new(),
        name,
        owner: "admin".to_owned(),
        creator: "admin".to_owned(),
        generation: Generation(1),
        seq: Seq(0),
        phase: String::new(),
        spec: json!({}),
        desired: json!({}),
        status: json!({}),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        created_at: now,
        updated_at: now,
        deleted_at: None,
        finished_at: None,
        is_current: true,
    }
}

/// The rows of a Job whose task waits.
async fn wait(tx: &mut Tx<'_>, gang: &Gang) -> Result<(), DbError> {
    let object = &gang.object;
    db::objects::insert(tx, object).await?;
    let row = UnitRow {
        stage: StageRow::Waiting {
            task: gang.task,
            since: object.created_at,
        },
        ..UnitRow::new()
    };
    let unit = Unit {
        owner: object.uid,
        unit: "gang".to_owned(),
        attempt: Attempt(1),
        word: "waiting".to_owned(),
        data: serde_json::to_value(&row).expect("a row is JSON"),
    };
    db::control::put_unit(tx, &unit).await?;
    let task = Task {
        uid: gang.task,
        owner: object.uid,
        owner_kind: "Job".to_owned(),
        tenant: object.tenant.clone(),
        project: object.project.clone(),
        cluster: "local".to_owned(),
        unit: "gang".to_owned(),
        attempt: Attempt(1),
        queue: "default".to_owned(),
        priority: 0,
        state: "waiting".to_owned(),
        submitted_at: object.created_at,
        readmit: false,
    };
    db::control::insert_task(tx, &task).await
}

fn cluster() -> Recorded {
    let mut core = Recorded::new(Config::standard(), None, Epoch(1));
    core.apply(Event::Pool(PoolSpec {
        name: "default".to_owned(),
        packing: Packing::BinPack,
        devices: DeviceMode::Counted,
        levels: Vec::new(),
        half_life: None,
    }));
    core.apply(Event::Queue(QueueSpec {
        name: "default".to_owned(),
        parent: None,
        priority: 0,
        order: QueueOrder::default(),
        quotas: BTreeMap::new(),
    }));
    core
}

fn node_names(load: Load) -> impl Iterator<Item = String> {
    let n = (load.n as u32 * load.size).div_ceil(64);
    (0..n).map(|id| format!("node-{id}"))
}

/// Nodes of 64 processors with room for everything.
fn nodes(load: Load) -> impl Iterator<Item = Event> {
    node_names(load).zip(0..).map(|(name, id)| {
        Event::Node(NodeSpec {
            id: NodeId(id),
            name,
            pool: "default".to_owned(),
            allocatable: Resources {
                cpu: MilliCpu(64_000),
                memory: Bytes(256 << 30),
                ..Resources::default()
            },
            slots_max: 0,
            labels: BTreeMap::new(),
            taints: Vec::new(),
            unschedulable: false,
            devices: Vec::new(),
        })
    })
}

/// The task of a gang and what the loop knows of it, as the controller of Jobs makes them.
fn task(gang: &Gang) -> Result<(TaskSpec, TaskOwner), Failure> {
    let object = &gang.object;
    let identity = JobIdentity {
        uid: object.uid,
        name: object.name.clone(),
        tenant: object.tenant.clone(),
        project: object.project.clone(),
        submitted: object.created_at,
    };
    let spec = serde_json::from_value(object.spec.clone())?;
    let (pinned, bundles) = (Pinned::default(), BTreeMap::new());
    let context = JobContext::new(identity, &spec, &pinned, "default".to_owned(), &bundles);
    let unit = "gang".parse().map_err(|_| "`gang` names a unit")?;
    Ok(context.task(&unit, Attempt(1), TaskId(gang.task), false))
}

// ---- the peer ----

const PLACEMENTS: &str = "placements (owner, grp, idx, attempt, task, tenant, project, cluster, unit, node, devices, \
     ports, state, deadline, reason, epoch, created_at, ended_at, ending)";
const EVENTS: &str = "events (uid, object, object_kind, object_name, tenant, project, kind, reason, message, params, \
     first_at, last_at, count, seq)";

async fn insert(db: &Db, load: Load) -> Result<Duration, Failure> {
    let now = SystemClock::default().now();
    let numbered = db.is_shared();
    let gangs: Arc<Vec<Gang>> = Arc::new((0..load.n).map(|n| gang(n, load, now)).collect());
    let start = Instant::now();
    for first in (0..load.n).step_by(BARE_GROUP) {
        let gangs = Arc::clone(&gangs);
        let end = (first + BARE_GROUP).min(load.n);
        let write: Result<(), DbError> = db
            .write(None, move |tx| {
                let gangs = Arc::clone(&gangs);
                Box::pin(async move {
                    let gangs = &gangs[first..end];
                    let seats = gangs.iter().enumerate().flat_map(|(n, gang)| {
                        (0..load.size).map(move |index| placement(gang, (first + n) as u32, index))
                    });
                    let seats = seats.collect();
                    insert_rows(tx, numbered, PLACEMENTS, seats).await?;
                    let events = gangs.iter().map(|gang| {
                        let object = &gang.object;
                        let uid = new_uid(now);
                        let seq = tx.change("Event", uid, &object.project, &object.name, Op::Put);
                        event(uid, object, load, seq)
                    });
                    let events = events.collect();
                    insert_rows(tx, numbered, EVENTS, events).await
                })
            })
            .await;
        write?;
    }
    Ok(start.elapsed())
}

fn placement(gang: &Gang, n: u32, index: u32) -> Vec<Value> {
    let object = &gang.object;
    vec![
        object.uid.into(),
        "worker".into(),
        Index(index).into(),
        Attempt(1).into(),
        gang.task.into(),
        object.tenant.as_str().into(),
        object.project.as_str().into(),
        "local".into(),
        "gang".into(),
        format!("node-{}", n / 8).into(),
        "[]".into(),
        "{}".into(),
        "reserved".into(),
        Value::Null,
        "".into(),
        Epoch(1).into(),
        object.created_at.into(),
        Value::Null,
        "{}".into(),
    ]
}

fn event(uid: Uid, object: &Object, load: Load, seq: Seq) -> Vec<Value> {
    vec![
        uid.into(),
        object.uid.into(),
        "Job".into(),
        object.name.as_str().into(),
        object.tenant.as_str().into(),
        object.project.as_str().into(),
        "Normal".into(),
        "Admitted".into(),
        format!("{} replicas placed on node-7", load.size).into(),
        "{}".into(),
        object.created_at.into(),
        object.created_at.into(),
        1_i64.into(),
        seq.into(),
    ]
}

async fn insert_rows(
    tx: &mut Tx<'_>,
    numbered: bool,
    columns: &str,
    rows: Vec<Vec<Value>>,
) -> Result<(), DbError> {
    let width = rows.first().map_or(1, Vec::len);
    for chunk in rows.chunks(ROWS) {
        // SQLite looks each numbered place up by its name, which would slow the peer down.
        let place = |at: usize| {
            if numbered {
                format!("${at}")
            } else {
                "?".to_owned()
            }
        };
        let row = |row: usize| {
            let places: Vec<String> = (1..=width).map(|at| place(row * width + at)).collect();
            format!("({})", places.join(", "))
        };
        let values: Vec<String> = (0..chunk.len()).map(row).collect();
        let sql = format!("INSERT INTO {columns} VALUES {}", values.join(", "));
        tx.execute(&sql, &chunk.concat()).await?;
    }
    Ok(())
}
