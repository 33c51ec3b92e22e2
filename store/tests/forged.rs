//! Files whose checksums are right and whose contents are not: a checksum is no authentication. What
//! they say is bounded before anything is sized by it, and what can be derived is derived again.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::forge::{
    change_header, change_manifest, files, frames, read, records, renumber, store_id, write,
};
use common::{copy, dir, disk, on, params};
use hedgerow::disk::Vfs;
use hedgerow::{Digest, Error, Height, Store};
use hedgerow_entryfile::{
    LogError, Stub, TwigFile, TwigFileOptions, TwigRecord, frame_len, place_run, push_stub,
};
use hedgerow_types::{LogPosition, SerialNumber, ShardId, TwigId};
use hedgerow_vfs::OpenMode;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

fn hash(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

/// A store of some blocks, closed; and its root.
fn build(blocks: u64) -> (Arc<dyn Vfs>, Digest) {
    let disk = disk();
    // All in one segment, in which the tests look for what they change.
    let options = on(&disk).segment_bytes(1 << 30);
    let mut store = Store::create(dir(), params(1, 4, 5), options).unwrap();
    for height in 1..=blocks {
        let mut block = store.begin_block(Height(height)).unwrap();
        for key in 0..40 {
            block.put(format!("key {key}"), format!("{height}")).unwrap();
        }
        block.commit().unwrap();
    }
    let root = store.reader().root().1;
    store.close().unwrap();
    (disk, root)
}

/// Takes the checkpoint away: opening reads the log.
fn without_checkpoint(disk: &Arc<dyn Vfs>) {
    disk.remove_dir_all(&dir().join("checkpoints")).unwrap();
}

/// C10: the first entry that a scan meets is the one whose number nothing precedes. Before it was
/// bounded, 2^34 cost 2 GB, and 2^60 all there was.
#[test]
fn a_serial_number_beyond_the_manifests_is_damage_and_sizes_nothing() {
    let (whole, _) = build(3);
    without_checkpoint(&whole);
    let segment = read(&whole, &files(&whole, "log")[0]);
    let frames = frames(&segment);
    let mut tried = 0;
    for shard in [0, 9, 15] {
        let of_shard: Vec<_> = frames.iter().filter(|frame| frame.shard == shard).collect();
        let next = of_shard.len() as u64;
        for frame in [of_shard[0], of_shard[of_shard.len() - 1]] {
            for sn in [next, 1 << 34, 1 << 60, u64::MAX] {
                let disk = copy(&whole);
                let path = &files(&disk, "log")[0];
                write(&disk, path, frame.at as u64, &renumber(&segment, *frame, sn));
                match Store::open(dir(), on(&disk)) {
                    Err(Error::Corrupt(reason)) => {
                        assert!(reason.contains(&format!("shard {shard}: entry {sn}")), "{reason}");
                    }
                    other => panic!("entry {} of shard {shard} as {sn}: {other:?}", frame.sn),
                }
                tried += 1;
            }
        }
    }
    assert_eq!(tried, 24);
}

/// A number below the manifest's that is out of place is damage too.
#[test]
fn entries_in_another_order_are_damage() {
    let (whole, _) = build(3);
    let segment = read(&whole, &files(&whole, "log")[0]);
    for frame in frames(&segment).iter().filter(|frame| frame.shard == 4 && frame.sn % 512 == 7) {
        let disk = copy(&whole);
        let path = &files(&disk, "log")[0];
        write(&disk, path, frame.at as u64, &renumber(&segment, *frame, frame.sn - 1));
        // Opening from a checkpoint does not read it; `check` does.
        let checked = Store::open(dir(), on(&disk)).unwrap().check();
        assert!(matches!(checked, Err(Error::Corrupt(_))), "{checked:?}");
        without_checkpoint(&disk);
        let opened = Store::open(dir(), on(&disk)).map(drop);
        assert!(matches!(opened, Err(Error::Corrupt(_))), "{opened:?}");
    }
}

/// Puts another record of a twig into the twig file, whole and with its checksums.
fn replace_twig(disk: &Arc<dyn Vfs>, shard: usize, twig: u64, change: impl Fn(&mut TwigRecord)) {
    let (options, end) = (TwigFileOptions::default(), LogPosition(u64::MAX));
    let (vfs, folder) = (Arc::clone(disk), dir().join("twigs"));
    let (file, _) = TwigFile::open(vfs, &folder, store_id(disk), options, end).unwrap();
    let shard = ShardId::new(shard).unwrap();
    let mut record = (*file.get(shard, TwigId(twig)).unwrap().unwrap()).clone();
    change(&mut record);
    file.append(&[Arc::new(record)]).unwrap();
    file.sync().unwrap();
}

/// C14: a twig record is derived data. Wrong nodes with the right checksum (a bug of an earlier
/// version) must not keep the store from opening: the log tells.
#[test]
fn a_wrong_twig_record_is_made_again_from_the_log() {
    type Change = fn(&mut TwigRecord);
    type Twigs<'a> = &'a [(usize, u64)];
    let (whole, root) = build(3);
    // The scan begins at the earliest block that any shard's oldest twig names: that is wrong only
    // if it is in every shard.
    let every = (0..16).map(|shard| (shard, 0)).collect::<Vec<_>>();
    let changes: [(&str, Twigs<'_>, Change); 6] = [
        ("root", &[(0, 0)], |record| record.nodes[0].0[5] ^= 1),
        ("root", &[(15, 1)], |record| record.nodes[0].0[5] ^= 1),
        ("roots", &every, |record| record.nodes[0].0[5] ^= 1),
        ("record: none there", &every, |record| record.record.0 += 8),
        ("record: beyond the log", &every, |record| record.record.0 += 1 << 50),
        ("record: an entry's place", &every, |record| record.record = record.groups[1]),
    ];
    for (what, twigs, change) in changes {
        let disk = copy(&whole);
        for &(shard, twig) in twigs {
            replace_twig(&disk, shard, twig, change);
        }
        for _ in 0..2 {
            let mut store = Store::open(dir(), on(&disk))
                .unwrap_or_else(|error| panic!("{what} of {twigs:?}: {error}"));
            assert_eq!(store.reader().root().1, root);
            // What was made again stays.
            let report = store.check().unwrap();
            assert_eq!((report.twigs, report.twigs_missing), (32, 0), "{what}");
            let proven = store.reader().prove("key 3").unwrap();
            hedgerow_proof::verify(&root, b"key 3", &proven.proof).unwrap();
            store.close().unwrap();
        }
    }
}

/// Nobody writes stubs yet. A store that needs an entry of which only the hash is there says so: it is neither
/// damage nor absence.
#[test]
fn a_stub_in_the_place_of_an_entry_that_is_needed_is_told_apart_from_damage() {
    let (disk, _) = build(3);
    let path = &files(&disk, "log")[0];
    let mut segment = read(&disk, path);
    let last = *frames(&segment).last().unwrap();
    let shorter = frame_len(last.len) - 48;
    let stub = Stub { serial_number: SerialNumber(last.sn), hash: Digest([7; 32]) };
    segment.truncate(last.at);
    push_stub(&mut segment, &stub).unwrap();
    place_run(&mut segment[last.at..], LogPosition(last.at as u64)).unwrap();
    let record = *records(&segment).last().unwrap();
    change_header(&mut segment, record, |header| {
        let at = 80 + 16 * last.shard;
        let len = u32::from_le_bytes(header[at..at + 4].try_into().unwrap());
        header[at..at + 4].copy_from_slice(&(len - shorter as u32).to_le_bytes());
    });
    let file = disk.open(path, OpenMode::ReadWrite).unwrap();
    file.write_all_at(&segment, 0).unwrap();
    file.set_len(segment.len() as u64).unwrap();
    change_manifest(&disk, |manifest, _| manifest.log_end.0 -= shorter as u64);
    let error = Store::open(dir(), on(&disk)).unwrap_err();
    let found = LogPosition(last.at as u64);
    assert!(
        matches!(&error, Error::Log(LogError::NotKept { at, stub: s }) if *at == found && *s == stub),
        "{error:?}"
    );
    assert!(error.to_string().contains("is not kept here, only its hash"), "{error}");
}

/// Nobody writes leaves into twig records yet. A record that has them is used as it is: proofs are made of
/// its leaves, and wrong ones are no proof.
#[test]
fn leaves_of_a_twig_record_are_proven_from_and_checked() {
    let (whole, root) = build(3);
    let segment = read(&whole, &files(&whole, "log")[0]);
    let mut leaves = vec![vec![]; 16];
    for frame in frames(&segment) {
        leaves[frame.shard].push(hash(&segment[frame.at..][..frame.len]));
    }
    for wrong in [false, true] {
        let disk = copy(&whole);
        for (shard, twig) in (0..16).flat_map(|shard| [(shard, 0), (shard, 1)]) {
            let mut leaves = leaves[shard][twig * 2048..][..2048].to_vec();
            leaves.iter_mut().step_by(16).for_each(|leaf| leaf.0[0] ^= u8::from(wrong));
            replace_twig(&disk, shard, twig as u64, |record| {
                record.leaves = leaves.clone().into_boxed_slice().try_into().ok();
            });
        }
        let mut store = Store::open(dir(), on(&disk)).unwrap();
        // What proves that a key is absent is a sentry, in one of the first two twigs.
        for key in (0..50).map(|key| format!("absent {key}")) {
            match store.reader().prove(&key) {
                Ok(proven) if !wrong => {
                    let value = hedgerow_proof::verify(&root, key.as_bytes(), &proven.proof);
                    assert_eq!(value, Ok(None));
                }
                Err(error) if wrong => assert!(error.to_string().contains("group"), "{error}"),
                other => panic!("{wrong}: {other:?}"),
            }
        }
        match store.check() {
            Ok(report) if !wrong => assert_eq!((report.twigs, report.twigs_missing), (32, 0)),
            Err(Error::Corrupt(reason)) if wrong => {
                assert!(reason.contains("the record of twig 0 of shard 0"), "{reason}");
            }
            other => panic!("{wrong}: {other:?}"),
        }
    }
}

/// If the log itself is at fault, the second look does not help, and the error is about the log.
#[test]
fn a_wrong_twig_record_does_not_hide_a_damaged_log() {
    let (disk, _) = build(3);
    replace_twig(&disk, 7, 0, |record| record.nodes[0].0[5] ^= 1);
    let path = &files(&disk, "log")[0];
    let segment = read(&disk, path);
    let frame = frames(&segment)[10];
    write(&disk, path, frame.at as u64 + 20, &[segment[frame.at + 20] ^ 1]);
    let opened = Store::open(dir(), on(&disk));
    let Err(Error::Log(error)) = opened else { panic!("{opened:?}") };
    assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
}

const DURABLE: std::ops::Range<usize> = 32..40;
const PUBLISHED: std::ops::Range<usize> = 40..48;
const ROOT: usize = 48;

/// What a process leaves that is killed after some blocks, of which the manifest knows two.
fn killed() -> Arc<dyn Vfs> {
    let (disk, _) = build(2);
    let mut store = Store::open(dir(), on(&disk).segment_bytes(1 << 30)).unwrap();
    for height in 3..=7 {
        let mut block = store.begin_block(Height(height)).unwrap();
        for key in 0..40 {
            block.put(format!("key {key}"), format!("{height}")).unwrap();
        }
        block.submit().unwrap().durable().unwrap();
    }
    copy(&disk)
}

/// A record says which root was told before it was made. A log that leads to another one is refused,
/// whichever record says so, and whatever tells it apart: the first and the last byte.
#[test]
fn a_told_root_that_contradicts_the_log_is_refused() {
    let whole = killed();
    let segment = read(&whole, &files(&whole, "log")[0]);
    let height_of = |at: usize| u64::from_le_bytes(segment[at + 8..at + 16].try_into().unwrap());
    let (mut refused, mut of_the_manifest) = (0, 0);
    for at in records(&segment).into_iter().filter(|&at| height_of(at) > 2) {
        let told = u64::from_le_bytes(segment[at..][PUBLISHED].try_into().unwrap());
        assert!(told < height_of(at));
        for byte in [0, 31] {
            let (disk, mut forged) = (copy(&whole), segment.clone());
            change_header(&mut forged, at, |header| header[ROOT + byte] ^= 1);
            let header = &forged[at..at + 352];
            write(&disk, &files(&disk, "log")[0], at as u64, header);
            let wrong = &header[ROOT..ROOT + 32];
            match Store::open(dir(), on(&disk)) {
                Err(Error::RootMismatch { height, computed, recorded }) => {
                    assert_eq!(height, Height(told));
                    assert!(recorded.0 == wrong && computed != recorded);
                }
                other => panic!("the record of {}: {other:?}", height_of(at)),
            }
            refused += 1;
            of_the_manifest += u64::from(told == 2);
        }
    }
    assert!(refused == 10 && of_the_manifest > 0, "{refused} {of_the_manifest}");
    // The forger itself changes nothing.
    let mut same = segment.clone();
    records(&segment).into_iter().for_each(|at| change_header(&mut same, at, |_| {}));
    assert!(same == segment);
    assert_eq!(Store::open(dir(), on(&whole)).unwrap().height(), Height(7));
}

/// What a record says of heights that were not there when it was made is a contradiction.
#[test]
fn a_record_that_knows_later_heights_is_refused() {
    let whole = killed();
    let segment = read(&whole, &files(&whole, "log")[0]);
    let journal = records(&segment).into_iter().skip(3);
    for (number, at) in journal.enumerate() {
        for field in [DURABLE, PUBLISHED] {
            for height in [number as u64 + 3, number as u64 + 4, 1_000, u64::MAX] {
                let (disk, mut forged) = (copy(&whole), segment.clone());
                change_header(&mut forged, at, |header| {
                    header[field.clone()].copy_from_slice(&height.to_le_bytes());
                });
                write(&disk, &files(&disk, "log")[0], at as u64, &forged[at..at + 352]);
                let opened = Store::open(dir(), on(&disk));
                let refused = matches!(&opened, Err(Error::Corrupt(reason))
                    if reason.contains(&format!("of height {height} that")));
                assert!(refused, "record {number}, {field:?}: {opened:?}");
            }
        }
    }
}

/// The same for the root that the manifest tells, with blocks behind it and without.
#[test]
fn a_root_of_the_manifest_that_contradicts_the_log_is_refused() {
    for disk in [killed(), build(3).0] {
        let at = Store::open(dir(), on(&copy(&disk))).unwrap().height();
        let behind = at == Height(7);
        change_manifest(&disk, |manifest, row| {
            assert_eq!(manifest.height, Height(if behind { 2 } else { 3 }));
            manifest.state_root.0[7] ^= 0x10;
            row.root = manifest.state_root;
        });
        match Store::open(dir(), on(&disk)) {
            Err(Error::RootMismatch { height, computed, recorded }) => {
                assert_eq!(height, Height(if behind { 2 } else { 3 }));
                assert_ne!(computed, recorded);
            }
            other => panic!("{other:?}"),
        }
    }
}

/// A record says below which entry nothing is active, of the settled history and of the journal alike: what
/// the entries before it come to decides whether that is so.
#[test]
fn an_oldest_active_entry_that_contradicts_the_entries_is_refused() {
    const OLDEST_OF_SHARD_5: std::ops::Range<usize> = 168..176;
    let whole = killed();
    without_checkpoint(&whole);
    let segment = read(&whole, &files(&whole, "log")[0]);
    let mut refused = 0;
    for (height, at) in records(&segment).into_iter().enumerate() {
        // Sentries below it are active; the shard does not have as many entries.
        for said in [3_000_u64, 1 << 40] {
            let (disk, mut forged) = (copy(&whole), segment.clone());
            change_header(&mut forged, at, |header| {
                header[OLDEST_OF_SHARD_5].copy_from_slice(&said.to_le_bytes());
            });
            write(&disk, &files(&disk, "log")[0], at as u64, &forged[at..at + 352]);
            let who = match height {
                0..=2 => format!("the record of height {height}"),
                _ => "the journal".to_owned(),
            };
            let text = format!("shard 5: {who} says that nothing below {said} is active");
            match Store::open(dir(), on(&disk)) {
                Err(Error::Corrupt(reason)) => assert_eq!(reason, text),
                other => panic!("{text}: {other:?}"),
            }
            refused += 1;
        }
    }
    assert_eq!(refused, 16);
}
