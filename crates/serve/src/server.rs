//! The server: listens, accepts, drains.

use crate::config::Config;
use crate::grpc;
use crate::infer::Shared;
use crate::io::Io;
use crate::loader::Loader;
use crate::models::Models;
use crate::pool::Pool;
use crate::traffic::shadow::Shadows;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// Connections that are open at a time.
const CONNECTIONS_MAX: usize = 20_000;

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
    io: Io,
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
        // Made of the descriptors that were built in.
        let grpc = grpc::services(&shared).expect("the descriptors are whole");
        let n_io = shared.config.n_io;
        let io = Io::start(n_io, &shared, &Arc::new(grpc)).map_err(StartError::Thread)?;
        Ok(Server {
            listeners,
            shared,
            io,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listeners[0].local_addr()
    }

    /// Serves until `stop`; requests in flight are finished.
    pub async fn run(self, stop: CancellationToken) {
        let Server {
            listeners,
            shared,
            io,
        } = self;
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut looks = tokio::time::interval(canary::LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let accepted = tokio::select! {
                _ = looks.tick() => {
                    judge(&shared);
                    continue;
                }
                accepted = accept(&listeners, &places) => accepted,
                () = stop.cancelled() => break,
            };
            match accepted {
                Ok((stream, place)) => io.take(stream, place),
                Err(error) => {
                    // Out of descriptors, usually: others must end first.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        drop(listeners);
        shared.stop.cancel();
        io.drain().await;
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

/// The next connection of any listener, once there is a place for it.
async fn accept(
    listeners: &[TcpListener],
    places: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned();
    let place = place.await.map_err(std::io::Error::other)?;
    let (stream, _) = match listeners {
        [first, second] => tokio::select! {
            accepted = first.accept() => accepted,
            accepted = second.accept() => accepted,
        },
        _ => listeners[0].accept().await,
    }?;
    // Small answers leave at once.
    let _ = stream.set_nodelay(true);
    Ok((stream.into_std()?, place))
}
