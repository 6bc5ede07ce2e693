//! Identifiers. A [`Uid`] is a UUID version 7 (RFC 9562 §5.7): sortable by creation time.

use crate::Time;
use crate::wire::{as_string, counter};
use std::fmt;
use std::str::FromStr;

/// A UUIDv7. Time and randomness are arguments, so that pure code can name things repeatably.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uid(pub u128);

impl Uid {
    /// Builds a UUIDv7 from milliseconds since 1970 and 74 random bits (the rest of `entropy` is ignored).
    pub fn v7(now: Time, entropy: u128) -> Self {
        let ms = (now.as_ms().max(0) as u128) & 0xffff_ffff_ffff;
        let rand_a = (entropy >> 64) & 0xfff;
        let rand_b = entropy & 0x3fff_ffff_ffff_ffff;
        Self(ms << 80 | 0x7 << 76 | rand_a << 64 | 0b10 << 62 | rand_b)
    }

    /// When the id was made, to the millisecond.
    pub fn created(self) -> Time {
        Time::from_ms((self.0 >> 80) as i64)
    }

    /// The last eight hexadecimal digits: random, short, good for names that people read.
    pub fn short(self) -> String {
        format!("{:08x}", self.0 as u32)
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let x = self.0;
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            (x >> 96) as u32,
            (x >> 80) as u16,
            (x >> 64) as u16,
            (x >> 48) as u16,
            x & 0xffff_ffff_ffff
        )
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is not a UUID of the form `8-4-4-4-12`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAUid(String);

impl fmt::Display for NotAUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is not a uid (expected 8-4-4-4-12 hexadecimal digits)",
            self.0
        )
    }
}
impl std::error::Error for NotAUid {}

impl FromStr for Uid {
    type Err = NotAUid;
    fn from_str(text: &str) -> Result<Self, NotAUid> {
        let bytes = text.as_bytes();
        let well_formed = bytes.len() == 36
            && bytes.iter().enumerate().all(|(i, byte)| match i {
                8 | 13 | 18 | 23 => *byte == b'-',
                _ => byte.is_ascii_hexdigit(),
            });
        if !well_formed {
            return Err(NotAUid(text.chars().take(64).collect()));
        }
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        u128::from_str_radix(&digits, 16)
            .map(Uid)
            .map_err(|_| NotAUid(text.to_owned()))
    }
}
as_string!(Uid, "a uid");

counter!(
    /// The leader's term. Every effect carries it; a lower one than the highest seen is refused.
    Epoch(u64)
);
counter!(
    /// Counts changes of an object's `spec`, from 1.
    Generation(u64)
);
counter!(
    /// One try of a restart unit, from 1.
    Attempt(u32)
);
counter!(
    /// A replica's place in its group (its rank for a Job), from 0.
    Index(u32)
);
counter!(
    /// A position in a dense sequence: the change feed, or a replica's output.
    Seq(u64)
);

/// SHA-256 of content, written `sha256:<64 hex digits>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

/// Bytes as hexadecimal digits, two each, in small letters.
pub fn hex(bytes: impl AsRef<[u8]>) -> String {
    let bytes = bytes.as_ref().iter();
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

impl Digest {
    /// The 64 hexadecimal digits without the prefix.
    pub fn hex(&self) -> String {
        hex(self.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}
impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is not `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotADigest(String);

impl fmt::Display for NotADigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is not a digest (expected `sha256:` and 64 lower-case hexadecimal digits)",
            self.0
        )
    }
}
impl std::error::Error for NotADigest {}

impl FromStr for Digest {
    type Err = NotADigest;
    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let refuse = || NotADigest(text.chars().take(80).collect());
        let hex = text.strip_prefix("sha256:").ok_or_else(refuse)?;
        let lower_hex = hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if hex.len() != 64 || !lower_hex {
            return Err(refuse());
        }
        let mut bytes = [0; 32];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).map_err(|_| refuse())?;
        }
        Ok(Digest(bytes))
    }
}
as_string!(Digest, "a digest, `sha256:<hex>`");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uid_keeps_its_time_version_and_variant() {
        let uid = Uid::v7(Time::from_ms(1_700_000_000_123), u128::MAX);
        assert_eq!(uid.created(), Time::from_ms(1_700_000_000_123));
        let text = uid.to_string();
        assert_eq!(&text[14..15], "7");
        assert!(matches!(&text[19..20], "8" | "9" | "a" | "b"));
        assert_eq!(text.parse(), Ok(uid));
    }

    #[test]
    fn uids_sort_by_time() {
        let early = Uid::v7(Time::from_ms(1), u128::MAX);
        let late = Uid::v7(Time::from_ms(2), 0);
        assert!(early < late && early.to_string() < late.to_string());
    }

    #[test]
    fn malformed_ids_are_refused() {
        for text in [
            "",
            "x",
            "01890000-0000-7000-8000-00000000000",
            "é1890000-0000-7000-8000-00000000000",
        ] {
            assert!(text.parse::<Uid>().is_err(), "{text}");
        }
        for text in [
            "",
            "sha256:",
            "sha256:AB",
            &format!("sha256:{}", "g".repeat(64)),
            &format!("sha256:{}", "é".repeat(32)),
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
        let digest = Digest([0xab; 32]);
        assert_eq!(digest.to_string().parse(), Ok(digest));
    }
}
