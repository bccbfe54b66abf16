//! Small programs for the kernel's BPF machine: the few of its instructions that are needed here, jumps to labels, and
//! loading (Linux Documentation/bpf/standardization/instruction-set.rst, bpf(2)).

use std::ffi::{CStr, c_int};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

const BPF_PROG_LOAD: c_int = 5;
const BPF_PROG_TYPE_SOCKET_FILTER: u32 = 1;

// What libc has not, since the classic machine has not.
const BPF_ALU64: u32 = 0x07;
const BPF_MOV: u32 = 0xb0;
const BPF_JNE: u32 = 0x50;
const BPF_EXIT: u32 = 0x90;

/// How often loading is tried again when a signal ends the verification.
const TRIES: usize = 5;
/// Room for what the verifier has to say about a program, in bytes.
const LOG_LEN: usize = 64 << 10;

/// One of the machine's registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Register(u8);

/// What a load from the packet results in, and what the program returns.
pub(super) const R0: Register = Register(0);
/// The packet, when the program starts.
pub(super) const R1: Register = Register(1);
/// The packet, for the loads from it. They leave the registers from here on alone.
pub(super) const R6: Register = Register(6);
pub(super) const R7: Register = Register(7);
pub(super) const R8: Register = Register(8);
pub(super) const R9: Register = Register(9);

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instruction {
    code: u8,
    /// Destination and source, a nibble each, as bit fields of the machine's order.
    registers: u8,
    offset: i16,
    immediate: u32,
}

const fn instruction(code: u32, to: Register, from: Register, immediate: u32) -> Instruction {
    let registers = if cfg!(target_endian = "big") { to.0 << 4 | from.0 } else { from.0 << 4 | to.0 };
    Instruction { code: code as u8, registers, offset: 0, immediate }
}

/// [`R0`] becomes the packet's byte at `offset`. Like all loads from the packet it ends the program, which then returns
/// zero, if the packet ends before that.
pub(super) const fn load_byte(offset: u32) -> Instruction {
    instruction(libc::BPF_LD | libc::BPF_ABS | libc::BPF_B, R0, R0, offset)
}

/// [`R0`] becomes the 16-bit number at `offset`, which is in network byte order.
pub(super) const fn load_half(offset: u32) -> Instruction {
    instruction(libc::BPF_LD | libc::BPF_ABS | libc::BPF_H, R0, R0, offset)
}

/// [`R0`] becomes the 32-bit number at `offset`, which is in network byte order.
pub(super) const fn load_word(offset: u32) -> Instruction {
    instruction(libc::BPF_LD | libc::BPF_ABS | libc::BPF_W, R0, R0, offset)
}

/// [`R0`] becomes the 32-bit number at the offset that is in `offset`.
pub(super) const fn load_word_at(offset: Register) -> Instruction {
    instruction(libc::BPF_LD | libc::BPF_IND | libc::BPF_W, R0, offset, 0)
}

/// An operation on 32 bits, with a number or with a register.
const fn with_number(operation: u32, to: Register, number: u32) -> Instruction {
    instruction(libc::BPF_ALU | operation | libc::BPF_K, to, R0, number)
}

const fn with_register(operation: u32, to: Register, from: Register) -> Instruction {
    instruction(libc::BPF_ALU | operation | libc::BPF_X, to, from, 0)
}

pub(super) const fn set(to: Register, number: u32) -> Instruction {
    with_number(BPF_MOV, to, number)
}

pub(super) const fn copy(to: Register, from: Register) -> Instruction {
    with_register(BPF_MOV, to, from)
}

/// All 64 bits.
pub(super) const fn copy_pointer(to: Register, from: Register) -> Instruction {
    instruction(BPF_ALU64 | BPF_MOV | libc::BPF_X, to, from, 0)
}

pub(super) const fn and(to: Register, mask: u32) -> Instruction {
    with_number(libc::BPF_AND, to, mask)
}

pub(super) const fn or(to: Register, mask: u32) -> Instruction {
    with_number(libc::BPF_OR, to, mask)
}

pub(super) const fn xor(to: Register, from: Register) -> Instruction {
    with_register(libc::BPF_XOR, to, from)
}

pub(super) const fn multiply(to: Register, factor: u32) -> Instruction {
    with_number(libc::BPF_MUL, to, factor)
}

pub(super) const fn shift_left(to: Register, bits: u32) -> Instruction {
    with_number(libc::BPF_LSH, to, bits)
}

pub(super) const fn shift_right(to: Register, bits: u32) -> Instruction {
    with_number(libc::BPF_RSH, to, bits)
}

/// Ends the program, which returns [`R0`].
pub(super) const fn exit() -> Instruction {
    instruction(libc::BPF_JMP | BPF_EXIT, R0, R0, 0)
}

/// A program under construction. Jumps lead to labels that come later.
pub(super) struct Assembler<L> {
    instructions: Vec<Instruction>,
    /// The jumps whose label is still to come.
    open: Vec<(usize, L)>,
}

impl<L: Copy + PartialEq> Assembler<L> {
    pub(super) fn new() -> Self {
        Self { instructions: Vec::new(), open: Vec::new() }
    }

    pub(super) fn add(&mut self, instructions: &[Instruction]) {
        self.instructions.extend_from_slice(instructions);
    }

    pub(super) fn jump(&mut self, to: L) {
        self.jump_by(libc::BPF_JMP | libc::BPF_JA, R0, 0, to);
    }

    pub(super) fn jump_if_equal(&mut self, register: Register, number: u32, to: L) {
        self.jump_by(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, register, number, to);
    }

    pub(super) fn jump_unless_equal(&mut self, register: Register, number: u32, to: L) {
        self.jump_by(libc::BPF_JMP | BPF_JNE | libc::BPF_K, register, number, to);
    }

    fn jump_by(&mut self, code: u32, register: Register, number: u32, to: L) {
        self.open.push((self.instructions.len(), to));
        self.add(&[instruction(code, register, R0, number)]);
    }

    /// Here go the jumps to `label`.
    pub(super) fn label(&mut self, label: L) {
        let here = self.instructions.len();
        for (at, _) in self.open.extract_if(.., |(_, to)| *to == label) {
            // Of the instruction behind the jump.
            self.instructions[at].offset = (here - at - 1) as i16;
        }
    }

    pub(super) fn finish(self) -> Vec<Instruction> {
        debug_assert!(self.open.is_empty(), "a jump leads nowhere");
        self.instructions
    }
}

/// The part of `union bpf_attr` that loads a program.
#[repr(C)]
#[derive(Default)]
struct LoadAttributes {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_len: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// Loads a program that looks at packets. `name`, of at most 15 letters, digits and `_`, is what `bpftool` shows.
///
/// # Errors
/// `EPERM` without CAP_BPF or CAP_SYS_ADMIN where the system does not let others load programs, `EPERM` or `ENOSYS` where
/// system calls are filtered, `EACCES` or `EINVAL` if the verifier refuses the program; the debug log then says why.
pub(super) fn load(name: &str, instructions: &[Instruction]) -> io::Result<OwnedFd> {
    let mut result = try_load(name, instructions, &mut []);
    for _ in 1..TRIES {
        if !result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            break;
        }
        result = try_load(name, instructions, &mut []);
    }
    if let Err(error) = &result
        && matches!(error.raw_os_error(), Some(libc::EACCES | libc::EINVAL))
        && log::log_enabled!(log::Level::Debug)
    {
        objections(name, instructions).lines().for_each(|line| log::debug!("{name}: {line}"));
    }
    result
}

/// What the verifier says about a program that it refuses.
fn objections(name: &str, instructions: &[Instruction]) -> String {
    let mut log = vec![0; LOG_LEN];
    let _ = try_load(name, instructions, &mut log);
    CStr::from_bytes_until_nul(&log).map_or_else(|_| String::new(), |log| log.to_string_lossy().into_owned())
}

/// The verifier writes into `log`, unless that is empty. It also fails when the log is too short for it.
fn try_load(name: &str, instructions: &[Instruction], log: &mut [u8]) -> io::Result<OwnedFd> {
    let mut attributes = LoadAttributes {
        program_type: BPF_PROG_TYPE_SOCKET_FILTER,
        instruction_count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        // It calls nothing that would have to be GPL.
        license: c"MIT".as_ptr() as u64,
        log_level: u32::from(!log.is_empty()),
        log_len: log.len() as u32,
        log: if log.is_empty() { 0 } else { log.as_mut_ptr() as u64 },
        ..LoadAttributes::default()
    };
    attributes.name.iter_mut().zip(name.bytes().take(15)).for_each(|(to, from)| *to = from);
    // SAFETY: BPF_PROG_LOAD reads the attributes, as many instructions as they say and the terminated licence, and
    // writes within the log; all of these live through the call.
    let fd = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const attributes, size_of::<LoadAttributes>())
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: on success the return value is a new descriptor, close-on-exec, that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as c_int) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_lead_to_their_labels() {
        let mut code = Assembler::new();
        code.jump_if_equal(R0, 1, 'a');
        code.jump('b');
        code.add(&[exit()]);
        code.label('a');
        code.jump_unless_equal(R7, 2, 'b');
        code.label('b');
        code.add(&[exit()]);
        let code = code.finish();
        assert_eq!(code.iter().map(|i| i.offset).collect::<Vec<_>>(), [2, 2, 0, 0, 0]);
    }

    #[test]
    fn instructions_are_those_of_the_kernels_header() {
        let bytes = |i: Instruction| (i.code, i.registers, i.immediate);
        let registers =
            |to: u8, from: u8| if cfg!(target_endian = "big") { to << 4 | from } else { from << 4 | to };
        assert_eq!(bytes(copy_pointer(R6, R1)), (0xbf, registers(6, 1), 0));
        assert_eq!(bytes(load_word(12)), (0x20, 0, 12));
        assert_eq!(bytes(load_word_at(R9)), (0x40, registers(0, 9), 0));
        assert_eq!(bytes(multiply(R7, 3)), (0x24, registers(7, 0), 3));
        assert_eq!(bytes(exit()), (0x95, 0, 0));
    }

    #[test]
    fn the_verifier_is_quoted() {
        let refused = [copy(R0, R7), exit()];
        let error = load("refused", &refused).expect_err("it reads what nobody wrote");
        if error.raw_os_error() == Some(libc::EPERM) {
            return drop(lab::skip(&format!("loading programs: {error}")));
        }
        assert_eq!(error.raw_os_error(), Some(libc::EACCES));
        let objections = objections("refused", &refused);
        assert!(objections.contains("R7 !read_ok"), "{objections}");
    }
}
