//! Snapshots come back; what is none is refused, however it is damaged; memory follows what is there, not what is said.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{Coins, hash_of, sets, snapshot_of};
use hedgerow_coins::bitcoin::hashes::Hash;
use hedgerow_coins::bitcoin::p2p::Magic;
use hedgerow_coins::bitcoin::{Amount, BlockHash, OutPoint, ScriptBuf, Txid};
use hedgerow_coins::{
    Coin, FormatError, MAX_OUTPUTS, SNAPSHOT_HEADER_LEN, SnapshotDefect, SnapshotError,
    SnapshotHeader, SnapshotReader, SnapshotWriter,
};
use proptest::prelude::*;
use std::io::{self, Read, Write};

fn header(coins: u64) -> SnapshotHeader {
    SnapshotHeader { network: Magic::REGTEST, block: BlockHash::from_byte_array([3; 32]), coins }
}

fn read(bytes: &[u8]) -> Result<Coins, SnapshotError> {
    SnapshotReader::new(bytes)?.collect()
}

fn defect(bytes: &[u8]) -> SnapshotDefect {
    match read(bytes) {
        Err(SnapshotError::Format { offset, what }) => {
            assert!(offset <= bytes.len() as u64);
            what
        }
        other => panic!("{other:?}"),
    }
}

fn outpoint(txid: u8, vout: u32) -> OutPoint {
    OutPoint { txid: Txid::from_byte_array([txid; 32]), vout }
}

fn coin(len: usize) -> Coin {
    let script = ScriptBuf::from_bytes(vec![0x51; len]);
    Coin::new(9, false, Amount::from_sat(1), script).unwrap()
}

/// A file with these bytes behind the header.
fn file(coins: u64, rest: &[&[u8]]) -> Vec<u8> {
    [&header(coins).encode()[..], &rest.concat()].concat()
}

/// The coin of height 9 with one satoshi and an empty script.
const COIN: [u8; 3] = [18, 1, 6];

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn sets_come_back(set in sets()) {
        let head = header(set.len() as u64);
        let bytes = snapshot_of(&set, head);
        let reader = SnapshotReader::new(&bytes[..]).unwrap();
        prop_assert_eq!(reader.header(), head);
        let coins: Vec<(OutPoint, Coin)> = reader.collect::<Result<_, _>>().unwrap();
        // By number, also where they stand otherwise.
        prop_assert!(coins.iter().map(|(outpoint, _)| outpoint).eq(set.keys()));
        prop_assert_eq!(coins.into_iter().collect::<Coins>(), set);
    }

    /// One byte changed, cut, or put behind: refused, or the snapshot of another set, byte for byte (but for the order of
    /// outputs from 16,512 on, of which two are read).
    #[test]
    fn damage_is_refused_or_another_snapshot(
        set in sets(),
        at: prop::sample::Index,
        xor in 1_u8..,
        kind in 0..8,
    ) {
        let mut bytes = snapshot_of(&set, header(set.len() as u64));
        let at = at.index(bytes.len());
        match kind {
            0 => bytes.truncate(at),
            1 => bytes.push(xor),
            _ => bytes[at] ^= xor,
        }
        if let Ok(other) = read(&bytes) {
            prop_assert!(kind > 1);
            let head = SnapshotReader::new(&bytes[..]).unwrap().header();
            prop_assert_eq!(head.coins, other.len() as u64);
            if other.keys().all(|outpoint| outpoint.vout < 16_512) {
                prop_assert_eq!(snapshot_of(&other, head), bytes);
            }
            // Only a change of the header leaves the set as it is.
            prop_assert_eq!(hash_of(&other) == hash_of(&set), at < SNAPSHOT_HEADER_LEN);
        }
    }
}

#[test]
fn each_bound_is_checked() {
    let (one, two) = ([1; 32], [2; 32]);
    let good = file(2, &[&one, &[1, 5], &COIN, &two, &[1, 5], &COIN]);
    assert_eq!(read(&good).unwrap().len(), 2);
    assert!(read(&file(0, &[])).unwrap().is_empty());

    // Transactions ascend, each once.
    let descending = file(2, &[&two, &[1, 5], &COIN, &one, &[1, 5], &COIN]);
    assert_eq!(defect(&descending), SnapshotDefect::Order(Txid::from_byte_array(one)));
    let twice = file(2, &[&one, &[1, 5], &COIN, &one, &[1, 6], &COIN]);
    assert_eq!(defect(&twice), SnapshotDefect::Order(Txid::from_byte_array(one)));
    // Outputs ascend, each once.
    for outputs in [[5, 5], [5, 4]] {
        let bytes = file(2, &[&one, &[2, outputs[0]], &COIN, &[outputs[1]], &COIN]);
        assert_eq!(defect(&bytes), SnapshotDefect::Output(outputs[1].into()));
    }
    // How many coins a transaction has.
    assert_eq!(defect(&file(1, &[&one, &[0]])), SnapshotDefect::Coins { count: 0, left: 1 });
    let more = file(1, &[&one, &[2, 5], &COIN, &[6], &COIN]);
    assert_eq!(defect(&more), SnapshotDefect::Coins { count: 2, left: 1 });
    let many = file(u64::MAX, &[&one, &[0xff; 9]]);
    assert_eq!(defect(&many), SnapshotDefect::Coins { count: u64::MAX, left: u64::MAX });
    // No block has as many outputs.
    let beyond = [&[0xfe][..], &MAX_OUTPUTS.to_le_bytes()].concat();
    let bytes = file(1, &[&one, &[1], &beyond, &COIN]);
    assert_eq!(defect(&bytes), SnapshotDefect::Output(MAX_OUTPUTS.into()));
    let last = [&[0xfe][..], &(MAX_OUTPUTS - 1).to_le_bytes()].concat();
    assert_eq!(read(&file(1, &[&one, &[1], &last, &COIN])).unwrap().len(), 1);
    // Fewer and more coins than the header says.
    let fewer = file(3, &[&good[SNAPSHOT_HEADER_LEN..]]);
    assert_eq!(defect(&fewer), SnapshotDefect::Coin(FormatError::Truncated));
    assert_eq!(defect(&file(1, &[&good[SNAPSHOT_HEADER_LEN..]])), SnapshotDefect::Trailing);
    // Numbers have one form.
    let long = file(1, &[&one, &[1, 0xfd, 5, 0], &COIN]);
    assert_eq!(defect(&long), SnapshotDefect::Coin(FormatError::CompactSize));
    // Coins of the future.
    let reader = SnapshotReader::new(&good[..]).unwrap().up_to(8);
    let errors: Vec<_> = reader.collect();
    let [Err(SnapshotError::Format { what: SnapshotDefect::Height(9), .. })] = &errors[..] else {
        panic!("{errors:?}")
    };
    assert_eq!(SnapshotReader::new(&good[..]).unwrap().up_to(9).count(), 2);
    // Other files.
    for at in 0..5 {
        let mut other = good.clone();
        other[at] ^= 0x20;
        assert_eq!(defect(&other), SnapshotDefect::Magic);
    }
    let mut newer = good.clone();
    newer[5] = 3;
    assert_eq!(defect(&newer), SnapshotDefect::Version(3));
    for cut in 0..good.len() {
        assert!(read(&good[..cut]).is_err());
    }
}

/// The order of Core's database is read, that of numbers too, no other; coins come by number.
#[test]
fn outputs_in_the_order_of_cores_database() {
    let outputs = [(255, &[0xfd, 255, 0][..]), (256, &[0xfd, 0, 1]), (16_512, &[0xfd, 0x80, 0x40])];
    for (order, good) in [
        ([0, 1, 2], true),
        ([0, 2, 1], true),
        ([2, 0, 1], false),
        ([1, 0, 2], false),
        ([0, 2, 2], false),
    ] {
        let parts = order.map(|at| [outputs[at].1, &COIN].concat());
        let bytes = file(3, &[&[1; 32], &[3], &parts.concat()]);
        let read: Result<Vec<_>, _> = SnapshotReader::new(&bytes[..]).unwrap().collect();
        assert_eq!(read.is_ok(), good, "{order:?}");
        if let Ok(read) = read {
            let numbers: Vec<u32> = read.iter().map(|(outpoint, _)| outpoint.vout).collect();
            assert_eq!(numbers, [255, 256, 16_512]);
            let written = snapshot_of(&read.into_iter().collect(), header(3));
            assert_eq!(written == bytes, order == [0, 2, 1]);
        }
    }
}

/// What a file claims costs nothing, and what it holds is bounded per transaction.
#[test]
fn memory_has_bounds() {
    // A reader that would go on for ever: coins of the longest script, without end.
    struct Endless {
        served: u64,
        head: io::Cursor<Vec<u8>>,
        vout: u32,
    }
    impl Read for Endless {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            if self.head.position() == self.head.get_ref().len() as u64 {
                let mut coin = vec![0xfe];
                coin.extend(self.vout.to_le_bytes());
                // Numbers below 65,536 have a shorter form: begin above.
                self.vout += 1;
                self::coin(10_000).encode(&mut coin);
                self.head = io::Cursor::new(coin);
            }
            let count = self.head.read(into)?;
            self.served += count as u64;
            Ok(count)
        }
    }
    let start = file(u64::MAX, &[&[1; 32], &[0xfe], &MAX_OUTPUTS.to_le_bytes()]);
    let mut endless = Endless { served: 0, head: io::Cursor::new(start), vout: 65_536 };
    let read: Vec<_> = SnapshotReader::new(&mut endless).unwrap().collect();
    let [Err(SnapshotError::Format { what: SnapshotDefect::Large, .. })] = &read[..] else {
        panic!("{read:?}")
    };
    assert!(endless.served < 1_200_000, "{} bytes were read", endless.served);

    let script = [&[18, 1][..], &[0x82, 0xff, 0xff, 0xff, 0x7f]].concat();
    let huge = defect(&file(1, &[&[1; 32], &[1, 0], &script]));
    assert!(matches!(huge, SnapshotDefect::Coin(FormatError::ScriptLen(_))), "{huge:?}");
}

#[test]
fn the_writer_refuses_what_it_cannot_write() {
    let mut writer = SnapshotWriter::new(Vec::new(), header(2)).unwrap();
    writer.push(&outpoint(2, 4), &coin(0)).unwrap();
    for earlier in [outpoint(2, 4), outpoint(2, 3), outpoint(1, 9)] {
        let refused = writer.push(&earlier, &coin(0));
        assert!(matches!(refused, Err(SnapshotError::OutOfOrder(_))), "{refused:?}");
    }
    let refused = writer.push(&outpoint(2, MAX_OUTPUTS), &coin(0));
    assert!(matches!(refused, Err(SnapshotError::Outputs(_))), "{refused:?}");
    // Nothing has happened.
    writer.push(&outpoint(3, 0), &coin(7)).unwrap();
    let refused = writer.push(&outpoint(3, 1), &coin(0));
    assert!(matches!(refused, Err(SnapshotError::Count { promised: 2, found: 3 })), "{refused:?}");
    let set: Coins = [(outpoint(2, 4), coin(0)), (outpoint(3, 0), coin(7))].into();
    assert_eq!(writer.finish().unwrap(), snapshot_of(&set, header(2)));

    let mut writer = SnapshotWriter::new(Vec::new(), header(2)).unwrap();
    writer.push(&outpoint(2, 4), &coin(0)).unwrap();
    let refused = writer.finish();
    assert!(matches!(refused, Err(SnapshotError::Count { promised: 2, found: 1 })), "{refused:?}");
}

/// A disk that is full after so many bytes.
struct Full {
    room: usize,
}

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.room == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let count = bytes.len().min(self.room);
        self.room -= count;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_an_error_once() {
    let coins = 40_u8;
    for room in [0, 30, 70_000, 130_000] {
        let mut writer = SnapshotWriter::new(Full { room }, header(coins.into())).unwrap();
        let mut first = None;
        for txid in 0..coins {
            match writer.push(&outpoint(txid, 0), &coin(5_000)) {
                Ok(()) => assert!(first.is_none()),
                Err(error) if first.is_none() => first = Some(error),
                Err(error) => assert!(matches!(error, SnapshotError::Failed)),
            }
        }
        assert!(matches!(first, Some(SnapshotError::Io { .. })), "{first:?}");
        assert!(matches!(writer.finish(), Err(SnapshotError::Failed)));
    }
    // What fits into the buffer fails at the end.
    let mut writer = SnapshotWriter::new(Full { room: 60 }, header(1)).unwrap();
    writer.push(&outpoint(1, 0), &coin(5)).unwrap();
    assert!(matches!(writer.finish(), Err(SnapshotError::Io { .. })));
}

#[test]
fn a_disk_that_fails_is_not_the_end_of_a_snapshot() {
    struct Failing<'a>(&'a [u8]);
    impl Read for Failing<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            match self.0.read(into)? {
                0 => Err(io::Error::other("no disk")),
                count => Ok(count),
            }
        }
    }
    let bytes = file(1, &[&[1; 32], &[1, 5], &COIN]);
    for cut in 0..=bytes.len() {
        let end = match SnapshotReader::new(Failing(&bytes[..cut])) {
            Ok(reader) => reader.last().unwrap().unwrap_err(),
            Err(error) => error,
        };
        assert!(matches!(end, SnapshotError::Io { .. }), "{cut}: {end:?}");
    }
}
