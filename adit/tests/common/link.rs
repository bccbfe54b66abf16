//! A tunnel between the program under test and the Linux kernel in its virtual machine.

use lab::wg::{Keypair, Peer, parse_dump};
use lab::{Engine, Vm, seconds, within};

use super::adit;

/// An engine beside the virtual machine, and an interface in it; each knows the other's key.
pub struct Link {
    pub engine: Engine,
    pub vm: &'static Vm,
    pub keys: Keypair,
    pub kernel: Keypair,
    number: u8,
}

/// Makes a link with a `number` of its own, or returns from the test if there can be no virtual machine.
#[allow(unused_macros, reason = "most test files need no virtual machine")]
macro_rules! kernel_link {
    ($number:literal) => {{
        if lab::require(lab::vm::NEEDS).is_err() {
            return;
        }
        let Ok(vm) = lab::Vm::shared() else { return };
        $crate::common::link::Link::new(vm, $number)
    }};
}
#[allow(unused_imports, reason = "most test files need no virtual machine")]
pub(crate) use kernel_link;

impl Link {
    pub fn new(vm: &'static Vm, number: u8) -> Link {
        let engine = Engine::start(&adit(), &vm.ns);
        let link = Link { engine, vm, keys: Keypair::generate(), kernel: Keypair::generate(), number };
        link.set_up_kernel();
        link.set_up_engine();
        link
    }

    fn set_up_kernel(&self) {
        let (n, wg, vm) = (self.number, self.wg(), self.vm);
        vm.ok(&format!("ip link add {wg} type wireguard && ip link set {wg} mtu 1420"));
        vm.ok(&format!("echo {} > /tmp/{wg}.key", self.kernel.private));
        vm.ok(&format!("wg set {wg} private-key /tmp/{wg}.key listen-port {}", self.kernel_port()));
        vm.ok(&format!("ip addr add 192.168.{n}.2/24 dev {wg}; ip addr add fd00:{n}::2/64 dev {wg}"));
        vm.ok(&format!("ip link set {wg} up"));
        self.kernel_set(&format!("allowed-ips 192.168.{n}.1/32,fd00:{n}::1/128"));
    }

    fn set_up_engine(&self) {
        let (n, interface, ns) = (self.number, self.engine.interface(), &self.vm.ns);
        self.engine.set_private_key(&self.keys.private);
        self.engine.set(&format!("listen-port {}", self.engine_port()));
        ns.address(interface, &format!("192.168.{n}.1/24"));
        ns.address(interface, &format!("fd00:{n}::1/64"));
        ns.ip(&format!("link set {interface} up"));
        self.engine_set(&format!("allowed-ips 192.168.{n}.2/32,fd00:{n}::2/128"));
    }

    /// The interface in the virtual machine.
    pub fn wg(&self) -> String {
        format!("wg{}", self.number)
    }

    pub fn engine_port(&self) -> u16 {
        10_000 + u16::from(self.number)
    }

    pub fn kernel_port(&self) -> u16 {
        20_000 + u16::from(self.number)
    }

    /// The engine's inner IPv4 address; the kernel's ends in 2.
    pub fn inner(&self, host: u8) -> String {
        format!("192.168.{}.{host}", self.number)
    }

    pub fn engine_set(&self, args: &str) {
        self.engine.set(&format!("peer {} {args}", self.kernel.public));
    }

    pub fn kernel_set(&self, args: &str) {
        self.vm.ok(&format!("wg set {} peer {} {args}", self.wg(), self.keys.public));
    }

    pub fn engine_sees(&self) -> Peer {
        self.engine.dump().peer(&self.kernel.public).clone()
    }

    pub fn kernel_sees(&self) -> Peer {
        parse_dump(&self.vm.ok(&format!("wg show {} dump", self.wg()))).peer(&self.keys.public).clone()
    }

    /// Tells the engine where the kernel is.
    pub fn meet(&self) {
        self.engine_set(&format!("endpoint {}:{}", Vm::ADDRESS4, self.kernel_port()));
    }

    /// Pings the kernel through the tunnel, IPv4 and IPv6.
    #[track_caller]
    pub fn reaches_kernel(&self) {
        for inner in [self.inner(2), format!("fd00:{}::2", self.number)] {
            assert!(
                self.vm.ns.reaches(&inner, seconds(30)),
                "{inner} does not answer\n{}",
                self.engine.log()
            );
        }
    }

    /// Pings the engine through the tunnel, IPv4 and IPv6.
    #[track_caller]
    pub fn reaches_engine(&self) {
        for inner in [self.inner(1), format!("fd00:{}::1", self.number)] {
            let reached = within(seconds(30), || self.vm.run(&format!("ping -c 1 -W 1 {inner}")).0 == 0);
            assert!(reached, "{inner} does not answer\n{}", self.engine.log());
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.vm.run(&format!("ip link del {}", self.wg()));
        }
    }
}
