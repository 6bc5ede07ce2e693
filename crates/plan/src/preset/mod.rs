//! What each framework's launcher wants to find in its environment, given who runs where.
//!
//! One file per framework; every file has the same functions. `roles` are group names that the
//! framework gives a meaning to; a group of another name is a plain worker. Ports that only the
//! framework needs are named here, so that they are allocated together with the placement.
//!
//! Rank order is the order of the groups in the spec, then the index within the group.

mod dmlc;
mod moonshot;
mod mpi;
mod pytorch;
mod tensorflow;
mod xgboost;

use crate::job::{GroupSpec, Success, SuccessRule};
use base::Index;
use std::collections::BTreeMap;
use std::fmt;

pub(crate) use moonshot::{JobWords, app_env};

/// A framework whose launcher's conventions are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Framework {
    /// None: only the platform's own variables.
    Custom,
    /// XGBoost's collective; rank 0 runs the tracker.
    Xgboost,
    /// TensorFlow's `TF_CONFIG`.
    Tensorflow,
    /// PyTorch's `env://` rendezvous.
    Pytorch,
    /// Open MPI and MPICH, launched through `moonshot rsh`.
    Mpi,
    /// MXNet's parameter server (ps-lite).
    Mxnet,
    /// Caffe over ps-lite.
    Caffe,
    /// Anything else over ps-lite.
    PsLite,
}

/// A port that a member needs although its spec does not declare it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortNeed {
    /// Its name.
    pub name: &'static str,
    /// The number used where each replica has its own address.
    pub number: u16,
}

/// A member as the others reach it.
#[derive(Clone, Debug)]
pub(crate) struct Peer<'a> {
    pub(crate) group: &'a str,
    pub(crate) index: Index,
    pub(crate) host: &'a str,
    /// Allocated numbers; empty where the member has its own address.
    pub(crate) ports: &'a BTreeMap<String, u16>,
    /// The numbers that its template declares, in order.
    pub(crate) declared: Vec<(&'a str, u16)>,
}

/// All members of an attempt, in rank order.
pub(crate) struct Gang<'a> {
    pub(crate) peers: Vec<Peer<'a>>,
}

impl Framework {
    /// All frameworks.
    pub const ALL: [Framework; 8] = [
        Framework::Custom,
        Framework::Xgboost,
        Framework::Tensorflow,
        Framework::Pytorch,
        Framework::Mpi,
        Framework::Mxnet,
        Framework::Caffe,
        Framework::PsLite,
    ];

    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Framework::Custom => "custom",
            Framework::Xgboost => "xgboost",
            Framework::Tensorflow => "tensorflow",
            Framework::Pytorch => "pytorch",
            Framework::Mpi => "mpi",
            Framework::Mxnet => "mxnet",
            Framework::Caffe => "caffe",
            Framework::PsLite => "ps-lite",
        }
    }

    /// The framework with this word.
    pub fn from_word(word: &str) -> Option<Framework> {
        Framework::ALL
            .into_iter()
            .find(|framework| framework.as_str() == word)
    }

    /// The ports that a member needs beyond those its template declares. A name that the template
    /// declares is not listed again.
    pub fn ports(self, groups: &[GroupSpec], group: &str, index: Index) -> Vec<PortNeed> {
        let leads = groups
            .first()
            .is_some_and(|first| first.name == group && index == Index(0));
        let needs: &[PortNeed] = match self {
            Framework::Custom | Framework::Mpi => &[],
            Framework::Xgboost => xgboost::ports(leads),
            Framework::Tensorflow => tensorflow::ports(),
            Framework::Pytorch => pytorch::ports(leads),
            Framework::Mxnet | Framework::Caffe | Framework::PsLite => {
                dmlc::ports(dmlc::runs_scheduler(groups, group, index))
            }
        };
        let declares = |name: &str| {
            groups
                .iter()
                .filter(|spec| spec.name == group)
                .any(|spec| spec.template.ports.iter().any(|port| port.name == name))
        };
        needs
            .iter()
            .copied()
            .filter(|need| !declares(need.name))
            .collect()
    }

    /// Who decides about success where the spec does not say: those that do the work, not those that
    /// serve it for ever.
    pub fn success(self, groups: &[GroupSpec]) -> Success {
        let all = |groups: Vec<String>| Success {
            groups,
            rule: SuccessRule::All,
        };
        let named = |names: &[&str]| -> Vec<String> {
            groups
                .iter()
                .map(|group| group.name.clone())
                .filter(|name| names.contains(&name.as_str()))
                .collect()
        };
        let but = |names: &[&str]| -> Vec<String> {
            groups
                .iter()
                .map(|group| group.name.clone())
                .filter(|name| !names.contains(&name.as_str()))
                .collect()
        };
        let everyone = || groups.iter().map(|group| group.name.clone()).collect();
        let deciding = match self {
            Framework::Custom | Framework::Xgboost | Framework::Pytorch => everyone(),
            Framework::Tensorflow => match named(&tensorflow::CHIEFS) {
                chiefs if chiefs.is_empty() => but(&tensorflow::SERVERS),
                chiefs => chiefs,
            },
            Framework::Mpi => match named(&[mpi::LAUNCHER]) {
                launcher if launcher.is_empty() => {
                    return Success {
                        groups: everyone().into_iter().take(1).collect(),
                        rule: SuccessRule::Index0,
                    };
                }
                launcher => launcher,
            },
            Framework::Mxnet | Framework::Caffe | Framework::PsLite => but(&dmlc::SERVERS),
        };
        if deciding.is_empty() {
            all(everyone())
        } else {
            all(deciding)
        }
    }

    /// The framework's variables of the member with this rank.
    pub(crate) fn env(self, gang: &Gang<'_>, rank: usize) -> Vec<(String, String)> {
        match self {
            Framework::Custom => Vec::new(),
            Framework::Xgboost => xgboost::env(gang, rank),
            Framework::Tensorflow => tensorflow::env(gang, rank),
            Framework::Pytorch => pytorch::env(gang, rank),
            Framework::Mpi => mpi::env(gang),
            Framework::Mxnet | Framework::Caffe | Framework::PsLite => dmlc::env(gang, rank),
        }
    }
}

impl fmt::Display for Framework {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Peer<'_> {
    /// Its number for a port: the allocated one, else the declared one, else the framework's own.
    fn port(&self, need: PortNeed) -> u16 {
        self.ports.get(need.name).copied().unwrap_or_else(|| {
            self.declared
                .iter()
                .find(|(name, _)| *name == need.name)
                .map_or(need.number, |(_, number)| *number)
        })
    }

    /// `host:port` of its first declared port, or of `otherwise`, or the host alone.
    fn address(&self, otherwise: Option<PortNeed>) -> String {
        let number = match self.declared.first() {
            Some((name, number)) => Some(self.ports.get(*name).copied().unwrap_or(*number)),
            None => otherwise.map(|need| self.port(need)),
        };
        match number {
            Some(number) => format!("{}:{number}", self.host),
            None => self.host.to_owned(),
        }
    }
}

impl Gang<'_> {
    /// The platform's variables and the framework's, for the member with this rank.
    pub(crate) fn member_env(
        &self,
        framework: Framework,
        job: &JobWords<'_>,
        rank: usize,
    ) -> Vec<(String, String)> {
        let mut env = moonshot::job_env(self, framework, job, rank);
        env.extend(framework.env(self, rank));
        env
    }
}

/// Builds a variable.
fn var(name: &str, value: impl fmt::Display) -> (String, String) {
    (name.to_owned(), value.to_string())
}

#[cfg(test)]
mod tests;
