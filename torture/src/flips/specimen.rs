//! The stores that are damaged: small, with everything in them; one closed in peace, one whose last
//! blocks are in the log alone, as a killed process leaves it; one whose index is in files.

use super::layout;
use crate::crash::cycle::{submit_net, tasks};
use crate::crash::image::{Image, KEYS};
use crate::crash::session::dir;
use hedgerow::{CompactionRule, Digest, Error, Height, IndexMode, Options, Store, StoreParams};
use hedgerow_testkit::generate::{BlockGen, GenShape};
use hedgerow_testkit::model::Model;
use hedgerow_types::SHARDS;
use hedgerow_vfs::power_loss::PowerLossDisk;
use hedgerow_vfs::{OpenMode, Vfs, VfsError};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Heights whose rows are kept.
const HISTORY: u64 = 8;

/// Blocks that the manifest of the one store does not know.
const JOURNAL: usize = 6;

/// The right answers at a height.
pub(super) struct Answers {
    /// Present and absent keys, in no order.
    pub(super) values: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// What the iterator gives.
    pub(super) pairs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A store, and the right answers to every question.
pub(super) struct Specimen {
    pub(super) which: Which,
    pub(super) disk: PowerLossDisk,
    pub(super) height: u64,
    /// By height, from that of the manifest to the last.
    pub(super) answers: BTreeMap<u64, Answers>,
    /// Root and extra data by height.
    pub(super) rows: BTreeMap<u64, (Digest, Vec<u8>)>,
    /// The first height whose row is kept.
    pub(super) kept_from: u64,
    /// All files, by name.
    pub(super) files: Vec<File>,
    /// Where the values that `get` returns lie: number of the file, frame.
    pub(super) live: Vec<(usize, Range<usize>)>,
}

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// Closed in peace.
    Closed,
    /// Whose last blocks the manifest does not know.
    Journal,
    /// Whose index is in files, closed in peace.
    Tiered,
}

/// All of them.
pub(super) struct Specimens {
    pub(super) closed: Specimen,
    pub(super) journal: Specimen,
    pub(super) tiered: Specimen,
}

/// Where the disk of the one with an index in files has files of another store's.
const OTHER: &str = "/data/other";

/// A file of another store's index, and of the same shard as this one.
pub(super) fn other_of(name: &str) -> Option<PathBuf> {
    let shard = name.strip_prefix("index/")?.get(..2)?;
    Some(Path::new(OTHER).join(shard))
}

impl Specimens {
    /// All, with everything in them.
    ///
    /// # Errors
    /// What went wrong, or is missing.
    pub(super) fn make() -> Result<Self, String> {
        let make = |which| {
            let made = Specimen::make(which);
            let specimen = made.map_err(|error| format!("making the store: {error}"))?;
            specimen.is_worth_it().map(|()| specimen)
        };
        let tiered = make(Which::Tiered)?;
        tiered.put_beside().map_err(|error| format!("making another store: {error}"))?;
        Ok(Self { closed: make(Which::Closed)?, journal: make(Which::Journal)?, tiered })
    }

    /// The one that is damaged.
    pub(super) fn of(&self, which: Which) -> &Specimen {
        match which {
            Which::Closed => &self.closed,
            Which::Journal => &self.journal,
            Which::Tiered => &self.tiered,
        }
    }

    /// Each of them.
    pub(super) fn all(&self) -> [&Specimen; 3] {
        [&self.closed, &self.journal, &self.tiered]
    }
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Log,
    Twigs,
    Meta,
    Index,
    Other,
}

/// A file of the store.
pub(super) struct File {
    /// Relative to the store's directory.
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) bytes: Vec<u8>,
}

/// The kind of the file of a name.
pub(super) fn kind_of(name: &str) -> Kind {
    match name.split_once('/') {
        Some(("log", _)) => Kind::Log,
        Some(("twigs", _)) => Kind::Twigs,
        Some(("meta", _)) => Kind::Meta,
        Some(("index", _)) => Kind::Index,
        _ => Kind::Other,
    }
}

/// How a specimen is opened.
pub(super) fn options(disk: &PowerLossDisk, which: Which) -> Options {
    let options = Options::new()
        .disk(Arc::new(disk.clone()))
        .threads(1)
        .segment_bytes(150_000)
        .keep_heights(3)
        .keep_history(HISTORY);
    match which {
        Which::Closed | Which::Journal => options,
        // Each checkpoint ends a memory age, and of so many ages a file is made, however few records they have.
        Which::Tiered => {
            options.index(IndexMode::Tiered { memory_bytes: 4 << 20 }).checkpoint_bytes(20_000)
        }
    }
}

fn shape(keys_per_change_set: u64, max_value_len: u64) -> GenShape {
    GenShape { keys: KEYS, keys_per_change_set, change_sets: 4, max_value_len }
}

impl Specimen {
    /// The same blocks whenever it is made; only the store's id differs.
    ///
    /// # Errors
    /// What the store or the disk said.
    pub(super) fn make(which: Which) -> Result<Self, Error> {
        let journal = which == Which::Journal;
        let rule = CompactionRule::new(1, 1, 1).unwrap_or_default();
        let Image { disk, mut model, mut blocks, .. } = Image::of(rule, None)?;
        let disk = disk.settled_copy(1);
        let mut rows = BTreeMap::new();
        let mut store = Store::open(dir(), options(&disk, which))?;
        blocks.go_on(3, shape(60, 20_000));
        let mut models = vec![];
        for number in 0..14 + if journal { JOURNAL } else { 0 } {
            if number == 14 {
                // The manifest comes to here.
                store.close()?;
                store = Store::open(dir(), options(&disk, which))?;
                models.clear();
                models.push(model.clone());
                blocks.go_on(5, shape(60, 20_000));
            }
            match number {
                // The last two are small: every byte of them is tried.
                12 | 18 => make_small(&mut blocks),
                5 => blocks.go_on(4, shape(10, 60_000)),
                _ => {}
            }
            let extra = vec![number as u8; [0, 9, 2_000][number % 3]];
            let ticket = match number {
                4 => {
                    let (height, change_sets) = blocks.none();
                    model.apply_net(height, &change_sets);
                    submit_net(&mut store, height, &change_sets, &extra)?
                }
                1 | 3 | 6 | 8 | 10 | 13 => {
                    let block = blocks.strict();
                    model.apply(&block);
                    store.submit_tasks(Height(block.height), &tasks(&block), extra.clone())?
                }
                _ => {
                    let (height, change_sets) = blocks.net();
                    model.apply_net(height, &change_sets);
                    submit_net(&mut store, height, &change_sets, &extra)?
                }
            };
            ticket.durable()?;
            rows.insert(model.height(), (model.state_root(), extra));
            models.push(model.clone());
        }
        // What a process leaves that was killed now.
        let killed = disk.settled_copy(1);
        store.close()?;
        let disk = if journal { killed } else { disk };
        if !journal {
            models.drain(..models.len() - 1);
        }
        let mut keys = blocks.keys().to_vec();
        keys.extend((0..40).map(|number| format!("never written {number}").into_bytes()));
        let answers = |model: &Model| {
            let value = |key: &Vec<u8>| (key.clone(), model.get(key).map(<[u8]>::to_vec));
            let pairs = model.iter().map(|(key, value)| (key.to_vec(), value.to_vec()));
            (
                model.height(),
                Answers { values: keys.iter().map(value).collect(), pairs: pairs.collect() },
            )
        };
        let mut files = files(&disk, &dir())?;
        // What no checkpoint names goes when the store is opened: nothing can be damaged there.
        let opened = disk.settled_copy(1);
        Store::open(dir(), options(&opened, which))?.close()?;
        let stays = |file: &File| opened.exists(&dir().join(&file.name));
        for file in std::mem::take(&mut files) {
            if file.kind != Kind::Index || stays(&file)? {
                files.push(file);
            }
        }
        let answers: BTreeMap<_, _> = models.iter().map(answers).collect();
        Ok(Self {
            which,
            height: model.height(),
            live: answers
                .last_key_value()
                .map_or_else(Vec::new, |(_, it)| live(&files, &it.values)),
            answers,
            kept_from: model.height() + 1 - HISTORY,
            rows,
            files,
            disk,
        })
    }

    /// The right answers at the last height.
    pub(super) fn last(&self) -> &Answers {
        &self.answers[&self.height]
    }

    /// The height of the manifest.
    pub(super) fn settled(&self) -> u64 {
        self.answers.first_key_value().map_or(self.height, |(&height, _)| height)
    }

    /// Puts files of another store's index beside this one's, one for each shard.
    ///
    /// # Errors
    /// What that store or the disk said.
    fn put_beside(&self) -> Result<(), Error> {
        let disk = PowerLossDisk::new(2);
        let mut store = Store::create(dir(), StoreParams::default(), options(&disk, self.which))?;
        for height in 1..=8 {
            let mut block = store.begin_block(Height(height))?;
            for number in 0..40 {
                block.put(format!("key {number}"), vec![height as u8; 1_000])?;
            }
            block.commit()?;
            store.flush()?;
        }
        store.close()?;
        self.disk.create_dir_all(Path::new(OTHER))?;
        for file in files(&disk, &dir())?.iter().filter(|file| file.kind == Kind::Index) {
            let Some(to) =
                other_of(&file.name).filter(|to| self.disk.exists(to).is_ok_and(|is| !is))
            else {
                continue;
            };
            self.disk.open(&to, OpenMode::CreateNew)?.write_all_at(&file.bytes, 0)?;
        }
        Ok(())
    }

    /// What is tried must be there.
    ///
    /// # Errors
    /// What is missing.
    pub(super) fn is_worth_it(&self) -> Result<(), String> {
        let count = |kind| self.files.iter().filter(|file| file.kind == kind).count();
        let last_two = self.last_two();
        let log = self.files.iter().find(|file| file.kind == Kind::Log);
        let Answers { values, pairs } = self.last();
        let meta = self.files.iter().filter(|file| file.kind == Kind::Meta);
        let manifests =
            |height| meta.clone().any(|file| !layout::manifests(&file.bytes, height).is_empty());
        let journal = self.records_behind(self.settled());
        let segments: BTreeSet<&str> = journal.iter().map(|(file, _)| &*file.name).collect();
        for (holds, what) in [
            (manifests(self.settled()), "a manifest"),
            (!(self.settled() + 1..=self.height).any(manifests), "blocks that it does not know"),
            (journal.is_empty() || segments.len() > 1, "a journal in several segments"),
            (count(Kind::Log) >= 5, "several segments of the log"),
            (
                (count(Kind::Index) >= SHARDS) == (self.which == Which::Tiered),
                "an index in files, where it is to be",
            ),
            (count(Kind::Twigs) >= 2, "several segments of the twig file"),
            (log.is_some_and(|log| !log.name.ends_with("/0000000000000000.log")), "pruned log"),
            (
                last_two.len() == 2 && last_two.iter().all(|(_, record)| record.frames.len() >= 4),
                "entries in the last two blocks",
            ),
            (self.rows.len() as u64 > HISTORY, "dropped history"),
            (values.iter().any(|(_, value)| value.is_none()), "absent keys"),
            (self.live.len() == pairs.len() && self.live.len() > 100, "every key's entry"),
            (
                values.iter().flat_map(|(_, value)| value).any(|value| value.len() > 5_000),
                "a large value",
            ),
        ] {
            if !holds {
                return Err(format!("the specimen lacks {what}"));
            }
        }
        Ok(())
    }

    /// The records of the last two blocks: the file of each and where it lies.
    pub(super) fn last_two(&self) -> Vec<(&File, layout::LogRecord)> {
        self.records_behind(self.height.saturating_sub(2))
    }

    /// The records of blocks above a height, in order.
    pub(super) fn records_behind(&self, height: u64) -> Vec<(&File, layout::LogRecord)> {
        let records = self.files.iter().filter(|file| file.kind == Kind::Log).flat_map(|file| {
            let records = layout::log_records(&file.bytes).unwrap_or_default();
            records.into_iter().map(move |record| (file, record))
        });
        records.filter(|(_, record)| record.height > height).collect()
    }
}

/// From here on two blocks, of puts and of strict operations, that have a few of them.
fn make_small(blocks: &mut BlockGen) {
    let few = shape(3, 40);
    let some = |seed: &u64| {
        let mut trial = blocks.clone();
        trial.go_on(*seed, few);
        let net: usize = trial.net().1.iter().map(Vec::len).sum();
        let strict: usize = trial.strict().tasks.iter().flatten().map(Vec::len).sum();
        (3..9).contains(&net) && (3..9).contains(&strict)
    };
    let seed = (0..10_000).find(some).unwrap_or_default();
    blocks.go_on(seed, few);
}

/// The frame of the last entry of each key that is present.
fn live(files: &[File], values: &[(Vec<u8>, Option<Vec<u8>>)]) -> Vec<(usize, Range<usize>)> {
    let present = values.iter().filter(|(_, value)| value.is_some());
    let present: BTreeSet<&[u8]> = present.map(|(key, _)| &key[..]).collect();
    let mut last = BTreeMap::new();
    // By position, and so by serial number.
    for (number, file) in files.iter().enumerate().filter(|(_, file)| file.kind == Kind::Log) {
        for record in layout::log_records(&file.bytes).unwrap_or_default() {
            for frame in record.frames {
                let Some(key) = layout::key(&file.bytes, &frame) else { continue };
                if present.contains(key) {
                    last.insert(key, (number, frame));
                }
            }
        }
    }
    last.into_values().collect()
}

/// All files below `dir`, by name.
fn files(disk: &PowerLossDisk, dir: &Path) -> Result<Vec<File>, VfsError> {
    let mut names = Vec::new();
    for name in disk.read_dir(dir)? {
        let name = name.to_string_lossy().into_owned();
        match disk.read_dir(&dir.join(&name)) {
            Ok(below) => {
                names.extend(below.iter().map(|file| format!("{name}/{}", file.to_string_lossy())));
            }
            Err(_) => names.push(name),
        }
    }
    let read = |name: String| {
        let file = disk.open(&dir.join(&name), OpenMode::Read)?;
        let mut bytes = vec![0; file.len()? as usize];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(File { kind: kind_of(&name), name, bytes })
    };
    names.into_iter().map(read).collect()
}
