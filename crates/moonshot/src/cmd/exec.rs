//! `exec`: run a program beside a replica's.

use crate::exit::Failure;
use crate::out::Out;
use crate::session::Session;
use crate::target::{self, Replica};
use api::exec::{ExecMessage, MESSAGE_BYTES_MAX};
use client::{ExecReceiver, ExecSender, ExecTarget};
use rustix::termios::{self, OptionalActions, Termios};
use std::io::Write;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
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
    let exec = session
        .client
        .exec(&of(session, &replica), &args.command, args.tty)
        .await?;
    let _raw = if args.tty && session.out.ask {
        Some(Raw::enter()?)
    } else {
        None
    };
    let code = talk(&session.out, exec, args.stdin, args.tty).await?;
    ended(code)
}

/// The program's own code is the command's.
pub(crate) fn ended(code: i32) -> Result<(), Failure> {
    match u8::try_from(code) {
        Ok(0) => Ok(()),
        Ok(code) => Err(Failure::Code(code)),
        Err(_) => Err(Failure::Code(1)),
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

/// Moves bytes until the program has ended; its exit code. The two directions do not wait for each other: a program
/// may write much before it reads.
pub(crate) async fn talk(
    out: &Out,
    (mut to, mut from): (ExecSender, ExecReceiver),
    stdin: bool,
    tty: bool,
) -> Result<i32, Failure> {
    let said = listen(&mut from, async |message| match message {
        Said::Stdout(bytes) => out.bytes(&bytes),
        Said::Stderr(bytes) => {
            // Standard error is no result; with it gone nobody misses these.
            let _ = std::io::stderr().write_all(&bytes);
            Ok(())
        }
    });
    tokio::select! {
        code = said => code,
        failed = type_in(&mut to, stdin, tty) => Err(failed),
    }
}

/// Hands on what is typed, and the terminal's size. Returns only what fails on this side.
async fn type_in(to: &mut ExecSender, stdin: bool, tty: bool) -> Failure {
    let mut input = tokio::io::stdin();
    let mut buffer = vec![0; MESSAGE_BYTES_MAX];
    let mut resized = match signal(SignalKind::window_change()) {
        Ok(resized) => resized,
        Err(error) => return Failure::local("listen to the terminal")(error),
    };
    let mut reading = stdin;
    let mut next = if tty { size() } else { None };
    if !stdin && next.is_none() {
        next = Some(ExecMessage::StdinEnd);
    }
    loop {
        if let Some(message) = next.take()
            && to.send(message).await.is_err()
        {
            // The other side has closed; what it said last is still to be read.
            return std::future::pending().await;
        }
        tokio::select! {
            read = input.read(&mut buffer), if reading => match read {
                Ok(n) => {
                    reading = n > 0;
                    next = Some(piece(&buffer[..n]));
                }
                Err(error) => return Failure::local("read standard input")(error),
            },
            _ = resized.recv() => next = size().filter(|_| tty),
        }
    }
}

fn piece(bytes: &[u8]) -> ExecMessage {
    if bytes.is_empty() {
        ExecMessage::StdinEnd
    } else {
        ExecMessage::Stdin(bytes.to_vec())
    }
}

/// What a program says.
enum Said {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
}

/// Listens to a program until it has ended; its exit code.
async fn listen(
    from: &mut ExecReceiver,
    mut hear: impl AsyncFnMut(Said) -> Result<(), Failure>,
) -> Result<i32, Failure> {
    loop {
        match from.next().await? {
            Some(ExecMessage::Stdout(bytes)) => hear(Said::Stdout(bytes)).await?,
            Some(ExecMessage::Stderr(bytes)) => hear(Said::Stderr(bytes)).await?,
            Some(ExecMessage::Exit(code)) => return Ok(code),
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

/// The most of a failed program's words that are shown.
const WORDS_MAX: usize = 4 << 10;

/// Runs a program between two streams of this side; fails with the program's own words.
pub(crate) async fn pipe(
    session: &Session,
    replica: &Replica,
    command: &[String],
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) -> Result<(), Failure> {
    let target = of(session, replica);
    let (mut sender, mut receiver) = session.client.exec(&target, command, false).await?;
    let mut words = Vec::new();
    let said = listen(&mut receiver, async |message| match message {
        Said::Stdout(bytes) => to
            .write_all(&bytes)
            .await
            .map_err(Failure::local("write the file")),
        Said::Stderr(bytes) => {
            let room = WORDS_MAX.saturating_sub(words.len()).min(bytes.len());
            words.extend(&bytes[..room]);
            Ok(())
        }
    });
    let feed = async {
        let mut buffer = vec![0; MESSAGE_BYTES_MAX];
        loop {
            let n = match from.read(&mut buffer).await {
                Ok(n) => n,
                Err(error) => return Failure::local("read the file")(error),
            };
            let sent = sender.send(piece(&buffer[..n])).await;
            if n == 0 || sent.is_err() {
                // What the program says last is still to be read.
                return std::future::pending().await;
            }
        }
    };
    let code = tokio::select! {
        code = said => code?,
        failed = feed => return Err(failed),
    };
    if code == 0 {
        return to
            .shutdown()
            .await
            .map_err(Failure::local("write the file"));
    }
    let said = String::from_utf8_lossy(&words).trim().to_owned();
    let program = command.first().map_or("", String::as_str);
    Err(Failure::Failed(format!(
        "`{program}` ended with {code}: {said}"
    )))
}
