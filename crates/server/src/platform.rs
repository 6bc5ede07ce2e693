//! What every part of the server is given: the database, stores, engine, clock, and who to poke.

use base::{Time, Uid};
use std::sync::Arc;
use tokio::sync::Notify;

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

/// What a server is made of.
pub struct Platform {
    /// The control database.
    pub db: db::Db,
    /// The engine of this cell's only Cluster so far.
    pub engine: Arc<dyn engine::Engine>,
    /// The Cluster's name.
    pub cluster: String,
    /// The server's time.
    pub clock: Arc<dyn Clock>,
    /// Python environments on this machine.
    pub venvs: crate::control::venv::Venvs,
    /// From which tokens of attempts and keyed digests are made.
    pub key: Vec<u8>,
    /// Where Apps are reached.
    pub gateway_url: String,
    sched: std::sync::RwLock<Option<crate::control::scheduler::SchedHandle>>,
}

/// The parts of a [`Platform`], handed over whole.
pub struct Parts {
    /// See [`Platform::db`].
    pub db: db::Db,
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
}

impl Platform {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Platform {
        let Parts {
            db,
            engine,
            cluster,
            clock,
            venvs,
            key,
            gateway_url,
        } = parts;
        Platform {
            db,
            engine,
            cluster,
            clock,
            venvs,
            key,
            gateway_url,
            sched: std::sync::RwLock::new(None),
        }
    }

    /// The scheduler, while this server leads.
    pub fn sched(&self) -> Option<crate::control::scheduler::SchedHandle> {
        self.sched
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    /// A term began or ended.
    pub fn set_sched(&self, sched: Option<crate::control::scheduler::SchedHandle>) {
        *self
            .sched
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = sched;
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
