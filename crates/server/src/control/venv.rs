//! Python environments from pip requirements: resolved to exact versions, then installed by `uv` into a
//! directory named by the digest of what was resolved. A directory appears whole or not at all.

use api::environment::EnvironmentSpec;
use base::Digest;
use sha2::{Digest as _, Sha256};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// The longest that resolving and installing may each take.
const STEP_TIMEOUT: Duration = Duration::from_mins(20);
/// The beginning of the name of what is being built.
const BUILDING: &str = ".building-";
/// What tools say of a full disk: the kernel's words for `ENOSPC`.
const NO_SPACE: &str = "No space left on device";
/// Of a tool's message, what is kept for people.
const MESSAGE_MAX: usize = 4_096;

/// Builds environments under one directory.
#[derive(Clone, Debug)]
pub struct Venvs {
    root: PathBuf,
    /// What a killed process left half-made is removed before the first build.
    swept: Arc<OnceLock<()>>,
}

/// A built environment.
#[derive(Clone, Debug, PartialEq)]
pub struct Built {
    /// Of the exact packages, the Python version and the platform.
    pub digest: Digest,
    /// `name==version`, one a package.
    pub packages: Vec<String>,
}

/// Why an environment could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The requirements cannot be met, or a package could not be installed: the tool's own words.
    #[error("{0}")]
    Refused(String),
    /// A tool could not be run; trying again may help.
    #[error("cannot run `{tool}`")]
    Tool {
        /// Which.
        tool: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The disk is full; trying again may help once it is not.
    #[error("the server's disk is full: there is no room to build the environment")]
    Full,
    /// It took too long.
    #[error("`{0}` took longer than 20 minutes and was stopped")]
    Timeout(String),
    /// A directory could not be written.
    #[error("cannot write `{path}`")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Venvs {
    /// Environments under `root`.
    pub fn new(root: PathBuf) -> Self {
        Self {
            root,
            swept: Arc::default(),
        }
    }

    /// Where the environment of this digest is, if it is built.
    pub fn path(&self, digest: &Digest) -> Option<PathBuf> {
        let path = self.dir(digest);
        path.join("pyvenv.cfg").exists().then_some(path)
    }

    /// Removes environments that are not in `held` and were built before `before`; how many.
    pub fn collect(&self, held: &HashSet<Digest>, before: SystemTime) -> std::io::Result<usize> {
        let entries = match std::fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(error),
        };
        let mut n = 0;
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let Ok(digest) = format!("sha256:{name}").parse::<Digest>() else {
                continue;
            };
            if held.contains(&digest) || entry.metadata()?.modified()? >= before {
                continue;
            }
            // Under a name that is swept, should this process be killed now: nothing finds half of it.
            let gone = self.root.join(format!("{BUILDING}gone-{name}"));
            std::fs::rename(entry.path(), &gone)?;
            std::fs::remove_dir_all(&gone)?;
            n += 1;
        }
        Ok(n)
    }

    /// Resolves and installs. An environment that is already there is only resolved.
    pub async fn build(&self, spec: &EnvironmentSpec) -> Result<Built, BuildError> {
        std::fs::create_dir_all(&self.root).map_err(|source| BuildError::Directory {
            path: self.root.clone(),
            source,
        })?;
        self.swept.get_or_init(|| sweep(&self.root));
        let uv = self.uv().await?;
        self.build_with(&uv, spec).await
    }

    async fn build_with(&self, uv: &Path, spec: &EnvironmentSpec) -> Result<Built, BuildError> {
        let python = spec.python.clone().unwrap_or_else(|| "python3".to_owned());
        let version = python_version(uv, &python).await?;
        let requirements = spec.pip.clone().unwrap_or_default().join("\n");
        let lock = resolve(uv, &python, &requirements).await?;
        let packages: Vec<String> = lock
            .lines()
            .filter(|line| line.contains("=="))
            .map(str::to_owned)
            .collect();
        let digest = digest(&version, &packages);
        if self.path(&digest).is_none() {
            self.install(uv, &python, &lock, &digest).await?;
        }
        Ok(Built { digest, packages })
    }

    fn dir(&self, digest: &Digest) -> PathBuf {
        self.root.join(digest.hex())
    }

    async fn install(
        &self,
        uv: &Path,
        python: &str,
        lock: &str,
        digest: &Digest,
    ) -> Result<(), BuildError> {
        let building = self.building().map_err(full)?;
        let venv = building.path().join("venv");
        let venv_text = venv.display().to_string();
        // Relocatable: it is moved to its place once it is whole.
        run(
            uv,
            &[
                "venv",
                "--quiet",
                "--relocatable",
                "--python",
                python,
                &venv_text,
            ],
            "",
        )
        .await?;
        let interpreter = venv.join("bin/python").display().to_string();
        if !lock.trim().is_empty() {
            let args = [
                "pip",
                "install",
                "--quiet",
                "--no-deps",
                "--python",
                &interpreter,
                "--requirement",
                "-",
            ];
            run(uv, &args, lock).await?;
        }
        let place = self.dir(digest);
        match std::fs::rename(&venv, &place) {
            Ok(()) => Ok(()),
            // Somebody else was faster; what they made is the same.
            Err(_) if self.path(digest).is_some() => Ok(()),
            Err(source) => Err(full(BuildError::Directory {
                path: place,
                source,
            })),
        }
    }

    /// `uv` from the search path, else installed once beside the environments from the package index.
    async fn uv(&self) -> Result<PathBuf, BuildError> {
        let on_path = PathBuf::from("uv");
        if run(&on_path, &["--version"], "").await.is_ok() {
            return Ok(on_path);
        }
        let tools = self.root.join(".uv");
        let uv = tools.join("bin/uv");
        if run(&uv, &["--version"], "").await.is_ok() {
            return Ok(uv);
        }
        tracing::info!(path = %tools.display(), "installing uv from the package index");
        // Whoever is first puts it in its place; it is one file that needs nothing around it.
        let making = self.building()?;
        let venv = making.path().join("venv");
        let venv_text = venv.display().to_string();
        run(Path::new("python3"), &["-m", "venv", &venv_text], "").await?;
        run(
            &venv.join("bin/python"),
            &[
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "uv",
            ],
            "",
        )
        .await?;
        let bin = tools.join("bin");
        std::fs::create_dir_all(&bin)
            .and_then(|()| std::fs::rename(venv.join("bin/uv"), &uv))
            .map_err(|source| BuildError::Directory { path: bin, source })?;
        Ok(uv)
    }

    /// A directory for what is not whole yet.
    fn building(&self) -> Result<tempfile::TempDir, BuildError> {
        tempfile::Builder::new()
            .prefix(BUILDING)
            .tempdir_in(&self.root)
            .map_err(|source| BuildError::Directory {
                path: self.root.clone(),
                source,
            })
    }
}

/// Removes what was being built when a process was killed. It cannot be in use: it has no name yet.
fn sweep(root: &Path) {
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let is_half_made = entry.file_name().to_string_lossy().starts_with(BUILDING);
        if is_half_made && let Err(error) = std::fs::remove_dir_all(entry.path()) {
            tracing::warn!(%error, path = %entry.path().display(), "a half-made environment stays");
        }
    }
}

/// A full disk as what it is.
fn full(error: BuildError) -> BuildError {
    match error {
        BuildError::Directory { source, .. }
            if source.kind() == std::io::ErrorKind::StorageFull =>
        {
            BuildError::Full
        }
        other => other,
    }
}

/// `3.11.7 x86_64-linux-gnu`: what wheels depend on besides their versions.
async fn python_version(uv: &Path, python: &str) -> Result<String, BuildError> {
    let found = run(uv, &["python", "find", "--no-python-downloads", python], "")
        .await
        .map_err(|error| match error {
            BuildError::Refused(message) => BuildError::Refused(format!(
                "Python `{python}` was not found on this machine: {message}"
            )),
            other => other,
        })?;
    let probe =
        "import platform, sysconfig; print(platform.python_version(), sysconfig.get_platform())";
    run(Path::new(found.trim()), &["-c", probe], "")
        .await
        .map(|text| text.trim().to_owned())
}

async fn resolve(uv: &Path, python: &str, requirements: &str) -> Result<String, BuildError> {
    let args = [
        "pip",
        "compile",
        "--quiet",
        "--no-header",
        "--no-annotate",
        "--no-python-downloads",
        "--python",
        python,
        "-",
    ];
    run(uv, &args, requirements).await
}

fn digest(version: &str, packages: &[String]) -> Digest {
    let mut hash = Sha256::new();
    hash.update(b"moonshot venv 1\n");
    hash.update(version);
    for package in packages {
        hash.update("\n");
        hash.update(package);
    }
    Digest(hash.finalize().into())
}

/// Runs a tool with `input` on its standard input; what it prints, or its complaint.
async fn run(program: &Path, args: &[&str], input: &str) -> Result<String, BuildError> {
    let tool = program
        .file_name()
        .unwrap_or(program.as_os_str())
        .to_string_lossy()
        .into_owned();
    let failed = |source| BuildError::Tool {
        tool: tool.clone(),
        source,
    };
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let mut stdin = child.stdin.take().expect("its standard input is piped");
    let work = async {
        // A tool that does not read its input closes it early; its exit status tells the rest.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(STEP_TIMEOUT, work)
        .await
        .map_err(|_| BuildError::Timeout(format!("{tool} {}", args.first().unwrap_or(&""))))?
        .map_err(failed)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    if complaint.contains(NO_SPACE) {
        return Err(BuildError::Full);
    }
    let complaint: String = complaint.trim().chars().take(MESSAGE_MAX).collect();
    Err(BuildError::Refused(complaint))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(pip: &[&str]) -> EnvironmentSpec {
        EnvironmentSpec {
            pip: Some(pip.iter().map(|&p| p.to_owned()).collect()),
            ..EnvironmentSpec::default()
        }
    }

    #[tokio::test]
    async fn a_built_environment_runs_and_is_not_built_twice() {
        let root = tempfile::tempdir().unwrap();
        let venvs = Venvs::new(root.path().to_owned());
        let built = venvs.build(&spec(&["six==1.16.0"])).await.unwrap();
        assert_eq!(built.packages, ["six==1.16.0"]);
        let path = venvs.path(&built.digest).unwrap();
        let said = run(
            &path.join("bin/python"),
            &["-c", "import six; print(six.__version__)"],
            "",
        )
        .await
        .unwrap();
        assert_eq!(said.trim(), "1.16.0");
        let made = path
            .join("pyvenv.cfg")
            .metadata()
            .unwrap()
            .modified()
            .unwrap();
        assert_eq!(venvs.build(&spec(&["six==1.16.0"])).await.unwrap(), built);
        assert_eq!(
            path.join("pyvenv.cfg")
                .metadata()
                .unwrap()
                .modified()
                .unwrap(),
            made
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_same_built_twice_at_once_is_one_environment() {
        let root = tempfile::tempdir().unwrap();
        let venvs = Venvs::new(root.path().to_owned());
        // What a killed process left.
        let left = root.path().join(".building-dead/venv");
        std::fs::create_dir_all(&left).unwrap();
        let (one, two) = (spec(&["six==1.16.0"]), spec(&["six==1.16.0"]));
        let (one, two) = tokio::join!(venvs.build(&one), venvs.build(&two));
        let (one, two) = (one.unwrap(), two.unwrap());
        assert_eq!(one, two);
        assert!(venvs.path(&one.digest).is_some());
        assert_eq!(named(root.path()), [one.digest.hex()]);
    }

    #[tokio::test]
    async fn a_full_disk_is_told_as_such_and_the_build_succeeds_once_there_is_room() {
        let root = tempfile::tempdir().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=24k", "tmpfs"])
            .arg(root.path())
            .output()
            .unwrap();
        if !mounted.status.success() {
            println!(
                "skipped: {}",
                String::from_utf8_lossy(&mounted.stderr).trim()
            );
            return;
        }
        let venvs = Venvs::new(root.path().to_owned());
        // The tool itself lies elsewhere: it is the environment that does not fit.
        let tools = tempfile::tempdir().unwrap();
        let uv = Venvs::new(tools.path().to_owned()).uv().await.unwrap();
        let refused = venvs.build_with(&uv, &spec(&["six==1.16.0"])).await;
        let left = named(root.path());
        let grown = std::process::Command::new("mount")
            .args(["-o", "remount,size=64m"])
            .arg(root.path())
            .status();
        let built = venvs.build_with(&uv, &spec(&["six==1.16.0"])).await;
        let unmounted = std::process::Command::new("umount")
            .arg(root.path())
            .status();
        assert!(grown.unwrap().success() && unmounted.unwrap().success());
        assert!(matches!(refused, Err(BuildError::Full)), "{refused:?}");
        assert!(left.is_empty(), "{left:?}");
        assert_eq!(built.unwrap().packages, ["six==1.16.0"]);
    }

    /// Names in a directory, without the tools.
    fn named(root: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(root).unwrap().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name != ".uv").collect()
    }

    #[tokio::test]
    async fn what_does_not_resolve_says_so_and_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let venvs = Venvs::new(root.path().to_owned());
        let error = venvs
            .build(&spec(&["six==1.16.0", "six==1.15.0"]))
            .await
            .unwrap_err();
        assert!(
            matches!(&error, BuildError::Refused(message) if message.contains("six")),
            "{error}"
        );
        let left: Vec<_> = std::fs::read_dir(root.path())
            .unwrap()
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        assert!(left.iter().all(|name| name == ".uv"), "{left:?}");
    }
}
