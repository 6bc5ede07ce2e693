//! Instants and spans in milliseconds. Nobody reads a clock here: `now` is an argument.

use crate::wire::as_string;
use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;

/// Milliseconds since 1970-01-01 UTC. On the wire: RFC 3339 with milliseconds, `2026-11-24T10:00:00.000Z`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(i64);

/// A length of time, never negative. On the wire: `90s`, `4h`, `1h30m`, `250ms`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(u64);

impl Time {
    /// From milliseconds since 1970.
    pub const fn from_ms(ms: i64) -> Self {
        Self(ms)
    }
    /// Milliseconds since 1970.
    pub const fn as_ms(self) -> i64 {
        self.0
    }
    /// The span since `earlier`; zero where `earlier` is later.
    pub fn since(self, earlier: Time) -> Span {
        Span(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl Span {
    /// No time at all.
    pub const ZERO: Span = Span(0);

    /// From milliseconds.
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms)
    }
    /// From seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs * 1_000)
    }
    /// In milliseconds.
    pub const fn as_ms(self) -> u64 {
        self.0
    }
    /// As the standard library's type.
    pub const fn as_std(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0)
    }
}

impl Add<Span> for Time {
    type Output = Time;
    fn add(self, span: Span) -> Time {
        Time(
            self.0
                .saturating_add(i64::try_from(span.0).unwrap_or(i64::MAX)),
        )
    }
}
impl Sub<Span> for Time {
    type Output = Time;
    fn sub(self, span: Span) -> Time {
        Time(
            self.0
                .saturating_sub(i64::try_from(span.0).unwrap_or(i64::MAX)),
        )
    }
}

/// Text that is not a span or a time, with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadTime {
    text: String,
    why: &'static str,
}
impl fmt::Display for BadTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.text, self.why)
    }
}
impl std::error::Error for BadTime {}

const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

impl FromStr for Span {
    type Err = BadTime;
    fn from_str(text: &str) -> Result<Self, BadTime> {
        let why = "is not a duration; write for example `90s`, `4h`, `1h30m` or `250ms`";
        let refuse = || BadTime {
            text: text.chars().take(40).collect(),
            why,
        };
        if text == "0" {
            return Ok(Span::ZERO);
        }
        let mut rest = text;
        let mut total: u64 = 0;
        if rest.is_empty() {
            return Err(refuse());
        }
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let number: u64 = rest[..digits].parse().map_err(|_| refuse())?;
            rest = &rest[digits..];
            let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
            let unit = &rest[..letters];
            rest = &rest[letters..];
            let (_, ms) = UNITS
                .iter()
                .find(|(name, _)| *name == unit)
                .ok_or_else(refuse)?;
            total = number
                .checked_mul(*ms)
                .and_then(|part| total.checked_add(part))
                .ok_or_else(refuse)?;
        }
        Ok(Span(total))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.0;
        for (unit, ms) in UNITS {
            if rest >= ms {
                write!(f, "{}{unit}", rest / ms)?;
                rest %= ms;
            }
        }
        Ok(())
    }
}
as_string!(Span, "a duration such as `90s` or `4h`");

impl fmt::Display for Time {
    /// Civil date by Howard Hinnant's algorithm (<https://howardhinnant.github.io/date_algorithms.html>).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.rem_euclid(86_400_000);
        let days = self.0.div_euclid(86_400_000) + 719_468;
        let era = days.div_euclid(146_097);
        let day_of_era = days.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 {
            shifted_month + 3
        } else {
            shifted_month - 9
        };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z",
            ms % 1_000
        )
    }
}

impl FromStr for Time {
    type Err = BadTime;
    /// RFC 3339 in UTC: `YYYY-MM-DDThh:mm:ss[.fff]Z`.
    fn from_str(text: &str) -> Result<Self, BadTime> {
        let why = "is not a time; write RFC 3339 in UTC, for example `2026-11-24T10:00:00Z`";
        let refuse = || BadTime {
            text: text.chars().take(40).collect(),
            why,
        };
        let body = text.strip_suffix('Z').ok_or_else(refuse)?;
        if !body.is_ascii() || body.len() < 19 {
            return Err(refuse());
        }
        let number =
            |range: std::ops::Range<usize>| body[range].parse::<i64>().map_err(|_| refuse());
        let punctuation = body
            .bytes()
            .enumerate()
            .filter(|(i, _)| matches!(i, 4 | 7 | 10 | 13 | 16));
        if !punctuation.map(|(_, byte)| byte).eq(*b"--T::") {
            return Err(refuse());
        }
        let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
        let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
        let in_range = (1..=12).contains(&month)
            && (1..=31).contains(&day)
            && hour < 24
            && minute < 60
            && second < 60;
        if !in_range {
            return Err(refuse());
        }
        let ms = match &body[19..] {
            "" => 0,
            fraction => {
                let digits = fraction.strip_prefix('.').ok_or_else(refuse)?;
                if digits.is_empty()
                    || digits.len() > 9
                    || !digits.bytes().all(|b| b.is_ascii_digit())
                {
                    return Err(refuse());
                }
                format!("{digits:0<3}")[..3]
                    .parse::<i64>()
                    .map_err(|_| refuse())?
            }
        };
        let shifted_year = year - i64::from(month <= 2);
        let era = shifted_year.div_euclid(400);
        let year_of_era = shifted_year.rem_euclid(400);
        let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100
            + day_of_year
            - 719_468;
        let time =
            Time(days * 86_400_000 + hour * 3_600_000 + minute * 60_000 + second * 1_000 + ms);
        // 31 February and its like come back as another day.
        if time.to_string()[..10] == body[..10] {
            Ok(time)
        } else {
            Err(refuse())
        }
    }
}
as_string!(Time, "a time such as `2026-11-24T10:00:00Z`");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        let check = |text: &str, ms: u64| assert_eq!(text.parse(), Ok(Span(ms)), "{text}");
        check("90s", 90_000);
        check("4h", 14_400_000);
        check("1h30m", 5_400_000);
        check("250ms", 250);
        check("2d", 172_800_000);
        check("0", 0);
        for text in [
            "",
            "s",
            "5",
            "5x",
            "-1s",
            "1.5h",
            "99999999999999999999s",
            "9999999999999999d",
        ] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
        assert_eq!(Span(5_400_000).to_string(), "1h30m");
        assert_eq!(Span(90_250).to_string(), "1m30s250ms");
    }

    #[test]
    fn times() {
        // `date -u -d @951782400.5 +%FT%T.%3NZ`
        assert_eq!(
            Time(951_782_400_500).to_string(),
            "2000-02-29T00:00:00.500Z"
        );
        assert_eq!(Time(-1).to_string(), "1969-12-31T23:59:59.999Z");
        for ms in [
            0,
            -1,
            951_782_400_500,
            1_795_000_000_123,
            -62_135_596_800_000,
        ] {
            assert_eq!(Time(ms).to_string().parse(), Ok(Time(ms)));
        }
        for text in [
            "",
            "2026-02-31T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-01-01 00:00:00Z",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00.Z",
        ] {
            assert!(text.parse::<Time>().is_err(), "{text}");
        }
    }
}
