//! Figures as lines of JSON; the form is that of `docs/benchmarks.md`.

use crate::Failure;
use serde_json::json;
use std::fs::File;
use std::io::Write;

/// Where figures go.
pub(crate) struct Report {
    bench: &'static str,
    file: Option<File>,
}

/// One figure; with an aim, and whether more is better.
pub(crate) struct Figure<'a> {
    pub(crate) case: &'a str,
    pub(crate) metric: &'a str,
    pub(crate) unit: &'a str,
    pub(crate) value: f64,
    pub(crate) peer: Option<(&'a str, f64)>,
    pub(crate) aim: Option<f64>,
    pub(crate) more_is_better: bool,
}

impl Report {
    pub(crate) fn new(bench: &'static str, path: &str) -> Result<Report, Failure> {
        let file = (path != "-").then(|| File::create(path)).transpose()?;
        Ok(Report { bench, file })
    }

    pub(crate) fn add(&mut self, figure: &Figure<'_>) -> Result<(), Failure> {
        let met = figure.aim.map(|aim| {
            if figure.more_is_better {
                figure.value >= aim
            } else {
                figure.value <= aim
            }
        });
        let line = json!({
            "bench": self.bench,
            "case": figure.case,
            "metric": figure.metric,
            "value": rounded(figure.value),
            "unit": figure.unit,
            "better": if figure.more_is_better { "higher" } else { "lower" },
            "peer": figure.peer.map(|(peer, _)| peer),
            "peer_value": figure.peer.map(|(_, value)| rounded(value)),
            "aim": figure.aim.map(rounded),
            "met": met,
            "commit": std::env::var("MOONSHOT_COMMIT").unwrap_or_default(),
        });
        match &mut self.file {
            Some(file) => writeln!(file, "{line}")?,
            None => writeln!(std::io::stdout(), "{line}")?,
        }
        Ok(())
    }
}

/// To thousandths.
fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}
