//! The least of HTTP/1.1 that a load needs: whole requests as bytes, and how far an answer has come.

use crate::Failure;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An answer that takes longer is a failure.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A request as it goes over the wire.
pub(crate) fn request(
    method: &str,
    path: &str,
    headers: &[(String, String)],
    body: &[u8],
) -> Vec<u8> {
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nhost: bench\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    [head.as_bytes(), body].concat()
}

/// The value of a header of an answer.
pub(crate) fn header<'a>(answer: &'a [u8], name: &str) -> Option<&'a str> {
    let head = answer.windows(4).position(|at| at == b"\r\n\r\n")?;
    let mut lines = std::str::from_utf8(&answer[..head]).ok()?.split("\r\n");
    lines.find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

/// A whole answer at the beginning of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Where the body begins.
    pub(crate) body: usize,
    /// Where the answer ends.
    pub(crate) end: usize,
}

/// The answer, once it is whole.
pub(crate) fn answer(bytes: &[u8]) -> Result<Option<Answer>, Failure> {
    let Some(head) = bytes.windows(4).position(|at| at == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&bytes[..head])?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let status = status.and_then(|status| status.parse().ok());
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    });
    let (Some(status), Some(length)) = (status, length) else {
        return Err(format!("not an answer with a length: {text}").into());
    };
    let body = head + 4;
    let end = body + length;
    Ok((bytes.len() >= end).then_some(Answer { status, body, end }))
}

/// One request on a connection of its own: status and body.
pub(crate) fn ask(address: SocketAddr, request: &[u8]) -> Result<(u16, Vec<u8>), Failure> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(request)?;
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 << 10];
    loop {
        if let Some(answer) = answer(&bytes)? {
            return Ok((answer.status, bytes[answer.body..answer.end].to_vec()));
        }
        match stream.read(&mut buffer)? {
            0 => return Err("the server closed the connection before it answered".into()),
            n => bytes.extend_from_slice(&buffer[..n]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_once_it_is_whole() {
        let whole = b"HTTP/1.1 429 Too Many\r\nContent-Length: 3\r\ndate: x\r\n\r\nabcHTTP/1.1";
        for cut in 0..whole.len() {
            let got = answer(&whole[..cut]).unwrap();
            assert_eq!(got.is_some(), cut >= whole.len() - 8, "{cut}");
        }
        let got = answer(whole).unwrap().unwrap();
        assert_eq!((got.status, &whole[got.body..got.end]), (429, &b"abc"[..]));
        assert!(answer(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
    }
}
