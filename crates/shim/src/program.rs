//! Starts the program: its own session and group, its cgroup, its user, and no life without the shim.

use rustix::process::{Pid, Signal};
use shim::record::Launch;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// A program that runs.
pub(crate) struct Program {
    pub(crate) pid: Pid,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

/// Starts it, or says in a sentence why that cannot be.
pub(crate) fn start(launch: &Launch) -> Result<Program, String> {
    let (name, args) = launch.command.split_first().ok_or("no command is given")?;
    if !launch.cwd.is_dir() {
        let cwd = launch.cwd.display();
        return Err(format!("the working directory `{cwd}` does not exist"));
    }
    let mut cgroups = Vec::with_capacity(launch.cgroup.procs.len());
    for procs in &launch.cgroup.procs {
        let opened = OpenOptions::new().write(true).open(procs);
        cgroups.push(opened.map_err(|error| {
            format!("its limits cannot be set: `{}`: {error}", procs.display())
        })?);
    }
    let (user, shim) = (launch.user, rustix::process::getpid());
    let mut command = Command::new(name);
    command
        .args(args)
        .env_clear()
        .envs(launch.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&launch.cwd)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    #[expect(
        unsafe_code,
        reason = "what lies between fork and exec can only be said here"
    )]
    // SAFETY: the closure only makes system calls, and the shim has a single thread, so that no
    // lock can be held across the fork.
    unsafe {
        command.pre_exec(move || become_child(&cgroups, user, shim));
    }
    let mut child = command.spawn().map_err(|error| start_error(name, &error))?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let (Some(pid), Some(stdout), Some(stderr)) = (pid, child.stdout.take(), child.stderr.take())
    else {
        return Err(format!("`{name}` was started without pipes"));
    };
    Ok(Program {
        pid,
        stdout: stdout.into(),
        stderr: stderr.into(),
    })
}

fn become_child(cgroups: &[File], user: Option<u32>, shim: Pid) -> io::Result<()> {
    rustix::process::setsid()?;
    for procs in cgroups {
        rustix::io::write(procs, b"0")?;
    }
    if let Some(user) = user {
        become_user(user)?;
    }
    // After the user: the kernel clears it when credentials change (prctl(2)).
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if rustix::process::getppid() != Some(shim) {
        // The shim died before that: nobody would ever end this.
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    Ok(())
}

/// Takes the user and the group of the same number, and no other groups.
pub(crate) fn become_user(user: u32) -> io::Result<()> {
    let (uid, gid) = (
        rustix::process::Uid::from_raw(user),
        rustix::process::Gid::from_raw(user),
    );
    if rustix::process::geteuid() == uid {
        return Ok(());
    }
    rustix::thread::set_thread_groups(&[gid])?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    Ok(())
}

/// A sentence on why a program does not start.
pub(crate) fn start_error(name: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound if name.contains('/') => {
            format!("`{name}`: no such file (or its interpreter is missing)")
        }
        io::ErrorKind::NotFound => format!("`{name}`: command not found"),
        io::ErrorKind::PermissionDenied => {
            format!("`{name}` may not be executed: permission denied")
        }
        _ => format!("`{name}` cannot be started: {error}"),
    }
}
