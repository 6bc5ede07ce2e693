//! What follows for a PodGroup from its rows and from what is seen of its pods. Pure; each step may be repeated.

use super::super::unit_row::{StageRow, UnitRow};
use super::group;
use api::pods::{PodGroupSpec, PodMember};
use base::{Index, Uid};
use db::control::Placement;
use engine::{ForeignPod, PodName};
use std::collections::HashMap;

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A pod gets the node of its placement.
    Bind {
        seat: (String, Index),
        pod: PodName,
        node: String,
    },
    /// It has it.
    Bound { seat: (String, Index) },
    /// A pod that must give its place up is asked to end.
    Evict { pod: PodName },
    /// A placement is free again.
    Release { seat: (String, Index) },
    /// Only these members are left of a gang that gathers.
    Keep { uids: Vec<String> },
    /// The task is taken back: it cannot start as it was asked for.
    Withdraw { task: Uid },
    /// Nothing is left of it; pods that are still there are looked at anew.
    Remove { task: Option<Uid> },
}

/// Pods by uid.
pub type Pods = HashMap<String, ForeignPod>;

/// What to do now.
pub fn steps(
    spec: &PodGroupSpec,
    unit: Option<&UnitRow>,
    placements: &[Placement],
    pods: &Pods,
) -> Vec<Step> {
    let here = |uid: &str| pods.get(uid).filter(|pod| !pod.is_over);
    let stage = unit.map_or(&StageRow::New, |unit| &unit.stage);
    match stage {
        StageRow::Waiting { task, .. } => {
            let mut members = spec.pods.iter();
            let is_as_asked = |member: &PodMember| {
                let pod = here(&member.uid).filter(|pod| pod.node.is_none());
                pod.is_some_and(|pod| group::asks_as_written(member, pod))
            };
            if members.all(is_as_asked) {
                return Vec::new();
            }
            vec![
                Step::Withdraw { task: *task },
                Step::Remove { task: Some(*task) },
            ]
        }
        StageRow::Placed { task, .. } => placed(spec, *task, placements, here),
        StageRow::New
        | StageRow::BackingOff { .. }
        | StageRow::Succeeded
        | StageRow::Failed { .. }
        | StageRow::Stopped => {
            let left: Vec<String> = spec
                .pods
                .iter()
                .filter(|member| here(&member.uid).is_some_and(|pod| pod.node.is_none()))
                .map(|member| member.uid.clone())
                .collect();
            if left.is_empty() {
                vec![Step::Remove { task: None }]
            } else if left.len() < spec.pods.len() {
                vec![Step::Keep { uids: left }]
            } else {
                Vec::new()
            }
        }
    }
}

fn placed<'a>(
    spec: &PodGroupSpec,
    task: Uid,
    placements: &[Placement],
    here: impl Fn(&str) -> Option<&'a ForeignPod>,
) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut n_held = 0;
    for placement in placements.iter().filter(|row| row.state != "released") {
        n_held += 1;
        let seat = (placement.group.clone(), placement.index);
        let member = group::at_seat(spec, &placement.group, placement.index);
        let pod = member.and_then(|member| here(&member.uid));
        let step = match (
            pod,
            pod.and_then(|pod| pod.node.as_deref()),
            placement.state.as_str(),
        ) {
            (None, ..) => Some(Step::Release { seat }),
            (Some(pod), None, "reserved") => Some(Step::Bind {
                seat,
                pod: pod.pod.clone(),
                node: placement.node.clone(),
            }),
            // It was told to go before it had come.
            (Some(_), None, "releasing") => Some(Step::Release { seat }),
            (Some(_), Some(node), _) if node != placement.node => Some(Step::Release { seat }),
            (Some(_), Some(_), "reserved") => Some(Step::Bound { seat }),
            (Some(pod), Some(_), "releasing") => Some(Step::Evict {
                pod: pod.pod.clone(),
            }),
            (Some(_), ..) => None,
        };
        if matches!(step, Some(Step::Release { .. })) {
            n_held -= 1;
        }
        steps.extend(step);
    }
    if n_held == 0 {
        steps.push(Step::Remove { task: Some(task) });
    }
    steps
}

/// What follows where no member can be bound as it was placed: everything is given back, and the pods are looked at anew.
pub fn given_back(placements: &[Placement]) -> Vec<Step> {
    let held = placements.iter().filter(|row| row.state != "released");
    let task = placements.first().map(|placement| placement.task);
    let releases = held.map(|placement| Step::Release {
        seat: (placement.group.clone(), placement.index),
    });
    releases.chain([Step::Remove { task }]).collect()
}

#[cfg(test)]
mod tests {
    use super::super::gather::tests::pod;
    use super::*;
    use base::{Attempt, Epoch, Time};
    use engine::Gang;
    use serde_json::json;

    fn placement(index: u32, node: &str, state: &str) -> Placement {
        Placement {
            owner: Uid(1),
            group: "g0".to_owned(),
            index: Index(index),
            attempt: Attempt(1),
            task: Uid(2),
            tenant: String::new(),
            project: "lab".to_owned(),
            cluster: "k8s".to_owned(),
            unit: group::UNIT.to_owned(),
            node: node.to_owned(),
            devices: json!([]),
            ports: json!({}),
            state: state.to_owned(),
            deadline: None,
            reason: String::new(),
            epoch: Epoch(1),
            created_at: Time::from_ms(0),
            ended_at: None,
            ending: json!({}),
        }
    }

    /// Members are `a` and `b`; what is seen of them, `None` for gone, else the node.
    fn check(
        stage: StageRow,
        placements: &[Placement],
        seen: [Option<Option<&str>>; 2],
        expect: &[&str],
    ) {
        let names = ["a", "b"];
        let spec = PodGroupSpec {
            size: 2,
            pods: names
                .map(|name| group::member(&pod(name, Gang::Single)))
                .to_vec(),
            ..PodGroupSpec::default()
        };
        let mut pods = Pods::new();
        for (name, seen) in names.into_iter().zip(seen) {
            if let Some(node) = seen {
                let node = node.map(str::to_owned);
                let pod = ForeignPod {
                    node,
                    ..pod(name, Gang::Single)
                };
                pods.insert(pod.pod.uid.clone(), pod);
            }
        }
        let unit = UnitRow {
            stage,
            ..UnitRow::new()
        };
        let shown = |step: &Step| match step {
            Step::Bind { pod, node, .. } => format!("bind {} {node}", pod.name),
            Step::Bound { seat } => format!("bound {}", seat.1),
            Step::Evict { pod } => format!("evict {}", pod.name),
            Step::Release { seat } => format!("release {}", seat.1),
            Step::Keep { uids } => format!("keep {}", uids.join(" ")),
            Step::Withdraw { .. } => "withdraw".to_owned(),
            Step::Remove { .. } => "remove".to_owned(),
        };
        let steps: Vec<String> = steps(&spec, Some(&unit), placements, &pods)
            .iter()
            .map(shown)
            .collect();
        assert_eq!(steps, expect);
    }

    /// A pod that asks for other places while it waits is gathered anew.
    #[test]
    fn what_asks_for_something_else_is_taken_back() {
        let asked = pod("a", Gang::Single);
        let spec = PodGroupSpec {
            size: 1,
            pods: vec![group::member(&asked)],
            ..PodGroupSpec::default()
        };
        let unit = UnitRow {
            stage: StageRow::Waiting {
                task: Uid(2),
                since: Time::from_ms(0),
            },
            ..UnitRow::new()
        };
        let steps_of = |pod: &ForeignPod| {
            let pods = Pods::from([(pod.pod.uid.clone(), pod.clone())]);
            steps(&spec, Some(&unit), &[], &pods).len()
        };
        assert_eq!(steps_of(&asked), 0);
        let mut other = asked.clone();
        let label = "affinity/podAntiAffinity-1";
        other
            .node_selector
            .insert(label.to_owned(), "free".to_owned());
        assert_eq!(steps_of(&other), 2, "withdrawn and removed");
        let mut other = asked;
        other.relations.push(engine::Relation {
            kind: engine::RelationKind::Apart,
            key: "k".to_owned(),
            label: "host".to_owned(),
        });
        assert_eq!(steps_of(&other), 2);
    }

    #[test]
    fn what_cannot_be_where_it_was_placed_is_given_back() {
        let placements = [placement(0, "m", "reserved"), placement(1, "n", "released")];
        let seat = ("g0".to_owned(), Index(0));
        let remove = Step::Remove { task: Some(Uid(2)) };
        assert_eq!(given_back(&placements), [Step::Release { seat }, remove]);
    }

    #[test]
    fn a_group_that_gathers_forgets_who_left() {
        let none: Option<&str> = None;
        check(StageRow::New, &[], [Some(none), Some(none)], &[]);
        check(StageRow::New, &[], [Some(none), None], &["keep uid-a"]);
        check(StageRow::New, &[], [None, None], &["remove"]);
    }

    #[test]
    fn a_task_whose_pods_changed_is_taken_back() {
        let waiting = || StageRow::Waiting {
            task: Uid(2),
            since: Time::from_ms(0),
        };
        check(waiting(), &[], [Some(None), Some(None)], &[]);
        check(waiting(), &[], [Some(None), None], &["withdraw", "remove"]);
        check(
            waiting(),
            &[],
            [Some(None), Some(Some("n"))],
            &["withdraw", "remove"],
        );
    }

    #[test]
    fn placed_pods_are_bound_and_their_ends_are_seen() {
        let check = |states: [&str; 2], seen, expect: &[&str]| {
            let stage = StageRow::Placed {
                task: Uid(2),
                since: Time::from_ms(0),
            };
            let placements = [placement(0, "m", states[0]), placement(1, "n", states[1])];
            check(stage, &placements, seen, expect);
        };
        let none: Option<&str> = None;
        check(
            ["reserved", "reserved"],
            [Some(none), Some(none)],
            &["bind a m", "bind b n"],
        );
        check(
            ["reserved", "reserved"],
            [Some(Some("m")), Some(none)],
            &["bound 0", "bind b n"],
        );
        check(["bound", "bound"], [Some(Some("m")), Some(Some("n"))], &[]);
        check(["bound", "bound"], [Some(Some("m")), None], &["release 1"]);
        check(
            ["bound", "released"],
            [None, None],
            &["release 0", "remove"],
        );
        check(
            ["reserved", "bound"],
            [Some(Some("elsewhere")), Some(Some("n"))],
            &["release 0"],
        );
        check(
            ["releasing", "bound"],
            [Some(Some("m")), Some(Some("n"))],
            &["evict a"],
        );
        check(
            ["releasing", "bound"],
            [Some(none), Some(Some("n"))],
            &["release 0"],
        );
    }
}
