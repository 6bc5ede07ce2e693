//! Which fields of an object may not change while it runs, or at all.

use crate::diff;
use crate::kind::Kind;
use crate::path;
use serde_json::Value;

/// How far an object has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nothing of it runs or has run.
    Waiting,
    /// Something of it runs or has run.
    Running,
    /// It is over.
    Over,
}

/// What may change in a Job that runs: what does not touch its replicas.
const JOB_MUTABLE: [&str; 4] = [
    "spec.suspend",
    "spec.priority",
    "spec.timeLimit",
    "spec.ttl",
];

/// The fields that differ and may not, by path. Both specs are canonical ([`crate::Typed::canonical_spec`]).
pub fn immutable_changes(kind: Kind, stage: Stage, before: &Value, after: &Value) -> Vec<String> {
    diff::differences("spec", before, after)
        .into_iter()
        .map(|difference| difference.field)
        .filter(|field| !may_change(kind, stage, field))
        .collect()
}

fn may_change(kind: Kind, stage: Stage, field: &str) -> bool {
    let within = |allowed: &str| path::starts_with(field, allowed);
    match kind {
        Kind::Job => match stage {
            Stage::Waiting => true,
            Stage::Running => JOB_MUTABLE.into_iter().any(within),
            // A finished Job keeps nothing to apply a change to, but may be kept longer or shorter.
            Stage::Over => within("spec.ttl"),
        },
        Kind::ModelVersion | Kind::PodGroup | Kind::Event => false,
        Kind::Cluster => !within("spec.engine"),
        Kind::Project => !within("spec.tenant"),
        Kind::Tenant
        | Kind::Queue
        | Kind::Pool
        | Kind::Node
        | Kind::Environment
        | Kind::Secret
        | Kind::Model
        | Kind::App => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_may_change() {
        let check = |kind, stage, before, after, expect: &[&str]| {
            assert_eq!(immutable_changes(kind, stage, &before, &after), expect);
        };
        let job =
            json!({"command": ["a"], "priority": 1, "groups": [{"name": "w", "replicas": 1}]});
        let changed = json!({"command": ["b"], "priority": 2, "groups": [{"name": "w", "replicas": 2}], "ttl": "1h"});
        check(Kind::Job, Stage::Waiting, job.clone(), changed.clone(), &[]);
        check(
            Kind::Job,
            Stage::Running,
            job.clone(),
            changed.clone(),
            &["spec.command[0]", "spec.groups[0].replicas"],
        );
        check(
            Kind::Job,
            Stage::Over,
            job.clone(),
            changed,
            &[
                "spec.command[0]",
                "spec.priority",
                "spec.groups[0].replicas",
            ],
        );
        check(Kind::Job, Stage::Over, job.clone(), job, &[]);
        check(
            Kind::App,
            Stage::Running,
            json!({"replicas": 1}),
            json!({"replicas": 2}),
            &[],
        );
        check(
            Kind::ModelVersion,
            Stage::Waiting,
            json!({"format": "a"}),
            json!({"format": "b"}),
            &["spec.format"],
        );
        check(
            Kind::Job,
            Stage::Running,
            json!({}),
            json!({"ttlx": 1}),
            &["spec.ttlx"],
        );
    }
}
