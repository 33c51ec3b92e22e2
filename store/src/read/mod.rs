//! What readers see and how they are answered. No reader waits for a block, and no block for a reader.
//!
//! ```text
//!   published   the newest state, and through it every state that somebody holds    ◄── begin here
//!     ▲
//!   view        the state of one height, held: values, roots
//!     ├─ iter     all its keys, in the order of their hashes
//!     └─ prove    a proof that a key has a value in it, or has none
//!        left       the lowest part of its paths: groups of entries, read and hashed together
//!   reader      hands out views, and answers from the newest
//!   given_up    what becomes of an index in files that is damaged
//! ```

pub(crate) mod given_up;
pub(crate) mod iter;
pub(crate) mod left;
pub(crate) mod prove;
pub(crate) mod published;
pub(crate) mod reader;
pub(crate) mod view;
