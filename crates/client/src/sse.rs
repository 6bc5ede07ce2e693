//! Server-sent events (WHATWG HTML §9.2), from bytes as they come. No I/O.

use std::mem;

/// The most bytes of one event. One object with a long status is far below.
pub(crate) const EVENT_BYTES_MAX: usize = 16 << 20;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    /// The last id seen, of this event or one before.
    pub(crate) id: String,
    /// Its type; empty means `message`.
    pub(crate) event: String,
    /// Its data lines, joined by newlines.
    pub(crate) data: String,
}

/// An event larger than [`EVENT_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event has more than {EVENT_BYTES_MAX} bytes")]
pub(crate) struct TooLarge;

/// Takes bytes, gives events.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    line: Vec<u8>,
    after_cr: bool,
    id: String,
    event: String,
    data: String,
    has_data: bool,
}

impl Parser {
    /// Reads bytes; every event that they complete goes to `events`.
    pub(crate) fn push(&mut self, bytes: &[u8], events: &mut Vec<Event>) -> Result<(), TooLarge> {
        for byte in bytes {
            let after_cr = mem::replace(&mut self.after_cr, *byte == b'\r');
            match byte {
                b'\n' if after_cr => {}
                b'\n' | b'\r' => {
                    let line = mem::take(&mut self.line);
                    self.read_line(&String::from_utf8_lossy(&line), events);
                }
                _ => self.line.push(*byte),
            }
        }
        if self.line.len() + self.data.len() > EVENT_BYTES_MAX {
            return Err(TooLarge);
        }
        Ok(())
    }

    fn read_line(&mut self, line: &str, events: &mut Vec<Event>) {
        if line.is_empty() {
            if mem::take(&mut self.has_data) {
                events.push(Event {
                    id: self.id.clone(),
                    event: mem::take(&mut self.event),
                    data: mem::take(&mut self.data),
                });
            }
            self.event.clear();
            return;
        }
        let (field, value) = line.split_once(':').map_or((line, ""), |(field, value)| {
            (field, value.strip_prefix(' ').unwrap_or(value))
        });
        match field {
            "id" if !value.contains('\0') => value.clone_into(&mut self.id),
            "event" => value.clone_into(&mut self.event),
            "data" => {
                if mem::replace(&mut self.has_data, true) {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            // A comment keeps the connection alive; `retry` is not ours to follow.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: &str, event: &str, data: &str) -> Event {
        Event {
            id: id.to_owned(),
            event: event.to_owned(),
            data: data.to_owned(),
        }
    }

    const STREAM: &str = "\u{feff}: hello\n\nid: 1\ndata: {\"a\": 1}\n\ndata:two\r\ndata: lines\r\n\r\nevent: end\rid:7\rdata\r\rid: 8\n\ndata: é\n\ndata: unfinished";

    #[test]
    fn events_come_out_however_the_bytes_are_cut() {
        let stream = STREAM.trim_start_matches('\u{feff}').as_bytes();
        let expect = [
            event("1", "", "{\"a\": 1}"),
            event("1", "", "two\nlines"),
            event("7", "end", ""),
            event("8", "", "é"),
        ];
        for size in 1..stream.len() {
            let (mut parser, mut events) = (Parser::default(), Vec::new());
            for piece in stream.chunks(size) {
                parser.push(piece, &mut events).unwrap();
            }
            assert_eq!(events, expect, "cut in pieces of {size}");
        }
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let (mut parser, mut events) = (Parser::default(), Vec::new());
        let piece = vec![b'x'; 1 << 20];
        let refused = (0..20).any(|_| parser.push(&piece, &mut events).is_err());
        assert!(refused && events.is_empty());
    }
}
