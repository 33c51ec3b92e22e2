//! The operation `messages`.

use super::{
    Suite,
    input::{LARGE, Outputs, Random, groupings, sizes},
    oracle,
};
use crate::{MessageGroup, Span};
use hedgerow_types::Digest;

/// Longest message that is tried one by one: six blocks and a bit, with every padding case.
const LENGTHS: u32 = 400;

pub(super) fn check(suite: &Suite<'_>) {
    nist(suite);
    every_length(suite);
    let mut random = suite.random(1);
    for size in sizes() {
        batch(suite, &mut random, size);
    }
    batch(suite, &mut random, LARGE);
    mixed_with_long(suite, &mut random);
    ends_of_arenas(suite, &mut random);
}

/// Messages of random length anywhere in their arenas, in all groupings.
pub(super) fn batch(suite: &Suite<'_>, random: &mut Random, count: usize) {
    for lens in groupings(random, count) {
        let groups: Vec<_> = lens
            .iter()
            .map(|&len| {
                let arena_len = 64 + random.below(4096);
                let spans = (0..len).map(|_| random_span(random, arena_len)).collect();
                Group::new(random, arena_len, spans)
            })
            .collect();
        hash(suite, random, &format!("messages, {count} in groups {lens:?}"), &groups);
    }
}

fn random_span(random: &mut Random, arena_len: usize) -> Span {
    let len = random.below(arena_len.min(LENGTHS as usize) + 1);
    let offset = random.below(arena_len - len + 1);
    Span { offset: offset as u32, len: len as u32 }
}

/// The arena of a group, some bytes into its allocation so that addresses are odd.
struct Group {
    bytes: Vec<u8>,
    skip: usize,
    spans: Vec<Span>,
}

impl Group {
    fn new(random: &mut Random, arena_len: usize, spans: Vec<Span>) -> Self {
        let skip = random.below(16);
        Self { bytes: random.bytes(skip + arena_len), skip, spans }
    }

    fn arena(&self) -> &[u8] {
        &self.bytes[self.skip..]
    }
}

fn hash(suite: &Suite<'_>, random: &mut Random, what: &str, groups: &[Group]) {
    let lens: Vec<_> = groups.iter().map(|group| group.spans.len()).collect();
    let mut outputs = Outputs::new(random, &lens);
    let mut batch: Vec<_> = groups
        .iter()
        .zip(outputs.slices())
        .map(|(group, out)| MessageGroup { arena: group.arena(), spans: &group.spans, out })
        .collect();
    suite.must_succeed(what, suite.hasher.messages(&mut batch));
    suite.must_hold(what, &outputs, |group, index| {
        let Span { offset, len } = groups[group].spans[index];
        let message = &groups[group].arena()[offset as usize..][..len as usize];
        Some(oracle(&[message]))
    });
}

/// The examples of FIPS 180-4 and the empty message.
fn nist(suite: &Suite<'_>) {
    const EXAMPLES: [(&[u8], &str); 4] = [
        (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
        ),
        (
            b"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqr\
              lmnopqrsmnopqrstnopqrstu",
            "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1",
        ),
    ];
    let mut arena = Vec::new();
    let mut spans = Vec::new();
    for (message, _) in EXAMPLES {
        spans.push(Span { offset: arena.len() as u32, len: message.len() as u32 });
        arena.extend_from_slice(message);
    }
    spans.push(Span { offset: arena.len() as u32, len: 1_000_000 });
    arena.resize(arena.len() + 1_000_000, b'a');
    let million = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";

    let mut out = vec![Digest::ZERO; spans.len()];
    let mut batch = [MessageGroup { arena: &arena, spans: &spans, out: &mut out }];
    suite.must_succeed("FIPS 180-4 examples", suite.hasher.messages(&mut batch));
    for (i, expected) in EXAMPLES.iter().map(|&(_, hex)| hex).chain([million]).enumerate() {
        assert_eq!(out[i].to_string(), expected, "{}: FIPS 180-4 example {i}", suite.name);
    }
}

/// Lengths 0..=400: all in one batch with and without slack in three orders, each alone, and 33 of
/// each side by side.
fn every_length(suite: &Suite<'_>) {
    let mut random = suite.random(2);
    for slack in [0, 1, 63, 64, 200] {
        let mut spans = Vec::new();
        let mut end = 0;
        for len in 0..=LENGTHS {
            spans.push(Span { offset: end, len });
            end += len;
        }
        for order in ["increasing", "decreasing", "shuffled"] {
            match order {
                "decreasing" => spans.reverse(),
                "shuffled" => random.shuffle(&mut spans),
                _ => {}
            }
            let what = format!("every length, {order}, slack {slack}");
            let group = Group::new(&mut random, end as usize + slack, spans.clone());
            hash(suite, &mut random, &what, &[group]);
        }
    }
    for len in 0..=LENGTHS {
        for (count, slack) in [(1, 0), (1, 64), (33, 0)] {
            let spans = (0..count).map(|i| Span { offset: i * len, len }).collect();
            let group = Group::new(&mut random, (count * len) as usize + slack, spans);
            let what = format!("{count} messages of {len} bytes, slack {slack}");
            hash(suite, &mut random, &what, &[group]);
        }
    }
}

/// A few messages much longer than their neighbours.
fn mixed_with_long(suite: &Suite<'_>, random: &mut Random) {
    for count in [1, 17, 64, 300] {
        let arena_len = 200_000;
        let mut spans: Vec<_> = (0..count).map(|_| random_span(random, arena_len)).collect();
        for _ in 0..3 {
            let len = 60_000 + random.below(70_000);
            let offset = random.below(arena_len - len);
            spans[random.below(count)] = Span { offset: offset as u32, len: len as u32 };
        }
        let group = Group::new(random, arena_len, spans);
        hash(suite, random, &format!("{count} messages, some of 130,000 bytes"), &[group]);
    }
}

/// Empty messages at the very end of an arena, an empty arena, the whole arena, one span many times.
fn ends_of_arenas(suite: &Suite<'_>, random: &mut Random) {
    let end = Span { offset: 70, len: 0 };
    let all = Span { offset: 0, len: 70 };
    let last = Span { offset: 69, len: 1 };
    let spans = [vec![end], vec![all, end, last, all], vec![end; 40], vec![last; 40], vec![]];
    let mut groups: Vec<_> = spans.into_iter().map(|spans| Group::new(random, 70, spans)).collect();
    groups.push(Group::new(random, 0, vec![Span::default(); 5]));
    groups.push(Group::new(random, 0, vec![]));
    hash(suite, random, "spans at the ends of their arenas", &groups);
    hash(suite, random, "no group of messages", &[]);
}
