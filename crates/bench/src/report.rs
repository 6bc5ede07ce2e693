//! Figures as lines of JSON.
//!
//! `{"bench", "case", "metric", "value", "unit", "better", "peer", "peer_value", "aim", "met", "commit"}`: `better` is
//! `higher` or `lower`, `aim` has the unit of `value`, `met` compares the two; what a figure does not have is null.

use crate::Failure;
use serde_json::json;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

/// Which way is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    Higher,
    Lower,
}

/// One figure.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) case: String,
    pub(crate) metric: &'static str,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    pub(crate) peer: Option<(&'static str, f64)>,
    pub(crate) aim: Option<f64>,
}

impl Figure {
    /// A time in milliseconds.
    pub(crate) fn ms(case: impl Into<String>, metric: &'static str, value: f64) -> Figure {
        Figure::new(case, metric, value, "ms", Better::Lower)
    }

    /// A rate.
    pub(crate) fn rate(case: impl Into<String>, value: f64) -> Figure {
        Figure::new(case, "rate_per_s", value, "1/s", Better::Higher)
    }

    /// How much better than a peer.
    pub(crate) fn ratio(case: impl Into<String>, value: f64) -> Figure {
        Figure::new(case, "ratio", value, "x", Better::Higher)
    }

    /// Any other.
    pub(crate) fn new(
        case: impl Into<String>,
        metric: &'static str,
        value: f64,
        unit: &'static str,
        better: Better,
    ) -> Figure {
        Figure {
            case: case.into(),
            metric,
            value,
            unit,
            better,
            peer: None,
            aim: None,
        }
    }

    /// With what a peer did in the same run.
    pub(crate) fn beside(mut self, peer: &'static str, value: f64) -> Figure {
        self.peer = Some((peer, value));
        self
    }

    /// With what it shall be.
    pub(crate) fn aim(mut self, aim: f64) -> Figure {
        self.aim = Some(aim);
        self
    }

    fn is_met(&self) -> Option<bool> {
        self.aim.map(|aim| match self.better {
            Better::Higher => self.value >= aim,
            Better::Lower => self.value <= aim,
        })
    }
}

/// Where figures go.
pub(crate) struct Report {
    bench: &'static str,
    commit: String,
    file: Option<File>,
}

impl Report {
    /// Into this file, or to standard output.
    pub(crate) fn new(bench: &'static str, path: Option<PathBuf>) -> Result<Report, Failure> {
        let file = path.map(File::create).transpose()?;
        Ok(Report {
            bench,
            commit: std::env::var("MOONSHOT_COMMIT").unwrap_or_default(),
            file,
        })
    }

    /// Writes a figure.
    pub(crate) fn add(&mut self, figure: Figure) -> Result<(), Failure> {
        let line = json!({
            "bench": self.bench,
            "case": figure.case,
            "metric": figure.metric,
            "value": rounded(figure.value),
            "unit": figure.unit,
            "better": match figure.better { Better::Higher => "higher", Better::Lower => "lower" },
            "peer": figure.peer.map(|(peer, _)| peer),
            "peer_value": figure.peer.map(|(_, value)| rounded(value)),
            "aim": figure.aim.map(rounded),
            "met": figure.is_met(),
            "commit": self.commit,
        });
        match &mut self.file {
            Some(file) => writeln!(file, "{line}")?,
            None => println!("{line}"),
        }
        Ok(())
    }
}

/// To thousandths.
fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aim_is_met_in_its_own_direction() {
        let low = Figure::ms("a", "p99_ms", 19.0);
        assert_eq!(low.clone().is_met(), None);
        assert_eq!(low.clone().aim(20.0).is_met(), Some(true));
        assert_eq!(low.aim(18.0).is_met(), Some(false));
        let high = Figure::rate("a", 19.0);
        assert_eq!(high.clone().aim(20.0).is_met(), Some(false));
        assert_eq!(high.aim(18.0).is_met(), Some(true));
    }
}
