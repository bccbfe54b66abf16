//! What an engine tells about its dealings with the kernel: which offloads it uses, how often each served and failed,
//! what was dropped on the way, and how the engine has confined itself.
//!
//! Not a part of the configuration: neither `get` nor `set` knows of it, and the kernel's own WireGuard has nothing like
//! it. [`FIELDS`] is the one list of what there is; every spelling of a [`Status`] goes through it.

use std::fmt;
use std::str::FromStr;

/// Whether an offload, or a part of the confinement, is in use, and why not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OffloadState {
    /// In use.
    On,
    /// Switched off by an option.
    #[default]
    Off,
    /// The kernel did not offer it at the start.
    Refused,
    /// The kernel offered it, and then failed at it again and again.
    GivenUp,
}

impl OffloadState {
    /// The state of an offload that was `wanted` or not, `agreed` to by the kernel at the start, and `works` since.
    #[must_use]
    pub fn of(wanted: bool, agreed: bool, works: bool) -> Self {
        match (wanted, agreed, works) {
            (_, true, true) => Self::On,
            (_, true, false) => Self::GivenUp,
            (true, false, _) => Self::Refused,
            (false, false, _) => Self::Off,
        }
    }

    /// All of them, with their names.
    const NAMES: [(Self, &str); 4] =
        [(Self::On, "on"), (Self::Off, "off"), (Self::Refused, "refused"), (Self::GivenUp, "given-up")];
}

impl fmt::Display for OffloadState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(state, _)| state == self).map_or("", |(_, name)| name);
        f.pad(name)
    }
}

impl FromStr for OffloadState {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::NAMES.iter().find(|(_, name)| *name == text).map(|(state, _)| *state).ok_or(())
    }
}

/// A field's value, of which there are two types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// Of an offload or a part of the confinement.
    State(OffloadState),
    /// A number.
    Count(u64),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(state) => state.fmt(f),
            Self::Count(count) => count.fmt(f),
        }
    }
}

/// A field of [`Status`].
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its key in the text protocol and in JSON.
    pub key: &'static str,
    /// What it tells, in a few words.
    pub meaning: &'static str,
    place: Place,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    State(fn(&mut Status) -> &mut OffloadState),
    Count(fn(&mut Status) -> &mut u64),
}

impl Field {
    /// Its value in `status`.
    #[must_use]
    pub fn get(&self, mut status: Status) -> Value {
        match self.place {
            Place::State(place) => Value::State(*place(&mut status)),
            Place::Count(place) => Value::Count(*place(&mut status)),
        }
    }

    /// Reads its value, as [`Value`] displays it; `None` if it makes no sense.
    pub(crate) fn read(&self, status: &mut Status, text: &str) -> Option<()> {
        match self.place {
            Place::State(place) => *place(status) = text.parse().ok()?,
            Place::Count(place) => *place(status) = text.parse().ok()?,
        }
        Some(())
    }
}

macro_rules! status {
    ($($kind:ident $name:ident: $type:ty = $meaning:literal,)*) => {
        /// What the engine says. Counts are totals since it was started, but [`workers`](Self::workers),
        /// [`endpoint_names`](Self::endpoint_names), [`tun_queues`](Self::tun_queues), [`buffer_bytes`](Self::buffer_bytes) and
        /// [`udp_gso_avoided`](Self::udp_gso_avoided), which are of the moment, like the states.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Status {
            $(#[doc = $meaning] pub $name: $type,)*
        }

        /// Every field of a [`Status`], in the order in which they are told.
        pub const FIELDS: &[Field] = &[$(Field {
            key: stringify!($name),
            meaning: $meaning,
            place: Place::$kind(|status| &mut status.$name),
        }),*];
    };
}

status! {
    Count workers: u64 = "threads that move packets",
    Count buffer_bytes: u64 = "what their packet buffers take at most",
    Count endpoint_names: u64 = "peers whose endpoint was given by name, which is looked up again when they do not answer",
    Count tun_queues: u64 = "queues of the interface; one where the kernel takes no program that keeps flows in order on several",
    State tun_vnet_hdr: OffloadState = "virtio-net headers on the interface's packets, which super-packets need",
    Count tun_read: u64 = "single packets read from the interface",
    Count tun_written: u64 = "single packets written to the interface",
    Count tun_dropped: u64 = "packets that the interface did not take: it was down, or they were malformed",
    State tun_tcp: OffloadState = "super-packets of TCP segments",
    Count tun_tcp_read: u64 = "such read from the interface",
    Count tun_tcp_written: u64 = "such written to the interface",
    Count tun_tcp_refused: u64 = "such that the interface refused; they were written packet by packet instead",
    State tun_udp: OffloadState = "super-packets of UDP datagrams",
    Count tun_udp_read: u64 = "such read from the interface",
    Count tun_udp_written: u64 = "such written to the interface",
    Count tun_udp_refused: u64 = "such that the interface refused; they were written packet by packet instead",
    State udp_gso: OffloadState = "trains of encrypted packets sent by one call (UDP_SEGMENT)",
    Count udp_gso_sent: u64 = "such sent",
    Count udp_gso_refused: u64 = "such that the kernel refused; they were sent packet by packet instead",
    Count udp_gso_avoided: u64 = "addresses that trains go to packet by packet for now, having been refused",
    State udp_gro: OffloadState = "trains of encrypted packets received as one (UDP_GRO)",
    Count udp_gro_received: u64 = "such received",
    Count udp_send_dropped: u64 = "encrypted packets not sent: buffer full, refused, or no route",
    Count udp_receive_dropped: u64 = "encrypted packets or trains discarded on receipt, having been cut short",
    Count udp_receive_overflows: u64 = "encrypted packets that the kernel dropped, mostly for a full socket buffer",
    State confined_dumps: OffloadState = "the engine leaves no core dump, and other processes of its user cannot read its memory",
    State confined_mlock: OffloadState = "its memory is not swapped",
    State confined_landlock: OffloadState = "it can open few files",
    State confined_capabilities: OffloadState = "it has given up the privileges that it does not need",
    State confined_seccomp: OffloadState = "it can make few system calls",
}

/// How a process has confined itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Confinement {
    /// It leaves no core dump.
    pub dumps: OffloadState,
    /// Its memory is not swapped.
    pub mlock: OffloadState,
    /// It can open few files.
    pub landlock: OffloadState,
    /// It has few capabilities.
    pub capabilities: OffloadState,
    /// It can make few system calls.
    pub seccomp: OffloadState,
}

impl Confinement {
    /// Its parts, by name.
    #[must_use]
    pub fn parts(&self) -> [(&'static str, OffloadState); 5] {
        [
            ("dumps", self.dumps),
            ("mlock", self.mlock),
            ("landlock", self.landlock),
            ("capabilities", self.capabilities),
            ("seccomp", self.seccomp),
        ]
    }
}

impl fmt::Display for Confinement {
    /// The parts in force, then the others with their states.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (in_force, others): (Vec<_>, Vec<_>) =
            self.parts().into_iter().partition(|(_, state)| *state == OffloadState::On);
        let in_force = in_force.into_iter().map(|(name, _)| name.to_owned());
        let others = others.into_iter().map(|(name, state)| format!("{name} {state}"));
        f.write_str(&in_force.chain(others).collect::<Vec<_>>().join(", "))
    }
}

impl Status {
    /// Of an engine that is confined like this.
    #[must_use]
    pub fn confined(self, confinement: Confinement) -> Self {
        let Confinement { dumps, mlock, landlock, capabilities, seccomp } = confinement;
        Status {
            confined_dumps: dumps,
            confined_mlock: mlock,
            confined_landlock: landlock,
            confined_capabilities: capabilities,
            confined_seccomp: seccomp,
            ..self
        }
    }

    /// How the engine is confined.
    #[must_use]
    pub fn confinement(&self) -> Confinement {
        Confinement {
            dumps: self.confined_dumps,
            mlock: self.confined_mlock,
            landlock: self.confined_landlock,
            capabilities: self.confined_capabilities,
            seccomp: self.confined_seccomp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_names_and_come_from_facts() {
        for (wanted, agreed, works, name) in [
            (true, true, true, "on"),
            (true, true, false, "given-up"),
            (true, false, false, "refused"),
            (false, false, false, "off"),
            // An inherited device has the header that it came with.
            (false, true, true, "on"),
        ] {
            let state = OffloadState::of(wanted, agreed, works);
            assert_eq!(state.to_string(), name);
            assert_eq!(name.parse(), Ok(state));
        }
        assert_eq!("On".parse::<OffloadState>(), Err(()));
    }

    #[test]
    fn each_field_has_a_place_of_its_own() {
        let mut status = Status::default();
        for (n, field) in (1..).zip(FIELDS) {
            let text = if matches!(field.place, Place::Count(_)) { n.to_string() } else { "given-up".into() };
            assert_eq!(field.get(status).to_string(), Status::default_text(field));
            field.read(&mut status, &text).expect(field.key);
            assert_eq!(field.get(status).to_string(), text);
        }
        for field in FIELDS {
            assert_eq!(field.read(&mut status, "-1"), None);
        }
    }

    impl Status {
        fn default_text(field: &Field) -> String {
            field.get(Self::default()).to_string()
        }
    }
}
