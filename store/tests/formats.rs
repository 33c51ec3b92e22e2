//! The formats are pinned: a digest of a fixed sample of each, and what a newer version is told.
//! Every byte is in docs/format.md.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use bytes::Bytes;
use common::forge::{files, read, write};
use common::{copy, dir, disk, on, params};
use hedgerow::disk::Vfs;
use hedgerow::{Error, Height, Store};
use hedgerow_entryfile::{
    BlockState, EntryLog, LogOptions, Record, Rollback, SegmentSize, StoreId, Stub, TwigFile,
    TwigFileOptions, TwigRecord, place_run, push_frame, push_stub,
};
use hedgerow_metadb::{
    CheckpointName, Commit, Engine, HistoryRow, Manifest, ShardManifest, StoreParams,
};
use hedgerow_proof::{EntryPath, Proof, SerialPath};
use hedgerow_types::entry::EntryFields;
use hedgerow_types::{
    Digest, KeyHash, LogPosition, SHARDS, SerialNumber, ShardId, TwigId, Version,
};
use sha2::{Digest as _, Sha256};
use std::path::Path;
use std::sync::Arc;

const ID: StoreId = StoreId(*b"0123456789abcdef");

#[track_caller]
fn pinned(what: &str, bytes: &[u8], expected: &str) {
    let found = Digest(Sha256::digest(bytes).into()).to_string();
    assert_eq!(
        found, expected,
        "the bytes of {what} have changed: stores that exist can no longer be read, or read \
         wrongly. If that is meant, give the format a new version, make a new golden store \
         (store/tests/golden.rs), and bring docs/format.md up to date"
    );
}

fn entry(sn: u64) -> Vec<u8> {
    let mut bytes = vec![];
    let fields = EntryFields {
        key: b"some key",
        value: b"some value",
        next_key_hash: KeyHash([3; 32]),
        version: Version(5 << 24 | 1),
        serial_number: SerialNumber(sn),
        deactivated: &[SerialNumber(1), SerialNumber(2)],
    };
    fields.encode(&mut bytes).unwrap();
    bytes
}

#[test]
fn the_bytes_of_the_log_are_pinned() {
    let (vfs, folder) = (disk(), Path::new("/log"));
    let options = LogOptions { segment_size: SegmentSize::fixed(1), ..LogOptions::default() };
    let log = EntryLog::create(Arc::clone(&vfs), folder, ID, options).unwrap();
    for height in 5..7 {
        let (mut runs, mut counts): ([_; SHARDS], _) = (Default::default(), [0; SHARDS]);
        for shard in [2, 15] {
            let mut run = vec![];
            for sn in 0..3 {
                let fields = EntryFields {
                    key: b"some key",
                    value: &[b'v'; 20][..sn as usize],
                    next_key_hash: KeyHash([3; 32]),
                    version: Version(height << 24),
                    serial_number: SerialNumber(sn),
                    deactivated: &[SerialNumber(1)],
                };
                push_frame(&mut run, &fields).unwrap();
            }
            (runs[shard], counts[shard]) = (run, 3);
        }
        let (at, lens) = (log.next_position(), runs.each_ref().map(Vec::len));
        for (shard, run) in ShardId::all().zip(&mut runs) {
            place_run(run, Record::run_start(at, &lens, shard)).unwrap();
        }
        let (height, runs) = (Height(height as u64), runs.map(Bytes::from));
        let record = Record::new(at, height, runs, counts, BlockState::default()).unwrap();
        let record = Arc::new(record);
        log.announce(Arc::clone(&record)).unwrap();
        log.append(&record).unwrap();
    }
    let mut names = vfs.read_dir(folder).unwrap();
    names.sort();
    // Names are part of the format.
    assert_eq!(names, ["0000000000000000.log", "0000000000000380.log"]);
    let bytes: Vec<_> = names.iter().flat_map(|name| read(&vfs, &folder.join(name))).collect();
    pinned("the log", &bytes, "2357f38ad42f641148cb85ba43bf44d4075f7301bbebbbc32885eb8def9e9b32");
}

#[test]
fn the_bytes_of_a_rollback_are_pinned() {
    let (vfs, folder) = (disk(), Path::new("/log"));
    let log = EntryLog::create(Arc::clone(&vfs), folder, ID, LogOptions::default()).unwrap();
    let rollback = Rollback { from: Height(9), to: Height(7), dead_from: LogPosition(8) };
    let end = log.append_rollback(&rollback).unwrap();
    let bytes = read(&vfs, &folder.join("0000000000000000.log")).split_off(64);
    assert_eq!(end, LogPosition(64 + bytes.len() as u64));
    let mut by_hand = b"HgrwBck1".to_vec();
    [7, 64, 8, 9, 0, 0].iter().for_each(|word: &u64| by_hand.extend(word.to_le_bytes()));
    let crc = crc32c::crc32c(&by_hand) ^ crc32c::crc32c(&ID.0);
    by_hand.extend(crc.to_le_bytes());
    by_hand.extend([0; 4]);
    assert_eq!(bytes, by_hand);
}

/// Nobody writes stubs yet; that they can be read is part of the format.
#[test]
fn the_bytes_of_a_stub_are_pinned() {
    let stub = Stub { serial_number: SerialNumber(0x0001_0203_0405_0607), hash: Digest([9; 32]) };
    let mut run = vec![];
    push_stub(&mut run, &stub).unwrap();
    place_run(&mut run, LogPosition(0x1234_5678)).unwrap();
    let mut by_hand = vec![0, 7, 6, 5, 4, 3, 2, 1];
    by_hand.extend([9; 32]);
    let crc = crc32c::crc32c(&by_hand) ^ crc32c::crc32c(&0x1234_5678_u64.to_le_bytes());
    by_hand.extend(crc.to_le_bytes());
    by_hand.extend([0; 4]);
    assert_eq!(run, by_hand);
    pinned("a stub", &run, "c750dea92b41d6c4e2fe83fc8a68ea66815484d7549535300a851ba140fe41a3");
}

#[test]
fn the_bytes_of_the_twig_file_are_pinned() {
    let (vfs, folder) = (disk(), Path::new("/twigs"));
    let file = TwigFile::create(Arc::clone(&vfs), folder, ID, TwigFileOptions::default()).unwrap();
    let record = TwigRecord {
        shard: ShardId::new(3).unwrap(),
        twig: TwigId(258),
        record: LogPosition(640),
        nodes: Box::new(std::array::from_fn(|i| Digest([i as u8; 32]))),
        groups: Box::new(std::array::from_fn(|i| LogPosition(800 + 3000 * i as u64))),
        breaks: vec![(5, LogPosition(8000)), (300, LogPosition(9000))],
        leaves: None,
    };
    file.append(&[Arc::new(record.clone())]).unwrap();
    let bytes = read(&vfs, &folder.join("0000000000000000.twigs"));
    pinned(
        "the twig file",
        &bytes,
        "067006ec1cbf045a7bf835f37dcb9054b9f637944cd0bc9224f6c5ead44ed4e4",
    );
    // Nobody writes leaves yet; that they can be read is part of the format.
    let leaves = (0..2048).map(|i| Digest(std::array::from_fn(|j| (i * 5 + j) as u8)));
    let leaves = Some(leaves.collect::<Box<[_]>>().try_into().unwrap());
    file.append(&[Arc::new(TwigRecord { leaves, ..record })]).unwrap();
    let with = read(&vfs, &folder.join("0000000000000000.twigs")).split_off(bytes.len());
    let body = [&bytes[64 + 32..], &with[with.len() - 65_536..]].concat();
    let mut by_hand = bytes[64..64 + 18].to_vec();
    by_hand.extend([1, 0]);
    by_hand.extend((body.len() as u32).to_le_bytes());
    by_hand.extend(crc32c::crc32c(&body).to_le_bytes());
    by_hand.extend(crc32c::crc32c(&by_hand).to_le_bytes());
    by_hand.extend(&body);
    assert!(with == by_hand && body[body.len() - 32] == (2047 * 5 % 256) as u8);
    pinned(
        "a record with leaves",
        &with,
        "68919c3ff5c9f207dd11dd699e39b7f5736ced97cece628e2876ba578b63130e",
    );
}

#[test]
fn the_bytes_of_the_metadata_are_pinned() {
    let shard = |i: usize| ShardManifest {
        next_sn: SerialNumber(1_000_000 + i as u64),
        oldest_active: SerialNumber(400_000 + i as u64),
        active: 5000 + i as u64,
        root: Digest([i as u8; 32]),
        first_kept: TwigId(7 + i as u64),
        edges: (0..i % 3).map(|level| (level as u8 + 12, Digest([level as u8; 32]))).collect(),
    };
    let manifest = Manifest {
        store_id: ID.0,
        params: StoreParams::default().with_compaction(params(77, 3, 5).compaction()),
        height: Height(123_456),
        log_start: LogPosition(1 << 20),
        log_end: LogPosition(1 << 40),
        state_root: Digest([200; 32]),
        history_from: Height(123_000),
        checkpoint: Some(CheckpointName { height: Height(122_000), bytes: 1 << 20 }),
        shards: std::array::from_fn(shard),
        dead: vec![LogPosition(1 << 30)..LogPosition(1 << 31)],
    };
    pinned(
        "the manifest",
        &manifest.encode().unwrap(),
        "1d176f81a3bd633fc91af52403a8c339967538006e1b47ed0e8d44c15c16a8df",
    );
    let row = HistoryRow {
        root: Digest([99; 32]),
        shard_roots: std::array::from_fn(|i| Digest([i as u8 + 1; 32])),
        oldest_active: std::array::from_fn(|i| SerialNumber(i as u64 + 4096)),
        extra: b"extra".to_vec(),
    };
    pinned(
        "the history row",
        &row.encode(Height(0x0102_0304)).unwrap(),
        "770fca05c378f3e283663f6fc209405eab2887d7ff17b949e9234d6f47fbe078",
    );
    // Rows long past leave the database for a file of their own.
    let (vfs, folder) = (disk(), Path::new("/meta"));
    vfs.create_dir_all(folder).unwrap();
    let engine = *Engine::available().iter().find(|engine| engine.name() == "redb").unwrap();
    let db = hedgerow_metadb::open(engine, Arc::clone(&vfs), folder, true).unwrap();
    for height in [4095, 4096] {
        let first = if height == 4096 { 4096 } else { 0 };
        let rows: Vec<_> = (first..=height).map(|at| (Height(at), row.clone())).collect();
        let manifest = Manifest {
            height: Height(height),
            history_from: Height(0),
            checkpoint: None,
            dead: vec![],
            ..manifest.clone()
        };
        let history_from = manifest.history_from;
        db.commit(&Commit { manifest: &manifest, rows: &rows, history_from }).unwrap();
    }
    pinned(
        "a file of history rows",
        &read(&vfs, &folder.join("history-0000000000.rows")),
        "b36c2691698ee3f7ad499dc021f1debdc79e62a4ef7d35dc47c2c825778ed88f",
    );
}

#[test]
fn the_bytes_of_entries_and_proofs_are_pinned() {
    let bytes = entry(5000);
    pinned("the entry", &bytes, "2e3245721c18764b326c71204a85812d6cbbf0ab743cfef139c934d9c7d07fba");
    let node = |n: u8| Digest([n; 32]);
    let left = std::array::from_fn(|i| node(i as u8));
    let (page, right, upper, state) =
        ([0xFF; 32], [node(20); 3], [node(12), node(13)], [node(30); 4]);
    let one = EntryPath { entry: bytes, left, page, right, upper: upper.to_vec(), state };
    let proof = Proof::assemble(&[one]).unwrap();
    pinned("the proof", &proof, "9c4279db854d0d135561d0c0f13f5a44a1e8c1207b30cff8519ebb8a3f1f7408");
    let sn = SerialNumber(5000);
    let path = SerialPath::assemble(sn, node(1), &left, &page, &right, &upper, node(9)).unwrap();
    pinned(
        "the proof by serial number",
        &path.to_bytes(),
        "637c8d476007f1931c2f8cb6127a9588acb0f49d7c4b3c8ab6a7e8f9fbaa3121",
    );
}

fn store() -> Arc<dyn Vfs> {
    let disk = disk();
    let mut store = Store::create(dir(), params(1, 1, 1), on(&disk)).unwrap();
    for height in 1..=3 {
        let mut block = store.begin_block(Height(height)).unwrap();
        block.put("key", format!("{height}")).unwrap();
        block.commit().unwrap();
    }
    store.close().unwrap();
    disk
}

/// What opens of the store, if it opens, answers for the history of height 2.
fn refusal(disk: &Arc<dyn Vfs>) -> String {
    let error = match Store::open(dir(), on(disk)) {
        Ok(store) => store.reader().history(Height(2)).unwrap_err(),
        Err(error) => error,
    };
    assert!(matches!(error, Error::Log(_) | Error::Meta(_)), "{error:?}");
    error.to_string()
}

/// What a segment is changed to, and what opening says of it.
const OTHER_SEGMENTS: [(usize, u8, &str); 5] = [
    (8, 3, "it has format version 3, this build of Hedgerow reads version 2: a newer"),
    (8, 1, "it has format version 1, this build of Hedgerow reads version 2: an older"),
    (12, 1, "its place is 1, which this build of Hedgerow does not know: a newer"),
    (
        41,
        16,
        "its chunk table's offset is 4096, which this build of Hedgerow does not know: a newer",
    ),
    (48, 64, "its chunk table's length is 64, which this build of Hedgerow does not know: a newer"),
];

/// Every kind of file in another version is refused with both versions and the file, and stays.
#[test]
fn another_version_is_refused_by_name() {
    let whole = store();
    for (folder, (byte, value, says)) in
        ["log", "twigs"].into_iter().flat_map(|folder| OTHER_SEGMENTS.map(|other| (folder, other)))
    {
        let disk = copy(&whole);
        let path = &files(&disk, folder)[0];
        let mut bytes = read(&disk, path);
        bytes[byte] = value;
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        write(&disk, path, 0, &bytes);
        let text = refusal(&disk);
        assert!(text.contains(&*path.to_string_lossy()) && text.contains(says), "{text}");
        assert!(read(&disk, path) == bytes, "{folder}: a file of another version was changed");
    }
    for (what, version) in [("manifest", 4), ("history", 1)] {
        let disk = copy(&whole);
        let path = &files(&disk, "meta")[0];
        let temp = tempfile::tempdir().unwrap();
        let outside = temp.path().join("meta.redb");
        std::fs::write(&outside, read(&disk, path)).unwrap();
        bump(&outside, what);
        let bytes = std::fs::read(&outside).unwrap();
        disk.remove_file(path).unwrap();
        let file = disk.open(path, hedgerow_vfs::OpenMode::CreateNew).unwrap();
        file.write_all_at(&bytes, 0).unwrap();
        let text = refusal(&disk);
        let newer = version + 1;
        let versions = format!(
            "it has format version {newer}, this build of Hedgerow reads version {version}"
        );
        assert!(text.contains(&versions) && text.contains("newer"), "{what}: {text}");
        assert!(text.contains(what), "{text}");
    }
}

/// Gives a row of the database a newer version.
fn bump(path: &Path, what: &str) {
    let newer = |bytes: &[u8]| {
        let mut bytes = bytes[..bytes.len() - 4].to_vec();
        bytes[8] += 1;
        let crc = crc32c::crc32c(&bytes);
        bytes.extend(crc.to_le_bytes());
        bytes
    };
    let db = redb::Database::open(path).unwrap();
    let transaction = db.begin_write().unwrap();
    if what == "manifest" {
        let table = redb::TableDefinition::<(), &[u8]>::new("manifest");
        let mut table = transaction.open_table(table).unwrap();
        let bytes = newer(redb::ReadableTable::get(&table, ()).unwrap().unwrap().value());
        table.insert((), &bytes[..]).unwrap();
    } else {
        let table = redb::TableDefinition::<u64, &[u8]>::new("history");
        let mut table = transaction.open_table(table).unwrap();
        let bytes = newer(redb::ReadableTable::get(&table, 2).unwrap().unwrap().value());
        table.insert(2, &bytes[..]).unwrap();
    }
    transaction.commit().unwrap();
}
