//! Equivalence classes: members that ask for the same thing are compared with nodes once.
//!
//! A [`Class`] is a group without its name and counts; a [`Shape`] is a whole gang. Both are shared by
//! reference count, so the tables hold what the living tasks need and no more.

use crate::ask::Within;
use crate::event::{GroupSpec, TaskSpec};
use crate::hash::{Folded, Map};
use crate::names::{Name, Names};
use std::hash::{Hash, Hasher};

/// Position of a class in [`Classes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ClassIdx(pub(crate) u32);

/// Position of a shape in [`Classes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ShapeIdx(pub(crate) u32);

/// What one member asks for, wherever it runs.
#[derive(Clone, Debug)]
pub(crate) struct Class {
    /// The group it was made from; its name and counts are blank.
    pub(crate) spec: GroupSpec,
    pub(crate) models: Vec<Name>,
    pub(crate) with: Vec<(Name, Name)>,
    pub(crate) against: Vec<(Name, Name)>,
    pub(crate) keys: Vec<Name>,
    /// Soft relations: (key, label, whether it is liked near).
    pub(crate) prefer: Vec<(Name, Name, bool)>,
    pub(crate) at_most: Vec<(Name, Name, u32)>,
    pub(crate) spread: Vec<SpreadRule>,
    pub(crate) topology: Option<(Name, bool)>,
    /// The fast group below the node that a member's GPUs must share.
    pub(crate) within: Option<Within>,
    refs: u32,
    digest: u64,
}

impl Class {
    pub(crate) fn has_affinity(&self) -> bool {
        self.has_rules() || !(self.keys.is_empty() && self.prefer.is_empty())
    }

    /// Whether others may keep it out of a node that has room.
    pub(crate) fn has_rules(&self) -> bool {
        !(self.with.is_empty()
            && self.against.is_empty()
            && self.at_most.is_empty()
            && self.spread.is_empty())
    }
}

/// Carriers of a key over the domains of a label.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SpreadRule {
    pub(crate) key: Name,
    pub(crate) label: Name,
    pub(crate) skew_max: u32,
    pub(crate) required: bool,
}

/// Members of one group of a gang.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Part {
    pub(crate) class: ClassIdx,
    pub(crate) count: u32,
    pub(crate) min: u32,
}

/// A whole gang.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) parts: Vec<Part>,
    refs: u32,
    digest: u64,
}

/// All classes and shapes of living tasks.
#[derive(Debug, Default)]
pub(crate) struct Classes {
    classes: Vec<Option<Class>>,
    shapes: Vec<Option<Shape>>,
    free_classes: Vec<u32>,
    free_shapes: Vec<u32>,
    class_by_digest: Map<u64, Vec<ClassIdx>>,
    shape_by_digest: Map<u64, Vec<ShapeIdx>>,
}

impl Classes {
    pub(crate) fn class(&self, idx: ClassIdx) -> &Class {
        self.classes[idx.0 as usize]
            .as_ref()
            .expect("a class lives as long as a task refers to it")
    }

    pub(crate) fn shape(&self, idx: ShapeIdx) -> &Shape {
        self.shapes[idx.0 as usize]
            .as_ref()
            .expect("a shape lives as long as a task refers to it")
    }

    /// The shape of a task, with one more reference to it.
    pub(crate) fn acquire(&mut self, task: &TaskSpec, names: &mut Names) -> ShapeIdx {
        let mut parts = Vec::with_capacity(task.groups.len());
        for group in &task.groups {
            let class = self.find_class(group, names);
            parts.push(Part {
                class,
                count: group.count,
                min: group.min.min(group.count),
            });
        }
        let mut hasher = Folded::default();
        parts.hash(&mut hasher);
        let digest = hasher.finish();
        if let Some(same) = self.shape_by_digest.get(&digest) {
            for idx in same {
                if let Some(shape) = &mut self.shapes[idx.0 as usize]
                    && shape.parts == parts
                {
                    shape.refs += 1;
                    return *idx;
                }
            }
        }
        for part in &parts {
            if let Some(class) = &mut self.classes[part.class.0 as usize] {
                class.refs += 1;
            }
        }
        let shape = Shape {
            parts,
            refs: 1,
            digest,
        };
        let idx = ShapeIdx(insert(&mut self.shapes, &mut self.free_shapes, shape));
        self.shape_by_digest.entry(digest).or_default().push(idx);
        idx
    }

    /// Gives a reference back; answers the classes that nobody needs any more.
    pub(crate) fn release(&mut self, idx: ShapeIdx) -> Vec<ClassIdx> {
        let slot = &mut self.shapes[idx.0 as usize];
        let Some(shape) = slot else { return Vec::new() };
        shape.refs -= 1;
        if shape.refs > 0 {
            return Vec::new();
        }
        let Some(shape) = slot.take() else {
            return Vec::new();
        };
        self.free_shapes.push(idx.0);
        forget(&mut self.shape_by_digest, shape.digest, idx);
        let mut gone = Vec::new();
        for part in &shape.parts {
            let slot = &mut self.classes[part.class.0 as usize];
            let Some(class) = slot else { continue };
            class.refs -= 1;
            if class.refs == 0 {
                let digest = class.digest;
                *slot = None;
                self.free_classes.push(part.class.0);
                forget(&mut self.class_by_digest, digest, part.class);
                gone.push(part.class);
            }
        }
        gone
    }

    fn find_class(&mut self, group: &GroupSpec, names: &mut Names) -> ClassIdx {
        let digest = digest(group);
        if let Some(same) = self.class_by_digest.get(&digest) {
            for idx in same {
                if let Some(class) = &self.classes[idx.0 as usize]
                    && same_ask(&class.spec, group)
                {
                    return *idx;
                }
            }
        }
        let mut pairs = |list: &[(String, String)]| -> Vec<(Name, Name)> {
            list.iter()
                .map(|(key, label)| (names.intern(key), names.intern(label)))
                .collect()
        };
        let with = pairs(&group.affinity.with);
        let against = pairs(&group.affinity.against);
        let mut prefer: Vec<(Name, Name, bool)> = Vec::new();
        for (list, liked) in [
            (&group.affinity.prefer_with, true),
            (&group.affinity.prefer_against, false),
        ] {
            let named = pairs(list).into_iter();
            prefer.extend(named.map(|(key, label)| (key, label, liked)));
        }
        let at_most = group.affinity.at_most.iter();
        let at_most = at_most
            .map(|(key, label, most)| (names.intern(key), names.intern(label), *most))
            .collect();
        let spread = group.affinity.spread.iter();
        let spread = spread
            .map(|rule| SpreadRule {
                key: names.intern(&rule.key),
                label: names.intern(&rule.label),
                skew_max: rule.skew_max.max(1),
                required: rule.required,
            })
            .collect();
        let topology = group.topology.as_ref();
        let node_level = topology.filter(|t| Within::of(&t.level).is_none());
        let class = Class {
            models: group.gpu_models.iter().map(|m| names.intern(m)).collect(),
            with,
            against,
            prefer,
            at_most,
            spread,
            keys: group
                .affinity
                .keys
                .iter()
                .map(|k| names.intern(k))
                .collect(),
            topology: node_level.map(|t| (names.intern(&t.level), t.required)),
            within: group
                .topology
                .as_ref()
                .filter(|t| t.required)
                .and_then(|t| Within::of(&t.level)),
            spec: GroupSpec {
                name: String::new(),
                count: 0,
                min: 0,
                ..group.clone()
            },
            refs: 0,
            digest,
        };
        let idx = ClassIdx(insert(&mut self.classes, &mut self.free_classes, class));
        self.class_by_digest.entry(digest).or_default().push(idx);
        idx
    }
}

fn insert<T>(table: &mut Vec<Option<T>>, free: &mut Vec<u32>, value: T) -> u32 {
    if let Some(idx) = free.pop() {
        table[idx as usize] = Some(value);
        return idx;
    }
    table.push(Some(value));
    u32::try_from(table.len() - 1).expect("fewer than 2^32 entries")
}

fn forget<T: PartialEq>(by_digest: &mut Map<u64, Vec<T>>, digest: u64, gone: T) {
    if let Some(same) = by_digest.get_mut(&digest) {
        same.retain(|idx| *idx != gone);
        if same.is_empty() {
            by_digest.remove(&digest);
        }
    }
}

fn same_ask(a: &GroupSpec, b: &GroupSpec) -> bool {
    a.request == b.request
        && a.gpu_models == b.gpu_models
        && a.gpu_memory == b.gpu_memory
        && a.node_selector == b.node_selector
        && a.pools == b.pools
        && a.tolerations == b.tolerations
        && a.affinity == b.affinity
        && a.topology == b.topology
        && a.per_node_max == b.per_node_max
}

fn digest(group: &GroupSpec) -> u64 {
    let mut hasher = Folded::default();
    group.request.hash(&mut hasher);
    group.gpu_models.hash(&mut hasher);
    group.gpu_memory.hash(&mut hasher);
    group.node_selector.hash(&mut hasher);
    group.pools.hash(&mut hasher);
    group.tolerations.hash(&mut hasher);
    group.affinity.keys.hash(&mut hasher);
    group.affinity.against.hash(&mut hasher);
    group.per_node_max.hash(&mut hasher);
    hasher.finish()
}
