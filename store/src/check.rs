//! The full check: everything that can be derived from the log is derived again, and compared with
//! what the store has in memory and in its twig file.

use crate::Error;
use crate::rebuild::{Source, rebuild};
use crate::shared::Shared;
use hedgerow_types::{Digest, Height, ShardId};

/// What [`Store::check`](crate::Store::check) went through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckReport {
    /// The height that was checked.
    pub height: Height,
    /// The state root: recomputed, and the same as recorded.
    pub root: Digest,
    /// Bytes of log that were read and hashed.
    pub log_bytes: u64,
    /// Keys that have a value.
    pub keys: u64,
    /// Twig records that were compared.
    pub twigs: u64,
    /// Twig records that are missing or unreadable: derived data, made again when the store opens.
    pub twigs_missing: u64,
}

pub(crate) fn check(shared: &Shared) -> Result<CheckReport, Error> {
    let Some(manifest) = shared.with_meta(|meta| meta.manifest())? else {
        return Err(Error::Corrupt("the manifest is gone".into()));
    };
    let rebuilt = shared.pool.install(|| {
        rebuild(&Source {
            log: &shared.log,
            twigs: None,
            manifest: &manifest,
            hasher: &*shared.hasher,
            progress: shared.options.progress.as_ref(),
        })
    })?;
    let (mut twigs, mut twigs_missing) = (0, 0);
    for fresh in &rebuilt.twigs {
        match shared.twigs.get(fresh.shard, fresh.twig)? {
            Some(kept) if *kept == **fresh => twigs += 1,
            Some(_) => {
                return Err(Error::Corrupt(format!(
                    "the record of twig {} of shard {} differs from its entries",
                    fresh.twig, fresh.shard
                )));
            }
            None => twigs_missing += 1,
        }
    }
    let published = shared.published.read();
    if published.height != manifest.height || published.forest.roots() != rebuilt.forest.roots() {
        return Err(Error::RootMismatch {
            height: manifest.height,
            computed: rebuilt.forest.roots().state,
            recorded: published.roots().state,
        });
    }
    let different = ShardId::all().find(|shard| {
        let shard = shard.index();
        !rebuilt.index[shard].positions().eq(published.index[shard].positions())
    });
    if let Some(shard) = different {
        return Err(Error::Corrupt(format!("the index of shard {shard} differs from the log")));
    }
    let active: u64 = manifest.shards.iter().map(|part| part.active).sum();
    Ok(CheckReport {
        height: manifest.height,
        root: manifest.state_root,
        log_bytes: manifest.log_end.0 - manifest.log_start.0,
        keys: active - manifest.shards.len() as u64 * hedgerow_types::SENTRIES_PER_SHARD,
        twigs,
        twigs_missing,
    })
}
