//! Which images go, and when (kubelet: `images/image_gc_manager.go`).

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// `imageGCHighThresholdPercent`, `imageGCLowThresholdPercent`, `imageMinimumGCAge`, `imageMaximumGCAge`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageGcPolicy {
    /// When so much of the disk is used, images go.
    pub high_percent: u8,
    /// Until so much is used.
    pub low_percent: u8,
    /// What has been here for a shorter time stays.
    pub min_age: Duration,
    /// What was not used for longer goes, however much room there is. Zero: nothing does.
    pub max_age: Duration,
}

/// An image, and what is known of its use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackedImage {
    /// Of its manifest.
    pub digest: String,
    /// Bytes.
    pub size: u64,
    /// When we first saw it.
    pub detected: Timestamp,
    /// When it was last seen in use; `None`: not since this agent started.
    pub last_used: Option<Timestamp>,
}

/// A file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// Bytes in all.
    pub capacity: u64,
    /// Bytes that may still be written.
    pub available: u64,
}

impl Default for ImageGcPolicy {
    fn default() -> Self {
        Self { high_percent: 85, low_percent: 80, min_age: Duration::from_secs(120), max_age: Duration::ZERO }
    }
}

impl ImageGcPolicy {
    /// What has not been used for too long. `images` are those that nobody uses now; `since` is when this agent began to look.
    ///
    /// Other than the kubelet's, an image that was never used counts from when it came, not from the beginning of time.
    pub fn too_old<'a>(&self, images: &'a [TrackedImage], since: Timestamp, now: Timestamp) -> Vec<&'a TrackedImage> {
        if self.max_age.is_zero() || !is_older(since, self.max_age, now) {
            return Vec::new();
        }
        let old = |image: &&TrackedImage| {
            let idle_since = image.last_used.unwrap_or(image.detected);
            is_older(idle_since, self.max_age, now) && !is_younger(image.detected, self.min_age, now)
        };
        images.iter().filter(old).collect()
    }

    /// How many bytes are to be freed, if the disk is too full.
    pub fn to_free(&self, disk: Disk) -> Option<u64> {
        if disk.capacity == 0 || self.used_percent(disk) < u64::from(self.high_percent) {
            return None;
        }
        let wanted = u128::from(disk.capacity) * u128::from(100 - self.low_percent.min(100)) / 100;
        let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
        Some(wanted.saturating_sub(disk.available.min(disk.capacity)))
    }

    /// As the kubelet rounds it.
    pub fn used_percent(&self, disk: Disk) -> u64 {
        match u128::from(disk.capacity) {
            0 => 0,
            capacity => {
                let free = u128::from(disk.available.min(disk.capacity)) * 100 / capacity;
                100 - u64::try_from(free).unwrap_or(100)
            }
        }
    }

    /// Those that go for this many bytes: the longest unused first, of those the ones that came first; none too young.
    /// `images` are those that nobody uses now.
    pub fn for_space<'a>(&self, images: &'a [TrackedImage], bytes: u64, now: Timestamp) -> Vec<&'a TrackedImage> {
        let mut candidates: Vec<&TrackedImage> =
            images.iter().filter(|image| !is_younger(image.detected, self.min_age, now)).collect();
        candidates.sort_by_key(|image| (image.last_used, image.detected, &image.digest));
        let mut freed: u64 = 0;
        let mut chosen = Vec::new();
        for image in candidates {
            if freed >= bytes {
                break;
            }
            freed = freed.saturating_add(image.size);
            chosen.push(image);
        }
        chosen
    }
}

fn age(of: Timestamp, now: Timestamp) -> SignedDuration {
    now.duration_since(of)
}

fn is_older(of: Timestamp, than: Duration, now: Timestamp) -> bool {
    SignedDuration::try_from(than).is_ok_and(|than| age(of, now) > than)
}

fn is_younger(of: Timestamp, than: Duration, now: Timestamp) -> bool {
    SignedDuration::try_from(than).is_ok_and(|than| age(of, now) < than)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixtures::at;

    fn image(digest: &str, size: u64, detected: i64, last_used: Option<i64>) -> TrackedImage {
        TrackedImage { digest: digest.to_owned(), size, detected: at(detected), last_used: last_used.map(at) }
    }

    fn names(images: Vec<&TrackedImage>) -> String {
        images.into_iter().map(|image| image.digest.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_disk_is_too_full_at_the_high_mark_and_freed_to_the_low_one() {
        let policy = ImageGcPolicy::default();
        for (capacity, available, expected) in [
            (1000, 160, None),
            (1000, 151, Some(49)),
            (1000, 150, Some(50)),
            (1000, 0, Some(200)),
            // The kubelet rounds what is used up.
            (1000, 155, Some(45)),
            (1000, 2000, None),
            (0, 0, None),
            (u64::MAX, 0, Some(u64::MAX / 5)),
        ] {
            assert_eq!(policy.to_free(Disk { capacity, available }), expected, "{capacity} {available}");
        }
        let whole = ImageGcPolicy { high_percent: 100, low_percent: 100, ..policy };
        assert_eq!(whole.to_free(Disk { capacity: 10, available: 1 }), None);
        assert_eq!(whole.to_free(Disk { capacity: 10, available: 0 }), Some(0));
    }

    #[test]
    fn the_longest_unused_go_first_and_no_more_than_needed() {
        let policy = ImageGcPolicy::default();
        let images = [
            image("recent", 10, 0, Some(900)),
            image("earlier", 10, 0, Some(500)),
            image("never", 10, 300, None),
            image("never-and-first", 10, 200, None),
            image("young", 10, 950, None),
        ];
        for (bytes, expected) in [
            (0, ""),
            (1, "never-and-first"),
            (10, "never-and-first"),
            (25, "never-and-first never earlier"),
            (1000, "never-and-first never earlier recent"),
        ] {
            assert_eq!(names(policy.for_space(&images, bytes, at(1000))), expected, "{bytes}");
        }
    }

    #[test]
    fn the_too_old_go_once_we_have_looked_for_so_long() {
        let policy = ImageGcPolicy { max_age: Duration::from_secs(600), ..ImageGcPolicy::default() };
        let images = [
            image("used", 1, 0, Some(900)),
            image("idle", 1, 0, Some(300)),
            image("never", 1, 0, None),
            image("new", 1, 950, None),
        ];
        assert_eq!(names(policy.too_old(&images, at(0), at(600))), "");
        assert_eq!(names(policy.too_old(&images, at(0), at(1000))), "idle never");
        assert_eq!(names(policy.too_old(&images, at(500), at(1000))), "");
        assert_eq!(names(ImageGcPolicy::default().too_old(&images, at(0), at(1_000_000))), "");
    }

    proptest! {
        #[test]
        fn what_is_chosen_suffices_or_is_all_there_is(
            sizes in proptest::collection::vec((0_u64..100, 0_i64..1000, proptest::option::of(0_i64..1000)), 0..20),
            bytes in 0_u64..1000,
        ) {
            let images: Vec<_> =
                sizes.iter().enumerate().map(|(n, (size, seen, used))| image(&n.to_string(), *size, *seen, *used)).collect();
            let policy = ImageGcPolicy::default();
            let chosen = policy.for_space(&images, bytes, at(1000));
            let old = images.iter().filter(|image| image.detected <= at(880)).count();
            let sum = |images: &[&TrackedImage]| images.iter().map(|image| image.size).sum::<u64>();
            prop_assert!(sum(&chosen) >= bytes || chosen.len() == old);
            if let Some((_, fewer)) = chosen.split_last() {
                prop_assert!(sum(fewer) < bytes);
            }
        }
    }
}
