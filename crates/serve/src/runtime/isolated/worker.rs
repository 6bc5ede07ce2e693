//! The worker's side: a process that loads one version, says what it is, and answers runs until the server's end of
//! its socket closes. A thread serves each connection.

use super::frame::{Frame, receive};
use super::message::{self, Fault, Loaded, Order};
use super::pass;
use crate::error::ServeError;
use crate::repository::Settings;
use crate::runtime::{Context, LoadError, Runtime, find, first_run, load_here, probe};
use crate::runtimes::Runtimes;
use base::Code;
use bytes::Bytes;
use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Where memory is short the kernel ends a worker before the server: so much is added to what a process inherits, of
/// [`OOM_MAX`]. Less than all, so that other programs that use more than their part go first.
const OOM_MORE: i32 = 300;
const OOM_MAX: i32 = 1_000;

/// Runs a worker, whose standard input is the socket to the server that started it. Called by the process's first
/// thread: the kernel tells the server's death to the thread that asked for it.
pub fn work() -> io::Result<()> {
    attend()?;
    // A library that is unloaded while it runs may do anything. Nothing is lost that way.
    Ok(rustix::process::kill_process(
        rustix::process::getpid(),
        rustix::process::Signal::KILL,
    )?)
}

fn attend() -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    // Started as `/proc/self/exe`, it would be called `exe`.
    rustix::thread::set_name(c"serve-worker")?;
    let mut control = control()?;
    go_before_the_server();
    let Some(order) = receive(&mut control, None)? else {
        return Ok(());
    };
    let order: Order = message::take_json(&mut Bytes::from(order))
        .map_err(|garbled| io::Error::other(garbled.0))?;
    // A server that died before this process asked to be told is no longer its parent.
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().cast_unsigned());
    if parent != Some(order.parent) {
        return Ok(());
    }
    let loaded = catch_unwind(AssertUnwindSafe(|| load(&order)));
    let mut hello = Frame::new();
    let runtime = match loaded.unwrap_or(Err(LoadError::Panicked)) {
        Ok(runtime) => runtime,
        Err(error) => {
            let fault: Result<(), Fault> = Err(error.into());
            message::put_json(hello.body(), &fault)?;
            return hello.send(&mut control);
        }
    };
    let loaded = Loaded {
        signatures: runtime.signatures().to_vec(),
        // All that the process has: nothing else is in it.
        memory: probe::resident().max(runtime.memory()),
    };
    message::put_json(hello.body(), &Ok::<_, Fault>(loaded))?;
    if order.wants_runs {
        message::put_runs(hello.body(), &runtime.warm_up());
    }
    hello.send(&mut control)?;
    while let Some(connection) = pass::take(&control)? {
        let runtime = Arc::clone(&runtime);
        std::thread::Builder::new()
            .name("run".to_owned())
            .spawn(move || {
                if let Err(error) = serve(connection, runtime.as_ref()) {
                    tracing::debug!(%error, "a connection of a worker ended badly");
                }
            })?;
    }
    Ok(())
}

fn go_before_the_server() {
    const FILE: &str = "/proc/self/oom_score_adj";
    let own = std::fs::read_to_string(FILE).ok();
    if let Some(own) = own.and_then(|text| text.trim().parse::<i32>().ok()) {
        // Not every kernel and container lets us.
        let _ = std::fs::write(FILE, (own + OOM_MORE).min(OOM_MAX).to_string());
    }
}

/// The socket that came as standard input. What reads that, in a library, finds nothing.
fn control() -> io::Result<UnixStream> {
    let stdin = io::stdin();
    // Programs that a library starts do not get it.
    let control = rustix::io::fcntl_dupfd_cloexec(&stdin, 3)?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(UnixStream::from(control))
}

/// Loads, and runs what is run before a model is ready: one that crashes there never says hello.
fn load(order: &Order) -> Result<Arc<dyn Runtime>, LoadError> {
    let settings = Settings::from(order.native.clone());
    let runtimes = Runtimes::new(order.runtimes.clone());
    let ctx = Context {
        settings: &settings,
        runtimes: &runtimes,
    };
    let runtime = load_here(&find(&order.dir)?, &ctx)?;
    first_run(runtime.as_ref())?;
    Ok(Arc::from(runtime))
}

fn serve(mut connection: UnixStream, runtime: &dyn Runtime) -> io::Result<()> {
    while let Some(question) = receive(&mut connection, None)? {
        let question = message::take_question(Bytes::from(question));
        let (signature, inputs) = question.map_err(|garbled| io::Error::other(garbled.0))?;
        let answer = catch_unwind(AssertUnwindSafe(|| runtime.run(signature, &inputs)));
        let answer = answer.unwrap_or_else(|_| {
            let text = "the model's worker failed; the server's log says more";
            Err(ServeError::new(Code::Internal, text))
        });
        let mut frame = Frame::new();
        message::put_answer(frame.body(), &answer);
        frame.send(&mut connection)?;
    }
    Ok(())
}
