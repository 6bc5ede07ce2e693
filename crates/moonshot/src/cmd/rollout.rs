//! `rollout`: look at and steer the rollout of an App.

use crate::age;
use crate::cmd::wait;
use crate::describe;
use crate::exit::Failure;
use crate::out::yaml_text;
use crate::session::Session;
use crate::table::table;
use crate::target;
use crate::view::of_status;
use api::app::Revision;
use api::{Kind, Object, diff};
use base::{Span, Time};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Follow a rollout until it stands. Ends with 1 where it was rolled back.
    Status {
        /// The App: `NAME` or `app/NAME`.
        app: String,
        /// Say how it is and end.
        #[arg(long)]
        no_wait: bool,
        /// How long to wait.
        #[arg(long, value_name = "TIME", default_value_t = Span::from_secs(20 * 60))]
        timeout: Span,
    },
    /// The Revisions, and what one changed.
    History {
        /// The App: `NAME` or `app/NAME`.
        app: String,
        /// Show this Revision and what it changed.
        #[arg(long, value_name = "NUMBER")]
        revision: Option<u32>,
    },
    /// Go back to a Revision.
    Undo {
        /// The App: `NAME` or `app/NAME`.
        app: String,
        /// Which. Default: the stable one before.
        #[arg(long, value_name = "NUMBER")]
        to_revision: Option<u32>,
    },
    /// Replace every replica.
    Restart {
        /// The App: `NAME` or `app/NAME`.
        app: String,
    },
}

fn app(word: &str) -> Result<String, Failure> {
    Ok(target::one(&[word.to_owned()], Some(Kind::App))?.name)
}

pub(crate) async fn run(session: &Session, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Status {
            app: word,
            no_wait,
            timeout,
        } => {
            let name = app(&word)?;
            if no_wait {
                let object = session.get(Kind::App, &name).await?;
                return session
                    .out
                    .line(format!("app/{name} {}", describe::phase(&object)));
            }
            let deadline = wait::deadline(timeout);
            let target = target::Target {
                kind: Kind::App,
                name: name.clone(),
            };
            wait::until(session, &target, &wait::Condition::Observed, deadline).await?;
            let begun = revision(&session.get(Kind::App, &name).await?);
            wait::until(
                session,
                &target,
                &wait::Condition::done(Kind::App),
                deadline,
            )
            .await?;
            let object = session.get(Kind::App, &name).await?;
            if revision(&object) < begun {
                let revisions = session.client.revisions(&session.project, &name).await?;
                return Err(rolled_back(&name, begun, &revisions));
            }
            session
                .out
                .line(format!("app/{name} {}", describe::phase(&object)))
        }
        Verb::History {
            app: word,
            revision,
        } => {
            let revisions = session
                .client
                .revisions(&session.project, &app(&word)?)
                .await?;
            match revision {
                None => session.out.table(&history(&revisions, age::now())),
                Some(number) => session.out.text(&one(&revisions, number)?),
            }
        }
        Verb::Undo {
            app: word,
            to_revision,
        } => {
            let name = app(&word)?;
            session
                .client
                .rollback(&session.project, &name, to_revision)
                .await?;
            let to = to_revision.map_or_else(
                || "the stable revision before".to_owned(),
                |number| format!("revision {number}"),
            );
            session.out.line(format!(
                "app/{name} goes back to {to}; `moonshot rollout status {name}` follows it"
            ))
        }
        Verb::Restart { app: word } => {
            let name = app(&word)?;
            session.client.restart(&session.project, &name).await?;
            session.out.line(format!(
                "app/{name} restarting; `moonshot rollout status {name}` follows it"
            ))
        }
    }
}

/// The Revision that is rolled out or stands.
fn revision(app: &Object) -> u64 {
    of_status(app, "revision").as_u64().unwrap_or(0)
}

/// The rollout that was followed gave way to an earlier Revision.
fn rolled_back(name: &str, begun: u64, revisions: &[Revision]) -> Failure {
    let of = |revision: &&Revision| u64::from(revision.number) == begun;
    let why = match revisions.iter().find(of) {
        Some(revision) if !revision.message.is_empty() => format!(": {}", revision.message),
        Some(_) | None => String::new(),
    };
    Failure::Failed(format!(
        "app/{name}: revision {begun} was rolled back{why}; `moonshot logs app/{name} --group r{begun}` has its output"
    ))
}

fn history(revisions: &[Revision], now: Time) -> String {
    let row = |revision: &Revision| {
        let age = age::short(now.since(revision.created_at));
        vec![
            revision.number.to_string(),
            revision.state.clone(),
            age,
            revision.creator.clone(),
            revision.message.clone(),
        ]
    };
    table(
        &["REVISION", "STATE", "AGE", "CREATOR", "MESSAGE"],
        &revisions.iter().map(row).collect::<Vec<_>>(),
    )
}

/// A Revision's template, and what it changed against the one before.
fn one(revisions: &[Revision], number: u32) -> Result<String, Failure> {
    let find = |number: u32| revisions.iter().find(|revision| revision.number == number);
    let revision = find(number).ok_or_else(|| {
        Failure::NotFound(format!(
            "there is no revision {number}; `rollout history` without it lists them"
        ))
    })?;
    let value = |revision: &Revision| {
        serde_json::to_value(&revision.template).map_err(|error| Failure::Failed(error.to_string()))
    };
    let template = value(revision)?;
    let mut text = yaml_text(&template);
    if let Some(before) = revisions
        .iter()
        .filter(|other| other.number < number)
        .max_by_key(|other| other.number)
    {
        text.push_str(&format!("\nChanged since revision {}:\n", before.number));
        for line in diff::lines("", &value(before)?, &template) {
            text.push_str(&format!("  {line}\n"));
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    fn revisions() -> Vec<Revision> {
        let revision = |number: u32, word: &str, state: &str, message: &str| {
            json!({
                "number": number, "template": {"command": ["serve", word]}, "createdAt": "1970-01-01T00:00:00.000Z", "creator": "ada", "state": state, "message": message,
            })
        };
        serde_json::from_value(json!([
            revision(3, "c", "RolledBack", "not ready in 10m"),
            revision(1, "a", "Target", "")
        ]))
        .unwrap()
    }

    #[test]
    fn a_rollout_that_gave_way_is_a_failure() {
        let failure = rolled_back("web", 3, &revisions());
        assert_eq!(failure.exit_code(), 1);
        assert_eq!(
            failure.to_string(),
            "app/web: revision 3 was rolled back: not ready in 10m; `moonshot logs app/web --group r3` has its output"
        );
    }

    #[test]
    fn the_history_and_one_of_it() {
        expect![[r#"
            REVISION  STATE       AGE  CREATOR  MESSAGE
            3         RolledBack  1m   ada      not ready in 10m
            1         Target      1m   ada
        "#]]
        .assert_eq(&history(&revisions(), Time::from_ms(60_000)));
        expect![[r#"
            command:
            - serve
            - c
            resources: {}
            placement: {}
            probes: {}

            Changed since revision 1:
              ~ command[1]: a -> c
        "#]]
        .assert_eq(&one(&revisions(), 3).unwrap());
        assert_eq!(one(&revisions(), 2).unwrap_err().exit_code(), 3);
    }
}
