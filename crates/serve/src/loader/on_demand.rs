//! The loader where versions are loaded by the requests that ask for them. [`residency`](crate::residency) decides,
//! this observes and performs; whatever happens, [`OnDemand::attend`] looks at all there is to do.
//!
//! A version that requests may ask for is in its model's `on_demand`. A new version of a model that is in memory is
//! loaded beside the old one, which answers meanwhile; of one on disk, by the next request. An old version is on
//! offer until a newer one was loaded once, so that a broken one replaces nothing here either.

use super::load::{Done, Job, Threads};
use super::{Stats, Work};
use crate::models::{Model, State, Version};
use crate::repository::{Available, Listing};
use crate::residency::{Held, Key, Load, Queue, Room, Step, room};
use crate::runtime::{self, LoadError};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// Between looks where loads wait for memory that running requests hold.
pub(super) const ROOM_LOOK: Duration = Duration::from_millis(2);

/// What the loader knows besides.
pub(super) struct OnDemand {
    threads: Threads,
    queue: Queue,
    /// What the directory had at the last look.
    listing: Listing,
    /// Versions that were loaded once.
    proven: HashMap<Key, Proven>,
}

struct Proven {
    /// Of the files then.
    print: u64,
    bytes: u64,
    is_alone: bool,
    /// They outlive the version in memory.
    stats: Arc<Stats>,
}

/// What a look changes about a model.
struct Offer {
    name: String,
    on_demand: BTreeSet<u64>,
    /// In memory and no longer wanted.
    leave: Vec<u64>,
    /// New ones that are loaded while others answer.
    prepare: Vec<u64>,
}

impl OnDemand {
    pub(super) fn new(threads: Threads) -> OnDemand {
        OnDemand {
            queue: Queue::new(threads.handles.len()),
            threads,
            listing: Listing::new(),
            proven: HashMap::new(),
        }
    }

    /// Waits for the loads that run.
    pub(super) fn close(self) {
        drop(self.threads.jobs);
        for thread in self.threads.handles {
            // Its panic was printed already.
            let _ = thread.join();
        }
    }

    /// Whether loads wait.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_idle()
    }

    /// Does what requests and ended loads ask for. Cheap where there is nothing.
    pub(super) fn attend(&mut self, work: &mut Work) {
        work.let_go();
        while let Ok(done) = self.threads.done.try_recv() {
            self.done(work, done);
        }
        for key in work.demand.take_new() {
            self.wanted(work, key);
        }
        if !self.queue.is_idle() {
            self.start(work);
        }
    }

    /// Requests ask for a version.
    fn wanted(&mut self, work: &mut Work, key: Key) {
        let table = work.models.table();
        let model = table.models.get(&key.0);
        let ready = model.and_then(|model| model.ready.get(&key.1)).cloned();
        let is_offered = model.is_some_and(|model| model.on_demand.contains(&key.1));
        drop(table);
        if ready.is_some() || !is_offered {
            work.demand.answer(&key, &ready, &work.loads);
            return;
        }
        // It went a moment ago, and requests hold it still.
        let mut draining = work.draining.iter();
        let back = draining.position(|version| version.model == key.0 && version.number == key.1);
        if let Some(at) = back {
            let version = work.draining.swap_remove(at);
            self.hold(work, key, version);
            return;
        }
        self.enqueue(work, key, true);
    }

    fn enqueue(&mut self, work: &mut Work, key: Key, is_awaited: bool) {
        let dir = self.listing.get(&key.0);
        let Some(dir) = dir.and_then(|model| model.versions.get(&key.1)) else {
            work.demand.answer(&key, &None, &work.loads);
            return;
        };
        let print = dir.print;
        let proven = self.proven.get(&key).filter(|known| known.print == print);
        let size = match proven {
            Some(known) => Ok((known.bytes, known.is_alone)),
            None => runtime::find(&dir.path).map(|found| (found.estimate, found.is_measured())),
        };
        match size {
            Ok((needed, is_alone)) => self.queue.add(Load {
                key,
                needed,
                is_alone,
                is_awaited,
            }),
            Err(error) => self.fail(work, &key, print, error),
        }
    }

    /// Starts what has room, and makes room.
    fn start(&mut self, work: &mut Work) {
        let table = work.models.table();
        let mut unprepared = Vec::new();
        self.queue.retain(|load| {
            if load.is_awaited {
                return work.demand.is_wanted(&load.key);
            }
            // A new version beside whose old one there is no room, or whose old one went, is loaded by the next
            // request.
            let model = table.models.get(&load.key.0);
            let sizes = model.into_iter().flat_map(|model| model.ready.values());
            let beside = sizes.fold(0_u64, |sum, version| {
                sum.saturating_add(version.runtime.memory())
            });
            let fits = load.needed.saturating_add(beside) <= work.config.memory_max;
            if !fits || beside == 0 {
                unprepared.push(load.key.clone());
            }
            fits && beside > 0
        });
        drop(table);
        for (name, number) in unprepared {
            work.models.change(|table| {
                let model = table.model(&name);
                model.on_demand.insert(number);
                model.set(number, State::OnDisk, None);
            });
        }
        loop {
            let held = held(work);
            let fixed = self.fixed(work);
            let max = work.config.memory_max;
            let step = self.queue.next(|load| {
                let found = find_room(load, fixed, max, &held);
                if found == Room::Later && load.is_awaited {
                    let used = used(fixed, &held);
                    let why = format!(
                        ": it needs {} bytes, {used} of {max} are held by models that answer requests; raise --memory-max",
                        load.needed
                    );
                    work.demand.explain(&load.key, why);
                }
                found
            });
            match step {
                Some(Step::LetGo(keys)) => evict(work, &keys),
                Some(Step::Start(load)) => self.begin(work, load),
                Some(Step::Refuse(load)) => {
                    let error = LoadError::Memory {
                        needed: load.needed,
                        used: used(fixed, &held),
                        max,
                    };
                    let print = self.print(&load.key);
                    self.fail(work, &load.key, print, error);
                }
                None => return,
            }
        }
    }

    fn begin(&mut self, work: &mut Work, load: Load) {
        let Load {
            key, is_awaited, ..
        } = load;
        let available = self.listing.get(&key.0);
        let found = available.and_then(|model| Some((model, model.versions.get(&key.1)?)));
        let Some((available, dir)) = found else {
            self.queue.ended(&key);
            work.demand.answer(&key, &None, &work.loads);
            return;
        };
        work.set(&key.0, key.1, State::Loading, None);
        work.demand.explain(&key, String::new());
        let job = Job {
            dir: dir.clone(),
            settings: available.settings.clone(),
            recent: work.recent(&key.0, available),
            is_awaited,
            key,
        };
        // They live as long as this does.
        let _ = self.threads.jobs.send(job);
    }

    /// A load has ended.
    fn done(&mut self, work: &mut Work, done: Done) {
        let Done { job, result, took } = done;
        let key = job.key;
        self.queue.ended(&key);
        work.loads.loaded(result.is_ok(), took);
        let runtime = match result {
            Ok(runtime) => runtime,
            Err(error) => return self.fail(work, &key, job.dir.print, error),
        };
        let needed = runtime.memory();
        let kept = self.proven.remove(&key);
        let kept = kept.filter(|known| known.print == job.dir.print);
        let is_alone = kept.as_ref().is_some_and(|known| known.is_alone)
            || runtime::find(&job.dir.path).is_ok_and(|found| found.is_measured());
        let is_new = kept.is_none();
        let stats = kept.map_or_else(Arc::default, |known| known.stats);
        let proven = Proven {
            print: job.dir.print,
            bytes: needed,
            is_alone,
            stats: Arc::clone(&stats),
        };
        self.proven.insert(key.clone(), proven);
        let is_there = self
            .listing
            .get(&key.0)
            .is_some_and(|model| model.versions.contains_key(&key.1));
        if !is_there {
            work.set(&key.0, key.1, State::Unloaded, None);
            work.demand.answer(&key, &None, &work.loads);
            return;
        }
        let load = Load {
            key: key.clone(),
            needed,
            is_alone,
            is_awaited: job.is_awaited,
        };
        // What it really takes may be more than was thought.
        loop {
            let (held, fixed, max) = (held(work), self.fixed(work), work.config.memory_max);
            match find_room(&load, fixed, max, &held) {
                Room::Without(gone) if gone.is_empty() => break,
                Room::Without(gone) => evict(work, &gone),
                Room::Later => {
                    self.queue.add(load);
                    return;
                }
                Room::Never => {
                    let used = used(fixed, &held);
                    let error = LoadError::Memory { needed, used, max };
                    return self.fail(work, &key, job.dir.print, error);
                }
            }
        }
        work.failed.remove(&key);
        if is_new {
            tracing::info!(model = key.0, version = key.1, memory = needed, "ready");
        } else {
            tracing::debug!(model = key.0, version = key.1, memory = needed, "back");
        }
        let version = work.version(&key, runtime, stats, job.recent, &job.settings);
        self.hold(work, key, Arc::new(version));
    }

    /// Puts a version into the table and gives it to those who wait.
    fn hold(&mut self, work: &mut Work, key: Key, version: Arc<Version>) {
        version.touch(work.now_us());
        let found = Some(Arc::clone(&version));
        work.models.change(|table| {
            let model = table.model(&key.0);
            model.ready.insert(key.1, version);
            model.on_demand.insert(key.1);
            model.set(key.1, State::Ready, None);
        });
        work.demand.answer(&key, &found, &work.loads);
        drop(found);
        // It may be what older ones were kept for.
        if let Some(available) = self.listing.get(&key.0) {
            let offer = self.offer(work, &key.0, available);
            self.make(work, offer.into_iter().collect());
        }
    }

    fn fail(&mut self, work: &mut Work, key: &Key, print: u64, error: LoadError) {
        tracing::warn!(model = key.0, version = key.1, %error, "cannot be loaded");
        // What was loaded before and cannot be read now may be on a file system that is away for a moment: the next
        // look offers it again.
        let is_proven = self
            .proven
            .get(key)
            .is_some_and(|known| known.print == print);
        if !(is_proven && matches!(error, LoadError::Read(..))) {
            work.failed.insert(key.clone(), print);
        }
        work.models.change(|table| {
            let model = table.model(&key.0);
            model.on_demand.remove(&key.1);
            model.set(key.1, State::Unloaded, Some(error.to_string()));
        });
        work.demand.answer(key, &None, &work.loads);
    }

    /// Offers what the directory has now.
    pub(super) fn pass(&mut self, work: &mut Work, mut listing: Listing) {
        let slips = listing.iter_mut().filter(|(_, it)| it.problem.is_some());
        for (name, available) in slips {
            // What comes back from disk meanwhile is to answer as before.
            if let Some(before) = self.listing.get(name) {
                available.settings = before.settings.clone();
            }
        }
        self.listing = listing;
        let mut offers: Vec<Offer> = Vec::new();
        for (name, available) in &self.listing {
            offers.extend(self.offer(work, name, available));
        }
        self.make(work, offers);
        let listing = &self.listing;
        let is_there = |key: &Key| {
            let model = listing.get(&key.0);
            model.is_some_and(|model| model.versions.contains_key(&key.1))
        };
        self.proven.retain(|key, _| is_there(key));
    }

    /// What is to be changed about a model; `None` where nothing is.
    fn offer(&self, work: &Work, name: &str, available: &Available) -> Option<Offer> {
        let table = work.models.table();
        let none = Model::default();
        let model = table.models.get(name).map_or(&none, AsRef::as_ref);
        // A slip in its settings while it runs takes no version and no label away.
        if available.problem.is_some() && !model.numbers().is_empty() {
            return None;
        }
        let wanted = available.wanted(&work.config.versions);
        let key = |number: u64| (name.to_owned(), number);
        let print = |number: &u64| available.versions.get(number).map(|dir| dir.print);
        let mut on_demand = model.on_demand.clone();
        on_demand.retain(|number| available.versions.contains_key(number));
        let mut prepare = Vec::new();
        for number in &wanted {
            let has_failed = work.failed.get(&key(*number)).copied() == print(number);
            if has_failed || on_demand.contains(number) || self.queue.has(&key(*number)) {
                continue;
            }
            if model.ready.is_empty() || model.ready.contains_key(number) {
                on_demand.insert(*number);
            } else {
                prepare.push(*number);
            }
        }
        let is_proven = |number: &u64| {
            let known = self.proven.get(&key(*number));
            known.is_some_and(|known| Some(known.print) == print(number))
        };
        let mut leave = Vec::new();
        if wanted.iter().any(is_proven) {
            on_demand.retain(|number| wanted.contains(number));
            let ready = model.ready.keys();
            leave.extend(ready.filter(|number| !wanted.contains(number)));
        }
        let is_same = on_demand == model.on_demand
            && leave.is_empty()
            && prepare.is_empty()
            && model.labels == available.settings.labels;
        (!is_same).then(|| Offer {
            name: name.to_owned(),
            on_demand,
            leave,
            prepare,
        })
    }

    fn make(&mut self, work: &mut Work, offers: Vec<Offer>) {
        if offers.is_empty() {
            return;
        }
        work.models.change(|table| {
            for offer in &offers {
                let model = table.model(&offer.name);
                if let Some(available) = self.listing.get(&offer.name) {
                    model.labels.clone_from(&available.settings.labels);
                }
                let before = std::mem::replace(&mut model.on_demand, offer.on_demand.clone());
                for &number in offer.on_demand.difference(&before) {
                    if !model.ready.contains_key(&number) {
                        model.set(number, State::OnDisk, None);
                    }
                }
                for &number in before.difference(&offer.on_demand) {
                    if !model.ready.contains_key(&number) {
                        model.set(number, State::Unloaded, None);
                    }
                }
                for &number in &offer.prepare {
                    model.set(number, State::Loading, None);
                }
            }
        });
        for offer in offers {
            for number in offer.leave {
                work.drain(&offer.name, number);
            }
            for number in offer.prepare {
                self.enqueue(work, (offer.name.clone(), number), false);
            }
        }
    }

    fn print(&self, key: &Key) -> u64 {
        let dir = self.listing.get(&key.0);
        let dir = dir.and_then(|model| model.versions.get(&key.1));
        dir.map_or(0, |dir| dir.print)
    }

    /// Bytes that cannot go: loads that run, and versions that requests hold though they are to go.
    fn fixed(&self, work: &Work) -> u64 {
        let draining = work.draining.iter().map(|version| version.runtime.memory());
        draining.fold(self.queue.running_bytes(), u64::saturating_add)
    }
}

/// The versions in memory. Those that only the table has are not busy.
fn held(work: &Work) -> Vec<Held> {
    let table = work.models.table();
    let versions = table.models.values().flat_map(|model| model.ready.values());
    versions
        .map(|version| Held {
            key: (version.model.clone(), version.number),
            bytes: version.runtime.memory(),
            used_us: version.used_us(),
            is_busy: Arc::strong_count(version) > 1,
        })
        .collect()
}

fn used(fixed: u64, held: &[Held]) -> u64 {
    let sizes = held.iter().map(|held| held.bytes);
    sizes.fold(fixed, u64::saturating_add)
}

/// A version that is prepared does not drive away the one that answers in its place.
fn find_room(load: &Load, fixed: u64, max: u64, held: &[Held]) -> Room {
    if load.is_awaited {
        return room(load.needed, fixed, max, held);
    }
    let mut spared = held.to_vec();
    for held in &mut spared {
        held.is_busy |= held.key.0 == load.key.0;
    }
    room(load.needed, fixed, max, &spared)
}

/// Lets versions go to disk, in one change: each copies the table. A request may have taken one a moment ago: it
/// drains then.
fn evict(work: &mut Work, keys: &[Key]) {
    let mut taken = Vec::new();
    work.models.change(|table| {
        for (name, number) in keys {
            let model = table.model(name);
            taken.extend(model.ready.remove(number));
            let is_offered = model.on_demand.contains(number);
            let state = if is_offered {
                State::OnDisk
            } else {
                State::Unloaded
            };
            model.set(*number, state, None);
        }
    });
    for version in taken {
        let (model, number) = (&version.model, version.number);
        if Arc::strong_count(&version) == 1 {
            work.loads.evicted();
            tracing::debug!(model, version = number, "to disk");
        } else {
            work.set(model, number, State::Draining, None);
            work.draining.push(version);
        }
    }
}
