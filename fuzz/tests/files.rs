//! Segments of the log, of the twig file and of the undo file: header, record headers, frames of entries and of stubs,
//! twig records, undo records, through the interface that a store opens them by.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use bolero::check;
use bytes::Bytes;
use common::{Count, Damage};
use hedgerow_entryfile::{
    BlockState, EncodedUndo, EntryLog, LogOptions, Record, SegmentSize, ShardUndoParts, StoreId,
    Stub, TwigFile, TwigFileOptions, TwigRecord, UndoFile, UndoFileOptions, place_run, push_frame,
    push_stub,
};
use hedgerow_types::entry::EntryFields;
use hedgerow_types::rows::NodeRows;
use hedgerow_types::{
    Digest, Height, KeyHash, LogPosition, SHARDS, SerialNumber, ShardId, TwigId, Version,
};
use hedgerow_vfs::{MemDisk, OpenMode, Vfs};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const ITERATIONS: usize = 50_000;
const ID: StoreId = StoreId(*b"the fuzzed store");

/// A disk with one file on it.
fn disk(path: &Path, bytes: &[u8]) -> Arc<dyn Vfs> {
    let vfs: Arc<dyn Vfs> = Arc::new(MemDisk::new());
    vfs.create_dir_all(path.parent().unwrap()).unwrap();
    vfs.open(path, OpenMode::CreateNew).unwrap().write_all_at(bytes, 0).unwrap();
    vfs
}

/// Mends the checksums that follow these parts of a file, each xored with what goes with the part.
fn mend(bytes: &mut [u8], ranges: &[(usize, usize, u32)]) {
    for &(from, to, with) in ranges {
        if let Some(range) = bytes.get_mut(from..to + 4) {
            let (body, crc) = range.split_at_mut(to - from);
            crc.copy_from_slice(&(crc32c::crc32c(body) ^ with).to_le_bytes());
        }
    }
}

#[test]
fn log() {
    static COUNT: Count = Count::new("segment of the log");
    let vfs: Arc<dyn Vfs> = Arc::new(MemDisk::new());
    let dir = Path::new("log");
    let log = EntryLog::create(Arc::clone(&vfs), dir, ID, LogOptions::default()).unwrap();
    // What checksums cover, as ranges of the file; each is followed by its checksum. That of a frame is
    // bound to its place.
    let mut covered = vec![(0, 60, 0)];
    let state = BlockState { extra: Bytes::from_static(b"extra"), ..BlockState::default() };
    for height in 0..3 {
        let at = log.next_position();
        covered.push((at.0 as usize, at.0 as usize + 344, crc32c::crc32c(&ID.0)));
        let mut place = at.0 as usize + 352;
        let (mut runs, mut counts): ([Bytes; 16], _) = (Default::default(), [0; 16]);
        for shard in [0, 7, 15] {
            let mut run = vec![];
            for sn in 0..2 {
                let fields = EntryFields {
                    key: b"some key",
                    value: &[3; 50],
                    next_key_hash: KeyHash([4; 32]),
                    version: Version(height << 24),
                    serial_number: SerialNumber(height as u64 * 2 + sn),
                    deactivated: &[SerialNumber(1)],
                };
                let span = push_frame(&mut run, &fields).unwrap();
                let from = place + span.offset as usize;
                let with = crc32c::crc32c(&(from as u64).to_le_bytes());
                covered.push((from, from + span.len as usize, with));
            }
            if shard == 7 {
                let serial_number = SerialNumber(height as u64 * 2 + 2);
                let stub = Stub { serial_number, hash: Digest([5; 32]) };
                let from = place + push_stub(&mut run, &stub).unwrap() as usize;
                covered.push((from, from + 40, crc32c::crc32c(&(from as u64).to_le_bytes())));
            }
            place_run(&mut run, LogPosition(place as u64)).unwrap();
            place += run.len();
            (runs[shard], counts[shard]) = (Bytes::from(run), if shard == 7 { 3 } else { 2 });
        }
        let record =
            Arc::new(Record::new(at, Height(height as u64), runs, counts, state.clone()).unwrap());
        log.announce(Arc::clone(&record)).unwrap();
        log.append(&record).unwrap();
    }
    let end = log.end();
    drop(log);
    let path = dir.join("0000000000000000.log");
    let whole = hedgerow_vfs::read_file(&*vfs, &path, 1 << 20).unwrap();
    let samples = [whole.clone()];
    check!().with_iterations(ITERATIONS).with_type::<Damage>().for_each(|damage| {
        let mut bytes = damage.apply(&samples);
        if damage.mended {
            mend(&mut bytes, &covered);
        }
        let (vfs, start) = (disk(&path, &bytes), LogPosition(0));
        let mut good = false;
        if let Ok(log) = EntryLog::open(vfs, dir, ID, LogOptions::default(), start, end) {
            let mut again = whole.get(..64).unwrap().to_vec();
            let mut scan = log.scan(log.start(), end).with_stubs();
            good = scan.all(|record| {
                let Ok(record) = record else { return false };
                // What is accepted is what would be written.
                for shard in ShardId::all() {
                    let frames = record.frames(shard).count();
                    assert_eq!(frames, record.record().entries(shard) as usize);
                }
                let record = record.record();
                again.extend(&bytes[record.position().0 as usize..][..352]);
                ShardId::all().for_each(|shard| again.extend(record.run(shard)));
                again.extend(record.extra());
                again.resize(again.len().next_multiple_of(8), 0);
                true
            });
            if good {
                assert_eq!(again, bytes[..end.0 as usize]);
                if !damage.mended {
                    assert_eq!(again, whole, "damage was believed");
                }
            }
        }
        COUNT.note(good);
    });
    COUNT.finish();
}

#[test]
fn twig_file() {
    static COUNT: Count = Count::new("segment of the twig file");
    let vfs: Arc<dyn Vfs> = Arc::new(MemDisk::new());
    let dir = Path::new("twigs");
    let options = TwigFileOptions { cache_bytes: 0, ..TwigFileOptions::default() };
    let file = TwigFile::create(Arc::clone(&vfs), dir, ID, options.clone()).unwrap();
    let shard = ShardId::new(3).unwrap();
    let record = |twig: u64| TwigRecord {
        shard,
        twig: TwigId(twig),
        record: LogPosition(640),
        nodes: Box::new(std::array::from_fn(|i| Digest([i as u8; 32]))),
        groups: Box::new(std::array::from_fn(|i| LogPosition(800 + 3000 * i as u64))),
        breaks: vec![(5, LogPosition(8000)), (9, LogPosition(9000))],
        leaves: None,
    };
    let leaves = (0..2048).map(|i| Digest(std::array::from_fn(|j| (i + j) as u8)));
    let leaves = Some(leaves.collect::<Box<[_]>>().try_into().unwrap());
    let records = [Arc::new(record(0)), Arc::new(TwigRecord { leaves, ..record(1) })];
    file.append(&records).unwrap();
    drop(file);
    let path: PathBuf = dir.join("0000000000000000.twigs");
    let whole = hedgerow_vfs::read_file(&*vfs, &path, 1 << 20).unwrap();
    // Where the first record ends, and the second, which has leaves.
    let ends = [64 + 32 + 9_192 + 20, 64 + 2 * (32 + 9_192 + 20) + 65_536];
    assert_eq!(whole.len(), ends[1]);
    let samples = [whole];
    check!().with_iterations(ITERATIONS).with_type::<Damage>().for_each(|damage| {
        let mut bytes = damage.apply(&samples);
        if damage.mended {
            // The body's checksum stands in the header, which has its own.
            for (at, end) in [(64, ends[0]), (ends[0], ends[1])] {
                if let Some(record) = bytes.get_mut(at..end) {
                    let crc = crc32c::crc32c(&record[32..]);
                    record[24..28].copy_from_slice(&crc.to_le_bytes());
                }
            }
            mend(&mut bytes, &[(0, 60, 0), (64, 92, 0), (ends[0], ends[0] + 28, 0)]);
        }
        let (vfs, end) = (disk(&path, &bytes), LogPosition(u64::MAX));
        let opened = TwigFile::open(vfs, dir, ID, options.clone(), end);
        let mut found = 0;
        if let Ok((file, twigs)) = opened {
            for (shard, twig) in twigs {
                let record = file.get(shard, twig).unwrap().unwrap();
                found += 1;
                if !damage.mended {
                    assert_eq!(record, records[twig.0 as usize], "damage was believed");
                }
            }
            // It can be written to, whatever it was.
            file.append(&records).unwrap();
            for record in &records {
                assert_eq!(file.get(shard, record.twig).unwrap().as_ref(), Some(record));
            }
        }
        COUNT.note(found > 0);
    });
    COUNT.finish();
}

#[test]
fn undo_file() {
    static COUNT: Count = Count::new("segment of the undo file");
    let vfs: Arc<dyn Vfs> = Arc::new(MemDisk::new());
    let dir = Path::new("undo");
    let options = UndoFileOptions { segment_size: SegmentSize::fixed(1 << 20), cache_bytes: 0 };
    let end = |height: u64| LogPosition(500 * (height + 1));
    let open =
        |vfs: &Arc<dyn Vfs>| UndoFile::open(Arc::clone(vfs), dir, ID, &options, Height(3), end(3));
    let file = open(&vfs).unwrap();
    let record = |height: u64| {
        let gone: Vec<_> = (0..3 * height).map(|sn| SerialNumber(5 * sn)).collect();
        let upper =
            [vec![(0, Digest([1; 32])), (4, Digest([2; 32]))], vec![(height, Digest([3; 32]))]];
        let (upper, none) = (NodeRows::from_iter(upper), NodeRows::default());
        let parts: [ShardUndoParts<'_>; SHARDS] = std::array::from_fn(|shard| ShardUndoParts {
            next_sn: SerialNumber(height + shard as u64),
            deactivated: if shard == 7 { &gone } else { &[] },
            upper: if shard % 5 == 2 { &upper } else { &none },
        });
        let place = (end(height - 1), end(height));
        Arc::new(EncodedUndo::new(ID, Height(height), place, 9, &parts).unwrap())
    };
    let records: Vec<_> = (1..=3).map(record).collect();
    file.append(&records).unwrap();
    drop(file);
    let path = dir.join("0000000000000000.undo");
    let whole = hedgerow_vfs::read_file(&*vfs, &path, 1 << 20).unwrap();
    // Where each record begins and ends.
    let places: Vec<_> = (records.iter())
        .scan(64, |at, record| {
            let from = *at;
            *at += record.bytes().len();
            Some((from, *at))
        })
        .collect();
    assert_eq!(places.last().unwrap().1, whole.len());
    let what_it_says = |file: &UndoFile, height: Height, shard: ShardId| {
        let section = file.section(height, shard).unwrap()?;
        let gone: Vec<_> = section.deactivated(SerialNumber(0), SerialNumber(u64::MAX)).collect();
        let upper: Vec<_> = (0..3).flat_map(|row| (0..6).map(move |index| (row, index))).collect();
        let upper = upper.iter().map(|&(row, index)| section.upper(row, index)).collect::<Vec<_>>();
        Some((gone, upper))
    };
    // By height and shard.
    let honest: Vec<Vec<_>> = {
        let file = open(&vfs).unwrap();
        let of = |height| ShardId::all().map(|shard| what_it_says(&file, height, shard)).collect();
        (0..=3).map(Height).map(of).collect()
    };
    let samples = [whole];
    check!().with_iterations(ITERATIONS).with_type::<Damage>().for_each(|damage| {
        let mut bytes = damage.apply(&samples);
        if damage.mended {
            for &(from, to) in &places {
                let Some(record) = bytes.get_mut(from..to) else { continue };
                // Each section's checksum stands in the head, which has its own.
                let mut at = 304;
                for shard in 0..SHARDS {
                    let of_shard = 40 + 16 * shard;
                    let len: [u8; 4] = record[of_shard + 8..of_shard + 12].try_into().unwrap();
                    let len = u32::from_le_bytes(len) as usize;
                    let crc = record.get(at..at + len).map_or(0, crc32c::crc32c);
                    record[of_shard + 12..of_shard + 16].copy_from_slice(&crc.to_le_bytes());
                    at += len;
                }
            }
            let with = crc32c::crc32c(&ID.0);
            let heads = places.iter().map(|(from, _)| (*from, from + 300, with));
            mend(&mut bytes, &[(0, 60, 0)]);
            mend(&mut bytes, &heads.collect::<Vec<_>>());
        }
        let vfs = disk(&path, &bytes);
        let mut found = 0;
        if let Ok(file) = open(&vfs) {
            let (first, last) = file.heights().unwrap_or((Height(1), Height(0)));
            for height in (first.0..=last.0).map(Height) {
                assert_eq!(file.head(height).unwrap().map(|head| head.height), Some(height));
                for shard in ShardId::all() {
                    let said = what_it_says(&file, height, shard);
                    found += u64::from(said.is_some());
                    if !damage.mended && said.is_some() {
                        let honest = &honest[height.0 as usize][shard.index()];
                        assert_eq!(said, *honest, "damage was believed");
                    }
                }
            }
            // It can be written to, whatever it was.
            file.append(&records).unwrap();
            assert_eq!(file.heights(), Some((Height(1), Height(3))));
            let shard = ShardId::new(7).unwrap();
            assert_eq!(what_it_says(&file, Height(3), shard), honest[3][shard.index()]);
        }
        COUNT.note(found > 0);
    });
    COUNT.finish();
}
