//! From checked bytes to an answer: what every protocol does in the same way.

use crate::config::{Config, IN_FLIGHT_MAX, REQUEST_ROWS_MAX};
use crate::error::{Result, ServeError};
use crate::loader::Loader;
use crate::models::{Models, Version};
use crate::pool::{Answer, Pool};
use crate::tensor::Tensor;
use base::Code;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

/// What requests work on.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) models: Arc<Models>,
    pub(crate) pool: Pool,
    pub(crate) loader: Loader,
    in_flight: Semaphore,
    /// The server ends: streams without an end of their own end, too.
    pub(crate) stop: CancellationToken,
}

/// A request whose tensors were read.
pub(crate) struct Request<'a> {
    pub(crate) version: &'a Arc<Version>,
    /// Which of the model's signatures.
    pub(crate) signature: usize,
    pub(crate) inputs: Vec<Tensor>,
    /// When it began to come.
    pub(crate) started: Instant,
    /// How long it may take, at most the server's time.
    pub(crate) timeout: Option<Duration>,
}

/// Where a request's time went.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    pub(crate) queue: Duration,
    pub(crate) compute: Duration,
    pub(crate) serialise: Duration,
}

impl Shared {
    pub(crate) fn new(config: Config, models: Arc<Models>, pool: Pool, loader: Loader) -> Shared {
        Shared {
            config,
            models,
            pool,
            loader,
            in_flight: Semaphore::new(IN_FLIGHT_MAX),
            stop: CancellationToken::new(),
        }
    }

    /// A place among the requests in work.
    pub(crate) fn place(&self) -> Result<SemaphorePermit<'_>> {
        self.in_flight.try_acquire().map_err(|_| {
            ServeError::new(
                Code::Exhausted,
                format!("{IN_FLIGHT_MAX} requests are in work already; try again later"),
            )
        })
    }

    /// Runs a request and writes what came by `write`; counts it.
    pub(crate) async fn infer<T>(
        &self,
        request: Request<'_>,
        write: impl FnOnce(&[Tensor]) -> Result<T>,
    ) -> Result<(T, Timing)> {
        let stats = &request.version.stats;
        let started = request.started;
        let version = request.version;
        let answer = self.run(request).await.inspect_err(|error| {
            // The pool counts what was too late there.
            if error.code != Code::Timeout {
                version.stats.failed(error.code);
            }
        })?;
        let begun = Instant::now();
        let written = write(&answer.outputs)?;
        let serialise = begun.elapsed();
        stats.answered(answer.queue, serialise, started.elapsed());
        let timing = Timing {
            queue: answer.queue,
            compute: answer.compute,
            serialise,
        };
        Ok((written, timing))
    }

    async fn run(&self, request: Request<'_>) -> Result<Answer> {
        let Request {
            version,
            signature,
            mut inputs,
            started,
            timeout,
        } = request;
        version.runtime.check(signature, &mut inputs)?;
        let n_rows = inputs.first().map_or(1, Tensor::n_rows);
        if n_rows > REQUEST_ROWS_MAX {
            return Err(ServeError::invalid(format!(
                "the request has {n_rows} rows, at most {REQUEST_ROWS_MAX} are taken"
            )));
        }
        let timeout = timeout
            .unwrap_or(self.config.timeout)
            .min(self.config.timeout);
        let deadline = started + timeout;
        let answer = self.pool.submit(version, signature, inputs, deadline)?;
        match tokio::time::timeout_at(deadline.into(), answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(ServeError::new(Code::Unavailable, "the server stops")),
            Err(_) => Err(ServeError::new(
                Code::Timeout,
                format!("no answer within {} ms", timeout.as_millis()),
            )),
        }
    }
}
