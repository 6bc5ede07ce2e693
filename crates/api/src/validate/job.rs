//! Jobs.

use super::{Errors, program, syntax};
use crate::deliver::DeliverSpec;
use crate::job::{GroupSpec, JobSpec, RestartUnit};
use crate::path;
use base::Span;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The furthest a priority is from 0.
const PRIORITY_MAX: i32 = 1_000;
/// The most groups of a Job.
const GROUPS_MAX: usize = 32;
/// The most members of a Job.
const REPLICAS_MAX: u64 = 10_000;
/// The most runs of an array.
const ARRAY_MAX: u32 = 10_000;
/// The most retries.
const RETRIES_MAX: u32 = 1_000;
/// The most bytes of a Job's parameters as JSON: they travel as one variable, which Linux limits to 128 KiB.
const PARAM_BYTES_MAX: usize = 64 << 10;

pub(super) fn check(spec: &JobSpec, errors: &mut Errors) {
    priority("spec.priority", spec.priority, errors);
    if let Some(Err(why)) = spec.queue.as_deref().map(syntax::label) {
        errors.add("spec.queue", why);
    }
    program::check("spec", &spec.program, errors);
    if spec.groups.is_empty() && spec.program.command.is_empty() {
        errors.add("spec.command", program::NO_COMMAND);
    }
    groups(spec, errors);
    array(spec, errors);
    restart_unit(spec, errors);
    let group_names: BTreeSet<&str> = match spec.groups.as_slice() {
        [] => BTreeSet::from(["worker"]),
        groups => groups.iter().map(|group| group.name.as_str()).collect(),
    };
    let known = |group: &Option<String>| {
        group
            .as_deref()
            .is_none_or(|name| group_names.contains(name))
    };
    if let Some(rule) = spec.success.as_ref().filter(|rule| !known(&rule.group)) {
        let hint = crate::nearest::hint(
            rule.group.as_deref().unwrap_or_default(),
            group_names.iter().copied(),
        );
        errors.add(
            "spec.success.group",
            format!("is no group of this Job{hint}"),
        );
    }
    params(&spec.params, errors);
    retry(spec, errors);
    for (field, limit) in [
        ("timeLimit", spec.time_limit),
        ("queueTimeLimit", spec.queue_time_limit),
        ("expectedTime", spec.expected_time),
    ] {
        if limit == Some(Span::ZERO) {
            errors.add(
                format!("spec.{field}"),
                "is 0; leave it out where there is none",
            );
        }
    }
    for (i, output) in spec.outputs.iter().enumerate() {
        if let Err(why) = syntax::label(&output.name) {
            errors.add(format!("spec.outputs[{i}].name"), why);
        }
        if let Some(Err(why)) = output.path.as_deref().map(syntax::relative_path) {
            errors.add(format!("spec.outputs[{i}].path"), why);
        }
        if !known(&output.group) {
            errors.add(
                format!("spec.outputs[{i}].group"),
                "is no group of this Job",
            );
        }
    }
    program::unique(
        "spec.outputs",
        "name",
        spec.outputs.iter().map(|output| output.name.as_str()),
        errors,
    );
    if let Some(deliver) = &spec.deliver {
        check_delivery(spec, deliver, errors);
    }
}

fn check_delivery(spec: &JobSpec, deliver: &DeliverSpec, errors: &mut Errors) {
    if let Err(why) = syntax::label(&deliver.model) {
        errors.add("spec.deliver.model", why);
    }
    if let Some(Err(why)) = deliver.app.as_deref().map(syntax::label) {
        errors.add("spec.deliver.app", why);
    }
    if spec.array.is_some() {
        errors.add(
            "spec.deliver",
            "is not for arrays: many runs, and no one output",
        );
    }
    let mut names: Vec<&str> = spec
        .outputs
        .iter()
        .map(|output| output.name.as_str())
        .collect();
    if names.is_empty() {
        names.push("outputs");
    }
    match &deliver.output {
        None if names.len() > 1 && !names.contains(&"model") => errors.add(
            "spec.deliver.output",
            format!("is needed: the Job has the outputs {}", names.join(", ")),
        ),
        Some(output) if !names.contains(&output.as_str()) => errors.add(
            "spec.deliver.output",
            format!("is `{output}`; the Job has {}", names.join(", ")),
        ),
        _ => {}
    }
    if let Some(check) = &deliver.check {
        if let Some(Err(why)) = check.file.as_deref().map(syntax::relative_path) {
            errors.add("spec.deliver.check.file", why);
        }
        if let Some(Err(why)) = check.samples.as_deref().map(syntax::relative_path) {
            errors.add("spec.deliver.check.samples", why);
        }
        if check.samples.is_some() && deliver.app.is_none() {
            errors.add(
                "spec.deliver.check.samples",
                "is for an App's new Revision: name the App in `app`",
            );
        }
        if let Some(tolerance) = check.tolerance
            && !(tolerance.is_finite() && tolerance >= 0.0)
        {
            errors.add(
                "spec.deliver.check.tolerance",
                format!("is {tolerance}, at least 0 is wanted"),
            );
        }
        if check.metrics.is_empty() && check.samples.is_none() {
            errors.add(
                "spec.deliver.check",
                "has neither `metrics` nor `samples`; leave `check` out to check nothing",
            );
        }
        for (name, bounds) in &check.metrics {
            let at = format!("spec.deliver.check.metrics.{name}");
            match (bounds.min, bounds.max) {
                (None, None) => errors.add(at, "needs `min` or `max`"),
                (Some(min), Some(max)) if min > max => {
                    errors.add(at, format!("has min {min} above max {max}"));
                }
                _ => {}
            }
        }
    }
    if deliver.canary.is_some() && deliver.app.is_none() {
        errors.add(
            "spec.deliver.canary",
            "is about an App's requests: name the App in `app`",
        );
    }
}

pub(super) fn priority(at: &str, priority: Option<i32>, errors: &mut Errors) {
    if let Some(priority) =
        priority.filter(|priority| priority.unsigned_abs() > PRIORITY_MAX.unsigned_abs())
    {
        errors.add(
            at,
            format!("is {priority}; from -{PRIORITY_MAX} to {PRIORITY_MAX} is expected"),
        );
    }
}

fn replicas(group: &GroupSpec) -> u32 {
    group.replicas.unwrap_or(1)
}

fn groups(spec: &JobSpec, errors: &mut Errors) {
    if spec.groups.len() > GROUPS_MAX {
        errors.add(
            "spec.groups",
            format!(
                "has {} groups; at most {GROUPS_MAX} are allowed",
                spec.groups.len()
            ),
        );
        return;
    }
    for (i, group) in spec.groups.iter().enumerate() {
        let at = path::index("spec.groups", i);
        if let Err(why) = syntax::label(&group.name) {
            errors.add(format!("{at}.name"), why);
        }
        if group.replicas == Some(0) {
            errors.add(
                format!("{at}.replicas"),
                "is 0; leave the group out instead",
            );
        }
        if let Some(min) = group.min.filter(|min| *min == 0 || *min > replicas(group)) {
            errors.add(
                format!("{at}.min"),
                format!(
                    "is {min}; from 1 to `replicas` ({}) is expected",
                    replicas(group)
                ),
            );
        }
        if group.program.command.is_empty() && spec.program.command.is_empty() {
            errors.add(format!("{at}.command"), program::NO_COMMAND);
        }
        program::check(&at, &group.program, errors);
    }
    program::unique(
        "spec.groups",
        "name",
        spec.groups.iter().map(|group| group.name.as_str()),
        errors,
    );
    let total: u64 = spec
        .groups
        .iter()
        .map(|group| u64::from(replicas(group)))
        .sum();
    if total > REPLICAS_MAX {
        errors.add(
            "spec.groups",
            format!("have {total} replicas in all; at most {REPLICAS_MAX} are allowed"),
        );
    }
}

fn array(spec: &JobSpec, errors: &mut Errors) {
    let Some(array) = spec.array else { return };
    if array.count == 0 || array.count > ARRAY_MAX {
        errors.add(
            "spec.array.count",
            format!("is {}; from 1 to {ARRAY_MAX} is expected", array.count),
        );
    }
    if array.parallelism == Some(0) {
        errors.add(
            "spec.array.parallelism",
            "is 0, so that nothing would run; `suspend` does that",
        );
    }
    let members: u64 = spec
        .groups
        .iter()
        .map(|group| u64::from(replicas(group)))
        .sum();
    if spec.groups.len() > 1 || members > 1 {
        errors.add(
            "spec.array",
            "is many runs of one replica; it does not go with groups of several",
        );
    }
}

fn restart_unit(spec: &JobSpec, errors: &mut Errors) {
    let is_elastic = spec.groups.iter().any(|group| group.min.is_some());
    match (spec.restart_unit, spec.array.is_some()) {
        (Some(RestartUnit::Index), false) => {
            errors.add("spec.restartUnit", "`index` goes with `array` alone")
        }
        (Some(RestartUnit::Gang | RestartUnit::Rank), true) => {
            errors.add(
                "spec.restartUnit",
                "an array restarts by `index`; leave this out",
            );
        }
        (Some(RestartUnit::Rank), false) if !is_elastic => {
            errors.add(
                "spec.restartUnit",
                "`rank` needs an elastic group: write `min` for one",
            );
        }
        (Some(_), _) | (None, _) => {}
    }
}

fn params(params: &BTreeMap<String, Value>, errors: &mut Errors) {
    let mut variables = BTreeMap::new();
    for name in params.keys() {
        let at = path::field("spec.params", name);
        let well_formed = !name.is_empty()
            && name.len() <= 128
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
        if !well_formed {
            errors.add(
                at,
                "is not a parameter's name; use letters, digits, `_`, `-` and `.`",
            );
        } else if let Some(other) = variables.insert(crate::job::param_variable(name), name) {
            errors.add(at, format!("becomes the same variable as `{other}`"));
        }
    }
    let bytes = serde_json::to_string(params).map_or(0, |text| text.len());
    if bytes > PARAM_BYTES_MAX {
        errors.add(
            "spec.params",
            format!("have {bytes} bytes as JSON; at most {PARAM_BYTES_MAX} are allowed"),
        );
    }
}

fn retry(spec: &JobSpec, errors: &mut Errors) {
    let retry = &spec.retry;
    if let Some(limit) = retry.limit.filter(|limit| *limit > RETRIES_MAX) {
        errors.add(
            "spec.retry.limit",
            format!("is {limit}; at most {RETRIES_MAX} are allowed"),
        );
    }
    if let (Some(first), Some(longest)) = (retry.backoff, retry.backoff_max)
        && first > longest
    {
        errors.add(
            "spec.retry.backoff",
            format!("is {first}, longer than `backoffMax` ({longest})"),
        );
    }
    for (i, code) in retry.exit_codes.iter().enumerate() {
        if !(1..=255).contains(code) {
            errors.add(
                format!("spec.retry.exitCodes[{i}]"),
                format!("is {code}; from 1 to 255 is expected"),
            );
        }
    }
}
