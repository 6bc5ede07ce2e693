//! One run: claim it, start the program, carry its output, end it when asked, write how it ended.
//!
//! The program's end is seen on a pidfd, so there is no signal handler. The shim is the subreaper of
//! all that the program starts, so daemons come back to it and are killed at the end. Should the shim
//! itself be killed, the kernel kills the program; what the program had started and outlives it is
//! for the engine to find, by cgroup or by the marker in its environment.

use crate::program::{self, Program};
use base::{Bytes, Time};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, kill_process, kill_process_group, pidfd_open,
    wait,
};
use shim::frame::{FRAME_BYTES_MAX, Stream};
use shim::identity;
use shim::record::{
    self, Cgroup, Durability, Exit, How, Launch, Running, Started, Stop, VERSION, name,
};
use shim::spool::Writer;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// How long after everything was killed the pipes are waited for: only a process that escaped every
/// kill could still hold them.
const DRAIN_MAX: Duration = Duration::from_secs(2);
/// How often orphans are looked after while the program itself is quiet.
const REAP_EVERY: Duration = Duration::from_secs(5);
/// How often it is looked whether the rest of a stopping program is gone, or a kill worked.
const LINGER_EVERY: Duration = Duration::from_millis(10);
/// How long a full disk may hold up the exit record.
const EXIT_WRITE_MAX: Duration = Duration::from_secs(60);
/// A launch is refused beyond this.
const LAUNCH_BYTES_MAX: u64 = 16 << 20;

/// Runs one program to its end.
pub(crate) fn run(dir: &Path) -> io::Result<()> {
    let mut launch = Vec::new();
    io::stdin()
        .take(LAUNCH_BYTES_MAX)
        .read_to_end(&mut launch)?;
    let launch: Launch = serde_json::from_slice(&launch)?;
    if launch.version > VERSION {
        return Err(io::Error::other(format!(
            "launch version {} is unknown",
            launch.version
        )));
    }
    let control = open_control(&dir.join(name::CONTROL))?;
    if !claim(dir)? {
        return Ok(());
    }
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let exit_room = record::reserve(&dir.join(name::EXIT)).ok();
    let mut exit = Supervisor::new(dir, launch, control)?.supervise();
    write_exit(dir, exit_room.as_ref(), &exit.record)?;
    exit.poke.send();
    Ok(())
}

/// Whether this shim is the one that runs this run. The claim is complete before the program exists,
/// so no second shim can ever start it again.
fn claim(dir: &Path) -> io::Result<bool> {
    let pid = std::process::id();
    let started = Started {
        version: VERSION,
        boot: identity::boot_id()?,
        pid,
        start: identity::start_time(pid).ok_or(io::ErrorKind::NotFound)?,
    };
    match record::write_once(&dir.join(name::STARTED), &started) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Opened for both, so that it never reads as ended when an engine closes its side.
fn open_control(path: &Path) -> io::Result<OwnedFd> {
    let mode = Mode::RUSR | Mode::WUSR;
    match rustix::fs::mkfifoat(rustix::fs::CWD, path, mode) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// A disk that is full may have room later: how a program ended is worth waiting for.
fn write_exit(dir: &Path, room: Option<&File>, exit: &Exit) -> io::Result<()> {
    let path = dir.join(name::EXIT);
    if let Some(room) = room
        && record::write_reserved(&path, room, exit).is_ok()
    {
        return Ok(());
    }
    let begun = Instant::now();
    loop {
        match record::write(&path, exit, Durability::Synced) {
            Ok(()) => return Ok(()),
            Err(error) if begun.elapsed() > EXIT_WRITE_MAX => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_secs(1)),
        }
    }
}

struct Ended {
    record: Exit,
    poke: Poke,
}

struct Supervisor {
    dir: PathBuf,
    launch: Launch,
    control: OwnedFd,
    writer: Writer,
    poke: Poke,
    /// When everything that is left is killed; set by a stop request.
    deadline: Option<Instant>,
    buffer: Vec<u8>,
}

impl Supervisor {
    fn new(dir: &Path, launch: Launch, control: OwnedFd) -> io::Result<Supervisor> {
        Ok(Supervisor {
            dir: dir.to_owned(),
            control,
            writer: Writer::open(&launch.spool, launch.spool_max)?,
            poke: Poke::new(launch.poke.clone()),
            launch,
            deadline: None,
            buffer: vec![0; FRAME_BYTES_MAX],
        })
    }

    fn supervise(mut self) -> Ended {
        let oom_before = count_oom_kills(&self.launch.cgroup);
        let how = match self.start() {
            Ok(program) => self.carry(program),
            Err(sentence) => How::NotStarted(sentence),
        };
        self.writer.tell_loss(now());
        let record = Exit {
            version: VERSION,
            how,
            oom: count_oom_kills(&self.launch.cgroup) > oom_before,
            stopped: self.deadline.is_some(),
            at: now(),
            memory_peak: Bytes(read_number(self.launch.cgroup.peak.as_deref())),
            lost: self.writer.lost(),
        };
        Ended {
            record,
            poke: self.poke,
        }
    }

    fn start(&mut self) -> Result<Program, String> {
        let program = program::start(&self.launch)?;
        // Nobody reads the secrets from here again.
        self.launch.env = Vec::new();
        let running = Running {
            version: VERSION,
            pid: program.pid.as_raw_nonzero().get().cast_unsigned(),
            at: now(),
        };
        // Where this fails the program runs on: the engine then learns of it by its end.
        if record::write(&self.dir.join(name::RUNNING), &running, Durability::Cached).is_ok() {
            self.poke.send();
        }
        Ok(program)
    }

    fn carry(&mut self, program: Program) -> How {
        for pipe in [&program.stdout, &program.stderr] {
            // Reading must never wait; where this fails, a read waits for output, as poll did.
            let _ = rustix::io::ioctl_fionbio(pipe, true);
        }
        let pidfd = pidfd_open(program.pid, PidfdFlags::empty()).ok();
        let mut pipes = [
            (Stream::Stdout, Some(program.stdout)),
            (Stream::Stderr, Some(program.stderr)),
        ];
        let mut how = None;
        self.read_stop(program.pid);
        loop {
            let family = reap(program.pid, &mut how);
            let is_late = self
                .deadline
                .is_some_and(|deadline| Instant::now() >= deadline);
            let may_linger = self.deadline.is_some() && !is_late && family == Family::Alive;
            if how.is_some() && !may_linger {
                break;
            }
            if is_late {
                self.kill_all(program.pid);
            }
            let ready = self.wait(pidfd.as_ref(), &pipes, how.is_some() || is_late);
            if ready.control {
                self.read_stop(program.pid);
            }
            self.drain(&mut pipes);
        }
        self.end_rest(program.pid, &mut how);
        let begun = Instant::now();
        while self.drain(&mut pipes) && begun.elapsed() < DRAIN_MAX {
            std::thread::sleep(LINGER_EVERY);
        }
        how.unwrap_or(How::Signal(Signal::KILL.as_raw()))
    }

    /// Kills what the program left behind, until nothing of it is left.
    fn end_rest(&mut self, pid: Pid, how: &mut Option<How>) {
        let begun = Instant::now();
        while reap(pid, how) == Family::Alive && begun.elapsed() < DRAIN_MAX {
            self.kill_all(pid);
            std::thread::sleep(Duration::from_millis(1));
        }
        // Programs that an engine let in are in the cgroup, but nobody's children here.
        self.kill_cgroup();
    }

    /// Waits until there is something to do.
    fn wait(
        &self,
        pidfd: Option<&OwnedFd>,
        pipes: &[(Stream, Option<OwnedFd>); 2],
        is_lingering: bool,
    ) -> Ready {
        let mut fds = vec![PollFd::new(&self.control, PollFlags::IN)];
        // A pidfd stays readable after the end: while the rest lingers it would make this spin.
        fds.extend(
            pidfd
                .filter(|_| !is_lingering)
                .map(|fd| PollFd::new(fd, PollFlags::IN)),
        );
        let open = pipes.iter().filter_map(|(_, pipe)| pipe.as_ref());
        fds.extend(open.map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        let mut timeout = if is_lingering || pidfd.is_none() {
            LINGER_EVERY
        } else {
            REAP_EVERY
        };
        if let Some(deadline) = self.deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            timeout = timeout.min(left.max(Duration::from_millis(1)));
        }
        let timeout = Timespec {
            tv_sec: timeout.as_secs().cast_signed(),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        // An interrupted wait is a short one.
        let _ = poll(&mut fds, Some(&timeout));
        Ready {
            control: !fds[0].revents().is_empty(),
        }
    }

    /// Takes what the pipes hold into the spool. Whether one is still open.
    fn drain(&mut self, pipes: &mut [(Stream, Option<OwnedFd>); 2]) -> bool {
        let mut has_output = false;
        for (stream, slot) in pipes.iter_mut() {
            let Some(pipe) = slot else { continue };
            let (len, is_ended) = fill(pipe, &mut self.buffer);
            if len != 0 {
                self.writer.append(*stream, now(), &self.buffer[..len]);
                has_output = true;
            }
            if is_ended {
                *slot = None;
            }
        }
        if has_output {
            self.poke.send();
        }
        pipes.iter().any(|(_, pipe)| pipe.is_some())
    }

    fn read_stop(&mut self, pid: Pid) {
        let mut bytes = [0; 64];
        while rustix::io::read(&self.control, &mut bytes).is_ok_and(|n| n == bytes.len()) {}
        let Ok(Some(stop)) = record::read::<Stop>(&self.dir.join(name::STOP)) else {
            return;
        };
        let wanted = Instant::now() + Duration::from_millis(stop.grace_ms);
        if self.deadline.is_none() {
            // Already gone is as good.
            let _ = kill_process_group(pid, Signal::TERM);
        }
        self.deadline = Some(
            self.deadline
                .map_or(wanted, |deadline| deadline.min(wanted)),
        );
    }

    /// SIGKILL to the group, the cgroup and every other descendant.
    fn kill_all(&self, pid: Pid) {
        // Each of them may be gone already.
        let _ = kill_process_group(pid, Signal::KILL);
        self.kill_cgroup();
        for child in children() {
            let _ = kill_process(child, Signal::KILL);
        }
    }

    fn kill_cgroup(&self) {
        for procs in &self.launch.cgroup.procs {
            let listed = fs::read_to_string(procs).unwrap_or_default();
            let pids = listed.lines().filter_map(|line| line.parse().ok());
            for pid in pids.filter_map(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

struct Ready {
    control: bool,
}

#[derive(PartialEq, Eq)]
enum Family {
    Alive,
    Gone,
}

/// Collects ended children, the program's own end among them.
fn reap(program: Pid, how: &mut Option<How>) -> Family {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == program => *how = Some(ended(status)),
            Ok(Some(_)) => {}
            Ok(None) => return Family::Alive,
            Err(Errno::INTR) => {}
            Err(_) => return Family::Gone,
        }
    }
}

fn ended(status: WaitStatus) -> How {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => How::Code(code),
        (None, signal) => How::Signal(signal.unwrap_or(Signal::KILL.as_raw())),
    }
}

/// Children of this process: daemons of the program came back to it. Their own children come next.
fn children() -> Vec<Pid> {
    let me = std::process::id();
    let listed = fs::read_to_string(format!("/proc/{me}/task/{me}/children")).unwrap_or_default();
    let pids = listed.split_whitespace().filter_map(|pid| pid.parse().ok());
    pids.filter_map(Pid::from_raw).collect()
}

/// Reads until the buffer is full, the pipe is empty, or it has ended.
fn fill(pipe: &OwnedFd, buffer: &mut [u8]) -> (usize, bool) {
    let mut len = 0;
    while len < buffer.len() {
        match rustix::io::read(pipe, &mut buffer[len..]) {
            Ok(0) => return (len, true),
            Ok(n) => len += n,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return (len, false),
            Err(_) => return (len, true),
        }
    }
    (len, false)
}

/// Lines `oom_kill <n>` in the cgroup's memory file.
fn count_oom_kills(cgroup: &Cgroup) -> u64 {
    let Some(path) = &cgroup.oom else { return 0 };
    let text = fs::read_to_string(path).unwrap_or_default();
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count
        .and_then(|count| count.trim().parse().ok())
        .unwrap_or(0)
}

fn read_number(path: Option<&Path>) -> u64 {
    let text = path.and_then(|path| fs::read_to_string(path).ok());
    text.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

fn now() -> Time {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Time::from_ms(since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }))
}

/// Wakes the engine, if one listens. It looks by itself now and then, so a lost poke costs only time.
struct Poke {
    target: Option<(PathBuf, String)>,
    fifo: Option<OwnedFd>,
}

impl Poke {
    fn new(target: Option<(PathBuf, String)>) -> Poke {
        Poke { target, fifo: None }
    }

    fn send(&mut self) {
        let Some((path, line)) = &self.target else {
            return;
        };
        // A second try for an engine that was restarted: the old reader's end is broken.
        for _ in 0..2 {
            if self.fifo.is_none() {
                let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
                self.fifo = rustix::fs::open(path, flags, Mode::empty()).ok();
            }
            let Some(fifo) = &self.fifo else { return };
            match rustix::io::write(fifo, line.as_bytes()) {
                Ok(_) | Err(Errno::AGAIN) => return,
                Err(_) => self.fifo = None,
            }
        }
    }
}
