//! Other programs inside a running replica: `exec` by people, `exec` probes.
//!
//! They get the environment that the replica's own program was started with, its directory, its user
//! and its cgroup, through `moonshot-shim enter`. They end with the replica, or with whoever started
//! them.

use crate::ctx::Ctx;
use crate::environment::MARKER;
use crate::layout::{ReplicaDir, dir_name};
use crate::record::Replica;
use engine::{Exec, ExecInput, ExecOutput, Stream};
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use shim::record::{self, Running, name};
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

/// Pieces of input or output that wait.
const QUEUE_MAX: usize = 32;
/// How often an environment that is not there yet is looked for.
const ENVIRONMENT_TRIES: u32 = 100;
/// Bytes of output in one piece.
const PIECE_BYTES: usize = 16 << 10;

/// Runs a program without input or output and returns its exit code.
pub(crate) async fn status(
    ctx: &Ctx,
    replica: &Replica,
    dir: &ReplicaDir,
    run: u32,
    command: &[String],
) -> Result<i32, String> {
    let failed = |error: io::Error| format!("`{}` cannot be started: {error}", command.join(" "));
    let mut command_line = enter(ctx, replica, dir, run, command, false)
        .await
        .map_err(failed)?;
    command_line
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let status = command_line.status().await.map_err(failed)?;
    Ok(code(status))
}

/// Starts a program. Its task is for the caller to run to its end.
pub(crate) async fn start(
    ctx: &Ctx,
    replica: &Replica,
    (dir, run): (&ReplicaDir, u32),
    command: &[String],
    terminal: Option<(u16, u16)>,
) -> io::Result<(Exec, impl Future<Output = ()> + Send + use<>)> {
    let mut command_line = enter(ctx, replica, dir, run, command, terminal.is_some()).await?;
    let (input_sender, input) = mpsc::channel(QUEUE_MAX);
    let (output, output_receiver) = mpsc::channel(QUEUE_MAX);
    let ends = match terminal {
        Some(size) => Ends::Terminal(open_terminal(&mut command_line, size)?),
        None => {
            command_line
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            Ends::Pipes
        }
    };
    let child = command_line.spawn()?;
    // The other end of the terminal is held by the command: the program's end must be seen.
    drop(command_line);
    let exec = Exec {
        input: input_sender,
        output: output_receiver,
    };
    let task = async move {
        match ends {
            Ends::Pipes => carry_pipes(child, input, output).await,
            Ends::Terminal(terminal) => carry_terminal(child, terminal, input, output).await,
        }
    };
    Ok((exec, task))
}

enum Ends {
    Pipes,
    Terminal(AsyncFd<OwnedFd>),
}

async fn enter(
    ctx: &Ctx,
    replica: &Replica,
    dir: &ReplicaDir,
    run: u32,
    program: &[String],
    terminal: bool,
) -> io::Result<Command> {
    let running = record::read::<Running>(&dir.run(run).join(name::RUNNING))?
        .ok_or(io::ErrorKind::NotFound)?;
    let mut command = Command::new(&ctx.config.shim);
    command.arg("enter");
    if let Some(limits) = &ctx.config.limits {
        for procs in limits.files(&dir_name(&replica.key())).procs {
            command.arg("--cgroup").arg(procs);
        }
    }
    if let Some(user) = replica.template().user {
        command.arg("--user").arg(user.to_string());
    }
    if terminal {
        command.arg("--terminal");
    }
    let environ = environment(running.pid).await?;
    let variables = environ.split(|byte| *byte == 0).filter_map(|variable| {
        let at = variable.iter().position(|byte| *byte == b'=')?;
        Some((
            OsStr::from_bytes(&variable[..at]),
            OsStr::from_bytes(&variable[at + 1..]),
        ))
    });
    command.env_clear().envs(variables);
    command.current_dir(fs::read_link(format!("/proc/{}/cwd", running.pid))?);
    command.arg("--").args(program);
    if !terminal {
        // With a terminal it makes a session, which a group's leader may not.
        command.process_group(0);
    }
    command.kill_on_drop(true);
    Ok(command)
}

/// The environment that a program was started with. For a moment after its start there is none to
/// read; a program may also have written over it, and then what is there must do.
async fn environment(pid: u32) -> io::Result<Vec<u8>> {
    let mut tries = 1;
    loop {
        let environ = fs::read(format!("/proc/{pid}/environ"))?;
        let is_whole = environ
            .windows(MARKER.len())
            .any(|window| window == MARKER.as_bytes());
        if is_whole || tries == ENVIRONMENT_TRIES {
            return Ok(environ);
        }
        tries += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn open_terminal(command: &mut Command, size: (u16, u16)) -> io::Result<AsyncFd<OwnedFd>> {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let path = ptsname(&ours, Vec::new())?;
    let path = Path::new(OsStr::from_bytes(path.as_bytes()));
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    // Opening a terminal without one of its own must not make it the server's.
    std::os::unix::fs::OpenOptionsExt::custom_flags(
        &mut options,
        rustix::fs::OFlags::NOCTTY.bits().cast_signed(),
    );
    let theirs: File = options.open(path)?;
    resize(&ours, size)?;
    command
        .stdin(theirs.try_clone()?)
        .stdout(theirs.try_clone()?)
        .stderr(theirs)
        .env("TERM", "xterm-256color");
    rustix::io::ioctl_fionbio(&ours, true)?;
    crate::fd::register(ours)
}

fn resize(terminal: &OwnedFd, (columns, rows): (u16, u16)) -> io::Result<()> {
    let size = Winsize {
        ws_col: columns,
        ws_row: rows,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(tcsetwinsize(terminal, size)?)
}

/// The group of a program that runs: whoever asked for it has gone when this is dropped, and so does all that it
/// started and did not put aside.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Group {
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        Group(pid.and_then(Pid::from_raw))
    }

    /// The program ended by itself: what it left behind was meant to stay.
    fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            // It may have ended just now.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

async fn carry_pipes(
    mut child: Child,
    mut input: mpsc::Receiver<ExecInput>,
    output: mpsc::Sender<ExecOutput>,
) {
    let group = Group::of(&child);
    let (mut stdin, stdout, stderr) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async {
        while let Some(piece) = input.recv().await {
            if let (ExecInput::Stdin(bytes), Some(pipe)) = (piece, stdin.as_mut())
                && pipe.write_all(&bytes).await.is_err()
            {
                break;
            }
        }
        drop(stdin);
        // The program decides when it is over.
        std::future::pending::<()>().await;
    };
    let listen = async {
        tokio::join!(
            copy(stdout, Stream::Stdout, &output),
            copy(stderr, Stream::Stderr, &output)
        );
        child.wait().await
    };
    let status = tokio::select! {
        biased;
        // The caller went away; an end of input that comes of it is not for the program to see.
        () = output.closed() => return,
        status = listen => status,
        () = feed => return,
    };
    group.ended();
    tell_exit(status, &output).await;
}

async fn copy(
    pipe: Option<impl AsyncRead + Unpin>,
    stream: Stream,
    output: &mpsc::Sender<ExecOutput>,
) {
    let Some(mut pipe) = pipe else { return };
    loop {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        match pipe.read_buf(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if output.send(ExecOutput::Bytes(stream, piece)).await.is_err() {
            return;
        }
    }
}

async fn carry_terminal(
    mut child: Child,
    terminal: AsyncFd<OwnedFd>,
    mut input: mpsc::Receiver<ExecInput>,
    output: mpsc::Sender<ExecOutput>,
) {
    let group = Group::of(&child);
    let feed = async {
        while let Some(piece) = input.recv().await {
            let fed = match piece {
                ExecInput::Stdin(bytes) => write_terminal(&terminal, &bytes).await,
                ExecInput::Resize(columns, rows) => resize(terminal.get_ref(), (columns, rows)),
            };
            if fed.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let listen = async {
        // Reading fails once no program holds the other end.
        while let Ok(piece) = read_terminal(&terminal).await {
            if piece.is_empty()
                || output
                    .send(ExecOutput::Bytes(Stream::Stdout, piece))
                    .await
                    .is_err()
            {
                break;
            }
        }
        child.wait().await
    };
    let status = tokio::select! {
        status = listen => status,
        () = feed => return,
        () = output.closed() => return,
    };
    group.ended();
    tell_exit(status, &output).await;
}

async fn read_terminal(terminal: &AsyncFd<OwnedFd>) -> io::Result<Vec<u8>> {
    loop {
        let mut ready = terminal.readable().await?;
        let mut piece = vec![0; PIECE_BYTES];
        let read = ready.try_io(|terminal| Ok(rustix::io::read(terminal.get_ref(), &mut piece)?));
        if let Ok(read) = read {
            piece.truncate(read?);
            return Ok(piece);
        }
    }
}

async fn write_terminal(terminal: &AsyncFd<OwnedFd>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let mut ready = terminal.writable().await?;
        if let Ok(written) =
            ready.try_io(|terminal| Ok(rustix::io::write(terminal.get_ref(), bytes)?))
        {
            bytes = &bytes[written?..];
        }
    }
    Ok(())
}

async fn tell_exit(status: io::Result<ExitStatus>, output: &mpsc::Sender<ExecOutput>) {
    let code = status.map_or(-1, code);
    // The caller may have gone.
    let _ = output.send(ExecOutput::Exited(code)).await;
}

fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    let by_signal = status.signal().map(|signal| 128 + signal);
    status.code().or(by_signal).unwrap_or(-1)
}
