//! What interfaces told, as OpenMetrics (<https://prometheus.io/docs/specs/om/open_metrics_spec/>). `docs/metrics.md` lists
//! the metrics.

use std::fmt;

use adit_control::GetPeer;
use adit_control::status::{FIELDS, Field, Value};
use adit_control::why::{Tally, Why};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::metrics::MetricType::{self, Counter, Gauge, Info};
use prometheus_client::registry::{Registry, Unit};

use super::collect::{Engine, Interface, Told};

/// Spells all of it; `now` is the wall clock, in seconds since the Unix epoch.
pub(super) fn spell(interfaces: Vec<Interface>, now: f64) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(All { interfaces, now }));
    let mut out = String::new();
    let written = text::encode(&mut out, &registry);
    debug_assert!(written.is_ok(), "memory takes all that is written to it");
    out
}

struct All {
    interfaces: Vec<Interface>,
    now: f64,
}

impl fmt::Debug for All {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("All")
    }
}

impl Collector for All {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page { encoder, interfaces: &self.interfaces };
        page.interfaces()?;
        page.peers(self.now)?;
        page.reasons()?;
        page.status()
    }
}

struct Page<'a, 'e> {
    encoder: DescriptorEncoder<'e>,
    interfaces: &'a [Interface],
}

type Labels<'a> = Vec<(&'static str, &'a str)>;

/// A sample's labels and its number.
type Sample<'a> = (Labels<'a>, f64);

impl<'a> Page<'a, '_> {
    fn told(&self) -> impl Iterator<Item = (&'a str, &'a Told)> + use<'a> {
        self.interfaces.iter().filter_map(|interface| Some((&*interface.name, interface.told.as_deref()?)))
    }

    fn interfaces(&mut self) -> fmt::Result {
        let help = "A WireGuard interface: who serves it, its public key and its port";
        let interfaces = self.told();
        let mut family = self.encoder.encode_descriptor("wireguard_interface", help, None, Info)?;
        for (name, told) in interfaces {
            let engine = match told.engine {
                Engine::Adit => "adit",
                Engine::Kernel => "kernel",
                Engine::Other => "other",
            };
            let public_key = told.get.public_key().map(|key| key.to_base64()).unwrap_or_default();
            let port = told.get.listen_port.to_string();
            let labels = [
                ("interface", name),
                ("engine", engine),
                ("public_key", public_key.as_str()),
                ("listen_port", port.as_str()),
            ];
            family.encode_info(&labels)?;
        }
        let answered = self.interfaces.iter();
        let answered = answered
            .map(|one| (vec![("interface", &*one.name)], f64::from(u8::from(one.told.is_some()))))
            .collect();
        let help = "1 if the interface answered in time, else 0, and then there is nothing else of it";
        self.samples("wireguard_interface_answered", help, None, Gauge, answered)?;
        let peers = self.told().map(|(name, told)| (vec![("interface", name)], told.get.peers.len() as f64));
        self.samples("wireguard_peers", "Peers that are configured", None, Gauge, peers.collect())
    }

    fn peers(&mut self, now: f64) -> fmt::Result {
        let keys: Vec<Vec<String>> = self.keys();
        let each = |of: &dyn Fn(&GetPeer) -> Option<f64>| -> Vec<Sample<'_>> {
            let peers = self.told().zip(&keys).flat_map(|((name, told), keys)| {
                told.get.peers.iter().zip(keys).map(move |(peer, key)| (name, peer, key))
            });
            let samples = peers.filter_map(|(name, peer, key)| Some((peer_labels(name, key), of(peer)?)));
            samples.collect()
        };
        let handshake = |peer: &GetPeer| {
            let (seconds, nanos) = peer.last_handshake.filter(|(seconds, _)| *seconds > 0)?;
            Some(seconds as f64 + f64::from(nanos) / 1e9)
        };
        let received = each(&|peer| Some(peer.rx_bytes as f64));
        let sent = each(&|peer| Some(peer.tx_bytes as f64));
        let at = each(&handshake);
        let age = each(&|peer| handshake(peer).map(|at| (now - at).max(0.0)));
        let bytes = Some(&Unit::Bytes);
        let seconds = Some(&Unit::Seconds);
        let help = "UDP payloads received from the peer";
        self.samples("wireguard_peer_received", help, bytes, Counter, received)?;
        self.samples("wireguard_peer_sent", "UDP payloads sent to the peer", bytes, Counter, sent)?;
        let help =
            "When the latest handshake was completed, since the Unix epoch; not there if there was none";
        self.samples("wireguard_peer_latest_handshake_timestamp", help, seconds, Gauge, at)?;
        let help = "How long ago that was";
        self.samples("wireguard_peer_latest_handshake_age", help, seconds, Gauge, age)
    }

    /// The public keys of each told interface's peers.
    fn keys(&self) -> Vec<Vec<String>> {
        let keys = self.told().map(|(_, told)| told.get.peers.iter().map(|peer| peer.public_key.to_base64()));
        keys.map(Iterator::collect).collect()
    }

    /// What only engines of this kind tell: drops, and what else goes wrong, by reason.
    fn reasons(&mut self) -> fmt::Result {
        let keys = self.keys();
        let of_interfaces = |are_drops: bool| -> Vec<Sample<'_>> {
            let told = self.told().filter_map(|(name, told)| Some((name, told.why.as_ref()?)));
            let tallies = told.flat_map(|(name, why)| why.tallies.iter().map(move |tally| (name, tally)));
            tallies
                .filter(|(_, tally)| tally.reason.is_drop() == are_drops)
                .map(|(name, tally)| {
                    (vec![("interface", name), ("reason", tally.reason.key())], count(tally))
                })
                .collect()
        };
        let of_peers = |are_drops: bool| -> Vec<Sample<'_>> {
            let mut samples = Vec::new();
            for ((name, told), keys) in self.told().zip(&keys) {
                let by_peer = told.why.as_ref().map(Why::by_peer).unwrap_or_default();
                for (peer, key) in told.get.peers.iter().zip(keys) {
                    let tallies = by_peer.get(&peer.public_key).copied().unwrap_or_default();
                    for tally in tallies.iter().filter(|tally| tally.reason.is_drop() == are_drops) {
                        let mut labels = peer_labels(name, key);
                        labels.push(("reason", tally.reason.key()));
                        samples.push((labels, count(tally)));
                    }
                }
            }
            samples
        };
        let families = [
            ("wireguard_drops", "Packets and messages dropped, by reason", of_interfaces(true)),
            ("wireguard_peer_drops", "Those of them that are known to be of a peer", of_peers(true)),
            ("wireguard_troubles", "What else goes wrong, by reason", of_interfaces(false)),
            ("wireguard_peer_troubles", "What of it is known to be of a peer", of_peers(false)),
        ];
        families
            .into_iter()
            .try_for_each(|(name, help, samples)| self.samples(name, help, None, Counter, samples))
    }

    /// How engines of this kind get on with the kernel's offloads.
    fn status(&mut self) -> fmt::Result {
        let told: Vec<_> = self.told().filter_map(|(name, told)| Some((name, told.status?))).collect();
        let mut states = Vec::new();
        for field in FIELDS {
            let mut counts = Vec::new();
            for (name, status) in &told {
                match field.get(*status) {
                    Value::Count(count) => counts.push((vec![("interface", *name)], count as f64)),
                    Value::State(state) => states.push((*name, field.key, state.to_string())),
                }
            }
            if !counts.is_empty() {
                let kind = if is_of_the_moment(field) { Gauge } else { Counter };
                self.samples(&format!("adit_{}", field.key), field.meaning, None, kind, counts)?;
            }
        }
        let (offloads, parts) = (of_states(&states, false), of_states(&states, true));
        let help = "1 for the state that each offload is in: on, off, refused or given-up";
        self.samples("adit_offload", help, None, Gauge, offloads)?;
        let help = "1 for the state that each part of the engine's confinement is in: on, off or refused";
        self.samples("adit_confinement", help, None, Gauge, parts)
    }

    fn samples(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        kind: MetricType,
        samples: Vec<Sample<'_>>,
    ) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, unit, kind)?;
        for (labels, value) in samples {
            let mut sample = family.encode_family(&labels)?;
            match kind {
                Counter => sample.encode_counter::<[(&str, &str); 0], _, f64>(&value, None)?,
                _ => sample.encode_gauge(&value)?,
            }
        }
        Ok(())
    }
}

/// Interface, key and state of those that belong to the confinement, or of the others, which are offloads.
fn of_states<'a>(states: &'a [(&str, &str, String)], of_confinement: bool) -> Vec<Sample<'a>> {
    let samples = states.iter().filter_map(|(name, key, state)| {
        let label = match key.strip_prefix("confined_") {
            Some(part) => of_confinement.then_some(("part", part))?,
            None => (!of_confinement).then_some(("offload", *key))?,
        };
        Some((vec![("interface", *name), label, ("state", state.as_str())], 1.0))
    });
    samples.collect()
}

fn peer_labels<'a>(interface: &'a str, key: &'a str) -> Labels<'a> {
    vec![("interface", interface), ("public_key", key)]
}

/// A counter of OpenMetrics is a floating point number: exact up to 2^53.
fn count(tally: &Tally) -> f64 {
    tally.count as f64
}

fn is_of_the_moment(field: &Field) -> bool {
    ["workers", "buffer_bytes", "endpoint_names", "tun_queues", "udp_gso_avoided"].contains(&field.key)
}
