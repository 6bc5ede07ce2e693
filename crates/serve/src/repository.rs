//! Which models and versions a directory has, and which of them are wanted.
//!
//! Three layouts, as users of TensorFlow Serving and of MLServer have them: `DIR/MODEL/NUMBER/files`,
//! `DIR/NUMBER/files` (the model is called as the directory), and `DIR/MODEL/files` or `DIR/files` (version 1).
//! A `model.toml` beside the numbers says what is special about a model; it is read at every look.

use crate::config::Policy;
use crate::runtime;
use crate::runtime::tensorflow::c::Threads;
use crate::traffic;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// Models and versions that are looked at; a directory with more is not a model repository.
const ENTRIES_MAX: usize = 10_000;

/// What a directory has.
pub(crate) type Listing = BTreeMap<String, Available>;

/// A model in the directory.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Available {
    pub(crate) versions: BTreeMap<u64, VersionDir>,
    pub(crate) settings: Settings,
    /// What is wrong with the settings: they are the usual ones then.
    pub(crate) problem: Option<String>,
    /// Whether it is a model only by the suffix of a file.
    is_guess: bool,
}

/// A version's directory.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct VersionDir {
    pub(crate) path: PathBuf,
    /// Changes when a file does: a version that failed is tried again then.
    pub(crate) print: u64,
}

/// `model.toml`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// `latest:2`, `all`, `specific:1,3`.
    versions: Option<String>,
    /// Names for versions.
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, u64>,
    /// `best` (up to the iteration that early stopping found) or `all`.
    #[serde(default)]
    iterations: Wanted,
    /// Whether requests may be run together; found out where it is not said.
    pub(crate) batching: Option<bool>,
    /// In which threads TensorFlow runs: `caller` or `pool`; the faster one where it is not said.
    threads: Option<Where>,
    /// Libraries of operations that a TensorFlow model needs, beside it.
    #[serde(default)]
    pub(crate) op_libraries: Vec<String>,
    /// Whether each version runs in a process of its own, for TensorFlow and ONNX.
    #[serde(default)]
    pub(crate) isolate: bool,
    /// Workers that may run a version of it at a time; all where it is not said.
    concurrency: Option<NonZeroUsize>,
    /// Whether some requests are kept to warm the next version with; `true` where it is not said.
    record_requests: Option<bool>,
    /// Who answers requests that name no version.
    pub(crate) traffic: Option<traffic::Settings>,
}

/// What a model's worker process must know of its settings.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Native {
    batching: Option<bool>,
    threads: Option<Where>,
    op_libraries: Vec<String>,
}

impl From<&Settings> for Native {
    fn from(settings: &Settings) -> Native {
        Native {
            batching: settings.batching,
            threads: settings.threads,
            op_libraries: settings.op_libraries.clone(),
        }
    }
}

impl From<Native> for Settings {
    fn from(native: Native) -> Settings {
        Settings {
            batching: native.batching,
            threads: native.threads,
            op_libraries: native.op_libraries,
            ..Settings::default()
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Where {
    Caller,
    Pool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Wanted {
    #[default]
    Best,
    All,
}

impl Settings {
    /// Puts others in place of the file's.
    pub(crate) fn choose(&mut self, versions: Option<String>, labels: &BTreeMap<String, u64>) {
        self.versions = versions.or(self.versions.take());
        self.labels.clone_from(labels);
    }

    pub(crate) fn iterations(&self) -> trees::Iterations {
        match self.iterations {
            Wanted::Best => trees::Iterations::Best,
            Wanted::All => trees::Iterations::All,
        }
    }

    pub(crate) fn threads(&self) -> Option<Threads> {
        self.threads.map(|threads| match threads {
            Where::Caller => Threads::Caller,
            Where::Pool => Threads::Pool,
        })
    }

    pub(crate) fn concurrency(&self) -> usize {
        self.concurrency.map_or(usize::MAX, NonZeroUsize::get)
    }

    pub(crate) fn record_requests(&self) -> bool {
        self.record_requests.unwrap_or(true)
    }

    fn read(dir: &Path) -> Result<Settings, String> {
        let path = dir.join("model.toml");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Settings::default()),
            Err(error) => return Err(format!("cannot read `{}`: {error}", path.display())),
        };
        let settings: Settings =
            toml::from_str(&text).map_err(|error| format!("`{}`: {error}", path.display()))?;
        if let Some(versions) = &settings.versions {
            versions
                .parse::<Policy>()
                .map_err(|error| format!("`{}`: {error}", path.display()))?;
        }
        if let Some(traffic) = &settings.traffic {
            traffic
                .check()
                .map_err(|error| format!("`{}`: {error}", path.display()))?;
        }
        Ok(settings)
    }
}

impl Available {
    /// The versions that should be held.
    pub(crate) fn wanted(&self, default: &Policy) -> Vec<u64> {
        let own = self
            .settings
            .versions
            .as_ref()
            .and_then(|text| text.parse().ok());
        let named = self.settings.traffic.iter();
        let named: Vec<u64> = named.flat_map(traffic::Settings::versions).collect();
        let mut wanted = match own.as_ref().unwrap_or(default) {
            // Those that get requests are named: nobody asks for others.
            Policy::Latest(_) if own.is_none() && !named.is_empty() => Vec::new(),
            Policy::All => self.versions.keys().copied().collect(),
            Policy::Latest(n) => self.versions.keys().rev().take(*n).copied().collect(),
            Policy::Specific(numbers) => numbers
                .iter()
                .copied()
                .filter(|number| self.versions.contains_key(number))
                .collect::<Vec<u64>>(),
        };
        // A label holds its version: nobody asks for one that is gone.
        let labelled = self.settings.labels.values().copied();
        let asked = labelled.chain(named);
        wanted.extend(asked.filter(|number| self.versions.contains_key(number)));
        wanted.sort_unstable();
        wanted.dedup();
        wanted
    }
}

/// Looks at a directory: of one model, or of several. `between` is called after each.
pub(crate) fn scan(dir: &Path, between: &mut dyn FnMut()) -> io::Result<Listing> {
    let mut listing = Listing::new();
    let own_name = dir.canonicalize()?.file_name().map_or_else(
        || "model".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    );
    let own = model(dir)?;
    // A file that might be a model by its suffix only makes no model of a directory of models.
    if own.as_ref().is_none_or(|own| own.is_guess) {
        for (name, path) in directories(dir)? {
            if let Some(model) = model(&path)? {
                listing.insert(name, model);
            }
            between();
        }
    }
    if let Some(own) = own.filter(|_| listing.is_empty()) {
        listing.insert(own_name, own);
    }
    Ok(listing)
}

/// One model's directory; `None` where it is not one, or is not there.
pub(crate) fn model(dir: &Path) -> io::Result<Option<Available>> {
    let directories = match directories(dir) {
        Ok(directories) => directories,
        // It went while it was looked at.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut model = Available::default();
    for (name, path) in directories {
        // `01` and `1` would be one version; the plain form is the number's.
        if let Ok(number) = name.parse::<u64>()
            && number.to_string() == name
        {
            let print = print(&path);
            model.versions.insert(number, VersionDir { path, print });
        }
    }
    if model.versions.is_empty()
        && let Ok(found) = runtime::find(dir)
    {
        model.is_guess = !found.is_named;
        let (path, print) = (dir.to_owned(), print(dir));
        model.versions.insert(1, VersionDir { path, print });
    }
    if model.versions.is_empty() {
        return Ok(None);
    }
    match Settings::read(dir) {
        Ok(settings) => model.settings = settings,
        Err(problem) => model.problem = Some(problem),
    }
    Ok(Some(model))
}

fn directories(dir: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)?.take(ENTRIES_MAX) {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(name) = name.filter(|name| !name.starts_with('.') && path.is_dir()) {
            found.push((name.to_owned(), path.clone()));
        }
    }
    found.sort();
    Ok(found)
}

/// Of the names, sizes and times of the files under a directory.
fn print(dir: &Path) -> u64 {
    let mut files = Vec::new();
    runtime::walk(dir, &mut |path, known| {
        files.push((path.to_owned(), known.len(), known.modified().ok()));
    });
    files.sort();
    let mut hasher = DefaultHasher::new();
    files.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(files: &[&str]) -> (tempfile::TempDir, Listing, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let (path, text) = file.split_once('=').unwrap_or((file, ""));
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let found = scan(dir.path(), &mut || {}).unwrap();
        let problems = found.values().filter_map(|model| model.problem.clone());
        let problems = problems.collect();
        (dir, found, problems)
    }

    fn wanted(found: &Listing, model: &str, policy: &str) -> Vec<u64> {
        found[model].wanted(&policy.parse().unwrap())
    }

    #[test]
    fn all_layouts_are_found() {
        let (_dir, found, _) = listing(&[
            "a/1/model.json",
            "a/12/model.json",
            "b/model.txt",
            "c/notes.md",
        ]);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(found["a"].versions.keys().collect::<Vec<_>>(), [&1, &12]);
        assert_eq!(found["b"].versions.keys().collect::<Vec<_>>(), [&1]);
        let (dir, found, _) = listing(&["3/model.json", "x/model.json"]);
        let name = dir.path().file_name().unwrap().to_str().unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), [name]);
        let (_dir, found, _) = listing(&["model.ubj"]);
        assert_eq!(found.len(), 1);
        // A file that is called otherwise is a model where nothing else is.
        let (_dir, found, _) = listing(&["notes.json", "a/1/model.json", "b/model.onnx"]);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["a", "b"]);
        let (dir, found, _) = listing(&["late.json", "docs/readme.md"]);
        let name = dir.path().file_name().unwrap().to_str().unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), [name]);
    }

    #[test]
    fn policies_and_labels_choose_versions() {
        let files = [
            "a/1/model.json",
            "a/2/model.json",
            "a/10/model.json",
            "a/010/model.json",
        ];
        let (_dir, found, _) = listing(&files);
        assert_eq!(wanted(&found, "a", "latest"), [10]);
        assert_eq!(wanted(&found, "a", "latest:2"), [2, 10]);
        assert_eq!(wanted(&found, "a", "all"), [1, 2, 10]);
        assert_eq!(wanted(&found, "a", "specific:1,7"), [1]);
        let settings = "a/model.toml=versions = \"latest:1\"\n[labels]\nstable = 1\ngone = 5\n";
        let (_dir, found, problems) = listing(&["a/1/model.json", "a/2/model.json", settings]);
        assert_eq!(wanted(&found, "a", "all"), [1, 2]);
        assert!(problems.is_empty());
    }

    #[test]
    fn wrong_settings_are_told() {
        for (text, wanted) in [
            ("version = 1", "version"),
            ("versions = \"newest\"", "newest"),
            ("concurrency = 0", "concurrency"),
        ] {
            let (_dir, found, problems) =
                listing(&["a/1/model.json", &format!("a/model.toml={text}")]);
            assert_eq!(found.len(), 1);
            assert!(problems[0].contains(wanted), "{problems:?}");
        }
        assert!("latest:0".parse::<Policy>().is_err());
    }
}
