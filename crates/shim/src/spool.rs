//! Output on its way: segments of frames in a directory, written by a shim, read by an engine.
//!
//! A segment is named by the number of its first frame in hexadecimal and begins with
//! [`MAGIC`]. The writer appends and begins a new segment at [`SEGMENT_BYTES`]; the reader deletes
//! segments whose frames are all kept elsewhere ([`release`]), never the newest. So the two need no
//! other agreement, and either may die at any moment.
//!
//! Space is bounded ([`Writer::open`]) and disks fill up. Then **new** output is dropped, counted, and
//! marked by a note as soon as there is room: the program goes on, numbers stay dense, and nothing
//! that a reader may be reading is taken away. Dropping the oldest instead would leave holes in the
//! numbers that no later note can fill.
//!
//! A write that fails half-way is cut off again; where even that fails, or a writer was killed, the
//! next writer begins a new segment and the reader skips the torn tail.

use crate::frame::{self, Decoded, FRAME_BYTES_MAX, Frame, HEADER_LEN, Stream};
use base::{Bytes, Seq, Time};
use rustix::fs::FallocateFlags;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The first bytes of a segment.
pub const MAGIC: &[u8; 8] = b"MSPOOL1\n";
/// A segment that has reached this is not appended to.
pub const SEGMENT_BYTES: u64 = 1 << 20;
/// A spool that was found full is looked at again no sooner than this: a directory listing each.
const RESCAN_AFTER: Duration = Duration::from_millis(50);

/// Appends frames. Never fails: what cannot be written is counted.
pub struct Writer {
    dir: PathBuf,
    bytes_max: u64,
    next: Seq,
    /// The open segment and its length.
    segment: Option<(File, u64)>,
    /// Bytes in the directory when last counted, plus what was written since.
    used: u64,
    /// When it was last counted and found full.
    full_since: Option<Instant>,
    lost: u64,
    /// Of `lost`, what no note tells yet.
    untold: u64,
}

impl Writer {
    /// Goes on after the last whole frame in `dir`, which is created if missing.
    pub fn open(dir: &Path, bytes_max: Bytes) -> io::Result<Writer> {
        fs::create_dir_all(dir)?;
        Ok(Writer {
            dir: dir.to_owned(),
            bytes_max: bytes_max.0,
            next: last(dir)?.next(),
            segment: None,
            used: size(dir)?,
            full_since: None,
            lost: 0,
            untold: 0,
        })
    }

    /// The number of the next frame.
    pub fn next(&self) -> Seq {
        self.next
    }

    /// Bytes of output that were dropped by this writer.
    pub fn lost(&self) -> Bytes {
        Bytes(self.lost)
    }

    /// Goes on after `seq`, if that is further: what lies before is kept elsewhere already.
    pub fn skip_past(&mut self, seq: Seq) {
        if seq >= self.next {
            self.next = seq.next();
            self.segment = None;
        }
    }

    /// Appends output, split into frames.
    pub fn append(&mut self, stream: Stream, time: Time, bytes: &[u8]) {
        for chunk in bytes.chunks(FRAME_BYTES_MAX) {
            let is_kept = self.try_append(stream, time, chunk).is_ok();
            if !is_kept {
                self.lost += chunk.len() as u64;
                self.untold += chunk.len() as u64;
            }
        }
    }

    /// Marks a loss that no note tells yet, if there is room. For the end, when nothing follows.
    pub fn tell_loss(&mut self, time: Time) {
        if self.untold != 0 {
            let note = frame::loss_note(self.untold);
            if self.put(Stream::Note, time, note.as_bytes()).is_ok() {
                self.untold = 0;
            }
        }
    }

    /// After a loss, the note comes first, and only where the output after it fits too: otherwise
    /// small notes would go on filling the space that output needs.
    fn try_append(&mut self, stream: Stream, time: Time, chunk: &[u8]) -> io::Result<()> {
        if self.untold != 0 {
            let note = frame::loss_note(self.untold);
            self.reserve((2 * HEADER_LEN + note.len() + chunk.len()) as u64)?;
            self.put(Stream::Note, time, note.as_bytes())?;
            self.untold = 0;
        }
        self.put(stream, time, chunk)
    }

    /// Makes sure of room for the next `len` bytes without showing them to readers.
    fn reserve(&mut self, len: u64) -> io::Result<()> {
        self.check_room(len)?;
        let (file, end) = self.open_segment()?;
        match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, *end, len) {
            // A file system that cannot promise: the write will show.
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn open_segment(&mut self) -> io::Result<&mut (File, u64)> {
        let is_long = |(_, len): &(File, u64)| *len >= SEGMENT_BYTES;
        let segment = match self.segment.take() {
            Some(segment) if !is_long(&segment) => segment,
            Some(_) | None => {
                self.used += MAGIC.len() as u64;
                begin(&self.dir, self.next)?
            }
        };
        Ok(self.segment.insert(segment))
    }

    fn put(&mut self, stream: Stream, time: Time, bytes: &[u8]) -> io::Result<()> {
        let len = (HEADER_LEN + bytes.len()) as u64;
        self.check_room(len)?;
        if self
            .segment
            .as_ref()
            .is_none_or(|(_, used)| *used >= SEGMENT_BYTES)
        {
            self.segment = Some(begin(&self.dir, self.next)?);
            self.used += MAGIC.len() as u64;
        }
        let Some((file, end)) = &mut self.segment else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let header = frame::header(self.next, stream, time, bytes);
        if let Err(error) = write_both(file, &header, bytes) {
            // Readers must not wait behind half a frame.
            let is_cut = file.set_len(*end).is_ok() && file.seek(SeekFrom::Start(*end)).is_ok();
            if !is_cut {
                self.segment = None;
            }
            return Err(error);
        }
        *end += len;
        self.used += len;
        self.next = self.next.next();
        Ok(())
    }

    fn check_room(&mut self, len: u64) -> io::Result<()> {
        let is_full = |used: u64| used + len > self.bytes_max;
        if !is_full(self.used) {
            return Ok(());
        }
        let may_count = self
            .full_since
            .is_none_or(|since| since.elapsed() >= RESCAN_AFTER);
        if may_count {
            self.used = size(&self.dir)?;
            self.full_since = is_full(self.used).then(Instant::now);
        }
        if is_full(self.used) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

fn begin(dir: &Path, first: Seq) -> io::Result<(File, u64)> {
    let path = segment_path(dir, first);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(MAGIC)?;
    Ok((file, MAGIC.len() as u64))
}

fn write_both(file: &mut File, header: &[u8], bytes: &[u8]) -> io::Result<()> {
    let written = file.write_vectored(&[IoSlice::new(header), IoSlice::new(bytes)])?;
    let (header_rest, bytes_rest) = if written < header.len() {
        (&header[written..], bytes)
    } else {
        (&[][..], &bytes[written - header.len()..])
    };
    file.write_all(header_rest)?;
    file.write_all(bytes_rest)
}

/// Reads frames in order, waits for none.
pub struct Reader {
    dir: PathBuf,
    next: Seq,
    segment: Option<Segment>,
}

struct Segment {
    first: Seq,
    file: File,
    /// Bytes that were read and not yet decoded.
    pending: Vec<u8>,
    /// Whether a newer segment was there before the file was last found at its end.
    is_closed: bool,
    has_frames: bool,
}

impl Reader {
    /// Reads what comes after `seq`.
    pub fn after(dir: &Path, seq: Seq) -> Reader {
        Reader {
            dir: dir.to_owned(),
            next: seq.next(),
            segment: None,
        }
    }

    /// The number of the next frame it would return.
    pub fn next(&self) -> Seq {
        self.next
    }

    /// What is there now, until about `bytes_max` of output. Empty when there is no more for now.
    pub fn read(&mut self, bytes_max: usize) -> io::Result<Vec<Frame>> {
        let mut frames = Vec::new();
        let mut n_bytes = 0;
        while n_bytes < bytes_max {
            if self.segment.is_none() {
                self.segment = self.open_segment(None)?;
            }
            let Some(segment) = &mut self.segment else {
                break;
            };
            match segment.next_frame()? {
                Some(frame) if frame.seq < self.next => {}
                Some(frame) => {
                    n_bytes += frame.bytes.len() + HEADER_LEN;
                    self.next = frame.seq.next();
                    frames.push(frame);
                }
                None if segment.is_closed => {
                    let past = segment.first;
                    let Some(newer) = self.open_segment(Some(past))? else {
                        break;
                    };
                    self.segment = Some(newer);
                }
                None => {
                    let first = segment.first;
                    let is_last = !segments(&self.dir)?.iter().any(|other| *other > first);
                    if is_last {
                        // A segment without a whole frame may be made anew under the same name.
                        if !segment.has_frames {
                            self.segment = None;
                        }
                        break;
                    }
                    // One more look: the writer may have appended before it began the newer one.
                    segment.is_closed = true;
                }
            }
        }
        Ok(frames)
    }

    /// The segment in which the next frame is or will be, later than `past`.
    fn open_segment(&self, past: Option<Seq>) -> io::Result<Option<Segment>> {
        let mut firsts = segments(&self.dir)?;
        firsts.retain(|first| past.is_none_or(|past| *first > past));
        let holds_next = firsts.iter().rev().find(|first| **first <= self.next);
        let Some(&first) = holds_next.or(firsts.first()) else {
            return Ok(None);
        };
        let mut file = match File::open(segment_path(&self.dir, first)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut magic = [0; MAGIC.len()];
        match file.read_exact(&mut magic) {
            Ok(()) => {}
            // It was just made; its head is not written yet.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        if magic != *MAGIC {
            let text = format!(
                "segment {first} in `{}` has an unknown format",
                self.dir.display()
            );
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        Ok(Some(Segment {
            first,
            file,
            pending: Vec::new(),
            is_closed: false,
            has_frames: false,
        }))
    }
}

impl Segment {
    fn next_frame(&mut self) -> io::Result<Option<Frame>> {
        loop {
            match frame::decode(&self.pending) {
                Decoded::Frame(frame, len) => {
                    self.pending.drain(..len);
                    self.has_frames = true;
                    return Ok(Some(frame));
                }
                // A torn write. Only a newer segment can follow it.
                Decoded::Corrupt => return Ok(None),
                Decoded::Incomplete => {
                    const CHUNK: u64 = (FRAME_BYTES_MAX + HEADER_LEN) as u64;
                    let n_read = (&self.file).take(CHUNK).read_to_end(&mut self.pending)?;
                    if n_read == 0 {
                        return Ok(None);
                    }
                }
            }
        }
    }
}

/// Deletes segments whose frames are all at or before `kept`. The newest stays: it is written to.
pub fn release(dir: &Path, kept: Seq) -> io::Result<()> {
    let firsts = segments(dir)?;
    for pair in firsts.windows(2) {
        if pair[1] <= kept.next() {
            fs::remove_file(segment_path(dir, pair[0]))?;
        }
    }
    Ok(())
}

/// The number of the last whole frame; 0 where there is none.
pub fn last(dir: &Path) -> io::Result<Seq> {
    let Some(&first) = segments(dir)?.last() else {
        return Ok(Seq(0));
    };
    // The newest segment may hold no whole frame; then the one before it ends right before.
    let mut last = Seq(first.0.saturating_sub(1));
    let mut reader = Reader::after(dir, last);
    loop {
        let frames = reader.read(FRAME_BYTES_MAX)?;
        let Some(frame) = frames.last() else {
            return Ok(last);
        };
        last = frame.seq;
    }
}

/// The first numbers of all segments, ascending.
fn segments(dir: &Path) -> io::Result<Vec<Seq>> {
    let mut firsts = Vec::new();
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(firsts),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".seg"));
        firsts.extend(
            number
                .and_then(|hex| u64::from_str_radix(hex, 16).ok())
                .map(Seq),
        );
    }
    firsts.sort_unstable();
    Ok(firsts)
}

fn segment_path(dir: &Path, first: Seq) -> PathBuf {
    dir.join(format!("{:016x}.seg", first.0))
}

fn size(dir: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for first in segments(dir)? {
        match fs::metadata(segment_path(dir, first)) {
            Ok(metadata) => sum += metadata.len(),
            // Released meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests;
