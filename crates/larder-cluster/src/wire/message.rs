// SPDX-License-Identifier: Apache-2.0
//! The requests a worker answers and its replies.

use std::{sync::Arc, time::Duration};

use larder_core::{ByteRange, Key, MountName, PageIndex, Path, Priority, Span, Status};
use serde::{Deserialize, Serialize};

use super::advice::Advice;
use crate::mounts::MountRecord;

/// Asks for the status of one file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatRequest {
    /// Which file.
    pub path: Path,
    /// The caller needs [`larder_core::Attributes`], which a listing does not tell.
    pub attributes: bool,
}

/// A status and how much it is worth.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatReply {
    /// The status.
    pub status: Status,
    /// How long ago the store said so.
    pub age: Duration,
    /// Whether this answer needed the store.
    pub outcome: Outcome,
}

/// Whether an answer needed the under storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing came from the store.
    Hit,
    /// The store only confirmed what was known.
    Revalidated,
    /// Some of the bytes came from the store.
    Part,
    /// All came from the store.
    Miss,
    /// The store did not answer; this is what was known before it went away.
    StaleIfError,
}

impl Outcome {
    /// Each of them, for what is prepared once for each.
    pub const ALL: [Self; 5] =
        [Self::Hit, Self::Revalidated, Self::Part, Self::Miss, Self::StaleIfError];

    /// The word for headers, labels and people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Revalidated => "revalidated",
            Self::Part => "part",
            Self::Miss => "miss",
            Self::StaleIfError => "stale",
        }
    }
}

/// Asks for bytes of one file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReadRequest {
    /// Which file.
    pub path: Path,
    /// Which bytes.
    pub span: Span,
    /// Only this version (an open handle's status); `Stale` if the store no longer has it and
    /// the bytes are not resident. `None`: the current version by the mount's freshness rule.
    pub pinned: Option<Status>,
    /// The caller needs attributes.
    pub attributes: bool,
    /// So many bytes behind the span will likely be wanted next: a fetch may run on that far.
    pub ahead: u64,
    /// Pages that failed the reader's check: verify them and drop what is bad before answering.
    pub suspects: Vec<PageIndex>,
}

/// Reads that a client answered from extents it had been given before, so that they are counted
/// with the others.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RepeatedReads {
    /// Of which mount.
    pub mount: MountName,
    /// How many there were.
    pub reads: u64,
    /// The bytes of them all.
    pub bytes: u64,
}

/// Asks for one version of a file as one local file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WholeRequest {
    /// Which file.
    pub path: Path,
    /// Which version (an open handle's status).
    pub status: Status,
}

/// The head of a read reply; the body follows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReadHead {
    /// The status of the version whose bytes follow.
    pub status: Status,
    /// How long ago the store confirmed it.
    pub age: Duration,
    /// What the span means for this file; `None` when it lies wholly behind the end (no body).
    pub range: Option<ByteRange>,
    /// What was known when the reply began.
    pub outcome: Outcome,
}

/// A head and its body.
pub struct ReadReply {
    /// What follows.
    pub head: ReadHead,
    /// The bytes of `head.range`.
    pub body: super::body::Body,
}

/// Where a listing starts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum ListStart {
    /// At the first key.
    #[default]
    Beginning,
    /// Behind this key, which need not exist; common prefixes are rolled up from keys behind it.
    After(String),
    /// Where the page that gave this token ended.
    Token(String),
}

/// Asks for one page of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ListRequest {
    /// Which mount.
    pub mount: MountName,
    /// Only keys that start with this, raw.
    pub prefix: String,
    /// Rolls up all behind the first delimiter after the prefix.
    pub delimiter: Option<String>,
    /// Where to start.
    pub start: ListStart,
    /// Keys and prefixes together at most; 1 to 1,000.
    pub max: u32,
}

/// One key of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListEntry {
    /// The raw key below the mount.
    pub key: Key,
    /// Its status; attributes are absent.
    pub status: Status,
}

/// One page of a listing; both lists in byte order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ListPage {
    /// Keys.
    pub entries: Vec<ListEntry>,
    /// Common prefixes, each ending with the delimiter.
    pub prefixes: Vec<String>,
    /// The token for the next page, if there is one.
    pub next: Option<String>,
}

/// A page, shared with the worker's cache where they are one process, and its age.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ListReply {
    /// The page.
    pub page: Arc<ListPage>,
    /// How long ago the store said so.
    pub age: Duration,
}

/// Asks where a part of a multipart object lies.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PartRequest {
    /// Which file.
    pub path: Path,
    /// Which part, from 1.
    pub number: u32,
}

/// Where the part lies, where the store tells.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PartReply {
    /// The status of the whole object.
    pub status: Status,
    /// The bytes of the part.
    pub range: ByteRange,
    /// How many parts there are; `None` when it was not written in parts.
    pub count: Option<u32>,
}

/// Asks a worker to make one file resident.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LoadRequest {
    /// Which file.
    pub path: Path,
}

/// What loading one file took.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct LoadReply {
    /// Bytes of the file.
    pub length: u64,
    /// Bytes that came from the store.
    pub fetched_bytes: u64,
    /// Bytes that could not be kept (no room, a failing disk).
    pub not_kept_bytes: u64,
}

/// Asks a worker to drop what it holds of a file or of everything below a prefix.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FreeRequest {
    /// The file, or with `recursive` the raw key prefix.
    pub path: Path,
    /// Everything whose key starts with the path's key.
    pub recursive: bool,
}

/// What was dropped.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct FreeReply {
    /// Files that had resident pages or a status.
    pub files: u64,
    /// Bytes of disk given back.
    pub bytes: u64,
}

/// Asks a worker to change one of its cache directories while it runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CacheRequest {
    /// The directory, as the worker's machine knows it.
    pub directory: String,
    /// What to do with it.
    pub change: CacheChange,
}

/// What can be done with a cache directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheChange {
    /// Use one more, which may hold so many bytes.
    Add {
        /// Bytes.
        size_bytes: u64,
    },
    /// Put nothing new there and drop what there is, so that it can be taken away.
    Drain,
    /// Use it again: it was drained, or its disk failed or was full.
    Resume,
}

/// All a worker knows about one file, without asking the store.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Explanation {
    /// Which file.
    pub path: Path,
    /// The canonical URI at the store.
    pub uri: String,
    /// The worker that owns it.
    pub owner: String,
    /// The status, if one is known.
    pub status: Option<Status>,
    /// How long ago the store said so.
    pub age: Option<Duration>,
    /// Whether the next open will ask the store, and why; a sentence.
    pub freshness: String,
    /// Pages of the known version on this worker's disk.
    pub resident_pages: u64,
    /// Pages the known version has.
    pub total_pages: u64,
    /// Bytes of those resident pages.
    pub resident_bytes: u64,
    /// Fetches under way for this file now.
    pub fetches: u64,
    /// The rule that counts for it, if one does.
    pub rule: Option<RuleReport>,
}

/// A rule by path, and what the files that it covers take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleReport {
    /// The path it is for.
    pub path: String,
    /// Whether files are cached at all.
    pub cache: bool,
    /// So many of their bytes are never evicted.
    pub pin_bytes: Option<u64>,
    /// When they are evicted, beside others.
    pub priority: Priority,
    /// How long a file is given out of the cache after its first page came in, in seconds.
    pub ttl_s: Option<u64>,
    /// The most bytes they may take.
    pub quota_bytes: Option<u64>,
    /// The most of them that may be resident.
    pub quota_files: Option<u64>,
    /// What they take, in bytes as allocated on disk.
    pub resident_bytes: u64,
    /// How many have any page resident.
    pub resident_files: u64,
}

/// How a worker is doing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkerReport {
    /// Its identity.
    pub id: String,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// What it may hold, in bytes.
    pub capacity_bytes: u64,
    /// What it holds, in bytes as allocated on disk.
    pub resident_bytes: u64,
    /// Resident segments.
    pub segments: u64,
    /// Statuses it knows.
    pub statuses: u64,
    /// Memory budget and what of it is in use, in bytes.
    pub memory_budget_bytes: u64,
    /// Memory in use.
    pub memory_used_bytes: u64,
    /// Each cache directory.
    pub disks: Vec<DiskReport>,
    /// Each mount, with its store's state.
    pub mounts: Vec<MountReport>,
    /// What a smaller or larger cache would have saved.
    pub advice: Advice,
    /// Each rule by path.
    pub rules: Vec<RuleReport>,
}

/// One cache directory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DiskReport {
    /// Where it is.
    pub directory: String,
    /// What it may hold, in bytes.
    pub capacity_bytes: u64,
    /// What it holds, in bytes.
    pub resident_bytes: u64,
    /// What it may hold now, in bytes: less than its capacity while others fill the disk.
    pub limit_bytes: u64,
    /// Whether it is used.
    pub state: DiskState,
    /// Why it is out of service, if it is.
    pub fault: Option<String>,
    /// How far the scrubber is there; `None` when it is off.
    pub scrub: Option<ScrubReport>,
}

/// How far the scrubber of one cache directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubReport {
    /// How much of the present pass is done, in percent.
    pub done_percent: u8,
    /// How long ago the last whole pass ended, in seconds; `None` when there was none.
    pub last_pass_age_s: Option<u64>,
    /// Pages found rotten and dropped since the process started.
    pub rotten_pages: u64,
}

/// Whether a cache directory is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskState {
    /// It is.
    Serving,
    /// It is read; new pages come when its files have been compared with the records.
    Comparing,
    /// It is, with less than its capacity: the file system is full.
    Full,
    /// It is read, takes nothing new, and what lies there is being dropped.
    Draining,
    /// Nothing lies there: it can be taken away.
    Drained,
    /// Its disk failed: its pages are misses.
    Faulty,
}

impl DiskState {
    /// The word for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "ok",
            Self::Comparing => "comparing files with records",
            Self::Full => "file system full",
            Self::Draining => "draining",
            Self::Drained => "drained",
            Self::Faulty => "out of service",
        }
    }
}

/// One mount and what was asked of its store.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MountReport {
    /// The record.
    pub record: MountRecord,
    /// Requests sent to the store since start.
    pub store_requests: u64,
    /// Bytes received from the store since start.
    pub store_read_bytes: u64,
    /// Bytes given to readers from the cache since start.
    pub cache_read_bytes: u64,
    /// Bytes given to readers as they came from the store since start.
    pub streamed_read_bytes: u64,
    /// Bytes that `load` made resident since start, given to no reader.
    pub loaded_bytes: u64,
    /// Reads answered since start.
    pub reads: u64,
    /// Those of them that needed no byte from the store.
    pub reads_hit: u64,
    /// Reads and statuses since start that asked the store nothing.
    pub avoided_requests: u64,
    /// What the requests and bytes asked of the store cost; `None` without prices.
    pub cost: Option<f64>,
    /// What the avoided requests, and the bytes that came from the cache, would have cost.
    pub cost_avoided: Option<f64>,
    /// The last error of the store, if its last request failed.
    pub last_error: Option<String>,
}

impl MountReport {
    /// The share of reads that needed no byte from the store; nothing before the first read.
    #[must_use]
    pub fn hit_ratio_by_requests(&self) -> Option<f64> {
        ratio(self.reads_hit, self.reads)
    }

    /// The share of bytes given to readers that came from the cache.
    #[must_use]
    pub fn hit_ratio_by_bytes(&self) -> Option<f64> {
        ratio(self.cache_read_bytes, self.cache_read_bytes + self.streamed_read_bytes)
    }

    /// Bytes fetched for each byte that a reader or a load asked for and was not here.
    #[must_use]
    pub fn read_amplification(&self) -> Option<f64> {
        ratio(self.store_read_bytes, self.streamed_read_bytes + self.loaded_bytes)
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use larder_core::{Freshness, MountName};

    use super::*;

    #[test]
    fn ratios_are_of_what_was_read_and_nothing_before_the_first_read() {
        let record = MountRecord {
            name: MountName::new("lake").expect("a legal name"),
            uri: "s3://lake".into(),
            endpoint: None,
            freshness: Freshness::default(),
            stale_if_error: None,
            prices: None,
        };
        let idle = MountReport {
            record,
            store_requests: 1,
            store_read_bytes: 0,
            cache_read_bytes: 0,
            streamed_read_bytes: 0,
            loaded_bytes: 0,
            reads: 0,
            reads_hit: 0,
            avoided_requests: 0,
            cost: None,
            cost_avoided: None,
            last_error: None,
        };
        let ratios = |report: &MountReport| {
            let hits = (report.hit_ratio_by_requests(), report.hit_ratio_by_bytes());
            (hits.0, hits.1, report.read_amplification())
        };
        assert_eq!(ratios(&idle), (None, None, None));
        let busy = MountReport {
            store_read_bytes: 150,
            cache_read_bytes: 300,
            streamed_read_bytes: 60,
            loaded_bytes: 40,
            reads: 4,
            reads_hit: 1,
            ..idle
        };
        assert_eq!(ratios(&busy), (Some(0.25), Some(300.0 / 360.0), Some(1.5)));
    }
}
