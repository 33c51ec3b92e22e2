//! Hedgerow.
//!
//! ```text
//!   hedgerow           default options: up to four blocks under way, each durable when its ticket says so
//!   hedgerow-block     the next block waits until the last one is durable
//!   hedgerow-unmapped  no file is mapped into memory: the system's cache of files is read by calls
//!   hedgerow-tiered    the index in files, within 64 MB
//! ```

use crate::engine::{
    Answer, Asking, Change, Engine, Failure, OpenStore, Pending, Proofs, Prover, Root, Sizing,
};
use hedgerow::{Durability, IndexMode, Options, Reader, Store, StoreParams, Ticket};
use hedgerow_proof::Digest;
use std::path::Path;

const NAME: &str = "hedgerow";

/// With its default options.
pub const ENGINE: Engine = Engine {
    name: NAME,
    package: NAME,
    durability: "synced: a block survives power loss, a few blocks after it was handed over",
    tuning: "default options",
    keeps: true,
    proofs: Some(Proofs {
        say: "the value of each key, or that it is absent",
        encoding: "its own, canonical; values included",
        absence: true,
        verify,
        verify_many,
    }),
    open: |dir, sizing| open(dir, options(sizing), false),
};

/// Each block waits for the last one.
pub const EACH_BLOCK: Engine = Engine {
    name: "hedgerow-block",
    durability: "synced: a block survives power loss before the next one is made",
    tuning: "Durability::EachBlock",
    open: |dir, sizing| open(dir, options(sizing).durability(Durability::EachBlock), true),
    ..ENGINE
};

/// Without maps of files.
pub const UNMAPPED: Engine = Engine {
    name: "hedgerow-unmapped",
    tuning: "no mapped files",
    open: |dir, sizing| open(dir, options(sizing).mapped_bytes(0), false),
    ..ENGINE
};

/// The index in files.
pub const TIERED: Engine = Engine {
    name: "hedgerow-tiered",
    tuning: "the index in files, within 64 MB of memory",
    open: |dir, sizing| open(dir, options(sizing).index(TIERED_INDEX), false),
    ..ENGINE
};

const TIERED_INDEX: IndexMode = IndexMode::Tiered { memory_bytes: 64_000_000 };

struct Ours {
    store: Store,
    reader: Reader,
    each_block: bool,
}

fn options(sizing: Sizing) -> Options {
    Options::new().threads(sizing.threads.get())
}

fn open(dir: &Path, options: Options, each_block: bool) -> Result<Box<dyn OpenStore>, Failure> {
    let store = Store::open_or_create(dir, StoreParams::default(), options).map_err(failed)?;
    let reader = store.reader();
    Ok(Box::new(Ours { store, reader, each_block }))
}

fn failed(error: hedgerow::Error) -> Failure {
    Failure::of(NAME)(&error)
}

impl Ours {
    fn hand_over(&mut self, block: &[Change<'_>]) -> Result<Ticket, Failure> {
        let mut next = self.store.next_block().map_err(failed)?;
        for change in block {
            match change.value {
                Some(value) => next.put(change.key, value),
                None => next.delete(change.key),
            }
            .map_err(failed)?;
        }
        next.submit().map_err(failed)
    }
}

impl OpenStore for Ours {
    fn apply(&mut self, block: &[Change<'_>]) -> Result<(), Failure> {
        self.hand_over(block)?.durable().map_err(failed)
    }

    fn submit(&mut self, block: &[Change<'_>]) -> Result<Option<Pending>, Failure> {
        let ticket = self.hand_over(block)?;
        if self.each_block {
            return ticket.durable().map(|()| None).map_err(failed);
        }
        Ok(Some(Box::new(move || ticket.durable().map_err(failed))))
    }

    fn root(&self) -> Result<Option<Root>, Failure> {
        Ok(Some(self.reader.root().1.0))
    }

    fn get(&self, key: &[u8]) -> Result<Answer, Failure> {
        self.reader.get(key).map_err(failed)
    }

    fn read_each(&self, asking: &mut dyn Asking) -> Result<(), Failure> {
        let mut key = vec![];
        while asking.next(&mut key) {
            match self.reader.get_with(&key, |value| asking.answer(Some(value))).map_err(failed)? {
                Some(answered) => answered?,
                None => asking.answer(None)?,
            }
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<(), Failure> {
        let Self { store, reader, .. } = *self;
        drop(reader);
        store.close().map_err(failed)
    }

    fn prover(&self) -> Option<&dyn Prover> {
        Some(self)
    }
}

impl Prover for Ours {
    fn prove(&self, key: &[u8]) -> Result<Vec<u8>, Failure> {
        Ok(self.reader.prove(key).map_err(failed)?.proof.into_bytes())
    }

    fn prove_many(&self, keys: &[&[u8]]) -> Result<Vec<u8>, Failure> {
        Ok(self.reader.prove_many(keys).map_err(failed)?.proof.into_bytes())
    }
}

fn verify(root: &Root, key: &[u8], proof: &[u8]) -> Result<Answer, Failure> {
    let value = hedgerow_proof::verify(&Digest(*root), key, proof);
    Ok(value.map_err(|error| Failure::refused(NAME, error))?.map(<[u8]>::to_vec))
}

fn verify_many(root: &Root, keys: &[&[u8]], proof: &[u8]) -> Result<Vec<Answer>, Failure> {
    let values = hedgerow_proof::verify_many(&Digest(*root), keys, proof);
    let values = values.map_err(|error| Failure::refused(NAME, error))?;
    Ok(values.into_iter().map(|value| value.map(<[u8]>::to_vec)).collect())
}
