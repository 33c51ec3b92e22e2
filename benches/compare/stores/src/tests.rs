//! Every engine against a model, and what its verifiers refuse.

use crate::{
    ENGINES, Engine, Failure, STORES,
    clock::Quartiles,
    engine::{Answer, Asking, Change, OpenStore, Root, Sizing},
    race::{Plan, Question, Stores},
};
use hedgerow_benches::workload::Random;
use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// The seed that `HEDGEROW_SEED` names, else a new one; printed, so that a failure can be replayed.
fn seed() -> u64 {
    let given = std::env::var("HEDGEROW_SEED").ok().and_then(|seed| seed.parse().ok());
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = given.unwrap_or_else(now);
    println!("HEDGEROW_SEED={seed}");
    seed
}

/// One of a thousand keys.
fn key(random: &mut Random) -> Vec<u8> {
    let mut of_number = Random::new(random.below(1000).unwrap());
    bytes(&mut of_number)
}

fn bytes(random: &mut Random) -> Vec<u8> {
    let mut bytes = vec![];
    random.append_to(&mut bytes, 32);
    bytes
}

/// Puts and deletes of distinct keys, of each at most one.
type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// A block of changes, also in the model.
fn apply(store: &mut dyn OpenStore, model: &mut Model, random: &mut Random) {
    store.apply(&block(&changes(model, random))).unwrap();
}

fn block(changes: &Changes) -> Vec<Change<'_>> {
    changes.iter().map(|(key, value)| Change { key, value: value.as_deref() }).collect()
}

/// Random changes, which are carried out on the model.
fn changes(model: &mut Model, random: &mut Random) -> Changes {
    let mut changes = Changes::new();
    for _ in 0..300 {
        let value = (random.below(4).unwrap() > 0).then(|| bytes(random));
        changes.insert(key(random), value);
    }
    // Engines differ in what they make of a delete of an absent key.
    changes.retain(|key, value| value.is_some() || model.contains_key(key));
    for (key, value) in changes.clone() {
        match value {
            Some(value) => model.insert(key, value),
            None => model.remove(&key),
        };
    }
    changes
}

fn root(store: &dyn OpenStore) -> Root {
    store.root().unwrap().unwrap()
}

fn slices(keys: &[Vec<u8>]) -> Vec<&[u8]> {
    keys.iter().map(Vec::as_slice).collect()
}

/// Gets and proofs of random keys, present and absent, are the model's.
fn compare(engine: &Engine, store: &dyn OpenStore, model: &Model, random: &mut Random) {
    let (proofs, prover, root) = (engine.proofs.unwrap(), store.prover().unwrap(), root(store));
    for asked in [1, 2, 40, 400] {
        // The same key may be asked twice.
        let keys: Vec<_> = (0..asked).map(|_| key(random)).collect();
        let expected: Vec<Answer> = keys.iter().map(|key| model.get(key).cloned()).collect();
        let proof = prover.prove_many(&slices(&keys)).unwrap();
        let answers = (proofs.verify_many)(&root, &slices(&keys), &proof).unwrap();
        assert_eq!(answers, expected, "{engine:?}, {asked} keys");
        for (key, expected) in keys.iter().zip(expected) {
            assert_eq!(store.get(key).unwrap(), expected, "{engine:?}");
            let proof = prover.prove(key).unwrap();
            assert_eq!((proofs.verify)(&root, key, &proof).unwrap(), expected, "{engine:?}");
        }
    }
}

#[test]
fn stores_are_the_model_and_so_are_their_proofs() {
    let seed = seed();
    for engine in ENGINES {
        let (dir, mut random) = (tempfile::tempdir().unwrap(), Random::new(seed));
        let mut model = Model::new();
        let mut store = (engine.open)(dir.path(), Sizing::new(1000)).unwrap();
        for _ in 0..4 {
            let before = root(&*store);
            apply(&mut *store, &mut model, &mut random);
            assert_ne!(root(&*store), before, "{engine:?}");
            compare(&engine, &*store, &model, &mut random);
        }
        if !engine.keeps {
            continue;
        }
        let before = root(&*store);
        drop(store);
        let mut store = (engine.open)(dir.path(), Sizing::new(1000)).unwrap();
        assert_eq!(root(&*store), before, "{engine:?} reopened");
        compare(&engine, &*store, &model, &mut random);
        apply(&mut *store, &mut model, &mut random);
        compare(&engine, &*store, &model, &mut random);
    }
}

/// Asks for all of a list of keys.
struct All<'a> {
    keys: &'a [Vec<u8>],
    answers: Vec<Answer>,
}

impl Asking for All<'_> {
    fn next(&mut self, key: &mut Vec<u8>) -> bool {
        let Some(next) = self.keys.get(self.answers.len()) else { return false };
        key.clone_from(next);
        true
    }

    fn answer(&mut self, value: Option<&[u8]>) -> Result<(), Failure> {
        self.answers.push(value.map(<[u8]>::to_vec));
        Ok(())
    }
}

/// Each of a thousand keys, in either way to read; proofs of some, of absent ones where the engine has such proofs.
fn same_as(engine: &Engine, store: &dyn OpenStore, model: &Model) {
    let keys: Vec<_> = (0..1000).map(|number| bytes(&mut Random::new(number))).collect();
    let expected: Vec<Answer> = keys.iter().map(|key| model.get(key).cloned()).collect();
    let gets: Vec<Answer> = keys.iter().map(|key| store.get(key).unwrap()).collect();
    assert!(gets == expected, "{engine:?}: get");
    let mut all = All { keys: &keys, answers: vec![] };
    store.read_each(&mut all).unwrap();
    assert!(all.answers == expected, "{engine:?}: read_each");

    assert_eq!(engine.proofs.is_some(), store.prover().is_some(), "{engine:?}");
    let (Some(proofs), Some(prover)) = (engine.proofs, store.prover()) else { return };
    let root = root(store);
    for (key, expected) in keys.iter().zip(&expected).step_by(7) {
        if expected.is_none() && !proofs.absence {
            prover.prove(key).unwrap_err();
            continue;
        }
        let proof = prover.prove(key).unwrap();
        assert_eq!(&(proofs.verify)(&root, key, &proof).unwrap(), expected, "{engine:?}");
    }
}

/// Blocks that are waited for, blocks that are handed over one after the other, closing, opening again: always the model,
/// the same one for all engines.
#[test]
fn every_store_has_what_a_map_has_also_when_opened_again() {
    let seed = seed();
    for engine in STORES {
        let (dir, mut random) = (tempfile::tempdir().unwrap(), Random::new(seed));
        let mut model = Model::new();
        let sizing = Sizing::new(1000).with_updates(5000);
        let open = || (engine.open)(dir.path(), sizing).unwrap();
        let mut store = open();
        for _ in 0..3 {
            apply(&mut *store, &mut model, &mut random);
            same_as(engine, &*store, &model);
        }
        let mut pending = vec![];
        for _ in 0..6 {
            let changes = changes(&mut model, &mut random);
            pending.extend(store.submit(&block(&changes)).unwrap());
        }
        for wait in pending {
            wait().unwrap();
        }
        same_as(engine, &*store, &model);
        let before = store.root().unwrap();
        store.close().unwrap();

        let store = open();
        assert_eq!(store.root().unwrap(), before, "{engine:?} opened again");
        same_as(engine, &*store, &model);
        // Not closed, but all is durable.
        drop(store);
        let mut store = open();
        assert_eq!(store.root().unwrap(), before, "{engine:?} opened once more");
        apply(&mut *store, &mut model, &mut random);
        same_as(engine, &*store, &model);
    }
}

#[test]
fn proofs_of_stores_are_refused_for_other_roots_and_values() {
    let seed = seed();
    for engine in STORES {
        let Some(proofs) = engine.proofs else { continue };
        let (dir, mut random) = (tempfile::tempdir().unwrap(), Random::new(seed));
        let mut model = Model::new();
        let mut store = (engine.open)(dir.path(), Sizing::new(1000)).unwrap();
        apply(&mut *store, &mut model, &mut random);
        let (key, value) = model.first_key_value().unwrap();
        let (root, proof) = (root(&*store), store.prover().unwrap().prove(key).unwrap());
        assert_eq!((proofs.verify)(&root, key, &proof).unwrap().as_ref(), Some(value));
        let mut other = root;
        other[0] ^= 1;
        let stranger = model.last_key_value().unwrap().0;
        (proofs.verify)(&other, key, &proof).unwrap_err();
        (proofs.verify)(&root, stranger, &proof).unwrap_err();
        let found = places(&proof, value);
        assert!(!found.is_empty(), "{engine:?}: the value is in the proof");
        for at in found {
            let mut wrong = proof.clone();
            wrong[at] ^= 1;
            (proofs.verify)(&root, key, &wrong).unwrap_err();
        }
        (proofs.verify)(&root, key, &proof[..proof.len() - 1]).unwrap_err();
        (proofs.verify)(&root, key, &[&proof[..], &[0]].concat()).unwrap_err();
    }
}

/// The places where `part` is in `whole`.
fn places(whole: &[u8], part: &[u8]) -> Vec<usize> {
    (0..whole.len()).filter(|&at| whole[at..].starts_with(part)).collect()
}

#[test]
fn a_wrong_value_root_or_key_is_refused() {
    let seed = seed();
    for engine in ENGINES {
        let (dir, mut random) = (tempfile::tempdir().unwrap(), Random::new(seed));
        let (proofs, mut model) = (engine.proofs.unwrap(), Model::new());
        let mut store = (engine.open)(dir.path(), Sizing::new(1000)).unwrap();
        apply(&mut *store, &mut model, &mut random);
        let (prover, root) = (store.prover().unwrap(), root(&*store));
        let keys: Vec<_> = model.keys().take(10).cloned().collect();
        let (keys, first) = (slices(&keys), &keys[0]);
        let (single, many) = (prover.prove(first).unwrap(), prover.prove_many(&keys).unwrap());
        let refused = |case: &str, result: Result<Vec<Answer>, Failure>| {
            assert!(
                matches!(result, Err(Failure::Refused { .. })),
                "{engine:?}: {case}: {result:?}"
            );
        };
        let verify = |root: &Root, key: &[u8], proof: &[u8]| {
            (proofs.verify)(root, key, proof).map(|answer| vec![answer])
        };

        for value in keys.iter().map(|key| &model[*key]) {
            let found = places(&many, value);
            assert!(!found.is_empty(), "{engine:?}: values are in the proof");
            for at in found {
                let mut wrong = many.clone();
                wrong[at] ^= 1;
                refused("a wrong value among many", (proofs.verify_many)(&root, &keys, &wrong));
            }
        }
        for at in places(&single, &model[first]) {
            let mut wrong = single.clone();
            wrong[at] ^= 1;
            refused("a wrong value", verify(&root, first, &wrong));
        }
        let mut other = root;
        other[31] ^= 1;
        refused("another root", verify(&other, first, &single));
        refused("another root of many", (proofs.verify_many)(&other, &keys, &many));
        let stranger = model.keys().next_back().unwrap().as_slice();
        refused("another key", verify(&root, stranger, &single));
        let mut asked = keys.clone();
        asked[3] = stranger;
        refused("another key among many", (proofs.verify_many)(&root, &asked, &many));
        asked = keys.clone();
        asked.push(stranger);
        refused("one key more", (proofs.verify_many)(&root, &asked, &many));
        for len in [0, 1, many.len() / 2, many.len() - 1] {
            refused("cut short", (proofs.verify_many)(&root, &keys, &many[..len]));
        }
        for (case, len) in [("a byte more", 1), ("many bytes more", 100)] {
            refused(case, (proofs.verify_many)(&root, &keys, &[&many[..], &vec![0; len]].concat()));
            refused(case, verify(&root, first, &[&single[..], &vec![0; len]].concat()));
        }
    }
}

/// The proof of many keys of commonware is put together here, and so is what verifies it.
#[test]
fn no_byte_of_our_own_composition_can_be_changed() {
    let seed = seed();
    let engine = crate::commonware::current::ENGINE;
    let (dir, mut random) = (tempfile::tempdir().unwrap(), Random::new(seed));
    let (proofs, mut model) = (engine.proofs.unwrap(), Model::new());
    let mut store = (engine.open)(dir.path(), Sizing::new(1000)).unwrap();
    for _ in 0..3 {
        apply(&mut *store, &mut model, &mut random);
    }
    let root = root(&*store);
    let keys: Vec<_> = (0..5).map(|_| key(&mut random)).collect();
    let keys = slices(&keys);
    let proof = store.prover().unwrap().prove_many(&keys).unwrap();
    let expected = (proofs.verify_many)(&root, &keys, &proof).unwrap();
    let mut accepted = 0;
    for at in 0..proof.len() {
        for bit in 0..8 {
            let mut changed = proof.clone();
            changed[at] ^= 1 << bit;
            if let Ok(answers) = (proofs.verify_many)(&root, &keys, &changed) {
                assert_eq!(answers, expected, "byte {at}, bit {bit}");
                accepted += 1;
            }
        }
    }
    assert_eq!(accepted, 0, "of {} changes", proof.len() * 8);
}

fn plan() -> Plan {
    Plan { keys: 500, block: 200, asked: vec![1, 20], repetitions: 2, seed: 3 }
}

#[test]
fn a_race_has_a_row_for_each_engine() {
    let dir = tempfile::tempdir().unwrap();
    let stores = Stores::fill(&ENGINES, dir.path(), plan()).unwrap();
    for (asked, question) in
        [(1, Question::Present), (20, Question::Present), (20, Question::HalfAbsent)]
    {
        let rows = stores.measure(asked, question).unwrap();
        assert!(rows.iter().map(|row| row.engine).eq(ENGINES.iter().map(|engine| engine.name)));
        for row in &rows {
            let present = if question == Question::Present { asked } else { asked / 2 };
            assert_eq!((row.repetitions, row.value_bytes), (2, present * 32));
            let [many, single] = [row.many, row.single].map(|side| side.bytes.quartiles.mid);
            assert!(many > row.value_bytes as f64 && (asked == 1 || many < single), "{row:?}");
        }
        assert!((rows[0].many.bytes.ratio, rows[0].single.verify_cpu.ratio) == (1.0, 1.0));
    }
    // The sizes depend on the seed alone.
    let sizes = |rows: Vec<crate::race::Row>| -> Vec<Quartiles> {
        rows.iter().map(|row| row.many.bytes.quartiles).collect()
    };
    let [first, again] = [(); 2].map(|()| sizes(stores.measure(20, Question::Present).unwrap()));
    assert_eq!(first, again);
}

#[test]
fn a_wrong_answer_ends_the_race() {
    let mut wrong = ENGINES[0];
    let proofs = wrong.proofs.as_mut().unwrap();
    proofs.verify_many = |_, keys, _| Ok(vec![Some(vec![0; 32]); keys.len()]);
    let dir = tempfile::tempdir().unwrap();
    let stores = Stores::fill(&[wrong], dir.path(), plan()).unwrap();
    let failure = stores.measure(20, Question::Present).unwrap_err();
    assert_eq!(failure.to_string(), "hedgerow: WRONG ANSWER, 20 keys asked");
}

#[test]
fn a_plan_that_asks_for_more_than_half_of_the_keys_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for asked in [0, 251] {
        let plan = Plan { asked: vec![asked], ..plan() };
        assert!(matches!(Stores::fill(&ENGINES, dir.path(), plan), Err(Failure::Plan(_))));
    }
}
