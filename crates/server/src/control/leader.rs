//! A term of leadership: take the lease, tell the engine, read the tables, run the loops; end them when the
//! lease is lost, and begin again.

use super::admit::Admit;
use super::dirty::Dirty;
use super::platform_objects::{self, Told};
use super::sched_log::Recorded;
use super::scheduler;
use super::tasks::Tasks;
use super::{
    Control, ControlError, OwnerKind, apps, collector, deliveries, environments, foreign,
    job_rebuild, jobs, observer, projects, retention, rows,
};
use crate::platform::Platform;
use base::{Epoch, Seq, Span, Time};
use db::{DbError, control as tables, feed, leases, objects};
use sched::{Event, TaskId};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long a lease lasts without being renewed: another server leads well within 10 s.
pub const LEASE: Span = Span::from_secs(6);
/// Between renewals.
const RENEW: Duration = Duration::from_millis(1_500);
/// Between looks whether another server's lease has ended.
const LOOK: Duration = Duration::from_millis(500);
/// Feed entries read at once.
const FEED_MAX: u32 = 1_000;

/// The name under which a server holds the lease: where it answers, and which of its starts it is.
pub fn holder(address: &str, start: base::Uid) -> String {
    format!("{address} {}", start.short())
}

/// Where the server answers that leads now, if one does.
pub async fn leader_address(platform: &Platform) -> Result<Option<String>, DbError> {
    let term = leases::look(&platform.db, "leader").await?;
    let term = term.filter(|term| term.left > Span::ZERO);
    Ok(term.and_then(|term| Some(term.holder.split_once(' ')?.0.to_owned())))
}

/// Leads whenever it can, until `stop`.
pub async fn run(platform: Arc<Platform>, holder: String, stop: CancellationToken) {
    while !stop.is_cancelled() {
        // Looking is cheap; only a lease that has ended is asked for.
        let is_held = matches!(
            leases::look(&platform.db, "leader").await,
            Ok(Some(term)) if term.left > Span::ZERO && term.holder != holder
        );
        if is_held {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = stop.cancelled() => {}
            }
            continue;
        }
        match leases::acquire(&platform.db, "leader", &holder, LEASE).await {
            Ok(Some(epoch)) => {
                tracing::info!(%epoch, "leading");
                let term = stop.child_token();
                if let Err(error) = lead(&platform, &holder, epoch, &term).await {
                    tracing::error!(error = &error as &dyn std::error::Error, "the term ended");
                    catch_up(&platform, &holder, &error).await;
                }
                term.cancel();
                platform.set_sched(None);
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot take the lease now"
            ),
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = stop.cancelled() => {}
        }
    }
    if let Err(error) = leases::release(&platform.db, "leader", &holder).await {
        tracing::debug!(%error, "the lease could not be given up; it ends by itself");
    }
}

/// An engine that has seen a later term than the database outlived a restore from a backup.
async fn catch_up(platform: &Platform, holder: &str, error: &ControlError) {
    let ControlError::Engine(engine::EngineError::Superseded { highest, .. }) = error else {
        return;
    };
    let skipped = leases::skip_past(&platform.db, "leader", holder, *highest).await;
    if let Err(error) = skipped {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "cannot count on from the engine's last term now"
        );
    }
}

async fn lead(
    platform: &Arc<Platform>,
    holder: &str,
    epoch: Epoch,
    term: &CancellationToken,
) -> Result<(), ControlError> {
    let work = async {
        let led = work(platform, epoch, term).await;
        term.cancel();
        led
    };
    // From the first moment on: taking the engine over may take longer than the lease.
    tokio::join!(work, renew(platform, holder, epoch, term)).0
}

async fn work(
    platform: &Arc<Platform>,
    epoch: Epoch,
    term: &CancellationToken,
) -> Result<(), ControlError> {
    tokio::select! {
        led = platform.engine.lead(epoch) => led?,
        () = term.cancelled() => return Ok(()),
    }
    let (jobs, apps) = (Dirty::default(), Dirty::default());
    let pods = foreign::Foreign::default();
    let admit = Admit {
        db: platform.db.clone(),
        cluster: platform.cluster.clone(),
        clock: Arc::clone(&platform.clock),
        jobs: jobs.clone(),
        apps: apps.clone(),
        pods: pods.groups.clone(),
    };
    let log = platform.sched_log.as_ref();
    let core = Recorded::new(sched::Config::standard(), log, epoch);
    let (handle, sched_loop) =
        scheduler::new(core, Arc::new(admit), Arc::clone(&platform.clock), epoch);
    let mut tasks = Tasks::new(term.clone());
    let mut sched_loop = Some(sched_loop);
    let stop = term.clone();
    let taken = std::sync::Mutex::new(sched_loop.take());
    tasks.start("scheduler", move || {
        let next = taken
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take();
        let stop = stop.clone();
        async move {
            match next {
                Some(sched_loop) => sched_loop.run(stop).await,
                // It panicked: its state is gone. A new term reads it from the tables.
                None => stop.cancel(),
            }
        }
    });
    let control = Arc::new(Control::new(
        platform,
        handle.clone(),
        jobs,
        apps,
        pods,
        epoch,
    ));
    // From here on the loops' futures are driven by `tasks.run`, so start-up that speaks to the scheduler runs beside it.
    let start = start(Arc::clone(&control), term.clone());
    tasks_with_start(tasks, start, platform, &control, term).await
}

/// Reads everything, then starts the loops, then waits for their end.
async fn tasks_with_start(
    mut tasks: Tasks,
    start: impl Future<Output = Result<(Told, engine::Cursor, Seq), ControlError>>,
    platform: &Arc<Platform>,
    control: &Arc<Control>,
    term: &CancellationToken,
) -> Result<(), ControlError> {
    let started = start.await;
    let (told, cursor, seq) = match started {
        Ok(started) => started,
        Err(error) => {
            term.cancel();
            tasks.run().await;
            return Err(error);
        }
    };
    platform.set_sched(Some(control.sched.clone()));
    let told = std::sync::Mutex::new(Some(told));
    let of = |control: &Arc<Control>, term: &CancellationToken| (Arc::clone(control), term.clone());
    let (shared, stop) = of(control, term);
    tasks.start("jobs", move || jobs::run(Arc::clone(&shared), stop.clone()));
    let (shared, stop) = of(control, term);
    tasks.start("apps", move || apps::run(Arc::clone(&shared), stop.clone()));
    let (shared, stop) = of(control, term);
    tasks.start("pods of others", move || {
        foreign::run(Arc::clone(&shared), stop.clone())
    });
    let (shared, stop) = of(control, term);
    tasks.start("observer", move || {
        observer::run(Arc::clone(&shared), cursor, stop.clone())
    });
    let (shared, stop) = of(control, term);
    tasks.start("platform objects", move || {
        let told = told
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take()
            .unwrap_or_default();
        platform_objects::run(Arc::clone(&shared), told, stop.clone())
    });
    let (shared, stop) = of(control, term);
    tasks.start("projects", move || {
        projects::run(Arc::clone(&shared), stop.clone())
    });
    let (shared, stop) = of(control, term);
    tasks.start("environments", move || {
        environments::run(Arc::clone(&shared), stop.clone())
    });
    let (shared, stop) = of(control, term);
    tasks.start("deliveries", move || {
        deliveries::run(Arc::clone(&shared), stop.clone())
    });
    let (shared, stop) = of(control, term);
    tasks.start("retention", move || {
        retention::run(Arc::clone(&shared), stop.clone())
    });
    let (shared, stop) = of(control, term);
    tasks.start("collector", move || {
        collector::run(Arc::clone(&shared), stop.clone())
    });
    let (shared, stop) = of(control, term);
    tasks.start("feed", move || {
        follow(Arc::clone(&shared), seq, stop.clone())
    });
    tasks.run().await;
    Ok(())
}

/// Keeps the lease. A lease that cannot be renewed in time ends the term before another can begin.
async fn renew(platform: &Platform, holder: &str, epoch: Epoch, term: &CancellationToken) {
    let mut renewed = tokio::time::Instant::now();
    loop {
        tokio::select! {
            () = tokio::time::sleep(RENEW) => {}
            () = term.cancelled() => return,
        }
        match leases::acquire(&platform.db, "leader", holder, LEASE).await {
            Ok(Some(held)) if held == epoch => renewed = tokio::time::Instant::now(),
            Ok(_) => {
                tracing::warn!("another server leads");
                term.cancel();
                return;
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot renew the lease now"
                );
                if renewed.elapsed() > LEASE.as_std() {
                    term.cancel();
                    return;
                }
            }
        }
    }
}

/// Reads nodes, queues, tasks and placements into the scheduler, and what runs from the engine.
async fn start(
    control: Arc<Control>,
    term: CancellationToken,
) -> Result<(Told, engine::Cursor, Seq), ControlError> {
    let seq = feed::head(&control.db).await?;
    for kind in [OwnerKind::Job, OwnerKind::App] {
        for uid in objects::active(&control.db, kind.as_str()).await? {
            control.kinds.put(uid, kind);
        }
    }
    foreign::remember(&control).await?;
    let cursor = observer::first(&control).await?;
    let mut told = Told::default();
    platform_objects::tell(&control, &mut told).await?;
    rebuild(&control).await?;
    if term.is_cancelled() {
        return Ok((told, cursor, seq));
    }
    control
        .jobs
        .add_all(rows::active(&control.db, "Job").await?);
    control
        .apps
        .add_all(rows::active(&control.db, "App").await?);
    Ok((told, cursor, seq))
}

/// Tells the scheduler every task that waits or holds capacity.
async fn rebuild(control: &Control) -> Result<(), ControlError> {
    let mut held: HashMap<base::Uid, Vec<tables::Placement>> = HashMap::new();
    for placement in tables::live_placements(&control.db).await? {
        let ports = placement
            .ports
            .as_object()
            .into_iter()
            .flat_map(|ports| ports.values());
        let numbers = ports
            .filter_map(|port| port.as_u64().and_then(|port| u16::try_from(port).ok()))
            .collect();
        control
            .sched
            .ports_taken(placement.node.clone(), numbers)
            .await;
        held.entry(placement.task).or_default().push(placement);
    }
    for task in tables::open_tasks(&control.db).await? {
        let Some((spec, owner)) = job_rebuild::task(control, &task).await? else {
            continue;
        };
        if task.state == "waiting" {
            control.sched.submit(spec, owner).await;
            continue;
        }
        let placements = held.remove(&task.uid).unwrap_or_default();
        let started = placements
            .iter()
            .map(|placement| placement.created_at)
            .min()
            .unwrap_or(Time::from_ms(0));
        let mut releasing = Vec::new();
        let mut seats = Vec::new();
        for placement in &placements {
            let Some(seat) = job_rebuild::seat(control, &owner, placement) else {
                continue;
            };
            if placement.state == "releasing" {
                let deadline = placement.deadline.unwrap_or_default();
                releasing.push(Event::Releasing {
                    task: TaskId(task.uid),
                    slot: seat.slot,
                    deadline,
                });
            }
            seats.push(seat);
        }
        control
            .sched
            .running(
                sched::RunningTask {
                    spec,
                    started,
                    placements: seats,
                },
                owner,
            )
            .await;
        for event in releasing {
            control.sched.event(event).await;
        }
    }
    Ok(())
}

/// Follows the change feed: who is concerned by a change is poked, and nobody else.
async fn follow(control: Arc<Control>, mut seq: Seq, stop: CancellationToken) {
    let mut head = control.db.head();
    loop {
        match feed::since(&control.db, seq, FEED_MAX).await {
            Ok(changes) if changes.is_empty() => {
                tokio::select! {
                    changed = head.changed() => if changed.is_err() { break },
                    // Another server's writes are not announced here.
                    () = tokio::time::sleep(Duration::from_millis(500)) => {}
                    () = stop.cancelled() => break,
                }
            }
            Ok(changes) => {
                for change in changes {
                    seq = change.seq;
                    match change.kind.as_str() {
                        "Job" => {
                            control.kinds.put(change.uid, OwnerKind::Job);
                            control.jobs.add(change.uid);
                        }
                        "App" => {
                            control.kinds.put(change.uid, OwnerKind::App);
                            control.apps.add(change.uid);
                        }
                        "Project" => {
                            control.foreign.reconsider();
                            control.project_changed.poke();
                        }
                        // It may be a registry's.
                        "Secret" => control.project_changed.poke(),
                        "Queue" => {
                            control.queues.changed();
                            control.foreign.reconsider();
                            control.platform.poke();
                        }
                        "Node" | "Pool" => control.platform.poke(),
                        "Environment" => control.builds.poke(),
                        _ => {}
                    }
                }
            }
            Err(DbError::Gone { .. }) => {
                // Too far behind: everything is looked at by the next resync.
                if let Ok(now) = feed::head(&control.db).await {
                    seq = now;
                }
                control.queues.changed();
                control.platform.poke();
                control.project_changed.poke();
                control.builds.poke();
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot read the feed now"
                );
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_secs(1)) => {}
                    () = stop.cancelled() => break,
                }
            }
        }
    }
}
