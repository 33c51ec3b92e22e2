//! Records above the log are read as those in it, by every way, and stay where they are when the log takes them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is the failure report")]

mod common;

use common::{Model, Shape, assert_same, disk_only, mem, shape};
use hedgerow_entryfile::{EntryLog, Fill, LogError, LogView, Record, RunCursor};
use hedgerow_types::{LogPosition, ShardId};
use proptest::prelude::*;
use std::sync::Arc;

/// All entries of the model, by every way of reading a view.
fn check(model: &Model, log: &EntryLog, above: &[Arc<Record>]) {
    let view = LogView::above(log, above);
    for e in &model.entries {
        assert_same(e, &view.read(e.at).unwrap());
        view.show(e.at, |entry| assert_eq!(entry.hashed_bytes(), e.hashed)).unwrap();
    }
    let positions: Vec<LogPosition> = model.entries.iter().rev().map(|e| e.at).collect();
    let read = view.read_many(&positions).unwrap();
    for (e, entry) in model.entries.iter().rev().zip(&read) {
        assert_same(e, entry);
    }
    let mut seen = vec![0; positions.len()];
    view.visit_many(&positions, Fill::Nothing, |slot, entry| {
        assert_eq!(entry.hashed_bytes(), model.entries[positions.len() - 1 - slot].hashed);
        seen[slot] += 1;
    })
    .unwrap();
    assert!(seen.iter().all(|&times| times == 1));
    for shard in ShardId::all() {
        let expected = model.shard(shard);
        let Some(first) = expected.first() else { continue };
        let mut cursor = RunCursor::new(shard, first.record, first.at);
        for e in &expected {
            let (at, entry) = cursor.next(view).unwrap().unwrap();
            assert_eq!(at, e.at);
            assert_same(e, &entry);
        }
        assert!(cursor.next(view).unwrap().is_none());
    }
}

fn shapes() -> impl Strategy<Value = Vec<Shape>> {
    let one = (0..16_usize, 0..600_usize).prop_map(|(shard, len)| shape(shard, len));
    proptest::collection::vec(one, 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn records_above_the_log_are_read_as_those_in_it(
        in_log in proptest::collection::vec(shapes(), 1..6),
        above in proptest::collection::vec(shapes(), 0..8),
        segment_size in prop_oneof![Just(200_u64), Just(3_000), Just(1 << 20)],
        announced in 0..8_usize,
    ) {
        let (vfs, dir) = mem();
        let log = EntryLog::create(vfs, &dir, common::ID, disk_only(segment_size)).unwrap();
        let mut model = Model::default();
        for shapes in &in_log {
            model.commit(&log, shapes);
        }
        let mut records: Vec<Arc<Record>> = Vec::new();
        for shapes in &above {
            let position = LogView::above(&log, &records).next_position();
            records.push(model.record(position, shapes));
        }
        check(&model, &log, &records);
        let end = model.records.last().unwrap().end();
        prop_assert!(LogView::above(&log, &records).read(end).is_err());
        // The log takes some of them, where they are.
        for record in records.iter().take(announced) {
            assert_eq!(log.next_position(), record.position());
            log.announce_placed(Arc::clone(record)).unwrap();
            check(&model, &log, &records);
            log.append(record).unwrap();
            check(&model, &log, &records);
        }
        let rest = records.get(announced..).unwrap_or_default();
        check(&model, &log, rest);
    }
}

/// A record whose place was found when segments were longer, or shorter, is taken where it is; no other place is.
#[test]
fn a_record_is_taken_where_its_place_was_found() {
    let (vfs, dir) = mem();
    let log = EntryLog::create(vfs, &dir, common::ID, disk_only(4_000)).unwrap();
    let mut model = Model::default();
    let first = model.commit(&log, &[shape(0, 300)]);
    assert_eq!(log.next_position(), first.end());
    // As if a segment had ended there.
    let early = model.record(first.end().plus(64), &[shape(1, 3_000)]);
    assert!(matches!(log.announce(Arc::clone(&early)), Err(LogError::OutOfOrder { .. })));
    log.announce_placed(Arc::clone(&early)).unwrap();
    log.append(&early).unwrap();
    let second = model.commit(&log, &[shape(2, 3_000)]);
    assert_eq!(log.next_position(), second.end().plus(64), "after a new header");
    // As if the segment went on.
    let late = model.record(second.end(), &[shape(3, 10)]);
    assert!(matches!(log.announce(Arc::clone(&late)), Err(LogError::OutOfOrder { .. })));
    log.announce_placed(Arc::clone(&late)).unwrap();
    log.append(&late).unwrap();
    log.sync().unwrap();
    model.check(&log);
    for wrong in [8, 56, 72, 128] {
        let record = model.clone().record(late.end().plus(wrong), &[shape(4, 1)]);
        let refused = log.announce_placed(record);
        assert!(matches!(refused, Err(LogError::OutOfOrder { .. })), "{wrong}");
    }
}
