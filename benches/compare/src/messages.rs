//! A batch of messages of any length, and who can hash it.

use crate::{
    contender::{Contender, OURS, SHA2},
    single,
};
use commonware_cryptography::Hasher as _;
use commonware_parallel::Sequential;
use hedgerow_benches::hashing::Messages;
use hedgerow_hasher_api::BatchHasher;
use hedgerow_types::Digest;
use std::borrow::Cow;

/// A batch of messages, and what they hash to.
#[derive(Debug)]
pub struct MessageInput {
    messages: Messages,
    expected: Vec<Digest>,
}

impl MessageInput {
    /// The batch `messages`.
    pub fn new(messages: Messages) -> Self {
        let expected = messages.iter().map(single::sha2).collect();
        Self { messages, expected }
    }

    /// Messages of the batch.
    pub fn count(&self) -> usize {
        self.expected.len()
    }

    /// A hasher of ours.
    pub fn hedgerow<'a>(
        &'a self,
        name: impl Into<Cow<'static, str>>,
        hasher: &'a dyn BatchHasher,
    ) -> Contender<'a> {
        let room = vec![Digest::ZERO; self.count()];
        Contender::fallible(name, &self.expected, room, |out| self.messages.hash(hasher, out))
    }

    /// The yardstick.
    pub fn sha2(&self) -> Contender<'_> {
        self.one_by_one(SHA2, single::sha2)
    }

    /// `ours`, the yardstick, and every other crate that takes such messages.
    pub fn contenders<'a>(&'a self, ours: &'a dyn BatchHasher) -> Vec<Contender<'a>> {
        let list: Vec<_> = self.messages.iter().collect();
        let list_too = list.clone();
        let room = vec![[0; 32]; self.count()];
        vec![
            self.hedgerow(OURS, ours),
            self.sha2(),
            self.one_by_one("ring", single::ring),
            self.one_by_one("aws-lc-rs", single::aws_lc),
            Contender::new("tape-sha256 hash_many", &self.expected, room, move |out| {
                tape_sha256::hash_many(&list, out);
            })
            .of("tape-sha256"),
            Contender::new("commonware hash_many", &self.expected, vec![], move |out| {
                *out = commonware_cryptography::Sha256::hash_many(&list_too, &Sequential);
            })
            .of("commonware-cryptography"),
        ]
    }

    fn one_by_one<'a>(
        &'a self,
        name: &'static str,
        digest: impl Fn(&[u8]) -> Digest + 'a,
    ) -> Contender<'a> {
        let room = vec![Digest::ZERO; self.count()];
        Contender::new(name, &self.expected, room, move |out: &mut Vec<Digest>| {
            for (message, out) in self.messages.iter().zip(out) {
                *out = digest(message);
            }
        })
    }
}
