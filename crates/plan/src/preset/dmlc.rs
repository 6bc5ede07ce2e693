//! ps-lite's variables, for MXNet, Caffe over ps-lite, and others.
//!
//! From the launcher's source, dmlc-core `tracker/dmlc_tracker/tracker.py` (`PSTracker`:
//! `DMLC_PS_ROOT_URI`, `DMLC_PS_ROOT_PORT`; `submit`: `DMLC_NUM_WORKER`, `DMLC_NUM_SERVER`) and
//! `local.py` (`DMLC_ROLE`; `DMLC_TASK_ID` counts the workers, then the servers); read back by ps-lite
//! `src/postoffice.cc` (role and counts) and `src/van.cc` (root, `DMLC_NODE_HOST`, and `PORT`, without
//! which a node takes any free port).
//!
//! Groups named `server` or `ps` are servers, `scheduler` is the scheduler, any other is a worker. Without
//! a scheduler group, the program of the first member starts the scheduler beside itself on the root port.

use super::{Gang, Peer, PortNeed, var};
use crate::job::GroupSpec;
use base::Index;

/// Groups that serve for ever.
pub(super) const SERVERS: [&str; 3] = ["server", "ps", SCHEDULER];

const SCHEDULER: &str = "scheduler";

/// Where each member listens; the number is ours, ps-lite has none.
const NODE: PortNeed = PortNeed {
    name: "node",
    number: 9100,
};

/// Where the scheduler listens; the number is that of dmlc-core's tracker.
const ROOT: PortNeed = PortNeed {
    name: "root",
    number: 9091,
};

pub(super) fn ports(root: bool) -> &'static [PortNeed] {
    if root { &[NODE, ROOT] } else { &[NODE] }
}

/// Whether this member's host is the scheduler's: the scheduler group's first, else the very first.
pub(super) fn runs_scheduler(groups: &[GroupSpec], group: &str, index: Index) -> bool {
    let root = groups
        .iter()
        .find(|spec| spec.name == SCHEDULER)
        .or(groups.first());
    index == Index(0) && root.is_some_and(|root| root.name == group)
}

pub(super) fn env(gang: &Gang<'_>, rank: usize) -> Vec<(String, String)> {
    let me = &gang.peers[rank];
    let root = gang
        .peers
        .iter()
        .find(|peer| peer.group == SCHEDULER)
        .unwrap_or(&gang.peers[0]);
    let count =
        |wanted: &str, peers: &[Peer<'_>]| peers.iter().filter(|peer| role(peer) == wanted).count();
    let n_workers = count("worker", &gang.peers);
    let place = count(role(me), &gang.peers[..rank]);
    let mut env = vec![
        var("DMLC_ROLE", role(me)),
        var("DMLC_PS_ROOT_URI", root.host),
        var("DMLC_PS_ROOT_PORT", root.port(ROOT)),
        var("DMLC_NUM_WORKER", n_workers),
        var("DMLC_NUM_SERVER", count("server", &gang.peers)),
    ];
    let task = match role(me) {
        "worker" => Some(place),
        "server" => Some(n_workers + place),
        _ => None,
    };
    if let Some(task) = task {
        env.extend([
            var("DMLC_TASK_ID", task),
            var("DMLC_NODE_HOST", me.host),
            var("PORT", me.port(NODE)),
        ]);
    }
    env
}

fn role(peer: &Peer<'_>) -> &'static str {
    match peer.group {
        "server" | "ps" => "server",
        SCHEDULER => SCHEDULER,
        _ => "worker",
    }
}
