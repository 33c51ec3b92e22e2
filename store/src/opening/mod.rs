//! Everything between a directory and an open store: making one, opening one, checking and repairing it.
//!
//! ```text
//!   place      whose directory it is: names, locks, the mark of a creation that is not finished
//!   limits     what the process must have left before a store is opened, and the stack it is opened on
//!   progress   what opening reports while it reads
//!     │
//!     ├─ create   genesis: the 16 × 4096 sentries ► first manifest ► mark taken away
//!     │    └─ import    the same, and a stream of keys and values in it before the mark goes
//!     ├─ open     checkpoint or log ► state of the manifest ► journal ► threads        ◄── begin here
//!     │    ├─ rebuild   the state of the manifest: from a checkpoint, or from all of the log
//!     │    ├─ replay    the blocks behind it, one after the other
//!     │    └─ missing_undo   undo records of settled blocks that were lost, from `back` on; `makes_undo` is shared
//!     ├─ beside   a view of the last durable height while another process writes: nothing locked or written
//!     ├─ back      the state at an earlier height, from the newest and the log: what a rollback goes back to
//!     ├─ check    the same once more, compared with what is open and what is on the disk
//!     ├─ backup   a copy of a store that is open, a store itself; and back again
//!     ├─ salvage  what can be read of a store that does not open
//!     └─ repair   makes again what the log says and something else contradicts
//! ```
//!
//! Nothing here takes part in a block: once the store is open, only `place` is asked, whether the directory is
//! still the one that was locked.

pub(crate) mod back;
pub(crate) mod backup;
pub(crate) mod beside;
pub(crate) mod check;
pub(crate) mod create;
pub(crate) mod genesis;
pub(crate) mod import;
pub(crate) mod limits;
pub(crate) mod makes_undo;
pub(crate) mod missing_undo;
pub(crate) mod open;
pub(crate) mod place;
pub(crate) mod progress;
pub(crate) mod rebuild;
pub(crate) mod repair;
pub(crate) mod replay;
pub(crate) mod salvage;
