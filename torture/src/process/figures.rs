//! What `torture kill` did and saw.

use std::collections::BTreeMap;
use std::fmt;

/// What was done and seen.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Children killed.
    pub kills: u64,
    /// Children that closed their store before the signal.
    pub closed: u64,
    /// Stores.
    pub stores: u64,
    /// Comparisons with the reference.
    pub compared: u64,
    /// Of these, with a check.
    pub checks: u64,
    /// Blocks found in stores, summed.
    pub blocks: u64,
    /// Heights acknowledged as durable.
    pub durable: u64,
    /// Most blocks lost that were published and not durable.
    pub most_lost: u64,
    /// Files that pruning removed, or was about to.
    pub removals: u64,
    /// Kills by what the child was doing.
    pub stages: BTreeMap<&'static str, u64>,
    /// Kills at an operation of the disk that was held back, by operation.
    pub held: BTreeMap<String, u64>,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "kills {}, closed before {}, stores {}", self.kills, self.closed, self.stores)?;
        writeln!(f, "blocks {}, heights acknowledged as durable {}", self.blocks, self.durable)?;
        writeln!(f, "compared {}, of these with a check {}", self.compared, self.checks)?;
        writeln!(
            f,
            "most blocks lost that were acknowledged as published, not as durable: {}",
            self.most_lost
        )?;
        writeln!(f, "files removed by pruning: {}", self.removals)?;
        writeln!(f, "kills while: {:?}", self.stages)?;
        write!(f, "held at: {:?}", self.held)
    }
}

impl Figures {
    /// Adds what another thread did and saw.
    pub(crate) fn add(&mut self, other: Self) {
        self.kills += other.kills;
        self.closed += other.closed;
        self.stores += other.stores;
        self.compared += other.compared;
        self.checks += other.checks;
        self.blocks += other.blocks;
        self.durable += other.durable;
        self.most_lost = self.most_lost.max(other.most_lost);
        self.removals += other.removals;
        for (stage, kills) in other.stages {
            *self.stages.entry(stage).or_default() += kills;
        }
        for (call, kills) in other.held {
            *self.held.entry(call).or_default() += kills;
        }
    }
}
