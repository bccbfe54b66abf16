//! Round trips by ping, through an idle tunnel and beside a TCP stream.

use std::thread;
use std::time::Duration;

use lab::{Netns, seconds};

use crate::peers::contender::Contender;
use crate::peers::sample::{Outcome, Sample, figures};
use crate::peers::topology::{Tunnel, inner};
use crate::stats::{mean, percentile};

/// Pings of a round.
const PINGS: usize = 100;
/// Pings before it is somebody else's turn. How deeply an idle machine sleeps, and so how long it takes to wake up,
/// changes within seconds: everybody's tunnel is there all the time, and they take turns as closely as this.
const SLICE: usize = 20;
/// Time between two pings.
const INTERVAL: Duration = Duration::from_millis(20);
/// How long a stream needs to fill the tunnel.
const SLOW_START: Duration = Duration::from_millis(700);

/// Every contender's round trips through idle tunnels, `rounds` times.
pub fn idle(contenders: &[&Contender], rounds: u32, report: &mut dyn FnMut(usize, Outcome)) {
    let tunnels: Vec<_> = contenders.iter().map(|contender| Tunnel::new(contender)).collect();
    for _ in 0..rounds {
        let mut trips = vec![Vec::new(); tunnels.len()];
        for _ in 0..PINGS / SLICE {
            for (tunnel, trips) in tunnels.iter().zip(&mut trips) {
                if let Ok(tunnel) = tunnel {
                    trips.extend(ping(&tunnel.site.a, SLICE));
                }
            }
        }
        for (who, (tunnel, trips)) in tunnels.iter().zip(&trips).enumerate() {
            let outcome = match tunnel {
                Ok(_) => summarize(trips, PINGS),
                Err(why) => Err(why.clone()),
            };
            report(who, outcome);
        }
    }
}

/// One round: round trips before and during a TCP stream.
///
/// # Errors
/// When the tunnel does not work, or carries no pings while it is full.
pub fn under_load(contender: &Contender, duration: Duration) -> Outcome {
    let tunnel = Tunnel::new(contender)?;
    let before = ping(&tunnel.site.a, PINGS / 2);
    let address = inner(2).to_string();
    let _server = tunnel.site.b.iperf_server(&address);
    let arguments = format!("-t {}", duration.as_secs());
    let pings = (duration.saturating_sub(2 * SLOW_START).as_millis() / INTERVAL.as_millis()) as usize;
    let (during, stream) = thread::scope(|scope| {
        let stream = scope.spawn(|| tunnel.site.a.try_iperf(&address, &arguments));
        thread::sleep(SLOW_START);
        let during = ping(&tunnel.site.a, pings);
        (during, stream.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });

    let mut sample = summarize(&during, pings)?;
    sample.put(figures::IDLE_RTT, percentile(&before, 50).ok_or("no ping was answered")?);
    sample.put(figures::GIGABITS, stream?.bits_per_second / 1e9);
    Ok(sample)
}

fn summarize(trips: &[f64], sent: usize) -> Outcome {
    let none = || "no ping was answered".to_owned();
    let mut sample = Sample::of(figures::RTT_MEDIAN, percentile(trips, 50).ok_or_else(none)?);
    sample.put(figures::RTT_MEAN, mean(trips).ok_or_else(none)?);
    sample.put(figures::RTT_P95, percentile(trips, 95).ok_or_else(none)?);
    sample.put(figures::PINGS_LOST, sent.saturating_sub(trips.len()) as f64);
    Ok(sample)
}

/// Pings the far end from `ns`; returns the round trips of those that were answered, in milliseconds.
fn ping(ns: &Netns, count: usize) -> Vec<f64> {
    let interval = INTERVAL.as_secs_f64();
    let line = format!("ping -n -W 1 -c {count} -i {interval} {}", inner(2));
    let limit = INTERVAL * u32::try_from(count).unwrap_or(u32::MAX) + seconds(20);
    round_trips(&ns.cmd(&line).limit(limit).run().stdout)
}

/// The times in what ping prints: `64 bytes from 192.0.2.1: icmp_seq=1 ttl=64 time=0.123 ms`.
fn round_trips(printed: &str) -> Vec<f64> {
    let times = printed.lines().filter_map(|line| line.split_once(" time=")?.1.strip_suffix(" ms"));
    times.filter_map(|time| time.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_answers_have_a_time() {
        let printed = "PING 10.0.0.2 (10.0.0.2) 56(84) bytes of data.\n\
            64 bytes from 10.0.0.2: icmp_seq=1 ttl=64 time=0.123 ms\n\
            From 10.0.0.1 icmp_seq=2 Destination Host Unreachable\n\
            64 bytes from 10.0.0.2: icmp_seq=3 ttl=64 time=12 ms\n\n\
            3 packets transmitted, 2 received, time 41ms\n\
            rtt min/avg/max/mdev = 0.123/6.061/12.000/5.938 ms\n";
        assert_eq!(round_trips(printed), [0.123, 12.0]);
    }

    #[test]
    fn unanswered_pings_are_counted() {
        let sample = summarize(&[1.0, 2.0, 9.0], 5).unwrap();
        let get = |figure| sample.get(figure).unwrap();
        assert_eq!((get(figures::RTT_MEDIAN), get(figures::RTT_MEAN)), (2.0, 4.0));
        assert_eq!((get(figures::RTT_P95), get(figures::PINGS_LOST)), (9.0, 2.0));
        assert!(summarize(&[], 5).is_err());
    }
}
