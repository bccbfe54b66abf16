//! UDP to TUN: sort by message type, open the train in place, let the session accept what is new, check the inner source,
//! and hand neighbours of one flow to TUN as one super-packet, without copying.

use std::sync::Arc;

use adit_net::packet;
use adit_net::segment;
use adit_net::tun::{Fault, TunQueue};
use adit_net::udp::{Received, RecvBatch};
use adit_proto::keypair::{Keypair, MAX_TRAIN, plaintext_mut};
use adit_proto::message::{DataHeader, KEEPALIVE_LEN, Message};
use adit_proto::session;

use crate::lock::{Lock, Shared};
use crate::peer::Peer;
use crate::queue::Arrival;
use crate::state::{Device, Indexed};

/// Delivers what was received.
pub(super) fn deliver(device: &Device, queue: &TunQueue, batch: &mut RecvBatch) {
    let mut inner: Vec<&[u8]> = Vec::with_capacity(4 * MAX_TRAIN);
    for (meta, bytes) in batch.trains() {
        receive_train(device, meta, bytes, &mut inner);
    }
    for group in segment::groups(&inner, device.tun.offloads()) {
        if let Err(error) = group.write_to(queue) {
            match Fault::of(&error) {
                Fault::Gone => return device.end(),
                fault => log::debug!("the interface took a packet not ({fault:?}): {error}"),
            }
        }
    }
}

/// Goes through one train; packets for TUN are added to `inner`.
fn receive_train<'b>(device: &Device, meta: &Received, mut bytes: &'b mut [u8], inner: &mut Vec<&'b [u8]>) {
    let stride = meta.stride.max(1);
    while !bytes.is_empty() {
        let first = stride.min(bytes.len());
        match Message::parse(&bytes[..first]) {
            Some(Message::Data(header)) => {
                let run = run_len(bytes, stride, header.receiver);
                let (messages, rest) = bytes.split_at_mut(run);
                bytes = rest;
                receive_data(device, meta, header.receiver, messages, inner);
                continue;
            }
            Some(Message::Handshake(message)) => {
                device.handshake_arrived(Arrival { message, from: meta.from, local: meta.local });
            }
            None => {}
        }
        bytes = &mut bytes[first..];
    }
}

/// How many bytes belong to the session of the first message, at most [`MAX_TRAIN`] messages.
fn run_len(bytes: &[u8], stride: usize, receiver: u32) -> usize {
    let is_same =
        |message: &&[u8]| DataHeader::parse(message).is_some_and(|header| header.receiver == receiver);
    bytes.chunks(stride).take(MAX_TRAIN).take_while(is_same).map(<[u8]>::len).sum()
}

fn receive_data<'b>(
    device: &Device,
    meta: &Received,
    receiver: u32,
    messages: &'b mut [u8],
    inner: &mut Vec<&'b [u8]>,
) {
    let Some(Indexed::Keypair(peer, keypair)) = device.indices.shared().get(receiver).cloned() else {
        return;
    };
    let stride = meta.stride.max(1);
    let Some(received) = open(device, meta, &peer, &keypair, messages) else { return };
    let routes = device.routes.shared();
    for (position, message) in messages.chunks_mut(stride).enumerate() {
        if received.accepted & 1 << position == 0 {
            continue;
        }
        let wire_len = message.len();
        if wire_len == KEEPALIVE_LEN {
            peer.received(wire_len);
            continue;
        }
        let padded = plaintext_mut(message);
        let Some(ip) = packet::parse(padded) else { continue };
        let is_its_own = routes.longest_match(ip.source).is_some_and(|route| Arc::ptr_eq(&route.peer, &peer));
        if !is_its_own {
            log::debug!("{peer}: sent a packet from {}, which is not its own", ip.source);
            continue;
        }
        let packet = &mut padded[..ip.total_len];
        packet::ecn_decap(packet, meta.ecn);
        peer.received(wire_len);
        inner.push(packet);
    }
}

/// Opens the train and lets the session know what was authentic. `None` when nothing is to be delivered.
fn open(
    device: &Device,
    meta: &Received,
    peer: &Arc<Peer>,
    keypair: &Arc<Keypair>,
    messages: &mut [u8],
) -> Option<session::Received> {
    let now = Device::now();
    let opened = keypair.open_train(messages, meta.stride.max(1), now)?;
    let endpoint = device.endpoint_from(meta.from, meta.local);
    let mut session = peer.session.locked();
    let mut received = session.finish_recv(&opened, &endpoint, now);
    device.schedule(peer, &mut session);
    drop(session);
    if received.accepted == 0 {
        return None;
    }
    device.retire(std::mem::take(&mut received.retired));
    if received.confirmed {
        peer.handshake_completed();
        device.flush(peer);
    }
    if received.initiate {
        device.initiate(peer);
    }
    Some(received)
}
