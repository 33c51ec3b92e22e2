//! Undo records that blocks of the window lack, made again from the log: the file was lost or damaged, the window was
//! smaller, or the store is older than undo records.
//!
//! ```text
//!   window      wanted ······ first that is there ── newest
//!                 │ the lowest height whose entries and row are kept
//!                 ▼
//!   back ──► tree at that height ── record ── record ── ... ──► the newest tree
//!                                     │ apply ► root: that of its history row, or it ends here
//!                                     └ undo record ► file            (`makes_undo`, as for the journal)
//! ```
//!
//! If everything is there, finding that out takes a comparison of two heights. Nothing here keeps a store from opening:
//! what fails is a warning, and the heights stay without proofs against their roots. What it takes in memory is two more
//! trees, one block, and 8 bytes for each entry that the blocks deactivated or made.
//!
//! A crash on the way leaves records that do not reach to the newest block. They do not count, and the next opening
//! begins again.

use crate::Error;
use crate::hasher::Hashers;
use crate::opening::back::{Back, Newest, tree_at};
use crate::opening::makes_undo::MakesUndo;
use crate::opening::open::{Files, end_of_last};
use crate::opening::place::Place;
use crate::opening::progress::Meter;
use crate::opening::rebuild::Rebuilt;
use crate::options::Options;
use crate::read::given_up::Part;
use crate::shared::per_shard;
use hedgerow_entryfile::{ScannedRecord, StoreId};
use hedgerow_hasher_api::Span;
use hedgerow_merkle::ShardChange;
use hedgerow_metadb::HistoryRow;
use hedgerow_state::run_position;
use hedgerow_types::{Height, SENTRIES_PER_SHARD, SHARDS, SerialNumber, ShardId};
use std::sync::Arc;

/// A store that is being opened, and may lack undo records.
pub(crate) struct MissingUndo<'a> {
    pub(crate) place: &'a Place,
    pub(crate) files: &'a mut Files,
    /// The newest state; its twig records are written.
    pub(crate) rebuilt: &'a Rebuilt,
    pub(crate) hasher: &'a Hashers,
    pub(crate) meter: Option<&'a Meter>,
}

/// What a block brought to a shard.
#[derive(Default)]
struct Run {
    spans: Vec<Span>,
    deactivated: Vec<SerialNumber>,
}

impl Run {
    fn of(record: &ScannedRecord, shard: ShardId) -> Self {
        let start = run_position(record.record(), shard);
        let mut run = Self::default();
        for (at, entry) in record.entries(shard) {
            let (offset, len) = ((at.0 - start.0) as u32, entry.hashed_bytes().len() as u32);
            run.spans.push(Span { offset, len });
            run.deactivated.extend(entry.deactivated());
        }
        run
    }
}

impl MissingUndo<'_> {
    /// Makes them, as far as the log and the history reach.
    ///
    /// # Errors
    /// If the undo file cannot be opened once more after writing to it failed.
    pub(crate) fn make(self, options: &Options) -> Result<(), Error> {
        if options.read_only {
            return Ok(());
        }
        let made = self.lowest().and_then(|lowest| {
            let Some(base) = lowest else { return self.forget_mark() };
            let (from, newest) = (base.next(), self.newest());
            tracing::info!(%from, %newest, "undo records are missing: making them from the log");
            self.make_after(base)?;
            self.files.undo.sync()?;
            tracing::info!(%from, %newest, "the undo records were made again");
            self.forget_mark()
        });
        let Err(error) = made else { return Ok(()) };
        tracing::warn!(
            %error,
            "undo records are missing and could not be made from the log: no proofs against the roots of those heights"
        );
        let is_whole = self.files.undo.last() == Some(self.newest());
        if !is_whole || self.files.undo.sync().is_err() {
            // What failed once writes no more; and what was begun does not count.
            let manifest = &self.files.manifest;
            let id = StoreId(manifest.store_id);
            let (height, end) = (manifest.height, end_of_last(manifest));
            self.files.undo = self.place.undo(options, id, height, end)?;
            self.files.undo.forget_all();
        }
        Ok(())
    }

    fn newest(&self) -> Height {
        self.rebuilt.behind.manifest.height
    }

    /// What is damaged and was not met may be of blocks that left the window.
    fn forget_mark(&self) -> Result<(), Error> {
        Part::UndoRecords.forget(&*self.place.vfs, &self.place.dir)
    }

    /// The height after which the records are to be made; `None` if there is nothing to make.
    fn lowest(&self) -> Result<Option<Height>, Error> {
        let (undo, manifest, newest) =
            (&self.files.undo, &self.rebuilt.behind.manifest, self.newest());
        if !undo.is_on() {
            return Ok(None);
        }
        let begin = Height(manifest.params.first_height().0.saturating_sub(1));
        let wanted = Height(undo.wanted_from(newest).0.saturating_sub(1));
        let mut low = wanted.max(begin).max(manifest.history_from);
        let damaged = Part::UndoRecords.is_given_up(&*self.place.vfs, &self.place.dir)?;
        let known = undo.first().filter(|_| !damaged);
        let is_there = |base: Height| known.is_some_and(|first| first <= base.next());
        if low >= newest || is_there(low) {
            return Ok(None);
        }
        // What a height needs reaches back less the higher it is. That of the newest is there.
        let mut high = newest;
        while low < high {
            let middle = Height(low.0 + (high.0 - low.0) / 2);
            if self.has(middle)? {
                high = middle;
            } else {
                low = middle.next();
            }
        }
        Ok((low < newest && !is_there(low)).then_some(low))
    }

    /// Whether what a height needs is kept.
    fn has(&self, height: Height) -> Result<bool, Error> {
        let Some(row) = self.row(height)? else { return Ok(false) };
        let parts = &self.rebuilt.behind.manifest.shards;
        Ok(parts.iter().zip(&row.oldest_active).all(|(part, sn)| sn.twig() >= part.first_kept))
    }

    fn row(&self, height: Height) -> Result<Option<Arc<HistoryRow>>, Error> {
        let rows = &self.rebuilt.behind.rows;
        let not_settled = rows.iter().find(|(at, _)| *at == height);
        if let Some((_, row)) = not_settled {
            return Ok(Some(Arc::clone(row)));
        }
        Ok(self.files.meta.history(height)?.map(Arc::new))
    }

    fn needed_row(&self, height: Height) -> Result<Arc<HistoryRow>, Error> {
        let row = self.row(height)?;
        row.ok_or_else(|| Error::Corrupt(format!("the history row of height {height} is missing")))
    }

    /// Makes the records of all blocks above `base`.
    fn make_after(&self, base: Height) -> Result<(), Error> {
        let Files { log, twigs, undo, .. } = &*self.files;
        let Rebuilt { forest, writers, open, behind, .. } = self.rebuilt;
        let manifest = &behind.manifest;
        let hasher = self.hasher;
        let writers: Vec<_> = writers.iter().collect();
        let newest = Newest { log, twigs, hasher, manifest, writers: &writers, forest, open };
        let row = self.needed_row(base)?;
        let back = tree_at(&newest, base, &row)?;
        let mut active = back.active();
        let Back { log_end, forest: mut tree, .. } = back;
        if let Some(meter) = self.meter {
            meter.begin(0, log_end, manifest.log_end);
        }
        let undos = MakesUndo::new(undo, base.next(), &tree);
        for record in log.scan(log_end, manifest.log_end) {
            let record = record?;
            let runs: [Run; SHARDS] = per_shard(|shard| Run::of(&record, shard));
            let oldest_active = record.record().oldest_active();
            let next_sn = per_shard(|shard| tree.next_sn(shard));
            let changes: [ShardChange<'_>; SHARDS] = per_shard(|shard| {
                let Run { spans, deactivated } = &runs[shard.index()];
                let (arena, oldest_active) =
                    (record.record().run(shard), oldest_active[shard.index()]);
                ShardChange { arena, entries: spans, deactivated, oldest_active }
            });
            let applied = tree.apply(&*hasher.tree, &changes)?;
            let (height, row) = (record.height(), self.needed_row(record.height())?);
            if applied.roots.state != row.root {
                let (computed, recorded) = (applied.roots.state, row.root);
                return Err(Error::RootMismatch { height, computed, recorded });
            }
            let keys = active.saturating_sub(SHARDS as u64 * SENTRIES_PER_SHARD);
            let of =
                |shard: ShardId| (next_sn[shard.index()], &runs[shard.index()].deactivated[..]);
            undos.take(&record, keys, of, &tree, &applied.dirty)?;
            for run in &runs {
                let (came, went) = (run.spans.len() as u64, run.deactivated.len() as u64);
                active = active.saturating_add(came).saturating_sub(went);
            }
            if let Some(meter) = self.meter {
                meter.log_to(record.end());
            }
        }
        Ok(())
    }
}
