//! The program, from outside: everything but what has a virtual machine to itself, as one program to build and run, whose tests
//! wait beside each other. A part of it alone: `cargo test -p adit --test integration tunnel::`.

mod common;

mod abandoned;
mod check;
mod completions;
mod confine;
mod connected;
mod cookies;
mod daemon;
mod demo;
mod dissect;
mod faults;
mod flood;
mod full;
mod killed;
mod known_bugs;
mod manual;
mod metrics;
mod network;
mod new;
mod offloads;
mod package;
mod qr;
mod quick;
mod quick_files;
mod quick_rules;
mod reload;
mod roaming;
mod service;
mod show_json;
mod stress;
mod tunnel;
mod uapi;
mod watch;
mod wg;
mod why;
