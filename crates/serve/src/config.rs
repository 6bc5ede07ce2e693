//! How a server runs. Every bound is here, with the value that the command line starts from.

use crate::runtimes::Runtimes;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Bytes of a request's body.
pub const BODY_MAX: usize = 64 << 20;
/// Requests that wait for a worker, a version.
pub const QUEUE_MAX: usize = 1_000;
/// Rows of one batch. A request with more runs alone.
pub const BATCH_ROWS_MAX: usize = 256;
/// Rows of one request.
pub const REQUEST_ROWS_MAX: usize = 1 << 20;
/// How long a request may wait and run where it does not say.
pub const TIMEOUT: Duration = Duration::from_secs(30);
/// Between looks at the directory.
pub const POLL: Duration = Duration::from_secs(1);
/// Requests that are read, run or answered at a time.
pub const IN_FLIGHT_MAX: usize = 10_000;

/// A server's settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Models: `DIR/NAME/VERSION/model.…`, or one model's versions, or one model's files.
    pub dir: PathBuf,
    /// Where the libraries of other makers are kept.
    pub runtimes: Runtimes,
    /// Where it listens, for REST and gRPC.
    pub listen: SocketAddr,
    /// Where it listens besides, for the same.
    pub listen_grpc: Option<SocketAddr>,
    /// Versions held where a model's `model.toml` does not say.
    pub versions: Policy,
    /// Between looks at the directory.
    pub poll: Duration,
    /// A version is loaded by the first request that asks for it, and goes when its memory is needed.
    pub on_demand: bool,
    /// Ready once every version that is held answers, not only one of each model.
    pub strict: bool,
    /// Threads that run models.
    pub n_workers: usize,
    /// Threads that read requests and write answers.
    pub n_io: usize,
    /// Bytes that models may take together.
    pub memory_max: u64,
    /// Bytes of a request's body.
    pub body_max: usize,
    /// Requests that wait, a version.
    pub queue_max: usize,
    /// Rows of one batch.
    pub batch_rows_max: usize,
    /// How long a request may wait and run.
    pub timeout: Duration,
    /// How a process is started that runs one model's version (`isolate` in `model.toml`).
    pub worker: Worker,
}

/// A command whose program calls [`work`](crate::work) at once, in its first thread.
#[derive(Clone, Debug)]
pub struct Worker {
    /// The program.
    pub program: PathBuf,
    /// Its arguments; `-- MODEL/VERSION` follows them, for people who look at processes.
    pub args: Vec<OsString>,
}

impl Worker {
    /// This program as it is now, also where its file is replaced by another later.
    pub fn own(args: &[&str]) -> Worker {
        Worker {
            program: PathBuf::from("/proc/self/exe"),
            args: args.iter().map(OsString::from).collect(),
        }
    }
}

/// Which versions of a model are held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The highest `n` numbers.
    Latest(usize),
    /// All.
    All,
    /// These.
    Specific(Vec<u64>),
}

impl std::str::FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Policy, String> {
        let wrong = || {
            format!(
                "`{text}` is no version policy: write `latest`, `latest:2`, `all` or `specific:1,3`"
            )
        };
        match text.split_once(':') {
            None if text == "all" => Ok(Policy::All),
            None if text == "latest" => Ok(Policy::Latest(1)),
            Some(("latest", n)) => match n.parse() {
                Ok(n) if n > 0 => Ok(Policy::Latest(n)),
                _ => Err(wrong()),
            },
            Some(("specific", numbers)) => numbers
                .split(',')
                .map(|number| number.trim().parse().map_err(|_| wrong()))
                .collect::<Result<Vec<u64>, String>>()
                .map(Policy::Specific),
            _ => Err(wrong()),
        }
    }
}
