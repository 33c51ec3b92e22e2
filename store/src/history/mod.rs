//! The past: states of earlier heights, from the newest one and what the log still has.
//!
//! ```text
//!   height  h                                     N          anchor: a held state
//!           │                                     │
//!   key   ──●───────────●──────●────────────●─────●          `cover`: from what covers a key at N back to
//!           └◄──────────┴◄─────┴◄───────────┘                what covered it at h, entry by entry
//!
//!   tree    │ undo h+1 │ undo h+2 │  ...  │ undo N │         `undo`: what each block replaced in the tree,
//!           └◄─────────┴◄─────────┴◄──────┴◄───────┘         of the last blocks, for proofs against root h
//!
//!   entries from the oldest active one at h on  ◄── pinned   `pins`: pruning waits for the oldest
//! ```
//!
//! * A *value* needs no undo record: entries name what they replaced, and their version says when.
//! * A *proof* against the root of h needs the nodes of that tree: see [`undo`].
//! * A view of a past height is a [`View`](crate::View) with a [`Past`](past::Past): it asks the anchor, and
//!   goes back from there.

pub(crate) mod cover;
pub(crate) mod past;
pub(crate) mod pins;
pub(crate) mod undo;
pub(crate) mod versions;
