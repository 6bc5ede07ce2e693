//! An engine on the cluster, which is emptied of ours before each case.

use base::Bytes;
use engine::suite::{Bench, Files, Memory, Program};
use engine::{Engine, Frame, ReplicaKey};
use k8s::{Access, AccessMode, Checkpoints, Config, Images, K8s};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, ListParams, PropagationPolicy};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Where the node's pods reach this machine: the address of its bridge.
const NODE_ADDRESS: &str = "10.244.0.1:0";
/// For old pods to go.
const PATIENCE: Duration = Duration::from_secs(60);
/// Each pod has an address of its own.
const PORT: u16 = 8080;

pub(crate) struct Cluster {
    engine: Arc<K8s>,
    config: Config,
    pub(crate) sink: Arc<Memory>,
    pub(crate) client: Client,
    pub(crate) dir: tempfile::TempDir,
}

impl Cluster {
    pub(crate) async fn fresh() -> Cluster {
        Cluster::keeping(None).await
    }

    /// One that keeps checkpoints in claims of this class.
    pub(crate) async fn keeping(class: Option<&str>) -> Cluster {
        static BENCHES: AtomicU64 = AtomicU64::new(0);
        let n = BENCHES.fetch_add(1, Ordering::Relaxed);
        // Each case begins at epoch 0.
        let namespace = format!("moonshot-{}-{n}", std::process::id());
        Cluster::under(&kubeconfig(), namespace, class).await
    }

    /// An engine with the rights of this kubeconfig; its own objects are in this namespace.
    pub(crate) async fn under(path: &Path, namespace: String, class: Option<&str>) -> Cluster {
        let client = client(&kubeconfig()).await;
        empty(&client).await;
        let dir = tempfile::tempdir().expect("a directory");
        let sink = Arc::new(Memory::default());
        let config = Config {
            access: Access::File(path.to_owned()),
            namespace,
            images: Images {
                agent: "moonshot.test/moonshot:1".to_owned(),
                host: "moonshot.test/busybox:1".to_owned(),
                python: "moonshot.test/python:1".to_owned(),
                server: None,
            },
            listen: NODE_ADDRESS.parse().expect("an address"),
            advertise: None,
            clients: Vec::new(),
            checkpoints: Checkpoints {
                class: class.map(str::to_owned),
                size: Bytes(1 << 20),
                access: AccessMode::ReadWriteOnce,
            },
            gpu_class: None,
            user: 65_532,
            scratch: dir.path().to_owned(),
            sink: Arc::clone(&sink) as Arc<dyn engine::OutputSink>,
            content: Arc::new(Files(dir.path().to_owned())),
        };
        let engine = K8s::open(config.clone())
            .await
            .expect("the cluster is there");
        Cluster {
            engine: Arc::new(engine),
            config,
            sink,
            client,
            dir,
        }
    }

    /// The server goes away and another one comes, on the same address.
    pub(crate) async fn reopen(&mut self) {
        self.engine.close().await;
        self.config.listen = self.engine.listens_on();
        let engine = K8s::open(self.config.clone()).await;
        self.engine = Arc::new(engine.expect("the cluster is there"));
    }

    /// Another server beside the first.
    pub(crate) async fn second(&self) -> K8s {
        let config = Config {
            listen: NODE_ADDRESS.parse().expect("an address"),
            ..self.config.clone()
        };
        K8s::open(config).await.expect("the cluster is there")
    }

    /// The namespace of the platform's own objects, and the port where pods reach the engine.
    pub(crate) fn place(&self) -> (String, u16) {
        let port = self.engine.listens_on().port();
        (self.config.namespace.clone(), port)
    }

    /// The cluster's own objects of the suite's project.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), "suite")
    }
}

/// The administrator's, as the cluster was started with.
pub(crate) fn kubeconfig() -> PathBuf {
    std::env::var_os("KUBECONFIG")
        .expect("`cargo xtask test cluster` sets KUBECONFIG")
        .into()
}

/// A client with the rights of a kubeconfig.
pub(crate) async fn client(path: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(path).expect("a kubeconfig");
    let options = KubeConfigOptions::default();
    let kube = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await;
    Client::try_from(kube.expect("a usable kubeconfig")).expect("a client")
}

/// Deletes everything of ours, without grace.
async fn empty(client: &Client) {
    let ours = ListParams::default().labels("app.kubernetes.io/managed-by=moonshot");
    let now = DeleteParams {
        grace_period_seconds: Some(0),
        propagation_policy: Some(PropagationPolicy::Background),
        ..DeleteParams::default()
    };
    let begun = std::time::Instant::now();
    loop {
        let mut n_left = 0;
        let jobs = Api::<Job>::all(client.clone())
            .list(&ours)
            .await
            .expect("listed");
        for job in jobs.items {
            n_left += 1;
            let api =
                Api::<Job>::namespaced(client.clone(), &job.metadata.namespace.unwrap_or_default());
            let _ = api
                .delete(&job.metadata.name.unwrap_or_default(), &now)
                .await;
        }
        let deployments = Api::<Deployment>::all(client.clone())
            .list(&ours)
            .await
            .expect("listed");
        for deployment in deployments.items {
            n_left += 1;
            let api = Api::<Deployment>::namespaced(
                client.clone(),
                &deployment.metadata.namespace.unwrap_or_default(),
            );
            let _ = api
                .delete(&deployment.metadata.name.unwrap_or_default(), &now)
                .await;
        }
        let pods = Api::<Pod>::all(client.clone())
            .list(&ours)
            .await
            .expect("listed");
        for pod in pods.items {
            n_left += 1;
            let api =
                Api::<Pod>::namespaced(client.clone(), &pod.metadata.namespace.unwrap_or_default());
            let _ = api
                .delete(&pod.metadata.name.unwrap_or_default(), &now)
                .await;
        }
        let claims = Api::<PersistentVolumeClaim>::all(client.clone())
            .list(&ours)
            .await
            .expect("listed");
        for claim in claims.items {
            n_left += 1;
            let api = Api::<PersistentVolumeClaim>::namespaced(
                client.clone(),
                &claim.metadata.namespace.unwrap_or_default(),
            );
            let _ = api
                .delete(&claim.metadata.name.unwrap_or_default(), &now)
                .await;
        }
        if n_left == 0 {
            return;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "{n_left} objects of ours are still there"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

impl Bench for Cluster {
    fn engine(&self) -> Arc<dyn Engine> {
        Arc::clone(&self.engine) as Arc<dyn Engine>
    }

    fn command(&self, program: &Program) -> Vec<String> {
        let sh = |script: String| vec!["sh".to_owned(), "-c".to_owned(), script];
        match program {
            Program::Exit(code) => sh(format!("exit {code}")),
            Program::Signal(signal) => sh(format!("kill -{signal} $$$$")),
            Program::Missing => vec!["no-such-program".to_owned()],
            Program::Lines(n) => sh(format!(
                "i=1; while [ $i -le {n} ]; do echo line $i; i=$((i+1)); done; echo warning >&2"
            )),
            Program::Say(text, names) => {
                let each: Vec<String> = names.iter().map(|name| format!("echo \"${name}\"")).collect();
                let mut words = sh(format!("echo \"$0\"; {}", each.join("; ")));
                words.push(text.clone());
                words
            }
            Program::Sleep => vec!["sleep".to_owned(), "100000".to_owned()],
            Program::Stubborn => sh("trap '' TERM; echo ready; while :; do sleep 1; done".to_owned()),
            Program::Keep(word) => sh(format!(
                "echo found `cat $MOONSHOT_CHECKPOINT/kept 2>/dev/null || echo nothing`; echo {word} > $MOONSHOT_CHECKPOINT/kept"
            )),
            Program::Serve => sh(
                "mkdir -p $HOME/www; echo ok > $HOME/www/index.html; exec httpd -f -p $PORT -h $HOME/www".to_owned(),
            ),
        }
    }

    fn output(&self, key: &ReplicaKey) -> Vec<Frame> {
        self.sink.of(key)
    }

    fn port(&self) -> u16 {
        PORT
    }
}
