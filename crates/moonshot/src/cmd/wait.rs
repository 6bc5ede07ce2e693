//! `wait`: until an object is in a state.

use crate::describe;
use crate::exit::Failure;
use crate::session::Session;
use crate::target::{self, Target};
use crate::view::{of_status, status};
use api::{Kind, Object};
use base::{Code, Span};
use serde_json::Value;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Between two looks; short at first, so that what is ready at once costs nothing.
const LOOK_MIN: Duration = Duration::from_millis(100);
const LOOK_MAX: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `KIND NAME…` or `KIND/NAME…`.
    #[arg(required = true, value_name = "OBJECT")]
    objects: Vec<String>,
    /// `phase=A[,B]`, `condition=TYPE`, `delivery[=A,B]` (`Delivered`), `delete`, or `done`: a Job is over, an App or Environment ready.
    #[arg(long = "for", value_name = "STATE", default_value = "done")]
    state: String,
    /// How long.
    #[arg(long, value_name = "TIME", default_value_t = Span::from_secs(300))]
    timeout: Span,
}

pub(crate) async fn run(session: &Session, args: &Args) -> Result<(), Failure> {
    let deadline = deadline(args.timeout);
    let targets = target::many(&args.objects)?;
    if targets.is_empty() {
        return Err(Failure::Usage(
            "for which one? write for example `job/flights`".to_owned(),
        ));
    }
    for target in targets {
        let condition = parse(&args.state, target.kind)?;
        until(session, &target, &condition, deadline).await?;
        session
            .out
            .line(format!("{}: {}", target.show(), condition.show()))?;
    }
    Ok(())
}

/// When a wait ends.
pub(crate) fn deadline(timeout: Span) -> Instant {
    // Longer than anybody waits; a sum beyond the clock's end would panic.
    const LONGEST: Span = Span::from_secs(10 * 365 * 86_400);
    Instant::now() + timeout.min(LONGEST).as_std()
}

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// One of these phases.
    Phase(Vec<String>),
    /// A condition of the status holds.
    Holds(String),
    /// What a Job delivers is so far.
    Delivery(Vec<String>),
    /// There is no such object.
    Gone,
    /// Nothing can be waited for: it is there.
    There,
    /// Its status is about its present spec.
    Observed,
}

impl Condition {
    /// Ready, or over.
    pub(crate) fn done(kind: Kind) -> Condition {
        let phase = |word: &str| Condition::Phase(vec![word.to_owned()]);
        match kind {
            Kind::Job => phase("Succeeded"),
            Kind::App => phase("Ready"),
            Kind::Environment => phase("Ready"),
            _ => Condition::There,
        }
    }

    fn show(&self) -> String {
        match self {
            Condition::Phase(phases) | Condition::Delivery(phases) => phases.join(" or "),
            Condition::Holds(kind) => kind.clone(),
            Condition::Gone => "gone".to_owned(),
            Condition::There => "there".to_owned(),
            Condition::Observed => "observed".to_owned(),
        }
    }
}

fn parse(text: &str, kind: Kind) -> Result<Condition, Failure> {
    match text.split_once('=') {
        Some(("phase", phases)) => Ok(Condition::Phase(
            phases.split(',').map(str::to_owned).collect(),
        )),
        Some(("condition", kind)) => Ok(Condition::Holds(kind.to_owned())),
        Some(("delivery", phases)) => Ok(Condition::Delivery(
            phases.split(',').map(str::to_owned).collect(),
        )),
        None if text == "delivery" => Ok(Condition::Delivery(vec!["Delivered".to_owned()])),
        None if text == "delete" => Ok(Condition::Gone),
        None if text == "done" => Ok(Condition::done(kind)),
        Some(_) | None => Err(Failure::Usage(format!(
            "`{text}` is not a state; write `phase=Running`, `condition=Ready`, `delivery`, `delete` or `done`"
        ))),
    }
}

/// What one look says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Look {
    Met,
    NotYet,
    /// It can never be met.
    Never,
}

/// Waits; fails early when the state can no longer come.
pub(crate) async fn until(
    session: &Session,
    target: &Target,
    condition: &Condition,
    deadline: Instant,
) -> Result<(), Failure> {
    let mut pause = LOOK_MIN;
    loop {
        let found = match session
            .client
            .get::<Object>(target.kind, &session.project, &target.name)
            .await
        {
            Ok(object) => Some(object),
            Err(error) if error.code() == Code::NotFound => None,
            // The server may be starting anew; the deadline decides.
            Err(error)
                if matches!(error.code(), Code::Unavailable | Code::Timeout)
                    && Instant::now() < deadline =>
            {
                sleep(pause).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let seen = match (&found, look(target.kind, condition, found.as_ref())) {
            (_, Look::Met) => return Ok(()),
            (None, _) => return Err(Failure::NotFound(format!("there is no {}", target.show()))),
            (Some(object), Look::Never) => {
                return Err(Failure::Failed(format!(
                    "{} will not become {} any more: it is {}",
                    target.show(),
                    condition.show(),
                    describe::phase(object)
                )));
            }
            (Some(object), Look::NotYet) => describe::phase(object),
        };
        if Instant::now() >= deadline {
            return Err(Failure::Timeout(format!(
                "{} is not {} in time; it is {seen} (`moonshot why {}` may say more)",
                target.show(),
                condition.show(),
                target.show()
            )));
        }
        sleep(pause.min(deadline.saturating_duration_since(Instant::now()))).await;
        pause = (pause * 2).min(LOOK_MAX);
    }
}

fn look(kind: Kind, condition: &Condition, object: Option<&Object>) -> Look {
    let Some(object) = object else {
        return if *condition == Condition::Gone {
            Look::Met
        } else {
            Look::NotYet
        };
    };
    // A status of an older spec says nothing about this one.
    let observed = of_status(object, "observedGeneration").as_u64();
    let is_current = observed.is_none_or(|observed| {
        object
            .metadata
            .generation
            .is_none_or(|generation| observed >= generation.0)
    });
    let phase = status(object, "phase");
    let met = match condition {
        Condition::There => true,
        Condition::Observed => observed.is_some() && is_current,
        Condition::Gone | Condition::Delivery(_) => false,
        Condition::Phase(phases) => is_current && phases.contains(&phase),
        Condition::Holds(kind) => of_status(object, "conditions")
            .as_array()
            .into_iter()
            .flatten()
            .any(|condition| {
                condition["type"] == kind.as_str() && condition["status"] == Value::Bool(true)
            }),
    };
    if let Condition::Delivery(wanted) = condition {
        return delivery(wanted, object);
    }
    let last_word = match kind {
        Kind::Job => ["Succeeded", "Failed", "Cancelled"].contains(&phase.as_str()),
        Kind::Environment => phase == "Failed",
        _ => false,
    };
    match (met, condition) {
        (true, _) => Look::Met,
        (false, Condition::Gone) => Look::NotYet,
        (false, _) if last_word && is_current => Look::Never,
        (false, _) => Look::NotYet,
    }
}

/// How far a Job's delivery is; none comes of a Job that did not succeed, or has nothing to deliver.
fn delivery(wanted: &[String], object: &Object) -> Look {
    let found = of_status(object, "delivery")["phase"].as_str();
    match found {
        Some(found) if wanted.iter().any(|wanted| wanted == found) => Look::Met,
        Some("Delivered" | "Refused" | "NotTaken") => Look::Never,
        _ if object.spec["deliver"].is_null() => Look::Never,
        _ if ["Failed", "Cancelled"].contains(&status(object, "phase").as_str()) => Look::Never,
        _ => Look::NotYet,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::tests::object;
    use serde_json::json;

    #[test]
    fn looks() {
        let check = |kind: Kind, state: &str, phase: Option<&str>, expect: Look| {
            let object = phase.map(|phase| {
                object(
                    kind.as_str(),
                    "a",
                    json!({}),
                    json!({"phase": phase, "conditions": [{"type": "Admitted", "status": true}]}),
                )
            });
            let condition = parse(state, kind).unwrap();
            assert_eq!(
                look(kind, &condition, object.as_ref()),
                expect,
                "{state} {phase:?}"
            );
        };
        check(Kind::Job, "done", Some("Running"), Look::NotYet);
        check(Kind::Job, "done", Some("Succeeded"), Look::Met);
        check(Kind::Job, "done", Some("Failed"), Look::Never);
        check(
            Kind::Job,
            "phase=Failed,Cancelled",
            Some("Failed"),
            Look::Met,
        );
        check(Kind::Job, "phase=Running", Some("Succeeded"), Look::Never);
        check(Kind::Job, "condition=Admitted", Some("Running"), Look::Met);
        check(Kind::Job, "delete", Some("Succeeded"), Look::NotYet);
        check(Kind::Job, "delete", None, Look::Met);
        check(Kind::App, "done", Some("Degraded"), Look::NotYet);
        check(
            Kind::Environment,
            "phase=Ready",
            Some("Failed"),
            Look::Never,
        );
        check(Kind::Queue, "done", Some(""), Look::Met);
        assert!(parse("x=y", Kind::Job).is_err() && parse("x", Kind::Job).is_err());
    }

    #[test]
    fn deliveries_are_waited_for() {
        let check = |wanted: &str, phase: &str, delivery: Option<&str>, expect: Look| {
            let status =
                json!({"phase": phase, "delivery": delivery.map(|phase| json!({"phase": phase}))});
            let job = object("Job", "a", json!({"deliver": {"model": "m"}}), status);
            let condition = parse(wanted, Kind::Job).unwrap();
            assert_eq!(
                look(Kind::Job, &condition, Some(&job)),
                expect,
                "{wanted} {phase} {delivery:?}"
            );
        };
        check("delivery", "Running", None, Look::NotYet);
        check("delivery", "Succeeded", None, Look::NotYet);
        check("delivery", "Succeeded", Some("Canary"), Look::NotYet);
        check("delivery", "Succeeded", Some("Delivered"), Look::Met);
        check("delivery", "Succeeded", Some("Refused"), Look::Never);
        check("delivery", "Failed", None, Look::Never);
        check(
            "delivery=Refused,NotTaken",
            "Succeeded",
            Some("NotTaken"),
            Look::Met,
        );
        let job = object("Job", "a", json!({}), json!({"phase": "Succeeded"}));
        let condition = parse("delivery", Kind::Job).unwrap();
        assert_eq!(look(Kind::Job, &condition, Some(&job)), Look::Never);
    }

    #[test]
    fn an_old_status_is_not_believed() {
        let mut app = object(
            "App",
            "a",
            json!({}),
            json!({"phase": "Ready", "observedGeneration": 1}),
        );
        app.metadata.generation = Some(base::Generation(2));
        assert_eq!(
            look(Kind::App, &Condition::done(Kind::App), Some(&app)),
            Look::NotYet
        );
    }
}
