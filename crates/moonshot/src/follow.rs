//! Following a Job: why it waits, its output, its end. `run` and `attach` share it; `logs` uses its half.

use crate::describe;
use crate::exit::Failure;
use crate::lines::{Lines, Style};
use crate::session::Session;
use api::answer::LogFrame;
use api::job::{JobPhase, JobStatus};
use api::kind::{Job, Kind, Object};
use base::{Code, Retry, Span};
use client::{LogQuery, Logs};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep};

/// How often a waiting Job is asked why.
const ASK: Duration = Duration::from_millis(700);
/// Before a lost stream is opened again.
pub(crate) const PAUSE: Duration = Duration::from_millis(500);
/// How long the server may be away before following ends.
const AWAY_MAX: Span = Span::from_secs(120);

/// Pieces of output that wait to be printed; then reading waits.
const PIECES_MAX: usize = 64;

/// What following a Job came to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    /// The Job is over.
    Over(Box<Job>),
    /// The user left; the Job goes on.
    Detached,
    /// The user wants it cancelled.
    Cancel,
}

/// Output without gaps or repetitions over several streams.
pub(crate) struct Output {
    session: Session,
    kind: Kind,
    name: String,
    query: LogQuery,
    lines: Lines,
    seen: BTreeMap<(String, u32, u32), u64>,
    stream: Option<Logs>,
    away_since: Option<Instant>,
}

impl Output {
    pub(crate) fn new(
        session: &Session,
        kind: Kind,
        name: &str,
        query: LogQuery,
        style: Style,
    ) -> Output {
        Output {
            session: session.clone(),
            kind,
            name: name.to_owned(),
            query,
            lines: Lines::new(style),
            seen: BTreeMap::new(),
            stream: None,
            away_since: None,
        }
    }

    /// Text to print next; `None` when the stream has ended.
    pub(crate) async fn next(&mut self) -> Result<Option<String>, Failure> {
        loop {
            let outcome = match &mut self.stream {
                Some(stream) => stream.next().await,
                None => {
                    let opened = self
                        .session
                        .client
                        .logs(self.kind, &self.session.project, &self.name, &self.query)
                        .await;
                    match opened {
                        Ok(stream) => {
                            // What came before was printed or not wanted; what came between must not be cut.
                            self.query.tail = None;
                            self.stream = Some(stream);
                            continue;
                        }
                        Err(error) => Err(error),
                    }
                }
            };
            match outcome {
                Ok(Some(frame)) => {
                    self.away_since = None;
                    if self.is_new(&frame) {
                        return Ok(Some(self.lines.push(&frame)));
                    }
                }
                Ok(None) => {
                    self.stream = None;
                    return Ok(None);
                }
                Err(error) if self.query.follow && error.retry() == Retry::Later => {
                    self.stream = None;
                    let since = *self.away_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > AWAY_MAX.as_std() {
                        return Err(error.into());
                    }
                    sleep(PAUSE).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// A stream that is opened again begins with what was printed before.
    fn is_new(&mut self, frame: &LogFrame) -> bool {
        let last = self
            .seen
            .entry((frame.group.clone(), frame.index, frame.attempt))
            .or_insert(0);
        let new = frame.seq > *last;
        *last = (*last).max(frame.seq);
        new
    }

    /// Lines that never ended.
    pub(crate) fn finish(&mut self) -> String {
        self.lines.finish()
    }
}

/// Whether nothing more can come from an object.
pub(crate) async fn is_over(session: &Session, kind: Kind, name: &str) -> Result<bool, Failure> {
    match session
        .client
        .get::<Object>(kind, &session.project, name)
        .await
    {
        Ok(object) => {
            let phase = crate::view::status(&object, "phase");
            Ok(JobPhase::ALL
                .iter()
                .any(|known| known.as_str() == phase && known.is_over()))
        }
        Err(error) if error.code() == Code::NotFound => Ok(true),
        // Nothing is known; the stream will tell.
        Err(error) if error.retry() == Retry::Later => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether lines need to say whose they are.
pub(crate) fn has_several(object: &Object) -> bool {
    let spec = &object.spec;
    let members: u64 = spec["groups"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|group| group["replicas"].as_u64().unwrap_or(1))
        .sum();
    let desired = crate::view::of_status(object, "replicas")
        .as_u64()
        .or(spec["replicas"].as_u64())
        .unwrap_or(1);
    match Kind::find(&object.kind) {
        Some(Kind::App) => desired > 1,
        Some(_) | None => members > 1 || spec["array"].is_object(),
    }
}

/// Follows a Job to its end, or until the user leaves.
pub(crate) async fn job(session: &Session, name: &str) -> Result<Outcome, Failure> {
    let out = session.out;
    let object = session.get(Kind::Job, name).await?;
    let style = Style {
        prefix: has_several(&object),
        timestamps: false,
    };
    let query = LogQuery {
        follow: true,
        ..LogQuery::default()
    };
    let (send, mut pieces) = mpsc::channel(PIECES_MAX);
    let mut tasks = JoinSet::new();
    // A task of its own, so that looking at the Job never cuts a stream that is being opened.
    tasks.spawn(read_on(
        Output::new(session, Kind::Job, name, query, style),
        send,
    ));
    let mut ticks = interval(ASK);
    let mut told = String::new();
    let mut over: Option<Job> = None;
    loop {
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => {
                interrupted.map_err(Failure::local("listen for Ctrl-C"))?;
                match ask(session, name).await {
                    Answer::Detach => return Ok(Outcome::Detached),
                    Answer::Cancel => return Ok(Outcome::Cancel),
                    Answer::Follow => {}
                }
            }
            piece = pieces.recv() => match piece {
                Some(Piece::Text(text)) => out.text(&text)?,
                Some(Piece::Failed(failure)) => return Err(failure),
                // The server ends a stream when the Job is over and everything was sent.
                Some(Piece::Ended) | None => {
                    let job = match over.take() {
                        Some(job) => Some(job),
                        None => look(session, name).await?,
                    };
                    if let Some(job) = job.filter(is_done) {
                        return Ok(Outcome::Over(Box::new(job)));
                    }
                }
            },
            _ = ticks.tick(), if over.is_none() => {
                let Some(job) = look(session, name).await? else { continue };
                let status = job.status.clone().unwrap_or_default();
                if status.phase.is_over() {
                    over = Some(job);
                } else {
                    tell(session, name, &status, &mut told).await;
                }
            }
        }
    }
}

fn is_done(job: &Job) -> bool {
    job.status
        .as_ref()
        .is_some_and(|status| status.phase.is_over())
}

/// What the reading task says.
enum Piece {
    Text(String),
    Ended,
    Failed(Failure),
}

/// Reads output again and again until nobody listens: between attempts a stream may end.
async fn read_on(mut output: Output, send: mpsc::Sender<Piece>) {
    loop {
        let piece = match output.next().await {
            Ok(Some(text)) => Piece::Text(text),
            Ok(None) => {
                let rest = output.finish();
                if !rest.is_empty() && send.send(Piece::Text(rest)).await.is_err() {
                    return;
                }
                Piece::Ended
            }
            Err(failure) => Piece::Failed(failure),
        };
        let ended = matches!(piece, Piece::Ended);
        if send.send(piece).await.is_err() {
            return;
        }
        if ended {
            sleep(PAUSE).await;
        }
    }
}

/// The Job as it is; `None` while the server is away.
async fn look(session: &Session, name: &str) -> Result<Option<Job>, Failure> {
    match session.client.get(Kind::Job, &session.project, name).await {
        Ok(job) => Ok(Some(job)),
        Err(error) if matches!(error.code(), Code::Unavailable | Code::Timeout) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Says what the Job waits for, once each.
async fn tell(session: &Session, name: &str, status: &JobStatus, told: &mut String) {
    let words = match status.phase {
        JobPhase::Queued => match session.client.why(Kind::Job, &session.project, name).await {
            Ok(why) => format!("waiting: {}", why.sentence),
            // It may have started in between; the next look says more.
            Err(_) => return,
        },
        JobPhase::Starting => "starting".to_owned(),
        JobPhase::Running => format!("running, attempt {}", status.attempts.max(1)),
        JobPhase::Suspending => "being suspended".to_owned(),
        JobPhase::Suspended => format!("suspended; `moonshot resume {name}` lets it go on"),
        JobPhase::Cancelling => "being cancelled".to_owned(),
        JobPhase::Succeeded | JobPhase::Failed | JobPhase::Cancelled => return,
    };
    if *told != words {
        session.out.note(format!("[job/{name}] {words}"));
        *told = words;
    }
}

enum Answer {
    Detach,
    Cancel,
    Follow,
}

/// Ctrl-C: leave, cancel, or stay. Where nobody can answer, leave.
async fn ask(session: &Session, name: &str) -> Answer {
    if !session.out.ask {
        return Answer::Detach;
    }
    session.out.note(format!(
        "\n[job/{name}] d = detach (the Job goes on), c = cancel the Job, anything else = follow on"
    ));
    let read = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|_| line)
    });
    tokio::select! {
        // A second Ctrl-C is somebody who wants to leave.
        _ = tokio::signal::ctrl_c() => Answer::Detach,
        line = read => match line {
            Ok(Ok(line)) => answer(&line),
            Ok(Err(_)) | Err(_) => Answer::Detach,
        },
    }
}

fn answer(line: &str) -> Answer {
    match line.trim().chars().next().map(|c| c.to_ascii_lowercase()) {
        Some('d') => Answer::Detach,
        Some('c') => Answer::Cancel,
        Some(_) | None => Answer::Follow,
    }
}

/// The end of a Job as an exit: its words, and its program's code where one failed.
pub(crate) fn end(job: &Job) -> (String, u8) {
    let name = &job.metadata.name;
    let status = job.status.clone().unwrap_or_default();
    let object = Object {
        api_version: job.api_version.clone(),
        kind: job.kind.clone(),
        metadata: job.metadata.clone(),
        spec: serde_json::Value::Null,
        status: serde_json::to_value(&status).ok(),
    };
    let words = format!("[job/{name}] {}", describe::phase(&object));
    let code = match status.phase {
        JobPhase::Succeeded => 0,
        _ => status
            .replicas
            .iter()
            .filter_map(|replica| replica.exit_code)
            .find(|code| *code != 0)
            .and_then(|code| u8::try_from(code).ok())
            .unwrap_or(1),
    };
    (words, code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::tests::{app, job, object};
    use serde_json::json;

    #[test]
    fn several() {
        assert!(has_several(&job()) && has_several(&app()));
        assert!(!has_several(&object(
            "Job",
            "a",
            json!({"command": ["x"]}),
            json!({})
        )));
        assert!(has_several(&object(
            "Job",
            "a",
            json!({"array": {"count": 3}}),
            json!({})
        )));
        assert!(!has_several(&object(
            "App",
            "a",
            json!({"replicas": 1}),
            json!({})
        )));
    }

    #[test]
    fn a_jobs_end_is_its_programs_end() {
        let ended = |phase: &str, codes: &[i32]| {
            let replicas: Vec<_> = codes.iter().map(|code| json!({"group": "w", "index": 0, "attempt": 1, "phase": "Exited", "exitCode": code})).collect();
            let status = json!({"phase": phase, "message": "worker/0 ended with 3", "observedGeneration": 1, "attempts": 1, "failures": 0, "replicas": replicas});
            let value = serde_json::to_value(object("Job", "a", json!({"command": ["x"]}), status))
                .unwrap();
            end(&serde_json::from_value(value).unwrap())
        };
        assert_eq!(
            ended("Failed", &[0, 3]),
            ("[job/a] Failed: worker/0 ended with 3".to_owned(), 3)
        );
        assert_eq!(ended("Failed", &[]).1, 1);
        assert_eq!(ended("Failed", &[-1]).1, 1);
        assert_eq!(ended("Cancelled", &[143]).1, 143);
        assert_eq!(ended("Succeeded", &[0, 1]).1, 0);
    }
}
