//! Starts a shim, or finds one that runs, and notices its end.

use crate::ctx::Ctx;
use crate::layout::{ReplicaDir, dir_name};
use crate::prepare::Prepared;
use crate::record::Replica;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use shim::identity;
use shim::record::{self, Cgroup, Launch, Started, VERSION, name};
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::io::unix::AsyncFd;
use tokio::process::{Child, Command};

/// A shim that runs.
pub(crate) enum Shim {
    /// Started by this process, which must collect it.
    Child(Child),
    /// Found.
    Adopted(AsyncFd<OwnedFd>),
    /// It has ended before it was looked for.
    Gone,
}

impl Shim {
    /// Waits for its end.
    pub(crate) async fn gone(&mut self) {
        let ended = match self {
            Shim::Child(child) => child.wait().await.map(drop),
            Shim::Adopted(pidfd) => pidfd.readable().await.map(drop),
            Shim::Gone => Ok(()),
        };
        if let Err(error) = ended {
            // Its files say the rest.
            tracing::warn!(%error, "a shim cannot be waited for");
        }
    }

    /// The shim of a run, if it still runs in this boot.
    pub(crate) fn adopt(started: &Started, boot: &str) -> io::Result<Option<Shim>> {
        let is_it = || identity::start_time(started.pid) == Some(started.start);
        let pid = i32::try_from(started.pid).ok().and_then(Pid::from_raw);
        let Some(pid) = pid.filter(|_| started.boot == boot && is_it()) else {
            return Ok(None);
        };
        let pidfd = match pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Ok(pidfd) => pidfd,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // The pid may have been reused before it was opened.
        if !is_it() {
            return Ok(None);
        }
        Ok(Some(Shim::Adopted(crate::fd::register(pidfd)?)))
    }
}

/// Starts a run. The environment goes through a pipe: it is on no disk and in no argument.
pub(crate) async fn launch(
    ctx: &Ctx,
    replica: &Replica,
    dir: &ReplicaDir,
    run: u32,
    prepared: Prepared,
    cgroup: Cgroup,
) -> io::Result<Shim> {
    let run_dir = dir.run(run);
    fs::create_dir_all(&run_dir)?;
    let launch = Launch {
        version: VERSION,
        command: prepared.command,
        env: prepared.env,
        cwd: prepared.cwd,
        user: replica.template().user,
        spool: dir.spool(),
        spool_max: ctx.config.spool_max,
        poke: Some((ctx.layout.poke(), format!("{}\n", dir_name(&replica.key())))),
        cgroup,
    };
    let mut child = Command::new(&ctx.config.shim)
        .arg("run")
        .arg(&run_dir)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(File::create(run_dir.join("log"))?)
        // Signals of the terminal are for the server.
        .process_group(0)
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(&serde_json::to_vec(&launch)?).await {
            // A shim that reads no more has ended, and what it left says why.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            written => written?,
        }
    }
    Ok(Shim::Child(child))
}

/// What a shim said that never claimed its run; `None` where it was killed before it could say anything.
pub(crate) fn complaint(dir: &ReplicaDir, run: u32) -> Option<String> {
    let log = fs::read_to_string(dir.run(run).join("log")).unwrap_or_default();
    let said = log.trim().lines().last()?;
    Some(format!("the shim could not run: {said}"))
}

/// Asks the shim of a run to stop its program.
pub(crate) fn stop(run_dir: &Path, grace_ms: u64) -> io::Result<()> {
    let stop = record::Stop {
        version: VERSION,
        grace_ms,
    };
    record::write(&run_dir.join(name::STOP), &stop, record::Durability::Cached)?;
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::open(run_dir.join(name::CONTROL), flags, Mode::empty()) {
        Ok(control) => File::from(control).write_all(b"x"),
        // No shim listens yet, or none any more: it reads the file when it starts.
        Err(rustix::io::Errno::NXIO | rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The first port that somebody else uses.
pub(crate) fn taken_port(replica: &Replica) -> Option<(String, u16)> {
    let is_taken = |(_, number): &(String, u16)| TcpListener::bind(("0.0.0.0", *number)).is_err();
    replica.ports().into_iter().find(is_taken)
}
