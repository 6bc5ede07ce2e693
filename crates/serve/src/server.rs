//! The server: listens, accepts, drains.

use crate::config::Config;
use crate::grpc;
use crate::http::handle;
use crate::infer::Shared;
use crate::loader::Loader;
use crate::models::Models;
use crate::pool::Pool;
use crate::traffic::shadow::Shadows;
use http_body_util::Either;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// A client that does not send its header in this time is cut off. It counts for idle connections too, so it is
/// longer than the pools of usual clients keep theirs.
const HEADER_TIMEOUT: Duration = Duration::from_secs(120);
/// Connections that are open at a time.
const CONNECTIONS_MAX: usize = 20_000;
/// At the end, requests in flight get this long.
const DRAIN: Duration = Duration::from_secs(30);

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken or not ours.
    #[error("cannot listen on {0}: another program may use it; choose another with --listen")]
    Listen(SocketAddr, #[source] std::io::Error),
    /// The directory of models is not one.
    #[error("`{0}` is no directory of models")]
    Directory(String),
    /// The machine gives no thread.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
}

/// A server that listens.
pub struct Server {
    /// One, or two.
    listeners: Vec<TcpListener>,
    shared: Arc<Shared>,
}

impl Server {
    /// Listens and begins to load; requests are answered once [`Server::run`] is.
    pub async fn start(config: Config) -> Result<Server, StartError> {
        if !config.dir.is_dir() {
            return Err(StartError::Directory(config.dir.display().to_string()));
        }
        let mut listeners = Vec::new();
        for address in [Some(config.listen), config.listen_grpc]
            .into_iter()
            .flatten()
        {
            let listener = TcpListener::bind(address).await;
            listeners.push(listener.map_err(|error| StartError::Listen(address, error))?);
        }
        let models = Arc::new(Models::default());
        let pool = Pool::start(config.n_workers, config.queue_max, config.batch_rows_max)
            .map_err(StartError::Thread)?;
        let loader =
            Loader::start(config.clone(), Arc::clone(&models)).map_err(StartError::Thread)?;
        let shadows = Shadows::start().map_err(StartError::Thread)?;
        let shared = Arc::new(Shared::new(config, models, pool, loader, shadows));
        Ok(Server { listeners, shared })
    }

    /// Where it listens.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listeners[0].local_addr()
    }

    /// Serves until `stop`; requests in flight are finished.
    pub async fn run(self, stop: CancellationToken) {
        let Server { listeners, shared } = self;
        let mut http = auto::Builder::new(TokioExecutor::new());
        http.http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT);
        http.http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(Some(Duration::from_secs(20)));
        // Made of the descriptors that were built in.
        let grpc = grpc::services(&shared).expect("the descriptors are whole");
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        let mut looks = tokio::time::interval(canary::LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let stream = tokio::select! {
                _ = looks.tick() => {
                    judge(&shared);
                    continue;
                }
                accepted = accept(&listeners), if connections.len() < CONNECTIONS_MAX => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        // Out of descriptors, usually: others must end first.
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
                Some(_) = connections.join_next() => continue,
                () = stop.cancelled() => break,
            };
            // Small answers leave at once.
            let _ = stream.set_nodelay(true);
            let shared = Arc::clone(&shared);
            let grpc = grpc.clone();
            let service = service_fn(move |req| {
                let shared = Arc::clone(&shared);
                let mut grpc = grpc::is_grpc(req.headers()).then(|| grpc.clone());
                async move {
                    Ok::<_, Infallible>(match &mut grpc {
                        Some(grpc) => grpc.handle(req).await.map(Either::Right),
                        None => handle(&shared, req).await.map(Either::Left),
                    })
                }
            });
            let connection = http
                .serve_connection(TokioIo::new(stream), service)
                .into_owned();
            let connection = graceful.watch(connection);
            connections.spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection ended badly");
                }
            });
        }
        drop((listeners, grpc));
        shared.stop.cancel();
        if tokio::time::timeout(DRAIN, graceful.shutdown())
            .await
            .is_err()
        {
            tracing::warn!(
                "requests in flight were cut off after {} s",
                DRAIN.as_secs()
            );
        }
        connections.shutdown().await;
        // Every request is over: this is the last holder.
        if let Some(shared) = Arc::into_inner(shared) {
            shared.loader.close();
            shared.pool.close();
            shared.shadows.close();
        }
    }
}

/// Takes requests away from newer versions whose callers fare worse than those of the older ones.
fn judge(shared: &Shared) {
    for (model, known) in &shared.models.table().models {
        let why = known.traffic.as_ref().and_then(|traffic| traffic.look());
        if let Some((version, why)) = why {
            tracing::warn!(model, version, why, "stepped back");
        }
    }
}

/// The next connection of any.
async fn accept(listeners: &[TcpListener]) -> std::io::Result<(TcpStream, SocketAddr)> {
    match listeners {
        [first, second] => tokio::select! {
            accepted = first.accept() => accepted,
            accepted = second.accept() => accepted,
        },
        _ => listeners[0].accept().await,
    }
}
