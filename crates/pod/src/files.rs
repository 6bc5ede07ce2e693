//! The replica's files under [`Layout::root`], as the local engine lays them out, and the variables that name them.

use crate::engine::{Engine, Refused};
use pod::wire::{self, Mount, Source, Spec};
use shim::variables::Variables;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::process::Command;

/// Where things are in the pod's volume.
pub(crate) struct Layout {
    home: PathBuf,
}

impl Layout {
    pub(crate) fn new(home: impl Into<PathBuf>) -> Layout {
        Layout { home: home.into() }
    }

    /// What the program sees as its root.
    pub(crate) fn root(&self) -> PathBuf {
        self.home.join("root")
    }

    /// Output that waits.
    pub(crate) fn spool(&self) -> PathBuf {
        self.home.join("spool")
    }

    /// A file in which things wait for a moment.
    pub(crate) fn scratch(&self, name: &str) -> PathBuf {
        self.home.join(format!("scratch-{name}"))
    }

    /// For `exec`: the variables and the directory of the program.
    pub(crate) fn program(&self) -> PathBuf {
        self.home.join("program.json")
    }

    pub(crate) fn shim(&self) -> PathBuf {
        self.home.join("bin/moonshot-shim")
    }

    /// The next run's directory: a container that is restarted in place runs again.
    pub(crate) fn next_run(&self) -> io::Result<PathBuf> {
        for n in 1_u32.. {
            let run = self.home.join(format!("run-{n}"));
            match fs::create_dir(&run) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
                Ok(()) => return Ok(run),
            }
        }
        Err(io::ErrorKind::StorageFull.into())
    }

    fn prepared(&self) -> PathBuf {
        self.home.join("prepared")
    }

    fn environment(&self) -> PathBuf {
        self.home.join("environment")
    }
}

/// What the shim is told besides the command's run.
pub(crate) struct Prepared {
    pub(crate) command: Vec<String>,
    pub(crate) cwd: PathBuf,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) outputs: PathBuf,
}

/// Makes the files (once in a pod's life) and the variables. An error is a sentence for people.
pub(crate) fn prepare(engine: &Engine, spec: &Spec, layout: &Layout) -> Result<Prepared, String> {
    let root = layout.root();
    let outputs = inside(
        &root,
        path_of(spec, "outputs", |s| matches!(s, Source::Outputs)),
    )?;
    if !layout.prepared().exists() {
        // What a container that was killed meanwhile left half-made.
        match fs::remove_dir_all(&root) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(files(&error)),
            Ok(()) | Err(_) => {}
        }
        for dir in [&root, &root.join("tmp"), &outputs] {
            make_dir(dir).map_err(|error| files(&error))?;
        }
        for (n, mount) in spec.mounts.iter().enumerate() {
            put(engine, layout, n, mount)?;
        }
        if let Some(digest) = &spec.environment {
            environment(engine, layout, digest)?;
        }
        fs::write(layout.prepared(), b"").map_err(|error| files(&error))?;
    }
    let env = variables(spec, layout, &outputs)?;
    let code = spec
        .mounts
        .iter()
        .find(|mount| matches!(mount.source, Source::Code(_)));
    let cwd = code.map_or_else(|| Ok(root.clone()), |code| inside(&root, &code.path))?;
    let cwd = spec
        .workdir
        .as_ref()
        .map_or_else(|| Ok(cwd.clone()), |workdir| inside(&cwd, workdir))?;
    Ok(Prepared {
        command: spec.command.iter().map(|word| env.expand(word)).collect(),
        cwd,
        env: env.into_pairs(),
        outputs,
    })
}

fn files(error: &io::Error) -> String {
    format!("its files cannot be prepared: {error}")
}

fn path_of<'a>(spec: &'a Spec, otherwise: &'a str, is: impl Fn(&Source) -> bool) -> &'a str {
    let mount = spec.mounts.iter().find(|mount| is(&mount.source));
    mount.map_or(otherwise, |mount| &mount.path)
}

/// A path under `root`. Absolute ones are taken as relative to it.
fn inside(root: &Path, path: &str) -> Result<PathBuf, String> {
    let mut inside = root.to_owned();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => inside.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(format!(
                    "the path `{path}` leads outside of the replica's files"
                ));
            }
        }
    }
    Ok(inside)
}

fn make_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(path)
}

fn put(engine: &Engine, layout: &Layout, n: usize, mount: &Mount) -> Result<(), String> {
    let path = inside(&layout.root(), &mount.path)?;
    match &mount.source {
        Source::Code(digest) | Source::Input(digest) => {
            let what = format!("`{}` cannot be put in place", mount.path);
            fetch(
                engine,
                layout,
                wire::BLOBS,
                digest,
                &n.to_string(),
                &path,
                &what,
            )
        }
        Source::Outputs | Source::Scratch => make_dir(&path).map_err(|error| files(&error)),
        Source::Volume(volume) => {
            let parent = path.parent().map_or(Ok(()), make_dir);
            parent
                .and_then(|()| symlink(volume, &path))
                .map_err(|error| files(&error))
        }
        Source::Secret(entries) => secret(&path, entries).map_err(|error| files(&error)),
    }
}

/// Fetches a blob and unpacks it.
fn fetch(
    engine: &Engine,
    layout: &Layout,
    kind: &str,
    digest: &str,
    name: &str,
    into: &Path,
    what: &str,
) -> Result<(), String> {
    let blob = layout.scratch(name);
    engine
        .blob(kind, digest, &blob)
        .map_err(|refused| match refused {
            Refused::No(sentence) => format!("{what}: {sentence}"),
            Refused::Superseded => format!("{what}: a newer attempt runs"),
            Refused::GivenUp => format!("{what}: the engine cannot be reached"),
        })?;
    let unpacked = crate::outputs::unpack(&blob, into);
    unpacked
        .and_then(|()| fs::remove_file(&blob))
        .map_err(|error| format!("{what}: {error}"))
}

/// Files for this user alone.
fn secret(path: &Path, entries: &[(String, Vec<u8>)]) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    for (name, bytes) in entries {
        let is_plain = !name.is_empty() && !name.contains('/') && name != "." && name != "..";
        if !is_plain {
            let text = format!("`{name}` cannot be a file name");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path.join(name));
        file?.write_all(bytes)?;
    }
    Ok(())
}

/// A virtual environment on this image's Python, with the packages that were built elsewhere for the same version.
fn environment(engine: &Engine, layout: &Layout, digest: &str) -> Result<(), String> {
    let dir = layout.environment();
    let made = Command::new("python3")
        .args(["-m", "venv", "--without-pip"])
        .arg(&dir)
        .output()
        .map_err(|error| format!("its environment needs an image with `python3`: {error}"))?;
    if !made.status.success() {
        let said = String::from_utf8_lossy(&made.stderr);
        return Err(format!("its environment cannot be made: {}", said.trim()));
    }
    let what = "its environment cannot be put in place";
    fetch(
        engine,
        layout,
        wire::ENVIRONMENTS,
        digest,
        "environment",
        &dir,
        what,
    )
}

fn variables(spec: &Spec, layout: &Layout, outputs: &Path) -> Result<Variables, String> {
    let mut env = Variables::default();
    let root = layout.root();
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".to_owned());
    env.set("PATH", path.clone());
    env.set("HOME", text(&root));
    env.set("TMPDIR", text(&root.join("tmp")));
    env.set("LANG", "C.UTF-8");
    if spec.environment.is_some() {
        let environment = text(&layout.environment());
        env.set("PATH", format!("{environment}/bin:{path}"));
        env.set("VIRTUAL_ENV", environment);
        env.set("PYTHONUNBUFFERED", "1");
    }
    env.set("MOONSHOT_ROOT", text(&root));
    env.set("MOONSHOT_OUTPUTS", text(outputs));
    env.set("MOONSHOT_INPUTS", text(&root.join("inputs")));
    for (name, value) in std::env::vars() {
        // What Kubernetes and device plugins say to the container is for the program.
        let is_ours = name.starts_with("MOONSHOT_")
            || ["PATH", "HOME", "TMPDIR", "LANG"].contains(&name.as_str());
        if !is_ours {
            env.set(&name, value);
        }
    }
    if let Ok(node) = std::env::var("MOONSHOT_NODE") {
        env.set("MOONSHOT_NODE", node);
    }
    let checkpoint = spec
        .mounts
        .iter()
        .find(|mount| matches!(mount.source, Source::Volume(_)));
    if let Some(checkpoint) = checkpoint {
        env.set(
            "MOONSHOT_CHECKPOINT",
            text(&inside(&root, &checkpoint.path)?),
        );
    }
    for variable in &spec.env {
        if variable.expand {
            env.set_expanded(&variable.name, &variable.value);
        } else {
            env.set(&variable.name, variable.value.clone());
        }
    }
    Ok(env)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        let root = Path::new("/r");
        let check = |path: &str, expect: &str| {
            assert_eq!(inside(root, path), Ok(PathBuf::from(expect)), "{path}");
        };
        check("code", "/r/code");
        check("/data/./set", "/r/data/set");
        for path in ["..", "a/../../b", "/../etc"] {
            assert!(inside(root, path).is_err(), "{path}");
        }
    }

    #[test]
    fn each_start_of_the_container_is_a_run_of_its_own() {
        let home = tempfile::tempdir().expect("a directory");
        let layout = Layout::new(home.path());
        let runs = [(); 3].map(|()| layout.next_run().expect("made"));
        assert_eq!(runs[2], home.path().join("run-3"));
    }

    #[test]
    fn names_of_secrets_cannot_lead_elsewhere() {
        let home = tempfile::tempdir().expect("a directory");
        let entries = [("../x".to_owned(), Vec::new())];
        assert!(secret(&home.path().join("s"), &entries).is_err());
        assert!(!home.path().join("x").exists());
    }
}
