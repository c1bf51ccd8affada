//! Messages between processes over a unix socket, with an open descriptor if wanted (unix(7), `SCM_RIGHTS`). On a `SEQPACKET` socket
//! each message comes whole.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::{Errno, Result};

/// Sends bytes, at least one, and a descriptor; the receiver gets its own.
///
/// # Errors
/// The errno of sendmsg(2); `EMSGSIZE` if not all was sent.
pub fn send_message(socket: BorrowedFd<'_>, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(Errno::NOBUFS);
    }
    loop {
        match sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            Ok(sent) if sent == bytes.len() => return Ok(()),
            Ok(_) => return Err(Errno::MSGSIZE),
            Err(errno) => return Err(errno),
        }
    }
}

/// Receives bytes and the descriptor that came with them, closed on exec. No bytes mean that the other side ended.
///
/// # Errors
/// The errno of recvmsg(2); `EMSGSIZE` if the message is longer than `buffer`.
pub fn receive_message(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            other => break other?,
        }
    };
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Err(Errno::MSGSIZE);
    }
    let mut fds = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    Ok((received.bytes, fds.next().and_then(|mut fds| fds.next())))
}

/// Sends a descriptor; the receiver gets its own.
///
/// # Errors
/// As [`send_message`].
pub fn send_fd(socket: BorrowedFd<'_>, fd: BorrowedFd<'_>) -> Result<()> {
    send_message(socket, b"f", Some(fd))
}

/// Receives one descriptor, closed on exec.
///
/// # Errors
/// As [`receive_message`]; `EPIPE` if the other side ended, `EBADMSG` if no descriptor came.
pub fn receive_fd(socket: BorrowedFd<'_>) -> Result<OwnedFd> {
    match receive_message(socket, &mut [0])? {
        (0, _) => Err(Errno::PIPE),
        (_, fd) => fd.ok_or(Errno::BADMSG),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_descriptor_arrives_and_its_absence_is_an_error() {
        let (a, mut b) = UnixStream::pair().unwrap();
        let (reader, mut writer) = std::io::pipe().unwrap();
        send_fd(a.as_fd(), reader.as_fd()).unwrap();
        drop(reader);
        let got = receive_fd(b.as_fd()).unwrap();
        writer.write_all(b"x").unwrap();
        drop(writer);
        let mut text = String::new();
        std::fs::File::from(got).read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");
        (&a).write_all(b"no").unwrap();
        assert_eq!(receive_fd(b.as_fd()).unwrap_err(), Errno::BADMSG);
        drop(a);
        let mut rest = Vec::new();
        b.read_to_end(&mut rest).unwrap();
        assert_eq!(receive_fd(b.as_fd()).unwrap_err(), Errno::PIPE);
    }
}
