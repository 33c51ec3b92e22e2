//! Hedgerow, with its default options.

use crate::engine::{Answer, Change, Engine, Failure, OpenStore, Proofs, Prover, Root, Sizing};
use hedgerow::{Durability, Options, Reader, Store, StoreParams};
use hedgerow_proof::Digest;
use std::path::Path;

const NAME: &str = "hedgerow";

/// The engine.
pub const ENGINE: Engine = Engine {
    name: NAME,
    package: NAME,
    durability: "synced: a block survives power loss",
    keeps: true,
    proofs: Some(Proofs {
        say: "the value of each key, or that it is absent",
        encoding: "its own, canonical; values included",
        absence: true,
        verify,
        verify_many,
    }),
    open,
};

struct Ours {
    store: Store,
    reader: Reader,
}

fn open(dir: &Path, sizing: Sizing) -> Result<Box<dyn OpenStore>, Failure> {
    let options = Options::new().durability(Durability::EachBlock).threads(sizing.threads.get());
    let store = Store::open_or_create(dir, StoreParams::default(), options).map_err(failed)?;
    let reader = store.reader();
    Ok(Box::new(Ours { store, reader }))
}

fn failed(error: hedgerow::Error) -> Failure {
    Failure::of(NAME)(&error)
}

impl OpenStore for Ours {
    fn apply(&mut self, block: &[Change<'_>]) -> Result<(), Failure> {
        let mut next = self.store.next_block().map_err(failed)?;
        for change in block {
            match change.value {
                Some(value) => next.put(change.key, value),
                None => next.delete(change.key),
            }
            .map_err(failed)?;
        }
        next.commit().map_err(failed)?;
        Ok(())
    }

    fn root(&self) -> Result<Option<Root>, Failure> {
        Ok(Some(self.reader.root().1.0))
    }

    fn get(&self, key: &[u8]) -> Result<Answer, Failure> {
        self.reader.get(key).map_err(failed)
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
