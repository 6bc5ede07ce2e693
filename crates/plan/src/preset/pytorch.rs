//! PyTorch's `env://` rendezvous and the variables that `torchrun` sets
//! (<https://docs.pytorch.org/docs/stable/elastic/run.html#environment-variables>).
//!
//! Each member is one process and so a "node" of its own with one local rank: a member that starts
//! `torchrun` itself uses `NODE_RANK`, `NNODES` and the master's address, one that calls
//! `init_process_group` uses `RANK` and `WORLD_SIZE`.

use super::{Gang, PortNeed, var};

/// Where rank 0 listens; the number is PyTorch's default.
const MASTER: PortNeed = PortNeed {
    name: "master",
    number: 29500,
};

pub(super) fn ports(leads: bool) -> &'static [PortNeed] {
    if leads { &[MASTER] } else { &[] }
}

pub(super) fn env(gang: &Gang<'_>, rank: usize) -> Vec<(String, String)> {
    let master = &gang.peers[0];
    let me = &gang.peers[rank];
    let role_size = gang
        .peers
        .iter()
        .filter(|peer| peer.group == me.group)
        .count();
    let role_rank = gang.peers[..rank]
        .iter()
        .filter(|peer| peer.group == me.group)
        .count();
    let size = gang.peers.len();
    vec![
        var("MASTER_ADDR", master.host),
        var("MASTER_PORT", master.port(MASTER)),
        var("RANK", rank),
        var("WORLD_SIZE", size),
        var("LOCAL_RANK", 0),
        var("LOCAL_WORLD_SIZE", 1),
        var("NODE_RANK", rank),
        var("GROUP_RANK", rank),
        var("NNODES", size),
        var("ROLE_RANK", role_rank),
        var("ROLE_WORLD_SIZE", role_size),
    ]
}
