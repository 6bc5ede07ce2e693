//! Python environments for tests that compare with the frameworks themselves: made once by `uv` under the
//! cache, found again by later runs.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// An interpreter with these packages (pip requirements), or `None` after a printed reason where no package
/// index can be reached. Panics where packages cannot be installed for another reason.
pub fn python(requirements: &[&str]) -> Option<PathBuf> {
    python_and(requirements, &[])
}

/// The same with packages that come without their own requirements, where those are huge and not needed.
pub fn python_and(requirements: &[&str], alone: &[&str]) -> Option<PathBuf> {
    let cache = cache();
    let name: String = [requirements, alone]
        .concat()
        .join("+")
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || ".-+=".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect();
    let venvs = cache.join("venvs");
    std::fs::create_dir_all(&venvs).expect("the cache can be written");
    // Test programs run side by side; the first makes it, the others wait.
    let lock = std::fs::File::create(venvs.join(format!("{name}.lock"))).expect("a lock file");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("a lock");
    let venv = venvs.join(&name);
    let interpreter = venv.join("bin/python");
    let done = venv.join("done");
    if done.exists() {
        return Some(interpreter);
    }
    let uv = match uv(&cache) {
        Ok(uv) => uv,
        Err(output) => return unreachable_or_panic("uv", &output),
    };
    let made = run(Command::new(&uv)
        .args(["venv", "--quiet", "--clear", "--python", "python3"])
        .arg(&venv));
    assert!(made.status.success(), "{}", text(&made));
    let mut steps = vec![(requirements, None)];
    if !alone.is_empty() {
        steps.push((alone, Some("--no-deps")));
    }
    for (packages, option) in steps {
        let mut install = Command::new(&uv);
        install
            .args(["pip", "install", "--quiet", "--python"])
            .arg(&interpreter)
            .args(option)
            .args(packages)
            .env("UV_CACHE_DIR", uv_cache(&cache));
        let installed = run(&mut install);
        if !installed.status.success() {
            return unreachable_or_panic(&packages.join(" "), &installed);
        }
    }
    std::fs::write(done, "").expect("the cache can be written");
    Some(interpreter)
}

/// Runs a script to its end; what it printed. Panics with its words where it fails.
#[track_caller]
pub fn script(python: &Path, script: &Path, args: &[&str]) -> String {
    let ran = run(Command::new(python).arg(script).args(args));
    assert!(ran.status.success(), "{}", text(&ran));
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

/// TensorFlow, and the clients of model servers: TensorFlow Serving's and Triton's, by gRPC.
pub fn with_tensorflow() -> Option<PathBuf> {
    let packages = ["tensorflow-cpu==2.21.0", "tritonclient[grpc]==2.73.0"];
    // It asks for a whole TensorFlow with other parts.
    python_and(&packages, &["tensorflow-serving-api==2.21.0"])
}

fn unreachable_or_panic(what: &str, output: &Output) -> Option<PathBuf> {
    let text = text(output);
    let signs = [
        "error sending request",
        "dns error",
        "Could not connect",
        "Failed to establish a new connection",
        "No such file or directory",
        "Network is unreachable",
    ];
    assert!(
        signs.iter().any(|sign| text.contains(sign)),
        "cannot install {what}: {text}"
    );
    println!("skipped: no package index is reachable for {what}");
    None
}

/// Where tests keep what may be used again.
pub fn cache() -> PathBuf {
    match std::env::var_os("MOONSHOT_CACHE") {
        Some(cache) => PathBuf::from(cache),
        None => {
            PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache/moonshot")
        }
    }
}

fn uv_cache(cache: &Path) -> PathBuf {
    std::env::var_os("UV_CACHE_DIR").map_or_else(|| cache.join("uv"), PathBuf::from)
}

/// `uv` from the search path, else installed once into the cache.
fn uv(cache: &Path) -> Result<PathBuf, Output> {
    let on_path = Command::new("uv").arg("--version").output();
    if on_path.is_ok_and(|output| output.status.success()) {
        return Ok(PathBuf::from("uv"));
    }
    let lock_file = cache.join("venvs/uv.lock");
    let lock = std::fs::File::create(lock_file).expect("a lock file");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("a lock");
    let tools = cache.join("venvs/uv");
    let uv = tools.join("bin/uv");
    if Command::new(&uv)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
    {
        return Ok(uv);
    }
    let made = run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&tools));
    if !made.status.success() {
        return Err(made);
    }
    let pip = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "uv",
    ];
    let installed = run(Command::new(tools.join("bin/python")).args(pip));
    if installed.status.success() {
        Ok(uv)
    } else {
        Err(installed)
    }
}

fn run(command: &mut Command) -> Output {
    command
        .output()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"))
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
