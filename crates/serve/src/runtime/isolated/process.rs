//! A worker process as the server sees it: how it is started, and connections to it, one for each run at a time.

use super::frame::{Frame, receive};
use super::message::{self, Fault, Garbled, Loaded, Order};
use super::{Spec, pass};
use crate::error::{Result as RunResult, ServeError};
use crate::runtime::LoadError;
use crate::tensor::Tensor;
use base::Code;
use bytes::Bytes;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A load that takes longer is given up.
const LOAD_MAX: Duration = Duration::from_secs(600);

/// A process that has loaded its version.
pub(super) struct Process {
    control: UnixStream,
    /// Connections that no run uses; as many as ran at a time.
    idle: Mutex<Vec<UnixStream>>,
    run_max: Duration,
}

/// Why a run has no answer.
#[derive(Debug)]
pub(super) enum Lost {
    /// The process closed the connection: it has ended, most likely.
    Gone,
    /// It has not answered in time.
    Late,
    /// It sent what is no answer.
    Garbled(&'static str),
}

/// What a process said when it had loaded.
pub(super) struct Hello {
    pub(super) loaded: Loaded,
    /// The runs before the model is ready, as they came.
    pub(super) runs: Bytes,
}

/// Starts a process; it waits for its order. Called by a thread that lives as long as the process should: the kernel
/// ends it with that thread.
pub(super) fn spawn(spec: &Spec) -> Result<(Child, UnixStream), LoadError> {
    let program = &spec.command.program;
    let fault = |error: io::Error| {
        LoadError::Worker(format!(
            "`{}` cannot be started: {error}",
            program.display()
        ))
    };
    let (ours, theirs) = UnixStream::pair().map_err(fault)?;
    let child = Command::new(program)
        .args(&spec.command.args)
        // For people who look at processes.
        .args(["--", &format!("{}/{}", spec.model, spec.version)])
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .map_err(fault)?;
    Ok((child, ours))
}

/// Gives the order and waits until it is carried out. `None`: the process closed its socket.
pub(super) fn hello(mut control: &UnixStream, order: &Order) -> Result<Option<Hello>, LoadError> {
    let garbled = |Garbled(what)| LoadError::Worker(format!("it sent {what}"));
    let mut frame = Frame::new();
    message::put_json(frame.body(), order)
        .map_err(|error| LoadError::Worker(format!("its order cannot be written: {error}")))?;
    let until = Instant::now() + LOAD_MAX;
    let said = control
        .set_read_timeout(Some(LOAD_MAX))
        .and_then(|()| frame.send(&mut control))
        .and_then(|()| receive(&mut control, Some(until)));
    let said = match said {
        Ok(said) => said,
        Err(error) if is_late(&error) => {
            let text = format!(
                "it has not loaded the model within {} s",
                LOAD_MAX.as_secs()
            );
            return Err(LoadError::Worker(text));
        }
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            return Err(LoadError::Worker(format!("it sent {error}")));
        }
        Err(_) => return Ok(None),
    };
    let Some(said) = said else {
        return Ok(None);
    };
    let mut runs = Bytes::from(said);
    let loaded: Result<Loaded, Fault> = message::take_json(&mut runs).map_err(garbled)?;
    let loaded = loaded.map_err(LoadError::from)?;
    message::take_runs(runs.clone(), loaded.signatures.len()).map_err(garbled)?;
    Ok(Some(Hello { loaded, runs }))
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

impl Process {
    pub(super) fn new(control: UnixStream, run_max: Duration) -> Process {
        Process {
            control,
            idle: Mutex::default(),
            run_max,
        }
    }

    /// Runs inputs over a connection that is free, or a new one.
    pub(super) fn run(
        &self,
        signature: usize,
        inputs: &[Tensor],
    ) -> Result<RunResult<Vec<Tensor>>, Lost> {
        let free = self.idle().pop();
        let connection = match free {
            Some(connection) => Ok(connection),
            None => self.connect(),
        };
        let mut connection = match connection {
            Ok(connection) => connection,
            Err(error) if is_gone(&error) => return Err(Lost::Gone),
            Err(error) => {
                let text = format!("no connection to the model's worker process: {error}");
                return Ok(Err(ServeError::new(Code::Exhausted, text)));
            }
        };
        let mut frame = Frame::new();
        message::put_question(frame.body(), signature, inputs);
        let until = Instant::now() + self.run_max;
        let answer = frame
            .send(&mut connection)
            .and_then(|()| receive(&mut connection, Some(until)));
        let answer = match answer {
            Ok(Some(answer)) => answer,
            Err(error) if is_late(&error) => return Err(Lost::Late),
            Err(error) if error.kind() == ErrorKind::InvalidInput => {
                return Ok(Err(ServeError::new(Code::Exhausted, error.to_string())));
            }
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                return Err(Lost::Garbled("a message that is too large"));
            }
            Ok(None) | Err(_) => return Err(Lost::Gone),
        };
        let answer = message::take_answer(Bytes::from(answer));
        let answer = answer.map_err(|Garbled(what)| Lost::Garbled(what))?;
        self.idle().push(connection);
        Ok(answer)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<UnixStream>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(&self) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(self.run_max))?;
        ours.set_write_timeout(Some(self.run_max))?;
        pass::give(&self.control, &theirs)?;
        Ok(ours)
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::NotConnected
    )
}
