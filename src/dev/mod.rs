//! A Postgres of one's own: `rowcast dev`, and the private cluster that it and the tests run on.
//!
//! [`PrivateCluster`] is a plain library: it knows binaries, folders and processes and nothing of Rowcast. The dev
//! command puts roles, objects, keys and a server on top of it.

mod cluster;
mod error;
mod installation;
mod keys;
mod lock;
mod owner;
mod postmaster;
mod run;
mod sql_files;

pub use cluster::{Durability, Options, PrivateCluster};
pub use error::DevError;
pub use installation::Installation;
pub use keys::{Keys, read_jwt_secret};
pub use postmaster::StopMode;
pub use run::{DevOptions, own_environment, run};
