//! What a version did, in numbers, and the Prometheus text of all of them.

mod loads;

pub(crate) use loads::Loads;

use crate::models::Table;
use base::Code;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper edges of the histograms, in microseconds.
const EDGES_US: [u64; 16] = [
    20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000,
    1_000_000, 5_000_000,
];

/// A version's numbers since it was loaded.
#[derive(Default)]
pub(crate) struct Stats {
    ok: AtomicU64,
    /// In the order of [`Code::ALL`].
    failed: [AtomicU64; Code::ALL.len()],
    rows: AtomicU64,
    batches: AtomicU64,
    queue: Histogram,
    compute: Histogram,
    serialise: Histogram,
    total: Histogram,
}

#[derive(Default)]
struct Histogram {
    buckets: [AtomicU64; EDGES_US.len() + 1],
    sum_ns: AtomicU64,
}

impl Histogram {
    fn add(&self, took: Duration) {
        let took_us = took.as_micros() as u64;
        let bucket = EDGES_US.partition_point(|&edge| edge < took_us);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum_ns.fetch_add(took.as_nanos() as u64, Relaxed);
    }
}

impl Stats {
    /// A batch ran.
    pub(crate) fn ran(&self, compute: Duration, n_rows: usize) {
        self.batches.fetch_add(1, Relaxed);
        self.rows.fetch_add(n_rows as u64, Relaxed);
        self.compute.add(compute);
    }

    /// A request was answered.
    pub(crate) fn answered(&self, queue: Duration, serialise: Duration, total: Duration) {
        self.ok.fetch_add(1, Relaxed);
        self.queue.add(queue);
        self.serialise.add(serialise);
        self.total.add(total);
    }

    /// A request failed.
    pub(crate) fn failed(&self, code: Code) {
        if let Some(at) = Code::ALL.iter().position(|known| *known == code) {
            self.failed[at].fetch_add(1, Relaxed);
        }
    }
}

/// One of a version's histograms.
type Which = fn(&Stats) -> &Histogram;

/// The Prometheus text (exposition format 0.0.4) of the versions in memory, and of what loading did.
pub(crate) fn text(table: &Table, loads: &Loads) -> String {
    let mut versions: Vec<_> = table
        .models
        .values()
        .flat_map(|model| model.ready.values())
        .collect();
    versions.sort_by(|a, b| (&a.model, a.number).cmp(&(&b.model, b.number)));
    let mut out = String::new();
    let mut family =
        |name: &str, kind: &str, help: &str, each: &dyn Fn(&mut String, &str, usize)| {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (at, version) in versions.iter().enumerate() {
                let labels = format!(
                    "model=\"{}\",version=\"{}\"",
                    escaped(&version.model),
                    version.number
                );
                each(&mut out, &labels, at);
            }
        };
    let name = "moonshot_serve_requests_total";
    family(
        name,
        "counter",
        "Requests by outcome.",
        &|out, labels, at| {
            let stats = &versions[at].stats;
            let _ = writeln!(
                out,
                "{name}{{{labels},code=\"ok\"}} {}",
                stats.ok.load(Relaxed)
            );
            for (code, count) in Code::ALL.iter().zip(&stats.failed) {
                let count = count.load(Relaxed);
                if count > 0 {
                    let _ = writeln!(out, "{name}{{{labels},code=\"{code}\"}} {count}");
                }
            }
        },
    );
    let name = "moonshot_serve_rows_total";
    family(name, "counter", "Rows predicted.", &|out, labels, at| {
        let _ = writeln!(
            out,
            "{name}{{{labels}}} {}",
            versions[at].stats.rows.load(Relaxed)
        );
    });
    let name = "moonshot_serve_batches_total";
    family(name, "counter", "Runs of the model.", &|out, labels, at| {
        let _ = writeln!(
            out,
            "{name}{{{labels}}} {}",
            versions[at].stats.batches.load(Relaxed)
        );
    });
    let name = "moonshot_serve_queue_length";
    family(name, "gauge", "Requests that wait.", &|out, labels, at| {
        let _ = writeln!(out, "{name}{{{labels}}} {}", versions[at].lane.waiting().0);
    });
    let name = "moonshot_serve_queue_age_seconds";
    family(
        name,
        "gauge",
        "How long the oldest request waits.",
        &|out, labels, at| {
            let _ = writeln!(
                out,
                "{name}{{{labels}}} {}",
                versions[at].lane.waiting().1.as_secs_f64()
            );
        },
    );
    let name = "moonshot_serve_memory_bytes";
    family(
        name,
        "gauge",
        "Memory that the model holds.",
        &|out, labels, at| {
            let _ = writeln!(out, "{name}{{{labels}}} {}", versions[at].runtime.memory());
        },
    );
    let name = "moonshot_serve_worker_restarts_total";
    family(
        name,
        "counter",
        "Times that the model's worker process was started again.",
        &|out, labels, at| {
            if let Some(restarts) = versions[at].runtime.restarts() {
                let _ = writeln!(out, "{name}{{{labels}}} {restarts}");
            }
        },
    );
    let histograms: [(&str, &str, Which); 4] = [
        (
            "moonshot_serve_queue_seconds",
            "Time from arrival in the queue to the run.",
            |s| &s.queue,
        ),
        ("moonshot_serve_compute_seconds", "Time of a run.", |s| {
            &s.compute
        }),
        (
            "moonshot_serve_serialise_seconds",
            "Time to write the answer.",
            |s| &s.serialise,
        ),
        (
            "moonshot_serve_request_seconds",
            "Time from the request's header to its answer.",
            |s| &s.total,
        ),
    ];
    for (name, help, of) in histograms {
        family(name, "histogram", help, &|out, labels, at| {
            histogram(out, name, labels, of(&versions[at].stats));
        });
    }
    traffic(&mut out, table);
    loads.write(&mut out, table);
    out
}

/// The versions that share their model's requests.
fn traffic(out: &mut String, table: &Table) {
    let shared = table.models.iter();
    let mut shared: Vec<_> = shared
        .filter_map(|(name, model)| Some((name, model.traffic.as_ref()?)))
        .collect();
    if shared.is_empty() {
        return;
    }
    shared.sort_by_key(|(name, _)| *name);
    out.push_str(
        "# TYPE moonshot_serve_traffic_answer_seconds histogram\n\
         # TYPE moonshot_serve_traffic_errors_total counter\n\
         # TYPE moonshot_serve_traffic_given_up gauge\n\
         # TYPE moonshot_serve_shadow_requests_total counter\n",
    );
    for (name, traffic) in shared {
        traffic.write(out, &escaped(name));
    }
}

/// The lines of one histogram.
fn histogram(out: &mut String, name: &str, labels: &str, histogram: &Histogram) {
    let (more, own) = if labels.is_empty() {
        (String::new(), String::new())
    } else {
        (format!("{labels},"), format!("{{{labels}}}"))
    };
    let mut total = 0;
    for (edge, bucket) in EDGES_US.iter().zip(&histogram.buckets) {
        total += bucket.load(Relaxed);
        let edge = *edge as f64 / 1e6;
        let _ = writeln!(out, "{name}_bucket{{{more}le=\"{edge}\"}} {total}");
    }
    total += histogram.buckets[EDGES_US.len()].load(Relaxed);
    let sum = histogram.sum_ns.load(Relaxed) as f64 / 1e9;
    let _ = writeln!(out, "{name}_bucket{{{more}le=\"+Inf\"}} {total}");
    let _ = writeln!(out, "{name}_sum{own} {sum}\n{name}_count{own} {total}");
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
