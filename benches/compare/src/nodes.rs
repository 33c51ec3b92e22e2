//! A batch of nodes, and who can hash it.
//!
//! A node is 65 bytes: level, left, right. Ours takes children as they lie in a tree; a crate that
//! wants whole messages finds them prepared, which no tree has: the harder comparison.

use crate::{
    contender::{Contender, OURS, SHA2},
    hashtree, single,
};
use commonware_cryptography::Hasher as _;
use commonware_parallel::Sequential;
use hedgerow_benches::hashing::{LEVEL, Nodes};
use hedgerow_hasher_api::BatchHasher;
use hedgerow_types::{Digest, node::NODE_PREIMAGE_LEN};
use std::borrow::Cow;

/// Messages that a crate which returns its digests in a new vector is given at a time, where that is
/// better for it: a small vector needs no fresh memory from the system.
const AT_A_TIME: usize = 1024;

/// A batch of nodes in the forms that the contenders take.
#[derive(Debug)]
pub struct NodeInput {
    nodes: Nodes,
    preimages: Vec<[u8; NODE_PREIMAGE_LEN]>,
    /// Left and right without a level.
    bare: Vec<[u8; 64]>,
    expected: Vec<Digest>,
    expected_bare: Vec<Digest>,
}

impl NodeInput {
    /// `count` nodes.
    pub fn new(count: usize) -> Self {
        let nodes = Nodes::new(count);
        let preimages = nodes.preimages();
        let bare: Vec<[u8; 64]> = preimages
            .iter()
            .map(|preimage| {
                let mut bare = [0; 64];
                bare.copy_from_slice(&preimage[1..]);
                bare
            })
            .collect();
        let expected = preimages.iter().map(|message| single::sha2(message)).collect();
        let expected_bare = bare.iter().map(|message| single::sha2(message)).collect();
        Self { nodes, preimages, bare, expected, expected_bare }
    }

    /// Nodes of the batch.
    pub fn count(&self) -> usize {
        self.expected.len()
    }

    /// The 65 bytes of each node.
    pub fn preimages(&self) -> &[[u8; NODE_PREIMAGE_LEN]] {
        &self.preimages
    }

    /// What the nodes hash to.
    pub fn expected(&self) -> &[Digest] {
        &self.expected
    }

    /// A hasher of ours.
    pub fn hedgerow<'a>(
        &'a self,
        name: impl Into<Cow<'static, str>>,
        hasher: &'a dyn BatchHasher,
    ) -> Contender<'a> {
        Contender::fallible(name, &self.expected, self.room(), |out| self.nodes.hash(hasher, out))
    }

    /// The yardstick.
    pub fn sha2(&self) -> Contender<'_> {
        self.one_by_one(SHA2, |message| single::sha2(message))
    }

    /// `ours`, the yardstick, and every other crate.
    pub fn contenders<'a>(&'a self, ours: &'a dyn BatchHasher) -> Vec<Contender<'a>> {
        let mut contenders = vec![
            self.hedgerow(OURS, ours),
            self.sha2(),
            self.one_by_one("ring", |message| single::ring(message)),
            self.one_by_one("aws-lc-rs", |message| single::aws_lc(message)),
        ];
        contenders.extend(self.tape());
        contenders.extend(self.commonware());
        contenders.extend(self.hashtree());
        contenders
    }

    fn one_by_one<'a>(
        &'a self,
        name: &'static str,
        digest: impl Fn(&[u8; NODE_PREIMAGE_LEN]) -> Digest + 'a,
    ) -> Contender<'a> {
        Contender::new(name, &self.expected, self.room(), move |out: &mut Vec<Digest>| {
            for (message, out) in self.preimages.iter().zip(out) {
                *out = digest(message);
            }
        })
    }

    fn tape(&self) -> [Contender<'_>; 4] {
        const PREFIX: &[u8] = &[LEVEL];
        let halves = |half: std::ops::Range<usize>| -> Vec<_> {
            self.bare.iter().map(|bare| &bare[half.clone()]).collect()
        };
        let (left, right) = (halves(0..32), halves(32..64));
        let bodies: Vec<_> = self.bare.iter().map(|bare| &bare[..]).collect();
        let messages: Vec<_> = self.preimages.iter().map(|message| &message[..]).collect();
        let pairs: Vec<_> = (left.iter().zip(&right))
            .map(|(left, right)| tape_sha256::Message::pair(PREFIX, left, right))
            .collect();
        let room = || vec![[0; 32]; self.count()];
        [
            Contender::new("tape-sha256 hash_pairs", &self.expected, room(), move |out| {
                tape_sha256::hash_pairs(PREFIX, &left, &right, out);
            }),
            Contender::new("tape-sha256 hash_messages", &self.expected, room(), move |out| {
                tape_sha256::hash_messages(&pairs, out);
            }),
            Contender::new("tape-sha256 hash_many_prefixed", &self.expected, room(), move |out| {
                tape_sha256::hash_many_prefixed(PREFIX, &bodies, out);
            }),
            Contender::new("tape-sha256 hash_many", &self.expected, room(), move |out| {
                tape_sha256::hash_many(&messages, out);
            }),
        ]
        .map(|contender| contender.of("tape-sha256"))
    }

    fn commonware(&self) -> Vec<Contender<'_>> {
        use commonware_cryptography::{Sha256, sha256::Digest};
        let room = || vec![Digest([0; 32]); self.count()];
        let mut ways = vec![
            Contender::new("commonware hash", &self.expected, room(), |out: &mut Vec<_>| {
                for (message, out) in self.preimages.iter().zip(out) {
                    *out = Sha256::hash(&[message]);
                }
            }),
            Contender::new("commonware hash_many", &self.expected, vec![], |out| {
                *out = Sha256::hash_many(&self.preimages, &Sequential);
            }),
        ];
        if self.count() > AT_A_TIME {
            let name = "commonware hash_many, 1024 each";
            ways.push(Contender::new(name, &self.expected, room(), |out: &mut Vec<_>| {
                let lots = self.preimages.chunks(AT_A_TIME).zip(out.chunks_mut(AT_A_TIME));
                for (messages, out) in lots {
                    out.copy_from_slice(&Sha256::hash_many(messages, &Sequential));
                }
            }));
        }
        ways.into_iter().map(|way| way.of("commonware-cryptography")).collect()
    }

    /// A different message, 64 bytes without a level: its second block is the same for all.
    fn hashtree(&self) -> Vec<Contender<'_>> {
        let contender = |name, hash: hashtree::Hash| {
            let room = vec![[0; 32]; self.count()];
            Contender::new(name, &self.expected_bare, room, move |out: &mut Vec<_>| {
                hash(&self.bare, out);
            })
        };
        let mut ways = vec![contender("hashtree-rs (64 B)", hashtree::hash).of("hashtree-rs")];
        if let Some(hash) = hashtree::avx512() {
            ways.push(contender("hashtree-rs, x16 in C (64 B)", hash));
        }
        ways
    }

    fn room(&self) -> Vec<Digest> {
        vec![Digest::ZERO; self.count()]
    }
}
