//! What can be read of a damaged store, without opening it.
//!
//! ```text
//!   log, every entry that verifies itself (entryfile, read/salvage.rs)
//!     first pass     what each of them deactivates          ─► gone
//!                    what damaged ones seem to deactivate,
//!                    and the keys that they seem to be of   ─► in doubt
//!     second pass    neither gone nor in doubt ─────────────► keys and values
//! ```
//!
//! An entry says which ones it takes the place of. If it cannot be read, what it took the place of looks
//! alive. Of most damage the bytes still tell which entries those are, and then they are left out: better
//! no value than an old one. What cannot be told is said: how much is lost, and where.
//!
//! **Invariant:** nothing is written, and nothing of this is verified against a root.

use crate::opening::place::{LOG, Place};
use crate::options::Options;
use crate::{Error, Store};
use hashbrown::{HashMap, HashSet};
use hedgerow_entryfile::{LogError, Salvaged, find_dead, salvage, with_dead_span};
use hedgerow_hasher_api::hash_message;
use hedgerow_state::key_hash_of;
use hedgerow_types::entry::EntryRef;
use hedgerow_types::{
    Height, KeyHash, LogPosition, SENTRIES_PER_SHARD, SHARDS, SerialNumber, ShardId,
};
use std::path::Path;

/// Lost parts that a report names one by one.
const NAMED: usize = 64;
/// Entries whose bits lie together.
const PAGE: u64 = 2048;

/// A part of the log that cannot be read.
///
/// ```
/// # fn main() -> Result<(), hedgerow::Error> {
/// # use hedgerow::{Options, Store, StoreParams, disk::MemDisk};
/// # let disk = std::sync::Arc::new(MemDisk::new());
/// # let options = || Options::new().disk(disk.clone());
/// # let mut store = Store::create("/state", StoreParams::default(), options())?;
/// # let mut block = store.next_block()?;
/// # block.put("alice", "100")?;
/// # block.commit()?;
/// # store.close()?;
/// # use hedgerow::disk::{OpenMode, Vfs};
/// # let segment = std::path::Path::new("/state/log").join(&disk.read_dir("/state/log".as_ref())?[0]);
/// let file = disk.open(&segment, OpenMode::ReadWrite)?;
/// file.write_all_at(&[0xFF; 100], 50_000)?;    // damage to the log
/// let report = Store::salvage("/state", options(), |_, _| true)?;
/// for part in &report.lost {
///     println!("{} bytes at {} are lost", part.bytes, part.at);
/// }
/// assert!(report.lost.iter().map(|part| part.bytes).sum::<u64>() >= 100);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LostPart {
    /// Where it begins.
    pub at: LogPosition,
    /// Its length in bytes.
    pub bytes: u64,
    /// The key of the entry that it seems to be, as far as can be told.
    pub key: Option<Vec<u8>>,
}

/// What [`Store::salvage`] found.
///
/// ```
/// # fn main() -> Result<(), hedgerow::Error> {
/// # use hedgerow::{Options, Store, StoreParams, disk::MemDisk};
/// # let disk = std::sync::Arc::new(MemDisk::new());
/// # let options = || Options::new().disk(disk.clone());
/// # let mut store = Store::create("/state", StoreParams::default(), options())?;
/// # let mut block = store.next_block()?;
/// # block.put("alice", "100")?;
/// # block.commit()?;
/// # store.close()?;
/// let mut found = Vec::new();
/// let report = Store::salvage("/state", options(), |key, value| {
///     found.push((key.to_vec(), value.to_vec()));
///     true                                     // go on
/// })?;
/// assert_eq!(found, [(b"alice".to_vec(), b"100".to_vec())]);
/// assert!(report.is_whole());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SalvageReport {
    /// Keys that were given out.
    pub keys: u64,
    /// Keys that the state had at the height that the manifest names, if that can be read. Later blocks may be
    /// in the log.
    pub expected: Option<(Height, u64)>,
    /// Entries that were left out, because a part that is lost seems to have taken their place.
    pub left_out: u64,
    /// Parts of the log that cannot be read.
    pub parts: u64,
    /// Bytes of these parts.
    pub bytes: u64,
    /// The first of these parts.
    pub lost: Vec<LostPart>,
}

impl SalvageReport {
    /// Whether nothing seems to be missing. Not that anything was verified.
    pub fn is_whole(&self) -> bool {
        self.parts == 0 && self.left_out == 0
    }
}

/// Serial numbers of all shards.
#[derive(Default)]
struct Numbers(HashMap<(ShardId, u64), Box<[u64; PAGE as usize / 64]>>);

impl Numbers {
    fn insert(&mut self, shard: ShardId, sn: SerialNumber) {
        let page = self.0.entry((shard, sn.0 / PAGE)).or_insert_with(|| Box::new([0; 32]));
        page[(sn.0 % PAGE / 64) as usize] |= 1 << (sn.0 % 64);
    }

    fn has(&self, shard: ShardId, sn: SerialNumber) -> bool {
        let page = self.0.get(&(shard, sn.0 / PAGE));
        page.is_some_and(|page| page[(sn.0 % PAGE / 64) as usize] >> (sn.0 % 64) & 1 == 1)
    }
}

/// What the first pass learns.
#[derive(Default)]
struct Learnt {
    gone: Numbers,
    /// What damaged entries seem to have taken the place of.
    doubtful: HashSet<(ShardId, SerialNumber)>,
    /// The keys that damaged entries seem to be of, each with the last serial number among these.
    of_keys: HashMap<KeyHash, SerialNumber>,
    report: SalvageReport,
}

impl Learnt {
    fn note(&mut self, found: Salvaged<'_>) {
        match found {
            Salvaged::Entry(entry) => {
                let shard = key_hash_of(entry).shard();
                entry.deactivated().for_each(|sn| self.gone.insert(shard, sn));
            }
            Salvaged::Lost { at, bytes, guess } => {
                let key = guess.map(|entry| entry.key().to_vec());
                self.note_lost(LostPart { at, bytes, key });
                if let Some(entry) = guess {
                    self.doubt(entry);
                }
            }
        }
    }

    fn note_lost(&mut self, part: LostPart) {
        if part.bytes == 0 {
            return;
        }
        self.report.parts += 1;
        self.report.bytes += part.bytes;
        if self.report.lost.len() < NAMED {
            self.report.lost.push(part);
        }
    }

    /// An entry of which some bytes are wrong: it may be of any shard.
    fn doubt(&mut self, entry: EntryRef<'_>) {
        let own = KeyHash(hash_message(entry.key()).0);
        // The next key is of the same shard, and not both are wrong as a rule.
        for shard in [own.shard(), entry.next_key_hash().shard()] {
            self.doubtful.extend(entry.deactivated().map(|sn| (shard, sn)));
        }
        let last = self.of_keys.entry(own).or_insert(entry.serial_number());
        *last = (*last).max(entry.serial_number());
    }

    /// Whether the key and value of an entry are those of the last state; counts it if that is in doubt.
    fn is_alive(&mut self, entry: EntryRef<'_>) -> bool {
        if entry.is_sentry() {
            return false;
        }
        let (key, sn) = (key_hash_of(entry), entry.serial_number());
        if self.gone.has(key.shard(), sn) {
            return false;
        }
        let doubtful = self.doubtful.contains(&(key.shard(), sn))
            || self.of_keys.get(&key).is_some_and(|last| *last > sn);
        self.report.left_out += u64::from(doubtful);
        !doubtful
    }
}

impl Store {
    /// Gives out what can be read of the store in `path`, which may be damaged in any way: keys and values
    /// of the last state, in the order of the log, as long as `give` returns true. For a store that does not
    /// open, and of which there is no backup. Nothing is changed.
    ///
    /// Nothing is verified against a root either. What is lost is in the report; a key of which the last
    /// entry is lost is missing, or, where not even that can be told, has the value that it had before, or
    /// is there though it was deleted.
    ///
    /// # Errors
    /// [`Error::NoStore`] if there is no log; [`Error::InUse`]; if the directory of the log cannot be listed.
    pub fn salvage(
        path: impl AsRef<Path>,
        options: Options,
        mut give: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<SalvageReport, Error> {
        let options = options.read_only().for_opening();
        let (place, _lock) = Place::damaged(path.as_ref(), &options)?;
        let dir = place.path(LOG);
        let mut learnt = Learnt::default();
        let none = |error| match error {
            LogError::NoSegment { .. } => Error::NoStore(place.dir.clone()),
            other => other.into(),
        };
        let manifest = place.manifest(&options).ok().map(|(_, manifest)| manifest);
        // The manifest tells a rollback that happened from one that was cut short. Without it all that there are
        // count.
        let until = manifest.as_ref().map(|manifest| manifest.log_end);
        let mut dead = find_dead(&*place.vfs, &dir, until).map_err(none)?;
        for span in manifest.iter().flat_map(|manifest| &manifest.dead) {
            dead = with_dead_span(&dead, span.clone());
        }
        let pass = |show: &mut dyn FnMut(Salvaged<'_>) -> bool| {
            salvage(&*place.vfs, &dir, &dead, show).map_err(none)
        };
        let there = pass(&mut |found| {
            learnt.note(found);
            true
        })?;
        if let Some(manifest) = &manifest {
            let (start, end) = (manifest.log_start, manifest.log_end);
            for (from, to) in [(start, there.start.min(end)), (there.end.max(start), end)] {
                let bytes = to.0.saturating_sub(from.0);
                learnt.note_lost(LostPart { at: from, bytes, key: None });
            }
        }
        pass(&mut |found| match found {
            Salvaged::Entry(entry) if learnt.is_alive(entry) => {
                learnt.report.keys += 1;
                give(entry.key(), entry.value())
            }
            _ => true,
        })?;
        let mut report = learnt.report;
        report.expected = manifest.map(|manifest| {
            let active: u64 = manifest.shards.iter().map(|shard| shard.active).sum();
            (manifest.height, active.saturating_sub(SHARDS as u64 * SENTRIES_PER_SHARD))
        });
        Ok(report)
    }
}
