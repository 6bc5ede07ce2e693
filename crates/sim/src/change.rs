//! Changes that a person makes to a cluster, as one line of text: in scenarios (`at 2h drain node-3`) and
//! in questions (`--what-if 'queue risk guaranteed gpu=64'`).
//!
//! ```text
//! queue NAME guaranteed|limit RESOURCE=AMOUNT[,…]     queue NAME weight N
//! drain NODES      undrain NODES      cordon NODES      uncordon NODES
//! sick NODE DEVICE      well NODE DEVICE      add N like NODE
//! ```
//! NODES is a name, or a beginning of names with `*`. Amounts are written as in manifests: `cpu=4`,
//! `memory=64Gi`, `gpu=2`. A limit of `none` takes the line away.

use base::quantity::{parse_milli, parse_whole};
use base::{Bytes, MilliCpu, Resources};
use sched::{NodeId, NodeSpec, QueueSpec, Quota, Taint, TaintEffect};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// The mark of a drained node.
const DRAIN: &str = "drain";

/// A change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A queue's lines are set, in every pool that it names.
    Queue {
        /// Its name.
        name: String,
        /// What is set.
        line: QueueLine,
    },
    /// Nodes take nothing new; what runs there is asked to go if `evict`.
    Close {
        /// Which.
        nodes: Pattern,
        /// Whether what runs there goes.
        evict: bool,
    },
    /// Nodes take work again.
    Open {
        /// Which.
        nodes: Pattern,
        /// Whether this ends a drain (else a cordon).
        evict: bool,
    },
    /// A device's health changes.
    Device {
        /// The node's name.
        node: String,
        /// The device's identity.
        device: String,
        /// How it is from now on.
        healthy: bool,
    },
    /// More nodes of a kind.
    Add {
        /// How many.
        count: u32,
        /// The name of the node that they are like.
        like: String,
    },
    /// The priority of all work whose name begins so. Only for questions about a log.
    Priority {
        /// The task's name, or a beginning with `*`.
        task: Pattern,
        /// The new priority.
        priority: i32,
    },
}

/// What of a queue is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueLine {
    /// These resources are guaranteed; others stay as they are.
    Guaranteed(Vec<(String, u64)>),
    /// These limits; `None` takes a limit away.
    Limit(Vec<(String, Option<u64>)>),
    /// Its weight.
    Weight(u32),
}

/// A name, or a beginning of names with `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(pub String);

impl Pattern {
    /// Whether a name is meant.
    pub fn matches(&self, name: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => self.0 == name,
        }
    }
}

/// Text that is not a change, with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadChange(pub String);
impl fmt::Display for BadChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl std::error::Error for BadChange {}

/// An amount of a resource in the scheduler's units: thousandths of cores and GPUs, bytes, pieces.
pub fn parse_amount(name: &str, text: &str) -> Result<u64, BadChange> {
    let parsed = match name {
        "cpu" | "gpu" => parse_milli(text),
        _ => parse_whole(text),
    };
    parsed.map_err(|error| BadChange(format!("{name}: {error}")))
}

/// Sets one amount by its resource's name, in the scheduler's units.
pub fn set_amount(resources: &mut Resources, name: &str, amount: u64) {
    match name {
        "cpu" => resources.cpu = MilliCpu(amount),
        "memory" => resources.memory = Bytes(amount),
        "gpu" => resources.gpu_milli = amount,
        _ if amount == 0 => drop(resources.extended.remove(name)),
        _ => drop(resources.extended.insert(name.to_owned(), amount)),
    }
}

fn pairs(text: &str) -> Result<Vec<(String, Option<u64>)>, BadChange> {
    let parts = text.split(',').map(|pair| {
        let pair = pair.split_once('=');
        let (name, amount) =
            pair.ok_or_else(|| BadChange(format!("`{text}` is not like `gpu=64`")))?;
        let amount = match amount {
            "none" => None,
            amount => Some(parse_amount(name, amount)?),
        };
        Ok((name.to_owned(), amount))
    });
    parts.collect()
}

impl FromStr for Change {
    type Err = BadChange;
    fn from_str(text: &str) -> Result<Self, BadChange> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let number = |text: &str| {
            let wrong = || BadChange(format!("`{text}` is not a whole number"));
            text.parse::<u32>().map_err(|_| wrong())
        };
        Ok(match words.as_slice() {
            ["queue", name, "guaranteed", amounts] => {
                let given = pairs(amounts)?.into_iter();
                let amounts = given.map(|(name, amount)| (name, amount.unwrap_or(0)));
                Change::queue(name, QueueLine::Guaranteed(amounts.collect()))
            }
            ["queue", name, "limit", amounts] => {
                Change::queue(name, QueueLine::Limit(pairs(amounts)?))
            }
            ["queue", name, "weight", weight] => {
                Change::queue(name, QueueLine::Weight(number(weight)?))
            }
            ["drain" | "cordon", nodes] => Change::Close {
                nodes: Pattern((*nodes).to_owned()),
                evict: words[0] == "drain",
            },
            ["undrain" | "uncordon", nodes] => Change::Open {
                nodes: Pattern((*nodes).to_owned()),
                evict: words[0] == "undrain",
            },
            ["sick" | "well", node, device] => Change::Device {
                node: (*node).to_owned(),
                device: (*device).to_owned(),
                healthy: words[0] == "well",
            },
            ["add", count, "like", node] => Change::Add {
                count: number(count)?,
                like: (*node).to_owned(),
            },
            ["task", task, "priority", priority] => Change::Priority {
                task: Pattern((*task).to_owned()),
                priority: priority
                    .parse()
                    .map_err(|_| BadChange(format!("`{priority}` is not a whole number")))?,
            },
            _ => {
                return Err(BadChange(format!(
                    "`{text}` is not a change; write `queue NAME guaranteed gpu=64`, `queue NAME limit gpu=64`, \
                     `queue NAME weight 2`, `drain NODE`, `cordon NODE`, `sick NODE DEVICE`, `add 4 like NODE` \
                     or `task NAME priority 10`"
                )));
            }
        })
    }
}

impl Change {
    fn queue(name: &str, line: QueueLine) -> Self {
        Change::Queue {
            name: name.to_owned(),
            line,
        }
    }

    /// The nodes and queues as they are afterwards; only those that the change is about.
    pub fn apply<'a>(
        &self,
        nodes: impl Iterator<Item = &'a NodeSpec>,
        queues: &BTreeMap<String, QueueSpec>,
    ) -> (Vec<NodeSpec>, Vec<QueueSpec>) {
        let mut changed = Vec::new();
        match self {
            Change::Queue { name, line } => {
                let spec = queues.get(name).map(|spec| line.apply(spec.clone()));
                return (Vec::new(), spec.into_iter().collect());
            }
            Change::Close {
                nodes: which,
                evict,
            } => {
                for node in nodes.filter(|node| which.matches(&node.name)) {
                    let mut node = node.clone();
                    node.unschedulable = true;
                    if *evict && !node.taints.iter().any(|taint| taint.key == DRAIN) {
                        node.taints.push(Taint {
                            key: DRAIN.to_owned(),
                            value: String::new(),
                            effect: TaintEffect::NoExecute,
                        });
                    }
                    changed.push(node);
                }
            }
            Change::Open { nodes: which, .. } => {
                for node in nodes.filter(|node| which.matches(&node.name)) {
                    let mut node = node.clone();
                    node.unschedulable = false;
                    node.taints.retain(|taint| taint.key != DRAIN);
                    changed.push(node);
                }
            }
            Change::Device {
                node: name,
                device,
                healthy,
            } => {
                for node in nodes.filter(|node| node.name == *name) {
                    let mut node = node.clone();
                    for found in node.devices.iter_mut().filter(|found| found.id == *device) {
                        found.healthy = *healthy;
                    }
                    changed.push(node);
                }
            }
            Change::Add { count, like } => {
                let all: Vec<&NodeSpec> = nodes.collect();
                let next = all.iter().map(|node| node.id.0 + 1).max().unwrap_or(0);
                let model = all.iter().find(|node| node.name == *like);
                for number in 0..model.map_or(0, |_| *count) {
                    let mut node = model.map(|node| (*node).clone()).into_iter();
                    changed.extend(node.next().map(|node| NodeSpec {
                        id: NodeId(next + number),
                        name: format!("{like}-more-{number}"),
                        ..node
                    }));
                }
            }
            Change::Priority { .. } => {}
        }
        (changed, Vec::new())
    }
}

impl QueueLine {
    fn apply(&self, mut spec: QueueSpec) -> QueueSpec {
        if spec.quotas.is_empty() {
            let none = Quota {
                weight: 1,
                ..Quota::default()
            };
            spec.quotas.insert("*".to_owned(), none);
        }
        for quota in spec.quotas.values_mut() {
            match self {
                QueueLine::Guaranteed(amounts) => {
                    for (name, amount) in amounts {
                        set_amount(&mut quota.guaranteed, name, *amount);
                    }
                }
                QueueLine::Limit(amounts) => {
                    for (name, amount) in amounts {
                        match amount {
                            Some(amount) => drop(quota.limit.insert(name.clone(), *amount)),
                            None => drop(quota.limit.remove(name)),
                        }
                    }
                }
                QueueLine::Weight(weight) => quota.weight = *weight,
            }
        }
        spec
    }
}

/// An amount as it is written.
fn show_amount(name: &str, amount: u64) -> String {
    match name {
        "cpu" => format!("cpu={}", MilliCpu(amount)),
        "gpu" => format!("gpu={}", base::resources::show_gpus(amount)),
        "memory" => format!("memory={}", Bytes(amount)),
        _ => format!("{name}={amount}"),
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Queue { name, line } => match line {
                QueueLine::Guaranteed(amounts) => {
                    let amounts = amounts
                        .iter()
                        .map(|(name, amount)| show_amount(name, *amount));
                    let amounts: Vec<String> = amounts.collect();
                    write!(f, "queue {name} guaranteed {}", amounts.join(","))
                }
                QueueLine::Limit(amounts) => {
                    let shown = amounts.iter().map(|(name, amount)| match amount {
                        Some(amount) => show_amount(name, *amount),
                        None => format!("{name}=none"),
                    });
                    let shown: Vec<String> = shown.collect();
                    write!(f, "queue {name} limit {}", shown.join(","))
                }
                QueueLine::Weight(weight) => write!(f, "queue {name} weight {weight}"),
            },
            Change::Close { nodes, evict } => {
                write!(f, "{} {}", if *evict { "drain" } else { "cordon" }, nodes.0)
            }
            Change::Open { nodes, evict } => {
                write!(
                    f,
                    "{} {}",
                    if *evict { "undrain" } else { "uncordon" },
                    nodes.0
                )
            }
            Change::Device {
                node,
                device,
                healthy,
            } => {
                write!(
                    f,
                    "{} {node} {device}",
                    if *healthy { "well" } else { "sick" }
                )
            }
            Change::Add { count, like } => write!(f, "add {count} like {like}"),
            Change::Priority { task, priority } => write!(f, "task {} priority {priority}", task.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_shown_as_they_are_written() {
        for text in [
            "queue risk guaranteed gpu=64",
            "queue risk limit cpu=500m,memory=64Gi,gpu=0.5",
            "queue risk limit gpu=none",
            "queue risk weight 3",
            "drain node-3",
            "undrain rack-1-*",
            "cordon node-3",
            "uncordon node-3",
            "sick node-3 gpu-0",
            "well node-3 gpu-0",
            "add 4 like node-0",
            "task job/train* priority -5",
        ] {
            assert_eq!(text.parse::<Change>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_not_a_change_is_refused_in_words() {
        let check = |text: &str, want: &str| {
            let error = text.parse::<Change>().unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        };
        check("", "is not a change");
        check("queue risk", "is not a change");
        check("queue risk guaranteed 64", "is not like `gpu=64`");
        check(
            "queue risk guaranteed gpu=much",
            "gpu: `much` is not a quantity",
        );
        check("queue risk weight -1", "is not a whole number");
    }
}
