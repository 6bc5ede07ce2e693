//! From checked bytes to an answer: what every protocol does in the same way.

use crate::config::{Config, IN_FLIGHT_MAX, REQUEST_ROWS_MAX};
use crate::error::{Result, ServeError};
use crate::loader::{Loader, OrderKind, stopping};
use crate::models::{Models, Pick, Version};
use crate::pool::{Answer, Pool};
use crate::tensor::Tensor;
use crate::traffic::Trial;
use crate::traffic::shadow::{self, Shadows};
use base::Code;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

/// How often a request looks again where what it asked for went away.
const LOOKS_MAX: usize = 4;

/// What requests work on.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) models: Arc<Models>,
    pub(crate) pool: Pool,
    pub(crate) loader: Loader,
    pub(crate) shadows: Shadows,
    /// Where large requests are read and answered, away from the I/O threads.
    pub(crate) apart: Handle,
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
    /// A copy of it for a version that is only compared.
    pub(crate) copy: Option<shadow::Copy>,
}

/// Where a request's time went.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    pub(crate) queue: Duration,
    pub(crate) compute: Duration,
    pub(crate) serialise: Duration,
}

impl Shared {
    /// Called in the runtime that shall do the work of large requests.
    pub(crate) fn new(
        config: Config,
        models: Arc<Models>,
        pool: Pool,
        loader: Loader,
        shadows: Shadows,
    ) -> Shared {
        Shared {
            config,
            models,
            pool,
            loader,
            shadows,
            apart: Handle::current(),
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

    /// Which version predicts where the request names none and several share such requests; `header` reads one of the
    /// request's headers.
    pub(crate) fn route<'a>(
        &self,
        model: &str,
        pick: Pick<'a>,
        header: impl FnOnce(&str) -> Option<String>,
    ) -> Result<(Pick<'a>, Option<Trial>)> {
        let table = self.models.table();
        let known = table.models.get(model);
        match known.and_then(|known| Some((known, known.traffic.as_ref()?))) {
            Some((known, traffic)) if pick == Pick::Latest => {
                let (pick, trial) = traffic.route(model, known, header)?;
                // What waits for a load says nothing of the version.
                let is_here = |pick| matches!(pick, Pick::Number(number) if known.ready.contains_key(&number));
                Ok((pick, trial.filter(|_| is_here(pick))))
            }
            _ => Ok((pick, None)),
        }
    }

    /// Which version is meant where the request names none and predicts nothing.
    pub(crate) fn standing<'a>(&self, model: &str, pick: Pick<'a>) -> Pick<'a> {
        let table = self.models.table();
        let known = table.models.get(model);
        match known.and_then(|known| Some((known, known.traffic.as_ref()?))) {
            Some((known, traffic)) if pick == Pick::Latest => traffic.standing(known),
            _ => pick,
        }
    }

    /// The version that a request asks for. Where models are loaded on demand it may have to be loaded first,
    /// within the request's time.
    pub(crate) async fn version(
        &self,
        model: &str,
        pick: Pick<'_>,
        started: Instant,
        timeout: Option<Duration>,
    ) -> Result<Arc<Version>> {
        if !self.config.on_demand {
            return self.models.find(model, pick);
        }
        let timeout = self.timeout(timeout);
        let mut is_first = true;
        for _ in 0..LOOKS_MAX {
            let table = self.models.table();
            let Some(number) = table.missing(model, pick) else {
                let version = table.find(model, pick)?;
                self.loader.used(&version, is_first);
                return Ok(version);
            };
            drop(table);
            let found = self.loader.want(model, number, is_first)?;
            match tokio::time::timeout_at((started + timeout).into(), found).await {
                Ok(Ok(Some(version))) => return Ok(version),
                // It could not be loaded, or went: the table says why, or who answers in its place.
                Ok(Ok(None)) => is_first = false,
                Ok(Err(_)) => return Err(stopping()),
                Err(_) => {
                    let why = self.loader.why(model, number);
                    return Err(ServeError::new(
                        Code::Timeout,
                        format!(
                            "version {number} of model `{model}` was not loaded within {} ms{why}",
                            timeout.as_millis()
                        ),
                    ));
                }
            }
        }
        Err(ServeError::new(
            Code::Unavailable,
            format!("the versions of model `{model}` change at the moment; try again"),
        ))
    }

    /// Looks at a model now, tries again what failed and, where models are loaded on demand, loads it.
    pub(crate) async fn load(&self, model: &str) -> Result<()> {
        self.loader.order(OrderKind::Load, model).await?;
        if self.config.on_demand {
            let found = self.version(model, Pick::Latest, Instant::now(), None);
            found.await?;
        }
        Ok(())
    }

    /// What a request may take: its own time, at most the server's.
    fn timeout(&self, own: Option<Duration>) -> Duration {
        own.unwrap_or(self.config.timeout).min(self.config.timeout)
    }

    /// Runs a request and writes what came by `write`; counts it.
    pub(crate) async fn infer<T>(
        &self,
        mut request: Request<'_>,
        write: impl FnOnce(&[Tensor]) -> Result<T>,
    ) -> Result<(T, Timing)> {
        let stats = &request.version.stats;
        let started = request.started;
        let version = request.version;
        let copy = request.copy.take();
        let answer = self.run(request).await.inspect_err(|error| {
            // The pool counts what was too late there.
            if error.code != Code::Timeout {
                version.stats.failed(error.code);
            }
        })?;
        if let Some(copy) = copy {
            self.shadows.compare(copy, &answer.outputs, answer.compute);
        }
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
            ..
        } = request;
        version.runtime.check(signature, &mut inputs)?;
        let n_rows = inputs.first().map_or(1, Tensor::n_rows);
        if n_rows > REQUEST_ROWS_MAX {
            return Err(ServeError::invalid(format!(
                "the request has {n_rows} rows, at most {REQUEST_ROWS_MAX} are taken"
            )));
        }
        let timeout = self.timeout(timeout);
        let deadline = started + timeout;
        let sample = version.recent.sample(
            &version.runtime.signatures()[signature].name,
            inputs.as_slice(),
        );
        let answer = self.pool.submit(version, signature, inputs, deadline)?;
        match tokio::time::timeout_at(deadline.into(), answer).await {
            Ok(Ok(answer)) => {
                // What failed is nothing to warm a model with.
                if let (Ok(_), Some(sample)) = (&answer, sample) {
                    version.recent.keep(sample);
                }
                answer
            }
            Ok(Err(_)) => Err(stopping()),
            Err(_) => Err(ServeError::new(
                Code::Timeout,
                format!("no answer within {} ms", timeout.as_millis()),
            )),
        }
    }
}
