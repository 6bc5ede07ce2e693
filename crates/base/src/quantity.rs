//! Kubernetes quantities: `500m`, `2`, `1.5`, `4Gi`, `10M`, `1e3`
//! (<https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>).

use crate::wire::as_string;
use std::fmt;
use std::str::FromStr;

/// Processor time: thousandths of one core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MilliCpu(pub u64);

/// A size in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

/// Text that is not a quantity, with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadQuantity {
    text: String,
    why: &'static str,
}

impl fmt::Display for BadQuantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not a quantity: {}", self.text, self.why)
    }
}
impl std::error::Error for BadQuantity {}

/// What a suffix multiplies with, at most 2^50, and divides by. `None` for exponents and for what is none of ours.
pub fn scale(suffix: &str) -> Option<(u128, u128)> {
    Some(match suffix {
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
        "" => (1, 1),
        "k" => (1_000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        _ => return None,
    })
}

/// Parses a quantity into thousandths. Fractions of a thousandth are rounded up, as Kubernetes does.
pub fn parse_milli(text: &str) -> Result<u64, BadQuantity> {
    let refuse = |why| BadQuantity {
        text: text.chars().take(40).collect(),
        why,
    };
    let number_len = text
        .bytes()
        .take_while(|b| b.is_ascii_digit() || *b == b'.')
        .count();
    let (number, suffix) = text.split_at(number_len);
    if number.is_empty() || number == "." {
        return Err(refuse("expected a number such as `500m`, `2` or `4Gi`"));
    }
    let exponent = || suffix.strip_prefix(['e', 'E'])?.parse::<u32>().ok();
    let scaled = scale(suffix).or_else(|| match exponent() {
        Some(exponent @ 0..=18) => Some((10u128.pow(exponent), 1)),
        Some(_) | None => None,
    });
    let Some((numerator, denominator)) = scaled else {
        return Err(refuse(
            "unknown suffix; use n u m k M G T P, Ki Mi Gi Ti Pi, or e<exponent>",
        ));
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') {
        return Err(refuse("two decimal points"));
    }
    if whole.len() > 19 || fraction.len() > 12 {
        return Err(refuse("too many digits"));
    }
    let digits: u128 = format!("{whole}{fraction}")
        .parse()
        .map_err(|_| refuse("not a number"))?;
    let divisor = denominator * 10u128.pow(fraction.len() as u32);
    let milli = digits
        .checked_mul(1_000 * numerator)
        .ok_or_else(|| refuse("too large"))?
        .div_ceil(divisor);
    u64::try_from(milli).map_err(|_| refuse("too large"))
}

/// Parses a quantity that must be a whole number of units, such as bytes or devices. Rounds up.
pub fn parse_whole(text: &str) -> Result<u64, BadQuantity> {
    // Bytes up to 2^63 do not fit 64 bits as thousandths; whole numbers without a fraction take this path.
    let refuse = |why| BadQuantity {
        text: text.chars().take(40).collect(),
        why,
    };
    let number_len = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, suffix) = text.split_at(number_len);
    let factor = match scale(suffix) {
        Some((factor, 1)) => factor as u64,
        Some(_) | None => return parse_milli(text).map(|milli| milli.div_ceil(1_000)),
    };
    if number.is_empty() {
        return Err(refuse("expected a number such as `2` or `4Gi`"));
    }
    let number: u64 = number.parse().map_err(|_| refuse("too large"))?;
    number
        .checked_mul(factor)
        .ok_or_else(|| refuse("too large"))
}

impl FromStr for MilliCpu {
    type Err = BadQuantity;
    fn from_str(text: &str) -> Result<Self, BadQuantity> {
        parse_milli(text).map(MilliCpu)
    }
}
impl FromStr for Bytes {
    type Err = BadQuantity;
    fn from_str(text: &str) -> Result<Self, BadQuantity> {
        parse_whole(text).map(Bytes)
    }
}

impl fmt::Display for MilliCpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1_000) {
            write!(f, "{}", self.0 / 1_000)
        } else {
            write!(f, "{}m", self.0)
        }
    }
}
impl fmt::Display for Bytes {
    /// The largest binary unit that loses nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(50, "Pi"), (40, "Ti"), (30, "Gi"), (20, "Mi"), (10, "Ki")];
        for (shift, unit) in units {
            if self.0 != 0 && self.0.is_multiple_of(1 << shift) {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}
as_string!(MilliCpu, "a CPU quantity such as `500m` or `2`");
as_string!(Bytes, "a size such as `512Mi` or `4Gi`");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu() {
        let check =
            |text: &str, milli: u64| assert_eq!(text.parse(), Ok(MilliCpu(milli)), "{text}");
        check("500m", 500);
        check("2", 2_000);
        check("1.5", 1_500);
        check("0.0001", 1);
        check("1e3", 1_000_000);
        check("100u", 1);
    }

    #[test]
    fn bytes() {
        let check = |text: &str, bytes: u64| assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        check("4Gi", 4 << 30);
        check("1.5Gi", 3 << 29);
        check("10M", 10_000_000);
        check("8Pi", 8 << 50);
        check("1000m", 1);
    }

    #[test]
    fn refused() {
        for text in [
            "",
            ".",
            "-1",
            "1.2.3",
            "4GB",
            "4gi",
            "1e99",
            "99999999999999999999",
            "20000Pi",
            "Gi",
        ] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
        for text in ["", "m", "1 ", "NaN", "1x", "18446744073709551615"] {
            assert!(text.parse::<MilliCpu>().is_err(), "{text}");
        }
    }

    #[test]
    fn shown_as_written() {
        for text in ["500m", "2", "0"] {
            assert_eq!(text.parse::<MilliCpu>().unwrap().to_string(), text);
        }
        for text in ["4Gi", "512Mi", "1000", "0", "3Ki"] {
            assert_eq!(text.parse::<Bytes>().unwrap().to_string(), text);
        }
    }
}
