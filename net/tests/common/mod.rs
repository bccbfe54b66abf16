//! A network for one test: a namespace of its own, with the loopback interface up and some addresses on it.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use adit_net::netlink::{Config, if_index};
use adit_net::netns;

/// Runs a test in a new network namespace, so that it neither sees nor disturbs the host.
pub fn isolated<T: Send>(test: impl FnOnce(&mut Network) -> T + Send) -> T {
    netns::run_in_new(|| test(&mut Network::new()))
        .expect("a network namespace takes CAP_SYS_ADMIN: run the tests as root")
}

/// The namespace that the calling thread is in.
pub struct Network {
    /// To change it by.
    pub config: Config,
    /// Index of the loopback interface.
    pub loopback: u32,
}

impl Network {
    fn new() -> Self {
        let mut config = Config::open().unwrap();
        let loopback = if_index("lo").unwrap();
        config.set_up(loopback, true).unwrap();
        Self { config, loopback }
    }

    /// Adds an address to the loopback interface and waits until it can be reached: the kernel makes the local route
    /// of an IPv6 address a moment later, from a work queue.
    #[allow(dead_code, reason = "not every test program needs it")]
    pub fn add_address(&mut self, ip: &str) -> IpAddr {
        let ip: IpAddr = ip.parse().unwrap();
        self.config.add_address(self.loopback, ip, if ip.is_ipv4() { 32 } else { 128 }).unwrap();
        let echo = UdpSocket::bind((ip, 0)).unwrap();
        echo.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        let reached = (0..500).any(|_| {
            let _ = echo.send_to(&[0], echo.local_addr().unwrap());
            echo.recv(&mut [0]).is_ok()
        });
        assert!(reached, "{ip} can't be reached");
        ip
    }
}
