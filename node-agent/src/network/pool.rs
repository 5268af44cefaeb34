//! Which pod has which address: a pure table, with time as an argument.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};

use super::cidr::Cidr;

/// How long a freed address is given to no one: connections to its last owner may still be under way.
pub(super) const REST: SignedDuration = SignedDuration::from_secs(60);

/// The addresses of one range.
#[derive(Debug)]
pub(super) struct Pool {
    range: Cidr,
    taken: BTreeMap<u32, String>,
    by_pod: HashMap<String, u32>,
    resting: BTreeMap<u32, Timestamp>,
    /// Where the search begins: addresses are given out in turn, so that one freed is used again as late as possible.
    next: u32,
}

/// Every address is taken or rests.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("no free address in {range}: {taken} are taken and {resting} were freed less than 60 s ago")]
pub struct Exhausted {
    range: String,
    taken: usize,
    resting: usize,
}

impl Pool {
    pub(super) fn new(range: Cidr) -> Self {
        Self {
            range,
            taken: BTreeMap::new(),
            by_pod: HashMap::new(),
            resting: BTreeMap::new(),
            next: range.pod_indexes().start,
        }
    }

    pub(super) fn range(&self) -> Cidr {
        self.range
    }

    /// Takes back what an earlier agent had given. Addresses outside the range are refused: the range has changed.
    pub(super) fn restore(&mut self, address: IpAddr, pod: &str) -> bool {
        let Some(index) = self.pod_index(address) else { return false };
        if self.taken.contains_key(&index) || self.by_pod.contains_key(pod) {
            return false;
        }
        self.taken.insert(index, pod.to_owned());
        self.by_pod.insert(pod.to_owned(), index);
        self.next = self.next.max(index + 1);
        true
    }

    /// An address that an earlier agent had freed at `since`.
    pub(super) fn restore_resting(&mut self, address: IpAddr, since: Timestamp) {
        if let Some(index) = self.pod_index(address) {
            self.resting.insert(index, since);
        }
    }

    /// The pod's address, the same for every call until it is freed.
    pub(super) fn allocate(&mut self, pod: &str, now: Timestamp) -> Result<IpAddr, Exhausted> {
        if let Some(address) = self.of(pod) {
            return Ok(address);
        }
        // A clock set back makes an address rest longer, never shorter.
        self.resting.retain(|_, since| now.duration_since(*since) < REST);
        let indexes = self.range.pod_indexes();
        let free = |index: &u32| !self.taken.contains_key(index) && !self.resting.contains_key(index);
        let start = self.next.clamp(indexes.start, indexes.end);
        let index = (start..indexes.end).chain(indexes.start..start).find(free).ok_or_else(|| Exhausted {
            range: self.range.to_string(),
            taken: self.taken.len(),
            resting: self.resting.len(),
        })?;
        self.taken.insert(index, pod.to_owned());
        self.by_pod.insert(pod.to_owned(), index);
        self.next = index + 1;
        Ok(self.range.address(index).unwrap_or(self.range.base()))
    }

    /// Gives the pod's address back; it rests from `now`. `None` if it had none.
    pub(super) fn free(&mut self, pod: &str, now: Timestamp) -> Option<IpAddr> {
        let index = self.by_pod.remove(pod)?;
        self.taken.remove(&index);
        self.resting.insert(index, now);
        self.range.address(index)
    }

    /// The address of a pod that has one.
    pub(super) fn of(&self, pod: &str) -> Option<IpAddr> {
        self.by_pod.get(pod).and_then(|index| self.range.address(*index))
    }

    /// Pods that have an address.
    pub(super) fn pods(&self) -> impl Iterator<Item = &str> {
        self.by_pod.keys().map(String::as_str)
    }

    fn pod_index(&self, address: IpAddr) -> Option<u32> {
        self.range.index(address).filter(|index| self.range.pod_indexes().contains(index))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    fn pool(range: &str) -> Pool {
        Pool::new(range.parse().unwrap())
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_pod_asks_twice_and_gets_the_same_address() {
        let mut pool = pool("10.0.0.0/24");
        assert_eq!(pool.allocate("a", at(0)), Ok(ip("10.0.0.2")));
        assert_eq!(pool.allocate("b", at(0)), Ok(ip("10.0.0.3")));
        assert_eq!(pool.allocate("a", at(0)), Ok(ip("10.0.0.2")));
    }

    #[test]
    fn a_freed_address_rests_sixty_seconds_even_when_it_is_the_last() {
        let mut pool = pool("10.0.0.0/30");
        assert_eq!(pool.allocate("a", at(0)), Ok(ip("10.0.0.2")));
        assert_eq!(pool.free("a", at(10)), Some(ip("10.0.0.2")));
        let error = pool.allocate("b", at(69)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no free address in 10.0.0.0/30: 0 are taken and 1 were freed less than 60 s ago"
        );
        assert_eq!(pool.allocate("b", at(70)), Ok(ip("10.0.0.2")));
    }

    #[test]
    fn what_an_earlier_agent_gave_stays_given() {
        let mut pool = pool("10.0.0.0/29");
        assert!(pool.restore(ip("10.0.0.3"), "old"));
        pool.restore_resting(ip("10.0.0.4"), at(0));
        assert!(!pool.restore(ip("10.0.0.3"), "thief"), "given once already");
        assert!(!pool.restore(ip("10.0.1.3"), "stranger"), "not of this range");
        assert!(!pool.restore(ip("10.0.0.1"), "gateway"), "the host's");
        assert_eq!(pool.of("old"), Some(ip("10.0.0.3")));
        let mut others: Vec<_> = ["a", "b", "c"].iter().map(|pod| pool.allocate(pod, at(1)).unwrap()).collect();
        others.sort();
        assert_eq!(others, [ip("10.0.0.2"), ip("10.0.0.5"), ip("10.0.0.6")]);
        assert!(pool.allocate("d", at(1)).is_err());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Allocate(u8),
        Free(u8),
        Wait(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..20_u8).prop_map(Step::Allocate),
            2 => (0..20_u8).prop_map(Step::Free),
            1 => (0..90_u8).prop_map(Step::Wait),
        ]
    }

    proptest! {
        #[test]
        fn no_two_pods_share_an_address_and_none_is_reused_within_its_rest(steps in prop::collection::vec(step(), 0..200)) {
            let mut pool = pool("10.0.0.0/28");
            let mut now = 0;
            let mut held: HashMap<u8, IpAddr> = HashMap::new();
            let mut freed: HashMap<IpAddr, i64> = HashMap::new();
            for step in steps {
                match step {
                    Step::Allocate(pod) => match pool.allocate(&pod.to_string(), at(now)) {
                        Ok(address) => {
                            if held.get(&pod) != Some(&address) {
                                prop_assert!(!held.values().any(|other| *other == address));
                                prop_assert!(freed.get(&address).is_none_or(|since| now - since >= 60));
                            }
                            held.insert(pod, address);
                        }
                        Err(_) => {
                            let resting = freed.iter().filter(|(a, since)| now - **since < 60 && !held.values().any(|h| h == *a)).count();
                            prop_assert_eq!(held.len() + resting, 13);
                        }
                    },
                    Step::Free(pod) => {
                        let address = held.remove(&pod);
                        prop_assert_eq!(pool.free(&pod.to_string(), at(now)), address);
                        if let Some(address) = address {
                            freed.insert(address, now);
                        }
                    }
                    Step::Wait(seconds) => now += i64::from(seconds),
                }
            }
        }
    }
}
