//! What runs: shared by a Job, its groups, and an App's template.

use super::{Errors, syntax};
use crate::common::{
    CodeSource, EnvVar, Input, PlacementSpec, PortSpec, ProgramSpec, ResourceSpec, SecretMount,
};
use crate::path;
use base::{Bytes, MilliCpu, Span};
use std::collections::{BTreeMap, BTreeSet};

/// The most GPUs of one replica.
const GPUS_MAX: f64 = 1_024.0;
/// The most variables of one program.
const VARIABLES_MAX: usize = 1_000;
/// The longest grace.
const GRACE_MAX: Span = Span::from_secs(24 * 3_600);
/// The least memory a program can be given.
const MEMORY_MIN: Bytes = Bytes(1 << 20);

/// What is said where `command` is missing.
pub(super) const NO_COMMAND: &str = "is missing; write the program and its arguments, also for an image: its ENTRYPOINT is not read";

/// Checks everything but the presence of `command`.
pub(super) fn check(at: &str, program: &ProgramSpec, errors: &mut Errors) {
    if program.command.first().is_some_and(String::is_empty) {
        errors.add(
            format!("{at}.command[0]"),
            "is empty; the program's name is expected",
        );
    }
    for (field, words) in [("command", &program.command), ("args", &program.args)] {
        for (i, word) in words
            .iter()
            .enumerate()
            .filter(|(_, word)| word.contains('\0'))
        {
            errors.add(
                format!("{at}.{field}[{i}]"),
                format!(
                    "has a zero byte after {} characters",
                    word.find('\0').unwrap_or(0)
                ),
            );
        }
    }
    variables(&format!("{at}.env"), &program.env, errors);
    if let Some(Err(why)) = program.workdir.as_deref().map(syntax::relative_path) {
        errors.add(format!("{at}.workdir"), why);
    }
    if let Some(Err(why)) = program.environment.as_deref().map(syntax::versioned) {
        errors.add(format!("{at}.environment"), why);
    }
    if let Some(source) = &program.code {
        code(&format!("{at}.code"), source, errors);
    }
    resources(&format!("{at}.resources"), &program.resources, errors);
    placement(&format!("{at}.placement"), &program.placement, errors);
    ports(&format!("{at}.ports"), &program.ports, errors);
    secrets(&format!("{at}.secrets"), &program.secrets, errors);
    inputs(&format!("{at}.inputs"), &program.inputs, errors);
    if program.grace.is_some_and(|grace| grace > GRACE_MAX) {
        errors.add(format!("{at}.grace"), format!("is longer than {GRACE_MAX}"));
    }
}

/// Tells names that stand more than once.
pub(super) fn unique<'a>(
    at: &str,
    field: &str,
    names: impl Iterator<Item = &'a str>,
    errors: &mut Errors,
) {
    let mut seen = BTreeSet::new();
    for (i, name) in names.enumerate() {
        if !seen.insert(name) {
            errors.add(
                format!("{at}[{i}].{field}"),
                format!("`{name}` is there twice"),
            );
        }
    }
}

fn variables(at: &str, env: &[EnvVar], errors: &mut Errors) {
    if env.len() > VARIABLES_MAX {
        errors.add(
            at,
            format!(
                "has {} variables; at most {VARIABLES_MAX} are allowed",
                env.len()
            ),
        );
        return;
    }
    for (i, variable) in env.iter().enumerate() {
        if let Err(why) = syntax::variable(&variable.name) {
            errors.add(format!("{at}[{i}].name"), why);
        }
        match (&variable.value, &variable.secret) {
            (Some(_), Some(_)) => errors.add(
                format!("{at}[{i}]"),
                "has `value` and `secret`; write one of them",
            ),
            (None, None) => errors.add(
                format!("{at}[{i}]"),
                "has neither `value` nor `secret`; write one of them",
            ),
            (Some(value), None) if value.contains('\0') => {
                errors.add(format!("{at}[{i}].value"), "has a zero byte")
            }
            (Some(_), None) => {}
            (None, Some(secret)) => {
                if let Err(why) = syntax::label(&secret.name) {
                    errors.add(format!("{at}[{i}].secret.name"), why);
                }
                if secret.key.is_empty() {
                    errors.add(format!("{at}[{i}].secret.key"), "is empty");
                }
            }
        }
    }
    unique(
        at,
        "name",
        env.iter().map(|variable| variable.name.as_str()),
        errors,
    );
}

fn code(at: &str, source: &CodeSource, errors: &mut Errors) {
    let given = [
        source.digest.is_some(),
        source.dir.is_some(),
        source.git.is_some(),
    ];
    if given.iter().filter(|given| **given).count() != 1 {
        errors.add(at, "exactly one of `dir`, `git` and `digest` is expected");
        return;
    }
    if source.dir.is_some() {
        errors.add(
            format!("{at}.dir"),
            "is a directory on the machine that holds the manifest: `moonshot apply` uploads it; other clients upload a tar and send its `digest`",
        );
    }
    let Some(git) = &source.git else { return };
    if let Err(why) = git_url(&git.url, git.secret.is_some()) {
        errors.add(format!("{at}.git.url"), why);
    }
    if let Some(Err(why)) = git.secret.as_deref().map(syntax::label) {
        errors.add(format!("{at}.git.secret"), why);
    }
    if let Some(reference) = &git.ref_ {
        let well_formed = !reference.is_empty()
            && !reference.starts_with('-')
            && !reference.contains("..")
            && reference
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_./+#@".contains(c));
        if !well_formed {
            errors.add(format!("{at}.git.ref"), "is not a branch, tag or commit");
        }
    }
    if let Some(Err(why)) = git.path.as_deref().map(syntax::relative_path) {
        errors.add(format!("{at}.git.path"), why);
    }
}

/// A place on the network that can be asked without giving a secret away.
fn git_url(url: &str, has_secret: bool) -> Result<(), String> {
    let schemes = ["https", "http", "ssh"];
    let parts = url.split_once("://");
    let Some((scheme, rest)) = parts.filter(|(scheme, _)| schemes.contains(scheme)) else {
        return Err("is not a repository's URL; write `https://…` or `ssh://…`".to_owned());
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (user, host) = authority
        .rsplit_once('@')
        .map_or((None, authority), |(user, host)| (Some(user), host));
    let odd = |c: char| c.is_control() || c.is_whitespace() || c == '\\';
    if host.is_empty() || host.starts_with('-') || url.chars().any(odd) {
        return Err("is not a repository's URL; write `https://host/path`".to_owned());
    }
    if user.is_some_and(|user| scheme != "ssh" || user.contains(':') || user.starts_with('-')) {
        return Err(
            "has credentials in it; keep them in a Secret and name that in `secret`".to_owned(),
        );
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let is_here = matches!(name, "localhost" | "127.0.0.1" | "[::1]");
    if scheme == "http" && has_secret && !is_here {
        return Err("would send the secret unprotected; use `https://`".to_owned());
    }
    if scheme == "ssh" && !has_secret {
        return Err("needs a `secret` with `ssh-privatekey` and `known_hosts`".to_owned());
    }
    Ok(())
}

fn resources(at: &str, resources: &ResourceSpec, errors: &mut Errors) {
    if resources.cpu == Some(MilliCpu(0)) {
        errors.add(format!("{at}.cpu"), "is 0; a program needs at least `1m`");
    }
    if let Some(memory) = resources.memory.filter(|memory| *memory < MEMORY_MIN) {
        errors.add(
            format!("{at}.memory"),
            format!(
                "is {} bytes; a program needs at least `1Mi`: did you mean `{}Mi`?",
                memory.0,
                memory.0.max(1)
            ),
        );
    }
    if let Some(gpu) = resources.gpu {
        gpus(&format!("{at}.gpu"), gpu, errors);
    } else {
        for (field, given) in [
            ("gpuModel", !resources.gpu_model.is_empty()),
            ("gpuMemory", resources.gpu_memory.is_some()),
        ] {
            if given {
                errors.add(
                    format!("{at}.{field}"),
                    "says nothing without `gpu`; write how many",
                );
            }
        }
    }
    extended(&format!("{at}.extended"), &resources.extended, errors);
}

/// A whole number of GPUs, or a part of one in thousandths.
pub(super) fn gpus(at: &str, gpu: f64, errors: &mut Errors) {
    let is_whole = gpu.fract() == 0.0;
    let milli = gpu * 1_000.0;
    if !(0.0..=GPUS_MAX).contains(&gpu) {
        errors.add(at, format!("is {gpu}; from 0 to {GPUS_MAX} is expected"));
    } else if !is_whole && gpu > 1.0 {
        errors.add(
            at,
            format!("is {gpu}; write a whole number, or a part of one GPU such as `0.5`"),
        );
    } else if (milli - milli.round()).abs() > 1e-6 {
        errors.add(at, format!("is {gpu}; parts are counted in thousandths"));
    }
}

pub(super) fn extended(at: &str, amounts: &BTreeMap<String, u64>, errors: &mut Errors) {
    for name in amounts.keys() {
        if let Err(why) = syntax::label_key(name) {
            errors.add(path::field(at, name), format!("the name {why}"));
        } else if ["cpu", "memory", "gpu"].contains(&name.as_str()) {
            errors.add(
                path::field(at, name),
                format!("`{name}` is a field of its own, beside `extended`"),
            );
        }
    }
}

fn placement(at: &str, placement: &PlacementSpec, errors: &mut Errors) {
    for (i, pool) in placement.pools.iter().enumerate() {
        if let Err(why) = syntax::label(pool) {
            errors.add(format!("{at}.pools[{i}]"), why);
        }
    }
    selector(
        &format!("{at}.nodeSelector"),
        &placement.node_selector,
        errors,
    );
    if let Some(topology) = &placement.topology {
        level(&format!("{at}.topology"), &topology.level, errors);
    }
    if placement.per_node_max == Some(0) {
        errors.add(
            format!("{at}.perNodeMax"),
            "is 0, so that it could run nowhere",
        );
    }
    for (i, spread) in placement.spread.iter().enumerate() {
        let at = format!("{at}.spread[{i}]");
        level(&at, &spread.level, errors);
        if spread.max_skew == Some(0) {
            errors.add(format!("{at}.maxSkew"), "is 0; the least is 1");
        }
    }
    for (field, relations) in [("near", &placement.near), ("apart", &placement.apart)] {
        for (i, relation) in relations.iter().enumerate() {
            let at = format!("{at}.{field}[{i}]");
            level(&at, &relation.level, errors);
            if let Err(why) = syntax::label(&relation.app) {
                errors.add(format!("{at}.app"), why);
            }
        }
    }
}

fn level(at: &str, level: &str, errors: &mut Errors) {
    if syntax::label_key(level).is_err() {
        errors.add(format!("{at}.level"), "is not the key of a node label");
    }
}

pub(super) fn selector(at: &str, labels: &BTreeMap<String, String>, errors: &mut Errors) {
    for (key, value) in labels {
        if let Err(why) = syntax::label_key(key) {
            errors.add(path::field(at, key), format!("the key {why}"));
        }
        if let Err(why) = syntax::label_value(value) {
            errors.add(path::field(at, key), format!("the value {why}"));
        }
    }
}

fn ports(at: &str, ports: &[PortSpec], errors: &mut Errors) {
    let mut numbers = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        if let Err(why) = syntax::label(&port.name) {
            errors.add(format!("{at}[{i}].name"), why);
        }
        if !["http", "h2c", "tcp"].contains(&port.protocol.as_str()) {
            errors.add(
                format!("{at}[{i}].protocol"),
                format!("is `{}`; `http`, `h2c` or `tcp` is expected", port.protocol),
            );
        }
        if !numbers.insert(port.port) {
            errors.add(
                format!("{at}[{i}].port"),
                format!("{} is there twice", port.port),
            );
        }
    }
    unique(
        at,
        "name",
        ports.iter().map(|port| port.name.as_str()),
        errors,
    );
}

fn secrets(at: &str, mounts: &[SecretMount], errors: &mut Errors) {
    for (i, mount) in mounts.iter().enumerate() {
        if let Err(why) = syntax::label(&mount.name) {
            errors.add(format!("{at}[{i}].name"), why);
        }
        if let Some(Err(why)) = mount.path.as_deref().map(syntax::relative_path) {
            errors.add(format!("{at}[{i}].path"), why);
        }
    }
    let paths: Vec<String> = mounts
        .iter()
        .map(|mount| {
            mount
                .path
                .clone()
                .unwrap_or_else(|| format!("secrets/{}", mount.name))
        })
        .collect();
    unique(at, "path", paths.iter().map(String::as_str), errors);
}

fn inputs(at: &str, inputs: &[Input], errors: &mut Errors) {
    for (i, input) in inputs.iter().enumerate() {
        if let Err(why) = syntax::label(&input.name) {
            errors.add(format!("{at}[{i}].name"), why);
        }
        match (&input.job, &input.model) {
            (Some(job), None) => {
                for (field, name) in [("name", &job.name), ("output", &job.output)] {
                    if let Err(why) = syntax::label(name) {
                        errors.add(format!("{at}[{i}].job.{field}"), why);
                    }
                }
            }
            (None, Some(model)) => {
                if let Err(why) = syntax::versioned(model) {
                    errors.add(format!("{at}[{i}].model"), why);
                }
            }
            (Some(_), Some(_)) => errors.add(
                format!("{at}[{i}]"),
                "has `job` and `model`; write one of them",
            ),
            (None, None) => errors.add(
                format!("{at}[{i}]"),
                "has neither `job` nor `model`; write one of them",
            ),
        }
    }
    unique(
        at,
        "name",
        inputs.iter().map(|input| input.name.as_str()),
        errors,
    );
}
