//! The state at one height, for as long as somebody holds it.
//!
//! ```text
//!   get    positions of the key's stem ► read entries, compare keys
//!   prove  ... the key's, or the one's before it ► path at this height ► left part from the twig's record
//! ```
//!
//! Nothing here waits for the writer, for hashing or for the disk's syncs, and nothing has to be tried
//! again: what a view needs stays as long as it lives. The log never changes what lies at a position, and
//! nothing is pruned that a held state needs.

use crate::Error;
use crate::history::past::Past;
use crate::history::versions::KeyHistory;
use crate::read::iter::Iter;
use crate::read::left::{self, LeafPath};
use crate::read::prove;
use crate::read::published::{State, going_back};
use crate::read::reader::{Proven, ProvenRange, RangeLimit};
use crate::shared::Shared;
use hedgerow_entryfile::{Fill, StoredEntry};
use hedgerow_hasher_api::hash_message;
use hedgerow_index::Stem;
use hedgerow_merkle::{Roots, TreePath};
use hedgerow_proof::SerialPath;
use hedgerow_state::{Refused, check_key, is_entry_of, key_hash_of};
use hedgerow_types::entry::EntryRef;
use hedgerow_types::{Digest, Height, KeyHash, LogPosition, SerialNumber, ShardId};
use std::fmt;
use std::sync::Arc;

/// The state at one height. Cheap to make and to clone, and usable from any thread.
///
/// All answers are of this height, however many blocks are published meanwhile. Holding a view keeps
/// nobody waiting. It costs: what the blocks since then replaced stays in memory (about 16 bytes per
/// change of a key, and up to 40 per node of the tree), every look-up goes through those blocks, and the
/// log that the view needs is not pruned.
///
/// A view of a height that is [taken back](crate::Store::rollback) answers [`Error::RolledBack`] from then on; views of
/// heights that stay go on answering.
///
/// When the store is closed, a view goes on answering, unless it shows blocks that were not durable: then
/// it says [`Error::Closed`].
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use hedgerow::{Options, Store, StoreParams, disk::MemDisk};
/// # let options = Options::new().disk(std::sync::Arc::new(MemDisk::new()));
/// # let mut store = Store::create("/state", StoreParams::default(), options)?;
/// # let mut block = store.next_block()?;
/// # block.put("alice", "100")?;
/// # block.commit()?;
/// let before = store.reader().view();
/// let mut block = store.next_block()?;
/// block.put("alice", "50")?;
/// block.commit()?;
/// assert_eq!(before.get("alice")?, Some(b"100".to_vec()));   // as it was
/// assert_eq!(store.reader().get("alice")?, Some(b"50".to_vec()));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct View {
    pub(crate) shared: Arc<Shared>,
    /// That of its height, or the one from which a past height is looked back at.
    pub(crate) state: Arc<State>,
    /// What it shows, if that is a past height.
    pub(crate) past: Option<Arc<Past>>,
}

impl View {
    /// The newest state.
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared), state: shared.published.current(), past: None }
    }

    /// The state of a height, which may be a past one.
    pub(crate) fn at(shared: &Arc<Shared>, height: Height) -> Result<Self, Error> {
        let newest = Self::new(shared);
        if newest.height() == height {
            return Ok(newest);
        }
        let past = Past::new(shared, height)?;
        // Only now: what is looked back at is held.
        let anchor = Self::new(shared);
        let past = (anchor.height() > height).then_some(past);
        Ok(Self { past, ..anchor })
    }

    /// The height of this state.
    pub fn height(&self) -> Height {
        self.past.as_ref().map_or(self.state.height, |past| past.height)
    }

    /// The state root.
    pub fn root(&self) -> Digest {
        self.roots().state
    }

    /// The state root and the roots of the shards.
    pub fn roots(&self) -> &Roots {
        self.past.as_ref().map_or(self.state.roots(), |past| &past.roots)
    }

    /// Number of keys that have a value; `None` if it is not known: at a past height further back than
    /// [`Options::proof_window`](crate::Options::proof_window).
    pub fn len(&self) -> Option<u64> {
        match &self.past {
            None => Some(self.state.keys),
            Some(past) => past.keys(),
        }
    }

    /// Whether no key has a value; `None` where [`len`](Self::len) is.
    pub fn is_empty(&self) -> Option<bool> {
        self.len().map(|keys| keys == 0)
    }

    /// The value of `key`, or `None` if it is absent.
    ///
    /// # Errors
    /// [`Refused::KeyLength`](crate::Refused::KeyLength), or a failed read.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, Error> {
        self.get_with(key, <[u8]>::to_vec)
    }

    /// Shows the value of `key` while it is at hand, and returns what is made of it: for a value of which
    /// no copy is wanted. `None` if the key is absent. What was shown counts only if there is no error.
    ///
    /// # Errors
    /// As [`View::get`].
    pub fn get_with<T>(
        &self,
        key: impl AsRef<[u8]>,
        show: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>, Error> {
        let key = key.as_ref();
        if self.past.is_none() {
            return value_of(&self.shared, &self.state, key, &mut Some(show));
        }
        check_key(key)?;
        let key_hash = KeyHash(hash_message(key).0);
        let entry = self.answer(|view| view.locate_value(key, &key_hash))?;
        self.shared.check_not_abandoned()?;
        let entry = entry.get();
        Ok(is_entry_of(entry, key).then(|| show(entry.value())))
    }

    /// The values of many keys.
    ///
    /// # Errors
    /// As [`View::get`].
    pub fn get_many<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        if self.past.is_some() {
            return keys.iter().map(|key| self.get(key)).collect();
        }
        self.answer(|view| view.values_of(keys))
    }

    fn values_of<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let mut hashes = Vec::with_capacity(keys.len());
        for key in keys {
            check_key(key.as_ref())?;
            hashes.push(KeyHash(hash_message(key.as_ref()).0));
        }
        let candidates = self.shared.published.candidates(&self.state, &hashes)?;
        let positions: Vec<LogPosition> = candidates.iter().map(|&(_, at)| at).collect();
        let mut values = vec![None; keys.len()];
        let visited = self.shared.log.visit_many(&positions, Fill::Cache, |candidate, entry| {
            let number = candidates[candidate].0 as usize;
            if is_entry_of(entry, keys[number].as_ref()) {
                values[number] = Some(entry.value().to_vec());
            }
        });
        visited?;
        self.shared.check_not_abandoned()?;
        Ok(values)
    }

    /// All keys and values, in the order of the key hashes. What is read is what is there, at most twice
    /// as many entries as there are keys; what is remembered meanwhile does not depend on how many.
    pub fn iter(&self) -> Iter {
        Iter::new(self.clone())
    }

    /// A proof of what this state says about `key`: that it has its value, or that it is absent.
    ///
    /// # Errors
    /// [`Refused::KeyLength`](crate::Refused::KeyLength), or a failed read.
    pub fn prove(&self, key: impl AsRef<[u8]>) -> Result<Proven, Error> {
        check_key(key.as_ref())?;
        self.answer(|view| prove::by_key(view, key.as_ref()))
    }

    /// A proof of what `key` had at an earlier height, under the root of this state:
    /// [`verify_past`](hedgerow_proof::verify_past) checks it. It has the entry that was current then and, if that
    /// is not active any more, the one that took its place. Both are in the tree of every height since, so no root of
    /// the earlier height is needed, nor a record of what its tree was: it works as far back as [`Reader::at`](crate::Reader::at)
    /// does, whatever [`Options::proof_window`](crate::Options::proof_window) says.
    ///
    /// # Errors
    /// [`Refused::KeyLength`](crate::Refused::KeyLength), [`Error::HeightUnavailable`], or a failed read.
    pub fn prove_past(&self, key: impl AsRef<[u8]>, height: Height) -> Result<Proven, Error> {
        check_key(key.as_ref())?;
        self.answer(|view| Ok(prove::past_by_key(view, key.as_ref(), height)?.0))
    }

    /// Proofs of what `key` has had since an earlier height, under the root of this state, as
    /// [`verify_since`](hedgerow_proof::verify_since) takes them: one for `height`, and one for each height at which what the one
    /// before is made of was replaced. As many as the key's entry was written again since then, which happens
    /// whenever its value is set, and when the key after it is created or deleted: whoever bounds them takes as many as that.
    /// They can all be made though the value changed; the verifier sees that.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use hedgerow::{Options, Store, StoreParams, disk::MemDisk};
    /// # let options = Options::new().disk(std::sync::Arc::new(MemDisk::new()));
    /// # let mut store = Store::create("/state", StoreParams::default(), options)?;
    /// # for value in ["100", "50", "50"] {
    /// #     let mut block = store.next_block()?;
    /// #     block.put("alice", value)?;
    /// #     block.commit()?;
    /// # }
    /// use hedgerow::{Answer, Error, Height, ProofError, Proven, verify_since};
    /// let view = store.reader().view();
    /// let proofs = |since| view.proofs_since("alice", Height(since)).collect::<Result<Vec<Proven>, Error>>();
    /// let since = |height| -> Result<_, Error> {
    ///     let proofs = proofs(height)?;
    ///     let verified = verify_since(&view.root(), b"alice", Height(height), proofs.iter().map(|one| one.proof.as_bytes()));
    ///     Ok(verified.map(|answer| answer.value().map(<[u8]>::to_vec)))
    /// };
    /// assert_eq!(since(2)?, Ok(Some(b"50".to_vec())));             // two proofs: it was written again
    /// assert_eq!(since(1)?, Err(ProofError::Changed(Height(2))));  // it was 100 then
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The iterator ends after the first error: those of [`prove_past`](Self::prove_past).
    pub fn proofs_since(
        &self,
        key: impl AsRef<[u8]>,
        height: Height,
    ) -> impl Iterator<Item = Result<Proven, Error>> + Send + 'static {
        let (view, key, mut next) = (self.clone(), key.as_ref().to_vec(), Some(height));
        std::iter::from_fn(move || {
            let height = next.take()?;
            let made = check_key(&key).map_err(Error::from);
            let made =
                made.and_then(|()| view.answer(|view| prove::past_by_key(view, &key, height)));
            Some(made.map(|(proven, replaced_at)| {
                next = replaced_at;
                proven
            }))
        })
    }

    /// One proof of what this state says about all of `keys`, in any order and possibly some more than once: each
    /// entry and each node of the tree is in it once. [`verify_many`](hedgerow_proof::verify_many) verifies it.
    ///
    /// # Errors
    /// [`Refused::NoKeys`] for no key, [`Refused::KeyLength`], or a failed read.
    pub fn prove_many<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Proven, Error> {
        if keys.is_empty() {
            return Err(Refused::NoKeys.into());
        }
        keys.iter().try_for_each(|key| check_key(key.as_ref()))?;
        self.answer(|view| prove::by_keys(view, keys))
    }

    /// One proof of all keys, with their values, whose hashes are `from` or above, up to where the limit is
    /// reached: [`ProvenRange::until`], at which the next range begins. [`verify_range`](hedgerow_proof::verify_range)
    /// verifies it. [`KeyHash::default`] is the start of all.
    ///
    /// # Errors
    /// [`Refused::BehindLastKey`] if `from` is [`KeyHash::MAX`]; a failed read.
    pub fn prove_range(&self, from: KeyHash, limit: RangeLimit) -> Result<ProvenRange, Error> {
        if from == KeyHash::MAX {
            return Err(Refused::BehindLastKey.into());
        }
        self.answer(|view| prove::range(view, from, limit))
    }

    /// The path of one serial number of a shard, in the encoding of [spec 10.1](hedgerow_types::spec), against the shard's
    /// root in this state.
    ///
    /// # Errors
    /// [`Error::SerialUnavailable`] if the serial number is pruned or beyond the next one.
    pub fn prove_serial(&self, shard: ShardId, sn: SerialNumber) -> Result<SerialPath, Error> {
        self.answer(|view| prove::by_serial(view, shard, sn))
    }

    /// Every version of `key` that is still on disk, newest first, up to this height.
    ///
    /// # Errors
    /// As [`View::get`].
    pub fn key_history(&self, key: impl AsRef<[u8]>) -> Result<KeyHistory, Error> {
        let key = key.as_ref();
        check_key(key)?;
        let key_hash = KeyHash(hash_message(key).0);
        self.answer(|view| KeyHistory::new(view.clone(), key, key_hash))
    }

    /// What this state answers, unless it was taken back. `ask` is given this view, or one that looks back from
    /// another state.
    pub(crate) fn answer<T>(&self, ask: impl Fn(&Self) -> Result<T, Error>) -> Result<T, Error> {
        let mut again: Option<Self> = None;
        loop {
            let view = again.as_ref().unwrap_or(self);
            let before = self.shared.published.rollbacks();
            match view.unless_rolled_back(ask(view)) {
                Err(error) if view.may_ask_again(before, &error) => again = Some(view.again()),
                Err(error) => return Err(self.shared.read_for(self.height())(error)),
                found => return found,
            }
        }
    }

    /// What was found, unless this height, or the state that was looked back from, was taken back meanwhile.
    pub(crate) fn unless_rolled_back<T>(&self, found: Result<T, Error>) -> Result<T, Error> {
        if let Some(past) = &self.past
            && past.is_rolled_back()
        {
            return Err(Error::RolledBack { height: past.height });
        }
        self.state.unless_rolled_back(found)
    }

    /// Whether a question that ended with this error is to be asked [again](Self::again), since heights went back
    /// meanwhile and this one is still there. `before` is [`Published::rollbacks`](crate::read::published::Published)
    /// from before the question.
    pub(crate) fn may_ask_again(&self, before: u64, error: &Error) -> bool {
        let stays = match &self.past {
            Some(past) => !past.is_rolled_back(),
            None => !self.state.is_rolled_back(),
        };
        let moved = going_back(before) || self.shared.published.rollbacks() != before;
        // A rollback that failed does not end.
        let again = stays
            && (matches!(error, Error::RolledBack { .. }) || moved)
            && self.shared.flow.check().is_ok();
        if again && going_back(self.shared.published.rollbacks()) {
            std::thread::yield_now();
        }
        again
    }

    /// The same state, looked back at from one that was not taken back.
    pub(crate) fn again(&self) -> Self {
        let mut again = self.clone();
        if again.past.is_some() && again.state.is_rolled_back() {
            again.state = self.shared.published.current();
        }
        again
    }

    /// What has the key, the value and the next key hash of the entry of `key` in this state, or else of the one
    /// before it. At a past height it may be a later copy of that one.
    pub(crate) fn locate_value(
        &self,
        key: &[u8],
        key_hash: &KeyHash,
    ) -> Result<StoredEntry, Error> {
        let entry = self.locate_in_anchor(key, key_hash)?;
        match &self.past {
            Some(past) => Ok(past.value_entry(&self.shared, entry, key_hash)?.entry),
            None => Ok(entry),
        }
    }

    /// The entry of `key` in this state, or else the one before it.
    pub(crate) fn locate(&self, key: &[u8], key_hash: &KeyHash) -> Result<StoredEntry, Error> {
        let entry = self.locate_in_anchor(key, key_hash)?;
        match &self.past {
            Some(past) => past.active_entry(&self.shared, entry, key_hash),
            None => Ok(entry),
        }
    }

    /// The entry in whose range a key hash is in this state: its own, or else the one before it.
    pub(crate) fn covering(&self, key_hash: &KeyHash) -> Result<StoredEntry, Error> {
        let entry = self.nearest(key_hash, |_, found| found == *key_hash)?;
        match &self.past {
            Some(past) => past.active_entry(&self.shared, entry, key_hash),
            None => Ok(entry),
        }
    }

    /// The serial number that a shard's next entry got after this height.
    pub(crate) fn next_sn(&self, shard: ShardId) -> Result<SerialNumber, Error> {
        match &self.past {
            Some(past) => past.next_sn(&self.shared, shard),
            None => Ok(self.state.next_sn(shard)),
        }
    }

    /// The path of a serial number to the root of this height, and the hash of its leaf with the siblings in the left
    /// tree; these are `None` if its twig is pruned.
    pub(crate) fn path(
        &self,
        shard: ShardId,
        sn: SerialNumber,
    ) -> Result<(TreePath, Option<LeafPath>), Error> {
        let (mut paths, mut lefts) = self.paths(&[(shard, sn)])?;
        let missing = || Error::Corrupt(format!("entry {sn} of shard {shard} has no path"));
        Ok((paths.pop().ok_or_else(missing)?, lefts.pop().flatten()))
    }

    /// The [path](Self::path) of each of these serial numbers; those of one twig are best side by side.
    pub(crate) fn paths(
        &self,
        places: &[(ShardId, SerialNumber)],
    ) -> Result<(Vec<TreePath>, Vec<Option<LeafPath>>), Error> {
        let shared = &self.shared;
        let paths = places.iter().map(|&(shard, sn)| match &self.past {
            Some(past) => past.path(shared, &self.state, shard, sn),
            None => Ok(shared.published.path(&self.state, shard, sn)?),
        });
        let paths = paths.collect::<Result<Vec<_>, Error>>()?;
        let lefts = left::left_parts((&**shared).into(), &paths)?;
        let leads_elsewhere = |(path, left): (&TreePath, &Option<LeafPath>)| {
            left.as_ref().is_some_and(|(leaf, siblings)| {
                path.fold(leaf, siblings) != (path.shard_root, path.state_root)
            })
        };
        if self.past.is_some() && paths.iter().zip(&lefts).any(leads_elsewhere) {
            return Err(Error::Corrupt(format!(
                "the undo records lead to another root than height {} had; without the directory undo/ of the \
                 closed store there are no proofs of it",
                self.height()
            )));
        }
        Ok((paths, lefts))
    }

    /// The entry of `key` in the state that is looked back from, or else the one before it.
    fn locate_in_anchor(&self, key: &[u8], key_hash: &KeyHash) -> Result<StoredEntry, Error> {
        // Most keys that are asked for are there, and then this is less work.
        for at in self.shared.published.candidates_of(&self.state, key_hash)?.iter() {
            let entry = self.shared.log.read(at)?;
            if is_entry_of(entry.get(), key) {
                return Ok(entry);
            }
        }
        self.nearest(key_hash, |entry, _| is_entry_of(entry, key))
    }

    /// In the state that is looked back from: the entry that is the one that is looked for, or else the last one before
    /// a key hash. `is_it` is given entries with their own key hashes.
    fn nearest(
        &self,
        key_hash: &KeyHash,
        is_it: impl Fn(EntryRef<'_>, KeyHash) -> bool,
    ) -> Result<StoredEntry, Error> {
        let stem = Stem::of(key_hash);
        let mut below = Some(stem);
        let mut nearest: Option<(KeyHash, StoredEntry)> = None;
        while let Some(from) = below {
            let found = self.shared.published.at_or_below(&self.state, key_hash.shard(), from)?;
            let Some((found, positions)) = found else { break };
            for at in positions {
                let entry = self.shared.log.read(at)?;
                let found = key_hash_of(entry.get());
                if is_it(entry.get(), found) {
                    return Ok(entry);
                }
                if found < *key_hash && nearest.as_ref().is_none_or(|(hash, _)| *hash < found) {
                    nearest = Some((found, entry));
                }
            }
            // The first stem below is certain to be; at the key's own, only the entries tell.
            below = found.before().filter(|_| found == stem);
        }
        match nearest {
            Some((_, entry)) if entry.get().next_key_hash() > *key_hash => Ok(entry),
            _ => Err(Error::Corrupt(format!("no entry encloses key hash {key_hash}"))),
        }
    }
}

/// See [`View::get_with`]. The caller holds the state meanwhile.
///
/// `show` is taken if it was called, which is at most once.
///
/// The value is copied from the system's cache, or from a record in memory, to where `show` sees it, and no
/// more; no lock is taken but that of the part of the index, for the look into it.
pub(crate) fn value_of<T>(
    shared: &Shared,
    state: &State,
    key: &[u8],
    show: &mut Option<impl FnOnce(&[u8]) -> T>,
) -> Result<Option<T>, Error> {
    check_key(key)?;
    let shown = look_up(shared, state, key, show);
    // What was shown was found before: see there.
    if matches!(shown, Ok(Some(_))) { shown } else { state.unless_rolled_back(shown) }
}

fn look_up<T>(
    shared: &Shared,
    state: &State,
    key: &[u8],
    show: &mut Option<impl FnOnce(&[u8]) -> T>,
) -> Result<Option<T>, Error> {
    let key_hash = KeyHash(hash_message(key).0);
    let mut shown = None;
    for at in shared.published.candidates_of(state, &key_hash)?.iter() {
        let read = shared.log.show(at, |entry| {
            // Not once the state was taken back: then the index may have led to another one's entry.
            let show = show.take_if(|_| is_entry_of(entry, key) && !state.is_rolled_back())?;
            Some(show(entry.value()))
        });
        shown = read.map_err(|error| shared.read_for(state.height)(error.into()))?;
        if shown.is_some() {
            break;
        }
    }
    shared.check_not_abandoned()?;
    Ok(shown)
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("height", &self.height()).finish_non_exhaustive()
    }
}
