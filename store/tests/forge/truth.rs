//! What is asked, what is answered, and what is true.

use crate::tree::{Place, Tree, entry_bytes};
use hedgerow::{Digest, KeyHash, SerialNumber, ShardId};
use hedgerow_testkit::model::{Model, key_hash};
use hedgerow_types::entry::EntryRef;
use std::collections::{BTreeMap, BTreeSet};

/// What a proof is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    Single { key: Vec<u8> },
    Many { keys: Vec<Vec<u8>> },
    Range { from: KeyHash },
    Past { key: Vec<u8>, height: u64 },
}

/// The four families.
pub(crate) const FAMILIES: [&str; 4] = ["single", "many", "range", "past"];

impl Question {
    /// Which of [`FAMILIES`].
    pub(crate) fn family(&self) -> usize {
        match self {
            Self::Single { .. } => 0,
            Self::Many { .. } => 1,
            Self::Range { .. } => 2,
            Self::Past { .. } => 3,
        }
    }
}

/// What a verifier says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Values(Vec<Option<Vec<u8>>>),
    Items { items: Vec<(Vec<u8>, Vec<u8>)>, until: KeyHash },
}

/// A state, and all states before it, as they are.
pub(crate) struct World {
    pub(crate) model: Model,
    pub(crate) tree: Tree,
    pub(crate) root: Digest,
    pub(crate) shard_roots: [Digest; 16],
    /// The values of every height.
    pub(crate) past: BTreeMap<u64, BTreeMap<Vec<u8>, Vec<u8>>>,
    /// The active entries in key-hash order.
    pub(crate) active: Vec<(KeyHash, Place)>,
    /// Which entry put an entry out of use.
    pub(crate) replaced_by: BTreeMap<Place, Place>,
    /// The entries that are about a key: its own and those that enclosed it, in the order of their making.
    pub(crate) about: BTreeMap<Vec<u8>, Vec<Place>>,
    /// Every entry that is not as genesis made it.
    pub(crate) later: Vec<Place>,
}

impl World {
    pub(crate) fn new(
        model: Model,
        past: BTreeMap<u64, BTreeMap<Vec<u8>, Vec<u8>>>,
        keys: &[Vec<u8>],
    ) -> Self {
        let tree = Tree::new(&model);
        let (root, shard_roots) = (tree.root(), tree.shard_roots());
        let mut active = Vec::new();
        let (mut replaced_by, mut later) = (BTreeMap::new(), Vec::new());
        let mut about: BTreeMap<_, Vec<_>> =
            keys.iter().map(|key| (key.clone(), Vec::new())).collect();
        let hashes: Vec<_> = keys.iter().map(|key| (key_hash(key), key)).collect();
        for shard in ShardId::all() {
            let i = shard.index();
            active.extend(model.active_entries(shard).map(|(own, sn)| (own, (i, sn.0))));
            for sn in (0..model.next_sn(shard).0).map(SerialNumber) {
                let entry = model.entry(shard, sn);
                let place = (i, sn.0);
                for old in entry.deactivated() {
                    replaced_by.insert((i, old.0), place);
                }
                if sn.0 >= 4096 {
                    later.push(place);
                }
                let (own, next) = (own_hash(entry), entry.next_key_hash());
                for (hash, key) in &hashes {
                    if own <= *hash && *hash < next {
                        about.get_mut(*key).unwrap().push(place);
                    }
                }
            }
        }
        active.sort();
        Self { model, tree, root, shard_roots, past, active, replaced_by, about, later }
    }

    pub(crate) fn height(&self) -> u64 {
        self.model.height()
    }

    pub(crate) fn entry(&self, (shard, sn): Place) -> EntryRef<'_> {
        self.model.entry(ShardId::new(shard).unwrap(), SerialNumber(sn))
    }

    pub(crate) fn written_at(&self, place: Place) -> u64 {
        self.entry(place).version().height().0
    }

    /// The active entry that settles a key.
    pub(crate) fn covering(&self, key: &[u8]) -> Place {
        let (shard, sn) = self.model.covering(key);
        (shard.index(), sn.0)
    }

    /// The number of the active entry whose stretch has this hash.
    pub(crate) fn active_at(&self, hash: &KeyHash) -> usize {
        self.active.partition_point(|(own, _)| own <= hash) - 1
    }

    /// The entries that prove what a key was at a height: one that is active, or the last copy and what replaced it.
    pub(crate) fn past_places(&self, key: &[u8], height: u64) -> BTreeSet<Place> {
        let mut found = Vec::new();
        for &place in &self.about[key] {
            if self.written_at(place) > height {
                continue;
            }
            match self.replaced_by.get(&place) {
                None => found.push(BTreeSet::from([place])),
                Some(&by) if self.written_at(by) > height => {
                    found.push(BTreeSet::from([place, by]));
                }
                Some(_) => {}
            }
        }
        // docs/proofs.md, section 6: there is always one, and only one.
        assert_eq!(found.len(), 1, "{found:?}");
        found.pop().unwrap()
    }

    /// The bytes of the one proof of these entries.
    pub(crate) fn proof(&self, places: &BTreeSet<Place>) -> Vec<u8> {
        self.tree.proof(&self.model, places).bytes()
    }

    /// Whether `answer` is true, and `bytes` the one proof of it.
    pub(crate) fn is_true(&self, question: &Question, answer: &Answer, bytes: &[u8]) -> bool {
        let value = |key: &Vec<u8>| self.model.get(key).map(<[u8]>::to_vec);
        let (truth, places) = match (question, answer) {
            (Question::Single { key }, _) => {
                (Answer::Values(vec![value(key)]), BTreeSet::from([self.covering(key)]))
            }
            (Question::Many { keys }, _) => (
                Answer::Values(keys.iter().map(value).collect()),
                keys.iter().map(|key| self.covering(key)).collect(),
            ),
            (Question::Range { from }, Answer::Items { until, .. }) => {
                let first = self.active_at(from);
                let places: Vec<Place> = self.active[first..]
                    .iter()
                    .take_while(|(own, _)| own < until)
                    .map(|(_, place)| *place)
                    .collect();
                let ends = places.last().map(|last| self.entry(*last).next_key_hash());
                if ends != Some(*until) {
                    return false;
                }
                let entries = places.iter().map(|place| self.entry(*place));
                let items = entries.filter(|entry| !entry.is_sentry() && own_hash(*entry) >= *from);
                let items = items.map(|entry| (entry.key().to_vec(), entry.value().to_vec()));
                let truth = Answer::Items { items: items.collect(), until: *until };
                (truth, places.into_iter().collect())
            }
            (Question::Past { key, height }, _) => {
                // What is said of a height that this state has not seen is said of its own.
                let height = (*height).min(self.height());
                let value = self.past[&height].get(key).cloned();
                (Answer::Values(vec![value]), self.past_places(key, height))
            }
            (Question::Range { .. }, Answer::Values(_)) => return false,
        };
        *answer == truth && bytes == self.proof(&places)
    }

    /// A true proof's entries, for a question about this state. A range has `entries` of them.
    pub(crate) fn places(&self, question: &Question, entries: usize) -> BTreeSet<Place> {
        match question {
            Question::Single { key } => BTreeSet::from([self.covering(key)]),
            Question::Many { keys } => keys.iter().map(|key| self.covering(key)).collect(),
            Question::Range { from } => {
                let first = self.active_at(from);
                self.active[first..].iter().take(entries).map(|(_, place)| *place).collect()
            }
            Question::Past { key, height } => self.past_places(key, (*height).min(self.height())),
        }
    }

    pub(crate) fn bytes_of(&self, place: Place) -> Vec<u8> {
        entry_bytes(&self.model, place)
    }
}

/// The own hash of an entry.
pub(crate) fn own_hash(entry: EntryRef<'_>) -> KeyHash {
    entry.sentry_key_hash().unwrap_or_else(|| key_hash(entry.key()))
}
