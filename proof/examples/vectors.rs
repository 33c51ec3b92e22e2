//! Makes the golden vectors, `proof/vectors/*.json`: proofs of all kinds, true ones and others, with what a
//! verifier must say.
//!
//! ```text
//!   model, small histories ──► paths ──► proof bytes ─┬─► as they are:  the model's answers
//!                                                     └─► one fault:    the check that must fail
//! ```
//!
//! `cargo run -p hedgerow-proof --example vectors` writes the files. What is expected comes from the model and
//! from the fault that was made, never from the verifier.
//!
//! ```json
//! {"vectors": [{"name", "family": "single|many|range|past", "root", "shard_roots"?, "keys"?, "from"?, "height"?,
//!   "proof", "expect": {"answers": [value or null]} or {"items": [[key, value]], "until"} or {"error": check}}]}
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a program for developers: it fails by panicking"
)]
#![allow(unreachable_pub, dead_code, reason = "a test takes this file in as a module")]

#[path = "../tests/common/mod.rs"]
mod common;

use common::history::{History, keys_of};
use common::{Handmade, entry, path_of};
use hedgerow_proof::{EntryPath, MAX_UPPER_LEVELS, Proof, ProofRef};
use hedgerow_testkit::Model;
use hedgerow_testkit::model::key_hash;
use hedgerow_testkit::naive::sha256;
use hedgerow_types::{CompactionRule, Digest, KeyHash, SerialNumber, ShardId, hex};
use std::fmt::Write as _;

/// What a verifier must say.
enum Expect {
    Answers(Vec<Option<Vec<u8>>>),
    Items { items: Vec<(Vec<u8>, Vec<u8>)>, until: KeyHash },
    Error(&'static str),
}

/// One vector.
struct Vector {
    name: String,
    family: &'static str,
    root: Digest,
    shard_roots: Option<[Digest; 16]>,
    keys: Vec<Vec<u8>>,
    from: Option<KeyHash>,
    height: Option<u64>,
    proof: Vec<u8>,
    expect: Expect,
}

fn hexed(bytes: &[u8]) -> String {
    let mut text = String::new();
    hex::write(&mut text, bytes).unwrap();
    text
}

fn quoted(bytes: &[u8]) -> String {
    format!("\"{}\"", hexed(bytes))
}

fn list(items: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", items.into_iter().collect::<Vec<_>>().join(", "))
}

impl Vector {
    fn json(&self) -> String {
        let Self { name, family, .. } = self;
        let mut text = format!("  {{\"name\": \"{name}\", \"family\": \"{family}\",\n");
        writeln!(text, "   \"root\": \"{}\",", self.root).unwrap();
        if let Some(shards) = &self.shard_roots {
            let roots = list(shards.iter().map(|root| quoted(&root.0)));
            writeln!(text, "   \"shard_roots\": {roots},").unwrap();
        }
        if self.family != "range" {
            let keys = list(self.keys.iter().map(|key| quoted(key)));
            writeln!(text, "   \"keys\": {keys},").unwrap();
        }
        if let Some(from) = self.from {
            writeln!(text, "   \"from\": \"{from}\",").unwrap();
        }
        if let Some(height) = self.height {
            writeln!(text, "   \"height\": {height},").unwrap();
        }
        writeln!(text, "   \"proof\": {},", quoted(&self.proof)).unwrap();
        let expect = match &self.expect {
            Expect::Answers(answers) => {
                let answer = |answer: &Option<Vec<u8>>| match answer {
                    Some(value) => quoted(value),
                    None => "null".to_owned(),
                };
                format!("\"answers\": {}", list(answers.iter().map(answer)))
            }
            Expect::Items { items, until } => {
                let item = |(key, value): &(Vec<u8>, Vec<u8>)| list([quoted(key), quoted(value)]);
                format!("\"items\": {}, \"until\": \"{until}\"", list(items.iter().map(item)))
            }
            Expect::Error(check) => format!("\"error\": \"{check}\""),
        };
        write!(text, "   \"expect\": {{{expect}}}}}").unwrap();
        text
    }
}

/// The vectors of one file.
#[derive(Default)]
struct Family {
    family: &'static str,
    vectors: Vec<Vector>,
}

impl Family {
    fn of(family: &'static str) -> Self {
        Self { family, vectors: Vec::new() }
    }

    fn add(&mut self, name: &str, root: Digest, proof: Vec<u8>, expect: Expect) -> &mut Vector {
        self.vectors.push(Vector {
            name: name.to_owned(),
            family: self.family,
            root,
            shard_roots: None,
            keys: Vec::new(),
            from: None,
            height: None,
            proof,
            expect,
        });
        self.vectors.last_mut().unwrap()
    }

    fn keys(
        &mut self,
        name: &str,
        root: Digest,
        keys: &[&[u8]],
        proof: Vec<u8>,
        expect: Expect,
    ) -> &mut Vector {
        let vector = self.add(name, root, proof, expect);
        vector.keys = keys.iter().map(|key| key.to_vec()).collect();
        vector
    }

    fn json(&self) -> String {
        let vectors: Vec<_> = self.vectors.iter().map(Vector::json).collect();
        format!("{{\"vectors\": [\n{}\n]}}\n", vectors.join(",\n"))
    }
}

/// A state with 40 accounts and some odd keys, of which some were changed, removed and made again.
fn model() -> Model {
    let mut model = Model::new(CompactionRule::new(1, 1, 1).unwrap());
    let account = |number: u64| format!("account-{number}").into_bytes();
    let mut genesis: Vec<_> =
        (0..40).map(|n| (account(n), Some(n.to_string().into_bytes()))).collect();
    genesis.push((b"empty".to_vec(), Some(vec![])));
    genesis.push((b"k".to_vec(), Some(b"a key of one byte".to_vec())));
    genesis.push((vec![b'l'; 255], Some(b"a key of 255 bytes".to_vec())));
    genesis.push((b"long".to_vec(), Some((0..600_u32).map(|i| i as u8).collect())));
    genesis.push((sentry_like().to_vec(), Some(b"a sentry's shape, with a value".to_vec())));
    model.apply_net(1, &[genesis]);
    for height in 2..=6 {
        let changes = (0..40).filter(|n| n % 5 == height % 5).map(|n| {
            let value = format!("{n} at {height}").into_bytes();
            (account(n), (n % 3 > 0).then_some(value))
        });
        model.apply_net(height, &[changes.collect()]);
    }
    model
}

/// A key of the shape of a sentry.
fn sentry_like() -> [u8; 32] {
    KeyHash::sentry(0x1234).0
}

fn answer(model: &Model, key: &[u8]) -> Option<Vec<u8>> {
    model.get(key).map(<[u8]>::to_vec)
}

fn proof_of(paths: &[EntryPath]) -> Vec<u8> {
    Proof::assemble(paths).unwrap().into_bytes()
}

/// The path of the entry that settles a key.
fn covering(model: &mut Model, key: &[u8]) -> EntryPath {
    path_of(&model.prove(key))
}

/// Where the entries of a proof begin and end.
fn entries_of(proof: &[u8]) -> Vec<(usize, usize)> {
    let named = u16::from_le_bytes([proof[5], proof[6]]).count_ones() as usize;
    let mut at = 7 + named;
    let lens = ProofRef::decode(proof, proof.len()).unwrap().entries();
    let span = |entry: hedgerow_proof::ClaimedEntry<'_>| {
        let from = at;
        at += entry.entry.hashed_bytes().len();
        (from, at)
    };
    lens.map(span).collect()
}

/// A proof with one byte changed.
fn changed(proof: &[u8], at: usize, byte: u8) -> Vec<u8> {
    let mut bytes = proof.to_vec();
    bytes[at] = byte;
    bytes
}

fn single() -> Family {
    let mut all = Family::of("single");
    let mut model = model();
    let root = model.state_root();
    let present = (0..40).map(|n| format!("account-{n}").into_bytes());
    let (present, removed): (Vec<_>, Vec<_>) = present.partition(|key| model.get(key).is_some());
    let honest = |all: &mut Family, model: &mut Model, name: &str, key: &[u8]| {
        let proof = proof_of(&[covering(model, key)]);
        let expect = Expect::Answers(vec![answer(model, key)]);
        all.keys(name, root, &[key], proof, expect);
    };
    for key in present.iter().take(3) {
        honest(&mut all, &mut model, "present", key);
    }
    honest(&mut all, &mut model, "present, an empty value", b"empty");
    honest(&mut all, &mut model, "present, a value of 600 bytes", b"long");
    honest(&mut all, &mut model, "present, a key of 1 byte", b"k");
    honest(&mut all, &mut model, "present, a key of 255 bytes", &[b'l'; 255]);
    honest(&mut all, &mut model, "present, a key of a sentry's shape", &sentry_like());
    for key in removed.iter().take(2) {
        honest(&mut all, &mut model, "absent, was removed", key);
    }
    honest(&mut all, &mut model, "absent, was never there", b"nobody");
    honest(&mut all, &mut model, "absent, the bytes of a sentry's key", &KeyHash::sentry(0x4321).0);
    // Between a user's key and the next entry.
    let after_user = (0..).map(|n: u32| format!("absent-{n}").into_bytes()).find(|key| {
        let (shard, sn) = model.covering(key);
        !model.entry(shard, sn).is_sentry()
    });
    honest(&mut all, &mut model, "absent, behind another key", &after_user.unwrap());

    let key = &present[0];
    let path = covering(&mut model, key);
    let proof = proof_of(std::slice::from_ref(&path));
    let value = answer(&model, key);
    let with_list = all.keys(
        "present, under the list of shard roots",
        root,
        &[key],
        proof.clone(),
        Expect::Answers(vec![value.clone()]),
    );
    with_list.shard_roots = Some(model.roots());
    shallow_and_deep(&mut all);

    let mut fault = |name: &str, key: &[u8], proof: Vec<u8>, check: &'static str| {
        all.keys(name, root, &[key], proof, Expect::Error(check));
    };
    fault("no bytes", key, vec![], "length");
    fault("the header alone", key, proof[..7].to_vec(), "length");
    fault("version 1", key, changed(&proof, 0, 1), "version");
    fault("version 3", key, changed(&proof, 0, 3), "version");
    fault("no entry", key, changed(&proof, 1, 0), "no entries");
    fault("one entry, two said", key, changed(&proof, 1, 2), "entry");
    let shards = u16::from_le_bytes([proof[5], proof[6]]);
    let with_shards = |shards: u16| {
        let mut bytes = proof.clone();
        bytes[5..7].copy_from_slice(&shards.to_le_bytes());
        bytes
    };
    fault("another shard named", key, with_shards(shards.rotate_left(1)), "shards");
    let mut two_named = with_shards(shards | shards.rotate_left(1));
    two_named.insert(7, proof[7]);
    fault("a shard named that has no entry", key, two_named, "shards");
    fault("52 upper levels", key, changed(&proof, 7, 52), "upper levels");
    fault("one upper level too few", key, changed(&proof, 7, proof[7] - 1), "position");
    fault("one upper level too many", key, changed(&proof, 7, proof[7] + 1), "length");
    fault("no upper level, serial number beyond", key, changed(&proof, 7, 0), "position");
    fault("a byte cut off", key, proof[..proof.len() - 1].to_vec(), "length");
    fault("a node cut off", key, proof[..proof.len() - 32].to_vec(), "length");
    fault("a byte too many", key, [&proof[..], &[0]].concat(), "length");
    fault("a node too many", key, [&proof[..], &[0; 32]].concat(), "length");
    fault("cut within the entry", key, proof[..40].to_vec(), "entry");
    fault("an entry without a key", key, changed(&proof, 8, 0), "entry");
    fault(
        "the last node changed",
        key,
        changed(&proof, proof.len() - 1, !proof[proof.len() - 1]),
        "root",
    );
    let (from, to) = entries_of(&proof)[0];
    fault("the value changed", key, changed(&proof, from + 5 + key.len(), b'!'), "root");
    fault("a bit of the page cleared", key, changed(&proof, to, proof[to] ^ 1), "root");
    fault("a key of 0 bytes", b"", proof.clone(), "key length");
    fault("a key of 256 bytes", &[b'l'; 256], proof.clone(), "key length");
    fault("the proof of another key", &present[1], proof.clone(), "key");
    // The entry before a present key ends exactly at its hash.
    let own = key_hash(key);
    let before = model.active_entries(own.shard()).take_while(|(kh, _)| *kh < own).last().unwrap();
    let before = path_of(&model.prove_sn(own.shard(), before.1));
    fault("present, claimed absent by the entry before", key, proof_of(&[before]), "key");
    let of_sentry = model
        .active_entries(ShardId::new(4).unwrap())
        .find(|(own, _)| *own == KeyHash::sentry(0x4321))
        .unwrap();
    let of_sentry = proof_of(&[path_of(&model.prove_sn(ShardId::new(4).unwrap(), of_sentry.1))]);
    fault("a sentry for the key of its bytes", &KeyHash::sentry(0x4321).0, of_sentry, "key");
    let outdated = (0..model.next_sn(own.shard()).0).map(SerialNumber).find(|sn| {
        !model.is_active(own.shard(), *sn) && model.entry(own.shard(), *sn).key() == key
    });
    let outdated = path_of(&model.prove_sn(own.shard(), outdated.unwrap()));
    fault("an outdated entry of the key", key, proof_of(&[outdated]), "inactive");
    let two = proof_of(&[path, covering(&mut model, &present[1])]);
    fault("two entries", key, two, "entry count");
    let another = [7; 32];
    all.keys("another root", Digest(another), &[key], proof.clone(), Expect::Error("root"));
    let shard_root = model.roots()[own.shard().index()];
    all.keys("the shard's root for the state's", shard_root, &[key], proof, Expect::Error("root"));
    beyond_the_shard(&mut all);
    all
}

/// The lowest and the highest tree.
fn shallow_and_deep(all: &mut Family) {
    let key = b"only";
    let own = key_hash(key);
    let mut state = Handmade::new(own.shard());
    let at = state.append(entry(key, b"value", KeyHash::end_of(own.shard()), 0));
    let expect = || Expect::Answers(vec![Some(b"value".to_vec())]);
    let proof = state.prove(at).unwrap().into_bytes();
    all.keys("present, a shard of one twig", state.root(), &[key], proof, expect());
    let deep = EntryPath {
        entry: entry(key, b"value", KeyHash::end_of(own.shard()), (1 << 62) - 3),
        page: [0xFF; 32],
        upper: (0..MAX_UPPER_LEVELS).map(|i| sha256(&[i as u8])).collect(),
        ..EntryPath::default()
    };
    // Nobody has such a tree; the root is whatever the path leads to.
    let proof = proof_of(&[deep]);
    let root = ProofRef::decode(&proof, proof.len()).unwrap().root();
    all.keys("present, 51 upper levels", root, &[key], proof, expect());
}

/// An entry that claims more than its shard has.
fn beyond_the_shard(all: &mut Family) {
    let own = keys_of(ShardId::new(0).unwrap(), 1).remove(0);
    let key = keys_of(ShardId::new(9).unwrap(), 1).remove(0);
    let mut state = Handmade::new(ShardId::new(0).unwrap());
    let at = state.append(entry(&own, b"v", KeyHash::MAX, 0));
    let proof = state.prove(at).unwrap().into_bytes();
    all.keys(
        "a root not by the rules: absent by an entry of another shard",
        state.root(),
        &[&key],
        proof,
        Expect::Error("key"),
    );
}

fn many() -> Family {
    let mut all = Family::of("many");
    let mut model = model();
    let root = model.state_root();
    let keys: Vec<Vec<u8>> = (0..60).map(|n| format!("account-{n}").into_bytes()).collect();
    let prove = |model: &mut Model, keys: &[&[u8]]| {
        proof_of(&keys.iter().map(|key| covering(model, key)).collect::<Vec<_>>())
    };
    let honest = |all: &mut Family, model: &mut Model, name: &str, keys: &[&[u8]]| {
        let answers = keys.iter().map(|key| answer(model, key)).collect();
        let proof = prove(model, keys);
        all.keys(name, root, keys, proof, Expect::Answers(answers));
    };
    let refs: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    honest(&mut all, &mut model, "one key", &refs[..1]);
    honest(&mut all, &mut model, "ten keys, present and absent", &refs[35..45]);
    let odd: [&[u8]; 5] = [b"empty", b"k", &sentry_like(), &KeyHash::sentry(0x4321).0, b"long"];
    honest(&mut all, &mut model, "odd keys", &odd);
    let turned: Vec<&[u8]> = refs[..6].iter().rev().chain(&refs[..3]).copied().collect();
    honest(&mut all, &mut model, "in another order, some twice", &turned);
    let shard = ShardId::new(6).unwrap();
    let of_shard: Vec<&[u8]> =
        refs.iter().copied().filter(|key| key_hash(key).shard() == shard).collect();
    honest(&mut all, &mut model, "all of one shard", &of_shard);
    honest(&mut all, &mut model, "sixty keys", &refs);
    // Two absent keys that one entry answers.
    let (first, shared) = (b"nobody".to_vec(), model.covering(b"nobody"));
    let second = (0..).map(|n: u32| format!("nobody-{n}").into_bytes());
    let second = second.clone().find(|key| model.covering(key) == shared).unwrap();
    honest(&mut all, &mut model, "two absent keys, one entry", &[&first, &second]);

    let asked = &refs[..4];
    let proof = prove(&mut model, asked);
    let mut fault = |name: &str, keys: &[&[u8]], proof: Vec<u8>, check: &'static str| {
        all.keys(name, root, keys, proof, Expect::Error(check));
    };
    fault("no key", &[], proof.clone(), "no keys");
    fault("a key of 0 bytes among them", &[asked[0], b""], proof.clone(), "key length");
    fault("one key more", &refs[..5], proof.clone(), "key");
    fault("one key less", &asked[..3], proof.clone(), "surplus");
    let outdated = |key: &[u8]| {
        let shard = key_hash(key).shard();
        let mut all = (0..model.next_sn(shard).0).map(SerialNumber);
        let outdated =
            all.find(|sn| !model.is_active(shard, *sn) && model.entry(shard, *sn).key() == key);
        (shard, outdated.unwrap())
    };
    let (shard, sn) = outdated(asked[3]);
    let mut paths: Vec<_> = asked[..3].iter().map(|key| covering(&mut model, key)).collect();
    paths.push(path_of(&model.prove_sn(shard, sn)));
    fault("one entry is outdated", asked, proof_of(&paths), "inactive");
    let spans = entries_of(&proof);
    let (first, second) = (spans[0], spans[1]);
    let swapped = [
        &proof[..first.0],
        &proof[second.0..second.1],
        &proof[first.0..first.1],
        &proof[second.1..],
    ];
    fault("two entries in the wrong order", asked, swapped.concat(), "order");
    let mut twice = [&proof[..first.1], &proof[first.0..]].concat();
    twice[1] += 1;
    fault("an entry twice", asked, twice, "order");
    let shards: Vec<_> =
        ProofRef::decode(&proof, proof.len()).unwrap().entries().map(|e| e.shard).collect();
    let drop = |at: usize| {
        let mut dropped = [&proof[..spans[at].0], &proof[spans[at].1..]].concat();
        dropped[1] -= 1;
        dropped
    };
    let alone = shards.iter().position(|s| shards.iter().filter(|t| *t == s).count() == 1);
    fault("the only entry of a shard dropped", asked, drop(alone.unwrap()), "shards");
    // As it happens its siblings are as many nodes as it then takes: the form is right, the root is not.
    let beside = shards.windows(2).position(|pair| pair[0] == pair[1]).unwrap();
    fault("one of two entries of a shard dropped", asked, drop(beside), "root");
    fault("a node cut off", asked, proof[..proof.len() - 32].to_vec(), "length");
    let last = spans[spans.len() - 1].1;
    let without_page = [&proof[..last], &proof[last + 32..]].concat();
    fault("a page left out", asked, without_page, "length");
    fault("a page changed", asked, changed(&proof, last, !proof[last]), "root");
    fault(
        "a node changed",
        asked,
        changed(&proof, proof.len() - 1, !proof[proof.len() - 1]),
        "root",
    );
    all.keys("another root", Digest([7; 32]), asked, proof, Expect::Error("root"));
    all
}

fn range() -> Family {
    let mut all = Family::of("range");
    let mut model = model();
    let root = model.state_root();
    let mut entries: Vec<(KeyHash, ShardId, SerialNumber)> = Vec::new();
    for shard in ShardId::all() {
        entries.extend(model.active_entries(shard).map(|(own, sn)| (own, shard, sn)));
    }
    // The entries from the one that encloses `from` on.
    let run = |from: KeyHash, count: usize| {
        let first = entries.partition_point(|(own, ..)| *own <= from) - 1;
        entries[first..].iter().take(count).copied().collect::<Vec<_>>()
    };
    let prove = |model: &mut Model, run: &[(KeyHash, ShardId, SerialNumber)]| {
        let paths: Vec<_> =
            run.iter().map(|(_, shard, sn)| path_of(&model.prove_sn(*shard, *sn))).collect();
        proof_of(&paths)
    };
    let honest = |all: &mut Family, model: &mut Model, name: &str, from: KeyHash, count: usize| {
        let run = run(from, count);
        let proof = prove(model, &run);
        let (_, shard, sn) = run[run.len() - 1];
        let until = model.entry(shard, sn).next_key_hash();
        let inside = model.iter().filter(|(key, _)| (from..until).contains(&key_hash(key)));
        let items = inside.map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
        all.add(name, root, proof, Expect::Items { items, until }).from = Some(from);
    };
    let first_key = key_hash(model.iter().next().unwrap().0);
    let before = common::neighbour(first_key, false);
    let after = common::neighbour(first_key, true);
    honest(&mut all, &mut model, "one entry, a sentry", KeyHash::default(), 1);
    honest(&mut all, &mut model, "twelve entries from the start", KeyHash::default(), 12);
    honest(&mut all, &mut model, "from a key's own hash", first_key, 5);
    honest(&mut all, &mut model, "from just before a key", before, 5);
    honest(&mut all, &mut model, "from just behind a key", after, 5);
    let border = common::neighbour(KeyHash::sentry(0x7000), false);
    honest(&mut all, &mut model, "across the border of two shards", border, 6);
    honest(&mut all, &mut model, "a whole shard and more", KeyHash::sentry(0x5FFF), 20);
    honest(&mut all, &mut model, "the last entries", KeyHash::sentry(0xFFFC), 9);
    honest(
        &mut all,
        &mut model,
        "the last key hash but one",
        common::neighbour(KeyHash::MAX, false),
        9,
    );

    let run = run(before, 8);
    let proof = prove(&mut model, &run);
    let mut fault = |name: &str, from: KeyHash, proof: Vec<u8>, check: &'static str| {
        all.add(name, root, proof, Expect::Error(check)).from = Some(from);
    };
    for left_out in [3, 4] {
        let gap: Vec<_> =
            run.iter().enumerate().filter(|(i, _)| *i != left_out).map(|(_, at)| *at).collect();
        fault("an entry left out", before, prove(&mut model, &gap), "gap");
    }
    let run_start = run[0].0;
    fault(
        "from before the first entry",
        common::neighbour(run_start, false),
        proof.clone(),
        "start",
    );
    let second = run[1].0;
    fault("from the second entry on", second, proof.clone(), "start");
    fault("from far behind", KeyHash::sentry(0x9000), proof.clone(), "start");
    fault("a node cut off", before, proof[..proof.len() - 32].to_vec(), "length");
    let outdated = (0..model.next_sn(run[0].1).0).map(SerialNumber);
    let outdated = outdated.clone().find(|sn| !model.is_active(run[0].1, *sn)).unwrap();
    let mut paths: Vec<_> =
        run.iter().map(|(_, shard, sn)| path_of(&model.prove_sn(*shard, *sn))).collect();
    paths.push(path_of(&model.prove_sn(run[0].1, outdated)));
    fault("an outdated entry beside", before, proof_of(&paths), "inactive");
    all.add("another root", Digest([7; 32]), proof, Expect::Error("root")).from = Some(before);

    // Roots that are not by the rules.
    let shard = ShardId::new(0).unwrap();
    let sentry = KeyHash::sentry(0).0;
    let mut one = |name: &str, next: KeyHash, check: &'static str| {
        let mut state = Handmade::new(shard);
        let at = state.append(entry(&sentry, b"", next, 0));
        let proof = state.prove(at).unwrap().into_bytes();
        let from = KeyHash::default();
        all.add(name, state.root(), proof, Expect::Error(check)).from = Some(from);
    };
    one("a root not by the rules: beyond the end of the shard", KeyHash::MAX, "gap");
    one("a root not by the rules: an entry that leads to itself", KeyHash::default(), "gap");
    all
}

fn past() -> Family {
    let mut all = Family::of("past");
    let shard = ShardId::new(6).unwrap();
    let keys = keys_of(shard, 5);
    let [alice, bob, carol, dave, _nobody] = &keys[..] else { panic!("five keys") };
    let mut history = History::new(shard, 2048 - 6);
    history.put(alice, b"100");
    history.end_block();
    history.put(bob, b"20");
    history.put(alice, b"80");
    history.end_block();
    history.delete(bob);
    history.put(carol, b"");
    history.end_block();
    for _ in 0..3 {
        history.compact();
    }
    history.put(alice, b"70");
    history.end_block();
    history.put(bob, b"5");
    history.put(bob, b"6");
    history.end_block();
    for _ in 0..4 {
        history.compact();
    }
    history.put(dave, b"1");
    history.end_block();
    history.delete(carol);
    history.compact();
    history.end_block();
    let root = history.state.root();
    let prove = |places: &[SerialNumber]| history.state.prove_all(places).unwrap().into_bytes();
    let names = ["alice", "bob", "carol", "dave", "nobody"];
    for (name, key) in names.into_iter().zip(&keys) {
        for height in 0..=history.height() {
            let places = history.past(key, height);
            let value = history.values[height as usize].get(key).cloned();
            let what = match (&value, places.len()) {
                (Some(_), 1) => "present, current still",
                (Some(_), _) => "present, replaced since",
                (None, 1) => "absent, still enclosed",
                (None, _) => "absent, changed since",
            };
            let name = format!("{name} at {height}: {what}");
            let expect = Expect::Answers(vec![value]);
            all.keys(&name, root, &[key], prove(&places), expect).height = Some(height);
        }
    }
    let mut fault = |name: &str, key: &[u8], height, places: &[SerialNumber], check| {
        let vector = all.keys(name, root, &[key], prove(places), Expect::Error(check));
        vector.height = Some(height);
    };
    let old = history.past(alice, 2);
    let now = history.covering(alice);
    fault("the present as past", alice, 2, &[now], "later");
    fault("the replaced entry alone", alice, 2, &old[..1], "inactive");
    fault("the replacing entry alone", alice, 2, &old[1..], "inactive");
    fault("before it was written", alice, 1, &old, "later");
    fault("after it was replaced", alice, 4, &old, "not replaced");
    fault("of another key", dave, 6, &history.past(alice, 6), "key");
    fault(
        "two entries of which the second replaced another",
        alice,
        2,
        &[old[0], now],
        "not replaced",
    );
    let mut three = old.clone();
    three.push(history.state.next_sn());
    let before = SerialNumber(three[2].0 - 1);
    three[2] = if three.contains(&before) { SerialNumber(before.0 - 1) } else { before };
    fault("three entries", alice, 2, &three, "entry count");
    // An entry that compaction moved: the copy names the original, but it is no change.
    let first = 2048 - 6;
    let copies = (first..history.state.next_sn().0).map(SerialNumber).filter_map(|copy| {
        let entry = history.state.entry(copy);
        let original = entry.deactivated().next()?;
        let moved = history.state.entry(original).version() == entry.version();
        (moved && !entry.is_sentry()).then(|| (original, copy, entry.key().to_vec()))
    });
    let mut moved = 0;
    for (original, copy, key) in copies {
        let height = history.state.entry(original).version().height().0;
        fault("a copy offered as a change", &key, height, &[original, copy], "not replaced");
        moved += 1;
    }
    assert!(moved > 1, "compaction moved accounts");
    let mut fault = |name: &str, root, key: &[u8], proof, check| {
        all.keys(name, root, &[key], proof, Expect::Error(check)).height = Some(2);
    };
    fault("another root", Digest([7; 32]), alice, prove(&old), "root");
    fault("a key of 0 bytes", root, b"", prove(&old), "key length");
    fault("a node cut off", root, alice, prove(&old)[..prove(&old).len() - 32].to_vec(), "length");
    all
}

/// The files: names and contents.
pub fn files() -> Vec<(&'static str, String)> {
    let families = [single(), many(), range(), past()];
    families.iter().map(|family| (family.family, family.json())).collect()
}

fn main() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors");
    std::fs::create_dir_all(folder).unwrap();
    for (name, text) in files() {
        std::fs::write(format!("{folder}/{name}.json"), &text).unwrap();
        println!("{name}.json: {} bytes", text.len());
    }
}
