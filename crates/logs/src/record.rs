//! One frame on disk, version 1, little-endian:
//!
//! ```text
//!   length of what follows the checksum u32 | crc32 of it u32 | seq u64 | time i64 | stream u8 | bytes
//! ```

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
    /// Its number, from 1.
    pub seq: Seq,
    /// Which stream.
    pub stream: Stream,
    /// When it was written.
    pub time: Time,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

const HEAD: usize = 8;
const FIXED: usize = 17;
/// A longer record is damage.
const RECORD_MAX: usize = 16 << 20;

pub(crate) fn write(frame: &Frame, into: &mut Vec<u8>) {
    let mut body = Vec::with_capacity(FIXED + frame.bytes.len());
    body.extend(frame.seq.0.to_le_bytes());
    body.extend(frame.time.as_ms().to_le_bytes());
    body.push(match frame.stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
        Stream::Note => 2,
    });
    body.extend(&frame.bytes);
    into.extend((body.len() as u32).to_le_bytes());
    into.extend(crc32fast::hash(&body).to_le_bytes());
    into.extend(body);
}

/// Whole, undamaged records from the front, and how many bytes they take.
pub(crate) fn read_all(bytes: &[u8]) -> (Vec<Frame>, usize) {
    let mut frames = Vec::new();
    let mut at = 0;
    while let Some((frame, len)) = read(&bytes[at..]) {
        frames.push(frame);
        at += len;
    }
    (frames, at)
}

fn read(bytes: &[u8]) -> Option<(Frame, usize)> {
    let head = bytes.get(..HEAD)?;
    let len = u32::from_le_bytes(head[..4].try_into().ok()?) as usize;
    let crc = u32::from_le_bytes(head[4..].try_into().ok()?);
    if !(FIXED..=RECORD_MAX).contains(&len) {
        return None;
    }
    let body = bytes.get(HEAD..HEAD + len)?;
    if crc32fast::hash(body) != crc {
        return None;
    }
    let frame = Frame {
        seq: Seq(u64::from_le_bytes(body[..8].try_into().ok()?)),
        time: Time::from_ms(i64::from_le_bytes(body[8..16].try_into().ok()?)),
        stream: match body[16] {
            0 => Stream::Stdout,
            1 => Stream::Stderr,
            _ => Stream::Note,
        },
        bytes: body[FIXED..].to_vec(),
    };
    Some((frame, HEAD + len))
}
