//! Blocks come out of files in the order of the chain with the most work, whatever form and order they are in; what is
//! no block is refused with its place.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use bzip2::Compression;
use bzip2::read::BzEncoder;
use hedgerow_coins::bitcoin::consensus::encode::{serialize, serialize_hex};
use hedgerow_coins::bitcoin::constants::genesis_block;
use hedgerow_coins::bitcoin::hashes::Hash;
use hedgerow_coins::bitcoin::hex::DisplayHex;
use hedgerow_coins::bitcoin::p2p::Magic;
use hedgerow_coins::bitcoin::{Block, BlockHash, Network};
use hedgerow_coins::{BlockChain, BlockFileDefect, BlockFileError, BlockFiles, regtest};
use proptest::prelude::*;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn genesis() -> BlockHash {
    genesis_block(Network::Regtest).block_hash()
}

fn blocks(count: usize) -> Vec<Block> {
    regtest::chain().take(count).collect()
}

/// Mines: the first nonce from which on the hash meets the target.
fn mined(mut block: Block) -> Block {
    while !block.header.target().is_met_by(block.block_hash()) {
        block.header.nonce += 1;
    }
    block
}

/// A branch of so many blocks after this one, of other times than the chain's.
fn branch(after: &Block, count: usize) -> Vec<Block> {
    let mut previous = after.block_hash();
    let mut made = Vec::new();
    for number in 0..count {
        let mut block = after.clone();
        block.header.prev_blockhash = previous;
        block.header.time += 1_000 + number as u32;
        let block = mined(block);
        previous = block.block_hash();
        made.push(block);
    }
    made
}

fn record(block: &Block) -> Vec<u8> {
    record_of(Magic::REGTEST, &serialize(block))
}

fn record_of(magic: Magic, block: &[u8]) -> Vec<u8> {
    [&magic.to_bytes()[..], &(block.len() as u32).to_le_bytes(), block].concat()
}

fn hex(blocks: &[Block]) -> Vec<u8> {
    blocks.iter().map(|block| serialize_hex(block) + "\n").collect::<String>().into_bytes()
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    BzEncoder::new(bytes, Compression::fast()).read_to_end(&mut out).unwrap();
    out
}

fn write(dir: &TempDir, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

fn all(chain: BlockChain) -> Vec<Block> {
    chain.collect::<Result<_, _>>().unwrap()
}

fn defect(path: &Path) -> (u64, BlockFileDefect) {
    match BlockFiles::open([path]) {
        Err(BlockFileError::Format { path: found, offset, what, .. }) => {
            assert_eq!(found, path);
            (offset, what)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_form_and_several_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let chain = blocks(20);
    let records: Vec<u8> = chain[..5].iter().rev().flat_map(record).collect();
    let filled = [&records[..], &[0; 5_000]].concat();
    let mut masked: Vec<u8> = chain[5..8].iter().flat_map(record).chain([0; 100]).collect();
    let mask = [1, 2, 3, 4, 0xff, 6, 7, 8];
    for (at, byte) in masked.iter_mut().enumerate() {
        *byte ^= mask[at % 8];
    }
    fs::create_dir(dir.path().join("core")).unwrap();
    write(&dir, "core/xor.dat", mask);
    let text = String::from_utf8(hex(&chain[11..13])).unwrap().replace('\n', "\r\n\n");
    let paths = [
        write(&dir, "hex.bz2", packed(&hex(&chain[15..17]))),
        write(
            &dir,
            "records.bz2",
            packed(&chain[17..19].iter().flat_map(record).collect::<Vec<_>>()),
        ),
        write(&dir, "raw.bz2", packed(&serialize(&chain[19]))),
        write(&dir, "blocks.txt", hex(&chain[13..15])),
        write(&dir, "lines.txt", text),
        write(&dir, "other", serialize(&chain[10])),
        write(&dir, "some.dat", chain[8..10].iter().flat_map(record).collect::<Vec<_>>()),
        write(&dir, "core/blk00017.dat", masked),
        write(&dir, "blk00000.dat", filled),
        // Nothing there yet, as after a crash.
        write(&dir, "blk00001.dat", [0; 1_000]),
    ];
    let files = BlockFiles::open(&paths).unwrap();
    assert_eq!(
        (files.len(), files.network(), files.is_empty()),
        (20, Some(Network::Regtest), false)
    );
    let found = files.chain_after(genesis());
    assert_eq!((found.blocks(), found.stale(), found.others()), (20, 0, 0));
    assert_eq!(all(found), chain);

    // Two members of one packed file, and the same blocks twice.
    let members = [packed(&hex(&chain[..3])), packed(&hex(&chain[2..6]))].concat();
    let path = write(&dir, "members.bz2", members);
    let files = BlockFiles::open([&path, &path]).unwrap();
    assert_eq!(all(files.chain_after(genesis())), chain[..6]);
}

#[test]
fn the_chain_with_the_most_work() {
    let dir = tempfile::tempdir().unwrap();
    let chain = blocks(10);
    // Off the chain after block 6: one block longer, as long, shorter; and one whose predecessor is missing.
    let longer = branch(&chain[5], 5);
    let as_long = branch(&chain[4], 5);
    let missing = branch(&longer[4], 2);
    assert_ne!(longer[0], as_long[0]);
    let genesis_of_all = genesis_block(Network::Regtest);
    let mut of_all = vec![genesis_of_all, missing[1].clone()];
    of_all.extend(as_long.iter().rev().cloned());
    of_all.extend(chain.iter().cloned());
    let path = write(&dir, "some.txt", hex(&of_all));
    let found = BlockFiles::open([&path]).unwrap().chain_after(genesis());
    assert_eq!((found.blocks(), found.stale(), found.others()), (10, 5, 2));
    // Of two with as much work the one that was whole first.
    assert_eq!(all(found), [&chain[..5], &as_long].concat());

    of_all.extend(longer.iter().cloned());
    let path = write(&dir, "all.txt", hex(&of_all));
    let found = BlockFiles::open([&path]).unwrap().chain_after(genesis());
    assert_eq!((found.blocks(), found.stale(), found.others()), (11, 9, 2));
    assert_eq!(all(found), [&chain[..6], &longer].concat());

    // From a block on a branch; from one that is not there; from the last.
    let tip = as_long[2].block_hash();
    let found = BlockFiles::open([&path]).unwrap().chain_after(tip);
    assert_eq!((found.blocks(), found.stale(), found.others()), (2, 0, 20));
    assert_eq!(all(found), as_long[3..]);
    for none in [BlockHash::from_byte_array([1; 32]), longer[4].block_hash()] {
        let found = BlockFiles::open([&path]).unwrap().chain_after(none);
        assert_eq!((found.blocks(), found.others()), (0, 22));
        assert!(all(found).is_empty());
    }
    let none = BlockFiles::open::<&Path>([]).unwrap();
    assert_eq!((none.len(), none.network()), (0, None));
}

/// Two blocks of the difficulty of mainnet's first weigh more than many of regtest's: work counts, not length.
#[test]
fn work_counts_not_length() {
    let dir = tempfile::tempdir().unwrap();
    let chain = blocks(20);
    // Sixteen times as hard: a target with four more zero bits.
    let mut hard = chain[0].clone();
    hard.header.bits = hedgerow_coins::bitcoin::CompactTarget::from_consensus(0x2007_ffff);
    hard.header.time += 5;
    let hard = branch(&hard, 0).pop().unwrap_or_else(|| mined(hard));
    let mut second = hard.clone();
    second.header.prev_blockhash = hard.block_hash();
    let second = mined(second);
    let path =
        write(&dir, "blocks.txt", hex(&[&chain[..], &[second.clone(), hard.clone()]].concat()));
    let found = BlockFiles::open([&path]).unwrap().chain_after(genesis());
    assert_eq!(found.stale(), 20);
    assert_eq!(all(found), [hard, second]);
}

#[test]
fn what_is_no_block_is_refused_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let chain = blocks(3);
    let records: Vec<u8> = chain.iter().flat_map(record).collect();
    let one = record(&chain[0]).len();
    use BlockFileDefect as D;

    let (offset, what) = defect(&write(&dir, "empty", []));
    assert!(offset == 0 && matches!(what, D::Empty), "{what:?}");
    let (_, what) = defect(&write(&dir, "short", [1; 80]));
    assert!(matches!(what, D::Truncated), "{what:?}");
    let (_, what) = defect(&write(&dir, "noise", [7; 500]));
    assert!(matches!(what, D::Work), "{what:?}");
    let (_, what) =
        defect(&write(&dir, "long", [&serialize(&chain[0])[..], &[0; 4_000_000]].concat()));
    assert!(matches!(what, D::Length(4_000_001)), "{what:?}");

    for cut in 1..records.len() {
        let path = write(&dir, "cut.dat", &records[..cut]);
        if cut % one == 0 {
            assert_eq!(BlockFiles::open([&path]).unwrap().len(), cut / one);
        } else if cut < 4 {
            // No magic yet: it may be anything.
            BlockFiles::open([&path]).unwrap_err();
        } else {
            let (offset, what) = defect(&path);
            assert_eq!(offset, (cut - cut % one) as u64);
            assert!(matches!(what, D::Truncated), "{cut}: {what:?}");
        }
    }
    let junk = [&records[..one], &[9; 100]].concat();
    let (offset, what) = defect(&write(&dir, "junk.dat", junk));
    assert!(offset == one as u64 && matches!(what, D::Magic), "{what:?}");
    let (_, what) = defect(&write(&dir, "blk1.dat", serialize(&chain[0])));
    assert!(matches!(what, D::Magic), "{what:?}");
    for len in [80_u32, 4_000_001, u32::MAX] {
        let bytes = [&Magic::REGTEST.to_bytes()[..], &len.to_le_bytes(), &[0; 200]].concat();
        let (_, what) = defect(&write(&dir, "len.dat", bytes));
        assert!(matches!(what, D::Length(found) if found == u64::from(len)), "{what:?}");
    }
    let other = record_of(Magic::BITCOIN, &serialize(&chain[1]));
    let (offset, what) = defect(&write(&dir, "two.dat", [&records[..one], &other].concat()));
    assert!(offset == one as u64 && matches!(what, D::Network), "{what:?}");
    write(&dir, "xor.dat", [1; 7]);
    match BlockFiles::open([&write(&dir, "blk00002.dat", &records)]) {
        Err(BlockFileError::Format { path, what: D::Mask(7), .. }) => {
            assert!(path.ends_with("xor.dat"));
        }
        found => panic!("{found:?}"),
    }

    let text = hex(&chain);
    let line = text.len() / 3;
    for (at, byte) in [(2 * line, b'x'), (2 * line + 9, b' '), (line - 2, b'\n')] {
        let mut bad = text.clone();
        bad[at] = byte;
        // The head must look like hex.
        let (offset, what) = defect(&write(&dir, "bad.txt", bad));
        assert!(matches!(what, D::Hex | D::Length(_)), "{what:?}");
        assert!(offset as usize == at / line * line || offset as usize == at + 1);
    }
    let (_, what) = defect(&write(&dir, "endless.txt", vec![b'0'; 8_000_010]));
    assert!(matches!(what, D::Length(4_000_001)), "{what:?}");

    // Targets that no network has: zero, negative, more than 256 bits.
    for bits in [0, 0x0180_0000, 0x2100_ffff, 0xff7f_ffff] {
        let mut easy = chain[0].clone();
        easy.header.bits = hedgerow_coins::bitcoin::CompactTarget::from_consensus(bits);
        let (_, what) = defect(&write(&dir, "easy", serialize(&easy)));
        assert!(matches!(what, D::Work), "{what:?}");
    }
}

#[test]
fn blocks_are_checked_when_their_turn_comes() {
    let dir = tempfile::tempdir().unwrap();
    let chain = blocks(3);
    let whole: Vec<u8> = chain.iter().flat_map(record).collect();
    let one = record(&chain[0]).len();
    // The second is found by its header. Its last byte is the transaction's lock time: refused by the root. The first after
    // the header is the number of transactions: it does not decode.
    for (at, decodes) in [(2 * one - 1, true), (one + 8 + 80, false)] {
        let mut damaged = whole.clone();
        damaged[at] ^= 2;
        let expected = |what: &BlockFileDefect| match what {
            BlockFileDefect::Transactions => decodes,
            BlockFileDefect::Block(_) => !decodes,
            _ => false,
        };
        let path = write(&dir, "damaged.dat", &damaged);
        let read: Vec<_> = BlockFiles::open([&path]).unwrap().chain_after(genesis()).collect();
        let [Ok(_), Err(BlockFileError::Format { offset, what, .. })] = &read[..] else {
            panic!("{read:?}")
        };
        assert!(*offset as usize == one + 8 && expected(what), "{what:?}");
        // The same, where it was unpacked.
        let path = write(&dir, "damaged.bz2", packed(&damaged));
        let read: Vec<_> = BlockFiles::open([&path]).unwrap().chain_after(genesis()).collect();
        let [Ok(_), Err(BlockFileError::Unpacked { what, .. })] = &read[..] else {
            panic!("{read:?}")
        };
        assert!(expected(what), "{what:?}");
    }

    // A file that changes, shrinks or goes between.
    let path = write(&dir, "changes.dat", &whole);
    let open = || BlockFiles::open([&path]).unwrap().chain_after(genesis());
    let mut changed = open();
    let mut exchanged = whole.clone();
    exchanged.rotate_left(one);
    fs::write(&path, exchanged).unwrap();
    let read = changed.next();
    let changed_since = |what: &BlockFileDefect| matches!(what, BlockFileDefect::Changed);
    assert!(matches!(&read, Some(Err(BlockFileError::Format { what, .. })) if changed_since(what)));
    assert!(changed.next().is_none());
    fs::write(&path, &whole).unwrap();
    let mut shrunk = open();
    fs::write(&path, &whole[..one]).unwrap();
    assert!(matches!(shrunk.next(), Some(Ok(_))));
    assert!(matches!(shrunk.next(), Some(Err(BlockFileError::Io { doing: "reading", .. }))));
    fs::write(&path, &whole).unwrap();
    let mut gone = open();
    fs::remove_file(&path).unwrap();
    assert!(matches!(gone.next(), Some(Err(BlockFileError::Io { doing: "opening", .. }))));
}

#[test]
fn a_packed_file_that_is_damaged_or_endless() {
    let dir = tempfile::tempdir().unwrap();
    let good = packed(&hex(&blocks(3)));
    let mut refused = 0;
    for at in 4..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        let opened = BlockFiles::open([&write(&dir, "bad.bz2", bad)]);
        refused += usize::from(opened.is_err());
        let cut = BlockFiles::open([&write(&dir, "cut.bz2", &good[..at])]);
        assert!(cut.is_err(), "cut at {at}");
    }
    assert!(refused > (good.len() - 4) * 9 / 10, "{refused} of {}", good.len() - 4);

    // A kilobyte that unpacks to more zeros, or empty lines, than any file of blocks has.
    let block = record(&blocks(1)[0]);
    for (start, filling) in [(block, 0), (hex(&blocks(1)), b'\n')] {
        let zeros = std::io::repeat(filling).take((128 << 20) + 10);
        let mut bomb = Vec::new();
        let endless = start.chain(zeros);
        BzEncoder::new(endless, Compression::fast()).read_to_end(&mut bomb).unwrap();
        assert!(bomb.len() < 100_000);
        let (_, what) = defect(&write(&dir, "bomb.bz2", bomb));
        assert!(matches!(what, BlockFileDefect::Filling(_)), "{what:?}");
    }
}

/// A header that has its proof of work, and no other has its hash; on this network that is nothing.
fn cheap(number: u32, len: usize) -> Vec<u8> {
    let mut block = blocks(1).remove(0);
    block.header.merkle_root = Hash::from_byte_array([number as u8; 32]);
    block.header.time = number;
    let mut bytes = serialize(&mined(block).header);
    bytes.resize(len, 0);
    bytes
}

/// Small files that unpack to endless blocks, each with its proof of work: neither the temporary file nor the memory takes
/// more than it may.
#[test]
fn what_files_unpack_to_has_a_limit() {
    let dir = tempfile::tempdir().unwrap();
    let opens = |path: &Path, limit: u64, blocks: usize| {
        assert_eq!(BlockFiles::open_with([path], limit).unwrap().len(), blocks);
        for less in [0, limit / 2, limit - 1] {
            match BlockFiles::open_with([path], less) {
                Err(BlockFileError::Format { what: BlockFileDefect::Unpacks(said), .. }) => {
                    assert_eq!(said, less);
                }
                other => panic!("{less} of {limit}: {other:?}"),
            }
        }
    };
    let long = |number| record_of(Magic::REGTEST, &cheap(number, 4_000_000));
    let zeros: Vec<u8> = (0..10).flat_map(long).collect();
    let bomb = packed(&zeros);
    assert!(bomb.len() < 20_000, "{}", bomb.len());
    opens(&write(&dir, "bomb.bz2", bomb), zeros.len() as u64, 10);
    // Each as short as can be: each counts for the memory that it takes.
    let short: Vec<Vec<u8>> = (0..300).map(|number| cheap(number, 81)).collect();
    let records: Vec<u8> =
        short.iter().flat_map(|block| record_of(Magic::REGTEST, block)).collect();
    opens(&write(&dir, "short.bz2", packed(&records)), 300 * (4096 + 8), 300);
    let lines: Vec<String> = short.iter().map(|block| block.to_lower_hex_string()).collect();
    opens(&write(&dir, "short.hex", lines.join("\n")), 300 * 4096, 300);
    let lines = write(&dir, "lines.bz2", packed(lines.join("\n").as_bytes()));
    opens(&lines, 300 * (4096 + 163 - 81) - 1, 300);
    // What is known already is not kept, and still takes its time.
    let again = [&zeros[..long(0).len()], &zeros[..long(0).len()]].concat();
    opens(&write(&dir, "again.bz2", packed(&again)), again.len() as u64, 1);
    let one = serialize(&blocks(1)[0]);
    opens(&write(&dir, "one.bz2", packed(&one)), 4096, 1);
    // All files together count; what is read where it stands does not.
    let whole = write(&dir, "whole.dat", &records);
    assert_eq!(BlockFiles::open_with([&whole], 0).unwrap().len(), 300);
    let hex = write(&dir, "some.hex", hex(&blocks(3)));
    assert_eq!(BlockFiles::open_with([&whole, &hex, &whole], 3 << 12).unwrap().len(), 303);
    let more = write(&dir, "more.hex", self::hex(&blocks(4)));
    let refused = BlockFiles::open_with([&hex, &more], 4 * 4096 - 1).unwrap_err();
    let BlockFileError::Format { path, offset, .. } = refused else { panic!("{refused}") };
    assert_eq!((path, offset), (more, std::fs::metadata(&hex).unwrap().len()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..Default::default() })]

    /// Blocks in any order, over any number of files of any form.
    #[test]
    fn any_order(
        order in Just((0..30_usize).collect::<Vec<_>>()).prop_shuffle(),
        cuts in prop::collection::vec((1..12_usize, 0..4), 1..8),
        tip in 0..30_usize,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let chain = blocks(30);
        let mut left: Vec<Block> = order.iter().map(|at| chain[*at].clone()).collect();
        let mut paths = Vec::new();
        for (number, (count, form)) in cuts.iter().chain([&(30, 0)]).enumerate() {
            let rest = left.split_off((*count).min(left.len()));
            let part = std::mem::replace(&mut left, rest);
            if part.is_empty() {
                break;
            }
            let records: Vec<u8> = part.iter().flat_map(record).collect();
            let bytes = match form {
                0 => records,
                1 => hex(&part),
                2 => packed(&records),
                _ => packed(&hex(&part)),
            };
            paths.push(write(&dir, &format!("{number}"), bytes));
        }
        let found = BlockFiles::open(&paths).unwrap().chain_after(chain[tip].block_hash());
        prop_assert_eq!((found.blocks(), found.others()), (29 - tip, tip + 1));
        prop_assert_eq!(&all(found)[..], &chain[tip + 1..]);
    }
}
