//! XGBoost's collective (`xgboost.collective`, `xgboost.tracker`, from 2.1).
//!
//! Rank 0 starts `RabitTracker(host_ip=…, port=…, n_workers=…)`; every member then enters
//! `CommunicatorContext(dmlc_tracker_uri=…, dmlc_tracker_port=…, dmlc_task_id=…)`. The library takes
//! these as arguments and does not read the environment, so a program passes the variables on; the
//! names are those of the tracker's own `worker_args()` in upper case. With `sortby="task"` ranks
//! follow the task ids, which are therefore padded: they are compared as text.

use super::{Gang, PortNeed, var};

/// Where rank 0's tracker listens; the number is that of dmlc-core's tracker.
const TRACKER: PortNeed = PortNeed {
    name: "tracker",
    number: 9091,
};

pub(super) fn ports(leads: bool) -> &'static [PortNeed] {
    if leads { &[TRACKER] } else { &[] }
}

pub(super) fn env(gang: &Gang<'_>, rank: usize) -> Vec<(String, String)> {
    let tracker = &gang.peers[0];
    vec![
        var("DMLC_TRACKER_URI", tracker.host),
        var("DMLC_TRACKER_PORT", tracker.port(TRACKER)),
        var("DMLC_NUM_WORKER", gang.peers.len()),
        var("DMLC_TASK_ID", format!("{rank:06}")),
    ]
}
