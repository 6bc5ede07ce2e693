//! A Job's groups and what runs in each, with the Job's common fields filled in.

use api::common::{PlacementSpec, ProgramSpec, ResourceSpec};
use api::job::{GroupSpec, JobSpec};

/// The groups of a Job: as written, or the one group `worker` that a Job without groups means.
pub fn groups(spec: &JobSpec) -> Vec<GroupSpec> {
    if spec.groups.is_empty() {
        return vec![GroupSpec {
            name: "worker".to_owned(),
            program: spec.program.clone(),
            ..GroupSpec::default()
        }];
    }
    let filled = |group: &GroupSpec| GroupSpec {
        program: merge(&spec.program, &group.program),
        ..group.clone()
    };
    spec.groups.iter().map(filled).collect()
}

/// What a group runs: its own fields, and the Job's where it says nothing. Variables, Secrets and inputs add up.
fn merge(job: &ProgramSpec, group: &ProgramSpec) -> ProgramSpec {
    let own_or = |own: &Vec<String>, common: &Vec<String>| {
        if own.is_empty() {
            common.clone()
        } else {
            own.clone()
        }
    };
    // Arguments belong to a command: those of the Job are not appended to a group's own.
    let args = if group.command.is_empty() {
        own_or(&group.args, &job.args)
    } else {
        group.args.clone()
    };
    ProgramSpec {
        command: own_or(&group.command, &job.command),
        args,
        env: job.env.iter().chain(&group.env).cloned().collect(),
        workdir: group.workdir.clone().or_else(|| job.workdir.clone()),
        environment: group
            .environment
            .clone()
            .or_else(|| job.environment.clone()),
        code: group.code.clone().or_else(|| job.code.clone()),
        resources: if group.resources == ResourceSpec::default() {
            job.resources.clone()
        } else {
            group.resources.clone()
        },
        placement: if group.placement == PlacementSpec::default() {
            job.placement.clone()
        } else {
            group.placement.clone()
        },
        ports: if group.ports.is_empty() {
            job.ports.clone()
        } else {
            group.ports.clone()
        },
        secrets: job.secrets.iter().chain(&group.secrets).cloned().collect(),
        inputs: job.inputs.iter().chain(&group.inputs).cloned().collect(),
        isolation: if group.isolation == api::common::Isolation::None {
            job.isolation
        } else {
            group.isolation
        },
        grace: group.grace.or(job.grace),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_says_what_differs() {
        let spec: JobSpec = serde_json::from_value(serde_json::json!({
            "command": ["python", "train.py"], "args": ["--all"], "environment": "torch",
            "env": [{"name": "A", "value": "1"}],
            "groups": [
                {"name": "worker", "replicas": 2},
                {"name": "ps", "command": ["sleep"], "args": ["9"], "env": [{"name": "B", "value": "2"}]},
            ],
        }))
        .unwrap();
        let [worker, ps] = groups(&spec).try_into().unwrap();
        assert_eq!(worker.program.command, ["python", "train.py"]);
        assert_eq!(worker.program.args, ["--all"]);
        assert_eq!(ps.program.command, ["sleep"]);
        assert_eq!(ps.program.args, ["9"]);
        assert_eq!(ps.program.environment.as_deref(), Some("torch"));
        assert_eq!(ps.program.env.len(), 2);
    }

    #[test]
    fn without_groups_there_is_one_worker() {
        let spec = JobSpec {
            program: ProgramSpec {
                command: vec!["true".to_owned()],
                ..ProgramSpec::default()
            },
            ..JobSpec::default()
        };
        let [worker] = groups(&spec).try_into().unwrap();
        assert_eq!(
            (worker.name.as_str(), worker.program.command.len()),
            ("worker", 1)
        );
    }
}
