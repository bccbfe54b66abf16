//! TCP through the tunnel: one connection, as fast as it goes, watched at its receiving end.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use adit_net::tcp::reset_on_close;

use super::error::{Stop, cannot};
use super::interrupt::Interrupt;
use super::site::{Side, Site};

/// How often the throughput is looked at.
pub(super) const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);
/// Bytes per system call.
const CHUNK: usize = 256 << 10;
/// How long connecting may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What arrived, and in which time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    /// TCP payload.
    pub(super) bytes: u64,
    pub(super) elapsed: Duration,
}

impl Transfer {
    /// Gigabits (10⁹) per second.
    pub(super) fn gbit_per_s(self) -> f64 {
        self.bytes as f64 * 8.0 / 1e9 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// Sends from one side to the other for a while. `each` sees the throughputs so far, in Gb/s, at every
/// [`SAMPLE_INTERVAL`].
pub(super) fn transfer(
    site: &Site,
    from: Side,
    duration: Duration,
    interrupt: &Interrupt,
    each: impl FnMut(&[f64]) -> Result<(), Stop>,
) -> Result<Transfer, Stop> {
    let (a, b) = connect(site).map_err(cannot("connect through the tunnel"))?;
    let (from, to) = if from == Side::A { (a, b) } else { (b, a) };
    let received = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| send(&from));
        scope.spawn(|| receive(&to, &received));
        let transfer = watch(&received, duration, interrupt, each);
        // Ends the threads, also those that wait for a tunnel that is stuck.
        for stream in [&from, &to] {
            let _ = stream.shutdown(Shutdown::Both);
        }
        transfer
    })
}

/// A connection; the first of its ends is A's.
fn connect(site: &Site) -> io::Result<(TcpStream, TcpStream)> {
    let listener = site.run_in(Side::B, || TcpListener::bind((Side::B.inner(), 0)))??;
    let a = TcpStream::connect_timeout(&listener.local_addr()?, PATIENCE)?;
    let (b, _) = listener.accept()?;
    for stream in [&a, &b] {
        // Or the namespaces would stay until the kernel gives up on what is under way.
        reset_on_close(stream)?;
    }
    Ok((a, b))
}

fn send(mut stream: &TcpStream) {
    let chunk = vec![0xad; CHUNK];
    while stream.write_all(&chunk).is_ok() {}
}

fn receive(mut stream: &TcpStream, received: &AtomicU64) {
    let mut chunk = vec![0; CHUNK];
    while let Ok(count @ 1..) = stream.read(&mut chunk) {
        received.fetch_add(count as u64, Relaxed);
    }
}

fn watch(
    received: &AtomicU64,
    duration: Duration,
    interrupt: &Interrupt,
    mut each: impl FnMut(&[f64]) -> Result<(), Stop>,
) -> Result<Transfer, Stop> {
    let start = Instant::now();
    let mut total = Transfer { bytes: 0, elapsed: Duration::ZERO };
    let mut samples = Vec::new();
    for _ in 0..duration.as_millis() / SAMPLE_INTERVAL.as_millis() {
        interrupt.sleep(SAMPLE_INTERVAL)?;
        let now = Transfer { bytes: received.load(Relaxed), elapsed: start.elapsed() };
        let sample = Transfer { bytes: now.bytes - total.bytes, elapsed: now.elapsed - total.elapsed };
        samples.push(sample.gbit_per_s());
        each(&samples)?;
        total = now;
    }
    match total.bytes {
        0 => Err(Stop::failure("TCP connects through the tunnel, but nothing arrives")),
        _ => Ok(total),
    }
}
