//! What the engine is told at its start.

use base::{Bytes, Net};
use engine::{Content, EngineError, OutputSink};
use kube::config::{KubeConfigOptions, Kubeconfig};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

/// Output of one replica that may wait in its pod.
pub(crate) const SPOOL_MAX: Bytes = Bytes(64 << 20);

/// Images that must be pullable (or there) on every node.
#[derive(Clone, Debug)]
pub struct Images {
    /// Has `/moonshot-pod` and `/moonshot-shim`.
    pub agent: String,
    /// For programs without an Environment: a shell.
    pub host: String,
    /// For pip Environments: a plain `python3` of the version they were built for.
    pub python: String,
    /// Has the program `moonshot` on its path, for Apps that serve a model; without it they are refused.
    pub server: Option<String>,
}

/// The claims in which Jobs keep checkpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoints {
    /// Their storage class; `None` for the cluster's default.
    pub class: Option<String>,
    /// How much each of them holds.
    pub size: Bytes,
    /// Who may write it.
    pub access: AccessMode,
}

/// From how many nodes a volume is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessMode {
    /// From one at a time.
    ReadWriteOnce,
    /// From all.
    ReadWriteMany,
}

impl AccessMode {
    /// Kubernetes' word.
    pub fn as_str(self) -> &'static str {
        match self {
            AccessMode::ReadWriteOnce => "ReadWriteOnce",
            AccessMode::ReadWriteMany => "ReadWriteMany",
        }
    }
}

impl FromStr for AccessMode {
    type Err = ();

    fn from_str(word: &str) -> Result<AccessMode, ()> {
        let mut all = [AccessMode::ReadWriteOnce, AccessMode::ReadWriteMany].into_iter();
        all.find(|mode| mode.as_str() == word).ok_or(())
    }
}

/// How the cluster's API is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// As a kubeconfig file says, in its current context.
    File(PathBuf),
    /// As a pod of the cluster, by its service account.
    InCluster,
}

/// Everything that the engine needs.
#[derive(Clone)]
pub struct Config {
    /// The cluster's API and credentials.
    pub access: Access,
    /// The namespace of the platform's own objects.
    pub namespace: String,
    /// Images of ours.
    pub images: Images,
    /// Where the endpoint for pods listens.
    pub listen: SocketAddr,
    /// Its address as pods reach it, `http://host:port`; `None` where that is `listen`.
    pub advertise: Option<String>,
    /// From where servers and gateways reach pods that are not in `namespace` themselves.
    pub clients: Vec<Net>,
    /// Where Jobs keep checkpoints.
    pub checkpoints: Checkpoints,
    /// The DeviceClass whose devices are the GPUs of nodes and are claimed; `None` where Kubernetes counts `nvidia.com/gpu`.
    pub gpu_class: Option<String>,
    /// The user that programs run as where the template names none. Not root.
    pub user: u32,
    /// Where archives wait for a moment.
    pub scratch: PathBuf,
    /// Receives output.
    pub sink: Arc<dyn OutputSink>,
    /// Gives and takes files.
    pub content: Arc<dyn Content>,
}

impl Access {
    /// This machine's address on the way to the cluster's API: where pods most likely reach it.
    pub async fn local_address(&self) -> Result<IpAddr, EngineError> {
        let url = self.read().await?.cluster_url;
        let asked = async {
            let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
            let mut found = tokio::net::lookup_host((host, url.port_u16().unwrap_or(443))).await?;
            let target = found.next().ok_or(io::ErrorKind::NotFound)?;
            let any: IpAddr = match target {
                SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            // Sends nothing: only the kernel's choice of the way is wanted.
            let socket = tokio::net::UdpSocket::bind((any, 0)).await?;
            socket.connect(target).await?;
            socket.local_addr()
        };
        let address: io::Result<SocketAddr> = asked.await;
        let address = address.map_err(|source| EngineError::Failed {
            operation: format!("finding the way to `{url}`"),
            source: Box::new(source),
        })?;
        Ok(address.ip())
    }

    /// Reads credentials and addresses.
    pub(crate) async fn read(&self) -> Result<kube::Config, EngineError> {
        let failed = |operation: String, source: Box<dyn std::error::Error + Send + Sync>| {
            EngineError::Failed { operation, source }
        };
        match self {
            Access::InCluster => kube::Config::incluster().map_err(|error| {
                failed("reading the pod's service account".to_owned(), error.into())
            }),
            Access::File(path) => {
                let what = || format!("reading the kubeconfig `{}`", path.display());
                let file =
                    Kubeconfig::read_from(path).map_err(|error| failed(what(), error.into()))?;
                kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                    .await
                    .map_err(|error| failed(what(), error.into()))
            }
        }
    }
}
