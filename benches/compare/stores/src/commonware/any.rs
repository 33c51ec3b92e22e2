//! commonware's `any`: a log of operations and its tree. It proves that a key was given a value once, not that it has it.
//!
//! ```text
//!   ordered      an operation names the next key: finding it gives its place, so that it can be proved
//!   unordered    it does not, and nothing public says where a key's operation is: no proofs by key here
//! ```

use super::{DURABILITY, INIT_CACHE, PACKAGE, Runtime, TUNING, digest};
use crate::engine::{
    Answer, Asking, Change, Engine, Failure, OpenStore, Proofs, Prover, Root, Sizing,
};
use commonware_codec::{Copying, Read as _, ReadExt as _, Write as _};
use commonware_cryptography::{Sha256, sha256::Digest};
use commonware_parallel::Rayon;
use commonware_runtime::{Supervisor as _, tokio::Context};
use commonware_storage::{
    merkle::{Location, Proof, mmr},
    qmdb::{
        any::{FixedConfig, ordered, unordered},
        floor::Proportional,
        verify::verify_proof,
    },
    translator::EightCap,
};
use std::{fmt::Display, num::NonZeroU64, path::Path};

type Family = mmr::Family;
type Ordered = ordered::fixed::Db<Family, Context, Digest, Digest, Sha256, EightCap, Rayon>;
type Unordered = unordered::fixed::Db<Family, Context, Digest, Digest, Sha256, EightCap, Rayon>;
type Operation = ordered::fixed::Operation<Family, Digest, Digest>;
type Place = Location<Family>;

const ORDERED: &str = "cw-any-ordered";
const UNORDERED: &str = "cw-any";

/// `any`, ordered.
pub const ENGINE_ORDERED: Engine = Engine {
    name: ORDERED,
    package: PACKAGE,
    durability: DURABILITY,
    tuning: TUNING,
    keeps: true,
    proofs: Some(Proofs {
        say: "that a key was given the value once; not that it has it, and no absence",
        encoding: "its own types in its codec; values included; of many keys: one after the other",
        absence: false,
        verify,
        verify_many,
    }),
    open: Any::<Ordered>::open,
};

/// `any`, unordered.
pub const ENGINE: Engine = Engine {
    name: UNORDERED,
    package: PACKAGE,
    durability: DURABILITY,
    tuning: TUNING,
    keeps: true,
    proofs: None,
    open: Any::<Unordered>::open,
};

/// What the two kinds have in common, which the crate has no name for.
trait Kind: Sized + 'static {
    /// The engine's name.
    const NAME: &'static str;
    /// Bytes of log and tree that a write adds.
    const BYTES_PER_WRITE: u64;

    async fn init(context: Context, sizing: Sizing) -> Result<Self, Failure>;
    async fn apply(self, block: &[Change<'_>]) -> Result<Self, Failure>;
    async fn get(&self, key: &Digest) -> Result<Option<Digest>, Failure>;
    async fn sync(self) -> Result<Self, Failure>;
    fn root(&self) -> Digest;
    async fn prove(&self, key: &Digest) -> Result<Vec<u8>, Failure>;
    const PROVES: bool;
}

struct Any<K: Kind> {
    /// Missing after a failure: the crate takes the store to apply a block, and gives it back only if it succeeds.
    /// Dropped before the runtime.
    store: Option<K>,
    runtime: Runtime,
}

fn failed<K: Kind>(reason: impl Display) -> Failure {
    Failure::of(K::NAME)(&reason)
}

fn refused(reason: impl Display) -> Failure {
    Failure::refused(ORDERED, reason)
}

/// The same of either kind: their types have no trait in common.
macro_rules! kind {
    () => {
        async fn init(context: Context, sizing: Sizing) -> Result<Self, Failure> {
            let (merkle_config, journal_config) =
                super::configs(Self::NAME, &context, sizing, Self::BYTES_PER_WRITE)?;
            let config = FixedConfig {
                merkle_config,
                journal_config,
                translator: EightCap,
                init_cache: INIT_CACHE.into(),
                init_buffer: super::BUFFER,
                init_concurrency: (),
            };
            Self::init(context.child("store"), config, None).await.map_err(failed::<Self>)
        }

        async fn apply(self, block: &[Change<'_>]) -> Result<Self, Failure> {
            let mut batch = self.new_batch();
            for Change { key, value } in block {
                let value = value.map(|value| digest(Self::NAME, value)).transpose()?;
                batch = batch.write(digest(Self::NAME, key)?, value);
            }
            let batch = batch.merkleize(&self, None, &mut Proportional).await;
            let applied = self.apply_batch(batch.map_err(failed::<Self>)?).await;
            applied.map_err(failed::<Self>)?.commit().await.map_err(failed::<Self>)
        }

        async fn get(&self, key: &Digest) -> Result<Option<Digest>, Failure> {
            self.get(key).await.map_err(failed::<Self>)
        }

        async fn sync(self) -> Result<Self, Failure> {
            self.sync().await.map_err(failed::<Self>)
        }

        fn root(&self) -> Digest {
            self.root()
        }
    };
}

impl Kind for Unordered {
    const NAME: &'static str = UNORDERED;
    const BYTES_PER_WRITE: u64 = 280;
    const PROVES: bool = false;
    kind!();

    async fn prove(&self, _: &Digest) -> Result<Vec<u8>, Failure> {
        Err(failed::<Self>("nothing public says where a key's operation is"))
    }
}

impl Kind for Ordered {
    const NAME: &'static str = ORDERED;
    const BYTES_PER_WRITE: u64 = 440;
    const PROVES: bool = true;
    kind!();

    async fn prove(&self, key: &Digest) -> Result<Vec<u8>, Failure> {
        let span = self.get_span(key).await.map_err(failed::<Self>)?;
        let (place, _) = span
            .filter(|(_, entry)| entry.key == *key)
            .ok_or_else(|| failed::<Self>("absence cannot be proved"))?;
        let (proof, operations) =
            self.proof(place, NonZeroU64::MIN).await.map_err(failed::<Self>)?;
        let [operation] = operations.as_slice() else {
            return Err(failed::<Self>("a proof of no operation"));
        };
        let mut bytes = vec![];
        place.write(&mut bytes);
        proof.write(&mut bytes);
        operation.write(&mut bytes);
        Ok(bytes)
    }
}

impl<K: Kind> Any<K> {
    fn open(dir: &Path, sizing: Sizing) -> Result<Box<dyn OpenStore>, Failure> {
        let (runtime, context) = Runtime::start(K::NAME, dir, sizing)?;
        let store = Some(runtime.handle.block_on(K::init(context, sizing))?);
        Ok(Box::new(Self { store, runtime }))
    }

    fn store(&self) -> Result<&K, Failure> {
        self.store.as_ref().ok_or_else(|| failed::<K>("an earlier failure"))
    }

    fn taken(&mut self) -> Result<K, Failure> {
        self.store.take().ok_or_else(|| failed::<K>("an earlier failure"))
    }
}

impl<K: Kind> OpenStore for Any<K> {
    fn apply(&mut self, block: &[Change<'_>]) -> Result<(), Failure> {
        let store = self.taken()?;
        self.store = Some(self.runtime.handle.block_on(store.apply(block))?);
        Ok(())
    }

    fn root(&self) -> Result<Option<Root>, Failure> {
        Ok(Some(self.store()?.root().0))
    }

    fn get(&self, key: &[u8]) -> Result<Answer, Failure> {
        let (store, key) = (self.store()?, digest(K::NAME, key)?);
        let value = self.runtime.handle.block_on(store.get(&key))?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn read_each(&self, asking: &mut dyn Asking) -> Result<(), Failure> {
        let store = self.store()?;
        self.runtime.handle.block_on(async {
            let mut key = vec![];
            while asking.next(&mut key) {
                let value = store.get(&digest(K::NAME, &key)?).await?;
                asking.answer(value.as_deref())?;
            }
            Ok(())
        })
    }

    fn close(mut self: Box<Self>) -> Result<(), Failure> {
        let store = self.taken()?;
        self.runtime.handle.block_on(store.sync())?;
        Ok(())
    }

    fn prover(&self) -> Option<&dyn Prover> {
        K::PROVES.then_some(self)
    }
}

impl<K: Kind> Prover for Any<K> {
    fn prove(&self, key: &[u8]) -> Result<Vec<u8>, Failure> {
        let (store, key) = (self.store()?, digest(K::NAME, key)?);
        self.runtime.handle.block_on(store.prove(&key))
    }

    fn prove_many(&self, keys: &[&[u8]]) -> Result<Vec<u8>, Failure> {
        let proofs = keys.iter().map(|key| self.prove(key)).collect::<Result<Vec<_>, _>>()?;
        Ok(proofs.concat())
    }
}

/// Digests that a proof of one operation may have: more than any tree has levels and peaks.
const MOST_DIGESTS: usize = 256;

/// Verifies the proof at the head of `bytes` and goes behind it.
fn verify_next(root: &Root, key: &[u8], bytes: &mut Copying<'_>) -> Result<Answer, Failure> {
    let place = Place::read(bytes).map_err(refused)?;
    let proof = Proof::<Family, Digest>::read_cfg(bytes, &MOST_DIGESTS).map_err(refused)?;
    let operation = Operation::read(bytes).map_err(refused)?;
    let Operation::Update(entry) = &operation else {
        return Err(refused("an operation that gives no value"));
    };
    if entry.key != digest(ORDERED, key)? {
        return Err(refused("another key"));
    }
    let value = entry.value.to_vec();
    let root = Digest::from(*root);
    if !verify_proof::<Sha256, Family, _>(&proof, place, &[operation], &root) {
        return Err(refused("not under this root"));
    }
    Ok(Some(value))
}

fn verify(root: &Root, key: &[u8], proof: &[u8]) -> Result<Answer, Failure> {
    verify_many(root, &[key], proof)?.pop().ok_or_else(|| refused("no answer"))
}

fn verify_many(root: &Root, keys: &[&[u8]], proof: &[u8]) -> Result<Vec<Answer>, Failure> {
    let bytes = &mut Copying(proof);
    let answers = keys.iter().map(|key| verify_next(root, key, bytes));
    let answers = answers.collect::<Result<Vec<_>, _>>()?;
    if !bytes.0.is_empty() {
        return Err(refused("bytes are left"));
    }
    Ok(answers)
}
