//! `inet` and `cidr` values.

use std::net::IpAddr;

/// An address with the length of its network part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Inet {
    /// The address.
    pub address: IpAddr,
    /// Bits of the network, up to 32 or 128.
    pub bits: u8,
}
