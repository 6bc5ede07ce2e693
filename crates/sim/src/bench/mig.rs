//! Cut devices: how many requests for parts of a GPU are turned away while parts come and go.

use super::{BenchError, Better, Effort, Line};
use crate::dice::Dice;
use crate::specs;
use base::{Bytes, Time};
use sched::*;
use std::collections::{BTreeMap, BinaryHeap};

/// An A100's ways to be cut, by its eight slices of memory: name, slices, where it may begin, thousandths, and
/// how often it is asked for.
const PROFILES: [(&str, u8, &[u8], u16, usize); 4] = [
    ("mig-1g.5gb", 1, &[0, 1, 2, 3, 4, 5, 6], 142, 45),
    ("mig-2g.10gb", 2, &[0, 2, 4], 285, 25),
    ("mig-3g.20gb", 4, &[0, 4], 428, 20),
    ("mig-7g.40gb", 8, &[0], 1_000, 10),
];
const SLICES: u64 = 8;
const NODES: u32 = 50;
const GPUS: u16 = 8;

/// A request: which profile, when it comes, when it ends.
#[derive(Clone, Copy)]
struct Request {
    profile: usize,
    arrives: i64,
    ends: i64,
}

fn requests(count: usize, seed: u64) -> Vec<Request> {
    let mut dice = Dice::new(seed);
    let weights: usize = PROFILES.iter().map(|profile| profile.4).sum();
    let mean: f64 = PROFILES
        .iter()
        .map(|(_, slices, .., weight)| f64::from(*slices) * *weight as f64 / weights as f64)
        .sum();
    // As much is asked for as there is, and an hour is held in the mean.
    let devices = f64::from(NODES) * f64::from(GPUS);
    let gap = 3.6e6 * mean / (devices * SLICES as f64);
    let mut at = 0.0;
    (0..count)
        .map(|_| {
            at += dice.exponential(gap);
            let mut pick = dice.below(weights);
            let profile = PROFILES.iter().position(|profile| {
                let here = pick < profile.4;
                pick = pick.saturating_sub(profile.4);
                here
            });
            Request {
                profile: profile.unwrap_or(0),
                arrives: at as i64,
                ends: (at + dice.exponential(3.6e6)) as i64 + 1,
            }
        })
        .collect()
}

/// Who places a request, or turns it away.
trait Cutter {
    fn arrive(&mut self, number: usize, request: Request) -> bool;
    fn end(&mut self, number: usize);
}

/// Lives through the requests; answers the percent of slices that were asked for and given.
fn live(requests: &[Request], cutter: &mut dyn Cutter) -> f64 {
    let mut ends: BinaryHeap<std::cmp::Reverse<(i64, usize)>> = BinaryHeap::new();
    let (mut asked, mut given) = (0, 0);
    for (number, request) in requests.iter().enumerate() {
        while let Some(std::cmp::Reverse((at, other))) = ends.peek().copied()
            && at <= request.arrives
        {
            ends.pop();
            cutter.end(other);
        }
        let placed = cutter.arrive(number, *request);
        // The first third fills the cluster.
        if number >= requests.len() / 3 {
            let slices = u64::from(PROFILES[request.profile].1);
            asked += slices;
            given += if placed { slices } else { 0 };
        }
        if placed {
            ends.push(std::cmp::Reverse((request.ends, number)));
        }
    }
    given as f64 * 100.0 / asked.max(1) as f64
}

/// The first device and the first position that is free: what a node's own plugin does.
struct FirstFit {
    devices: Vec<u8>,
    held: BTreeMap<usize, (usize, u8)>,
}

impl Cutter for FirstFit {
    fn arrive(&mut self, number: usize, request: Request) -> bool {
        let (_, slices, starts, ..) = PROFILES[request.profile];
        let mask = |start: u8| (((1u16 << slices) - 1) << start) as u8;
        for (at, used) in self.devices.iter_mut().enumerate() {
            let start = starts.iter().find(|start| *used & mask(**start) == 0);
            if let Some(start) = start {
                *used |= mask(*start);
                self.held.insert(number, (at, mask(*start)));
                return true;
            }
        }
        false
    }

    fn end(&mut self, number: usize) {
        if let Some((at, mask)) = self.held.remove(&number) {
            self.devices[at] &= !mask;
        }
    }
}

struct Core(Sched);

impl Core {
    fn new() -> Self {
        let mut core = Sched::new(Config {
            backfill: Backfill::Never,
            ..Config::standard()
        });
        core.apply(Event::Pool(specs::pool("gpu", DeviceMode::Named, &[])));
        core.apply(Event::Queue(specs::queue("all")));
        for id in 0..NODES {
            let mut devices = specs::gpus("A100", GPUS);
            for device in &mut devices {
                device.memory = Bytes(40 << 30);
                device.partitions = PROFILES
                    .iter()
                    .map(|(name, slices, starts, milli, _)| PartitionSpec {
                        name: (*name).to_owned(),
                        slices: *slices,
                        starts: starts.to_vec(),
                        milli: *milli,
                    })
                    .collect();
            }
            let has = specs::amount(1_000_000, 1 << 40, 0);
            core.apply(Event::Node(NodeSpec {
                devices,
                ..specs::node(id, format!("node-{id}"), "gpu", has)
            }));
        }
        Self(core)
    }
}

impl Cutter for Core {
    fn arrive(&mut self, number: usize, request: Request) -> bool {
        let mut asks = specs::amount(100, 0, 0);
        asks.extended
            .insert(PROFILES[request.profile].0.to_owned(), 1);
        let at = Time::from_ms(request.arrives);
        let spec = specs::task(number as u64, "all", at, vec![specs::group(1, asks)]);
        let id = spec.id;
        self.0.apply(Event::Task(spec));
        let decisions = self.0.decide(at, 1_000);
        for decision in &decisions {
            self.0.apply(Event::Committed(decision.id));
        }
        if decisions.is_empty() {
            self.0.apply(Event::TaskGone(id));
        }
        !decisions.is_empty()
    }

    fn end(&mut self, number: usize) {
        let task = specs::task_id(number as u64);
        let slot = SlotId { group: 0, index: 0 };
        self.0.apply(Event::Released { task, slot });
    }
}

pub(crate) fn mig(effort: Effort) -> Result<Vec<Line>, BenchError> {
    const ID: &str = "sched.mig";
    let seeds = match effort {
        Effort::Quick => 3,
        Effort::Full => 10,
    };
    let (mut ours, mut first) = (0.0, 0.0);
    for seed in 0..seeds {
        let requests = requests(12_000, 70 + seed);
        ours += live(&requests, &mut Core::new());
        let mut plain = FirstFit {
            devices: vec![0; usize::from(GPUS) * NODES as usize],
            held: BTreeMap::new(),
        };
        first += live(&requests, &mut plain);
    }
    let n = seeds as f64;
    let case =
        format!("{NODES}x{GPUS} A100 in parts, as much asked for as there is, {seeds} seeds");
    Ok(vec![
        Line::new(ID, case, "slices_given", ours / n, "%", Better::Higher)
            .peer("first fit", first / n)
            .aim(first / n),
    ])
}
