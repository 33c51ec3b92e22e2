//! Generated blocks are what they claim to be, and the model keeps its own promises on them.

use hedgerow_testkit::generate::{BlockGen, GenShape, SeedNote, adversarial_keys, collisions};
use hedgerow_testkit::model::{Counts, key_hash};
use hedgerow_testkit::naive::{self, ShardTree};
use hedgerow_testkit::{Model, Op, OpKind};
use hedgerow_types::{CompactionRule, Digest, KeyHash, SerialNumber, ShardId};
use std::collections::{BTreeMap, BTreeSet};

const EAGER: CompactionRule = match CompactionRule::new(1, 1, 1) {
    Ok(rule) => rule,
    Err(_) => panic!("a legal rule"),
};
const HALF: CompactionRule = match CompactionRule::new(4100, 1, 2) {
    Ok(rule) => rule,
    Err(_) => panic!("a legal rule"),
};

/// The list, the bits and the roots of a model that kept its history, from its entries alone.
fn check(model: &mut Model) {
    let mut roots = [Digest::ZERO; 16];
    for shard in ShardId::all() {
        let mut tree = ShardTree::default();
        let mut alive = BTreeMap::new();
        for sn in (0..model.next_sn(shard).0).map(SerialNumber) {
            let entry = model.entry(shard, sn);
            assert_eq!(entry.serial_number(), sn);
            let deactivated: Vec<_> = entry.deactivated().collect();
            tree.append(naive::sha256(entry.hashed_bytes()), &deactivated);
        }
        for sn in (0..model.next_sn(shard).0).map(SerialNumber) {
            assert_eq!(tree.active[sn.0 as usize], model.is_active(shard, sn));
            if model.is_active(shard, sn) {
                let entry = model.entry(shard, sn);
                let kh = entry.sentry_key_hash().unwrap_or_else(|| key_hash(entry.key()));
                assert_eq!(kh.shard(), shard);
                assert!(sn >= model.oldest_active_sn(shard));
                assert!(alive.insert(kh, (sn, entry.next_key_hash())).is_none());
            }
        }
        let list: Vec<_> = alive.iter().map(|(kh, (sn, _))| (*kh, *sn)).collect();
        assert!(model.active_entries(shard).eq(list.iter().copied()));
        let followers = alive.keys().skip(1).copied().chain([KeyHash::end_of(shard)]);
        assert!(alive.values().map(|(_, next)| *next).eq(followers), "shard {shard}");
        roots[shard.index()] = tree.root();
    }
    assert_eq!(model.roots(), roots);
    assert_eq!(model.state_root(), naive::state_root(&roots));
}

#[test]
fn the_model_keeps_its_list_and_its_cached_roots() {
    for (seed, rule) in [(1, CompactionRule::QMDB), (2, EAGER), (3, HALF)] {
        let _note = SeedNote::new(seed);
        let mut blocks = BlockGen::new(seed, GenShape::default());
        let mut model = Model::new(rule);
        let mut short = Model::without_history(rule);
        for round in 0..20 {
            if round % 2 == 0 {
                let block = blocks.strict();
                assert_eq!(model.apply(&block), short.apply(&block));
            } else {
                let (height, change_sets) = blocks.net();
                let counts = model.apply_net(height, &change_sets);
                assert_eq!(counts, short.apply_net(height, &change_sets));
            }
            assert_eq!(model.row(), short.row());
        }
        check(&mut model);
    }
}

#[test]
fn values_are_those_of_a_map() {
    let seed = 4;
    let _note = SeedNote::new(seed);
    let mut blocks = BlockGen::new(seed, GenShape::default());
    let mut model = Model::without_history(HALF);
    let mut map = BTreeMap::new();
    let mut totals = Counts::default();
    for _ in 0..200 {
        let (height, change_sets) = blocks.net();
        let before = map.len() as u64;
        let counts = model.apply_net(height, &change_sets);
        for (key, value) in change_sets.into_iter().flatten() {
            match value {
                Some(value) => map.insert((key_hash(&key), key), value),
                None => map.remove(&(key_hash(&key), key)),
            };
        }
        assert_eq!(before + counts.created - counts.deleted, map.len() as u64);
        assert_eq!(model.len(), map.len() as u64);
        totals.absent_deletes += counts.absent_deletes;
        totals.updated += counts.updated;
    }
    assert!(totals.absent_deletes > 0 && totals.updated > 0);
    let expected = map.iter().map(|((_, key), value)| (&key[..], &value[..]));
    assert!(model.iter().eq(expected));
    for key in blocks.keys() {
        let expected = map.get(&(key_hash(key), key.clone())).map(|value| &value[..]);
        assert_eq!(model.get(key), expected);
    }
}

#[test]
fn strict_and_net_agree_where_they_say_the_same() {
    let mut strict = Model::new(EAGER);
    let mut net = Model::new(EAGER);
    let sets = [
        (
            vec![Op::create("a", "1"), Op::create("b", "2")],
            vec![("b", Some("2")), ("a", Some("1"))],
        ),
        (vec![], vec![("c", None), ("d", Some("x")), ("d", None)]),
        (
            vec![Op::update("a", "1"), Op::delete("b")],
            vec![("a", Some("2")), ("b", None), ("a", Some("1"))],
        ),
    ];
    let strict_task: Vec<_> = sets.iter().map(|(ops, _)| ops.clone()).collect();
    let bytes = |text: &str| text.as_bytes().to_vec();
    let net_sets: Vec<_> = sets
        .iter()
        .map(|(_, words)| words.iter().map(|(k, v)| (bytes(k), v.map(bytes))).collect())
        .collect();
    strict.apply_strict(1, &[strict_task]);
    let counts = net.apply_net(1, &net_sets);
    assert_eq!(counts, Counts { created: 2, updated: 1, deleted: 1, absent_deletes: 2 });
    assert_eq!(strict.row(), net.row());
}

#[test]
fn invalid_ops_panic() {
    let blocks = [
        vec![Op::update("a", "1")],
        vec![Op::delete("a")],
        vec![Op::create("a", "1"), Op::create("a", "2")],
        vec![Op::create("a", "1"), Op::update("a", "2")],
        vec![Op::create("", "1")],
        vec![Op::create(vec![0; 256], "1")],
        vec![Op::create(vec![0; 32], "")],
    ];
    for ops in blocks {
        let result = std::panic::catch_unwind(|| {
            Model::new(EAGER).apply_strict(1, &[vec![ops.clone()]]);
        });
        assert!(result.is_err(), "{ops:?}");
    }
}

#[test]
fn the_generator_reaches_every_kind_of_op_and_repeats_itself() {
    let mut kinds = BTreeSet::new();
    let mut repeated = false;
    let blocks = |seed| {
        let mut blocks = BlockGen::new(seed, GenShape::default());
        (0..50).map(|_| blocks.strict()).collect::<Vec<_>>()
    };
    for set in blocks(5).iter().flat_map(|block| block.change_sets()) {
        kinds.extend(set.iter().map(|op| op.kind));
        let keys: BTreeSet<_> = set.iter().map(|op| &op.key).collect();
        repeated |= keys.len() < set.len();
    }
    let all = [OpKind::Read, OpKind::Update, OpKind::Create, OpKind::Delete];
    assert!(repeated && kinds.into_iter().eq(all));
    assert_eq!(blocks(5), blocks(5));
    assert_ne!(blocks(5), blocks(6));
}

#[test]
fn the_special_keys_are_special() {
    for group in collisions() {
        let prefixes: BTreeSet<_> =
            group.keys.iter().map(|key| key_hash(key).0[..group.bytes].to_vec()).collect();
        assert_eq!(prefixes.len(), 1, "{group:?}");
        assert!(group.keys.len() >= 2);
    }
    let keys = adversarial_keys();
    assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len());
    assert!(keys.iter().all(|key| (1..=255).contains(&key.len())));
    let after = |kh: &KeyHash| kh.0[2..5] == [0; 3];
    let before = |kh: &KeyHash| kh.0[2..5] == [0xFF; 3];
    let hashes: Vec<_> = keys.iter().map(|key| key_hash(key)).collect();
    assert!(hashes.iter().any(after) && hashes.iter().any(before));
    assert!(
        hashes.iter().any(|kh| kh.0[..3] == [0; 3])
            && hashes.iter().any(|kh| kh.0[..3] == [0xFF; 3])
    );
}
