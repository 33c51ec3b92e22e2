//! NOMT with its store: a binary Merkle trie in pages, and the values in a B-tree.
//!
//! ```text
//!   a block ─► sorted ─► a session: finish() computes the root ─► commit(): trie pages and B-tree, synced
//! ```
//!
//! Set: caches of pages and of leaves that hold everything, a hash table of pages that is at most half full, a thread of
//! commit and an io_uring for each core, no rollback, no witness, BLAKE3, which is its default. **Its feature is off by
//! default**: it brings `imbl`, `imbl-sized-chunks` and `bitmaps` under MPL-2.0.

use crate::{
    engine::{Answer, Asking, Change, Engine, Failure, OpenStore, Proofs, Prover, Root, Sizing},
    nomt::{Single, path_of},
};
use ::nomt::{KeyReadWrite, Nomt, Options, Session, SessionParams};
use nomt_core::hasher::Blake3Hasher;
use std::{cell::OnceCell, fmt::Display, path::Path};

const NAME: &str = "nomt";

/// The engine.
pub const ENGINE: Engine = Engine {
    name: NAME,
    package: NAME,
    durability: "synced: a block survives power loss when its commit returns",
    tuning: "page and leaf caches as large as the data; hash table at most half full; a commit worker and an io_uring per \
        core; BLAKE3",
    keeps: true,
    proofs: Some(Proofs {
        say: "the hash of the value of a key, or that it is absent",
        encoding: "its PathProof and the value in borsh; of many keys: one after the other",
        absence: true,
        verify,
        verify_many,
    }),
    open,
};

/// Keys for each page of the hash table. A page is made where more than twenty keys are below.
const KEYS_PER_BUCKET: u64 = 16;
const LEAST_BUCKETS: u64 = 64_000;
/// Bytes of the trie's pages, and of the leaves of the B-tree, by key.
const BYTES_PER_KEY: u64 = 256;
const LEAST_CACHE: u64 = 256 << 20;

struct Stored {
    /// Reads and proves under the newest root; there is no commit while it is open, and it is dropped before the store.
    session: OnceCell<Session<Blake3Hasher>>,
    store: Nomt<Blake3Hasher>,
}

fn open(dir: &Path, sizing: Sizing) -> Result<Box<dyn OpenStore>, Failure> {
    let cache = sizing.keys.saturating_mul(BYTES_PER_KEY).saturating_add(LEAST_CACHE) >> 20;
    let cache = usize::try_from(cache).map_err(failed)?;
    let buckets = (sizing.keys / KEYS_PER_BUCKET).max(LEAST_BUCKETS);
    let mut options = Options::new();
    options.path(dir);
    options.commit_concurrency(sizing.threads.get());
    options.io_workers(sizing.threads.get());
    options.hashtable_buckets(u32::try_from(buckets).map_err(failed)?);
    options.page_cache_size(cache);
    options.leaf_cache_size(cache);
    options.rollback(false);
    let store = Nomt::open(options).map_err(failed)?;
    Ok(Box::new(Stored { session: OnceCell::new(), store }))
}

fn failed(error: impl Display) -> Failure {
    Failure::of(NAME)(&error)
}

impl Stored {
    fn session(&self) -> &Session<Blake3Hasher> {
        self.session.get_or_init(|| self.store.begin_session(SessionParams::default()))
    }
}

impl OpenStore for Stored {
    fn apply(&mut self, block: &[Change<'_>]) -> Result<(), Failure> {
        self.session = OnceCell::new();
        let mut changes = Vec::with_capacity(block.len());
        for Change { key, value } in block {
            let value = value.map(<[u8]>::to_vec);
            changes.push((path_of(key)?, KeyReadWrite::Write(value)));
        }
        changes.sort_unstable_by_key(|(path, _)| *path);
        let session = self.store.begin_session(SessionParams::default());
        session.finish(changes).map_err(failed)?.commit(&self.store).map_err(failed)
    }

    fn root(&self) -> Result<Option<Root>, Failure> {
        Ok(Some(self.store.root().into_inner()))
    }

    fn get(&self, key: &[u8]) -> Result<Answer, Failure> {
        self.session().read(path_of(key)?).map_err(failed)
    }

    fn read_each(&self, asking: &mut dyn Asking) -> Result<(), Failure> {
        let (session, mut key) = (self.session(), vec![]);
        while asking.next(&mut key) {
            let value = session.read(path_of(&key)?).map_err(failed)?;
            asking.answer(value.as_deref())?;
        }
        Ok(())
    }

    fn prover(&self) -> Option<&dyn Prover> {
        Some(self)
    }
}

impl Stored {
    fn proof(&self, key: &[u8]) -> Result<Single, Failure> {
        let (session, path) = (self.session(), path_of(key)?);
        let value = session.read(path).map_err(failed)?;
        Ok(Single { proof: session.prove(path).map_err(failed)?, value })
    }
}

impl Prover for Stored {
    fn prove(&self, key: &[u8]) -> Result<Vec<u8>, Failure> {
        borsh::to_vec(&self.proof(key)?).map_err(failed)
    }

    fn prove_many(&self, keys: &[&[u8]]) -> Result<Vec<u8>, Failure> {
        let proofs = keys.iter().map(|key| self.proof(key)).collect::<Result<Vec<_>, _>>()?;
        borsh::to_vec(&proofs).map_err(failed)
    }
}

fn refused(reason: impl Display) -> Failure {
    Failure::refused(NAME, reason)
}

fn verify(root: &Root, key: &[u8], proof: &[u8]) -> Result<Answer, Failure> {
    let single: Single = borsh::from_slice(proof).map_err(refused)?;
    single.answer::<Blake3Hasher>(root, key).map_err(refused)
}

fn verify_many(root: &Root, keys: &[&[u8]], proof: &[u8]) -> Result<Vec<Answer>, Failure> {
    let proofs: Vec<Single> = borsh::from_slice(proof).map_err(refused)?;
    if proofs.len() != keys.len() {
        return Err(refused("as many proofs as keys"));
    }
    let answer = |(single, key): (Single, &&[u8])| single.answer::<Blake3Hasher>(root, key);
    proofs.into_iter().zip(keys).map(answer).collect::<Result<_, _>>().map_err(refused)
}
