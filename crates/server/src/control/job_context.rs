//! A Job as the planner and the scheduler want it, from its spec and pins: all defaults filled in.

use super::convert;
use super::relations;
use super::scheduler::{TaskGroup, TaskOwner};
use crate::pinned::{Pinned, PinnedProgram};
use crate::program;
use api::job::{Framework, GroupSpec, JobSpec, RestartUnit, SuccessWho};
use base::{Attempt, Digest, Index, Span, Time, Uid};
use engine::{EnvValue, EnvVar, Keeps, Mount, MountSource, OutputSpec};
use plan::{Backoff, FailedRetry, Restart, RetrySpec, Success, SuccessRule, UnitKey, unit_seats};
use std::collections::BTreeMap;

/// The default of `retry.backoff`.
const BACKOFF: Span = Span::from_secs(10);
/// The default of `retry.backoffMax`.
const BACKOFF_MAX: Span = Span::from_secs(300);

/// Whose Job, and in which state it was submitted.
#[derive(Clone, Debug)]
pub struct JobIdentity {
    /// Its uid.
    pub uid: Uid,
    /// Its name.
    pub name: String,
    /// Its tenant.
    pub tenant: String,
    /// Its project.
    pub project: String,
    /// When it was submitted.
    pub submitted: Time,
}

/// A Job with everything that does not change while it runs.
#[derive(Clone, Debug)]
pub struct JobContext {
    /// Whose.
    pub identity: JobIdentity,
    /// As the planner wants it.
    pub spec: plan::JobSpec,
    /// The queue it waits in.
    pub queue: String,
    /// Its priority.
    pub priority: i32,
    /// Whether it may be preempted.
    pub preemptible: bool,
    /// Whether it saves its work.
    pub checkpoints: bool,
    /// It is not preempted before it ran this long.
    pub min_runtime: Span,
    /// How long it says that it will run.
    pub expected: Option<Span>,
    /// Groups as written, by name: for placement wishes.
    groups: Vec<GroupSpec>,
}

impl JobContext {
    /// `bundles` are the digests of built Environments, by the Environment's (uid, version).
    pub fn new(
        identity: JobIdentity,
        spec: &JobSpec,
        pinned: &Pinned,
        queue: String,
        bundles: &BTreeMap<(Uid, u32), Digest>,
    ) -> JobContext {
        let groups = program::groups(spec);
        let framework = framework(spec.framework);
        let restart = restart(spec, &groups);
        let planned: Vec<plan::GroupSpec> = groups
            .iter()
            .enumerate()
            .map(|(i, group)| plan_group(spec, group, i == 0, pinned, bundles, &restart))
            .collect();
        let success = success(spec, framework, &planned);
        JobContext {
            identity,
            queue,
            priority: spec.priority.unwrap_or(0),
            preemptible: spec.preemptible.unwrap_or(true),
            checkpoints: spec.checkpoint,
            min_runtime: spec.min_runtime.unwrap_or_default(),
            expected: spec.expected_time,
            spec: plan::JobSpec {
                groups: planned,
                framework,
                restart,
                success,
                retry: retry(spec),
                time_limit: spec.time_limit,
                queue_time_limit: spec.queue_time_limit,
                ttl: spec.ttl,
            },
            groups,
        }
    }

    /// The scheduler's task for a unit's attempt, and what the scheduler loop must know of it.
    pub fn task(
        &self,
        unit: &UnitKey,
        attempt: Attempt,
        task: sched::TaskId,
        readmit: bool,
    ) -> (sched::TaskSpec, TaskOwner) {
        let seats = unit_seats(&self.spec, unit);
        let mut groups = Vec::with_capacity(seats.len());
        let mut owned = Vec::with_capacity(seats.len());
        for seat in &seats {
            let written = self
                .groups
                .iter()
                .find(|group| group.name == seat.group.name);
            if let Some(written) = written {
                groups.push(convert::sched_group(
                    &seat.group.name,
                    &written.program,
                    &seat.group.request,
                    seat.count,
                    seat.min,
                    relations::of_job(
                        &written.program.placement,
                        &self.identity.project,
                        self.identity.uid,
                        &written.name,
                    ),
                ));
                owned.push(TaskGroup {
                    name: seat.group.name.clone(),
                    first: seat.first,
                    ports: (0..seat.count)
                        .map(|i| self.port_names(seat.group, Index(seat.first.0 + i)))
                        .collect(),
                });
            }
        }
        let grace = self
            .spec
            .groups
            .iter()
            .map(|group| group.template.grace)
            .max()
            .unwrap_or_default();
        let spec = sched::TaskSpec {
            id: task,
            generation: 1,
            name: format!("job/{}", self.identity.name),
            queue: self.queue.clone(),
            kind: sched::TaskKind::Batch,
            priority: self.priority,
            submitted: self.identity.submitted,
            groups,
            preemptible: self.preemptible,
            min_runtime: self.min_runtime,
            grace,
            checkpoints: self.checkpoints,
            time_limit: self.spec.time_limit,
            expected: self.expected,
            disruption: None,
            readmit,
        };
        let owner = TaskOwner {
            owner: self.identity.uid,
            kind: super::OwnerKind::Job,
            tenant: self.identity.tenant.clone(),
            project: self.identity.project.clone(),
            unit: unit.to_string(),
            attempt,
            name: self.identity.name.clone(),
            groups: owned,
        };
        (spec, owner)
    }

    /// The directory for checkpoints of a unit, where it has one.
    pub fn keeps(&self, unit: &UnitKey) -> Option<Keeps> {
        if !self.checkpoints {
            return None;
        }
        let (claim, n_replicas) = match unit {
            UnitKey::Index(index) => (checkpoint_claim(&self.spec.restart, *index), 1),
            UnitKey::Gang | UnitKey::Rank { .. } => {
                let counts = self.spec.groups.iter().map(|group| group.count);
                (String::new(), counts.sum())
            }
        };
        Some(Keeps {
            owner: self.identity.uid,
            project: self.identity.project.clone(),
            claim,
            n_replicas,
        })
    }

    /// Ports a member gets: the declared ones and those its framework needs.
    fn port_names(&self, group: &plan::GroupSpec, index: Index) -> Vec<String> {
        let mut names: Vec<String> = group
            .template
            .ports
            .iter()
            .map(|port| port.name.clone())
            .collect();
        let needs = self
            .spec
            .framework
            .ports(&self.spec.groups, &group.name, index);
        names.extend(needs.iter().map(|need| need.name.to_owned()));
        names
    }
}

fn plan_group(
    spec: &JobSpec,
    group: &GroupSpec,
    is_first: bool,
    pinned: &Pinned,
    bundles: &BTreeMap<(Uid, u32), Digest>,
    restart: &Restart,
) -> plan::GroupSpec {
    let nothing = PinnedProgram::default();
    let pins = pinned.programs.get(&group.name).unwrap_or(&nothing);
    let bundle = pins
        .environment
        .as_ref()
        .and_then(|environment| bundles.get(&(environment.uid, environment.version)));
    let mut template = convert::template(&group.program, pins, bundle.copied());
    template.env.splice(0..0, params(&spec.params));
    template.mounts.push(mount(MountSource::Outputs, "outputs"));
    template.mounts.push(mount(MountSource::Scratch, "scratch"));
    // It may cost a volume, so only for those that say that they use it.
    if spec.checkpoint {
        template
            .mounts
            .push(mount(MountSource::Checkpoint(String::new()), "checkpoint"));
    }
    template.outputs = outputs(spec, &group.name, is_first);
    let count = match restart {
        Restart::Index { .. } => 1,
        Restart::Gang | Restart::Rank => group.replicas.unwrap_or(1),
    };
    let min = match restart {
        Restart::Rank => group.min.unwrap_or(count),
        Restart::Gang | Restart::Index { .. } => count,
    };
    let request = convert::resources(&group.program.resources);
    plan::GroupSpec {
        name: group.name.clone(),
        count,
        min,
        template,
        request,
    }
}

fn mount(source: MountSource, path: &str) -> Mount {
    Mount {
        source,
        path: path.to_owned(),
        read_only: false,
    }
}

fn params(params: &BTreeMap<String, serde_json::Value>) -> Vec<EnvVar> {
    let text = |value: &serde_json::Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let variable = |name: String, value: String| EnvVar {
        name,
        value: EnvValue::Plain(value),
    };
    let upper = |name: &str| -> String {
        name.chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() {
                    c.to_ascii_uppercase()
                } else {
                    '_'
                }
            })
            .collect()
    };
    let all = serde_json::to_string(params).expect("a map of JSON values is JSON");
    let mut env = vec![variable("MOONSHOT_PARAMS".to_owned(), all)];
    env.extend(
        params
            .iter()
            .map(|(name, value)| variable(format!("MOONSHOT_PARAM_{}", upper(name)), text(value))),
    );
    env
}

fn outputs(spec: &JobSpec, group: &str, is_first: bool) -> Vec<OutputSpec> {
    if spec.outputs.is_empty() {
        // Whatever the first group leaves, if anything.
        return if is_first {
            vec![OutputSpec {
                name: "outputs".to_owned(),
                path: ".".to_owned(),
            }]
        } else {
            Vec::new()
        };
    }
    let here =
        |output: &&api::job::OutputSpec| output.group.as_deref().map_or(is_first, |of| of == group);
    spec.outputs
        .iter()
        .filter(here)
        .map(|output| OutputSpec {
            name: output.name.clone(),
            path: output.path.clone().unwrap_or_else(|| output.name.clone()),
        })
        .collect()
}

fn restart(spec: &JobSpec, groups: &[GroupSpec]) -> Restart {
    if let Some(array) = spec.array {
        return Restart::Index {
            count: array.count,
            parallelism: array.parallelism.unwrap_or(array.count),
            failed_max: None,
        };
    }
    let is_elastic = groups.iter().any(|group| {
        group
            .min
            .is_some_and(|min| min < group.replicas.unwrap_or(1))
    });
    match spec.restart_unit {
        Some(RestartUnit::Rank) => Restart::Rank,
        Some(RestartUnit::Gang | RestartUnit::Index) => Restart::Gang,
        None if is_elastic => Restart::Rank,
        None => Restart::Gang,
    }
}

fn success(spec: &JobSpec, framework: plan::Framework, groups: &[plan::GroupSpec]) -> Success {
    let Some(rule) = &spec.success else {
        return framework.success(groups);
    };
    let all = || groups.iter().map(|group| group.name.clone()).collect();
    Success {
        groups: rule
            .group
            .as_ref()
            .map_or_else(all, |group| vec![group.clone()]),
        rule: match rule.rule {
            SuccessWho::All => SuccessRule::All,
            SuccessWho::Any => SuccessRule::Any,
            SuccessWho::Index0 => SuccessRule::Index0,
        },
    }
}

fn framework(framework: Option<Framework>) -> plan::Framework {
    match framework {
        None => plan::Framework::Custom,
        Some(Framework::Xgboost) => plan::Framework::Xgboost,
        Some(Framework::Tensorflow) => plan::Framework::Tensorflow,
        Some(Framework::Pytorch) => plan::Framework::Pytorch,
        Some(Framework::Mpi) => plan::Framework::Mpi,
        Some(Framework::Mxnet) => plan::Framework::Mxnet,
        Some(Framework::Caffe) => plan::Framework::Caffe,
    }
}

fn retry(spec: &JobSpec) -> RetrySpec {
    let retry = &spec.retry;
    let codes = || retry.exit_codes.iter().map(|code| *code..=*code).collect();
    RetrySpec {
        limit: retry.limit.unwrap_or(0),
        backoff: Backoff {
            base: retry.backoff.unwrap_or(BACKOFF),
            cap: retry.backoff_max.unwrap_or(BACKOFF_MAX),
        },
        failed: if retry.exit_codes.is_empty() {
            FailedRetry::Always
        } else {
            FailedRetry::Codes(codes())
        },
        out_of_memory: retry.out_of_memory.unwrap_or(true),
        node_lost: true,
        start_failed: false,
    }
}

/// The member's key text in checkpoints of an array: each index has its own.
pub fn checkpoint_claim(restart: &Restart, index: Index) -> String {
    match restart {
        Restart::Index { .. } => index.to_string(),
        Restart::Gang | Restart::Rank => String::new(),
    }
}
