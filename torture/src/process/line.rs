//! What a child says, a line each, every line written before it goes on.

use hedgerow::Digest;
use std::fmt;
use std::str::FromStr;

/// Something that a child knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// The store is open at a height with a root.
    Open(u64, Digest),
    /// The block is about to be handed in: nothing above it can be found later.
    Submitting(u64),
    /// The block was accepted.
    Accepted(u64),
    /// The block was published with a root.
    Published(u64, Digest),
    /// The block and all before it are durable.
    Durable(u64),
    /// A file is about to be removed.
    Removing,
    /// The child stands still before an operation on a file; it waits for its end.
    Held(String),
    /// Closing begins.
    Closing,
    /// The store is closed.
    Closed,
    /// The store is somebody else's.
    InUse,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(height, root) => write!(f, "open {height} {root}"),
            Self::Submitting(height) => write!(f, "submitting {height}"),
            Self::Accepted(height) => write!(f, "accepted {height}"),
            Self::Published(height, root) => write!(f, "published {height} {root}"),
            Self::Durable(height) => write!(f, "durable {height}"),
            Self::Removing => f.write_str("removing"),
            Self::Held(what) => write!(f, "held {what}"),
            Self::Closing => f.write_str("closing"),
            Self::Closed => f.write_str("closed"),
            Self::InUse => f.write_str("in-use"),
        }
    }
}

impl FromStr for Line {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let height = |text: &str| text.parse::<u64>().map_err(|error| format!("{text}: {error}"));
        let both = || {
            let (number, root) = rest.split_once(' ').ok_or("no root")?;
            let root = root.parse::<Digest>().map_err(|error| format!("{root}: {error}"))?;
            Ok::<_, String>((height(number)?, root))
        };
        Ok(match word {
            "open" => both().map(|(height, root)| Self::Open(height, root))?,
            "submitting" => Self::Submitting(height(rest)?),
            "accepted" => Self::Accepted(height(rest)?),
            "published" => both().map(|(height, root)| Self::Published(height, root))?,
            "durable" => Self::Durable(height(rest)?),
            "removing" => Self::Removing,
            "held" => Self::Held(rest.to_owned()),
            "closing" => Self::Closing,
            "closed" => Self::Closed,
            "in-use" => Self::InUse,
            _ => return Err(format!("not a line of ours: {text}")),
        })
    }
}
