//! What a pod is told to run: the Slot's Group with Secrets opened. It only ever travels to that pod.

use crate::config::{Config, SPOOL_MAX};
use crate::manifest::secrets;
use crate::view::Holder;
use engine::{EngineError, EnvValue, MountSource, Runtime, SecretEntries, Slot};
use pod::wire::{self, Mount, Output, Source, Spec, VERSION, Variable};
use shim::variables::{self, Variables};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Tells which replica a process belongs to.
const MARKER: &str = "MOONSHOT_REPLICA";

/// The spec of a Slot whose output is kept up to `kept`.
pub(crate) async fn spec(
    config: &Config,
    holder: &Holder,
    slot: &Slot,
    kept: u64,
) -> Result<Spec, EngineError> {
    let group = &*holder.group;
    let template = &group.template;
    let mut opened: BTreeMap<(String, u32), SecretEntries> = BTreeMap::new();
    for (name, version) in secrets(template) {
        if let Entry::Vacant(vacant) = opened.entry((name.to_owned(), version)) {
            let entries = config.content.secret(&group.project, name, version);
            vacant.insert(entries.await?);
        }
    }
    let mut env = Vec::new();
    let mut ports = Variables::default();
    let declared: Vec<&str> = template
        .ports
        .iter()
        .map(|port| port.name.as_str())
        .collect();
    let given = template
        .ports
        .iter()
        .map(|port| (port.name.clone(), port.number))
        .collect();
    variables::ports(&mut ports, &declared, &given);
    // The gateway and probes reach it at the pod's own address.
    ports.set("MOONSHOT_BIND", "0.0.0.0");
    for (name, value) in ports.into_pairs() {
        env.push(plain(&name, &value, false));
    }
    for variable in &template.env {
        env.push(match &variable.value {
            EnvValue::Plain(value) => plain(&variable.name, value, true),
            EnvValue::Secret { name, version, key } => {
                let value = entry(&opened, name, *version, key)?;
                plain(&variable.name, &value, false)
            }
        });
    }
    for (name, value) in &slot.env {
        env.push(plain(name, value, true));
    }
    env.push(plain(MARKER, &group.key(slot).to_string(), false));
    let mut mounts = Vec::with_capacity(template.mounts.len());
    for mount in &template.mounts {
        let source = match &mount.source {
            MountSource::Code(digest) => Source::Code(digest.to_string()),
            MountSource::Input(digest) => Source::Input(digest.to_string()),
            MountSource::Outputs => Source::Outputs,
            MountSource::Scratch => Source::Scratch,
            MountSource::Secret { name, version } => {
                let entries = opened
                    .get(&(name.clone(), *version))
                    .cloned()
                    .unwrap_or_default();
                Source::Secret(entries)
            }
            MountSource::Checkpoint(_) => Source::Volume(wire::CHECKPOINT.to_owned()),
            // `ensure` refused them.
            MountSource::Volume(_) | MountSource::Dataset(_) => continue,
        };
        mounts.push(Mount {
            path: mount.path.clone(),
            source,
        });
    }
    let outputs = template.outputs.iter().map(|output| Output {
        name: output.name.clone(),
        path: output.path.clone(),
    });
    Ok(Spec {
        version: VERSION,
        command: match template.runtime {
            Runtime::Platform => ["moonshot".to_owned()]
                .into_iter()
                .chain(template.command.iter().cloned())
                .collect(),
            Runtime::Host | Runtime::Bundle(_) | Runtime::Image(_) => template.command.clone(),
        },
        env,
        workdir: template.workdir.clone(),
        mounts,
        environment: match &template.runtime {
            Runtime::Bundle(digest) => Some(digest.to_string()),
            Runtime::Host | Runtime::Image(_) | Runtime::Platform => None,
        },
        outputs: outputs.collect(),
        grace_ms: template.grace.as_ms(),
        spool_max: SPOOL_MAX,
        kept,
    })
}

fn plain(name: &str, value: &str, expand: bool) -> Variable {
    Variable {
        name: name.to_owned(),
        value: value.to_owned(),
        expand,
    }
}

fn entry(
    opened: &BTreeMap<(String, u32), SecretEntries>,
    name: &str,
    version: u32,
    key: &str,
) -> Result<String, EngineError> {
    let refuse = |why: &str| EngineError::Unsupported {
        field: "env".to_owned(),
        why: format!("secret `{name}` {why}"),
    };
    let entries = opened.get(&(name.to_owned(), version));
    let found = entries
        .into_iter()
        .flatten()
        .find(|(entry, _)| entry == key);
    let (_, bytes) = found.ok_or_else(|| refuse(&format!("has no entry `{key}`")))?;
    let text = String::from_utf8(bytes.clone());
    text.ok()
        .filter(|text| !text.contains('\0'))
        .ok_or_else(|| refuse("is not text: mount it as a file"))
}
