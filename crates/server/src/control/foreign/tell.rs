//! Tells people why their pods wait: in the PodGroup's status and as an event of each pod, when the reason changes.

use super::super::{Control, lock};
use super::{say, write};
use crate::usecase::why;
use base::Uid;
use engine::ForeignPod;
use sched::TaskId;

/// Groups that are asked about in one round.
const ASKED_MAX: usize = 64;
/// Pods of one group that get an event.
const PODS_MAX: usize = 32;
/// Reasons that pass by themselves: nobody is told.
const PASSING: [&str; 4] = ["NotYetDecided", "Starting", "Behind", "WaitingForRelease"];

pub(super) async fn tell(control: &Control) {
    let waiting: Vec<(Uid, TaskId)> = {
        let state = lock(&control.foreign.state);
        let mut waiting: Vec<_> = state
            .waiting
            .iter()
            .map(|(uid, task)| (*uid, *task))
            .collect();
        // Those that were never told of first, then the oldest.
        waiting.sort_by_key(|(uid, _)| (state.told.contains_key(uid), *uid));
        waiting.truncate(ASKED_MAX);
        waiting
    };
    if waiting.is_empty() {
        return;
    }
    let tasks = waiting.iter().map(|(_, task)| *task).collect();
    let explanations = control.sched.explain(tasks).await;
    for ((uid, _), explanation) in waiting.iter().zip(&explanations) {
        let Some(why) = why::explained(explanation) else {
            continue;
        };
        if PASSING.contains(&why.reason.as_str()) {
            continue;
        }
        let pods: Vec<ForeignPod> = {
            let mut state = lock(&control.foreign.state);
            if state.told.get(uid) == Some(&why.sentence) {
                continue;
            }
            state.told.insert(*uid, why.sentence.clone());
            let of = |pod: &&ForeignPod| state.group_of.get(&pod.pod.uid) == Some(uid);
            state
                .pods
                .values()
                .filter(of)
                .take(PODS_MAX)
                .cloned()
                .collect()
        };
        if let Err(error) = write::waits(control, *uid, &why.reason, &why.sentence).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot write why pods wait now"
            );
        }
        for pod in &pods {
            say(control, pod, true, "FailedScheduling", &why.sentence).await;
        }
    }
}
