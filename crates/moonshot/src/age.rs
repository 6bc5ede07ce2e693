//! Times as people say them: how long ago, with at most two units.

use base::{Span, Time};

/// `45s`, `12m`, `3h20m`, `5d4h`.
pub(crate) fn short(span: Span) -> String {
    let secs = span.as_ms() / 1_000;
    let (d, h, m, s) = (secs / 86_400, secs / 3_600 % 24, secs / 60 % 60, secs % 60);
    let two = |a: u64, unit: &str, b: u64, lesser: &str| {
        if b == 0 {
            format!("{a}{unit}")
        } else {
            format!("{a}{unit}{b}{lesser}")
        }
    };
    match (d, h, m) {
        (0, 0, 0) => format!("{s}s"),
        (0, 0, 1..10) => two(m, "m", s, "s"),
        (0, 0, _) => format!("{m}m"),
        (0, _, _) => two(h, "h", m, "m"),
        (1..10, _, _) => two(d, "d", h, "h"),
        _ => format!("{d}d"),
    }
}

/// How long before `now` a time was, from its text on the wire.
pub(crate) fn since(now: Time, text: &str) -> String {
    text.parse::<Time>()
        .map_or_else(|_| String::new(), |time| short(now.since(time)))
}

/// The present, for tables: nothing is decided by it.
pub(crate) fn now() -> Time {
    let since_epoch = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    Time::from_ms(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        for (secs, expect) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (61, "1m1s"),
            (600, "10m"),
            (3_599, "59m"),
            (3_600, "1h"),
            (12_000, "3h20m"),
            (90_000, "1d1h"),
            (864_000, "10d"),
        ] {
            assert_eq!(short(Span::from_secs(secs)), expect);
        }
        assert_eq!(
            since(Time::from_ms(61_000), "1970-01-01T00:00:01.000Z"),
            "1m"
        );
        assert_eq!(since(Time::from_ms(0), "x"), "");
    }
}
