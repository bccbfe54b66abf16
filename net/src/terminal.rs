//! A terminal as one full screen: keys one by one, nothing echoed, and everything put back, whatever ends the program.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::panic;
use std::sync::{Mutex, Once, PoisonError};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, raise};
use nix::unistd;

/// The alternate screen, no cursor, no line that goes on in the next one; cleared.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J";
/// All of that taken back, colours included.
const LEAVE: &[u8] = b"\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l";

/// How the terminal was before, while it is taken. A panic ends the program without destructors, so it is kept where the
/// panic's hook finds it.
static BEFORE: Mutex<Option<libc::termios>> = Mutex::new(None);

/// The terminal of standard input and output, taken; dropping it gives it back.
#[derive(Debug)]
pub struct FullScreen(());

impl FullScreen {
    /// Takes the terminal. There may be one of these at a time.
    ///
    /// # Errors
    ///
    /// `ENOTTY` if standard input is no terminal.
    pub fn take() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let previous = panic::take_hook();
            panic::set_hook(Box::new(move |panic| {
                // Before the message, which would be lost with the screen.
                give_back();
                previous(panic);
            }));
        });
        enter()?;
        Ok(Self(()))
    }

    /// The columns and lines of the screen; what terminals have always had, if nobody says.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        let mut size = MaybeUninit::<libc::winsize>::zeroed();
        // SAFETY: the call only writes the structure that it is given, for which there is room.
        let result = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, size.as_mut_ptr()) };
        // SAFETY: zeroes are a valid size, and what the kernel wrote is one.
        let size = unsafe { size.assume_init() };
        match (result, size.ws_col, size.ws_row) {
            (0, columns @ 1.., lines @ 1..) => (columns.into(), lines.into()),
            _ => (80, 24),
        }
    }

    /// Writes to the screen.
    ///
    /// # Errors
    ///
    /// Those of `write(2)`, such as `EIO` when the terminal is gone.
    pub fn write(&mut self, text: &[u8]) -> io::Result<()> {
        write(text)
    }

    /// What was typed, some bytes of it; none at the end of a terminal that is gone. Waits unless there is something.
    ///
    /// # Errors
    ///
    /// Those of `read(2)`.
    pub fn read<'a>(&mut self, buffer: &'a mut [u8; 64]) -> io::Result<&'a [u8]> {
        let len = unistd::read(io::stdin(), buffer)?;
        Ok(&buffer[..len])
    }

    /// Takes the terminal once more, after the process was stopped and the shell has used it.
    ///
    /// # Errors
    ///
    /// Like [`FullScreen::take`].
    pub fn retake(&mut self) -> io::Result<()> {
        give_back();
        enter()
    }

    /// Gives the terminal back, stops the process as Ctrl-Z does, and takes the terminal again when the process goes on.
    ///
    /// # Errors
    ///
    /// Like [`FullScreen::take`].
    pub fn suspend(&mut self) -> io::Result<()> {
        give_back();
        raise(Signal::SIGSTOP)?;
        self.retake()
    }
}

impl Drop for FullScreen {
    fn drop(&mut self) {
        give_back();
    }
}

fn enter() -> io::Result<()> {
    let before = attributes()?;
    let mut taken = before;
    // Ctrl-C is a key like others: a signal could come while the screen is half drawn.
    taken.c_lflag &= !(libc::ECHO | libc::ICANON | libc::ISIG | libc::IEXTEN);
    taken.c_iflag &= !(libc::IXON | libc::ICRNL | libc::INLCR | libc::IGNCR);
    taken.c_cc[libc::VMIN] = 1;
    taken.c_cc[libc::VTIME] = 0;
    *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
    set_attributes(&taken)?;
    write(ENTER)
}

/// Does nothing where nothing is taken. Nobody is left to tell that it failed.
fn give_back() {
    // Never held across anything that panics.
    if let Some(before) = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take() {
        let _ = write(LEAVE);
        let _ = set_attributes(&before);
    }
}

fn attributes() -> io::Result<libc::termios> {
    let mut attributes = MaybeUninit::uninit();
    // SAFETY: the call only writes the structure that it is given, for which there is room.
    Errno::result(unsafe { libc::tcgetattr(libc::STDIN_FILENO, attributes.as_mut_ptr()) })?;
    // SAFETY: the call has succeeded, and then all of it is written.
    Ok(unsafe { attributes.assume_init() })
}

fn set_attributes(attributes: &libc::termios) -> io::Result<()> {
    // SAFETY: the call only reads the structure.
    Errno::result(unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSANOW, attributes) })?;
    Ok(())
}

/// Past the lock and the buffer of standard output, which a thread that panics may hold.
fn write(mut text: &[u8]) -> io::Result<()> {
    while !text.is_empty() {
        match unistd::write(io::stdout().as_fd(), text) {
            Ok(len) => text = &text[len..],
            Err(Errno::EINTR) => {}
            // Some other program has made it so, with which this one shares the terminal.
            Err(Errno::EAGAIN) => {
                poll(&mut [PollFd::new(io::stdout().as_fd(), PollFlags::POLLOUT)], PollTimeout::NONE)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
