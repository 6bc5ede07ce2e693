//! What every part of the server is given: the database, stores, engine, clock, and who to poke.

use crate::control::scheduler::SchedHandle;
use base::{Time, Uid};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

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
}

/// The console's files: media type and content by path, where they are built in.
pub type Files = fn(&str) -> Option<(String, Vec<u8>)>;

/// What a server is made of.
pub struct Platform {
    /// The control database.
    pub db: db::Db,
    /// Code, outputs, models.
    pub store: store::Store,
    /// Output of replicas.
    pub logs: logs::Logs,
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
    /// Ends every stream when the server stops.
    pub stop: CancellationToken,
    /// Tokens at hand.
    pub tokens: crate::auth::TokenCache,
    /// Poked when the route table may have changed beyond the feed.
    pub routes: Poke,
    /// Counts requests.
    pub requests: crate::metrics::Requests,
    sched: RwLock<Option<SchedHandle>>,
}

/// What a [`Platform`] is made from; the rest begins empty.
pub struct Parts {
    /// See [`Platform::db`].
    pub db: db::Db,
    /// See [`Platform::store`].
    pub store: store::Store,
    /// See [`Platform::logs`].
    pub logs: logs::Logs,
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
            logs,
            engine,
            cluster,
            clock,
            venvs,
            key,
            gateway_url,
            console_url,
            console,
            hosts,
            stop,
        } = parts;
        Platform {
            db,
            store,
            logs,
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
            stop,
            tokens: crate::auth::TokenCache::default(),
            routes: Poke::default(),
            requests: crate::metrics::Requests::default(),
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

/// The proof that an attempt shows: a keyed digest of its name, so that nothing need be stored.
pub fn attempt_token(key: &[u8], replica: &engine::ReplicaKey) -> String {
    use hmac::{KeyInit, Mac};
    let mut mac =
        hmac::Hmac::<sha2::Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(b"attempt\n");
    mac.update(replica.to_string().as_bytes());
    mac.finalize()
        .into_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
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
