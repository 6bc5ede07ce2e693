//! One replica's life: prepared, started, watched, restarted where its life says so, ended, forgotten.
//!
//! Everything that decides is on disk before it is acted on, and [`Actor::begin`] reads it again: so
//! a new process goes on at the point where a killed one was.

use crate::ctx::Ctx;
use crate::end::{self, Known, classify, unrecorded};
use crate::host::now;
use crate::launch::{self, Shim};
use crate::layout::{ReplicaDir, dir_name};
use crate::limits;
use crate::outputs;
use crate::prepare::{self, Prepared, Refusal};
use crate::probe::{self, Verdict};
use crate::pump::{Progress, Pump};
use crate::record::{Ended, Replica, Stop};
use crate::sweep;
use crate::table::{Asked, Handle};
use base::{Bytes, MilliCpu, Time};
use engine::{Cause, End, Endpoint, Life, Phase, ReplicaKey, ReplicaReport, Usage};
use rustix::process::{Pid, Signal, kill_process};
use shim::frame::Stream;
use shim::record::{self, Cgroup, Durability, Exit, Running, Started, VERSION, name};
use shim::spool::Writer;
use std::fs;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// How often what a replica uses is measured.
const SAMPLE_EVERY: Duration = Duration::from_secs(5);
/// A shim that has not ended its program this long after the grace is killed itself.
const SHIM_GRACE: Duration = Duration::from_secs(10);
/// How long the end waits for the last output to be taken by the sink.
const PUMP_MAX: Duration = Duration::from_secs(5);
/// How long forgetting waits for it.
const FORGET_PUMP_MAX: Duration = Duration::from_secs(30);
/// Between tries to write how a replica ended, on a disk that is full.
const RETRY: Duration = Duration::from_secs(1);
/// Directories of runs that stay: a service that crashes for ever must not fill the disk.
const RUNS_KEPT: u32 = 2;
/// Verdicts of probes that wait.
const VERDICTS_MAX: usize = 8;

/// The task of one replica.
pub(crate) struct Actor {
    ctx: Arc<Ctx>,
    replica: Arc<Replica>,
    key: ReplicaKey,
    dir: ReplicaDir,
    asked: watch::Receiver<Asked>,
    poked: watch::Receiver<u64>,
    /// The pump; ends with this task.
    parts: JoinSet<()>,
    progress: watch::Receiver<Progress>,
    closing: watch::Sender<bool>,
    /// Failed runs in a row.
    failures: u32,
}

/// Where a life stands between two runs' events.
enum Step {
    Launch(u32),
    Watch(u32, Shim),
    /// A run has ended.
    After(u32, End),
    Over(End),
}

/// What a report says before the replica's task has looked closer.
pub(crate) fn first_report(replica: &Replica, dir: &ReplicaDir) -> ReplicaReport {
    let ended = record::read::<Ended>(&dir.ended()).ok().flatten();
    let run = dir.last_run().ok().flatten();
    let running = run.and_then(|run| {
        record::read::<Running>(&dir.run(run).join(name::RUNNING))
            .ok()
            .flatten()
    });
    let phase = match (&ended, &running) {
        (Some(ended), _) => Phase::Ended(ended.end.clone()),
        (None, Some(_)) => Phase::Running,
        (None, None) => Phase::Preparing,
    };
    ReplicaReport {
        key: replica.key(),
        epoch: replica.epoch,
        node: replica.slot().node.clone(),
        devices: replica.slot().devices.clone(),
        ports: replica.slot().ports.clone(),
        phase,
        started: ended
            .as_ref()
            .and_then(|ended| ended.started)
            .or(running.map(|running| running.at)),
        restarts: ended
            .as_ref()
            .map_or(run.unwrap_or(0), |ended| ended.restarts),
        last_failure: None,
        unready: None,
        endpoint: None,
        usage: Usage::default(),
        output_lost: Bytes(ended.map_or(0, |ended| ended.lost)),
    }
}

impl Actor {
    pub(crate) fn new(ctx: Arc<Ctx>, replica: Replica, handle: &Handle) -> Actor {
        let key = replica.key();
        let (closing, is_closing) = watch::channel(false);
        let (progress_sender, progress) = watch::channel(Progress {
            kept: None,
            is_done: false,
        });
        let pump = Pump {
            ctx: Arc::clone(&ctx),
            project: replica.group.project.clone(),
            key: key.clone(),
            dir: handle.dir.clone(),
            poked: handle.poked.subscribe(),
            closing: is_closing,
            progress: progress_sender,
        };
        let mut parts = JoinSet::new();
        parts.spawn_on(pump.run(), &ctx.runtime);
        Actor {
            key,
            dir: handle.dir.clone(),
            asked: handle.asked.subscribe(),
            poked: handle.poked.subscribe(),
            parts,
            progress,
            closing,
            failures: 0,
            replica: Arc::new(replica),
            ctx,
        }
    }

    /// From wherever it stands until it is forgotten.
    pub(crate) async fn run(mut self) {
        let ended = match record::read::<Ended>(&self.dir.ended()) {
            Ok(Some(ended)) => ended,
            Ok(None) | Err(_) => {
                let end = self.live().await;
                self.finish(end).await
            }
        };
        self.closing.send_replace(true);
        self.update(|report| {
            report.phase = Phase::Ended(ended.end);
            report.endpoint = None;
        });
        self.forgotten().await;
    }

    fn update(&self, change: impl FnOnce(&mut ReplicaReport)) {
        self.ctx.table.update(&self.key, change);
    }

    fn stop_asked(&self) -> Option<Stop> {
        self.asked.borrow().stop
    }

    async fn live(&mut self) -> End {
        let mut step = match self.begin() {
            Ok(step) => step,
            Err(error) => {
                let refusal = Refusal::new("its files cannot be read", &error);
                Step::Over(unrecorded(refusal.cause, refusal.message, now()))
            }
        };
        loop {
            step = match step {
                Step::Launch(run) => self.launch(run).await,
                Step::Watch(run, shim) => {
                    let end = self.watch(run, shim).await;
                    // It was said of a program that is gone.
                    self.update(|report| report.unready = None);
                    Step::After(run, end)
                }
                Step::After(run, end) => self.next(run, end).await,
                Step::Over(end) => return end,
            };
        }
    }

    /// What the files say.
    fn begin(&mut self) -> io::Result<Step> {
        let Some(run) = self.dir.last_run()? else {
            return Ok(Step::Launch(0));
        };
        self.failures = run;
        let run_dir = self.dir.run(run);
        if let Some(exit) = record::read::<Exit>(&run_dir.join(name::EXIT))? {
            return Ok(Step::After(run, self.classify(&exit, None)));
        }
        let started = record::read::<Started>(&run_dir.join(name::STARTED))?;
        let shim = started
            .map(|started| Shim::adopt(&started, &self.ctx.config.boot))
            .transpose()?;
        Ok(match shim.flatten() {
            Some(shim) => Step::Watch(run, shim),
            // What it left, or that it was killed, is found when its end is looked into.
            None => Step::Watch(run, Shim::Gone),
        })
    }

    /// The machine was restarted since the replica was asked for.
    fn is_of_old_boot(&self) -> bool {
        self.replica.boot != self.ctx.config.boot
    }

    async fn node_lost(&self) -> End {
        self.mark_cut("the machine restarted").await;
        unrecorded(Cause::NodeLost, "the machine restarted", now())
    }

    async fn launch(&mut self, run: u32) -> Step {
        if self.is_of_old_boot() {
            return Step::Over(self.node_lost().await);
        }
        if let Some(stop) = self.stop_asked() {
            let message = format!("{} before it started", end::stopped(stop));
            return Step::Over(unrecorded(Cause::Stopped, message, now()));
        }
        self.update(|report| {
            report.phase = Phase::Preparing;
            report.restarts = run;
        });
        let refused =
            |refusal: Refusal| Step::After(run, unrecorded(refusal.cause, refusal.message, now()));
        let prepared = match prepare::prepare(&self.ctx, &self.replica, &self.dir).await {
            Ok(prepared) => prepared,
            Err(refusal) => return refused(refusal),
        };
        let _pass = self.ctx.gate.pass().await;
        // The run before tells the last failure; what is older has been told.
        if let Some(old) = run.checked_sub(RUNS_KEPT) {
            remove_tree(&self.dir.run(old));
        }
        if let Some((port, number)) = launch::taken_port(&self.replica) {
            let message = format!("port {number} (`{port}`) is used by another program");
            return refused(Refusal {
                cause: Cause::PortTaken,
                message,
            });
        }
        match self.start_shim(run, prepared).await {
            Ok(shim) => Step::Watch(run, shim),
            Err(error) => refused(Refusal::new("it cannot be started", &error)),
        }
    }

    async fn start_shim(&self, run: u32, prepared: Prepared) -> io::Result<Shim> {
        let name = dir_name(&self.key);
        let cgroup = match &self.ctx.config.limits {
            Some(limits) => limits.create(&name, &self.replica.template().resources)?,
            None => Cgroup::default(),
        };
        launch::launch(&self.ctx, &self.replica, &self.dir, run, prepared, cgroup).await
    }

    /// Until the run's program and its shim are gone.
    async fn watch(&mut self, run: u32, mut shim: Shim) -> End {
        let run_dir = self.dir.run(run);
        let (verdict_sender, mut verdicts) = mpsc::channel(VERDICTS_MAX);
        let mut probes = JoinSet::new();
        let mut sample = tokio::time::interval(SAMPLE_EVERY);
        let mut sampled = None;
        let mut running = None;
        let mut unhealthy = None;
        // The stop that the shim was asked for, and when the shim itself is given up.
        let mut stopping: Option<(u64, Instant)> = None;
        loop {
            if running.is_none() {
                running = record::read::<Running>(&run_dir.join(name::RUNNING))
                    .ok()
                    .flatten();
                if let Some(running) = &running {
                    self.tell_running(running);
                    if self.replica.life() != Life::Batch {
                        let target = probe::Target {
                            ctx: Arc::clone(&self.ctx),
                            replica: Arc::clone(&self.replica),
                            dir: self.dir.clone(),
                            run,
                        };
                        probes.spawn(probe::watch(target, verdict_sender.clone()));
                    }
                }
            }
            let grace = self.stop_asked().map(|stop| stop.grace_ms);
            let is_sooner = |grace: &u64| stopping.is_none_or(|(before, _)| *grace < before);
            if let Some(grace) = grace.filter(is_sooner) {
                probes.abort_all();
                stopping = Some(self.ask_stop(&run_dir, grace).await);
            }
            let overdue = stopping.map_or_else(|| Instant::now() + SAMPLE_EVERY, |(_, at)| at);
            tokio::select! {
                () = shim.gone() => match self.run_end(run, &mut unhealthy).await {
                    Ok(end) => return end,
                    // Another shim had claimed the run before.
                    Err(other) => shim = other,
                },
                _ = self.poked.changed(), if running.is_none() => {}
                _ = self.asked.changed() => {}
                Some(verdict) = verdicts.recv() => match verdict {
                    Verdict::Ready(answer) => self.tell_ready(answer),
                    Verdict::Unhealthy(sentence) => {
                        self.update(|report| report.endpoint = None);
                        unhealthy = Some(sentence);
                        let grace = self.replica.template().grace.as_ms();
                        stopping = Some(self.ask_stop_quietly(&run_dir, grace).await);
                    }
                },
                _ = sample.tick() => self.tell_usage(running.as_ref(), &mut sampled),
                () = tokio::time::sleep_until(overdue), if stopping.is_some() => {
                    let pass = self.ctx.gate.pass().await;
                    kill_shim(&run_dir);
                    drop(pass);
                    stopping = stopping.map(|(grace, _)| (grace, Instant::now() + SHIM_GRACE));
                }
            }
        }
    }

    /// How a run ended whose shim is gone; or the shim that really has it.
    async fn run_end(&self, run: u32, unhealthy: &mut Option<String>) -> Result<End, Shim> {
        let run_dir = self.dir.run(run);
        let exit = record::read::<Exit>(&run_dir.join(name::EXIT))
            .ok()
            .flatten();
        if let Some(exit) = exit {
            if self.ctx.config.limits.is_none() {
                sweep::sweep(&self.ctx, &dir_name(&self.key)).await;
            }
            if let Ok(Some(running)) = record::read::<Running>(&run_dir.join(name::RUNNING)) {
                self.update(|report| report.started = report.started.or(Some(running.at)));
            }
            return Ok(self.classify(&exit, unhealthy.take()));
        }
        let started = record::read::<Started>(&run_dir.join(name::STARTED))
            .ok()
            .flatten();
        let message = if let Some(started) = started {
            if let Ok(Some(other)) = Shim::adopt(&started, &self.ctx.config.boot) {
                return Err(other);
            }
            if self.is_of_old_boot() {
                return Ok(self.node_lost().await);
            }
            // The kernel has killed the program with its shim, but not what the program had started.
            sweep::sweep(&self.ctx, &dir_name(&self.key)).await;
            self.mark_cut("the program's shim was killed").await;
            "its shim was killed, and the program with it"
        } else {
            if let Some(said) = launch::complaint(&self.dir, run) {
                return Ok(unrecorded(Cause::StartFailed, said, now()));
            }
            "its shim was killed before it started the program"
        };
        if let Some(stop) = self.stop_asked() {
            return Ok(unrecorded(Cause::Stopped, end::stopped(stop), now()));
        }
        Ok(unrecorded(Cause::ShimLost, message, now()))
    }

    fn classify(&self, exit: &Exit, unhealthy: Option<String>) -> End {
        let report = self.ctx.table.report(&self.key);
        let known = Known {
            stop: self.stop_asked(),
            unhealthy,
            memory_limit: self.replica.template().resources.memory,
            memory_seen: report.map_or(Bytes(0), |report| report.usage.memory_peak),
        };
        classify(exit, &known)
    }

    /// A remark where output is missing: what the shim had read and not yet written is lost.
    async fn mark_cut(&self, why: &str) {
        let mut progress = self.progress.clone();
        // Numbers that the sink has already are taken, even where the spool has lost them.
        let asked = timeout(
            PUMP_MAX,
            progress.wait_for(|progress| progress.kept.is_some()),
        )
        .await;
        let kept = asked
            .ok()
            .and_then(Result::ok)
            .and_then(|progress| progress.kept);
        let _pass = self.ctx.gate.pass().await;
        match Writer::open(&self.dir.spool(), self.ctx.config.spool_max) {
            Ok(mut writer) => {
                if let Some(kept) = kept {
                    writer.skip_past(kept);
                }
                let note = format!("the output may be cut here: {why}\n");
                writer.append(Stream::Note, now(), note.as_bytes());
            }
            Err(error) => {
                tracing::warn!(replica = %self.key, %error, "the cut in its output cannot be marked")
            }
        }
    }

    fn tell_running(&self, running: &Running) {
        let at = running.at;
        self.update(|report| {
            if !matches!(report.phase, Phase::Stopping(_)) {
                report.phase = Phase::Running;
            }
            report.started = report.started.or(Some(at));
        });
    }

    fn tell_ready(&self, answer: Result<(), String>) {
        let address = &self.ctx.config.address;
        let ports = self.replica.slot().ports.iter();
        let addresses = ports
            .map(|(name, number)| (name.clone(), format!("{address}:{number}")))
            .collect();
        let is_stopping = self.stop_asked().is_some();
        let unready = answer.err();
        let is_ready = unready.is_none() && !is_stopping;
        let endpoint = is_ready.then(|| Endpoint {
            addresses,
            since: now(),
        });
        self.update(|report| {
            report.endpoint = endpoint;
            report.unready = unready;
        });
    }

    /// `sampled` is when processor time was last looked at, and what it was.
    fn tell_usage(&self, running: Option<&Running>, sampled: &mut Option<(Instant, u64)>) {
        let usage = match (&self.ctx.config.limits, running) {
            (Some(limits), _) => limits.usage(&dir_name(&self.key)),
            (None, Some(running)) => {
                let (cpu_ms, memory) = sweep::session_usage(running.pid);
                Usage {
                    cpu_ms,
                    memory: Bytes(memory),
                    memory_peak: Bytes(memory),
                    ..Usage::default()
                }
            }
            (None, None) => return,
        };
        let now = Instant::now();
        let cpu = sampled.map_or(0, |(then, cpu_ms)| {
            let ms = now.duration_since(then).as_millis().max(1);
            u128::from(usage.cpu_ms.saturating_sub(cpu_ms)) * 1_000 / ms
        });
        *sampled = Some((now, usage.cpu_ms));
        self.update(|report| {
            let memory_peak = usage.memory_peak.max(report.usage.memory_peak);
            report.usage = Usage {
                memory_peak,
                cpu: MilliCpu(u64::try_from(cpu).unwrap_or(u64::MAX)),
                ..usage
            };
        });
    }

    async fn ask_stop(&self, run_dir: &std::path::Path, grace_ms: u64) -> (u64, Instant) {
        let deadline = now() + base::Span::from_ms(grace_ms);
        self.update(|report| {
            report.phase = Phase::Stopping(deadline);
            report.endpoint = None;
        });
        self.ask_stop_quietly(run_dir, grace_ms).await
    }

    async fn ask_stop_quietly(&self, run_dir: &std::path::Path, grace_ms: u64) -> (u64, Instant) {
        let _pass = self.ctx.gate.pass().await;
        if let Err(error) = launch::stop(run_dir, grace_ms) {
            tracing::warn!(replica = %self.key, %error, "the shim cannot be told to stop; it will be killed");
        }
        (
            grace_ms,
            Instant::now() + Duration::from_millis(grace_ms) + SHIM_GRACE,
        )
    }

    /// Whether a run follows.
    async fn next(&mut self, run: u32, end: End) -> Step {
        let is_final = matches!(
            end.cause,
            Cause::PortTaken | Cause::NodeLost | Cause::Stopped
        );
        if self.replica.life() == Life::Batch
            || is_final
            || self.stop_asked().is_some()
            || self.is_of_old_boot()
        {
            return Step::Over(end);
        }
        if end.cause == Cause::Evicted {
            // `moonshot down`, and now it is up again: no failure of the program's.
            self.update(|report| report.last_failure = Some(end));
            return Step::Launch(run + 1);
        }
        let backoff = self.ctx.config.backoff;
        let running = record::read::<Running>(&self.dir.run(run).join(name::RUNNING))
            .ok()
            .flatten();
        let lasted = running.map_or(0, |running| end.at.since(running.at).as_ms());
        self.failures = if lasted >= backoff.reset.as_ms() {
            1
        } else {
            self.failures + 1
        };
        let wait = backoff.wait(self.failures);
        let at: Time = now() + wait;
        self.update(|report| {
            report.phase = Phase::BackingOff(at);
            report.last_failure = Some(end);
            report.endpoint = None;
        });
        let is_asked = self.asked.wait_for(|asked| asked.stop.is_some());
        // Nobody can ask any more: then the wait is just a wait.
        let _ = timeout(wait.as_std(), is_asked).await;
        Step::Launch(run + 1)
    }

    /// Keeps what shall be kept, cleans up, and writes how it ended.
    async fn finish(&mut self, mut end: End) -> Ended {
        if end.cause == Cause::Succeeded && self.replica.life() == Life::Batch {
            match outputs::keep(&self.ctx, &self.replica, &self.dir).await {
                Ok(outputs) => end.outputs = outputs,
                Err(sentence) => {
                    end.cause = Cause::Failed;
                    end.message = sentence;
                }
            }
        }
        self.closing.send_replace(true);
        let mut progress = self.progress.clone();
        // A sink that is down must not hold back the end: its output waits in the spool.
        let _ = timeout(PUMP_MAX, progress.wait_for(|progress| progress.is_done)).await;
        self.release().await;
        let report = self.ctx.table.report(&self.key);
        let ended = Ended {
            version: VERSION,
            end,
            started: report.as_ref().and_then(|report| report.started),
            restarts: report.as_ref().map_or(0, |report| report.restarts),
            lost: self.lost(report.map_or(0, |report| report.output_lost.0)),
        };
        loop {
            let pass = self.ctx.gate.pass().await;
            let written = record::write(&self.dir.ended(), &ended, Durability::Synced);
            drop(pass);
            let Err(error) = written else { break };
            tracing::warn!(replica = %self.key, %error, "its end cannot be written yet");
            tokio::time::sleep(RETRY).await;
        }
        self.update(|report| report.output_lost = Bytes(ended.lost));
        ended
    }

    /// What the runs lost that are still known; at least what notes told.
    fn lost(&self, told: u64) -> u64 {
        let last = self.dir.last_run().ok().flatten().unwrap_or(0);
        let runs = last.saturating_sub(RUNS_KEPT)..=last;
        let exits = runs.filter_map(|run| {
            record::read::<Exit>(&self.dir.run(run).join(name::EXIT))
                .ok()
                .flatten()
        });
        exits.map(|exit| exit.lost.0).sum::<u64>().max(told)
    }

    /// Gives back the cgroup and forgets the secrets.
    async fn release(&self) {
        if let Some(limits) = &self.ctx.config.limits {
            let name = dir_name(&self.key);
            sweep::sweep(&self.ctx, &name).await;
            let _pass = self.ctx.gate.pass().await;
            if let Err(error) = limits::remove_patiently(limits.as_ref(), &name).await {
                tracing::warn!(replica = %self.key, %error, "its cgroup cannot be removed");
            }
        }
        if let Some(secrets) = prepare::secrets_dir(&self.ctx, &self.replica) {
            let _pass = self.ctx.gate.pass().await;
            remove_tree(&secrets);
        }
    }

    async fn forgotten(&mut self) {
        // Whoever could ask is gone only when the engine is.
        if self.asked.wait_for(|asked| asked.forget).await.is_err() {
            return;
        }
        let mut progress = self.progress.clone();
        let is_done = progress.wait_for(|progress| progress.is_done);
        let is_late = timeout(FORGET_PUMP_MAX, is_done).await.is_err();
        if is_late {
            tracing::error!(replica = %self.key, "output that was never taken is dropped with its replica");
        }
        self.parts.shutdown().await;
        self.release().await;
        forget(self.ctx.clone(), self.dir.clone()).await;
        self.ctx.table.remove(&self.key);
    }
}

/// Removes a replica's directory. It loses its name first, so that a half-removed one is known as such.
pub(crate) async fn forget(ctx: Arc<Ctx>, dir: ReplicaDir) {
    let pass = ctx.gate.pass().await;
    let removed = tokio::task::spawn_blocking(move || {
        // Held until the directory has lost its name: what is deleted then is nobody's.
        let pass = pass;
        let name = dir.path().file_name().unwrap_or_default().to_owned();
        let mut gone = std::ffi::OsString::from(crate::layout::GONE_PREFIX);
        gone.push(name);
        let gone = ctx.layout.replicas().join(gone);
        remove_tree(&gone);
        if fs::rename(dir.path(), &gone).is_ok() {
            drop(pass);
            remove_tree(&gone);
        } else {
            remove_tree(dir.path());
        }
    });
    if let Err(error) = removed.await {
        tracing::error!(%error, "a replica's files were not removed");
    }
}

pub(crate) fn remove_tree(path: &std::path::Path) {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "files cannot be removed");
        }
        Ok(()) | Err(_) => {}
    }
}

fn kill_shim(run_dir: &std::path::Path) {
    let started = record::read::<Started>(&run_dir.join(name::STARTED))
        .ok()
        .flatten();
    let same = |started: &Started| shim::identity::start_time(started.pid) == Some(started.start);
    let pid = started
        .filter(same)
        .and_then(|started| i32::try_from(started.pid).ok());
    if let Some(pid) = pid.and_then(Pid::from_raw) {
        // It may be gone already.
        let _ = kill_process(pid, Signal::KILL);
    }
}
