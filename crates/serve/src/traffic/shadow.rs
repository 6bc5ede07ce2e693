//! Copies of requests for a version that answers nobody: it runs them in a thread of its own, behind those that are
//! answered, and what it would have answered is compared.
//!
//! A copy is read anew by the shadow's own signature and steps, so that a version with other columns is compared as
//! its callers would find it. Where copies come faster than they are run, they are left out and counted.

use super::compare::Differences;
use crate::error::Result;
use crate::models::Version;
use crate::tensor::Tensor;
use canary::Counts;
use serde_json::{Value, json};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Copies that wait.
const WAITING_MAX: usize = 256;
/// Bytes of the copies that wait.
const BYTES_MAX: usize = 64 << 20;
/// Characters kept of why a copy was refused.
const REFUSAL_MAX: usize = 300;

/// Reads a request for a version: which of its signatures, and the inputs.
pub(crate) type Read = Box<dyn FnOnce(&Version) -> Result<(usize, Vec<Tensor>)> + Send>;

/// What came of a model's copies.
#[derive(Default)]
pub(crate) struct Shadow {
    differences: Mutex<Differences>,
    refusal: Mutex<Option<String>>,
    refused: AtomicU64,
    left_out: AtomicU64,
    not_ready: AtomicU64,
    /// How long the shadow ran, and those that were answered.
    runs: Counts,
    answered: Counts,
}

/// A request that is to be copied.
#[derive(Clone)]
pub(crate) struct Ticket {
    pub(super) shadow: Arc<Shadow>,
    pub(super) version: Arc<Version>,
}

/// A copy.
pub(crate) struct Copy {
    pub(crate) ticket: Ticket,
    /// About how large it is.
    pub(crate) bytes: usize,
    pub(crate) read: Read,
}

struct Job {
    copy: Copy,
    outputs: Vec<Tensor>,
    compute: Duration,
}

/// The thread that runs copies of all models.
pub(crate) struct Shadows {
    inbox: SyncSender<Job>,
    bytes: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Numbers alone are changed under it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shadows {
    pub(crate) fn start() -> std::io::Result<Shadows> {
        let (inbox, jobs) = sync_channel(WAITING_MAX);
        let bytes = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&bytes);
        let thread = std::thread::Builder::new()
            .name("shadow".to_owned())
            .spawn(move || work(&jobs, &counted))?;
        Ok(Shadows {
            inbox,
            bytes,
            thread,
        })
    }

    /// Has a copy of a request run that was answered so.
    pub(crate) fn compare(&self, mut copy: Copy, outputs: &[Tensor], compute: Duration) {
        copy.bytes += outputs.iter().map(Tensor::bytes).sum::<usize>();
        let (bytes, shadow) = (copy.bytes, Arc::clone(&copy.ticket.shadow));
        let waiting = self.bytes.fetch_add(bytes, Relaxed);
        let job = || Job {
            copy,
            outputs: outputs.to_vec(),
            compute,
        };
        if waiting + bytes > BYTES_MAX || self.inbox.try_send(job()).is_err() {
            self.bytes.fetch_sub(bytes, Relaxed);
            shadow.left_out.fetch_add(1, Relaxed);
        }
    }

    /// Ends after the copies that wait.
    pub(crate) fn close(self) {
        drop(self.inbox);
        // Its panic was printed already.
        let _ = self.thread.join();
    }
}

fn work(jobs: &Receiver<Job>, bytes: &AtomicUsize) {
    while let Ok(job) = jobs.recv() {
        let taken = job.copy.bytes;
        // A library of a model's own may fail in any way: of a copy, nobody waits for it.
        let ran = catch_unwind(AssertUnwindSafe(|| run(job)));
        bytes.fetch_sub(taken, Relaxed);
        if ran.is_err() {
            tracing::error!("comparing a shadow's answer failed");
        }
    }
}

fn run(job: Job) {
    let Job {
        copy: Copy { ticket, read, .. },
        outputs,
        compute,
    } = job;
    let Ticket { shadow, version } = ticket;
    let runtime = version.runtime.as_ref();
    let begun = Instant::now();
    let ran = read(&version).and_then(|(signature, mut inputs)| {
        runtime.check(signature, &mut inputs)?;
        let begun = Instant::now();
        let outputs = runtime.run(signature, &inputs)?;
        Ok((outputs, begun.elapsed()))
    });
    match ran {
        Ok((theirs, took)) => {
            lock(&shadow.differences).add(&outputs, &theirs);
            shadow.runs.record(false, took);
            shadow.answered.record(false, compute);
        }
        Err(error) => {
            shadow.refused.fetch_add(1, Relaxed);
            shadow.runs.record(true, begun.elapsed());
            // It may hold what a caller sent: for who asks, not for the log.
            let text: String = error.text.chars().take(REFUSAL_MAX).collect();
            *lock(&shadow.refusal) = Some(text);
        }
    }
}

impl Shadow {
    /// The version was not in memory.
    pub(super) fn missed(&self) {
        self.not_ready.fetch_add(1, Relaxed);
    }

    /// Requests by what came of their copies.
    pub(super) fn outcomes(&self) -> [(&'static str, u64); 4] {
        [
            ("compared", lock(&self.differences).n()),
            ("refused", self.refused.load(Relaxed)),
            ("left_out", self.left_out.load(Relaxed)),
            ("not_ready", self.not_ready.load(Relaxed)),
        ]
    }

    /// The report.
    pub(super) fn json(&self, version: u64, percent: u32) -> Value {
        let mut report = lock(&self.differences).json();
        report["version"] = json!(version);
        report["percent"] = json!(percent);
        report["refused"] = json!(self.refused.load(Relaxed));
        report["lastRefusal"] = json!(*lock(&self.refusal));
        report["leftOut"] = json!(self.left_out.load(Relaxed));
        report["notReady"] = json!(self.not_ready.load(Relaxed));
        let times = |counts: &Counts| {
            let reading = counts.read();
            let ms = |share| reading.quantile(share).as_secs_f64() * 1e3;
            json!({ "p50Ms": ms(0.5), "p99Ms": ms(0.99) })
        };
        report["compute"] = times(&self.runs);
        report["computeAnswered"] = times(&self.answered);
        report
    }
}
