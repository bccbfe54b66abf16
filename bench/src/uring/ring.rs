//! A batch of operations on one descriptor, as cheap as io_uring makes it: one system call, descriptor and buffers
//! registered, completions handled by the thread that waits for them anyway.
#![allow(
    unsafe_code,
    reason = "io_uring takes pointers to the buffers that the kernel is to fill or to send"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use io_uring::squeue::Entry;
use io_uring::types::Fixed;
use io_uring::{IoUring, opcode};

use super::{BATCH, MAX_LEN};

/// Where the one descriptor is registered.
const FD: Fixed = Fixed(0);

/// A ring with [`BATCH`] buffers, for a descriptor that does not block.
pub(super) struct Ring {
    ring: IoUring,
    /// Leaked, so that no operation that the kernel still holds on to can outlive its buffer.
    buffers: &'static mut [[u8; MAX_LEN]; BATCH],
}

impl Ring {
    /// Sets it up for `fd`.
    pub(super) fn new(fd: impl AsFd) -> io::Result<Self> {
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun();
        // Before Linux 6.1 without these two.
        let ring = builder.build(BATCH as u32).or_else(|_| IoUring::new(BATCH as u32))?;
        ring.submitter().register_files(&[fd.as_fd().as_raw_fd()])?;
        let buffers = Box::leak(Box::new([[0; MAX_LEN]; BATCH]));
        let parts = buffers
            .each_mut()
            .map(|buffer| libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() });
        // SAFETY: the buffers live as long as the process.
        unsafe { ring.submitter().register_buffers(&parts)? };
        Ok(Self { ring, buffers })
    }

    /// What was read and received.
    pub(super) fn buffers(&self) -> &[[u8; MAX_LEN]; BATCH] {
        self.buffers
    }

    /// Puts `packet` into every buffer.
    pub(super) fn fill(&mut self, packet: &[u8]) {
        for buffer in self.buffers.iter_mut() {
            buffer[..packet.len()].copy_from_slice(packet);
        }
    }

    /// Reads [`BATCH`] times; returns how many reads found something.
    pub(super) fn read(&mut self) -> io::Result<usize> {
        self.run(|i, buffer| {
            opcode::ReadFixed::new(FD, buffer, MAX_LEN as u32, i).rw_flags(libc::RWF_NOWAIT).build()
        })
    }

    /// Writes the first `len` bytes of each buffer.
    pub(super) fn write(&mut self, len: usize) -> io::Result<usize> {
        self.run(|i, buffer| opcode::WriteFixed::new(FD, buffer, len as u32, i).build())
    }

    /// Receives from a socket [`BATCH`] times; returns how often something came.
    pub(super) fn recv(&mut self) -> io::Result<usize> {
        self.run(|_, buffer| opcode::Recv::new(FD, buffer, MAX_LEN as u32).flags(libc::MSG_DONTWAIT).build())
    }

    /// Sends the first `len` bytes of each buffer over a connected socket.
    pub(super) fn send(&mut self, len: usize) -> io::Result<usize> {
        self.run(|_, buffer| opcode::Send::new(FD, buffer, len as u32).build())
    }

    /// Runs one operation on each buffer; returns how many succeeded, without those that would have had to wait. An
    /// error ends the benchmark: operations may still be under way then.
    fn run(&mut self, operation: impl Fn(u16, *mut u8) -> Entry) -> io::Result<usize> {
        let mut queue = self.ring.submission();
        for (i, buffer) in self.buffers.iter_mut().enumerate() {
            let entry = operation(i as u16, buffer.as_mut_ptr());
            // SAFETY: the buffer lives as long as the process, and nobody looks at it before the operation is complete.
            unsafe { queue.push(&entry) }.map_err(io::Error::other)?;
        }
        drop(queue);
        let (mut completed, mut succeeded) = (0, 0);
        while completed < BATCH {
            self.ring.submit_and_wait(BATCH - completed)?;
            for result in self.ring.completion().map(|entry| entry.result()) {
                completed += 1;
                match result {
                    0.. => succeeded += 1,
                    error if error == -libc::EAGAIN => {}
                    error => return Err(io::Error::from_raw_os_error(-error)),
                }
            }
        }
        Ok(succeeded)
    }
}
