//! Bounds that the tar reader does not have. It takes names that do not fit into a header, and pax records, into
//! memory whole, however long they say they are; a few bytes of zstd can stand for gigabytes of them. This reader
//! passes the archive on and follows its headers: entries are counted, extension records are bounded.
//!
//! Format: POSIX.1-2017 `pax`, "ustar Interchange Format"; GNU tar's types `L`, `K` and `S`.

use crate::NAME_BYTES_MAX;
use std::io::{self, Read};

/// Bytes of a header, and of what everything is rounded up to.
const BLOCK: usize = 512;
/// The most bytes of one pax record block: names and links in it are bounded too.
const PAX_BYTES_MAX: u64 = 64 << 10;
/// Extension blocks before one entry: a long name, a long link, a pax block, a global pax block.
const EXTENSIONS_MAX: usize = 4;

/// Why the archive is not read on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// More entries than this.
    TooMany(usize),
    /// Something about an entry, in words.
    Entry(&'static str),
}

impl Refused {
    /// What this reader meant by an error, if it was this reader's.
    pub(crate) fn of(error: &io::Error) -> Option<Refused> {
        let mut source: Option<&(dyn std::error::Error + 'static)> = error
            .get_ref()
            .map(|inner| inner as &(dyn std::error::Error + 'static));
        // The tar reader wraps what it cannot read.
        while let Some(error) = source {
            if let Some(refused) = error.downcast_ref::<Refused>() {
                return Some(refused.clone());
            }
            source = match error.downcast_ref::<io::Error>() {
                Some(inner) => inner.get_ref().map(|inner| inner as _),
                None => error.source(),
            };
        }
        None
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refused::TooMany(limit) => write!(f, "the archive has more than {limit} entries"),
            Refused::Entry(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Refused {}

/// Where the reader stands.
enum State {
    /// In a header: the bytes of it so far.
    Header(Vec<u8>),
    /// In what belongs to a header: bytes left; for pax records those that were seen.
    Body { left: u64, pax: Option<Vec<u8>> },
}

/// See the module.
pub(crate) struct Guard<R> {
    inner: R,
    state: State,
    entries_left: usize,
    entries_max: usize,
    extensions: usize,
}

impl<R: Read> Guard<R> {
    pub(crate) fn new(inner: R, entries_max: usize) -> Guard<R> {
        Guard {
            inner,
            state: State::Header(Vec::with_capacity(BLOCK)),
            entries_left: entries_max,
            entries_max,
            extensions: 0,
        }
    }

    pub(crate) fn into_inner(self) -> R {
        self.inner
    }

    /// Follows bytes that are about to be passed on.
    fn follow(&mut self, mut bytes: &[u8]) -> Result<(), Refused> {
        while !bytes.is_empty() {
            match &mut self.state {
                State::Header(header) => {
                    let n = (BLOCK - header.len()).min(bytes.len());
                    header.extend_from_slice(&bytes[..n]);
                    bytes = &bytes[n..];
                    if header.len() == BLOCK {
                        let header = std::mem::take(header);
                        self.state = self.after(&header)?;
                    }
                }
                State::Body { left, pax } => {
                    let n = usize::try_from(*left)
                        .unwrap_or(usize::MAX)
                        .min(bytes.len());
                    if let Some(pax) = pax {
                        pax.extend_from_slice(&bytes[..n]);
                    }
                    bytes = &bytes[n..];
                    *left -= n as u64;
                    if *left == 0 {
                        // Sizes that are not those of the headers would lead this reader astray.
                        if pax.as_ref().is_some_and(|pax| contains(pax, b" size=")) {
                            return Err(Refused::Entry("a file of more than 8 GiB in pax form"));
                        }
                        self.state = State::Header(Vec::with_capacity(BLOCK));
                    }
                }
            }
        }
        Ok(())
    }

    fn after(&mut self, header: &[u8]) -> Result<State, Refused> {
        let next = State::Header(Vec::with_capacity(BLOCK));
        if header.iter().all(|byte| *byte == 0) {
            return Ok(next);
        }
        let size = size(&header[124..136]).ok_or(Refused::Entry("an entry without a size"))?;
        let (limit, is_pax) = match header[156] {
            b'L' | b'K' => (Some(NAME_BYTES_MAX as u64 + 1), false),
            b'x' | b'g' => (Some(PAX_BYTES_MAX), true),
            b'S' => return Err(Refused::Entry("a sparse file")),
            _ => (None, false),
        };
        match limit {
            Some(limit) => {
                self.extensions += 1;
                if size > limit || self.extensions > EXTENSIONS_MAX {
                    return Err(Refused::Entry("an entry whose name is too long"));
                }
            }
            None => {
                self.extensions = 0;
                self.entries_left = self
                    .entries_left
                    .checked_sub(1)
                    .ok_or(Refused::TooMany(self.entries_max))?;
            }
        }
        let left = size
            .checked_next_multiple_of(BLOCK as u64)
            .ok_or(Refused::Entry("an entry without a size"))?;
        Ok(if left == 0 {
            next
        } else {
            State::Body {
                left,
                pax: is_pax.then(Vec::new),
            }
        })
    }
}

/// Octal digits, or with the first bit set a big-endian number (GNU tar, for files of 8 GiB and more).
fn size(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        let bytes: [u8; 8] = field[4..].try_into().ok()?;
        return Some(u64::from_be_bytes(bytes));
    }
    let text = std::str::from_utf8(field).ok()?;
    let text = text.trim_matches(['\0', ' ']);
    if text.is_empty() {
        return Some(0);
    }
    u64::from_str_radix(text, 8).ok()
}

fn contains(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

impl<R: Read> Read for Guard<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(into)?;
        self.follow(&into[..n])
            .map_err(|refused| io::Error::new(io::ErrorKind::InvalidData, refused))?;
        Ok(n)
    }
}
