//! What attackers do.
//!
//! ```text
//!   a true proof ──► bytes      flipped, cut, pasted, moved
//!               ──► parts       entries, pages, nodes, counts, levels, shards: dropped, doubled, swapped, lied about
//!               ──► spliced     with the proof of another question, height, store
//!   the tree    ──► forged      other entries, changed entries, with the siblings that belong there
//!   a question  ──► asked       that the proof is not about
//! ```

use crate::sample::{Sample, Samples};
use crate::tree::{Parts, Place};
use crate::truth::{Question, World};
use hedgerow::{Height, KeyHash, SerialNumber};
use hedgerow_testkit::model::key_hash;
use hedgerow_testkit::recipe::SplitMix64;
use hedgerow_types::Version;
use hedgerow_types::entry::{EntryFields, is_sentry_key};
use std::collections::BTreeSet;

/// Bytes that are offered as the proof of an answer to a question under the root of a world.
pub(crate) struct Attempt {
    pub(crate) world: usize,
    pub(crate) question: Question,
    pub(crate) bytes: Vec<u8>,
}

/// An attack; none if it does not fit what was drawn.
type Attack = fn(&mut Attacker<'_>) -> Option<Attempt>;

/// An entry, and one that put it out of use.
type Link = (Place, Place);

/// Every attack by name.
pub(crate) const ATTACKS: [(&str, Attack); 52] = [
    ("a bit flipped", |a| a.on_bytes(|rng, bytes| flip_bit(rng, bytes))),
    ("a byte written", |a| a.on_bytes(|rng, bytes| write_byte(rng, bytes))),
    ("the end cut", |a| a.on_bytes(cut_end)),
    ("the start cut", |a| a.on_bytes(cut_start)),
    ("a middle cut", |a| a.on_bytes(cut_middle)),
    ("the end longer", |a| a.on_bytes(extend)),
    ("bytes put in", |a| a.on_bytes(put_in)),
    ("bytes copied over others", |a| a.on_bytes(|rng, bytes| copy_over(rng, bytes))),
    ("bytes turned round", |a| a.on_bytes(|rng, bytes| turn_round(rng, bytes))),
    ("another version", |a| a.on_parts(|rng, parts| parts.version = rng.below(256) as u8)),
    ("another count", |a| a.on_parts(other_count)),
    ("another shard named", |a| a.on_parts(other_shard)),
    ("another shard in place of one", |a| a.on_parts(moved_shard)),
    ("other levels", |a| a.on_parts(other_levels)),
    ("more levels, with nodes for them", |a| a.on_parts(more_levels)),
    ("an entry twice", |a| a.on_parts(|rng, parts| twice(rng, &mut parts.entries))),
    ("an entry twice, and counted", |a| a.on_parts(entry_twice_counted)),
    ("an entry dropped", |a| a.on_parts(|rng, parts| dropped(rng, &mut parts.entries))),
    ("an entry dropped, and counted", |a| a.on_parts(entry_dropped_counted)),
    ("entries swapped", |a| a.on_parts(|rng, parts| swapped(rng, &mut parts.entries))),
    ("a page twice", |a| a.on_parts(|rng, parts| twice(rng, &mut parts.pages))),
    ("a page dropped", |a| a.on_parts(|rng, parts| dropped(rng, &mut parts.pages))),
    ("pages swapped", |a| a.on_parts(|rng, parts| swapped(rng, &mut parts.pages))),
    ("a node twice", |a| a.on_parts(|rng, parts| twice(rng, &mut parts.nodes))),
    ("a node dropped", |a| a.on_parts(|rng, parts| dropped(rng, &mut parts.nodes))),
    ("nodes swapped", |a| a.on_parts(|rng, parts| swapped(rng, &mut parts.nodes))),
    ("page and node swapped", |a| a.on_parts(page_for_node)),
    ("entries of one, the rest of another", |a| a.splice_entries()),
    ("pages of another", |a| a.splice(|mine, other| mine.pages.clone_from(&other.pages))),
    ("nodes of another", |a| a.splice(|mine, other| mine.nodes.clone_from(&other.nodes))),
    ("some nodes of another", |a| a.splice_some_nodes()),
    ("the start of one, the end of another", |a| a.splice_bytes()),
    ("another question", |a| a.other_question()),
    ("another height, shard or store", |a| a.other_world()),
    ("another family", |a| a.other_family()),
    ("other entries, well encoded", |a| a.other_entries()),
    ("an entry too many, well encoded", |a| a.surplus()),
    ("an entry too few, well encoded", |a| a.missing()),
    ("an old entry for a new one, well encoded", |a| a.outdated()),
    ("an old entry with its bit set", |a| a.revived()),
    ("a field of an entry changed, well encoded", |a| a.altered()),
    ("an entry under another number, well encoded", |a| a.renumbered()),
    ("a bit of a page changed, well encoded", |a| a.page_changed()),
    ("entries out of order, well encoded", |a| a.unsorted()),
    ("a sentry for a key of its bytes", |a| a.sentry_as_key()),
    ("past: a copy for a change", |a| a.copy_as_change()),
    ("past: a copy before the last", |a| a.early_copy()),
    ("past: replaced before", |a| a.replaced_before()),
    ("past: written after", |a| a.written_after()),
    ("past: replaced in another shard", |a| a.replaced_elsewhere()),
    ("past: replaced by an entry that is nowhere", |a| a.made_up()),
    ("past: any two entries", |a| a.any_two()),
];

/// Draws attacks.
pub(crate) struct Attacker<'a> {
    pub(crate) rng: SplitMix64,
    pub(crate) samples: &'a Samples,
}

impl Attacker<'_> {
    fn below(&mut self, n: usize) -> usize {
        self.rng.below(n.max(1) as u64) as usize
    }

    fn pick<'s, T>(&mut self, of: &'s [T]) -> Option<&'s T> {
        let i = self.below(of.len());
        of.get(i)
    }

    fn coin(&mut self) -> bool {
        self.rng.below(2) == 0
    }
}

// Bytes and parts of a true proof.

impl<'a> Attacker<'a> {
    fn sample(&mut self) -> &'a Sample {
        let family = self.below(4);
        self.sample_of(family)
    }

    fn sample_of(&mut self, family: usize) -> &'a Sample {
        let samples = self.samples;
        let of = &samples.families[family];
        &of[self.below(of.len())]
    }

    fn world(&self, number: usize) -> &'a World {
        let samples = self.samples;
        &samples.worlds[number]
    }

    fn on_bytes(&mut self, change: fn(&mut SplitMix64, &mut Vec<u8>)) -> Option<Attempt> {
        let sample = self.sample();
        let mut bytes = sample.parts.bytes();
        for _ in 0..=self.below(2) {
            change(&mut self.rng, &mut bytes);
        }
        sample.with(bytes)
    }

    fn on_parts(&mut self, change: fn(&mut SplitMix64, &mut Parts)) -> Option<Attempt> {
        let sample = self.sample();
        let mut parts = sample.parts.clone();
        change(&mut self.rng, &mut parts);
        sample.with(parts.bytes())
    }
}

/// An attempt with these bytes, if they are not those of the true proof.
fn changed(world: usize, question: Question, bytes: Vec<u8>, truth: &[u8]) -> Option<Attempt> {
    (bytes != truth).then_some(Attempt { world, question, bytes })
}

impl Sample {
    /// The sample's question with these bytes, if they are others.
    fn with(&self, bytes: Vec<u8>) -> Option<Attempt> {
        changed(self.world, self.question.clone(), bytes, &self.parts.bytes())
    }
}

fn place(rng: &mut SplitMix64, len: usize) -> usize {
    // The header as often as all that follows.
    let len = if rng.below(2) == 0 { len.min(80) } else { len };
    rng.below(len.max(1) as u64) as usize
}

fn flip_bit(rng: &mut SplitMix64, bytes: &mut [u8]) {
    let at = place(rng, bytes.len());
    bytes[at] ^= 1 << rng.below(8);
}

fn write_byte(rng: &mut SplitMix64, bytes: &mut [u8]) {
    let at = place(rng, bytes.len());
    bytes[at] = [0, 1, 0x7F, 0x80, 0xFF, rng.next_u64() as u8][rng.below(6) as usize];
}

/// A length that is often that of a field.
fn length(rng: &mut SplitMix64, most: usize) -> usize {
    let len = [1, 2, 4, 8, 32, 64, 32 * (1 + rng.below(8)), 1 + rng.below(200)];
    (len[rng.below(8) as usize] as usize).min(most)
}

fn cut_end(rng: &mut SplitMix64, bytes: &mut Vec<u8>) {
    let len = length(rng, bytes.len());
    let len = if rng.below(4) == 0 { place(rng, bytes.len()) } else { bytes.len() - len };
    bytes.truncate(len.max(1));
}

fn cut_start(rng: &mut SplitMix64, bytes: &mut Vec<u8>) {
    let len = length(rng, bytes.len() - 1);
    bytes.drain(..len);
}

fn cut_middle(rng: &mut SplitMix64, bytes: &mut Vec<u8>) {
    let at = place(rng, bytes.len());
    let len = length(rng, bytes.len() - at);
    if len < bytes.len() {
        bytes.drain(at..at + len);
    }
}

fn extend(rng: &mut SplitMix64, bytes: &mut Vec<u8>) {
    let len = length(rng, 512);
    let from = bytes.len().saturating_sub(len);
    let more = match rng.below(3) {
        0 => vec![0; len],
        1 => bytes[from..].to_vec(),
        _ => (0..len).map(|_| rng.next_u64() as u8).collect(),
    };
    bytes.extend(more);
}

fn put_in(rng: &mut SplitMix64, bytes: &mut Vec<u8>) {
    let (at, from) = (place(rng, bytes.len()), place(rng, bytes.len()));
    let len = length(rng, bytes.len() - from);
    let copy = bytes[from..from + len].to_vec();
    bytes.splice(at..at, copy);
}

fn copy_over(rng: &mut SplitMix64, bytes: &mut [u8]) {
    let (at, from) = (place(rng, bytes.len()), place(rng, bytes.len()));
    let len = length(rng, bytes.len() - from.max(at));
    bytes.copy_within(from..from + len, at);
}

fn turn_round(rng: &mut SplitMix64, bytes: &mut [u8]) {
    let at = place(rng, bytes.len());
    let len = length(rng, bytes.len() - at);
    bytes[at..at + len].reverse();
}

fn other_count(rng: &mut SplitMix64, parts: &mut Parts) {
    let count = parts.count;
    let counts = [0, 1, 2, count - 1, count + 1, 2 * count, 0xFFFF, 1 << 24, u32::MAX, 1 << 31];
    parts.count = counts[rng.below(10) as usize];
}

fn other_shard(rng: &mut SplitMix64, parts: &mut Parts) {
    parts.mask ^= 1 << rng.below(16);
    let want = parts.mask.count_ones() as usize;
    if rng.below(4) > 0 {
        parts.levels.resize(want, 2);
    }
}

fn moved_shard(rng: &mut SplitMix64, parts: &mut Parts) {
    parts.mask = parts.mask.rotate_left(1 + rng.below(15) as u32);
    parts.levels.reverse();
}

fn other_levels(rng: &mut SplitMix64, parts: &mut Parts) {
    let i = rng.below(parts.levels.len() as u64) as usize;
    let k = parts.levels[i];
    let levels = [0, 1, k.wrapping_sub(1), k + 1, k + 2, 50, 51, 52, 64, 255];
    parts.levels[i] = levels[rng.below(10) as usize];
}

fn more_levels(rng: &mut SplitMix64, parts: &mut Parts) {
    let i = rng.below(parts.levels.len() as u64) as usize;
    let more = 1 + rng.below(3) as u8;
    parts.levels[i] += more;
    for _ in 0..more {
        let at = rng.below(parts.nodes.len() as u64 + 1) as usize;
        let node = parts.nodes[rng.below(parts.nodes.len() as u64) as usize];
        parts.nodes.insert(at, node);
    }
}

fn twice<T: Clone>(rng: &mut SplitMix64, of: &mut Vec<T>) {
    if of.is_empty() {
        return;
    }
    let i = rng.below(of.len() as u64) as usize;
    let to = if rng.below(2) == 0 { i } else { rng.below(of.len() as u64 + 1) as usize };
    of.insert(to, of[i].clone());
}

fn dropped<T>(rng: &mut SplitMix64, of: &mut Vec<T>) {
    if !of.is_empty() {
        of.remove(rng.below(of.len() as u64) as usize);
    }
}

fn swapped<T>(rng: &mut SplitMix64, of: &mut [T]) {
    let len = of.len() as u64;
    if len > 1 {
        let i = rng.below(len);
        let j = if rng.below(2) == 0 { (i + 1) % len } else { rng.below(len) };
        of.swap(i as usize, j as usize);
    }
}

fn entry_twice_counted(rng: &mut SplitMix64, parts: &mut Parts) {
    twice(rng, &mut parts.entries);
    parts.count += 1;
}

fn entry_dropped_counted(rng: &mut SplitMix64, parts: &mut Parts) {
    dropped(rng, &mut parts.entries);
    parts.count -= 1;
}

fn page_for_node(rng: &mut SplitMix64, parts: &mut Parts) {
    let i = rng.below(parts.pages.len() as u64) as usize;
    let j = rng.below(parts.nodes.len() as u64) as usize;
    std::mem::swap(&mut parts.pages[i], &mut parts.nodes[j]);
}

// Two true proofs.

impl<'a> Attacker<'a> {
    /// Two proofs, which are often of one family and one question's neighbours.
    fn two(&mut self) -> (&'a Sample, &'a Sample) {
        let family = self.below(4);
        let mine = self.sample_of(family);
        let family = if self.coin() { family } else { self.below(4) };
        let mut other = self.sample_of(family);
        for _ in 0..8 {
            // The same shard, or number of entries: more of it fits.
            if other.parts.mask == mine.parts.mask || other.parts.count == mine.parts.count {
                break;
            }
            other = self.sample_of(family);
        }
        (mine, other)
    }

    fn splice(&mut self, change: fn(&mut Parts, &Parts)) -> Option<Attempt> {
        let (mine, other) = self.two();
        let mut parts = mine.parts.clone();
        change(&mut parts, &other.parts);
        mine.with(parts.bytes())
    }

    fn splice_entries(&mut self) -> Option<Attempt> {
        let (mine, other) = self.two();
        let mut parts = other.parts.clone();
        parts.entries.clone_from(&mine.parts.entries);
        parts.count = mine.parts.count;
        let (world, question) = (other.world, mine.question.clone());
        Some(Attempt { world, question, bytes: parts.bytes() })
    }

    fn splice_some_nodes(&mut self) -> Option<Attempt> {
        let (mine, other) = self.two();
        let (mut parts, nodes) = (mine.parts.clone(), &other.parts.nodes);
        let most = parts.nodes.len().min(nodes.len());
        let at = self.below(most);
        let end = at + 1 + self.below(most - at);
        parts.nodes[at..end.min(most)].copy_from_slice(&nodes[at..end.min(most)]);
        mine.with(parts.bytes())
    }

    fn splice_bytes(&mut self) -> Option<Attempt> {
        let (mine, other) = self.two();
        let (mut bytes, rest) = (mine.parts.bytes(), other.parts.bytes());
        let at = place(&mut self.rng, bytes.len());
        let from = if self.coin() { at } else { place(&mut self.rng, rest.len()) };
        bytes.truncate(at);
        bytes.extend(&rest[from.min(rest.len())..]);
        if bytes.is_empty() { None } else { mine.with(bytes) }
    }
}

// A true proof, and what it is not about.

impl<'a> Attacker<'a> {
    fn key(&mut self) -> Vec<u8> {
        let samples = self.samples;
        samples.keys[self.below(samples.keys.len())].clone()
    }

    /// A hash at, just before or just after something in the world.
    fn hash(&mut self, world: &World) -> KeyHash {
        let at = self.below(world.active.len());
        let mut hash = match self.below(3) {
            0 => key_hash(&self.key()),
            1 => world.active[at].0,
            _ => KeyHash(std::array::from_fn(|_| self.rng.next_u64() as u8)),
        };
        match self.below(3) {
            0 => hash.0[31] ^= 1,
            1 => hash.0[31] = hash.0[31].wrapping_sub(1),
            _ => {}
        }
        if hash == KeyHash::MAX { KeyHash::sentry(0) } else { hash }
    }

    fn question(&mut self, family: usize, world: &World) -> Question {
        match family {
            0 => Question::Single { key: self.key() },
            1 => Question::Many { keys: (0..=self.below(5)).map(|_| self.key()).collect() },
            2 => Question::Range { from: self.hash(world) },
            _ => {
                let height = self.rng.below(world.height() + 3);
                Question::Past { key: self.key(), height }
            }
        }
    }

    fn other_question(&mut self) -> Option<Attempt> {
        let sample = self.sample();
        let world = self.world(sample.world);
        let mut question = sample.question.clone();
        match &mut question {
            Question::Many { keys } if self.coin() => match self.below(3) {
                0 => drop(keys.pop()),
                1 => keys.push(self.key()),
                _ => swapped(&mut self.rng, keys),
            },
            Question::Range { from } if self.coin() => {
                let near = (world.active_at(from) + self.below(4)).saturating_sub(1);
                *from = world.active[near % world.active.len()].0;
            }
            Question::Past { height, .. } if self.coin() => {
                *height = (*height + self.rng.below(7)).saturating_sub(3);
            }
            _ => question = self.question(sample.question.family(), world),
        }
        Some(Attempt { world: sample.world, question, bytes: sample.parts.bytes() })
    }

    fn other_world(&mut self) -> Option<Attempt> {
        let sample = self.sample();
        let world = (sample.world + 1 + self.below(2)) % self.samples.worlds.len();
        Some(Attempt { world, question: sample.question.clone(), bytes: sample.parts.bytes() })
    }

    fn other_family(&mut self) -> Option<Attempt> {
        let sample = self.sample();
        let world = self.world(sample.world);
        let question = match (&sample.question, self.below(4)) {
            (Question::Single { key } | Question::Past { key, .. }, 0) => {
                Question::Many { keys: vec![key.clone()] }
            }
            (Question::Single { key } | Question::Past { key, .. }, 1) => {
                Question::Range { from: key_hash(key) }
            }
            (Question::Single { key } | Question::Past { key, .. }, 2) => {
                let height = self.rng.below(world.height() + 1);
                Question::Past { key: key.clone(), height }
            }
            (Question::Single { key } | Question::Past { key, .. }, _) => {
                Question::Single { key: key.clone() }
            }
            (Question::Many { keys }, 0) => Question::Single { key: keys[0].clone() },
            (Question::Many { keys }, 1) => Question::Range { from: key_hash(&keys[0]) },
            (_, family) => self.question(family, world),
        };
        Some(Attempt { world: sample.world, question, bytes: sample.parts.bytes() })
    }
}

// The whole tree.

impl<'a> Attacker<'a> {
    /// A question of any family about a world, with the true proof's entries.
    fn asked(&mut self) -> (usize, &'a World, Question, BTreeSet<Place>) {
        let sample = self.sample();
        let world = self.world(sample.world);
        let places = world.places(&sample.question, sample.parts.count as usize);
        (sample.world, world, sample.question.clone(), places)
    }

    /// An entry, active or not, seldom one of genesis.
    fn any_place(&mut self, world: &World) -> Place {
        if self.below(8) == 0 {
            (self.below(16), self.rng.below(4096))
        } else {
            world.later[self.below(world.later.len())]
        }
    }

    fn other_entries(&mut self) -> Option<Attempt> {
        let (number, world, question, _) = self.asked();
        let places = (0..=self.below(4)).map(|_| self.any_place(world)).collect();
        Some(Attempt { world: number, question, bytes: world.proof(&places) })
    }

    fn surplus(&mut self) -> Option<Attempt> {
        let (number, world, question, mut places) = self.asked();
        for _ in 0..=self.below(2) {
            let active = world.active[self.below(world.active.len())].1;
            places.insert(if self.coin() { active } else { self.any_place(world) });
        }
        Some(Attempt { world: number, question, bytes: world.proof(&places) })
    }

    fn missing(&mut self) -> Option<Attempt> {
        let (number, world, question, mut places) = self.asked();
        if places.len() < 2 {
            return None;
        }
        let one = *places.iter().nth(self.below(places.len()))?;
        places.remove(&one);
        Some(Attempt { world: number, question, bytes: world.proof(&places) })
    }

    /// An entry about a key of the question that is not the one that proves.
    fn older(&mut self, world: &World, question: &Question) -> Option<Link> {
        let key = match question {
            Question::Single { key } | Question::Past { key, .. } => key.clone(),
            Question::Many { keys } => self.pick(keys)?.clone(),
            Question::Range { from } => {
                let own = world.entry(world.active[world.active_at(from)].1);
                own.key().to_vec()
            }
        };
        let about = world.about.get(&key)?;
        Some((world.covering(&key), *self.pick(about)?))
    }

    fn outdated(&mut self) -> Option<Attempt> {
        let (number, world, question, mut places) = self.asked();
        let (now, old) = self.older(world, &question)?;
        places.remove(&now);
        places.insert(old);
        Some(Attempt { world: number, question, bytes: world.proof(&places) })
    }

    /// As the one before, and the bits of all its entries are set in the pages.
    fn revived(&mut self) -> Option<Attempt> {
        let (number, world, question, mut places) = self.asked();
        let (now, old) = self.older(world, &question)?;
        places.remove(&now);
        places.insert(old);
        let mut parts = world.tree.proof(&world.model, &places);
        let pages: BTreeSet<Place> = places.iter().map(|&(shard, sn)| (shard, sn >> 8)).collect();
        for (page, at) in parts.pages.iter_mut().zip(&pages) {
            for (_, sn) in places.iter().filter(|(shard, sn)| (*shard, sn >> 8) == *at) {
                page[(sn % 256 / 8) as usize] |= 1 << (sn % 8);
            }
        }
        Some(Attempt { world: number, question, bytes: parts.bytes() })
    }

    fn altered(&mut self) -> Option<Attempt> {
        let (number, world, question, places) = self.asked();
        let mut parts = world.tree.proof(&world.model, &places);
        let i = self.below(parts.entries.len());
        let entry = &mut parts.entries[i];
        let (key, value) =
            (usize::from(entry[0]), usize::from(entry[1]) + 256 * usize::from(entry[2]));
        let tail = 5 + key + value;
        let other = world.bytes_of(world.active[self.below(world.active.len())].1);
        match self.below(8) {
            // The value: other bytes, shorter, longer.
            0 if value > 0 => entry[5 + key] ^= 1 << self.below(8),
            1 if value > 0 => {
                entry.remove(tail - 1);
                entry[1..3].copy_from_slice(&(value as u16 - 1).to_le_bytes());
            }
            2 => {
                entry.insert(tail, 7);
                entry[1..3].copy_from_slice(&(value as u16 + 1).to_le_bytes());
            }
            // The next key hash: the end of everything, or another entry's.
            3 => entry[tail..tail + 32].fill(0xFF),
            // The version, a block earlier or later.
            4 => entry[tail + 35] = entry[tail + 35].wrapping_add(1),
            5 => entry[tail + 35] = entry[tail + 35].wrapping_sub(1),
            // Deactivates one more.
            6 => {
                let sn = self.any_place(world).1;
                entry[4] += 1;
                entry.extend(sn.to_le_bytes());
            }
            _ => *entry = other,
        }
        Some(Attempt { world: number, question, bytes: parts.bytes() })
    }

    fn renumbered(&mut self) -> Option<Attempt> {
        let (number, world, question, places) = self.asked();
        let mut parts = world.tree.proof(&world.model, &places);
        let i = self.below(parts.entries.len());
        let (shard, sn) = *places.iter().nth(i)?;
        let entry = &mut parts.entries[i];
        let value = usize::from(entry[1]) + 256 * usize::from(entry[2]);
        let at = 5 + usize::from(entry[0]) + value + 40;
        let k = world.tree.levels(shard);
        let others = [
            sn + (2048 << k),
            sn | 1 << 63,
            sn + 256,
            sn ^ 2048,
            sn ^ 1,
            sn + (2048 << (k + 1)),
            u64::MAX,
        ];
        let other = others[self.below(7)];
        entry[at..at + 8].copy_from_slice(&other.to_le_bytes());
        if self.coin() && other < 1 << 20 {
            // With the siblings of where it says it is.
            let moved = places
                .iter()
                .map(|&place| if place == (shard, sn) { (shard, other) } else { place });
            let frame = world.tree.frame(&moved.collect());
            parts = Parts { entries: parts.entries, ..frame };
        }
        Some(Attempt { world: number, question, bytes: parts.bytes() })
    }

    fn page_changed(&mut self) -> Option<Attempt> {
        let (number, world, question, places) = self.asked();
        let mut parts = world.tree.proof(&world.model, &places);
        let (i, at) = (self.below(parts.pages.len()), self.below(32));
        let other = world.tree.right_node(self.below(16), 8, self.rng.below(24)).0;
        match self.below(3) {
            0 => parts.pages[i][at] ^= 1 << self.below(8),
            1 => parts.pages[i] = [0xFF; 32],
            _ => parts.pages[i] = other,
        }
        changed(number, question, parts.bytes(), &world.proof(&places))
    }

    fn unsorted(&mut self) -> Option<Attempt> {
        let (number, world, question, places) = self.asked();
        let mut parts = world.tree.proof(&world.model, &places);
        swapped(&mut self.rng, &mut parts.entries);
        changed(number, question, parts.bytes(), &world.proof(&places))
    }
}

impl Attacker<'_> {
    /// The sentry whose key has the bytes of a user's.
    fn sentry_as_key(&mut self) -> Option<Attempt> {
        let number = self.below(self.samples.worlds.len());
        let world = self.world(number);
        let keys: Vec<_> = self.samples.keys.iter().filter(|key| is_sentry_key(key)).collect();
        let key = self.pick(&keys)?.to_vec();
        let (own, sentry) = world.active[world.active_at(&KeyHash(key[..].try_into().ok()?))];
        let question = match self.below(4) {
            0 => Question::Single { key },
            1 => Question::Many { keys: vec![key] },
            2 => Question::Range { from: own },
            _ => Question::Past { key, height: self.rng.below(world.height() + 1) },
        };
        Some(Attempt { world: number, question, bytes: world.proof(&BTreeSet::from([sentry])) })
    }
}

// The past.

impl<'a> Attacker<'a> {
    fn of_the_past(&mut self) -> (usize, &'a World, Vec<u8>) {
        let sample = self.sample_of(3);
        let key = match &sample.question {
            Question::Past { key, .. } => key.clone(),
            _ => self.key(),
        };
        (sample.world, self.world(sample.world), key)
    }

    /// The heights around a height.
    fn near(&mut self, height: u64) -> u64 {
        (height + self.rng.below(4)).saturating_sub(2)
    }

    fn past(
        &mut self,
        world: usize,
        key: Vec<u8>,
        height: u64,
        places: &BTreeSet<Place>,
    ) -> Attempt {
        let bytes = self.world(world).proof(places);
        Attempt { world, question: Question::Past { key, height }, bytes }
    }

    /// An entry about the key, and what replaced it, for which `fits` says whether it is what is looked for.
    fn link(
        &mut self,
        world: &World,
        key: &[u8],
        fits: fn(&World, Place, Place) -> bool,
    ) -> Option<Link> {
        let about = world.about.get(key)?;
        let links = about.iter().filter_map(|place| Some((*place, *world.replaced_by.get(place)?)));
        let links: Vec<_> = links.filter(|(old, new)| fits(world, *old, *new)).collect();
        self.pick(&links).copied()
    }

    /// A key, with an entry about it and its copy by compaction, if there is one that `fits`.
    fn copy(
        &mut self,
        fits: fn(&World, Place, Place) -> bool,
    ) -> Option<(usize, &'a World, Vec<u8>, Link)> {
        for _ in 0..30 {
            let (number, world, key) = self.of_the_past();
            if let Some(link) = self.link(world, &key, fits) {
                return Some((number, world, key, link));
            }
        }
        None
    }

    /// The two have the same version: nothing changed.
    fn copy_as_change(&mut self) -> Option<Attempt> {
        let (number, world, key, (old, copy)) = self.copy(is_copy)?;
        let height = self.near(world.written_at(old));
        Some(self.past(number, key, height, &BTreeSet::from([old, copy])))
    }

    /// An entry that was copied, and what replaced the copy.
    fn early_copy(&mut self) -> Option<Attempt> {
        let (number, world, key, (old, copy)) = self.copy(is_copy_replaced)?;
        let by = *world.replaced_by.get(&copy)?;
        let height = self.near(world.written_at(old));
        let places =
            [BTreeSet::from([old, by]), BTreeSet::from([old, copy, by]), BTreeSet::from([old])];
        let places = self.pick(&places)?;
        Some(self.past(number, key, height, places))
    }

    /// A true change, at a height at which it had happened.
    fn replaced_before(&mut self) -> Option<Attempt> {
        let (number, world, key) = self.of_the_past();
        let (old, by) = self.link(world, &key, |_, _, _| true)?;
        let height = world.written_at(by) + self.rng.below(3);
        let places = [BTreeSet::from([old, by]), BTreeSet::from([old]), BTreeSet::from([by])];
        let places = self.pick(&places)?;
        Some(self.past(number, key, height, places))
    }

    /// An entry, at a height at which it was not there yet.
    fn written_after(&mut self) -> Option<Attempt> {
        let (number, world, key) = self.of_the_past();
        let place = *self.pick(world.about.get(&key)?)?;
        let height = world.written_at(place).checked_sub(1 + self.rng.below(3))?;
        let mut places = BTreeSet::from([place]);
        if self.coin() {
            places.extend(world.replaced_by.get(&place));
        }
        Some(self.past(number, key, height, &places))
    }

    /// An entry, and one of another shard that replaced the same number there.
    fn replaced_elsewhere(&mut self) -> Option<Attempt> {
        let (number, world, key) = self.of_the_past();
        let (shard, sn) = *self.pick(world.about.get(&key)?)?;
        let by: Vec<Place> = (0..16)
            .filter(|other| *other != shard)
            .filter_map(|other| world.replaced_by.get(&(other, sn)).copied())
            .filter(|by| world.written_at(*by) > world.written_at((shard, sn)))
            .collect();
        let by = *self.pick(&by)?;
        let (from, to) = (world.written_at((shard, sn)), world.written_at(by));
        let height = from + self.rng.below(to - from);
        Some(self.past(number, key, height, &BTreeSet::from([(shard, sn), by])))
    }

    /// A true entry, and one that says what it likes: that it replaced the first. It is not in the tree, so it claims a
    /// number where the way down may pass it by: that of the first, one beyond the tree, or of another page.
    fn made_up(&mut self) -> Option<Attempt> {
        let (number, world, key) = self.of_the_past();
        let (shard, sn) = *self.pick(world.about.get(&key)?)?;
        let height = world.written_at((shard, sn)) + self.rng.below(3);
        let tree = 2048 << world.tree.levels(shard);
        let numbers = [sn, sn + 1, sn ^ 1, sn + 256, sn + tree, tree, 2 * tree, u64::MAX];
        let entry = EntryFields {
            key: world.entry((shard, sn)).key(),
            value: b"made up",
            next_key_hash: world.entry((shard, sn)).next_key_hash(),
            version: Version::new(Height(height + 1), 0)?,
            serial_number: SerialNumber(numbers[self.below(8)]),
            deactivated: &[SerialNumber(sn)],
        };
        let mut bytes = Vec::new();
        entry.encode(&mut bytes).ok()?;
        let mut parts = world.tree.proof(&world.model, &BTreeSet::from([(shard, sn)]));
        parts.count = 2;
        parts.entries.push(bytes);
        if entry.serial_number.0 < sn {
            parts.entries.reverse();
        }
        if self.coin() {
            parts.pages.push([0xFF; 32]);
        }
        let question = Question::Past { key, height };
        Some(Attempt { world: number, question, bytes: parts.bytes() })
    }

    fn any_two(&mut self) -> Option<Attempt> {
        let (number, world, key) = self.of_the_past();
        let about = world.about.get(&key)?;
        let mut places = BTreeSet::from([*self.pick(about)?]);
        let height = match self.below(3) {
            0 => {
                places.insert(*self.pick(about)?);
                self.rng.below(world.height() + 3)
            }
            1 => {
                places.insert(self.any_place(world));
                self.rng.below(world.height() + 3)
            }
            _ => {
                let by = *world.replaced_by.get(places.first()?)?;
                places.insert(by);
                self.near(world.written_at(by))
            }
        };
        Some(self.past(number, key, height, &places))
    }
}

/// Whether the second entry is the first one, moved.
pub(crate) fn is_copy(world: &World, old: Place, new: Place) -> bool {
    let (old, new) = (world.entry(old), world.entry(new));
    old.version() == new.version()
        && old.next_key_hash() == new.next_key_hash()
        && old.key() == new.key()
}

/// Whether the second entry is the first one, moved, and was replaced in its turn.
fn is_copy_replaced(world: &World, old: Place, new: Place) -> bool {
    is_copy(world, old, new) && world.replaced_by.contains_key(&new)
}
