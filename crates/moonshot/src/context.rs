//! Where this command talks to, as whom, and in which project: flags, then the environment, then the
//! contexts of `~/.config/moonshot/config.toml`.

use crate::exit::Failure;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Where `up` listens unless it is told otherwise.
pub(crate) const SERVER_DEFAULT: &str = "http://127.0.0.1:7070";
/// The project that is always there.
pub(crate) const PROJECT_DEFAULT: &str = "default";

/// The file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    /// The context in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    /// All of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) contexts: BTreeMap<String, Context>,
}

/// One place to talk to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    /// The server's URL.
    pub(crate) server: String,
    /// A file with the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token_file: Option<PathBuf>,
    /// The project of commands that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) project: Option<String>,
    /// A file with certificates (PEM) to trust besides the machine's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) certificates: Option<PathBuf>,
}

/// What flags and environment say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overrides {
    pub(crate) context: Option<String>,
    pub(crate) server: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) project: Option<String>,
}

/// The answer: what to connect with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Place {
    pub(crate) server: String,
    pub(crate) token: TokenFrom,
    pub(crate) project: String,
    pub(crate) certificates: Option<PathBuf>,
}

/// Where the token comes from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TokenFrom {
    /// Given as such.
    Text(String),
    /// In a file.
    File(PathBuf),
    /// None is known.
    Nowhere,
}

/// Puts flags, environment and file together.
pub(crate) fn resolve(file: &File, over: &Overrides) -> Result<Place, Failure> {
    let name = over.context.as_ref().or(file.current.as_ref());
    let context = match name {
        // The environment names a server: a context that is merely current says nothing about it.
        Some(_) if over.server.is_some() && over.context.is_none() => None,
        Some(name) => Some(file.contexts.get(name).ok_or_else(|| {
            let known: Vec<&str> = file.contexts.keys().map(String::as_str).collect();
            Failure::Usage(format!(
                "there is no context `{name}`; there are: {}",
                if known.is_empty() { "none" } else { "" }.to_owned() + &known.join(", ")
            ))
        })?),
        None => None,
    };
    let token = match (
        &over.token,
        &over.token_file,
        context.and_then(|context| context.token_file.clone()),
    ) {
        (Some(text), _, _) => TokenFrom::Text(text.clone()),
        (None, Some(path), _) => TokenFrom::File(path.clone()),
        (None, None, Some(path)) => TokenFrom::File(path),
        (None, None, None) => TokenFrom::Nowhere,
    };
    Ok(Place {
        server: over
            .server
            .clone()
            .or_else(|| context.map(|context| context.server.clone()))
            .unwrap_or_else(|| SERVER_DEFAULT.to_owned()),
        token,
        project: over
            .project
            .clone()
            .or_else(|| context.and_then(|context| context.project.clone()))
            .unwrap_or_else(|| PROJECT_DEFAULT.to_owned()),
        certificates: context.and_then(|context| context.certificates.clone()),
    })
}

/// Where the file is: `$MOONSHOT_CONFIG`, else under `$XDG_CONFIG_HOME` or `~/.config`.
pub(crate) fn path() -> Option<PathBuf> {
    let var = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    var("MOONSHOT_CONFIG").or_else(|| {
        let base =
            var("XDG_CONFIG_HOME").or_else(|| var("HOME").map(|home| home.join(".config")))?;
        Some(base.join("moonshot/config.toml"))
    })
}

/// Reads the file; an absent one is empty.
pub(crate) fn read(path: &Path) -> Result<File, Failure> {
    match std::fs::read_to_string(path) {
        Ok(text) => toml::from_str(&text)
            .map_err(|error| Failure::Usage(format!("`{}` is not valid: {error}", path.display()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(File::default()),
        Err(error) => Err(Failure::local(format!("read `{}`", path.display()))(error)),
    }
}

/// Writes the file, whole or not at all; only its owner reads it.
pub(crate) fn write(path: &Path, file: &File) -> Result<(), Failure> {
    let failed = |what: &str| Failure::local(format!("{what} `{}`", path.display()));
    let text = toml::to_string_pretty(file).map_err(|error| Failure::Failed(error.to_string()))?;
    let parent = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(failed("make the directory of"))?;
    let beside = path.with_extension("toml.new");
    let mut new = std::fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&beside)
        .map_err(failed("write"))?;
    new.write_all(text.as_bytes()).map_err(failed("write"))?;
    std::fs::rename(&beside, path).map_err(failed("replace"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> File {
        toml::from_str(
            "current = 'local'\n[contexts.local]\nserver = 'http://127.0.0.1:1'\ntoken_file = '/t'\n[contexts.team]\nserver = 'https://team'\nproject = 'p'\n",
        )
        .unwrap()
    }

    #[test]
    fn flags_win_over_environment_over_file() {
        let place = resolve(&file(), &Overrides::default()).unwrap();
        assert_eq!(
            (place.server.as_str(), place.project.as_str()),
            ("http://127.0.0.1:1", "default")
        );
        assert_eq!(place.token, TokenFrom::File("/t".into()));
        let team = Overrides {
            context: Some("team".to_owned()),
            token: Some("x".to_owned()),
            ..Overrides::default()
        };
        let place = resolve(&file(), &team).unwrap();
        assert_eq!(
            (place.server.as_str(), place.project.as_str(), place.token),
            ("https://team", "p", TokenFrom::Text("x".to_owned()))
        );
        assert_eq!(
            resolve(&File::default(), &Overrides::default())
                .unwrap()
                .server,
            SERVER_DEFAULT
        );
        let nowhere = Overrides {
            context: Some("nowhere".to_owned()),
            ..Overrides::default()
        };
        assert_eq!(
            resolve(&file(), &nowhere).unwrap_err().to_string(),
            "there is no context `nowhere`; there are: local, team"
        );
    }

    #[test]
    fn a_token_never_goes_to_a_server_it_was_not_made_for() {
        let elsewhere = Overrides {
            server: Some("https://elsewhere".to_owned()),
            ..Overrides::default()
        };
        assert_eq!(
            resolve(&file(), &elsewhere).unwrap().token,
            TokenFrom::Nowhere
        );
    }

    #[test]
    fn the_file_comes_back_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/config.toml");
        assert_eq!(read(&path).unwrap(), File::default());
        write(&path, &file()).unwrap();
        assert_eq!(read(&path).unwrap(), file());
        let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(&path, "currant = 'x'").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("currant"));
    }
}
