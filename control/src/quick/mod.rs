//! `wg-quick`: what it takes to bring an interface up and down (wg-quick(8)).
//!
//! A file is read into a [`Config`]. Together with what the system looks like, a [`System`], that makes a plan: a list of
//! [`Step`]s, each of which knows the command that it stands for and what takes it back. Whoever carries the plan out
//! performs the I/O; nothing here does.
//!
//! Bringing up takes two plans, because the user's PreUp commands run in between and may change anything: [`plan::begin`],
//! then, with what device and system look like afterwards, [`plan::finish`].

mod config;
pub mod dns;
mod firewall;
pub mod plan;
pub mod reload;
mod save;
mod step;
mod system;

pub use config::{Address, Config, Table, read, read_all};
pub use firewall::Firewall;
pub use save::{Current, save};
pub use step::{Program, Route, Rule, Step};
pub use system::{Remains, System};
