use super::*;
use base::{Attempt, Bytes, Index, Span, Uid};
use engine::{DeviceGrant, Mount, PortSpec, Probes};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A Group of one, as the other tests of this crate use it.
pub(crate) fn group() -> Group {
    Group {
        owner: Uid(7),
        name: "worker".to_owned(),
        title: "job/flights".to_owned(),
        tenant: "default".to_owned(),
        project: "air".to_owned(),
        life: Life::Batch,
        template: Template {
            command: vec!["python".to_owned(), "train.py".to_owned()],
            env: Vec::new(),
            workdir: None,
            runtime: Runtime::Host,
            mounts: Vec::new(),
            ports: vec![PortSpec {
                name: "http".to_owned(),
                number: 8080,
                protocol: "http".to_owned(),
            }],
            resources: Resources {
                cpu: MilliCpu(1500),
                memory: Bytes(1 << 30),
                gpu_milli: 2000,
                ..Resources::default()
            },
            user: None,
            isolation: Isolation::None,
            probes: Probes::default(),
            grace: Span::from_ms(1_500),
            outputs: Vec::new(),
        },
        slots: vec![Slot {
            index: Index(1),
            attempt: Attempt(2),
            node: "n1".to_owned(),
            devices: Vec::<DeviceGrant>::new(),
            ports: BTreeMap::new(),
            env: vec![("RANK".to_owned(), "1".to_owned())],
            token: "a secret".to_owned(),
        }],
    }
}

#[derive(Debug)]
struct Nobody;
impl engine::OutputSink for Nobody {
    fn append<'a>(
        &'a self,
        _: &'a str,
        _: &'a engine::ReplicaKey,
        _: Vec<engine::Frame>,
    ) -> engine::BoxFuture<'a, Result<base::Seq, EngineError>> {
        unreachable!("manifests need no sink")
    }
}
impl engine::Content for Nobody {
    fn blob<'a>(
        &'a self,
        _: &'a str,
        _: &'a base::Digest,
    ) -> engine::BoxFuture<'a, Result<std::path::PathBuf, EngineError>> {
        unreachable!("manifests need no content")
    }
    fn environment<'a>(
        &'a self,
        _: &'a str,
        _: &'a base::Digest,
    ) -> engine::BoxFuture<'a, Result<std::path::PathBuf, EngineError>> {
        unreachable!("manifests need no content")
    }
    fn keep<'a>(
        &'a self,
        _: &'a str,
        _: &'a std::path::Path,
    ) -> engine::BoxFuture<'a, Result<(base::Digest, u64), EngineError>> {
        unreachable!("manifests need no content")
    }
    fn secret<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
        _: u32,
    ) -> engine::BoxFuture<'a, Result<engine::SecretEntries, EngineError>> {
        unreachable!("manifests need no content")
    }
}

pub(crate) fn config() -> Config {
    Config {
        access: crate::config::Access::InCluster,
        namespace: "moonshot".to_owned(),
        images: crate::config::Images {
            agent: "example/moonshot:1".to_owned(),
            host: "example/shell:1".to_owned(),
            python: "example/python:1".to_owned(),
            server: Some("example/server:1".to_owned()),
        },
        listen: "10.0.0.1:7400".parse().expect("an address"),
        advertise: None,
        clients: Vec::new(),
        checkpoints: crate::config::Checkpoints {
            class: None,
            size: Bytes(1 << 30),
            access: crate::config::AccessMode::ReadWriteOnce,
        },
        gpu_class: None,
        user: 65_532,
        scratch: std::env::temp_dir(),
        sink: Arc::new(Nobody),
        content: Arc::new(Nobody),
    }
}

#[test]
fn a_batch_replica_is_a_job_of_one_try() {
    let (config, group) = (config(), group());
    let job = job(&config, &[], &group, &group.slots[0], Epoch(5));
    let text = job.to_string();
    assert!(!text.contains("a secret"), "tokens are in no object");
    let spec = &job["spec"];
    assert_eq!(
        (&spec["backoffLimit"], &spec["completions"]),
        (&json!(0), &json!(1))
    );
    let pod = &spec["template"]["spec"];
    assert_eq!(pod["restartPolicy"], "Never");
    assert_eq!(pod["schedulerName"], "moonshot");
    assert_eq!(pod["hostname"], "worker-1");
    assert_eq!(pod["terminationGracePeriodSeconds"], 2 + GRACE_BEYOND);
    let main = &pod["containers"][0];
    assert_eq!(
        main["resources"],
        json!({
            "requests": {"cpu": "1500m", "memory": "1073741824", "nvidia.com/gpu": "2"},
            "limits": {"cpu": "1500m", "memory": "1073741824", "nvidia.com/gpu": "2"},
        })
    );
    // The init step would hold the GPUs otherwise.
    assert_eq!(
        pod["initContainers"][0]["resources"]["limits"].get("nvidia.com/gpu"),
        None
    );
    let asked = job["metadata"]["annotations"][names::ASKED]
        .as_str()
        .expect("text");
    let back: Group = serde_json::from_str(asked).expect("it comes back");
    assert_eq!(back.slots[0].env, group.slots[0].env);
    // Typed objects have the same form: nothing is misspelt.
    let typed: k8s_openapi::api::batch::v1::Job =
        serde_json::from_value(job.clone()).expect("a Job");
    assert_eq!(serde_json::to_value(typed).expect("JSON"), job);
}

#[test]
fn a_service_is_a_deployment_with_its_probes() {
    let (config, mut group) = (config(), group());
    group.life = Life::Service;
    group.template.probes.readiness = Some(Probe {
        action: ProbeAction::Http {
            port: "http".to_owned(),
            path: "/healthz".to_owned(),
        },
        initial_delay: Span::ZERO,
        period: Span::from_ms(100),
        timeout: Span::from_secs(5),
        successes: 1,
        failures: 3,
    });
    group.template.probes.liveness = Some(Probe {
        action: ProbeAction::Exec {
            command: vec!["true".to_owned()],
        },
        ..group.template.probes.readiness.clone().expect("just set")
    });
    let deployment = deployment(&config, &[], &group, Epoch(5));
    let main = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(
        main["readinessProbe"]["httpGet"],
        json!({"path": "/healthz", "port": 8080})
    );
    assert_eq!(main["readinessProbe"]["periodSeconds"], 1);
    assert_eq!(
        main["livenessProbe"]["exec"]["command"],
        json!(["/moonshot/bin/moonshot-pod", "exec", "--", "true"])
    );
    let typed: k8s_openapi::api::apps::v1::Deployment =
        serde_json::from_value(deployment.clone()).expect("a Deployment");
    assert_eq!(serde_json::to_value(typed).expect("JSON"), deployment);
}

#[test]
fn images_are_pulled_as_the_projects_registries_say() {
    let (config, mut group) = (config(), group());
    group.template.runtime = Runtime::Image("registry.example.org/tool:1".to_owned());
    let registry = Registry {
        host: "registry.example.org".to_owned(),
        mirror: Some("mirror.example.org".to_owned()),
        secret: Some(("pull".to_owned(), 3)),
    };
    let pod = |registries: &[Registry]| {
        let job = job(&config, registries, &group, &group.slots[0], Epoch(5));
        job["spec"]["template"]["spec"].clone()
    };
    let plain = pod(&[]);
    assert_eq!(
        plain["containers"][0]["image"],
        "registry.example.org/tool:1"
    );
    assert_eq!(plain.get("imagePullSecrets"), None);
    let mirrored = pod(&[registry]);
    assert_eq!(
        mirrored["containers"][0]["image"],
        "mirror.example.org/tool:1"
    );
    assert_eq!(
        mirrored["imagePullSecrets"],
        json!([{"name": "moonshot-registries"}])
    );
}

#[test]
fn what_cannot_be_had_is_refused_by_field() {
    let refused = |change: fn(&mut Group)| {
        let mut group = group();
        change(&mut group);
        match check(&config().images, &group) {
            Err(EngineError::Unsupported { field, .. }) => field,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(|group| group.life = Life::Session), "life");
    assert_eq!(
        refused(|group| group.template.resources.gpu_milli = 500),
        "resources.gpu"
    );
    assert_eq!(refused(|group| group.template.user = Some(0)), "user");
    let volume = |group: &mut Group| {
        group.template.mounts.push(Mount {
            source: MountSource::Volume("data".to_owned()),
            path: "data".to_owned(),
            read_only: false,
        });
    };
    assert_eq!(refused(volume), "mounts.volume");
    assert!(check(&config().images, &group()).is_ok());
    let mut serves = group();
    serves.template.runtime = Runtime::Platform;
    let config = config();
    assert!(check(&config.images, &serves).is_ok());
    assert_eq!(image(&config, &Runtime::Platform), "example/server:1");
    let without = Images {
        server: None,
        ..config.images
    };
    let refusal = check(&without, &serves).unwrap_err().to_string();
    assert!(refusal.contains("MOONSHOT_IMAGE_SERVER"), "{refusal}");
}

/// Devices are claimed, not counted by Kubernetes: by one claim a pod, from a template of the Group's.
#[test]
fn devices_are_claimed_from_a_template() {
    let (mut config, mut group) = (config(), group());
    assert_eq!(template(&config, &group), None, "GPUs are counted");
    let extended = &mut group.template.resources.extended;
    extended.insert("device/nic.example.com".to_owned(), 3);
    extended.insert("device/none.example.com".to_owned(), 0);
    extended.insert("example.com/fpga".to_owned(), 1);
    config.gpu_class = Some("gpu.example.com".to_owned());
    let made = template(&config, &group).expect("it asks for devices");
    let asked = |class: &str, count: u64| {
        let (name, count) = (class, json!(count));
        json!({"deviceClassName": name, "allocationMode": "ExactCount", "count": count})
    };
    assert_eq!(
        made["spec"]["spec"]["devices"]["requests"],
        json!([
            {"name": "devices-0", "exactly": asked("gpu.example.com", 2)},
            {"name": "devices-1", "exactly": asked("nic.example.com", 3)},
        ])
    );
    let job = job(&config, &[], &group, &group.slots[0], Epoch(5));
    let pod = &job["spec"]["template"]["spec"];
    let main = &pod["containers"][0]["resources"];
    assert_eq!(
        main["limits"],
        json!({"cpu": "1500m", "memory": "1073741824", "example.com/fpga": "1"})
    );
    let claim = &pod["resourceClaims"][0];
    assert_eq!(main["claims"][0]["name"], claim["name"]);
    assert_eq!(claim["resourceClaimTemplateName"], made["metadata"]["name"]);
    assert_eq!(made["metadata"]["namespace"], job["metadata"]["namespace"]);
    let init = &pod["initContainers"][0]["resources"];
    assert_eq!(init.get("claims"), None, "the program's alone");
}
