//! `cargo xtask cluster up|down|status`: a real Kubernetes 1.35 on this machine, for tests.
//!
//! Everything is built from Go modules (`testing/kube`) and started as plain processes in one
//! directory: no container engine, no registry. With a node (root) there are containerd, a kubelet, CoreDNS
//! and a small enforcer of NetworkPolicies on a bridge of its own; `--control-plane-only` starts on loopback in seconds, as
//! any user, several side by side. `--kwok N` adds simulated nodes with eight GPUs each.
//!
//! Read [`layout`] (where things are), [`build`](mod@build) (what is built), [`start`], [`stop`].

mod build;
mod image;
mod kwok;
mod layout;
mod network;
mod process;
mod start;
mod stop;
mod traces;

use crate::sh::{self, Done, Failure};
use layout::Layout;
use std::path::{Path, PathBuf};
use std::time::Instant;

const HELP: &str = "\
cargo xtask cluster up       start a Kubernetes and print its kubeconfig
    --control-plane-only     without a node that runs pods; needs no root
    --kwok N                 with N simulated nodes
    --moonshot FILE          with the image moonshot.test/server:1, in which FILE serves models
cargo xtask cluster down     stop it and remove everything it made
cargo xtask cluster status   its processes with their memory
cargo xtask cluster build    only build what it needs

`--dir DIR` names the cluster's directory, where there are several";

/// What was asked for.
struct Options {
    dir: PathBuf,
    with_node: bool,
    n_kwok: Option<usize>,
    /// The program that serves models in pods.
    moonshot: Option<PathBuf>,
}

/// Runs one verb.
pub(crate) fn run(args: &[String]) -> Done {
    let (verb, rest) = args
        .split_first()
        .map_or(("help", &[][..]), |(verb, rest)| (verb.as_str(), rest));
    match verb {
        "up" => up(&options(rest)?),
        "down" => stop::stop(&Layout::find(&options(rest)?.dir)?),
        "status" => status(&Layout::find(&options(rest)?.dir)?),
        "build" => build::all().map(|programs| sh::say(&programs.dir().display().to_string())),
        "help" | "-h" | "--help" => {
            sh::say(HELP);
            Ok(())
        }
        other => Err(Failure::new(format!(
            "there is no verb `cluster {other}`\n\n{HELP}"
        ))),
    }
}

fn options(args: &[String]) -> Done<Options> {
    let mut options = Options {
        dir: crate::build::cache_dir().join("cluster"),
        with_node: true,
        n_kwok: None,
        moonshot: None,
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || {
            args.next()
                .ok_or_else(|| Failure::new(format!("`{arg}` needs a value")))
        };
        match arg.as_str() {
            "--control-plane-only" => options.with_node = false,
            "--kwok" => {
                let text = value()?;
                let n = text
                    .parse()
                    .map_err(|_| Failure::new(format!("`--kwok {text}` is not a number")))?;
                options.n_kwok = Some(n);
            }
            "--moonshot" => options.moonshot = Some(PathBuf::from(value()?)),
            "--dir" => {
                let dir = PathBuf::from(value()?);
                options.dir = std::path::absolute(&dir)
                    .map_err(|error| Failure::new(format!("`{}`: {error}", dir.display())))?;
            }
            other => {
                return Err(Failure::new(format!(
                    "there is no option `{other}`\n\n{HELP}"
                )));
            }
        }
    }
    Ok(options)
}

fn up(options: &Options) -> Done {
    if options.with_node && !sh::is_root() {
        return Err(Failure::new(
            "a node needs root; without it there is `cargo xtask cluster up --control-plane-only`",
        ));
    }
    let programs = build::all()?;
    let layout = Layout::create(options)?;
    let started = Instant::now();
    if let Err(failure) = start::start(&layout, &programs, options) {
        // The logs are wanted now: only what runs is ended.
        process::end_all(&layout);
        return Err(failure);
    }
    if let Some(n_kwok) = options.n_kwok {
        kwok::add(&layout, &programs, n_kwok)?;
    }
    sh::say(&format!(
        "up in {:.1} s\nexport KUBECONFIG={}\nexport PATH={}:$PATH",
        started.elapsed().as_secs_f64(),
        layout.kubeconfig("admin").display(),
        programs.dir().display()
    ));
    Ok(())
}

/// Starts a control plane with simulated nodes for a while; `run` gets its kubeconfig and the scheduler's process id.
pub(crate) fn with_kwok<T>(n_kwok: usize, run: impl FnOnce(&Path, &str) -> Done<T>) -> Done<T> {
    let dir = crate::build::cache_dir().join(format!("kwok-{}", std::process::id()));
    up(&Options {
        dir: dir.clone(),
        with_node: false,
        n_kwok: Some(n_kwok),
        moonshot: None,
    })?;
    let layout = Layout::find(&dir)?;
    let scheduler = process::all(&layout)
        .into_iter()
        .find(|(name, _)| name == "kube-scheduler")
        .map_or_else(String::new, |(_, process)| process.pid.to_string());
    let done = run(&layout.kubeconfig("admin"), &scheduler);
    stop::stop(&layout)?;
    done
}

/// Helm's renderer.
pub(crate) fn helm() -> Done<PathBuf> {
    build::helm()
}

/// Starts a cluster with a node for a while; `run` gets its kubeconfig and the program kubectl. Pods can run this
/// `moonshot`.
pub(crate) fn with_node<T>(moonshot: &Path, run: impl FnOnce(&Path, &Path) -> Done<T>) -> Done<T> {
    let dir = crate::build::cache_dir().join(format!("cluster-{}", std::process::id()));
    up(&Options {
        dir: dir.clone(),
        with_node: true,
        n_kwok: None,
        moonshot: Some(moonshot.to_owned()),
    })?;
    let layout = Layout::find(&dir)?;
    let kubectl = build::all()?.dir().join("kubectl");
    let done = run(&layout.kubeconfig("admin"), &kubectl);
    stop::stop(&layout)?;
    done
}

fn status(layout: &Layout) -> Done {
    sh::say("process                       pid  memory MiB  cpu s");
    for (name, process) in process::all(layout) {
        let line = match process.usage() {
            Some((mebibytes, cpu)) => {
                format!("{name:<24} {:>8} {mebibytes:>11} {cpu:>6.1}", process.pid)
            }
            None => format!("{name:<24} {:>8}        ended", process.pid),
        };
        sh::say(&line);
    }
    Ok(())
}
