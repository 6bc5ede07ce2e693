//! The database goes away in the middle of the run and comes back.

use super::Run;
use super::work::{Kind, Work};
use e2e::Postgres;
use std::fmt;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longer than the server waits for another process's lock (10 s).
const LOCKED: Duration = Duration::from_secs(12);
/// Longer than the server tries to reach the database again for one write (6 s), and than a lease.
const GONE: Duration = Duration::from_secs(8);
/// The number of the Jobs that are asked for meanwhile.
const REFUSED: usize = 6_000;

/// Where the run's rows are.
pub(super) enum Database {
    Sqlite,
    /// A cluster of its own, which can be stopped.
    Postgres(Postgres, String),
}

impl Database {
    pub(super) fn postgres() -> Database {
        let postgres = Postgres::start();
        let url = postgres.database();
        Database::Postgres(postgres, url)
    }

    pub(super) fn settings(&self) -> Vec<(&str, &str)> {
        match self {
            Database::Sqlite => Vec::new(),
            Database::Postgres(_, url) => vec![("MOONSHOT_DATABASE", url.as_str())],
        }
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Database::Sqlite => "on SQLite",
            Database::Postgres(..) => "on PostgreSQL",
        })
    }
}

impl Run {
    /// SQLite is locked by another process, PostgreSQL is stopped and started again. Jobs are asked for meanwhile.
    pub(super) fn take_the_database_away(&mut self) {
        let begun = Instant::now();
        let database = std::mem::replace(&mut self.database, Database::Sqlite);
        match &database {
            Database::Sqlite => {
                let mut other = lock(&self.installation.data().join("moonshot.sqlite"));
                self.ask_in_vain(LOCKED);
                drop(other.stdin.take());
                other.wait().expect("it is our child");
            }
            Database::Postgres(postgres, _) => {
                postgres.down();
                self.ask_in_vain(GONE);
                postgres.up();
            }
        }
        self.database = database;
        let away = begun.elapsed();
        self.submit(Work::new(Kind::Single, REFUSED));
        self.submit(Work::new(Kind::Gang, REFUSED));
        println!(
            "the database was away for {:.1} s; a Job was taken {:.1} s later",
            away.as_secs_f64(),
            (begun.elapsed() - away).as_secs_f64()
        );
    }

    /// Asks for a Job so long, and sees it refused in words each time. One of the requests may have been taken: it is
    /// submitted again afterwards, which then changes nothing.
    fn ask_in_vain(&mut self, span: Duration) {
        let manifest = Work::new(Kind::Single, REFUSED).manifest(&self.marks);
        let begun = Instant::now();
        let mut n = 0;
        while begun.elapsed() < span {
            let output = self
                .installation
                .run_with_input(&["apply", "-f", "-"], &manifest);
            if output.code == 0 {
                // It waited in the server until the database was back, or it came before.
                break;
            }
            n += 1;
            self.client_errors += 1;
            assert!(
                output.stderr.contains("database") || output.code == 6,
                "code {}: {}",
                output.code,
                output.stderr
            );
            std::thread::sleep(Duration::from_millis(200));
        }
        std::thread::sleep(span.saturating_sub(begun.elapsed()));
        println!("{n} requests were refused while the database was away");
    }
}

/// Another process holds SQLite's lock until its input ends.
fn lock(path: &std::path::Path) -> Child {
    let script = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)\nc.execute('BEGIN IMMEDIATE')\nprint('held', flush=True)\nsys.stdin.read()\nc.execute('ROLLBACK')";
    let mut other = Command::new("python3")
        .args(["-c", script])
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 runs");
    let mut line = String::new();
    let stdout = other.stdout.take().expect("its output is piped");
    BufReader::new(stdout)
        .read_line(&mut line)
        .expect("it says so");
    assert_eq!(line.trim(), "held");
    other
}
