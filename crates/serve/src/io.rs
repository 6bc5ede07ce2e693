//! The I/O threads. Each has connections of its own and a runtime of one thread: whatever a request waits for wakes
//! that thread alone, and no other looks for work to take from it. Beside a model that runs for some microseconds,
//! such wake-ups are most of what a request costs.

use crate::grpc::{self, Grpc};
use crate::http::handle;
use crate::infer::Shared;
use http_body_util::Either;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use std::convert::Infallible;
use std::net::TcpStream;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::task::JoinSet;
use tonic_reflection::server::v1::ServerReflection;

/// A client that does not send its header in this time is cut off. It counts for idle connections too, so it is
/// longer than the pools of usual clients keep theirs.
const HEADER_TIMEOUT: Duration = Duration::from_secs(120);
/// Between questions whether a silent client of HTTP/2 is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// At the end, requests in flight get this long.
const DRAIN: Duration = Duration::from_secs(30);

/// The threads.
pub(crate) struct Io(Vec<Thread>);

struct Thread {
    connections: mpsc::UnboundedSender<Connection>,
    /// Held by each connection of the thread.
    open: Arc<()>,
    ended: oneshot::Receiver<()>,
    handle: JoinHandle<()>,
}

struct Connection {
    stream: TcpStream,
    _open: Arc<()>,
    /// Its place among all that may be open.
    _place: OwnedSemaphorePermit,
}

impl Io {
    pub(crate) fn start<R>(
        n_threads: usize,
        shared: &Arc<Shared>,
        grpc: &Arc<Grpc<R>>,
    ) -> std::io::Result<Io>
    where
        R: ServerReflection,
    {
        let threads = (0..n_threads.max(1)).map(|at| {
            let (connections, taken) = mpsc::unbounded_channel();
            let (ends, ended) = oneshot::channel();
            let (shared, grpc) = (Arc::clone(shared), Arc::clone(grpc));
            let runtime = runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let handle = std::thread::Builder::new()
                .name(format!("io-{at}"))
                .spawn(move || {
                    runtime.block_on(serve(shared, grpc, taken));
                    // Nobody waits for it where the server was not stopped in order.
                    let _ = ends.send(());
                })?;
            Ok(Thread {
                connections,
                open: Arc::default(),
                ended,
                handle,
            })
        });
        threads.collect::<std::io::Result<_>>().map(Io)
    }

    /// Gives a connection to the thread that has the fewest.
    pub(crate) fn take(&self, stream: TcpStream, place: OwnedSemaphorePermit) {
        let threads = self.0.iter();
        if let Some(thread) = threads.min_by_key(|thread| Arc::strong_count(&thread.open)) {
            let connection = Connection {
                stream,
                _open: Arc::clone(&thread.open),
                _place: place,
            };
            // A thread that is gone has panicked, which was printed; the client sees its connection end.
            let _ = thread.connections.send(connection);
        }
    }

    /// Lets requests in flight finish, for a while, and ends the threads.
    pub(crate) async fn drain(self) {
        let mut threads = Vec::new();
        for thread in self.0 {
            drop(thread.connections);
            threads.push((thread.ended, thread.handle));
        }
        for (ended, handle) in threads {
            // An error says that the thread has panicked, which was printed.
            let _ = ended.await;
            let _ = handle.join();
        }
    }
}

/// One thread's connections, until the channel is closed and they are drained.
async fn serve<R: ServerReflection>(
    shared: Arc<Shared>,
    grpc: Arc<Grpc<R>>,
    mut taken: mpsc::UnboundedReceiver<Connection>,
) {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(KEEP_ALIVE));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        let connection = tokio::select! {
            taken = taken.recv() => match taken {
                Some(connection) => connection,
                None => break,
            },
            Some(_) = connections.join_next() => continue,
        };
        let Ok(stream) = tokio::net::TcpStream::from_std(connection.stream) else {
            continue;
        };
        let (shared, grpc) = (Arc::clone(&shared), Arc::clone(&grpc));
        let service = service_fn(move |req| {
            let (shared, grpc) = (Arc::clone(&shared), Arc::clone(&grpc));
            async move {
                Ok::<_, Infallible>(if grpc::is_grpc(req.headers()) {
                    grpc.handle(req).await.map(Either::Right)
                } else {
                    handle(&shared, req).await.map(Either::Left)
                })
            }
        });
        let served = http
            .serve_connection(TokioIo::new(stream), service)
            .into_owned();
        let served = graceful.watch(served);
        connections.spawn(async move {
            let _held = (connection._open, connection._place);
            if let Err(error) = served.await {
                tracing::debug!(%error, "a connection ended badly");
            }
        });
    }
    let drained = tokio::time::timeout(DRAIN, graceful.shutdown()).await;
    if drained.is_err() {
        tracing::warn!(
            "requests in flight were cut off after {} s",
            DRAIN.as_secs()
        );
    }
    connections.shutdown().await;
}
