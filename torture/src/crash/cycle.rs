//! One life of the store, its end, and what opens afterwards.

use super::choose::{self, After, End, Settings, pick};
use super::compare::{PastRow, compare};
use super::session::{Session, dir};
use hedgerow::{Block, Digest, Durability, Error, Height, Op, OpKind, Store, Task, Ticket};
use hedgerow_testkit::generate::GenShape;
use hedgerow_testkit::model::NetChangeSet;
use hedgerow_testkit::ops::{OpKind as RecordedKind, RecordedBlock};
use hedgerow_vfs::power_loss::{Calls, FaultKind, Held, Trace};
use hedgerow_vfs::{Vfs, VfsOp};
use std::time::Duration;

/// A block of the session, in one of the two interfaces.
#[derive(Clone, Debug)]
enum Input {
    Strict(RecordedBlock),
    Net(u64, Vec<NetChangeSet>),
}

/// A block that was handed in.
struct Sent {
    input: Input,
    extra: Vec<u8>,
    /// The generator before the block: blocks that are lost are made anew, otherwise.
    before: hedgerow_testkit::generate::BlockGen,
    /// The root, if it was told.
    root: Option<Digest>,
}

/// What one life came to.
#[derive(Default)]
struct Life {
    sent: Vec<Sent>,
    /// The last height of which the store said that it is durable.
    durable: u64,
    /// As far as roots were told.
    published: u64,
    /// The greatest height that there was, whatever was taken back since.
    highest: u64,
    /// A rollback to this height was begun, and did not end well.
    rolling_back: Option<u64>,
}

/// Runs a life to its end, opens what is left, and compares it with the model.
pub(super) fn cycle(session: &mut Session) -> Result<(), String> {
    let mut settings = Settings::random(&mut session.rng, session.in_step);
    let believe = session.rng.below(10) == 0;
    let end = if believe {
        End::failed_sync(&mut session.rng)
    } else {
        choose::end(&mut session.rng, session.in_step, session.tiered)
    };
    if end.needs_a_long_life() {
        settings.prune_soon();
    }
    session.notes.push(format!("{settings:?}"));
    session.notes.push(format!("{end:?}"));
    let base = session.model.height();
    let life = live(session, &settings, &end)?;
    let trace = session.disk.trace();
    session.digests.push(trace.digest);
    session.note(&trace)?;
    note_life(session, &life, &trace, base);

    let after = if session.rng.below(4) == 0 { After::ProcessDeath } else { After::PowerLoss };
    // What a failed sync left in the cache is there for the next process to believe.
    let after = if believe { After::ProcessDeath } else { after };
    let seed = session.rng.next_u64();
    match after {
        After::PowerLoss => session.power_cycle(seed)?,
        After::ProcessDeath => session.disk = session.disk.process_death(),
    }
    if after == After::ProcessDeath {
        session.reach.count("opened again without power loss");
        let failed_sync = |op| matches!(op, VfsOp::Sync | VfsOp::SyncDir);
        if trace.failed.iter().any(|failed| failed_sync(failed.op) && failed.kind == FaultKind::Eio)
        {
            session.reach.count("opened again after a sync that failed");
        }
    } else if matches!(end, End::Close) {
        session.reach.count("closed, then the power went");
    }
    session.notes.push(format!(
        "accepted {}, published {}, durable {}, then {after:?}",
        base + life.sent.len() as u64,
        life.published,
        life.durable
    ));
    recover(session, &settings, life, base)
}

/// Opens the store and hands in blocks until the plan strikes.
fn live(session: &mut Session, settings: &Settings, end: &End) -> Result<Life, String> {
    let base = session.model.height();
    let mut life = Life { durable: base, published: base, highest: base, ..Life::default() };
    let options = session.options(settings)?;
    let plan = |opening: bool| match end {
        End::Fault { fault, while_opening } if *while_opening == opening => {
            session.disk.plan(fault.clone());
        }
        _ => {}
    };
    plan(true);
    let mut store = match Store::open(dir(), options) {
        Ok(store) => store,
        Err(error) if !session.disk.trace().failed.is_empty() => {
            check_cause(&error)?;
            return Ok(life);
        }
        Err(error) => return Err(format!("opening before any fault: {error}")),
    };
    plan(false);
    let keys = session.blocks.shape().keys;
    let (count, shape) = match end {
        End::Fault { .. } if end.needs_a_long_life() && session.has_lived => {
            (60, GenShape { keys_per_change_set: 600, change_sets: 3, ..GenShape::default() })
        }
        End::Fault { .. } => {
            (pick(&mut session.rng, &[3, 12, 40]), choose::shape(&mut session.rng))
        }
        End::Close => (3, choose::shape(&mut session.rng)),
    };
    session.blocks.go_on(session.rng.next_u64(), GenShape { keys, ..shape });
    let failed = hand_in(session, &mut store, settings, &mut life, count);
    if let Err(error) = failed {
        check_cause(&error)?;
        if session.disk.trace().failed.is_empty() {
            return Err(format!("a block before any fault: {error}"));
        }
        still_answers(session, &store, &life)?;
    }
    // All that it knows; the waiters above may have missed some.
    life.durable = life.durable.max(store.reader().durable_height().0);
    life.published = life.published.max(store.reader().height().0);
    let closed = store.close();
    if let Err(error) = &closed {
        check_cause(error)?;
    }
    if closed.is_ok() && session.disk.trace().failed.is_empty() {
        life.durable = base + life.sent.len() as u64;
        life.published = life.durable;
    }
    Ok(life)
}

/// Hands in `count` blocks in groups.
fn hand_in(
    session: &mut Session,
    store: &mut Store,
    settings: &Settings,
    life: &mut Life,
    count: u64,
) -> Result<(), Error> {
    let mut left = count;
    while left > 0 {
        let group = 1 + session.rng.below(settings.max_in_flight as u64).min(left - 1);
        left -= group;
        if settings.in_step && group > 1 {
            gather(session, store, life, group)?;
        } else {
            for _ in 0..group {
                let each = settings.durability == Durability::EachBlock;
                if each && session.rng.below(2) == 0 {
                    commit(session, store, life)?;
                } else {
                    let (number, ticket) = send(session, store, life)?;
                    if settings.in_step || each {
                        tell(life, number, &ticket)?;
                        ticket.durable()?;
                        life.durable = ticket.height().0;
                    }
                }
                if settings.in_step {
                    store.flush()?; // what was pruned is deleted, before the next block's calls
                }
            }
        }
        if session.rng.below(6) == 0 {
            roll_back(session, store, settings, life)?;
        }
    }
    store.flush()?;
    life.durable = store.reader().durable_height().0;
    Ok(())
}

/// Takes some of the blocks of this life back, as far as the window reaches.
fn roll_back(
    session: &mut Session,
    store: &mut Store,
    settings: &Settings,
    life: &mut Life,
) -> Result<(), Error> {
    let base = session.model.height();
    let newest = base + life.sent.len() as u64;
    life.highest = life.highest.max(newest);
    // What needs more than that may be pruned.
    let least = base.max(life.highest.saturating_sub(settings.window()));
    let back = session.rng.below(10);
    let height = newest.saturating_sub(back).max(least).min(newest);
    life.rolling_back = Some(height);
    store.rollback(Height(height))?;
    life.rolling_back = None;
    session.reach.count("rollbacks");
    session.reach.add("blocks taken back", newest - height);
    if let Some(first) = life.sent.drain((height - base) as usize..).next() {
        let shape = *session.blocks.shape();
        session.blocks = first.before;
        session.blocks.go_on(session.rng.next_u64(), shape);
    }
    (life.durable, life.published) = (height, height);
    Ok(())
}

/// One block, and behind its sync, which is held back, the rest of the group: one sync for all of them.
/// What follows the record of the first one is held back until then, since it would be written beside
/// the records of the others.
fn gather(
    session: &mut Session,
    store: &mut Store,
    life: &mut Life,
    group: u64,
) -> Result<(), Error> {
    let held = session.disk.hold(Calls::Of(VfsOp::Sync, "/log/".into()));
    let (number, ticket) = send(session, store, life)?;
    wait_held(&held, store)?;
    tell(life, number, &ticket)?;
    let mut last = ticket;
    for _ in 1..group {
        let (number, ticket) = send(session, store, life)?;
        tell(life, number, &ticket)?;
        last = ticket;
    }
    held.hold_instead(Calls::Point("commit: durable".into()));
    last.durable()?;
    life.durable = last.height().0;
    drop(held);
    store.flush()?;
    session.reach.count("several blocks under one sync");
    Ok(())
}

/// Waits until the sync is held back, or the store has failed before.
fn wait_held(held: &Held, store: &mut Store) -> Result<(), Error> {
    while !held.reached_within(Duration::from_millis(20)) {
        let next = store.height().next();
        drop(store.begin_block(next)?);
    }
    Ok(())
}

fn tell(life: &mut Life, number: usize, ticket: &Ticket) -> Result<(), Error> {
    life.sent[number].root = Some(ticket.root()?);
    life.published = ticket.height().0;
    Ok(())
}

fn send(
    session: &mut Session,
    store: &mut Store,
    life: &mut Life,
) -> Result<(usize, Ticket), Error> {
    let before = session.blocks.clone();
    let input = if session.rng.below(2) == 0 {
        Input::Strict(session.blocks.strict())
    } else {
        let (height, change_sets) = session.blocks.net();
        Input::Net(height, change_sets)
    };
    let extra_len = pick(&mut session.rng, &[0, 5, 5, 3_000]);
    let extra: Vec<u8> =
        session.rng.next_u64().to_le_bytes().into_iter().cycle().take(extra_len).collect();
    // From here on it may have been accepted, whatever the call returns.
    life.sent.push(Sent { input, extra, before, root: None });
    let number = life.sent.len() - 1;
    let sent = &life.sent[number];
    let ticket = match &sent.input {
        Input::Strict(block) => {
            store.submit_tasks(Height(block.height), &tasks(block), sent.extra.clone())
        }
        Input::Net(height, change_sets) => submit_net(store, *height, change_sets, &sent.extra),
    };
    session.reach.count("blocks");
    ticket.map(|ticket| (number, ticket))
}

/// One block that is handed in and waited for in one call.
fn commit(session: &mut Session, store: &mut Store, life: &mut Life) -> Result<(), Error> {
    let before = session.blocks.clone();
    let (height, change_sets) = session.blocks.net();
    let input = Input::Net(height, change_sets.clone());
    life.sent.push(Sent { input, extra: vec![], before, root: None });
    session.reach.count("blocks");
    let receipt = begin_net(store, height, &change_sets, &[])?.commit()?;
    session.reach.count("blocks durable when `commit` returned");
    if let Some(sent) = life.sent.last_mut() {
        sent.root = Some(receipt.root);
    }
    (life.published, life.durable) = (height, height);
    Ok(())
}

pub(crate) fn submit_net(
    store: &mut Store,
    height: u64,
    change_sets: &[NetChangeSet],
    extra: &[u8],
) -> Result<Ticket, Error> {
    begin_net(store, height, change_sets, extra)?.submit()
}

fn begin_net<'s>(
    store: &'s mut Store,
    height: u64,
    change_sets: &[NetChangeSet],
    extra: &[u8],
) -> Result<Block<'s>, Error> {
    let mut block = store.begin_block(Height(height))?;
    for (number, change_set) in change_sets.iter().enumerate() {
        if number > 0 {
            block.next_change_set()?;
        }
        for (key, value) in change_set {
            match value {
                Some(value) => block.put(key, value)?,
                None => block.delete(key)?,
            }
        }
    }
    block.set_extra(extra)?;
    Ok(block)
}

pub(crate) fn tasks(block: &RecordedBlock) -> Vec<Task> {
    let op = |op: &hedgerow_testkit::ops::Op| Op {
        kind: match op.kind {
            RecordedKind::Read => OpKind::Read,
            RecordedKind::Update => OpKind::Update,
            RecordedKind::Create => OpKind::Create,
            RecordedKind::Delete => OpKind::Delete,
        },
        key: op.key.clone(),
        value: op.value.clone(),
    };
    let change_set = |ops: &Vec<_>| ops.iter().map(op).collect();
    block.tasks.iter().map(|task| task.iter().map(change_set).collect()).collect()
}

/// A store that failed takes no more blocks, and still answers; while the power is on, rightly.
fn still_answers(session: &mut Session, store: &Store, life: &Life) -> Result<(), String> {
    // Drawn in any case: whether the last root was told is a race between the block's two stages.
    let well = session.rng.below(2) == 0;
    if session.disk.is_off() || !well {
        return Ok(()); // Nothing to read from, or to be closed while calls go on failing.
    }
    session.disk.plan_nothing();
    if life.published != session.model.height() {
        return Ok(()); // More published than the model knows.
    }
    let reader = store.reader();
    if reader.height().0 != life.published {
        return Ok(()); // Published and not told.
    }
    for key in session.blocks.keys().iter().take(50) {
        let value = reader.get(key).map_err(|error| format!("get after a failure: {error}"))?;
        if reader.height().0 != life.published {
            return Ok(()); // The hash stage was still publishing what it had.
        }
        if value.as_deref() != session.model.get(key) {
            return Err(format!("after a failure {key:?} is {value:?}"));
        }
    }
    session.reach.count("a store that failed still answered");
    Ok(())
}

/// An error after an injected failure names it: no panic caught on the way, nothing that only follows
/// from a failure that nobody told.
pub(crate) fn check_cause(error: &Error) -> Result<(), String> {
    let text = error.to_string();
    if text.contains("panic") {
        return Err(format!("a panic became an error: {text}"));
    }
    if text.contains("injected") || text.contains("the power is off") {
        return Ok(());
    }
    Err(format!("the error does not name its cause: {text}"))
}

fn note_life(session: &mut Session, life: &Life, trace: &Trace, base: u64) {
    let reach = &mut session.reach;
    reach.add("blocks durable when the cycle ended", life.durable - base);
    reach.add("pruned", trace.points.get("prune: done").copied().unwrap_or(0));
}

/// Opens what is left and compares it with the model at the height that came back.
fn recover(
    session: &mut Session,
    settings: &Settings,
    life: Life,
    base: u64,
) -> Result<(), String> {
    let accepted = base + life.sent.len() as u64;
    // Else nearly every opening would begin with a checkpoint.
    let checkpoints = dir().join("checkpoints");
    if session.rng.below(3) == 0 && session.disk.exists(&checkpoints).is_ok_and(|there| there) {
        session.disk.remove_dir_all(&checkpoints).map_err(|error| error.to_string())?;
    }
    let opened = Store::open(dir(), session.base_options().threads(1));
    let trace = session.disk.trace();
    session.note(&trace)?;
    let mut store = opened.map_err(|error| format!("opening what is left: {error}"))?;
    let height = store.reader().height().0;
    if let Some(to) = life.rolling_back {
        session.reach.count(match height == to {
            true => "a rollback that failed: the lower height came back",
            false => "a rollback that failed: the height before it came back",
        });
    }
    if height < life.durable && life.rolling_back != Some(height) {
        return Err(format!("{} was durable, {height} came back", life.durable));
    }
    if height > accepted {
        return Err(format!("{accepted} was accepted, {height} came back"));
    }
    let what =
        if height > life.durable { "beyond the durable height" } else { "the durable height" };
    session.reach.count(format!("recovered: {what}"));
    session.reach.count(match store.stats().opened_from {
        Some(_) => "recovered from a checkpoint",
        None => "recovered from the log",
    });
    if let Some(index) = store.stats().index {
        session.reach.count("recovered: an index in files");
        session.reach.add("recovered: files of the index", index.files);
        if store.stats().opened_from.is_some() && index.files > 0 {
            session.reach.count("recovered from a checkpoint that names files of the index");
        }
    }
    session.reach.add("blocks published and lost", life.published.saturating_sub(height));
    session
        .reach
        .greatest("blocks published and lost at once", life.published.saturating_sub(height));
    let cut = |line: &String| line.starts_with("setting the length of") && line.contains("/log/");
    let renewed = |line: &String| line.starts_with("writing") && line.contains("/log/");
    if trace.recent.iter().any(renewed) {
        session.reach.count("opening took blocks in again");
    }
    if trace.recent.iter().any(cut) {
        session.reach.count("opening cut the log");
    }
    if trace.recent.iter().any(|line| line.starts_with("writing") && line.contains("/twigs/")) {
        session.reach.count("opening made twig records again");
    }
    for sent in life.sent {
        let model = &mut session.model;
        if model.height() == height {
            session.blocks = sent.before;
            break;
        }
        match &sent.input {
            Input::Strict(block) => model.apply(block),
            Input::Net(height, change_sets) => model.apply_net(*height, change_sets),
        };
        let (at, root) = (model.height(), model.state_root());
        if sent.root.is_some_and(|told| told != root) {
            return Err(format!("the root of height {at} was told wrongly"));
        }
        let row = PastRow::of(root, model, sent.extra, session.blocks.keys(), &mut session.rng);
        session.past.rows.insert(at, row);
        session.past.kept_from = session.past.kept_from.max(settings.history_from(at));
    }
    // A manifest of the greatest height may have been there before a rollback.
    let highest = settings.history_from(life.highest).min(height);
    session.past.kept_from = session.past.kept_from.max(highest);
    drop(session.past.rows.split_off(&(height + 1)));
    let thoroughly = session.rng.below(3) == 0;
    let keys = session.blocks.keys().to_vec();
    let Session { model, past, rng, reach, .. } = session;
    compare(&mut store, model, past, &keys, rng, reach, thoroughly)?;
    store.close().map_err(|error| format!("closing: {error}"))?;
    // In half of the cycles nothing more has reached the disk when the power goes again.
    if session.rng.below(2) == 0 {
        let seed = session.rng.next_u64();
        session.power_cycle(seed)?;
    }
    Ok(())
}
