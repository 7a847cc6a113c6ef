//! `inet` and `cidr` values.

use std::cmp::Ordering;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Key;

/// An address with the length of its network part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Inet {
    /// The address.
    pub address: IpAddr,
    /// Bits of the network, up to 32 or 128.
    pub bits: u8,
}

impl Inet {
    /// Reads an address with all of its parts, and `/bits` unless it is a host.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
        let address: IpAddr = address.parse().ok()?;
        let widest = width(address);
        let bits = match bits {
            None => widest,
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => bits.parse().ok()?,
            Some(_) => return None,
        };
        (bits <= widest).then_some(Self { address, bits })
    }

    /// The output form of `inet`: without `/bits` for a host.
    pub(super) fn print(&self) -> String {
        if self.bits == width(self.address) {
            return self.print_address();
        }
        self.print_network()
    }

    /// The output form of `cidr`, and of `text(inet)`: always with `/bits`.
    pub(super) fn print_network(&self) -> String {
        format!("{}/{}", self.print_address(), self.bits)
    }

    /// The address alone, as `inet_net_ntop.c` prints it: IPv4-compatible addresses with their last four bytes in decimal.
    pub(super) fn print_address(&self) -> String {
        let IpAddr::V6(address) = self.address else {
            return self.address.to_string();
        };
        let [a, b, c, d, e, f, high, low] = address.segments();
        if [a, b, c, d, e, f] == [0; 6] && high != 0 {
            let last = Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
            return format!("::{last}");
        }
        address.to_string()
    }

    /// The network alone, as `cidr` holds it.
    pub(super) fn network(&self) -> Self {
        let address = match self.address {
            IpAddr::V4(address) => IpAddr::V4(Ipv4Addr::from(
                address.to_bits() & u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0),
            )),
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(
                address.to_bits() & u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0),
            )),
        };
        Self {
            address,
            bits: self.bits,
        }
    }

    /// Whether this is a network of at least as many addresses, with all of the other's among them (`>>=`).
    pub(super) fn contains(&self, other: &Self) -> bool {
        self.address.is_ipv4() == other.address.is_ipv4()
            && self.bits <= other.bits
            && self.network().address
                == Self {
                    bits: self.bits,
                    ..*other
                }
                .network()
                .address
    }

    /// Postgres' order: IPv4 first, then by the network bits that both have, by their number, by the rest.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        let common = self.bits.min(other.bits);
        let network = |of: &Self| Self { bits: common, ..*of }.network().address;
        (self.address.is_ipv6().cmp(&other.address.is_ipv6()))
            .then_with(|| network(self).cmp(&network(other)))
            .then_with(|| self.bits.cmp(&other.bits))
            .then_with(|| self.address.cmp(&other.address))
    }

    /// Address and bits.
    pub(super) fn key(&self) -> Key {
        let mut bytes = match self.address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        bytes.push(self.bits);
        Key::Bytes(bytes.into())
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}
