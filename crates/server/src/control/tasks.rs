//! The tasks of the server, by name: started in one place, restarted when they panic, waited for at the end.

use std::collections::HashMap;
use std::time::Duration;
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// Before a task that panicked is started again.
const RESTART_DELAY: Duration = Duration::from_secs(1);

type Start = Box<dyn Fn() -> futures_util::future::BoxFuture<'static, ()> + Send>;

/// A set of named tasks that end together.
pub struct Tasks {
    stop: CancellationToken,
    set: JoinSet<()>,
    running: HashMap<Id, (&'static str, Start)>,
}

impl Tasks {
    /// No tasks yet. They shall end when `stop` is cancelled.
    pub fn new(stop: CancellationToken) -> Self {
        Self {
            stop,
            set: JoinSet::new(),
            running: HashMap::new(),
        }
    }

    /// Starts a task. It is started again when it panics; it ends by returning.
    pub fn start<F>(&mut self, name: &'static str, start: impl Fn() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.begin(name, Box::new(move || Box::pin(start())), Duration::ZERO);
    }

    fn begin(&mut self, name: &'static str, start: Start, delay: Duration) {
        let task = start();
        let stop = self.stop.clone();
        let span = tracing::info_span!("task", name);
        let delayed = async move {
            if !delay.is_zero() {
                tokio::select! {
                    () = tokio::time::sleep(delay) => {}
                    () = stop.cancelled() => return,
                }
            }
            task.await;
        };
        let handle = self.set.spawn(delayed.instrument(span));
        self.running.insert(handle.id(), (name, start));
    }

    /// Watches over the tasks until all have ended, starting again what panicked while not stopping.
    pub async fn run(mut self) {
        while let Some(ended) = self.set.join_next_with_id().await {
            let id = match &ended {
                Ok((id, ())) => *id,
                Err(error) => error.id(),
            };
            let Some((name, start)) = self.running.remove(&id) else {
                continue;
            };
            match ended {
                Ok(_) => tracing::debug!(name, "task ended"),
                Err(error) if error.is_panic() && !self.stop.is_cancelled() => {
                    tracing::error!(name, %error, "task panicked and is started again");
                    self.begin(name, start, RESTART_DELAY);
                }
                Err(error) => tracing::warn!(name, %error, "task was cut off"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test(start_paused = true)]
    async fn what_panics_is_started_again_and_what_returns_is_not() {
        let stop = CancellationToken::new();
        let mut tasks = Tasks::new(stop.clone());
        let starts = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&starts);
        tasks.start("flaky", move || {
            let n = counted.fetch_add(1, Ordering::SeqCst);
            async move { assert!(n >= 2, "it fails twice") }
        });
        tasks.run().await;
        assert_eq!(starts.load(Ordering::SeqCst), 3);
    }
}
