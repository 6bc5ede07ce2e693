//! What every part of the server is given: the database, stores, engine, clock, and who to poke.

use crate::control::scheduler::SchedHandle;
use base::{Span, Time, Uid};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The one place where the server reads a clock.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Time;
}

/// The machine's clock, shifted by a fixed span (tests shift it; people do not).
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock {
    /// Added to the machine's time, in milliseconds.
    pub offset_ms: i64,
}

impl Clock for SystemClock {
    fn now(&self) -> Time {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        Time::from_ms(
            i64::try_from(since.as_millis())
                .unwrap_or(i64::MAX)
                .saturating_add(self.offset_ms),
        )
    }
}

/// A new uid.
pub fn new_uid(now: Time) -> Uid {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
    Uid::v7(now, u128::from_ne_bytes(bytes))
}

/// Wakes a loop. A loop that is busy sees one poke afterwards, however many there were.
#[derive(Clone, Debug, Default)]
pub struct Poke(Arc<Notify>);

impl Poke {
    /// Something may have changed.
    pub fn poke(&self) {
        self.0.notify_one();
    }

    /// Waits for a poke, or for `period`.
    pub async fn wait(&self, period: std::time::Duration) {
        // A timeout is the period; both ways lead to the same work.
        let _ = tokio::time::timeout(period, self.0.notified()).await;
    }

    /// Waits for a poke.
    pub async fn poked(&self) {
        self.0.notified().await;
    }
}

/// Connections to replicas at once: exec, port forwarding, `rsh`. Each holds some hundred KiB at most.
const STREAMS_MAX: usize = 512;

/// Connections to replicas: they outlive the request that opened them, so somebody must wait for them.
#[derive(Debug)]
pub struct Streams {
    tracker: TaskTracker,
    free: Arc<Semaphore>,
}

impl Default for Streams {
    fn default() -> Streams {
        Streams {
            tracker: TaskTracker::new(),
            free: Arc::new(Semaphore::new(STREAMS_MAX)),
        }
    }
}

impl Streams {
    /// A place for one more; `None` where there are too many.
    pub fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).try_acquire_owned().ok()
    }

    /// Carries a connection to its end.
    pub fn carry(&self, stream: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(stream);
    }

    /// Waits until the last one has ended; the platform's `stop` ends them.
    pub async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// The console's files: media type and content by path, where they are built in.
pub type Files = fn(&str) -> Option<(String, Vec<u8>)>;

/// How much output is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogBounds {
    /// How long.
    pub kept: base::Span,
    /// The most bytes, of all projects.
    pub bytes: base::Bytes,
}

/// What a server is made of.
pub struct Platform {
    /// The control database.
    pub db: db::Db,
    /// Code, outputs, models.
    pub store: store::Store,
    /// How long content stays that nobody needs.
    pub content_grace: base::Span,
    /// Places besides `https` and Amazon's S3 from which model files may be fetched: `file:///models`, `http://10.0.0.5:9000`.
    pub model_sources: Vec<String>,
    /// Output of replicas.
    pub logs: logs::Logs,
    /// Counts the output that senders dropped.
    pub dropped: Arc<crate::metrics::Dropped>,
    /// How much of the output is kept.
    pub log_bounds: LogBounds,
    /// Where the scheduler's log is kept, if it is.
    pub sched_log: Option<crate::control::sched_log::LogPlace>,
    /// The engine of this cell's only Cluster so far.
    pub engine: Arc<dyn engine::Engine>,
    /// The Cluster's name.
    pub cluster: String,
    /// The server's time.
    pub clock: Arc<dyn Clock>,
    /// Python environments on this machine.
    pub venvs: crate::control::venv::Venvs,
    /// From which tokens of attempts and keyed digests are made, and under which Secrets are sealed.
    pub key: Vec<u8>,
    /// Where Apps are reached.
    pub gateway_url: String,
    /// Where the console is, if it is built in.
    pub console_url: Option<String>,
    /// Its files.
    pub console: Option<Files>,
    /// Which `Host` headers are ours.
    pub hosts: Hosts,
    /// Whether requests come over TLS.
    pub tls: bool,
    /// After this long a node that does not answer is given up.
    pub node_lost_after: Span,
    /// Ends every stream when the server stops.
    pub stop: CancellationToken,
    /// Tokens at hand.
    pub tokens: crate::auth::TokenCache,
    /// Counts changes of the route table beyond the feed, such as tokens.
    pub routes: watch::Sender<u64>,
    /// Counts requests.
    pub requests: crate::metrics::Requests,
    /// Connections to replicas.
    pub streams: Streams,
    sched: RwLock<Option<SchedHandle>>,
}

/// What a [`Platform`] is made from; the rest begins empty.
pub struct Parts {
    /// See [`Platform::db`].
    pub db: db::Db,
    /// See [`Platform::store`].
    pub store: store::Store,
    /// See [`Platform::content_grace`].
    pub content_grace: base::Span,
    /// See [`Platform::model_sources`].
    pub model_sources: Vec<String>,
    /// See [`Platform::logs`].
    pub logs: logs::Logs,
    /// See [`Platform::dropped`].
    pub dropped: Arc<crate::metrics::Dropped>,
    /// See [`Platform::log_bounds`].
    pub log_bounds: LogBounds,
    /// See [`Platform::sched_log`].
    pub sched_log: Option<crate::control::sched_log::LogPlace>,
    /// See [`Platform::engine`].
    pub engine: Arc<dyn engine::Engine>,
    /// See [`Platform::cluster`].
    pub cluster: String,
    /// See [`Platform::clock`].
    pub clock: Arc<dyn Clock>,
    /// See [`Platform::venvs`].
    pub venvs: crate::control::venv::Venvs,
    /// See [`Platform::key`].
    pub key: Vec<u8>,
    /// See [`Platform::gateway_url`].
    pub gateway_url: String,
    /// See [`Platform::console_url`].
    pub console_url: Option<String>,
    /// See [`Platform::console`].
    pub console: Option<Files>,
    /// See [`Platform::hosts`].
    pub hosts: Hosts,
    /// See [`Platform::node_lost_after`].
    pub node_lost_after: Span,
    /// See [`Platform::stop`].
    pub stop: CancellationToken,
}

/// Which `Host` headers are ours: without a list a foreign name that points here (DNS rebinding) would be served.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    /// Names besides addresses and `localhost`.
    pub names: Vec<String>,
}

impl Hosts {
    /// Whether a request for this host is ours. Addresses are: a page cannot be rebound to a number.
    pub fn accepts(&self, host: &str) -> bool {
        let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, _)) => address,
            None => host.rsplit_once(':').map_or(host, |(name, _)| name),
        };
        name == "localhost"
            || name.parse::<std::net::IpAddr>().is_ok()
            || self.names.iter().any(|own| own == name)
    }
}

impl Platform {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Platform {
        let Parts {
            db,
            store,
            content_grace,
            model_sources,
            logs,
            dropped,
            log_bounds,
            sched_log,
            engine,
            cluster,
            clock,
            venvs,
            key,
            gateway_url,
            console_url,
            console,
            hosts,
            node_lost_after,
            stop,
        } = parts;
        Platform {
            db,
            store,
            content_grace,
            model_sources,
            logs,
            dropped,
            log_bounds,
            sched_log,
            engine,
            cluster,
            clock,
            venvs,
            key,
            gateway_url,
            console_url,
            console,
            hosts,
            tls: false,
            node_lost_after,
            stop,
            tokens: crate::auth::TokenCache::default(),
            routes: watch::Sender::new(0),
            requests: crate::metrics::Requests::default(),
            streams: Streams::default(),
            sched: RwLock::new(None),
        }
    }

    /// The scheduler, while this server leads.
    pub fn sched(&self) -> Option<SchedHandle> {
        self.sched
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// A term began or ended.
    pub fn set_sched(&self, sched: Option<SchedHandle>) {
        *self.sched.write().unwrap_or_else(PoisonError::into_inner) = sched;
    }
}

#[cfg(test)]
mod tests {
    use super::Hosts;

    #[test]
    fn only_our_own_hosts_are_served() {
        let hosts = Hosts {
            names: vec!["moonshot.example.org".to_owned()],
        };
        for ours in [
            "localhost:7070",
            "127.0.0.1:7070",
            "[::1]:7070",
            "moonshot.example.org",
            "10.0.0.1",
        ] {
            assert!(hosts.accepts(ours), "{ours}");
        }
        for foreign in [
            "",
            "evil.example.org:7070",
            "localhost.evil.org",
            "127.0.0.1.evil.org",
        ] {
            assert!(!hosts.accepts(foreign), "{foreign}");
        }
    }
}
