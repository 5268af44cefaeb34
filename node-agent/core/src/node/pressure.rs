//! How long pressure is told after it was last seen (kubelet: `evictionPressureTransitionPeriod`): a disk that hovers at its
//! threshold would come and go as a condition, a taint and an event each time.

use std::time::Duration;

use jiff::Timestamp;

use super::Health;

/// When each was last seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pressures {
    memory: Option<Timestamp>,
    disk: Option<Timestamp>,
    pids: Option<Timestamp>,
}

impl Pressures {
    /// What is measured `now`, and what was there less than `period` ago.
    #[must_use]
    pub fn hold(&mut self, measured: Health, period: Duration, now: Timestamp) -> Health {
        let hold = |seen: &mut Option<Timestamp>, is_there: bool| {
            if is_there {
                *seen = Some(now);
            }
            seen.is_some_and(|at| is_there || now.duration_since(at).unsigned_abs() < period)
        };
        Health {
            memory_pressure: hold(&mut self.memory, measured.memory_pressure),
            disk_pressure: hold(&mut self.disk, measured.disk_pressure),
            pid_pressure: hold(&mut self.pids, measured.pid_pressure),
            ..measured
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::at;

    #[test]
    fn pressure_is_told_for_a_while_after_it_was_last_seen() {
        let mut pressures = Pressures::default();
        let disk = |pressed: bool| Health { disk_pressure: pressed, ..Health::default() };
        for (second, measured, told) in [
            (0, false, false),
            (10, true, true),
            (20, false, true),
            (30, true, true),
            (329, false, true),
            (330, false, false),
            (340, false, false),
            (350, true, true),
        ] {
            let health = pressures.hold(disk(measured), Duration::from_secs(300), at(second));
            assert_eq!(health, disk(told), "at {second} s");
        }
    }

    #[test]
    fn each_is_held_by_itself_and_what_makes_a_node_not_ready_is_not_held() {
        let mut pressures = Pressures::default();
        let all = Health {
            not_ready: vec!["why".to_owned()],
            memory_pressure: true,
            disk_pressure: false,
            pid_pressure: true,
        };
        assert_eq!(pressures.hold(all.clone(), Duration::from_secs(300), at(0)), all);
        let held = Health { not_ready: Vec::new(), ..all };
        assert_eq!(pressures.hold(Health::default(), Duration::from_secs(300), at(1)), held);
        assert_eq!(pressures.hold(Health::default(), Duration::ZERO, at(2)), Health::default());
    }
}
