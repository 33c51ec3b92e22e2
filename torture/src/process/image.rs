//! Stores that have lived for a while: every sentry was moved, twigs are dead, log was pruned. Made
//! once per rule, copied for each store that begins with one.

use super::blocks::{LIVED, Plan, WARM_UP};
use super::reference::Reference;
use super::{Doing, Failure, copy, fail};
use hedgerow::{Options, Store, StoreParams};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The images of a run.
pub(crate) struct Images {
    dir: PathBuf,
    made: Mutex<BTreeMap<(u32, u32), Reference>>,
}

impl Images {
    /// None yet; they are made below `dir`.
    pub(crate) const fn new(dir: PathBuf) -> Self {
        Self { dir, made: Mutex::new(BTreeMap::new()) }
    }

    /// Copies the image of these parameters to `path`, for blocks of `seed`. Returns the reference at
    /// its height.
    pub(crate) fn copy(
        &self,
        seed: u64,
        params: StoreParams,
        path: &Path,
    ) -> Result<Reference, Failure> {
        let rule = params.compaction();
        let key = (rule.ratio(), rule.div());
        let image = self.dir.join(format!("{}-{}", key.0, key.1));
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let reference = match made.entry(key) {
            Entry::Occupied(made) => made.into_mut(),
            Entry::Vacant(place) => {
                place.insert(make(&image, params).map_err(|failure| failure.at("an image"))?)
            }
        };
        copy(&image, path).doing("copying an image")?;
        Ok(reference.clone().with_seed(seed))
    }

    /// Removes them.
    pub(crate) fn remove(&self) -> Result<(), Failure> {
        if self.dir.exists() {
            std::fs::remove_dir_all(&self.dir).doing("removing the images")?;
        }
        Ok(())
    }
}

fn make(path: &Path, params: StoreParams) -> Result<Reference, Failure> {
    if path.exists() {
        std::fs::remove_dir_all(path).doing("removing an old one")?;
    }
    let mut reference = Reference::new(LIVED, params.compaction());
    let options = Options::new().segment_bytes(150_000).keep_heights(1);
    let mut store = Store::create(path, params, options).doing("creating")?;
    for height in 1..=WARM_UP {
        Plan::new(LIVED, height).write(&mut store)?;
    }
    // What is pruned follows the blocks.
    store.flush().doing("flushing")?;
    if store.stats().log_start.0 == 0 {
        return fail("nothing was pruned");
    }
    store.close().doing("closing")?;
    reference.go_to(WARM_UP);
    Ok(reference)
}
