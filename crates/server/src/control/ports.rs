//! Port numbers for replicas that share their node's address: given with the Placement, unique on the
//! node until released. The database has the last word (a unique index); this keeps the free numbers
//! at hand.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Which numbers are taken, by node.
#[derive(Debug, Default)]
pub struct Ports {
    nodes: HashMap<String, NodePorts>,
    offset: u16,
}

#[derive(Debug)]
struct NodePorts {
    range: (u16, u16),
    taken: BTreeSet<u16>,
    next: u16,
}

impl Ports {
    /// Numbers are given from this place of each range on. Two installations on one machine, and a server and the one
    /// before it, had better begin at different places: what is free here may be in use there.
    pub fn from_offset(offset: u16) -> Ports {
        Ports {
            nodes: HashMap::new(),
            offset,
        }
    }

    /// A node gives ports out of this range, both ends included.
    pub fn node(&mut self, node: &str, range: (u16, u16)) {
        let (first, last) = range;
        let next = first + self.offset % (last - first + 1).max(1);
        let fresh = NodePorts {
            range,
            taken: BTreeSet::new(),
            next,
        };
        let ports = self.nodes.entry(node.to_owned()).or_insert(fresh);
        ports.range = range;
    }

    /// These numbers are in use.
    pub fn take(&mut self, node: &str, numbers: impl IntoIterator<Item = u16>) {
        if let Some(ports) = self.nodes.get_mut(node) {
            ports.taken.extend(numbers);
        }
    }

    /// These numbers are free again.
    pub fn release(&mut self, node: &str, numbers: impl IntoIterator<Item = u16>) {
        if let Some(ports) = self.nodes.get_mut(node) {
            for number in numbers {
                ports.taken.remove(&number);
            }
        }
    }

    /// Gives a number to each name. `None` when the range is used up; an empty map on a node whose
    /// replicas have addresses of their own.
    pub fn give(&mut self, node: &str, names: &[String]) -> Option<BTreeMap<String, u16>> {
        let Some(ports) = self.nodes.get_mut(node) else {
            return Some(BTreeMap::new());
        };
        let before = ports.next;
        let mut given = BTreeMap::new();
        for name in names {
            let Some(number) = ports.free() else {
                ports.next = before;
                self.release(node, given.into_values());
                return None;
            };
            given.insert(name.clone(), number);
        }
        Some(given)
    }
}

impl NodePorts {
    /// The next free number. Numbers go round, so that one just released is used last: a program that
    /// ended a moment ago may have left connections behind.
    fn free(&mut self) -> Option<u16> {
        let (first, last) = self.range;
        for _ in first..=last {
            let number = self.next.clamp(first, last);
            self.next = if number == last { first } else { number + 1 };
            if self.taken.insert(number) {
                return Some(number);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_round_and_run_out() {
        let mut ports = Ports::default();
        ports.node("a", (10, 12));
        let names = |n: usize| (0..n).map(|i| format!("p{i}")).collect::<Vec<_>>();
        let first = ports.give("a", &names(2)).unwrap();
        assert_eq!(first.values().copied().collect::<Vec<_>>(), [10, 11]);
        assert_eq!(ports.give("a", &names(2)), None);
        ports.release("a", [10]);
        assert_eq!(
            ports.give("a", &names(1)).unwrap()["p0"],
            12,
            "the released one is used last"
        );
        assert_eq!(ports.give("a", &names(1)).unwrap()["p0"], 10);
        assert_eq!(ports.give("elsewhere", &names(3)), Some(BTreeMap::new()));
    }
}
