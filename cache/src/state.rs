//! The states of a key and the table of what may follow what.
//!
//! ```text
//!              load                close, then durable
//!   Unknown ──────────► Clean ◄───────────────────────── Flushing
//!      ▲  ◄──────────── │ evict                             ▲ close
//!      │                │ put        ┌──────────────────────┤
//!      │ put            └─────────► Dirty                   │
//!      ├──────────────────────────► Dirty      create       │
//!      ├──────────────────────────► Fresh ◄──── Unknown     │
//!      │ ◄── delete ────────────────┘ └─────────────────────┘
//!      └── delete ──► Deleted ── close ──► FlushingDeleted ── durable ──► Unknown
//! ```
//!
//! "Below" is the backing with every closed epoch applied: what the open epoch will be written onto.
//! `Fresh` is Bitcoin Core's FRESH: below has no such key, so whoever deletes it again leaves nothing to write.

use std::fmt;

/// What the cache knows of a key; [`Cache::state`](crate::Cache::state) asks for it.
///
/// ```
/// use hedgerow_cache::{Event, State, Transition};
///
/// // Born and gone within an epoch: nothing reaches the backing.
/// assert_eq!(State::Unknown.after(Event::Create), Transition::To(State::Fresh));
/// assert_eq!(State::Fresh.after(Event::Delete), Transition::Below);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Nothing: only the backing can tell.
    Unknown,
    /// The value that lies below. It may be evicted at any time.
    Clean,
    /// A value of the open epoch; below may be another one.
    Dirty,
    /// A value of the open epoch; below there is none.
    Fresh,
    /// Deleted in the open epoch; below there may be a value.
    Deleted,
    /// A value of a closed epoch that is not durable yet.
    Flushing,
    /// Deleted in a closed epoch that is not durable yet.
    FlushingDeleted,
}

/// What can happen to a key.
///
/// ```
/// use hedgerow_cache::{Event, State, Transition};
///
/// // Only what lies below can be evicted.
/// let evictable: Vec<_> = State::ALL.into_iter().filter(|s| s.after(Event::Evict) == Transition::Below).collect();
/// assert_eq!(evictable, [State::Clean]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// [`Op::Put`](crate::Op::Put).
    Put,
    /// [`Op::Create`](crate::Op::Create).
    Create,
    /// [`Op::Insert`](crate::Op::Insert).
    Insert,
    /// [`Op::Delete`](crate::Op::Delete).
    Delete,
    /// [`Op::Remove`](crate::Op::Remove).
    Remove,
    /// A value was read from the backing.
    Load,
    /// Room is wanted.
    Evict,
    /// The open epoch was closed.
    Close,
    /// The closed epoch in which the key was last written is durable.
    Durable,
}

/// What an [`Event`] does to a key in a [`State`].
///
/// ```
/// use hedgerow_cache::{Event, State, Transition};
///
/// assert_eq!(State::Deleted.after(Event::Remove), Transition::Missing);
/// assert_eq!(State::Clean.after(Event::Insert), Transition::Exists);
/// assert_eq!(State::Unknown.after(Event::Remove), Transition::AskBelow);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transition {
    /// The key has this state then.
    To(State),
    /// Nothing changes.
    Stays,
    /// What the cache has of the key in this epoch is dropped, and what lies below shows:
    /// [`State::FlushingDeleted`] if a closed epoch that is not durable deleted the key, else [`State::Unknown`].
    Below,
    /// It depends on whether the key is below: the backing must be asked.
    AskBelow,
    /// Refused: the key has a value.
    Exists,
    /// Refused: the key has no value.
    Missing,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Unknown,
        Self::Clean,
        Self::Dirty,
        Self::Fresh,
        Self::Deleted,
        Self::Flushing,
        Self::FlushingDeleted,
    ];

    /// The table: rows are states, columns events.
    ///
    /// | | put | create | insert | delete | remove | load | evict | close | durable |
    /// |---|---|---|---|---|---|---|---|---|---|
    /// | Unknown | Dirty | Fresh | ask | Deleted | ask | Clean | – | – | – |
    /// | Clean | Dirty | exists | exists | Deleted | Deleted | – | below | – | – |
    /// | Dirty | Dirty | exists | exists | Deleted | Deleted | – | – | Flushing | – |
    /// | Fresh | Fresh | exists | exists | below | below | – | – | Flushing | – |
    /// | Deleted | Dirty | Dirty | Dirty | – | missing | – | – | FlushingDeleted | – |
    /// | Flushing | Dirty | exists | exists | Deleted | Deleted | – | – | – | Clean |
    /// | FlushingDeleted | Fresh | Fresh | Fresh | – | missing | – | – | – | below |
    ///
    /// "ask": insert makes it Fresh if the key is not below, and is refused otherwise; remove makes it Deleted if
    /// the key is below, and is refused otherwise. "–": nothing changes. A key that was written in the open epoch
    /// too does not change when the closed one is durable: what was flushed goes, the newer value stays.
    #[must_use]
    pub const fn after(self, event: Event) -> Transition {
        use Transition::{AskBelow, Below, Exists, Missing, Stays, To};
        match (self, event) {
            (Self::Fresh, Event::Put) => To(Self::Fresh),
            (Self::FlushingDeleted, Event::Put | Event::Create | Event::Insert) => To(Self::Fresh),
            (_, Event::Put) => To(Self::Dirty),

            (Self::Unknown, Event::Create) => To(Self::Fresh),
            (Self::Unknown, Event::Insert | Event::Remove) => AskBelow,
            (Self::Deleted, Event::Create | Event::Insert) => To(Self::Dirty),
            (_, Event::Create | Event::Insert) => Exists,

            (Self::Deleted | Self::FlushingDeleted, Event::Delete) => Stays,
            (Self::Deleted | Self::FlushingDeleted, Event::Remove) => Missing,
            (Self::Fresh, Event::Delete | Event::Remove) => Below,
            (_, Event::Delete | Event::Remove) => To(Self::Deleted),

            (Self::Unknown, Event::Load) => To(Self::Clean),
            (Self::Clean, Event::Evict) | (Self::FlushingDeleted, Event::Durable) => Below,
            (Self::Dirty | Self::Fresh, Event::Close) => To(Self::Flushing),
            (Self::Deleted, Event::Close) => To(Self::FlushingDeleted),
            (Self::Flushing, Event::Durable) => To(Self::Clean),
            (_, Event::Load | Event::Evict | Event::Close | Event::Durable) => Stays,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown",
            Self::Clean => "clean",
            Self::Dirty => "dirty",
            Self::Fresh => "dirty and fresh",
            Self::Deleted => "deleted",
            Self::Flushing => "being flushed",
            Self::FlushingDeleted => "its deletion being flushed",
        })
    }
}
