//! `moonshot serve`: the model server on a directory, without a platform; and the libraries that it runs models with.

use crate::exit::Failure;
use crate::out::say;
use crate::role::server::{chain, wait_for_signal};
use ::serve::config::{self, Config, Policy, Worker};
use ::serve::runtimes::{InstallError, KNOWN, Runtimes};
use ::serve::{Server, StartError};
use base::Bytes;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Of the machine's memory that is free at the start, the part that models may take.
const MEMORY_PART: f64 = 0.8;

/// The verb of a process that runs one model for a server that started it.
pub(crate) const WORKER: &str = "serve-worker";

/// `moonshot serve`
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    about: Option<About>,
    /// The directory of models: DIR/NAME/VERSION/model.{ubj,json,txt,onnx} or saved_model.pb, or one model's own
    /// directory.
    #[arg(value_name = "DIR", required = true)]
    dir: Option<PathBuf>,
    /// Where the libraries that run TensorFlow and ONNX models are kept; in the user's cache where it is not given.
    #[arg(long, value_name = "DIR", env = ::serve::runtimes::VARIABLE, global = true)]
    runtimes: Option<PathBuf>,
    /// Where REST and gRPC listen.
    #[arg(long, default_value = "127.0.0.1:8501", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// A second address for the same, as TensorFlow Serving's clients expect gRPC on port 8500.
    #[arg(long, value_name = "ADDRESS")]
    grpc_listen: Option<SocketAddr>,
    /// Versions held of each model: `latest`, `latest:N`, `all` or `specific:N,…`; a model's `model.toml` may
    /// say otherwise.
    #[arg(long, default_value = "latest", value_name = "POLICY")]
    versions: Policy,
    /// How often the directory is looked at, in milliseconds.
    #[arg(long, default_value_t = config::POLL.as_millis() as u64, value_name = "MS")]
    poll_ms: u64,
    /// Load a version when a request asks for it first, and let those go that were asked for least recently where
    /// memory is short: for more models than fit.
    #[arg(long)]
    on_demand: bool,
    /// Be ready only once every version that is held answers, not as soon as one of each model does.
    #[arg(long)]
    strict: bool,
    /// Threads that run models; one for each CPU where it is not given.
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Threads that read requests and write answers; as many as run models where it is not given.
    #[arg(long, value_name = "N")]
    io_threads: Option<usize>,
    /// Memory that models may take together, as 2Gi; 80 % of what is free where it is not given.
    #[arg(long, value_name = "BYTES")]
    memory_max: Option<Bytes>,
    /// Bytes of a request's body.
    #[arg(long, default_value_t = config::BODY_MAX, value_name = "BYTES")]
    body_max: usize,
    /// Requests that may wait for a worker, a model version; further ones get 429.
    #[arg(long, default_value_t = config::QUEUE_MAX, value_name = "N")]
    queue_max: usize,
    /// Rows that are run together.
    #[arg(long, default_value_t = config::BATCH_ROWS_MAX, value_name = "N")]
    batch_rows_max: usize,
    /// How long a request may wait and run, in milliseconds.
    #[arg(long, default_value_t = config::TIMEOUT.as_millis() as u64, value_name = "MS")]
    timeout_ms: u64,
}

/// What else there is than to serve.
#[derive(Debug, clap::Subcommand)]
enum About {
    /// The libraries that run TensorFlow and ONNX models.
    #[command(subcommand)]
    Runtimes(RuntimesVerb),
}

#[derive(Debug, clap::Subcommand)]
enum RuntimesVerb {
    /// Fetches runtimes from the package index, checked by hash; nothing where they are there.
    Install {
        /// Which; all where none is named.
        #[arg(value_name = "NAME")]
        names: Vec<String>,
        /// A directory with the wheels, instead of the package index.
        #[arg(long, value_name = "DIR")]
        from: Option<PathBuf>,
    },
    /// The runtimes that are there and that there could be.
    List,
}

fn runtimes(runtimes: &Runtimes, verb: RuntimesVerb) -> Result<(), Failure> {
    match verb {
        RuntimesVerb::Install { mut names, from } => {
            if names.is_empty() {
                names = KNOWN.iter().map(|known| known.name.to_owned()).collect();
            }
            for name in names {
                let installed =
                    runtimes
                        .install(&name, from.as_deref())
                        .map_err(|error| match error {
                            InstallError::Unknown(_) => Failure::NotFound(error.to_string()),
                            error => Failure::Failed(error.to_string()),
                        })?;
                let path = installed.path.display();
                say!("{} {} is in {path}", installed.name, installed.version);
            }
        }
        RuntimesVerb::List => {
            let there = runtimes.list();
            for known in KNOWN {
                let mut is_there = false;
                for installed in there.iter().filter(|there| there.name == known.name) {
                    is_there = true;
                    say!(
                        "{}\t{}\t{} MiB\t{}",
                        installed.name,
                        installed.version,
                        installed.bytes >> 20,
                        installed.path.display()
                    );
                }
                if !is_there {
                    say!("{}\tnot installed\t\tfor {} models", known.name, known.what);
                }
            }
        }
    }
    Ok(())
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let kept = args.runtimes.map_or_else(Runtimes::usual, Runtimes::new);
    if let Some(About::Runtimes(verb)) = args.about {
        return runtimes(&kept, verb);
    }
    let _telemetry = telemetry::start("moonshot-serve");
    let n_cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let n_workers = args.workers.unwrap_or(n_cpus);
    let config = Config {
        // Without a directory the arguments were not taken.
        dir: args.dir.unwrap_or_default(),
        runtimes: kept,
        listen: args.listen,
        listen_grpc: args.grpc_listen,
        versions: args.versions,
        poll: Duration::from_millis(args.poll_ms.max(1)),
        on_demand: args.on_demand,
        strict: args.strict,
        n_workers,
        n_io: args.io_threads.unwrap_or(n_workers),
        memory_max: args.memory_max.map_or_else(free_memory, |bytes| bytes.0),
        body_max: args.body_max,
        queue_max: args.queue_max.max(1),
        batch_rows_max: args.batch_rows_max.max(1),
        timeout: Duration::from_millis(args.timeout_ms.max(1)),
        worker: Worker::own(&[WORKER]),
    };
    let server = Server::start(config).await.map_err(|error| match error {
        StartError::Directory(_) => Failure::NotFound(error.to_string()),
        StartError::Listen(..) | StartError::Thread(_) => Failure::Failed(chain(&error)),
    })?;
    let address = server.address().map_err(|source| Failure::Local {
        what: "find where it listens".to_owned(),
        source,
    })?;
    say!("serving on http://{address}");
    let stop = CancellationToken::new();
    tokio::join!(server.run(stop.clone()), wait_for_signal(stop));
    Ok(())
}

/// `moonshot serve-worker`: runs one model for the server that started it, until that ends it.
pub(crate) fn work() -> Result<(), Failure> {
    let _telemetry = telemetry::start("moonshot-serve-worker");
    let fault = |source| {
        Failure::Local {
        what: "work for a server (`moonshot serve` starts this where a `model.toml` says `isolate = true`)".to_owned(),
        source,
    }
    };
    // Who stops a server often signals all processes around it; this one is needed until the last request is
    // answered.
    let _caught = (
        signal(SignalKind::terminate()).map_err(fault)?,
        signal(SignalKind::interrupt()).map_err(fault)?,
    );
    ::serve::work().map_err(fault)
}

/// A part of what the kernel says is available; without a bound where it says nothing.
fn free_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = available.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.map_or(u64::MAX, |kib| (kib * 1024.0 * MEMORY_PART) as u64)
}
