//! Which damages are tried.

use super::change::{Change, SECTOR};
use super::layout;
use super::specimen::{File, Kind, Specimen, Specimens, Which, other_of};
use hedgerow_testkit::recipe::SplitMix64;
use std::collections::BTreeMap;
use std::ops::Range;

/// A page of the database and of most file systems.
const PAGE: u64 = 4096;

/// A damage and what it is counted as.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) class: String,
    pub(super) change: Change,
    /// Not before the store opens, but after: what no opening has looked at.
    pub(super) while_open: bool,
    /// Every byte there counts: somebody must notice.
    pub(super) must_report: bool,
    /// To which store.
    pub(super) store: Which,
}

impl Case {
    /// What replays it.
    pub(super) fn command(&self, seed: u64) -> String {
        let while_open = if self.while_open { " --while-open" } else { "" };
        let must_report = if self.must_report { " --must-report" } else { "" };
        let store = match self.store {
            Which::Closed => "",
            Which::Journal => " --journal",
            Which::Tiered => " --tiered",
        };
        format!(
            "torture flips --seed {seed} --replay {}{while_open}{must_report}{store}",
            self.change
        )
    }
}

/// All cases in an order that follows from the seed: every byte of what must be whole, `stride` apart,
/// every file missing or misplaced, and `count` chosen at random.
pub(super) fn all(specimens: &Specimens, seed: u64, count: u64, stride: usize) -> Vec<Case> {
    let mut rng = SplitMix64::new(seed);
    let mut cases = Vec::new();
    let Specimens { closed, journal, tiered } = specimens;
    every_byte(closed, &mut rng, stride.max(1), &mut cases);
    moved(closed, &mut rng, stride.max(1), &mut cases);
    names(closed, &mut cases);
    let of_closed = cases.len();
    last_blocks(journal, &mut rng, stride.max(1), &mut cases);
    moved(journal, &mut rng, stride.max(1), &mut cases);
    names(journal, &mut cases);
    mark(&mut cases[of_closed..]);
    let named = cases.len();
    cases.extend((0..count / 3 * 2).map(|_| random(closed, &mut rng)));
    let of_closed = cases.len();
    cases.extend((0..count / 3).map(|_| random(journal, &mut rng)));
    mark(&mut cases[of_closed..]);
    index(tiered, &mut rng, stride.max(1), &mut cases);
    if stride > 1 {
        // The quick run: a part of these too.
        let mut number = 0;
        cases.retain(|case| {
            number += 1;
            let of_names = case.class.contains("file ") && number <= named;
            !of_names || number % stride == 0
        });
    }
    for at in (1..cases.len()).rev() {
        cases.swap(at, rng.below(at as u64 + 1) as usize);
    }
    cases
}

/// These are done to the store whose last blocks are in the log alone.
fn mark(cases: &mut [Case]) {
    for case in cases {
        case.store = Which::Journal;
        case.class = format!("journal: {}", case.class);
        // What looks like a crash is taken for one.
        case.must_report &= !case.change.loses();
    }
}

/// Every byte of the last two blocks, and in every sector of the journal something lost.
fn last_blocks(specimen: &Specimen, rng: &mut SplitMix64, stride: usize, cases: &mut Vec<Case>) {
    let from = cases.len();
    every_byte(specimen, rng, stride, cases);
    let kept = cases.split_off(from);
    cases.extend(kept.into_iter().filter(|case| case.class.contains("last two")));
    for (file, record) in specimen.records_behind(specimen.settled()) {
        let step = stride.min(SECTOR as usize);
        for at in (record.start..record.end).step_by(step * 4) {
            let at = at as u64 / SECTOR * SECTOR;
            let len = SECTOR.min(file.bytes.len() as u64 - at);
            let (name, class) =
                (|| file.name.clone(), |what: &str| format!("every sector: {what}"));
            let mut case = |what, change| {
                let class = class(what);
                cases.push(Case {
                    class,
                    change,
                    while_open: false,
                    must_report: true,
                    store: Which::Journal,
                });
            };
            case("zeros", Change::Zero { file: name(), at, len });
            case("cut", Change::Len { file: name(), len: at + rng.below(SECTOR) });
        }
    }
}

fn every_byte(specimen: &Specimen, rng: &mut SplitMix64, stride: usize, cases: &mut Vec<Case>) {
    let mut every = |class: &str, file: &File, range: Range<usize>| {
        let first = range.start + rng.below(stride as u64) as usize;
        for at in (first..range.end).step_by(stride) {
            let mask = mask(rng);
            let change = Change::Flip { file: file.name.clone(), at: at as u64, mask };
            let class = format!("every byte: {class}");
            let must_report = file.kind != Kind::Twigs;
            let store = Which::Closed;
            cases.push(Case { class, change, while_open: false, must_report, store });
        }
    };
    for file in &specimen.files {
        match file.kind {
            Kind::Log => every("segment headers of the log", file, 0..layout::SEGMENT_HEADER),
            Kind::Twigs => every("segment headers of twigs", file, 0..layout::SEGMENT_HEADER),
            Kind::Meta => {
                for manifest in layout::manifests(&file.bytes, specimen.height) {
                    every("the manifest", file, manifest);
                }
            }
            Kind::Index | Kind::Other => {}
        }
    }
    for (file, record) in specimen.last_two() {
        every("record headers of the last two blocks", file, record.header());
        every("frames of the last two blocks", file, record.header().end..record.end);
    }
}

/// Entries that are read, each with another whole frame of the same length in its place, older or newer
/// or of another key; in every second case under the open store.
fn moved(specimen: &Specimen, rng: &mut SplitMix64, stride: usize, cases: &mut Vec<Case>) {
    let mut by_len = BTreeMap::<(&str, usize), Vec<usize>>::new();
    for file in specimen.files.iter().filter(|file| file.kind == Kind::Log) {
        for record in layout::log_records(&file.bytes).unwrap_or_default() {
            for frame in record.frames {
                by_len.entry((&file.name, frame.len())).or_default().push(frame.start);
            }
        }
    }
    // The quick run has every stride-th of many cases, but some of these in any case.
    let some = stride.min(4);
    for (number, (file, frame)) in specimen.live.iter().enumerate().step_by(some) {
        let file = &specimen.files[*file].name;
        let others = by_len.get(&(file, frame.len())).map(Vec::as_slice).unwrap_or_default();
        let others: Vec<usize> = others.iter().copied().filter(|at| *at != frame.start).collect();
        let Some(&from) = pick(rng, &others) else { continue };
        let (from, to, len) = (from as u64, frame.start as u64, frame.len() as u64);
        let while_open = (number / some).is_multiple_of(2);
        let class = if while_open { "log, while open: frame moved" } else { "log: frame moved" };
        let change = Change::Move { file: file.clone(), from, to, len };
        let class = class.into();
        cases.push(Case { class, change, while_open, must_report: true, store: Which::Closed });
    }
}

/// One bit, or several of a byte.
fn mask(rng: &mut SplitMix64) -> u8 {
    if rng.below(2) == 0 { 1 << rng.below(8) } else { 1 + rng.below(255) as u8 }
}

/// Every file removed, misnamed, and there twice.
fn names(specimen: &Specimen, cases: &mut Vec<Case>) {
    let mut case = |class: &str, change| {
        let class = class.to_owned();
        let store = Which::Closed;
        cases.push(Case { class, change, while_open: false, must_report: false, store });
    };
    for (number, file) in specimen.files.iter().enumerate() {
        let name = || file.name.clone();
        case("file removed", Change::Remove { file: name() });
        for to in other_names(specimen, number) {
            case("file renamed", Change::Rename { file: name(), to: to.clone() });
            case("file twice", Change::Copy { file: name(), to });
        }
    }
}

/// Names that a file could get by mistake: another segment's, none's, no segment's.
fn other_names(specimen: &Specimen, number: usize) -> Vec<String> {
    let file = &specimen.files[number];
    let mut to = vec![format!("{}.bak", file.name)];
    match file.kind {
        Kind::Log | Kind::Twigs => {
            let (folder, suffix) =
                if file.kind == Kind::Log { ("log", "log") } else { ("twigs", "twigs") };
            let base = file.name.trim_start_matches(|c| c != '/').trim_start_matches('/');
            let base = base.split('.').next().unwrap_or_default();
            let base = u64::from_str_radix(base, 16).unwrap_or_default();
            for other in [base + 8, base.saturating_sub(8), base + (1 << 40), i64::MAX as u64, 0] {
                to.push(format!("{folder}/{other:016x}.{suffix}"));
            }
            let next = specimen.files.get(number + 1).filter(|next| next.kind == file.kind);
            to.extend(next.map(|next| next.name.clone()));
        }
        Kind::Meta => to.extend(["meta/meta.redb.new", "meta/meta.sled"].map(String::from)),
        Kind::Index | Kind::Other => {}
    }
    to.retain(|to| *to != file.name);
    to
}

/// Every page of every file of the index in every way, and every file as a whole: at rest, and under the open store.
/// It is derived data: opening never fails for it, and what an open store cannot read it calls an error. A page that is
/// asked for, or that a check reads, is noticed.
fn index(specimen: &Specimen, rng: &mut SplitMix64, stride: usize, cases: &mut Vec<Case>) {
    let files: Vec<&File> = specimen.files.iter().filter(|it| it.kind == Kind::Index).collect();
    let mut all = Vec::new();
    for (number, file) in files.iter().enumerate() {
        let (name, len) = (|| file.name.clone(), file.bytes.len() as u64);
        for page in (0..len).step_by(PAGE as usize) {
            let end = (page + PAGE).min(len);
            let within = |rng: &mut SplitMix64| page + rng.below(end - page);
            // What is there, not the zeros behind it.
            let (at, near) = (within(rng), page + rng.below((end - page).min(SECTOR)));
            all.push(("1 byte", Change::Flip { file: name(), at, mask: mask(rng) }));
            all.push(("1 byte", Change::Flip { file: name(), at: near, mask: mask(rng) }));
            let sector = |at: u64| at / SECTOR * SECTOR;
            let zeros = |from: u64, len: u64| Change::Zero { file: name(), at: from, len };
            let one = sector(near);
            all.push(("sector of zeros", zeros(one, SECTOR.min(len - one))));
            all.push(("page of zeros", zeros(page, end - page)));
            let (a, b) = (sector(near), sector(rng.below(len)));
            all.push(("sectors swapped", Change::Swap { file: name(), a, b }));
        }
        for cut in [0, rng.below(len), rng.below(len) / PAGE * PAGE, len - 1] {
            all.push(("cut", Change::Len { file: name(), len: cut }));
        }
        all.push(("extended", Change::Len { file: name(), len: len + PAGE }));
        all.push(("removed", Change::Remove { file: name() }));
        if let Some(other) = other_of(&file.name) {
            let other = other.to_string_lossy().into_owned();
            all.push(("another store's", Change::Copy { file: other, to: name() }));
        }
        if let Some(next) = files.get(number + 1) {
            let to = next.name.clone();
            all.push(("another file of this store", Change::Copy { file: name(), to }));
        }
    }
    let differs = |file: &str, a: usize, b: usize, len: usize| {
        let bytes = files.iter().find(|it| it.name == file).map_or(&[][..], |it| &it.bytes);
        bytes.get(a..a + len).unwrap_or_default() != bytes.get(b..b + len).unwrap_or_default()
    };
    all.retain(|(_, change)| match change {
        Change::Swap { file, a, b } => differs(file, *a as usize, *b as usize, SECTOR as usize),
        _ => true,
    });
    for (number, (what, change)) in all.into_iter().enumerate().step_by(stride.div_ceil(4)) {
        let quick = stride > 1;
        for while_open in [false, true] {
            if quick && while_open == (number / stride.div_ceil(4)).is_multiple_of(2) {
                continue;
            }
            let class = format!("index{}: {what}", if while_open { ", while open" } else { "" });
            let (change, store) = (change.clone(), Which::Tiered);
            // At rest opening may have made that file anew.
            let must_report =
                while_open && matches!(what, "1 byte" | "another store's" | "removed");
            cases.push(Case { class, change, while_open, must_report, store });
        }
    }
}

fn pick<'a, T>(rng: &mut SplitMix64, of: &'a [T]) -> Option<&'a T> {
    of.get(rng.below(of.len().max(1) as u64) as usize)
}

/// A random damage, in a place chosen by what lies there. One that changes nothing is not chosen.
fn random(specimen: &Specimen, rng: &mut SplitMix64) -> Case {
    loop {
        let kind = match rng.below(20) {
            0..8 => Kind::Log,
            8..12 => Kind::Twigs,
            _ => Kind::Meta,
        };
        let of_kind: Vec<&File> = specimen.files.iter().filter(|file| file.kind == kind).collect();
        let Some(file) = pick(rng, &of_kind) else { continue };
        // Most entries are dead or sentries; a third of what hits the log hits what `get` reads.
        let live = pick(rng, &specimen.live).filter(|_| kind == Kind::Log && rng.below(3) == 0);
        let (file, (region, range)) = match live {
            Some((number, frame)) => {
                let file = &specimen.files[*number];
                let fields = layout::frame_fields(&file.bytes, frame);
                let Some((_, field)) = pick(rng, &fields) else { continue };
                (file, ("entry that is read", field.clone()))
            }
            None => (*file, region(specimen, file, rng)),
        };
        if range.is_empty() {
            continue;
        }
        let at = range.start as u64 + rng.below(range.len() as u64);
        let Some((what, change)) = damage(file, at, rng) else { continue };
        // Bytes may rot while the store is open too; a file that is cut then was cut by somebody.
        let while_open = rng.below(4) == 0
            && matches!(change, Change::Flip { .. } | Change::Zero { .. } | Change::Swap { .. });
        // Every byte of the log counts, wherever it lies, and so does its place.
        let must_report = kind == Kind::Log && !matches!(change, Change::Len { .. });
        let kind = match kind {
            Kind::Log => "log",
            Kind::Twigs => "twigs",
            _ => "redb",
        };
        let class = match change {
            _ if while_open => format!("{kind}, while open: {what}"),
            Change::Flip { .. } => format!("{kind}, {region}: {what}"),
            _ => format!("{kind}: {what}"),
        };
        return Case { class, change, while_open, must_report, store: Which::Closed };
    }
}

/// A part of the file, and its name.
fn region(specimen: &Specimen, file: &File, rng: &mut SplitMix64) -> (&'static str, Range<usize>) {
    let bytes = &file.bytes;
    let anywhere = ("anywhere", 0..bytes.len());
    match file.kind {
        Kind::Log => {
            let records = layout::log_records(bytes).unwrap_or_default();
            let Some(record) = pick(rng, &records) else { return anywhere };
            match (rng.below(8), pick(rng, &record.frames)) {
                (0, _) => anywhere,
                (1, _) => ("record header", record.header()),
                (_, Some(frame)) => {
                    pick(rng, &layout::frame_fields(bytes, frame)).cloned().unwrap_or(anywhere)
                }
                (_, None) => anywhere,
            }
        }
        Kind::Twigs => {
            let records = layout::twig_records(bytes).unwrap_or_default();
            let Some((header, body)) = pick(rng, &records).cloned() else { return anywhere };
            match rng.below(5) {
                0 => anywhere,
                1 => ("record header", header),
                2 => ("nodes", body.start + 8..body.start + 8_168),
                3 => ("groups", body.start + 8_168..body.start + 9_192),
                _ => ("breaks and leaves", body.start + 9_192..body.end),
            }
        }
        _ => match rng.below(6) {
            0 => ("file header", 0..512.min(bytes.len())),
            1 => {
                let rows = layout::history_rows(bytes);
                pick(rng, &rows).cloned().map_or(anywhere, |row| ("history row", row))
            }
            2 => {
                let rows = layout::manifests(bytes, specimen.height);
                pick(rng, &rows).cloned().map_or(anywhere, |row| ("manifest", row))
            }
            3 => {
                // The heads of pages, where the tree is.
                let pages = bytes.len() / PAGE as usize;
                let at = rng.below(pages.max(1) as u64) as usize * PAGE as usize;
                ("head of a page", at..(at + 64).min(bytes.len()))
            }
            _ => anywhere,
        },
    }
}

/// What is done at `at`; `None` if it would change nothing.
fn damage(file: &File, at: u64, rng: &mut SplitMix64) -> Option<(&'static str, Change)> {
    let name = file.name.clone();
    let len = file.bytes.len() as u64;
    let slice = |from: u64, len: u64| {
        let from = from as usize;
        file.bytes.get(from..from + len as usize).unwrap_or_default()
    };
    match rng.below(16) {
        0..=5 => Some(("1 bit", Change::Flip { file: name, at, mask: 1 << rng.below(8) })),
        6..=8 => Some(("1 byte", Change::Flip { file: name, at, mask: 1 + rng.below(255) as u8 })),
        choice @ 9..=11 => {
            let (what, size) =
                if choice < 11 { ("sector of zeros", SECTOR) } else { ("page of zeros", PAGE) };
            let from = at / size * size;
            let size = size.min(len - from);
            let changes = slice(from, size).iter().any(|&byte| byte != 0);
            changes.then_some((what, Change::Zero { file: name, at: from, len: size }))
        }
        12..=13 => {
            let a = at / SECTOR * SECTOR;
            let b = rng.below((len / SECTOR).max(1)) * SECTOR;
            let (one, other) = (slice(a, SECTOR), slice(b, SECTOR));
            let differ = one.len() == other.len() && one != other;
            differ.then_some(("sectors swapped", Change::Swap { file: name, a, b }))
        }
        14 => {
            let borders = borders(file);
            let to = if rng.below(2) == 0 { at } else { *pick(rng, &borders)? as u64 };
            (to < len).then_some(("cut", Change::Len { file: name, len: to }))
        }
        _ => {
            let more = *pick(rng, &[1, 7, 8, 64, 160, SECTOR, PAGE, 100_000, 1 << 26])?;
            Some(("extended", Change::Len { file: name, len: len + more }))
        }
    }
}

/// Lengths at which a file ends between two things.
fn borders(file: &File) -> Vec<usize> {
    let mut borders = vec![0, 1, layout::SEGMENT_HEADER - 1, layout::SEGMENT_HEADER];
    match file.kind {
        Kind::Log => {
            for record in layout::log_records(&file.bytes).unwrap_or_default() {
                borders.extend([record.start, record.header().end, record.end]);
                borders.extend(record.frames.last().map(|frame| frame.start));
            }
        }
        Kind::Twigs => {
            for (header, body) in layout::twig_records(&file.bytes).unwrap_or_default() {
                borders.extend([header.start, header.end, body.end - 1]);
            }
        }
        _ => borders.extend((0..file.bytes.len()).step_by(PAGE as usize)),
    }
    borders
}
