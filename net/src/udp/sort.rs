//! Sorting by type in the kernel: of the sockets that share a port, transport data goes to one of the workers', and all else
//! to those for handshakes (`SO_ATTACH_REUSEPORT_CBPF`, socket(7)).
//!
//! A flood of handshake messages then fills a buffer of its own, and not that of the data, which is served in the order of
//! arrival; nor that of handshake messages which claim to show a cookie, by a mac2 that is not zero (5.4.4). Of a train that the
//! kernel has joined the first datagram decides: the others come along, whatever they are.

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::mem;

/// What a data message begins with: type 4 and three reserved bytes.
const DATA: u32 = 0x0400_0000;
/// Bytes of the shortest data message.
const MIN_DATA: u32 = 32;
/// What an initiation and a response begin with, the bytes of each, and where its mac2 is.
const WITH_MAC2: [(u32, u32, u32); 2] = [(0x0100_0000, 148, 132), (0x0200_0000, 92, 76)];
/// Where the network header is, for loads (`SKF_NET_OFF`).
const NET: u32 = -0x10_0000_i32 as u32;
/// The source's address, in words, and port: their offsets in an IP packet. If there are options or extensions, something else
/// is in the port's place, which costs nothing but the spreading.
const V4: (&[u32], u32) = (&[12], 20);
const V6: (&[u32], u32) = (&[8, 12, 16, 20], 40);

const fn statement(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

const fn jump(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_JMP | code | libc::BPF_K) as u16, jt, jf, k }
}

/// For sockets that joined their group in this order: those of `workers`, the one for handshakes, the one for those with a mac2. A
/// worker is chosen by the source, so that a peer's messages stay in order, and by `spread`, odd numbers that nobody knows:
/// strangers are not to choose whose buffer they fill.
fn program(is_v6: bool, workers: u32, spread: [u32; 2]) -> Vec<libc::sock_filter> {
    use libc::{
        BPF_A, BPF_ABS, BPF_ALU, BPF_H, BPF_JEQ, BPF_JGE, BPF_K, BPF_LD, BPF_LEN, BPF_MISC, BPF_MUL, BPF_RET,
    };
    use libc::{BPF_RSH, BPF_TAX, BPF_W, BPF_X, BPF_XOR};
    let (words, port) = if is_v6 { V6 } else { V4 };
    // What is shorter than a load reaches would be the first socket's.
    let mut program = vec![
        statement(BPF_LD | BPF_W | BPF_LEN, 0),
        jump(BPF_JGE, MIN_DATA, 1, 0),
        statement(BPF_RET | BPF_K, workers),
    ];
    for (begins, len, mac2) in WITH_MAC2 {
        program.extend([
            statement(BPF_LD | BPF_W | BPF_ABS, 0),
            jump(BPF_JEQ, begins, 0, 6),
            statement(BPF_LD | BPF_W | BPF_LEN, 0),
            jump(BPF_JGE, len, 0, 3),
            statement(BPF_LD | BPF_W | BPF_ABS, mac2),
            jump(BPF_JEQ, 0, 1, 0),
            statement(BPF_RET | BPF_K, workers + 1),
            statement(BPF_RET | BPF_K, workers),
        ]);
    }
    program.extend([
        statement(BPF_LD | BPF_W | BPF_ABS, 0),
        jump(BPF_JEQ, DATA, 1, 0),
        statement(BPF_RET | BPF_K, workers),
        statement(BPF_LD | BPF_H | BPF_ABS, NET.wrapping_add(port)),
    ]);
    for at in words {
        program.extend([
            statement(BPF_ALU | BPF_MUL | BPF_K, spread[0]),
            statement(BPF_MISC | BPF_TAX, 0),
            statement(BPF_LD | BPF_W | BPF_ABS, NET.wrapping_add(*at)),
            statement(BPF_ALU | BPF_XOR | BPF_X, 0),
        ]);
    }
    program.extend([
        statement(BPF_MISC | BPF_TAX, 0),
        statement(BPF_ALU | BPF_RSH | BPF_K, 16),
        statement(BPF_ALU | BPF_XOR | BPF_X, 0),
        statement(BPF_ALU | BPF_MUL | BPF_K, spread[1]),
        // The upper half, which depends on all bits, as a fraction of the workers.
        statement(BPF_ALU | BPF_RSH | BPF_K, 16),
        statement(BPF_ALU | BPF_MUL | BPF_K, workers),
        statement(BPF_ALU | BPF_RSH | BPF_K, 16),
        statement(BPF_RET | BPF_A, 0),
    ]);
    program
}

/// What `SO_ATTACH_REUSEPORT_CBPF` takes, for the group of sockets that the one it is set on belongs to.
pub(super) struct Sorting {
    program: Vec<libc::sock_filter>,
}

impl Sorting {
    pub(super) fn new(is_v6: bool, workers: usize) -> io::Result<Self> {
        let workers = u16::try_from(workers).map_err(|_| io::ErrorKind::InvalidInput)?;
        let state = RandomState::new();
        let spread = [1, 2].map(|number: u8| state.hash_one(number) as u32 | 1);
        Ok(Sorting { program: program(is_v6, workers.into(), spread) })
    }

    /// Has `set` set it.
    pub(super) fn attach(&mut self, set: impl FnOnce(&libc::sock_fprog) -> io::Result<()>) -> io::Result<()> {
        const { assert!(mem::size_of::<libc::sock_filter>() == 8) };
        set(&libc::sock_fprog { len: self.program.len() as u16, filter: self.program.as_mut_ptr() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_stay_within() {
        for is_v6 in [false, true] {
            let program = program(is_v6, 8, [1, 1]);
            for (at, statement) in program.iter().enumerate() {
                assert!(at + 1 + usize::from(statement.jt.max(statement.jf)) <= program.len());
            }
            assert_eq!(program.last().map(|last| u32::from(last.code) & 7), Some(libc::BPF_RET));
        }
    }
}
