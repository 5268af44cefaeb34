//! A range of addresses, and which of them pods may have.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// At most this many addresses of a range are used: the number of pod loopbacks there are (see [`Cidr::loopback`]).
const MOST: u128 = 1 << 22;

/// `10.0.7.0/24`: a network address and the length of its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr {
    base: IpAddr,
    prefix: u8,
}

/// Text that is not a range.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not an address range such as 10.0.7.0/24")]
pub struct InvalidCidr(pub String);

impl Cidr {
    /// First address of the range.
    pub fn base(&self) -> IpAddr {
        self.base
    }

    /// Length of the prefix in bits.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The address at `index` from the base. Indexes beyond the range wrap into no one: `None`.
    pub fn address(&self, index: u32) -> Option<IpAddr> {
        if u128::from(index) >= self.size() {
            return None;
        }
        Some(match self.base {
            IpAddr::V4(base) => Ipv4Addr::from(u32::from(base) + index).into(),
            IpAddr::V6(base) => Ipv6Addr::from(u128::from(base) + u128::from(index)).into(),
        })
    }

    /// Where in the range an address is, if it is in it and within reach.
    pub fn index(&self, address: IpAddr) -> Option<u32> {
        let distance = match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => u128::from(u32::from(address).checked_sub(u32::from(base))?),
            (IpAddr::V6(base), IpAddr::V6(address)) => u128::from(address).checked_sub(u128::from(base))?,
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
        };
        (distance < self.size().min(MOST)).then(|| u32::try_from(distance).ok()).flatten()
    }

    /// The host's own end: the first address after the base.
    pub fn gateway(&self) -> IpAddr {
        self.address(1).unwrap_or(self.base)
    }

    /// Indexes that pods may have: not the network address, not the host's end, not the broadcast address.
    pub fn pod_indexes(&self) -> std::ops::Range<u32> {
        let end = match self.base {
            IpAddr::V4(_) => self.size().saturating_sub(1),
            IpAddr::V6(_) => self.size(),
        };
        2..u32::try_from(end.min(MOST)).unwrap_or(2).max(2)
    }

    /// The loopback address of the pod at `index`: 127.64.0.0 and up, one for each of the range's first 2^22 addresses.
    pub fn loopback(index: u32) -> IpAddr {
        Ipv4Addr::from(0x7f40_0000 | (index & 0x003f_ffff)).into()
    }

    fn size(&self) -> u128 {
        let bits = match self.base {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        1_u128.checked_shl(u32::from(bits - self.prefix)).unwrap_or(u128::MAX)
    }
}

impl FromStr for Cidr {
    type Err = InvalidCidr;

    fn from_str(text: &str) -> Result<Self, InvalidCidr> {
        let invalid = || InvalidCidr(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(invalid)?;
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        let prefix: u8 = prefix.parse().map_err(|_| invalid())?;
        let base = match address {
            IpAddr::V4(address) if prefix <= 32 => {
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
                Ipv4Addr::from(u32::from(address) & mask).into()
            }
            IpAddr::V6(address) if prefix <= 128 => {
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
                Ipv6Addr::from(u128::from(address) & mask).into()
            }
            IpAddr::V4(_) | IpAddr::V6(_) => return Err(invalid()),
        };
        Ok(Self { base, prefix })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn text_becomes_the_range_with_its_host_bits_cleared() {
        let table = [
            ("10.0.7.0/24", "10.0.7.0/24"),
            ("10.0.7.9/24", "10.0.7.0/24"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("10.0.7.9/32", "10.0.7.9/32"),
            ("fd00::7/64", "fd00::/64"),
        ];
        for (text, want) in table {
            assert_eq!(text.parse::<Cidr>().unwrap().to_string(), want);
        }
    }

    #[test]
    fn text_that_is_no_range_is_refused() {
        for text in ["", "10.0.7.0", "10.0.7.0/33", "fd00::/129", "/24", "10.0.7.0/-1", "ten/8", "10.0.7.0/24/24"] {
            assert_eq!(text.parse::<Cidr>(), Err(InvalidCidr(text.to_owned())));
        }
    }

    #[test]
    fn a_pod_never_gets_the_network_the_host_or_the_broadcast_address() {
        let range: Cidr = "10.0.7.0/24".parse().unwrap();
        assert_eq!(range.gateway(), "10.0.7.1".parse::<IpAddr>().unwrap());
        assert_eq!(range.address(range.pod_indexes().start), Some("10.0.7.2".parse().unwrap()));
        assert_eq!(range.address(range.pod_indexes().end - 1), Some("10.0.7.254".parse().unwrap()));
        for tiny in ["10.0.7.0/32", "10.0.7.0/31", "fd00::/128", "fd00::/127"] {
            assert!(tiny.parse::<Cidr>().unwrap().pod_indexes().is_empty(), "{tiny}");
        }
    }

    #[test]
    fn address_and_index_are_each_others_inverse() {
        for text in ["10.0.7.0/24", "10.128.0.0/9", "fd00::/64", "0.0.0.0/0"] {
            let range: Cidr = text.parse().unwrap();
            for index in [2, 3, 200, 253] {
                assert_eq!(range.index(range.address(index).unwrap()), Some(index), "{text}");
            }
            assert_eq!(range.index("::ffff:1".parse().unwrap()), None, "{text}");
        }
        let range: Cidr = "10.0.7.0/24".parse().unwrap();
        for outside in ["10.0.6.255", "10.0.8.0", "192.168.0.1", "fd00::1"] {
            assert_eq!(range.index(outside.parse().unwrap()), None, "{outside}");
        }
    }

    #[test]
    fn every_pod_of_a_slash_sixteen_has_a_loopback_of_its_own() {
        let all: HashSet<IpAddr> = (0..65_536).map(Cidr::loopback).collect();
        assert_eq!(all.len(), 65_536);
        assert!(all.iter().all(IpAddr::is_loopback));
        assert!(!all.contains(&IpAddr::from(Ipv4Addr::LOCALHOST)));
    }
}
