//! A small language for tables: one fact or question a line, and what came out as text.
//!
//! ```text
//! pool gpu named                     | pool NAME [named|counted] [spread] [levels=rack,host] [halflife=1h]
//! node 1 gpu cpu=8 gpus=4 rack=r1    | node ID POOL, then resources, `cordoned`, `taint=K`, labels
//! queue team limit.gpu=4             | queue NAME [parent=Q] [limit.R=N] [guaranteed.R=N] [weight=N]
//! job a team gpu=2 x3                | job NAME QUEUE, then resources, xN, min=N, prio=N, …
//! + ps cpu=1 x2                      | one more group of the job before
//! promise apps gpu team until=3h 1h:gpu=4 | calendar: NAME POOL QUEUE, from when (from the start) how much
//! decide / decide 5                  | proposals, committed at once (`propose` leaves them open)
//! end a / end a 0.1                  | all seats of a job, or one
//! why a                              | the explanation
//! ```

use base::{Bytes, MilliCpu, Resources, Span, Time, Uid};
use sched::*;
use std::collections::BTreeMap;
use std::fmt::Write;

pub(crate) struct Script {
    pub(crate) sched: Sched,
    config: Config,
    pub(crate) now: Time,
    names: BTreeMap<String, TaskSpec>,
    nodes: BTreeMap<u32, NodeSpec>,
    started: BTreeMap<TaskId, (TaskSpec, Time)>,
    /// Answered with commit or reject later.
    open: Vec<Decision>,
    submitted: i64,
    out: String,
}

/// Runs a script and compares what it said.
#[track_caller]
pub(crate) fn check(script: &str, expect: &str) {
    check_with(Config::standard(), script, expect);
}

/// The same with other settings.
#[track_caller]
pub(crate) fn check_with(config: Config, script: &str, expect: &str) {
    let mut run = Script::new(config);
    run.run(script);
    let got: Vec<&str> = run.out.lines().map(str::trim).collect();
    let want: Vec<&str> = expect
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    assert_eq!(got, want, "\n--- got ---\n{}", run.out);
}

pub(crate) fn task_id(n: u128) -> TaskId {
    TaskId(Uid(n))
}

impl Script {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            sched: Sched::new(config.clone()),
            config,
            now: Time::from_ms(1_000_000),
            names: BTreeMap::new(),
            nodes: BTreeMap::new(),
            started: BTreeMap::new(),
            open: Vec::new(),
            submitted: 0,
            out: String::new(),
        }
    }

    pub(crate) fn run(&mut self, script: &str) -> String {
        let lines: Vec<&str> = script
            .lines()
            .map(|line| line.split('#').next().unwrap_or("").trim())
            .filter(|line| !line.is_empty())
            .collect();
        let mut at = 0;
        while at < lines.len() {
            let mut groups = Vec::new();
            while at + 1 + groups.len() < lines.len()
                && lines[at + 1 + groups.len()].starts_with("+ ")
            {
                groups.push(lines[at + 1 + groups.len()]);
            }
            self.line(lines[at], &groups);
            at += 1 + groups.len();
        }
        std::mem::take(&mut self.out.clone())
    }

    fn line(&mut self, line: &str, groups: &[&str]) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[0] {
            "pool" => self.pool(&words[1..]),
            "nopool" => self.sched.apply(Event::PoolGone(words[1].to_owned())),
            "node" => self.node(&words[1..]),
            "gone" => self
                .sched
                .apply(Event::NodeGone(NodeId(words[1].parse().unwrap()))),
            "queue" => self.queue(&words[1..]),
            "promise" => self.promise(&words[1..]),
            "nopromise" => self.sched.apply(Event::CalendarGone(words[1].to_owned())),
            "noqueue" => self.sched.apply(Event::QueueGone(words[1].to_owned())),
            "job" => self.job(&words[1..], groups),
            "wait" => {
                let span: Span = words[1].parse().unwrap();
                self.now = self.now + span;
            }
            "decide" => {
                let steps = words.get(1).map_or(1_000_000, |n| n.parse().unwrap());
                self.decide(steps);
                self.answer(true);
            }
            "propose" => self.decide(1_000_000),
            "commit" => self.answer(true),
            "reject" => self.answer(false),
            "end" => self.end(&words[1..], true),
            "stop" => self.end(&words[1..], false),
            "withdraw" => {
                let id = self.names[words[1]].id;
                self.sched.apply(Event::TaskGone(id));
            }
            "why" => self.why(words[1]),
            "used" => {
                let used = self.sched.queue_used(words[1], words[2]).unwrap();
                let _ = writeln!(self.out, "{} uses {used}", words[1]);
            }
            "restart" => self.restart(),
            other => panic!("unknown line `{other}`"),
        }
    }

    fn pool(&mut self, words: &[&str]) {
        let mut spec = PoolSpec {
            name: words[0].to_owned(),
            packing: Packing::BinPack,
            devices: DeviceMode::Named,
            levels: Vec::new(),
            half_life: None,
        };
        for word in &words[1..] {
            match *word {
                "named" => spec.devices = DeviceMode::Named,
                "counted" => spec.devices = DeviceMode::Counted,
                "spread" => spec.packing = Packing::Spread,
                other if other.starts_with("halflife=") => {
                    spec.half_life = Some(other["halflife=".len()..].parse().unwrap());
                }
                other => {
                    let levels = other.strip_prefix("levels=").unwrap();
                    spec.levels = levels.split(',').map(str::to_owned).collect();
                }
            }
        }
        self.sched.apply(Event::Pool(spec));
    }

    fn node(&mut self, words: &[&str]) {
        let id: u32 = words[0].parse().unwrap();
        let mut spec = NodeSpec {
            id: NodeId(id),
            name: format!("node-{id}"),
            pool: words[1].to_owned(),
            allocatable: Resources::default(),
            slots_max: 0,
            labels: BTreeMap::new(),
            taints: Vec::new(),
            unschedulable: false,
            devices: Vec::new(),
        };
        for word in &words[2..] {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            match key {
                "cordoned" => spec.unschedulable = true,
                "slots" => spec.slots_max = value.parse().unwrap(),
                "taint" | "softtaint" | "drain" => spec.taints.push(Taint {
                    key: value.to_owned(),
                    value: String::new(),
                    effect: match key {
                        "taint" => TaintEffect::NoSchedule,
                        "drain" => TaintEffect::NoExecute,
                        _ => TaintEffect::PreferNoSchedule,
                    },
                }),
                "nics" => {
                    for number in 0..value.parse::<u16>().unwrap() {
                        spec.devices.push(DeviceSpec {
                            lanes: BTreeMap::from([
                                ("rdma_vf".to_owned(), 4),
                                ("rdma_gbps".to_owned(), 100),
                            ]),
                            ..device(format!("nic-{id}-{number}"), "rdma", "CX7", number)
                        });
                    }
                }
                "mig" => {
                    for number in 0..value.parse::<u16>().unwrap() {
                        spec.devices.push(DeviceSpec {
                            partitions: a100_partitions(),
                            ..device(format!("gpu-{id}-{number}"), "gpu", "A100", number)
                        });
                    }
                }
                "devicetaint" => {
                    let device = spec.devices.last_mut().unwrap();
                    let (key, detail) = value.split_once(':').unwrap_or((value, ""));
                    device.taints.push(Taint {
                        key: key.to_owned(),
                        value: detail.to_owned(),
                        effect: TaintEffect::NoExecute,
                    });
                }
                "gpus" | "sick" => {
                    let (count, model) = value.split_once(':').unwrap_or((value, "H200"));
                    for _ in 0..count.parse::<u16>().unwrap() {
                        let number = spec.devices.len() as u16;
                        spec.devices.push(DeviceSpec {
                            id: format!("gpu-{id}-{number}"),
                            class: "gpu".to_owned(),
                            model: model.to_owned(),
                            memory: Bytes(80_000),
                            healthy: key == "gpus",
                            link_group: number / 4,
                            numa: number / 4,
                            taints: Vec::new(),
                            lanes: BTreeMap::new(),
                            partitions: Vec::new(),
                        });
                    }
                }
                "block" | "rack" | "zone" | "disk" => {
                    spec.labels.insert(key.to_owned(), value.to_owned());
                }
                _ => resource(&mut spec.allocatable, key, value),
            }
        }
        self.nodes.insert(id, spec.clone());
        self.sched.apply(Event::Node(spec));
    }

    fn queue(&mut self, words: &[&str]) {
        let mut spec = QueueSpec {
            name: words[0].to_owned(),
            parent: None,
            priority: 0,
            order: QueueOrder::Priority,
            quotas: BTreeMap::new(),
        };
        let mut quota = Quota {
            weight: 1,
            ..Quota::default()
        };
        let mut any = false;
        for word in &words[1..] {
            let (key, value) = word.split_once('=').unwrap();
            if key == "order" {
                spec.order = match value {
                    "fifo" => QueueOrder::Fifo,
                    "shortest" => QueueOrder::ShortestExpected,
                    other => panic!("unknown order `{other}`"),
                };
                continue;
            }
            if key == "parent" {
                spec.parent = Some(value.to_owned());
                continue;
            }
            any = true;
            if key == "shape" {
                quota.shapes.push(shape(value));
                continue;
            }
            if key == "weight" {
                quota.weight = value.parse().unwrap();
            } else if let Some(name) = key.strip_prefix("limit.") {
                let mut amount = Resources::default();
                resource(&mut amount, name, value);
                let number = match name {
                    "cpu" => amount.cpu.0,
                    "memory" => amount.memory.0,
                    "gpu" => amount.gpu_milli,
                    _ => value.parse().unwrap(),
                };
                quota.limit.insert(name.to_owned(), number);
            } else {
                let name = key.strip_prefix("guaranteed.").unwrap();
                resource(&mut quota.guaranteed, name, value);
            }
        }
        if any {
            spec.quotas.insert("*".to_owned(), quota);
        }
        self.sched.apply(Event::Queue(spec));
    }

    fn promise(&mut self, words: &[&str]) {
        let from_start = |text: &str| Time::from_ms(1_000_000) + text.parse::<Span>().unwrap();
        let mut entry = CalendarEntry {
            name: words[0].to_owned(),
            pool: words[1].to_owned(),
            queue: words[2].to_owned(),
            steps: Vec::new(),
            until: Time::from_ms(0),
        };
        for word in &words[3..] {
            if let Some(until) = word.strip_prefix("until=") {
                entry.until = from_start(until);
                continue;
            }
            let (from, amounts) = word.split_once(':').unwrap();
            let mut amount = Resources::default();
            for pair in amounts.split(',') {
                let (key, value) = pair.split_once('=').unwrap();
                resource(&mut amount, key, value);
            }
            entry.steps.push(CalendarStep {
                from: from_start(from),
                amount,
            });
        }
        self.sched.apply(Event::Calendar(entry));
    }

    fn job(&mut self, words: &[&str], groups: &[&str]) {
        self.submitted += 1;
        let known = self.names.get(words[0]);
        let mut spec = TaskSpec {
            id: known.map_or(task_id(self.submitted as u128), |spec| spec.id),
            generation: known.map_or(1, |spec| spec.generation + 1),
            name: words[0].to_owned(),
            queue: words[1].to_owned(),
            kind: TaskKind::Batch,
            priority: 0,
            submitted: Time::from_ms(self.submitted),
            groups: vec![group("worker")],
            preemptible: false,
            min_runtime: Span::ZERO,
            grace: Span::from_secs(30),
            checkpoints: false,
            time_limit: None,
            expected: None,
            disruption: None,
            readmit: false,
        };
        for word in &words[2..] {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            match key {
                "prio" => spec.priority = value.parse().unwrap(),
                "preemptible" => spec.preemptible = true,
                "service" => spec.kind = TaskKind::Service,
                "readmit" => spec.readmit = true,
                "checkpoints" => spec.checkpoints = true,
                "expected" => spec.expected = Some(value.parse().unwrap()),
                "now" => spec.submitted = self.now,
                "grace" => spec.grace = value.parse().unwrap(),
                "limit" => spec.time_limit = Some(value.parse().unwrap()),
                "runs" => spec.min_runtime = value.parse().unwrap(),
                "app" => spec.disruption = Some((Uid(value.parse().unwrap()), 1)),
                _ => group_word(&mut spec.groups[0], word),
            }
        }
        for line in groups {
            let words: Vec<&str> = line.split_whitespace().collect();
            let mut more = group(words[1]);
            for word in &words[2..] {
                group_word(&mut more, word);
            }
            spec.groups.push(more);
        }
        self.names.insert(words[0].to_owned(), spec.clone());
        self.sched.apply(Event::Task(spec));
    }

    fn decide(&mut self, steps: u32) {
        for decision in self.sched.decide(self.now, steps) {
            let text = self.show(&decision.kind);
            let _ = writeln!(self.out, "{text}");
            self.open.push(decision);
        }
    }

    fn answer(&mut self, yes: bool) {
        for decision in std::mem::take(&mut self.open) {
            if yes {
                if let DecisionKind::Start { task, .. } = &decision.kind {
                    let spec = self.names.values().find(|spec| spec.id == *task).unwrap();
                    self.started.insert(*task, (spec.clone(), self.now));
                }
                self.sched.apply(Event::Committed(decision.id));
            } else {
                self.sched.apply(Event::Rejected(decision.id));
            }
        }
    }

    fn name(&self, task: TaskId) -> String {
        let found = self.names.iter().find(|(_, spec)| spec.id == task);
        found.map_or("?".to_owned(), |(name, _)| name.clone())
    }

    fn show(&self, kind: &DecisionKind) -> String {
        match kind {
            DecisionKind::Start {
                task, placements, ..
            } => format!("start {}: {}", self.name(*task), seats(placements)),
            DecisionKind::Grow { task, placements } => {
                format!("grow {}: {}", self.name(*task), seats(placements))
            }
            DecisionKind::Evict {
                task,
                slots,
                reason,
                on_behalf_of,
                ..
            } => {
                let slots: Vec<String> = slots.iter().map(|s| slot(*s)).collect();
                let who =
                    on_behalf_of.map_or(String::new(), |id| format!(" for {}", self.name(id)));
                let which = if slots.is_empty() {
                    String::new()
                } else {
                    format!(" [{}]", slots.join(" "))
                };
                format!("evict {}{which}{who}: {reason}", self.name(*task))
            }
            DecisionKind::Nominate { task, nodes, .. } => {
                let nodes: Vec<String> = nodes.iter().map(|node| node.0.to_string()).collect();
                format!("nominate {}: {}", self.name(*task), nodes.join(" "))
            }
        }
    }

    fn end(&mut self, words: &[&str], released: bool) {
        let id = self.names[words[0]].id;
        for placement in self.sched.placements(id) {
            if words
                .get(1)
                .is_some_and(|want| **want != slot(placement.slot))
            {
                continue;
            }
            self.sched.apply(if released {
                Event::Released {
                    task: id,
                    slot: placement.slot,
                }
            } else {
                Event::Releasing {
                    task: id,
                    slot: placement.slot,
                    deadline: self.now + Span::from_secs(30),
                }
            });
        }
    }

    fn why(&mut self, name: &str) {
        let explanation = self.sched.explain(self.names[name].id, self.now);
        let standing = match explanation.standing {
            Standing::Unknown => "unknown".to_owned(),
            Standing::Waiting { position } => format!("waits at {position}"),
            Standing::Starting => "starts".to_owned(),
            Standing::Running { because } => format!("runs: {because}"),
            Standing::Evicting { because } => format!("stops: {because}"),
        };
        let _ = writeln!(self.out, "{name} {standing}");
        for (pool, blocker) in explanation.blockers {
            let _ = writeln!(self.out, "in `{pool}`: {blocker}");
        }
        if let Some(change) = explanation.change {
            let _ = writeln!(self.out, "would start: {change}");
        }
        if let Some(time) = explanation.expected_start {
            let _ = writeln!(self.out, "expected in {}", time.since(self.now));
        }
    }

    /// A new scheduler from what is known to be durable.
    fn restart(&mut self) {
        let config = self.config.clone();
        let old = std::mem::replace(&mut self.sched, Sched::new(config));
        for (id, (spec, started)) in &self.started {
            let placements = old.placements(*id);
            if !placements.is_empty() {
                self.sched.apply(Event::Running(RunningTask {
                    spec: spec.clone(),
                    started: *started,
                    placements,
                }));
            }
        }
    }
}

fn device(id: String, class: &str, model: &str, number: u16) -> DeviceSpec {
    DeviceSpec {
        id,
        class: class.to_owned(),
        model: model.to_owned(),
        memory: Bytes(80_000),
        healthy: true,
        link_group: number / 4,
        numa: number / 4,
        taints: Vec::new(),
        lanes: BTreeMap::new(),
        partitions: Vec::new(),
    }
}

/// The placements of an A100 in memory slices (NVIDIA MIG User Guide, "Supported MIG Profiles").
fn a100_partitions() -> Vec<PartitionSpec> {
    let part = |name: &str, slices: u8, starts: &[u8], milli: u16| PartitionSpec {
        name: name.to_owned(),
        slices,
        starts: starts.to_vec(),
        milli,
    };
    vec![
        part("mig-1g.10gb", 1, &[0, 1, 2, 3, 4, 5, 6], 142),
        part("mig-2g.20gb", 2, &[0, 2, 4], 285),
        part("mig-3g.40gb", 4, &[0, 4], 428),
        part("mig-7g.80gb", 8, &[0], 1_000),
    ]
}

/// `2x8:A100`: two nodes of eight.
fn shape(text: &str) -> ShapeQuota {
    let (nodes, rest) = text.split_once('x').unwrap();
    let (gpus, model) = rest.split_once(':').unwrap_or((rest, ""));
    ShapeQuota {
        nodes: nodes.parse().unwrap(),
        each: Resources {
            gpu_milli: base::quantity::parse_milli(gpus).unwrap(),
            ..Resources::default()
        },
        gpu_model: model.to_owned(),
    }
}

pub(crate) fn group(name: &str) -> GroupSpec {
    GroupSpec {
        name: name.to_owned(),
        count: 1,
        min: 1,
        request: Resources::default(),
        gpu_models: Vec::new(),
        gpu_memory: Bytes(0),
        node_selector: BTreeMap::new(),
        pools: Vec::new(),
        tolerations: Vec::new(),
        affinity: Affinity::default(),
        topology: None,
        per_node_max: 0,
    }
}

fn group_word(group: &mut GroupSpec, word: &str) {
    if let Some(count) = word.strip_prefix('x')
        && let Ok(count) = count.parse()
    {
        group.count = count;
        group.min = count;
        return;
    }
    let (key, value) = word.split_once('=').unwrap_or((word, ""));
    let pair = || {
        let (key, label) = value.split_once('@').unwrap_or((value, "host"));
        (key.to_owned(), label.to_owned())
    };
    match key {
        "min" => group.min = value.parse().unwrap(),
        "models" => group.gpu_models = value.split(',').map(str::to_owned).collect(),
        "gpumemory" => group.gpu_memory = Bytes(value.parse().unwrap()),
        "pools" => group.pools = value.split(',').map(str::to_owned).collect(),
        "on" => {
            let (key, value) = value.split_once(':').unwrap();
            group.node_selector.insert(key.to_owned(), value.to_owned());
        }
        "tolerates" => group.tolerations.push(Toleration {
            key: value.to_owned(),
            value: None,
            effect: None,
        }),
        "pernode" => group.per_node_max = value.parse().unwrap(),
        "key" => group.affinity.keys.push(value.to_owned()),
        "with" => group.affinity.with.push(pair()),
        "against" => group.affinity.against.push(pair()),
        "prefer" => group.affinity.prefer_with.push(pair()),
        "avoid" => group.affinity.prefer_against.push(pair()),
        "atmost" => {
            let (key, rest) = value.split_once('@').unwrap();
            let (label, most) = rest.split_once(':').unwrap();
            let most = most.parse().unwrap();
            group
                .affinity
                .at_most
                .push((key.to_owned(), label.to_owned(), most));
        }
        "spread" | "softspread" => {
            let (key, label) = value.split_once('@').unwrap();
            group.affinity.spread.push(Spread {
                key: key.to_owned(),
                label: label.to_owned(),
                skew_max: 1,
                required: word.starts_with("spread"),
            });
        }
        "in" | "near" => {
            group.topology = Some(TopologyRequest {
                level: value.to_owned(),
                required: key == "in",
            });
        }
        _ => resource(&mut group.request, key, value),
    }
}

fn resource(amount: &mut Resources, key: &str, value: &str) {
    match key {
        "cpu" => amount.cpu = value.parse::<MilliCpu>().unwrap(),
        "memory" => amount.memory = value.parse::<Bytes>().unwrap(),
        "gpu" => amount.gpu_milli = base::quantity::parse_milli(value).unwrap(),
        _ => {
            amount
                .extended
                .insert(key.to_owned(), value.parse().unwrap());
        }
    }
}

fn slot(slot: SlotId) -> String {
    format!("{}.{}", slot.group, slot.index)
}

fn seats(placements: &[Placement]) -> String {
    let seats: Vec<String> = placements
        .iter()
        .map(|placement| {
            let devices: Vec<String> = placement
                .devices
                .iter()
                .map(|share| match (share.partition, share.milli) {
                    (Some(part), _) => {
                        format!("g{}/{}+{}", share.device, part.first, part.slices)
                    }
                    (None, 0) => format!("g{}~", share.device),
                    (None, 1_000) => format!("g{}", share.device),
                    (None, milli) => format!("g{}*{milli}", share.device),
                })
                .collect();
            let devices = if devices.is_empty() {
                String::new()
            } else {
                format!("[{}]", devices.join(" "))
            };
            format!("{}@{}{devices}", slot(placement.slot), placement.node.0)
        })
        .collect();
    seats.join(" ")
}
