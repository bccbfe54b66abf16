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

pub use error::{Error, Place};
pub use line::{harmless, is_space};
pub(crate) use read::decoded;
pub use read::{Mode, errors, read};
pub use sync::synchronize;
pub use value::{Endpoint, Fault};
pub use write::write_conf;

use crate::Set;

/// How wireguard-tools sums up what is wrong with a line.
const PARSING_ERROR: &str = "Configuration parsing error";

/// A change whose endpoints have not been looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draft {
    /// All but the endpoints.
    pub set: Set,
    /// The endpoints, to be looked up.
    pub endpoints: Vec<DraftEndpoint>,
    /// What is probably a mistake, a line each.
    pub warnings: Vec<String>,
}

/// An endpoint that has not been looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DraftEndpoint {
    /// Its peer's place in `set.peers`.
    pub peer: usize,
    /// As it was written.
    pub endpoint: Endpoint,
    /// Where.
    pub place: Place,
}

impl Draft {
    /// Has every endpoint looked up by `resolve`, which says why one cannot be.
    ///
    /// # Errors
    /// For the first that cannot be looked up. The warnings are not in it.
    pub fn resolve(
        mut self,
        mut resolve: impl FnMut(&Endpoint) -> Result<SocketAddr, String>,
    ) -> Result<Set, Error> {
        for DraftEndpoint { peer, endpoint, place } in self.endpoints {
            let address = resolve(&endpoint).map_err(|message| Error {
                message,
                summary: PARSING_ERROR,
                place: Some(place),
                hint: "cannot be looked up",
                warnings: Vec::new(),
            })?;
            self.set.peers[peer].endpoint = Some(address);
            self.set.peers[peer].endpoint_name = endpoint.name(address.port());
        }
        Ok(self.set)
    }
}
