//! One thread that makes what is held be what the directory wants: it looks, loads, warms, checks, swaps, and
//! only then lets old versions go. Each pass starts from what is there; a pass that fails is simply repeated.
//! Where versions are loaded on demand, it is also who decides what requests wait for ([`on_demand`]).

mod demand;
mod load;
mod on_demand;

use crate::config::{Config, Policy};
use crate::error::{Result, ServeError};
use crate::metrics::{Loads, Stats};
use crate::models::{Model, Models, State, Version};
use crate::recent::Recent;
use crate::repository::{self, Available, Listing, Settings, VersionDir};
use crate::residency::Key;
use crate::runtime::{self, Context, LoadError, Runtime};
use crate::traffic::Traffic;
use base::Code;
use demand::{Demand, Found};
use on_demand::OnDemand;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Orders that wait.
const ORDERS_MAX: usize = 64;
/// Between looks at a version that drains.
const DRAIN_LOOK: Duration = Duration::from_millis(20);
/// Threads that load on demand, at least and at most: one that takes long leaves others.
const LOAD_THREADS: (usize, usize) = (2, 4);

/// What wakes the loader.
enum Event {
    Order(Order),
    /// Requests wait, or a load has ended.
    Wake,
    Stop,
}

/// What a person or another program asks for.
struct Order {
    what: What,
    reply: oneshot::Sender<Result<()>>,
}

enum What {
    Model(OrderKind, String),
    Configure(Vec<Configured>),
}

/// A model as a reload of the configuration names it, in place of its `model.toml`.
pub(crate) struct Configured {
    pub(crate) name: String,
    /// Within the server's directory; empty is the model's own.
    pub(crate) base_path: PathBuf,
    /// As in `model.toml`.
    pub(crate) versions: Option<String>,
    pub(crate) labels: BTreeMap<String, u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OrderKind {
    /// Look now, try again what failed, and hold the model even if it was unloaded before.
    Load,
    /// Let the model go until it is loaded again.
    Unload,
}

/// The way to the loader.
pub(crate) struct Loader {
    inbox: SyncSender<Event>,
    thread: JoinHandle<()>,
    demand: Arc<Demand>,
    pub(crate) loads: Arc<Loads>,
    /// Requests that may wait for one version.
    waiters_max: usize,
    started: Instant,
}

impl Loader {
    pub(crate) fn start(config: Config, models: Arc<Models>) -> std::io::Result<Loader> {
        let (sender, inbox) = sync_channel(ORDERS_MAX);
        let (demand, loads) = (Arc::new(Demand::default()), Arc::new(Loads::default()));
        let started = Instant::now();
        let on_demand = if config.on_demand {
            let n = config.n_workers.clamp(LOAD_THREADS.0, LOAD_THREADS.1);
            let threads = load::threads(n, &config, &loads, &sender)?;
            Some(OnDemand::new(threads))
        } else {
            None
        };
        let waiters_max = config.queue_max;
        let work = Work {
            config,
            models,
            refused: BTreeSet::new(),
            configured: None,
            failed: HashMap::new(),
            draining: Vec::new(),
            problems: BTreeMap::new(),
            told: Vec::new(),
            recents: HashMap::new(),
            recent_bytes: Arc::default(),
            loads: Arc::clone(&loads),
            demand: Arc::clone(&demand),
            on_demand,
            started,
        };
        let thread = std::thread::Builder::new()
            .name("loader".to_owned())
            .spawn(move || work.run(&inbox))?;
        Ok(Loader {
            inbox: sender,
            thread,
            demand,
            loads,
            waiters_max,
            started,
        })
    }

    /// Notes that a request asked for a version that is in memory.
    pub(crate) fn used(&self, version: &Version, is_hit: bool) {
        version.touch(self.started.elapsed().as_micros() as u64);
        if is_hit {
            self.loads.hit();
        }
    }

    /// Has a version loaded; all who wait for it get it from one load.
    pub(crate) fn want(
        &self,
        model: &str,
        number: u64,
        is_first: bool,
    ) -> Result<oneshot::Receiver<Found>> {
        if is_first {
            self.loads.missed();
        }
        let key = (model.to_owned(), number);
        let (found, must_wake) = self.demand.join(key, self.waiters_max)?;
        if must_wake {
            // Where the inbox is full, the loader looks after what is there.
            let _ = self.inbox.try_send(Event::Wake);
        }
        Ok(found)
    }

    /// What a version waits for besides its load, as the end of a sentence.
    pub(crate) fn why(&self, model: &str, number: u64) -> String {
        self.demand.why(&(model.to_owned(), number))
    }

    /// Has an order carried out.
    pub(crate) async fn order(&self, kind: OrderKind, model: &str) -> Result<()> {
        self.send(What::Model(kind, model.to_owned())).await
    }

    /// Holds these models and no others, until the next time.
    pub(crate) async fn configure(&self, models: Vec<Configured>) -> Result<()> {
        self.send(What::Configure(models)).await
    }

    async fn send(&self, what: What) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        let order = Order { what, reply };
        let order = Event::Order(order);
        self.inbox.try_send(order).map_err(|error| match error {
            TrySendError::Full(_) => ServeError::new(
                Code::Exhausted,
                format!("{ORDERS_MAX} orders to load or unload wait already; try again later"),
            ),
            TrySendError::Disconnected(_) => stopping(),
        })?;
        answer.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// Ends after the pass that goes on.
    pub(crate) fn close(self) {
        // It takes what is there one by one, and ends with this.
        let _ = self.inbox.send(Event::Stop);
        // Its panic was printed already.
        let _ = self.thread.join();
    }
}

pub(crate) fn stopping() -> ServeError {
    ServeError::new(Code::Unavailable, "the server stops")
}

struct Work {
    config: Config,
    models: Arc<Models>,
    /// Models that were unloaded by order.
    refused: BTreeSet<String>,
    /// The only models that are held, where an order named them.
    configured: Option<Vec<Configured>>,
    /// Versions that could not be loaded, as their files were then.
    failed: HashMap<Key, u64>,
    draining: Vec<Arc<Version>>,
    /// What is wrong with the settings of models.
    problems: BTreeMap<String, String>,
    /// Problems that were logged already.
    told: Vec<String>,
    /// Requests of each model, to warm its next version with.
    recents: HashMap<String, Arc<Recent>>,
    /// What all of these keep.
    recent_bytes: Arc<AtomicUsize>,
    loads: Arc<Loads>,
    demand: Arc<Demand>,
    /// Where versions are loaded by the requests that ask for them.
    on_demand: Option<OnDemand>,
    started: Instant,
}

impl Work {
    fn run(mut self, inbox: &Receiver<Event>) {
        let (strict, on_demand) = (self.config.strict, self.config.on_demand);
        self.models.change(|table| {
            table.strict = strict;
            table.on_demand = on_demand;
        });
        self.pass();
        self.models.change(|table| table.is_settled = true);
        let mut next = Instant::now() + self.config.poll;
        loop {
            self.attend();
            let event = inbox.recv_timeout(self.patience(next));
            match event {
                Ok(Event::Order(order)) => {
                    let result = match order.what {
                        What::Model(kind, model) => self.obey(kind, &model),
                        What::Configure(models) => self.configure(models),
                    };
                    // Whoever asked may be gone.
                    let _ = order.reply.send(result);
                }
                Ok(Event::Wake) => {}
                Err(RecvTimeoutError::Timeout) => self.let_go(),
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            }
            if Instant::now() >= next {
                self.attend();
                self.pass();
                next = Instant::now() + self.config.poll;
            }
        }
        if let Some(on_demand) = self.on_demand {
            on_demand.close();
        }
    }

    /// How long to sleep where nothing wakes.
    fn patience(&self, next: Instant) -> Duration {
        let poll = next.saturating_duration_since(Instant::now());
        if self.on_demand.as_ref().is_some_and(|it| !it.is_idle()) {
            poll.min(on_demand::ROOM_LOOK)
        } else if self.draining.is_empty() {
            poll
        } else {
            poll.min(DRAIN_LOOK)
        }
    }

    /// Does what requests wait for.
    fn attend(&mut self) {
        if let Some(mut on_demand) = self.on_demand.take() {
            on_demand.attend(self);
            self.on_demand = Some(on_demand);
        }
    }

    fn now_us(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }

    /// The requests that are kept of a model.
    fn recent(&mut self, name: &str, available: &Available) -> Arc<Recent> {
        let all = &self.recent_bytes;
        let recent = self
            .recents
            .entry(name.to_owned())
            .or_insert_with(|| Arc::new(Recent::new(Arc::clone(all))));
        // Who forbids it may have slipped elsewhere in the file.
        recent.switch(available.problem.is_none() && available.settings.record_requests());
        Arc::clone(recent)
    }

    fn version(
        &self,
        (model, number): &Key,
        runtime: Box<dyn Runtime>,
        stats: Arc<Stats>,
        recent: Arc<Recent>,
        settings: &Settings,
    ) -> Version {
        let version = Version::new(model, *number, runtime, stats, recent);
        version.lane.limit(settings.concurrency());
        version
    }

    fn obey(&mut self, kind: OrderKind, model: &str) -> Result<()> {
        match kind {
            OrderKind::Unload => {
                if !self.models.table().models.contains_key(model) {
                    return Err(ServeError::not_found(format!(
                        "model `{model}` is not known"
                    )));
                }
                self.refused.insert(model.to_owned());
                self.pass();
                Ok(())
            }
            OrderKind::Load => {
                self.refused.remove(model);
                self.failed.retain(|(name, _), _| name != model);
                self.models.change(|table| {
                    let known = table.models.get_mut(model).map(Arc::make_mut);
                    if let Some(traffic) = known.and_then(|known| known.traffic.as_mut()) {
                        // A version that was given up is tried again, too.
                        *traffic = Arc::new(Traffic::new(traffic.settings.clone()));
                    }
                });
                self.pass();
                if let Some(problem) = self.problems.get(model) {
                    return Err(ServeError::invalid(problem));
                }
                let table = self.models.table();
                let Some(model) = table.models.get(model) else {
                    return Err(ServeError::not_found(format!(
                        "model `{model}` is not in `{}`",
                        self.config.dir.display()
                    )));
                };
                let newest = model.status.values().next_back();
                match newest.and_then(|status| status.error.clone()) {
                    Some(error) => Err(ServeError::invalid(error)),
                    None => Ok(()),
                }
            }
        }
    }

    fn configure(&mut self, mut models: Vec<Configured>) -> Result<()> {
        let root = self.config.dir.canonicalize().map_err(|error| {
            ServeError::new(
                Code::Unavailable,
                format!("the directory of models: {error}"),
            )
        })?;
        for model in &mut models {
            let has_path = !model.base_path.as_os_str().is_empty();
            let place = root.join(if has_path {
                &model.base_path
            } else {
                Path::new(&model.name)
            });
            let real = place.canonicalize().map_err(|error| {
                ServeError::invalid(format!(
                    "model `{}`: cannot look at `{}`: {error}",
                    model.name,
                    place.display()
                ))
            })?;
            // What lies in the directory may be a link; whoever sends a path may not leave it.
            let is_entry = place.parent() == Some(root.as_path()) && place.file_name().is_some();
            if !is_entry && !real.starts_with(&root) {
                return Err(ServeError::invalid(format!(
                    "model `{}`: `{}` is not in `{}`",
                    model.name,
                    place.display(),
                    root.display()
                )));
            }
            model.base_path = place;
            let policy = model.versions.as_deref().map(str::parse::<Policy>);
            policy.transpose().map_err(ServeError::invalid)?;
        }
        let names: Vec<String> = models.iter().map(|model| model.name.clone()).collect();
        self.refused.retain(|name| !names.contains(name));
        self.failed.retain(|(name, _), _| !names.contains(name));
        self.configured = Some(models);
        self.pass();
        let table = self.models.table();
        for name in names {
            if let Some(problem) = self.problems.get(&name) {
                return Err(ServeError::invalid(problem));
            }
            let model = table.models.get(&name).ok_or_else(|| {
                ServeError::not_found(format!("model `{name}` has no version there"))
            })?;
            let newest = model.status.values().next_back();
            if let Some(error) = newest.and_then(|status| status.error.clone()) {
                return Err(ServeError::invalid(format!("model `{name}`: {error}")));
            }
        }
        Ok(())
    }

    /// What the directory has, or of it what an order named.
    fn look(&mut self) -> std::io::Result<Listing> {
        let Some(configured) = &self.configured else {
            let dir = self.config.dir.clone();
            // A look at many models takes long; who waits for a load does not wait for it.
            return repository::scan(&dir, &mut || self.attend());
        };
        let mut listing = Listing::new();
        for model in configured {
            let found = repository::model(&model.base_path)?;
            if let Some(mut available) = found {
                available
                    .settings
                    .choose(model.versions.clone(), &model.labels);
                listing.insert(model.name.clone(), available);
            }
        }
        Ok(listing)
    }

    /// Looks once and does what is to be done.
    fn pass(&mut self) {
        self.let_go();
        let mut listing = match self.look() {
            Ok(found) => found,
            // A file system that is away for a moment takes no model away.
            Err(error) => {
                let dir = self.config.dir.display();
                self.tell(vec![format!("cannot look at `{dir}`: {error}")]);
                return;
            }
        };
        let problems = listing.iter();
        self.problems = problems
            .filter_map(|(name, model)| Some((name.clone(), model.problem.clone()?)))
            .collect();
        self.tell(self.problems.values().cloned().collect());
        listing.retain(|name, _| !self.refused.contains(name));
        self.settle(&listing);
        if self.on_demand.is_none() {
            for (name, available) in &listing {
                self.model(name, available);
            }
        }
        let table = self.models.table();
        let gone = table
            .models
            .iter()
            .filter(|(name, _)| !listing.contains_key(*name));
        for (name, model) in gone {
            for &number in model.ready.keys() {
                self.drain(name, number);
            }
            // What failed and is gone fails no longer; nor is it on offer.
            let has_failed = model.status.values().any(|status| status.error.is_some());
            if has_failed || !model.on_demand.is_empty() {
                self.failed.retain(|(failed, _), _| failed != name);
                self.models.change(|table| table.model(name).withdraw());
            }
        }
        // It holds what is to go.
        drop(table);
        if let Some(mut on_demand) = self.on_demand.take() {
            on_demand.pass(self, listing);
            self.on_demand = Some(on_demand);
        }
        self.let_go();
    }

    /// Takes over the settings that need no load; of those that cannot be read, none.
    fn settle(&mut self, listing: &Listing) {
        self.recents.retain(|name, _| listing.contains_key(name));
        let table = self.models.table();
        for (name, available) in listing.iter().filter(|(_, model)| model.problem.is_none()) {
            if let Some(recent) = self.recents.get(name) {
                recent.switch(available.settings.record_requests());
            }
            let known = table.models.get(name);
            for version in known.into_iter().flat_map(|model| model.ready.values()) {
                version.lane.limit(available.settings.concurrency());
            }
            // Before a version that should get a part of the requests is ready and gets them all.
            let traffic = known.and_then(|model| model.traffic.as_ref());
            if traffic.map(|traffic| &traffic.settings) != available.settings.traffic.as_ref() {
                let traffic = available.settings.traffic.clone();
                let traffic = traffic.map(|settings| Arc::new(Traffic::new(settings)));
                self.models
                    .change(|table| table.model(name).traffic = traffic);
            }
        }
    }

    fn model(&mut self, name: &str, available: &Available) {
        let table = self.models.table();
        let has_answers = |model: &&Arc<Model>| !model.ready.is_empty();
        // A slip in its settings while it runs takes no version and no label away.
        if available.problem.is_some() && table.models.get(name).filter(has_answers).is_some() {
            return;
        }
        let wanted = available.wanted(&self.config.versions);
        for &number in &wanted {
            let dir = &available.versions[&number];
            let table = self.models.table();
            let known = table.models.get(name);
            let is_held = known.is_some_and(|model| model.ready.contains_key(&number));
            let has_failed = self.failed.get(&(name.to_owned(), number)) == Some(&dir.print);
            if !is_held && !has_failed {
                self.load(name, number, dir, available);
            }
        }
        let labels = &available.settings.labels;
        let table = self.models.table();
        let Some(model) = table.models.get(name) else {
            return;
        };
        if model.labels != *labels {
            let labels = labels.clone();
            self.models
                .change(|table| table.model(name).labels = labels);
        }
        // Old versions stay until a wanted one answers.
        if wanted.iter().any(|number| model.ready.contains_key(number)) {
            for &number in model.ready.keys().filter(|number| !wanted.contains(number)) {
                self.drain(name, number);
            }
        }
    }

    fn load(&mut self, name: &str, number: u64, dir: &VersionDir, available: &Available) {
        self.set(name, number, State::Loading, None);
        // A loader that panics fails this load only: the thread is the only one.
        let begun = Instant::now();
        let key = (name.to_owned(), number);
        let recent = self.recent(name, available);
        let loaded = catch_unwind(AssertUnwindSafe(|| {
            let runtime = self.ready(name, number, dir, available)?;
            load::warm(runtime.as_ref(), &key, &recent, &self.loads, false);
            Ok(runtime)
        }));
        let loaded = loaded.unwrap_or(Err(LoadError::Panicked));
        self.loads.loaded(loaded.is_ok(), begun.elapsed());
        match loaded {
            Ok(runtime) => {
                self.failed.remove(&key);
                tracing::info!(
                    model = name,
                    version = number,
                    memory = runtime.memory(),
                    "ready"
                );
                let stats = Arc::default();
                let version = self.version(&key, runtime, stats, recent, &available.settings);
                let version = Arc::new(version);
                self.models.change(|table| {
                    let model = table.model(name);
                    model.ready.insert(number, version);
                    model.set(number, State::Ready, None);
                });
            }
            Err(error) => {
                tracing::warn!(model = name, version = number, %error, "cannot be loaded");
                self.failed.insert(key, dir.print);
                self.set(name, number, State::Unloaded, Some(error.to_string()));
            }
        }
    }

    /// Loads, warms and checks.
    fn ready(
        &self,
        name: &str,
        number: u64,
        dir: &VersionDir,
        available: &Available,
    ) -> std::result::Result<Box<dyn Runtime>, LoadError> {
        let found = runtime::find(&dir.path)?;
        self.admit(found.estimate)?;
        let ctx = Context {
            settings: &available.settings,
            runtimes: &self.config.runtimes,
        };
        let key = (name.to_owned(), number);
        let spec = |dir: &Path| runtime::Spec::new(&self.config, &available.settings, &key, dir);
        let runtime = runtime::load(&found, &ctx, spec)?;
        self.admit(runtime.memory())?;
        self.set(name, number, State::Warming, None);
        runtime::first_run(runtime.as_ref())?;
        Ok(runtime)
    }

    /// Refuses what does not fit beside what is held.
    fn admit(&self, needed: u64) -> std::result::Result<(), LoadError> {
        let table = self.models.table();
        let held = table.models.values().flat_map(|model| model.ready.values());
        let used: u64 = held
            .chain(&self.draining)
            .map(|version| version.runtime.memory())
            .sum();
        let max = self.config.memory_max;
        if used.saturating_add(needed) > max {
            return Err(LoadError::Memory { needed, used, max });
        }
        Ok(())
    }

    fn set(&self, name: &str, number: u64, state: State, error: Option<String>) {
        self.models
            .change(|table| table.model(name).set(number, state, error));
    }

    /// Takes a version out of the table; requests that have it go on.
    fn drain(&mut self, name: &str, number: u64) {
        let mut taken = None;
        self.models.change(|table| {
            let model = table.model(name);
            taken = model.ready.remove(&number);
            model.set(number, State::Draining, None);
        });
        self.draining.extend(taken);
    }

    /// Unloads versions that no request holds any more. Here, so that no request waits for it.
    fn let_go(&mut self) {
        let (idle, busy) = std::mem::take(&mut self.draining)
            .into_iter()
            .partition(|version| Arc::strong_count(version) == 1);
        self.draining = busy;
        let idle: Vec<Arc<Version>> = idle;
        for version in idle {
            let (model, number) = (&version.model, version.number);
            let mut is_offered = false;
            self.models.change(|table| {
                let model = table.model(model);
                is_offered = model.on_demand.contains(&number);
                // The same number may have come back meanwhile.
                if !model.ready.contains_key(&number) {
                    let state = if is_offered {
                        State::OnDisk
                    } else {
                        State::Unloaded
                    };
                    model.set(number, state, None);
                }
            });
            if is_offered {
                self.loads.evicted();
                tracing::debug!(model, version = number, "to disk");
            } else {
                tracing::info!(model, version = number, "unloaded");
            }
        }
    }

    /// Logs problems once.
    fn tell(&mut self, problems: Vec<String>) {
        for problem in problems
            .iter()
            .filter(|problem| !self.told.contains(problem))
        {
            tracing::warn!("{problem}");
        }
        self.told = problems;
    }
}
