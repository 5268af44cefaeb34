//! One memory counter for all instances of a process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wasmtime::ResourceLimiter;

/// The guest wanted more than its limit: the process ends as the kernel's OOM killer would end it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("memory limit of {limit} bytes reached: {used} in use, {wanted} more wanted")]
pub(crate) struct OutOfMemory {
    limit: u64,
    used: u64,
    wanted: u64,
}

/// The limit itself, which may change while the guest runs. Memory that it has already is not taken away.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemoryLimit(Arc<AtomicU64>);

impl MemoryLimit {
    /// Not set yet: a limit of no bytes is none that anybody means.
    const UNSET: u64 = 0;

    /// Sets it; `None` is without limit.
    pub(crate) fn set(&self, limit: Option<u64>) {
        self.0.store(limit.map_or(u64::MAX, |limit| limit.max(1)), Ordering::Relaxed);
    }

    /// Sets it unless somebody has already.
    fn begin(&self, limit: Option<u64>) {
        let limit = limit.map_or(u64::MAX, |limit| limit.max(1));
        // Somebody was quicker: theirs is newer.
        let _ = self.0.compare_exchange(Self::UNSET, limit, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Bytes of linear memories and tables, shared by all stores of the process.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<Counter>);

#[derive(Debug)]
struct Counter {
    limit: MemoryLimit,
    used: AtomicU64,
}

impl Budget {
    /// Of `limit` bytes, until `changed` says otherwise.
    pub(crate) fn new(limit: Option<u64>, changed: MemoryLimit) -> Self {
        changed.begin(limit);
        Self(Arc::new(Counter { limit: changed, used: AtomicU64::new(0) }))
    }

    /// The part of one store; what it took comes back when it is dropped.
    pub(crate) fn share(&self) -> Share {
        Share { budget: self.clone(), taken: 0, last: 0 }
    }

    fn take(&self, wanted: u64) -> Result<(), OutOfMemory> {
        let limit = self.0.limit.now();
        let add = |used: u64| used.checked_add(wanted).filter(|sum| *sum <= limit);
        self.0.used.try_update(Ordering::Relaxed, Ordering::Relaxed, add).map(drop).map_err(|used| OutOfMemory {
            limit,
            used,
            wanted,
        })
    }

    fn give_back(&self, bytes: u64) {
        self.0.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// See [`Budget::share`].
#[derive(Debug)]
pub(crate) struct Share {
    budget: Budget,
    taken: u64,
    /// The latest growth, taken back if the engine then fails to make it.
    last: u64,
}

impl Share {
    fn grow(&mut self, current: usize, desired: usize, maximum: Option<usize>, unit: u64) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            self.last = 0;
            return Ok(false);
        }
        let wanted = (desired.saturating_sub(current) as u64).saturating_mul(unit);
        self.budget.take(wanted)?;
        self.taken += wanted;
        self.last = wanted;
        Ok(true)
    }

    fn undo_last(&mut self) {
        self.budget.give_back(self.last);
        self.taken -= self.last;
        self.last = 0;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.give_back(self.taken);
    }
}

impl ResourceLimiter for Share {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        self.grow(current, desired, maximum, 1)
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.undo_last();
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        self.grow(current, desired, maximum, size_of::<usize>() as u64)
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.undo_last();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_stores_share_one_limit_and_a_dropped_one_gives_its_part_back() {
        let budget = Budget::new(Some(100), MemoryLimit::default());
        let mut first = budget.share();
        assert!(first.memory_growing(0, 60, None).unwrap());
        let mut second = budget.share();
        let error = second.memory_growing(0, 60, None).unwrap_err();
        assert_eq!(error.downcast_ref::<OutOfMemory>(), Some(&OutOfMemory { limit: 100, used: 60, wanted: 60 }));
        drop(first);
        assert!(second.memory_growing(0, 60, None).unwrap());
    }

    #[test]
    fn growth_past_the_modules_own_maximum_fails_without_ending_anything() {
        let budget = Budget::new(Some(100), MemoryLimit::default());
        let mut share = budget.share();
        assert!(!share.memory_growing(10, 200, Some(50)).unwrap());
        share.memory_grow_failed(wasmtime::format_err!("too large")).unwrap();
        assert!(share.memory_growing(0, 100, Some(100)).unwrap(), "all of it is still there");
    }

    #[test]
    fn a_growth_that_the_engine_could_not_make_is_not_counted() {
        let budget = Budget::new(Some(100), MemoryLimit::default());
        let mut share = budget.share();
        assert!(share.memory_growing(0, 80, None).unwrap());
        share.memory_grow_failed(wasmtime::format_err!("no address space")).unwrap();
        assert!(share.memory_growing(0, 100, None).unwrap());
    }

    #[test]
    fn a_changed_limit_holds_for_the_next_growth_whenever_it_was_changed() {
        let limit = MemoryLimit::default();
        limit.set(Some(50));
        let budget = Budget::new(Some(100), limit.clone());
        let mut share = budget.share();
        assert!(share.memory_growing(0, 60, None).is_err(), "it was changed before the guest began");
        limit.set(Some(200));
        assert!(share.memory_growing(0, 150, None).unwrap());
        limit.set(Some(100));
        assert!(share.memory_growing(150, 151, None).is_err(), "what it has stays, more is not given");
        limit.set(None);
        assert!(share.memory_growing(150, 1 << 40, None).unwrap());
    }

    #[test]
    fn absurd_sizes_do_not_overflow() {
        let budget = Budget::new(None, MemoryLimit::default());
        let mut share = budget.share();
        assert!(share.memory_growing(0, 1, None).unwrap());
        assert!(share.table_growing(0, usize::MAX, None).is_err());
    }
}
