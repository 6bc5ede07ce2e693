use super::*;
use crate::manifest::{self, Format};
use serde_json::{Value, json};

fn object(kind: &str, spec: Value) -> Object {
    serde_json::from_value(json!({
        "apiVersion": "moonshot/v1", "kind": kind, "metadata": {"name": "a"}, "spec": spec,
    }))
    .unwrap()
}

#[track_caller]
fn errors(kind: &str, spec: Value) -> Vec<String> {
    match check(&object(kind, spec), Purpose::Apply) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

#[track_caller]
fn good(kind: &str, spec: Value) {
    assert_eq!(errors(kind, spec), [] as [&str; 0]);
}

#[track_caller]
fn bad(kind: &str, spec: Value, expect: &[&str]) {
    assert_eq!(errors(kind, spec), expect);
}

/// A Job with these fields and a command.
fn job(fields: Value) -> Value {
    let mut spec = json!({"command": ["true"]});
    spec.as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    spec
}

/// An App with these template fields and a command.
fn template(fields: Value) -> Value {
    json!({ "template": job(fields) })
}

#[test]
fn the_examples_are_valid_but_for_their_directories() {
    for text in [
        include_str!("../../../../examples/flights/environment.yaml"),
        include_str!("../../../../examples/flights/job.yaml"),
        include_str!("../../../../examples/flights/app.yaml"),
    ] {
        let problem = manifest::read(text.as_bytes(), Format::Yaml, Purpose::Apply).err();
        let fields: Vec<String> = problem
            .into_iter()
            .flat_map(|problem| problem.errors)
            .map(|error| error.field)
            .collect();
        assert!(
            fields.iter().all(|field| field.ends_with("code.dir")),
            "{fields:?}"
        );
    }
}

#[test]
fn names() {
    let check_name = |metadata: Value, purpose| {
        let mut object = object("Job", job(json!({})));
        object.metadata = serde_json::from_value(metadata).unwrap();
        match check(&object, purpose) {
            Ok(_) => Vec::new(),
            Err(errors) => errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
        }
    };
    assert_eq!(
        check_name(json!({}), Purpose::Apply),
        ["metadata.name: is missing"]
    );
    assert_eq!(
        check_name(json!({"name": "a".repeat(64)}), Purpose::Apply),
        ["metadata.name: has 64 characters; at most 63 are allowed"]
    );
    assert_eq!(
        check_name(json!({"generateName": "a-"}), Purpose::Create),
        [] as [&str; 0]
    );
    assert_eq!(
        check_name(json!({"generateName": "a-"}), Purpose::Apply),
        ["metadata.name: is missing: apply needs a name; `moonshot create` takes `generateName`"]
    );
    assert_eq!(
        check_name(json!({"generateName": "a-", "name": "b"}), Purpose::Create),
        ["metadata.generateName: stands beside `name`; write one of them"]
    );
    assert_eq!(
        check_name(json!({"generateName": "a".repeat(58)}), Purpose::Create),
        ["metadata.generateName: has 58 characters; at most 57 are allowed"]
    );
    assert_eq!(
        check_name(
            json!({"name": "a", "labels": {"a b": "", "c": "d/e"}}),
            Purpose::Apply
        )
        .len(),
        2
    );
    let mut queue = object("Queue", json!({}));
    queue.metadata.project = "default".to_owned();
    assert_eq!(
        check(&queue, Purpose::Apply).unwrap_err()[0].to_string(),
        "metadata.project: a Queue belongs to no project; leave this out"
    );
}

#[test]
fn a_hundred_thousand_labels_are_one_clear_error() {
    let mut text =
        "apiVersion: moonshot/v1\nkind: Tenant\nmetadata:\n  name: a\n  labels:\n".to_owned();
    for n in 0..100_000 {
        text.push_str(&format!("    l{n}: v\n"));
    }
    let problem = manifest::read(text.as_bytes(), Format::Yaml, Purpose::Apply).unwrap_err();
    assert_eq!(
        problem.detail,
        "the manifest is not valid: line 5, column 3: metadata.labels: has 100000 labels; at most 64 are allowed"
    );
}

#[test]
fn structure_and_meaning_are_told_together_with_their_places() {
    let text = "\
apiVersion: moonshot/v1
kind: Job
metadata:
  name: Train
spec:
  framwork: xgboost
  env:
    - name: 1A
      value: 3
  groups:
    - name: w
      replicas: 0
    - name: w
      command: python
---
apiVersion: moonshot/v1
kind: Environment
metadata:
  name: e
spec:
  conda: {dependencies: [numpy]}
";
    let problem = manifest::read(text.as_bytes(), Format::Yaml, Purpose::Apply).unwrap_err();
    let found: Vec<String> = problem.errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "line 4, column 3: [0].metadata.name: has `T` at position 1; use lower-case letters, digits and `-`, and begin and end with a letter or digit",
            "line 6, column 3: [0].spec.framwork: unknown field; did you mean `framework`?",
            "line 8, column 7: [0].spec.env[0].name: is not a variable's name; use letters, digits and `_`, and do not begin with a digit",
            "line 9, column 7: [0].spec.env[0].value: is `3`; text is expected: write it in quotes, `\"3\"`",
            "line 11, column 7: [0].spec.groups[0].command: is missing; write the program and its arguments, also for an image: its ENTRYPOINT is not read",
            "line 12, column 7: [0].spec.groups[0].replicas: is 0; leave the group out instead",
            "line 13, column 7: [0].spec.groups[1].name: `w` is there twice",
            "line 14, column 7: [0].spec.groups[1].command: is `python`; a list is expected",
            "line 21, column 3: [1].spec.conda: conda is not supported: list the packages under `pip`, or build an image with conda and name it under `image`",
        ]
    );
}

#[test]
fn programs() {
    good(
        "Job",
        job(
            json!({"resources": {"cpu": "500m", "memory": "1Gi", "gpu": 0.5, "gpuModel": ["A100"]}, "environment": "e@3"}),
        ),
    );
    bad(
        "Job",
        json!({}),
        &[
            "spec.command: is missing; write the program and its arguments, also for an image: its ENTRYPOINT is not read",
        ],
    );
    bad(
        "Job",
        json!({"command": [""]}),
        &["spec.command[0]: is empty; the program's name is expected"],
    );
    bad(
        "Job",
        job(
            json!({"env": [{"name": "A"}, {"name": "A", "value": "", "secret": {"name": "s", "key": "k"}}]}),
        ),
        &[
            "spec.env[0]: has neither `value` nor `secret`; write one of them",
            "spec.env[1]: has `value` and `secret`; write one of them",
            "spec.env[1].name: `A` is there twice",
        ],
    );
    bad(
        "Job",
        job(json!({"workdir": "../x", "secrets": [{"name": "s", "path": "/etc"}]})),
        &[
            "spec.workdir: leads out of its directory by `..`",
            "spec.secrets[0].path: begins with `/`; a path relative to the replica's directory is expected",
        ],
    );
    bad(
        "Job",
        job(json!({"resources": {"cpu": 0, "memory": "512", "gpu": 1.5}})),
        &[
            "spec.resources.cpu: is 0; a program needs at least `1m`",
            "spec.resources.memory: is 512 bytes; a program needs at least `1Mi`: did you mean `512Mi`?",
            "spec.resources.gpu: is 1.5; write a whole number, or a part of one GPU such as `0.5`",
        ],
    );
    bad(
        "Job",
        job(json!({"resources": {"gpu": 0.12345}})),
        &["spec.resources.gpu: is 0.12345; parts are counted in thousandths"],
    );
    bad(
        "Job",
        job(json!({"resources": {"gpuMemory": "40Gi"}})),
        &["spec.resources.gpuMemory: says nothing without `gpu`; write how many"],
    );
    bad(
        "Job",
        job(json!({"code": {}})),
        &["spec.code: exactly one of `dir`, `git` and `digest` is expected"],
    );
    bad(
        "Job",
        job(json!({"code": {"git": {"url": "git@x:y", "ref": "--upload-pack=x", "path": "/x"}}})),
        &[
            "spec.code.git.url: is not a repository's URL; write `https://…` or `ssh://…`",
            "spec.code.git.ref: is not a branch, tag or commit",
            "spec.code.git.path: begins with `/`; a path relative to the replica's directory is expected",
        ],
    );
    for (url, secret, why) in [
        (
            "file:///etc",
            None,
            "is not a repository's URL; write `https://…` or `ssh://…`",
        ),
        (
            "ext::sh -c x",
            None,
            "is not a repository's URL; write `https://…` or `ssh://…`",
        ),
        (
            "ssh://-oProxyCommand=x/y",
            Some("s"),
            "is not a repository's URL; write `https://host/path`",
        ),
        (
            "https://me:word@example.org/x",
            None,
            "has credentials in it; keep them in a Secret and name that in `secret`",
        ),
        (
            "http://example.org/x",
            Some("s"),
            "would send the secret unprotected; use `https://`",
        ),
        (
            "ssh://git@example.org/x",
            None,
            "needs a `secret` with `ssh-privatekey` and `known_hosts`",
        ),
    ] {
        let mut git = json!({"url": url});
        if let Some(secret) = secret {
            git["secret"] = json!(secret);
        }
        bad(
            "Job",
            job(json!({"code": {"git": git}})),
            &[&format!("spec.code.git.url: {why}")],
        );
    }
    bad(
        "Job",
        job(json!({"ports": [{"port": 0}]})),
        &["spec.ports[0].port: is `0`; at least 1 is expected"],
    );
    bad(
        "Job",
        job(json!({"ports": [{"port": 65_536}]})),
        &["spec.ports[0].port: is `65536`; at most 65535 is expected"],
    );
    bad(
        "Job",
        job(json!({"ports": [{"port": 80}, {"port": 80, "protocol": "udp"}]})),
        &[
            "spec.ports[1].protocol: is `udp`; `http`, `h2c` or `tcp` is expected",
            "spec.ports[1].port: 80 is there twice",
            "spec.ports[1].name: `http` is there twice",
        ],
    );
    bad(
        "Job",
        job(json!({"inputs": [{"name": "a"}, {"name": "b", "model": "m@0"}]})),
        &[
            "spec.inputs[0]: has neither `job` nor `model`; write one of them",
            "spec.inputs[1].model: has version `0`; write a number from 1, as in `m@3`",
        ],
    );
}

#[test]
fn jobs() {
    good(
        "Job",
        json!({"command": ["c"], "groups": [{"name": "ps"}, {"name": "worker", "replicas": 4, "min": 2}], "restartUnit": "rank", "success": {"group": "worker", "rule": "all"}}),
    );
    good(
        "Job",
        job(
            json!({"array": {"count": 100, "parallelism": 10}, "params": {"lr": 0.1, "layers": [1, 2], "none": null}}),
        ),
    );
    bad(
        "Job",
        job(json!({"priority": 1001})),
        &["spec.priority: is 1001; from -1000 to 1000 is expected"],
    );
    bad(
        "Job",
        job(
            json!({"array": {"count": 0}, "groups": [{"name": "w", "replicas": 2}], "restartUnit": "gang"}),
        ),
        &[
            "spec.array.count: is 0; from 1 to 10000 is expected",
            "spec.array: is many runs of one replica; it does not go with groups of several",
            "spec.restartUnit: an array restarts by `index`; leave this out",
        ],
    );
    bad(
        "Job",
        job(json!({"restartUnit": "index"})),
        &["spec.restartUnit: `index` goes with `array` alone"],
    );
    bad(
        "Job",
        job(json!({"restartUnit": "rank"})),
        &["spec.restartUnit: `rank` needs an elastic group: write `min` for one"],
    );
    bad(
        "Job",
        job(json!({"groups": [{"name": "w", "replicas": 2, "min": 3}]})),
        &["spec.groups[0].min: is 3; from 1 to `replicas` (2) is expected"],
    );
    bad(
        "Job",
        job(json!({"groups": [{"name": "w", "replicas": 10_001}]})),
        &["spec.groups: have 10001 replicas in all; at most 10000 are allowed"],
    );
    bad(
        "Job",
        job(json!({"success": {"group": "wroker", "rule": "all"}})),
        &["spec.success.group: is no group of this Job; did you mean `worker`?"],
    );
    bad(
        "Job",
        job(json!({"params": {"a-b": 1, "a.b": 2, "": 3}})),
        &[
            "spec.params[]: is not a parameter's name; use letters, digits, `_`, `-` and `.`",
            "spec.params[a.b]: becomes the same variable as `a-b`",
        ],
    );
    bad(
        "Job",
        job(
            json!({"retry": {"limit": 1001, "backoff": "2m", "backoffMax": "1m", "exitCodes": [0, 256]}, "timeLimit": "0s"}),
        ),
        &[
            "spec.retry.limit: is 1001; at most 1000 are allowed",
            "spec.retry.backoff: is 2m, longer than `backoffMax` (1m)",
            "spec.retry.exitCodes[0]: is 0; from 1 to 255 is expected",
            "spec.retry.exitCodes[1]: is 256; from 1 to 255 is expected",
            "spec.timeLimit: is 0; leave it out where there is none",
        ],
    );
    bad(
        "Job",
        job(json!({"outputs": [{"name": "m"}, {"name": "m", "path": "a/../..", "group": "x"}]})),
        &[
            "spec.outputs[1].path: leads out of its directory by `..`",
            "spec.outputs[1].group: is no group of this Job",
            "spec.outputs[1].name: `m` is there twice",
        ],
    );
}

#[test]
fn deliveries() {
    good(
        "Job",
        job(
            json!({"outputs": [{"name": "model"}, {"name": "log"}], "deliver": {"model": "m", "app": "a",
                "check": {"metrics": {"auc": {"min": 0.8}}, "samples": "samples.jsonl", "tolerance": 0.01}, "canary": {"percent": 100, "for": "1m"}}}),
        ),
    );
    bad(
        "Job",
        job(
            json!({"outputs": [{"name": "x"}, {"name": "y"}], "deliver": {"model": "M", "canary": {"percent": 50},
                "check": {"file": "../m", "samples": "/s", "tolerance": -1, "metrics": {"auc": {}, "rmse": {"min": 2.0, "max": 1.0}}}}}),
        ),
        &[
            "spec.deliver.model: has `M` at position 1; use lower-case letters, digits and `-`, and begin and end with a letter or digit",
            "spec.deliver.output: is needed: the Job has the outputs x, y",
            "spec.deliver.check.file: leads out of its directory by `..`",
            "spec.deliver.check.samples: begins with `/`; a path relative to the replica's directory is expected",
            "spec.deliver.check.samples: is for an App's new Revision: name the App in `app`",
            "spec.deliver.check.tolerance: is -1, at least 0 is wanted",
            "spec.deliver.check.metrics.auc: needs `min` or `max`",
            "spec.deliver.check.metrics.rmse: has min 2 above max 1",
            "spec.deliver.canary: is about an App's requests: name the App in `app`",
        ],
    );
    bad(
        "Job",
        job(
            json!({"array": {"count": 2}, "deliver": {"model": "m", "output": "z", "check": {"metrics": {}}}}),
        ),
        &[
            "spec.deliver: is not for arrays: many runs, and no one output",
            "spec.deliver.output: is `z`; the Job has outputs",
            "spec.deliver.check: has neither `metrics` nor `samples`; leave `check` out to check nothing",
        ],
    );
}

#[test]
fn apps() {
    good(
        "App",
        template(json!({"probes": {"readiness": {"http": {"path": "/"}}}})),
    );
    good(
        "App",
        json!({"template": {"command": ["a"], "ports": [{"name": "grpc", "protocol": "h2c"}]}, "route": {"host": "*.example.org", "path": "/x", "port": "grpc"}, "traffic": [{"revision": 1, "percent": 90}, {"revision": 2, "percent": 10}]}),
    );
    bad(
        "App",
        template(
            json!({"probes": {"readiness": {}, "liveness": {"http": {"path": "x", "port": "htp"}, "period": "0s", "failures": 0}}}),
        ),
        &[
            "spec.template.probes.readiness: exactly one of `http`, `tcp` and `exec` is expected",
            "spec.template.probes.liveness.http.path: does not begin with `/`",
            "spec.template.probes.liveness.http.port: `htp` is no port of the template; did you mean `http`?",
            "spec.template.probes.liveness.period: is 0",
            "spec.template.probes.liveness.failures: is 0; at least 1 is expected",
        ],
    );
    let with = |field: &str, value: Value| {
        let mut spec = template(json!({}));
        spec[field] = value;
        spec
    };
    bad(
        "App",
        with(
            "traffic",
            json!([{"revision": 1, "percent": 50}, {"revision": 1, "percent": 40}]),
        ),
        &[
            "spec.traffic[1].revision: 1 is there twice",
            "spec.traffic: the shares add up to 90; 100 is expected",
        ],
    );
    bad(
        "App",
        with("traffic", json!([{"revision": 1, "percent": 101}])),
        &["spec.traffic[0].percent: is `101`; at most 100 is expected"],
    );
    bad(
        "App",
        with("rollout", json!({"maxSurge": "25"})),
        &["spec.rollout.maxSurge: is `25`; a number or a share from `0%` to `100%` is expected"],
    );
    bad(
        "App",
        with("rollout", json!({"maxSurge": 0})),
        &[
            "spec.rollout.maxSurge: is 0 while `maxUnavailable` is 0 too, so that nothing could be replaced",
        ],
    );
    good(
        "App",
        with("rollout", json!({"maxSurge": 0, "maxUnavailable": 1})),
    );
    for path in ["x", "/a/../b", "//", "/a?b", "/é"] {
        bad(
            "App",
            with("route", json!({ "path": path })),
            &["spec.route.path: is not a path prefix; write for example `/flights`"],
        );
    }
    bad(
        "App",
        with("replicas", json!(1001)),
        &["spec.replicas: is 1001; at most 1000 are allowed"],
    );
}

#[test]
fn environments_and_secrets() {
    good(
        "Environment",
        json!({"pip": ["numpy>=2"], "python": "3.11"}),
    );
    good(
        "Environment",
        json!({"image": "registry.example.org:5000/a/b@sha256:00"}),
    );
    bad(
        "Environment",
        json!({}),
        &["spec: has neither `pip` nor `image`; write one of them"],
    );
    bad(
        "Environment",
        json!({"pip": ["", "-r x", "a\nb"], "image": "a b", "python": "2.7"}),
        &[
            "spec: has `pip` and `image`; write one of them",
            "spec.pip[0]: is empty",
            "spec.pip[1]: `-r x` is an option; only requirements are taken, such as `xgboost==3.0.0`",
            "spec.pip[2]: has several lines; write one requirement an item",
            "spec.python: is `2.7`; a version such as `3.11` is expected",
            "spec.python: goes with `pip` alone; an image brings its own",
            "spec.image: is not the name of an image, such as `registry.example.org/team/train:1.2`",
        ],
    );
    good(
        "Secret",
        json!({"data": {"password": "x"}, "binaryData": {"key.pem": "YQ=="}}),
    );
    bad(
        "Secret",
        json!({"data": {"a/b": "x", "c": ""}, "binaryData": {"c": "", "d": "?"}}),
        &[
            "spec.data.a/b: is not an entry's name; use letters, digits, `-`, `_` and `.`",
            "spec.binaryData.c: is in `data` too",
            "spec.binaryData.d: is not base64",
        ],
    );
    bad(
        "Secret",
        json!({}),
        &["spec.data: is empty; a Secret's values are never shown, so they must be written anew"],
    );
}

#[test]
fn the_platforms_own_kinds() {
    good(
        "Queue",
        json!({"parent": "root", "projects": ["default"], "quotas": {"*": {"guaranteed": {"cpu": 2}, "limit": {"cpu": "4", "gpu": 2.5}, "weight": 3}}}),
    );
    bad(
        "Queue",
        json!({"parent": "a", "projects": ["p", "p"], "quotas": {"gpu pool": {"guaranteed": {"memory": "2Gi"}, "limit": {"memory": "1Gi"}, "weight": 0}}}),
        &[
            "spec.parent: is the queue itself",
            "spec.projects[1]: `p` is there twice",
            "spec.quotas.gpu pool: the pool's name has ` ` at position 4; use lower-case letters, digits and `-`, and begin and end with a letter or digit; `*` stands for every other pool",
            "spec.quotas.gpu pool.guaranteed.memory: is more than the limit",
            "spec.quotas.gpu pool.weight: from 1 to 10000 is expected",
        ],
    );
    bad(
        "Cluster",
        json!({"engine": "docker"}),
        &["spec.engine: is `docker`; `local` or `k8s` is expected"],
    );
    good(
        "Node",
        json!({"unschedulable": true, "taints": [{"key": "gpu", "effect": "NoSchedule"}]}),
    );
    bad(
        "Node",
        json!({"taints": [{"key": "", "effect": "NoWay"}]}),
        &[
            "spec.taints[0].effect: is `NoWay`; `NoSchedule`, `PreferNoSchedule` or `NoExecute` is expected",
            "spec.taints[0].key: has an empty name",
        ],
    );
    bad(
        "Project",
        json!({"registries": [{"host": "https://x"}]}),
        &[
            "spec.registries[0].host: is not a host such as `registry.example.org` or `registry.example.org:5000`",
        ],
    );
    good(
        "Project",
        json!({"podSecurity": "baseline", "network": {
            "ingress": [{"project": "not-yet"}, {"cidr": "10.0.0.0/8", "ports": [443, 8080]}],
            "egress": [],
        }}),
    );
    bad(
        "Project",
        json!({"podSecurity": "Baseline", "network": {
            "ingress": [{}, {"project": "a"}, {"project": "a b"}, {"project": "b", "cidr": "::/0"}],
            "egress": [
                {"cidr": "10.0.0.1/8"}, {"cidr": "10.0.0.0"}, {"cidr": "10.0.0.0/33"},
                {"project": "b", "ports": [0, 65_536]}, {"project": "b", "ports": [80, 80]},
            ],
        }}),
        &[
            "spec.podSecurity: is `Baseline`; `restricted`, `baseline` or `privileged` is expected; did you mean `baseline`?",
            "spec.network.egress[3].ports[0]: is `0`; at least 1 is expected",
            "spec.network.egress[3].ports[1]: is `65536`; at most 65535 is expected",
            "spec.network.ingress[0]: names nobody; give `project` or `cidr`",
            "spec.network.ingress[1].project: is the Project itself, whose programs always reach each other; leave it out",
            "spec.network.ingress[2].project: has ` ` at position 2; use lower-case letters, digits and `-`, and begin and end with a letter or digit",
            "spec.network.ingress[3]: has both `project` and `cidr`; make two entries of it",
            "spec.network.egress[0].cidr: begins within the range; write `10.0.0.0/8`",
            "spec.network.egress[1].cidr: is not a range of addresses; write it like `10.0.0.0/8`, or `10.1.2.3/32` for one address",
            "spec.network.egress[2].cidr: fixes more than the 32 bits of its address",
            "spec.network.egress[4].ports[1]: 80 is there twice",
        ],
    );
    bad(
        "Pool",
        json!({"levels": ["rack", "rack"]}),
        &["spec.levels[1]: `rack` is there twice"],
    );
    bad(
        "ModelVersion",
        json!({"model": "m"}),
        &["spec.digest: is missing; upload the model first: `moonshot model push` does both"],
    );
}

#[test]
fn what_a_queue_will_need() {
    let queue = |fields: Value| {
        let quotas = json!({"gpu": {"limit": {"gpu": 64}}, "*": {"nodes": [{"count": 2, "each": {"gpu": 8}, "gpuModel": "A100"}]}});
        let mut spec = json!({"order": "shortest", "quotas": quotas});
        let map = spec.as_object_mut().unwrap();
        map.extend(fields.as_object().unwrap().clone());
        spec
    };
    let daily = json!([{"at": "08:00", "amount": {"gpu": 64}}, {"at": "22:30", "amount": {}}]);
    good(
        "Queue",
        queue(json!({"reservations": [
            {"pool": "gpu", "daily": daily, "days": ["Mon", "Sat"], "timeZone": "Asia/Shanghai"},
            {"pool": "cpu", "once": {"from": "2026-12-01T08:00:00Z", "until": "2026-12-01T18:00:00Z", "amount": {"cpu": 400}}},
        ]})),
    );
    bad(
        "Queue",
        queue(json!({"order": "lifo", "reservations": [
            {"pool": "gpu"},
            {"pool": "gpu", "daily": daily, "timeZone": "Middle/Earth", "days": ["Mon", "Mon"],
             "once": {"from": "2026-12-01T08:00:00Z", "until": "2026-12-01T08:00:00Z", "amount": {"gpu": -1}}},
            {"pool": "gpu", "daily": [{"at": "8:00", "amount": {}}, {"at": "07:00", "amount": {"gpu": 65}}, {"at": "06:00", "amount": {}}]},
        ]})),
        &[
            "spec.order: is `lifo`; `priority`, `fifo` or `shortest` is expected; did you mean `fifo`?",
            "spec.reservations[0]: needs `once`, a window, or `daily`, the course of a day",
            "spec.reservations[1]: has both `once` and `daily`; write two reservations",
            "spec.reservations[1].once.until: is not after `from`",
            "spec.reservations[1].once.amount.gpu: is -1; 0 or more is expected",
            "spec.reservations[1].days: is for `daily` only",
            "spec.reservations[1].timeZone: is for `daily` only",
            "spec.reservations[1].timeZone: `Middle/Earth` is no time zone; write for example `Asia/Shanghai` or `UTC`",
            "spec.reservations[1].days[1]: `Mon` is there twice",
            "spec.reservations[2].daily[0].at: `8:00` is no time of day; write for example `08:00`",
            "spec.reservations[2].daily[1].amount.gpu: is more than the limit",
            "spec.reservations[2].daily[2].at: `06:00` is not after `07:00`",
        ],
    );
    bad(
        "Queue",
        json!({"quotas": {"gpu": {"nodes": [{"count": 0, "each": {"cpu": 0}}]}}}),
        &[
            "spec.quotas.gpu.nodes[0].count: from 1 to 100000 is expected",
            "spec.quotas.gpu.nodes[0].each: is empty; say what such a node has, for example `gpu: 8`",
        ],
    );
    bad(
        "Pool",
        json!({"halfLife": "0s"}),
        &["spec.halfLife: is 0; leave it out so that only what is used now counts"],
    );
}

#[test]
fn company_and_distance() {
    let placement = |fields: Value| template(json!({ "placement": fields }));
    good(
        "App",
        placement(
            json!({"spread": [{}, {"level": "zone", "maxSkew": 2, "required": true}], "near": [{"app": "cache", "level": "rack"}], "apart": [{"app": "noisy"}]}),
        ),
    );
    bad(
        "App",
        placement(
            json!({"spread": [{"level": "", "maxSkew": 0}], "near": [{"level": "rack"}], "apart": [{"app": "A"}]}),
        ),
        &[
            "spec.template.placement.near[0].app: is missing",
            "spec.template.placement.spread[0].level: is not the key of a node label",
            "spec.template.placement.spread[0].maxSkew: is 0; the least is 1",
            "spec.template.placement.apart[0].app: has `A` at position 1; use lower-case letters, digits and `-`, and begin and end with a letter or digit",
        ],
    );
}

#[test]
fn what_is_stored_is_what_was_sent() {
    let spec = job(
        json!({"resources": {"cpu": "0.5", "memory": "1024Mi"}, "timeLimit": "90m", "queue": null}),
    );
    let typed = check(&object("Job", spec), Purpose::Apply).unwrap();
    let again = typed.canonical_spec();
    let typed_again = check(&object("Job", again.clone()), Purpose::Apply).unwrap();
    assert_eq!(
        typed_again.canonical_spec(),
        again,
        "a canonical spec stays as it is"
    );
    assert_eq!(again["timeLimit"], "1h30m");
    assert_eq!(again["resources"], json!({"cpu": "500m", "memory": "1Gi"}));
    assert!(
        again.get("queue").is_none() && again.get("priority").is_none(),
        "no defaults are written"
    );
}

#[test]
fn an_app_serves_a_model_or_runs_a_program() {
    good(
        "App",
        json!({"model": {"uri": "s3://bucket/models/flights/3", "secret": "bucket"}}),
    );
    assert_eq!(
        errors("App", json!({"model": {"uri": "https://h/My_Model.json"}})),
        ["spec.model.name: is needed: `My_Model`, the end of `uri`, is no name"]
    );
    assert_eq!(
        errors(
            "App",
            json!({"model": {"uri": "model://flights", "secret": "bucket"}})
        ),
        [
            "spec.model.secret: is for files from elsewhere, and `uri` names what is kept here; take it out"
        ]
    );
    good(
        "App",
        json!({"model": {"uri": "model://flights@2", "versions": [1], "batching": {"maxRows": 8}, "timeout": "2s"},
            "template": {"resources": {"cpu": "500m"}}}),
    );
    bad(
        "App",
        json!({"model": {"uri": "job://train/model", "versions": [1], "workers": 0, "name": "A b"},
            "template": {"command": ["python"], "environment": "x"}}),
        &[
            "spec.model.name: has `A` at position 1; use lower-case letters, digits and `-`, and begin and end with a letter or digit",
            "spec.model.versions: are of a Model, and what `uri` names has none; write `model://NAME` there",
            "spec.model.workers: is 0; at least 1 is expected",
            "spec.template.command: is of a program, while `spec.model` has the model server run; take one of the two out",
            "spec.template.environment: is of a program, while `spec.model` has the model server run; take one of the two out",
        ],
    );
    assert_eq!(
        errors("App", json!({"model": {"uri": "flights"}})),
        [
            "spec.model.uri: is `flights`; write `model://NAME`, `model://NAME@VERSION`, `job://JOB/OUTPUT`, `s3://BUCKET/PATH` or `https://HOST/PATH`"
        ]
    );
}
