//! Words that repeat (labels' keys, models, resources, pools) as small numbers.

use crate::hash::Map;

/// A word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Name(pub(crate) u32);

/// All words seen. Only words from a small vocabulary come here (never label values or node names),
/// so that the table does not grow with the churn of nodes and tasks.
#[derive(Debug, Default)]
pub(crate) struct Names {
    numbers: Map<Box<str>, Name>,
    texts: Vec<Box<str>>,
}

impl Names {
    pub(crate) fn intern(&mut self, text: &str) -> Name {
        if let Some(name) = self.numbers.get(text) {
            return *name;
        }
        let name = Name(u32::try_from(self.texts.len()).expect("fewer words than 2^32"));
        self.texts.push(text.into());
        self.numbers.insert(text.into(), name);
        name
    }

    pub(crate) fn find(&self, text: &str) -> Option<Name> {
        self.numbers.get(text).copied()
    }

    pub(crate) fn text(&self, name: Name) -> &str {
        &self.texts[name.0 as usize]
    }
}
