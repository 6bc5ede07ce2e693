//! What a life gave, in words: a table by kind of work, expectations, and what was told.

use super::{Expect, Measure, Scenario};
use crate::life::{Fate, Outcome, Work};
use crate::waits::Waits;
use base::{Span, Time};
use serde_json::{Value, json};
use std::fmt::Write;

/// An expectation with what came about.
#[derive(Clone, Debug)]
pub struct Check {
    /// As it was written.
    pub text: String,
    /// What came about.
    pub found: f64,
    /// Whether it is as expected.
    pub met: bool,
}

/// Whether all came about that was expected. That no promise is uncovered is expected always.
pub fn check(scenario: &Scenario, outcome: &Outcome) -> Vec<Check> {
    let covered = Expect {
        measure: Measure::Complaints,
        of: None,
        sign: "=".to_owned(),
        value: 0.0,
    };
    let all = scenario.expects.iter().chain(std::iter::once(&covered));
    all.map(|expect| {
        let found = measure(expect.measure, expect.of.as_deref(), outcome);
        let met = match expect.sign.as_str() {
            "<=" => found <= expect.value,
            ">=" => found >= expect.value,
            _ => (found - expect.value).abs() < 1e-6,
        };
        let of = expect
            .of
            .as_ref()
            .map_or(String::new(), |of| format!(" of {of}"));
        let (name, sign) = (expect.measure.name(), &expect.sign);
        Check {
            text: format!("{name}{of} {sign} {}", show(expect.measure, expect.value)),
            found,
            met,
        }
    })
    .collect()
}

fn measure(measure: Measure, of: Option<&str>, outcome: &Outcome) -> f64 {
    let is_meant = |work: &Work| {
        of.is_none_or(|of| work.class == of || work.spec.queue == of || work.spec.name == of)
    };
    let meant = || outcome.works.iter().filter(|(work, _)| is_meant(work));
    let sum = |figure: fn(&Fate) -> f64| meant().map(|(_, fate)| figure(fate)).sum::<f64>();
    let waits = || Waits::among(outcome, |number| is_meant(&outcome.works[number].0));
    match measure {
        Measure::Finished => meant().filter(|(_, fate)| fate.ended.is_some()).count() as f64,
        Measure::Unfinished => meant().filter(|(_, fate)| fate.ended.is_none()).count() as f64,
        Measure::Evictions => sum(|fate| f64::from(fate.evictions)),
        Measure::Faults => sum(|fate| f64::from(fate.faults)),
        Measure::MeanWait => waits().mean_h * 3_600.0,
        Measure::P99Wait => waits().p99_h * 3_600.0,
        Measure::MaxWait => waits().max_h * 3_600.0,
        Measure::Held => sum(|fate| fate.held as f64) * 100.0 / outcome.capacity.max(1) as f64,
        Measure::Lost => {
            sum(|fate| fate.lost as f64) * 100.0 / sum(|fate| fate.held as f64).max(1.0)
        }
        Measure::Complaints => outcome.complaints.len() as f64,
    }
}

fn show(measure: Measure, value: f64) -> String {
    match measure {
        Measure::MeanWait | Measure::P99Wait | Measure::MaxWait => {
            Span::from_ms((value * 1e3).round() as u64).to_string()
        }
        Measure::Held | Measure::Lost => format!("{value:.2}"),
        Measure::Finished
        | Measure::Unfinished
        | Measure::Evictions
        | Measure::Faults
        | Measure::Complaints => format!("{value}"),
    }
}

/// `1d 08:30:00` since the beginning.
pub(crate) fn clock(time: Time) -> String {
    let seconds = time.as_ms() / 1_000;
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    format!(
        "{days}d {:02}:{:02}:{:02}",
        rest / 3_600,
        rest / 60 % 60,
        rest % 60
    )
}

/// What was told, one line each.
pub fn told(outcome: &Outcome) -> String {
    let lines = outcome.told.iter();
    lines
        .map(|(time, what)| format!("{}  {what}\n", clock(*time)))
        .collect()
}

/// The life as a table.
pub fn summary(scenario: &Scenario, policy: &str, outcome: &Outcome, checks: &[Check]) -> String {
    let mut text = format!(
        "{} — policy {policy}, seed {}, {} until {}\n\n",
        if scenario.title.is_empty() {
            "scenario"
        } else {
            &scenario.title
        },
        scenario.seed,
        count(outcome.works.len(), "piece of work", "pieces of work"),
        clock(outcome.until)
    );
    let _ = writeln!(
        text,
        "{:<16} {:>6} {:>8} {:>10} {:>10} {:>10} {:>9} {:>6} {:>6}",
        "work",
        "number",
        "finished",
        "mean wait",
        "p99 wait",
        "max wait",
        "evictions",
        "faults",
        "lost %"
    );
    let mut classes: Vec<&str> = Vec::new();
    for (work, _) in &outcome.works {
        if !classes.contains(&work.class.as_str()) {
            classes.push(&work.class);
        }
    }
    for class in classes {
        let of = |what| show(what, measure(what, Some(class), outcome));
        let number = outcome
            .works
            .iter()
            .filter(|(work, _)| work.class == class)
            .count();
        let _ = writeln!(
            text,
            "{class:<16} {number:>6} {:>8} {:>10} {:>10} {:>10} {:>9} {:>6} {:>6}",
            of(Measure::Finished),
            rough(measure(Measure::MeanWait, Some(class), outcome)),
            rough(measure(Measure::P99Wait, Some(class), outcome)),
            rough(measure(Measure::MaxWait, Some(class), outcome)),
            of(Measure::Evictions),
            of(Measure::Faults),
            of(Measure::Lost),
        );
    }
    let _ = writeln!(
        text,
        "\n{} % of GPU time held",
        show(Measure::Held, measure(Measure::Held, None, outcome))
    );
    for (reason, times) in &outcome.evictions {
        let _ = writeln!(
            text,
            "{} because: {reason}",
            count(*times as usize, "stop", "stops")
        );
    }
    for complaint in &outcome.complaints {
        let _ = writeln!(text, "wrong: {complaint}");
    }
    for check in checks {
        let sign = if check.met {
            "as expected"
        } else {
            "NOT as expected"
        };
        let _ = writeln!(text, "{sign}: {} (found {:.2})", check.text, check.found);
    }
    text
}

/// A wait to whole seconds, and no finer than is worth reading.
fn rough(seconds: f64) -> String {
    let step = match seconds {
        s if s < 600.0 => 1.0,
        s if s < 36_000.0 => 60.0,
        _ => 600.0,
    };
    let rounded = (seconds / step).round() * step;
    Span::from_ms((rounded * 1e3) as u64).to_string()
}

fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Expectations as JSON.
pub fn checks_json(checks: &[Check]) -> Value {
    let checks = checks
        .iter()
        .map(|check| json!({"expect": check.text, "found": check.found, "met": check.met}));
    Value::Array(checks.collect())
}
