//! Doing things as an ordinary user: root becomes `nobody` for it, everybody else is one already.

use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Command;

/// Debian's `nobody` and `nogroup`.
const NOBODY: u32 = 65_534;

/// A command that is run by an ordinary user at a terminal: Ctrl-C ends it, also where whoever runs the tests
/// ignores it, as shells do for what they run in the background.
pub fn command(program: &Path) -> Command {
    let mut command = Command::new("env");
    command.arg("--default-signal=INT");
    if rustix::process::getuid().is_root() {
        command.args([
            "setpriv".to_owned(),
            format!("--reuid={NOBODY}"),
            format!("--regid={NOBODY}"),
            "--clear-groups".to_owned(),
            "--inh-caps=-all".to_owned(),
        ]);
    }
    command.arg(program);
    command
}

/// Gives a directory with everything in it to that user.
pub fn give(path: &Path) {
    if !rustix::process::getuid().is_root() {
        return;
    }
    chown(path, Some(NOBODY), Some(NOBODY)).expect("root may");
    if path.is_dir() {
        for entry in std::fs::read_dir(path).expect("a directory") {
            give(&entry.expect("an entry").path());
        }
    }
}
