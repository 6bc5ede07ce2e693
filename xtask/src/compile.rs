//! Compiles everything that tests need in one go. Each `cargo test -p …` would choose other features of what crates
//! share and compile much of it again; here there is one choice, and the test programs are run one by one.

use crate::build;
use crate::sh::{self, Done, Failure};
use cargo_metadata::{Artifact, Message, TargetKind};
use std::io::BufReader;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Features without which some tests are not there.
const FEATURES: &[&str] = &["k8s/cluster", "e2e/cluster"];

/// What was compiled.
#[derive(Debug)]
pub(crate) struct Compiled {
    /// The programs of tests, by package and target.
    pub(crate) tests: Vec<TestProgram>,
    /// `moonshot` as tests use it.
    pub(crate) moonshot: PathBuf,
    /// The shim that is inside it.
    pub(crate) shim: PathBuf,
}

/// A program that runs the tests of one target.
#[derive(Clone, Debug)]
pub(crate) struct TestProgram {
    /// The crate.
    pub(crate) package: String,
    /// Its target: the crate's own name for unit tests, else the file's.
    pub(crate) target: String,
    program: PathBuf,
    /// Where the crate lies; tests run there.
    dir: PathBuf,
}

impl TestProgram {
    /// The command that runs its tests, with these arguments of the test runner.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(args)
            .current_dir(&self.dir)
            .env("CARGO_MANIFEST_DIR", &self.dir)
            .env("CARGO_PKG_NAME", &self.package);
        command
    }
}

/// Compiles, once for all stages of a run.
pub(crate) fn tests() -> Done<&'static Compiled> {
    static COMPILED: OnceLock<Compiled> = OnceLock::new();
    if let Some(compiled) = COMPILED.get() {
        return Ok(compiled);
    }
    let compiled = compile()?;
    Ok(COMPILED.get_or_init(|| compiled))
}

fn compile() -> Done<Compiled> {
    let shim = build::shim()?;
    let mut features = FEATURES.to_vec();
    if build::console()? {
        features.push("moonshot/console");
    }
    let mut cargo = sh::command(
        "cargo",
        ["build", "--workspace", "--lib", "--bins", "--tests"],
    );
    cargo
        .args(["--message-format", "json-render-diagnostics", "--features"])
        .arg(features.join(","))
        .env("MOONSHOT_SHIM", &shim)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = cargo
        .spawn()
        .map_err(|error| Failure::new(format!("cannot start cargo: {error}")))?;
    let output = child.stdout.take().expect("its output is piped");
    let mut moonshot = None;
    let mut tests = Vec::new();
    for message in Message::parse_stream(BufReader::new(output)) {
        let message = message
            .map_err(|error| Failure::new(format!("cannot read what cargo says: {error}")))?;
        let Message::CompilerArtifact(artifact) = message else {
            continue;
        };
        let Some(program) = &artifact.executable else {
            continue;
        };
        let program = program.clone().into_std_path_buf();
        if artifact.profile.test {
            tests.push(test_program(&artifact, program)?);
        } else if artifact.target.name == "moonshot" && artifact.target.is_kind(TargetKind::Bin) {
            moonshot = Some(program);
        }
    }
    let status = child
        .wait()
        .map_err(|error| Failure::new(format!("cannot wait for cargo: {error}")))?;
    if !status.success() {
        return Err(Failure::new("the tests do not compile; see above"));
    }
    tests.sort_by(|a, b| (&a.package, &a.target).cmp(&(&b.package, &b.target)));
    Ok(Compiled {
        tests,
        moonshot: moonshot.ok_or_else(|| Failure::new("cargo built no `moonshot`"))?,
        shim,
    })
}

fn test_program(artifact: &Artifact, program: PathBuf) -> Done<TestProgram> {
    let manifest = artifact.manifest_path.as_std_path();
    let dir = manifest
        .parent()
        .ok_or_else(|| Failure::new(format!("`{}` lies nowhere", manifest.display())))?;
    // A crate is called as its folder.
    let package = dir.file_name().unwrap_or_default().to_string_lossy();
    Ok(TestProgram {
        package: package.into_owned(),
        target: artifact.target.name.clone(),
        program,
        dir: dir.to_owned(),
    })
}
