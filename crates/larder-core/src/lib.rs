// SPDX-License-Identifier: Apache-2.0
//! The words of Larder, shared by every room.
//!
//! Names (paths, ids, versions), page arithmetic, statuses, errors, metric declarations and the
//! seams through which time, randomness and memory enter. Nothing here opens a file or a socket;
//! nothing here knows an errno, an HTTP code or a storage SDK.

pub mod checksum;
pub mod clock;
pub mod error;
pub mod extent;
pub mod file_id;
pub mod freshness;
pub mod listen;
pub mod memory;
pub mod metric;
pub mod page;
pub mod path;
pub mod priority;
pub mod random;
pub mod range;
pub mod size;
pub mod status;
pub mod version;

pub use checksum::crc32c;
pub use clock::{Clock, UnixMillis};
pub use error::{Error, ErrorKind, Result};
pub use extent::{Extent, Generations, Validity};
pub use file_id::{ContentId, FileId};
pub use freshness::Freshness;
pub use memory::{Lease, MemoryBudget};
pub use metric::Metrics;
pub use page::{PAGE_SIZE, PageIndex, SEGMENT_PAGES, SEGMENT_SIZE, SegmentIndex};
pub use path::{Key, MountName, Path};
pub use priority::Priority;
pub use random::Random;
pub use range::{ByteRange, Span};
pub use size::ByteSize;
pub use status::{Attributes, Status};
pub use version::Version;
