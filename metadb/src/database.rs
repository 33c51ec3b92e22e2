//! The one body behind [`MetaDb`], whatever the engine: codecs, checks, the latch.

use crate::{
    Commit, HistoryRow, Manifest, MetaDb, MetaError,
    codec::InvalidField,
    engines::{Backend, Failure, Guarded},
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
    /// Held during a commit. The first error of the engine stays here: after it nobody knows what
    /// the medium holds until the database is opened again.
    latch: Mutex<Option<MetaError>>,
}

impl Database {
    pub(crate) fn new(engine: &'static str, path: PathBuf, backend: Guarded) -> Self {
        Self { engine, path, backend, latch: Mutex::new(None) }
    }

    fn failed(&self, failure: Failure) -> MetaError {
        failure.within(self.engine, &self.path)
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
        self.backend.commit(&manifest, &rows, commit.history_from).map_err(|failure| {
            let error = self.failed(failure);
            *latch = Some(error.clone());
            error
        })
    }

    fn history(&self, height: Height) -> Result<Option<HistoryRow>, MetaError> {
        let bytes = self.backend.history(height).map_err(|failure| self.failed(failure))?;
        let row = bytes.map(|bytes| HistoryRow::decode(&bytes, height)).transpose();
        row.map_err(|reason| MetaError::History { path: self.path.clone(), height, reason })
    }

    fn first_history(&self) -> Result<Option<Height>, MetaError> {
        self.backend.first_history().map_err(|failure| self.failed(failure))
    }
}
