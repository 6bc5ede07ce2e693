//! Where requests wait and run. Each version has a queue; workers go round the versions that have work, so one
//! model's load does not starve another's, and take what waits there, up to a batch: nobody waits for a batch
//! to fill. A request that is too late or whose client left is dropped before it runs.

use crate::error::{Result, ServeError};
use crate::models::Version;
use crate::runtime;
use crate::tensor::Tensor;
use base::Code;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// A version's queue.
#[derive(Default)]
pub(crate) struct Lane(Mutex<Waiting>);

struct Waiting {
    tasks: VecDeque<Task>,
    /// Whether the version is in the ring.
    in_ring: bool,
    /// Workers that run it.
    n_running: usize,
    /// Workers that may.
    n_max: usize,
}

impl Default for Waiting {
    fn default() -> Waiting {
        Waiting {
            tasks: VecDeque::new(),
            in_ring: false,
            n_running: 0,
            n_max: usize::MAX,
        }
    }
}

impl Waiting {
    /// Whether the version must be put into the ring now; notes that it is. One that all of its workers run comes
    /// back when one of them is done.
    fn enters(&mut self) -> bool {
        let enters = !self.in_ring && !self.tasks.is_empty() && self.n_running < self.n_max;
        self.in_ring |= enters;
        enters
    }
}

/// A request.
struct Task {
    /// Which of the model's signatures.
    signature: usize,
    inputs: Vec<Tensor>,
    n_rows: usize,
    entered: Instant,
    deadline: Instant,
    reply: oneshot::Sender<Result<Answer>>,
}

/// What a request gets.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) outputs: Vec<Tensor>,
    /// Waited for a worker.
    pub(crate) queue: Duration,
    /// Ran, with all that ran with it.
    pub(crate) compute: Duration,
}

struct Shared {
    ring: Mutex<Ring>,
    wake: Condvar,
    queue_max: usize,
    batch_rows_max: usize,
}

#[derive(Default)]
struct Ring {
    versions: VecDeque<Arc<Version>>,
    is_closed: bool,
}

/// The workers.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that can panic runs under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    pub(crate) fn start(
        n_workers: usize,
        queue_max: usize,
        batch_rows_max: usize,
    ) -> std::io::Result<Pool> {
        let shared = Arc::new(Shared {
            ring: Mutex::default(),
            wake: Condvar::new(),
            queue_max,
            batch_rows_max,
        });
        let workers = (0..n_workers.max(1))
            .map(|at| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new()
                    .name(format!("worker-{at}"))
                    .spawn(move || shared.work())
            })
            .collect::<std::io::Result<_>>()?;
        Ok(Pool { shared, workers })
    }

    /// Queues a request whose inputs were checked; the answer comes from the receiver. Dropping the receiver
    /// takes the request back as long as it waits.
    pub(crate) fn submit(
        &self,
        version: &Arc<Version>,
        signature: usize,
        inputs: Vec<Tensor>,
        deadline: Instant,
    ) -> Result<oneshot::Receiver<Result<Answer>>> {
        let (reply, answer) = oneshot::channel();
        let entered = Instant::now();
        let task = Task {
            n_rows: inputs.first().map_or(1, Tensor::n_rows),
            signature,
            inputs,
            entered,
            deadline,
            reply,
        };
        let mut waiting = lock(&version.lane.0);
        if waiting.tasks.len() >= self.shared.queue_max {
            let oldest = waiting
                .tasks
                .front()
                .map_or(Duration::ZERO, |task| entered - task.entered);
            return Err(ServeError::new(
                Code::Exhausted,
                format!(
                    "the queue of model `{}` is full: {} requests wait, the oldest for {} ms; try again later",
                    version.model,
                    waiting.tasks.len(),
                    oldest.as_millis()
                ),
            ));
        }
        waiting.tasks.push_back(task);
        if waiting.enters() {
            drop(waiting);
            self.shared.enter(Arc::clone(version))?;
        }
        Ok(answer)
    }

    /// Lets queued requests run and waits for the workers.
    pub(crate) fn close(self) {
        lock(&self.shared.ring).is_closed = true;
        self.shared.wake.notify_all();
        for worker in self.workers {
            // A worker catches panics of models; its own would be a defect that was printed already.
            let _ = worker.join();
        }
    }
}

impl Lane {
    /// At most so many workers run the version at a time.
    pub(crate) fn limit(&self, n_max: usize) {
        lock(&self.0).n_max = n_max;
    }

    /// Requests that wait, and how long the oldest does.
    pub(crate) fn waiting(&self) -> (usize, Duration) {
        let waiting = lock(&self.0);
        let oldest = waiting.tasks.front().map(|task| task.entered.elapsed());
        (waiting.tasks.len(), oldest.unwrap_or_default())
    }
}

impl Shared {
    fn enter(&self, version: Arc<Version>) -> Result<()> {
        let mut ring = lock(&self.ring);
        if ring.is_closed {
            return Err(ServeError::new(Code::Unavailable, "the server stops"));
        }
        ring.versions.push_back(version);
        drop(ring);
        self.wake.notify_one();
        Ok(())
    }

    fn work(&self) {
        while let Some(version) = self.next() {
            let tasks = self.take(&version);
            if !tasks.is_empty() {
                run(&version, tasks);
            }
            let mut waiting = lock(&version.lane.0);
            waiting.n_running -= 1;
            let enters = waiting.enters();
            drop(waiting);
            if enters {
                self.again(version);
            }
        }
    }

    /// Puts a version with work at the ring's end. While it closes, what waits is run by those who find it.
    fn again(&self, version: Arc<Version>) {
        lock(&self.ring).versions.push_back(version);
        self.wake.notify_one();
    }

    /// A version with work, first come first served; `None` at the end.
    fn next(&self) -> Option<Arc<Version>> {
        let mut ring = lock(&self.ring);
        loop {
            if let Some(version) = ring.versions.pop_front() {
                return Some(version);
            }
            if ring.is_closed {
                return None;
            }
            ring = self.wake.wait(ring).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes a batch; the version goes to the end of the ring where more waits.
    fn take(&self, version: &Arc<Version>) -> Vec<Task> {
        let mut tasks: Vec<Task> = Vec::new();
        let mut late = Vec::new();
        let mut n_rows = 0;
        let now = Instant::now();
        let signatures = version.runtime.signatures();
        let mut waiting = lock(&version.lane.0);
        while let Some(task) = waiting.tasks.front() {
            let is_dead = task.deadline <= now || task.reply.is_closed();
            let fits = tasks.first().is_none_or(|first| {
                first.signature == task.signature
                    && signatures[task.signature].is_row_wise
                    && n_rows + task.n_rows <= self.batch_rows_max
            });
            if !is_dead && !fits {
                break;
            }
            let Some(task) = waiting.tasks.pop_front() else {
                break;
            };
            if is_dead {
                late.push(task);
            } else {
                n_rows += task.n_rows;
                tasks.push(task);
            }
        }
        waiting.n_running += 1;
        waiting.in_ring = false;
        let enters = waiting.enters();
        drop(waiting);
        if enters {
            self.again(Arc::clone(version));
        }
        for task in late {
            let waited = (now - task.entered).as_millis();
            let error = ServeError::new(
                Code::Timeout,
                format!("the request waited {waited} ms and its time was over before it could run"),
            );
            version.stats.failed(error.code);
            // Nobody may listen any more.
            let _ = task.reply.send(Err(error));
        }
        tasks
    }
}

/// Runs tasks, together where they fit.
fn run(version: &Version, tasks: Vec<Task>) {
    let started = Instant::now();
    if let [first, _, ..] = tasks.as_slice() {
        let signature = first.signature;
        let inputs: Vec<&[Tensor]> = tasks.iter().map(|task| task.inputs.as_slice()).collect();
        // Where the batch fails, each request is run alone, so that only the culprit fails.
        if let Some(Ok(outputs)) =
            runtime::merge(&inputs).map(|inputs| guarded(version, signature, &inputs))
        {
            let compute = started.elapsed();
            version
                .stats
                .ran(compute, tasks.iter().map(|task| task.n_rows).sum());
            let mut first = 0;
            for task in tasks {
                let outputs = runtime::cut(&outputs, first, task.n_rows);
                first += task.n_rows;
                answer(task, Ok(outputs), started, compute);
            }
            return;
        }
    }
    for task in tasks {
        let started = Instant::now();
        let outputs = guarded(version, task.signature, &task.inputs);
        let compute = started.elapsed();
        version.stats.ran(compute, task.n_rows);
        answer(task, outputs, started, compute);
    }
}

fn answer(task: Task, outputs: Result<Vec<Tensor>>, started: Instant, compute: Duration) {
    let queue = started - task.entered;
    let result = outputs.map(|outputs| Answer {
        outputs,
        queue,
        compute,
    });
    // Nobody may listen any more.
    let _ = task.reply.send(result);
}

/// Runs a model; a panic in it is the request's failure, not the server's.
fn guarded(version: &Version, signature: usize, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    catch_unwind(AssertUnwindSafe(|| version.runtime.run(signature, inputs))).unwrap_or_else(|_| {
        Err(ServeError::new(
            Code::Internal,
            format!(
                "model `{}` failed; the server's log says more",
                version.model
            ),
        ))
    })
}

#[cfg(test)]
mod tests;
