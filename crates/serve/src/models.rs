//! The versions that are held. Requests read one snapshot; a swap replaces it, and what a request has taken
//! stays until it is answered.

use crate::error::{Result, ServeError};
use crate::metrics::Stats;
use crate::pool::Lane;
use crate::recent::Recent;
use crate::runtime::{DEFAULT, Runtime, Signature};
use crate::traffic::Traffic;
use base::Code;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};

/// Statuses of versions that are gone, kept for people, a model.
const GONE_MAX: usize = 16;

/// A version that answers requests.
pub(crate) struct Version {
    pub(crate) model: String,
    pub(crate) number: u64,
    pub(crate) runtime: Box<dyn Runtime>,
    pub(crate) lane: Lane,
    /// Kept while the version is on disk.
    pub(crate) stats: Arc<Stats>,
    /// Requests to warm the next version with.
    pub(crate) recent: Arc<Recent>,
    /// When a request last asked for it, in microseconds of the server's life.
    used_us: AtomicU64,
}

impl Version {
    pub(crate) fn new(
        model: &str,
        number: u64,
        runtime: Box<dyn Runtime>,
        stats: Arc<Stats>,
        recent: Arc<Recent>,
    ) -> Version {
        Version {
            model: model.to_owned(),
            number,
            runtime,
            lane: Lane::default(),
            stats,
            recent,
            used_us: AtomicU64::new(0),
        }
    }

    /// Notes that a request asked for it.
    pub(crate) fn touch(&self, now_us: u64) {
        self.used_us.store(now_us, Relaxed);
    }

    /// When a request last asked for it.
    pub(crate) fn used_us(&self) -> u64 {
        self.used_us.load(Relaxed)
    }

    /// The signature of this name, and its place; an empty name is the default one.
    pub(crate) fn signature(&self, name: &str) -> Result<(usize, &Signature)> {
        let signatures = self.runtime.signatures();
        let wanted = if name.is_empty() { DEFAULT } else { name };
        let found = signatures
            .iter()
            .position(|signature| signature.name == wanted)
            .or((name.is_empty() && signatures.len() == 1).then_some(0));
        match found {
            Some(at) => Ok((at, &signatures[at])),
            None => {
                let known: Vec<&str> = signatures.iter().map(|known| known.name.as_str()).collect();
                Err(ServeError::invalid(format!(
                    "model `{}` has no signature `{wanted}`; it has `{}`",
                    self.model,
                    known.join("`, `")
                )))
            }
        }
    }

    /// The default signature, else the first: for those who only look.
    pub(crate) fn any_signature(&self) -> &Signature {
        self.signature("")
            .map_or(&self.runtime.signatures()[0], |(_, signature)| signature)
    }
}

/// Where a version is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The next request loads it.
    OnDisk,
    Loading,
    Warming,
    Ready,
    Draining,
    Unloaded,
}

impl State {
    /// The word of TensorFlow Serving.
    pub(crate) fn tensorflow(self) -> &'static str {
        match self {
            State::Loading | State::Warming => "LOADING",
            State::Ready | State::OnDisk => "AVAILABLE",
            State::Draining => "UNLOADING",
            State::Unloaded => "END",
        }
    }

    /// The word of Triton's repository.
    pub(crate) fn triton(self) -> &'static str {
        match self {
            State::Loading | State::Warming => "LOADING",
            State::Ready | State::OnDisk => "READY",
            State::Draining => "UNLOADING",
            State::Unloaded => "UNAVAILABLE",
        }
    }

    /// Our own word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            State::OnDisk => "on disk",
            State::Loading => "loading",
            State::Warming => "warming",
            State::Ready => "ready",
            State::Draining => "draining",
            State::Unloaded => "unloaded",
        }
    }

    /// Whether a request would be answered, be it after a load.
    pub(crate) fn answers(self) -> bool {
        matches!(self, State::Ready | State::OnDisk)
    }
}

/// What is known of a version.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Status {
    pub(crate) state: State,
    /// Why it could not be loaded.
    pub(crate) error: Option<String>,
}

impl Status {
    /// What there is to say about its state.
    pub(crate) fn reason(&self) -> String {
        match (&self.error, self.state) {
            (Some(error), _) => error.clone(),
            (None, State::OnDisk) => "on disk: the next request loads it".to_owned(),
            (None, _) => String::new(),
        }
    }
}

/// A model with all of its versions.
#[derive(Clone, Default)]
pub(crate) struct Model {
    pub(crate) ready: BTreeMap<u64, Arc<Version>>,
    pub(crate) labels: BTreeMap<String, u64>,
    pub(crate) status: BTreeMap<u64, Status>,
    /// Versions that a request may ask for whether they are loaded or not; none where all that is held is loaded.
    pub(crate) on_demand: BTreeSet<u64>,
    /// Who answers requests that name no version; the highest that is ready where nobody says.
    pub(crate) traffic: Option<Arc<Traffic>>,
}

/// Which version a request asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pick<'a> {
    Latest,
    Number(u64),
    Label(&'a str),
}

/// One moment's models.
#[derive(Clone, Default)]
pub(crate) struct Table {
    pub(crate) models: HashMap<String, Arc<Model>>,
    /// Whether the directory was looked at, and what was there then is loaded or failed.
    pub(crate) is_settled: bool,
    /// Whether every version must answer, not only one of each model.
    pub(crate) strict: bool,
    /// Whether models are loaded by the requests that ask for them.
    pub(crate) on_demand: bool,
}

/// The present table.
#[derive(Default)]
pub(crate) struct Models(RwLock<Arc<Table>>);

impl Models {
    pub(crate) fn table(&self) -> Arc<Table> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Only the loader calls this.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Table)) {
        let mut table = Table::clone(&self.table());
        change(&mut table);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
    }

    pub(crate) fn find(&self, model: &str, pick: Pick<'_>) -> Result<Arc<Version>> {
        self.table().find(model, pick)
    }
}

impl Model {
    /// The versions that answer, be it after a load.
    pub(crate) fn numbers(&self) -> BTreeSet<u64> {
        self.ready.keys().chain(&self.on_demand).copied().collect()
    }

    /// Whether a request for this version would be answered, be it after a load.
    pub(crate) fn answers(&self, number: u64) -> bool {
        self.ready.contains_key(&number) || self.on_demand.contains(&number)
    }

    /// Its files are gone: nothing of it is on offer or fails.
    pub(crate) fn withdraw(&mut self) {
        self.on_demand.clear();
        for status in self.status.values_mut() {
            status.error = None;
            if status.state == State::OnDisk {
                status.state = State::Unloaded;
            }
        }
    }

    /// A sentence for each version that should answer and does not.
    fn missing(&self, name: &str) -> impl Iterator<Item = String> {
        self.status.iter().filter_map(move |(number, status)| {
            let what = format!("model `{name}`, version {number}");
            match (&status.error, status.state) {
                (Some(error), _) => Some(format!("{what}: {error}")),
                (None, State::Loading | State::Warming) if !self.on_demand.contains(number) => {
                    Some(format!("{what} is {}", status.state.word()))
                }
                // The version that follows it answers, unless there is none.
                (None, State::Draining) if self.ready.is_empty() => {
                    Some(format!("{what} is {}", status.state.word()))
                }
                (None, _) => None,
            }
        })
    }
}

impl Table {
    pub(crate) fn model(&mut self, name: &str) -> &mut Model {
        let model = self.models.entry(name.to_owned()).or_default();
        Arc::make_mut(model)
    }

    /// Why the server is not ready; `None` where it is.
    pub(crate) fn unready(&self) -> Option<String> {
        if !self.is_settled {
            return Some("the directory of models is being read".to_owned());
        }
        let mut missing: Vec<String> = self
            .models
            .iter()
            // One broken model of many takes not the others' requests away: that is for `strict`.
            .filter(|(_, model)| self.strict || (model.ready.is_empty() && !self.on_demand))
            .flat_map(|(name, model)| model.missing(name))
            .collect();
        missing.sort();
        (!missing.is_empty()).then(|| missing.join("; "))
    }

    pub(crate) fn known(&self, name: &str) -> Result<&Model> {
        match self.models.get(name) {
            Some(model) => Ok(model),
            None => Err(ServeError::not_found(format!(
                "model `{name}` is not known; GET /v2/repository/index lists the models"
            ))),
        }
    }

    /// The version that must be loaded before the request can be answered.
    pub(crate) fn missing(&self, name: &str, pick: Pick<'_>) -> Option<u64> {
        let model = self.models.get(name)?;
        let number = match pick {
            Pick::Latest => {
                let ready = model.ready.keys().next_back();
                ready.max(model.on_demand.last()).copied()
            }
            Pick::Number(number) => Some(number),
            Pick::Label(label) => model.labels.get(label).copied(),
        };
        number
            .filter(|number| model.on_demand.contains(number) && !model.ready.contains_key(number))
    }

    /// Refuses, with the reason, what no request would be answered for.
    pub(crate) fn answers(&self, name: &str, pick: Pick<'_>) -> Result<()> {
        match self.missing(name, pick) {
            Some(_) => Ok(()),
            None => self.find(name, pick).map(drop),
        }
    }

    pub(crate) fn find(&self, name: &str, pick: Pick<'_>) -> Result<Arc<Version>> {
        let model = self.known(name)?;
        let found = match pick {
            Pick::Latest => model.ready.values().next_back(),
            Pick::Number(number) => model.ready.get(&number),
            Pick::Label(label) => match model.labels.get(label) {
                Some(number) => model.ready.get(number),
                None => {
                    return Err(ServeError::not_found(format!(
                        "model `{name}` has no label `{label}`"
                    )));
                }
            },
        };
        if let Some(version) = found {
            return Ok(Arc::clone(version));
        }
        let number = match pick {
            Pick::Latest => model.status.keys().next_back().copied(),
            Pick::Number(number) => Some(number),
            Pick::Label(label) => model.labels.get(label).copied(),
        };
        let status = number.and_then(|number| Some((number, model.status.get(&number)?)));
        Err(match status {
            Some((
                number,
                Status {
                    error: Some(error), ..
                },
            )) => ServeError::new(
                Code::Unavailable,
                format!("version {number} of model `{name}` could not be loaded: {error}"),
            ),
            Some((number, status)) if status.state != State::Unloaded => ServeError::new(
                Code::Unavailable,
                format!(
                    "version {number} of model `{name}` is {}",
                    status.state.word()
                ),
            ),
            _ => ServeError::not_found(match number {
                Some(number) => format!("model `{name}` has no version {number}"),
                None => format!("model `{name}` has no version"),
            }),
        })
    }
}

impl Model {
    /// Notes where a version is.
    pub(crate) fn set(&mut self, number: u64, state: State, error: Option<String>) {
        self.status.insert(number, Status { state, error });
        let gone: Vec<u64> = self
            .status
            .iter()
            .filter(|(_, status)| status.state == State::Unloaded)
            .map(|(number, _)| *number)
            .collect();
        for number in gone.iter().take(gone.len().saturating_sub(GONE_MAX)) {
            self.status.remove(number);
        }
    }
}
