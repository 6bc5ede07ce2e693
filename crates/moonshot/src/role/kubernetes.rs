//! The engine on a Kubernetes, as the settings say.

use base::Net;
use k8s::{Access, Checkpoints, Config, Images};
use server::content::Content;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The user that programs run as where nothing else is said: nobody's.
const USER: u32 = 65_532;
/// Where pods reach the server, if the settings do not say.
const POD_PORT: u16 = 7090;

/// Settings of this engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kubernetes {
    /// `None` inside the cluster.
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Of the platform's own objects.
    pub(crate) namespace: String,
    /// Where pods reach this server (`None`: at the address from which it reaches the cluster), and how they write that.
    pub(crate) pod_listen: Option<SocketAddr>,
    pub(crate) pod_address: Option<String>,
    /// From where servers and gateways outside of the cluster reach pods.
    pub(crate) pod_clients: Vec<Net>,
    pub(crate) image_agent: String,
    pub(crate) image_host: String,
    pub(crate) image_python: String,
    pub(crate) image_server: Option<String>,
    /// The claims in which Jobs keep checkpoints.
    pub(crate) checkpoints: Checkpoints,
    /// The class of GPUs that are claimed.
    pub(crate) gpu_class: Option<String>,
}

impl Kubernetes {
    /// What the engine is opened with.
    pub(crate) async fn config(
        &self,
        data_dir: &Path,
        content: &Arc<Content>,
    ) -> Result<Config, String> {
        let access = match &self.kubeconfig {
            Some(path) => Access::File(path.clone()),
            None => Access::InCluster,
        };
        let listen = match self.pod_listen {
            Some(listen) => listen,
            None => (toward(&access).await?, POD_PORT).into(),
        };
        let mut clients = self.pod_clients.clone();
        // A server in a pod is known by its namespace.
        if self.kubeconfig.is_some()
            && clients.is_empty()
            && let Ok(address) = toward(&access).await
        {
            clients.push(Net::one(address));
        }
        let scratch = data_dir.join("pods");
        std::fs::create_dir_all(&scratch)
            .map_err(|error| format!("cannot make `{}`: {error}", scratch.display()))?;
        Ok(Config {
            access,
            namespace: self.namespace.clone(),
            images: Images {
                agent: self.image_agent.clone(),
                host: self.image_host.clone(),
                python: self.image_python.clone(),
                server: self.image_server.clone(),
            },
            listen,
            advertise: self.pod_address.clone(),
            clients,
            checkpoints: self.checkpoints.clone(),
            gpu_class: self.gpu_class.clone(),
            user: USER,
            scratch,
            sink: Arc::clone(content) as Arc<dyn engine::OutputSink>,
            content: Arc::clone(content) as Arc<dyn engine::Content>,
        })
    }
}

/// This machine's address on the way to the cluster.
async fn toward(access: &Access) -> Result<IpAddr, String> {
    let address = access.local_address().await;
    let address = address.map_err(|error| super::server::chain(&error))?;
    if address.is_loopback() {
        return Err(
            "the cluster is reached over the loopback, where pods cannot come back: say with MOONSHOT_POD_LISTEN where they reach this server"
                .to_owned(),
        );
    }
    Ok(address)
}
