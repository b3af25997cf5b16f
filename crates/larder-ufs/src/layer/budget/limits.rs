// SPDX-License-Identifier: Apache-2.0
//! What limits the requests to a store and the bytes that come from it. Pure.

use std::time::Duration;

use larder_core::metric::RateGauge;

use super::{
    bucket::Bucket,
    queue::{Gate, Opening},
    rate::{Rate, Sent},
    turnstile::Limits,
};
use crate::priority::Class;

/// Bytes are admitted in slices of this; what a chunk really had is corrected afterwards.
pub(super) const SLICE: u64 = 64 << 10;

/// Of all places, one in so many is kept from bulk, so that a reader finds one free.
const RESERVED_PART: u32 = 8;

/// A rate that is learnt may be so many times as high before a request gives up.
const GROWN: f64 = 2.0;

/// Limits of the requests to one store: what the store bears, and what each mount may.
#[derive(Debug)]
pub(super) struct Requests {
    rate: Rate,
    mounts: Vec<MountRequests>,
    shown: RateGauge,
}

#[derive(Debug)]
struct MountRequests {
    bucket: Option<Bucket>,
    places: u32,
    held: [u32; 2],
}

/// What a request holds.
#[derive(Debug)]
pub(super) struct Place {
    mount: usize,
    class: Class,
    pub(super) sent: Sent,
}

impl Requests {
    pub(super) fn new(shown: RateGauge) -> Self {
        Self { rate: Rate::default(), mounts: Vec::new(), shown }
    }

    pub(super) fn add_mount(&mut self, places: u32, per_second: Option<u32>, now: Duration) {
        let bucket = per_second.map(|rate| Bucket::new(f64::from(rate), 1.0, now));
        self.mounts.push(MountRequests { bucket, places, held: [0; 2] });
    }

    /// The store asked to slow down.
    pub(super) fn refused(&mut self, sent: Sent, retry_after: Option<Duration>, now: Duration) {
        self.rate.refused(sent, retry_after, now);
    }

    /// Whether the store has asked to slow down of late.
    pub(super) fn is_slowed(&mut self, now: Duration) -> bool {
        self.rate.limit(now).is_some()
    }

    /// Whether at most half of the places of a mount are taken with so many more.
    pub(super) fn is_half_free_with(&self, more: u32, mount: usize) -> bool {
        self.mounts[mount].is_half_free_with(more)
    }
}

impl MountRequests {
    fn is_half_free_with(&self, more: u32) -> bool {
        self.held.iter().sum::<u32>().saturating_add(more) <= self.places / 2
    }

    fn has_place(&self, class: Class) -> bool {
        let for_bulk = (self.places - self.places.div_ceil(RESERVED_PART)).max(1);
        self.held.iter().sum::<u32>() < self.places
            && (class == Class::Foreground || self.held[Class::Bulk as usize] < for_bulk)
    }
}

impl Gate for Requests {
    fn opening(&mut self, mount: usize, class: Class, now: Duration) -> Opening {
        let of_mount = &mut self.mounts[mount];
        if !of_mount.has_place(class) {
            return Opening::Later;
        }
        let by_mount = of_mount.bucket.as_mut().map_or(now, |bucket| bucket.ready_at(1.0, now));
        match self.rate.ready_at(now).max(by_mount) {
            at if at > now => Opening::At(at),
            _ => Opening::Now,
        }
    }
}

impl Limits for Requests {
    type Pass = Place;

    fn pass(&mut self, mount: usize, class: Class, now: Duration) -> Place {
        let of_mount = &mut self.mounts[mount];
        of_mount.held[class as usize] += 1;
        if let Some(bucket) = &mut of_mount.bucket {
            bucket.take(1.0, now);
        }
        Place { mount, class, sent: self.rate.sent(now) }
    }

    fn give_back(&mut self, place: Place, _now: Duration) {
        self.mounts[place.mount].held[place.class as usize] -= 1;
    }

    fn time_for(&mut self, mount: usize, count: usize, now: Duration) -> Duration {
        let by_mount = self.mounts[mount].bucket.as_ref().map_or(f64::INFINITY, Bucket::rate);
        let by_store = self.rate.limit(now).unwrap_or(f64::INFINITY);
        seconds(tokens(count as u64) / by_mount.min(by_store))
    }

    fn most_within(&mut self, mount: usize, time: Duration, now: Duration) -> usize {
        let by_mount = self.mounts[mount].bucket.as_ref().map_or(f64::INFINITY, Bucket::rate);
        // What is learnt may have grown by then.
        let by_store = self.rate.limit(now).map_or(f64::INFINITY, |limit| limit * GROWN);
        whole(by_mount.min(by_store) * time.as_secs_f64()).max(1)
    }

    fn show(&mut self, now: Duration) -> Option<Duration> {
        self.shown.set(self.rate.limit(now).unwrap_or(0.0));
        self.rate.lifted_at()
    }

    fn cause(&mut self, mount: usize, class: Class, now: Duration) -> &'static str {
        let by_mount = self.mounts[mount].bucket.as_ref().map(Bucket::rate);
        if !self.mounts[mount].has_place(class) {
            "max_concurrent_requests of this mount are under way"
        } else if self.rate.limit(now).is_some_and(|limit| by_mount.is_none_or(|rate| limit < rate))
        {
            "the store has asked to slow down"
        } else {
            "max_requests_per_second of this mount is used up"
        }
    }
}

/// The limit of the bytes that come for one mount.
#[derive(Debug)]
pub(super) struct Bytes(Bucket);

/// Bytes that may come.
#[derive(Debug)]
pub(super) struct Slice {
    /// How many came.
    pub(super) used: u64,
}

impl Bytes {
    pub(super) fn new(per_second: u64, now: Duration) -> Self {
        Self(Bucket::new(tokens(per_second), tokens(SLICE), now))
    }
}

#[expect(clippy::cast_precision_loss, reason = "no rate comes near 2^52 bytes")]
fn tokens(bytes: u64) -> f64 {
    bytes as f64
}

fn seconds(number: f64) -> Duration {
    Duration::try_from_secs_f64(number).unwrap_or(Duration::MAX)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
fn whole(number: f64) -> usize {
    number as usize
}

impl Gate for Bytes {
    fn opening(&mut self, _mount: usize, _class: Class, now: Duration) -> Opening {
        // A slice is given on credit, and the debt worked off before the next.
        match self.0.ready_at(1.0, now) {
            at if at > now => Opening::At(at),
            _ => Opening::Now,
        }
    }
}

impl Limits for Bytes {
    type Pass = Slice;

    fn pass(&mut self, _mount: usize, _class: Class, now: Duration) -> Slice {
        self.0.take(tokens(SLICE), now);
        Slice { used: 0 }
    }

    fn give_back(&mut self, slice: Slice, now: Duration) {
        self.0.take(tokens(slice.used) - tokens(SLICE), now);
    }

    fn time_for(&mut self, _mount: usize, count: usize, _now: Duration) -> Duration {
        seconds(tokens(count as u64 * SLICE) / self.0.rate())
    }

    fn most_within(&mut self, _mount: usize, time: Duration, _now: Duration) -> usize {
        whole(self.0.rate() * time.as_secs_f64() / tokens(SLICE)).max(1)
    }

    fn show(&mut self, _now: Duration) -> Option<Duration> {
        None
    }

    fn cause(&mut self, _mount: usize, _class: Class, _now: Duration) -> &'static str {
        "max_bytes_per_second of this mount is used up"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader that is alone splits only where its own request and a part find room.
    #[test]
    fn two_requests_find_room_beside_others_from_four_places_on() {
        for (places, held, two, one_more) in [
            (1, 0, false, false),
            (2, 0, false, false),
            (3, 0, false, false),
            (4, 0, true, true),
            (4, 1, false, false),
            (8, 2, true, true),
            (8, 3, false, false),
        ] {
            let mount = MountRequests { bucket: None, places, held: [held, 0] };
            assert_eq!(mount.is_half_free_with(2), two, "{places} {held}");
            let with_own = MountRequests { held: [held, 1], ..mount };
            assert_eq!(with_own.is_half_free_with(1), one_more, "{places} {held}");
        }
    }
}
