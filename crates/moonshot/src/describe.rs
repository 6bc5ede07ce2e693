//! Everything about one object, on one page.

use crate::age;
use crate::table::table;
use crate::view::{of_status, status, text};
use api::answer::JobAttempt;
use api::kind::{Event, Kind, Object};
use base::Time;
use serde_json::Value;
use std::fmt::Write as _;

/// Attempts that are shown.
const ATTEMPTS_MAX: usize = 50;

/// Fields of status that have a section of their own.
const SECTIONS: [&str; 5] = ["replicas", "instances", "outputs", "conditions", "devices"];

/// Tries of a Job's restart units, the newest last.
pub(crate) fn attempts(attempts: &[JobAttempt], now: Time) -> String {
    let skipped = attempts.len().saturating_sub(ATTEMPTS_MAX);
    let row = |attempt: &JobAttempt| {
        let unit = attempt.unit.map(|index| format!("index {index}, "));
        let ended = attempt.finished_at.map(|at| age::short(now.since(at)));
        vec![
            format!("{}{}", unit.unwrap_or_default(), attempt.attempt),
            attempt.phase.clone(),
            if attempt.charged { "yes" } else { "no" }.to_owned(),
            ended.unwrap_or_default(),
            attempt.message.clone(),
        ]
    };
    let rows: Vec<Vec<String>> = attempts[skipped..].iter().map(row).collect();
    let mut page = String::new();
    section(
        &mut page,
        "Attempts",
        &table(&["ATTEMPT", "PHASE", "CHARGED", "ENDED", "MESSAGE"], &rows),
    );
    page
}

/// The page. `why` is what blocks it, where something does.
pub(crate) fn page(object: &Object, events: &[Event], why: Option<&str>, now: Time) -> String {
    let mut page = String::new();
    head(&mut page, object, now);
    if let Some(why) = why {
        line(&mut page, "Why", why);
    }
    status_lines(&mut page, object, now);
    // For an App `replicas` is a count.
    for field in ["replicas", "instances"] {
        if let Some(replicas) = of_status(object, field)
            .as_array()
            .filter(|replicas| !replicas.is_empty())
        {
            section(&mut page, "Replicas", &replica_table(replicas, now));
        }
    }
    if let Some(outputs) = of_status(object, "outputs")
        .as_array()
        .filter(|outputs| !outputs.is_empty())
    {
        let rows: Vec<Vec<String>> = outputs
            .iter()
            .map(|output| {
                ["name", "size", "replica"]
                    .map(|field| text(&output[field]))
                    .to_vec()
            })
            .collect();
        section(
            &mut page,
            "Outputs",
            &table(&["NAME", "SIZE", "FROM"], &rows),
        );
    }
    if let Some(devices) = of_status(object, "devices")
        .as_array()
        .filter(|devices| !devices.is_empty())
    {
        let rows: Vec<Vec<String>> = devices
            .iter()
            .map(|device| {
                ["id", "class", "model", "memory", "sick"]
                    .map(|field| text(&device[field]))
                    .to_vec()
            })
            .collect();
        section(
            &mut page,
            "Devices",
            &table(&["ID", "CLASS", "MODEL", "MEMORY", "SICK"], &rows),
        );
    }
    let delivery = of_status(object, "delivery");
    if delivery.is_object() {
        section(
            &mut page,
            "Delivery",
            crate::out::yaml_text(delivery).trim_end(),
        );
    }
    if let Some(conditions) = of_status(object, "conditions")
        .as_array()
        .filter(|conditions| !conditions.is_empty())
    {
        let row = |condition: &Value| {
            let holds = if condition["status"] == Value::Bool(true) {
                "yes"
            } else {
                "no"
            };
            vec![
                text(&condition["type"]),
                holds.to_owned(),
                age::since(now, &text(&condition["since"])),
                text(&condition["reason"]),
                text(&condition["message"]),
            ]
        };
        section(
            &mut page,
            "Conditions",
            &table(
                &["TYPE", "HOLDS", "SINCE", "REASON", "MESSAGE"],
                &conditions.iter().map(row).collect::<Vec<_>>(),
            ),
        );
    }
    section(
        &mut page,
        "Spec",
        crate::out::yaml_text(&object.spec).trim_end(),
    );
    if !events.is_empty() {
        let row = |event: &Event| {
            let spec = &event.spec;
            let kind = if spec.type_ == api::event::EventType::Warning {
                "Warning"
            } else {
                "Normal"
            };
            vec![
                age::short(now.since(spec.last_at)),
                kind.to_owned(),
                spec.reason.clone(),
                spec.count.to_string(),
                spec.message.clone(),
            ]
        };
        section(
            &mut page,
            "Events",
            &table(
                &["LAST", "TYPE", "REASON", "COUNT", "MESSAGE"],
                &events.iter().map(row).collect::<Vec<_>>(),
            ),
        );
    }
    page
}

fn line(page: &mut String, name: &str, value: &str) {
    writeln!(page, "{:<17} {value}", format!("{name}:")).expect("writing to a String cannot fail");
}

fn section(page: &mut String, title: &str, body: &str) {
    writeln!(page, "{title}:").expect("writing to a String cannot fail");
    for row in body.lines() {
        writeln!(page, "{}", format!("  {row}").trim_end())
            .expect("writing to a String cannot fail");
    }
}

fn head(page: &mut String, object: &Object, now: Time) {
    let metadata = &object.metadata;
    line(page, "Kind", &object.kind);
    line(page, "Name", &metadata.name);
    if Kind::find(&object.kind).is_some_and(|kind| kind.scope() == api::Scope::Project) {
        line(page, "Project", &metadata.project);
    }
    if let Some(uid) = metadata.uid {
        line(page, "Uid", &uid.to_string());
    }
    for (title, who) in [("Owner", &metadata.owner), ("Creator", &metadata.creator)] {
        if let Some(who) = who {
            line(page, title, who);
        }
    }
    if let Some(created) = metadata.created_at {
        line(
            page,
            "Created",
            &format!("{created} ({} ago)", age::short(now.since(created))),
        );
    }
    if let Some(deleted) = metadata.deleted_at {
        line(
            page,
            "Deleting",
            &format!("for {}", age::short(now.since(deleted))),
        );
    }
    for (title, map) in [
        ("Labels", &metadata.labels),
        ("Annotations", &metadata.annotations),
    ] {
        if !map.is_empty() {
            let pairs: Vec<String> = map
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            line(page, title, &pairs.join(", "));
        }
    }
}

/// Scalars of the status, in the server's order.
fn status_lines(page: &mut String, object: &Object, now: Time) {
    let Some(Value::Object(fields)) = &object.status else {
        return;
    };
    for (name, value) in fields {
        if SECTIONS.contains(&name.as_str()) && value.is_array() {
            continue;
        }
        let shown = match value {
            Value::String(time) if name.ends_with("At") => {
                format!("{time} ({} ago)", age::since(now, time))
            }
            Value::String(stored) if name == "stored" => {
                let limit = text(&object.spec["storage"]);
                let limit = if limit.is_empty() {
                    api::platform::STORAGE_DEFAULT.to_string()
                } else {
                    limit
                };
                format!("{stored} of {limit}")
            }
            Value::Object(_) => inline(value),
            Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
            scalar => text(scalar),
        };
        if !shown.is_empty() && name != "observedGeneration" {
            line(page, &title(name), &shown);
        }
    }
}

/// `cpu 2, memory 4Gi`.
fn inline(value: &Value) -> String {
    let Value::Object(fields) = value else {
        return text(value);
    };
    fields
        .iter()
        .map(|(name, value)| format!("{name} {}", inline(value)))
        .collect::<Vec<_>>()
        .join(", ")
}

/// `stableRevision` as `Stable revision`.
fn title(field: &str) -> String {
    let mut title = String::new();
    for c in field.chars() {
        if title.is_empty() {
            title.extend(c.to_uppercase());
        } else if c.is_uppercase() {
            title.push(' ');
            title.extend(c.to_lowercase());
        } else {
            title.push(c);
        }
    }
    title
}

fn replica_table(replicas: &[Value], now: Time) -> String {
    let row = |replica: &Value| {
        vec![
            format!("{}/{}", text(&replica["group"]), text(&replica["index"])),
            text(&replica["attempt"]),
            text(&replica["phase"]),
            text(&replica["node"]),
            age::since(now, &text(&replica["startedAt"])),
            text(&replica["exitCode"]),
            text(&replica["memoryPeak"]),
            text(&replica["message"]),
        ]
    };
    table(
        &[
            "REPLICA", "ATTEMPT", "PHASE", "NODE", "STARTED", "EXIT", "PEAK", "MESSAGE",
        ],
        &replicas.iter().map(row).collect::<Vec<_>>(),
    )
}

/// The phase with its reason, for one line.
pub(crate) fn phase(object: &Object) -> String {
    let (phase, reason, message) = (
        status(object, "phase"),
        status(object, "reason"),
        status(object, "message"),
    );
    match (reason.is_empty(), message.is_empty()) {
        (true, true) => phase,
        (false, true) => format!("{phase} ({reason})"),
        (_, false) => format!("{phase}: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::tests::{NOW, app, job};
    use expect_test::expect;
    use serde_json::json;

    #[test]
    fn a_job() {
        let event: Event = serde_json::from_value(json!({
            "apiVersion": "moonshot/v1", "kind": "Event", "metadata": {"name": "e"},
            "spec": {"objectKind": "Job", "objectName": "flights", "objectUid": "", "type": "Normal", "reason": "Admitted", "message": "2 replicas on n1", "firstAt": NOW.to_string(), "lastAt": NOW.to_string(), "count": 1},
        }))
        .unwrap();
        expect![[r#"
            Kind:             Job
            Name:             flights
            Project:          default
            Owner:            ada
            Created:          2026-11-18T10:05:00.000Z (1h1m ago)
            Labels:           team=a
            Why:              waits for worker/1
            Phase:            Running
            Attempts:         2
            Failures:         1
            Started at:       2026-11-18T10:56:40.000Z (10m ago)
            Replicas:
              REPLICA   ATTEMPT  PHASE    NODE  STARTED  EXIT  PEAK   MESSAGE
              worker/0  2        Running  n1    1m1s           512Mi
              worker/1  2        Pending                              waits for worker/0
            Outputs:
              NAME   SIZE  FROM
              model  12Mi  worker/0
            Conditions:
              TYPE      HOLDS  SINCE  REASON  MESSAGE
              Admitted  yes    10m    Fits    2 replicas on n1
            Spec:
              command:
              - python
              - train.py
              queue: research
              groups:
              - name: worker
                replicas: 2
            Events:
              LAST  TYPE    REASON    COUNT  MESSAGE
              0s    Normal  Admitted  1      2 replicas on n1
        "#]]
        .assert_eq(&page(&job(), &[event], Some("waits for worker/1"), NOW));
    }

    #[test]
    fn an_app() {
        expect![[r#"
            Kind:             App
            Name:             flights
            Project:          default
            Owner:            ada
            Created:          2026-11-18T10:05:00.000Z (1h1m ago)
            Labels:           team=a
            Phase:            Ready
            Replicas:         2
            Ready:            2
            Updated:          2
            Revision:         3
            Stable revision:  3
            Url:              http://127.0.0.1:8080/default/flights
            Spec:
              template:
                command:
                - python
                - serve.py
        "#]]
        .assert_eq(&page(&app(), &[], None, NOW));
    }
}
