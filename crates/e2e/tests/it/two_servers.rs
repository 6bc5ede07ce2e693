//! Two servers on one PostgreSQL and one directory: one leads, the other answers the API and takes over.

use crate::processes;
use e2e::{Installation, Postgres, ask, eventually, eventually_ok};
use rustix::process::Signal;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(120);
/// What the design promises.
const GAP_MAX: Duration = Duration::from_secs(10);

struct Pair {
    first: Installation,
    second: Installation,
    database: String,
    marks: PathBuf,
}

impl Pair {
    fn start() -> Pair {
        let database = Postgres::shared().database();
        let first = Installation::start(&[("MOONSHOT_DATABASE", &database)]);
        eventually("the first leads", PATIENCE, || leads(&first));
        let second = first.beside();
        assert!(!leads(&second));
        let marks = first.home().join("marks");
        std::fs::create_dir_all(&marks).expect("a directory");
        Pair {
            first,
            second,
            database,
            marks,
        }
    }

    /// Two replicas, each of which leaves a mark when it starts and prints a line every 100 ms.
    fn job(&self, name: &str, n_lines: u32) -> String {
        let script = format!(
            "echo $MOONSHOT_INDEX $MOONSHOT_ATTEMPT >> {}/{name}; for i in $(seq 1 {n_lines}); do echo line $MOONSHOT_INDEX $i; sleep 0.1; done",
            self.marks.display()
        );
        let spec = json!({
            "command": ["sh", "-c", script],
            "resources": {"cpu": "50m", "memory": "32Mi"},
            "groups": [{"name": "worker", "replicas": 2}],
        });
        format!(
            "apiVersion: moonshot/v1\nkind: Job\nmetadata: {{name: {name}}}\nspec: {spec}\n---\n"
        )
    }

    /// It ran once, and every line is there once.
    fn judge(&self, through: &Installation, name: &str, n_lines: u32) {
        let job = through.wait_for("job", name, &["Succeeded", "Failed", "Cancelled"], PATIENCE);
        assert_eq!(
            (&job["status"]["phase"], &job["status"]["attempts"]),
            (&"Succeeded".into(), &1.into()),
            "{job:#}"
        );
        let marks = std::fs::read_to_string(self.marks.join(name)).expect("it ran");
        let marks: BTreeSet<&str> = marks.lines().collect();
        assert_eq!(marks, BTreeSet::from(["0 1", "1 1"]), "{name} ran once");
        let log = through
            .run(&["logs", &format!("job/{name}"), "--no-prefix"])
            .ok();
        let mut lines: BTreeMap<&str, usize> = BTreeMap::new();
        for line in log.lines() {
            *lines.entry(line).or_default() += 1;
        }
        assert_eq!(lines.len(), 2 * n_lines as usize, "{name}: {log}");
        assert!(lines.values().all(|count| *count == 1), "{name}: {lines:?}");
    }

    /// Stops the first server, the leader, at a moment when it is in the middle of an effect on the engine, or when it is in none.
    fn stop_first(&self, is_in_effect: bool) {
        let lock = self.first.data().join("engine/lock");
        eventually("the leader is stopped at such a moment", PATIENCE, || {
            self.first.signal_server(Signal::STOP);
            // The signal takes a moment to reach all threads.
            std::thread::sleep(Duration::from_millis(20));
            let is_then = processes::holds_lock(self.first.server_pid(), &lock) == is_in_effect;
            if !is_then {
                self.first.signal_server(Signal::CONT);
            }
            is_then
        });
    }

    fn sql(&self, sql: &str) -> String {
        Postgres::shared()
            .psql(&self.database, sql)
            .trim()
            .to_owned()
    }
}

/// The scheduler's numbers are shown by the leader alone.
fn leads(server: &Installation) -> bool {
    ask(server.listen(), "GET", "/metrics", "", None)
        .1
        .contains("moonshot_tasks_waiting")
}

fn web() -> String {
    let program = "import http.server, os, socketserver\nclass S(http.server.ThreadingHTTPServer):\n  server_bind = socketserver.TCPServer.server_bind\nS(('127.0.0.1', int(os.environ['PORT'])), http.server.SimpleHTTPRequestHandler).serve_forever()";
    let spec = json!({
        "route": {"auth": "none"},
        "template": {"command": ["python3", "-c", program], "resources": {"cpu": "300m", "memory": "64Mi"}, "ports": [{"name": "http"}]},
    });
    format!("apiVersion: moonshot/v1\nkind: App\nmetadata: {{name: web}}\nspec: {spec}\n---\n")
}

/// A service that ends again and again, so that whoever has the engine starts programs.
fn crashing() -> String {
    let spec = json!({
        "template": {"command": ["sh", "-c", "echo up; sleep 0.5; exit 1"], "resources": {"cpu": "50m", "memory": "32Mi"}, "ports": [{"name": "http"}]},
    });
    format!("apiVersion: moonshot/v1\nkind: App\nmetadata: {{name: crashing}}\nspec: {spec}\n---\n")
}

/// Requests to the App until told to stop: answered, not answered.
struct Asking {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
    counts: Arc<[AtomicUsize; 2]>,
}

impl Asking {
    fn start(gateway: &str) -> Asking {
        let (stop, counts) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(<[AtomicUsize; 2]>::default()),
        );
        let (until, counted, gateway) =
            (Arc::clone(&stop), Arc::clone(&counts), gateway.to_owned());
        let thread = std::thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                let (status, _) = ask(&gateway, "GET", "/default/web/", "", None);
                counted[usize::from(status != 200)].fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Asking {
            stop,
            thread,
            counts,
        }
    }

    fn stop(self) -> [usize; 2] {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("it only asks");
        [0, 1].map(|n: usize| self.counts[n].load(Ordering::Relaxed))
    }
}

#[test]
fn another_server_leads_within_ten_seconds_and_nothing_is_lost_or_run_twice() {
    let mut pair = Pair::start();
    pair.first.apply(&web());
    let n_jobs = 6;
    for n in 0..n_jobs {
        // Whichever server is asked.
        let through = [&pair.first, &pair.second][n % 2];
        through.apply(&pair.job(&format!("j{n}"), 80));
    }
    pair.first.wait_for("app", "web", &["Ready"], PATIENCE);
    pair.second.wait_for("job", "j0", &["Running"], PATIENCE);
    // The gateway hears of a replica a moment after its App is ready.
    eventually("the App is reached", PATIENCE, || {
        ask(pair.first.gateway(), "GET", "/default/web/", "", None).0 == 200
    });
    let asking = Asking::start(pair.first.gateway());
    let epoch = pair.sql("SELECT epoch FROM leases");

    pair.first.kill_server();
    let killed = Instant::now();
    pair.second.apply(&pair.job("late", 5));
    let taken = killed.elapsed();
    eventually("the second leads", PATIENCE, || leads(&pair.second));
    let led = killed.elapsed();
    pair.second
        .wait_for("job", "late", &["Running", "Succeeded"], PATIENCE);
    let running = killed.elapsed();
    println!(
        "the leader was killed: a Job was taken after {:.2} s, another server led after {:.2} s, the Job ran after {:.2} s",
        taken.as_secs_f64(),
        led.as_secs_f64(),
        running.as_secs_f64()
    );
    assert!(led < GAP_MAX, "{led:?}");
    assert_ne!(pair.sql("SELECT epoch FROM leases"), epoch);

    // Back again, and the other way round.
    pair.first.start_server();
    assert!(!leads(&pair.first), "it waits now");
    pair.second.kill_server();
    let killed = Instant::now();
    eventually("the first leads again", PATIENCE, || leads(&pair.first));
    println!(
        "the other way round: {:.2} s",
        killed.elapsed().as_secs_f64()
    );
    assert!(killed.elapsed() < GAP_MAX);
    for n in 0..n_jobs {
        pair.judge(&pair.first, &format!("j{n}"), 80);
    }
    pair.judge(&pair.first, "late", 5);
    let app = pair
        .first
        .wait_for("app", "web", &["Ready"], Duration::from_secs(30));
    assert_eq!(app["status"]["instances"][0]["restarts"], 0, "{app:#}");
    let [answered, failed] = asking.stop();
    println!("requests to the App meanwhile: {answered} answered, {failed} not");
    assert!(answered > 100 && failed == 0);
}

#[test]
fn a_leader_that_was_stopped_past_its_lease_wakes_without_effect() {
    let mut pair = Pair::start();
    pair.first.apply(&crashing());
    for n in 0..4 {
        pair.first.apply(&pair.job(&format!("j{n}"), 150));
    }
    pair.first.apply(&pair.job("cancelled", 600));
    for name in ["j0", "cancelled"] {
        pair.first.wait_for("job", name, &["Running"], PATIENCE);
    }
    let epoch = pair.sql("SELECT epoch FROM leases");
    pair.stop_first(false);
    let stopped = Instant::now();
    eventually("the second leads", PATIENCE, || leads(&pair.second));
    println!(
        "the leader was stopped: another server led after {:.2} s",
        stopped.elapsed().as_secs_f64()
    );
    assert!(stopped.elapsed() < GAP_MAX);
    pair.second.run(&["cancel", "job/cancelled"]).ok();
    pair.second
        .wait_for("job", "cancelled", &["Cancelled"], PATIENCE);
    pair.second.apply(&pair.job("meanwhile", 5));
    pair.second
        .wait_for("job", "meanwhile", &["Succeeded"], PATIENCE);

    let written = format!("SELECT COUNT(*) FROM placements WHERE epoch = {epoch}");
    let before = pair.sql(&written);
    let children = processes::children(pair.first.server_pid());
    pair.first.signal_server(Signal::CONT);
    eventually_ok("the woken server answers", PATIENCE, || {
        let said = pair.first.run(&["get", "jobs"]);
        match said.code {
            0 => Ok(()),
            code => Err(format!("exit code {code}: {}", said.stderr)),
        }
    });
    assert_eq!(pair.first.server_end(), None);
    // Long enough for the service that crashes to be started again by somebody.
    let restarts = |server: &Installation| {
        let app = server.get("app", "crashing").expect("the App");
        app["status"]["instances"][0]["restarts"]
            .as_u64()
            .unwrap_or(0)
    };
    let at_wake = restarts(&pair.second);
    eventually("the service is started again", PATIENCE, || {
        restarts(&pair.second) > at_wake
    });
    // The API of the woken server works, its loops do not.
    pair.first.apply(&pair.job("through-the-woken", 5));
    pair.second
        .wait_for("job", "through-the-woken", &["Succeeded"], PATIENCE);
    assert!(leads(&pair.second) && !leads(&pair.first));
    for n in 0..4 {
        pair.judge([&pair.first, &pair.second][n % 2], &format!("j{n}"), 150);
    }
    let more: Vec<_> = processes::children(pair.first.server_pid())
        .into_iter()
        .filter(|pid| !children.contains(pid))
        .collect();
    let after = pair.sql(&written);
    println!(
        "effects of the woken leader: {} processes started, {} placements made",
        more.len(),
        after.parse::<i64>().expect("a number") - before.parse::<i64>().expect("a number")
    );
    assert!(more.is_empty() && after == before);
    // It may lead again.
    pair.second.kill_server();
    eventually("the first leads again", PATIENCE, || leads(&pair.first));
    pair.first.apply(&pair.job("at-last", 5));
    pair.judge(&pair.first, "at-last", 5);
}

/// Its effect may be half done, and whoever leads next cannot wait for it: decision 12.
#[test]
fn a_leader_that_was_stopped_in_the_middle_of_an_effect_is_killed_by_the_next() {
    let mut pair = Pair::start();
    pair.first.apply(&crashing());
    for n in 0..4 {
        pair.first.apply(&pair.job(&format!("j{n}"), 100));
    }
    pair.first.wait_for("job", "j0", &["Running"], PATIENCE);
    pair.stop_first(true);
    let stopped = Instant::now();
    eventually("the second leads", PATIENCE, || leads(&pair.second));
    println!(
        "the leader was stopped in the middle of an effect: another server led after {:.2} s",
        stopped.elapsed().as_secs_f64()
    );
    assert!(stopped.elapsed() < GAP_MAX);
    let end = pair.first.server_end().expect("the next leader ended it");
    assert_eq!(end.signal(), Some(9), "{end}");
    let log = pair.first.server_log();
    assert!(log.contains("in the middle of an effect"), "{log}");
    pair.second.apply(&pair.job("meanwhile", 5));
    for n in 0..4 {
        pair.judge(&pair.second, &format!("j{n}"), 100);
    }
    pair.judge(&pair.second, "meanwhile", 5);
    // Started again, as a supervisor would, it waits.
    pair.first.start_server();
    assert!(leads(&pair.second) && !leads(&pair.first));
}
