//! One figure of a bench, as it is written for machines: a JSON object on a line.

use serde_json::{Value, json};

/// Which way is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// More.
    Higher,
    /// Less.
    Lower,
}

/// A measured figure.
#[derive(Clone, Debug)]
pub struct Line {
    /// `sched.basic`.
    pub bench: &'static str,
    /// What was measured: sizes, lists, policies.
    pub case: String,
    /// `decisions_per_s`, `p99_ms`, `ratio` …
    pub metric: &'static str,
    /// The figure.
    pub value: f64,
    /// `1/s`, `ms`, `%`, `x`, `h`, `MB` or a count's noun.
    pub unit: &'static str,
    /// Which way is good.
    pub better: Better,
    /// What it is compared with, and that one's figure in the same unit.
    pub peer: Option<(&'static str, f64)>,
    /// The figure that is asked for.
    pub aim: Option<f64>,
}

impl Line {
    /// A figure without a peer or an aim.
    pub fn new(
        bench: &'static str,
        case: impl Into<String>,
        metric: &'static str,
        value: f64,
        unit: &'static str,
        better: Better,
    ) -> Self {
        Self {
            bench,
            case: case.into(),
            metric,
            value,
            unit,
            better,
            peer: None,
            aim: None,
        }
    }

    /// With the figure of a peer.
    #[must_use]
    pub fn peer(mut self, name: &'static str, value: f64) -> Self {
        self.peer = Some((name, value));
        self
    }

    /// With the figure that is asked for.
    #[must_use]
    pub fn aim(mut self, aim: f64) -> Self {
        self.aim = Some(aim);
        self
    }

    /// Whether the aim is reached; `None` without an aim.
    pub fn met(&self) -> Option<bool> {
        let aim = self.aim?;
        Some(match self.better {
            Better::Higher => self.value >= aim,
            Better::Lower => self.value <= aim,
        })
    }

    /// The JSON object.
    pub fn json(&self, commit: &str) -> Value {
        json!({
            "bench": self.bench,
            "case": self.case,
            "metric": self.metric,
            "value": round(self.value),
            "unit": self.unit,
            "better": match self.better { Better::Higher => "higher", Better::Lower => "lower" },
            "peer": self.peer.map(|(name, _)| name),
            "peer_value": self.peer.map(|(_, value)| round(value)),
            "aim": self.aim,
            "met": self.met(),
            "commit": commit,
        })
    }

    /// A row for people.
    pub fn row(&self) -> [String; 6] {
        let peer = self
            .peer
            .map(|(name, value)| format!("{} ({name})", show(value)));
        [
            self.bench.to_owned(),
            self.case.clone(),
            self.metric.to_owned(),
            format!("{} {}", show(self.value), self.unit),
            peer.unwrap_or_default(),
            match (self.aim, self.met()) {
                (Some(aim), Some(met)) => {
                    let sign = if self.better == Better::Higher {
                        "≥"
                    } else {
                        "≤"
                    };
                    format!(
                        "{sign} {} {}",
                        show(aim),
                        if met { "met" } else { "MISSED" }
                    )
                }
                _ => String::new(),
            },
        ]
    }
}

/// Four digits behind the point are more than any of these figures is worth.
fn round(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

fn show(value: f64) -> String {
    match value.abs() {
        v if v >= 1_000.0 => group_digits(value.round() as i64),
        v if v >= 10.0 || v == 0.0 || (v - v.round()).abs() < 1e-9 => trim(format!("{value:.1}")),
        _ => trim(format!("{value:.3}")),
    }
}

fn trim(text: String) -> String {
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn group_digits(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_shown_as_people_write_them() {
        let shown = [1_234_567.0, -1_000.0, 95.391, 0.0526, 20.0, 0.0, 1.0].map(show);
        assert_eq!(
            shown,
            ["1,234,567", "-1,000", "95.4", "0.053", "20", "0", "1"]
        );
    }

    #[test]
    fn an_aim_is_met_in_its_direction() {
        let line = |better| Line::new("b", "c", "m", 5.0, "s", better).aim(4.0).met();
        assert_eq!(line(Better::Higher), Some(true));
        assert_eq!(line(Better::Lower), Some(false));
    }
}
