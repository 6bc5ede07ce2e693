//! Which pods start together: pods that belong nowhere yet become drafts of PodGroups. Pure.
//!
//! A gang waits until its members are there, and starts once. A member that comes later (its replacement, or one more than
//! the gang's least number) starts alone: the others run already.

use base::Uid;
use engine::{ForeignPod, Gang};
use std::collections::{BTreeMap, HashMap};

/// A gang's namespace and name.
pub type GangKey = (String, String);

/// A gang that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// So many of its members are there.
    Gathering { group: Uid, n_there: usize },
    /// It has started, or waits to.
    Started,
}

/// Pods that become a PodGroup, or join one.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// The gang; `None` for a pod alone.
    pub gang: Option<String>,
    /// How many start together.
    pub size: u32,
    /// The PodGroup that they join.
    pub into: Option<Uid>,
    /// The pods.
    pub pods: Vec<ForeignPod>,
    /// Whether nobody is missing.
    pub is_whole: bool,
    /// Why a pod that names a gang starts alone.
    pub warning: Option<String>,
}

/// Sorts pods, the oldest first.
pub fn gather(mut loose: Vec<ForeignPod>, known: &HashMap<GangKey, Known>) -> Vec<Draft> {
    loose.sort_by(|a, b| (a.created, &a.pod).cmp(&(b.created, &b.pod)));
    let mut drafts = Vec::new();
    let mut gangs: BTreeMap<GangKey, (u32, Vec<ForeignPod>)> = BTreeMap::new();
    for pod in loose {
        match &pod.gang {
            // Somebody has bound it: it holds its place already.
            _ if pod.node.is_some() => drafts.push(alone(pod, None)),
            Gang::Single => drafts.push(alone(pod, None)),
            Gang::Unsized { name } => {
                let warning = format!(
                    "it names the gang `{name}`, whose size nobody says: it starts alone; set the label `moonshot/gang-size`"
                );
                drafts.push(alone(pod, Some(warning)));
            }
            Gang::Of { name, size } => {
                let key = (pod.pod.namespace.clone(), name.clone());
                let size = *size;
                gangs.entry(key).or_insert((size, Vec::new())).1.push(pod);
            }
        }
    }
    for (key, (size, mut pods)) in gangs {
        let (into, n_there) = match known.get(&key) {
            Some(Known::Started) => {
                drafts.extend(pods.into_iter().map(|pod| alone(pod, None)));
                continue;
            }
            Some(Known::Gathering { group, n_there }) => (Some(*group), *n_there),
            None => (None, 0),
        };
        let n_wanted = (size as usize).saturating_sub(n_there);
        let more = pods.split_off(pods.len().min(n_wanted));
        let is_whole = pods.len() == n_wanted;
        drafts.push(Draft {
            gang: Some(key.1),
            size,
            into,
            pods,
            is_whole,
            warning: None,
        });
        drafts.extend(more.into_iter().map(|pod| alone(pod, None)));
    }
    drafts
}

fn alone(pod: ForeignPod, warning: Option<String>) -> Draft {
    Draft {
        gang: None,
        size: 1,
        into: None,
        pods: vec![pod],
        is_whole: true,
        warning,
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use engine::PodName;

    pub fn pod(name: &str, gang: Gang) -> ForeignPod {
        ForeignPod {
            pod: PodName {
                namespace: "lab".to_owned(),
                name: name.to_owned(),
                uid: format!("uid-{name}"),
            },
            gang,
            ..ForeignPod::default()
        }
    }

    fn shown(drafts: &[Draft]) -> Vec<String> {
        let one = |draft: &Draft| {
            let names: Vec<&str> = draft.pods.iter().map(|pod| pod.pod.name.as_str()).collect();
            let into = if draft.into.is_some() { "+" } else { "" };
            let whole = if draft.is_whole { "" } else { "…" };
            format!("{into}{}{whole}", names.join(" "))
        };
        drafts.iter().map(one).collect()
    }

    #[test]
    fn who_starts_with_whom() {
        let of = |size| Gang::Of {
            name: "g".to_owned(),
            size,
        };
        let check = |names: &[&str], size, known: Option<Known>, expect: &[&str]| {
            let known = known.map(|known| (("lab".to_owned(), "g".to_owned()), known));
            let pods = names.iter().map(|name| pod(name, of(size))).collect();
            assert_eq!(shown(&gather(pods, &known.into_iter().collect())), expect);
        };
        let gathering = |n_there| {
            Some(Known::Gathering {
                group: Uid(7),
                n_there,
            })
        };
        check(&["b", "a"], 3, None, &["a b…"]);
        check(&["a", "b", "c"], 3, None, &["a b c"]);
        check(&["a", "b", "c", "d"], 3, None, &["a b c", "d"]);
        check(&["c"], 3, gathering(1), &["+c…"]);
        check(&["c"], 3, gathering(2), &["+c"]);
        check(&["c", "d"], 3, gathering(2), &["+c", "d"]);
        check(&["d"], 3, Some(Known::Started), &["d"]);
        let drafts = gather(vec![pod("x", Gang::Single)], &HashMap::new());
        assert_eq!(shown(&drafts), ["x"]);
        let unsized_ = Gang::Unsized {
            name: "s".to_owned(),
        };
        let drafts = gather(vec![pod("y", unsized_)], &HashMap::new());
        assert!(
            drafts[0]
                .warning
                .as_ref()
                .is_some_and(|text| text.contains("moonshot/gang-size"))
        );
        let bound = ForeignPod {
            node: Some("n".to_owned()),
            ..pod("z", of(3))
        };
        assert_eq!(shown(&gather(vec![bound], &HashMap::new())), ["z"]);
    }
}
