//! NOMT: a binary Merkle trie in pages, with a B-tree of values beside it.
//!
//! ```text
//!   keys ─► Session::prove, each ─► path proofs, sorted by their terminal, each terminal once
//!        ─► MultiProof::from_path_proofs ─► borsh ─► then the values that were found, in the order of the keys
//! ```
//!
//! A leaf of the trie has the hash of its value, so that whoever verifies needs the values besides. The hash is SHA-256
//! as in the other engines, not NOMT's default. Keys are taken as they are: NOMT wants them evenly distributed, and these
//! are.

use crate::engine::{Answer, Change, Engine, Failure, OpenStore, Proofs, Prover, Root, Sizing};
use ::nomt::{
    KeyReadWrite, Nomt, Options, Session, SessionParams,
    hasher::{Sha2Hasher, ValueHasher},
    proof::{MultiProof, PathProof, verify_multi_proof},
    trie::{KeyPath, LeafData},
};
use bitvec::{order::Msb0, view::BitView};
use borsh::{BorshDeserialize, BorshSerialize};
use std::{path::Path, sync::Mutex};

const NAME: &str = "nomt";

/// The engine.
pub const ENGINE: Engine = Engine {
    name: NAME,
    package: NAME,
    durability: "synced: a block survives power loss",
    proofs: Some(Proofs {
        say: "the hash of the value of each key, or that it is absent",
        encoding: "its MultiProof in borsh, which the crate derives, followed by the values in borsh",
        absence: true,
        verify,
        verify_many,
    }),
    open,
};

struct Trie {
    nomt: Nomt<Sha2Hasher>,
    /// Kept from proof to proof; while there is one, nothing can be committed.
    session: Mutex<Option<Session<Sha2Hasher>>>,
}

/// Bytes of a page of NOMT.
const PAGE_LEN: u64 = 4096;

fn open(dir: &Path, sizing: Sizing) -> Result<Box<dyn OpenStore>, Failure> {
    let mut options = Options::new();
    options.path(dir);
    options.commit_concurrency(sizing.threads.get());
    // A page has six levels. Random keys fill a level of pages when there are a few keys for each of them: about one
    // page for four keys. Twice as many places, and a cache for all of them.
    let buckets = (sizing.keys / 2).max(64_000);
    options.hashtable_buckets(u32::try_from(buckets).unwrap_or(u32::MAX));
    options.preallocate_ht(false);
    let mebibytes = usize::try_from((buckets * PAGE_LEN) >> 20).unwrap_or(usize::MAX);
    options.page_cache_size(mebibytes);
    options.leaf_cache_size(mebibytes.max(256));
    let nomt = Nomt::open(options).map_err(failed)?;
    Ok(Box::new(Trie { nomt, session: Mutex::new(None) }))
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::of(NAME)(&format!("{error:#}"))
}

fn path_of(key: &[u8]) -> Result<KeyPath, Failure> {
    KeyPath::try_from(key).map_err(|_| failed("a key that is not of 32 bytes"))
}

impl Trie {
    fn in_session<T>(
        &self,
        ask: impl FnOnce(&Session<Sha2Hasher>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut session = self.session.lock().map_err(|_| failed("an earlier panic"))?;
        ask(session.get_or_insert_with(|| self.nomt.begin_session(SessionParams::default())))
    }
}

impl OpenStore for Trie {
    fn apply(&mut self, block: &[Change<'_>]) -> Result<(), Failure> {
        *self.session.get_mut().map_err(|_| failed("an earlier panic"))? = None;
        let mut changes = Vec::with_capacity(block.len());
        for change in block {
            let write = KeyReadWrite::Write(change.value.map(<[u8]>::to_vec));
            changes.push((path_of(change.key)?, write));
        }
        changes.sort_unstable_by_key(|(path, _)| *path);
        let session = self.nomt.begin_session(SessionParams::default());
        for (path, _) in &changes {
            session.warm_up(*path);
        }
        session.finish(changes).map_err(failed)?.commit(&self.nomt).map_err(failed)
    }

    fn root(&self) -> Result<Option<Root>, Failure> {
        Ok(Some(self.nomt.root().into_inner()))
    }

    fn get(&self, key: &[u8]) -> Result<Answer, Failure> {
        let path = path_of(key)?;
        self.in_session(|session| session.read(path).map_err(failed))
    }

    fn prover(&self) -> Option<&dyn Prover> {
        Some(self)
    }
}

impl Prover for Trie {
    fn prove(&self, key: &[u8]) -> Result<Vec<u8>, Failure> {
        let path = path_of(key)?;
        self.in_session(|session| {
            let value = session.read(path).map_err(failed)?;
            let proof = session.prove(path).map_err(failed)?;
            borsh::to_vec(&Single { proof, value }).map_err(failed)
        })
    }

    fn prove_many(&self, keys: &[&[u8]]) -> Result<Vec<u8>, Failure> {
        self.in_session(|session| {
            let mut proofs = Vec::with_capacity(keys.len());
            let mut values = Vec::with_capacity(keys.len());
            for key in keys {
                let path = path_of(key)?;
                values.push(session.read(path).map_err(failed)?);
                proofs.push(session.prove(path).map_err(failed)?);
            }
            proofs.sort_unstable_by(|a, b| a.terminal.path().cmp(b.terminal.path()));
            proofs.dedup_by(|a, b| a.terminal == b.terminal);
            let proof = MultiProof::from_path_proofs(proofs);
            borsh::to_vec(&Many { proof, values }).map_err(failed)
        })
    }
}

/// The bytes of a proof of one key.
#[derive(BorshSerialize, BorshDeserialize)]
struct Single {
    proof: PathProof,
    value: Answer,
}

/// The bytes of a proof of many keys.
#[derive(BorshSerialize, BorshDeserialize)]
struct Many {
    proof: MultiProof,
    values: Vec<Answer>,
}

fn leaf(key_path: KeyPath, value: &[u8]) -> LeafData {
    LeafData { key_path, value_hash: Sha2Hasher::hash_value(value) }
}

fn verify(root: &Root, key: &[u8], proof: &[u8]) -> Result<Answer, Failure> {
    let refused = |reason: &dyn std::fmt::Debug| Failure::refused(NAME, format!("{reason:?}"));
    let path = path_of(key)?;
    let Single { proof, value } = borsh::from_slice(proof).map_err(|error| refused(&error))?;
    let bits = path.view_bits::<Msb0>();
    let proved = proof.verify::<Sha2Hasher>(bits, *root).map_err(|error| refused(&error))?;
    let confirmed = match &value {
        Some(value) => proved.confirm_value(&leaf(path, value)),
        None => proved.confirm_nonexistence(&path),
    };
    match confirmed {
        Ok(true) => Ok(value),
        other => Err(refused(&other)),
    }
}

fn verify_many(root: &Root, keys: &[&[u8]], proof: &[u8]) -> Result<Vec<Answer>, Failure> {
    let refused = |reason: &dyn std::fmt::Debug| Failure::refused(NAME, format!("{reason:?}"));
    let Many { proof, values } = borsh::from_slice(proof).map_err(|error| refused(&error))?;
    let proved =
        verify_multi_proof::<Sha2Hasher>(&proof, *root).map_err(|error| refused(&error))?;
    if values.len() != keys.len() {
        return Err(refused(&"as many values as keys"));
    }
    for (key, value) in keys.iter().zip(&values) {
        let path = path_of(key)?;
        let confirmed = match value {
            Some(value) => proved.confirm_value(&leaf(path, value)),
            None => proved.confirm_nonexistence(&path),
        };
        if !matches!(confirmed, Ok(true)) {
            return Err(refused(&confirmed));
        }
    }
    Ok(values)
}
