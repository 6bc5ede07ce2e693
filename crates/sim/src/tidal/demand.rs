//! What Apps need, minute by minute: two weeks from the shape of one day, and what can be known of it in time.

use super::{DAYS, MINUTES};
use crate::cells::Table;
use crate::data::DataError;
use crate::dice::Dice;
use std::path::Path;

/// Saturday and Sunday are quieter.
const WEEKEND: f64 = 0.75;
/// A replica is ready so many minutes after it was first needed: a measurement is a minute old, others leave, it loads.
const LEAD: usize = 3;

/// Demand in GPUs, minute by minute; the first week is history.
#[derive(Clone, Debug)]
pub struct Demand {
    minutes: Vec<f64>,
}

/// Reads the shape of a day: 24 values, of which the largest is 1.
pub fn read_curve(path: &Path) -> Result<Vec<f64>, DataError> {
    let table = Table::read(path)?;
    let mut samples: Vec<(f64, f64)> = Vec::new();
    for line in table.lines() {
        samples.push((line.number("timestamp_anon")?, line.number("value")?));
    }
    let first = samples
        .iter()
        .map(|(time, _)| *time)
        .fold(f64::INFINITY, f64::min);
    let last = samples.iter().map(|(time, _)| *time).fold(first, f64::max);
    let mut hours = vec![0.0; 24];
    for (time, value) in samples {
        // What was sampled in less than a day is stretched to one.
        let hour = ((time - first) / (last - first).max(1.0) * 24.0) as usize;
        hours[hour.min(23)] += value;
    }
    let most = hours.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    Ok(hours.into_iter().map(|hour| hour / most).collect())
}

impl Demand {
    /// Two weeks of demand from the shape of a day.
    pub fn new(curve: &[f64], peak: f64, seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x71da1);
        let days: Vec<(f64, f64)> = (0..2 * DAYS)
            .map(|day| {
                let size = (0.08 * dice.normal()).exp() * if day % 7 >= 5 { WEEKEND } else { 1.0 };
                (size, (dice.unit() * 2.0 - 1.0) * 45.0)
            })
            .collect();
        // A day passes into the next at its quietest hour: a shift moves the whole of it, and does not tear it at midnight.
        let quietest = position(curve, |a, b| a.total_cmp(b)) * 60 + 30;
        let mut minutes: Vec<f64> = (0..2 * DAYS * MINUTES)
            .map(|minute| {
                let begun = minute / MINUTES + usize::from(minute % MINUTES >= quietest);
                let (size, shift) = days[begun.min(days.len() - 1)];
                peak * size * at(curve, (minute % MINUTES) as f64 - shift)
            })
            .collect();
        // The flash crowd: within two minutes 300 GPUs more, for forty minutes, in the busy part of the day.
        let busiest = position(curve, |a, b| b.total_cmp(a)) * 60 + 30;
        let from = (DAYS + 4) * MINUTES + busiest;
        for (minute, demand) in minutes[from..from + 40].iter_mut().enumerate() {
            *demand += 0.3 * peak * ((minute + 1) as f64 / 2.0).min(1.0);
        }
        Self { minutes }
    }

    pub(super) fn now(&self, minute: usize) -> f64 {
        let minute = DAYS * MINUTES + minute;
        self.minutes[minute.min(self.minutes.len() - 1)]
    }

    /// What the seven days before today needed around a minute of today or tomorrow, at the upper quartile, weekdays and
    /// weekends apart.
    pub(super) fn forecast(&self, today: usize, minute: usize) -> f64 {
        let is_weekend = |day: usize| day % 7 >= 5;
        let alike = (today..today + DAYS)
            .filter(|past| is_weekend(*past) == is_weekend(minute / MINUTES))
            .map(|past| {
                let around = past * MINUTES + minute % MINUTES;
                let around = around.saturating_sub(10)..(around + 10).min((today + DAYS) * MINUTES);
                self.minutes[around].iter().copied().fold(0.0, f64::max)
            });
        upper_quartile(alike.collect())
    }

    /// How much demand rose at the most while a replica becomes ready, in the seven days before today, at their upper
    /// quartile.
    pub(super) fn steepest(&self, today: usize) -> f64 {
        let of_day = |day: usize| {
            let minutes = &self.minutes[day * MINUTES..(day + 1) * MINUTES];
            let rises = minutes.windows(LEAD + 1).map(|part| part[LEAD] - part[0]);
            rises.fold(0.0, f64::max)
        };
        upper_quartile((today..today + DAYS).map(of_day).collect())
    }

    /// GPU hours of the week.
    pub fn gpu_hours(&self) -> f64 {
        self.minutes[DAYS * MINUTES..].iter().sum::<f64>() / 60.0
    }
}

/// A day's curve between its hours.
fn at(curve: &[f64], minute: f64) -> f64 {
    let hour = (minute / 60.0 - 0.5).rem_euclid(curve.len() as f64);
    let (low, part) = (hour.floor() as usize % curve.len(), hour.fract());
    curve[low] * (1.0 - part) + curve[(low + 1) % curve.len()] * part
}

/// The position of the first value in an order.
fn position(values: &[f64], order: impl Fn(&f64, &f64) -> std::cmp::Ordering) -> usize {
    let first = values.iter().enumerate().min_by(|a, b| order(a.1, b.1));
    first.map_or(0, |(at, _)| at)
}

fn upper_quartile(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let quartile = values.get(values.len() * 3 / 4).or(values.last());
    quartile.copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp() -> Vec<f64> {
        (0..24).map(|hour| f64::from(hour) / 23.0).collect()
    }

    #[test]
    fn a_forecast_sees_past_days_only() {
        let mut demand = Demand::new(&ramp(), 1_000.0, 1);
        let seen = |demand: &Demand| {
            let tomorrow = demand.forecast(2, 3 * MINUTES + 600);
            (
                demand.forecast(2, 2 * MINUTES + 600),
                tomorrow,
                demand.steepest(2),
            )
        };
        let before = seen(&demand);
        let later = (DAYS + 2) * MINUTES;
        demand.minutes[later..]
            .iter_mut()
            .for_each(|minute| *minute *= 100.0);
        assert_eq!(seen(&demand), before);
        demand.minutes[..later]
            .iter_mut()
            .for_each(|minute| *minute *= 100.0);
        let after = seen(&demand);
        assert!(after.0 > before.0 && after.1 > before.1 && after.2 > before.2);
    }

    #[test]
    fn demand_never_jumps_but_for_the_crowd() {
        // Nothing is needed from 19 to 5 o'clock, so that days of different shifts meet where both need nothing.
        let curve: Vec<f64> = (0..24)
            .map(|hour: i32| f64::from(7 - (hour - 12).abs()).max(0.0) / 7.0)
            .collect();
        let demand = Demand::new(&curve, 1_000.0, 3);
        let steepest = demand.minutes.windows(2).map(|pair| pair[1] - pair[0]);
        let jumps = steepest.filter(|rise| *rise > 10.0).count();
        assert!(jumps <= 2, "{jumps}");
    }
}
