//! Asks a service how it is, with Kubernetes' semantics: the startup probe first, alone; then
//! readiness decides about traffic and liveness about life. Counting is pure ([`Counter`]).

use crate::ctx::Ctx;
use crate::exec;
use crate::layout::ReplicaDir;
use crate::record::Replica;
use engine::{Probe, ProbeAction, Probes};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// The bytes of an answer that are read. Its first line tells.
const ANSWER_BYTES_MAX: usize = 16 << 10;
/// Characters of an answer's text that are told.
const BODY_CHARS_MAX: usize = 300;
/// How long the end of an answer is waited for once its status is known.
const REST: Duration = Duration::from_millis(100);

/// What the probes found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may have traffic; or no more, and what was answered.
    Ready(Result<(), String>),
    /// It shall be restarted; a sentence says why.
    Unhealthy(String),
}

/// Who is asked.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) ctx: Arc<Ctx>,
    pub(crate) replica: Arc<Replica>,
    pub(crate) dir: ReplicaDir,
    pub(crate) run: u32,
}

/// Runs a service's probes until it is unhealthy or nobody listens. Without probes it is ready at once.
pub(crate) async fn watch(target: Target, verdicts: mpsc::Sender<Verdict>) {
    let Probes {
        startup,
        readiness,
        liveness,
    } = target.replica.template().probes.clone();
    if let Some(startup) = &startup {
        let mut counter = Counter::new(startup, false);
        tokio::time::sleep(startup.initial_delay.as_std()).await;
        loop {
            let answer = target.ask(startup).await;
            let error = answer.clone().err().unwrap_or_default();
            match counter.count(answer.is_ok()) {
                Some(true) => break,
                Some(false) => {
                    let sentence = format!(
                        "its startup probe failed {} times: {error}",
                        startup.failures
                    );
                    // Nobody listens any more: the run has ended.
                    let _ = verdicts.send(Verdict::Unhealthy(sentence)).await;
                    return;
                }
                None => tokio::time::sleep(startup.period.as_std()).await,
            }
        }
    }
    tokio::join!(
        watch_readiness(&target, readiness, &verdicts),
        watch_liveness(&target, liveness, &verdicts)
    );
}

async fn watch_readiness(target: &Target, probe: Option<Probe>, verdicts: &mpsc::Sender<Verdict>) {
    let Some(probe) = probe else {
        let _ = verdicts.send(Verdict::Ready(Ok(()))).await;
        return;
    };
    let mut counter = Counter::new(&probe, false);
    let mut told = None;
    tokio::time::sleep(probe.initial_delay.as_std()).await;
    loop {
        let answer = target.ask(&probe).await;
        // One answer alone may be a hiccup; and what was told is not told again.
        let counts = counter.count(answer.is_ok()).is_some();
        if counts && told.as_ref() != Some(&answer) {
            if verdicts.send(Verdict::Ready(answer.clone())).await.is_err() {
                return;
            }
            told = Some(answer);
        }
        tokio::time::sleep(probe.period.as_std()).await;
    }
}

async fn watch_liveness(target: &Target, probe: Option<Probe>, verdicts: &mpsc::Sender<Verdict>) {
    let Some(probe) = probe else { return };
    let mut counter = Counter::new(&probe, true);
    tokio::time::sleep(probe.initial_delay.as_std()).await;
    loop {
        let answer = target.ask(&probe).await;
        let error = answer.clone().err().unwrap_or_default();
        if counter.count(answer.is_ok()) == Some(false) {
            let sentence = format!(
                "its liveness probe failed {} times: {error}",
                probe.failures
            );
            let _ = verdicts.send(Verdict::Unhealthy(sentence)).await;
            return;
        }
        tokio::time::sleep(probe.period.as_std()).await;
    }
}

/// Answers in a row.
struct Counter {
    successes: u32,
    failures: u32,
    /// How often the last answer came in a row.
    row: u32,
    last: Option<bool>,
}

impl Counter {
    fn new(probe: &Probe, starts_good: bool) -> Counter {
        Counter {
            // One good answer makes a live program live, as Kubernetes demands.
            successes: if starts_good {
                1
            } else {
                probe.successes.max(1)
            },
            failures: probe.failures.max(1),
            row: 0,
            last: None,
        }
    }

    /// Good or bad once enough answers in a row say so.
    fn count(&mut self, is_good: bool) -> Option<bool> {
        self.row = if self.last == Some(is_good) {
            self.row.saturating_add(1)
        } else {
            1
        };
        self.last = Some(is_good);
        let needed = if is_good {
            self.successes
        } else {
            self.failures
        };
        (self.row >= needed).then_some(is_good)
    }
}

impl Target {
    async fn ask(&self, probe: &Probe) -> Result<(), String> {
        let timeout = probe
            .timeout
            .as_std()
            .max(std::time::Duration::from_millis(1));
        let asked = tokio::time::timeout(timeout, self.ask_once(&probe.action)).await;
        asked.unwrap_or_else(|_| Err(format!("no answer within {}", probe.timeout)))
    }

    async fn ask_once(&self, action: &ProbeAction) -> Result<(), String> {
        match action {
            ProbeAction::Http { port, path } => {
                let stream = self.connect(port).await?;
                ask_http(stream, &self.ctx.config.address, path).await
            }
            ProbeAction::Tcp { port } => self.connect(port).await.map(drop),
            ProbeAction::Exec { command } => {
                // Nothing is started in a replica that is another engine's.
                drop(self.ctx.gate.pass().await);
                let code =
                    exec::status(&self.ctx, &self.replica, &self.dir, self.run, command).await?;
                if code == 0 {
                    Ok(())
                } else {
                    Err(format!("`{}` exited with code {code}", command.join(" ")))
                }
            }
        }
    }

    async fn connect(&self, port: &str) -> Result<TcpStream, String> {
        let ports: &BTreeMap<String, u16> = &self.replica.slot().ports;
        let number = *ports
            .get(port)
            .ok_or_else(|| format!("it has no port `{port}`"))?;
        let address = &self.ctx.config.address;
        let connected = TcpStream::connect((address.as_str(), number)).await;
        connected.map_err(|error| format!("no connection to port {number}: {error}"))
    }
}

async fn ask_http(mut stream: TcpStream, host: &str, path: &str) -> Result<(), String> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: moonshot-probe\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    let sent = stream.write_all(request.as_bytes()).await;
    sent.map_err(|error| format!("the request was not taken: {error}"))?;
    let mut answer = Vec::new();
    while !answer.contains(&b'\n') && answer.len() < ANSWER_BYTES_MAX {
        let read = stream.read_buf(&mut answer).await;
        if read.map_err(|error| format!("no answer: {error}"))? == 0 {
            break;
        }
    }
    // Hear it out: a connection that is closed with its answer unread is reset, which programs log as an error.
    let rest = async {
        while answer.len() < ANSWER_BYTES_MAX {
            match stream.read_buf(&mut answer).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
    };
    // One that keeps the connection open has said what matters.
    let _ = tokio::time::timeout(REST, rest).await;
    let status = status_of(&answer).ok_or("the answer is not HTTP")?;
    if (200..400).contains(&status) {
        Ok(())
    } else {
        let body = body_of(&answer);
        let colon = if body.is_empty() { "" } else { ": " };
        Err(format!("`GET {path}` answered {status}{colon}{body}"))
    }
}

/// The beginning of an answer's text, on one line.
fn body_of(answer: &[u8]) -> String {
    let at = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let body = at.map_or(&[][..], |at| &answer[at + 4..]);
    let text = String::from_utf8_lossy(body);
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(BODY_CHARS_MAX).collect()
}

fn status_of(answer: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(
        answer
            .split(|byte| *byte == b'\r' || *byte == b'\n')
            .next()?,
    )
    .ok()?;
    let (version, rest) = line.split_once(' ')?;
    let status = rest.get(..3)?.parse().ok()?;
    version.starts_with("HTTP/1.").then_some(status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Span;

    fn probe(successes: u32, failures: u32) -> Probe {
        Probe {
            action: ProbeAction::Tcp {
                port: "http".to_owned(),
            },
            initial_delay: Span::ZERO,
            period: Span::from_secs(1),
            timeout: Span::from_secs(1),
            successes,
            failures,
        }
    }

    #[test]
    fn only_answers_in_a_row_count() {
        let check = |answers: &str, expect: &str| {
            let mut counter = Counter::new(&probe(2, 3), false);
            let verdict = |answer| match counter.count(answer == '+') {
                Some(true) => 'G',
                Some(false) => 'B',
                None => '.',
            };
            assert_eq!(
                answers.chars().map(verdict).collect::<String>(),
                expect,
                "{answers}"
            );
        };
        check("++", ".G");
        check("+-+-+", ".....");
        check("---", "..B");
        check("--+---++", ".....B.G");
    }

    #[tokio::test]
    async fn an_answer_is_heard_out() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let program = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 512];
            let _ = stream.read(&mut request).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            // The head has been read when the body is sent.
            tokio::task::yield_now().await;
            stream.write_all(&[b'x'; 2_000]).await.unwrap();
            stream.shutdown().await.unwrap();
            stream.read(&mut request).await
        };
        let probe = async {
            let stream = TcpStream::connect(address).await.unwrap();
            ask_http(stream, "h", "/").await
        };
        let (end, asked) = tokio::join!(program, probe);
        assert_eq!(asked, Ok(()));
        assert_eq!(end.unwrap(), 0, "closed, not reset");
    }

    #[test]
    fn statuses_are_read_from_the_first_line() {
        assert_eq!(status_of(b"HTTP/1.1 204 No Content\r\n"), Some(204));
        assert_eq!(status_of(b"HTTP/1.0 503\r\n"), Some(503));
        assert_eq!(status_of(b"SSH-2.0-OpenSSH_9.2\r\n"), None);
        assert_eq!(status_of(b""), None);
    }
}
