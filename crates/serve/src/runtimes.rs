//! The libraries that run models of other makers: taken from their Python packages by the package index that this
//! machine is configured for, checked by hash, and kept without the rest of the package (decision 0041).
//!
//! Nothing here is needed for tree models. A library is loaded by the first model that wants it.

use crate::runtime::LoadError;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A runtime that can be installed.
#[derive(Debug)]
pub struct Known {
    /// Its name here.
    pub name: &'static str,
    /// The formats it is for.
    pub what: &'static str,
    package: &'static str,
    /// The version that is installed.
    pub version: &'static str,
    /// Of the wheel for Linux on x86-64.
    sha256: &'static str,
    /// The interpreter that the wheel is for. None is needed to run it.
    python: &'static str,
    /// What is kept of the package, and how it is called then; the first is the one to load.
    files: &'static [(&'static str, &'static str)],
}

/// TensorFlow SavedModels.
pub const TENSORFLOW: Known = Known {
    name: "tensorflow",
    what: "TensorFlow SavedModel",
    package: "tensorflow-cpu",
    version: "2.21.0",
    sha256: "2b847d217b02ee7731ed91431daf3250daa0196c3c94614d23be27232e6e5b6c",
    python: "3.11",
    files: &[
        ("tensorflow/libtensorflow_cc.so.2", "libtensorflow_cc.so.2"),
        (
            "tensorflow/libtensorflow_framework.so.2",
            "libtensorflow_framework.so.2",
        ),
    ],
};

/// ONNX models.
pub const ONNX: Known = Known {
    name: "onnx",
    what: "ONNX",
    package: "onnxruntime",
    version: "1.31.1",
    sha256: "5752bd508126ae7c49894d3b9d2e83f0c3d487319246d04c444b393308d7ad7f",
    python: "3.11",
    files: &[(
        "onnxruntime/capi/libonnxruntime.so.1.31.1",
        "libonnxruntime.so",
    )],
};

/// All of them.
pub const KNOWN: [&Known; 2] = [&TENSORFLOW, &ONNX];

/// What the name of a directory begins with that is not whole yet; the installer's process ends it.
const PART: &str = ".part-";

/// The variable that says where runtimes are kept.
pub const VARIABLE: &str = "MOONSHOT_RUNTIMES";

/// Where runtimes are kept.
#[derive(Clone, Debug)]
pub struct Runtimes {
    dir: PathBuf,
}

/// A runtime that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Where it is.
    pub path: PathBuf,
    /// What it takes on the disk.
    pub bytes: u64,
}

/// Why a runtime could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// There is no such runtime.
    #[error("there is no runtime `{0}`; there is {known}", known = names())]
    Unknown(String),
    /// This machine is of another kind.
    #[error("runtimes are for Linux on x86-64, this is {os} on {arch}", os = std::env::consts::OS, arch = std::env::consts::ARCH)]
    Machine,
    /// A directory cannot be written or read.
    #[error("cannot write `{path}`: {error}", path = .0.display(), error = .1)]
    Write(PathBuf, std::io::Error),
    /// The client of the package index failed.
    #[error("cannot install `{package}`: {text}")]
    Client {
        /// Which package.
        package: String,
        /// The client's own words.
        text: String,
    },
    /// The package lacks a file that it should have.
    #[error("`{package}` holds no `{file}`")]
    Missing {
        /// Which package.
        package: String,
        /// Which file.
        file: String,
    },
}

fn names() -> String {
    let names: Vec<String> = KNOWN
        .iter()
        .map(|known| format!("`{}`", known.name))
        .collect();
    names.join(" and ")
}

impl Runtimes {
    /// Kept in this directory.
    pub fn new(dir: PathBuf) -> Runtimes {
        Runtimes { dir }
    }

    /// Where they are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where they are kept where nothing else is said: as [`VARIABLE`] says, else in the user's cache.
    pub fn usual() -> Runtimes {
        if let Some(dir) = std::env::var_os(VARIABLE).filter(|dir| !dir.is_empty()) {
            return Runtimes::new(PathBuf::from(dir));
        }
        let cache = std::env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute());
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let cache = cache.or_else(|| home.map(|home| home.join(".cache")));
        Runtimes::new(
            cache
                .unwrap_or_else(|| PathBuf::from("/var/cache"))
                .join("moonshot/runtimes"),
        )
    }

    /// What is there.
    pub fn list(&self) -> Vec<Installed> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let file_name = entry.file_name();
            let Some((name, version)) = file_name.to_str().and_then(|name| name.split_once('-'))
            else {
                continue;
            };
            if !KNOWN.iter().any(|known| known.name == name) {
                continue;
            }
            let files = fs::read_dir(entry.path()).into_iter().flatten().flatten();
            found.push(Installed {
                name: name.to_owned(),
                version: version.to_owned(),
                bytes: files
                    .filter_map(|file| Some(file.metadata().ok()?.len()))
                    .sum(),
                path: entry.path(),
            });
        }
        found.sort_by(|a, b| (&a.name, numbers(&a.version)).cmp(&(&b.name, numbers(&b.version))));
        found
    }

    /// TensorFlow's library.
    pub(crate) fn tensorflow(&self) -> Result<PathBuf, LoadError> {
        self.library(&TENSORFLOW)
    }

    /// ONNX Runtime's library.
    pub(crate) fn onnx(&self) -> Result<PathBuf, LoadError> {
        self.library(&ONNX)
    }

    /// The newest that is there: one that was put there by hand, for a GPU or another processor, too.
    fn library(&self, known: &'static Known) -> Result<PathBuf, LoadError> {
        let (_, name) = known.files[0];
        let installed = self.list().into_iter().rev();
        let mut of_it = installed.filter(|installed| installed.name == known.name);
        match of_it.next() {
            Some(installed) => Ok(installed.path.join(name)),
            None => Err(LoadError::Runtime {
                runtime: known.name,
                text: format!(
                    "it is not in `{}`; run `moonshot serve runtimes install {}` and load the model again",
                    self.dir.display(),
                    known.name
                ),
            }),
        }
    }

    /// Installs one, from the package index or from a directory of wheels. Nothing happens where it is there.
    pub fn install(&self, name: &str, from: Option<&Path>) -> Result<Installed, InstallError> {
        let known = KNOWN
            .iter()
            .find(|known| known.name == name)
            .ok_or_else(|| InstallError::Unknown(name.to_owned()))?;
        if (std::env::consts::OS, std::env::consts::ARCH) != ("linux", "x86_64") {
            return Err(InstallError::Machine);
        }
        let place = self.dir.join(format!("{}-{}", known.name, known.version));
        let is_this = |installed: &Installed| installed.path == place;
        if let Some(there) = self.list().into_iter().find(is_this) {
            return Ok(there);
        }
        self.clean();
        let part = self
            .dir
            .join(format!("{PART}{}-{}", known.name, std::process::id()));
        let made = self.fill(known, from, &part, &place);
        // What is left of it, when it failed too.
        let _ = fs::remove_dir_all(&part);
        made?;
        self.list()
            .into_iter()
            .find(is_this)
            .ok_or_else(|| InstallError::Missing {
                package: known.package.to_owned(),
                file: known.files[0].0.to_owned(),
            })
    }

    /// Removes what installers left that were ended in the middle: hundreds of megabytes.
    fn clean(&self) {
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_str().and_then(|name| name.strip_prefix(PART));
            let pid = name.and_then(|name| name.rsplit_once('-')?.1.parse::<u32>().ok());
            if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
                // Another installer may be at it, too.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    fn fill(
        &self,
        known: &Known,
        from: Option<&Path>,
        part: &Path,
        place: &Path,
    ) -> Result<(), InstallError> {
        let write = |path: &Path| {
            let path = path.to_owned();
            move |error| InstallError::Write(path, error)
        };
        let (whole, kept) = (part.join("package"), part.join("kept"));
        fs::create_dir_all(&kept).map_err(write(&kept))?;
        let list = part.join("requirements.txt");
        let line = format!(
            "{}=={} --hash=sha256:{}\n",
            known.package, known.version, known.sha256
        );
        fs::write(&list, line).map_err(write(&list))?;
        let client = |text: String| InstallError::Client {
            package: format!("{}=={}", known.package, known.version),
            text,
        };
        let mut uv = Command::new(self.uv().map_err(client)?);
        uv.args(["pip", "install", "--quiet", "--no-deps", "--require-hashes"])
            .args(["--only-binary", ":all:", "--no-python-downloads"])
            .args(["--python-version", known.python])
            .args(["--python-platform", "x86_64-manylinux_2_28"])
            .arg("--target")
            .arg(&whole)
            .arg("--requirement")
            .arg(&list);
        if let Some(from) = from {
            uv.args(["--offline", "--no-index", "--find-links"])
                .arg(from);
        }
        said(&mut uv).map_err(client)?;
        for (file, name) in known.files {
            let kept = kept.join(name);
            fs::rename(whole.join(file), &kept).map_err(|_| InstallError::Missing {
                package: known.package.to_owned(),
                file: (*file).to_owned(),
            })?;
        }
        match fs::rename(&kept, place) {
            // Another one was quicker.
            Err(_) if place.is_dir() => Ok(()),
            result => result.map_err(write(place)),
        }
    }

    /// `uv` from the search path, else installed once from the package index.
    fn uv(&self) -> Result<PathBuf, String> {
        let on_path = PathBuf::from("uv");
        if said(Command::new(&on_path).arg("--version")).is_ok() {
            return Ok(on_path);
        }
        let tools = self.dir.join(".uv");
        let uv = tools.join("bin/uv");
        if said(Command::new(&uv).arg("--version")).is_ok() {
            return Ok(uv);
        }
        said(
            Command::new("python3")
                .args(["-m", "venv", "--clear"])
                .arg(&tools),
        )?;
        said(Command::new(tools.join("bin/python")).args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "uv",
        ]))?;
        Ok(uv)
    }
}

/// For the order of versions.
fn numbers(version: &str) -> Vec<u64> {
    version
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|part| part.parse().ok())
        .collect()
}

/// Runs a command; its own words where it fails.
fn said(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("`{program}` cannot be started: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}
