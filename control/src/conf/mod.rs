//! The configuration files of `wg`, and the arguments of `wg set`, which are spelled alike (wg(8)).
//!
//! A file is read whole into a [`Draft`] before anything is looked up or changed. A draft is a [`Set`] whose endpoints may
//! still be names; [`Draft::resolve`] has them looked up by the caller and gives the [`Set`].
//!
//! The first line of every [`Error`] is the one that wireguard-tools prints, since programs look for it. What comes after
//! says where, and what was expected. A key is never repeated in it.

pub(crate) mod error;
pub(crate) mod line;
mod read;
mod sync;
pub mod value;
mod write;

use std::net::SocketAddr;

pub use error::Error;
pub use read::{Mode, read};
pub use sync::synchronize;
pub use value::{Endpoint, Fault};
pub use write::write_conf;

use crate::Set;

/// A change whose endpoints have not been looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draft {
    /// All but the endpoints.
    pub set: Set,
    /// The endpoints, each with its peer's place in `set.peers`.
    pub endpoints: Vec<(usize, Endpoint)>,
    /// What is probably a mistake, a line each.
    pub warnings: Vec<String>,
}

impl Draft {
    /// Has every endpoint looked up by `resolve`.
    ///
    /// # Errors
    /// The first that `resolve` has.
    pub fn resolve<E>(
        mut self,
        mut resolve: impl FnMut(&Endpoint) -> Result<SocketAddr, E>,
    ) -> Result<Set, E> {
        for (peer, endpoint) in &self.endpoints {
            self.set.peers[*peer].endpoint = Some(resolve(endpoint)?);
        }
        Ok(self.set)
    }
}
