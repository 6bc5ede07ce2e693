//! Joining scattered GPUs: how much more of a cluster can be handed out after a few tasks were moved.

use super::traces::data;
use super::{BenchError, Better, Effort, Line};
use crate::dice::Dice;
use crate::openb::{self, Machine, Pod};
use base::{Span, Time};
use sched::*;

/// Percent of the tasks that end before the moves.
const DEPART_PERCENT: usize = 30;
/// At most so many of those that are left are moved, in percent.
const MOVED_PERCENT: f64 = 3.0;

/// A core with the tasks that it started.
struct Cluster {
    core: Sched,
    running: Vec<(usize, TaskId)>,
    arrived: Vec<Pod>,
    now: Time,
}

impl Cluster {
    fn empty(machines: &[Machine], defrag: Option<Defrag>) -> Self {
        let mut core = Sched::new(Config {
            models: ModelOrder::AfterFragmentation,
            backfill: Backfill::Never,
            defrag,
            ..Config::standard()
        });
        for event in openb::core_events(machines) {
            core.apply(event);
        }
        Self {
            core,
            running: Vec::new(),
            arrived: Vec::new(),
            now: Time::from_ms(1),
        }
    }

    /// The openb cluster, filled until arrivals ask for 130 % of it, after a part of the tasks ended.
    fn holed(machines: &[Machine], pods: &[Pod], defrag: Option<Defrag>, seed: u64) -> Self {
        let mut cluster = Self::empty(machines, defrag);
        for pod in openb::arrivals(machines, pods, seed) {
            cluster.arrive(pod);
        }
        let mut dice = Dice::new(seed ^ 0xdef);
        dice.shuffle(&mut cluster.running);
        let stay = cluster.running.len() * (100 - DEPART_PERCENT) / 100;
        for (_, task) in cluster.running.split_off(stay) {
            cluster.end(task);
        }
        cluster
    }

    /// The same tasks as another cluster's, all placed afresh in the order of their arrival: as if everything could be moved.
    fn repacked(machines: &[Machine], other: &Self) -> Self {
        let mut cluster = Self::empty(machines, None);
        let mut numbers: Vec<usize> = other.running.iter().map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        for number in numbers {
            let placed = cluster.arrive(other.arrived[number].clone());
            assert!(placed, "a part of what fitted fits");
        }
        cluster
    }

    /// Lets one pod arrive; who does not fit is dropped. Nobody is moved meanwhile: time stands still.
    fn arrive(&mut self, pod: Pod) -> bool {
        let number = self.arrived.len();
        let task = TaskSpec {
            submitted: self.now,
            preemptible: true,
            checkpoints: true,
            grace: Span::from_secs(30),
            ..openb::core_task(number, &pod)
        };
        let id = task.id;
        self.arrived.push(pod);
        self.core.apply(Event::Task(task));
        let mut started = false;
        for decision in self.core.decide(self.now, 1_000) {
            match decision.kind {
                DecisionKind::Start { .. } => {
                    started = true;
                    self.core.apply(Event::Committed(decision.id));
                }
                DecisionKind::Grow { .. }
                | DecisionKind::Evict { .. }
                | DecisionKind::Nominate { .. } => self.core.apply(Event::Rejected(decision.id)),
            }
        }
        if started {
            self.running.push((number, id));
        } else {
            self.core.apply(Event::TaskGone(id));
        }
        started
    }

    fn end(&mut self, task: TaskId) {
        let slot = SlotId { group: 0, index: 0 };
        self.core.apply(Event::Released { task, slot });
    }

    /// Lets the core move tasks until it sees nothing more to gain, or the most are moved.
    fn join(&mut self) -> usize {
        let most = (self.running.len() as f64 * MOVED_PERCENT / 100.0) as usize;
        let mut moved = 0;
        let mut idle = 0;
        while moved < most && idle < 3 {
            self.now = self.now + Span::from_secs(61);
            let decisions = self.core.decide(self.now, 1_000_000);
            idle += 1;
            for decision in decisions {
                let DecisionKind::Evict { task, .. } = decision.kind else {
                    self.core.apply(Event::Committed(decision.id));
                    continue;
                };
                if moved == most {
                    self.core.apply(Event::Rejected(decision.id));
                    continue;
                }
                self.core.apply(Event::Committed(decision.id));
                self.end(task);
                let at = self.running.iter().position(|(_, id)| *id == task);
                let (number, _) = self
                    .running
                    .swap_remove(at.expect("only who runs is moved"));
                let pod = self.arrived[number].clone();
                assert!(self.arrive(pod), "its old place at least is free");
                moved += 1;
                idle = 0;
            }
        }
        moved
    }

    fn percent(&self, machines: &[Machine]) -> f64 {
        let held = self
            .running
            .iter()
            .map(|(number, _)| self.arrived[*number].gpu_milli());
        held.sum::<u64>() as f64 * 100.0 / openb::capacity(machines) as f64
    }
}

pub(crate) fn defrag(effort: Effort) -> Result<Vec<Line>, BenchError> {
    const ID: &str = "sched.defrag";
    let machines = openb::read_nodes(&data(ID, "openb/openb_node_list_gpu_node.csv")?)?;
    let pods = openb::read_pods(&data(ID, "openb/openb_pod_list_default.csv")?)?;
    let seeds = match effort {
        Effort::Quick => 2,
        Effort::Full => 10,
    };
    let rule = Defrag {
        moves_max: 1,
        gain_by_cost_min: 2,
        horizon: Span::from_secs(3_600),
    };
    let (mut with, mut without, mut moved) = (0.0, 0.0, 0.0);
    let (mut afresh, mut from_empty) = (0.0, 0.0);
    for seed in 42..42 + seeds {
        // The same arrivals for all, other ones than those that filled the cluster.
        let filled = |mut cluster: Cluster| {
            for pod in openb::arrivals(&machines, &pods, seed + 1_000) {
                cluster.arrive(pod);
            }
            cluster.percent(&machines)
        };
        let holed = Cluster::holed(&machines, &pods, None, seed);
        afresh += filled(Cluster::repacked(&machines, &holed));
        from_empty += filled(Cluster::empty(&machines, None));
        without += filled(holed);
        let mut joined = Cluster::holed(&machines, &pods, Some(rule), seed);
        let tasks = joined.running.len();
        moved += joined.join() as f64 * 100.0 / tasks as f64;
        with += filled(joined);
    }
    let n = seeds as f64;
    let case = format!("openb, {DEPART_PERCENT} % ended, {seeds} seeds");
    Ok(vec![
        Line::new(
            ID,
            case.clone(),
            "allocation_after",
            with / n,
            "%",
            Better::Higher,
        )
        .peer("without moves", without / n),
        Line::new(
            ID,
            case.clone(),
            "gain",
            (with - without) / n,
            "points",
            Better::Higher,
        )
        .peer("without moves", 0.0)
        .aim(2.0),
        Line::new(
            ID,
            case.clone(),
            "gain_if_all_were_placed_afresh",
            (afresh - without) / n,
            "points",
            Better::Higher,
        ),
        Line::new(
            ID,
            case.clone(),
            "allocation_from_empty",
            from_empty / n,
            "%",
            Better::Higher,
        ),
        Line::new(ID, case, "moved", moved / n, "%", Better::Lower).aim(MOVED_PERCENT),
    ])
}
