//! A message on a socket: its length in four bytes, little-endian, then itself. Memory grows with what really came,
//! never with what a length claims.

use std::io::{self, Read, Write};
use std::time::Instant;

/// Bytes of a message.
pub(super) const FRAME_MAX: usize = 2 << 30;
/// Bytes that are made room for before any of them came.
const STEP: usize = 1 << 20;
/// Bytes of the length.
const HEAD: usize = 4;

/// A message that is being written; the room for its length is in it.
pub(super) struct Frame(Vec<u8>);

impl Frame {
    pub(super) fn new() -> Frame {
        Frame(vec![0; HEAD])
    }

    /// Where the message is appended.
    pub(super) fn body(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }

    /// Sends it. One that is too large is refused before any of it is sent.
    pub(super) fn send(mut self, to: &mut impl Write) -> io::Result<()> {
        let length = self.0.len() - HEAD;
        let head = u32::try_from(length).ok().filter(|_| length <= FRAME_MAX);
        let head = head.ok_or_else(|| too_large(length))?;
        self.0[..HEAD].copy_from_slice(&head.to_le_bytes());
        to.write_all(&self.0)
    }
}

fn too_large(length: usize) -> io::Error {
    let text = format!("a message of {length} bytes; at most {FRAME_MAX} are carried");
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// The next message; `None` where the other end closed the socket between messages. The time is looked at between
/// reads, so that one that gives a byte now and then holds nobody up for ever.
pub(super) fn receive(from: &mut impl Read, until: Option<Instant>) -> io::Result<Option<Vec<u8>>> {
    let mut head = [0; HEAD];
    let first = loop {
        match from.read(&mut head) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => break read?,
        }
    };
    if first == 0 {
        return Ok(None);
    }
    fill(from, &mut head[first..], until)?;
    let length = u32::from_le_bytes(head) as usize;
    if length > FRAME_MAX {
        let error = too_large(length);
        return Err(io::Error::new(io::ErrorKind::InvalidData, error));
    }
    let mut body = Vec::new();
    while body.len() < length {
        let have = body.len();
        let step = (length - have).min(have.max(STEP));
        body.resize(have + step, 0);
        fill(from, &mut body[have..], until)?;
    }
    Ok(Some(body))
}

fn fill(from: &mut impl Read, mut rest: &mut [u8], until: Option<Instant>) -> io::Result<()> {
    while !rest.is_empty() {
        match from.read(rest) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => rest = &mut rest[n..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if !rest.is_empty() && until.is_some_and(|until| Instant::now() >= until) {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(body: &[u8]) -> Vec<u8> {
        let (mut frame, mut out) = (Frame::new(), Vec::new());
        frame.body().extend(body);
        frame.send(&mut out).unwrap();
        out
    }

    /// Gives a byte at a time.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let n = into.len().min(self.0.len()).min(1);
            into[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    #[test]
    fn messages_come_back_and_an_end_between_them_is_none() {
        let long = vec![7; STEP * 3 + 5];
        for body in [&b""[..], b"x", &long] {
            let wire = [sent(body), sent(b"next")].concat();
            let mut from = wire.as_slice();
            assert_eq!(receive(&mut from, None).unwrap().unwrap(), body);
            assert_eq!(receive(&mut from, None).unwrap().unwrap(), b"next");
            assert!(receive(&mut from, None).unwrap().is_none());
        }
        let wire = sent(b"slowly");
        let got = receive(&mut Slow(&wire), None).unwrap().unwrap();
        assert_eq!(got, b"slowly");
    }

    #[test]
    fn what_is_cut_off_or_claims_too_much_is_an_error() {
        let wire = sent(b"some words");
        for end in 1..wire.len() {
            let error = receive(&mut &wire[..end], None).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{end}");
        }
        let error = receive(&mut &[0xff; 20][..], None).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        // The largest that is taken, of which nothing comes: it costs a step of memory and not two gigabytes.
        let claim = (FRAME_MAX as u32).to_le_bytes();
        let error = receive(&mut &claim[..], None).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        let late = receive(&mut Slow(&wire), Some(Instant::now())).unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
    }
}
