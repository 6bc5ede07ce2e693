//! What a queue will need at times: a window, or the course of a day. Written by people by the clock of their place, and
//! laid out here as steps in time.

use crate::platform::AmountSpec;
use base::{Span, Time};
use jiff::civil;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Steps are laid out this far ahead: a day more than the scheduler looks.
const AHEAD_DAYS: i64 = 8;
/// The step that holds now began at most so long ago: on the day of the week before.
const BACK_DAYS: i64 = 8;

const DAY_MS: i64 = 86_400_000;

/// Capacity that a queue needs at times, what it uses already included. Exactly one of `once` and `daily`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Reservation {
    /// The pool.
    pub pool: String,
    /// One window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub once: Option<Window>,
    /// The course of a day. Each amount holds until the next one begins, also over days that are left out; `{}` ends it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub daily: Vec<DayStep>,
    /// The days on which `daily` happens. Default: every day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<Day>,
    /// Whose clock `daily` goes by: `Asia/Shanghai`. Default `UTC`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

/// One window of time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Window {
    /// When it begins.
    #[schema(value_type = crate::schema::Timestamp)]
    pub from: Time,
    /// When it ends.
    #[schema(value_type = crate::schema::Timestamp)]
    pub until: Time,
    /// How much.
    pub amount: AmountSpec,
}

/// A moment of the day.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DayStep {
    /// `08:00`.
    pub at: String,
    /// How much from then on.
    pub amount: AmountSpec,
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum Day {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

impl Day {
    fn is(self, day: civil::Weekday) -> bool {
        let same = match self {
            Day::Mon => civil::Weekday::Monday,
            Day::Tue => civil::Weekday::Tuesday,
            Day::Wed => civil::Weekday::Wednesday,
            Day::Thu => civil::Weekday::Thursday,
            Day::Fri => civil::Weekday::Friday,
            Day::Sat => civil::Weekday::Saturday,
            Day::Sun => civil::Weekday::Sunday,
        };
        day == same
    }
}

/// Amounts laid out in time.
#[derive(Clone, Debug, PartialEq)]
pub struct Course {
    /// From when how much, in the order of time.
    pub steps: Vec<(Time, AmountSpec)>,
    /// When the last amount ends.
    pub until: Time,
}

/// The hour and minute of `08:00`, if it is one.
pub fn time_of_day(text: &str) -> Option<(i8, i8)> {
    let (hour, minute) = text.split_once(':')?;
    let number = |digits: &str, most: i8| {
        let is_two = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_digit());
        let number: i8 = digits.parse().ok()?;
        (is_two && number <= most).then_some(number)
    };
    Some((number(hour, 23)?, number(minute, 59)?))
}

/// The time zone of this name, if there is one.
pub fn time_zone(name: &str) -> Option<TimeZone> {
    TimeZone::get(name).ok()
}

impl Reservation {
    /// What it comes to from `now` on: for a window what is left of it, for a daily course at least the coming week. The
    /// same for every `now` of a day (UTC), so that it changes once a day. `None` where nothing is left. Fields
    /// that validation would have refused are passed over.
    pub fn course(&self, now: Time) -> Option<Course> {
        let day = Time::from_ms(now.as_ms().div_euclid(DAY_MS) * DAY_MS);
        if let Some(window) = &self.once {
            return (window.until > day).then(|| Course {
                steps: vec![(window.from, window.amount.clone())],
                until: window.until,
            });
        }
        let zone = match &self.time_zone {
            Some(name) => time_zone(name)?,
            None => TimeZone::UTC,
        };
        let today = jiff::Timestamp::from_millisecond(day.as_ms())
            .ok()?
            .to_zoned(zone.clone())
            .date();
        let mut steps: Vec<(Time, AmountSpec)> = (-BACK_DAYS..=AHEAD_DAYS)
            .filter_map(|offset| today.checked_add(jiff::Span::new().days(offset)).ok())
            .filter(|date| {
                self.days.is_empty() || self.days.iter().any(|day| day.is(date.weekday()))
            })
            .flat_map(|date| self.daily.iter().map(move |step| (date, step)))
            .filter_map(|(date, step)| {
                let (hour, minute) = time_of_day(&step.at)?;
                // Where clocks are put forward over it, it is the moment after; where they are put back, the first of both.
                let at = date.at(hour, minute, 0, 0).to_zoned(zone.clone()).ok()?;
                let at = Time::from_ms(at.timestamp().as_millisecond());
                Some((at, step.amount.clone()))
            })
            .collect();
        steps.sort_by_key(|(at, _)| *at);
        // One that began before is what holds at first.
        let first = steps.iter().rposition(|(at, _)| *at <= day).unwrap_or(0);
        steps.drain(..first);
        let until = day + Span::from_secs(86_400 * AHEAD_DAYS.unsigned_abs());
        steps.retain(|(at, _)| *at < until);
        (!steps.is_empty()).then_some(Course { steps, until })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpus(gpu: f64) -> AmountSpec {
        AmountSpec {
            gpu: (gpu > 0.0).then_some(gpu),
            ..AmountSpec::default()
        }
    }

    fn time(text: &str) -> Time {
        serde_json::from_value(text.into()).unwrap()
    }

    fn daily(zone: Option<&str>, days: &[Day], steps: &[(&str, f64)]) -> Reservation {
        let step = |(at, gpu): &(&str, f64)| DayStep {
            at: (*at).to_owned(),
            amount: gpus(*gpu),
        };
        Reservation {
            pool: "gpu".to_owned(),
            once: None,
            daily: steps.iter().map(step).collect(),
            days: days.to_vec(),
            time_zone: zone.map(str::to_owned),
        }
    }

    fn shown(course: &Course) -> Vec<String> {
        let line = |(at, amount): &(Time, AmountSpec)| {
            let at = at.to_string();
            format!("{} {}", &at[5..16], amount.gpu.unwrap_or(0.0))
        };
        course.steps.iter().map(line).collect()
    }

    #[test]
    fn a_day_begins_with_what_held_before_and_repeats_for_more_than_a_week() {
        let course = daily(None, &[], &[("08:00", 64.0), ("22:00", 8.0)])
            .course(time("2026-12-02T12:00:00Z"))
            .unwrap();
        let lines = shown(&course);
        assert_eq!(
            lines[..3],
            ["12-01T22:00 8", "12-02T08:00 64", "12-02T22:00 8"]
        );
        assert_eq!(lines.last().unwrap(), "12-09T22:00 8");
        assert_eq!(course.until, time("2026-12-10T00:00:00Z"));
    }

    #[test]
    fn days_that_are_left_out_keep_what_held_before() {
        // 4 December 2026 is a Friday.
        let week = [Day::Mon, Day::Tue, Day::Wed, Day::Thu, Day::Fri];
        let course = daily(None, &week, &[("08:00", 64.0), ("22:00", 8.0)])
            .course(time("2026-12-06T01:00:00Z"))
            .unwrap();
        assert_eq!(shown(&course)[..2], ["12-04T22:00 8", "12-07T08:00 64"]);
        // Once a week: the step that holds began almost a week ago.
        let course = daily(None, &[Day::Mon], &[("08:00", 64.0)])
            .course(time("2026-12-13T23:00:00Z"))
            .unwrap();
        assert_eq!(shown(&course), ["12-07T08:00 64", "12-14T08:00 64"]);
    }

    #[test]
    fn clocks_are_those_of_the_place_also_when_they_are_changed() {
        let course = daily(Some("Asia/Shanghai"), &[], &[("08:00", 1.0)])
            .course(time("2026-12-02T12:00:00Z"))
            .unwrap();
        assert_eq!(shown(&course)[..2], ["12-02T00:00 1", "12-03T00:00 1"]);
        // Berlin, 25 October 2026: from UTC+2 to UTC+1 at three o'clock.
        let course = daily(Some("Europe/Berlin"), &[], &[("08:00", 1.0)])
            .course(time("2026-10-24T12:00:00Z"))
            .unwrap();
        assert_eq!(
            shown(&course)[..3],
            ["10-23T06:00 1", "10-24T06:00 1", "10-25T07:00 1"]
        );
        // 29 March 2026: half past two does not happen there.
        let course = daily(Some("Europe/Berlin"), &[Day::Sun], &[("02:30", 1.0)])
            .course(time("2026-03-28T12:00:00Z"))
            .unwrap();
        assert_eq!(shown(&course)[1], "03-29T01:30 1");
    }

    #[test]
    fn it_is_the_same_all_day_and_a_window_ends() {
        let reservation = daily(Some("Asia/Shanghai"), &[Day::Sat], &[("08:00", 1.0)]);
        let at = |text| reservation.course(time(text));
        assert_eq!(at("2026-12-02T00:00:00Z"), at("2026-12-02T23:59:59Z"));
        assert_ne!(at("2026-12-02T00:00:00Z"), at("2026-12-03T00:00:00Z"));
        let window = Reservation {
            once: Some(Window {
                from: time("2026-12-02T08:00:00Z"),
                until: time("2026-12-03T00:00:00Z"),
                amount: gpus(4.0),
            }),
            ..daily(None, &[], &[])
        };
        let course = window.course(time("2026-12-02T09:00:00Z")).unwrap();
        assert_eq!(shown(&course), ["12-02T08:00 4"]);
        assert_eq!(course.until, time("2026-12-03T00:00:00Z"));
        assert_eq!(window.course(time("2026-12-03T00:00:00Z")), None);
    }

    #[test]
    fn times_of_day() {
        assert_eq!(time_of_day("08:30"), Some((8, 30)));
        for wrong in [
            "8:30", "24:00", "08:60", "08", "08:3", "+8:30", "08:30:00", "",
        ] {
            assert_eq!(time_of_day(wrong), None, "{wrong}");
        }
    }
}
