//! The engine, as the settings say: this machine or a Kubernetes. It is opened when this server begins to lead: several servers may
//! share its directory, and only the leader's engine acts (`local`, module `gate`).

use super::server::chain;
use super::settings::Settings;
use base::{Epoch, Span, Uid};
use engine::{
    BoxFuture, Cursor, Engine, EngineError, Exec, Group, Keeps, Note, Observation, PodName,
    Prepared, Project, ReplicaKey, StopReason,
};
use k8s::K8s;
use local::{Backoff, Config, Local, OpenError};
use logs::Logs;
use server::content::Content;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

/// Where replicas are reached.
const ADDRESS: &str = "127.0.0.1";

/// The engine of a server that may lead.
pub(crate) struct Seat {
    settings: Settings,
    shim: PathBuf,
    content: Arc<Content>,
    logs: Logs,
    open: RwLock<Option<Open>>,
}

/// One that this server acts through.
#[derive(Clone)]
enum Open {
    Local(Arc<Local>),
    K8s(Arc<K8s>),
}

impl Open {
    fn engine(&self) -> &dyn Engine {
        match self {
            Open::Local(local) => &**local,
            Open::K8s(k8s) => &**k8s,
        }
    }
}

impl Seat {
    /// Nothing is opened yet.
    pub(crate) fn new(
        settings: &Settings,
        shim: PathBuf,
        content: Arc<Content>,
        logs: Logs,
    ) -> Seat {
        Seat {
            settings: settings.clone(),
            shim,
            content,
            logs,
            open: RwLock::default(),
        }
    }

    fn open(&self) -> Option<Open> {
        self.open
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn put(&self, open: Option<Open>) {
        *self.open.write().unwrap_or_else(PoisonError::into_inner) = open;
    }

    fn ours(&self) -> Result<Open, EngineError> {
        self.open().ok_or_else(|| EngineError::Failed {
            operation: "reaching the engine".to_owned(),
            source: "another server leads".into(),
        })
    }

    /// Running work of an earlier server is found again.
    async fn take(&self, epoch: Epoch) -> Result<(), EngineError> {
        match self.open() {
            Some(Open::K8s(k8s)) => return k8s.lead(epoch).await,
            Some(Open::Local(local)) if !local.is_lost() => return local.lead(epoch).await,
            Some(Open::Local(local)) => {
                self.put(None);
                local.shutdown().await;
            }
            None => {}
        }
        // Another server has written to the same files meanwhile.
        self.logs.close_files();
        let open = match &self.settings.kubernetes {
            Some(kubernetes) => {
                let config = kubernetes
                    .config(&self.settings.data_dir, &self.content)
                    .await
                    .map_err(|error| failed(error.into()))?;
                let k8s = K8s::open(config).await?;
                k8s.lead(epoch).await?;
                Open::K8s(Arc::new(k8s))
            }
            None => Open::Local(Arc::new(self.open_local(epoch).await?)),
        };
        self.put(Some(open));
        Ok(())
    }

    async fn open_local(&self, epoch: Epoch) -> Result<Local, EngineError> {
        let (config, warning) = self.config().map_err(|error| failed(error.into()))?;
        match Local::open(config, warning, Some(epoch)).await {
            Ok(local) => Ok(local),
            Err(OpenError::Superseded { ours, highest }) => {
                Err(EngineError::Superseded { ours, highest })
            }
            Err(error) => Err(failed(chain(&error).into())),
        }
    }

    fn config(&self) -> Result<(Config, Option<String>), String> {
        let root = self.settings.data_dir.join("engine");
        std::fs::create_dir_all(&root)
            .map_err(|error| format!("cannot make `{}`: {error}", root.display()))?;
        let (limits, warning) = match local::limits::detect(&root) {
            Ok(limits) => (Some(limits), None),
            Err(warning) => (None, Some(warning)),
        };
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map_err(|error| format!("cannot read which boot this is: {error}"))?;
        let platform = std::env::current_exe()
            .map_err(|error| format!("cannot find this program: {error}"))?;
        // A replica's home is its own; what was installed for this user is for all of them.
        let runtimes = ::serve::runtimes::Runtimes::usual();
        let config = Config {
            shim: self.shim.clone(),
            platform,
            platform_env: vec![(
                ::serve::runtimes::VARIABLE.to_owned(),
                runtimes.dir().display().to_string(),
            )],
            nodes: self.settings.nodes,
            reserve: base::Resources::default(),
            path: programs_path(&root)?,
            server: format!("http://{}", reached(self.settings.listen)),
            ports: local::config::PORTS,
            address: ADDRESS.to_owned(),
            spool_max: local::config::SPOOL_MAX,
            backoff: Backoff::STANDARD,
            boot: boot.trim().to_owned(),
            limits,
            gpus: local::gpu::detect(self.settings.fake_gpus),
            sink: Arc::clone(&self.content) as Arc<dyn engine::OutputSink>,
            content: Arc::clone(&self.content) as Arc<dyn engine::Content>,
            root,
        };
        Ok((config, warning))
    }
}

fn failed(source: Box<dyn std::error::Error + Send + Sync>) -> EngineError {
    EngineError::Failed {
        operation: "opening the engine".to_owned(),
        source,
    }
}

impl Engine for Seat {
    fn lead(&self, epoch: Epoch) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(self.take(epoch))
    }

    fn ensure<'a>(
        &'a self,
        epoch: Epoch,
        group: &'a Group,
    ) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async move { self.ours()?.engine().ensure(epoch, group).await })
    }

    fn project<'a>(
        &'a self,
        epoch: Epoch,
        project: &'a Project,
    ) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async move { self.ours()?.engine().project(epoch, project).await })
    }

    fn remove<'a>(
        &'a self,
        epoch: Epoch,
        key: &'a ReplicaKey,
        grace: Span,
        reason: StopReason,
    ) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async move {
            self.ours()?
                .engine()
                .remove(epoch, key, grace, reason)
                .await
        })
    }

    fn observe(
        &self,
        cursor: Option<Cursor>,
        wait: Span,
    ) -> BoxFuture<'_, Result<Observation, EngineError>> {
        Box::pin(async move { self.ours()?.engine().observe(cursor, wait).await })
    }

    fn checkpoints(&self) -> BoxFuture<'_, Result<Vec<Uid>, EngineError>> {
        Box::pin(async move { self.ours()?.engine().checkpoints().await })
    }

    fn drop_checkpoints(&self, epoch: Epoch, owner: Uid) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(async move { self.ours()?.engine().drop_checkpoints(epoch, owner).await })
    }

    fn ties(&self, keeps: &Keeps) -> Result<BTreeMap<String, String>, EngineError> {
        self.ours()?.engine().ties(keeps)
    }

    fn peer_host(&self, key: &ReplicaKey, _: &str) -> String {
        match self.settings.kubernetes {
            Some(_) => k8s::peer_host(key),
            None => ADDRESS.to_owned(),
        }
    }

    fn prepare<'a>(
        &'a self,
        epoch: Epoch,
        pod: &'a PodName,
        node: &'a str,
    ) -> BoxFuture<'a, Result<Prepared, EngineError>> {
        Box::pin(async move { self.ours()?.engine().prepare(epoch, pod, node).await })
    }

    fn bind<'a>(
        &'a self,
        epoch: Epoch,
        pod: &'a PodName,
        node: &'a str,
    ) -> BoxFuture<'a, Result<bool, EngineError>> {
        Box::pin(async move { self.ours()?.engine().bind(epoch, pod, node).await })
    }

    fn evict<'a>(
        &'a self,
        epoch: Epoch,
        pod: &'a PodName,
        grace: Span,
    ) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async move { self.ours()?.engine().evict(epoch, pod, grace).await })
    }

    fn tell<'a>(
        &'a self,
        epoch: Epoch,
        pod: &'a PodName,
        note: &'a Note,
    ) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async move { self.ours()?.engine().tell(epoch, pod, note).await })
    }

    fn exec<'a>(
        &'a self,
        key: &'a ReplicaKey,
        command: &'a [String],
        terminal: Option<(u16, u16)>,
    ) -> BoxFuture<'a, Result<Exec, EngineError>> {
        Box::pin(async move { self.ours()?.engine().exec(key, command, terminal).await })
    }
}

/// This machine's `PATH`, and after it this program under the names that launchers call.
fn programs_path(root: &Path) -> Result<String, String> {
    let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".to_owned());
    let bin = root.join("bin");
    let link = |name: &str| -> std::io::Result<()> {
        std::fs::create_dir_all(&bin)?;
        let draft = bin.join(format!(".{name}-{}", std::process::id()));
        std::os::unix::fs::symlink(std::env::current_exe()?, &draft)?;
        std::fs::rename(&draft, bin.join(name))
    };
    ["moonshot", crate::RSH]
        .into_iter()
        .try_for_each(link)
        .map_err(|error| format!("cannot make links in `{}`: {error}", bin.display()))?;
    Ok(format!("{path}:{}", bin.display()))
}

/// Where a listener is reached from this machine.
fn reached(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}
