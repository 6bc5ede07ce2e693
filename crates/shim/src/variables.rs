//! The variables that a program gets, and `$(NAME)` in their values. Pure; every engine's programs get them the same way.
//!
//! Later wins. `$(NAME)` stands for a variable that was given before, as Kubernetes does it; `$$(NAME)` stays
//! `$(NAME)`, an unknown one stays as written.

use std::collections::BTreeMap;

/// The variables in order of first mention; the last value counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variables {
    order: Vec<String>,
    values: BTreeMap<String, String>,
}

impl Variables {
    /// Sets a value as it is.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        if self.values.insert(name.to_owned(), value.into()).is_none() {
            self.order.push(name.to_owned());
        }
    }

    /// Sets a value in which `$(NAME)` stands for earlier ones.
    pub fn set_expanded(&mut self, name: &str, value: &str) {
        let value = self.expand(value);
        self.set(name, value);
    }

    /// The text with earlier variables in it.
    pub fn expand(&self, text: &str) -> String {
        expand(text, |name| self.values.get(name).cloned())
    }

    /// Names and values in order.
    pub fn into_pairs(mut self) -> Vec<(String, String)> {
        let take = |name: String| {
            let value = self.values.remove(&name).unwrap_or_default();
            (name, value)
        };
        self.order.into_iter().map(take).collect()
    }
}

/// Replaces `$(NAME)` (<https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/>).
pub fn expand(text: &str, mut value: impl FnMut(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("$$") {
            out.push('$');
            rest = after;
            continue;
        }
        let name = rest
            .strip_prefix("$(")
            .and_then(|inner| inner.split_once(')'));
        match name.and_then(|(name, after)| Some((value(name)?, after))) {
            Some((value, after)) => {
                out.push_str(&value);
                rest = after;
            }
            None => {
                out.push('$');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// `PORT` (the first declared) and `PORT_<NAME>`, in upper case with `_` and as written.
pub fn ports(variables: &mut Variables, declared: &[&str], given: &BTreeMap<String, u16>) {
    let first = declared
        .iter()
        .find_map(|name| given.get(*name))
        .or(given.values().next());
    if let Some(number) = first {
        variables.set("PORT", number.to_string());
    }
    for (name, number) in given {
        let upper = name.to_ascii_uppercase().replace('-', "_");
        variables.set(&format!("PORT_{upper}"), number.to_string());
        variables.set(&format!("PORT_{name}"), number.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_text_are_replaced_as_kubernetes_does() {
        let mut variables = Variables::default();
        variables.set("PORT", "20000");
        let check = |text: &str, expect: &str| assert_eq!(variables.expand(text), expect, "{text}");
        check("--port=$(PORT)", "--port=20000");
        check("$(PORT)$(PORT)", "2000020000");
        check("$$(PORT)", "$(PORT)");
        check("$(UNKNOWN) $PORT $", "$(UNKNOWN) $PORT $");
        check("$(PORT", "$(PORT");
        check("$$$$", "$$");
    }

    #[test]
    fn the_first_declared_port_is_the_port() {
        let declared = ["http", "grpc-in"];
        let given = BTreeMap::from([("grpc-in".to_owned(), 20_001), ("http".to_owned(), 20_002)]);
        let mut variables = Variables::default();
        ports(&mut variables, &declared, &given);
        assert_eq!(
            variables.expand("$(PORT) $(PORT_HTTP) $(PORT_GRPC_IN) $(PORT_http)"),
            "20002 20002 20001 20002"
        );
    }
}
