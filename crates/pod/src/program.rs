//! The program's variables and directory, for those that are started beside it (exec, probes).

use crate::files::Layout;
use pod::wire::HOME;
use serde::{Deserialize, Serialize};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// Exit codes of shells: not found, cannot be executed.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

#[derive(Serialize, Deserialize)]
struct Program {
    env: Vec<(String, String)>,
    cwd: PathBuf,
}

/// Writes them down, for this user alone.
pub(crate) fn remember(
    layout: &Layout,
    env: &[(String, String)],
    cwd: &std::path::Path,
) -> io::Result<()> {
    let program = Program {
        env: env.to_vec(),
        cwd: cwd.to_owned(),
    };
    let path = layout.program();
    let draft = path.with_extension("draft");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(&serde_json::to_vec(&program)?)?;
    fs::rename(draft, path)
}

/// Becomes another program with them.
pub(crate) fn exec(program: &str, args: &[&str]) -> ExitCode {
    let known = fs::read(Layout::new(HOME).program());
    let known: Option<Program> = known
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let Some(known) = known else {
        eprintln!("moonshot-pod: the program has not started yet");
        return ExitCode::FAILURE;
    };
    let error = Command::new(program)
        .args(args)
        .env_clear()
        .envs(known.env)
        .current_dir(known.cwd)
        .exec();
    eprintln!("{program}: {error}");
    if error.kind() == io::ErrorKind::NotFound {
        ExitCode::from(NOT_FOUND)
    } else {
        ExitCode::from(NOT_EXECUTABLE)
    }
}
