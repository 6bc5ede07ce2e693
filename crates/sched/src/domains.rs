//! Topology domains and who is in them: columns of node labels, and counts of affinity keys.

use crate::class::Class;
use crate::cluster::{Cluster, NodeIdx};
use crate::hash::Map;
use crate::names::Name;

/// Domain of a node that lacks the label.
pub(crate) const NOWHERE: u32 = u32::MAX;

/// One node label that topology or affinity refers to.
#[derive(Debug)]
struct Column {
    label: Name,
    /// Domain by node.
    domain: Vec<u32>,
    numbers: Map<Box<str>, u32>,
    texts: Vec<Box<str>>,
    sizes: Vec<u32>,
    unused: Vec<u32>,
}

/// How many seats in a domain carry a key, and how many do not want it near.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Presence {
    carriers: u32,
    opponents: u32,
}

/// All columns and presences.
#[derive(Debug, Default)]
pub(crate) struct Domains {
    columns: Vec<Column>,
    presence: Map<(u32, Name, u32), Presence>,
    carriers: Map<Name, u32>,
    /// Keys that some class wants near.
    wanted: Map<Name, ()>,
    /// Keys whose exact number in a domain decides for some class.
    watched: Map<Name, ()>,
}

impl Domains {
    /// The column of a label, if it was registered.
    pub(crate) fn column(&self, label: Name) -> Option<usize> {
        self.columns.iter().position(|column| column.label == label)
    }

    /// Registers the labels that a class refers to; answers whether one of them is new.
    pub(crate) fn register(&mut self, class: &Class, cluster: &Cluster) -> bool {
        let mut is_new = false;
        for (key, _) in &class.with {
            self.wanted.insert(*key, ());
        }
        for (key, ..) in &class.at_most {
            self.watched.insert(*key, ());
        }
        for rule in &class.spread {
            self.watched.insert(rule.key, ());
        }
        let pairs = class.with.iter().chain(&class.against);
        let labels = pairs
            .map(|(_, label)| *label)
            .chain(class.prefer.iter().map(|(_, label, _)| *label))
            .chain(class.at_most.iter().map(|(_, label, _)| *label))
            .chain(class.spread.iter().map(|rule| rule.label))
            .chain(class.topology.map(|(label, _)| label));
        for label in labels {
            is_new |= self.register_label(label, cluster);
        }
        is_new
    }

    /// Registers one label; answers whether it is new.
    pub(crate) fn register_label(&mut self, label: Name, cluster: &Cluster) -> bool {
        let mut is_new = false;
        {
            if self.column(label).is_none() {
                self.columns.push(Column {
                    label,
                    domain: Vec::new(),
                    numbers: Map::default(),
                    texts: Vec::new(),
                    sizes: Vec::new(),
                    unused: Vec::new(),
                });
                is_new = true;
                let at = self.columns.len() - 1;
                for node in 0..cluster.nodes.id.len() as u32 {
                    self.place_node(at, NodeIdx(node), cluster);
                }
            }
        }
        is_new
    }

    /// Follows a change of a node's labels. Its seats must not be counted meanwhile.
    pub(crate) fn node_changed(&mut self, node: NodeIdx, cluster: &Cluster) {
        for at in 0..self.columns.len() {
            self.place_node(at, node, cluster);
        }
    }

    fn place_node(&mut self, at: usize, node: NodeIdx, cluster: &Cluster) {
        let column = &mut self.columns[at];
        let index = node.0 as usize;
        if column.domain.len() <= index {
            column.domain.resize(index + 1, NOWHERE);
        }
        let value = cluster.label(node, cluster.names.text(column.label));
        let old = column.domain[index];
        if old != NOWHERE {
            if value == Some(&*column.texts[old as usize]) {
                return;
            }
            column.sizes[old as usize] -= 1;
            if column.sizes[old as usize] == 0 {
                let text = std::mem::take(&mut column.texts[old as usize]);
                column.numbers.remove(&text);
                column.unused.push(old);
            }
        }
        let Some(value) = value else {
            column.domain[index] = NOWHERE;
            return;
        };
        let number = match column.numbers.get(value) {
            Some(number) => *number,
            None => {
                let number = column.unused.pop().unwrap_or(column.texts.len() as u32);
                if number as usize == column.texts.len() {
                    column.texts.push(Box::default());
                    column.sizes.push(0);
                }
                column.texts[number as usize] = value.into();
                column.numbers.insert(value.into(), number);
                number
            }
        };
        column.sizes[number as usize] += 1;
        column.domain[index] = number;
    }

    pub(crate) fn domain(&self, column: usize, node: NodeIdx) -> u32 {
        let domain = self.columns[column].domain.get(node.0 as usize);
        domain.copied().unwrap_or(NOWHERE)
    }

    pub(crate) fn domains_max(&self, column: usize) -> usize {
        self.columns[column].texts.len()
    }

    pub(crate) fn text(&self, column: usize, domain: u32) -> &str {
        &self.columns[column].texts[domain as usize]
    }

    /// Forgets all presences, before they are counted afresh.
    pub(crate) fn clear_presence(&mut self) {
        self.presence.clear();
        self.carriers.clear();
    }

    /// Counts a seat in or out, and touches the nodes for which that may decide.
    pub(crate) fn count(&mut self, class: &Class, node: NodeIdx, add: bool, cluster: &mut Cluster) {
        for key in &class.keys {
            let total = self.carriers.entry(*key).or_default();
            step(total, add);
            if *total == u32::from(add) && self.wanted.contains_key(key) {
                // The first carrier anywhere, or the last one gone, changes where its friends may start.
                for pool in &mut cluster.pools {
                    pool.layout += 1;
                }
            }
            for column in 0..self.columns.len() {
                self.count_one(column, *key, node, add, true, cluster);
            }
        }
        for (key, label) in &class.against {
            if let Some(column) = self.column(*label) {
                self.count_one(column, *key, node, add, false, cluster);
            }
        }
    }

    fn count_one(
        &mut self,
        column: usize,
        key: Name,
        node: NodeIdx,
        add: bool,
        carries: bool,
        cluster: &mut Cluster,
    ) {
        let domain = self.domain(column, node);
        if domain == NOWHERE {
            return;
        }
        let place = (column as u32, key, domain);
        let presence = self.presence.entry(place).or_default();
        let number = if carries {
            &mut presence.carriers
        } else {
            &mut presence.opponents
        };
        step(number, add);
        let turned = *number == u32::from(add) || (carries && self.watched.contains_key(&key));
        if *presence == Presence::default() {
            self.presence.remove(&place);
        }
        if turned && self.columns[column].sizes[domain as usize] > 1 {
            let column = &self.columns[column].domain;
            for (index, other) in column.iter().enumerate() {
                if *other == domain {
                    cluster.touch(NodeIdx(index as u32));
                }
            }
        }
    }

    fn carriers_in(&self, key: Name, column: usize, domain: u32) -> u32 {
        let presence = self.presence.get(&(column as u32, key, domain));
        presence.map_or(0, |presence| presence.carriers)
    }

    /// For each spread of a class the domains that any of `nodes` is in.
    pub(crate) fn homes(
        &self,
        class: &Class,
        nodes: impl Iterator<Item = NodeIdx>,
    ) -> Vec<Vec<u32>> {
        let columns: Vec<Option<usize>> = class
            .spread
            .iter()
            .map(|rule| self.column(rule.label))
            .collect();
        let mut homes = vec![Vec::new(); class.spread.len()];
        for node in nodes {
            for (at, column) in columns.iter().enumerate() {
                let domain = column.map_or(NOWHERE, |column| self.domain(column, node));
                if domain != NOWHERE {
                    homes[at].push(domain);
                }
            }
        }
        for domains in &mut homes {
            domains.sort_unstable();
            domains.dedup();
        }
        homes
    }

    /// For each spread of a class the fewest carriers of its key in any of its homes.
    pub(crate) fn floors(&self, class: &Class, homes: &[Vec<u32>]) -> Vec<u32> {
        let rules = class.spread.iter().zip(homes);
        rules
            .map(|(rule, domains)| {
                let column = self.column(rule.label);
                let carriers = domains.iter().map(|domain| {
                    column.map_or(0, |column| self.carriers_in(rule.key, column, *domain))
                });
                carriers.min().unwrap_or(0)
            })
            .collect()
    }

    /// How much a member of the class likes a node, from 0 to 15: its soft relations and spreads.
    pub(crate) fn liking(&self, class: &Class, node: NodeIdx, floors: &[u32]) -> u64 {
        let mut liking = 8i64;
        for (key, label, liked) in &class.prefer {
            if let Some(column) = self.column(*label)
                && self.carriers_in(*key, column, self.domain(column, node)) > 0
            {
                liking += if *liked { 1 } else { -1 };
            }
        }
        for (at, rule) in class.spread.iter().enumerate() {
            if let Some(column) = self.column(rule.label) {
                let carriers = self.carriers_in(rule.key, column, self.domain(column, node));
                let floor = floors.get(at).copied().unwrap_or(0);
                liking -= i64::from(carriers.saturating_sub(floor)).min(7);
            }
        }
        liking.clamp(0, 15) as u64
    }

    /// Whether affinity lets a member of the class onto a node now. `floors` are those of its spreads.
    pub(crate) fn allows(&self, class: &Class, node: NodeIdx, floors: &[u32]) -> bool {
        for (key, label, most) in &class.at_most {
            if let Some(column) = self.column(*label)
                && self.carriers_in(*key, column, self.domain(column, node)) >= *most
            {
                return false;
            }
        }
        for (at, rule) in class.spread.iter().enumerate() {
            let Some(column) = self.column(rule.label) else {
                continue;
            };
            let domain = self.domain(column, node);
            if !rule.required {
                continue;
            }
            let own = u32::from(class.keys.contains(&rule.key));
            let floor = floors.get(at).copied().unwrap_or(0);
            let carriers = self.carriers_in(rule.key, column, domain);
            if domain == NOWHERE || (carriers + own).saturating_sub(floor) > rule.skew_max {
                return false;
            }
        }
        let presence = |key: Name, column: usize| {
            let domain = self.domain(column, node);
            let place = (column as u32, key, domain);
            self.presence.get(&place).copied().unwrap_or_default()
        };
        for (key, label) in &class.against {
            if let Some(column) = self.column(*label)
                && presence(*key, column).carriers > 0
            {
                return false;
            }
        }
        for key in &class.keys {
            for column in 0..self.columns.len() {
                if presence(*key, column).opponents > 0 {
                    return false;
                }
            }
        }
        class.with.iter().all(|(key, label)| {
            let Some(column) = self.column(*label) else {
                return false;
            };
            if self.domain(column, node) == NOWHERE {
                return false;
            }
            // The first of a circle of friends may start anywhere.
            let first =
                class.keys.contains(key) && self.carriers.get(key).is_none_or(|total| *total == 0);
            first || presence(*key, column).carriers > 0
        })
    }
}

fn step(number: &mut u32, add: bool) {
    *number = if add {
        *number + 1
    } else {
        number.saturating_sub(1)
    };
}
