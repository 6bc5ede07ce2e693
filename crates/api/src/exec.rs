//! What travels on the WebSocket of `exec`: binary messages whose first byte says what the rest is.
//!
//! ```text
//! 0 stdin bytes          client → server
//! 1 end of stdin         client → server
//! 2 columns rows (u16 each, big-endian)  client → server
//! 3 stdout bytes         server → client
//! 4 stderr bytes         server → client
//! 5 exit code (i32, big-endian)          server → client, the last message
//! 6 why it could not run (UTF-8)         server → client, the last message
//! ```
//! `portforward` needs none of this: each message is bytes of the one connection, and an empty one says that no
//! more comes this way. It is over when both sides have said so.

/// The most bytes in one message, its first byte not counted.
pub const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecMessage {
    /// Bytes for the program's standard input.
    Stdin(Vec<u8>),
    /// No more of them.
    StdinEnd,
    /// The terminal's size.
    Resize {
        /// Characters in a line.
        columns: u16,
        /// Lines.
        rows: u16,
    },
    /// Bytes of its standard output.
    Stdout(Vec<u8>),
    /// Bytes of its standard error.
    Stderr(Vec<u8>),
    /// It ended.
    Exit(i32),
    /// It could not run.
    Failed(String),
}

impl ExecMessage {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let join = |tag: u8, bytes: &[u8]| [&[tag], bytes].concat();
        match self {
            ExecMessage::Stdin(bytes) => join(0, bytes),
            ExecMessage::StdinEnd => vec![1],
            ExecMessage::Resize { columns, rows } => {
                join(2, &[columns.to_be_bytes(), rows.to_be_bytes()].concat())
            }
            ExecMessage::Stdout(bytes) => join(3, bytes),
            ExecMessage::Stderr(bytes) => join(4, bytes),
            ExecMessage::Exit(code) => join(5, &code.to_be_bytes()),
            ExecMessage::Failed(why) => join(6, why.as_bytes()),
        }
    }

    /// From bytes; `None` for what is no message of this protocol.
    pub fn decode(bytes: &[u8]) -> Option<ExecMessage> {
        let (tag, rest) = bytes.split_first()?;
        if rest.len() > MESSAGE_BYTES_MAX {
            return None;
        }
        Some(match tag {
            0 => ExecMessage::Stdin(rest.to_vec()),
            1 if rest.is_empty() => ExecMessage::StdinEnd,
            2 => {
                let [a, b, c, d] = rest.try_into().ok()?;
                ExecMessage::Resize {
                    columns: u16::from_be_bytes([a, b]),
                    rows: u16::from_be_bytes([c, d]),
                }
            }
            3 => ExecMessage::Stdout(rest.to_vec()),
            4 => ExecMessage::Stderr(rest.to_vec()),
            5 => ExecMessage::Exit(i32::from_be_bytes(rest.try_into().ok()?)),
            6 => ExecMessage::Failed(String::from_utf8(rest.to_vec()).ok()?),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_there_and_back() {
        for message in [
            ExecMessage::Stdin(vec![0, 255]),
            ExecMessage::StdinEnd,
            ExecMessage::Resize {
                columns: 80,
                rows: 24,
            },
            ExecMessage::Stdout(vec![]),
            ExecMessage::Stderr(b"x".to_vec()),
            ExecMessage::Exit(-1),
            ExecMessage::Failed("no such program".to_owned()),
        ] {
            assert_eq!(ExecMessage::decode(&message.encode()), Some(message));
        }
        assert_eq!(
            ExecMessage::Resize {
                columns: 80,
                rows: 24
            }
            .encode(),
            [2, 0, 80, 0, 24]
        );
    }

    #[test]
    fn other_bytes_are_no_message() {
        for bytes in [
            &b""[..],
            b"\x07",
            b"\x01x",
            b"\x02\x00",
            b"\x05",
            b"\x06\xff",
        ] {
            assert_eq!(ExecMessage::decode(bytes), None, "{bytes:?}");
        }
        assert_eq!(ExecMessage::decode(&vec![0; MESSAGE_BYTES_MAX + 2]), None);
    }
}
