//! Objects as rows of a table, kind by kind. Objects are read as JSON: a column of a field that a newer
//! server has left out is empty, not an error.

use crate::age;
use crate::table::table;
use api::{Kind, Object, Scope};
use base::{Bytes, Time};
use serde_json::Value;

/// What a table shows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// More columns.
    pub(crate) wide: bool,
    /// A column with the project.
    pub(crate) projects: bool,
    /// A column with labels.
    pub(crate) labels: bool,
    /// For ages.
    pub(crate) now: Time,
}

type Cell = fn(&Object, Time) -> String;

struct Column {
    title: &'static str,
    wide: bool,
    cell: Cell,
}

const fn column(title: &'static str, cell: Cell) -> Column {
    Column {
        title,
        wide: false,
        cell,
    }
}
const fn wide(title: &'static str, cell: Cell) -> Column {
    Column {
        title,
        wide: true,
        cell,
    }
}

/// A table of objects of one kind.
pub(crate) fn objects(kind: Kind, objects: &[Object], options: Options) -> String {
    let columns: Vec<&Column> = columns(kind)
        .iter()
        .filter(|column| options.wide || !column.wide)
        .collect();
    let show_project = options.projects && kind.scope() == Scope::Project;
    let mut header = Vec::new();
    if show_project {
        header.push("PROJECT");
    }
    header.extend(columns.iter().map(|column| column.title));
    if options.labels {
        header.push("LABELS");
    }
    let rows: Vec<Vec<String>> = objects
        .iter()
        .map(|object| {
            let mut row = Vec::new();
            if show_project {
                row.push(object.metadata.project.clone());
            }
            row.extend(
                columns
                    .iter()
                    .map(|column| (column.cell)(object, options.now)),
            );
            if options.labels {
                row.push(labels(object));
            }
            row
        })
        .collect();
    table(&header, &rows)
}

fn columns(kind: Kind) -> &'static [Column] {
    match kind {
        Kind::Job => {
            const {
                &[
                    NAME,
                    column("PHASE", |o, _| status(o, "phase")),
                    column("ATTEMPTS", |o, _| status(o, "attempts")),
                    column("REPLICAS", |o, _| replicas(o)),
                    column("TIME", duration),
                    AGE,
                    column("REASON", |o, _| status(o, "reason")),
                    wide("QUEUE", |o, _| spec(o, "queue")),
                    wide("PRIORITY", |o, _| spec(o, "priority")),
                    wide("NODES", |o, _| nodes(o)),
                    OWNER,
                ]
            }
        }
        Kind::App => {
            const {
                &[
                    NAME,
                    column("PHASE", |o, _| status(o, "phase")),
                    column("READY", |o, _| {
                        format!("{}/{}", number(o, "ready"), number(o, "replicas"))
                    }),
                    column("REVISION", |o, _| status(o, "revision")),
                    column("URL", |o, _| status(o, "url")),
                    AGE,
                    column("REASON", |o, _| status(o, "reason")),
                    wide("STABLE", |o, _| status(o, "stableRevision")),
                    wide("QUEUE", |o, _| spec(o, "queue")),
                    OWNER,
                ]
            }
        }
        Kind::Node => {
            const {
                &[
                    NAME,
                    column("STATUS", |o, _| node_state(o)),
                    column("POOL", |o, _| status(o, "pool")),
                    column("CPU", |o, _| used(o, "cpu")),
                    column("MEMORY", |o, _| used(o, "memory")),
                    column("GPU", |o, _| used(o, "gpu")),
                    AGE,
                    wide("CLUSTER", |o, _| status(o, "cluster")),
                    wide("ADDRESS", |o, _| status(o, "address")),
                ]
            }
        }
        Kind::Queue => {
            const {
                &[
                    NAME,
                    column("PARENT", |o, _| spec(o, "parent")),
                    column("WAITING", |o, _| status(o, "waiting")),
                    column("RUNNING", |o, _| status(o, "running")),
                    column("PROJECTS", |o, _| words(&o.spec["projects"])),
                    AGE,
                ]
            }
        }
        Kind::Environment => {
            const {
                &[
                    NAME,
                    column("PHASE", |o, _| status(o, "phase")),
                    column("VERSION", |o, _| status(o, "version")),
                    column("FROM", |o, _| environment_source(o)),
                    AGE,
                    wide("PACKAGES", |o, _| count(o, "packages")),
                    wide("MESSAGE", |o, _| status(o, "message")),
                ]
            }
        }
        Kind::Secret => {
            const {
                &[
                    NAME,
                    column("VERSION", |o, _| status(o, "version")),
                    column("KEYS", |o, _| words(of_status(o, "keys"))),
                    AGE,
                ]
            }
        }
        Kind::Model => {
            const {
                &[
                    NAME,
                    column("LATEST", |o, _| status(o, "latest")),
                    column("DESCRIPTION", |o, _| spec(o, "description")),
                    AGE,
                ]
            }
        }
        Kind::ModelVersion => {
            const {
                &[
                    NAME,
                    column("MODEL", |o, _| spec(o, "model")),
                    column("VERSION", |o, _| spec(o, "version")),
                    column("FORMAT", |o, _| spec(o, "format")),
                    column("SIZE", |o, _| spec(o, "size")),
                    column("JOB", |o, _| text(&o.spec["lineage"]["job"])),
                    AGE,
                    wide("DIGEST", |o, _| spec(o, "digest")),
                ]
            }
        }
        Kind::PodGroup => {
            const {
                &[
                    NAME,
                    column("PHASE", |o, _| status(o, "phase")),
                    column("PODS", |o, _| {
                        let n_pods = o.spec["pods"].as_array().map_or(0, Vec::len);
                        format!("{n_pods}/{}", spec(o, "size"))
                    }),
                    column("QUEUE", |o, _| spec(o, "queue")),
                    AGE,
                    column("REASON", |o, _| status(o, "reason")),
                    wide("MESSAGE", |o, _| status(o, "message")),
                ]
            }
        }
        Kind::Event => {
            const {
                &[
                    column("LAST", |o, now| age::since(now, &spec(o, "lastAt"))),
                    column("TYPE", |o, _| spec(o, "type")),
                    column("REASON", |o, _| spec(o, "reason")),
                    column("OBJECT", |o, _| {
                        format!(
                            "{}/{}",
                            spec(o, "objectKind").to_ascii_lowercase(),
                            spec(o, "objectName")
                        )
                    }),
                    column("COUNT", |o, _| spec(o, "count")),
                    column("MESSAGE", |o, _| spec(o, "message")),
                ]
            }
        }
        Kind::Project => {
            const {
                &[
                    NAME,
                    column("TENANT", |o, _| spec(o, "tenant")),
                    column("STORED", |o, _| status(o, "stored")),
                    AGE,
                ]
            }
        }
        Kind::Pool => {
            const {
                &[
                    NAME,
                    column("NODES", |o, _| status(o, "nodes")),
                    column("CPU", |o, _| used(o, "cpu")),
                    column("MEMORY", |o, _| used(o, "memory")),
                    column("GPU", |o, _| used(o, "gpu")),
                    AGE,
                ]
            }
        }
        Kind::Cluster => {
            const {
                &[
                    NAME,
                    column("ENGINE", |o, _| spec(o, "engine")),
                    column("STATUS", |o, _| {
                        if of_status(o, "ready") == &Value::Bool(true) {
                            "Ready"
                        } else {
                            "NotReady"
                        }
                        .to_owned()
                    }),
                    column("NODES", |o, _| status(o, "nodes")),
                    AGE,
                ]
            }
        }
        Kind::Tenant => {
            const {
                &[
                    NAME,
                    column("DESCRIPTION", |o, _| spec(o, "description")),
                    AGE,
                ]
            }
        }
    }
}

const NAME: Column = column("NAME", |o, _| o.metadata.name.clone());
const AGE: Column = column("AGE", |o, now| {
    o.metadata
        .created_at
        .map_or_else(String::new, |at| age::short(now.since(at)))
});
const OWNER: Column = wide("OWNER", |o, _| o.metadata.owner.clone().unwrap_or_default());

// ---- cells ----

/// A scalar as people read it; nothing for what is absent.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn spec(object: &Object, field: &str) -> String {
    text(&object.spec[field])
}

pub(crate) fn of_status<'a>(object: &'a Object, field: &str) -> &'a Value {
    object
        .status
        .as_ref()
        .map_or(&Value::Null, |status| &status[field])
}

pub(crate) fn status(object: &Object, field: &str) -> String {
    text(of_status(object, field))
}

fn number(object: &Object, field: &str) -> u64 {
    of_status(object, field).as_u64().unwrap_or(0)
}

fn count(object: &Object, field: &str) -> String {
    of_status(object, field)
        .as_array()
        .map_or_else(String::new, |items| items.len().to_string())
}

fn words(value: &Value) -> String {
    value
        .as_array()
        .into_iter()
        .flatten()
        .map(text)
        .collect::<Vec<_>>()
        .join(",")
}

fn labels(object: &Object) -> String {
    object
        .metadata
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect::<Vec<_>>()
        .join(",")
}

/// Members that run of those there are; for arrays, runs that are over of all.
fn replicas(object: &Object) -> String {
    let units = of_status(object, "units");
    if units.is_object() {
        let n = |field: &str| units[field].as_u64().unwrap_or(0);
        let all = n("waiting") + n("running") + n("succeeded") + n("failed");
        return format!("{}/{all}", n("succeeded") + n("failed"));
    }
    let Some(replicas) = of_status(object, "replicas").as_array() else {
        return String::new();
    };
    let running = replicas
        .iter()
        .filter(|replica| replica["phase"] == "Running")
        .count();
    format!("{running}/{}", replicas.len())
}

fn nodes(object: &Object) -> String {
    let mut nodes: Vec<String> = of_status(object, "replicas")
        .as_array()
        .into_iter()
        .flatten()
        .map(|replica| text(&replica["node"]))
        .filter(|node| !node.is_empty())
        .collect();
    nodes.sort();
    nodes.dedup();
    nodes.join(",")
}

fn duration(object: &Object, now: Time) -> String {
    let time = |field: &str| {
        of_status(object, field)
            .as_str()
            .and_then(|text| text.parse::<Time>().ok())
    };
    time("startedAt").map_or_else(String::new, |start| {
        age::short(time("finishedAt").unwrap_or(now).since(start))
    })
}

fn node_state(object: &Object) -> String {
    let ready = of_status(object, "ready") == &Value::Bool(true);
    let cordoned = object.spec["unschedulable"] == Value::Bool(true);
    format!(
        "{}{}",
        if ready { "Ready" } else { "NotReady" },
        if cordoned { ",Cordoned" } else { "" }
    )
}

/// `1500m/4`: placed of allocatable.
fn used(object: &Object, resource: &str) -> String {
    let all = text(&of_status(object, "allocatable")[resource]);
    if all.is_empty() {
        return String::new();
    }
    let used = text(&of_status(object, "used")[resource]);
    let shown = |amount: &str| {
        if resource == "memory" {
            memory(amount)
        } else {
            amount.to_owned()
        }
    };
    let used = if used.is_empty() { "0" } else { &used };
    format!("{}/{}", shown(used), shown(&all))
}

/// A size for people: three digits are enough to compare by. What is no size is left as it is.
pub(crate) fn memory(text: &str) -> String {
    let Ok(Bytes(bytes)) = text.parse::<Bytes>() else {
        return text.to_owned();
    };
    let units = [(50, "Pi"), (40, "Ti"), (30, "Gi"), (20, "Mi"), (10, "Ki")];
    for (shift, unit) in units {
        let whole = bytes >> shift;
        if whole > 0 {
            let tenths = ((bytes % (1 << shift)) * 10) >> shift;
            return if whole >= 100 || tenths == 0 {
                format!("{whole}{unit}")
            } else {
                format!("{whole}.{tenths}{unit}")
            };
        }
    }
    bytes.to_string()
}

fn environment_source(object: &Object) -> String {
    match object.spec["pip"].as_array() {
        Some(pip) => format!("pip ({})", pip.len()),
        None => spec(object, "image"),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serde_json::json;

    #[test]
    fn sizes_are_for_people() {
        let check = |text, expect| assert_eq!(memory(text), expect, "{text}");
        check("24684096Ki", "23.5Gi");
        check("16Gi", "16Gi");
        check("1536", "1.5Ki");
        check("0", "0");
        check("what", "what");
    }

    pub(crate) const NOW: Time = Time::from_ms(1_795_000_000_000);

    pub(crate) fn object(kind: &str, name: &str, spec: Value, status: Value) -> Object {
        let created = NOW - base::Span::from_secs(3_700);
        serde_json::from_value(json!({
            "apiVersion": "moonshot/v1", "kind": kind, "spec": spec, "status": status,
            "metadata": {"name": name, "project": "default", "owner": "ada", "createdAt": created.to_string(), "labels": {"team": "a"}},
        }))
        .unwrap()
    }

    pub(crate) fn job() -> Object {
        let at = |secs: u64| (NOW - base::Span::from_secs(secs)).to_string();
        object(
            "Job",
            "flights",
            json!({"command": ["python", "train.py"], "queue": "research", "groups": [{"name": "worker", "replicas": 2}]}),
            json!({
                "phase": "Running", "observedGeneration": 1, "attempts": 2, "failures": 1, "startedAt": at(600),
                "replicas": [
                    {"group": "worker", "index": 0, "attempt": 2, "phase": "Running", "node": "n1", "startedAt": at(61), "memoryPeak": "512Mi"},
                    {"group": "worker", "index": 1, "attempt": 2, "phase": "Pending", "message": "waits for worker/0"},
                ],
                "outputs": [{"name": "model", "replica": "worker/0", "digest": format!("sha256:{}", "0".repeat(64)), "size": "12Mi"}],
                "conditions": [{"type": "Admitted", "status": true, "reason": "Fits", "message": "2 replicas on n1", "since": at(600)}],
            }),
        )
    }

    pub(crate) fn app() -> Object {
        object(
            "App",
            "flights",
            json!({"template": {"command": ["python", "serve.py"]}}),
            json!({"phase": "Ready", "observedGeneration": 2, "replicas": 2, "ready": 2, "updated": 2, "revision": 3, "stableRevision": 3, "url": "http://127.0.0.1:8080/default/flights"}),
        )
    }

    fn check(kind: Kind, list: &[Object], wide: bool, expect: &Expect) {
        let options = Options {
            wide,
            projects: wide,
            labels: false,
            now: NOW,
        };
        expect.assert_eq(&objects(kind, list, options));
    }

    #[test]
    fn jobs_and_apps() {
        let waiting = object(
            "Job",
            "sweep",
            json!({}),
            json!({"phase": "Queued", "attempts": 0, "reason": "QuotaExhausted", "units": {"waiting": 90, "running": 5, "succeeded": 4, "failed": 1}}),
        );
        check(
            Kind::Job,
            &[job(), waiting.clone()],
            false,
            &expect![[r#"
            NAME     PHASE    ATTEMPTS  REPLICAS  TIME  AGE   REASON
            flights  Running  2         1/2       10m   1h1m
            sweep    Queued   0         5/100           1h1m  QuotaExhausted
        "#]],
        );
        check(
            Kind::Job,
            &[job(), waiting],
            true,
            &expect![[r#"
            PROJECT  NAME     PHASE    ATTEMPTS  REPLICAS  TIME  AGE   REASON          QUEUE     PRIORITY  NODES  OWNER
            default  flights  Running  2         1/2       10m   1h1m                  research            n1     ada
            default  sweep    Queued   0         5/100           1h1m  QuotaExhausted                             ada
        "#]],
        );
        check(
            Kind::App,
            &[app()],
            false,
            &expect![[r#"
                NAME     PHASE  READY  REVISION  URL                                    AGE   REASON
                flights  Ready  2/2    3         http://127.0.0.1:8080/default/flights  1h1m
            "#]],
        );
    }

    #[test]
    fn nodes_queues_and_events() {
        let node = object(
            "Node",
            "n1",
            json!({"unschedulable": true}),
            json!({"cluster": "local", "ready": true, "pool": "default", "allocatable": {"cpu": "4", "memory": "16Gi", "gpu": 2.0}, "used": {"cpu": "1500m"}}),
        );
        check(
            Kind::Node,
            &[node],
            false,
            &expect![[r#"
            NAME  STATUS          POOL     CPU      MEMORY  GPU    AGE
            n1    Ready,Cordoned  default  1500m/4  0/16Gi  0/2.0  1h1m
        "#]],
        );
        let queue = object(
            "Queue",
            "research",
            json!({"parent": "root", "projects": ["a", "b"]}),
            json!({"used": {}, "waiting": 3, "running": 4}),
        );
        check(
            Kind::Queue,
            &[queue],
            true,
            &expect![[r#"
            NAME      PARENT  WAITING  RUNNING  PROJECTS  AGE
            research  root    3        4        a,b       1h1m
        "#]],
        );
        let event = object(
            "Event",
            "e1",
            json!({"objectKind": "Job", "objectName": "flights", "objectUid": "", "type": "Warning", "reason": "OutOfMemory", "message": "worker/0 used more than 512Mi", "firstAt": NOW.to_string(), "lastAt": NOW.to_string(), "count": 2}),
            Value::Null,
        );
        check(
            Kind::Event,
            &[event],
            false,
            &expect![[r#"
            LAST  TYPE     REASON       OBJECT       COUNT  MESSAGE
            0s    Warning  OutOfMemory  job/flights  2      worker/0 used more than 512Mi
        "#]],
        );
    }

    #[test]
    fn every_kind_has_a_table_for_an_object_of_which_nothing_is_known() {
        for kind in Kind::ALL {
            let bare = object(kind.as_str(), "x", json!({}), Value::Null);
            let text = objects(
                *kind,
                &[bare],
                Options {
                    wide: true,
                    projects: true,
                    labels: true,
                    now: NOW,
                },
            );
            assert_eq!(text.lines().count(), 2, "{text}");
        }
    }
}
