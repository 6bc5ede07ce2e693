//! Which nodes a node selector of Kubernetes means, by their labels and names. Pure.
//!
//! <https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#NodeSelector>: terms are alternatives, what is in
//! one of them must hold together, and a term that says nothing means no node.

use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, TopologySelectorTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::collections::BTreeMap;

/// Labels of anything.
pub(crate) type Labels = BTreeMap<String, String>;

/// A node, as selectors see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Site<'a> {
    pub(crate) name: &'a str,
    pub(crate) labels: &'a Labels,
}

/// Alternatives: where one of them holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Terms(Vec<Term>);

#[derive(Clone, Debug, Default, PartialEq)]
struct Term {
    labels: Vec<Wish>,
    /// About the node's name, the only field that Kubernetes knows here.
    name: Vec<Wish>,
}

/// One thing that must hold of a label.
#[derive(Clone, Debug, PartialEq)]
struct Wish {
    key: String,
    how: How,
}

#[derive(Clone, Debug, PartialEq)]
enum How {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
    Above(i64),
    Below(i64),
    /// A word of a newer Kubernetes: nothing is known to fulfil it.
    Unknown,
}

impl Terms {
    /// A volume's node affinity.
    pub(crate) fn of_selector(selector: &NodeSelector) -> Terms {
        let wishes = |list: &Option<Vec<NodeSelectorRequirement>>| {
            let list = list.iter().flatten();
            list.map(|wish| Wish::new(&wish.key, &wish.operator, wish.values.as_deref()))
                .collect()
        };
        let terms = selector.node_selector_terms.iter().map(|term| Term {
            labels: wishes(&term.match_expressions),
            name: wishes(&term.match_fields),
        });
        Terms(terms.collect())
    }

    /// The places that a storage class is bound to; `None` for everywhere.
    pub(crate) fn of_topologies(terms: Option<&[TopologySelectorTerm]>) -> Option<Terms> {
        let terms = terms.filter(|terms| !terms.is_empty())?;
        let term = |term: &TopologySelectorTerm| Term {
            labels: term
                .match_label_expressions
                .iter()
                .flatten()
                .map(|wish| Wish {
                    key: wish.key.clone(),
                    how: How::In(wish.values.clone()),
                })
                .collect(),
            name: Vec::new(),
        };
        Some(Terms(terms.iter().map(term).collect()))
    }

    /// Whether a node is meant.
    pub(crate) fn mean(&self, site: Site<'_>) -> bool {
        self.0.iter().any(|term| {
            let says_something = !term.labels.is_empty() || !term.name.is_empty();
            let by_label = term
                .labels
                .iter()
                .all(|wish| wish.holds(site.labels.get(&wish.key).map(String::as_str)));
            let by_name = term.name.iter().all(|wish| wish.holds(Some(site.name)));
            says_something && by_label && by_name
        })
    }

    /// The labels that say the same, where there is one term and each of its labels may have one value.
    pub(crate) fn plain(&self) -> Option<Labels> {
        let [term] = self.0.as_slice() else {
            return None;
        };
        if !term.name.is_empty() || term.labels.is_empty() {
            return None;
        }
        let mut labels = Labels::new();
        for wish in &term.labels {
            let How::In(values) = &wish.how else {
                return None;
            };
            let [value] = values.as_slice() else {
                return None;
            };
            if labels.insert(wish.key.clone(), value.clone()).is_some() {
                return None;
            }
        }
        Some(labels)
    }
}

/// What is asked of the labels of something: of a claim's volume, of pods.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Marks(Vec<Wish>);

impl Marks {
    pub(crate) fn of(selector: &LabelSelector) -> Marks {
        let labels = selector.match_labels.iter().flatten();
        let labels = labels.map(|(key, value)| Wish {
            key: key.clone(),
            how: How::In(vec![value.clone()]),
        });
        let others = selector.match_expressions.iter().flatten();
        let others =
            others.map(|wish| Wish::new(&wish.key, &wish.operator, wish.values.as_deref()));
        Marks(labels.chain(others).collect())
    }

    /// On nothing.
    pub(crate) fn none() -> Marks {
        Marks(vec![Wish {
            key: String::new(),
            how: How::Unknown,
        }])
    }

    /// Only on what has other values of these keys than `labels`.
    pub(crate) fn without<'a>(
        mut self,
        keys: impl Iterator<Item = &'a String>,
        labels: &Labels,
    ) -> Marks {
        let own = keys.filter_map(|key| Some((key, labels.get(key)?)));
        self.0.extend(own.map(|(key, value)| Wish {
            key: key.clone(),
            how: How::NotIn(vec![value.clone()]),
        }));
        self
    }

    pub(crate) fn are_on(&self, labels: &Labels) -> bool {
        let mut wishes = self.0.iter();
        wishes.all(|wish| wish.holds(labels.get(&wish.key).map(String::as_str)))
    }
}

impl Wish {
    fn new(key: &str, operator: &str, values: Option<&[String]>) -> Wish {
        let values = values.unwrap_or_default().to_vec();
        let number = || values.first().and_then(|value| value.parse().ok());
        let how = match operator {
            "In" => How::In(values),
            "NotIn" => How::NotIn(values),
            "Exists" => How::Exists,
            "DoesNotExist" => How::DoesNotExist,
            "Gt" => number().map_or(How::Unknown, How::Above),
            "Lt" => number().map_or(How::Unknown, How::Below),
            _ => How::Unknown,
        };
        Wish {
            key: key.to_owned(),
            how,
        }
    }

    fn holds(&self, have: Option<&str>) -> bool {
        let is_one = |values: &[String]| have.is_some_and(|have| values.iter().any(|v| v == have));
        let number = || have.and_then(|have| have.parse::<i64>().ok());
        match &self.how {
            How::In(values) => is_one(values),
            // Of a label that is not there, too.
            How::NotIn(values) => !is_one(values),
            How::Exists => have.is_some(),
            How::DoesNotExist => have.is_none(),
            How::Above(than) => number().is_some_and(|have| have > *than),
            How::Below(than) => number().is_some_and(|have| have < *than),
            How::Unknown => false,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn terms(terms: Value) -> Terms {
        let selector = serde_json::from_value(json!({"nodeSelectorTerms": terms}));
        Terms::of_selector(&selector.expect("a selector"))
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let pairs = pairs.iter();
        pairs
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn terms_mean_what_kubernetes_says() {
        let here = labels(&[("zone", "a"), ("disk", "ssd"), ("slots", "8")]);
        let check = |said: Value, expect: bool| {
            let site = Site {
                name: "n1",
                labels: &here,
            };
            assert_eq!(terms(said.clone()).mean(site), expect, "{said}");
        };
        let wish = |key: &str, operator: &str, values: &[&str]| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        check(json!([]), false);
        check(json!([{}]), false);
        check(json!([wish("zone", "In", &["a", "b"])]), true);
        check(json!([wish("zone", "In", &["b"])]), false);
        check(
            json!([wish("zone", "In", &["b"]), wish("disk", "In", &["ssd"])]),
            true,
        );
        check(json!([wish("zone", "NotIn", &["a"])]), false);
        check(json!([wish("rack", "NotIn", &["7"])]), true);
        check(json!([wish("rack", "Exists", &[])]), false);
        check(json!([wish("rack", "DoesNotExist", &[])]), true);
        check(json!([wish("slots", "Gt", &["7"])]), true);
        check(json!([wish("slots", "Lt", &["8"])]), false);
        check(json!([wish("zone", "Gt", &["1"])]), false);
        check(json!([wish("zone", "Near", &["a"])]), false);
        let both = json!([{"matchExpressions": [
            {"key": "zone", "operator": "In", "values": ["a"]},
            {"key": "disk", "operator": "In", "values": ["hdd"]},
        ]}]);
        check(both, false);
        let named = |name: &str| json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}]);
        check(named("n1"), true);
        check(named("n2"), false);
    }

    #[test]
    fn what_labels_can_say_is_said_by_labels() {
        let host = |values: &[&str]| {
            terms(
                json!([{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": values}]}]),
            )
        };
        assert_eq!(
            host(&["n1"]).plain(),
            Some(labels(&[("kubernetes.io/hostname", "n1")]))
        );
        assert_eq!(host(&["n1", "n2"]).plain(), None);
        assert_eq!(terms(json!([{}])).plain(), None);
    }
}
