//! One piece of output as it lies in a spool segment.
//!
//! ```text
//! 0      4      8          16         24       25
//! ├ crc ─┼ len ─┼── seq ───┼── time ──┼ stream ┼── len bytes ──┤   little endian
//! ```
//! `crc` is CRC-32 (IEEE) over everything after it; `time` is milliseconds since 1970.

use base::{Seq, Time};

/// The most bytes of output in one frame.
pub const FRAME_BYTES_MAX: usize = 64 << 10;
/// Bytes before a frame's output.
pub const HEADER_LEN: usize = 25;

/// Which stream a frame comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stream {
    /// Standard output.
    Stdout = 1,
    /// Standard error.
    Stderr = 2,
    /// A remark about the output itself: a cut, a loss.
    Note = 3,
}

impl Stream {
    fn from_byte(byte: u8) -> Option<Stream> {
        [Stream::Stdout, Stream::Stderr, Stream::Note]
            .into_iter()
            .find(|stream| *stream as u8 == byte)
    }
}

/// A numbered piece of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Dense from 1 within a replica.
    pub seq: Seq,
    /// Where it comes from.
    pub stream: Stream,
    /// When it was read from the pipe.
    pub time: Time,
    /// At most [`FRAME_BYTES_MAX`].
    pub bytes: Vec<u8>,
}

/// The header of a frame with these bytes.
pub fn header(seq: Seq, stream: Stream, time: Time, bytes: &[u8]) -> [u8; HEADER_LEN] {
    assert!(bytes.len() <= FRAME_BYTES_MAX, "a frame is split before");
    let len = u32::try_from(bytes.len()).expect("FRAME_BYTES_MAX fits 32 bits");
    let mut header = [0; HEADER_LEN];
    header[4..8].copy_from_slice(&len.to_le_bytes());
    header[8..16].copy_from_slice(&seq.0.to_le_bytes());
    header[16..24].copy_from_slice(&time.as_ms().to_le_bytes());
    header[24] = stream as u8;
    let mut crc = crc32fast::Hasher::new();
    crc.update(&header[4..]);
    crc.update(bytes);
    header[..4].copy_from_slice(&crc.finalize().to_le_bytes());
    header
}

/// What lies at the beginning of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A whole frame and how many bytes it took.
    Frame(Frame, usize),
    /// The beginning of one.
    Incomplete,
    /// Something else: a torn write, or damage.
    Corrupt,
}

/// Reads the frame at the beginning of `bytes`.
pub fn decode(bytes: &[u8]) -> Decoded {
    let Some((header, rest)) = bytes.split_at_checked(HEADER_LEN) else {
        return Decoded::Incomplete;
    };
    let four = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
    let eight = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
    let len = four(4) as usize;
    let Some(stream) = Stream::from_byte(header[24]).filter(|_| len <= FRAME_BYTES_MAX) else {
        return Decoded::Corrupt;
    };
    let Some(output) = rest.get(..len) else {
        return Decoded::Incomplete;
    };
    let mut crc = crc32fast::Hasher::new();
    crc.update(&header[4..]);
    crc.update(output);
    if crc.finalize() != four(0) {
        return Decoded::Corrupt;
    }
    let frame = Frame {
        seq: Seq(eight(8)),
        stream,
        time: Time::from_ms(eight(16).cast_signed()),
        bytes: output.to_vec(),
    };
    Decoded::Frame(frame, HEADER_LEN + len)
}

const LOSS_TAIL: &str = " bytes of output were dropped here: no space for them";

/// The text of a [`Stream::Note`] that stands where output was dropped.
pub fn loss_note(n_bytes: u64) -> String {
    format!("{n_bytes}{LOSS_TAIL}\n")
}

/// How many bytes a note says were dropped; 0 for other notes.
pub fn loss_in_note(note: &[u8]) -> u64 {
    std::str::from_utf8(note)
        .ok()
        .and_then(|text| text.trim_end().strip_suffix(LOSS_TAIL))
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(bytes: &[u8]) -> Vec<u8> {
        let header = header(Seq(7), Stream::Stderr, Time::from_ms(-5), bytes);
        [header.as_slice(), bytes].concat()
    }

    #[test]
    fn a_frame_comes_back() {
        for len in [0, 1, 1_000, FRAME_BYTES_MAX] {
            let output = vec![b'x'; len];
            let encoded = whole(&output);
            let Decoded::Frame(frame, taken) = decode(&encoded) else {
                panic!("{len} bytes");
            };
            assert_eq!((taken, frame.bytes), (encoded.len(), output));
            assert_eq!((frame.seq, frame.time), (Seq(7), Time::from_ms(-5)));
        }
    }

    #[test]
    fn every_prefix_is_incomplete_and_every_flipped_bit_is_noticed() {
        let encoded = whole(b"loss 0.25\n");
        for len in 0..encoded.len() {
            assert_eq!(decode(&encoded[..len]), Decoded::Incomplete);
        }
        for bit in 0..encoded.len() * 8 {
            let mut damaged = encoded.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(decode(&damaged), Decoded::Frame(..)), "bit {bit}");
        }
    }

    #[test]
    fn losses_are_counted_from_notes() {
        assert_eq!(loss_in_note(loss_note(1_234).as_bytes()), 1_234);
        assert_eq!(loss_in_note(b"the output was cut"), 0);
        assert_eq!(loss_in_note(&[0xff, 0xfe]), 0);
    }
}
