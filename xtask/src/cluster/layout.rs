//! Where a cluster keeps what, and which addresses and ports it uses. Written to `DIR/settings` when the cluster is made,
//! so that `down` and `status` know what they look at.

use super::Options;
use crate::sh::{Done, Failure};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

/// Name of the node that runs pods.
pub(super) const NODE: &str = "real-0";
/// Its bridge: gateway of the pods, address of the node and of the API server.
pub(super) const BRIDGE: &str = "moonshot0";
const BRIDGE_ADDRESS: &str = "10.244.0.1";
/// Addresses of pods on the node.
pub(super) const PODS: &str = "10.244.0.0/24";
/// Addresses of Services.
pub(super) const SERVICES: &str = "10.96.0.0/16";
/// Addresses of kwok's pods, where nobody is.
pub(super) const KWOK_PODS: &str = "10.200.0.0/16";
/// Consecutive ports: API server, etcd for clients and for peers, controller manager, scheduler, kwok.
const N_PORTS: u16 = 6;
/// Where a free run of ports is looked for.
const PORTS: std::ops::Range<u16> = 16_443..24_000;

/// One cluster on disk.
pub(super) struct Layout {
    /// Everything that it writes.
    pub(super) dir: PathBuf,
    /// Whether it has a node that runs pods.
    pub(super) with_node: bool,
    /// The first of its ports.
    port: u16,
}

/// Which of the ports.
#[derive(Clone, Copy)]
pub(super) enum Port {
    Api = 0,
    Etcd = 1,
    EtcdPeer = 2,
    ControllerManager = 3,
    Scheduler = 4,
    Kwok = 5,
}

impl Layout {
    /// Makes the directory of a new cluster; refuses one that is in use.
    pub(super) fn create(options: &Options) -> Done<Layout> {
        let dir = options.dir.clone();
        if dir.join("settings").exists() {
            return Err(Failure::new(format!(
                "`{0}` has a cluster; `cargo xtask cluster down --dir {0}` removes it",
                dir.display()
            )));
        }
        let other_node = Path::new("/sys/class/net").join(BRIDGE);
        if options.with_node && other_node.exists() {
            return Err(Failure::new(format!(
                "this machine has a cluster with a node already (bridge `{BRIDGE}`)"
            )));
        }
        let layout = Layout {
            port: free_ports()?,
            with_node: options.with_node,
            dir,
        };
        for part in ["log", "pids", "conf/cni", "conf/registry/_default"] {
            let path = layout.dir.join(part);
            fs::create_dir_all(&path).map_err(|error| failed(&path, &error))?;
        }
        let settings = layout.dir.join("settings");
        fs::write(&settings, format!("{} {}\n", layout.port, layout.with_node))
            .map_err(|error| failed(&settings, &error))?;
        Ok(layout)
    }

    /// The cluster in this directory.
    pub(super) fn find(dir: &Path) -> Done<Layout> {
        let settings = dir.join("settings");
        let none = || Failure::new(format!("there is no cluster in `{}`", dir.display()));
        let text = fs::read_to_string(&settings).map_err(|_| none())?;
        let mut words = text.split_whitespace();
        let port = words.next().and_then(|word| word.parse().ok());
        let with_node = words.next().and_then(|word| word.parse().ok());
        let (Some(port), Some(with_node)) = (port, with_node) else {
            return Err(none());
        };
        Ok(Layout {
            dir: dir.to_owned(),
            with_node,
            port,
        })
    }

    /// Where the API server listens.
    pub(super) fn address(&self) -> &'static str {
        if self.with_node {
            BRIDGE_ADDRESS
        } else {
            "127.0.0.1"
        }
    }

    pub(super) fn port(&self, which: Port) -> u16 {
        self.port + which as u16
    }

    /// Of the API server.
    pub(super) fn url(&self) -> String {
        format!("https://{}:{}", self.address(), self.port(Port::Api))
    }

    /// A path as an argument.
    pub(super) fn path(&self, part: &str) -> String {
        self.dir.join(part).display().to_string()
    }

    /// `admin`, `kcm`, `scheduler`, `proxy`, `kubelet`.
    pub(super) fn kubeconfig(&self, client: &str) -> PathBuf {
        self.dir.join(format!("{client}.conf"))
    }

    /// Fills in a file of `testing/kube/conf`.
    pub(super) fn configure(&self, name: &str, to: &str) -> Done {
        let from = crate::sh::root().join("testing/kube/conf").join(name);
        let text = fs::read_to_string(&from).map_err(|error| failed(&from, &error))?;
        let filled = [
            ("@DIR@", self.dir.display().to_string()),
            ("@ADDRESS@", self.address().to_owned()),
            ("@BRIDGE@", BRIDGE.to_owned()),
            ("@PODS@", PODS.to_owned()),
            ("@NODE@", NODE.to_owned()),
        ]
        .iter()
        .fold(text, |text, (mark, value)| text.replace(mark, value));
        let to = self.dir.join("conf").join(to);
        fs::write(&to, filled).map_err(|error| failed(&to, &error))
    }
}

/// An error about a path.
pub(super) fn failed(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("`{}`: {error}", path.display()))
}

/// The first of [`N_PORTS`] consecutive free ports. They are taken a moment later: two clusters that start in the
/// same instant may meet, and the second then fails to start.
fn free_ports() -> Done<u16> {
    // Beginning at a place of this process's own keeps those that start together apart.
    let slots = (PORTS.end - PORTS.start) / N_PORTS;
    let first = u16::try_from(std::process::id() % u32::from(slots)).unwrap_or(0);
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    (0..slots)
        .map(|n| PORTS.start + (first + n) % slots * N_PORTS)
        .find(|start| (*start..start + N_PORTS).all(is_free))
        .ok_or_else(|| Failure::new("no free ports were found"))
}
