//! The model reproduces the recordings: every clean root, serial number and oldest-active serial
//! number of every block.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use hedgerow_testkit::vectors::{self, ProofKind, RecordedSet};
use hedgerow_testkit::{Model, naive};

/// Runs a recorded set through the model.
fn reproduce(set: &RecordedSet) -> Model {
    let mut model = Model::without_history(set.rule);
    let mut rows = set.blocks();
    assert_eq!(model.row(), rows.next().unwrap(), "genesis");
    let mut ops = set.ops();
    for row in rows {
        let block = ops.next().unwrap();
        model.apply(&block);
        assert_eq!(model.row(), row, "{} {} height {}", set.stream, set.params, row.h);
    }
    assert_eq!(model.height(), set.last_height);
    assert!(ops.next().is_none());
    model
}

/// The proofs recorded at the end of a set are the model's.
fn compare_proofs(set: &RecordedSet, model: &mut Model) {
    let roots = model.roots();
    for vector in set.proofs() {
        let (shard, sn) = (vector.shard, vector.sn);
        match &vector.kind {
            ProofKind::Inclusion { key } => {
                assert_eq!(model.covering(key), (shard, sn));
                assert!(model.get(key).is_some());
            }
            ProofKind::Exclusion { absent_key } => {
                assert_eq!(model.covering(absent_key), (shard, sn));
                assert_eq!(model.get(absent_key), None);
            }
            ProofKind::Inactive => assert!(!model.is_active(shard, sn)),
            ProofKind::BySerialNumber => {}
        }
        assert_eq!(model.is_active(shard, sn), vector.active);
        let leaf = model.leaves(shard).get(sn.0 as usize).copied();
        assert_eq!(leaf.unwrap_or_else(naive::null_leaf), vector.leaf);
        assert_eq!(roots[shard.index()], vector.shard_root);
        let path = model.path(shard, sn);
        assert_eq!(path.to_bytes(&vector.leaf, &vector.shard_root), vector.proof);
        if let (Some(bytes), true) = (vector.entry_hashed_bytes(), vector.active) {
            assert_eq!(model.entry(shard, sn).hashed_bytes(), bytes);
        }
    }
}

/// One recorded set from genesis to its last block.
fn whole(stream: &str, params: &str) {
    let set = vectors::set(stream, params);
    let mut model = reproduce(&set);
    compare_proofs(&set, &mut model);
}

#[test]
fn mixed_default() {
    whole("mixed", "default");
}

#[test]
fn mixed_t1_7_10() {
    whole("mixed", "t1_7_10");
}

#[test]
fn mixed_t1_1_1() {
    whole("mixed", "t1_1_1");
}

#[test]
fn mixed_t4300_3_4() {
    whole("mixed", "t4300_3_4");
}

#[test]
fn bigval_default() {
    whole("bigval", "default");
}

#[test]
fn bigval_t1_1_1() {
    whole("bigval", "t1_1_1");
}

#[test]
#[ignore = "others of its stream always run; .ci/run runs this one too"]
fn prune_t1_7_10() {
    whole("prune", "t1_7_10");
}

#[test]
fn prune_t1_1_1() {
    whole("prune", "t1_1_1");
}

#[test]
#[ignore = "others of its stream always run; .ci/run runs this one too"]
fn big_default() {
    whole("big", "default");
}

#[test]
#[ignore = "others of its stream always run; .ci/run runs this one too"]
fn big_t1_7_10() {
    whole("big", "t1_7_10");
}

#[test]
fn big_t6000_1_2() {
    whole("big", "t6000_1_2");
}
