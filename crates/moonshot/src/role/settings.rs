//! What the server and the gateway are configured with: one TOML file, overridden by the environment. Every
//! setting is in one table, which the reference prints.

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
        "MOONSHOT_CLOCK_OFFSET_MS",
        "clock_offset_ms",
        "0",
        "shifts this server's clock; for tests",
    ),
];

/// Checked settings.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    pub(crate) data_dir: PathBuf,
    pub(crate) listen: SocketAddr,
    pub(crate) gateway_listen: SocketAddr,
    pub(crate) database: Option<String>,
    pub(crate) nodes: u32,
    pub(crate) fake_gpus: u32,
    pub(crate) hosts: Vec<String>,
    pub(crate) clock_offset_ms: i64,
}

/// As written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    data_dir: Option<PathBuf>,
    listen: Option<String>,
    gateway_listen: Option<String>,
    database: Option<String>,
    nodes: Option<u32>,
    fake_gpus: Option<u32>,
    hosts: Option<Vec<String>>,
    insecure: Option<bool>,
    clock_offset_ms: Option<i64>,
}

/// Reads the file (if there is one) and the environment.
pub(crate) fn load(
    file: Option<&Path>,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Settings, String> {
    let mut raw = Raw::default();
    if let Some(path) = file {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read `{}`: {error}", path.display()))?;
        raw = toml::from_str(&text)
            .map_err(|error| format!("`{}` is not valid: {error}", path.display()))?;
    }
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
    let settings = Settings {
        data_dir: data_dir.unwrap_or_else(|| home.join(".local/share/moonshot")),
        listen: address("MOONSHOT_LISTEN", raw.listen, "127.0.0.1:7070")?,
        gateway_listen: address(
            "MOONSHOT_GATEWAY_LISTEN",
            raw.gateway_listen,
            "127.0.0.1:7080",
        )?,
        database: env("MOONSHOT_DATABASE").or(raw.database),
        nodes: small("MOONSHOT_NODES", number("MOONSHOT_NODES")?)?
            .or(raw.nodes)
            .unwrap_or(1),
        fake_gpus: small("MOONSHOT_FAKE_GPUS", number("MOONSHOT_FAKE_GPUS")?)?
            .or(raw.fake_gpus)
            .unwrap_or(0),
        hosts: match env("MOONSHOT_HOSTS") {
            Some(text) => text
                .split(',')
                .map(|host| host.trim().to_owned())
                .filter(|host| !host.is_empty())
                .collect(),
            None => raw.hosts.unwrap_or_default(),
        },
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

/// From the real environment; the file is named by `MOONSHOT_CONFIG_FILE`.
pub(crate) fn from_environment() -> Result<Settings, String> {
    let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let file = env("MOONSHOT_CONFIG_FILE").map(PathBuf::from);
    load(file.as_deref(), env)
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
            ("MOONSHOT_LISTEN", "0.0.0.0:7070"),
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
