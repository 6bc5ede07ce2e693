//! Loading itself: from files to a version that was run. Where models are loaded on demand, in threads of their own,
//! so that one that takes long holds up neither the others nor the looks at the directory.

use super::Event;
use crate::config::Config;
use crate::metrics::Loads;
use crate::recent::Recent;
use crate::repository::{Settings, VersionDir};
use crate::residency::Key;
use crate::runtime::{self, Context, LoadError, Runtime};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Recorded requests run for so long at most before a version is ready.
const WARM_MAX: Duration = Duration::from_secs(2);
/// The same where requests wait for it.
const WARM_AWAITED_MAX: Duration = Duration::from_millis(100);

/// A load for a thread.
pub(super) struct Job {
    pub(super) key: Key,
    pub(super) dir: VersionDir,
    pub(super) settings: Settings,
    pub(super) recent: Arc<Recent>,
    pub(super) is_awaited: bool,
}

/// How a load ended.
pub(super) struct Done {
    pub(super) job: Job,
    pub(super) result: Result<Box<dyn Runtime>, LoadError>,
    pub(super) took: Duration,
}

/// The threads, and the two ways to them. They end once the jobs' end is dropped.
pub(super) struct Threads {
    pub(super) jobs: Sender<Job>,
    pub(super) done: Receiver<Done>,
    pub(super) handles: Vec<JoinHandle<()>>,
}

/// Starts `n` threads that load; each end of a load wakes the loader.
pub(super) fn threads(
    n: usize,
    config: &Config,
    loads: &Arc<Loads>,
    wake: &SyncSender<Event>,
) -> std::io::Result<Threads> {
    let (jobs, inbox) = channel::<Job>();
    let (outbox, done) = channel();
    let inbox = Arc::new(Mutex::new(inbox));
    let start = |at| {
        let (inbox, outbox, wake) = (Arc::clone(&inbox), outbox.clone(), wake.clone());
        let (config, loads) = (config.clone(), Arc::clone(loads));
        let work = move || {
            let next = || {
                // No code that can panic runs under the lock.
                let inbox = inbox.lock().unwrap_or_else(PoisonError::into_inner);
                inbox.recv().ok()
            };
            while let Some(job) = next() {
                let begun = Instant::now();
                let result = load(&job, &config, &loads);
                let took = begun.elapsed();
                if outbox.send(Done { job, result, took }).is_err() {
                    return;
                }
                // Where the inbox is full, the loader looks after what is there.
                let _ = wake.try_send(Event::Wake);
            }
        };
        let builder = std::thread::Builder::new().name(format!("load-{at}"));
        builder.spawn(work)
    };
    let handles = (0..n).map(start).collect::<std::io::Result<_>>()?;
    Ok(Threads {
        jobs,
        done,
        handles,
    })
}

fn load(job: &Job, config: &Config, loads: &Loads) -> Result<Box<dyn Runtime>, LoadError> {
    let ctx = Context {
        settings: &job.settings,
        runtimes: &config.runtimes,
    };
    let spec = |dir: &Path| runtime::Spec::new(config, &job.settings, &job.key, dir);
    let loaded = catch_unwind(AssertUnwindSafe(|| {
        let runtime = runtime::load(&runtime::find(&job.dir.path)?, &ctx, spec)?;
        runtime::first_run(runtime.as_ref())?;
        Ok(runtime)
    }));
    let runtime = loaded.unwrap_or(Err(LoadError::Panicked))?;
    warm(
        runtime.as_ref(),
        &job.key,
        &job.recent,
        loads,
        job.is_awaited,
    );
    Ok(runtime)
}

/// Runs the requests that were recorded of the model; what fails there is told and no more.
pub(super) fn warm(
    runtime: &dyn Runtime,
    (model, version): &Key,
    recent: &Recent,
    loads: &Loads,
    is_awaited: bool,
) {
    let patience = if is_awaited {
        WARM_AWAITED_MAX
    } else {
        WARM_MAX
    };
    let warmed = recent.warm(runtime, patience);
    loads.warmed(warmed);
    if warmed.failed > 0 {
        tracing::warn!(
            model,
            version,
            failed = warmed.failed,
            ok = warmed.ok,
            "recorded requests fail on this version"
        );
    } else if warmed.ok > 0 {
        tracing::debug!(model, version, ?warmed, "warmed by recorded requests");
    }
}
