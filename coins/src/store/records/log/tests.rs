//! Fuzzed: segments that are damaged, cut, longer, and bodies whose checksums are mended. What is not as it was written is
//! never read; what is written by somebody else decodes to the same bytes, or to nothing.

#[path = "../../../../../fuzz/tests/common/mod.rs"]
mod fuzzing;

use super::super::record::{Record, decode_connect};
use super::*;
use crate::coin::{Coin, KEY_LEN};
use bitcoin::hashes::Hash;
use bitcoin::{Amount, BlockHash, ScriptBuf};
use bolero::check;
use fuzzing::{Count, Damage};
use hedgerow::disk::MemDisk;

const DIR: &str = "/blocks";

/// What a log was at the end of each of its records.
struct Written {
    /// By number, from 1.
    files: Vec<Vec<u8>>,
    steps: Vec<WrittenStep>,
}

/// The log behind one of its records.
struct WrittenStep {
    /// Where the record ends.
    end: Position,
    chain: Vec<Record>,
}

fn disk(files: &[Vec<u8>]) -> Arc<dyn Vfs> {
    let disk = MemDisk::new();
    disk.create_dir_all(Path::new(DIR)).unwrap();
    for (number, bytes) in (1..).zip(files) {
        let path = Path::new(DIR).join(format!("{number:08}{SUFFIX}"));
        disk.open(&path, OpenMode::CreateNew).unwrap().write_all_at(bytes, 0).unwrap();
    }
    Arc::new(disk)
}

/// Opens the log, below a store that stands at a block whose flush was told that it is durable up to there.
fn open(
    disk: &Arc<dyn Vfs>,
    durable: Position,
    at: Option<Tip>,
) -> Result<Records, CoinStoreError> {
    Records::open(Arc::clone(disk), Path::new(DIR), 700, durable, at)
}

/// Appends a block that spends and creates a few coins.
fn append(records: &Records, number: u8, parent: Option<Tip>) -> Record {
    let height = parent.map_or(1, |parent| parent.height + 1);
    let tip = Tip { height, block: BlockHash::from_byte_array([number; 32]) };
    let coin = |len: u8| {
        let script = ScriptBuf::from_bytes(vec![0x51; len.into()]);
        Coin::new(height, false, Amount::from_sat(u64::from(len) + 1), script).unwrap()
    };
    let mut draft = Draft::new(tip, parent, Vec::new());
    let created = (0..number % 5).map(|vout| {
        let key = [100 + vout; KEY_LEN];
        (key, draft.create(&key, &coin(vout * 12)))
    });
    let created = created.collect();
    let mut bytes = Vec::new();
    coin(number).encode(&mut bytes);
    let spent = vec![([number; KEY_LEN], Bytes::from(bytes)); usize::from(number % 3)];
    let spent_amount = spent.len() as u64 * (u64::from(number) + 1);
    records.connect(&draft, spent.iter().map(|(key, coin)| (key, coin)), spent_amount).unwrap();
    let (_, created_amount) = draft.created();
    Record { tip, parent, spent, created, spent_amount, created_amount }
}

/// A log of several files, with blocks that were disconnected.
fn written() -> Written {
    let disk = disk(&[]);
    let records = open(&disk, Position::START, None).unwrap();
    let (mut chain, mut steps): (Vec<Record>, _) = (Vec::new(), Vec::new());
    for number in 0..24_u8 {
        match number {
            // Once none is left.
            1 | 6 | 7 | 15 => {
                let gone = chain.pop().unwrap();
                records.disconnect(gone.tip.height).unwrap();
            }
            _ => chain.push(append(&records, number, chain.last().map(|record| record.tip))),
        }
        steps.push(WrittenStep { end: records.end(), chain: chain.clone() });
    }
    let last = steps.last().map_or(0, |step| step.end.segment);
    let read = |number| hedgerow_vfs::read_file(&*disk, &records.path(number), 1 << 20).unwrap();
    Written { files: (1..=last).map(read).collect(), steps }
}

/// All of a log, as it is read.
fn chain_of(records: &Records) -> Result<Vec<Record>, CoinStoreError> {
    let (first, last) = (records.first().unwrap_or(1), records.last().unwrap_or(0));
    (first..=last).map(|height| records.read(height)).collect()
}

#[test]
fn a_damaged_segment_is_refused_or_cut() {
    static COUNT: Count = Count::new("segment of records");
    let written = written();
    assert!(written.files.len() > 3);
    check!().with_iterations(20_000).with_type::<(Damage, u8)>().for_each(|(damage, durable)| {
        let number = usize::from(damage.sample) % written.files.len();
        let bytes = damage.apply(&written.files);
        // What is as it was written: the first so many bytes of this file, and the files before it.
        let whole = &written.files[number];
        let same = whole.iter().zip(&bytes).take_while(|(one, other)| one == other).count();
        let is_same = bytes == *whole;
        let kept = written.steps.iter().take_while(|step| {
            let segment = step.end.segment as usize;
            is_same || segment <= number || segment == number + 1 && step.end.offset <= same as u64
        });
        let kept = kept.count();
        // The store stands at the last block of a record, unless that is disconnected later: then it went back before.
        let tip_of = |step: &WrittenStep| step.chain.last().map(|record| record.tip);
        let stays = |step: &usize| {
            let tip = tip_of(&written.steps[*step]);
            let has =
                |later: &WrittenStep| later.chain.iter().any(|record| Some(record.tip) == tip);
            written.steps[*step..].iter().all(has)
        };
        let flush = Some(usize::from(*durable) % (written.steps.len() + 1))
            .and_then(|step| step.checked_sub(1))
            .filter(stays)
            .map(|step| (step + 1, &written.steps[step]));
        let durable = flush.map_or(0, |(durable, _)| durable);
        let at = flush.map_or(Position::START, |(_, step)| step.end);
        let tip = flush.and_then(|(_, step)| tip_of(step));
        let mut files = written.files.clone();
        files[number] = bytes;
        let disk = disk(&files);
        let opened = open(&disk, at, tip);
        COUNT.note(opened.is_ok());
        let records = match opened {
            Ok(records) => records,
            Err(error) => {
                assert!(error.is_damage() && durable > kept, "{error}: {durable} > {kept}");
                return;
            }
        };
        let chain = chain_of(&records).unwrap();
        let is_step = written.steps.iter().any(|step| step.chain == chain) || chain.is_empty();
        // Where it ends with a record, nothing in it says that it was cut: without a block and what disconnects it the rest may
        // follow all the same.
        let ends = |step: &WrittenStep| {
            step.end.segment as usize == number + 1 && step.end.offset == files[number].len() as u64
        };
        let ends_there =
            files[number].len() == HEADER_LEN as usize || written.steps.iter().any(ends);
        let expected = kept.checked_sub(1).map_or(&[][..], |step| &written.steps[step].chain);
        assert!(is_step && (ends_there || chain == expected));
        assert!(
            durable <= kept || ends_there && chain.iter().any(|record| Some(record.tip) == tip)
        );
        // It goes on from there.
        let next = append(&records, 99, chain.last().map(|record| record.tip));
        records.sync().unwrap();
        let (end, chain) = (records.end(), [&chain[..], &[next]].concat());
        drop(records);
        assert_eq!(
            chain_of(&open(&disk, end, chain.last().map(|record| record.tip)).unwrap()).unwrap(),
            chain
        );
    });
    COUNT.finish();
}

/// Mends the checksums of a segment, as far as it can be followed.
fn mend(number: u64, bytes: &mut [u8]) {
    if let Some(header) = bytes.get_mut(..HEADER_LEN as usize) {
        let (fields, checksum) = header.split_at_mut(HEADER_LEN as usize - 4);
        checksum.copy_from_slice(&crc32c::crc32c(fields).to_le_bytes());
    }
    let mut offset = HEADER_LEN as usize;
    while let Some((frame, rest)) =
        bytes.get_mut(offset..).and_then(|rest| rest.split_at_mut_checked(FRAME_LEN as usize))
    {
        let len = u32::from_le_bytes([frame[0], frame[1], frame[2], frame[3]]) as usize;
        let Some(body) = rest.get(..len) else { return };
        let at = Position { segment: number, offset: offset as u64 };
        frame[4..].copy_from_slice(&checksum_of(at, body).to_le_bytes());
        offset += frame.len() + len;
    }
}

/// The body of a record, as docs/format.md has it.
fn body_of(record: &Record) -> Vec<u8> {
    let mut body = vec![1];
    let none = Tip { height: u32::MAX, block: BlockHash::all_zeros() };
    for tip in [record.tip, record.parent.unwrap_or(none)] {
        body.extend(tip.height.to_le_bytes());
        body.extend(tip.block.to_byte_array());
    }
    body.extend(record.spent_amount.to_le_bytes());
    body.extend(record.created_amount.to_le_bytes());
    for coins in [&record.spent, &record.created] {
        body.extend((coins.len() as u32).to_le_bytes());
        for (key, coin) in coins {
            body.extend(key);
            body.extend((coin.len() as u16).to_le_bytes());
            body.extend(&**coin);
        }
    }
    body
}

#[test]
fn a_mended_segment_is_refused_or_says_what_it_says() {
    static COUNT: Count = Count::new("segment of records, mended");
    let written = written();
    check!().with_iterations(20_000).with_type::<Damage>().for_each(|damage| {
        let number = usize::from(damage.sample) % written.files.len();
        let mut files = written.files.clone();
        files[number] = damage.apply(&written.files);
        mend(number as u64 + 1, &mut files[number]);
        let records = match open(&disk(&files), Position::START, None) {
            Ok(records) => records,
            Err(error) => {
                assert!(error.is_damage(), "{error}");
                return COUNT.note(false);
            }
        };
        let (Some(first), Some(last)) = (records.first(), records.last()) else { return };
        let places: Vec<Position> =
            records.inner.lock().chain.iter().map(|entry| entry.at).collect();
        assert_eq!(places.len() as u32, last - first + 1);
        for (height, at) in (first..).zip(places) {
            let read = records.read(height);
            COUNT.note(read.is_ok());
            match read {
                Ok(record) => {
                    let start = (at.offset + FRAME_LEN) as usize;
                    let body = body_of(&record);
                    let file = &files[at.segment as usize - 1];
                    assert!(file[start..].starts_with(&body) && record.tip.height == height);
                    // Coins or none, never a panic.
                    let _ = record.show();
                }
                Err(error) => assert!(error.is_damage(), "{error}"),
            }
        }
    });
    COUNT.finish();
}

#[test]
fn body_of_a_record() {
    static COUNT: Count = Count::new("body of a record");
    let bodies = written().steps;
    let mut samples: Vec<Vec<u8>> =
        bodies.iter().filter_map(|step| step.chain.last()).map(body_of).collect();
    samples.extend(bodies.last().unwrap().chain.iter().map(body_of));
    let mut gone = Vec::new();
    encode_disconnect(&Tip { height: 3, block: BlockHash::all_zeros() }, &mut gone);
    samples.push(gone);
    check!().with_iterations(200_000).with_type::<Damage>().for_each(|damage| {
        let body = damage.apply(&samples);
        let record = decode_connect(&body);
        COUNT.note(record.is_some());
        match (&record, Step::of(&body)) {
            (Some(Record { tip, parent, .. }), step) => {
                assert_eq!(step, Some(Step::Connect { tip: *tip, parent: *parent }));
            }
            (None, Some(Step::Disconnect(tip))) => {
                let mut again = Vec::new();
                encode_disconnect(&tip, &mut again);
                assert_eq!(again, body);
            }
            (None, _) => {}
        }
        if let Some(record) = record {
            assert_eq!(body_of(&record), body);
        }
    });
    COUNT.finish();
}

/// A file that ends with a record, or with its header, while the next one is there: what never was durable goes, whole
/// records and files of them, and what is left says nothing that was not so.
#[test]
fn a_file_that_ends_with_a_record_is_a_beginning() {
    let written = written();
    let steps = |number: usize| {
        let in_it = move |(_, step): &(usize, &WrittenStep)| step.end.segment as usize == number;
        written.steps.iter().enumerate().filter(in_it)
    };
    for number in 1..=written.files.len() {
        let header = (HEADER_LEN, steps(number).next().map_or(0, |(first, _)| first));
        let ends = steps(number).map(|(at, step)| (step.end.offset, at + 1));
        for (len, kept) in std::iter::once(header).chain(ends) {
            let mut files = written.files.clone();
            files[number - 1].truncate(len as usize);
            let records = open(&disk(&files), Position::START, None).unwrap();
            let chain = chain_of(&records).unwrap();
            let expected = kept.checked_sub(1).map_or(&[][..], |step| &written.steps[step].chain);
            let whole = files[number - 1].len() == written.files[number - 1].len();
            let last = written.steps.last().map(|step| &step.chain[..]);
            assert!(chain == expected || whole && Some(&chain[..]) == last, "{number}: {len}");
        }
    }
}
