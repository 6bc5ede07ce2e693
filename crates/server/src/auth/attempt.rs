//! Tokens of attempts: what a replica shows to prove which attempt it belongs to, for `moonshot rsh` and for
//! output that is sent in. A token names its replica and carries a keyed digest of that name, so nothing need be
//! stored. It is worth nothing once the replica's Placement is released: a superseded attempt can do nothing more.

use crate::error::UseError;
use crate::platform::Platform;
use base::{Attempt, Code, Index};
use db::control::{self, Placement};
use engine::ReplicaKey;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The token of a replica.
pub fn token(key: &[u8], replica: &ReplicaKey) -> String {
    let digest = mac(key, replica).finalize().into_bytes();
    format!("{replica}:{}", base::hex(digest))
}

/// The replica that a token was made for, if the digest is right.
fn replica(key: &[u8], token: &str) -> Option<ReplicaKey> {
    let (name, digits) = token.rsplit_once(':')?;
    let mut parts = name.split('/');
    let replica = ReplicaKey {
        owner: parts.next()?.parse().ok()?,
        group: parts.next()?.to_owned(),
        index: Index(parts.next()?.parse().ok()?),
        attempt: Attempt(parts.next()?.parse().ok()?),
    };
    // One way of writing each name: leading zeros and more parts are no token.
    let digest = from_hex(digits).filter(|_| replica.to_string() == name)?;
    // Compared in constant time.
    mac(key, &replica).verify_slice(&digest).ok()?;
    Some(replica)
}

fn mac(key: &[u8], replica: &ReplicaKey) -> Hmac<Sha256> {
    let mut mac = Hmac::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(b"attempt\n");
    mac.update(replica.to_string().as_bytes());
    mac
}

fn from_hex(digits: &str) -> Option<Vec<u8>> {
    if !digits.is_ascii() {
        return None;
    }
    let pair = |at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    (0..digits.len()).step_by(2).map(pair).collect()
}

/// The Placement that a token stands for, while it is held.
pub async fn authenticate(platform: &Platform, token: &str) -> Result<Placement, UseError> {
    let refuse = |why| UseError::new(Code::Unauthenticated, why);
    let Some(key) = replica(&platform.key, token) else {
        return Err(refuse("this is not the token of an attempt"));
    };
    let found =
        control::read_placement(&platform.db, key.owner, &key.group, key.index, key.attempt);
    match found.await? {
        Some(placement) if placement.state != "released" => Ok(placement),
        Some(_) | None => Err(refuse(
            "the attempt of this token is over; a newer one has a token of its own",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Uid;

    fn worker(attempt: u32) -> ReplicaKey {
        ReplicaKey {
            owner: Uid(7),
            group: "worker".to_owned(),
            index: Index(1),
            attempt: Attempt(attempt),
        }
    }

    #[test]
    fn a_token_is_good_for_its_own_replica_alone() {
        let made = token(b"key", &worker(1));
        assert_eq!(replica(b"key", &made), Some(worker(1)));
        assert_eq!(replica(b"other", &made), None, "another installation's");
        let digits = made.rsplit_once(':').unwrap().1;
        let check = |text: String| assert_eq!(replica(b"key", &text), None, "{text}");
        check(format!("{}:{digits}", worker(2)));
        check(format!("{}:", worker(1)));
        check(format!("{}:{}", worker(1), &digits[..62]));
        check(made.replace("/1/1:", "/01/1:"));
        check(format!("{made}é"));
        check(String::new());
    }
}
