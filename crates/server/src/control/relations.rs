//! What placement wishes mean to the scheduler, which knows keys that groups carry, and rules about who carries them.

use api::common::{HOST, PlacementSpec, RelationSpec, SpreadSpec};
use base::Uid;
use sched::{Affinity, Spread};

/// The key of an App's replicas, in sentences too.
fn app_key(project: &str, name: &str) -> String {
    format!("{project}/app/{name}")
}

/// Of an App's replicas. Each of them is a task of its own, so that what is said of them together is said of their key.
pub(super) fn of_app(placement: &PlacementSpec, project: &str, name: &str) -> Affinity {
    let key = app_key(project, name);
    let mut affinity = wishes(placement, project, &key);
    if let Some(most) = placement.per_node_max {
        affinity.at_most.push((key.clone(), HOST.to_owned(), most));
    }
    if let Some(topology) = &placement.topology {
        let together = (key.clone(), topology.level.clone());
        if topology.required {
            affinity.with.push(together);
        } else {
            affinity.prefer_with.push(together);
        }
    }
    affinity.keys.push(key);
    affinity
}

/// Of a Job's group, which is one task with all of its members: the scheduler knows their number a node and their topology itself.
pub(super) fn of_job(placement: &PlacementSpec, project: &str, job: Uid, group: &str) -> Affinity {
    let key = format!("job/{job}/{group}");
    let mut affinity = wishes(placement, project, &key);
    // Members that ask for the same share what is known of nodes, unless a key keeps them apart.
    if !placement.spread.is_empty() {
        affinity.keys.push(key);
    }
    affinity
}

fn wishes(placement: &PlacementSpec, project: &str, own: &str) -> Affinity {
    let spread = |spread: &SpreadSpec| Spread {
        key: own.to_owned(),
        label: spread.level.clone(),
        skew_max: spread.max_skew.unwrap_or(1),
        required: spread.required,
    };
    let pairs = |relations: &[RelationSpec], required: bool| {
        let wanted = relations
            .iter()
            .filter(|relation| relation.required == required);
        wanted
            .map(|relation| (app_key(project, &relation.app), relation.level.clone()))
            .collect()
    };
    Affinity {
        with: pairs(&placement.near, true),
        against: pairs(&placement.apart, true),
        prefer_with: pairs(&placement.near, false),
        prefer_against: pairs(&placement.apart, false),
        spread: placement.spread.iter().map(spread).collect(),
        ..Affinity::default()
    }
}
