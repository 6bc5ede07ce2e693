//! One life of the container: ask, prepare, run under the shim, ship, keep, report.

use crate::engine::{Engine, Refused};
use crate::files::{self, Layout, Prepared};
use crate::outputs;
use crate::program;
use crate::ship::Shipping;
use base::{Bytes, Seq, Time};
use pod::wire::{HOME, Report, Spec, VERSION};
use shim::frame::Stream;
use shim::record::{self, Cgroup, Exit, How, Launch, Stop, name};
use shim::spool::{self, Writer};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// Between looks at the shim and at requests to stop.
const PERIOD: Duration = Duration::from_millis(20);
/// For outputs and the report after an end that nobody asked for; after a stop, what the pod's grace leaves.
const FINISH_MAX: Duration = Duration::from_secs(3600);
/// For the report once everything else is done.
const REPORT_MAX: Duration = Duration::from_secs(10);
/// Where Kubernetes reads a termination message.
const TERMINATION: &str = "/dev/termination-log";
/// The container's own control group, of either version: first those that exist.
const OOM: &[&str] = &[
    "/sys/fs/cgroup/memory.events",
    "/sys/fs/cgroup/memory/memory.oom_control",
];
const PEAK: &[&str] = &[
    "/sys/fs/cgroup/memory.peak",
    "/sys/fs/cgroup/memory/memory.max_usage_in_bytes",
];
/// The exit code that says: asked to end before it began.
const ENDED_EARLY: u8 = 143;

pub(crate) fn run() -> ExitCode {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        if let Err(error) = signal_hook::flag::register(signal, Arc::clone(&stop)) {
            eprintln!("moonshot-pod: cannot wait for signals: {error}");
            return ExitCode::FAILURE;
        }
    }
    match Engine::from_env() {
        Ok(engine) => live(Arc::new(engine), &Layout::new(HOME), &stop),
        Err(why) => {
            eprintln!("moonshot-pod: {why}");
            ExitCode::FAILURE
        }
    }
}

fn live(engine: Arc<Engine>, layout: &Layout, stop: &AtomicBool) -> ExitCode {
    let spec = match engine.spec(stop) {
        Ok(spec) if spec.version <= VERSION => spec,
        Ok(spec) => {
            eprintln!(
                "moonshot-pod: the engine speaks version {}, newer than {VERSION}",
                spec.version
            );
            return ExitCode::FAILURE;
        }
        Err(Refused::GivenUp) => return ExitCode::from(ENDED_EARLY),
        Err(Refused::Superseded) => {
            eprintln!("moonshot-pod: a newer attempt runs; nothing is started here");
            return ExitCode::FAILURE;
        }
        Err(Refused::No(why)) => {
            eprintln!("moonshot-pod: {why}");
            return ExitCode::FAILURE;
        }
    };
    number_after(layout, &spec);
    let shipping = Shipping::start(Arc::clone(&engine), layout.spool(), spec.kept);
    let mut is_lost = false;
    let (exit, prepared) = match files::prepare(&engine, &spec, layout) {
        Ok(prepared) => (
            supervise(&engine, &spec, layout, &prepared, stop, &mut is_lost),
            Some(prepared),
        ),
        Err(sentence) => (not_started(sentence), None),
    };
    let mut report = Report {
        version: VERSION,
        exit,
        is_lost,
        outputs: Vec::new(),
        failure: None,
        last: spool::last(&layout.spool()).unwrap_or(Seq(0)).0,
    };
    // Kubernetes kills this process too at the end of the pod's grace: what is known is said first.
    say(&report);
    if let Some(prepared) = &prepared {
        let until = Instant::now() + FINISH_MAX;
        match outputs::keep(&engine, &spec, layout, &prepared.outputs, until) {
            Ok(kept) => report.outputs = kept,
            Err(sentence) => report.failure = Some(sentence),
        }
        say(&report);
    }
    shipping.finish();
    if let Err(Refused::No(why)) = engine.end(&report, Instant::now() + REPORT_MAX) {
        eprintln!("moonshot-pod: the end could not be reported: {why}");
    }
    match report.exit.how {
        How::Code(0) if report.failure.is_some() => ExitCode::FAILURE,
        How::Code(code) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
        How::Signal(signal) => ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX)),
        How::NotStarted(_) => ExitCode::from(127),
    }
}

/// The engine may hold output of this replica that the spool does not: of an earlier pod.
fn number_after(layout: &Layout, spec: &Spec) {
    match Writer::open(&layout.spool(), spec.spool_max) {
        Ok(mut writer) if writer.next().0 <= spec.kept => {
            writer.skip_past(Seq(spec.kept));
            writer.append(Stream::Note, now(), b"the replica was started anew\n");
        }
        Ok(_) => {}
        Err(error) => eprintln!("moonshot-pod: output cannot be spooled: {error}"),
    }
}

fn say(report: &Report) {
    // Only where the kubelet made the file; elsewhere the engine is told alone.
    let _ = fs::write(TERMINATION, report.termination_message());
}

fn now() -> Time {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Time::from_ms(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn not_started(sentence: String) -> Exit {
    Exit {
        version: record::VERSION,
        how: How::NotStarted(sentence),
        oom: false,
        stopped: false,
        at: now(),
        memory_peak: Bytes(0),
        lost: Bytes(0),
    }
}

/// Runs the program under the shim, and passes a request to stop on.
fn supervise(
    engine: &Engine,
    spec: &Spec,
    layout: &Layout,
    prepared: &Prepared,
    stop: &AtomicBool,
    is_lost: &mut bool,
) -> Exit {
    let started = layout.next_run().and_then(|run| {
        program::remember(layout, &prepared.env, &prepared.cwd)?;
        let shim = launch(spec, layout, prepared, &run)?;
        Ok((run, shim))
    });
    let (run, mut shim) = match started {
        Ok(started) => started,
        Err(error) => return not_started(format!("the shim cannot be started: {error}")),
    };
    let mut is_told = false;
    loop {
        match shim.try_wait() {
            Ok(None) => {}
            Ok(Some(_)) => break,
            Err(error) => return not_started(format!("the shim cannot be waited for: {error}")),
        }
        if stop.load(Ordering::Relaxed) && !is_told {
            is_told = true;
            let grace_ms = engine.grace().unwrap_or(spec.grace_ms);
            if let Err(error) = ask_to_stop(&run, grace_ms) {
                eprintln!("moonshot-pod: the program cannot be asked to stop: {error}");
            }
        }
        std::thread::sleep(PERIOD);
    }
    match record::read::<Exit>(&run.join(name::EXIT)) {
        Ok(Some(exit)) => exit,
        // The shim was killed, and its program with it.
        Ok(None) | Err(_) => {
            *is_lost = true;
            let said = fs::read_to_string(run.join("log")).unwrap_or_default();
            let said = said
                .trim()
                .lines()
                .last()
                .unwrap_or("its shim was killed")
                .to_owned();
            not_started(format!("the program was lost: {said}"))
        }
    }
}

fn launch(spec: &Spec, layout: &Layout, prepared: &Prepared, run: &Path) -> io::Result<Child> {
    let first = |paths: &[&str]| paths.iter().map(PathBuf::from).find(|path| path.exists());
    let launch = Launch {
        version: record::VERSION,
        command: prepared.command.clone(),
        env: prepared.env.clone(),
        cwd: prepared.cwd.clone(),
        // The container's user is the program's.
        user: None,
        spool: layout.spool(),
        spool_max: spec.spool_max,
        poke: None,
        cgroup: Cgroup {
            procs: Vec::new(),
            oom: first(OOM),
            peak: first(PEAK),
        },
    };
    let mut shim = Command::new(layout.shim())
        .arg("run")
        .arg(run)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(File::create(run.join("log"))?)
        .spawn()?;
    if let Some(mut stdin) = shim.stdin.take() {
        stdin.write_all(&serde_json::to_vec(&launch)?)?;
    }
    Ok(shim)
}

/// As an engine on the same machine would ask.
fn ask_to_stop(run: &Path, grace_ms: u64) -> io::Result<()> {
    let stop = Stop {
        version: record::VERSION,
        grace_ms,
    };
    record::write(&run.join(name::STOP), &stop, record::Durability::Cached)?;
    let control = OpenOptions::new()
        .write(true)
        .custom_flags(0o4000) // O_NONBLOCK: no shim may listen yet; it reads the file when it starts
        .open(run.join(name::CONTROL));
    match control {
        Ok(mut control) => control.write_all(b"x"),
        Err(_) => Ok(()),
    }
}
