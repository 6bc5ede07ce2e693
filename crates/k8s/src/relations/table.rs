//! Which nodes a pod's rules allow, given who is where. Pure.
//!
//! The rules are those of kube-scheduler's plug-ins `nodeaffinity`, `nodeports`, `interpodaffinity` and `podtopologyspread`.

use super::rules::{HostPort, Rules, Spaces, Spread, Term};
use crate::affinity::{Labels, Site};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// A pod, as rules see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'a> {
    pub(super) space: &'a str,
    pub(super) labels: &'a Labels,
    pub(super) rules: &'a Rules,
}

/// A pod that has a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed<'a> {
    pub(super) subject: Subject<'a>,
    pub(super) node: &'a str,
    pub(super) is_ending: bool,
}

/// Why a node is not allowed: the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    NodeAffinity,
    HostPort,
    PodAffinity,
    PodAntiAffinity,
    TopologySpread,
    /// A pod that is there says so.
    Theirs,
}

impl Field {
    /// In words, of a node.
    pub(super) fn sentence(self) -> &'static str {
        match self {
            Field::NodeAffinity => "its `spec.affinity.nodeAffinity` does not mean it",
            Field::HostPort => "its `hostPort` is taken there",
            Field::PodAffinity => "no pod of its `spec.affinity.podAffinity` is near",
            Field::PodAntiAffinity => "a pod of its `spec.affinity.podAntiAffinity` is near",
            Field::TopologySpread => {
                "it would exceed `maxSkew` of its `spec.topologySpreadConstraints`"
            }
            Field::Theirs => "a pod is near whose `spec.affinity.podAntiAffinity` means it",
        }
    }
}

/// Domains: a node label and its value.
type Domains<'a> = HashSet<(&'a str, &'a str)>;

/// What of the cluster matters for one pod.
pub(super) struct Table<'a> {
    subject: Subject<'a>,
    ports: HashSet<&'a str>,
    /// Domains of pods that fulfil all of `with`, by term.
    near: Vec<HashSet<&'a str>>,
    /// The first of its kind: it may go wherever there is a domain.
    is_first: bool,
    against: Domains<'a>,
    theirs: Domains<'a>,
    spread: Vec<Counts<'a>>,
}

/// Pods of a spread by domain.
struct Counts<'a> {
    spread: &'a Spread,
    /// Nodes that count.
    nodes: HashSet<&'a str>,
    by_domain: BTreeMap<&'a str, u32>,
    /// The pod itself counts where it goes.
    own: u32,
    least: u32,
}

/// Labels of nodes by their names.
pub(crate) type Sites<'a> = HashMap<&'a str, &'a Labels>;

/// Nodes with their labels, and the labels of namespaces.
#[derive(Clone, Copy)]
pub(super) struct World<'a> {
    pub(super) sites: &'a Sites<'a>,
    pub(super) spaces: &'a BTreeMap<String, Arc<Labels>>,
}

impl<'a> World<'a> {
    fn domain(&self, node: &str, label: &str) -> Option<&'a str> {
        self.sites.get(node)?.get(label).map(String::as_str)
    }

    fn is_meant(&self, term: &Term, of: Subject<'_>) -> bool {
        self.is_in(&term.spaces, of.space) && term.marks.are_on(of.labels)
    }

    fn is_in(&self, spaces: &Spaces, space: &str) -> bool {
        let marked = || {
            let marks = spaces.marked.as_ref()?;
            let nothing = Labels::new();
            let labels = self.spaces.get(space).map_or(&nothing, |labels| &**labels);
            Some(marks.are_on(labels))
        };
        spaces.names.contains(space) || marked().unwrap_or(false)
    }
}

impl<'a> Table<'a> {
    pub(super) fn new(
        subject: Subject<'a>,
        placed: impl Iterator<Item = Placed<'a>>,
        world: World<'a>,
    ) -> Table<'a> {
        let rules = subject.rules;
        let mut table = Table {
            subject,
            ports: HashSet::new(),
            near: vec![HashSet::new(); rules.with.len()],
            is_first: false,
            against: Domains::new(),
            theirs: Domains::new(),
            spread: rules
                .spread
                .iter()
                .map(|spread| Counts::new(spread, subject, world))
                .collect(),
        };
        let mut is_any_near = false;
        for one in placed {
            let of = one.subject;
            let meets = |port: &HostPort| of.rules.ports.iter().any(|theirs| port.meets(theirs));
            if rules.ports.iter().any(meets) {
                table.ports.insert(one.node);
            }
            // Only who fulfils all terms counts for any of them.
            if !rules.with.is_empty() && rules.with.iter().all(|term| world.is_meant(term, of)) {
                for (term, near) in rules.with.iter().zip(&mut table.near) {
                    if let Some(domain) = world.domain(one.node, &term.label) {
                        near.insert(domain);
                        is_any_near = true;
                    }
                }
            }
            let forbid = |terms: &'a [Term], of: Subject<'_>, domains: &mut Domains<'a>| {
                for term in terms.iter().filter(|term| world.is_meant(term, of)) {
                    if let Some(domain) = world.domain(one.node, &term.label) {
                        domains.insert((&term.label, domain));
                    }
                }
            };
            forbid(&rules.against, of, &mut table.against);
            forbid(&of.rules.against, subject, &mut table.theirs);
            // A domain is not fuller for who is about to leave it.
            if of.space == subject.space && !one.is_ending {
                for counts in &mut table.spread {
                    counts.add(one, world);
                }
            }
        }
        let is_own = |term: &Term| world.is_meant(term, subject);
        table.is_first = !is_any_near && rules.with.iter().all(is_own);
        for counts in &mut table.spread {
            counts.finish();
        }
        table
    }

    /// Why a node is not allowed.
    pub(super) fn refuses(&self, site: Site<'_>) -> Option<Field> {
        let rules = self.subject.rules;
        if rules.nodes.as_ref().is_some_and(|terms| !terms.mean(site)) {
            return Some(Field::NodeAffinity);
        }
        if self.ports.contains(site.name) {
            return Some(Field::HostPort);
        }
        let near = rules.with.iter().zip(&self.near).all(|(term, near)| {
            let domain = site.labels.get(&term.label);
            domain.is_some_and(|domain| self.is_first || near.contains(domain.as_str()))
        });
        if !near {
            return Some(Field::PodAffinity);
        }
        let is_in = |domains: &Domains<'_>| {
            let mut domains = domains.iter();
            domains.any(|(label, value)| site.labels.get(*label).is_some_and(|own| own == value))
        };
        if is_in(&self.against) {
            return Some(Field::PodAntiAffinity);
        }
        if is_in(&self.theirs) {
            return Some(Field::Theirs);
        }
        let exceeds = |counts: &Counts<'_>| counts.exceeds(site);
        self.spread
            .iter()
            .any(exceeds)
            .then_some(Field::TopologySpread)
    }
}

impl<'a> Counts<'a> {
    fn new(spread: &'a Spread, subject: Subject<'a>, world: World<'a>) -> Counts<'a> {
        // A domain without pods has none of them.
        let (mut nodes, mut by_domain) = (HashSet::new(), BTreeMap::new());
        for (name, labels) in world.sites {
            let site = Site { name, labels };
            if spread.is_by_nodes && !subject.rules.means(site) {
                continue;
            }
            let has_all = |other: &Spread| labels.contains_key(&other.label);
            if let Some(domain) = labels.get(&spread.label)
                && subject.rules.spread.iter().all(has_all)
            {
                by_domain.entry(domain.as_str()).or_insert(0);
                nodes.insert(*name);
            }
        }
        Counts {
            spread,
            nodes,
            by_domain,
            own: u32::from(spread.marks.are_on(subject.labels)),
            least: 0,
        }
    }

    fn add(&mut self, one: Placed<'a>, world: World<'a>) {
        if self.nodes.contains(one.node)
            && let Some(domain) = world.domain(one.node, &self.spread.label)
            && let Some(count) = self.by_domain.get_mut(domain)
            && self.spread.marks.are_on(one.subject.labels)
        {
            *count += 1;
        }
    }

    fn finish(&mut self) {
        let n_domains = u32::try_from(self.by_domain.len()).unwrap_or(u32::MAX);
        let least = self.by_domain.values().min().copied().unwrap_or(0);
        self.least = if n_domains < self.spread.domains_min {
            0
        } else {
            least
        };
    }

    fn exceeds(&self, site: Site<'_>) -> bool {
        let domain = site.labels.get(&self.spread.label);
        // A node without the label is in no domain.
        let Some(domain) = domain else { return true };
        let count = self.by_domain.get(domain.as_str()).copied().unwrap_or(0);
        count + self.own > self.least + self.spread.skew_max
    }
}

impl Rules {
    /// Whether its own words about nodes mean this one.
    fn means(&self, site: Site<'_>) -> bool {
        let mut labels = self.selector.iter();
        labels.all(|(key, value)| site.labels.get(key) == Some(value))
            && self.nodes.as_ref().is_none_or(|terms| terms.mean(site))
    }
}
