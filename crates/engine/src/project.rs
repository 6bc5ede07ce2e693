//! What a Project is kept to: who may reach its programs, what they may reach, and where their images come from. It belongs to
//! no Group: it changes while Groups run.

use base::Net;

/// A Project as an engine knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Project {
    /// Its name, as in [`crate::Group::project`].
    pub name: String,
    /// The tenant's name.
    pub tenant: String,
    /// What its pods may ask of a node; `None` where nobody said.
    pub pod_security: Option<PodSecurity>,
    /// Who may reach its programs, and what they may reach; `None` where nobody said.
    pub network: Option<Network>,
    /// Where images are pulled from, and with what.
    pub registries: Vec<Registry>,
}

impl Project {
    /// One of which nobody said anything.
    pub fn plain(name: &str, tenant: &str) -> Project {
        Project {
            name: name.to_owned(),
            tenant: tenant.to_owned(),
            pod_security: None,
            network: None,
            registries: Vec::new(),
        }
    }
}

/// A profile of Kubernetes' Pod Security Standards, the strictest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PodSecurity {
    /// Nothing beyond what a program needs.
    Restricted,
    /// No known way to more rights.
    Baseline,
    /// Everything.
    Privileged,
}

impl PodSecurity {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            PodSecurity::Restricted => "restricted",
            PodSecurity::Baseline => "baseline",
            PodSecurity::Privileged => "privileged",
        }
    }
}

/// Beyond the Project itself, the server and the gateway, which are always reached and always reach.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Network {
    /// Who may connect to its programs.
    pub ingress: Vec<Peer>,
    /// What its programs may connect to; `None` for everything.
    pub egress: Option<Vec<Peer>>,
}

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Who.
    pub end: PeerEnd,
    /// TCP ports that are connected to; empty for every port and protocol.
    pub ports: Vec<u16>,
}

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PeerEnd {
    /// Programs of another Project.
    Project(String),
    /// Addresses.
    Net(Net),
}

/// A registry of images.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Registry {
    /// Its host, as in image names.
    pub host: String,
    /// Where it is pulled from instead.
    pub mirror: Option<String>,
    /// The Project's Secret with the entries `username` and `password`, and its version.
    pub secret: Option<(String, u32)>,
}
