//! Apps.

use super::{Errors, job, program, syntax};
use crate::app::{AppSpec, IntOrPercent, ProbeSpec, RolloutSpec, RouteSpec};
use crate::common::ProgramSpec;
use crate::served::{ModelSource, ServedModel};
use base::Span;
use std::collections::BTreeSet;

/// The most replicas of an App.
const REPLICAS_MAX: u32 = 1_000;
/// The most old Revisions that are kept.
const HISTORY_MAX: u32 = 100;
/// The most further versions that one App holds.
const VERSIONS_MAX: usize = 20;
/// The most Revisions that share requests.
const TRAFFIC_MAX: usize = 2;

pub(super) fn check(spec: &AppSpec, errors: &mut Errors) {
    if let Some(replicas) = spec.replicas.filter(|replicas| *replicas > REPLICAS_MAX) {
        errors.add(
            "spec.replicas",
            format!("is {replicas}; at most {REPLICAS_MAX} are allowed"),
        );
    }
    if let Some(Err(why)) = spec.queue.as_deref().map(syntax::label) {
        errors.add("spec.queue", why);
    }
    job::priority("spec.priority", spec.priority, errors);
    let template = &spec.template;
    match &spec.model {
        Some(model) => served(model, &template.program, errors),
        None if template.program.command.is_empty() => {
            errors.add("spec.template.command", program::NO_COMMAND);
        }
        None => {}
    }
    program::check("spec.template", &template.program, errors);
    // An App that names no port has one called `http`.
    let ports: BTreeSet<&str> = match template.program.ports.as_slice() {
        [] => BTreeSet::from(["http"]),
        ports => ports.iter().map(|port| port.name.as_str()).collect(),
    };
    let probes = &template.probes;
    for (name, one) in [
        ("startup", &probes.startup),
        ("readiness", &probes.readiness),
        ("liveness", &probes.liveness),
    ] {
        if let Some(one) = one {
            probe(&format!("spec.template.probes.{name}"), one, &ports, errors);
        }
    }
    rollout(&spec.rollout, errors);
    if let Some(one) = &spec.route {
        route(one, &ports, errors);
    }
    traffic(spec, errors);
}

fn served(model: &ServedModel, program: &ProgramSpec, errors: &mut Errors) {
    let source = model.source();
    match &source {
        Err(why) => errors.add("spec.model.uri", why.clone()),
        Ok(ModelSource::Elsewhere { .. }) if model.name.is_some() => {}
        Ok(elsewhere @ ModelSource::Elsewhere { .. }) => {
            let name = elsewhere.name();
            if syntax::label(name).is_err() {
                let why = format!("is needed: `{name}`, the end of `uri`, is no name");
                errors.add("spec.model.name", why);
            }
        }
        Ok(here) => {
            if let Err(why) = syntax::label(here.name()) {
                errors.add("spec.model.uri", why);
            }
        }
    }
    if let Some(Err(why)) = model.name.as_deref().map(syntax::label) {
        errors.add("spec.model.name", why);
    }
    if !model.versions.is_empty() && !matches!(source, Ok(ModelSource::Model { .. })) {
        errors.add(
            "spec.model.versions",
            "are of a Model, and what `uri` names has none; write `model://NAME` there",
        );
    }
    if let Some(secret) = &model.secret {
        if let Err(why) = syntax::label(secret) {
            errors.add("spec.model.secret", why);
        }
        if matches!(
            source,
            Ok(ModelSource::Model { .. } | ModelSource::Job { .. })
        ) {
            errors.add(
                "spec.model.secret",
                "is for files from elsewhere, and `uri` names what is kept here; take it out",
            );
        }
    }
    if model.versions.len() > VERSIONS_MAX || model.versions.contains(&0) {
        errors.add(
            "spec.model.versions",
            format!("at most {VERSIONS_MAX} numbers from 1 are expected"),
        );
    }
    let batching = model.batching.clone().unwrap_or_default();
    for (field, count) in [
        ("batching.maxRows", batching.max_rows),
        ("batching.maxWaiting", batching.max_waiting),
        ("workers", model.workers),
    ] {
        if count == Some(0) {
            errors.add(
                format!("spec.model.{field}"),
                "is 0; at least 1 is expected",
            );
        }
    }
    if model.timeout == Some(Span::ZERO) {
        errors.add("spec.model.timeout", "is 0");
    }
    for (field, is_given) in [
        ("command", !program.command.is_empty()),
        ("args", !program.args.is_empty()),
        ("code", program.code.is_some()),
        ("environment", program.environment.is_some()),
        ("workdir", program.workdir.is_some()),
    ] {
        if is_given {
            errors.add(
                format!("spec.template.{field}"),
                "is of a program, while `spec.model` has the model server run; take one of the two out",
            );
        }
    }
}

fn known_port(at: String, port: Option<&str>, ports: &BTreeSet<&str>, errors: &mut Errors) {
    if let Some(port) = port.filter(|port| !ports.contains(port)) {
        errors.add(
            at,
            format!(
                "`{port}` is no port of the template{}",
                crate::nearest::hint(port, ports.iter().copied())
            ),
        );
    }
}

fn probe(at: &str, probe: &ProbeSpec, ports: &BTreeSet<&str>, errors: &mut Errors) {
    let given = [
        probe.http.is_some(),
        probe.tcp.is_some(),
        probe.exec.is_some(),
    ];
    if given.iter().filter(|given| **given).count() != 1 {
        errors.add(at, "exactly one of `http`, `tcp` and `exec` is expected");
    }
    if let Some(http) = &probe.http {
        if !http.path.starts_with('/') {
            errors.add(format!("{at}.http.path"), "does not begin with `/`");
        }
        known_port(
            format!("{at}.http.port"),
            http.port.as_deref(),
            ports,
            errors,
        );
    }
    if let Some(tcp) = &probe.tcp {
        known_port(format!("{at}.tcp.port"), tcp.port.as_deref(), ports, errors);
    }
    if probe
        .exec
        .as_ref()
        .is_some_and(|exec| exec.command.first().is_none_or(String::is_empty))
    {
        errors.add(
            format!("{at}.exec.command"),
            "is empty; write the program and its arguments",
        );
    }
    for (field, span) in [("period", probe.period), ("timeout", probe.timeout)] {
        if span == Some(Span::ZERO) {
            errors.add(format!("{at}.{field}"), "is 0");
        }
    }
    for (field, count) in [("successes", probe.successes), ("failures", probe.failures)] {
        if count == Some(0) {
            errors.add(format!("{at}.{field}"), "is 0; at least 1 is expected");
        }
    }
}

fn rollout(rollout: &RolloutSpec, errors: &mut Errors) {
    for (field, amount) in [
        ("maxSurge", &rollout.max_surge),
        ("maxUnavailable", &rollout.max_unavailable),
    ] {
        if let Some(IntOrPercent::Percent(text)) = amount
            && percent(text).is_none()
        {
            errors.add(
                format!("spec.rollout.{field}"),
                format!("is `{text}`; a number or a share from `0%` to `100%` is expected"),
            );
        }
    }
    let is_zero = |amount: &Option<IntOrPercent>| match amount {
        Some(IntOrPercent::Count(count)) => *count == 0,
        Some(IntOrPercent::Percent(text)) => percent(text) == Some(0),
        None => false,
    };
    let nothing_missing = rollout.max_unavailable.is_none() || is_zero(&rollout.max_unavailable);
    if is_zero(&rollout.max_surge) && nothing_missing {
        errors.add(
            "spec.rollout.maxSurge",
            "is 0 while `maxUnavailable` is 0 too, so that nothing could be replaced",
        );
    }
    let worse = rollout.step_back.clone().unwrap_or_default();
    let latency = worse.latency;
    if worse
        .errors
        .is_some_and(|errors| !(0.0..=100.0).contains(&errors))
    {
        errors.add("spec.rollout.stepBack.errors", "from 0 to 100 is expected");
    }
    if latency.is_some_and(|times| times != 0.0 && !(1.0..=1_000.0).contains(&times)) {
        errors.add(
            "spec.rollout.stepBack.latency",
            "0, or from 1 to 1000 times is expected",
        );
    }
    if rollout.progress_deadline == Some(Span::ZERO) {
        errors.add("spec.rollout.progressDeadline", "is 0");
    }
    if rollout
        .history
        .is_some_and(|history| history == 0 || history > HISTORY_MAX)
    {
        errors.add(
            "spec.rollout.history",
            format!("from 1 to {HISTORY_MAX} is expected"),
        );
    }
}

/// `25%` as 25.
fn percent(text: &str) -> Option<u32> {
    let digits = text.strip_suffix('%')?;
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain
        .then(|| digits.parse().ok())
        .flatten()
        .filter(|percent| *percent <= 100)
}

fn route(route: &RouteSpec, ports: &BTreeSet<&str>, errors: &mut Errors) {
    if let Some(host) = &route.host
        && let Err(why) = syntax::dns_name(host.strip_prefix("*.").unwrap_or(host))
    {
        errors.add("spec.route.host", format!("is not a host name: it {why}"));
    }
    if let Some(path) = &route.path {
        let clean = path
            .chars()
            .all(|c| c.is_ascii_graphic() && !"?#%\\".contains(c));
        let dots = path.split('/').any(|part| part == "." || part == "..");
        if !path.starts_with('/') || path.contains("//") || dots || !clean {
            errors.add(
                "spec.route.path",
                "is not a path prefix; write for example `/flights`",
            );
        } else if ["/v1", "/healthz"].contains(&path.trim_end_matches('/')) && route.host.is_none()
        {
            errors.add("spec.route.path", "is the platform's own");
        }
    }
    known_port(
        "spec.route.port".to_owned(),
        route.port.as_deref(),
        ports,
        errors,
    );
    if route.timeout == Some(Span::ZERO) {
        errors.add("spec.route.timeout", "is 0");
    }
}

fn traffic(spec: &AppSpec, errors: &mut Errors) {
    if spec.traffic.is_empty() {
        return;
    }
    if spec.traffic.len() > TRAFFIC_MAX {
        errors.add(
            "spec.traffic",
            format!(
                "names {} Revisions; at most {TRAFFIC_MAX} share requests",
                spec.traffic.len()
            ),
        );
    }
    let mut seen = BTreeSet::new();
    for (i, share) in spec.traffic.iter().enumerate() {
        if share.revision == 0 {
            errors.add(
                format!("spec.traffic[{i}].revision"),
                "is 0; Revisions count from 1",
            );
        } else if !seen.insert(share.revision) {
            errors.add(
                format!("spec.traffic[{i}].revision"),
                format!("{} is there twice", share.revision),
            );
        }
    }
    let sum: u32 = spec
        .traffic
        .iter()
        .map(|share| u32::from(share.percent))
        .sum();
    if sum != 100 {
        errors.add(
            "spec.traffic",
            format!("the shares add up to {sum}; 100 is expected"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::percent;

    #[test]
    fn percentages() {
        for (text, expect) in [
            ("0%", Some(0)),
            ("25%", Some(25)),
            ("100%", Some(100)),
            ("101%", None),
            ("%", None),
            ("+5%", None),
            ("5", None),
            ("5.5%", None),
        ] {
            assert_eq!(percent(text), expect, "{text}");
        }
    }
}
