//! From the wire's words to the engine's and the scheduler's: one program, its pins, its defaults.

use crate::pinned::PinnedProgram;
use api::common::{Isolation, ProgramSpec, ResourceSpec, TaintEffect, TolerationSpec};
use api::platform::{AmountSpec, NodeQuota, QueueOrder};
use api::reservation::Reservation;
use base::{Bytes, Digest, MilliCpu, Resources, Span, Time};
use engine::{EnvValue, EnvVar, Mount, MountSource, Runtime, Template};
use sched::CalendarEntry;
use std::collections::BTreeMap;

/// What a program is counted with that does not say.
const DEFAULT_CPU: MilliCpu = MilliCpu(100);
/// See [`DEFAULT_CPU`].
const DEFAULT_MEMORY: Bytes = Bytes(256 << 20);
/// From SIGTERM to SIGKILL, as Kubernetes.
const DEFAULT_GRACE: Span = Span::from_secs(30);

/// What one replica asks for, with defaults.
pub fn resources(spec: &ResourceSpec) -> Resources {
    Resources {
        cpu: spec.cpu.unwrap_or(DEFAULT_CPU),
        memory: spec.memory.unwrap_or(DEFAULT_MEMORY),
        gpu_milli: gpu_milli(spec.gpu.unwrap_or(0.0)),
        extended: spec
            .extended
            .iter()
            .filter(|(_, n)| **n != 0)
            .map(|(name, n)| (name.clone(), *n))
            .collect(),
    }
}

/// What one replica is held to: what it asks for. Who did not say how much CPU gets his share of what is idle, for a program
/// that starts on a tenth of a processor is no better off than one that waits.
fn bounds(spec: &ResourceSpec) -> Resources {
    Resources {
        cpu: spec.cpu.unwrap_or_default(),
        ..resources(spec)
    }
}

/// GPUs as written into thousandths. Validation has refused what is not finite, negative or too large.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range was checked with the spec"
)]
pub fn gpu_milli(gpus: f64) -> u64 {
    (gpus * 1_000.0).round() as u64
}

/// How long it gets to stop.
pub fn grace(program: &ProgramSpec) -> Span {
    program.grace.unwrap_or(DEFAULT_GRACE)
}

/// The engine's template for a program. `bundle` is the built Environment's digest, for one that is built.
pub fn template(program: &ProgramSpec, pinned: &PinnedProgram, bundle: Option<Digest>) -> Template {
    let image = pinned
        .environment
        .as_ref()
        .and_then(|environment| environment.image.clone());
    let runtime = match (image, bundle) {
        (Some(image), _) => Runtime::Image(image),
        (None, Some(digest)) => Runtime::Bundle(digest),
        (None, None) => Runtime::Host,
    };
    let environment = pinned
        .environment
        .iter()
        .flat_map(|environment| &environment.env);
    let mut env: Vec<EnvVar> = environment
        .map(|(name, value)| EnvVar {
            name: name.clone(),
            value: EnvValue::Plain(value.clone()),
        })
        .collect();
    env.extend(program.env.iter().map(|variable| env_var(variable, pinned)));
    Template {
        command: program
            .command
            .iter()
            .chain(&program.args)
            .cloned()
            .collect(),
        env,
        workdir: program.workdir.clone(),
        runtime,
        mounts: mounts(program, pinned),
        ports: program.ports.iter().map(port).collect(),
        resources: bounds(&program.resources),
        user: None,
        isolation: match program.isolation {
            Isolation::None => engine::Isolation::None,
            Isolation::Sandbox => engine::Isolation::Sandbox,
            Isolation::Gvisor => engine::Isolation::Gvisor,
            Isolation::Kata => engine::Isolation::Kata,
        },
        probes: engine::Probes::default(),
        grace: grace(program),
        outputs: Vec::new(),
    }
}

fn env_var(variable: &api::common::EnvVar, pinned: &PinnedProgram) -> EnvVar {
    let value = match &variable.secret {
        Some(secret) => EnvValue::Secret {
            name: secret.name.clone(),
            version: pinned.secrets.get(&secret.name).copied().unwrap_or(1),
            key: secret.key.clone(),
        },
        None => EnvValue::Plain(variable.value.clone().unwrap_or_default()),
    };
    EnvVar {
        name: variable.name.clone(),
        value,
    }
}

fn port(port: &api::common::PortSpec) -> engine::PortSpec {
    engine::PortSpec {
        name: port.name.clone(),
        number: port.port,
        protocol: port.protocol.clone(),
    }
}

fn mounts(program: &ProgramSpec, pinned: &PinnedProgram) -> Vec<Mount> {
    let mut mounts = Vec::new();
    if let Some(digest) = pinned.code {
        mounts.push(Mount {
            source: MountSource::Code(digest),
            path: "code".to_owned(),
            read_only: false,
        });
    }
    for secret in &program.secrets {
        let version = pinned.secrets.get(&secret.name).copied().unwrap_or(1);
        let path = secret
            .path
            .clone()
            .unwrap_or_else(|| format!("secrets/{}", secret.name));
        mounts.push(Mount {
            source: MountSource::Secret {
                name: secret.name.clone(),
                version,
            },
            path,
            read_only: true,
        });
    }
    for input in &program.inputs {
        if let Some(digest) = pinned.inputs.get(&input.name) {
            let path = format!("inputs/{}", input.name);
            mounts.push(Mount {
                source: MountSource::Input(*digest),
                path,
                read_only: true,
            });
        }
    }
    mounts
}

/// Consents to taints.
pub fn toleration(spec: &TolerationSpec) -> sched::Toleration {
    sched::Toleration {
        key: spec.key.clone(),
        value: spec.value.clone(),
        effect: spec.effect.map(taint_effect),
    }
}

/// How strongly a taint keeps away.
pub fn taint_effect(effect: TaintEffect) -> sched::TaintEffect {
    match effect {
        TaintEffect::NoSchedule => sched::TaintEffect::NoSchedule,
        TaintEffect::PreferNoSchedule => sched::TaintEffect::PreferNoSchedule,
        TaintEffect::NoExecute => sched::TaintEffect::NoExecute,
    }
}

/// A taint as an engine reports it.
pub fn observed_taint(taint: &engine::Taint) -> api::platform::TaintSpec {
    api::platform::TaintSpec {
        key: taint.key.clone(),
        value: taint.value.clone(),
        effect: match taint.effect {
            engine::TaintEffect::NoSchedule => TaintEffect::NoSchedule,
            engine::TaintEffect::PreferNoSchedule => TaintEffect::PreferNoSchedule,
            engine::TaintEffect::NoExecute => TaintEffect::NoExecute,
        },
    }
}

/// One group of a task: what each member asks for and where it may run.
pub fn sched_group(
    name: &str,
    program: &ProgramSpec,
    request: &Resources,
    count: u32,
    min: u32,
    affinity: sched::Affinity,
) -> sched::GroupSpec {
    let placement = &program.placement;
    sched::GroupSpec {
        name: name.to_owned(),
        count,
        min,
        request: request.clone(),
        gpu_models: program.resources.gpu_model.clone(),
        gpu_memory: program.resources.gpu_memory.unwrap_or_default(),
        node_selector: placement.node_selector.clone(),
        pools: placement.pools.clone(),
        tolerations: placement.tolerations.iter().map(toleration).collect(),
        affinity,
        topology: placement
            .topology
            .as_ref()
            .map(|topology| sched::TopologyRequest {
                level: topology.level.clone(),
                required: topology.required,
            }),
        per_node_max: placement.per_node_max.unwrap_or(0),
    }
}

/// A queue as the scheduler wants it.
pub fn queue(name: &str, spec: &api::platform::QueueSpec) -> sched::QueueSpec {
    let quotas = spec.quotas.iter().map(|(pool, quota)| {
        let quota = sched::Quota {
            guaranteed: amount(&quota.guaranteed),
            limit: limits(&quota.limit),
            weight: quota.weight.unwrap_or(1),
            shapes: quota.nodes.iter().map(shape).collect(),
        };
        (pool.clone(), quota)
    });
    sched::QueueSpec {
        name: name.to_owned(),
        parent: spec.parent.clone(),
        priority: spec.priority.unwrap_or(0),
        order: match spec.order {
            Some(QueueOrder::Fifo) => sched::QueueOrder::Fifo,
            Some(QueueOrder::Shortest) => sched::QueueOrder::ShortestExpected,
            Some(QueueOrder::Priority) | None => sched::QueueOrder::Priority,
        },
        quotas: quotas.collect(),
    }
}

fn shape(nodes: &NodeQuota) -> sched::ShapeQuota {
    sched::ShapeQuota {
        nodes: nodes.count,
        each: amount(&nodes.each),
        gpu_model: nodes.gpu_model.clone(),
    }
}

/// A queue's reservations as the scheduler's calendar wants them, as of today.
pub fn calendar(queue: &str, spec: &api::platform::QueueSpec, now: Time) -> Vec<CalendarEntry> {
    let courses = spec.reservations.iter().enumerate();
    let entry = |(i, reservation): (usize, &Reservation)| {
        let course = reservation.course(now)?;
        let step = |(from, much): &(Time, AmountSpec)| sched::CalendarStep {
            from: *from,
            amount: amount(much),
        };
        Some(CalendarEntry {
            name: format!("{queue}/{i}"),
            pool: reservation.pool.clone(),
            queue: queue.to_owned(),
            steps: course.steps.iter().map(step).collect(),
            until: course.until,
        })
    };
    courses.filter_map(entry).collect()
}

fn amount(spec: &AmountSpec) -> Resources {
    Resources {
        cpu: spec.cpu.unwrap_or_default(),
        memory: spec.memory.unwrap_or_default(),
        gpu_milli: gpu_milli(spec.gpu.unwrap_or(0.0)),
        extended: spec.extended.clone(),
    }
}

fn limits(spec: &AmountSpec) -> BTreeMap<String, u64> {
    let mut limits = spec.extended.clone();
    limits.extend(spec.cpu.map(|cpu| ("cpu".to_owned(), cpu.0)));
    limits.extend(spec.memory.map(|memory| ("memory".to_owned(), memory.0)));
    limits.extend(spec.gpu.map(|gpu| ("gpu".to_owned(), gpu_milli(gpu))));
    limits
}

/// An amount as the wire shows it.
pub fn shown(amount: &Resources) -> AmountSpec {
    #[expect(
        clippy::cast_precision_loss,
        reason = "thousandths of GPUs stay far below 2^52"
    )]
    let gpu = amount.gpu_milli as f64 / 1_000.0;
    AmountSpec {
        cpu: Some(amount.cpu),
        memory: Some(amount.memory),
        gpu: (amount.gpu_milli != 0).then_some(gpu),
        extended: amount.extended.clone(),
    }
}

/// A pool as the scheduler wants it.
pub fn pool(name: &str, spec: &api::platform::PoolSpec) -> sched::PoolSpec {
    sched::PoolSpec {
        name: name.to_owned(),
        packing: match spec.packing {
            Some(api::platform::Packing::Spread) => sched::Packing::Spread,
            Some(api::platform::Packing::BinPack) | None => sched::Packing::BinPack,
        },
        devices: match spec.devices {
            Some(api::platform::DeviceMode::Counted) => sched::DeviceMode::Counted,
            Some(api::platform::DeviceMode::Named) | None => sched::DeviceMode::Named,
        },
        levels: spec.levels.clone(),
        half_life: spec.half_life,
    }
}

/// The engine's template for an App, with its probes.
pub fn app_template(
    template: &api::app::AppTemplate,
    pinned: &PinnedProgram,
    bundle: Option<Digest>,
) -> Template {
    let mut program = template.program.clone();
    if program.ports.is_empty() {
        // A service listens somewhere: on `$PORT` unless it says more.
        let http = || "http".to_owned();
        program.ports.push(api::common::PortSpec {
            name: http(),
            port: 8080,
            protocol: http(),
        });
    }
    let first = program.ports[0].name.clone();
    let probes = &template.probes;
    let every = |seconds| Span::from_secs(seconds);
    Template {
        probes: engine::Probes {
            startup: probes
                .startup
                .as_ref()
                .map(|spec| probe(spec, &first, every(1), 60)),
            readiness: Some(readiness(
                &probes.readiness.clone().unwrap_or_default(),
                &first,
            )),
            liveness: probes
                .liveness
                .as_ref()
                .map(|spec| probe(spec, &first, every(10), 3)),
        },
        ..self::template(&program, pinned, bundle)
    }
}

/// A readiness probe with its defaults.
pub fn readiness(spec: &api::app::ProbeSpec, first_port: &str) -> engine::Probe {
    probe(spec, first_port, Span::from_secs(1), 3)
}

fn probe(
    spec: &api::app::ProbeSpec,
    first_port: &str,
    period: Span,
    failures: u32,
) -> engine::Probe {
    let port = |named: &Option<String>| named.clone().unwrap_or_else(|| first_port.to_owned());
    let action = match (&spec.http, &spec.tcp, &spec.exec) {
        (Some(http), _, _) => engine::ProbeAction::Http {
            port: port(&http.port),
            path: http.path.clone(),
        },
        (_, _, Some(exec)) => engine::ProbeAction::Exec {
            command: exec.command.clone(),
        },
        (_, tcp, _) => engine::ProbeAction::Tcp {
            port: port(&tcp.as_ref().and_then(|tcp| tcp.port.clone())),
        },
    };
    engine::Probe {
        action,
        initial_delay: spec.initial_delay.unwrap_or(Span::ZERO),
        period: spec.period.unwrap_or(period),
        timeout: spec.timeout.unwrap_or(Span::from_secs(1)),
        successes: spec.successes.unwrap_or(1),
        failures: spec.failures.unwrap_or(failures),
    }
}
