//! What this engine says to programs beside [`shim::variables`], and which secrets would show in a command. Pure.
//!
//! Later wins: the machine's basics, what the platform says, the template's, the slot's, then what
//! a program must not change.

use engine::{DeviceGrant, EnvValue, EnvVar};
use shim::variables::{Variables, expand};
use std::collections::BTreeSet;

/// Says which replica a process belongs to, in its environment: so leftovers are found.
pub(crate) const MARKER: &str = "MOONSHOT_REPLICA";

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
}
