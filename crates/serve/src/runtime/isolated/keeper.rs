//! A version's keeper: the thread that starts its process, waits for the end of it and starts it again, with growing
//! pauses. It lives as long as the version is held, because the kernel ends a process with the thread that started it.

use super::Spec;
use super::ended::ended;
use super::message::Order;
use super::process::{Hello, Lost, Process, hello, spawn};
use crate::error::{Result, ServeError};
use crate::runtime::LoadError;
use crate::tensor::Port;
use base::Code;
use std::io::Read;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Before a process is started again: at first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// A process that ran so long is well: the next pause is the first again.
const WELL: Duration = Duration::from_secs(60);
/// A request whose connection closed waits so long to hear how the process ended.
const HEAR: Duration = Duration::from_secs(2);
/// A process whose socket is closed has so long to end by itself, looked at so often.
const GRACE: Duration = Duration::from_secs(1);
const GRACE_LOOK: Duration = Duration::from_millis(2);

/// The way to a version's process, whichever it is at the moment.
pub(super) struct Keeper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    spec: Spec,
    now: Mutex<Now>,
    changed: Condvar,
    /// What the first process said that the model takes and gives.
    ports: OnceLock<Ports>,
    restarts: AtomicU64,
    /// Bytes that the process had when it was loaded last.
    memory: AtomicU64,
}

/// Of each signature its name, inputs and outputs.
type Ports = Vec<(String, Vec<Port>, Vec<Port>)>;

struct Now {
    /// The process that answers; else how the last one ended.
    process: std::result::Result<Arc<Process>, String>,
    /// The socket of the process that runs or loads. Shutting it down ends the process.
    control: Option<UnixStream>,
    /// Why the server ends the process.
    reason: Option<String>,
    is_stopped: bool,
}

impl Keeper {
    /// Starts the keeper, and gives what its first process said.
    pub(super) fn start(spec: Spec) -> std::result::Result<(Keeper, Hello), LoadError> {
        let shared = Arc::new(Shared {
            spec,
            now: Mutex::new(Now {
                process: Err("is being started".to_owned()),
                control: None,
                reason: None,
                is_stopped: false,
            }),
            changed: Condvar::new(),
            ports: OnceLock::new(),
            restarts: AtomicU64::new(0),
            memory: AtomicU64::new(0),
        });
        let (first, said) = sync_channel(1);
        let kept = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("keeper".to_owned())
            .spawn(move || kept.keep(&first))
            .map_err(|error| LoadError::Worker(format!("no thread can be started: {error}")))?;
        let keeper = Keeper {
            shared,
            thread: Some(thread),
        };
        let said = said.recv();
        let hello = said.unwrap_or_else(|_| Err(LoadError::Worker("its keeper failed".into())))?;
        Ok((keeper, hello))
    }

    /// The process that answers.
    pub(super) fn process(&self) -> Result<Arc<Process>> {
        match &self.shared.now().process {
            Ok(process) => Ok(Arc::clone(process)),
            Err(how) => Err(self.shared.unavailable(how)),
        }
    }

    /// What a request is told whose process gave no answer. One that hangs, or is out of its mind, is ended.
    pub(super) fn lost(&self, process: &Arc<Process>, lost: &Lost) -> ServeError {
        let shared = &self.shared;
        match lost {
            Lost::Gone => {}
            Lost::Late => {
                let within = shared.spec.run_max.as_secs();
                shared.end(process, format!("did not answer within {within} s"));
            }
            Lost::Garbled(what) => shared.end(process, format!("sent {what}")),
        }
        let is_this = |now: &mut Now| {
            let process = now.process.as_ref().map(|it| Arc::ptr_eq(it, process));
            process.is_ok_and(|is_this| is_this)
        };
        let now = shared
            .changed
            .wait_timeout_while(shared.now(), HEAR, is_this);
        let (now, _) = now.unwrap_or_else(PoisonError::into_inner);
        match &now.process {
            Err(how) => shared.unavailable(how),
            // The next one runs already, or this one closed a connection and lives.
            Ok(_) => shared.unavailable("gave no answer"),
        }
    }

    pub(super) fn restarts(&self) -> u64 {
        self.shared.restarts.load(Relaxed)
    }

    pub(super) fn memory(&self) -> u64 {
        self.shared.memory.load(Relaxed)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.shared.stop();
        if let Some(thread) = self.thread.take() {
            // Its panic was printed already.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn now(&self) -> MutexGuard<'_, Now> {
        // No code that can panic runs under the lock.
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unavailable(&self, how: &str) -> ServeError {
        let Spec { model, version, .. } = &self.spec;
        let text = format!(
            "the worker process of model `{model}`, version {version}, {how} and is started again; try again later"
        );
        ServeError::new(Code::Unavailable, text)
    }

    fn stop(&self) {
        let mut now = self.now();
        now.is_stopped = true;
        if let Some(control) = &now.control {
            // It may have ended by itself.
            let _ = control.shutdown(Shutdown::Both);
        }
        self.changed.notify_all();
    }

    /// Ends a process, unless it has ended already.
    fn end(&self, process: &Arc<Process>, reason: String) {
        let mut now = self.now();
        let is_this = now
            .process
            .as_ref()
            .is_ok_and(|it| Arc::ptr_eq(it, process));
        if is_this && now.reason.is_none() {
            now.reason = Some(reason);
            if let Some(control) = &now.control {
                // It may have ended by itself.
                let _ = control.shutdown(Shutdown::Both);
            }
        }
    }

    fn keep(&self, first: &SyncSender<std::result::Result<Hello, LoadError>>) {
        let Spec { model, version, .. } = &self.spec;
        let mut is_first = true;
        let mut pause = None;
        loop {
            let mut ran = Duration::ZERO;
            let how = match self.start_one(is_first) {
                Ok((child, control, hello)) => {
                    self.memory.store(hello.loaded.memory, Relaxed);
                    let ready = self.ready(&control);
                    let begun = Instant::now();
                    if is_first {
                        // Whoever waits for it waits as long as this lives.
                        let _ = first.send(Ok(hello));
                    } else {
                        tracing::info!(model, version, "the worker process runs again");
                    }
                    is_first = false;
                    let how = match ready {
                        Ok(()) => wait(child, &control),
                        Err(error) => {
                            reap(child, &control);
                            format!("cannot be reached: {error}")
                        }
                    };
                    ran = begun.elapsed();
                    self.now().reason.take().unwrap_or(how)
                }
                Err(error) if is_first => {
                    let _ = first.send(Err(error));
                    return;
                }
                Err(error) => format!("did not start ({error})"),
            };
            let next = pause_after(pause, ran);
            pause = Some(next);
            if self.down(how, next) {
                return;
            }
            self.restarts.fetch_add(1, Relaxed);
        }
    }

    /// No process answers; waits before the next one is started. Whether it is not to be.
    fn down(&self, how: String, pause: Duration) -> bool {
        let Spec { model, version, .. } = &self.spec;
        if !self.now().is_stopped {
            let pause_s = pause.as_secs();
            tracing::warn!(model, version, pause_s, "the worker process {how}");
        }
        let mut now = self.now();
        now.process = Err(how);
        now.control = None;
        self.changed.notify_all();
        let waited = self
            .changed
            .wait_timeout_while(now, pause, |now| !now.is_stopped);
        let (now, _) = waited.unwrap_or_else(PoisonError::into_inner);
        now.is_stopped
    }

    /// Starts a process and has it load. It is ended where it cannot.
    fn start_one(
        &self,
        is_first: bool,
    ) -> std::result::Result<(Child, UnixStream, Hello), LoadError> {
        let (child, control) = spawn(&self.spec)?;
        let order = Order {
            parent: std::process::id(),
            dir: self.spec.dir.clone(),
            runtimes: self.spec.runtimes.clone(),
            native: self.spec.native.clone(),
            wants_runs: is_first,
        };
        let said = self.watch(&control).and_then(|()| hello(&control, &order));
        match said {
            Ok(Some(hello)) if self.is_same(&hello) => Ok((child, control, hello)),
            Ok(Some(_)) => {
                reap(child, &control);
                let text = "the version's files were changed where they lie and are another model now; put new files into a new version";
                Err(LoadError::Worker(text.to_owned()))
            }
            Ok(None) => {
                let how = reap(child, &control);
                Err(LoadError::Worker(format!(
                    "it {how} while it loaded the model; the server's log may say more"
                )))
            }
            Err(error) => {
                reap(child, &control);
                Err(error)
            }
        }
    }

    /// Whether the model is still what it was when it was loaded first: requests are checked against that.
    fn is_same(&self, hello: &Hello) -> bool {
        let ports = hello.loaded.signatures.iter().map(|signature| {
            let (inputs, outputs) = (signature.inputs.clone(), signature.outputs.clone());
            (signature.name.clone(), inputs, outputs)
        });
        let ports: Ports = ports.collect();
        *self.ports.get_or_init(|| ports.clone()) == ports
    }

    /// Lets [`Shared::stop`] end the process that is about to load.
    fn watch(&self, control: &UnixStream) -> std::result::Result<(), LoadError> {
        let copy = control
            .try_clone()
            .map_err(|error| LoadError::Worker(format!("its socket: {error}")))?;
        let mut now = self.now();
        if now.is_stopped {
            return Err(LoadError::Worker("it is no longer wanted".to_owned()));
        }
        now.control = Some(copy);
        now.reason = None;
        Ok(())
    }

    /// Lets requests go to the process.
    fn ready(&self, control: &UnixStream) -> std::io::Result<()> {
        control.set_read_timeout(None)?;
        let process = Process::new(control.try_clone()?, self.spec.run_max);
        self.now().process = Ok(Arc::new(process));
        self.changed.notify_all();
        Ok(())
    }
}

/// How long to wait before a process is started again, after the last such pause and the time that it ran.
fn pause_after(last: Option<Duration>, ran: Duration) -> Duration {
    match last {
        Some(last) if ran < WELL => (last * 2).min(PAUSE.1),
        _ => PAUSE.0,
    }
}

/// Waits until the process closes its socket, which it does when it ends; nothing else comes there.
fn wait(child: Child, mut control: &UnixStream) -> String {
    let mut byte = [0];
    while control
        .read(&mut byte)
        .is_err_and(|error| error.kind() == std::io::ErrorKind::Interrupted)
    {}
    reap(child, control)
}

/// How a process ended; where it has not, it does now. It leaves nothing behind.
fn reap(mut child: Child, control: &UnixStream) -> String {
    let _ = control.shutdown(Shutdown::Both);
    // One that crashes closes its sockets a moment before it is over: its own signal is the news.
    let until = Instant::now() + GRACE;
    while let Ok(None) = child.try_wait()
        && Instant::now() < until
    {
        std::thread::sleep(GRACE_LOOK);
    }
    let _ = child.kill();
    match child.wait() {
        Ok(status) => ended(status),
        Err(error) => format!("ended, and nobody knows how ({error})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_begin_anew_after_a_good_run() {
        let mut pause = None;
        let ran = [0, 1, 0, 59, 0, 0, 0, 60, 0];
        let pauses = ran.map(|ran_s| {
            let next = pause_after(pause, Duration::from_secs(ran_s));
            pause = Some(next);
            next.as_secs()
        });
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 1, 2]);
    }
}
