//! Starts the components in order and waits until the cluster is usable.

use super::build::Programs;
use super::layout::{BRIDGE, Layout, NODE, Port, SERVICES};
use super::process::{await_that, start as spawn};
use super::{Options, image, network, traces};
use crate::sh::{self, Done};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// For one component to answer. On a busy machine everything takes several times as long.
const PATIENCE: Duration = Duration::from_secs(120);

/// Starts everything.
pub(super) fn start(layout: &Layout, programs: &Programs, options: &Options) -> Done {
    certificates(layout, programs)?;
    if layout.with_node {
        traces::note(layout)?;
        network::make(layout)?;
        containerd(layout, programs)?;
    }
    etcd(layout, programs)?;
    api_server(layout, programs)?;
    let ready = |path: &str| answers(&mut kubectl(layout, programs, &["get", "--raw", path]));
    await_that(layout, "the API server is ready", PATIENCE, || {
        ready("/readyz")
    })?;
    controller_manager(layout, programs)?;
    scheduler(layout, programs)?;
    if options.n_kwok.is_some() {
        kwok(layout, programs)?;
    }
    if layout.with_node {
        node(layout, programs, options.moonshot.as_deref())?;
    }
    await_that(
        layout,
        "the default service account exists",
        PATIENCE,
        || ready("/api/v1/namespaces/default/serviceaccounts/default"),
    )
}

fn kubectl(layout: &Layout, programs: &Programs, args: &[&str]) -> Command {
    let mut command = programs.command("kubectl");
    command
        .args(args)
        .env("KUBECONFIG", layout.kubeconfig("admin"));
    command
}

fn answers(command: &mut Command) -> bool {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn certificates(layout: &Layout, programs: &Programs) -> Done {
    let mut pki = programs.command("kube");
    pki.args(["pki", "--dir", &layout.path(""), "--server", &layout.url()])
        .args([
            "--address",
            &format!("127.0.0.1,10.96.0.1,{}", layout.address()),
        ]);
    if layout.with_node {
        pki.args(["--node", NODE]);
    }
    sh::run(&mut pki)
}

fn etcd(layout: &Layout, programs: &Programs) -> Done {
    let clients = format!("http://127.0.0.1:{}", layout.port(Port::Etcd));
    let peers = format!("http://127.0.0.1:{}", layout.port(Port::EtcdPeer));
    let mut etcd = programs.command("etcd");
    etcd.args(["--data-dir", &layout.path("etcd")])
        // A test cluster does not outlive the machine.
        .args([
            "--unsafe-no-fsync",
            "--log-level",
            "warn",
            "--quota-backend-bytes",
            "4294967296",
        ])
        .args([
            "--listen-client-urls",
            &clients,
            "--advertise-client-urls",
            &clients,
        ])
        .args([
            "--listen-peer-urls",
            &peers,
            "--initial-advertise-peer-urls",
            &peers,
        ])
        .args(["--initial-cluster", &format!("default={peers}")]);
    spawn(layout, "etcd", &mut etcd)
}

fn api_server(layout: &Layout, programs: &Programs) -> Done {
    let pki = |name: &str| layout.path(&format!("pki/{name}"));
    // An address on loopback cannot be the endpoint of a Service.
    let reconciler = if layout.with_node { "lease" } else { "none" };
    let mut api = programs.command("kube-apiserver");
    api.args([
        "--etcd-servers",
        &format!("http://127.0.0.1:{}", layout.port(Port::Etcd)),
    ])
    .args([
        "--bind-address",
        layout.address(),
        "--advertise-address",
        layout.address(),
    ])
    .args(["--secure-port", &layout.port(Port::Api).to_string()])
    .args([
        "--service-cluster-ip-range",
        SERVICES,
        "--endpoint-reconciler-type",
        reconciler,
    ])
    .args(["--allow-privileged", "--authorization-mode", "Node,RBAC"])
    .args([
        "--enable-admission-plugins",
        "NodeRestriction",
        "--profiling=false",
    ])
    .args(["--client-ca-file", &pki("ca.crt")])
    .args([
        "--tls-cert-file",
        &pki("apiserver.crt"),
        "--tls-private-key-file",
        &pki("apiserver.key"),
    ])
    .args([
        "--kubelet-client-certificate",
        &pki("apiserver-kubelet.crt"),
    ])
    .args(["--kubelet-client-key", &pki("apiserver-kubelet.key")])
    .args(["--kubelet-preferred-address-types", "InternalIP"])
    .args(["--service-account-issuer", "https://kubernetes.default.svc"])
    .args([
        "--service-account-key-file",
        &pki("sa.pub"),
        "--service-account-signing-key-file",
        &pki("sa.key"),
    ]);
    if layout.with_node {
        // Beside the kubeconfig: a test reads which rights were used.
        layout.configure("audit.yaml", "audit.yaml")?;
        api.args(["--audit-policy-file", &layout.path("conf/audit.yaml")])
            .args(["--audit-log-path", &layout.path("audit.log")]);
    }
    spawn(layout, "kube-apiserver", &mut api)
}

/// Metrics without a certificate; no election among one.
fn alone(command: &mut Command, port: u16) {
    command
        .args([
            "--bind-address",
            "127.0.0.1",
            "--secure-port",
            &port.to_string(),
        ])
        .args([
            "--authorization-always-allow-paths",
            "/metrics,/healthz",
            "--authentication-skip-lookup",
        ]);
}

fn controller_manager(layout: &Layout, programs: &Programs) -> Done {
    let pki = |name: &str| layout.path(&format!("pki/{name}"));
    let mut kcm = programs.command("kube-controller-manager");
    kcm.args([
        "--kubeconfig",
        &layout.path("kcm.conf"),
        "--leader-elect=false",
    ])
    .args(["--use-service-account-credentials"])
    .args([
        "--service-account-private-key-file",
        &pki("sa.key"),
        "--root-ca-file",
        &pki("ca.crt"),
    ])
    .args([
        "--cluster-signing-cert-file",
        &pki("ca.crt"),
        "--cluster-signing-key-file",
        &pki("ca.key"),
    ])
    .args(["--kube-api-qps", "1000", "--kube-api-burst", "2000"]);
    alone(&mut kcm, layout.port(Port::ControllerManager));
    spawn(layout, "kube-controller-manager", &mut kcm)
}

fn scheduler(layout: &Layout, programs: &Programs) -> Done {
    layout.configure("scheduler.yaml", "scheduler.yaml")?;
    let mut scheduler = programs.command("kube-scheduler");
    scheduler.args(["--config", &layout.path("conf/scheduler.yaml")]);
    alone(&mut scheduler, layout.port(Port::Scheduler));
    spawn(layout, "kube-scheduler", &mut scheduler)
}

fn kwok(layout: &Layout, programs: &Programs) -> Done {
    let port = layout.port(Port::Kwok).to_string();
    let mut kwok = programs.command("kwok");
    kwok.args(["--kubeconfig", &layout.path("admin.conf")])
        .args([
            "--manage-nodes-with-annotation-selector",
            "kwok.x-k8s.io/node=fake",
        ])
        // Logs of a simulated pod are asked of kwok here, not of an address where nobody is.
        .args([
            "--server-address",
            &format!("127.0.0.1:{port}"),
            "--node-ip",
            "127.0.0.1",
            "--node-port",
            &port,
        ])
        .args([
            "--cidr",
            "10.200.0.1/16",
            "--node-lease-duration-seconds",
            "40",
        ])
        .args(["--tls-cert-file", &layout.path("pki/apiserver.crt")])
        .args(["--tls-private-key-file", &layout.path("pki/apiserver.key")]);
    spawn(layout, "kwok", &mut kwok)
}

fn containerd(layout: &Layout, programs: &Programs) -> Done {
    layout.configure("containerd.toml", "containerd.toml")?;
    layout.configure("cni.conflist", "cni/10-moonshot.conflist")?;
    layout.configure("hosts.toml", "registry/_default/hosts.toml")?;
    let mut containerd = programs.command("containerd");
    containerd.args(["-c", &layout.path("conf/containerd.toml"), "-l", "warn"]);
    spawn(layout, "containerd", &mut containerd)
}

/// Everything that makes this machine a node, up to Ready.
fn node(layout: &Layout, programs: &Programs, moonshot: Option<&Path>) -> Done {
    let ctr = |args: &[&str]| {
        let mut command = programs.command("ctr");
        command
            .args(["-a", &layout.path("containerd.sock"), "-n", "k8s.io"])
            .args(args);
        command
    };
    await_that(layout, "containerd answers", PATIENCE, || {
        answers(&mut ctr(&["images", "ls"]))
    })?;
    // Ours changes with every commit: it is not among those that are kept.
    let agent = image::agent(&layout.dir, &crate::build::pod()?, &crate::build::shim()?)?;
    let server = moonshot.map(|moonshot| image::server(&layout.dir, moonshot));
    let ours = [agent].into_iter().chain(server.transpose()?);
    for image in programs.images().into_iter().chain(ours) {
        let image = image.display().to_string();
        let mut import = ctr(&["images", "import", &image]);
        sh::run(import.stdout(Stdio::null()))?;
    }
    for name in ["Corefile", "kubelet.yaml", "proxy.yaml"] {
        layout.configure(name, name)?;
    }
    let mut coredns = programs.command("coredns");
    coredns.args(["-conf", &layout.path("conf/Corefile")]);
    spawn(layout, "coredns", &mut coredns)?;
    let mut kubelet = programs.command("kubelet");
    kubelet
        .args([
            "--config",
            &layout.path("conf/kubelet.yaml"),
            "--kubeconfig",
            &layout.path("kubelet.conf"),
        ])
        .args([
            "--root-dir",
            &layout.path("kubelet"),
            "--cert-dir",
            &layout.path("kubelet/pki"),
        ])
        .args(["--hostname-override", NODE, "--node-ip", layout.address()]);
    spawn(layout, "kubelet", &mut kubelet)?;
    let mut proxy = programs.command("kube-proxy");
    proxy.args(["--config", &layout.path("conf/proxy.yaml")]);
    spawn(layout, "kube-proxy", &mut proxy)?;
    let mut policies = programs.command("netpol");
    policies.args(["--kubeconfig", &layout.path("admin.conf"), "--node", NODE]);
    spawn(layout, "netpol", &mut policies)?;
    let ready = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
    await_that(
        layout,
        &format!("node {NODE} on {BRIDGE} is ready"),
        PATIENCE,
        || {
            let mut get = kubectl(layout, programs, &["get", "node", NODE, "-o", ready]);
            let output = get.stderr(Stdio::null()).output();
            output.is_ok_and(|output| output.stdout == b"True")
        },
    )
}
