//! Random blocks of edits, and what every index must answer after them.

use hedgerow_index::{
    Edit, Index, IndexError, Place, Record, Snapshot, Stem, TieredIndex, TieredOptions,
};
use hedgerow_types::{KeyHash, LogPosition, SerialNumber, ShardId};
use hedgerow_vfs::Vfs;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

/// splitmix64.
#[derive(Clone)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// Runs a test for each of these seeds, or for the one that the environment names; prints that of a failure.
pub(crate) fn for_seeds(seeds: std::ops::Range<u64>, test: impl Fn(u64)) {
    struct Told(u64);
    impl Drop for Told {
        fn drop(&mut self) {
            if std::thread::panicking() {
                println!("HEDGEROW_INDEX_SEED={}", self.0);
            }
        }
    }
    let given = std::env::var("HEDGEROW_INDEX_SEED").ok().and_then(|it| it.parse().ok());
    for seed in given.map_or(seeds, |seed: u64| seed..seed + 1) {
        let _told = Told(seed);
        test(seed);
    }
}

/// A key hash of shard 0 with this stem; `rest` tells ties apart.
pub(crate) fn key(stem: u64, rest: u8) -> KeyHash {
    let mut bytes = [rest; 32];
    bytes[..8].copy_from_slice(&(stem << 16 | u64::from(rest)).to_be_bytes());
    KeyHash(bytes)
}

/// Which keys there are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Keys {
    /// Few stems, at the edges of groups and parts, each of many keys.
    Ties,
    /// So many stems, spread evenly, and few ties.
    Spread(u64),
    /// So many in each of few groups.
    Crowded(u64),
}

impl Keys {
    pub(crate) fn pool(self, rng: &mut Rng) -> Vec<KeyHash> {
        let mut pool = BTreeSet::new();
        match self {
            Self::Ties => {
                for group in [0, 1, 255, 256, 2047, 4095_u64] {
                    for fragment in [0, 1, 77, u64::from(u32::MAX)] {
                        (0..24).for_each(|rest| {
                            pool.insert(key(group << 32 | fragment, rest));
                        });
                    }
                }
            }
            Self::Spread(count) => (0..count).for_each(|_| {
                let stem = rng.below(1 << 44);
                (0..=u8::from(rng.one_in(50))).for_each(|rest| {
                    pool.insert(key(stem, rest));
                });
            }),
            Self::Crowded(count) => (0..count).for_each(|_| {
                let group = [0, 256, 257, 4095][rng.below(4) as usize];
                pool.insert(key(group << 32 | rng.below(1 << 32), 0));
            }),
        }
        pool.into_iter().collect()
    }
}

/// What there is, and what comes next.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) pool: Vec<KeyHash>,
    pub(crate) keys: BTreeMap<KeyHash, Place>,
    pub(crate) next_sn: u64,
    pub(crate) next_at: u64,
}

impl World {
    pub(crate) fn new(seed: u64, keys: Keys) -> Self {
        let mut rng = Rng(seed);
        let pool = keys.pool(&mut rng);
        let next_sn = [0, 5, 1 << 30][rng.below(3) as usize];
        Self { rng, pool, keys: BTreeMap::new(), next_sn, next_at: 8 }
    }

    fn place(&mut self) -> Place {
        self.next_sn += 1 + self.rng.below(3);
        self.next_at += 8 * (1 + self.rng.below(20));
        Place { at: LogPosition(self.next_at), sn: SerialNumber(self.next_sn) }
    }

    /// The edit that puts a key, or removes it.
    pub(crate) fn edit(&mut self, key: KeyHash, put: bool) -> Edit {
        let old = self.keys.get(&key).copied();
        let new = put.then(|| self.place());
        match new {
            Some(new) => self.keys.insert(key, new),
            None => self.keys.remove(&key),
        };
        Edit { key, old, new }
    }

    /// What the blocks since another time came to, ascending: where keys were then, and where they are.
    pub(crate) fn since(&self, before: &Self) -> Vec<Edit> {
        let all: BTreeSet<KeyHash> = before.keys.keys().chain(self.keys.keys()).copied().collect();
        let edit = |key: KeyHash| {
            let at = |world: &Self| world.keys.get(&key).copied();
            Edit { key, old: at(before), new: at(self) }
        };
        all.into_iter().map(edit).filter(|edit| edit.old != edit.new).collect()
    }

    /// A block of about so many edits of random keys, of which `deletes` in 100 remove one; some keys are edited more than
    /// once. Sorted by key or not.
    pub(crate) fn block(&mut self, edits: u64, deletes: u64) -> Vec<Edit> {
        let mut block = Vec::new();
        let sorted = !self.rng.one_in(4);
        let mut keys: Vec<KeyHash> = (0..edits)
            .map(|_| self.pool[self.rng.below(self.pool.len() as u64) as usize])
            .collect();
        if sorted {
            keys.sort_unstable();
        }
        for key in keys {
            let put = self.rng.below(100) >= deletes;
            block.push(self.edit(key, put));
        }
        block
    }

    fn places(&self, stem: Stem) -> Vec<LogPosition> {
        let (low, high) = (key(stem.get(), 0), key(stem.get(), u8::MAX));
        let mut places: Vec<_> = self.keys.range(low..=high).map(|(_, place)| place.at).collect();
        places.sort_unstable();
        places
    }

    /// Asks an index everything there is to ask of some keys, in every way there is, and compares.
    pub(crate) fn check(&self, index: &dyn Index, every: usize) {
        assert_eq!(index.len(), self.keys.len());
        let mut rng = Rng(self.next_sn);
        let mut asked: Vec<KeyHash> = self.pool.iter().step_by(every).copied().collect();
        asked.extend((0..20).map(|_| key(rng.below(1 << 44), 3)));
        let mut found = vec![];
        index.candidates(&asked, &mut found).unwrap();
        let expected: Vec<_> = (0..)
            .zip(&asked)
            .flat_map(|(i, key)| self.places(Stem::of(key)).into_iter().map(move |at| (i, at)))
            .collect();
        assert_eq!(found, expected, "candidates");
        for key in asked.iter().step_by(7) {
            let mut found = vec![];
            index.candidates_of(key, &mut |at| found.push(at)).unwrap();
            assert_eq!(found, self.places(Stem::of(key)), "candidates of one");
        }
        let mut stems = vec![Stem::MAX, Stem::first_of(0), Stem::first_of(256), Stem::last_of(255)];
        for key in &asked {
            let stem = Stem::of(key);
            stems.push(stem);
            stems.extend(stem.before());
        }
        let mut found = vec![];
        index.at_or_below(&stems, &mut found).unwrap();
        let below = |stem: &Stem| {
            let last = self.keys.range(..=key(stem.get(), u8::MAX)).next_back()?;
            Some(Stem::of(last.0))
        };
        let expected: Vec<_> = (0..)
            .zip(&stems)
            .filter_map(|(i, stem)| Some((i, below(stem)?)))
            .flat_map(|(i, stem)| self.places(stem).into_iter().map(move |at| (i, stem, at)))
            .collect();
        assert_eq!(found, expected, "at or below");
        let groups: BTreeSet<usize> = asked.iter().map(|key| Stem::of(key).group()).collect();
        for group in groups.into_iter().step_by(every) {
            let mut found = vec![];
            index.group(group, &mut found).unwrap();
            let (low, high) = (Stem::first_of(group), Stem::last_of(group));
            let keys = self.keys.range(key(low.get(), 0)..=key(high.get(), u8::MAX));
            let mut expected: Vec<_> = keys.map(|(key, it)| (Stem::of(key), it.at)).collect();
            expected.sort_unstable();
            assert_eq!(found, expected, "group {group}");
        }
    }

    /// The active bits, as words.
    pub(crate) fn bits(&self) -> Vec<(SerialNumber, u64)> {
        let mut words = BTreeMap::new();
        for place in self.keys.values() {
            *words.entry(place.sn.0 / 64 * 64).or_insert(0) |= 1 << (place.sn.0 % 64);
        }
        words.into_iter().map(|(first, word)| (SerialNumber(first), word)).collect()
    }
}

pub(crate) fn options(memory_bytes: usize) -> TieredOptions {
    TieredOptions {
        folder: PathBuf::from("/index"),
        store: *b"a store, 16 byte",
        shard: ShardId::new(3).unwrap(),
        memory_bytes,
    }
}

pub(crate) fn create(vfs: &Arc<dyn Vfs>, memory_bytes: usize) -> TieredIndex {
    TieredIndex::create(Arc::clone(vfs), options(memory_bytes)).unwrap()
}

/// Does what is due, but at most so many jobs. Returns how many.
pub(crate) fn work(index: &TieredIndex, most: usize) -> Result<usize, IndexError> {
    for done in 0..most {
        let Some(job) = index.work() else { return Ok(done) };
        index.install(job.run()?);
    }
    Ok(most)
}

/// What a manifest would hold.
pub(crate) struct Saved {
    pub(crate) snapshot: Snapshot,
    pub(crate) records: Vec<Record>,
    pub(crate) bits: Vec<(SerialNumber, u64)>,
}

impl Saved {
    pub(crate) fn new(index: &TieredIndex, world: &World) -> Self {
        let snapshot = index.snapshot();
        let records = snapshot.records().collect();
        Self { snapshot, records, bits: world.bits() }
    }

    pub(crate) fn open(
        &self,
        vfs: &Arc<dyn Vfs>,
        memory: usize,
    ) -> Result<TieredIndex, IndexError> {
        let (records, bits) = (self.records.iter().copied(), self.bits.iter().copied());
        let (vfs, list) = (Arc::clone(vfs), &self.snapshot.segments);
        TieredIndex::open(vfs, options(memory), list, records, bits)
    }
}

/// Names of the files there are.
pub(crate) fn files(vfs: &Arc<dyn Vfs>) -> Vec<String> {
    let names = vfs.read_dir(&options(0).folder).unwrap();
    names.into_iter().map(|name| name.into_string().unwrap()).collect()
}
