//! The kill run: hundreds of Jobs and some Apps while everything is killed, again and again, at points that a
//! printed seed chooses; a database that is locked or gone for a while; then a leader that sleeps past its lease, clocks
//! that jump, and a restart of the machine. On PostgreSQL a smaller one runs unless `MOONSHOT_KILL_RUN=full`.

mod database;
mod judge;
mod work;

use crate::processes;
use database::Database;
use e2e::{Dice, Installation, ask, eventually};
use rustix::process::{Signal, kill_process};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use work::{Kind, Work};

const PATIENCE: Duration = Duration::from_secs(300);
const APPS: [&str; 5] = ["a", "b", "c", "d", "e"];
/// Past the leader's lease of 6 s.
const SLEEP: Duration = Duration::from_secs(9);

/// How much.
#[derive(Clone, Copy, Debug)]
struct Size {
    kills: usize,
    /// One of so many of each kind of Job.
    part: usize,
}

/// What the issue of the foundation asks for.
const WHOLE: Size = Size {
    kills: 100,
    part: 1,
};
/// For a second database in the time that CI has.
const FIFTH: Size = Size { kills: 20, part: 5 };

/// Everything that is going on.
struct Run {
    installation: Installation,
    size: Size,
    database: Database,
    marks: PathBuf,
    dice: Dice,
    submitted: Vec<Work>,
    /// Jobs to cancel, to suspend, to resume.
    to_cancel: Vec<String>,
    to_suspend: Vec<String>,
    to_resume: Vec<String>,
    /// Uids of those whose shim was killed.
    hurt: BTreeSet<String>,
    /// Uids of those that ran when the machine was restarted.
    restarted: BTreeSet<String>,
    kills: BTreeMap<&'static str, usize>,
    client_errors: usize,
}

#[test]
fn every_job_ends_exactly_once_whatever_is_killed() {
    Run::start(Database::Sqlite, WHOLE).finish();
}

#[test]
fn every_job_ends_exactly_once_on_postgres_too_with_a_fifth_of_the_jobs() {
    let is_full = std::env::var("MOONSHOT_KILL_RUN").is_ok_and(|size| size == "full");
    let size = if is_full { WHOLE } else { FIFTH };
    Run::start(Database::postgres(), size).finish();
}

impl Run {
    fn start(database: Database, size: Size) -> Run {
        let seed = std::env::var("MOONSHOT_SEED")
            .ok()
            .and_then(|text| text.parse().ok());
        let seed = seed.unwrap_or_else(|| u64::from(std::process::id()) * 1_000_003);
        println!("MOONSHOT_SEED={seed}, {size:?}, {database}");
        let installation = Installation::start(&database.settings());
        let marks = installation.home().join("marks");
        std::fs::create_dir_all(&marks).expect("a directory");
        Run {
            installation,
            size,
            database,
            marks,
            dice: Dice(seed),
            submitted: Vec::new(),
            to_cancel: Vec::new(),
            to_suspend: Vec::new(),
            to_resume: Vec::new(),
            hurt: BTreeSet::new(),
            restarted: BTreeSet::new(),
            kills: BTreeMap::new(),
            client_errors: 0,
        }
    }

    fn finish(mut self) {
        let begun = Instant::now();
        let told = |what: &str| println!("{} s: {what}", begun.elapsed().as_secs());
        let apps: String = APPS.iter().map(|name| work::app(name)).collect();
        self.installation.apply(&apps);
        for name in APPS {
            self.installation
                .wait_for("app", name, &["Ready"], PATIENCE);
        }
        let asked = Asked::start(self.installation.gateway());
        self.storm();
        told("the storm is over");
        self.sleep_past_the_lease();
        told("the leader has slept past its lease");
        self.jump_clocks();
        told("the clock has jumped");
        self.restart_machine();
        told("the machine was restarted");
        let jobs = self.wait_for_all();
        told("all Jobs are over");
        for name in APPS {
            self.installation
                .wait_for("app", name, &["Ready"], PATIENCE);
        }
        let answers = asked.stop();
        self.check(&jobs, &answers);
    }

    /// Submits the Jobs while server, shims and gateway are killed.
    fn storm(&mut self) {
        let mut waiting = all_work(self.size.part);
        let n_kills = self.size.kills;
        let batch = waiting.len().div_ceil(n_kills * 2 / 3);
        for n in 0..n_kills {
            if n == n_kills / 2 {
                self.take_the_database_away();
            }
            for work in waiting
                .drain(..batch.min(waiting.len()))
                .collect::<Vec<_>>()
            {
                self.submit(work);
            }
            let pause = Duration::from_millis(self.dice.below(500));
            std::thread::sleep(pause);
            match self.dice.below(100) {
                0..45 => self.kill_server(),
                45..85 => self.kill_shim(),
                _ => self.kill_gateway(),
            }
            if n % 25 == 24 {
                println!("{} kills, {} Jobs submitted", n + 1, self.submitted.len());
            }
        }
        while let Some(request) = self.next_request() {
            self.ask_again(&request);
        }
    }

    fn submit(&mut self, work: Work) {
        let manifest = work.manifest(&self.marks);
        let name = format!("job/{}", work.name);
        match work.kind {
            Kind::Cancel => self.to_cancel.push(name),
            Kind::Suspend => self.to_suspend.push(name),
            Kind::Single | Kind::Gang | Kind::Array | Kind::Retry | Kind::Oom | Kind::Urgent => {}
        }
        eventually("a Job is taken", PATIENCE, || {
            let output = self
                .installation
                .run_with_input(&["apply", "-f", "-"], &manifest);
            self.client_errors += usize::from(output.code != 0);
            output.code == 0
        });
        self.submitted.push(work);
    }

    /// Something that people ask for.
    fn next_request(&mut self) -> Option<[String; 2]> {
        let lists = [
            ("cancel", &mut self.to_cancel),
            ("suspend", &mut self.to_suspend),
            ("resume", &mut self.to_resume),
        ];
        let (verb, list) = lists.into_iter().find(|(_, list)| !list.is_empty())?;
        let name = list.remove(0);
        if verb == "suspend" {
            self.to_resume.push(name.clone());
        }
        Some([verb.to_owned(), name])
    }

    /// Until it is taken.
    fn ask_again(&mut self, request: &[String; 2]) {
        eventually("a request is taken", PATIENCE, || {
            let output = self.installation.run(&[&request[0], &request[1]]);
            // What has ended meanwhile cannot be cancelled or suspended, and is told so.
            let is_over = output.stderr.contains("is over") || output.code == 5;
            self.client_errors += usize::from(output.code != 0);
            output.code == 0 || is_over
        });
    }

    /// Often in the middle of a request, so that evictions, ends and new bindings are under way.
    fn kill_server(&mut self) {
        let request = self.next_request();
        let asked = request.as_ref().map(|request| {
            let mut command = self.installation.command(&[&request[0], &request[1]]);
            command
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null());
            command.spawn().expect("moonshot starts")
        });
        if asked.is_some() {
            let pause = Duration::from_millis(self.dice.below(80));
            std::thread::sleep(pause);
        }
        self.installation.kill_server();
        if let Some(mut asked) = asked {
            let status = asked.wait().expect("it is our child");
            self.client_errors += usize::from(!status.success());
        }
        *self.kills.entry("server").or_default() += 1;
        self.installation.start_server();
        if let Some(request) = request {
            self.ask_again(&request);
        }
    }

    fn kill_shim(&mut self) {
        let shims = processes::shims(&self.installation.data());
        if shims.is_empty() {
            return self.kill_server();
        }
        let shim = &shims[self.dice.pick(shims.len())];
        self.hurt.insert(shim.owner().to_owned());
        // It may have ended by itself just now.
        let _ = kill_process(shim.pid, Signal::KILL);
        *self.kills.entry("shim").or_default() += 1;
    }

    fn kill_gateway(&mut self) {
        match self.installation.gateway_pid() {
            Some(pid) => {
                // It may be gone already.
                let _ = kill_process(pid, Signal::KILL);
                *self.kills.entry("gateway").or_default() += 1;
            }
            // It is just being started again.
            None => self.kill_server(),
        }
    }

    fn more(&mut self, label: usize) {
        for number in 0..6 {
            let kind = if number % 3 == 0 {
                Kind::Gang
            } else {
                Kind::Single
            };
            self.submit(Work::new(kind, label + number));
        }
    }

    /// The leader sleeps past its lease and wakes.
    fn sleep_past_the_lease(&mut self) {
        self.more(1000);
        self.installation.signal_server(Signal::STOP);
        std::thread::sleep(SLEEP);
        self.installation.signal_server(Signal::CONT);
    }

    /// The server's clock jumps an hour forward, two hours back, and is right again.
    fn jump_clocks(&mut self) {
        for (label, offset_ms) in [(2000, "3600000"), (3000, "-3600000"), (4000, "0")] {
            self.more(label);
            self.installation.kill_server();
            self.installation.set("MOONSHOT_CLOCK_OFFSET_MS", offset_ms);
            self.installation.start_server();
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    /// Everything is gone at once, and the kernel says that this is another boot.
    fn restart_machine(&mut self) {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: the restart of the machine, which only root can act out");
            return;
        }
        self.more(5000);
        let data = self.installation.data();
        eventually("something runs", PATIENCE, || {
            processes::shims(&data).len() > APPS.len() + 3
        });
        self.installation.kill_server();
        let shims = processes::shims(&data);
        self.restarted = shims.iter().map(|shim| shim.owner().to_owned()).collect();
        processes::kill_all(&data);
        // Also those that were about to be started.
        self.hurt.extend(processes::unfinished(&data));
        self.installation
            .pretend_reboot("11111111-2222-4333-8444-555555555555");
        self.installation.start_server();
    }

    fn wait_for_all(&self) -> BTreeMap<String, Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let jobs = list(&self.installation);
            let open: Vec<String> = jobs
                .values()
                .filter(|job| {
                    let phase = job["status"]["phase"].as_str().unwrap_or_default();
                    !["Succeeded", "Failed", "Cancelled"].contains(&phase)
                })
                .map(|job| format!("{}: {}", job["metadata"]["name"], job["status"]))
                .collect();
            if jobs.len() == self.submitted.len() && open.is_empty() {
                return jobs;
            }
            assert!(
                Instant::now() < deadline,
                "{} of {} Jobs are known, and these are not over: {open:#?}",
                jobs.len(),
                self.submitted.len()
            );
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    fn check(&self, jobs: &BTreeMap<String, Value>, answers: &[(usize, usize)]) {
        let mut count = judge::Count::default();
        let mut faults = Vec::new();
        let mut uids = Vec::new();
        for work in &self.submitted {
            let job = &jobs[&work.name];
            let uid = job["metadata"]["uid"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            let hurt = self.hurt.contains(&uid);
            let found = judge::judge(&self.installation, &self.marks, work, job, hurt, &mut count);
            faults.extend(
                found
                    .into_iter()
                    .map(|fault| format!("{}: {fault}", work.name)),
            );
            uids.push(uid);
        }
        let data = self.installation.data();
        let of_jobs = |name: &str| uids.iter().any(|uid| name.contains(uid.as_str()));
        eventually(
            "no program of a Job is left",
            Duration::from_secs(20),
            || {
                !processes::programs(&data)
                    .iter()
                    .any(|(_, name)| of_jobs(name))
                    && !processes::shims(&data)
                        .iter()
                        .any(|shim| of_jobs(&shim.replica))
            },
        );
        eventually(
            "no control group of a Job is left",
            Duration::from_secs(20),
            || processes::cgroups(&uids).is_empty(),
        );
        println!(
            "kills: {:?}, {} in all; Jobs that were hit: {}",
            self.kills,
            self.kills.values().sum::<usize>(),
            self.hurt.len()
        );
        println!(
            "{} Jobs by what they are and how they ended: {:?}",
            jobs.len(),
            count.by_end
        );
        println!(
            "{} attempts, {} lines each once, {} replicas of earlier attempts cut",
            count.attempts, count.lines, count.cut_replicas
        );
        println!(
            "errors that the command line met: {}; (answered, not answered) by App: {answers:?}",
            self.client_errors
        );
        println!(
            "lines missing: {}, doubled: {}; processes left of Jobs: 0, control groups left: 0",
            count.missing, count.doubled
        );
        assert!(
            faults.is_empty(),
            "{} faults:\n{}",
            faults.len(),
            faults.join("\n")
        );
        assert!(self.kills.values().sum::<usize>() >= self.size.kills);
        if self.size.part == 1 {
            let killed: Vec<&str> = self.kills.keys().copied().collect();
            assert_eq!(killed, ["gateway", "server", "shim"], "each was killed");
        }
        let ran_again = |job: &&Value| {
            let uid = job["metadata"]["uid"].as_str().unwrap_or_default();
            self.restarted.contains(uid) && job["status"]["attempts"].as_u64() > Some(1)
        };
        let n_again = jobs.values().filter(ran_again).count();
        println!("Jobs that ran again after the machine was restarted: {n_again}");
        assert!(
            n_again > 0 || self.restarted.is_empty(),
            "the restart of the machine ended nothing"
        );
        for name in APPS {
            let answer = self
                .installation
                .ask("GET", &format!("/default/{name}/"), "", false);
            assert_eq!(answer, (200, name.to_owned()), "it serves after all this");
        }
    }
}

/// 300 Jobs and more, or one of so many of them, well mixed.
fn all_work(part: usize) -> Vec<Work> {
    let kinds: [(Kind, usize); 8] = [
        (Kind::Single, 150),
        (Kind::Gang, 50),
        (Kind::Retry, 25),
        (Kind::Cancel, 30),
        (Kind::Suspend, 25),
        (Kind::Urgent, 10),
        (
            Kind::Oom,
            if rustix::process::geteuid().is_root() {
                15
            } else {
                0
            },
        ),
        (Kind::Array, 1),
    ];
    let mut all: Vec<(usize, Work)> = kinds
        .iter()
        .map(|(kind, n)| (kind, n.div_ceil(part)))
        .flat_map(|(kind, n)| {
            // Spread evenly over the whole run.
            (0..n).map(move |number| (number * 1000 / n, Work::new(*kind, number)))
        })
        .collect();
    all.sort_by_key(|(at, work)| (*at, work.kind));
    all.into_iter().map(|(_, work)| work).collect()
}

fn list(installation: &Installation) -> BTreeMap<String, Value> {
    let answer = installation.run(&["get", "jobs", "-o", "json"]).json();
    let items = answer["items"].as_array().cloned().unwrap_or_default();
    items
        .into_iter()
        .map(|job| {
            (
                job["metadata"]["name"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
                job,
            )
        })
        .collect()
}

/// Constant requests to the Apps, and how they were answered.
struct Asked {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
    counts: Arc<Vec<[AtomicUsize; 2]>>,
}

impl Asked {
    fn start(gateway: &str) -> Asked {
        let stop = Arc::new(AtomicBool::new(false));
        let counts: Arc<Vec<[AtomicUsize; 2]>> =
            Arc::new(APPS.iter().map(|_| Default::default()).collect());
        let threads = APPS.iter().enumerate().map(|(at, name)| {
            let (stop, counts, gateway) =
                (Arc::clone(&stop), Arc::clone(&counts), gateway.to_owned());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let (status, body) =
                        ask(&gateway, "GET", &format!("/default/{name}/"), "", None);
                    let is_good = status == 200 && body == *name;
                    counts[at][usize::from(!is_good)].fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(50));
                }
            })
        });
        Asked {
            threads: threads.collect(),
            stop,
            counts,
        }
    }

    /// Answered and not answered, by App.
    fn stop(self) -> Vec<(usize, usize)> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("it only asks");
        }
        let read = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        self.counts
            .iter()
            .map(|[good, bad]| (read(good), read(bad)))
            .collect()
    }
}
