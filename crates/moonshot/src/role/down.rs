//! `moonshot down`: stops the gateway, the server, and what runs on this machine.

use super::files;
use super::settings::Settings;
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::time::Duration;

/// For the server and the gateway to end by themselves.
const PATIENCE: Duration = Duration::from_secs(40);
/// For programs to end by themselves.
const GRACE: Duration = Duration::from_secs(10);

/// Stops everything. With `keep`, programs go on without the platform and are found again by the next `up`.
pub(crate) fn run(settings: &Settings, keep: bool) -> Result<(), String> {
    let data = &settings.data_dir;
    let mut stopped = Vec::new();
    // The server first: it would start the gateway again.
    for role in ["server", "gateway"] {
        match files::stop(data, role, PATIENCE) {
            Ok(None) => {}
            Ok(Some(true)) => stopped.push(role.to_owned()),
            Ok(Some(false)) => stopped.push(format!(
                "{role} (killed: it did not end in {} s)",
                PATIENCE.as_secs()
            )),
            Err(error) => return Err(format!("cannot stop the {role}: {error}")),
        }
    }
    if !keep {
        let n = stop_programs(&data.join("engine"));
        if n > 0 {
            stopped.push(format!("{n} programs"));
        }
    }
    if stopped.is_empty() {
        println!("nothing runs on {}", data.display());
    } else {
        println!("stopped: {}", stopped.join(", "));
    }
    Ok(())
}

/// Ends every shim of this installation, and with it its program. The next `up` sees that the machine stopped
/// them and starts them anew.
fn stop_programs(engine: &Path) -> usize {
    let shims = shims(engine);
    for pid in &shims {
        // It may have ended by itself.
        let _ = kill_process(*pid, Signal::TERM);
    }
    files::wait_until(GRACE, || !shims.iter().any(|pid| alive(*pid)));
    for pid in shims.iter().filter(|pid| alive(**pid)) {
        let _ = kill_process(*pid, Signal::KILL);
    }
    files::wait_until(GRACE, || !shims.iter().any(|pid| alive(*pid)));
    shims.len()
}

fn alive(pid: Pid) -> bool {
    let status =
        std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    // A zombie has ended; only its parent has not looked yet.
    !status.is_empty()
        && !status
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .trim_start()
            .starts_with('Z')
}

/// Shims whose replica directory is under this engine's root.
fn shims(engine: &Path) -> Vec<Pid> {
    let root = engine.to_string_lossy().into_owned();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_ours = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<String> = line
            .split(|byte| *byte == 0)
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect();
        words
            .first()
            .is_some_and(|program| program.contains("moonshot-shim"))
            && words.iter().any(|word| word.starts_with(&root))
    };
    pids.filter(is_ours).filter_map(Pid::from_raw).collect()
}
