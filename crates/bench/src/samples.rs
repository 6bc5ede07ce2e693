//! Times of repeated work.

use crate::Failure;
use crate::report::{Figure, Report};
use std::time::Duration;

/// Times in milliseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn push(&mut self, took: Duration) {
        self.0.push(took.as_secs_f64() * 1e3);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The least time that this share of the samples did not exceed (nearest rank).
    pub(crate) fn percentile(&self, percent: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
        sorted
            .get(rank.clamp(1, sorted.len().max(1)) - 1)
            .copied()
            .unwrap_or(f64::NAN)
    }

    /// p50, p99 and the worst, each with what `with` adds to it.
    pub(crate) fn report(
        &self,
        report: &mut Report,
        case: &str,
        with: impl Fn(Figure) -> Figure,
    ) -> Result<(), Failure> {
        for (metric, percent) in [("p50_ms", 50.0), ("p99_ms", 99.0), ("max_ms", 100.0)] {
            report.add(with(Figure::ms(case, metric, self.percentile(percent))))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let mut samples = Samples::default();
        for n in (1..=200).rev() {
            samples.push(Duration::from_millis(n));
        }
        let round = |percent| samples.percentile(percent).round();
        assert_eq!(
            [50.0, 99.0, 100.0, 0.0].map(round),
            [100.0, 198.0, 200.0, 1.0]
        );
        assert!(Samples::default().percentile(50.0).is_nan());
    }
}
