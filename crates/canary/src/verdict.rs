//! When a newer version is given up. Differences count only where there are enough answers to tell them from chance.

use crate::Reading;
use std::collections::VecDeque;
use std::time::Duration;

/// Between two looks at the counters.
pub const LOOK: Duration = Duration::from_secs(2);
/// What is compared is at most this old.
const WINDOW: Duration = Duration::from_secs(25);
/// Fewer errors than this may be chance.
const ERRORS_MIN: u64 = 3;
/// Fewer answers than this tell nothing of errors.
const ANSWERS_MIN: u64 = 20;
/// Where the older version has errors too, the difference of the two shares must be so many standard deviations.
const DEVIATIONS_MIN: f64 = 3.0;
/// Fewer answers than this tell nothing of times.
const TIMES_MIN: u64 = 40;
/// Answers that must be slower than the compared quantile: one slow answer is not a slow version.
const TAIL: f64 = 3.0;
/// A difference smaller than this is noise of the machine, whatever the ratio.
const SLOWER_MIN: Duration = Duration::from_millis(2);

/// How much worse the newer version may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Errors in a hundred answers more than the older one's; 0: any.
    pub errors: f64,
    /// Times of the older one's time to answer; 0: any.
    pub latency: f64,
}

impl Limits {
    /// What holds where nobody says otherwise.
    pub const USUAL: Limits = Limits {
        errors: 3.0,
        latency: 1.5,
    };

    /// Whether anything is judged.
    pub fn is_off(&self) -> bool {
        self.errors <= 0.0 && self.latency <= 0.0
    }
}

/// Why the newer one should get no more requests; `None` where it should go on. `before` names the older one, as in
/// "the Revision before".
fn verdict(limits: &Limits, before: &str, old: &Reading, new: &Reading) -> Option<String> {
    slips(limits, before, old, new).or_else(|| slowness(limits, before, old, new))
}

fn slips(limits: &Limits, before: &str, old: &Reading, new: &Reading) -> Option<String> {
    let (n, n_errors) = (new.n_answers(), new.n_errors());
    if limits.errors <= 0.0 || n < ANSWERS_MIN || n_errors < ERRORS_MIN {
        return None;
    }
    let (share, share_before) = (share(new), share(old));
    let is_worse = (share - share_before) * 100.0 >= limits.errors;
    (is_worse && is_no_chance(old, new)).then(|| {
        format!(
            "{n_errors} of its last {n} answers were errors ({:.1} %), of {before} {:.1} %",
            share * 100.0,
            share_before * 100.0
        )
    })
}

fn share(reading: &Reading) -> f64 {
    reading.n_errors() as f64 / reading.n_answers().max(1) as f64
}

/// Whether the shares of errors differ by more than their spread: the test of two proportions with a common variance.
/// Callers' own mistakes come to both versions alike, so a share that is never 0 must not decide by its noise.
fn is_no_chance(old: &Reading, new: &Reading) -> bool {
    if old.n_errors() == 0 {
        return true;
    }
    let (n_old, n_new) = (old.n_answers() as f64, new.n_answers() as f64);
    let common = (old.n_errors() + new.n_errors()) as f64 / (n_old + n_new);
    let deviation = (common * (1.0 - common) * (1.0 / n_old + 1.0 / n_new)).sqrt();
    share(new) - share(old) >= DEVIATIONS_MIN * deviation
}

fn slowness(limits: &Limits, before: &str, old: &Reading, new: &Reading) -> Option<String> {
    let n = new.n_answers();
    if limits.latency <= 0.0 || n < TIMES_MIN || old.n_answers() < TIMES_MIN {
        return None;
    }
    let quantile = (1.0 - TAIL / n as f64).min(0.99);
    let (was, now) = (old.quantile(quantile), new.quantile(quantile));
    let is_slower = now > was.mul_f64(limits.latency) && now > was + SLOWER_MIN;
    is_slower.then(|| {
        format!(
            "{:.0} % of its last {n} answers took up to {:.1} ms, of {before} {:.1} ms",
            quantile * 100.0,
            now.as_secs_f64() * 1e3,
            was.as_secs_f64() * 1e3
        )
    })
}

/// What was read of both versions lately, oldest first.
#[derive(Debug, Default)]
pub struct Window {
    readings: VecDeque<(Duration, Reading, Reading)>,
}

impl Window {
    /// Adds a reading at a time since some beginning, and judges what came within the last 25 s.
    pub fn look(
        &mut self,
        now: Duration,
        limits: &Limits,
        before: &str,
        old: Reading,
        new: Reading,
    ) -> Option<String> {
        self.readings.push_back((now, old, new));
        let is_old = |(at, ..): &(Duration, _, _)| now.saturating_sub(*at) > WINDOW;
        while self.readings.front().is_some_and(is_old) {
            self.readings.pop_front();
        }
        let (_, old_first, new_first) = self.readings.front()?;
        let (_, old, new) = self.readings.back()?;
        verdict(limits, before, &old.since(old_first), &new.since(new_first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Counts;

    const BEFORE: &str = "the one before";

    /// Answers of 10 ms times `slow`, spread by a half, of which every `nth` is an error.
    fn reading(n: u64, nth: u64, slow: f64) -> Reading {
        let counts = Counts::default();
        for at in 0..n {
            let spread = 0.75 + 0.5 * (at as f64 * 0.618).fract();
            let took = Duration::from_secs_f64(0.01 * slow * spread);
            counts.record(nth > 0 && at % nth == nth - 1, took);
        }
        counts.read()
    }

    #[test]
    fn errors_and_slow_answers_are_told_from_chance() {
        let good = reading(1_000, 0, 1.0);
        let judge = |new: Reading| verdict(&Limits::USUAL, BEFORE, &good, &new);
        assert_eq!(judge(reading(100, 0, 1.0)), None);
        let errors = judge(reading(100, 20, 1.0)).expect("5 % of errors");
        assert_eq!(
            errors,
            "5 of its last 100 answers were errors (5.0 %), of the one before 0.0 %"
        );
        assert_eq!(judge(reading(40, 20, 1.0)), None, "2 of 40 may be chance");
        assert_eq!(judge(reading(100, 100, 1.0)), None, "1 % is allowed");
        let slow = judge(reading(60, 0, 2.0)).expect("twice as slow");
        assert!(
            slow.starts_with("95 % of its last 60 answers took up to 2"),
            "{slow}"
        );
        assert_eq!(judge(reading(60, 0, 1.2)), None);
        assert_eq!(judge(reading(30, 0, 9.0)), None, "too few to tell");
        let off = Limits {
            errors: 0.0,
            latency: 0.0,
        };
        let bad = reading(100, 2, 9.0);
        assert_eq!(verdict(&off, BEFORE, &good, &bad), None);
    }

    #[test]
    fn mistakes_that_come_to_both_decide_nothing() {
        let judge = |old: &Reading, new: &Reading| verdict(&Limits::USUAL, BEFORE, old, new);
        let as_bad = reading(1_000, 20, 1.0);
        assert_eq!(judge(&as_bad, &reading(100, 20, 1.0)), None);
        // A tenth of all requests is refused: 15 % of a hundred may be chance, 33 % is not.
        let tenth = reading(1_000, 10, 1.0);
        assert_eq!(judge(&tenth, &reading(104, 7, 1.0)), None);
        assert!(judge(&tenth, &reading(102, 3, 1.0)).is_some());
        // One error of the older one's does not hide 5 %.
        let one = reading(900, 900, 1.0);
        assert!(judge(&one, &reading(100, 20, 1.0)).is_some());
    }

    #[test]
    fn what_is_long_ago_is_forgotten() {
        let mut window = Window::default();
        let good = |n| reading(n, 0, 1.0);
        // Errors that lie before the window do not count.
        let bad = reading(100, 2, 1.0);
        for seconds in [0, 10, 20, 30, 40] {
            let now = Duration::from_secs(seconds);
            let told = window.look(now, &Limits::USUAL, BEFORE, good(1_000), bad.clone());
            assert_eq!(told, None, "at {seconds} s");
        }
        assert_eq!(window.readings.len(), 3);
    }
}
