//! TensorFlow's `TF_CONFIG`, as `tf.distribute.cluster_resolver.TFConfigClusterResolver` reads it
//! (<https://www.tensorflow.org/guide/distributed_training#setting_up_the_tf_config_environment_variable>):
//! `{"cluster": {"worker": ["host:port", …], …}, "task": {"type": "worker", "index": 0}}`.
//!
//! Group names are the task types. The evaluator is not part of the cluster that it evaluates: it
//! finds the others in `cluster` and itself only in `task`, as the guide asks.

use super::{Gang, PortNeed, var};

/// Task types whose end decides about the Job.
pub(super) const CHIEFS: [&str; 2] = ["chief", "master"];
/// Task types that serve, or watch, for ever.
pub(super) const SERVERS: [&str; 2] = ["ps", EVALUATOR];

const EVALUATOR: &str = "evaluator";

/// Where every member's gRPC server listens; the number is that of TensorFlow's own examples.
const RPC: PortNeed = PortNeed {
    name: "rpc",
    number: 2222,
};

pub(super) fn ports() -> &'static [PortNeed] {
    &[RPC]
}

pub(super) fn env(gang: &Gang<'_>, rank: usize) -> Vec<(String, String)> {
    let me = &gang.peers[rank];
    let mut cluster: Vec<(&str, Vec<String>)> = Vec::new();
    for peer in gang.peers.iter().filter(|peer| peer.group != EVALUATOR) {
        let address = format!("\"{}:{}\"", peer.host, peer.port(RPC));
        match cluster.iter_mut().find(|(name, _)| *name == peer.group) {
            Some((_, addresses)) => addresses.push(address),
            None => cluster.push((peer.group, vec![address])),
        }
    }
    // Group names are DNS labels and hosts have no quotes, so nothing needs escaping.
    let cluster: Vec<String> = cluster
        .into_iter()
        .map(|(name, addresses)| format!("\"{name}\": [{}]", addresses.join(", ")))
        .collect();
    let place = gang.peers[..rank]
        .iter()
        .filter(|peer| peer.group == me.group)
        .count();
    vec![var(
        "TF_CONFIG",
        format!(
            "{{\"cluster\": {{{}}}, \"task\": {{\"type\": \"{}\", \"index\": {place}}}}}",
            cluster.join(", "),
            me.group,
        ),
    )]
}
