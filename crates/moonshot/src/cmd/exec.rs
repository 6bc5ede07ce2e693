//! `exec`: run a program beside a replica's.

use crate::exit::Failure;
use crate::session::Session;
use crate::target::{self, Replica};
use api::exec::{ExecMessage, MESSAGE_BYTES_MAX};
use client::{Exec, ExecTarget};
use rustix::termios::{self, OptionalActions, Termios};
use std::io::Write;
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `job/NAME/GROUP/INDEX`, or `app/NAME` for any of its replicas.
    replica: String,
    /// Send standard input.
    #[arg(short = 'i', long)]
    stdin: bool,
    /// With a terminal.
    #[arg(short = 't', long)]
    tty: bool,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<(), Failure> {
    let replica = target::replica(&args.replica)?;
    let mut exec = session
        .client
        .exec(&of(session, &replica), &args.command, args.tty)
        .await?;
    let _raw = if args.tty && session.out.ask {
        Some(Raw::enter()?)
    } else {
        None
    };
    let code = talk(session, &mut exec, args.stdin, args.tty).await?;
    if code == 0 {
        Ok(())
    } else {
        Err(Failure::Code(u8::try_from(code).unwrap_or(1)))
    }
}

/// As the client wants it.
pub(crate) fn of(session: &Session, replica: &Replica) -> ExecTarget {
    ExecTarget {
        kind: replica.target.kind,
        project: session.project.clone(),
        name: replica.target.name.clone(),
        group: replica.group.clone(),
        index: replica.index,
    }
}

/// Moves bytes until the program has ended; its exit code.
async fn talk(session: &Session, exec: &mut Exec, stdin: bool, tty: bool) -> Result<i32, Failure> {
    let mut input = tokio::io::stdin();
    let mut buffer = vec![0; MESSAGE_BYTES_MAX];
    let mut resized =
        signal(SignalKind::window_change()).map_err(Failure::local("listen to the terminal"))?;
    let mut reading = stdin;
    if tty && let Some(size) = size() {
        exec.send(size).await?;
    }
    if !stdin {
        exec.send(ExecMessage::StdinEnd).await?;
    }
    loop {
        tokio::select! {
            read = input.read(&mut buffer), if reading => {
                let n = read.map_err(Failure::local("read standard input"))?;
                if n == 0 {
                    reading = false;
                    exec.send(ExecMessage::StdinEnd).await?;
                } else {
                    exec.send(ExecMessage::Stdin(buffer[..n].to_vec())).await?;
                }
            }
            _ = resized.recv(), if tty => if let Some(size) = size() {
                exec.send(size).await?;
            },
            message = exec.next() => match message? {
                Some(ExecMessage::Stdout(bytes)) => session.out.bytes(&bytes)?,
                // Standard error is no result; with it gone nobody misses these.
                Some(ExecMessage::Stderr(bytes)) => drop(std::io::stderr().write_all(&bytes)),
                Some(ExecMessage::Exit(code)) => return Ok(code),
                Some(ExecMessage::Failed(why)) => return Err(Failure::Failed(why)),
                Some(ExecMessage::Stdin(_) | ExecMessage::StdinEnd | ExecMessage::Resize { .. }) => {}
                None => return Err(Failure::Failed("the connection ended before the program did".to_owned())),
            },
        }
    }
}

fn size() -> Option<ExecMessage> {
    let size = termios::tcgetwinsize(std::io::stdin()).ok()?;
    Some(ExecMessage::Resize {
        columns: size.ws_col,
        rows: size.ws_row,
    })
}

/// A terminal that hands every key on; as it was when this is dropped.
struct Raw(Termios);

impl Raw {
    fn enter() -> Result<Raw, Failure> {
        let failed = |error: rustix::io::Errno| Failure::local("set up the terminal")(error.into());
        let before = termios::tcgetattr(std::io::stdin()).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(std::io::stdin(), OptionalActions::Flush, &raw).map_err(failed)?;
        Ok(Raw(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Nothing better can be done with a terminal that has gone.
        let _ = termios::tcsetattr(std::io::stdin(), OptionalActions::Flush, &self.0);
    }
}

/// Runs a program with this input; what it wrote, and its exit code.
pub(crate) async fn capture(
    session: &Session,
    replica: &Replica,
    command: &[String],
    input: &[u8],
) -> Result<Vec<u8>, Failure> {
    let mut exec = session
        .client
        .exec(&of(session, replica), command, false)
        .await?;
    for piece in input.chunks(MESSAGE_BYTES_MAX) {
        exec.send(ExecMessage::Stdin(piece.to_vec())).await?;
    }
    exec.send(ExecMessage::StdinEnd).await?;
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    loop {
        match exec.next().await? {
            Some(ExecMessage::Stdout(bytes)) => stdout.extend(bytes),
            Some(ExecMessage::Stderr(bytes)) => stderr.extend(bytes),
            Some(ExecMessage::Exit(0)) => return Ok(stdout),
            Some(ExecMessage::Exit(code)) => {
                let said = String::from_utf8_lossy(&stderr).trim().to_owned();
                return Err(Failure::Failed(format!(
                    "`{}` ended with {code}: {said}",
                    command.join(" ")
                )));
            }
            Some(ExecMessage::Failed(why)) => return Err(Failure::Failed(why)),
            Some(ExecMessage::Stdin(_) | ExecMessage::StdinEnd | ExecMessage::Resize { .. }) => {}
            None => {
                return Err(Failure::Failed(
                    "the connection ended before the program did".to_owned(),
                ));
            }
        }
    }
}
