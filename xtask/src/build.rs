//! Builds what is run: the static shim, the console, then `moonshot` with both inside.

use crate::sh::{self, Done, Failure};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

/// How `moonshot` is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// As tests use it.
    Dev,
    /// As people use it.
    Release,
}

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Where cargo puts things.
pub(crate) fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| sh::root().join("target"), PathBuf::from)
}

/// Where downloads and builds that may be used again are kept.
pub(crate) fn cache_dir() -> PathBuf {
    std::env::var_os("MOONSHOT_CACHE").map_or_else(
        || {
            let home = std::env::var_os("HOME").map_or_else(std::env::temp_dir, PathBuf::from);
            home.join(".cache/moonshot")
        },
        PathBuf::from,
    )
}

/// Builds the shim: static, so that it starts in every image, and small.
pub(crate) fn shim() -> Done<PathBuf> {
    static_program("shim", "moonshot-shim")
}

/// Builds the program that runs in pods, static as the shim.
pub(crate) fn pod() -> Done<PathBuf> {
    static_program("pod", "moonshot-pod")
}

fn static_program(package: &str, name: &str) -> Done<PathBuf> {
    let mut cargo = sh::command("cargo", ["build", "--quiet", "--package", package]);
    cargo.args(["--bin", name, "--profile", "shim", "--target", TARGET]);
    // A folder of its own: other flags would rebuild everything that is shared.
    let dir = target_dir().join("static");
    cargo
        .env("CARGO_TARGET_DIR", &dir)
        .env("RUSTFLAGS", "-C target-feature=+crt-static");
    sh::run(&mut cargo)?;
    Ok(dir.join(TARGET).join("shim").join(name))
}

/// Builds the console into `console/dist`; `false` where Node is not found.
pub(crate) fn console() -> Done<bool> {
    let dir = sh::root().join("console");
    if !dir.join("package.json").exists() {
        return Ok(false);
    }
    if !node_is_new_enough() {
        sh::say(
            "Node 20.19 or newer was not found: the console is left out (the API and the command line work)",
        );
        return Ok(false);
    }
    if !node_modules_are_fresh(&dir) {
        sh::say("console: installing packages");
        sh::run(
            sh::command("npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"])
                .current_dir(&dir),
        )?;
    }
    // The files are embedded: built anew, even if equal, they would make cargo compile `moonshot` anew.
    let stamp = dir.join("node_modules/.built-from");
    let inputs = console_inputs(&dir)?;
    let is_fresh = dir.join("dist/index.html").exists()
        && std::fs::read_to_string(&stamp).is_ok_and(|built| built == inputs);
    if !is_fresh {
        sh::say("console: building");
        sh::run(sh::command("npm", ["run", "--silent", "build"]).current_dir(&dir))?;
        std::fs::write(&stamp, inputs)
            .map_err(|error| Failure::new(format!("`{}`: {error}", stamp.display())))?;
    }
    Ok(true)
}

/// What the console is built from: every tracked or new file with a hash of its content, and the API's description.
fn console_inputs(dir: &Path) -> Done<String> {
    let mut open = vec![dir.to_owned()];
    let mut files = vec![sh::root().join("openapi/moonshot.json")];
    while let Some(folder) = open.pop() {
        let entries = std::fs::read_dir(&folder)
            .map_err(|error| Failure::new(format!("`{}`: {error}", folder.display())))?;
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().unwrap_or_default();
            // The generated client follows from the API's description.
            let is_made = ["node_modules", "dist", "schema.d.ts"]
                .iter()
                .any(|made| name == *made);
            match (path.is_dir(), is_made) {
                (_, true) => {}
                (true, false) => open.push(path),
                (false, false) => files.push(path),
            }
        }
    }
    files.sort();
    let lines = files.iter().map(|path| {
        let mut hasher = DefaultHasher::new();
        std::fs::read(path).unwrap_or_default().hash(&mut hasher);
        format!("{} {:016x}\n", path.display(), hasher.finish())
    });
    Ok(lines.collect())
}

/// Builds `moonshot` with the shim and, where Node is found, the console inside.
pub(crate) fn moonshot(profile: Profile) -> Done<PathBuf> {
    programs(profile, &["moonshot"]).map(|dir| dir.join("moonshot"))
}

/// Builds these packages, `moonshot` among them, in one go, so that they share what they have in common; the
/// directory of their programs.
pub(crate) fn programs(profile: Profile, packages: &[&str]) -> Done<PathBuf> {
    sh::say("shim: building");
    let shim = shim()?;
    let with_console = console()?;
    sh::say(&format!("{}: building", packages.join(", ")));
    let mut cargo = sh::command("cargo", ["build"]);
    for package in packages {
        cargo.args(["--package", package]);
    }
    cargo.env("MOONSHOT_SHIM", shim);
    if with_console {
        cargo.args(["--features", "moonshot/console"]);
    }
    let folder = match profile {
        Profile::Dev => "debug",
        Profile::Release => {
            cargo.arg("--release");
            "release"
        }
    };
    sh::run(&mut cargo)?;
    Ok(target_dir().join(folder))
}

fn node_is_new_enough() -> bool {
    let Ok(version) = sh::read(&mut sh::command("node", ["--version"])) else {
        return false;
    };
    let mut parts = version
        .trim()
        .trim_start_matches('v')
        .split('.')
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let (major, minor) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    (major, minor) >= (20, 19) && sh::found("npm")
}

/// `npm ci` writes `node_modules/.package-lock.json`; it is stale when the lock file is younger.
fn node_modules_are_fresh(dir: &Path) -> bool {
    let modified = |path: PathBuf| path.metadata().and_then(|meta| meta.modified()).ok();
    let installed = modified(dir.join("node_modules/.package-lock.json"));
    let locked = modified(dir.join("package-lock.json"));
    matches!((installed, locked), (Some(installed), Some(locked)) if installed >= locked)
}

/// `python3` 3.11 or newer, which the quickstart needs.
pub(crate) fn check_python() -> Done {
    let probe = "import sys, venv; sys.exit(sys.version_info < (3, 11))";
    sh::run(&mut sh::command("python3", ["-c", probe]))
        .map_err(|_| Failure::new("Python 3.11 or newer with its `venv` module is needed: sudo apt-get install -y python3-venv"))
}
