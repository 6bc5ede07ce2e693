//! One file: written at its end, read from anywhere. Damage costs the frames it hits and no others.

use crate::gaps::Kept;
use crate::name::{LogError, failed};
use crate::record::{self, Found, Frame, Stream};
use base::{Seq, Time};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Bytes that one page takes at most, unless its first frame alone is larger.
const PAGE_BYTES: usize = 4 << 20;

/// A file that is appended to.
pub(crate) struct Segment {
    path: PathBuf,
    file: File,
    end: u64,
}

/// Frames from a file, and where to go on.
pub(crate) struct Page {
    pub(crate) frames: Vec<Frame>,
    pub(crate) next: u64,
    /// Bytes that are no frame and lie before one.
    pub(crate) damaged: u64,
}

impl Segment {
    /// Opens a file for appending, which is made if it is missing; takes the numbers in it into `kept`. What is torn
    /// at its end, from a crash, is cut off; damage before that stays where it is.
    pub(crate) fn open(path: PathBuf, kept: &mut Kept) -> Result<Segment, LogError> {
        let dir = path.parent().expect("a log lies in a directory");
        std::fs::create_dir_all(dir).map_err(failed("make", dir))?;
        let mut options = OpenOptions::new();
        let options = options.create(true).truncate(false).read(true).write(true);
        let file = options.open(&path).map_err(failed("open", &path))?;
        let mut segment = Segment { path, file, end: 0 };
        segment.end = scan(&segment.path, kept)?;
        let (path, end) = (&segment.path, segment.end);
        segment.file.set_len(end).map_err(failed("cut", path))?;
        segment
            .file
            .seek(SeekFrom::Start(end))
            .map_err(failed("open", path))?;
        Ok(segment)
    }

    /// Appends whole records, or nothing of them.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), LogError> {
        if let Err(error) = self.file.write_all(bytes) {
            // Nothing half written stays: the next append begins where this one began.
            let _ = self.file.set_len(self.end);
            let _ = self.file.seek(SeekFrom::Start(self.end));
            return Err(failed("append to", &self.path)(error));
        }
        self.end += bytes.len() as u64;
        Ok(())
    }
}

/// Takes the numbers of a file into `kept`; where its last whole frame ends.
pub(crate) fn scan(path: &Path, kept: &mut Kept) -> Result<u64, LogError> {
    let mut at = 0;
    loop {
        let page = read(path, at)?;
        for frame in &page.frames {
            kept.add(frame.seq.0);
        }
        if page.frames.is_empty() {
            return Ok(at);
        }
        at = page.next;
    }
}

/// Frames from a position on. Without one the position stays, whatever lies there: more may be on its way.
pub(crate) fn read(path: &Path, from: u64) -> Result<Page, LogError> {
    let mut page = Page {
        frames: Vec::new(),
        next: from,
        damaged: 0,
    };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(page),
        Err(error) => return Err(failed("read", path)(error)),
    };
    file.seek(SeekFrom::Start(from))
        .map_err(failed("read", path))?;
    let mut bytes = Vec::new();
    fill(&mut file, &mut bytes, PAGE_BYTES).map_err(failed("read", path))?;
    let (mut at, mut skipped) = (0, 0);
    // Position in the file of `bytes[0]`.
    let mut start = from;
    loop {
        match record::read(&bytes[at..]) {
            Found::Frame(frame, len) => {
                page.damaged += skipped;
                skipped = 0;
                page.frames.push(frame);
                at += len;
                page.next = start + at as u64;
            }
            // A part at the end of a full page belongs to the next one.
            Found::Part(_) if !page.frames.is_empty() && bytes.len() >= PAGE_BYTES => break,
            Found::Part(len) => {
                bytes.drain(..at);
                start += at as u64;
                at = 0;
                fill(&mut file, &mut bytes, len).map_err(failed("read", path))?;
                if bytes.len() < len {
                    // The file ends here. A mark in what looked like a frame may begin a real one.
                    let rest = after_part(&bytes);
                    match rest {
                        Some(step) => {
                            at += step;
                            skipped += step as u64;
                        }
                        None => break,
                    }
                }
            }
            Found::Nothing if at >= bytes.len() => break,
            Found::Nothing => {
                let step = record::next_mark(&bytes[at..]);
                at += step;
                skipped += step as u64;
                if at + record::HEAD >= bytes.len() {
                    bytes.drain(..at);
                    start += at as u64;
                    at = 0;
                    let before = bytes.len();
                    fill(&mut file, &mut bytes, PAGE_BYTES).map_err(failed("read", path))?;
                    if bytes.len() == before && record::read(&bytes) == Found::Nothing {
                        break;
                    }
                }
            }
        }
        if page.next - from >= PAGE_BYTES as u64 {
            break;
        }
    }
    Ok(page)
}

/// Where a whole frame begins within what looks like the beginning of a longer one: damage to a length makes such.
fn after_part(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at < bytes.len() {
        at += record::next_mark(&bytes[at..]);
        if let Found::Frame(..) = record::read(bytes.get(at..)?) {
            return Some(at);
        }
    }
    None
}

/// Reads until there are so many bytes, or the file ends.
fn fill(file: &mut File, bytes: &mut Vec<u8>, len: usize) -> io::Result<()> {
    let missing = len.saturating_sub(bytes.len());
    file.take(missing as u64).read_to_end(bytes).map(drop)
}

/// What is told in the place of damage.
pub(crate) fn damage_note(n_bytes: u64, time: Time) -> Frame {
    Frame {
        seq: Seq(0),
        stream: Stream::Note,
        time,
        bytes: format!("{n_bytes} bytes of output were damaged here on the server's disk\n")
            .into_bytes(),
    }
}
