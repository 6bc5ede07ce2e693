//! `core.history`: a million finished Jobs and ten million events, on SQLite and on PostgreSQL: pages of all projects
//! and of one, by label and by phase, far down the list, and of events, over HTTP from this process while the real
//! server runs. The rows are copies of what one real Job leaves; names, times, labels and phases differ.

use crate::http::{Api, Ask, open_loop};
use crate::report::{Figure, Report};
use crate::{Failure, Scale, note};
use db::{Db, DbError, Location};
use e2e::{Installation, Postgres};
use http::Method;
use serde_json::{Value, json};
use server::platform::{Clock, SystemClock};
use std::sync::Arc;
use std::time::{Duration, Instant};

const P99_MS: f64 = 50.0;
/// Requests a second: a person who scrolls sends fewer, a console of many people about as many.
const RATE: f64 = 20.0;
/// Projects: the first has a fifth of all Jobs.
const PROJECTS: u64 = 50;
/// Everything lies in this span before now: events older than 30 days would be forgotten meanwhile.
const SPAN_MS: i64 = 29 * 24 * 3_600 * 1_000;
const EVENTS_OF_A_JOB: u64 = 10;
/// Rows that one transaction writes.
const CHUNK: u64 = 50_000;
const PATIENCE: Duration = Duration::from_secs(60);
/// A database of this size is given a little memory; see `docs/benchmarks.md`.
const POSTGRES: &str = "-c shared_buffers=256MB -c max_wal_size=4GB";

pub(crate) fn run(scale: Scale, report: &mut Report) -> Result<(), Failure> {
    let n = scale.pick(200, 100_000, 1_000_000);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let mut installation = Installation::start(&[]);
    let sqlite = Location::Sqlite(installation.data().join("moonshot.sqlite"));
    let size = Size {
        n,
        n_asks: scale.pick(4, 100, 400),
    };
    runtime.block_on(measure(
        "SQLite",
        &mut installation,
        sqlite,
        size,
        &|| {},
        report,
    ))?;
    drop(installation);
    if scale == Scale::Smoke {
        return Ok(());
    }
    let postgres = Postgres::with(POSTGRES);
    let url = postgres.database();
    let mut installation = Installation::start(&[("MOONSHOT_DATABASE", &url)]);
    let location = Location::Postgres(url.clone());
    // What its autovacuum does within a minute or two.
    let vacuum = || drop(postgres.psql(&url, "VACUUM ANALYZE"));
    runtime.block_on(measure(
        "PostgreSQL",
        &mut installation,
        location,
        size,
        &vacuum,
        report,
    ))
}

/// So many Jobs, and so many requests of each sort.
#[derive(Clone, Copy)]
struct Size {
    n: u64,
    n_asks: usize,
}

async fn measure(
    name: &str,
    installation: &mut Installation,
    location: Location,
    Size { n, n_asks }: Size,
    filled: &dyn Fn(),
    report: &mut Report,
) -> Result<(), Failure> {
    let token = std::fs::read_to_string(installation.data().join("admin.token"))?;
    let api = Api::new(installation.listen(), &token);
    let now = template(&api).await?;
    installation.kill_server();
    let start = Instant::now();
    fill(location, n, now).await?;
    filled();
    let n_events = n * EVENTS_OF_A_JOB;
    note(format!(
        "{name}: {n} Jobs and {n_events} events in {:.0} s",
        start.elapsed().as_secs_f64()
    ));
    installation.start_server();
    for (what, paths) in asks(n, now, n_asks) {
        let samples = open_loop(&api, RATE, paths.len(), |at| Ask::get(paths[at].clone())).await?;
        debug_assert_eq!(samples.len(), paths.len());
        let case = format!("{name}, {n} Jobs: {what}");
        note(format!("{case}: p99 {:.1} ms", samples.percentile(99.0)));
        samples.report(report, &case, |figure: Figure| match figure.metric {
            "p99_ms" => figure.aim(P99_MS),
            _ => figure,
        })?;
    }
    Ok(())
}

/// Runs one Job to its end; everything is made from what it leaves. Also the projects. The time, in milliseconds.
async fn template(api: &Api) -> Result<i64, Failure> {
    for n in 0..PROJECTS {
        let body = json!({"apiVersion": "moonshot/v1", "kind": "Project", "metadata": {"name": format!("p{n}")}, "spec": {}});
        api.call(Method::POST, "/v1/projects", Some(&body)).await?;
    }
    let spec = json!({
        "command": ["python3", "-c", "print('epoch 1 loss 0.25')"], "framework": "xgboost",
        "resources": {"cpu": "100m", "memory": "256Mi"}, "params": {"lr": 0.1, "depth": 6},
        "env": [{"name": "DATASET", "value": "flights-2013"}],
    });
    let body = json!({"apiVersion": "moonshot/v1", "kind": "Job", "metadata": {"name": "template"}, "spec": spec});
    api.call(Method::POST, "/v1/projects/default/jobs", Some(&body))
        .await?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let path = "/v1/projects/default/jobs/template";
        let job: Value = api.call(Method::GET, path, None).await?;
        match job["status"]["phase"].as_str() {
            Some("Succeeded") => return Ok(SystemClock::default().now().as_ms()),
            Some("Failed") => return Err(format!("the template failed: {job}").into()),
            _ if Instant::now() > deadline => return Err("the template does not end".into()),
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

// ---- the rows ----

/// A Job's number, counted from the oldest, as SQL sees it: `i`.
async fn fill(location: Location, n: u64, now: i64) -> Result<(), DbError> {
    let is_postgres = matches!(location, Location::Postgres(_));
    let clock = SystemClock::default();
    let db = Db::open(db::Config {
        location,
        clock: Arc::new(move || clock.now()),
    })
    .await?;
    let step = SPAN_MS / i64::try_from(n).unwrap_or(i64::MAX);
    let first = now - step * i64::try_from(n).unwrap_or(i64::MAX);
    for from in (0..n).step_by(usize::try_from(CHUNK).unwrap_or(usize::MAX)) {
        let rows = Rows {
            is_postgres,
            from,
            to: (from + CHUNK).min(n),
            first,
            step,
        };
        let statements = rows.statements();
        let written: Result<(), DbError> = db
            .write(None, move |tx| {
                let statements = statements.clone();
                Box::pin(async move {
                    for sql in &statements {
                        tx.execute(sql, &[]).await?;
                    }
                    Ok(())
                })
            })
            .await;
        written?;
    }
    Ok(())
}

/// Rows `from..to` of every table.
struct Rows {
    is_postgres: bool,
    from: u64,
    to: u64,
    first: i64,
    step: i64,
}

impl Rows {
    /// Names `i` and how it becomes what a row holds, in the words of either database.
    fn series(&self, from: u64, to: u64) -> String {
        if self.is_postgres {
            format!(
                "(SELECT generate_series(CAST({from} AS BIGINT), CAST({to} - 1 AS BIGINT)) AS i) n"
            )
        } else {
            format!(
                "(WITH RECURSIVE n(i) AS (SELECT {from} UNION ALL SELECT i + 1 FROM n WHERE i < {to} - 1) SELECT i FROM n) n"
            )
        }
    }

    fn hex(&self, digits: u32, number: &str) -> String {
        if self.is_postgres {
            format!("lpad(to_hex(CAST({number} AS BIGINT)), {digits}, '0')")
        } else {
            format!("printf('%0{digits}x', {number})")
        }
    }

    /// A UUIDv7 of this time; its random digits are a hash of `i` and of what it names.
    fn uid(&self, at: &str, i: &str, what: u64) -> String {
        let time = self.hex(12, at);
        let mixed = self.hex(
            12,
            &format!("(({i}) * 48271 + {what} * 69621) % 281474976710655"),
        );
        format!(
            "substr({time}, 1, 8) || '-' || substr({time}, 9, 4) || '-7{what:03x}-8000-' || {mixed}"
        )
    }

    fn statements(&self) -> Vec<String> {
        let at = format!("({} + i * {})", self.first, self.step);
        let series = self.series(self.from, self.to);
        let job = self.uid(&at, "i", 1);
        let task = self.uid(&at, "i", 2);
        let project =
            format!("'p' || (CASE WHEN i % 5 = 0 THEN 0 ELSE (i * 7 / 5) % {PROJECTS} END)");
        let phase = "CASE WHEN i % 20 < 16 THEN 'Succeeded' WHEN i % 20 < 19 THEN 'Failed' ELSE 'Cancelled' END";
        let one = "(SELECT * FROM objects WHERE kind = 'Job' AND name = 'template') t";
        let columns = "uid, kind, tenant, project, cluster, name, owner, creator, generation, seq, phase, spec, desired, status, \
             labels, annotations, created_at, updated_at, deleted_at, finished_at, is_current";
        let labels = "'{\"team\":\"t' || (i % 20) || '\",\"sweep\":\"s' || (i % 1000) || '\"}'";
        let mut statements = vec![format!(
            "INSERT INTO objects ({columns}) SELECT {job}, t.kind, t.tenant, {project}, t.cluster, 'train-' || i, t.owner, \
             t.creator, 1, i, {phase}, t.spec, t.desired, t.status, {labels}, t.annotations, {at}, {at} + 60000, t.deleted_at, \
             {at} + 60000, 1 FROM {series}, {one}"
        )];
        for (key, value) in [("team", "'t' || (i % 20)"), ("sweep", "'s' || (i % 1000)")] {
            statements.push(format!(
                "INSERT INTO object_labels (kind, key, value, project, created_at, uid) \
                 SELECT 'Job', '{key}', {value}, {project}, {at}, {job} FROM {series}"
            ));
        }
        let of = |table: &str| {
            format!(
                "(SELECT c.* FROM {table} c, objects o WHERE c.owner = o.uid AND o.name = 'template' LIMIT 1) t"
            )
        };
        statements.push(format!(
            "INSERT INTO units (owner, unit, attempt, word, data) SELECT {job}, t.unit, t.attempt, t.word, t.data \
             FROM {series}, {}",
            of("units")
        ));
        statements.push(format!(
            "INSERT INTO tasks (uid, owner, owner_kind, tenant, project, cluster, unit, attempt, queue, priority, state, \
             submitted_at, readmit) SELECT {task}, {job}, t.owner_kind, t.tenant, {project}, t.cluster, t.unit, t.attempt, \
             t.queue, t.priority, t.state, {at}, t.readmit FROM {series}, {}",
            of("tasks")
        ));
        statements.push(format!(
            "INSERT INTO placements (owner, grp, idx, attempt, task, tenant, project, cluster, unit, node, devices, ports, \
             state, deadline, reason, epoch, created_at, ended_at, ending) SELECT {job}, t.grp, t.idx, t.attempt, {task}, \
             t.tenant, {project}, t.cluster, t.unit, t.node, t.devices, t.ports, t.state, t.deadline, t.reason, t.epoch, {at}, \
             {at} + 60000, t.ending FROM {series}, {}",
            of("placements")
        ));
        for event in 0..EVENTS_OF_A_JOB {
            let when = format!("({at} + {event} * 6000)");
            let uid = self.uid(&when, "i", 16 + event);
            statements.push(format!(
                "INSERT INTO events (uid, object, object_kind, object_name, tenant, project, kind, reason, message, params, \
                 first_at, last_at, count, seq) SELECT {uid}, {job}, 'Job', 'train-' || i, 'default', {project}, 'Normal', \
                 'Reason{event}', '2 replicas placed on node-' || (i % 300) || ', node-' || (i % 301), '{{}}', {when}, {when}, \
                 1, i FROM {series}"
            ));
        }
        statements
    }
}

// ---- the questions ----

/// What is asked, and the paths of its requests.
fn asks(n: u64, now: i64, n_asks: usize) -> Vec<(&'static str, Vec<String>)> {
    let in_project = |at: usize| format!("/v1/projects/p{}/jobs", at as u64 % PROJECTS);
    // A page of a list begins after a time and a uid: any time within the span.
    let step = SPAN_MS / i64::try_from(n).unwrap_or(i64::MAX);
    let far = |at: usize| {
        let i = (at as u64 * 7_919) % n;
        let time = now - i64::try_from(i).unwrap_or(0) * step;
        format!("continue={time}.00000000-0000-7000-8000-000000000000")
    };
    let make = |path: &dyn Fn(usize) -> String| (0..n_asks).map(path).collect::<Vec<String>>();
    vec![
        ("all projects", make(&|_| "/v1/jobs".to_owned())),
        (
            "all projects, far pages",
            make(&|at| format!("/v1/jobs?{}", far(at))),
        ),
        ("one project", make(&|at| in_project(at))),
        (
            "one project, far pages",
            make(&|at| format!("{}?{}", in_project(at), far(at))),
        ),
        (
            "all projects, by a frequent label",
            make(&|at| format!("/v1/jobs?labelSelector=team%3Dt{}", at % 20)),
        ),
        (
            "all projects, by a rare label",
            make(&|at| format!("/v1/jobs?labelSelector=sweep%3Ds{}", at % 1_000)),
        ),
        (
            "one project, by a rare label",
            make(&|at| format!("{}?labelSelector=sweep%3Ds{}", in_project(at), at % 1_000)),
        ),
        (
            "one project, by two labels",
            make(&|at| {
                let (path, n) = (in_project(at), at % 1_000);
                format!("{path}?labelSelector=sweep%3Ds{n},team%3Dt{}", n % 20)
            }),
        ),
        (
            "one project, by a rare phase",
            make(&|at| format!("{}?phase=Cancelled", in_project(at))),
        ),
        (
            "one project, none in this phase",
            make(&|at| format!("{}?phase=Running", in_project(at))),
        ),
        (
            "all projects, without a label",
            make(&|at| format!("/v1/jobs?labelSelector=team!%3Dt{}", at % 20)),
        ),
        ("events of all projects", make(&|_| "/v1/events".to_owned())),
        (
            "events of one project, far pages",
            make(&|at| format!("/v1/projects/p{}/events?{}", at as u64 % PROJECTS, far(at))),
        ),
    ]
}
