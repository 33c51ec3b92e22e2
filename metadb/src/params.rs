//! What is fixed when a store is created.

use hedgerow_types::{CompactionRule, SHARDS};
use std::fmt;

/// The hash function of entries and trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum HashFunction {
    /// SHA-256 (FIPS 180-4), the one that the compatible tree is defined with (spec 8.1).
    #[default]
    Sha256,
}

impl HashFunction {
    /// The number that stands for the function in a manifest.
    pub(crate) const fn id(self) -> u8 {
        match self {
            Self::Sha256 => 1,
        }
    }

    pub(crate) const fn from_id(id: u8) -> Option<Self> {
        match id {
            1 => Some(Self::Sha256),
            _ => None,
        }
    }
}

impl fmt::Display for HashFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sha256 => "SHA-256",
        })
    }
}

/// The parameters of a store: whatever decides roots besides the blocks. Chosen at creation, kept
/// in the manifest; a store is never opened with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreParams {
    compaction: CompactionRule,
    shards: u16,
    hash: HashFunction,
}

impl StoreParams {
    /// Parameters as a manifest holds them; the decoder has checked that this build knows them.
    pub(crate) const fn from_parts(
        compaction: CompactionRule,
        shards: u16,
        hash: HashFunction,
    ) -> Self {
        Self { compaction, shards, hash }
    }

    /// When shards compact (spec 7).
    pub const fn compaction(&self) -> CompactionRule {
        self.compaction
    }

    /// Number of shards; 16 in this version.
    pub const fn shards(&self) -> u16 {
        self.shards
    }

    /// The hash function of entries and trees.
    pub const fn hash(&self) -> HashFunction {
        self.hash
    }

    /// These parameters with another compaction rule.
    #[must_use]
    pub const fn with_compaction(mut self, rule: CompactionRule) -> Self {
        self.compaction = rule;
        self
    }
}

impl Default for StoreParams {
    /// The default [`CompactionRule`], 16 shards, SHA-256.
    fn default() -> Self {
        Self {
            compaction: CompactionRule::default(),
            shards: SHARDS as u16,
            hash: HashFunction::default(),
        }
    }
}

impl fmt::Display for StoreParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { compaction, shards, hash } = self;
        write!(
            f,
            "{shards} shards, {hash}, compaction threshold {} ratio {} div {} spread {}",
            compaction.threshold(),
            compaction.ratio(),
            compaction.div(),
            compaction.spread(),
        )
    }
}
