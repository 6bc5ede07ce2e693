//! Waits of an outcome in figures that people compare.

use crate::life::Outcome;
use base::Span;

/// How long work waited.
#[derive(Clone, Copy, Debug, Default)]
pub struct Waits {
    /// Percent of work that waited at all.
    pub waited_percent: f64,
    /// Hours.
    pub mean_h: f64,
    /// Hours.
    pub p50_h: f64,
    /// Hours.
    pub p99_h: f64,
    /// Hours.
    pub max_h: f64,
    /// Held GPU time by all GPU time, until the last arrival's end.
    pub utilisation_percent: f64,
}

impl Waits {
    /// Of all work.
    pub fn of(outcome: &Outcome) -> Self {
        Self::among(outcome, |_| true)
    }

    /// Of the work whose number `is_meant` says yes to.
    pub fn among(outcome: &Outcome, is_meant: impl Fn(usize) -> bool) -> Self {
        let numbered = outcome.works.iter().enumerate();
        let meant = numbered.filter(|(number, _)| is_meant(*number));
        let mut waits: Vec<f64> = meant.map(|(_, (_, fate))| hours(fate.waited)).collect();
        waits.sort_by(f64::total_cmp);
        let n = waits.len().max(1) as f64;
        let at = |percent: usize| {
            let at = (waits.len() * percent / 100).min(waits.len().saturating_sub(1));
            waits.get(at).copied().unwrap_or(0.0)
        };
        Self {
            waited_percent: waits.iter().filter(|wait| **wait > 0.0).count() as f64 * 100.0 / n,
            mean_h: waits.iter().sum::<f64>() / n,
            p50_h: at(50),
            p99_h: at(99),
            max_h: at(100),
            utilisation_percent: outcome.used as f64 * 100.0 / (outcome.capacity.max(1)) as f64,
        }
    }
}

/// The numbers of those who waited longer than twice their wait under `base` plus an hour.
pub fn late(outcome: &Outcome, base: &Outcome) -> Vec<usize> {
    let pairs = outcome.works.iter().zip(&base.works).enumerate();
    let is_late = |own: Span, base: Span| hours(own) > 2.0 * hours(base) + 1.0;
    pairs
        .filter(|(_, ((_, own), (_, base)))| is_late(own.waited, base.waited))
        .map(|(number, _)| number)
        .collect()
}

/// A span in hours.
pub fn hours(span: Span) -> f64 {
    span.as_ms() as f64 / 3.6e6
}

/// Jain's index of fairness (1984): 1 where all are equal, 1/n where one has everything.
pub fn jain(values: &[f64]) -> f64 {
    let sum: f64 = values.iter().sum();
    let squares: f64 = values.iter().map(|value| value * value).sum();
    if squares == 0.0 {
        1.0
    } else {
        sum * sum / (values.len() as f64 * squares)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jain_is_one_where_all_are_equal() {
        assert!((jain(&[2.0, 2.0, 2.0]) - 1.0).abs() < 1e-12);
        assert!((jain(&[1.0, 0.0, 0.0, 0.0]) - 0.25).abs() < 1e-12);
    }
}
