//! The one body behind [`MetaDb`], whatever the engine: codecs, checks, the latch, and which rows stay
//! with the engine.

use crate::{
    Commit, HistoryRow, Manifest, MetaDb, MetaError,
    codec::InvalidField,
    engines::{Backend, Failure, Guarded},
    sealed::{self, Sealed},
};
use hedgerow_types::Height;
use parking_lot::Mutex;
use std::path::PathBuf;

/// An open database.
#[derive(Debug)]
pub(crate) struct Database {
    engine: &'static str,
    path: PathBuf,
    backend: Guarded,
    /// Rows that have left the backend.
    sealed: Sealed,
    /// Held during a commit. The first error of the engine stays here: after it nobody knows what
    /// the medium holds until the database is opened again.
    latch: Mutex<Option<MetaError>>,
}

impl Database {
    pub(crate) fn new(
        engine: &'static str,
        path: PathBuf,
        backend: Guarded,
        sealed: Sealed,
    ) -> Self {
        Self { engine, path, backend, sealed, latch: Mutex::new(None) }
    }

    fn failed(&self, failure: Failure) -> MetaError {
        failure.within(self.engine, &self.path)
    }

    /// Commits to the backend, all but the rows that are long past.
    fn commit_encoded(
        &self,
        commit: &Commit<'_>,
        manifest: &[u8],
        rows: &[(Height, Vec<u8>)],
    ) -> Result<(), MetaError> {
        let from = self.seal(commit)?.unwrap_or(commit.history_from);
        let committed = self.backend.commit(manifest, rows, &(from..=commit.manifest.height));
        committed.map_err(|failure| self.failed(failure))?;
        self.sealed.remove_below(commit.history_from);
        Ok(())
    }

    /// Gives the oldest rows a file of their own, if they are long past; says where those end which the
    /// backend need not keep.
    fn seal(&self, commit: &Commit<'_>) -> Result<Option<Height>, MetaError> {
        let first = self.backend.first_history().map_err(|failure| self.failed(failure))?;
        let Some(first) = first.map(|first| first.max(commit.history_from)) else {
            return Ok(None);
        };
        let end = Height((first.0 / sealed::ROWS + 1) * sealed::ROWS);
        // Nobody replaces rows that are so old; if somebody does, they stay where they are.
        let replaced = commit.rows.first().is_some_and(|(height, _)| *height < end);
        if replaced || commit.manifest.height.0 < end.0 + sealed::ROWS {
            return Ok(None);
        }
        let row_of = |height| self.backend.history(height).map_err(|failure| self.failed(failure));
        self.sealed.write(commit.manifest.store_id, first, &row_of)
    }
}

/// The rows of a commit that are to be kept, as bytes, in order.
fn encode_rows(commit: &Commit<'_>) -> Result<Vec<(Height, Vec<u8>)>, InvalidField> {
    let is = InvalidField::unless;
    let mut encoded = Vec::with_capacity(commit.rows.len());
    let mut previous = None;
    for (height, row) in commit.rows {
        let rule = "rows must come in increasing order of height";
        is(previous < Some(*height), "a row's height", height.0, rule)?;
        previous = Some(*height);
        let rule = "the manifest's height is lower";
        is(*height <= commit.manifest.height, "a row's height", height.0, rule)?;
        let bytes = row.encode(*height)?;
        if *height >= commit.history_from {
            encoded.push((*height, bytes));
        }
    }
    Ok(encoded)
}

impl MetaDb for Database {
    fn engine(&self) -> &'static str {
        self.engine
    }

    fn manifest(&self) -> Result<Option<Manifest>, MetaError> {
        let bytes = self.backend.manifest().map_err(|failure| self.failed(failure))?;
        let manifest = bytes.map(|bytes| Manifest::decode(&bytes)).transpose();
        manifest.map_err(|reason| MetaError::Manifest { path: self.path.clone(), reason })
    }

    fn commit(&self, commit: &Commit<'_>) -> Result<(), MetaError> {
        let manifest = commit.manifest.encode()?;
        let rows = encode_rows(commit)?;
        let mut latch = self.latch.lock();
        if let Some(error) = &*latch {
            return Err(error.clone());
        }
        if let Some(first) = self.first_to_take_back()? {
            let rule = "rows above it lie in files that never change";
            let height = commit.manifest.height;
            InvalidField::unless(height >= first, "the manifest's height", height.0, rule)?;
        }
        self.commit_encoded(commit, &manifest, &rows).inspect_err(|error| {
            *latch = Some(error.clone());
        })
    }

    fn history(&self, height: Height) -> Result<Option<HistoryRow>, MetaError> {
        if let Some(bytes) = self.backend.history(height).map_err(|failure| self.failed(failure))? {
            let row = HistoryRow::decode(&bytes, height);
            return row.map(Some).map_err(|reason| MetaError::History {
                path: self.path.clone(),
                height,
                reason,
            });
        }
        // The manifest that is read after the row was looked for: if it has moved meanwhile, the row
        // lies in a file that was complete before.
        let Some(manifest) = self.manifest()? else { return Ok(None) };
        let first = self.backend.first_history().map_err(|failure| self.failed(failure))?;
        let sealed_until = first.unwrap_or(manifest.height.next());
        if height < manifest.history_from || height >= sealed_until {
            return Ok(None);
        }
        self.sealed.read(manifest.store_id, height)
    }

    fn first_to_take_back(&self) -> Result<Option<Height>, MetaError> {
        self.backend.first_history().map_err(|failure| self.failed(failure))
    }

    fn first_history(&self) -> Result<Option<Height>, MetaError> {
        let first = self.backend.first_history().map_err(|failure| self.failed(failure))?;
        let Some(manifest) = self.manifest()? else { return Ok(first) };
        let sealed = self.sealed.first(manifest.store_id, manifest.history_from)?;
        Ok(first.into_iter().chain(sealed).min())
    }
}
