//! `create`: a new store in an empty directory.

use super::compaction_rule;
use super::index::IndexArgs;
use crate::error::CliError;
use crate::output::Output;
use crate::text::as_text;
use clap::Args;
use hedgerow::{CompactionRule, Digest, Engine, Height, Options, Store, StoreParams};
use serde::Serialize;
use std::fmt;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Create a store in a directory that is empty or does not exist
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Directory of the store
    dir: PathBuf,

    #[command(flatten)]
    params: ParamArgs,

    /// Height of the first block; the new store has the height before it
    #[arg(long, value_name = "HEIGHT", default_value_t = 1)]
    first_height: u64,
}

/// What a store is made with.
#[derive(Debug, Args)]
pub(super) struct ParamArgs {
    /// When shards compact: default, qmdb or THRESHOLD,RATIO,DIV. Fixed for the store's life
    #[arg(long, value_name = "RULE", value_parser = compaction_rule)]
    #[arg(conflicts_with_all = ["threshold", "ratio", "div"])]
    compaction: Option<CompactionRule>,

    /// Active entries of a shard below which it does not compact
    #[arg(long, value_name = "N")]
    threshold: Option<u64>,

    /// Compaction ratio: a shard compacts when its entries from the oldest active one on, times
    /// RATIO, are at least its active entries times DIV
    #[arg(long, value_name = "N")]
    ratio: Option<NonZeroU32>,

    /// Compaction divisor, see --ratio
    #[arg(long, value_name = "N")]
    div: Option<NonZeroU32>,

    /// Metadata engine: redb, rocksdb or sled, if compiled in
    #[arg(long, value_name = "NAME", value_parser = engine)]
    engine: Option<Engine>,

    #[command(flatten)]
    index: IndexArgs,
}

fn engine(name: &str) -> Result<Engine, String> {
    Engine::from_str(name).map_err(|error| error.to_string())
}

impl ParamArgs {
    /// Makes a store whose first block has this height.
    ///
    /// # Errors
    /// What the parameters or the disk say against it.
    pub(super) fn create(&self, dir: &Path, first: Height) -> Result<Store, CliError> {
        let (params, options) = self.both(dir, first)?;
        Ok(Store::create(dir, params, options)?)
    }

    /// The parameters of a store in `dir` whose first block has this height, and options.
    ///
    /// # Errors
    /// What is wrong with the parameters.
    pub(super) fn both(
        &self,
        dir: &Path,
        first: Height,
    ) -> Result<(StoreParams, Options), CliError> {
        let params = StoreParams::default().with_compaction(self.rule()?);
        let params = params.with_first_height(first).map_err(|error| {
            let reason = error.to_string();
            hedgerow::Error::Option { option: "first_height", reason }
        })?;
        let mut options = self.index.apply(dir, Options::new())?;
        if let Some(engine) = self.engine {
            options = options.engine(engine);
        }
        Ok((params, options))
    }

    /// The rule; what is not given is as in the default.
    fn rule(&self) -> Result<CompactionRule, CliError> {
        let base = self.compaction.unwrap_or_default();
        let threshold = self.threshold.unwrap_or(base.threshold());
        let ratio = self.ratio.map_or(base.ratio(), NonZeroU32::get);
        let div = self.div.map_or(base.div(), NonZeroU32::get);
        CompactionRule::new(threshold, ratio, div).map_err(|error| {
            let reason = error.to_string();
            hedgerow::Error::Option { option: "compaction", reason }.into()
        })
    }
}

/// `{"dir", "height", "root", "engine", "compaction": {"threshold", "ratio", "div"}}`
#[derive(Serialize)]
struct Created {
    dir: String,
    height: u64,
    #[serde(serialize_with = "as_text")]
    root: Digest,
    engine: &'static str,
    compaction: Compaction,
}

/// A compaction rule in reports.
#[derive(Serialize)]
pub(super) struct Compaction {
    threshold: u64,
    ratio: u32,
    div: u32,
}

impl From<CompactionRule> for Compaction {
    fn from(rule: CompactionRule) -> Self {
        Self { threshold: rule.threshold(), ratio: rule.ratio(), div: rule.div() }
    }
}

impl fmt::Display for Compaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "threshold {}, ratio {}, div {}", self.threshold, self.ratio, self.div)
    }
}

impl fmt::Display for Created {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "created a store in {}\nmetadata in {}; compaction: {}\nheight {}, root {}",
            self.dir, self.engine, self.compaction, self.height, self.root
        )
    }
}

pub(super) fn run(args: &CreateArgs, out: Output) -> Result<(), CliError> {
    let store = args.params.create(&args.dir, Height(args.first_height))?;
    let (height, root) = store.reader().root();
    let (engine, rule) = (store.stats().engine, store.params().compaction());
    store.close()?;
    out.report(&Created {
        dir: args.dir.display().to_string(),
        height: height.0,
        root,
        engine,
        compaction: rule.into(),
    })
}
