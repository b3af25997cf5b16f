// SPDX-License-Identifier: Apache-2.0
//! What leaves because a rule says so, behind: contents whose time is over, and what a class has
//! above a quota that was lowered.
//!
//! Readers do not wait for it, for a content whose time is over is a miss at once
//! ([`Catalogue::find_readable`](crate::catalogue::Catalogue::find_readable)); this gives back its
//! room. A sweep over the catalogue takes its lock for a window at a time, and the thread rests at
//! least a hundred times as long as a sweep took. It also ends, once a second, what readers may
//! read without asking here ([`Validity`](larder_core::Validity)).

use std::time::Duration;

use larder_core::ContentId;

use crate::{
    class::{ClassNumber, Over},
    evict::LaneIndex,
    recover,
    segment::Candidate,
    shelf::Shelf,
};

/// The least rest between two sweeps, and for so long readers may go on without asking here.
const TICK: Duration = Duration::from_secs(1);
/// The most ticks between two sweeps, however long one takes.
const REST_MAX: u32 = 60;
/// A sweep takes at most one part in so many of the time.
const REST_FACTOR: u32 = 100;
/// So many segments or contents are dropped for a quota in one go.
const TRIM_MAX: u32 = 1024;

/// Works until the store closes.
pub(crate) fn run(shelf: &Shelf) {
    let mut rest = 1;
    while !shelf.queue.rest(TICK) {
        // Who reads the same again and again is noted, and its pages stay, once a tick.
        shelf.catalogue().generations.end_all();
        rest -= 1;
        if rest == 0 {
            let begun = shelf.clock.elapsed();
            sweep(shelf);
            let took = shelf.clock.elapsed().saturating_sub(begun);
            rest = ticks(took * REST_FACTOR);
        }
    }
}

fn ticks(time: Duration) -> u32 {
    let ticks = time.as_millis().div_ceil(TICK.as_millis());
    u32::try_from(ticks).map_or(REST_MAX, |ticks| ticks.clamp(1, REST_MAX))
}

fn sweep(shelf: &Shelf) {
    let (any_expires, over) = {
        let catalogue = shelf.catalogue();
        if catalogue.loading {
            return;
        }
        (catalogue.classes.any_expires(), catalogue.classes.over_quota())
    };
    over.into_iter().for_each(|(class, over)| trim(shelf, class, over));
    if !any_expires {
        return;
    }
    for directory in shelf.lanes() {
        let swept = recover::each_content(shelf, directory, &mut |content| {
            let expired = {
                let catalogue = shelf.catalogue();
                catalogue.find(content).is_some_and(|found| catalogue.is_expired(&found))
            };
            if expired {
                let _stripe = shelf.stripe(content);
                leave_if_expired(shelf, content);
            }
            Ok(())
        });
        if swept.is_err() {
            return;
        }
        sweep_small(shelf, directory);
    }
}

fn sweep_small(shelf: &Shelf, directory: LaneIndex) {
    let mut from = 0;
    while !shelf.queue.is_closed() && shelf.catalogue().lane(directory).takes_pages() {
        let Some((expired, next)) = shelf.catalogue().expired_small(directory, from) else {
            return;
        };
        from = next;
        for content in expired {
            shelf.remove_small(content);
        }
    }
}

/// Drops a content whose time is over; the caller holds the stripe.
pub(crate) fn leave_if_expired(shelf: &Shelf, content: ContentId) {
    let usable = {
        let mut catalogue = shelf.catalogue();
        let found = catalogue.find(content).filter(|found| catalogue.is_expired(found));
        let Some(found) = found else { return };
        catalogue.lane(found.directory).takes_pages()
    };
    // What lies on a disk that failed is forgotten when that comes back or is drained.
    if usable && let Err(error) = shelf.remove_content(content) {
        tracing::warn!(%error, "could not remove a content whose time is over");
    }
}

fn trim(shelf: &Shelf, class: ClassNumber, over: Over) {
    for _ in 0..TRIM_MAX {
        let still = shelf.catalogue().classes.over_quota().contains(&(class, over));
        let dropped = still
            && match over {
                Over::Bytes => shelf.evict_one_of(class, None),
                Over::Files => drop_one_file(shelf, class),
            };
        if !dropped || shelf.queue.is_closed() {
            return;
        }
    }
}

/// Drops the content of a class that should go next, whole; `false` when there is none.
pub(crate) fn drop_one_file(shelf: &Shelf, class: ClassNumber) -> bool {
    let mut catalogue = shelf.catalogue();
    let key = match catalogue.candidate_of(class, None) {
        None => return false,
        Some(Candidate::Small(number)) => {
            let freeing = catalogue.evict_alone(number);
            drop(catalogue);
            freeing.into_iter().for_each(|freeing| shelf.free_alone(freeing));
            return true;
        }
        Some(Candidate::Segment(key)) => key,
    };
    drop(catalogue);
    let _stripe = shelf.stripe(key.content);
    let removed = shelf.remove_content(key.content);
    if let Err(error) = &removed {
        tracing::warn!(%error, "could not remove a content for the quota of its rule");
    }
    removed.is_ok()
}
