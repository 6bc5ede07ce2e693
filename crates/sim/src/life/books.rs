//! Simple books beside the scheduler: every promise is checked against what nodes really have.

use super::work::Item;
use sched::{NodeId, NodeSpec, Placement};
use std::collections::BTreeMap;

/// The most complaints that are kept.
const COMPLAINTS_MAX: usize = 20;

#[derive(Debug)]
struct Account {
    spec: NodeSpec,
    cpu: i64,
    memory: i64,
    gpu: i64,
    slots: i64,
    extended: BTreeMap<String, i64>,
    devices: Vec<i64>,
    lost: bool,
}

/// What is promised of each node.
#[derive(Debug, Default)]
pub(super) struct Books {
    accounts: BTreeMap<NodeId, Account>,
    /// What went wrong; empty is right.
    pub(super) complaints: Vec<String>,
    pub(super) gpu_capacity: u64,
}

impl Books {
    pub(super) fn complain(&mut self, what: String) {
        if self.complaints.len() < COMPLAINTS_MAX {
            self.complaints.push(what);
        }
    }

    /// A node appeared or changed. What is promised of it stays promised.
    pub(super) fn set(&mut self, spec: &NodeSpec) {
        let fresh = || Account {
            spec: spec.clone(),
            cpu: 0,
            memory: 0,
            gpu: 0,
            slots: 0,
            extended: BTreeMap::new(),
            devices: Vec::new(),
            lost: false,
        };
        let account = self.accounts.entry(spec.id).or_insert_with(fresh);
        account.spec = spec.clone();
        account.lost = false;
        let devices = spec.devices.len().max(account.devices.len());
        account.devices.resize(devices, 0);
        self.recount();
    }

    pub(super) fn lost(&mut self, node: NodeId) {
        if let Some(account) = self.accounts.get_mut(&node) {
            account.lost = true;
        }
        self.recount();
    }

    pub(super) fn is_lost(&self, node: NodeId) -> bool {
        self.accounts.get(&node).is_some_and(|account| account.lost)
    }

    /// What a lost node will be when it comes back.
    pub(super) fn remember(&mut self, spec: &NodeSpec) {
        if let Some(account) = self.accounts.get_mut(&spec.id) {
            account.spec = spec.clone();
        }
    }

    fn recount(&mut self) {
        let there = self.accounts.values().filter(|account| !account.lost);
        self.gpu_capacity = there.map(|account| gpu_milli(&account.spec)).sum();
    }

    pub(super) fn node(&self, id: NodeId) -> Option<&NodeSpec> {
        self.accounts.get(&id).map(|account| &account.spec)
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = &NodeSpec> {
        self.accounts.values().map(|account| &account.spec)
    }

    /// A seat is given (`sign` 1) or comes back (−1).
    pub(super) fn post(&mut self, item: &Item, placement: &Placement, sign: i64) {
        let group = item.group(placement.slot);
        let Some(account) = self.accounts.get_mut(&placement.node) else {
            let node = placement.node.0;
            self.complain(format!(
                "`{}` was placed on node {node}, which does not exist",
                item.work.spec.name
            ));
            return;
        };
        let request = &group.request;
        account.cpu += sign * request.cpu.0 as i64;
        account.memory += sign * request.memory.0 as i64;
        account.gpu += sign * request.gpu_milli as i64;
        account.slots += sign;
        for (name, units) in &request.extended {
            *account.extended.entry(name.clone()).or_default() += sign * *units as i64;
        }
        for share in &placement.devices {
            if let Some(used) = account.devices.get_mut(share.device as usize) {
                *used += sign * i64::from(share.milli);
            }
        }
        if sign < 0 {
            return;
        }
        let has = &account.spec.allocatable;
        let mut over = Vec::new();
        let mut check = |what: &str, used: i64, most: u64| {
            if used > most as i64 {
                over.push(format!("{what} {used} of {most}"));
            }
        };
        check("cpu", account.cpu, has.cpu.0);
        check("memory", account.memory, has.memory.0);
        check("gpu", account.gpu, gpu_milli(&account.spec));
        if account.spec.slots_max > 0 {
            check("slots", account.slots, u64::from(account.spec.slots_max));
        }
        for name in request.extended.keys() {
            let devices = account
                .spec
                .devices
                .iter()
                .filter(|device| device.class == *name)
                .count();
            let most = has.extended.get(name).copied().unwrap_or(devices as u64);
            check(name, account.extended[name], most);
        }
        for share in &placement.devices {
            let used = account.devices.get(share.device as usize).copied();
            check("a device", used.unwrap_or(i64::MAX), 1_000);
        }
        if account.lost {
            over.push("the node is lost".to_owned());
        }
        if account.spec.unschedulable {
            over.push("the node is cordoned".to_owned());
        }
        let labels = &account.spec.labels;
        if group
            .node_selector
            .iter()
            .any(|(key, value)| labels.get(key) != Some(value))
        {
            over.push("its labels do not match".to_owned());
        }
        let name = account.spec.name.clone();
        for what in over {
            self.complain(format!("`{}` on `{name}`: {what}", item.work.spec.name));
        }
    }
}

/// Thousandths of GPUs that a node declares.
fn gpu_milli(spec: &NodeSpec) -> u64 {
    if spec.devices.is_empty() {
        return spec.allocatable.gpu_milli;
    }
    spec.devices
        .iter()
        .filter(|device| device.class == "gpu")
        .count() as u64
        * 1_000
}
