//! The append-only files of a store: the entry log and the twig file.
//!
//! ```text
//!            writer                     persister                       anybody
//!              │ announce(record)          │ append, sync                  │ read, read_many,
//!              ▼                           ▼                               ▼ cursor, scan
//!        ┌───────────────────────────────────────────┐
//!        │ tail: young records, in memory            │ ◄── looked at first
//!        └───────────────────────┬───────────────────┘
//!                                │                 ┌───────────┐
//!                                │                 │ cache     │ ◄── then
//!                                ▼                 └───────────┘
//!  log   ├─ segment ─┤├─ segment ─────┤├─ segment ──────────┤        ◄── then
//!        │h│R│R│R│R│R││h│R│R│R│R│R│R│R││h│R│R│R│R│R│R│R│R│R│
//!        ▲           ▲                 ▲                    ▲
//!        start       base, also the    base                 end
//!                    name of the file
//!
//!  R     │ header │ run of shard 0 │ run of shard 1 │ ... │ run of shard 15 │     one block
//!  run   │ frame │ frame │ frame │ ...                                            one shard's part
//!  frame │ hashed bytes of one entry │ crc32c, bound to the position │ padding │
//!        │ or a stub: its hash alone │
//! ```
//!
//! # Words
//!
//! | word | meaning |
//! |---|---|
//! | position | byte offset in the log as a whole, [`LogPosition`](hedgerow_types::LogPosition); entries, records and segments begin at multiples of 8 |
//! | segment | one file; covers the positions from its base, in its name, to where the next begins; a record never spans two |
//! | record | what one block adds: [`Record`] |
//! | run | the new entries of one shard in a record, in serial-number order; what a batch hasher reads is this very buffer |
//! | frame | an entry with its checksum, which is bound to its position, and padding; or a stub in its place |
//! | stub | the serial number and hash of an entry that is not kept: [`Stub`]. Nobody writes stubs yet |
//! | announced | readable from memory, perhaps not on disk yet |
//! | written | in the file; durable after the next sync |
//! | dead span | a part of the log that was taken back: its records, and the [`Rollback`] record that ends it |
//! | twig record | what is kept of a finished twig: [`TwigRecord`] |
//! | undo record | what a block replaced in the tree: [`EncodedUndo`] |
//!
//! # A record's life
//!
//! ```no_run
//! # use hedgerow_entryfile::{EntryLog, LogError, Record};
//! # use std::sync::Arc;
//! # fn f(log: EntryLog, record: Record) -> Result<(), LogError> {
//! # let record = Arc::new(record);
//! assert_eq!(record.position(), log.next_position());
//! log.announce(Arc::clone(&record))?; // readable
//! log.append(&record)?; //               in the file
//! log.sync()?; //                        survives power loss; its end() may enter the manifest
//! # Ok(())
//! # }
//! ```
//!
//! # Invariants
//!
//! * Every byte on disk is covered by a checksum: segment headers, record headers, entries, twig
//!   records; padding must be zero. What is read is checked before anybody sees it.
//! * Every read verifies what it returns, from memory too: a wrong position gives an error, not
//!   garbage, and what was written elsewhere is never taken for what belongs there.
//! * A synced byte is never rewritten. Files only grow; bytes beyond the manifest's end are cut when
//!   the log is opened, and that is synced before anything takes their place.
//! * What is announced stays readable without a gap, through append, sync and eviction from memory,
//!   until it is pruned.
//! * A length read from disk is compared with what contains it before anything is allocated.
//! * "Not there" ([`LogError::OutOfRange`], [`LogError::Pruned`]), "only its hash is kept"
//!   ([`LogError::NotKept`]), "damaged" ([`LogError::Corrupt`]) and "could not read"
//!   ([`LogError::Io`]) are different answers, and no iterator ends on an error without having
//!   returned it.
//! * After the first failed write or sync nothing more is written; reading goes on.
//!
//! **Invariant (absence):** nothing here knows trees, keys or which entries are active, and all I/O
//! goes through [`hedgerow_vfs`]. No thread is started.
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `serde` | `Serialize` of [`LogStats`] |
#![forbid(unsafe_code)]

mod error;
mod log;
mod read;
mod record;
mod segments;
mod twig;
mod undo;

pub use error::{Damage, LogError};
pub use log::{EntryLog, LogOptions, LogStats, RecordHead};
pub use read::above::LogView;
pub use read::cursor::RunCursor;
pub use read::entries::Fill;
pub use read::group::Leaves;
pub use read::salvage::{Salvaged, find_dead, salvage};
pub use read::scan::{RecordScan, ScannedRecord};
pub use read::stored::{StoredEntry, StoredFrame};
pub use record::block::{BlockState, Record};
pub use record::frame::{
    ALIGN, EntrySpan, FrameError, frame_len, place_run, push_frame, push_stub, seal_frame,
};
pub use record::header::RECORD_HEADER_LEN;
pub use record::journal::Journal;
pub use record::rollback::{ROLLBACK_LEN, Rollback, with_dead_span};
pub use record::stub::{FrameRef, Stub};
pub use segments::header::{SEGMENT_HEADER_LEN, StoreId};
pub use segments::parts::SegmentPart;
pub use segments::segment::SegmentSize;
pub use twig::file::{LiveLog, TwigFile, TwigFileOptions, TwigFileStats};
pub use twig::record::{GROUP_LEAVES, TWIG_GROUPS, TWIG_NODES, TwigGroup, TwigRecord};
pub use undo::file::{UndoFile, UndoFileOptions, UndoFileStats};
pub use undo::record::{EncodedUndo, ShardUndoParts, UndoHead, UndoSection};
