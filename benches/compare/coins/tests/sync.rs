//! Every engine ends with the set that the blocks say, on the disk.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use hedgerow_coins::{CoinOptions, Flush};
use hedgerow_compare_coins::core_like::CoreOptions;
use hedgerow_compare_coins::engine::Opener;
use hedgerow_compare_coins::rocks::{Tuning, Way};
use hedgerow_compare_coins::sync::{Workload, run};
use hedgerow_compare_coins::{CoreLike, Engine, Failure, Hedgerow, Report};
use std::path::Path;

const WORKLOAD: Workload = Workload { blocks: 60, transactions: 300, seed: 5 };
/// So little that there are several flushes.
const CACHE: usize = 1 << 20;

fn synced(name: &str, open: &Opener<'_>) -> Report {
    let dir = tempfile::tempdir().unwrap();
    run(name, open, dir.path(), WORKLOAD).unwrap()
}

fn ours(flush: Flush, muhash: bool, undo_blocks: u32) -> Report {
    let options = CoinOptions::new()
        .cache_bytes(2 * CACHE as u64)
        .flush(flush)
        .muhash(muhash)
        .undo_blocks(undo_blocks);
    synced("ours", &move |dir| Ok(Box::new(Hedgerow::open(dir, options.clone())?)))
}

fn rocks(way: Way, undo_blocks: u32, every: Option<u32>) -> Report {
    let options = CoreOptions { cache_bytes: CACHE, undo_blocks, every };
    let tuning = Tuning { way, ..Tuning::default() };
    synced("rocks", &move |dir| Ok(Box::new(CoreLike::open(dir, options, tuning)?)))
}

/// `run` compares the set on the disk, and the MuHash that was kept, with the product of the blocks' own account; here engines are
/// compared with each other.
#[test]
fn all_engines_end_with_the_same_set() {
    let reports = [
        ours(Flush::WhenFull, true, 288),
        ours(Flush::WhenFull, false, 0),
        ours(Flush::Every(10), true, 0),
        ours(Flush::Every(20), false, 288),
        rocks(Way::Log, 288, None),
        rocks(Way::Buffer, 0, None),
        rocks(Way::Array, 0, None),
        rocks(Way::Ingest, 288, None),
        rocks(Way::Ingest, 0, Some(20)),
    ];
    let of = |report: &Report| {
        let Report { created, spent, spent_amount, coins, total_amount, .. } = *report;
        (created, spent, spent_amount, coins, total_amount, report.muhash.clone())
    };
    let first = of(&reports[0]);
    assert_eq!(first.0 - first.1, first.3);
    for report in &reports {
        assert_eq!(of(report), first, "{report:?}");
        assert!(report.figures.flushes >= 3, "{report:?}");
        assert!(report.figures.vanished > 0 && report.figures.puts >= report.coins, "{report:?}");
    }
    let counts =
        |report: &Report| (report.figures.puts, report.figures.deletes, report.figures.vanished);
    assert_eq!(counts(&reports[3]), counts(&reports[8]), "the same epochs have the same effect");
}

/// A set that lacks a coin is found out.
#[test]
fn a_wrong_set_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let options = CoreOptions { cache_bytes: CACHE, undo_blocks: 0, every: None };
    let opened = std::cell::Cell::new(0);
    let open = |dir: &Path| -> Result<Box<dyn Engine>, Failure> {
        opened.set(opened.get() + 1);
        if opened.get() == 2 {
            // What was synced has one coin less.
            use hedgerow_compare_coins::Below;
            let mut rocks = hedgerow_compare_coins::RocksCoins::open(
                &dir.join("chainstate"),
                Tuning::default(),
            )?;
            let mut first = None;
            rocks.each(&mut |key, _| {
                first.get_or_insert(*key);
                Ok(())
            })?;
            let key = first.ok_or_else(|| Failure::Wrong("no coin".into()))?;
            rocks.write(WORKLOAD.blocks, &mut [(&key, None)].into_iter())?;
        }
        Ok(Box::new(CoreLike::open(dir, options, Tuning::default())?))
    };
    let failed = run("rocks", &open, dir.path(), WORKLOAD).unwrap_err();
    assert!(failed.to_string().contains("the set on the disk"), "{failed}");
}
