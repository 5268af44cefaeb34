//! The protocol between front and zygote: the first byte says how many files come beside the rest.
#![no_main]

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use libfuzzer_sys::fuzz_target;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg, socketpair,
};
use samara_shim::zygote::protocol::{receive_reply, receive_request};

fuzz_target!(|bytes: &[u8]| {
    let Some((files, message)) = bytes.split_first() else { return };
    deliver(message, usize::from(files % 16), |socket| drop(receive_request(socket)));
    deliver(message, usize::from(files % 16), |socket| drop(receive_reply(socket)));
});

fn deliver(message: &[u8], files: usize, receive: impl Fn(BorrowedFd<'_>)) {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (here, there): (OwnedFd, OwnedFd) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("a socket pair");
    let files = vec![there.as_fd(); files];
    let mut space = [MaybeUninit::uninit(); 1024];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    assert!(files.is_empty() || beside.push(SendAncillaryMessage::ScmRights(&files)), "there is space");
    if sendmsg(&here, &[IoSlice::new(message)], &mut beside, SendFlags::empty()).is_ok() {
        receive(there.as_fd());
    }
}
