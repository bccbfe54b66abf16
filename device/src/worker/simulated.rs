//! The halves of the data path in the simulation (`crate::sim`): packets come from memory, and go to the virtual network.

use std::io;
use std::net::SocketAddr;

use adit_net::segment::{Delivery, Group};
use adit_net::tun::{Offloads, VirtioNetHdr};
use adit_net::udp::{Received, RecvBuffer};

use super::inlet::Trains;
use super::outlet::Outlet;
use super::rx::Receiver;
use super::train::Train;
use super::tx::Sender;
use crate::outside;
use crate::state::Device;

/// Sends what the interface hands out at a time; returns how many packets had nowhere to go.
pub(crate) fn send(device: &Device, packets: &[Vec<u8>]) -> usize {
    let mut ports = Ports::default();
    let mut sender = Sender::new(device, &device.crew.member(0).tx);
    for packet in packets {
        sender.push(&VirtioNetHdr::default(), packet, &mut ports);
    }
    sender.depart(&mut ports);
    sender.finish(&mut ports);
    ports.unreachable
}

/// Takes a train from the network: datagrams of `stride` bytes, the last perhaps shorter. Returns what is delivered.
pub(crate) fn receive(device: &Device, from: SocketAddr, train: &[u8], stride: usize) -> Vec<Vec<u8>> {
    let mut ports = Ports::default();
    let mut receiver = Receiver::new(device, &device.crew.member(0).rx);
    receiver.push(&mut One { from, train, stride }, &mut ports);
    receiver.finish(&mut ports);
    ports.delivered
}

#[derive(Default)]
struct Ports {
    delivered: Vec<Vec<u8>>,
    unreachable: usize,
}

impl Outlet for Ports {
    fn send(&mut self, trains: &mut [Train], buffer: &[u8]) {
        for train in trains {
            let messages = train.messages(buffer);
            train.peer.sent(messages.len());
            outside::put(&train.endpoint.addr, messages, train.stride);
        }
    }

    fn offloads(&self) -> Offloads {
        Offloads::NONE
    }

    fn deliver(&mut self, group: &Group<'_, '_>) -> io::Result<Delivery> {
        self.delivered.extend(group.packets().iter().map(|packet| packet.to_vec()));
        Ok(Delivery::Whole)
    }

    fn unreachable(&mut self, _packet: &[u8]) {
        self.unreachable += 1;
    }
}

struct One<'a> {
    from: SocketAddr,
    train: &'a [u8],
    stride: usize,
}

impl Trains for One<'_> {
    fn len(&self) -> usize {
        1
    }

    fn is_full(&self) -> bool {
        false
    }

    fn take(&mut self, _index: usize, buffer: &mut RecvBuffer) -> Received {
        let len = self.train.len();
        buffer.train_mut(len).copy_from_slice(self.train);
        Received { from: self.from, local: None, ecn: 0, len, stride: self.stride.max(1) }
    }
}
