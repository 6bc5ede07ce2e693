//! `moonshot down`: stops the gateway, the server, and what runs on this machine.

use super::files;
use super::settings::Settings;
use crate::out::say;
use base::Span;
use std::time::Duration;

/// For a server and the gateway to end by themselves.
const PATIENCE: Duration = Duration::from_secs(40);
/// For programs to end by themselves, where their own grace is not shorter.
const GRACE: Span = Span::from_secs(10);

/// Stops everything. With `keep`, programs go on without the platform and are found again by the next `up`.
pub(crate) fn run(settings: &Settings, keep: bool) -> Result<(), String> {
    let data = &settings.data_dir;
    let mut stopped = Vec::new();
    // The servers first: they would start the gateway again. Those that wait before the one that leads.
    let mut servers: Vec<String> = files::server_roles().collect();
    servers.reverse();
    for role in servers.iter().map(String::as_str).chain(["gateway"]) {
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
        let n = local::stop_programs(&data.join("engine"), GRACE);
        if n > 0 {
            stopped.push(format!("{n} programs"));
        }
    }
    if settings.kubernetes.is_some() {
        say!("programs on the cluster go on; `moonshot delete` ends them while the platform is up");
    }
    if stopped.is_empty() {
        say!("nothing runs on {}", data.display());
    } else {
        say!("stopped: {}", stopped.join(", "));
    }
    Ok(())
}
