//! What is asked of every engine.

use std::{fmt, io, num::NonZeroUsize, path::Path};

/// A state root.
pub type Root = [u8; 32];

/// The value of a key, or `None` if it is absent.
pub type Answer = Option<Vec<u8>>;

/// One change of a block.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Its new value; `None` deletes it.
    pub value: Option<&'a [u8]>,
}

/// What an engine is tuned for.
#[derive(Clone, Copy, Debug)]
pub struct Sizing {
    /// Keys that the store will hold. Caches are made large enough for all of them.
    pub keys: u64,
    /// Puts that it will be given in all. Where a store keeps what was overwritten, caches have room for that too.
    pub writes: u64,
    /// Threads that the engine may use at once.
    pub threads: NonZeroUsize,
}

impl Sizing {
    /// For so many keys, each written once, on all cores.
    pub fn new(keys: u64) -> Self {
        let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self { keys, writes: keys, threads }
    }

    /// The same, and so many puts more.
    pub fn with_updates(self, updates: u64) -> Self {
        Self { writes: self.writes.saturating_add(updates), ..self }
    }
}

/// Opens an engine's store in a directory, which is made if need be.
pub type Open = fn(&Path, Sizing) -> Result<Box<dyn OpenStore>, Failure>;

/// An engine: what it is, and how a store of it is opened.
#[derive(Clone, Copy)]
pub struct Engine {
    /// Its name in tables.
    pub name: &'static str,
    /// The crate that is measured; its version is that of the lock file ([`Engine::version`]).
    pub package: &'static str,
    /// What holds when [`OpenStore::apply`] returns.
    pub durability: &'static str,
    /// How it is set, where that is not its default.
    pub tuning: &'static str,
    /// Whether a store is still there when it is opened again.
    pub keeps: bool,
    /// Its proofs, if it has any.
    pub proofs: Option<Proofs>,
    /// Opens the store in a directory, or creates it if the directory is empty.
    pub open: Open,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Engine {
    /// The version that is measured.
    pub fn version(&self) -> &'static str {
        version_of(include_str!("../Cargo.lock"), self.package).unwrap_or("unknown")
    }
}

/// The version of `package` in a lock file.
fn version_of<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let of = |line: &'a str, name: &str| {
        line.strip_prefix(name)?.strip_prefix(" = \"")?.strip_suffix('"')
    };
    let mut lines = lock.lines();
    lines.find(|line| of(line, "name") == Some(package))?;
    of(lines.next()?, "version")
}

/// Verifies the proof of one key.
pub type Verify = fn(&Root, &[u8], &[u8]) -> Result<Answer, Failure>;
/// Verifies the proof of many keys; the answers are in the order of the keys.
pub type VerifyMany = fn(&Root, &[&[u8]], &[u8]) -> Result<Vec<Answer>, Failure>;

/// What the proofs of an engine are. Who verifies has nothing but a root, keys and the proof's bytes, which therefore
/// have the values too.
#[derive(Clone, Copy)]
pub struct Proofs {
    /// What they say and what they do not.
    pub say: &'static str,
    /// What the bytes of a proof of many keys are.
    pub encoding: &'static str,
    /// Whether absence can be proved.
    pub absence: bool,
    /// Verifies a proof of one key.
    pub verify: Verify,
    /// Verifies one proof of many keys.
    pub verify_many: VerifyMany,
}

/// Waits until a block is durable.
pub type Pending = Box<dyn FnOnce() -> Result<(), Failure> + Send>;

/// Who asks for the values of many keys, one after the other.
pub trait Asking {
    /// Makes `key` the next one; `false` after the last.
    fn next(&mut self, key: &mut Vec<u8>) -> bool;

    /// What that key has.
    ///
    /// # Errors
    /// It is not what it must be.
    fn answer(&mut self, value: Option<&[u8]>) -> Result<(), Failure>;
}

/// A store that is open.
pub trait OpenStore {
    /// Applies one block and returns when it is durable. Keys are distinct and in any order.
    ///
    /// # Errors
    /// The engine's. What the store then holds is unknown.
    fn apply(&mut self, block: &[Change<'_>]) -> Result<(), Failure>;

    /// Hands one block over and returns when the next may follow: what waits until it is durable, or `None` if it is. The
    /// same as [`OpenStore::apply`] for an engine that has one block under way at a time.
    ///
    /// # Errors
    /// As [`OpenStore::apply`].
    fn submit(&mut self, block: &[Change<'_>]) -> Result<Option<Pending>, Failure> {
        self.apply(block).map(|()| None)
    }

    /// The root of the newest block; `None` if the engine has no tree.
    ///
    /// # Errors
    /// The engine's.
    fn root(&self) -> Result<Option<Root>, Failure>;

    /// The value of `key`.
    ///
    /// # Errors
    /// The engine's.
    fn get(&self, key: &[u8]) -> Result<Answer, Failure>;

    /// Answers keys in the order in which they are asked, each before the next one is asked, in the way that costs the
    /// engine least.
    ///
    /// # Errors
    /// The engine's, or that of [`Asking::answer`].
    fn read_each(&self, asking: &mut dyn Asking) -> Result<(), Failure> {
        let mut key = vec![];
        while asking.next(&mut key) {
            let value = self.get(&key)?;
            asking.answer(value.as_deref())?;
        }
        Ok(())
    }

    /// Closes it, so that it opens again as fast as it can.
    ///
    /// # Errors
    /// The engine's.
    fn close(self: Box<Self>) -> Result<(), Failure> {
        Ok(())
    }

    /// What makes proofs under [`OpenStore::root`]; `None` if nothing does.
    fn prover(&self) -> Option<&dyn Prover>;
}

/// Makes proofs under the newest root.
pub trait Prover {
    /// A proof of one key.
    ///
    /// # Errors
    /// The engine's.
    fn prove(&self, key: &[u8]) -> Result<Vec<u8>, Failure>;

    /// One proof of many keys, at least one, in any order.
    ///
    /// # Errors
    /// The engine's.
    fn prove_many(&self, keys: &[&[u8]]) -> Result<Vec<u8>, Failure>;
}

/// Why a run ended without figures.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The engine's own error.
    #[error("{engine}: {reason}")]
    Engine {
        /// Who.
        engine: &'static str,
        /// Its words.
        reason: String,
    },
    /// A proof that its engine's verifier does not accept.
    #[error("{engine}: proof refused: {reason}")]
    Refused {
        /// Who.
        engine: &'static str,
        /// Its words.
        reason: String,
    },
    /// An answer that is not what was written.
    #[error("{engine}: WRONG ANSWER, {asked} keys asked")]
    WrongAnswer {
        /// Who.
        engine: &'static str,
        /// Keys of the question.
        asked: usize,
    },
    /// A value that is not what was written.
    #[error("{engine}: WRONG VALUE of key {id}, {when}")]
    WrongValue {
        /// Who.
        engine: &'static str,
        /// The number of the key.
        id: u32,
        /// When it was looked at.
        when: &'static str,
    },
    /// What is no line of results.
    #[error("line {number}: {reason}")]
    Line {
        /// Its number, from 1.
        number: usize,
        /// What is wrong with it.
        reason: serde_json::Error,
    },
    /// A plot that cannot be drawn.
    #[error("drawing {name}: {reason}")]
    Plot {
        /// Its file.
        name: &'static str,
        /// The words of who draws.
        reason: String,
    },
    /// The run asks for what cannot be.
    #[error("{0}")]
    Plan(&'static str),
    /// Reading a clock, or making a directory.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Failure {
    /// An engine's error.
    pub(crate) fn of(engine: &'static str) -> impl Fn(&dyn fmt::Display) -> Self {
        move |reason| Self::Engine { engine, reason: reason.to_string() }
    }

    /// A refused proof.
    pub(crate) fn refused(engine: &'static str, reason: impl fmt::Display) -> Self {
        Self::Refused { engine, reason: reason.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_from_the_lock_file() {
        let lock = "[[package]]\nname = \"ab\"\nversion = \"1.2.3\"\n\n[[package]]\nname = \"a\"\nversion = \"4.5.6\"\n";
        assert_eq!(version_of(lock, "a"), Some("4.5.6"));
        assert_eq!(version_of(lock, "ab"), Some("1.2.3"));
        assert_eq!(version_of(lock, "b"), None);
        for engine in crate::ENGINES {
            assert!(
                engine.version().starts_with(|first: char| first.is_ascii_digit()),
                "{engine:?}"
            );
        }
    }
}
