//! The state after a block: as the store has it, as it was recorded, and where they differ.

use crate::error::CliError;
use hedgerow::{Digest, Store};
use serde::{Deserialize, Deserializer};
use std::error::Error;
use std::fmt;

const SHARDS: usize = hedgerow_types::SHARDS;

/// What is compared. In a recording there is more, which is passed over.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Row {
    /// The height.
    pub(super) h: u64,
    /// Roots of the shards (spec 8.1-8.2).
    #[serde(deserialize_with = "digests")]
    clean_roots: [Digest; SHARDS],
    /// Serial number of the next entry of each shard.
    next_sn: [u64; SHARDS],
    /// Serial number from which each shard compacts next.
    oldest_active_sn: [u64; SHARDS],
}

fn digests<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[Digest; SHARDS], D::Error> {
    let texts = <[String; SHARDS]>::deserialize(deserializer)?;
    let mut digests = [Digest::ZERO; SHARDS];
    for (digest, text) in digests.iter_mut().zip(texts) {
        *digest = text.parse().map_err(|error| {
            serde::de::Error::custom(format_args!("clean_roots: {text:?}: {error}"))
        })?;
    }
    Ok(digests)
}

/// The first place where the store's state is not the recorded one.
#[derive(Debug)]
pub(super) struct Difference {
    height: u64,
    shard: usize,
    field: &'static str,
    expected: String,
    got: String,
    reopened: bool,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { height, shard, field, expected, got, reopened } = self;
        let when = if *reopened { ", after reopening" } else { "" };
        write!(f, "height {height}, shard {shard}{when}: {field} differs")?;
        write!(f, "\n  expected {expected}\n  got      {got}")
    }
}

impl Error for Difference {}

impl From<Difference> for CliError {
    fn from(difference: Difference) -> Self {
        Self::Difference(Box::new(difference))
    }
}

/// The store's published state as a row.
///
/// # Errors
/// A failed read of the history.
pub(super) fn state(store: &Store) -> Result<Row, CliError> {
    let stats = store.stats();
    let row = store.reader().history(stats.published)?;
    Ok(Row {
        h: stats.published.0,
        clean_roots: row.shard_roots,
        next_sn: stats.next_sn.map(|sn| sn.0),
        oldest_active_sn: row.oldest_active.map(|sn| sn.0),
    })
}

impl Row {
    /// Compares the store's state with the recorded one. Serial numbers come first: where they
    /// differ, roots must.
    ///
    /// # Errors
    /// The first difference.
    pub(super) fn compare(&self, expected: &Self, reopened: bool) -> Result<(), Difference> {
        let fields = |row: &Self, shard: usize| -> [(&'static str, String); 3] {
            [
                ("next_sn", row.next_sn[shard].to_string()),
                ("oldest_active_sn", row.oldest_active_sn[shard].to_string()),
                ("clean_roots", row.clean_roots[shard].to_string()),
            ]
        };
        if self == expected {
            return Ok(());
        }
        for shard in 0..SHARDS {
            for ((field, got), (_, expected_value)) in
                fields(self, shard).into_iter().zip(fields(expected, shard))
            {
                if got != expected_value {
                    return Err(Difference {
                        height: expected.h,
                        shard,
                        field,
                        expected: expected_value,
                        got,
                        reopened,
                    });
                }
            }
        }
        // All shards agree, so the heights do not.
        Err(Difference {
            height: expected.h,
            shard: 0,
            field: "height",
            expected: expected.h.to_string(),
            got: self.h.to_string(),
            reopened,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        Row {
            h: 7,
            clean_roots: std::array::from_fn(|shard| Digest([shard as u8; 32])),
            next_sn: std::array::from_fn(|shard| 4096 + shard as u64),
            oldest_active_sn: [3; SHARDS],
        }
    }

    #[test]
    fn the_first_difference_is_named() {
        assert!(row().compare(&row(), false).is_ok());
        let mut other = row();
        other.clean_roots[2] = Digest::ZERO;
        other.oldest_active_sn[5] = 4;
        let text = row().compare(&other, false).map_err(|error| error.to_string());
        let digits = "02".repeat(32);
        let zeros = "00".repeat(32);
        let wanted = format!(
            "height 7, shard 2: clean_roots differs\n  expected {zeros}\n  got      {digits}"
        );
        assert_eq!(text, Err(wanted));
        other.next_sn[2] = 0;
        let text = row().compare(&other, true).expect_err("a difference").to_string();
        assert!(text.starts_with("height 7, shard 2, after reopening: next_sn differs"), "{text}");
        let other = Row { h: 8, ..row() };
        let text = row().compare(&other, false).expect_err("a difference").to_string();
        assert!(text.contains("height differs"), "{text}");
    }
}
