//! A log together with the model of what is in it.
#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod twigs;

use bytes::Bytes;
use hedgerow_entryfile::{
    BlockState, EntryLog, LogOptions, Record, SegmentSize, StoreId, StoredEntry, Stub, TwigRecord,
    place_run, push_frame, push_stub,
};
use hedgerow_types::entry::EntryFields;
use hedgerow_types::{
    Digest, Height, KeyHash, LogPosition, SHARDS, SerialNumber, ShardId, TwigId, Version,
};
use hedgerow_vfs::{HookedDisk, MemDisk, RealDisk, Vfs, VfsCall, VfsOp};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

pub(crate) const ID: StoreId = StoreId(*b"the test's store");

/// Both disks, each with a directory to make a log in.
pub(crate) fn disks() -> Vec<(Arc<dyn Vfs>, PathBuf, Option<tempfile::TempDir>)> {
    let (vfs, dir) = mem();
    let temp = tempfile::tempdir().unwrap();
    let real_dir = temp.path().join("log");
    vec![(vfs, dir, None), (Arc::new(RealDisk), real_dir, Some(temp))]
}

/// The disk in memory.
pub(crate) fn mem() -> (Arc<dyn Vfs>, PathBuf) {
    let vfs = MemDisk::new();
    vfs.create_dir_all(Path::new("store")).unwrap();
    (Arc::new(vfs), PathBuf::from("store/log"))
}

/// What a [`HookedDisk`] is told to do, and has seen.
#[derive(Default)]
pub(crate) struct Control {
    pub(crate) reads: AtomicU64,
    pub(crate) writes: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) fail_reads: AtomicBool,
    pub(crate) fail_writes: AtomicBool,
    pub(crate) fail_syncs: AtomicBool,
    pub(crate) fail_removals: AtomicBool,
}

impl Control {
    pub(crate) fn take_reads(&self) -> u64 {
        self.reads.swap(0, Ordering::SeqCst)
    }

    pub(crate) fn take_writes(&self) -> u64 {
        self.writes.swap(0, Ordering::SeqCst)
    }
}

/// `inner`, counting and failing as its control says.
pub(crate) fn hooked(inner: Arc<dyn Vfs>) -> (Arc<dyn Vfs>, Arc<Control>) {
    let control = Arc::new(Control::default());
    let c = Arc::clone(&control);
    let hook = move |call: &VfsCall<'_>| {
        let (count, fail) = match call.op {
            // A segment that is opened is asked for its header: that is no read of entries.
            VfsOp::Read if (call.offset, call.len) == (Some(0), Some(64)) => {
                (None, Some(&c.fail_reads))
            }
            VfsOp::Read => (Some(&c.reads), Some(&c.fail_reads)),
            VfsOp::Write => (Some(&c.writes), Some(&c.fail_writes)),
            VfsOp::Sync => (Some(&c.syncs), Some(&c.fail_syncs)),
            VfsOp::SyncDir => (None, Some(&c.fail_syncs)),
            VfsOp::RemoveFile => (None, Some(&c.fail_removals)),
            _ => (None, None),
        };
        count.inspect(|count| _ = count.fetch_add(1, Ordering::SeqCst));
        if fail.is_some_and(|fail| fail.load(Ordering::SeqCst)) {
            return Err(call.error(io::Error::other("injected")));
        }
        Ok(())
    };
    (Arc::new(HookedDisk::new(inner, Arc::new(hook))), control)
}

/// One entry to be: shard, key length, value length, deactivated serial numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) shard: usize,
    pub(crate) key_len: usize,
    pub(crate) value_len: usize,
    pub(crate) dsns: usize,
}

pub(crate) fn shape(shard: usize, value_len: usize) -> Shape {
    Shape { shard, key_len: 9, value_len, dsns: 1 }
}

/// An entry that the log must have.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    pub(crate) record: LogPosition,
    pub(crate) at: LogPosition,
    pub(crate) shard: ShardId,
    pub(crate) sn: SerialNumber,
    pub(crate) hashed: Vec<u8>,
    /// Whether the log has only its stub.
    pub(crate) is_stub: bool,
}

impl Expected {
    /// What the log keeps of it if it is a stub.
    pub(crate) fn stub(&self) -> Stub {
        Stub { serial_number: self.sn, hash: leaf_of(&self.hashed) }
    }
}

/// Stands for the hash of an entry: what is tested here does not hash.
pub(crate) fn leaf_of(hashed: &[u8]) -> Digest {
    let crc = crc32c::crc32c(hashed).to_le_bytes();
    Digest(std::array::from_fn(|i| crc[i % 4] ^ i as u8))
}

/// Makes records and remembers them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) next_sn: [u64; SHARDS],
    pub(crate) height: u64,
    pub(crate) entries: Vec<Expected>,
    pub(crate) records: Vec<Arc<Record>>,
    /// Of one entry in so many only a stub is written; 0: of none.
    pub(crate) stub_every: u64,
}

impl Model {
    /// A record of these entries at `position`.
    pub(crate) fn record(&mut self, position: LogPosition, shapes: &[Shape]) -> Arc<Record> {
        let mut runs: [Vec<u8>; SHARDS] = Default::default();
        let mut counts = [0; SHARDS];
        let mut spans = vec![];
        for (i, shape) in shapes.iter().enumerate() {
            let (sn, run) = (&mut self.next_sn[shape.shard], &mut runs[shape.shard]);
            let paint = |len: usize, salt: u64| -> Vec<u8> {
                (0..len as u64).map(|j| (j * 31 + salt * 7 + *sn * 13) as u8).collect()
            };
            let fields = EntryFields {
                key: &paint(shape.key_len, i as u64),
                value: &paint(shape.value_len, 1 + i as u64),
                next_key_hash: KeyHash([i as u8; 32]),
                version: Version(self.height as i64 + 1),
                serial_number: SerialNumber(*sn),
                deactivated: &vec![SerialNumber(*sn / 2); shape.dsns],
            };
            let mut hashed = vec![];
            fields.encode(&mut hashed).unwrap();
            let is_stub = self.stub_every > 0 && sn.is_multiple_of(self.stub_every);
            let offset = if is_stub {
                let hash = leaf_of(&hashed);
                push_stub(run, &Stub { serial_number: SerialNumber(*sn), hash }).unwrap()
            } else {
                push_frame(run, &fields).unwrap().offset
            };
            spans.push((shape.shard, offset, SerialNumber(*sn), hashed, is_stub));
            counts[shape.shard] += 1;
            *sn += 1;
        }
        self.height += 1;
        let lens = runs.each_ref().map(Vec::len);
        for (shard, offset, sn, hashed, is_stub) in spans {
            let shard = ShardId::new(shard).unwrap();
            let at = Record::run_start(position, &lens, shard).plus(u64::from(offset));
            self.entries.push(Expected { record: position, at, shard, sn, hashed, is_stub });
        }
        for (shard, run) in ShardId::all().zip(&mut runs) {
            place_run(run, Record::run_start(position, &lens, shard)).unwrap();
        }
        let runs = runs.map(Bytes::from);
        let state = BlockState {
            oldest_active: std::array::from_fn(|shard| SerialNumber(shard as u64)),
            extra: Bytes::from(vec![7; self.height as usize % 20]),
            ..BlockState::default()
        };
        let record = Record::new(position, Height(self.height), runs, counts, state).unwrap();
        let record = Arc::new(record);
        self.records.push(Arc::clone(&record));
        record
    }

    /// Announces a record of these entries, without writing it.
    pub(crate) fn announce(&mut self, log: &EntryLog, shapes: &[Shape]) -> Arc<Record> {
        let record = self.record(log.next_position(), shapes);
        log.announce(Arc::clone(&record)).unwrap();
        record
    }

    /// Announces, writes and syncs a record of these entries.
    pub(crate) fn commit(&mut self, log: &EntryLog, shapes: &[Shape]) -> Arc<Record> {
        let record = self.announce(log, shapes);
        log.append(&record).unwrap();
        log.sync().unwrap();
        record
    }

    /// The entries of `shard`, in order.
    pub(crate) fn shard(&self, shard: ShardId) -> Vec<&Expected> {
        let mut entries: Vec<_> = self.entries.iter().filter(|e| e.shard == shard).collect();
        entries.sort_by_key(|e| e.sn);
        entries
    }

    /// Forgets what lies at or beyond `end`.
    pub(crate) fn cut(&mut self, end: LogPosition) {
        self.entries.retain(|e| e.at < end);
        self.records.retain(|r| r.position() < end);
        self.height = self.records.len() as u64;
        for shard in ShardId::all() {
            self.next_sn[shard.index()] = self.shard(shard).len() as u64;
        }
    }

    /// Checks that the log has all entries from `start` on, by every way of reading.
    pub(crate) fn check(&self, log: &EntryLog) {
        let start = log.start();
        let kept: Vec<&Expected> = self.entries.iter().filter(|e| e.at >= start).collect();
        for e in &kept {
            assert_same(e, &log.read(e.at).unwrap());
        }
        let positions: Vec<_> = kept.iter().rev().map(|e| e.at).collect();
        let read = log.read_many(&positions).unwrap();
        assert_eq!(read.len(), kept.len());
        for (e, entry) in kept.iter().rev().zip(&read) {
            assert_same(e, entry);
        }
        self.check_scan(log);
    }

    /// Checks that a scan finds exactly the entries and records from the log's start on.
    pub(crate) fn check_scan(&self, log: &EntryLog) {
        let start = log.start();
        let records: Vec<_> = self.records.iter().filter(|r| r.position() >= start).collect();
        let mut found = 0;
        let mut scanned = log.scan(start, log.announced_end());
        for expected in &records {
            let record = scanned.next().unwrap().unwrap();
            assert_eq!((record.position(), record.end()), (expected.position(), expected.end()));
            assert!(record.record() == &***expected, "record at {}", expected.position());
            for shard in ShardId::all() {
                assert_eq!(record.entries(shard).count() as u32, expected.entries(shard));
                for (at, entry) in record.entries(shard) {
                    let e = self.entries.iter().find(|e| e.at == at).unwrap();
                    assert_eq!((entry.hashed_bytes(), e.shard), (&e.hashed[..], shard));
                    found += 1;
                }
            }
        }
        assert!(scanned.next().is_none());
        assert_eq!(found, self.entries.iter().filter(|e| e.at >= start).count());
    }
}

pub(crate) fn assert_same(expected: &Expected, entry: &StoredEntry) {
    assert!(entry.hashed_bytes() == &expected.hashed, "entry at {}", expected.at);
    assert_eq!(entry.get().serial_number(), expected.sn);
}

/// No cache, nothing kept in memory once it is written: every read goes to the disk.
pub(crate) fn disk_only(segment_size: u64) -> LogOptions {
    LogOptions {
        segment_size: SegmentSize::fixed(segment_size),
        cache_bytes: 0,
        tail_bytes: 0,
        mapped_bytes: 1 << 30,
    }
}

/// The files of a directory with their lengths.
pub(crate) fn files(vfs: &dyn Vfs, dir: &Path) -> Vec<(PathBuf, u64)> {
    let names = vfs.read_dir(dir).unwrap();
    names
        .into_iter()
        .map(|name| {
            let path = dir.join(name);
            let file = vfs.open(&path, hedgerow_vfs::OpenMode::Read).unwrap();
            (path, file.len().unwrap())
        })
        .collect()
}

/// Flips one bit of a file.
pub(crate) fn flip(vfs: &dyn Vfs, path: &Path, byte: u64, bit: u8) {
    let file = vfs.open(path, hedgerow_vfs::OpenMode::ReadWrite).unwrap();
    let mut buf = [0];
    file.read_exact_at(&mut buf, byte).unwrap();
    file.write_all_at(&[buf[0] ^ 1 << bit], byte).unwrap();
}

/// Writes `value` to `byte` of a segment's header and mends the header's checksum.
pub(crate) fn forge_header(vfs: &dyn Vfs, path: &Path, byte: usize, value: u8) {
    let file = vfs.open(path, hedgerow_vfs::OpenMode::ReadWrite).unwrap();
    let mut header = [0; 64];
    file.read_exact_at(&mut header, 0).unwrap();
    header[byte] = value;
    let crc = crc32c::crc32c(&header[..60]);
    header[60..].copy_from_slice(&crc.to_le_bytes());
    file.write_all_at(&header, 0).unwrap();
}

/// Copies all files of a directory, so that each of many cases starts from the same.
pub(crate) fn copy_dir(vfs: &dyn Vfs, dir: &Path) -> (Arc<dyn Vfs>, PathBuf) {
    let (copy, copy_dir) = mem();
    copy.create_dir_all(&copy_dir).unwrap();
    for (path, len) in files(vfs, dir) {
        let bytes = hedgerow_vfs::read_file(vfs, &path, len).unwrap();
        let to = copy_dir.join(path.file_name().unwrap());
        let file = copy.open(&to, hedgerow_vfs::OpenMode::CreateNew).unwrap();
        file.write_all_at(&bytes, 0).unwrap();
    }
    (copy, copy_dir)
}

/// A record of a twig, whose entries lie at positions that nobody has.
pub(crate) fn twig_record(shard: usize, twig: u64) -> Arc<TwigRecord> {
    let base = 1_000_000 * twig;
    Arc::new(TwigRecord {
        shard: ShardId::new(shard).unwrap(),
        twig: TwigId(twig),
        record: LogPosition(base),
        nodes: Box::new(std::array::from_fn(|i| Digest([(i as u64 + twig) as u8; 32]))),
        groups: Box::new(std::array::from_fn(|i| LogPosition(base + 2400 * i as u64 + 160))),
        breaks: vec![],
        leaves: None,
    })
}
