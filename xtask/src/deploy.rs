//! `cargo xtask test deploy`: the chart is rendered by Helm itself, its refusals are heard, and the plain YAML beside it is what
//! it renders. `cargo xtask deploy` writes that YAML anew.

use crate::cluster;
use crate::sh::{self, Done, Failure};
use std::fs;
use std::path::Path;
use std::process::Command;

/// What the plain YAML is rendered with: a small installation of one server.
const PLAIN: &[&str] = &[
    "image.server=example/moonshot:0.1.0",
    "image.agent=example/moonshot-agent:0.1.0",
    "image.host=example/busybox:1",
    "image.python=example/python:3.11",
];
/// The most lines of plain YAML that a person will read.
const LINES_MAX: usize = 1_000;
const HEAD: &str = "\
# One server with SQLite: what `deploy/chart` renders. Change the images, then `kubectl create namespace moonshot` and
# `kubectl apply -f` this file. Written by `cargo xtask deploy`.
";

/// A way to set values that must be refused, and a word of the refusal.
const REFUSED: &[(&[&str], &str)] = &[
    (&["image.agent="], "image.agent is needed"),
    (&["checkpoints.accessMode=Many"], "choose ReadWriteOnce or"),
    (&["replicas=0"], "choose 1 to 3"),
    (&["replicas=4"], "choose 1 to 3"),
    (&["replicas=2"], "needs PostgreSQL"),
    (
        &["replicas=2", "database.secret=pg"],
        "needs data that all servers share",
    ),
];

/// Renders the chart with values on top of [`PLAIN`].
fn render(helm: &Path, values: &[&str]) -> Done<String> {
    let chart = sh::root().join("deploy/chart");
    let mut command = Command::new(helm);
    command
        .arg(chart)
        .args(["moonshot", "moonshot"])
        .args(PLAIN)
        .args(values);
    let output = command
        .output()
        .map_err(|error| Failure::new(format!("`{}`: {error}", helm.display())))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(Failure::new(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        ))
    }
}

fn plain(helm: &Path) -> Done<String> {
    Ok(format!("{HEAD}{}", render(helm, &[])?))
}

/// Writes the plain YAML.
pub(crate) fn write() -> Done {
    let path = sh::root().join("deploy/moonshot.yaml");
    let text = plain(&cluster::helm()?)?;
    fs::write(&path, text).map_err(|error| Failure::new(format!("`{}`: {error}", path.display())))
}

/// Renders and compares; how many checks were made.
pub(crate) fn check() -> Done<u64> {
    let helm = cluster::helm()?;
    let path = sh::root().join("deploy/moonshot.yaml");
    let written = fs::read_to_string(&path)
        .map_err(|error| Failure::new(format!("`{}`: {error}", path.display())))?;
    if written != plain(&helm)? {
        return Err(Failure::new(
            "`deploy/moonshot.yaml` is not what the chart renders: `cargo xtask deploy` writes it",
        ));
    }
    let n_lines = written.lines().count();
    if n_lines >= LINES_MAX {
        return Err(Failure::new(format!(
            "`deploy/moonshot.yaml` has {n_lines} lines; fewer than {LINES_MAX} are wanted"
        )));
    }
    for (values, word) in REFUSED {
        match render(&helm, values) {
            Err(refusal) if refusal.to_string().contains(word) => {}
            Err(refusal) => {
                return Err(Failure::new(format!(
                    "{values:?} is refused, but not by `{word}`: {refusal}"
                )));
            }
            Ok(_) => return Err(Failure::new(format!("{values:?} is not refused"))),
        }
    }
    let several = [
        "replicas=3",
        "database.secret=pg",
        "data.accessMode=ReadWriteMany",
        "store.url=s3://bucket/moonshot",
        "store.secret=s3",
    ];
    let several = render(&helm, &several)?;
    for word in [
        "replicas: 3",
        "kind: PodDisruptionBudget",
        "MOONSHOT_DATABASE",
        "MOONSHOT_STORE_CREDENTIALS",
        "ReadWriteMany",
    ] {
        if !several.contains(word) {
            return Err(Failure::new(format!(
                "three servers are rendered without `{word}`"
            )));
        }
    }
    Ok(2 + REFUSED.len() as u64)
}
