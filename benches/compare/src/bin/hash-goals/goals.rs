//! The goals, and what was measured of each.

use crate::races::{IN_CACHE, MESSAGE_BATCHES, NATIVE, Races, WITHOUT_AVX512};
use hedgerow_compare::{
    Race,
    contender::{OURS, SHA2},
};
use hedgerow_sampling::Sample;

/// The crates on crates.io that hash many messages at a time.
pub(crate) const RIVALS: [&str; 3] = ["tape-sha256", "commonware-cryptography", "hashtree-rs"];

/// One row.
pub(crate) struct Goal {
    pub(crate) what: String,
    pub(crate) figure: Figure,
    pub(crate) bound: Bound,
}

/// What was measured.
pub(crate) enum Figure {
    Measured {
        /// How many times as long the other takes.
        ratio: f64,
        /// What a message costs us.
        each: Sample,
        /// For a person.
        remark: String,
    },
    NotMeasured {
        why: String,
    },
}

/// What the ratio is to be.
#[derive(Clone, Copy)]
pub(crate) enum Bound {
    AtLeast(f64),
    Above(f64),
}

impl Goal {
    pub(crate) fn is_met(&self) -> bool {
        match (&self.figure, self.bound) {
            (Figure::Measured { ratio, .. }, Bound::AtLeast(bound)) => *ratio >= bound,
            (Figure::Measured { ratio, .. }, Bound::Above(bound)) => *ratio > bound,
            (Figure::NotMeasured { .. }, _) => false,
        }
    }
}

/// All goals, in order.
pub(crate) fn goals(races: &Races) -> Vec<Goal> {
    let nodes = |count, what: &str, bound| {
        let figure = figure(races.nodes_of(count), SHA2, OURS, None);
        Goal { what: what.into(), figure, bound: Bound::AtLeast(bound) }
    };
    let messages = |batch: usize, what: &str, bound| {
        let race = races.messages.iter().find(|race| race.items() == MESSAGE_BATCHES[batch]);
        let figure = figure(race, SHA2, OURS, None);
        Goal { what: what.into(), figure, bound: Bound::AtLeast(bound) }
    };
    let in_cache = races.nodes_of(IN_CACHE);
    let native = figure(in_cache, NATIVE, OURS, races.no_native.as_ref());
    let shani4 = figure(in_cache, SHA2, WITHOUT_AVX512, races.no_sha_ni.as_ref());
    let tree = figure(Some(&races.tree), SHA2, OURS, None);
    let at_least = |what: &str, figure, bound| Goal {
        what: what.into(),
        figure,
        bound: Bound::AtLeast(bound),
    };
    let mut goals = vec![
        nodes(IN_CACHE, "nodes, batch of 1024, in cache", 5.4),
        nodes(1_000_000, "nodes, 1 M from memory", 4.8),
        at_least("tree over 1 M digests, all levels, to the sha2 loop", tree, 6.0),
        messages(0, "messages of 60-300 bytes, batch of 256, in cache", 3.6),
        messages(1, "messages of 60-300 bytes, batch of 1024, in cache", 3.6),
        messages(2, "messages of 60-300 bytes, 262,144, cold", 2.2),
        nodes(1, "one node", 1.8),
        nodes(8, "8 nodes", 2.3),
        nodes(16, "16 nodes", 4.3),
        at_least("nodes, batch of 1024, to sha2 with target-cpu=native", native, 3.0),
        at_least("nodes, batch of 1024, kernel pinned to shani4", shani4, 2.3),
    ];
    goals.extend(RIVALS.map(|rival| Goal {
        what: format!("nodes, every batch size, to {rival}"),
        figure: nearest(races, rival),
        bound: Bound::Above(1.0),
    }));
    goals
}

fn figure(race: Option<&Race>, other: &str, ours: &str, why_not: Option<&String>) -> Figure {
    let measured = race.and_then(|race| Some((race.ratio(other, ours)?, race.each(ours)?)));
    match measured {
        Some((ratio, each)) => Figure::Measured { ratio, each, remark: String::new() },
        None => {
            let why = why_not.cloned().unwrap_or_else(|| "no such race".into());
            Figure::NotMeasured { why }
        }
    }
}

/// The batch size and the call with which `rival` comes nearest to us.
fn nearest(races: &Races, rival: &str) -> Figure {
    let mut nearest: Option<(f64, Sample, String)> = None;
    for race in &races.nodes {
        for call in race.calls_of(rival) {
            let Some((ratio, each)) = race.ratio(call, OURS).zip(race.each(OURS)) else { continue };
            if nearest.as_ref().is_none_or(|(least, ..)| ratio < *least) {
                nearest = Some((ratio, each, format!("least, at {}: {call}", race.items())));
            }
        }
    }
    match nearest {
        Some((ratio, each, remark)) => Figure::Measured { ratio, each, remark },
        None => Figure::NotMeasured { why: "the crate was not there".into() },
    }
}
