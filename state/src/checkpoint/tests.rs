#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use super::*;
use crate::{OpenTwig, TwigBegins};
use hedgerow_hasher_api::{ScalarHasher, Span, hash_message};
use hedgerow_index::{GROUPS, Record, Stem, TieredIndex, TieredOptions};
use hedgerow_merkle::{Forest, ShardChange};
use hedgerow_types::{ShardId, TwigId};
use hedgerow_vfs::{MemDisk, OpenMode, Vfs, VfsFile};
use std::path::Path;
use std::sync::Arc;

const STORE: [u8; 16] = *b"0123456789abcdef";
const HEIGHT: Height = Height(77);
const LOG_END: LogPosition = LogPosition(1 << 30);

/// A state of 4,100 entries in every shard, of which three are not active.
struct Sample {
    forest: Forest,
    open: Vec<OpenTwig>,
    begins: Vec<TwigBegins>,
}

fn sample() -> Sample {
    let entries = 4_100_u32;
    let arena: Vec<u8> = (0..entries).flat_map(|n| (u64::from(n) * 0x9E37).to_le_bytes()).collect();
    let spans: Vec<Span> = (0..entries).map(|n| Span { offset: 8 * n, len: 8 }).collect();
    let mut forest = Forest::new();
    let changes = std::array::from_fn(|_| ShardChange {
        arena: &arena,
        entries: &spans,
        deactivated: &[SerialNumber(0), SerialNumber(1), SerialNumber(2_500)],
        oldest_active: SerialNumber(2),
    });
    forest.apply(&ScalarHasher, &changes).unwrap();
    let (mut open, mut begins) = (vec![], vec![]);
    for shard in ShardId::all() {
        let at = |n: u64| LogPosition(64 + 8 * n + 65_536 * shard.index() as u64);
        let breaks = (0..shard.index() as u16 % 4).map(|n| (n, at(n.into()))).collect();
        open.push(OpenTwig::from_parts(at(0), vec![at(5)], breaks));
        begins.push((0..3).map(|twig| (TwigId(twig), 100 * twig)).collect());
    }
    Sample { forest, open, begins }
}

/// The keys of a shard: as many as are active.
fn keys_of(shard: ShardId) -> impl Iterator<Item = (Stem, LogPosition)> {
    let step = 11 + shard.index() as u64;
    (0..4_097).map(move |n| {
        (Stem::new((n << 32) | (n * step)).unwrap_or(Stem::MAX), LogPosition(8 * n + 64))
    })
}

fn group(shard: ShardId, group: usize, out: &mut Vec<(Stem, LogPosition)>) {
    // The last one shares a group with the one before it.
    let place = |key: &(Stem, LogPosition)| ((key.0.get() >> 32) as usize).min(GROUPS - 1);
    out.extend(keys_of(shard).filter(|key| place(key) == group));
}

fn written(sample: &Sample) -> (MemDisk, Arc<dyn VfsFile>) {
    let disk = MemDisk::new();
    let file = disk.open(Path::new("/checkpoint"), OpenMode::CreateNew).unwrap();
    let Sample { forest, open, begins } = sample;
    let frozen = Frozen::new(STORE, HEIGHT, LOG_END, forest, open, begins).unwrap();
    let keys = |shard, number, out: &mut Vec<_>| {
        group(shard, number, out);
        Ok::<_, CheckpointError>(())
    };
    let len = frozen.write(&*file, keys).unwrap();
    assert_eq!(len, file.len().unwrap());
    assert_eq!(len, frozen.head().file_len());
    (disk, file)
}

fn bytes(file: &dyn VfsFile) -> Vec<u8> {
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// Everything that a checkpoint holds, or why it cannot be read.
fn read_all(file: &Arc<dyn VfsFile>) -> Result<u64, CheckpointError> {
    let checkpoint = Checkpoint::open(Arc::clone(file), STORE, HEIGHT)?;
    let mut keys = 0;
    for shard in ShardId::all() {
        checkpoint.shard(shard)?;
        for key in checkpoint.keys(shard) {
            key?;
            keys += 1;
        }
    }
    Ok(keys)
}

#[test]
fn what_is_written_is_read() {
    let sample = sample();
    let (_disk, file) = written(&sample);
    let checkpoint = Checkpoint::open(Arc::clone(&file), STORE, HEIGHT).unwrap();
    let Sample { forest, open, begins } = &sample;
    let head = checkpoint.head();
    assert_eq!((head.height, head.log_end), (HEIGHT, LOG_END));
    assert_eq!(head.state_root, forest.roots().state);
    for shard in ShardId::all() {
        let said = head.shard(shard);
        assert_eq!(said.next_sn, SerialNumber(4_100));
        assert_eq!(said.oldest_active, SerialNumber(2));
        assert_eq!(said.active, 4_097);
        assert_eq!(said.root, forest.roots().shards[shard.index()]);
        let state = checkpoint.shard(shard).unwrap();
        assert_eq!(state.edges, forest.edges(shard, TwigId(0)).unwrap());
        assert!(state.left_roots.iter().eq(forest.left_roots(shard)));
        assert_eq!(state.left_roots.len(), 2);
        assert_eq!(state.leaves, forest.youngest_leaves(shard));
        assert_eq!(state.leaves[3], hash_message(&(4_099 * 0x9E37_u64).to_le_bytes()));
        for sn in (0..4_100).map(SerialNumber) {
            assert_eq!(state.bits.is_active(sn), ![0, 1, 2_500].contains(&sn.0));
        }
        assert_eq!(state.open.parts(), open[shard.index()].parts());
        assert!(state.begins.iter().eq(begins[shard.index()].iter()));
        assert!(checkpoint.keys(shard).map(Result::unwrap).eq(keys_of(shard)));
    }
}

#[test]
fn the_bytes_are_pinned() {
    let (_disk, file) = written(&sample());
    assert_eq!(
        hash_message(&bytes(&*file)).to_string(),
        "04191f1c13ecdb2ae6acc8aba78d44dc229ba0f49cf8b4c3a0608bf0803426b2",
        "the bytes of a checkpoint have changed: those that exist are of no use any more. If that is \
         meant, give them a new version, and bring docs/format.md up to date"
    );
}

/// Any byte, and any length.
#[test]
fn damage_is_found() {
    let (disk, file) = written(&sample());
    let whole = bytes(&*file);
    let copy = disk.open(Path::new("/copy"), OpenMode::CreateNew).unwrap();
    copy.write_all_at(&whole, 0).unwrap();
    assert_eq!(read_all(&copy).unwrap(), 16 * 4_097);
    let len = whole.len();
    for at in
        (0..1_700).step_by(7).chain((1_700..len).step_by(9_973)).chain([65_535, 65_536, len - 1])
    {
        copy.write_all_at(&[whole[at] ^ 0x10], at as u64).unwrap();
        assert!(read_all(&copy).is_err(), "byte {at}");
        copy.write_all_at(&[whole[at]], at as u64).unwrap();
    }
    for cut in [0, 1, 4, 1_615, 65_535, 65_536, 65_540, len - 1] {
        copy.set_len(cut as u64).unwrap();
        assert!(read_all(&copy).is_err(), "{cut} bytes");
    }
    copy.set_len(0).unwrap();
    copy.write_all_at(&whole, 0).unwrap();
    copy.write_all_at(&[0], len as u64).unwrap();
    assert!(read_all(&copy).is_err(), "a byte more");
    // Two pages that changed places.
    copy.set_len(len as u64).unwrap();
    copy.write_all_at(&whole[65_536..131_072], 131_072).unwrap();
    copy.write_all_at(&whole[131_072..196_608], 65_536).unwrap();
    assert!(read_all(&copy).is_err(), "pages that changed places");
}

#[test]
fn another_store_s_or_height_s_is_refused() {
    let (_disk, file) = written(&sample());
    let other = Checkpoint::open(Arc::clone(&file), [7; 16], HEIGHT);
    assert!(matches!(other, Err(CheckpointError::Damaged(_))), "{other:?}");
    let other = Checkpoint::open(Arc::clone(&file), STORE, HEIGHT.next());
    assert!(matches!(other, Err(CheckpointError::Damaged(_))), "{other:?}");
}

/// What a tiered index is made of, instead of the keys: some of it in a segment, some in memory.
#[test]
fn what_is_written_of_tiers_is_read() {
    let Sample { forest, open, begins } = sample();
    let disk: Arc<dyn Vfs> = Arc::new(MemDisk::new());
    let index = |shard| {
        let options =
            TieredOptions { folder: "/index".into(), store: STORE, shard, memory_bytes: 0 };
        let index = TieredIndex::create(Arc::clone(&disk), options).unwrap();
        let record = |(sn, (stem, at))| Record { stem, at, sn: SerialNumber(sn) };
        let records: Vec<_> = (0..).zip(keys_of(shard)).map(record).collect();
        let (first, rest) = records.split_at(4_000);
        index.load(first, &[]).unwrap();
        index.install(index.work().unwrap().run().unwrap());
        index.load(rest, &[SerialNumber(4_050)]).unwrap();
        index.snapshot()
    };
    let snapshots: Vec<_> = ShardId::all().map(index).collect();
    let file = disk.open(Path::new("/checkpoint"), OpenMode::CreateNew).unwrap();
    let frozen = Frozen::new(STORE, HEIGHT, LOG_END, &forest, &open, &begins).unwrap();
    let len = frozen.write_tiers(&*file, &snapshots).unwrap();
    assert_eq!(len, file.len().unwrap());
    let checkpoint = Checkpoint::open(Arc::clone(&file), STORE, HEIGHT).unwrap();
    assert!(checkpoint.head().tiered);
    for (shard, snapshot) in ShardId::all().zip(&snapshots) {
        let (segments, records) = checkpoint.tiers(shard).unwrap();
        assert_eq!(segments, snapshot.segments);
        assert_eq!(segments.len(), 1);
        let records: Vec<_> = records.map(Result::unwrap).collect();
        assert!(records.iter().copied().eq(snapshot.records()));
        assert_eq!(records.len(), 96);
        assert_eq!(checkpoint.keys(shard).count(), 0);
        checkpoint.shard(shard).unwrap();
    }
    let whole = bytes(&*file);
    assert_eq!(
        hash_message(&whole).to_string(),
        "a2272de0c7b5e76cba1d91d0beab081fb2e9b88eb548f944b1d460dc262a6622",
        "the bytes of a checkpoint of tiers have changed"
    );
    let read = || -> Result<(), CheckpointError> {
        let checkpoint = Checkpoint::open(Arc::clone(&file), STORE, HEIGHT)?;
        for shard in ShardId::all() {
            checkpoint.shard(shard)?;
            checkpoint.tiers(shard)?.1.try_for_each(|record| record.map(drop))?;
        }
        Ok(())
    };
    for at in (0..1_700).step_by(31).chain((1_700..whole.len()).step_by(9_973)) {
        file.write_all_at(&[whole[at] ^ 0x10], at as u64).unwrap();
        assert!(read().is_err(), "byte {at}");
        file.write_all_at(&[whole[at]], at as u64).unwrap();
    }
    read().unwrap();
    assert!(frozen.write_tiers(&*file, &snapshots[1..]).is_err());
}

/// Keys that do not fit the state are refused while they are written.
#[test]
fn as_many_keys_as_there_are_active_entries() {
    let Sample { forest, open, begins } = sample();
    let disk = MemDisk::new();
    let file = disk.open(Path::new("/checkpoint"), OpenMode::CreateNew).unwrap();
    let frozen = Frozen::new(STORE, HEIGHT, LOG_END, &forest, &open, &begins).unwrap();
    let keys = |_, _, _: &mut Vec<_>| Ok::<_, CheckpointError>(());
    assert!(matches!(frozen.write(&*file, keys), Err(CheckpointError::Damaged(_))));
}
