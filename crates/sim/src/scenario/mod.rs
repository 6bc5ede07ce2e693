//! Days of a cluster's life as a text file: who is there, what arrives, what goes wrong, what is expected.
//!
//! The format is documented in `crates/sim/README.md`. Everything that is left to chance (times of
//! arrival, run times, faults) comes from the scenario's seed.

mod parse;
mod report;

pub use parse::{ScenarioError, parse, read};
pub use report::{Check, check, checks_json, summary, told};

use crate::change::{Change, Pattern};
use crate::dice::Dice;
use crate::life::{Happening, Life, Outcome, Pace, Saves, Work, WorkId};
use crate::policy::Policy;
use base::{Span, Time};
use sched::*;

/// A life without an end is lived this long at most.
const LONGEST: Span = Span::from_secs(400 * 86_400);
/// The most arrivals or faults of one line.
const ARRIVALS_MAX: usize = 1_000_000;

/// A scenario.
#[derive(Clone, Debug, Default)]
pub struct Scenario {
    /// What it is about.
    pub title: String,
    /// What is left to chance depends on this alone.
    pub seed: u64,
    /// When it ends; without it, when nothing is left to happen.
    pub until: Option<Span>,
    /// Pools.
    pub pools: Vec<PoolSpec>,
    /// Nodes.
    pub nodes: Vec<NodeSpec>,
    /// Queues.
    pub queues: Vec<QueueSpec>,
    /// Streams of jobs.
    pub jobs: Vec<JobLine>,
    /// Apps.
    pub apps: Vec<AppLine>,
    /// What happens at given times.
    pub steps: Vec<(Span, Step)>,
    /// What happens by chance.
    pub faults: Vec<Faults>,
    /// What should come about.
    pub expects: Vec<Expect>,
}

/// Jobs of one kind.
#[derive(Clone, Debug)]
pub struct JobLine {
    /// The task of each; its name is the stream's.
    pub spec: TaskSpec,
    /// What survives a stop.
    pub saves: Saves,
    /// Time until it makes progress.
    pub loads: Span,
    /// The shortest and the longest run time.
    pub runs: (Span, Span),
    /// How many; `None` for as many as come.
    pub count: Option<u32>,
    /// The mean time between arrivals, which are random; without it all come at once.
    pub every: Option<Span>,
    /// When the first may come.
    pub from: Span,
    /// When the last may come.
    pub to: Option<Span>,
}

/// An App.
#[derive(Clone, Debug)]
pub struct AppLine {
    /// The task of each replica; its name is the App's.
    pub spec: TaskSpec,
    /// How long it drains.
    pub saves: Saves,
    /// Time until it serves.
    pub loads: Span,
    /// How many replicas at first.
    pub replicas: u32,
    /// When it is deployed.
    pub from: Span,
}

/// Something at a given time.
#[derive(Clone, Debug)]
pub enum Step {
    /// A person changes something.
    Change(Change),
    /// Nodes die and come back.
    Fail {
        /// Which.
        nodes: Pattern,
        /// For how long.
        down: Span,
    },
    /// An App gets another number of replicas.
    Scale {
        /// Which.
        app: String,
        /// How many.
        replicas: u32,
    },
    /// More jobs of a kind at once.
    Burst {
        /// Which.
        job: String,
        /// How many.
        count: u32,
    },
}

/// Nodes that die by chance.
#[derive(Clone, Debug)]
pub struct Faults {
    /// Which.
    pub nodes: Pattern,
    /// Mean time between two faults of a node.
    pub every: Span,
    /// How long it stays away.
    pub down: Span,
}

/// What should come about.
#[derive(Clone, Debug)]
pub struct Expect {
    /// What is measured.
    pub measure: Measure,
    /// Of which queue, job or App; of all without it.
    pub of: Option<String>,
    /// `<=`, `>=` or `=`.
    pub sign: String,
    /// The value; waits in seconds.
    pub value: f64,
}

/// What can be expected of a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Pieces of work that finished.
    Finished,
    /// Pieces of work that are not finished.
    Unfinished,
    /// Stops for others.
    Evictions,
    /// Attempts that a fault ended.
    Faults,
    /// Mean wait in seconds.
    MeanWait,
    /// The wait that one in a hundred exceeds, in seconds.
    P99Wait,
    /// The longest wait in seconds.
    MaxWait,
    /// Percent of GPU time that was held.
    Held,
    /// Percent of the GPU time held that was lost.
    Lost,
    /// Promises that the books do not cover.
    Complaints,
}

impl Measure {
    /// All of them.
    pub const ALL: [Measure; 10] = [
        Measure::Finished,
        Measure::Unfinished,
        Measure::Evictions,
        Measure::Faults,
        Measure::MeanWait,
        Measure::P99Wait,
        Measure::MaxWait,
        Measure::Held,
        Measure::Lost,
        Measure::Complaints,
    ];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Measure::Finished => "finished",
            Measure::Unfinished => "unfinished",
            Measure::Evictions => "evictions",
            Measure::Faults => "faults",
            Measure::MeanWait => "mean_wait",
            Measure::P99Wait => "p99_wait",
            Measure::MaxWait => "max_wait",
            Measure::Held => "held_percent",
            Measure::Lost => "lost_percent",
            Measure::Complaints => "complaints",
        }
    }
}

/// Lives through a scenario.
pub fn run(scenario: &Scenario, policy: &mut dyn Policy, told: bool) -> Outcome {
    let start = Time::default();
    let length = scenario.until.unwrap_or(LONGEST);
    let end = start + length;
    let pace = Pace {
        tick: Some(Span::from_secs(60)),
        // About a thousand samples, at least a minute apart.
        sample: Some(Span::from_ms(
            (length.as_ms() / 1_000).clamp(60_000, 3_600_000),
        )),
        told,
    };
    let mut life = Life::new(policy, pace);
    for pool in &scenario.pools {
        life.at(start, Happening::Fact(Event::Pool(pool.clone())));
    }
    for queue in &scenario.queues {
        life.at(start, Happening::Queue(queue.clone()));
    }
    for node in &scenario.nodes {
        life.at(start, Happening::Node(node.clone()));
    }
    let mut dice = Dice::new(scenario.seed);
    for (number, line) in scenario.jobs.iter().enumerate() {
        // A stream of its own, so that a change of one line leaves the others alone.
        let mut dice = Dice::new(scenario.seed ^ ((number as u64 + 1) << 32));
        let to = line.to.unwrap_or(length).min(length);
        let mut at = line.from;
        let most = line.count.map_or(ARRIVALS_MAX, |count| count as usize);
        let mut made = 0;
        while made < most {
            if let Some(every) = line.every {
                at = Span::from_ms(at.as_ms() + dice.exponential(every.as_ms() as f64) as u64);
                if at > to {
                    break;
                }
            }
            made += 1;
            life.arrive(one(line, made as u32, start + at, &mut dice));
        }
    }
    let mut replicas: Vec<Vec<WorkId>> = Vec::new();
    for app in &scenario.apps {
        let mut ids = Vec::new();
        scale(&mut life, app, &mut ids, app.replicas, start + app.from);
        replicas.push(ids);
    }
    let mut steps: Vec<&(Span, Step)> = scenario.steps.iter().collect();
    steps.sort_by_key(|(at, _)| *at);
    let mut bursts = 0;
    for (at, step) in steps {
        let at = start + *at;
        match step {
            Step::Change(change) => life.at(at, Happening::Change(change.clone())),
            Step::Fail { nodes, down } => {
                for node in scenario
                    .nodes
                    .iter()
                    .filter(|node| nodes.matches(&node.name))
                {
                    life.at(at, Happening::Fail(node.id));
                    life.at(at + *down, Happening::Back(node.id));
                }
            }
            Step::Scale {
                app,
                replicas: wanted,
            } => {
                let found = scenario
                    .apps
                    .iter()
                    .position(|known| known.spec.name == *app);
                if let Some(found) = found {
                    scale(
                        &mut life,
                        &scenario.apps[found],
                        &mut replicas[found],
                        *wanted,
                        at,
                    );
                }
            }
            Step::Burst { job, count } => {
                bursts += 1;
                for number in 0..*count {
                    if let Some(line) = scenario.jobs.iter().find(|line| line.spec.name == *job) {
                        let mut work = one(line, number + 1, at, &mut dice);
                        work.spec.name = format!("{job}-burst{bursts}-{}", number + 1);
                        life.arrive(work);
                    }
                }
            }
        }
    }
    for faults in &scenario.faults {
        for node in scenario
            .nodes
            .iter()
            .filter(|node| faults.nodes.matches(&node.name))
        {
            let mut at = start;
            for _ in 0..ARRIVALS_MAX {
                at = at + Span::from_ms(dice.exponential(faults.every.as_ms() as f64) as u64 + 1);
                if at > end {
                    break;
                }
                life.at(at, Happening::Fail(node.id));
                at = at + faults.down;
                life.at(at, Happening::Back(node.id));
            }
        }
    }
    life.run(scenario.until.map(|_| end));
    life.finish()
}

fn one(line: &JobLine, number: u32, at: Time, dice: &mut Dice) -> Work {
    let mut spec = line.spec.clone();
    spec.submitted = at;
    if line.count != Some(1) {
        spec.name = format!("{}-{number}", spec.name);
    }
    let (low, high) = line.runs;
    let more = ((high.as_ms() - low.as_ms()) as f64 * dice.unit()) as u64;
    Work {
        spec,
        runs: Some(Span::from_ms(low.as_ms() + more)),
        saves: line.saves,
        loads: line.loads,
        class: line.spec.name.clone(),
    }
}

/// The newest go first.
fn scale(life: &mut Life<'_>, app: &AppLine, ids: &mut Vec<WorkId>, wanted: u32, at: Time) {
    while ids.len() < wanted as usize {
        let mut spec = app.spec.clone();
        spec.name = format!("{}/{}", spec.name, ids.len());
        spec.submitted = at;
        ids.push(life.arrive(Work {
            spec,
            runs: None,
            saves: app.saves,
            loads: app.loads,
            class: app.spec.name.clone(),
        }));
    }
    while ids.len() > wanted as usize {
        if let Some(id) = ids.pop() {
            life.at(at, Happening::Withdraw(id));
        }
    }
}
