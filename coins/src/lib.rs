//! Bitcoin's set of unspent coins: what a block does to it, the bytes of its coins, its digests, the files
//! in which Bitcoin Core keeps blocks and sets, and the set on a disk, with proofs ([`CoinStore`]).
//!
//! ```text
//!   blkNNNNN.dat, hex, raw, .bz2 ──► BlockFiles ──► blocks of a chain, in order
//!                                     (blocks)             │
//!                                                          ▼
//!                      spent outpoints, new coins ◄── BlockEffect ──► errors: spent twice, made twice, ..
//!                                    │                (effect)
//!             ┌──────────────────────┼─────────────────────────────┐
//!             ▼                      ▼                             ▼
//!   key 36 bytes ─ value      element of the set          dumptxoutset, version 2
//!   outpoint       Coin       MuHash, SerializedHash      SnapshotWriter, SnapshotReader
//!   (coin, codec)                 (digest)                     (snapshot)
//!                                    │
//!                                    ▼
//!                    CoinStore: cache ──► store, records of blocks      (store)
//! ```
//!
//! A **coin** is an output that was not spent: the height of its block, whether its transaction is a coinbase, its
//! amount and its script. An **outpoint** names it: transaction id and number of the output. The **set** holds the
//! coins of a chain up to a block.
//!
//! # What is a coin
//!
//! Every output of every transaction, but for three kinds, which Bitcoin Core leaves out too:
//!
//! * those of the genesis block, which nobody can spend;
//! * those whose script begins with OP_RETURN or is longer than [`MAX_SCRIPT_LEN`]: [`Coin::new`] refuses them;
//! * the coinbases of blocks 91,722 and 91,812, since blocks 91,880 and 91,842 made coins of the same names over
//!   them, before BIP 30 forbade that: [`may_overwrite`].
//!
//! # Invariants
//!
//! * A value of type [`Coin`] can be in the set: its height has 31 bits, its amount is at most 21 million bitcoin, its script
//!   can be spent. So it always has bytes, and those are the only ones that decode to it.
//! * What is read from a file decides how much is read of it, never how much memory is taken: that has bounds which follow
//!   from what a Bitcoin block can hold.
//! * Digests do not depend on threads: the product of a set is the same in any order.
//!
//! **Invariant (absence):** nothing here knows which blocks are valid beyond what the set needs. Scripts are not run, and what a
//! transaction spends is not compared with what it creates: that is what a node's validation is for. Nothing but the
//! module `store` knows a store or a cache.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod blocks;
mod codec;
mod coin;
mod digest;
mod effect;
pub mod regtest;
mod snapshot;
mod store;

pub use bitcoin;
pub use blocks::{BlockChain, BlockFileDefect, BlockFileError, BlockFiles, network_of_genesis};
pub use codec::FormatError;
pub use coin::{Coin, CoinError, KEY_LEN, MAX_HEIGHT, MAX_SCRIPT_LEN, key_of, outpoint_of};
pub use digest::{
    MUHASH_LEN, MuHash, MuHashError, OutOfOrder, ParseDigestError, SerializedHash, SetDigest,
    write_element,
};
pub use effect::{BlockEffect, EffectError, may_overwrite};
pub use snapshot::{
    MAX_OUTPUTS, SNAPSHOT_HEADER_LEN, SnapshotDefect, SnapshotError, SnapshotHeader,
    SnapshotReader, SnapshotWriter,
};
pub use store::{
    BlockRecord, CoinDigest, CoinOptions, CoinReader, CoinStats, CoinStore, CoinStoreError,
    CoinView, Connected, Flush, FlushPoint, FlushPointError, OrderedCoins, Position, RecordsDefect,
    RecordsError, SnapshotImport, Tip, TransferError, TransferProgress,
};
