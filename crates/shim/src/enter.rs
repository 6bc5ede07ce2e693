//! Becomes another program inside a replica: environment and directory come from whoever starts
//! this, limits and user from the arguments. No secret is in the arguments.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// As shells answer for a program that is not there.
const NOT_FOUND: u8 = 127;

pub(crate) struct Enter {
    cgroups: Vec<PathBuf>,
    user: Option<u32>,
    terminal: bool,
    program: OsString,
    args: Vec<OsString>,
}

impl Enter {
    pub(crate) fn parse(mut args: impl Iterator<Item = OsString>) -> Option<Enter> {
        let (mut cgroups, mut user, mut terminal) = (Vec::new(), None, false);
        loop {
            match args.next()?.to_str()? {
                "--cgroup" => cgroups.push(PathBuf::from(args.next()?)),
                "--user" => user = Some(args.next()?.to_str()?.parse().ok()?),
                "--terminal" => terminal = true,
                "--" => break,
                _ => return None,
            }
        }
        Some(Enter {
            cgroups,
            user,
            terminal,
            program: args.next()?,
            args: args.collect(),
        })
    }

    /// Returns only on failure.
    pub(crate) fn perform(self) -> ExitCode {
        let failed = match self.prepare() {
            Ok(()) => Command::new(&self.program).args(&self.args).exec(),
            Err(error) => error,
        };
        let program = self.program.to_string_lossy();
        eprintln!("{}", crate::program::start_error(&program, &failed));
        ExitCode::from(NOT_FOUND)
    }

    fn prepare(&self) -> std::io::Result<()> {
        for procs in &self.cgroups {
            fs::write(procs, "0")?;
        }
        if self.terminal {
            // A session of its own, so that the terminal on standard input becomes its own.
            rustix::process::setsid()?;
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
        }
        if let Some(user) = self.user {
            crate::program::become_user(user)?;
        }
        Ok(())
    }
}
