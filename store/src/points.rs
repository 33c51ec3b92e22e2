//! Named points in the order of a commit, a pruning, an opening and a creation: where a test can make
//! the power go ([`Vfs::at_point`](hedgerow_vfs::Vfs::at_point)), and what docs/durability.md argues about one by one.
//!
//! ```text
//!  create   marked ► log synced ► twigs synced ► manifest written ► done
//!  open     locked ► metadata renewed ► manifest read ► journal found ► journal renewed ► log cut
//!           ► twig file cut ► rebuilt ► twigs written ► undo records made ► done
//!  commit   begin ► log written ► log synced ► (another stage:) durable ► twigs written ► done
//!  manifest twig file synced ► (prune: planned) ► manifest written
//!  close    settled ► done
//!  checkpoint  begin ► written, beside all that
//!  index    spill: begin ► written │ merge: begin ► written, beside all that ► (manifest: written ►) retired
//!  prune    planned ────────────────────────────────────────────────► begin ► log removed ► done
//! ```

/// A named point; the text is what a disk is given.
pub(crate) type Point = &'static str;

pub(crate) const CREATE_MARKED: Point = "create: marked";
pub(crate) const CREATE_LOG_SYNCED: Point = "create: log synced";
pub(crate) const CREATE_TWIGS_SYNCED: Point = "create: twigs synced";
pub(crate) const CREATE_MANIFEST_WRITTEN: Point = "create: manifest written";
pub(crate) const CREATE_DONE: Point = "create: done";

pub(crate) const OPEN_LOCKED: Point = "open: locked";
pub(crate) const OPEN_METADATA_RENEWED: Point = "open: metadata renewed";
pub(crate) const OPEN_MANIFEST_READ: Point = "open: manifest read";
pub(crate) const OPEN_JOURNAL_FOUND: Point = "open: journal found";
pub(crate) const OPEN_JOURNAL_RENEWED: Point = "open: journal renewed";
pub(crate) const OPEN_LOG_CUT: Point = "open: log cut";
pub(crate) const OPEN_TWIG_FILE_CUT: Point = "open: twig file cut";
pub(crate) const OPEN_REBUILT: Point = "open: rebuilt";
pub(crate) const OPEN_TWIGS_WRITTEN: Point = "open: twigs written";
pub(crate) const OPEN_UNDO_MADE: Point = "open: undo records made";
pub(crate) const OPEN_DONE: Point = "open: done";

pub(crate) const COMMIT_BEGIN: Point = "commit: begin";
pub(crate) const COMMIT_LOG_WRITTEN: Point = "commit: log written";
pub(crate) const COMMIT_LOG_SYNCED: Point = "commit: log synced";
pub(crate) const COMMIT_DURABLE: Point = "commit: durable";
pub(crate) const COMMIT_TWIGS_WRITTEN: Point = "commit: twigs written";
pub(crate) const COMMIT_DONE: Point = "commit: done";

pub(crate) const MANIFEST_TWIGS_SYNCED: Point = "manifest: twigs synced";
pub(crate) const MANIFEST_WRITTEN: Point = "manifest: written";

pub(crate) const CHECKPOINT_BEGIN: Point = "checkpoint: begin";
pub(crate) const CHECKPOINT_WRITTEN: Point = "checkpoint: written";

pub(crate) const INDEX_SPILL_BEGIN: Point = "index: spill begins";
pub(crate) const INDEX_SPILL_WRITTEN: Point = "index: spill written";
pub(crate) const INDEX_MERGE_BEGIN: Point = "index: merge begins";
pub(crate) const INDEX_MERGE_WRITTEN: Point = "index: merge written";
pub(crate) const INDEX_RETIRED: Point = "index: retired";

pub(crate) const CLOSE_SETTLED: Point = "close: settled";
pub(crate) const CLOSE_DONE: Point = "close: done";

pub(crate) const PRUNE_PLANNED: Point = "prune: planned";
pub(crate) const PRUNE_BEGIN: Point = "prune: begin";
pub(crate) const PRUNE_LOG_REMOVED: Point = "prune: log removed";
pub(crate) const PRUNE_DONE: Point = "prune: done";

pub(crate) const ROLLBACK_BEGIN: Point = "rollback: begin";
pub(crate) const ROLLBACK_RECORDED: Point = "rollback: recorded";
pub(crate) const ROLLBACK_COMMITTED: Point = "rollback: committed";

/// All of them, procedure by procedure. The text before the colon names the procedure.
pub const ALL: [&str; 40] = [
    CREATE_MARKED,
    CREATE_LOG_SYNCED,
    CREATE_TWIGS_SYNCED,
    CREATE_MANIFEST_WRITTEN,
    CREATE_DONE,
    OPEN_LOCKED,
    OPEN_METADATA_RENEWED,
    OPEN_MANIFEST_READ,
    OPEN_JOURNAL_FOUND,
    OPEN_JOURNAL_RENEWED,
    OPEN_LOG_CUT,
    OPEN_TWIG_FILE_CUT,
    OPEN_REBUILT,
    OPEN_TWIGS_WRITTEN,
    OPEN_UNDO_MADE,
    OPEN_DONE,
    COMMIT_BEGIN,
    COMMIT_LOG_WRITTEN,
    COMMIT_LOG_SYNCED,
    COMMIT_DURABLE,
    COMMIT_TWIGS_WRITTEN,
    COMMIT_DONE,
    MANIFEST_TWIGS_SYNCED,
    PRUNE_PLANNED,
    MANIFEST_WRITTEN,
    PRUNE_BEGIN,
    PRUNE_LOG_REMOVED,
    PRUNE_DONE,
    CHECKPOINT_BEGIN,
    CHECKPOINT_WRITTEN,
    INDEX_SPILL_BEGIN,
    INDEX_SPILL_WRITTEN,
    INDEX_MERGE_BEGIN,
    INDEX_MERGE_WRITTEN,
    INDEX_RETIRED,
    CLOSE_SETTLED,
    CLOSE_DONE,
    ROLLBACK_BEGIN,
    ROLLBACK_RECORDED,
    ROLLBACK_COMMITTED,
];
