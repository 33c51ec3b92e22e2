//! What a store must hold: the testkit's model, driven by the blocks of a seed.

use super::blocks::Plan;
use hedgerow::{CompactionRule, Digest};
use hedgerow_testkit::Model;

/// The model at some height, and the roots of all heights up to it.
#[derive(Clone, Debug)]
pub struct Reference {
    seed: u64,
    model: Model,
    roots: Vec<Digest>,
}

impl Reference {
    /// The genesis state of a store with this rule, and the blocks of `seed`.
    pub fn new(seed: u64, rule: CompactionRule) -> Self {
        let mut model = Model::without_history(rule);
        let roots = vec![model.state_root()];
        Self { seed, model, roots }
    }

    /// Goes on with the blocks of another seed, which must have the same ones up to here.
    #[must_use]
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// The seed of its blocks.
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// The height it is at.
    pub const fn height(&self) -> u64 {
        self.model.height()
    }

    /// Goes to `height`; back means from genesis again.
    pub fn go_to(&mut self, height: u64) {
        if height < self.height() {
            self.model = Model::without_history(self.model.rule());
        }
        while self.height() < height {
            let plan = Plan::new(self.seed, self.height() + 1);
            self.model.apply_net(plan.height, &plan.change_sets);
            if self.roots.len() as u64 == plan.height {
                self.roots.push(self.model.state_root());
            }
        }
    }

    /// The root after the block at `height`, if the reference has been there.
    pub fn root(&self, height: u64) -> Option<Digest> {
        self.roots.get(usize::try_from(height).ok()?).copied()
    }

    /// The state at its height.
    pub fn model(&mut self) -> &mut Model {
        &mut self.model
    }
}
