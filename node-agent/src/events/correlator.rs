//! What becomes of an event: a new object, a higher count on an old one, or nothing (client-go `tools/record/events_cache.go`).

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;
use samara_core::events::Event;

/// An object may tell this many events at once; further ones at one in five minutes.
const BURST: f64 = 25.0;
const REFILL: SignedDuration = SignedDuration::from_mins(5);
/// So many events of one reason about one object become one of them all.
const SIMILAR: usize = 10;
/// An event not seen for this long begins anew.
const MEMORY: SignedDuration = SignedDuration::from_mins(10);
/// More are forgotten, oldest first.
const MOST: usize = 4096;

/// Remembers what was told.
#[derive(Debug, Default)]
pub(super) struct Correlator {
    told: HashMap<Key, Told>,
    similar: HashMap<Group, Similar>,
    budgets: HashMap<String, Budget>,
}

/// What to do with an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Act {
    Create {
        message: String,
    },
    /// An event of this name was made before.
    Count {
        name: String,
        count: i32,
        message: String,
    },
    Drop,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Group {
    object: String,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    group: Group,
    message: String,
}

#[derive(Debug)]
struct Told {
    name: String,
    count: i32,
    last: Timestamp,
}

#[derive(Debug)]
struct Similar {
    messages: Vec<String>,
    last: Timestamp,
}

#[derive(Debug)]
struct Budget {
    left: f64,
    at: Timestamp,
}

impl Correlator {
    /// Decides about one event; tell [`Correlator::created`] when a created one has its name.
    pub(super) fn decide(&mut self, object: &ObjectReference, event: &Event, now: Timestamp) -> (Act, Key) {
        let uid = object.uid.clone().unwrap_or_default();
        let group = Group {
            object: format!("{uid} {}", object.field_path.as_deref().unwrap_or_default()),
            reason: event.reason,
        };
        let message = self.combine(&group, &event.message, now);
        let key = Key { group, message: message.clone() };
        if !self.spend(uid, now) {
            return (Act::Drop, key);
        }
        let told = self.told.get_mut(&key).filter(|told| now.duration_since(told.last) < MEMORY);
        let act = match told {
            Some(told) => {
                told.count += 1;
                told.last = now;
                Act::Count { name: told.name.clone(), count: told.count, message }
            }
            None => Act::Create { message },
        };
        (act, key)
    }

    /// The event was created under this name.
    pub(super) fn created(&mut self, key: Key, name: String, now: Timestamp) {
        if self.told.len() >= MOST {
            self.forget(now);
        }
        self.told.insert(key, Told { name, count: 1, last: now });
    }

    /// The event of this key is gone from the API server.
    pub(super) fn lost(&mut self, key: &Key) {
        self.told.remove(key);
    }

    fn combine(&mut self, group: &Group, message: &str, now: Timestamp) -> String {
        let similar = self.similar.entry(group.clone()).or_insert_with(|| Similar { messages: Vec::new(), last: now });
        if now.duration_since(similar.last) >= MEMORY {
            similar.messages.clear();
        }
        similar.last = now;
        if similar.messages.len() < SIMILAR && !similar.messages.iter().any(|known| known == message) {
            similar.messages.push(message.to_owned());
        }
        match similar.messages.len() < SIMILAR {
            true => message.to_owned(),
            false => format!("(combined from similar events): {message}"),
        }
    }

    fn spend(&mut self, object: String, now: Timestamp) -> bool {
        let budget = self.budgets.entry(object).or_insert(Budget { left: BURST, at: now });
        let refilled = now.duration_since(budget.at).as_secs_f64() / REFILL.as_secs_f64();
        budget.left = (budget.left + refilled.max(0.0)).min(BURST);
        budget.at = now;
        let may = budget.left >= 1.0;
        if may {
            budget.left -= 1.0;
        }
        may
    }

    fn forget(&mut self, now: Timestamp) {
        let old = |last: Timestamp| now.duration_since(last) >= MEMORY;
        self.told.retain(|_, told| !old(told.last));
        self.similar.retain(|_, similar| !old(similar.last));
        self.budgets.retain(|_, budget| budget.left < BURST && !old(budget.at));
        if self.told.len() >= MOST {
            self.told.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    fn pod(uid: &str) -> ObjectReference {
        ObjectReference { uid: Some(uid.to_owned()), ..ObjectReference::default() }
    }

    fn create(message: &str) -> Act {
        Act::Create { message: message.to_owned() }
    }

    #[test]
    fn the_same_event_again_is_counted() {
        let mut correlator = Correlator::default();
        let event = Event::warning("BackOff", "Back-off restarting failed container");
        let (act, key) = correlator.decide(&pod("a"), &event, at(0));
        assert_eq!(act, create(&event.message));
        correlator.created(key, "a.1".to_owned(), at(0));
        for count in 2..5 {
            let (act, _) = correlator.decide(&pod("a"), &event, at(count.into()));
            assert_eq!(act, Act::Count { name: "a.1".to_owned(), count, message: event.message.clone() });
        }
        assert_eq!(correlator.decide(&pod("b"), &event, at(5)).0, create(&event.message), "another pod's is its own");
        assert_eq!(
            correlator.decide(&pod("a"), &event, at(2000)).0,
            create(&event.message),
            "forgotten after ten minutes"
        );
    }

    #[test]
    fn an_event_the_api_server_lost_is_created_anew() {
        let mut correlator = Correlator::default();
        let event = Event::normal("Pulled", "here");
        let (_, key) = correlator.decide(&pod("a"), &event, at(0));
        correlator.created(key.clone(), "a.1".to_owned(), at(0));
        correlator.lost(&key);
        assert_eq!(correlator.decide(&pod("a"), &event, at(1)).0, create("here"));
    }

    #[test]
    fn ten_similar_events_become_one() {
        let mut correlator = Correlator::default();
        for number in 0..9 {
            let event = Event::warning("Unhealthy", format!("status code {number}"));
            assert_eq!(correlator.decide(&pod("a"), &event, at(number)).0, create(&event.message));
        }
        let event = Event::warning("Unhealthy", "status code 9");
        let combined = create("(combined from similar events): status code 9");
        assert_eq!(correlator.decide(&pod("a"), &event, at(9)).0, combined);
    }

    #[test]
    fn a_noisy_object_is_silenced_after_its_burst_and_others_are_not() {
        let mut correlator = Correlator::default();
        let event = Event::warning("BackOff", "again");
        let acts: Vec<Act> = (0..30).map(|_| correlator.decide(&pod("a"), &event, at(0)).0).collect();
        assert_eq!(acts.iter().filter(|act| **act == Act::Drop).count(), 5);
        assert_ne!(correlator.decide(&pod("b"), &event, at(0)).0, Act::Drop);
        assert_ne!(correlator.decide(&pod("a"), &event, at(300)).0, Act::Drop, "one more after five minutes");
        assert_eq!(correlator.decide(&pod("a"), &event, at(300)).0, Act::Drop);
    }
}
