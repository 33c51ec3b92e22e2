//! True proofs: what attacks begin with.

use crate::common::{apply_net, dir, disk, on};
use crate::tree::Parts;
use crate::truth::{Question, World};
use hedgerow::{CompactionRule, KeyHash, Reader, Store, StoreParams};
use hedgerow_testkit::generate::{BlockGen, GenShape};
use hedgerow_testkit::model::{Model, key_hash};
use hedgerow_testkit::recipe::SplitMix64;
use std::collections::{BTreeMap, BTreeSet};

/// A question, and the parts of its proof.
pub(crate) struct Sample {
    pub(crate) world: usize,
    pub(crate) question: Question,
    pub(crate) parts: Parts,
}

/// Worlds, and true proofs in them of each family.
pub(crate) struct Samples {
    pub(crate) worlds: Vec<World>,
    pub(crate) keys: Vec<Vec<u8>>,
    pub(crate) families: [Vec<Sample>; 4],
}
