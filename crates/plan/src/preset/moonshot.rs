//! The platform's own variables. Every replica has them, whatever its framework.

use super::{Framework, Gang, PortNeed, dmlc, pytorch, tensorflow, var, xgboost};
use base::{Attempt, Index};

/// What the variables say about the Job as a whole.
pub(crate) struct JobWords<'a> {
    pub(crate) name: &'a str,
    pub(crate) project: &'a str,
    pub(crate) attempt: Attempt,
    /// The array's index and count.
    pub(crate) array: Option<(Index, u32)>,
}

/// Variables of a Job's member. `MOONSHOT_HOSTS` lists `host:port` of every member in rank order,
/// with the first port that the member declares, else the one its framework needs.
pub(super) fn job_env(
    gang: &Gang<'_>,
    framework: Framework,
    job: &JobWords<'_>,
    rank: usize,
) -> Vec<(String, String)> {
    let me = &gang.peers[rank];
    let hosts: Vec<String> = gang
        .peers
        .iter()
        .enumerate()
        .map(|(rank, peer)| peer.address(first_need(framework, rank)))
        .collect();
    let mut env = vec![
        var("MOONSHOT_JOB", job.name),
        var("MOONSHOT_PROJECT", job.project),
        var("MOONSHOT_GROUP", me.group),
        var("MOONSHOT_INDEX", me.index),
        var("MOONSHOT_RANK", rank),
        var("MOONSHOT_WORLD_SIZE", gang.peers.len()),
        var("MOONSHOT_ATTEMPT", job.attempt),
        var("MOONSHOT_HOSTS", hosts.join(",")),
    ];
    if let Some((index, count)) = job.array {
        env.push(var("MOONSHOT_ARRAY_INDEX", index));
        env.push(var("MOONSHOT_ARRAY_COUNT", count));
    }
    env
}

/// Variables of an App's replica.
pub(crate) fn app_env(
    name: &str,
    project: &str,
    revision: u32,
    index: Index,
    attempt: Attempt,
) -> Vec<(String, String)> {
    vec![
        var("MOONSHOT_APP", name),
        var("MOONSHOT_PROJECT", project),
        var("MOONSHOT_REVISION", revision),
        var("MOONSHOT_INDEX", index),
        var("MOONSHOT_ATTEMPT", attempt),
    ]
}

/// The port that stands for a member which declares none.
fn first_need(framework: Framework, rank: usize) -> Option<PortNeed> {
    let needs: &[PortNeed] = match framework {
        Framework::Custom | Framework::Mpi => &[],
        Framework::Xgboost => xgboost::ports(rank == 0),
        Framework::Tensorflow => tensorflow::ports(),
        Framework::Pytorch => pytorch::ports(rank == 0),
        Framework::Mxnet | Framework::Caffe | Framework::PsLite => dmlc::ports(false),
    };
    needs.first().copied()
}
