//! What the server and the gateway are configured with: one TOML file, overridden by the environment. Every
//! setting is in one table, which the reference prints.

use super::kubernetes::Kubernetes;
use super::settings_text;
use base::{Bytes, Net, Span};
use k8s::{AccessMode, Checkpoints};
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// A setting: its variable, its key in the file, its default, and what it does.
pub(crate) const TABLE: &[(&str, &str, &str, &str)] = &[
    (
        "MOONSHOT_DATA_DIR",
        "data_dir",
        "~/.local/share/moonshot",
        "where everything is kept",
    ),
    (
        "MOONSHOT_LISTEN",
        "listen",
        "127.0.0.1:7070",
        "where the API and the console listen",
    ),
    (
        "MOONSHOT_GATEWAY_LISTEN",
        "gateway_listen",
        "127.0.0.1:7080",
        "where Apps are reached",
    ),
    (
        "MOONSHOT_DATABASE",
        "database",
        "sqlite in the data directory",
        "`postgres://…` for several servers",
    ),
    (
        "MOONSHOT_STORE",
        "store",
        "`store` in the data directory",
        "where code, outputs and models are kept: a directory, or `s3://bucket/prefix`",
    ),
    (
        "MOONSHOT_STORE_ENDPOINT",
        "store_endpoint",
        "Amazon's of the region",
        "the S3 service: `https://s3.example.org`",
    ),
    (
        "MOONSHOT_STORE_REGION",
        "store_region",
        "`AWS_REGION`, else us-east-1",
        "the bucket's region",
    ),
    (
        "MOONSHOT_STORE_CREDENTIALS",
        "store_credentials",
        "`AWS_ACCESS_KEY_ID` and its like, or the machine's role",
        "a file (mode 0600) with `access_key_id = \"…\"` and `secret_access_key = \"…\"`",
    ),
    (
        "MOONSHOT_CONTENT_GRACE",
        "content_grace",
        "6h",
        "how long code, outputs and models stay that nothing needs any more",
    ),
    (
        "MOONSHOT_MODEL_SOURCES",
        "model_sources",
        "none",
        "places besides `https` and Amazon's S3 from which Apps may take model files, by commas: `file:///models,http://10.0.0.5:9000`; \
         whoever may write Apps can read what is there",
    ),
    (
        "MOONSHOT_LOG_RETENTION",
        "log_retention",
        "720h",
        "how long output of programs is kept",
    ),
    (
        "MOONSHOT_LOG_STORAGE",
        "log_storage",
        "50Gi",
        "the most output that is kept; the oldest hours go first",
    ),
    (
        "MOONSHOT_SCHED_LOG",
        "sched_log",
        "256Mi",
        "the most bytes of a term's log of the scheduler, for `moonshot sim replay`; `0`: none",
    ),
    (
        "MOONSHOT_NODES",
        "nodes",
        "1",
        "logical nodes that this machine is split into",
    ),
    (
        "MOONSHOT_FAKE_GPUS",
        "fake_gpus",
        "0",
        "GPUs to pretend where there are none",
    ),
    (
        "MOONSHOT_NODE_LOST_AFTER",
        "node_lost_after",
        "60s",
        "after this long without an answer a node's work is started elsewhere",
    ),
    (
        "MOONSHOT_HOSTS",
        "hosts",
        "",
        "host names besides addresses and `localhost`, separated by commas",
    ),
    (
        "MOONSHOT_INSECURE",
        "insecure",
        "false",
        "allow to listen beyond this machine without TLS",
    ),
    (
        "MOONSHOT_ENGINE",
        "engine",
        "local",
        "`local` runs programs on this machine, `k8s` on a Kubernetes",
    ),
    (
        "MOONSHOT_KUBECONFIG",
        "kubeconfig",
        "",
        "the cluster's address and credentials; empty for the service account of the pod this runs in",
    ),
    (
        "MOONSHOT_NAMESPACE",
        "namespace",
        "moonshot",
        "the namespace of the platform's own objects on a Kubernetes",
    ),
    (
        "MOONSHOT_POD_LISTEN",
        "pod_listen",
        "the address from which the cluster is reached, port 7090",
        "where pods reach the server: plain HTTP on the cluster's own network",
    ),
    (
        "MOONSHOT_POD_ADDRESS",
        "pod_address",
        "",
        "the same as pods write it, `http://host:port`; empty for `pod_listen`",
    ),
    (
        "MOONSHOT_POD_CLIENTS",
        "pod_clients",
        "",
        "ranges of addresses from which servers and gateways outside of the cluster reach pods, separated by commas; empty for the address from which this server reaches the cluster",
    ),
    (
        "MOONSHOT_IMAGE_AGENT",
        "image_agent",
        "",
        "the image with `/moonshot-pod` and `/moonshot-shim`; needed with `k8s`",
    ),
    (
        "MOONSHOT_IMAGE_HOST",
        "image_host",
        "",
        "the image of programs without an Environment; needed with `k8s`",
    ),
    (
        "MOONSHOT_IMAGE_PYTHON",
        "image_python",
        "",
        "an image with this machine's version of `python3`, for pip Environments; needed with `k8s`",
    ),
    (
        "MOONSHOT_IMAGE_SERVER",
        "image_server",
        "",
        "with `k8s`, an image that has `moonshot` on its `PATH`, for Apps that serve a model; empty: they are refused",
    ),
    (
        "MOONSHOT_CHECKPOINT_CLASS",
        "checkpoint_class",
        "",
        "with `k8s`, the storage class of the claims in which Jobs with `checkpoint` keep them; empty for the cluster's default",
    ),
    (
        "MOONSHOT_CHECKPOINT_SIZE",
        "checkpoint_size",
        "10Gi",
        "how much each of these claims holds",
    ),
    (
        "MOONSHOT_CHECKPOINT_ACCESS",
        "checkpoint_access",
        "ReadWriteOnce",
        "`ReadWriteMany` where the replicas of a Job shall share one, which the storage class must be able to do",
    ),
    (
        "MOONSHOT_GPU_CLASS",
        "gpu_class",
        "",
        "with `k8s`, the DeviceClass whose devices are the GPUs of nodes, where a driver publishes them in ResourceSlices; empty where a device plugin counts `nvidia.com/gpu`",
    ),
    (
        "MOONSHOT_CLOCK_OFFSET_MS",
        "clock_offset_ms",
        "0",
        "shifts this server's clock; for tests",
    ),
];

/// The default of `node_lost_after`.
const NODE_LOST_AFTER: Span = Span::from_secs(60);
/// The shortest that can be set.
const NODE_LOST_AFTER_MIN: Span = Span::from_secs(1);

/// Checked settings.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    pub(crate) data_dir: PathBuf,
    pub(crate) listen: SocketAddr,
    pub(crate) gateway_listen: SocketAddr,
    pub(crate) database: Option<String>,
    pub(crate) store: Option<String>,
    pub(crate) store_endpoint: Option<String>,
    pub(crate) store_region: Option<String>,
    pub(crate) store_credentials: Option<PathBuf>,
    pub(crate) content_grace: Span,
    pub(crate) model_sources: Vec<String>,
    pub(crate) log_retention: Span,
    pub(crate) log_storage: Bytes,
    pub(crate) sched_log: Bytes,
    pub(crate) nodes: u32,
    pub(crate) fake_gpus: u32,
    pub(crate) node_lost_after: Span,
    pub(crate) hosts: Vec<String>,
    /// `None` for the engine on this machine.
    pub(crate) kubernetes: Option<Kubernetes>,
    pub(crate) clock_offset_ms: i64,
}

impl Settings {
    /// The name of the one Cluster that this installation has.
    pub(crate) fn cluster(&self) -> &'static str {
        match self.kubernetes {
            Some(_) => "k8s",
            None => "local",
        }
    }
}

/// As written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    data_dir: Option<PathBuf>,
    listen: Option<String>,
    gateway_listen: Option<String>,
    database: Option<String>,
    store: Option<String>,
    store_endpoint: Option<String>,
    store_region: Option<String>,
    store_credentials: Option<PathBuf>,
    content_grace: Option<String>,
    model_sources: Option<String>,
    log_retention: Option<String>,
    log_storage: Option<String>,
    sched_log: Option<String>,
    nodes: Option<u32>,
    fake_gpus: Option<u32>,
    node_lost_after: Option<String>,
    hosts: Option<Vec<String>>,
    insecure: Option<bool>,
    engine: Option<String>,
    kubeconfig: Option<String>,
    namespace: Option<String>,
    pod_listen: Option<String>,
    pod_address: Option<String>,
    pod_clients: Option<Vec<String>>,
    image_agent: Option<String>,
    image_host: Option<String>,
    image_python: Option<String>,
    image_server: Option<String>,
    checkpoint_class: Option<String>,
    checkpoint_size: Option<String>,
    checkpoint_access: Option<String>,
    gpu_class: Option<String>,
    clock_offset_ms: Option<i64>,
}

/// Reads the file (if there is one) and the environment.
pub(crate) fn load(
    file: Option<&Path>,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Settings, String> {
    let Some(path) = file else {
        return checked(Raw::default(), &env);
    };
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read `{}`: {error}", path.display()))?;
    let problems = settings_text::problems(path, &text);
    if !problems.is_empty() {
        return Err(problems.join("\n"));
    }
    let raw =
        toml::from_str(&text).map_err(|error| settings_text::toml_problem(path, &text, &error))?;
    checked(raw, &env).map_err(|sentence| {
        settings_text::placed(sentence, Some((path, &text)), |name| env(name).is_some())
    })
}

fn ranges(texts: &[String]) -> Result<Vec<Net>, String> {
    let range = |text: &String| {
        let net = text.parse::<Net>();
        net.map_err(|why| format!("MOONSHOT_POD_CLIENTS has `{text}`, which {why}"))
    };
    texts.iter().map(range).collect()
}

fn checked(raw: Raw, env: &impl Fn(&str) -> Option<String>) -> Result<Settings, String> {
    let number = |name: &str| -> Result<Option<i64>, String> {
        match env(name) {
            None => Ok(None),
            Some(text) => text
                .parse()
                .map(Some)
                .map_err(|_| format!("{name} is `{text}`; it must be a number")),
        }
    };
    let small = |name: &str, value: Option<i64>| -> Result<Option<u32>, String> {
        let checked = |value: i64| {
            u32::try_from(value)
                .map_err(|_| format!("{name} is {value}; it must be small and not negative"))
        };
        value.map(checked).transpose()
    };
    let address =
        |name: &str, written: Option<String>, default: &str| -> Result<SocketAddr, String> {
            let text = env(name).or(written).unwrap_or_else(|| default.to_owned());
            text.parse().map_err(|_| {
                format!("{name} is `{text}`; write an address and a port, such as `{default}`")
            })
        };
    let home = env("HOME").map_or_else(|| PathBuf::from("/var/lib"), PathBuf::from);
    let data_dir = env("MOONSHOT_DATA_DIR").map(PathBuf::from).or(raw.data_dir);
    let insecure = match env("MOONSHOT_INSECURE").as_deref() {
        Some(text) => matches!(text, "1" | "true" | "yes"),
        None => raw.insecure.unwrap_or(false),
    };
    let text = |name: &str, written: Option<String>| {
        env(name).or(written).filter(|text| !text.trim().is_empty())
    };
    let needed = |name: &str, written: Option<String>| {
        text(name, written).ok_or_else(|| format!("{name} is needed with the engine `k8s`"))
    };
    let listed = |name: &str, written: Option<Vec<String>>| -> Vec<String> {
        let Some(text) = env(name) else {
            return written.unwrap_or_default();
        };
        let words = text.split(',').map(|word| word.trim().to_owned());
        words.filter(|word| !word.is_empty()).collect()
    };
    let kubernetes = match text("MOONSHOT_ENGINE", raw.engine).as_deref() {
        None | Some("local") => None,
        Some("k8s") => Some(Kubernetes {
            kubeconfig: text("MOONSHOT_KUBECONFIG", raw.kubeconfig).map(PathBuf::from),
            namespace: text("MOONSHOT_NAMESPACE", raw.namespace)
                .unwrap_or_else(|| "moonshot".to_owned()),
            pod_listen: match text("MOONSHOT_POD_LISTEN", raw.pod_listen) {
                Some(text) => Some(address("MOONSHOT_POD_LISTEN", Some(text), "10.0.0.1:7090")?),
                None => None,
            },
            pod_address: text("MOONSHOT_POD_ADDRESS", raw.pod_address),
            pod_clients: ranges(&listed("MOONSHOT_POD_CLIENTS", raw.pod_clients))?,
            image_agent: needed("MOONSHOT_IMAGE_AGENT", raw.image_agent)?,
            image_host: needed("MOONSHOT_IMAGE_HOST", raw.image_host)?,
            image_python: needed("MOONSHOT_IMAGE_PYTHON", raw.image_python)?,
            image_server: text("MOONSHOT_IMAGE_SERVER", raw.image_server),
            gpu_class: text("MOONSHOT_GPU_CLASS", raw.gpu_class),
            checkpoints: Checkpoints {
                class: text("MOONSHOT_CHECKPOINT_CLASS", raw.checkpoint_class),
                size: parsed(
                    "MOONSHOT_CHECKPOINT_SIZE",
                    text("MOONSHOT_CHECKPOINT_SIZE", raw.checkpoint_size),
                    CHECKPOINT_SIZE,
                    "an amount such as `10Gi`",
                )?,
                access: parsed(
                    "MOONSHOT_CHECKPOINT_ACCESS",
                    text("MOONSHOT_CHECKPOINT_ACCESS", raw.checkpoint_access),
                    AccessMode::ReadWriteOnce,
                    "`ReadWriteOnce` or `ReadWriteMany`",
                )?,
            },
        }),
        Some(other) => {
            return Err(format!(
                "MOONSHOT_ENGINE is `{other}`; choose `local` or `k8s`"
            ));
        }
    };
    let settings = Settings {
        data_dir: data_dir.unwrap_or_else(|| home.join(".local/share/moonshot")),
        listen: address("MOONSHOT_LISTEN", raw.listen, "127.0.0.1:7070")?,
        gateway_listen: address(
            "MOONSHOT_GATEWAY_LISTEN",
            raw.gateway_listen,
            "127.0.0.1:7080",
        )?,
        database: env("MOONSHOT_DATABASE").or(raw.database),
        store: env("MOONSHOT_STORE").or(raw.store),
        store_endpoint: env("MOONSHOT_STORE_ENDPOINT").or(raw.store_endpoint),
        store_region: env("MOONSHOT_STORE_REGION").or(raw.store_region),
        store_credentials: env("MOONSHOT_STORE_CREDENTIALS")
            .map(PathBuf::from)
            .or(raw.store_credentials),
        content_grace: parsed(
            "MOONSHOT_CONTENT_GRACE",
            env("MOONSHOT_CONTENT_GRACE").or(raw.content_grace),
            CONTENT_GRACE,
            "a duration such as `6h` or `90m`",
        )?,
        model_sources: places(env("MOONSHOT_MODEL_SOURCES").or(raw.model_sources))?,
        log_retention: parsed(
            "MOONSHOT_LOG_RETENTION",
            env("MOONSHOT_LOG_RETENTION").or(raw.log_retention),
            LOG_RETENTION,
            "a duration such as `720h`",
        )?,
        log_storage: parsed(
            "MOONSHOT_LOG_STORAGE",
            env("MOONSHOT_LOG_STORAGE").or(raw.log_storage),
            LOG_STORAGE,
            "an amount such as `50Gi`",
        )?,
        sched_log: parsed(
            "MOONSHOT_SCHED_LOG",
            env("MOONSHOT_SCHED_LOG").or(raw.sched_log),
            SCHED_LOG,
            "an amount such as `256Mi`",
        )?,
        nodes: small("MOONSHOT_NODES", number("MOONSHOT_NODES")?)?
            .or(raw.nodes)
            .unwrap_or(1),
        fake_gpus: small("MOONSHOT_FAKE_GPUS", number("MOONSHOT_FAKE_GPUS")?)?
            .or(raw.fake_gpus)
            .unwrap_or(0),
        node_lost_after: parsed(
            "MOONSHOT_NODE_LOST_AFTER",
            env("MOONSHOT_NODE_LOST_AFTER").or(raw.node_lost_after),
            NODE_LOST_AFTER,
            &format!("a duration, such as `{NODE_LOST_AFTER}`"),
        )?,
        hosts: listed("MOONSHOT_HOSTS", raw.hosts),
        kubernetes,
        clock_offset_ms: number("MOONSHOT_CLOCK_OFFSET_MS")?
            .or(raw.clock_offset_ms)
            .unwrap_or(0),
    };
    if settings.nodes == 0 || settings.nodes > 64 {
        return Err(format!(
            "MOONSHOT_NODES is {}; choose 1 to 64",
            settings.nodes
        ));
    }
    // Shorter than an engine's own pauses would give up nodes that are well.
    if settings.node_lost_after < NODE_LOST_AFTER_MIN {
        return Err(format!(
            "MOONSHOT_NODE_LOST_AFTER is {}; it must be at least {NODE_LOST_AFTER_MIN}",
            settings.node_lost_after
        ));
    }
    for (name, address) in [
        ("MOONSHOT_LISTEN", settings.listen),
        ("MOONSHOT_GATEWAY_LISTEN", settings.gateway_listen),
    ] {
        if !address.ip().is_loopback() && !insecure {
            return Err(format!(
                "{name} is {address}, which others can reach, and there is no TLS: put a proxy with TLS before it, or set MOONSHOT_INSECURE=true"
            ));
        }
    }
    Ok(settings)
}

/// Content that nobody needs stays this long where the settings do not say: a server that was away for an hour
/// still finds what ended meanwhile.
const CONTENT_GRACE: Span = Span::from_secs(6 * 3_600);

/// Output stays a month, and no more of it than a usual disk has room for.
const LOG_RETENTION: Span = Span::from_secs(720 * 3_600);
const LOG_STORAGE: Bytes = Bytes(50 << 30);
const SCHED_LOG: Bytes = Bytes(256 << 20);
const CHECKPOINT_SIZE: Bytes = Bytes(10 << 30);

fn parsed<T: std::str::FromStr>(
    name: &str,
    written: Option<String>,
    default: T,
    expected: &str,
) -> Result<T, String> {
    let Some(text) = written else {
        return Ok(default);
    };
    text.parse()
        .map_err(|_| format!("{name} is `{text}`; write {expected}"))
}

/// From the real environment; the file is named by `MOONSHOT_CONFIG_FILE`.
pub(crate) fn from_environment() -> Result<Settings, String> {
    from_flags(&[])
}

/// The same, where flags say what stands for some variables.
pub(crate) fn from_flags(flags: &[(&str, Option<String>)]) -> Result<Settings, String> {
    let env = |name: &str| {
        let flag = flags.iter().find(|(flag, _)| *flag == name);
        let said = flag.and_then(|(_, value)| value.clone());
        said.or_else(|| std::env::var(name).ok())
            .filter(|value| !value.is_empty())
    };
    let file = env("MOONSHOT_CONFIG_FILE").map(PathBuf::from);
    load(file.as_deref(), env)
}

/// Places from which model files may come.
fn places(text: Option<String>) -> Result<Vec<String>, String> {
    let text = text.unwrap_or_default();
    let places = text
        .split(',')
        .map(str::trim)
        .filter(|place| !place.is_empty());
    places
        .map(|place| {
            let known = ["file:///", "http://"].iter().find_map(|form| place.strip_prefix(form));
            match known {
                Some(rest) if !rest.is_empty() => Ok(place.to_owned()),
                _ => Err(format!(
                    "MOONSHOT_MODEL_SOURCES has `{place}`; write `file:///DIRECTORY` or `http://HOST:PORT`, by commas"
                )),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_with(pairs: &[(&str, &str)], file: Option<&Path>) -> Result<Settings, String> {
        load(file, |name| {
            pairs
                .iter()
                .find(|(own, _)| *own == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn claims_for_checkpoints_are_as_the_settings_say() {
        let load = |more: &[(&str, &str)]| {
            let needed = [
                ("MOONSHOT_ENGINE", "k8s"),
                ("MOONSHOT_IMAGE_AGENT", "a"),
                ("MOONSHOT_IMAGE_HOST", "h"),
                ("MOONSHOT_IMAGE_PYTHON", "p"),
            ];
            let settings = load_with(&[&needed[..], more].concat(), None)?;
            Ok::<_, String>(settings.kubernetes.expect("it is `k8s`").checkpoints)
        };
        let usual = Checkpoints {
            class: None,
            size: Bytes(10 << 30),
            access: AccessMode::ReadWriteOnce,
        };
        assert_eq!(load(&[]), Ok(usual));
        let said = Checkpoints {
            class: Some("fast".to_owned()),
            size: Bytes(1 << 30),
            access: AccessMode::ReadWriteMany,
        };
        let words = [
            ("MOONSHOT_CHECKPOINT_CLASS", "fast"),
            ("MOONSHOT_CHECKPOINT_SIZE", "1Gi"),
            ("MOONSHOT_CHECKPOINT_ACCESS", "ReadWriteMany"),
        ];
        assert_eq!(load(&words), Ok(said));
        let wrong = load(&[("MOONSHOT_CHECKPOINT_ACCESS", "all")]).unwrap_err();
        assert!(
            wrong.contains("`all`") && wrong.contains("ReadWriteMany"),
            "{wrong}"
        );
    }

    #[test]
    fn the_environment_wins_over_the_file_over_defaults() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("moonshot.toml");
        std::fs::write(&file, "nodes = 3\nlisten = '127.0.0.1:1'\n").unwrap();
        let settings = load_with(&[("HOME", "/h"), ("MOONSHOT_NODES", "4")], Some(&file)).unwrap();
        assert_eq!(
            (
                settings.nodes,
                settings.listen.port(),
                settings.gateway_listen.port()
            ),
            (4, 1, 7080)
        );
        assert_eq!(settings.data_dir, Path::new("/h/.local/share/moonshot"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("moonshot.toml");
        std::fs::write(&file, "nodes = 1\nnoodles = 2\n").unwrap();
        let error = load_with(&[], Some(&file)).unwrap_err();
        assert!(
            error.contains("noodles") && error.contains("line 2"),
            "{error}"
        );
        for (name, value) in [
            ("MOONSHOT_NODES", "0"),
            ("MOONSHOT_NODES", "x"),
            ("MOONSHOT_LISTEN", "here"),
            ("MOONSHOT_CONTENT_GRACE", "soon"),
            ("MOONSHOT_LISTEN", "0.0.0.0:7070"),
            ("MOONSHOT_ENGINE", "swarm"),
        ] {
            let error = load_with(&[(name, value)], None).unwrap_err();
            assert!(error.contains(name), "{error}");
        }
        assert!(
            load_with(
                &[
                    ("MOONSHOT_LISTEN", "0.0.0.0:7070"),
                    ("MOONSHOT_INSECURE", "true")
                ],
                None
            )
            .is_ok()
        );
    }

    #[test]
    fn every_setting_is_in_the_table() {
        for (variable, key, ..) in TABLE {
            assert_eq!(
                variable
                    .strip_prefix("MOONSHOT_")
                    .unwrap()
                    .to_ascii_lowercase(),
                *key
            );
        }
    }
}
