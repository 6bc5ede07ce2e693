//! The edges between our crates, as ARCHITECTURE.md draws them. A new edge is a design change: it is
//! made here first.

use crate::sh::{self, Done, Failure};
use cargo_metadata::{DependencyKind, MetadataCommand};

/// What each crate may depend on, of ours. Tests may use more (see [`DEV_ONLY`]).
const EDGES: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("sched", &["base"]),
    ("engine", &["base"]),
    ("plan", &["base", "engine"]),
    ("api", &["base"]),
    ("client", &["api", "base"]),
    ("shim", &["base"]),
    ("pack", &["base"]),
    ("local", &["base", "engine", "pack", "shim"]),
    ("pod", &["base", "shim"]),
    ("k8s", &["base", "engine", "pod", "shim"]),
    ("db", &["api", "base"]),
    ("store", &["base", "pack"]),
    ("logs", &["base"]),
    ("schedlog", &["base", "sched"]),
    ("canary", &[]),
    ("telemetry", &[]),
    ("gateway", &["base", "canary", "telemetry"]),
    ("trees", &[]),
    ("serve", &["base", "canary", "trees"]),
    ("sim", &["base", "plan", "sched", "schedlog"]),
    (
        "server",
        &[
            "api",
            "base",
            "canary",
            "db",
            "engine",
            "logs",
            "plan",
            "sched",
            "schedlog",
            "store",
            "telemetry",
        ],
    ),
    (
        "moonshot",
        &[
            "api",
            "base",
            "client",
            "db",
            "engine",
            "gateway",
            "k8s",
            "local",
            "logs",
            "pack",
            "serve",
            "server",
            "sim",
            "store",
            "telemetry",
        ],
    ),
    ("e2e", &[]),
    (
        "bench",
        &[
            "base", "db", "e2e", "engine", "logs", "sched", "server", "store", "trees",
        ],
    ),
    ("xtask", &[]),
];

/// Only tests and benches may use these.
const DEV_ONLY: &[&str] = &["bench", "e2e", "xtask"];

/// A heavy dependency belongs to one crate.
const OWNERS: &[(&str, &[&str])] = &[
    ("sqlx", &["db"]),
    ("opendal", &["store"]),
    ("tar", &["pack", "k8s", "pod", "xtask"]),
    ("axum", &["server"]),
    ("clap", &["moonshot"]),
    // The store has it beneath opendal already.
    ("reqwest", &["client", "store"]),
    ("kube", &["k8s"]),
    ("k8s-openapi", &["k8s"]),
    ("cel", &["k8s"]),
    ("ureq", &["pod"]),
    ("signal-hook", &["pod"]),
    ("jsonschema", &["api"]),
    ("libloading", &["serve", "bench"]),
    ("ort", &["serve", "bench"]),
    ("tonic", &["serve"]),
    ("opentelemetry", &["telemetry"]),
    ("tracing-subscriber", &["telemetry"]),
    ("utoipa", &["api"]),
];

/// Pure crates name nothing that reads a clock, a file, the network or randomness.
const PURE: &[(&str, &[&str])] = &[
    ("base", &["serde"]),
    ("sched", &[]),
    ("plan", &[]),
    ("trees", &["thiserror"]),
];

/// Fails with every edge that is not in the tables.
pub(crate) fn check() -> Done {
    let metadata = MetadataCommand::new()
        .manifest_path(sh::root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .map_err(|error| Failure::new(format!("cargo metadata: {error}")))?;
    let ours: Vec<&str> = metadata
        .packages
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    let mut wrong = Vec::new();
    for package in &metadata.packages {
        let name = package.name.as_str();
        let Some((_, allowed)) = EDGES.iter().find(|(from, _)| *from == name) else {
            wrong.push(format!(
                "`{name}` is not in the table of crates (xtask/src/layering.rs)"
            ));
            continue;
        };
        for dependency in package
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind == DependencyKind::Normal)
        {
            let to = dependency.name.as_str();
            if ours.contains(&to) {
                if DEV_ONLY.contains(&to) && !DEV_ONLY.contains(&name) {
                    wrong.push(format!(
                        "`{name}` depends on `{to}`, which only tests may use"
                    ));
                } else if !allowed.contains(&to) {
                    wrong.push(format!("`{name}` may not depend on `{to}`"));
                }
                continue;
            }
            if let Some((_, owners)) = OWNERS.iter().find(|(heavy, _)| *heavy == to)
                && !owners.contains(&name)
            {
                wrong.push(format!(
                    "`{name}` names `{to}`, which belongs to `{}`",
                    owners.join("`, `")
                ));
            }
            if let Some((_, external)) = PURE.iter().find(|(pure, _)| *pure == name)
                && !external.contains(&to)
            {
                wrong.push(format!("`{name}` is pure and may not depend on `{to}`"));
            }
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(wrong.join("\n")))
    }
}
