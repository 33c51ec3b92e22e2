//! Proofs of many keys and of ranges: what they prove is what the state has, whichever keys, limits and height.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{apply_any, dir, disk, on, params};
use hedgerow::disk::OpenMode;
use hedgerow::{
    Error, Height, KeyHash, LogError, Options, ProofRef, RangeLimit, Refused, Store, View,
};
use hedgerow_proof::{ProofError, verify, verify_many, verify_range};
use hedgerow_testkit::Limit;
use hedgerow_testkit::generate::{BlockGen, GenShape, SeedNote, collisions};
use hedgerow_testkit::model::{Model, key_hash};
use hedgerow_testkit::recipe::SplitMix64;

/// A view, and what it is to show: pairs in key-hash order.
struct Held {
    view: View,
    pairs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Held {
    fn new(store: &Store, model: &mut Model) -> Self {
        let pairs = model.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
        let view = store.reader().view();
        assert_eq!((view.height(), view.root()), (Height(model.height()), model.state_root()));
        Self { view, pairs }
    }

    fn value(&self, key: &[u8]) -> Option<&[u8]> {
        self.pairs.iter().find(|(found, _)| found == key).map(|(_, value)| &value[..])
    }

    /// Keys are proved together; no proof proves another set.
    fn check_many(&self, rng: &mut SplitMix64, keys: &[Vec<u8>]) {
        let root = self.view.root();
        let pick = |rng: &mut SplitMix64| keys[rng.below(keys.len() as u64) as usize].clone();
        let count = [1, 2, 3, 10, 100][rng.below(5) as usize];
        let asked: Vec<_> = (0..count).map(|_| pick(rng)).collect();
        let proven = self.view.prove_many(&asked).unwrap();
        assert_eq!((proven.height, proven.root), (self.view.height(), root));
        let values: Vec<_> = asked.iter().map(|key| self.value(key)).collect();
        assert_eq!(verify_many(&root, &asked, &proven.proof), Ok(values));
        // One encoding, whatever the order, and shorter than each alone.
        let mut sorted = asked.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(self.view.prove_many(&sorted).unwrap().proof, proven.proof);
        let singles: Vec<_> = sorted.iter().map(|key| self.view.prove(key).unwrap()).collect();
        for (key, single) in sorted.iter().zip(&singles) {
            assert_eq!(verify(&root, key, &single.proof), Ok(self.value(key)));
        }
        let entries = ProofRef::decode(&proven.proof, usize::MAX).unwrap().entries();
        let alone: usize = singles.iter().map(|single| single.proof.len()).sum();
        if entries.len() == 1 {
            assert_eq!(singles[0].proof, proven.proof);
        } else {
            assert!(proven.proof.len() < alone);
        }
        // Without one key there is an entry too many, unless another key needs it too; with another one, as a
        // rule, one too few.
        let fewer = verify_many(&root, &sorted[1..], &proven.proof);
        if let Ok(values) = fewer {
            assert!(entries.len() < sorted.len());
            assert_eq!(values, sorted[1..].iter().map(|key| self.value(key)).collect::<Vec<_>>());
        } else {
            let refused = if sorted.len() == 1 { ProofError::NoKeys } else { ProofError::Surplus };
            assert_eq!(fewer, Err(refused));
        }
        let more = [asked, vec![pick(rng)]].concat();
        match verify_many(&root, &more, &proven.proof) {
            Ok(values) => assert_eq!(values.last(), Some(&self.value(&more[more.len() - 1]))),
            Err(error) => assert_eq!(error, ProofError::WrongKey),
        }
    }

    /// A range from anywhere: the keys that are there, and within its limits.
    fn check_range(&self, from: KeyHash, limit: RangeLimit) -> KeyHash {
        let root = self.view.root();
        let range = self.view.prove_range(from, limit).unwrap();
        let proof = &range.proven.proof;
        let verified = verify_range(&root, from, proof).unwrap();
        assert_eq!((verified.from(), verified.until()), (from, range.until));
        assert_eq!(verified.is_last(), range.until == KeyHash::MAX);
        let first = self.pairs.partition_point(|(key, _)| key_hash(key) < from);
        let end = self.pairs.partition_point(|(key, _)| key_hash(key) < range.until);
        let items: Vec<_> =
            verified.items().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
        assert_eq!(items, self.pairs[first..end]);
        assert!(from < range.until, "a range goes on");
        // Within the limits, but one entry in any case; and not for less.
        let entries = ProofRef::decode(proof, usize::MAX).unwrap().entries().len();
        let RangeLimit { entries: most, bytes } = limit;
        assert!(entries == 1 || (entries <= most && proof.len() <= bytes));
        if entries < most && range.until < KeyHash::MAX {
            let longer = RangeLimit { entries: entries + 1, bytes: usize::MAX };
            let longer = self.view.prove_range(from, longer).unwrap();
            assert!(longer.proven.proof.len() > bytes, "one more would have fitted");
        }
        // From elsewhere it proves nothing, unless that lies in the first gap too.
        let elsewhere = verify_range(&root, range.until, proof);
        assert_eq!(elsewhere.unwrap_err(), ProofError::Start(range.until));
        range.until
    }

    /// Range after range, over all there is.
    fn check_all(&self, limit: RangeLimit) {
        let found: Vec<_> = self.view.iter().collect::<Result<_, _>>().unwrap();
        assert_eq!(found, self.pairs);
        let mut ranged = Vec::new();
        let mut from = KeyHash::default();
        while from < KeyHash::MAX {
            let range = self.view.prove_range(from, limit).unwrap();
            let root = self.view.root();
            let verified = verify_range(&root, from, &range.proven.proof).unwrap();
            ranged.extend(verified.items().map(|(key, value)| (key.to_vec(), value.to_vec())));
            from = range.until;
        }
        assert_eq!(ranged, self.pairs);
    }
}

/// Key hashes of interest: keys', just beside them, sentries', borders of shards, and any.
fn hash(rng: &mut SplitMix64, keys: &[Vec<u8>]) -> KeyHash {
    let own = key_hash(&keys[rng.below(keys.len() as u64) as usize]);
    let sentry = KeyHash::sentry(rng.below(1 << 16) as u16);
    let border = KeyHash::sentry((rng.below(16) as u16) << 12);
    let below = |mut hash: KeyHash| {
        let last = hash.0.iter().rposition(|byte| *byte > 0).unwrap_or(0);
        hash.0[last] = hash.0[last].saturating_sub(1);
        hash.0[last + 1..].fill(0xFF);
        hash
    };
    match rng.below(6) {
        0 => own,
        1 => below(own),
        2 => sentry,
        3 => below(sentry),
        4 => border,
        _ => below(border),
    }
}

fn history(seed: u64, options: Options) {
    let _note = SeedNote::new(seed);
    let shape = GenShape { keys: 400, max_value_len: 300, ..GenShape::default() };
    let mut rng = SplitMix64::new(seed);
    let mut blocks = BlockGen::new(seed, shape);
    let params = params(1, 1, 1);
    let mut model = Model::without_history(params.compaction());
    let mut store = Store::create(dir(), params, options).unwrap();
    let mut held = vec![Held::new(&store, &mut model)];
    for _ in 0..40 {
        apply_any(&mut rng, &mut blocks, &mut model, &mut store);
        if rng.below(6) == 0 {
            held.push(Held::new(&store, &mut model));
        }
    }
    held.push(Held::new(&store, &mut model));
    // The bytes of a sentry's key, and keys that nobody ever wrote, beside all others.
    let mut keys = blocks.keys().to_vec();
    keys.extend((0..40_u32).map(|n| format!("never {n}").into_bytes()));
    keys.extend((0..9).map(|n| KeyHash::sentry(n * 0x1234).0.to_vec()));
    let sets = 30 / held.len() + 2;
    for held in &held {
        for _ in 0..sets {
            held.check_many(&mut rng, &keys);
            let limit = RangeLimit {
                entries: [0, 1, 2, 17, 300][rng.below(5) as usize],
                bytes: [0, 900, 5_000, 40_000, usize::MAX][rng.below(5) as usize],
            };
            let mut from = hash(&mut rng, &keys);
            for _ in 0..3 {
                if from < KeyHash::MAX {
                    from = held.check_range(from, limit);
                }
            }
        }
    }
    let limit = RangeLimit { entries: 7_000, bytes: 3 << 20 };
    held[held.len() - 1].check_all(limit);
    held[0].check_all(RangeLimit { entries: usize::MAX, bytes: 2 << 20 });
}

#[test]
fn many_keys_and_ranges_are_proved_at_every_held_height() {
    let _limit = Limit::new();
    for seed in 0..4 {
        history(seed, on(&disk()));
    }
}

#[test]
fn many_keys_and_ranges_are_proved_without_anything_in_memory() {
    let _limit = Limit::new();
    let options = on(&disk()).tail_bytes(0).entry_cache_bytes(0).segment_bytes(20_000);
    history(9, options);
}

/// Keys that the index cannot tell apart, of which some are present.
#[test]
fn keys_of_one_stem_are_proved_apart() {
    let _limit = Limit::new();
    let mut store = Store::create(dir(), params(1, 1, 1), on(&disk())).unwrap();
    let keys: Vec<_> = collisions().into_iter().flat_map(|group| group.keys).collect();
    let mut block = store.next_block().unwrap();
    for key in keys.iter().step_by(2) {
        block.put(key, "value").unwrap();
    }
    block.commit().unwrap();
    let view = store.reader().view();
    let proven = view.prove_many(&keys).unwrap();
    let values = verify_many(&view.root(), &keys, &proven.proof).unwrap();
    for (number, value) in values.iter().enumerate() {
        assert_eq!(value.is_some(), number % 2 == 0, "key {number}");
    }
}

#[test]
fn what_cannot_be_asked_is_refused() {
    let _limit = Limit::new();
    let store = Store::create(dir(), params(1, 1, 1), on(&disk())).unwrap();
    let reader = store.reader();
    let refused = reader.prove_many::<&[u8]>(&[]).unwrap_err();
    assert!(matches!(refused, Error::Refused(Refused::NoKeys)));
    let refused = reader.prove_many(&[&b"key"[..], b""]).unwrap_err();
    assert!(matches!(refused, Error::Refused(Refused::KeyLength(0))));
    let refused = reader.prove_range(KeyHash::MAX, RangeLimit::default()).unwrap_err();
    assert!(matches!(refused, Error::Refused(Refused::BehindLastKey)));
    // The last range there is.
    let last = KeyHash::sentry(0xFFFF);
    let range = reader.prove_range(last, RangeLimit::default()).unwrap();
    assert_eq!(range.until, KeyHash::MAX);
    assert!(verify_range(&range.proven.root, last, &range.proven.proof).unwrap().is_last());
}

/// A proof needs the entries beside the one that it is of. What is wrong with one of them in the log is said, and nothing is
/// proved that does not lead to the root.
#[test]
fn damage_beside_an_entry_is_named_and_nothing_false_is_proved() {
    let _limit = Limit::new();
    let disk = disk();
    let options = on(&disk).tail_bytes(0).entry_cache_bytes(0);
    let mut store = Store::create(dir(), params(1, 1, 1), options).unwrap();
    let mut block = store.next_block().unwrap();
    block.put("some key", "some value").unwrap();
    block.commit().unwrap();
    let view = store.reader().view();
    let logs: Vec<_> = disk.read_dir(&dir().join("log")).unwrap();
    let log = dir().join("log").join(&logs[0]);
    let file = disk.open(&log, OpenMode::ReadWrite).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let keys = ["absent 1", "absent 2", "absent 3"];
    let together = view.prove_many(&keys).unwrap().proof;
    for key in keys {
        let proof = view.prove(key).unwrap().proof;
        let entry = ProofRef::decode(&proof, usize::MAX).unwrap().entries().next().unwrap();
        let entry = entry.entry.hashed_bytes();
        let at = bytes.windows(entry.len()).position(|found| found == entry).unwrap();
        let (mut same, mut damaged) = (0, 0);
        for byte in (at.saturating_sub(1_100)..at + 1_100).step_by(13) {
            file.write_all_at(&[bytes[byte] ^ 0x10], byte as u64).unwrap();
            let proofs = [(view.prove(key), &proof), (view.prove_many(&keys), &together)];
            for (found, good) in proofs {
                match found {
                    Ok(found) => {
                        assert_eq!(found.proof, *good, "byte {byte}");
                        same += 1;
                    }
                    Err(Error::Log(LogError::Corrupt { .. })) => damaged += 1,
                    Err(other) => panic!("byte {byte}: {other}"),
                }
            }
            file.write_all_at(&bytes[byte..=byte], byte as u64).unwrap();
        }
        assert!(same > 0 && damaged > 80, "{same} {damaged}");
        assert_eq!(view.prove(key).unwrap().proof, proof);
    }
}
