//! Mode `local`: a pod has an address of this machine's loopback, as a container of `samara run` has. Nothing of the
//! kernel is set up, so it works in every namespace and beside every other network; from elsewhere a pod is reached by
//! its `hostPort`.

use std::net::{IpAddr, Ipv4Addr};

use sha2::{Digest as _, Sha256};

/// Pods' own addresses: 127.128.0.0/11.
const ADDRESSES: u32 = 0x7f80_0000;
/// What 127.0.0.1 means to them: 127.160.0.0/11.
const LOOPBACKS: u32 = 0x7fa0_0000;
const BITS: u32 = 0x001f_ffff;

/// Address and loopback of a pod. By its UID alone: two million addresses, and no ledger of them.
pub(super) fn addresses(uid: &str) -> (IpAddr, IpAddr) {
    let digest = Sha256::digest(uid);
    let number = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    // The first and the last look odd and are left out.
    let host = (number & BITS).clamp(1, BITS - 1);
    (Ipv4Addr::from_bits(ADDRESSES | host).into(), Ipv4Addr::from_bits(LOOPBACKS | host).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_addresses_are_its_own_and_stay() {
        let (own, loopback) = addresses("a");
        assert_eq!((own, loopback), addresses("a"));
        assert_ne!(own, addresses("b").0);
        for uid in ["a", "b", "", "0123"] {
            let (IpAddr::V4(own), IpAddr::V4(loopback)) = addresses(uid) else { panic!("of version 4") };
            assert_eq!((own.octets()[0], own.octets()[1] & 0xe0), (127, 128), "{own}");
            assert_eq!((loopback.octets()[0], loopback.octets()[1] & 0xe0), (127, 160), "{loopback}");
        }
    }
}
