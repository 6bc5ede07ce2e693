//! Frames of output become lines, each replica's apart, so that prefixes stand only where lines begin.

use api::answer::LogFrame;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The longest line that is kept whole; a longer one is printed in parts.
const LINE_BYTES_MAX: usize = 64 << 10;

/// How lines begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Style {
    /// `worker/1 | `.
    pub(crate) prefix: bool,
    /// The time.
    pub(crate) timestamps: bool,
}

/// Joins frames into lines.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    style: Style,
    open: BTreeMap<(String, u32, u32), String>,
}

impl Lines {
    pub(crate) fn new(style: Style) -> Lines {
        Lines {
            style,
            open: BTreeMap::new(),
        }
    }

    /// Text to print for a frame. Without prefixes and times it is the frame's own text, at once.
    pub(crate) fn push(&mut self, frame: &LogFrame) -> String {
        if self.style == Style::default() {
            return frame.text.clone();
        }
        let mut text = String::new();
        let key = (frame.group.clone(), frame.index, frame.attempt);
        for piece in frame.text.split_inclusive('\n') {
            let open = self
                .open
                .entry(key.clone())
                .or_insert_with(|| head(self.style, frame));
            open.push_str(piece);
            if piece.ends_with('\n') || open.len() > LINE_BYTES_MAX {
                let line = self.open.remove(&key).unwrap_or_default();
                text.push_str(line.trim_end_matches('\n'));
                text.push('\n');
            }
        }
        text
    }

    /// Lines that never ended.
    pub(crate) fn finish(&mut self) -> String {
        let open = std::mem::take(&mut self.open);
        open.into_values().map(|line| format!("{line}\n")).collect()
    }
}

fn head(style: Style, frame: &LogFrame) -> String {
    let mut head = String::new();
    if style.prefix {
        write!(head, "{}/{} | ", frame.group, frame.index)
            .expect("writing to a String cannot fail");
    }
    if style.timestamps {
        write!(head, "{} ", frame.time).expect("writing to a String cannot fail");
    }
    head
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::answer::LogStream;
    use base::Time;

    fn frame(index: u32, text: &str) -> LogFrame {
        LogFrame {
            group: "worker".to_owned(),
            index,
            attempt: 1,
            stream: LogStream::Stdout,
            seq: 1,
            time: Time::from_ms(0),
            text: text.to_owned(),
        }
    }

    #[test]
    fn lines_of_two_replicas_do_not_mix() {
        let mut lines = Lines::new(Style {
            prefix: true,
            timestamps: false,
        });
        assert_eq!(lines.push(&frame(0, "a\nb")), "worker/0 | a\n");
        assert_eq!(lines.push(&frame(1, "x\n")), "worker/1 | x\n");
        assert_eq!(
            lines.push(&frame(0, "c\n\nd")),
            "worker/0 | bc\nworker/0 |\n".replace("|\n", "| \n")
        );
        assert_eq!(lines.finish(), "worker/0 | d\n");
        assert_eq!(lines.finish(), "");
    }

    #[test]
    fn plain_text_goes_through_as_it_is() {
        let mut lines = Lines::new(Style::default());
        assert_eq!(lines.push(&frame(0, "50%\r")), "50%\r");
        assert_eq!(lines.finish(), "");
    }

    #[test]
    fn times_and_endless_lines() {
        let mut lines = Lines::new(Style {
            prefix: true,
            timestamps: true,
        });
        assert_eq!(
            lines.push(&frame(1, "x\n")),
            "worker/1 | 1970-01-01T00:00:00.000Z x\n"
        );
        let printed: usize = (0..100)
            .map(|_| lines.push(&frame(1, &"y".repeat(10_000))).len())
            .sum();
        assert!(printed > 900_000, "an endless line is printed in parts");
    }
}
