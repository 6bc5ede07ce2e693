//! Ranges of addresses, as networks are written: `10.0.0.0/8`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// The addresses that share their first bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Net {
    first: IpAddr,
    prefix: u8,
}

impl Net {
    /// One address.
    pub fn one(address: IpAddr) -> Net {
        Net {
            first: address,
            prefix: bits(address),
        }
    }
}

/// Why a text is no [`Net`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetError {
    /// It has another form.
    Form,
    /// An address has only so many bits.
    Prefix(u8),
    /// Its address is not the first one of the range.
    Within(Net),
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NetError::Form => f.write_str(
                "is not a range of addresses; write it like `10.0.0.0/8`, or `10.1.2.3/32` for one address",
            ),
            NetError::Prefix(most) => write!(f, "fixes more than the {most} bits of its address"),
            NetError::Within(net) => write!(f, "begins within the range; write `{net}`"),
        }
    }
}
impl std::error::Error for NetError {}

impl FromStr for Net {
    type Err = NetError;

    fn from_str(text: &str) -> Result<Net, NetError> {
        let (address, prefix) = text.split_once('/').ok_or(NetError::Form)?;
        let address: IpAddr = address.parse().map_err(|_| NetError::Form)?;
        // `u8` takes `+8`.
        if prefix.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NetError::Form);
        }
        let most = bits(address);
        let prefix = prefix.parse().ok().filter(|prefix| *prefix <= most);
        let prefix = prefix.ok_or(NetError::Prefix(most))?;
        let net = Net {
            first: first(address, prefix),
            prefix,
        };
        if net.first == address {
            Ok(net)
        } else {
            Err(NetError::Within(net))
        }
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

fn bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The address with every bit after the prefix cleared.
fn first(address: IpAddr, prefix: u8) -> IpAddr {
    let prefix = u32::from(prefix);
    match address {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
            IpAddr::V4((u32::from(ip) & mask).into())
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
            IpAddr::V6((u128::from(ip) & mask).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_written() {
        for text in [
            "10.0.0.0/8",
            "0.0.0.0/0",
            "10.1.2.3/32",
            "fd00::/8",
            "::/0",
            "::1/128",
        ] {
            let net: Net = text.parse().expect(text);
            assert_eq!(net.to_string(), text);
        }
        let one = Net::one([10, 0, 0, 1].into());
        assert_eq!(one.to_string(), "10.0.0.1/32");
    }

    #[test]
    fn what_is_none_says_what_to_write() {
        let check = |text: &str, expect: NetError| {
            assert_eq!(text.parse::<Net>(), Err(expect), "{text}");
        };
        for text in [
            "",
            "10.0.0.0",
            "10.0.0.0/",
            "10.0.0/8",
            "10.0.0.0/+8",
            "x/8",
            "1.2.3.4/8/8",
        ] {
            check(text, NetError::Form);
        }
        check("10.0.0.0/33", NetError::Prefix(32));
        check("::/1000", NetError::Prefix(128));
        let within = "10.1.2.3/8".parse::<Net>().unwrap_err();
        assert_eq!(
            within.to_string(),
            "begins within the range; write `10.0.0.0/8`"
        );
        let within = "fd00::1/8".parse::<Net>().unwrap_err();
        assert_eq!(
            within.to_string(),
            "begins within the range; write `fd00::/8`"
        );
    }
}
