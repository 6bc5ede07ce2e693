//! Secret values at rest: sealed with XChaCha20-Poly1305 under a key from a file that only the server reads.
//! The sealed text is bound to its Secret and version, so that rows cannot be swapped.

use crate::error::UseError;
use base::Uid;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use std::collections::BTreeMap;

const NONCE_LEN: usize = 24;

/// Seals entries.
pub fn seal(
    key: &[u8],
    secret: Uid,
    version: u32,
    entries: &BTreeMap<String, Vec<u8>>,
) -> Result<Vec<u8>, UseError> {
    let plain = serde_json::to_vec(entries)
        .map_err(|source| UseError::internal("cannot write a Secret", source))?;
    seal_bytes(key, &bound(secret, version), &plain)
}

/// Seals bytes. What they are bound to must be the same when they are opened.
pub fn seal_bytes(key: &[u8], bound: &str, plain: &[u8]) -> Result<Vec<u8>, UseError> {
    let mut nonce = [0; NONCE_LEN];
    getrandom::fill(&mut nonce).expect("the kernel gives random bytes");
    let sealed = cipher(key)?
        .encrypt(
            &XNonce::from(nonce),
            Payload {
                msg: plain,
                aad: bound.as_bytes(),
            },
        )
        .map_err(|_| UseError::internal("cannot seal", "the cipher refused"))?;
    Ok([nonce.as_slice(), &sealed].concat())
}

/// Opens entries.
pub fn open(
    key: &[u8],
    secret: Uid,
    version: u32,
    sealed: &[u8],
) -> Result<BTreeMap<String, Vec<u8>>, UseError> {
    let plain = open_bytes(key, &bound(secret, version), sealed)?;
    serde_json::from_slice(&plain).map_err(|_| damaged())
}

/// Opens bytes.
pub fn open_bytes(key: &[u8], bound: &str, sealed: &[u8]) -> Result<Vec<u8>, UseError> {
    let (nonce, body) = sealed.split_at_checked(NONCE_LEN).ok_or_else(damaged)?;
    let nonce: [u8; NONCE_LEN] = nonce.try_into().map_err(|_| damaged())?;
    cipher(key)?
        .decrypt(
            &XNonce::from(nonce),
            Payload {
                msg: body,
                aad: bound.as_bytes(),
            },
        )
        .map_err(|_| damaged())
}

fn damaged() -> UseError {
    UseError::internal(
        "cannot open what was sealed",
        "it was sealed under another key, or it is damaged",
    )
}

fn cipher(key: &[u8]) -> Result<XChaCha20Poly1305, UseError> {
    XChaCha20Poly1305::new_from_slice(key)
        .map_err(|_| UseError::internal("cannot use the sealing key", "it does not have 32 bytes"))
}

fn bound(secret: Uid, version: u32) -> String {
    format!("secret {secret} {version}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_key_and_place_open_it() {
        let entries = BTreeMap::from([("password".to_owned(), b"hunter2".to_vec())]);
        let sealed = seal(&[7; 32], Uid(1), 1, &entries).unwrap();
        assert_eq!(open(&[7; 32], Uid(1), 1, &sealed).unwrap(), entries);
        assert!(!sealed.windows(7).any(|window| window == b"hunter2"));
        for (key, uid, version) in [(8, 1, 1), (7, 2, 1), (7, 1, 2)] {
            assert!(open(&[key; 32], Uid(uid), version, &sealed).is_err());
        }
        assert!(open(&[7; 32], Uid(1), 1, &sealed[..20]).is_err());
    }
}
