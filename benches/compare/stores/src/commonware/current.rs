//! commonware's QMDB: `current`, ordered, fixed sizes. It proves what is current, and absence.
//!
//! The crate has no proof of many keys of `current`. The one here is put together from parts that the crate makes public,
//! and no hashing is our own:
//!
//! ```text
//!   canonical root = H(operations' root, grafted root, partial chunk)      OpsRootWitness::verify
//!                            grafted root                                  Proof::verify_multi_inclusion, with
//!                  level 8   H(chunk of 256 activity bits, operations)     grafting::Verifier
//!                    operation of a key: (key, value, next key)
//!
//!   proof = operations' root | witness | merkle::Proof of verification::multi_proof over grafted_storage()
//!         | each operation once | each chunk once
//! ```
//!
//! Whoever verifies checks besides that each operation's bit is set, that a chunk that is not grafted has the digest in
//! the witness, and that each key is an operation's own or lies between one's key and next key. So the proof says what as
//! many `KeyValueProof`s and `ExclusionProof`s would. An operation whose key was asked names it by its number.
//!
//! Single proofs are `KeyValueProof` with its value, and `ExclusionProof`, as the crate encodes them. The span of a key
//! is looked up once for either, which `key_value_proof` and then `exclusion_proof` would do twice.

use super::{DURABILITY, INIT_CACHE, PACKAGE, Runtime};
use crate::engine::{
    Answer, Asking, Change, Engine, Failure, OpenStore, Proofs, Prover, Root, Sizing,
};
use bytes::BufMut;
use commonware_codec::{Copying, Encode as _, Read as _, ReadExt as _, Write as _, varint::UInt};
use commonware_cryptography::{Hasher as _, Sha256, sha256::Digest};
use commonware_parallel::Rayon;
use commonware_runtime::{Supervisor as _, tokio::Context};
use commonware_storage::{
    merkle::{Location, Proof, mmr, verification::multi_proof},
    qmdb::{
        any::{
            ordered::fixed::{Operation, Update},
            value::FixedEncoding,
        },
        current::{
            FixedConfig,
            grafting::{self, Verifier},
            ordered::{
                fixed::Db,
                proof::constant::{ExclusionProof, KeyValueProof},
            },
            proof::{OpsRootWitness, operation::Proof as OperationProof},
        },
        floor::Proportional,
    },
    translator::EightCap,
};
use commonware_utils::{bitmap::Readable as _, range::contains_cyclic};
use std::{fmt::Display, num::NonZeroU64, path::Path, sync::OnceLock};

const NAME: &str = "cw-current";

/// The engine.
pub const ENGINE: Engine = Engine {
    name: NAME,
    package: PACKAGE,
    durability: DURABILITY,
    tuning: super::TUNING,
    keeps: true,
    proofs: Some(Proofs {
        say: "the current value of each key, or that it is absent; of many keys: put together here from its public parts",
        encoding: "its own types in its codec; values included",
        absence: true,
        verify,
        verify_many,
    }),
    open,
};

/// Bytes of a chunk of activity bits. The crate asks for at least a digest's length.
const CHUNK_LEN: usize = 32;
/// Operations of a chunk.
const CHUNK_BITS: u64 = CHUNK_LEN as u64 * 8;

/// One of the crate's two families of trees. The other, MMB, was not tried.
type Family = mmr::Family;
type Store = Db<Family, Context, Digest, Digest, Sha256, EightCap, CHUNK_LEN, Rayon>;
type Place = Location<Family>;
type Witness = OpsRootWitness<Family, Digest>;
type Present = KeyValueProof<Family, Digest, Digest, CHUNK_LEN>;
type Absent = ExclusionProof<Family, Digest, FixedEncoding<Digest>, Digest, CHUNK_LEN>;
type Entry = Update<Digest, Digest>;

/// What all proofs under one root have in common.
struct Tip {
    ops_root: Digest,
    witness: Witness,
    /// The operation before which all are inactive.
    floor: Place,
    inactive_peaks: usize,
}

struct Current {
    /// Missing after a failure: the crate takes the store to apply a block, and gives it back only if it succeeds.
    /// Dropped before the runtime.
    store: Option<Store>,
    /// Made when the first proof under a root is.
    tip: OnceLock<Tip>,
    runtime: Runtime,
}

/// Bytes of log and tree that a write adds: a million keys created in blocks of 50,000 take 425 each, of updates it is less.
const BYTES_PER_WRITE: u64 = 440;

fn open(dir: &Path, sizing: Sizing) -> Result<Box<dyn OpenStore>, Failure> {
    let (runtime, context) = Runtime::start(NAME, dir, sizing)?;
    Ok(Box::new(start(runtime, context, sizing)?))
}

fn start(runtime: Runtime, context: Context, sizing: Sizing) -> Result<Current, Failure> {
    let (merkle_config, journal_config) = super::configs(NAME, &context, sizing, BYTES_PER_WRITE)?;
    let config = FixedConfig {
        merkle_config,
        journal_config,
        grafted_metadata_partition: "grafted".into(),
        translator: EightCap,
        init_cache: INIT_CACHE.into(),
        init_buffer: super::BUFFER,
        init_concurrency: (),
    };
    let store = Store::init(context.child("store"), config, None);
    let store = runtime.handle.block_on(store).map_err(failed)?;
    Ok(Current { store: Some(store), tip: OnceLock::new(), runtime })
}

fn failed(reason: impl Display) -> Failure {
    Failure::of(NAME)(&reason)
}

fn refused(reason: impl Display) -> Failure {
    Failure::refused(NAME, reason)
}

fn digest(bytes: &[u8]) -> Result<Digest, Failure> {
    super::digest(NAME, bytes)
}

impl Current {
    fn store(&self) -> Result<&Store, Failure> {
        self.store.as_ref().ok_or_else(|| failed("an earlier failure"))
    }

    fn known_tip(&self) -> Result<&Tip, Failure> {
        if let Some(tip) = self.tip.get() {
            return Ok(tip);
        }
        let tip = self.tip()?;
        Ok(self.tip.get_or_init(|| tip))
    }

    fn tip(&self) -> Result<Tip, Failure> {
        let store = self.store()?;
        let last = store.bounds().end.checked_sub(1).ok_or_else(|| failed("no operation"))?;
        self.runtime.handle.block_on(async {
            let witness = store.ops_root_witness().await.map_err(failed)?;
            let (proof, operations, _) =
                store.range_proof(last, NonZeroU64::MIN).await.map_err(failed)?;
            let Some(&Operation::CommitFloor(_, floor)) = operations.first() else {
                return Err(failed("the last operation is no commit"));
            };
            let inactive_peaks = proof.proof.inactive_peaks;
            Ok(Tip { ops_root: store.ops_root(), witness, floor, inactive_peaks })
        })
    }

    /// The operation that says what `key` has.
    async fn span(&self, key: &Digest) -> Result<(Place, Entry), Failure> {
        let span = self.store()?.get_span(key).await.map_err(failed)?;
        span.ok_or_else(|| failed("proofs of an empty store are not measured"))
    }
}

impl Current {
    /// The proof of these operations, each of which is in it once.
    async fn assemble(&self, tip: &Tip, mut spans: Vec<Span>) -> Result<Vec<u8>, Failure> {
        let store = self.store()?;
        // Where a key is its operation's own, that one first.
        spans.sort_by_key(|span| (span.place, span.asked.is_none()));
        spans.dedup_by_key(|span| span.place);
        let places: Vec<_> = spans.iter().map(|span| span.place).collect();
        let storage = store.grafted_storage();
        let proof = multi_proof(&storage, tip.inactive_peaks, &places).await.map_err(failed)?;
        let mut bytes = vec![];
        tip.ops_root.write(&mut bytes);
        tip.witness.write(&mut bytes);
        proof.write(&mut bytes);
        spans.len().write(&mut bytes);
        spans.iter().for_each(|span| span.write(&mut bytes));
        for chunk in chunks_of(&places) {
            let index = usize::try_from(chunk).map_err(failed)?;
            bytes.put_slice(&store.bitmap().get_chunk(index));
        }
        Ok(bytes)
    }
}

impl OpenStore for Current {
    fn apply(&mut self, block: &[Change<'_>]) -> Result<(), Failure> {
        let store = self.store.take().ok_or_else(|| failed("an earlier failure"))?;
        self.tip = OnceLock::new();
        let mut batch = store.new_batch();
        for change in block {
            batch = batch.write(digest(change.key)?, change.value.map(digest).transpose()?);
        }
        let store = self.runtime.handle.block_on(async {
            let batch = batch.merkleize(&store, None, &mut Proportional).await.map_err(failed)?;
            store.apply_batch(batch).await.map_err(failed)?.commit().await.map_err(failed)
        })?;
        self.store = Some(store);
        Ok(())
    }

    fn root(&self) -> Result<Option<Root>, Failure> {
        Ok(Some(self.store()?.root().0))
    }

    fn get(&self, key: &[u8]) -> Result<Answer, Failure> {
        let (store, key) = (self.store()?, digest(key)?);
        let value = self.runtime.handle.block_on(store.get(&key)).map_err(failed)?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn read_each(&self, asking: &mut dyn Asking) -> Result<(), Failure> {
        let store = self.store()?;
        self.runtime.handle.block_on(async {
            let mut key = vec![];
            while asking.next(&mut key) {
                let value = store.get(&digest(&key)?).await.map_err(failed)?;
                asking.answer(value.as_deref())?;
            }
            Ok(())
        })
    }

    fn close(mut self: Box<Self>) -> Result<(), Failure> {
        let store = self.store.take().ok_or_else(|| failed("an earlier failure"))?;
        self.runtime.handle.block_on(store.sync()).map_err(failed)?;
        Ok(())
    }

    fn prover(&self) -> Option<&dyn Prover> {
        Some(self)
    }
}

const PRESENT: u8 = 1;
const ABSENT: u8 = 0;

/// Digests that a proof of one operation may have: more than any tree has levels and peaks.
const MOST_DIGESTS: usize = 256;

impl Prover for Current {
    fn prove(&self, key: &[u8]) -> Result<Vec<u8>, Failure> {
        let (store, tip, key) = (self.store()?, self.known_tip()?, digest(key)?);
        self.runtime.handle.block_on(async {
            let (place, entry) = self.span(&key).await?;
            let storage = store.grafted_storage();
            let proof = OperationProof::new::<Sha256, _>(
                store.bitmap(),
                &storage,
                tip.floor,
                place,
                tip.ops_root,
            );
            let proof = proof.await.map_err(failed)?;
            let mut bytes = vec![];
            if entry.key == key {
                bytes.put_u8(PRESENT);
                Present { proof, next_key: entry.next_key }.write(&mut bytes);
                entry.value.write(&mut bytes);
            } else {
                bytes.put_u8(ABSENT);
                Absent::KeyValue(proof, entry).write(&mut bytes);
            }
            Ok(bytes)
        })
    }

    fn prove_many(&self, keys: &[&[u8]]) -> Result<Vec<u8>, Failure> {
        let tip = self.known_tip()?;
        self.runtime.handle.block_on(async {
            let mut spans = Vec::with_capacity(keys.len());
            for (number, key) in keys.iter().enumerate() {
                let key = digest(key)?;
                let (place, entry) = self.span(&key).await?;
                let asked = (entry.key == key).then_some(number);
                spans.push(Span { place, entry, asked });
            }
            self.assemble(tip, spans).await
        })
    }
}

/// An operation and the number of the key that is its own, if that was asked.
struct Span {
    place: Place,
    entry: Entry,
    asked: Option<usize>,
}

impl Span {
    fn write(&self, bytes: &mut Vec<u8>) {
        self.place.write(bytes);
        // 0 is none.
        UInt(self.asked.map_or(0, |number| number as u64 + 1)).write(bytes);
        if self.asked.is_none() {
            self.entry.key.write(bytes);
        }
        self.entry.value.write(bytes);
        self.entry.next_key.write(bytes);
    }

    fn read(bytes: &mut Copying<'_>, keys: &[Digest]) -> Result<Self, Failure> {
        let place = Place::read(bytes).map_err(refused)?;
        let number: u64 = UInt::read(bytes).map_err(refused)?.into();
        let asked = number.checked_sub(1).and_then(|number| usize::try_from(number).ok());
        let key = match asked {
            Some(number) => *keys.get(number).ok_or_else(|| refused("no such key"))?,
            None => Digest::read(bytes).map_err(refused)?,
        };
        let value = Digest::read(bytes).map_err(refused)?;
        let next_key = Digest::read(bytes).map_err(refused)?;
        Ok(Self { place, entry: Entry { key, value, next_key }, asked })
    }
}

/// The chunks that the places, which ascend, lie in.
fn chunks_of(places: &[Place]) -> Vec<u64> {
    let mut chunks: Vec<_> = places.iter().map(|place| **place / CHUNK_BITS).collect();
    chunks.dedup();
    chunks
}

fn verify(root: &Root, key: &[u8], proof: &[u8]) -> Result<Answer, Failure> {
    let (root, key, bytes) = (Digest::from(*root), digest(key)?, &mut Copying(proof));
    let answer = match u8::read(bytes).map_err(refused)? {
        PRESENT => {
            let proof = Present::read_cfg(bytes, &(MOST_DIGESTS, ())).map_err(refused)?;
            let value = Digest::read(bytes).map_err(refused)?;
            let proved = proof.verify::<Sha256, FixedEncoding<Digest>>(key, value, &root);
            proved.then(|| Some(value.to_vec()))
        }
        _ => {
            let proof = Absent::read_cfg(bytes, &(MOST_DIGESTS, (), ())).map_err(refused)?;
            proof.verify::<Sha256>(&key, &root).then_some(None)
        }
    };
    if !bytes.0.is_empty() {
        return Err(refused("bytes are left"));
    }
    answer.ok_or_else(|| refused("not under this root"))
}

/// Chunks between the first and the last one of a proof, at most: of a log of 10^9 operations.
const MOST_CHUNKS: u64 = 1 << 22;

fn verify_many(root: &Root, keys: &[&[u8]], proof: &[u8]) -> Result<Vec<Answer>, Failure> {
    let keys = keys.iter().map(|key| digest(key)).collect::<Result<Vec<_>, _>>()?;
    let (root, bytes) = (Digest::from(*root), &mut Copying(proof));
    let ops_root = Digest::read(bytes).map_err(refused)?;
    let witness = Witness::read(bytes).map_err(refused)?;
    let most = MOST_DIGESTS.saturating_mul(keys.len());
    let proof = Proof::<Family, Digest>::read_cfg(bytes, &most).map_err(refused)?;
    let count = usize::read_cfg(bytes, &(1..=keys.len()).into()).map_err(refused)?;
    let mut spans = Vec::with_capacity(count);
    for _ in 0..count {
        spans.push(Span::read(bytes, &keys)?);
    }
    if !spans.is_sorted_by(|a, b| a.place < b.place) {
        return Err(refused("operations that do not ascend"));
    }
    if !witness.verify::<Sha256>(&ops_root, &root) {
        return Err(refused("the operations' root is not under this root"));
    }
    let places: Vec<_> = spans.iter().map(|span| span.place).collect();
    let chunks = Chunks::read(bytes, &places)?;
    if !bytes.0.is_empty() {
        return Err(refused("bytes are left"));
    }
    if !places.iter().all(|place| chunks.is_active(*place)) {
        return Err(refused("an operation that is not active"));
    }
    let grafted = chunks.check(*proof.leaves, &witness)?;
    let verifier = chunks.verifier(grafted)?;
    let elements: Vec<_> = spans
        .iter()
        .map(|span| (Operation::<Family, _, _>::Update(span.entry.clone()).encode(), span.place))
        .collect();
    if !proof.verify_multi_inclusion(&verifier, &elements, &witness.grafted_root) {
        return Err(refused("operations that are not under this root"));
    }
    answers(&keys, spans)
}

/// What proved operations say about the keys.
fn answers(keys: &[Digest], mut spans: Vec<Span>) -> Result<Vec<Answer>, Failure> {
    spans.sort_unstable_by_key(|span| span.entry.key);
    let answer = |key: &Digest| {
        // The last operation at or before the key; before the first one, the last of all, whose span wraps around.
        let at = spans.partition_point(|span| span.entry.key <= *key);
        let span = at.checked_sub(1).and_then(|before| spans.get(before)).or(spans.last())?;
        let Entry { key: own, value, next_key } = &span.entry;
        if own == key {
            return Some(Some(value.to_vec()));
        }
        contains_cyclic(own..next_key, key).then_some(None)
    };
    let answers: Option<Vec<_>> = keys.iter().map(answer).collect();
    answers.ok_or_else(|| refused("a key that no operation tells of"))
}

/// The chunks of a proof: which, in ascending order, and their bits.
struct Chunks<'a> {
    indexes: Vec<u64>,
    bits: Vec<&'a [u8]>,
}

impl<'a> Chunks<'a> {
    fn read(bytes: &mut Copying<'a>, places: &[Place]) -> Result<Self, Failure> {
        let indexes = chunks_of(places);
        let mut bits = Vec::with_capacity(indexes.len());
        for _ in &indexes {
            let (chunk, rest) =
                bytes.0.split_at_checked(CHUNK_LEN).ok_or_else(|| refused("too short"))?;
            bits.push(chunk);
            bytes.0 = rest;
        }
        Ok(Self { indexes, bits })
    }

    fn is_active(&self, place: Place) -> bool {
        let (chunk, bit) = (*place / CHUNK_BITS, *place % CHUNK_BITS);
        let bits = self.indexes.binary_search(&chunk).ok().and_then(|at| self.bits.get(at));
        let byte = bits.and_then(|bits| bits.get((bit / 8) as usize));
        byte.is_some_and(|byte| byte & (1 << (bit % 8)) != 0)
    }

    /// Checks the chunks that are not grafted against the witness; returns how many chunks of the log are grafted.
    fn check(&self, leaves: u64, witness: &Witness) -> Result<u64, Failure> {
        let (complete, rest) = (leaves / CHUNK_BITS, leaves % CHUNK_BITS);
        let height = grafting::height::<CHUNK_LEN>();
        let grafted = grafting::graftable_chunks::<Family>(leaves, height).min(complete);
        // This family grafts a chunk as soon as it is complete.
        if grafted != complete {
            return Err(refused("a chunk that is complete and not grafted"));
        }
        let partial = witness.partial_chunk;
        if partial.map_or(0, |(next_bit, _)| next_bit) != rest {
            return Err(refused("another number of operations"));
        }
        let last = self.indexes.last().zip(self.bits.last());
        match (last, partial) {
            (Some((&index, bits)), Some((_, digest))) if index == complete => {
                let same = Sha256::hash(&[bits]) == digest;
                same.then_some(grafted).ok_or_else(|| refused("another partial chunk"))
            }
            _ => Ok(grafted),
        }
    }

    /// The crate's verifier takes a run of chunks without gaps. Those in the gaps have no proved operation, so that it
    /// never asks for them.
    fn verifier(&self, grafted: u64) -> Result<Verifier<'a, Family, Sha256>, Failure> {
        let (Some(&first), Some(&last)) = (self.indexes.first(), self.indexes.last()) else {
            return Err(refused("no operation"));
        };
        let len = (last - first).saturating_add(1);
        if len > MOST_CHUNKS {
            return Err(refused("operations too far apart"));
        }
        let mut run: Vec<&[u8]> = vec![&[]; len as usize];
        for (index, bits) in self.indexes.iter().zip(&self.bits) {
            if let Some(slot) = run.get_mut((index - first) as usize) {
                *slot = bits;
            }
        }
        Ok(Verifier::new(grafting::height::<CHUNK_LEN>(), first, run, grafted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn current(dir: &Path) -> Current {
        let (runtime, context) = Runtime::start(NAME, dir, Sizing::new(1000)).unwrap();
        start(runtime, context, Sizing::new(1000)).unwrap()
    }

    fn key(number: u16) -> [u8; 32] {
        Sha256::hash(&[&number.to_be_bytes()]).0
    }

    fn put(store: &mut Current, numbers: impl Iterator<Item = u16>, value: u8) {
        let keys: Vec<_> = numbers.map(key).collect();
        let value = [value; 32];
        let change = |key| Change { key, value: Some(&value) };
        store.apply(&keys.iter().map(|key| change(&key[..])).collect::<Vec<_>>()).unwrap();
    }

    fn span(store: &Current, number: u16) -> Span {
        let found = store.runtime.handle.block_on(store.span(&key(number).into()));
        let (place, entry) = found.unwrap();
        Span { place, entry, asked: None }
    }

    fn proof(store: &Current, spans: Vec<Span>) -> Vec<u8> {
        let tip = store.known_tip().unwrap();
        store.runtime.handle.block_on(store.assemble(tip, spans)).unwrap()
    }

    #[test]
    fn an_operation_that_was_overwritten_or_of_another_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = current(dir.path());
        put(&mut store, 0..600, 1);
        let (old, other) = (span(&store, 7), span(&store, 8));
        put(&mut store, 7..8, 2);
        let root = store.root().unwrap().unwrap();
        let of = |spans, asked: u16| verify_many(&root, &[&key(asked)], &proof(&store, spans));

        assert_eq!(of(vec![span(&store, 7)], 7).unwrap(), [Some(vec![2; 32])]);
        let error = of(vec![old], 7).unwrap_err().to_string();
        assert!(error.contains("not active"), "{error}");
        let error = of(vec![other], 7).unwrap_err().to_string();
        assert!(error.contains("no operation tells of"), "{error}");
    }

    /// The same with the bit set: the chunk is then not the one under the root, be it grafted or the last one, which is not.
    #[test]
    fn an_activity_bit_cannot_be_set() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = current(dir.path());
        put(&mut store, 0..600, 1);
        let (mut grafted, mut last) = (0, 0);
        for number in 0..60 {
            // Every second one is written again right before it is overwritten, so that the old operation is a new one.
            if number % 2 == 0 {
                put(&mut store, number..number + 1, 2);
            }
            let old = span(&store, number);
            put(&mut store, number..number + 1, 3);
            let (chunk, bit) = (*old.place / CHUNK_BITS, (*old.place % CHUNK_BITS) as usize);
            let is_last = *store.store().unwrap().bounds().end / CHUNK_BITS == chunk;
            let root = store.root().unwrap().unwrap();
            let mut bytes = proof(&store, vec![old]);
            let at = bytes.len() - CHUNK_LEN + bit / 8;
            bytes[at] |= 1 << (bit % 8);
            let error = verify_many(&root, &[&key(number)], &bytes).unwrap_err().to_string();
            let (expected, count) = match is_last {
                true => ("another partial chunk", &mut last),
                false => ("operations that are not under this root", &mut grafted),
            };
            assert!(error.contains(expected), "{number}: {error}");
            *count += 1;
        }
        assert!(grafted > 5 && last > 5, "{grafted} in grafted chunks, {last} in the last one");
    }
}
