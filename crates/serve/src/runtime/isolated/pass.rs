//! Sockets that are handed to the other process over one that it has already: nothing of it has a name that others
//! could find.

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// Hands a socket over.
pub(super) fn give(over: &UnixStream, socket: &UnixStream) -> io::Result<()> {
    let sockets = [socket.as_fd()];
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut with = SendAncillaryBuffer::new(&mut room);
    if !with.push(SendAncillaryMessage::ScmRights(&sockets)) {
        return Err(io::Error::other("no room for a socket in a message"));
    }
    loop {
        // A message without a byte of its own would be an end.
        match sendmsg(over, &[IoSlice::new(&[1])], &mut with, SendFlags::NOSIGNAL) {
            Err(rustix::io::Errno::INTR) => {}
            sent => return Ok(sent.map(drop)?),
        }
    }
}

/// Takes the next socket; `None` at the end.
pub(super) fn take(from: &UnixStream) -> io::Result<Option<UnixStream>> {
    loop {
        let mut byte = [0];
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut with = RecvAncillaryBuffer::new(&mut room);
        let mut into = [IoSliceMut::new(&mut byte)];
        let got = match recvmsg(from, &mut into, &mut with, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => continue,
            got => got?,
        };
        let mut sockets = with.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut sockets) => sockets.next(),
            _ => None,
        });
        let socket: Option<OwnedFd> = sockets.next();
        match socket {
            Some(socket) => return Ok(Some(UnixStream::from(socket))),
            None if got.bytes == 0 => return Ok(None),
            // The process has no descriptor left; whoever sent it sees its end closed.
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn a_socket_that_was_handed_over_is_the_same() {
        let (here, there) = UnixStream::pair().unwrap();
        for word in [b"one", b"two"] {
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            give(&here, &theirs).unwrap();
            drop(theirs);
            let mut got = take(&there).unwrap().unwrap();
            ours.write_all(word).unwrap();
            let mut read = [0; 3];
            got.read_exact(&mut read).unwrap();
            assert_eq!(&read, word);
        }
        drop(here);
        assert!(take(&there).unwrap().is_none());
    }
}
