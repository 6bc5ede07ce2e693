//! [`Local`]: opens the root, re-adopts what runs, answers the port.

use crate::checkpoints;
use crate::config::Config;
use crate::ctx::Ctx;
use crate::environment::secret_in_command;
use crate::exec;
use crate::gate::{Gate, Pass, TakeError};
use crate::host;
use crate::layout::{GONE_PREFIX, Layout, ReplicaDir};
use crate::limits;
use crate::prepare::{self, make_dir};
use crate::record::{Replica, Stop};
use crate::replica::{Actor, first_report, forget, remove_tree};
use crate::sweep;
use crate::table::{Asked, Handle, Table};
use base::{Epoch, Span, Uid};
use engine::{
    BoxFuture, Cursor, Engine, EngineError, Exec, Group, Isolation, MountSource, Observation,
    Phase, ReplicaKey, Runtime, Slot, StopReason,
};
use rustix::fs::Mode;
use shim::record::{self, Durability, VERSION};
use std::fs;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The engine on this machine. Dropping it leaves every program running; the next one finds them.
pub struct Local {
    ctx: Arc<Ctx>,
    /// One request at a time: an epoch is admitted and acted on without another in between.
    requests: tokio::sync::Mutex<()>,
    tasks: Arc<Mutex<JoinSet<()>>>,
}

/// How often it is looked whether another engine has taken the root.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Why the engine cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process acts on the root and does not let go.
    #[error("`{0}` is used by another moonshot")]
    InUse(String),
    /// A later term has taken the root.
    #[error("epoch {ours} was superseded by epoch {highest}")]
    Superseded {
        /// The caller's.
        ours: Epoch,
        /// The highest seen.
        highest: Epoch,
    },
    /// The root cannot be used.
    #[error("`{path}` cannot be used")]
    Root {
        /// Its path.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Local {
    /// Opens the root and takes over everything that runs from there, also from another engine, which has no effect
    /// any more. With a term, only where none higher was seen. `limits_warning` is what nodes say where there are no
    /// limits.
    pub async fn open(
        config: Config,
        limits_warning: Option<String>,
        term: Option<Epoch>,
    ) -> Result<Local, OpenError> {
        let path = config.root.display().to_string();
        let layout = Layout::new(config.root.clone());
        let failed = |source: io::Error| OpenError::Root {
            path: path.clone(),
            source,
        };
        make_dir(layout.root(), 0o711).map_err(failed)?;
        make_dir(&layout.replicas(), 0o711).map_err(failed)?;
        let place = layout.clone();
        let taken = tokio::task::spawn_blocking(move || Gate::take(&place, term)).await;
        let gate = match taken.unwrap_or_else(|error| Err(io::Error::other(error).into())) {
            Ok(gate) => gate,
            Err(TakeError::Held) => return Err(OpenError::InUse(path)),
            Err(TakeError::Superseded { ours, highest }) => {
                return Err(OpenError::Superseded { ours, highest });
            }
            Err(TakeError::Io(source)) => return Err(failed(source)),
        };
        let pokes = open_pokes(&layout).map_err(failed)?;
        if let Some(limits) = &config.limits {
            limits.open().map_err(failed)?;
        }
        let nodes = host::nodes(&config, host::machine(), limits_warning.as_deref());
        let ctx = Arc::new(Ctx {
            table: Table::new(gate.incarnation(), nodes),
            gate,
            runtime: tokio::runtime::Handle::current(),
            config,
            layout,
        });
        let local = Local {
            ctx: Arc::clone(&ctx),
            requests: tokio::sync::Mutex::new(()),
            tasks: Arc::new(Mutex::new(JoinSet::new())),
        };
        local.adopt().await.map_err(failed)?;
        local.spawn(listen(Arc::clone(&ctx), pokes));
        local.spawn(watch(ctx, Arc::clone(&local.tasks)));
        Ok(local)
    }

    /// Ends the engine's own tasks. Programs go on.
    pub async fn shutdown(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks());
        tasks.shutdown().await;
        if self.ctx.gate.is_lost() {
            return;
        }
        // What still holds a group or a secret stays.
        if let Some(limits) = &self.ctx.config.limits {
            limits.close();
        }
        // Missing, or in use, is as good.
        let _ = fs::remove_dir(prepare::secrets_base(&self.ctx));
    }

    /// Another engine has taken the root: this one has no effect any more.
    pub fn is_lost(&self) -> bool {
        self.ctx.gate.is_lost()
    }

    /// Stops every replica and waits until each has ended.
    pub async fn stop_all(&self, grace: Span) -> Result<(), EngineError> {
        for key in self.ctx.table.keys() {
            self.stop(&key, grace, StopReason::Cancelled)?;
        }
        let mut cursor = None;
        loop {
            let reports = self
                .ctx
                .table
                .keys()
                .into_iter()
                .filter_map(|key| self.ctx.table.report(&key));
            let n_live = reports
                .filter(|report| !matches!(report.phase, Phase::Ended(_)))
                .count();
            if n_live == 0 {
                return Ok(());
            }
            cursor = Some(
                self.ctx
                    .table
                    .observe(cursor, Span::from_secs(1))
                    .await
                    .cursor,
            );
        }
    }

    fn tasks(&self) -> std::sync::MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks();
        // What has ended is not kept.
        while let Some(ended) = tasks.try_join_next() {
            if let Err(error) = ended {
                tracing::error!(%error, "a task of the engine failed");
            }
        }
        tasks.spawn_on(task, &self.ctx.runtime);
    }

    /// Every directory becomes a replica again, or is cleaned away.
    async fn adopt(&self) -> io::Result<()> {
        let mut known = Vec::new();
        for entry in fs::read_dir(self.ctx.layout.replicas())? {
            let path = entry?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if name.starts_with(GONE_PREFIX) {
                remove_tree(&path);
                continue;
            }
            let dir = ReplicaDir::at(path);
            match record::read::<Replica>(&dir.record()) {
                Ok(Some(replica)) if replica.is_whole() => {
                    known.push(name);
                    self.begin(replica, dir);
                }
                // It was being made: nobody was told that it exists, and nothing of it runs.
                Ok(Some(_) | None) => forget(Arc::clone(&self.ctx), dir).await,
                Err(error) => {
                    tracing::error!(replica = name, %error, "a replica's record cannot be read; it is left alone")
                }
            }
        }
        for secrets in fs::read_dir(prepare::secrets_base(&self.ctx))
            .into_iter()
            .flatten()
            .flatten()
        {
            let is_known = known
                .iter()
                .any(|name| secrets.file_name() == name.as_str());
            if !is_known {
                remove_tree(&secrets.path());
            }
        }
        if let Some(limits) = &self.ctx.config.limits {
            for name in limits
                .names()
                .into_iter()
                .filter(|name| !known.contains(name))
            {
                sweep::sweep(&self.ctx, &name).await;
                if let Err(error) = limits::remove_patiently(limits.as_ref(), &name).await {
                    tracing::warn!(replica = name, %error, "a cgroup that is left over cannot be removed");
                }
            }
        }
        Ok(())
    }

    /// Starts a replica's task.
    fn begin(&self, replica: Replica, dir: ReplicaDir) {
        let report = first_report(&replica, &dir);
        let asked = Asked {
            stop: record::read::<Stop>(&dir.stop()).ok().flatten(),
            forget: false,
        };
        let handle = Handle {
            dir,
            asked: watch::Sender::new(asked),
            poked: watch::Sender::new(0),
        };
        let actor = Actor::new(Arc::clone(&self.ctx), replica, &handle);
        self.ctx.table.insert(report, handle);
        self.spawn(actor.run());
    }

    fn check(&self, group: &Group) -> Result<(), EngineError> {
        let refuse = |field: &str, why: String| {
            Err(EngineError::Unsupported {
                field: field.to_owned(),
                why,
            })
        };
        let template = &group.template;
        if let Runtime::Image(image) = &template.runtime {
            let why = format!(
                "this engine runs programs of the machine, not the image `{image}`; name an Environment with a pip spec"
            );
            return refuse("environment", why);
        }
        match template.isolation {
            Isolation::None => {}
            Isolation::Sandbox | Isolation::Gvisor | Isolation::Kata => {
                return refuse(
                    "isolation",
                    "this engine runs plain processes; leave it out or write `none`".to_owned(),
                );
            }
        }
        let root = rustix::process::geteuid();
        if template.user.is_some_and(|user| user != root.as_raw()) && !root.is_root() {
            return refuse(
                "user",
                "only root can run programs as another user".to_owned(),
            );
        }
        for mount in &template.mounts {
            if matches!(
                mount.source,
                MountSource::Volume(_) | MountSource::Dataset(_)
            ) {
                return refuse(
                    "mounts",
                    format!("`{}`: volumes and data sets are not there yet", mount.path),
                );
            }
        }
        if template.command.is_empty() {
            return refuse(
                "command",
                "this engine has no image to take a command from; write one".to_owned(),
            );
        }
        if let Some(name) = secret_in_command(&template.command, &template.env) {
            let why = format!(
                "`$({name})` would put a secret where every user can see it; let the program read `${name}`"
            );
            return refuse("command", why);
        }
        let foreign = group
            .slots
            .iter()
            .find(|slot| !self.ctx.table.has_node(&slot.node));
        match foreign {
            Some(slot) => refuse("node", format!("this engine has no node `{}`", slot.node)),
            None => Ok(()),
        }
    }

    async fn admit(&self, epoch: Epoch) -> Result<Pass, EngineError> {
        self.ctx
            .gate
            .admit(epoch)
            .await
            .map_err(|error| match error {
                TakeError::Superseded { ours, highest } => {
                    EngineError::Superseded { ours, highest }
                }
                error @ (TakeError::Held | TakeError::Io(_)) => EngineError::Failed {
                    operation: format!("writing epoch {epoch}"),
                    source: error.into(),
                },
            })
    }

    async fn ensure_slots(&self, epoch: Epoch, group: &Group) -> Result<(), EngineError> {
        let _one = self.requests.lock().await;
        let pass = self.admit(epoch).await?;
        self.check(group)?;
        let (known, new): (Vec<&Slot>, Vec<&Slot>) = group
            .slots
            .iter()
            .partition(|slot| self.ctx.table.handle(&group.key(slot)).is_some());
        for slot in known {
            self.ctx.table.raise_epoch(&group.key(slot), epoch);
        }
        let boot = &self.ctx.config.boot;
        let made: Vec<(Replica, ReplicaDir)> = new
            .into_iter()
            .map(|slot| {
                (
                    Replica::new(epoch, boot, group, slot),
                    self.ctx.layout.replica(&group.key(slot)),
                )
            })
            .collect();
        // On disk before anything starts: after a power cut the key must be known as used.
        let written =
            tokio::task::spawn_blocking(move || -> io::Result<Vec<(Replica, ReplicaDir)>> {
                let _pass = pass;
                for (replica, dir) in &made {
                    make_dir(dir.path(), 0o711)?;
                    record::write(&dir.record(), replica, Durability::Synced)?;
                }
                Ok(made)
            });
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| EngineError::Failed {
            operation: format!("writing down `{}`", group.title),
            source,
        };
        let made = written
            .await
            .map_err(|error| failed(error.into()))?
            .map_err(|error| failed(error.into()))?;
        for (replica, dir) in made {
            self.begin(replica, dir);
        }
        Ok(())
    }

    /// Asks a replica to end, durably; one that has ended is forgotten.
    fn stop(&self, key: &ReplicaKey, grace: Span, reason: StopReason) -> Result<bool, EngineError> {
        let (Some(handle), Some(report)) = (self.ctx.table.handle(key), self.ctx.table.report(key))
        else {
            self.ctx.table.absent(key);
            return Ok(false);
        };
        if matches!(report.phase, Phase::Ended(_)) {
            return Ok(true);
        }
        let grace_ms = grace.as_ms();
        let before = handle.asked.borrow().stop;
        if before.is_some_and(|before| before.grace_ms <= grace_ms) {
            return Ok(false);
        }
        let reason = before.map_or(reason, |before| before.reason);
        let stop = Stop {
            version: VERSION,
            reason,
            grace_ms,
        };
        record::write(&handle.dir.stop(), &stop, Durability::Cached).map_err(|error| {
            EngineError::Failed {
                operation: format!("stopping `{key}`"),
                source: error.into(),
            }
        })?;
        handle.asked.send_modify(|asked| asked.stop = Some(stop));
        Ok(false)
    }

    async fn remove_replica(
        &self,
        epoch: Epoch,
        key: &ReplicaKey,
        grace: Span,
        reason: StopReason,
    ) -> Result<(), EngineError> {
        let _one = self.requests.lock().await;
        let _pass = self.admit(epoch).await?;
        self.ctx.table.raise_epoch(key, epoch);
        let has_ended = self.stop(key, grace, reason)?;
        if has_ended && let Some(handle) = self.ctx.table.handle(key) {
            handle.asked.send_modify(|asked| asked.forget = true);
        }
        Ok(())
    }

    async fn start_exec(
        &self,
        key: &ReplicaKey,
        command: &[String],
        terminal: Option<(u16, u16)>,
    ) -> Result<Exec, EngineError> {
        let not_running = || EngineError::NotRunning(key.clone());
        let handle = self.ctx.table.handle(key).ok_or_else(not_running)?;
        let report = self.ctx.table.report(key).ok_or_else(not_running)?;
        if !matches!(report.phase, Phase::Running | Phase::Stopping(_)) {
            return Err(not_running());
        }
        let failed = |error: io::Error| EngineError::Failed {
            operation: format!(
                "running `{}` in `{key}`",
                command.first().map_or("", String::as_str)
            ),
            source: error.into(),
        };
        let replica = record::read::<Replica>(&handle.dir.record())
            .map_err(failed)?
            .ok_or_else(not_running)?;
        let run = handle
            .dir
            .last_run()
            .map_err(failed)?
            .ok_or_else(not_running)?;
        let (exec, task) = exec::start(&self.ctx, &replica, (&handle.dir, run), command, terminal)
            .await
            .map_err(failed)?;
        self.spawn(task);
        Ok(exec)
    }
}

impl Engine for Local {
    fn lead(&self, epoch: Epoch) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(async move {
            let _one = self.requests.lock().await;
            self.admit(epoch).await.map(drop)
        })
    }

    fn ensure<'a>(
        &'a self,
        epoch: Epoch,
        group: &'a Group,
    ) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(self.ensure_slots(epoch, group))
    }

    fn remove<'a>(
        &'a self,
        epoch: Epoch,
        key: &'a ReplicaKey,
        grace: Span,
        reason: StopReason,
    ) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(self.remove_replica(epoch, key, grace, reason))
    }

    fn observe(
        &self,
        cursor: Option<Cursor>,
        wait: Span,
    ) -> BoxFuture<'_, Result<Observation, EngineError>> {
        Box::pin(async move { Ok(self.ctx.table.observe(cursor, wait).await) })
    }

    fn checkpoints(&self) -> BoxFuture<'_, Result<Vec<Uid>, EngineError>> {
        let layout = self.ctx.layout.clone();
        Box::pin(async move {
            let owners = tokio::task::spawn_blocking(move || checkpoints::owners(&layout)).await;
            let owners = owners.unwrap_or_else(|error| Err(io::Error::other(error)));
            owners.map_err(|error| EngineError::Failed {
                operation: "listing checkpoints".to_owned(),
                source: error.into(),
            })
        })
    }

    fn drop_checkpoints(&self, epoch: Epoch, owner: Uid) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(async move {
            let _pass = self.admit(epoch).await?;
            let layout = self.ctx.layout.clone();
            let removed =
                tokio::task::spawn_blocking(move || checkpoints::remove(&layout, owner)).await;
            let removed = removed.unwrap_or_else(|error| Err(io::Error::other(error)));
            removed.map_err(|error| EngineError::Failed {
                operation: format!("removing the checkpoints of {owner}"),
                source: error.into(),
            })
        })
    }

    fn peer_host(&self, _: &ReplicaKey, _: &str) -> String {
        self.ctx.config.address.clone()
    }

    fn exec<'a>(
        &'a self,
        key: &'a ReplicaKey,
        command: &'a [String],
        terminal: Option<(u16, u16)>,
    ) -> BoxFuture<'a, Result<Exec, EngineError>> {
        Box::pin(self.start_exec(key, command, terminal))
    }
}

fn open_pokes(layout: &Layout) -> io::Result<pipe::Receiver> {
    match rustix::fs::mkfifoat(rustix::fs::CWD, layout.poke(), Mode::RUSR | Mode::WUSR) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    // Open for writing too, so that it does not end with each shim.
    pipe::OpenOptions::new()
        .read_write(true)
        .open_receiver(layout.poke())
}

/// Ends every task once the root is another's: that one's tasks do their work now.
async fn watch(ctx: Arc<Ctx>, tasks: Arc<Mutex<JoinSet<()>>>) {
    while !ctx.gate.is_lost() {
        tokio::time::sleep(WATCH_EVERY).await;
    }
    tracing::warn!("another server has taken the engine; this one only looks on");
    let mut tasks = tasks.lock().unwrap_or_else(PoisonError::into_inner);
    tasks.abort_all();
}

/// Takes the shims' lines apart. Junk in between is nobody's name.
async fn listen(ctx: Arc<Ctx>, pokes: pipe::Receiver) {
    use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
    /// A directory's name is far shorter.
    const LINE_BYTES_MAX: u64 = 4 << 10;
    let mut pokes = BufReader::new(pokes);
    let mut line = String::new();
    loop {
        line.clear();
        match (&mut pokes).take(LINE_BYTES_MAX).read_line(&mut line).await {
            Ok(0) => return,
            Ok(_) => ctx.table.poke(line.trim_end()),
            // Not text: skip it.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
            Err(error) => {
                tracing::error!(%error, "shims are not heard any more; output is looked for by the clock");
                return;
            }
        }
    }
}
