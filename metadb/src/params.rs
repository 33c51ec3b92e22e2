//! What is fixed when a store is created.

use hedgerow_types::{CompactionRule, Height, SHARDS};
use std::fmt;

/// The hash function of entries and trees.
///
/// ```
/// use hedgerow_metadb::{HashFunction, StoreParams};
/// assert_eq!(StoreParams::default().hash(), HashFunction::Sha256);
/// assert_eq!(HashFunction::Sha256.to_string(), "SHA-256");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum HashFunction {
    /// SHA-256 (FIPS 180-4), the one that the compatible tree is defined with ([spec 8.1](hedgerow_types::spec)).
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
///
/// ```
/// use hedgerow_metadb::StoreParams;
/// use hedgerow_types::{CompactionRule, Height};
/// let params = StoreParams::default()
///     .with_compaction(CompactionRule::new(1_000, 1, 2).unwrap())
///     .with_first_height(Height(850_000)).unwrap();
/// assert_eq!(params.first_height(), Height(850_000));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreParams {
    compaction: CompactionRule,
    shards: u16,
    hash: HashFunction,
    first_height: Height,
}

/// Why a height cannot be the first of a store.
///
/// ```
/// use hedgerow_metadb::{FirstHeightError, StoreParams};
/// use hedgerow_types::Height;
/// let refused = StoreParams::default().with_first_height(Height(0));
/// assert_eq!(refused, Err(FirstHeightError(Height(0))));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("height {0} cannot be the first of a store: 1 to {max} can", max = Height::MAX)]
pub struct FirstHeightError(pub Height);

impl StoreParams {
    /// Parameters as a manifest holds them; the decoder has checked that this build knows them.
    pub(crate) const fn from_parts(
        compaction: CompactionRule,
        shards: u16,
        hash: HashFunction,
        first_height: Height,
    ) -> Self {
        Self { compaction, shards, hash, first_height }
    }

    /// When shards compact ([spec 7](hedgerow_types::spec)).
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

    /// The height of the first block. Default 1. The state of a new store has the height before it.
    pub const fn first_height(&self) -> Height {
        self.first_height
    }

    /// Whether a height can be that of a first block.
    pub(crate) const fn is_first(height: Height) -> bool {
        height.0 >= 1 && height.0 <= Height::MAX.0
    }

    /// These parameters with another first height: for a chain whose blocks do not begin with 1, or a store
    /// that begins in the middle of one. Heights are part of entries ([spec 6.2](hedgerow_types::spec)), so stores that took the same
    /// blocks at other heights have other roots.
    ///
    /// # Errors
    /// [`FirstHeightError`] for 0 and beyond [`Height::MAX`].
    pub const fn with_first_height(mut self, height: Height) -> Result<Self, FirstHeightError> {
        if !Self::is_first(height) {
            return Err(FirstHeightError(height));
        }
        self.first_height = height;
        Ok(self)
    }
}

impl Default for StoreParams {
    /// The default [`CompactionRule`], 16 shards, SHA-256, blocks from height 1 on.
    fn default() -> Self {
        Self {
            compaction: CompactionRule::default(),
            shards: SHARDS as u16,
            hash: HashFunction::default(),
            first_height: Height(1),
        }
    }
}

impl fmt::Display for StoreParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { compaction, shards, hash, first_height } = self;
        write!(
            f,
            "{shards} shards, {hash}, compaction threshold {} ratio {} div {} spread {}",
            compaction.threshold(),
            compaction.ratio(),
            compaction.div(),
            compaction.spread(),
        )?;
        if *first_height != Height(1) {
            write!(f, ", first height {first_height}")?;
        }
        Ok(())
    }
}
