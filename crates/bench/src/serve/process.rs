//! Servers as processes: started, waited for, looked at, ended.

use super::wire;
use crate::usage::{self, Usage};
use crate::{Failure, note};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Until a server is ready: MLServer imports for most of a minute where the machine does other things.
const PATIENCE: Duration = Duration::from_secs(180);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(1);
const READY: &str = "/v2/health/ready";

/// A server that runs; it ends with this.
pub(crate) struct Process {
    pub(crate) address: SocketAddr,
    /// From its start until it was ready.
    pub(crate) started_in: Duration,
    child: Child,
    /// What its processes have in their environment.
    mark: tempfile::TempDir,
}

/// `moonshot serve DIR` with these arguments beside, on a port of its own.
pub(crate) fn moonshot(dir: &Path, args: &[&str]) -> Result<Process, Failure> {
    let mut command = Command::new(e2e::installation::moonshot());
    command
        .arg("serve")
        .arg(dir)
        .args(["--listen", "127.0.0.1:0", "--strict"])
        .args(args)
        .env("MOONSHOT_RUNTIMES", e2e::python::cache().join("runtimes"))
        .env("RUST_LOG", "warn");
    let (mut process, begun) = Process::spawn(&mut command, Stdio::piped())?;
    let output = process.child.stdout.take().expect("its output is piped");
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    let address = line.trim().strip_prefix("serving on http://");
    let address = address.ok_or_else(|| format!("`moonshot serve` said {line:?}"))?;
    process.address = address.parse()?;
    process.ready(begun)
}

/// Another server that listens on this port once it runs.
pub(crate) fn other(command: &mut Command, port: u16) -> Result<Process, Failure> {
    let (mut process, begun) = Process::spawn(command, Stdio::null())?;
    process.address = (Ipv4Addr::LOCALHOST, port).into();
    process.ready(begun)
}

/// Ports that nobody listens on.
pub(crate) fn free_ports<const N: usize>() -> Result<[u16; N], Failure> {
    let mut ports = [0; N];
    let mut held = Vec::new();
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

impl Process {
    fn spawn(command: &mut Command, output: Stdio) -> Result<(Process, Instant), Failure> {
        let mark = tempfile::Builder::new()
            .prefix("moonshot-bench-")
            .tempdir()?;
        let log = std::fs::File::create(mark.path().join("log"))?;
        command
            .env("MOONSHOT_DATA_DIR", mark.path())
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(log);
        let begun = Instant::now();
        let child = command
            .spawn()
            .map_err(|error| format!("cannot start {command:?}: {error}"))?;
        let process = Process {
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            started_in: Duration::ZERO,
            child,
            mark,
        };
        Ok((process, begun))
    }

    /// Waits until it says that its models answer.
    fn ready(mut self, begun: Instant) -> Result<Process, Failure> {
        let request = wire::request("GET", READY, &[], b"");
        loop {
            if wire::ask(self.address, &request).is_ok_and(|(status, _)| status == 200) {
                self.started_in = begun.elapsed();
                return Ok(self);
            }
            if begun.elapsed() > PATIENCE || self.child.try_wait()?.is_some() {
                let log = std::fs::read_to_string(self.mark.path().join("log"));
                note(log.unwrap_or_default());
                return Err("a server is not ready; what it said is above".into());
            }
            std::thread::sleep(LOOK);
        }
    }

    /// What it and its children use.
    pub(crate) fn usage(&self) -> Usage {
        usage::of(&usage::processes_of(self.mark.path()))
    }

    /// The body of a good answer.
    pub(crate) fn post(
        &self,
        path: &str,
        headers: &[(String, String)],
        body: &[u8],
    ) -> Result<Vec<u8>, Failure> {
        self.ask(&wire::request("POST", path, headers, body))
    }

    /// The body of a good answer.
    pub(crate) fn get(&self, path: &str) -> Result<Vec<u8>, Failure> {
        self.ask(&wire::request("GET", path, &[], b""))
    }

    fn ask(&self, request: &[u8]) -> Result<Vec<u8>, Failure> {
        match wire::ask(self.address, request)? {
            (200, body) => Ok(body),
            (status, body) => {
                let text = String::from_utf8_lossy(&body);
                Err(format!("the server answered {status}: {text}").into())
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Its workers, too: those of a killed process would go on.
        for pid in usage::processes_of(self.mark.path()) {
            if let Some(pid) = i32::try_from(pid)
                .ok()
                .and_then(rustix::process::Pid::from_raw)
            {
                // One that has ended is as good.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
