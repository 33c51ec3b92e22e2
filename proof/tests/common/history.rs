//! One shard's history by the rules of spec 6.3 and 7, small enough to try everything with it.
//!
//! ```text
//!   put, delete, compact ──► entries by serial number (spec 6.3), tree, root
//!                       └──► what every key had after every block
//! ```

use super::Handmade;
use hedgerow_testkit::model::key_hash;
use hedgerow_types::entry::EntryFields;
use hedgerow_types::{Height, KeyHash, SerialNumber, ShardId, Version};
use std::collections::BTreeMap;

/// Keys and their values.
pub(crate) type Values = BTreeMap<Vec<u8>, Vec<u8>>;

/// A shard that begins with one sentry.
pub(crate) struct History {
    pub(crate) state: Handmade,
    pub(crate) shard: ShardId,
    active: BTreeMap<KeyHash, SerialNumber>,
    /// The block at hand, and how many change sets it has had.
    height: u64,
    change_set: u32,
    /// What there was after each block, from height 0.
    pub(crate) values: Vec<Values>,
}

impl History {
    /// The first entry has the serial number `first`; below stand inactive ones that matter to nobody.
    pub(crate) fn new(shard: ShardId, first: u64) -> Self {
        let mut state = Handmade::new(shard);
        state.fill(first);
        for sn in 0..first {
            state.deactivate(SerialNumber(sn));
        }
        let mut history = Self {
            state,
            shard,
            active: BTreeMap::new(),
            height: 0,
            change_set: 0,
            values: vec![Values::new()],
        };
        let sentry = KeyHash::sentry((shard.index() as u16) << 12);
        let end = KeyHash::end_of(shard);
        history.append(&sentry.0, b"", end, Version::SENTRY, &[], sentry);
        history
    }

    fn append(
        &mut self,
        key: &[u8],
        value: &[u8],
        next_key_hash: KeyHash,
        version: Version,
        deactivated: &[SerialNumber],
        own: KeyHash,
    ) {
        let serial_number = self.state.next_sn();
        let fields = EntryFields { key, value, next_key_hash, version, serial_number, deactivated };
        let mut entry = Vec::new();
        fields.encode(&mut entry).expect("a legal entry");
        self.state.append_instead(entry, deactivated);
        self.active.insert(own, serial_number);
    }

    /// An active entry's fields: key, value, next key hash, version.
    fn fields(&self, at: SerialNumber) -> (Vec<u8>, Vec<u8>, KeyHash, Version) {
        let entry = self.state.entry(at);
        let (key, value) = (entry.key().to_vec(), entry.value().to_vec());
        (key, value, entry.next_key_hash(), entry.version())
    }

    fn before(&self, key_hash: KeyHash) -> (KeyHash, SerialNumber) {
        let (own, at) = self.active.range(..key_hash).next_back().expect("the sentry");
        (*own, *at)
    }

    /// A change set of its own, in the block at hand: the next one after the last [`History::end_block`].
    pub(crate) fn put(&mut self, key: &[u8], value: &[u8]) {
        let (own, version) = (key_hash(key), self.version());
        if let Some(at) = self.active.get(&own).copied() {
            let (_, _, next, _) = self.fields(at);
            self.append(key, value, next, version, &[at], own);
        } else {
            let (before, at) = self.before(own);
            let (before_key, before_value, next, _) = self.fields(at);
            self.append(key, value, next, version, &[], own);
            self.append(&before_key, &before_value, own, version, &[at], before);
        }
        self.last().insert(key.to_vec(), value.to_vec());
    }

    /// As [`History::put`]; the key must be present.
    pub(crate) fn delete(&mut self, key: &[u8]) {
        let (own, version) = (key_hash(key), self.version());
        let at = self.active.remove(&own).expect("a present key");
        let (_, _, next, _) = self.fields(at);
        let (before, before_at) = self.before(own);
        let (before_key, before_value, ..) = self.fields(before_at);
        self.append(&before_key, &before_value, next, version, &[at, before_at], before);
        self.last().remove(key);
    }

    /// Moves the oldest active entry to the end.
    pub(crate) fn compact(&mut self) {
        let (own, at) = self.active.iter().min_by_key(|(_, at)| **at).expect("the sentry");
        let (own, at) = (*own, *at);
        let (key, value, next, version) = self.fields(at);
        self.append(&key, &value, next, version, &[at], own);
    }

    /// What the block at hand began with is what the next one begins with too.
    pub(crate) fn end_block(&mut self) {
        self.last();
        self.height += 1;
        self.change_set = 0;
    }

    fn version(&mut self) -> Version {
        self.change_set += 1;
        Version::new(Height(self.height + 1), self.change_set - 1).expect("few change sets")
    }

    /// The values of the block at hand.
    fn last(&mut self) -> &mut Values {
        let at = self.height as usize + 1;
        if self.values.len() == at {
            let values = self.values[at - 1].clone();
            self.values.push(values);
        }
        &mut self.values[at]
    }

    /// The height of the last block that has ended.
    pub(crate) fn height(&self) -> u64 {
        self.height
    }

    /// Where a key's active entry is, or its predecessor's.
    pub(crate) fn covering(&self, key: &[u8]) -> SerialNumber {
        *self.active.range(..=key_hash(key)).next_back().expect("the sentry").1
    }

    /// The entry that replaced the one at `at`.
    pub(crate) fn successor(&self, at: SerialNumber) -> Option<SerialNumber> {
        let later = (at.0 + 1..self.state.next_sn().0).map(SerialNumber);
        later.into_iter().find(|later| self.state.entry(*later).deactivated().any(|sn| sn == at))
    }

    /// The entries that prove what `key` had at `height`: one that is active, or one and its successor.
    pub(crate) fn past(&self, key: &[u8], height: u64) -> Vec<SerialNumber> {
        let says = |at: &SerialNumber| {
            let entry = self.state.entry(*at);
            let own = entry.sentry_key_hash().unwrap_or_else(|| key_hash(entry.key()));
            let wanted = key_hash(key);
            let about = own == wanted || (own < wanted && wanted < entry.next_key_hash());
            about && entry.version().height().0 <= height
        };
        let all = (0..self.state.next_sn().0).map(SerialNumber);
        let mut found = Vec::new();
        for at in all.filter(|at| self.state.entry(*at).key() != b"filler").filter(says) {
            if self.state.is_active(at) {
                found.push(vec![at]);
            } else if let Some(successor) = self.successor(at)
                && self.state.entry(successor).version().height().0 > height
            {
                found.push(vec![at, successor]);
            }
        }
        assert_eq!(found.len(), 1, "exactly one proof of {key:?} at {height}");
        found.remove(0)
    }
}

/// The first `count` of the keys `account-0`, `account-1`, ... that belong to `shard`.
pub(crate) fn keys_of(shard: ShardId, count: usize) -> Vec<Vec<u8>> {
    let all = (0_u32..).map(|number| format!("account-{number}").into_bytes());
    all.filter(|key| key_hash(key).shard() == shard).take(count).collect()
}
