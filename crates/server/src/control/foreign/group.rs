//! A PodGroup between its row and the scheduler. Pure.
//!
//! Members that ask for the same are one group of the task; a member's seat follows from its place in the spec, which does
//! not change once the task is made.

use super::super::OwnerKind;
use super::super::convert;
use super::super::scheduler::{TaskGroup, TaskOwner};
use api::common::{TaintEffect, TolerationSpec};
use api::pods::{PodGroupSpec, PodMember, PodRelation, PodRelationKind};
use base::{Attempt, Index, Resources, Span};
use db::objects::Object;
use engine::{ForeignPod, RelationKind};
use sched::TaskId;

/// The one restart unit of a PodGroup.
pub const UNIT: &str = "gang";
/// A PodGroup is tried once: other pods are another PodGroup.
pub const ATTEMPT: Attempt = Attempt(1);
/// For pods that are evicted, as Kubernetes' default.
pub const GRACE: Span = Span::from_secs(30);

/// A pod as it is written down.
pub fn member(pod: &ForeignPod) -> PodMember {
    let effect = |effect| match effect {
        engine::TaintEffect::NoSchedule => TaintEffect::NoSchedule,
        engine::TaintEffect::PreferNoSchedule => TaintEffect::PreferNoSchedule,
        engine::TaintEffect::NoExecute => TaintEffect::NoExecute,
    };
    let tolerations = pod.tolerations.iter().map(|toleration| TolerationSpec {
        key: toleration.key.clone(),
        value: toleration.value.clone(),
        effect: toleration.effect.map(effect),
    });
    PodMember {
        name: pod.pod.name.clone(),
        uid: pod.pod.uid.clone(),
        request: convert::shown(&pod.request),
        node_selector: pod.node_selector.clone(),
        tolerations: tolerations.collect(),
        relations: pod.relations.iter().map(relation).collect(),
    }
}

/// Whether a pod still asks for the places that were written down. What it asks for of the cluster may change while it waits: which
/// devices its claim has, whom its rules mean.
pub fn asks_as_written(member: &PodMember, pod: &ForeignPod) -> bool {
    let relations = pod.relations.iter().map(relation);
    member.node_selector == pod.node_selector && relations.eq(member.relations.iter().cloned())
}

fn relation(relation: &engine::Relation) -> PodRelation {
    let (kind, max_skew) = match relation.kind {
        RelationKind::Near => (PodRelationKind::Near, None),
        RelationKind::Apart => (PodRelationKind::Apart, None),
        RelationKind::Spread(skew) => (PodRelationKind::Spread, Some(skew)),
    };
    PodRelation {
        kind,
        key: relation.key.clone(),
        level: relation.label.clone(),
        max_skew,
    }
}

/// Each pod carries the keys that it names: they hold between pods that name the same.
fn affinity(relations: &[PodRelation]) -> sched::Affinity {
    let mut affinity = sched::Affinity::default();
    for relation in relations {
        let (key, label) = (relation.key.clone(), relation.level.clone());
        if !affinity.keys.contains(&key) {
            affinity.keys.push(key.clone());
        }
        match relation.kind {
            PodRelationKind::Near => affinity.prefer_with.push((key, label)),
            PodRelationKind::Apart => affinity.against.push((key, label)),
            PodRelationKind::Spread => affinity.spread.push(sched::Spread {
                key,
                label,
                skew_max: relation.max_skew.unwrap_or(1),
                // The engine guards it: it knows which nodes count.
                required: false,
            }),
        }
    }
    affinity
}

/// Positions of the members in each group of the task.
fn classes(spec: &PodGroupSpec) -> Vec<Vec<usize>> {
    let asks = |at: usize| {
        let PodMember {
            request,
            node_selector,
            tolerations,
            relations,
            ..
        } = &spec.pods[at];
        (request, node_selector, tolerations, relations)
    };
    let mut classes: Vec<Vec<usize>> = Vec::new();
    for at in 0..spec.pods.len() {
        match classes.iter_mut().find(|class| asks(class[0]) == asks(at)) {
            Some(class) => class.push(at),
            None => classes.push(vec![at]),
        }
    }
    classes
}

fn group_name(class: usize) -> String {
    format!("g{class}")
}

/// The member that holds a seat.
pub fn at_seat<'a>(spec: &'a PodGroupSpec, group: &str, index: Index) -> Option<&'a PodMember> {
    let classes = classes(spec);
    let class: usize = group.strip_prefix('g')?.parse().ok()?;
    let at = classes.get(class)?.get(index.0 as usize)?;
    spec.pods.get(*at)
}

/// The seat of each member, in the order of the spec.
pub fn seats(spec: &PodGroupSpec) -> Vec<(String, Index)> {
    let mut seats = vec![(String::new(), Index(0)); spec.pods.len()];
    for (class, members) in classes(spec).into_iter().enumerate() {
        for (index, at) in (0..).zip(members) {
            seats[at] = (group_name(class), Index(index));
        }
    }
    seats
}

/// The task of a whole PodGroup.
pub fn task(
    object: &Object,
    spec: &PodGroupSpec,
    queue: String,
    task: TaskId,
) -> (sched::TaskSpec, TaskOwner) {
    let mut groups = Vec::new();
    let mut owned = Vec::new();
    for (class, members) in classes(spec).into_iter().enumerate() {
        let first = &spec.pods[members[0]];
        let count = u32::try_from(members.len()).unwrap_or(u32::MAX);
        groups.push(sched::GroupSpec {
            name: group_name(class),
            count,
            min: count,
            request: amount(&first.request),
            gpu_models: Vec::new(),
            gpu_memory: base::Bytes::default(),
            node_selector: first.node_selector.clone(),
            pools: Vec::new(),
            tolerations: first.tolerations.iter().map(convert::toleration).collect(),
            affinity: affinity(&first.relations),
            topology: None,
            per_node_max: 0,
        });
        owned.push(TaskGroup {
            name: group_name(class),
            first: Index(0),
            ports: Vec::new(),
        });
    }
    let made = sched::TaskSpec {
        id: task,
        generation: 1,
        name: format!("pods {}/{}", object.project, object.name),
        queue,
        kind: sched::TaskKind::Foreign,
        priority: spec.priority,
        submitted: object.created_at,
        groups,
        preemptible: true,
        min_runtime: Span::ZERO,
        grace: GRACE,
        checkpoints: false,
        time_limit: None,
        expected: None,
        disruption: None,
        readmit: false,
    };
    let owner = TaskOwner {
        owner: object.uid,
        kind: OwnerKind::Pods,
        tenant: object.tenant.clone(),
        project: object.project.clone(),
        unit: UNIT.to_owned(),
        attempt: ATTEMPT,
        name: object.name.clone(),
        groups: owned,
    };
    (made, owner)
}

fn amount(spec: &api::platform::AmountSpec) -> Resources {
    Resources {
        cpu: spec.cpu.unwrap_or_default(),
        memory: spec.memory.unwrap_or_default(),
        gpu_milli: convert::gpu_milli(spec.gpu.unwrap_or(0.0)),
        extended: spec.extended.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::MilliCpu;

    #[test]
    fn members_that_ask_for_the_same_sit_together() {
        let member = |name: &str, cpu: u64| PodMember {
            name: name.to_owned(),
            request: api::platform::AmountSpec {
                cpu: Some(MilliCpu(cpu)),
                ..Default::default()
            },
            ..PodMember::default()
        };
        let spec = PodGroupSpec {
            size: 3,
            pods: vec![member("a", 1), member("b", 2), member("c", 1)],
            ..PodGroupSpec::default()
        };
        let seats = seats(&spec);
        let expect =
            [("g0", 0), ("g1", 0), ("g0", 1)].map(|(group, at)| (group.to_owned(), Index(at)));
        assert_eq!(seats, expect);
        for ((group, index), pod) in seats.iter().zip(&spec.pods) {
            assert_eq!(at_seat(&spec, group, *index), Some(pod));
        }
        assert_eq!(at_seat(&spec, "g1", Index(1)), None);
    }

    #[test]
    fn pods_that_name_the_same_key_mean_each_other() {
        let pod = ForeignPod {
            relations: [
                (RelationKind::Apart, "a", "host"),
                (RelationKind::Near, "a", "zone"),
                (RelationKind::Spread(2), "b", "zone"),
            ]
            .map(|(kind, key, label)| engine::Relation {
                kind,
                key: key.to_owned(),
                label: label.to_owned(),
            })
            .into(),
            ..ForeignPod::default()
        };
        let pair = |key: &str, label: &str| (key.to_owned(), label.to_owned());
        let made = affinity(&member(&pod).relations);
        let expect = sched::Affinity {
            against: vec![pair("a", "host")],
            keys: vec!["a".to_owned(), "b".to_owned()],
            prefer_with: vec![pair("a", "zone")],
            spread: vec![sched::Spread {
                key: "b".to_owned(),
                label: "zone".to_owned(),
                skew_max: 2,
                required: false,
            }],
            ..sched::Affinity::default()
        };
        assert_eq!(made, expect);
    }
}
