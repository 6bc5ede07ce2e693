//! The process that asks: `bench load`, with a [`Plan`] on its standard input and [`Seen`] on its output. One thread and
//! `epoll`, so that it takes little of a small machine and the same for every server; its own processor time is counted.
//!
//! Closed loop: each connection asks again as soon as it was answered. Open loop: requests are due at random times of a
//! given rate (Poisson) whatever the answers take, and time counts from when a request was due.

use super::wire;
use crate::{Failure, usage};
use e2e::Dice;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::time::Timespec;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// After the end, answers may take this long.
const LAST_ANSWERS: Duration = Duration::from_secs(10);
/// Requests due that wait for a connection, at most; further ones are lost.
const BACKLOG_MAX: usize = 100_000;
const SEED: u64 = 7;

/// What to ask, and how.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) address: SocketAddr,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    /// A directory of bodies, asked in turn.
    pub(crate) bodies: PathBuf,
    pub(crate) n_connections: usize,
    /// Requests a second, at random times; without it each connection asks as fast as it is answered.
    pub(crate) rate: Option<f64>,
    /// An answer after this is late, and a request that finds no connection free is given up: one that waited for it
    /// would spend its time in this process, not in the server.
    pub(crate) deadline: Option<Duration>,
    /// Not counted.
    pub(crate) warm: Duration,
    pub(crate) time: Duration,
}

/// What came of it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Good answers within the deadline.
    pub(crate) n_good: u64,
    /// Good answers after it.
    pub(crate) n_late: u64,
    /// Answers that say that the server has too much to do (429, 503, 504).
    pub(crate) n_refused: u64,
    /// Any other answer, and connections that broke.
    pub(crate) n_wrong: u64,
    /// Requests that were given up before they were sent.
    pub(crate) n_lost: u64,
    /// Answers of any kind, with those of the time that is not counted.
    pub(crate) n_all: u64,
    pub(crate) seconds: f64,
    /// Processor time of the load itself.
    pub(crate) cpu_s: f64,
    /// Of good answers, late ones too.
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    pub(crate) max_ms: f64,
}

impl Seen {
    /// Good answers a second.
    pub(crate) fn rate(&self) -> f64 {
        self.n_good as f64 / self.seconds
    }

    /// Fails the bench where a closed loop was not answered well throughout.
    pub(crate) fn all_good(self) -> Result<Seen, Failure> {
        match self.n_late + self.n_refused + self.n_wrong {
            0 if self.n_good > 0 => Ok(self),
            n => Err(format!("{} requests were answered well, {n} were not", self.n_good).into()),
        }
    }

    fn to_json(&self) -> Value {
        json!({
            "good": self.n_good, "late": self.n_late, "refused": self.n_refused, "wrong": self.n_wrong,
            "lost": self.n_lost, "all": self.n_all, "seconds": self.seconds, "cpu_s": self.cpu_s, "p50_ms": self.p50_ms,
            "p99_ms": self.p99_ms, "p999_ms": self.p999_ms, "max_ms": self.max_ms,
        })
    }

    fn from_json(value: &Value) -> Option<Seen> {
        let count = |name: &str| value[name].as_u64();
        // A load without a good answer has no times: null.
        let number = |name: &str| value[name].as_f64().unwrap_or(f64::NAN);
        Some(Seen {
            n_good: count("good")?,
            n_late: count("late")?,
            n_refused: count("refused")?,
            n_wrong: count("wrong")?,
            n_lost: count("lost")?,
            n_all: count("all")?,
            seconds: value["seconds"].as_f64()?,
            cpu_s: value["cpu_s"].as_f64()?,
            p50_ms: number("p50_ms"),
            p99_ms: number("p99_ms"),
            p999_ms: number("p999_ms"),
            max_ms: number("max_ms"),
        })
    }
}

/// A load that goes on in its own process; ended where it is dropped early.
pub(crate) struct Running(Child);

impl Plan {
    /// Runs it and waits.
    pub(crate) fn run(&self) -> Result<Seen, Failure> {
        self.start()?.wait()
    }

    /// Begins.
    pub(crate) fn start(&self) -> Result<Running, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("load")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut input = child.stdin.take().expect("its input is piped");
        let running = Running(child);
        input.write_all(self.to_json().to_string().as_bytes())?;
        Ok(running)
    }

    fn to_json(&self) -> Value {
        json!({
            "address": self.address.to_string(), "path": self.path, "headers": self.headers,
            "bodies": self.bodies, "connections": self.n_connections, "rate": self.rate,
            "deadline_s": self.deadline.map(|deadline| deadline.as_secs_f64()),
            "warm_s": self.warm.as_secs_f64(), "time_s": self.time.as_secs_f64(),
        })
    }

    fn from_json(value: &Value) -> Option<Plan> {
        let seconds = |name: &str| value[name].as_f64().map(Duration::from_secs_f64);
        let headers = value["headers"]
            .as_array()?
            .iter()
            .map(|pair| Some((pair[0].as_str()?.to_owned(), pair[1].as_str()?.to_owned())));
        Some(Plan {
            address: value["address"].as_str()?.parse().ok()?,
            path: value["path"].as_str()?.to_owned(),
            headers: headers.collect::<Option<_>>()?,
            bodies: value["bodies"].as_str()?.into(),
            n_connections: usize::try_from(value["connections"].as_u64()?).ok()?,
            rate: value["rate"].as_f64(),
            deadline: seconds("deadline_s"),
            warm: seconds("warm_s")?,
            time: seconds("time_s")?,
        })
    }
}

impl Running {
    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Result<Seen, Failure> {
        let mut text = String::new();
        let mut output = self.0.stdout.take().expect("its output is piped");
        output.read_to_string(&mut text)?;
        let status = self.0.wait()?;
        let seen = serde_json::from_str(&text).ok();
        let seen = seen.and_then(|value| Seen::from_json(&value));
        seen.filter(|_| status.success())
            .ok_or_else(|| "the load failed; what it said is above".into())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The process itself.
pub(crate) fn main() -> Result<(), Failure> {
    let plan: Value = serde_json::from_reader(std::io::stdin())?;
    let plan = Plan::from_json(&plan).ok_or("usage: bench load < PLAN, which benches write")?;
    println!("{}", Load::new(&plan)?.run()?.to_json());
    Ok(())
}

/// A connection, and since when its request has been due.
struct Connection {
    stream: TcpStream,
    due: Option<Instant>,
    received: Vec<u8>,
    /// What did not fit the socket yet.
    unsent: Vec<u8>,
}

struct Load<'a> {
    plan: &'a Plan,
    requests: Vec<Vec<u8>>,
    poll: rustix::fd::OwnedFd,
    connections: Vec<Connection>,
    idle: Vec<usize>,
    /// Due, and no connection is free.
    backlog: VecDeque<Instant>,
    n_sent: usize,
    /// What is due before is not counted.
    counts_from: Instant,
    end: Instant,
    times_ms: Vec<f32>,
    n_good: u64,
    n_late: u64,
    n_refused: u64,
    n_wrong: u64,
    n_lost: u64,
    n_all: u64,
}

impl Load<'_> {
    fn new(plan: &Plan) -> Result<Load<'_>, Failure> {
        let requests = bodies(&plan.bodies)?
            .iter()
            .map(|body| wire::request("POST", &plan.path, &plan.headers, body))
            .collect();
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut connections = Vec::new();
        for at in 0..plan.n_connections {
            let stream = connect(plan.address)?;
            epoll::add(
                &poll,
                &stream,
                EventData::new_u64(at as u64),
                EventFlags::IN,
            )?;
            connections.push(Connection {
                stream,
                due: None,
                received: Vec::new(),
                unsent: Vec::new(),
            });
        }
        let counts_from = Instant::now() + plan.warm;
        Ok(Load {
            plan,
            requests,
            poll,
            idle: (0..connections.len()).rev().collect(),
            connections,
            backlog: VecDeque::new(),
            n_sent: 0,
            counts_from,
            end: counts_from + plan.time,
            times_ms: Vec::new(),
            n_good: 0,
            n_late: 0,
            n_refused: 0,
            n_wrong: 0,
            n_lost: 0,
            n_all: 0,
        })
    }

    fn run(mut self) -> Result<Seen, Failure> {
        let mut dice = Dice(SEED);
        let mut next_due = Instant::now();
        let mut events = Vec::with_capacity(256);
        let mut cpu_before = None;
        loop {
            let now = Instant::now();
            if cpu_before.is_none() && now >= self.counts_from {
                cpu_before = Some(own_cpu_s());
            }
            if now >= self.end {
                break;
            }
            let mut until = self.end.min(now + Duration::from_millis(100));
            if let Some(rate) = self.plan.rate {
                while next_due <= now {
                    self.due(next_due)?;
                    next_due += Duration::from_secs_f64(gap(&mut dice) / rate);
                }
                until = until.min(next_due);
            } else {
                while let Some(at) = self.idle.pop() {
                    self.send(at, now)?;
                }
            }
            self.wait(until - now, &mut events)?;
        }
        let cpu_s = own_cpu_s() - cpu_before.unwrap_or_default();
        // What is still under way counts, too: it was due in time.
        if self.plan.rate.is_some() {
            let give_up = Instant::now() + LAST_ANSWERS;
            while self.idle.len() < self.connections.len() && Instant::now() < give_up {
                self.wait(Duration::from_millis(10), &mut events)?;
            }
            let unanswered = self.connections.iter().filter_map(|known| known.due);
            let unanswered = unanswered.filter(|due| *due >= self.counts_from).count();
            self.n_wrong += unanswered as u64;
            self.n_lost += self.backlog.len() as u64;
        }
        Ok(self.seen(cpu_s))
    }

    /// A request is due: it goes out where a connection is free, else it waits for one or is given up.
    fn due(&mut self, due: Instant) -> Result<(), Failure> {
        match self.idle.pop() {
            Some(at) => self.send(at, due),
            None if self.plan.deadline.is_none() && self.backlog.len() < BACKLOG_MAX => {
                self.backlog.push_back(due);
                Ok(())
            }
            None => {
                self.n_lost += u64::from(due >= self.counts_from);
                Ok(())
            }
        }
    }

    fn send(&mut self, at: usize, due: Instant) -> Result<(), Failure> {
        let request = &self.requests[self.n_sent % self.requests.len()];
        self.n_sent += 1;
        let connection = &mut self.connections[at];
        connection.due = Some(due);
        let n = match connection.stream.write(request) {
            Ok(n) => n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            // It is seen as closed when it is read.
            Err(_) => return Ok(()),
        };
        if n < request.len() {
            connection.unsent.extend_from_slice(&request[n..]);
            self.watch(at, EventFlags::IN | EventFlags::OUT)?;
        }
        Ok(())
    }

    fn watch(&self, at: usize, flags: EventFlags) -> Result<(), Failure> {
        let stream = &self.connections[at].stream;
        epoll::modify(&self.poll, stream, EventData::new_u64(at as u64), flags)?;
        Ok(())
    }

    fn wait(&mut self, time: Duration, events: &mut Vec<epoll::Event>) -> Result<(), Failure> {
        events.clear();
        let time = Timespec::try_from(time)?;
        let spare = rustix::buffer::spare_capacity(events);
        match epoll::wait(&self.poll, spare, Some(&time)) {
            Err(rustix::io::Errno::INTR) => return Ok(()),
            done => done?,
        };
        for event in events.iter() {
            let (at, flags) = (event.data.u64() as usize, event.flags);
            if flags.contains(EventFlags::OUT) {
                self.send_rest(at)?;
            }
            if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
                self.receive(at)?;
            }
        }
        Ok(())
    }

    fn send_rest(&mut self, at: usize) -> Result<(), Failure> {
        let connection = &mut self.connections[at];
        if let Ok(n) = connection.stream.write(&connection.unsent) {
            connection.unsent.drain(..n);
        }
        if connection.unsent.is_empty() {
            self.watch(at, EventFlags::IN)?;
        }
        Ok(())
    }

    fn receive(&mut self, at: usize) -> Result<(), Failure> {
        let mut buffer = [0; 16 << 10];
        let connection = &mut self.connections[at];
        match connection.stream.read(&mut buffer) {
            Ok(n) if n > 0 => connection.received.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            _ => return self.broken(at),
        }
        let Some(answer) = wire::answer(&connection.received)? else {
            return Ok(());
        };
        connection.received.drain(..answer.end);
        let due = connection.due.take();
        self.idle.push(at);
        self.n_all += 1;
        if let Some(due) = due.filter(|due| *due >= self.counts_from) {
            self.count(answer.status, due.elapsed());
        }
        self.send_oldest()
    }

    /// The oldest that waits goes out.
    fn send_oldest(&mut self) -> Result<(), Failure> {
        if !self.backlog.is_empty()
            && let Some(at) = self.idle.pop()
            && let Some(due) = self.backlog.pop_front()
        {
            self.send(at, due)?;
        }
        Ok(())
    }

    fn count(&mut self, status: u16, took: Duration) {
        match status {
            200 => {
                self.times_ms.push(took.as_secs_f32() * 1e3);
                let is_late = self.plan.deadline.is_some_and(|deadline| took > deadline);
                *(if is_late {
                    &mut self.n_late
                } else {
                    &mut self.n_good
                }) += 1;
            }
            429 | 503 | 504 => self.n_refused += 1,
            _ => self.n_wrong += 1,
        }
    }

    /// The server closed a connection: what it had is lost, another takes its place.
    fn broken(&mut self, at: usize) -> Result<(), Failure> {
        let was_asked = self.connections[at].due.take().is_some();
        self.n_wrong += u64::from(was_asked);
        if was_asked {
            self.idle.push(at);
        }
        let stream = connect(self.plan.address)?;
        epoll::add(
            &self.poll,
            &stream,
            EventData::new_u64(at as u64),
            EventFlags::IN,
        )?;
        let connection = &mut self.connections[at];
        // The old one leaves the poll as it is closed.
        connection.stream = stream;
        connection.received.clear();
        connection.unsent.clear();
        Ok(())
    }

    fn seen(mut self, cpu_s: f64) -> Seen {
        self.times_ms.sort_by(f32::total_cmp);
        let at = |percent: f64| {
            let rank = (percent / 100.0 * self.times_ms.len() as f64).ceil() as usize;
            let place = rank.clamp(1, self.times_ms.len().max(1)) - 1;
            self.times_ms
                .get(place)
                .map_or(f64::NAN, |ms| f64::from(*ms))
        };
        Seen {
            n_good: self.n_good,
            n_late: self.n_late,
            n_refused: self.n_refused,
            n_wrong: self.n_wrong,
            n_lost: self.n_lost,
            n_all: self.n_all,
            seconds: self.plan.time.as_secs_f64(),
            cpu_s,
            p50_ms: at(50.0),
            p99_ms: at(99.0),
            p999_ms: at(99.9),
            max_ms: at(100.0),
        }
    }
}

/// Every file of a directory, by name.
pub(crate) fn bodies(dir: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_, std::io::Error>>()?;
    paths.sort();
    let bodies: Vec<Vec<u8>> = paths.iter().map(std::fs::read).collect::<Result<_, _>>()?;
    if bodies.is_empty() {
        return Err(format!("`{}` holds no bodies", dir.display()).into());
    }
    Ok(bodies)
}

fn connect(address: SocketAddr) -> Result<TcpStream, Failure> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// To the next arrival of a Poisson process of rate 1.
fn gap(dice: &mut Dice) -> f64 {
    let uniform = (dice.below(1 << 53) as f64 + 1.0) / (1_u64 << 53) as f64;
    -uniform.ln()
}

fn own_cpu_s() -> f64 {
    usage::of(&[std::process::id()]).cpu_s
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_and_what_was_seen_cross_to_the_other_process() {
        let plan = Plan {
            address: SocketAddr::from(([127, 0, 0, 1], 7)),
            path: "/a".to_owned(),
            headers: vec![("b".to_owned(), "c".to_owned())],
            bodies: "/d".into(),
            n_connections: 3,
            rate: Some(2.5),
            deadline: Some(Duration::from_millis(100)),
            warm: Duration::from_millis(500),
            time: Duration::from_secs(2),
        };
        let read = Plan::from_json(&plan.to_json()).unwrap();
        assert_eq!(format!("{plan:?}"), format!("{read:?}"));
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("body"), "x").unwrap();
        let plan = Plan {
            bodies: dir.path().to_owned(),
            n_connections: 0,
            ..plan
        };
        let mut load = Load::new(&plan).unwrap();
        for (status, ms) in [(200, 10), (200, 101), (429, 1), (500, 1)] {
            load.count(status, Duration::from_millis(ms));
        }
        let seen = Seen::from_json(&load.seen(1.0).to_json()).unwrap();
        let counts = [seen.n_good, seen.n_late, seen.n_refused, seen.n_wrong];
        assert_eq!((counts, seen.rate()), ([1, 1, 1, 1], 0.5));
        assert_eq!(seen.p50_ms.round(), 10.0);
    }

    #[test]
    fn arrivals_have_their_rate() {
        let mut dice = Dice(SEED);
        let sum: f64 = (0..100_000).map(|_| gap(&mut dice)).sum();
        assert!((sum / 100_000.0 - 1.0).abs() < 0.02, "{sum}");
    }
}
