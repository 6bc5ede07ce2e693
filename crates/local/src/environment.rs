//! The variables that a program gets, and `$(NAME)` in its command. Pure.
//!
//! Later wins: the machine's basics, what the platform says, the template's, the slot's, then what
//! a program must not change. `$(NAME)` stands for a variable that was given before, as Kubernetes
//! does it; `$$(NAME)` stays `$(NAME)`, an unknown one stays as written.

use engine::{DeviceGrant, EnvValue, EnvVar};
use std::collections::{BTreeMap, BTreeSet};

/// Says which replica a process belongs to, in its environment: so leftovers are found.
pub(crate) const MARKER: &str = "MOONSHOT_REPLICA";

/// The variables in order of first mention; the last value counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Variables {
    order: Vec<String>,
    values: BTreeMap<String, String>,
}

impl Variables {
    pub(crate) fn set(&mut self, name: &str, value: impl Into<String>) {
        if self.values.insert(name.to_owned(), value.into()).is_none() {
            self.order.push(name.to_owned());
        }
    }

    /// Sets a value in which `$(NAME)` stands for earlier ones.
    pub(crate) fn set_expanded(&mut self, name: &str, value: &str) {
        let value = self.expand(value);
        self.set(name, value);
    }

    pub(crate) fn expand(&self, text: &str) -> String {
        expand(text, |name| self.values.get(name).cloned())
    }

    pub(crate) fn into_pairs(mut self) -> Vec<(String, String)> {
        let take = |name: String| {
            let value = self.values.remove(&name).unwrap_or_default();
            (name, value)
        };
        self.order.into_iter().map(take).collect()
    }
}

/// Replaces `$(NAME)` (<https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/>).
fn expand(text: &str, mut value: impl FnMut(&str) -> Option<String>) -> String {
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

/// The first variable in `command` whose value holds a secret: arguments are visible to everybody.
pub(crate) fn secret_in_command(command: &[String], env: &[EnvVar]) -> Option<String> {
    let mut tainted = BTreeSet::new();
    for variable in env {
        let is_secret = match &variable.value {
            EnvValue::Secret { .. } => true,
            EnvValue::Plain(text) => mentioned(text).iter().any(|name| tainted.contains(name)),
        };
        if is_secret {
            tainted.insert(variable.name.clone());
        } else {
            tainted.remove(&variable.name);
        }
    }
    let mut names = command.iter().flat_map(|word| mentioned(word));
    names.find(|name| tainted.contains(name))
}

fn mentioned(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    expand(text, |name| {
        names.push(name.to_owned());
        Some(String::new())
    });
    names
}

/// `PORT` (the first declared) and `PORT_<NAME>`, in upper case with `_` and as written.
pub(crate) fn ports(
    variables: &mut Variables,
    declared: &[engine::PortSpec],
    given: &BTreeMap<String, u16>,
) {
    let first = declared
        .iter()
        .find_map(|port| given.get(&port.name))
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

/// What the frameworks' libraries look at. Empty hides every GPU.
pub(crate) fn devices(variables: &mut Variables, devices: &[DeviceGrant]) {
    let gpus: Vec<&str> = devices
        .iter()
        .filter(|device| device.class == "gpu")
        .map(|device| device.id.as_str())
        .collect();
    let listed = gpus.join(",");
    variables.set("CUDA_VISIBLE_DEVICES", listed.clone());
    variables.set(
        "NVIDIA_VISIBLE_DEVICES",
        if gpus.is_empty() {
            "void".to_owned()
        } else {
            listed.clone()
        },
    );
    variables.set("ROCR_VISIBLE_DEVICES", listed);
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

    fn secret(name: &str) -> EnvVar {
        let value = EnvValue::Secret {
            name: "s".to_owned(),
            version: 1,
            key: "k".to_owned(),
        };
        EnvVar {
            name: name.to_owned(),
            value,
        }
    }
    fn plain(name: &str, value: &str) -> EnvVar {
        EnvVar {
            name: name.to_owned(),
            value: EnvValue::Plain(value.to_owned()),
        }
    }

    #[test]
    fn secrets_in_a_command_are_found_also_behind_other_variables() {
        let env = [
            secret("PW"),
            plain("URL", "x://u:$(PW)@h"),
            plain("HOST", "h"),
        ];
        let check = |word: &str, expect: Option<&str>| {
            let found = secret_in_command(&["p".to_owned(), word.to_owned()], &env);
            assert_eq!(found.as_deref(), expect, "{word}");
        };
        check("$(PW)", Some("PW"));
        check("--url=$(URL)", Some("URL"));
        check("$(HOST)", None);
        check("$$(PW)", None);
    }

    #[test]
    fn the_first_declared_port_is_the_port() {
        let declared = ["http", "grpc-in"].map(|name| engine::PortSpec {
            name: name.to_owned(),
            number: 1,
            protocol: "tcp".to_owned(),
        });
        let given = BTreeMap::from([("grpc-in".to_owned(), 20_001), ("http".to_owned(), 20_002)]);
        let mut variables = Variables::default();
        ports(&mut variables, &declared, &given);
        assert_eq!(
            variables.expand("$(PORT) $(PORT_HTTP) $(PORT_GRPC_IN) $(PORT_http)"),
            "20002 20002 20001 20002"
        );
    }
}
