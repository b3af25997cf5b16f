// SPDX-License-Identifier: Apache-2.0
//! Every setting of Larder. The doc comments below are what `larder config docs` prints.

use std::path::PathBuf;

use larder_core::{ByteSize, MountName, Priority};
use larder_fuse::Passthrough;
use larder_ufs::mount::Addressing;

use super::{
    describe::{sections, settings},
    value::{HumanDuration, Listen, LogFormat, LogLevel, Prefix, Price, Rule},
};

sections! {
    /// The whole configuration of one process.
    Config {
        root { general: General }
        one { s3: S3, http: Http, fuse: Fuse, log: Log, scrub: Scrub, }
        many { cache: Cache, mount: Mount, rules: PathRule, }
    }
}

settings! {
    /// Of the process as a whole.
    General {
        /// The state directory: the control socket, the metadata, the keys of the S3 face. Not
        /// set: `$XDG_STATE_HOME/larder`, else `~/.local/state/larder`.
        state: Option<PathBuf>,
        /// Memory for bytes on their way to readers and to disk. Not set: a quarter of what the
        /// control group (or else the machine) allows, at least 64 MiB.
        memory_budget: Option<ByteSize>,
    }
}

settings! {
    /// The S3 face: each mount is a bucket.
    S3 {
        /// Where it listens.
        listen: Listen = "127.0.0.1:9710",
        /// More key pairs that may read, beside Larder's own in `STATE/credentials`: AWS
        /// credentials files, each profile in them a key.
        credentials_files: Option<Vec<PathBuf>>,
        /// Answer requests without a signature too.
        anonymous: bool = false,
        /// Host names below which a bucket may be named as the first label
        /// (`bucket.s3.example.com`); path style works always.
        base_domains: Option<Vec<String>>,
    }
}

settings! {
    /// The HTTP face: health, readiness, metrics, status. It never gives file data.
    Http {
        /// Where it listens.
        listen: Listen = "127.0.0.1:9711",
    }
}

settings! {
    /// The FUSE face: each mount is a directory below one mount point.
    Fuse {
        /// Where to mount. Not set: no FUSE face.
        mountpoint: Option<PathBuf>,
        /// Let other users read the mount; needs `user_allow_other` in `/etc/fuse.conf` unless
        /// Larder runs as root.
        allow_other: bool = false,
        /// Whether the kernel may read files that lie whole in the cache by itself, without
        /// Larder: `auto` where it can (Linux 6.9, CAP_SYS_ADMIN), or `off`.
        passthrough: Passthrough = "auto",
    }
}

settings! {
    /// Log lines go to stderr.
    Log {
        /// How much is said; a filter such as `info,larder_worker=debug` is understood too.
        level: LogLevel = "info",
        /// One line of text or one JSON object for each event.
        format: LogFormat = "text",
    }
}

settings! {
    /// Cached pages that nobody reads are read again, so that rot is found early. Readers and
    /// fills go first; a pass begins at most once an hour.
    Scrub {
        /// Bytes a second of each cache directory at most. `0`: off.
        rate: ByteSize = "8MiB",
    }
}

settings! {
    /// A directory for cached pages. Without any: one in the state directory.
    Cache {
        /// Where. No two processes can share it.
        path: PathBuf,
        /// What it may hold. Not set: a tenth of its disk, but never more than is free there
        /// less a twentieth of the disk; decided at the first start and kept from then on.
        size: Option<ByteSize>,
    }
}

settings! {
    /// A name bound to a place in a store.
    Mount {
        /// The name: a bucket on the S3 face, a top directory on FUSE.
        name: MountName,
        /// `s3://bucket`, `s3://bucket/prefix` or `file:///directory`.
        uri: String,
        /// How old what is known about a file may be before the store is asked again.
        /// `immutable`: files never change. `always`: each open asks.
        freshness: Rule = "60s",
        /// How long past its freshness a status may still be used while the store does not
        /// answer. Not set: not at all.
        stale_if_error: Option<HumanDuration>,
        /// `http://host[:port]` or `https://host[:port]`. Not set: `AWS_ENDPOINT_URL_S3`, then
        /// `AWS_ENDPOINT_URL`, then Amazon's endpoint of the region.
        endpoint: Option<String>,
        /// The region. Not set: `AWS_REGION`, then `AWS_DEFAULT_REGION`, then `us-east-1`.
        region: Option<String>,
        /// Where the bucket stands in a request: before the host (`virtual`) or in the path.
        addressing: Addressing = "auto",
        /// The profile in the credentials file. Not set: `AWS_PROFILE`, then `default`.
        profile: Option<String>,
        /// An AWS credentials file. Not set: keys from the environment, then
        /// `AWS_SHARED_CREDENTIALS_FILE`, then `~/.aws/credentials`, then the machine's role.
        credentials_file: Option<PathBuf>,
        /// A PEM file of authorities to trust beside the system's. Not set: `AWS_CA_BUNDLE`.
        ca_file: Option<PathBuf>,
        /// Send requests without a signature, for public buckets.
        anonymous: bool = false,
        /// What a million requests to the store cost, in any currency; costs in `larder status`
        /// and `larder advise` are in the same. Not set: requests cost nothing.
        price_per_million_requests: Option<Price>,
        /// What 1 GiB read from the store costs. Not set: bytes cost nothing.
        price_per_gib: Option<Price>,
        /// Requests under way at the store at once. An eighth of them is kept from jobs.
        max_concurrent_requests: u32 = 128,
        /// Requests to the store in a second; those of jobs wait behind those of readers. Not
        /// set: as many as the store bears, which is learnt where it asks to slow down.
        max_requests_per_second: Option<u32>,
        /// What may come from the store in a second, at least `64KiB`; readers first. Not set: as
        /// much as comes.
        max_bytes_per_second: Option<ByteSize>,
    }
}

settings! {
    /// What of the cache the files below a path may have. The longest path that covers a file
    /// counts, alone: nothing is inherited from shorter ones. SIGHUP reads the rules again, and
    /// only these.
    PathRule {
        /// `/`, `/MOUNT` or `/MOUNT/KEY`: the file or directory of that name and all below it.
        path: Prefix,
        /// Whether files are cached at all. `false`: each read asks the store, and what is
        /// resident is dropped.
        cache: bool = true,
        /// So many of their bytes are never evicted; what is above that goes as anything else.
        pin: Option<ByteSize>,
        /// All of a lower priority is evicted before any of a higher one.
        priority: Priority = "normal",
        /// How long a file is given out of the cache after its first page came in; then it is
        /// fetched again.
        ttl: Option<HumanDuration>,
        /// The most bytes they may take. When it is full they evict their own, never others.
        quota: Option<ByteSize>,
        /// The most files that may be resident. When it is full they drop their own.
        quota_files: Option<u64>,
    }
}
