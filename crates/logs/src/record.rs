//! One frame on disk, version 2, little-endian:
//!
//! ```text
//!   `MLG2` | length of what follows the checksum u32 | crc32 of it u32 | seq u64 | time i64 | stream u8 | bytes
//! ```
//!
//! The mark at the beginning is where a reader goes on after damage.

use base::{Seq, Time};

/// Standard output or error, or a remark of the platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// The platform's own words: a cut, a loss.
    Note,
}

/// A piece of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its number, from 1. A remark that a reader makes up about damage has 0.
    pub seq: Seq,
    /// Which stream.
    pub stream: Stream,
    /// When it was written.
    pub time: Time,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// The most bytes of one frame.
pub const FRAME_BYTES_MAX: usize = 16 << 20;
const MARK: &[u8; 4] = b"MLG2";
/// Bytes before the body.
pub(crate) const HEAD: usize = 12;
const FIXED: usize = 17;

/// What stands at the beginning of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A whole frame, and the bytes it takes.
    Frame(Frame, usize),
    /// A frame of which the end is not here: this many bytes are needed.
    Part(usize),
    /// No frame begins here.
    Nothing,
}

pub(crate) fn write(frame: &Frame, into: &mut Vec<u8>) {
    let len = FIXED + frame.bytes.len();
    into.reserve(HEAD + len);
    into.extend(MARK);
    into.extend((len as u32).to_le_bytes());
    let crc_at = into.len();
    into.extend([0; 4]);
    into.extend(frame.seq.0.to_le_bytes());
    into.extend(frame.time.as_ms().to_le_bytes());
    into.push(match frame.stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
        Stream::Note => 2,
    });
    into.extend(&frame.bytes);
    let crc = crc32fast::hash(&into[crc_at + 4..]);
    into[crc_at..crc_at + 4].copy_from_slice(&crc.to_le_bytes());
}

/// What the bytes begin with.
pub(crate) fn read(bytes: &[u8]) -> Found {
    let n = bytes.len().min(MARK.len());
    if bytes[..n] != MARK[..n] {
        return Found::Nothing;
    }
    let Some(head) = bytes.get(..HEAD) else {
        return Found::Part(HEAD);
    };
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let len = word(4) as usize;
    if !(FIXED..=FIXED + FRAME_BYTES_MAX).contains(&len) {
        return Found::Nothing;
    }
    let Some(body) = bytes.get(HEAD..HEAD + len) else {
        return Found::Part(HEAD + len);
    };
    if crc32fast::hash(body) != word(8) {
        return Found::Nothing;
    }
    let eight = |at: usize| {
        let mut eight = [0; 8];
        eight.copy_from_slice(&body[at..at + 8]);
        eight
    };
    let frame = Frame {
        seq: Seq(u64::from_le_bytes(eight(0))),
        time: Time::from_ms(i64::from_le_bytes(eight(8))),
        stream: match body[16] {
            0 => Stream::Stdout,
            1 => Stream::Stderr,
            _ => Stream::Note,
        },
        bytes: body[FIXED..].to_vec(),
    };
    Found::Frame(frame, HEAD + len)
}

/// Where the next frame may begin, from 1 on; the end of the bytes, less what may be the beginning of a mark.
pub(crate) fn next_mark(bytes: &[u8]) -> usize {
    let found = bytes
        .windows(MARK.len())
        .skip(1)
        .position(|window| window == MARK);
    match found {
        Some(at) => at + 1,
        None => bytes.len().saturating_sub(MARK.len() - 1).max(1),
    }
}
