//! An App without a program: the model server runs, with the versions that its Revision pins.

use super::convert;
use api::app::{AppTemplate, HttpProbe, ProbeSpec};
use api::served::ServedModel;
use base::{Digest, Span};
use engine::{Mount, MountSource, Runtime, Template};
use std::collections::BTreeMap;

/// Where models lie, relative to the replica's root.
const DIR: &str = "models";
/// Of the memory that the replica may use, the part in hundredths that models may take; the rest is for requests.
const MEMORY_PART: u64 = 80;

/// Has the template run the model server on these versions.
pub fn serve(
    template: &mut Template,
    app: &AppTemplate,
    model: &ServedModel,
    versions: &BTreeMap<u32, Digest>,
) {
    let port = template.ports.first();
    let port = port.map_or_else(|| "http".to_owned(), |port| port.name.clone());
    template.runtime = Runtime::Platform;
    template.command = command(template, app, model);
    for (version, digest) in versions {
        template.mounts.push(Mount {
            source: MountSource::Input(*digest),
            path: format!("{DIR}/{}/{version}", model.name()),
            read_only: true,
        });
    }
    if app.probes.readiness.is_none() {
        let asked = ProbeSpec {
            http: Some(HttpProbe {
                path: "/v2/health/ready".to_owned(),
                port: None,
            }),
            ..ProbeSpec::default()
        };
        template.probes.readiness = Some(convert::readiness(&asked, &port));
    }
}

fn command(template: &Template, app: &AppTemplate, model: &ServedModel) -> Vec<String> {
    let batching = model.batching.clone().unwrap_or_default();
    let workers = model.workers.map(u64::from).or_else(|| {
        let cpu = app.program.resources.cpu?;
        Some(cpu.0.div_ceil(1_000).max(1))
    });
    let memory = template.resources.memory.0 / 100 * MEMORY_PART;
    let chosen = [
        ("--workers", workers),
        ("--batch-rows-max", batching.max_rows.map(u64::from)),
        ("--queue-max", batching.max_waiting.map(u64::from)),
        ("--timeout-ms", model.timeout.map(Span::as_ms)),
        ("--memory-max", (memory > 0).then_some(memory)),
    ];
    let dir = format!("$(MOONSHOT_ROOT)/{DIR}");
    let fixed = [
        "serve",
        &dir,
        "--versions",
        "all",
        "--strict",
        "--listen",
        "$(MOONSHOT_BIND):$(PORT)",
    ];
    let mut command: Vec<String> = fixed.map(str::to_owned).to_vec();
    for (flag, value) in chosen {
        command.extend(
            value
                .into_iter()
                .flat_map(|value| [flag.to_owned(), value.to_string()]),
        );
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pinned::PinnedProgram;
    use serde_json::json;

    #[test]
    fn the_server_runs_within_what_the_replica_has() {
        let app: AppTemplate =
            serde_json::from_value(json!({"resources": {"cpu": "1500m", "memory": "100Mi"}}))
                .unwrap();
        let model: ServedModel = serde_json::from_value(
            json!({"uri": "model://flights@3", "versions": [2], "timeout": "2s", "batching": {"maxRows": 8}}),
        )
        .unwrap();
        let mut template = convert::app_template(&app, &PinnedProgram::default(), None);
        let versions = BTreeMap::from([(2, Digest([2; 32])), (3, Digest([3; 32]))]);
        serve(&mut template, &app, &model, &versions);
        assert_eq!(
            template.command.join(" "),
            "serve $(MOONSHOT_ROOT)/models --versions all --strict --listen $(MOONSHOT_BIND):$(PORT) \
             --workers 2 --batch-rows-max 8 --timeout-ms 2000 --memory-max 83886080"
        );
        let paths: Vec<&str> = template
            .mounts
            .iter()
            .map(|mount| mount.path.as_str())
            .collect();
        assert_eq!(paths, ["models/flights/2", "models/flights/3"]);
        assert_eq!(template.runtime, Runtime::Platform);
    }

    #[test]
    fn a_probe_of_ones_own_stays() {
        let app: AppTemplate = serde_json::from_value(
            json!({"probes": {"readiness": {"http": {"path": "/v1/models/flights"}}}}),
        )
        .unwrap();
        let mut template = convert::app_template(&app, &PinnedProgram::default(), None);
        let readiness = template.probes.readiness.clone();
        serve(
            &mut template,
            &app,
            &ServedModel::default(),
            &BTreeMap::new(),
        );
        assert_eq!(template.probes.readiness, readiness);
    }
}
