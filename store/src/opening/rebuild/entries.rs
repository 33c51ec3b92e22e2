//! Entries by their serial numbers: where they lie, and what they are.
//!
//! ```text
//!   finished twigs   record of the twig ─► its group of 16 ─► entry         each group read once
//!   youngest twig    from its first entry on, one after the other; so a finished one of which many are asked for
//! ```

use crate::Error;
use hedgerow_entryfile::{EntryLog, LogError, RunCursor, StoredFrame, TwigRecord};
use hedgerow_state::{GROUP, OpenTwig, TwigStore};
use hedgerow_types::entry::EntryRef;
use hedgerow_types::{LogPosition, SerialNumber, ShardId, TwigId};

/// What is said of an entry whose twig has no record.
pub(super) const UNKNOWN: &str = "where an entry lay is not known any more";

/// Entries of a twig for which it is walked through, unless it consists of more [runs](RUNS).
const MANY: usize = 128;
/// Runs of a twig up to which that reads less often than group by group.
const RUNS: usize = 64;

/// Tells `each` the entries of a shard with these serial numbers, which ascend, and where they lie; `open` is the
/// twig `youngest`. Those that were pruned are left out.
///
/// # Errors
/// [`Error::Corrupt`] if one is not to be found; a failed read; what `each` says.
pub(crate) fn each_entry(
    log: &EntryLog,
    twigs: &TwigStore,
    shard: ShardId,
    open: &OpenTwig,
    youngest: TwigId,
    sns: &[SerialNumber],
    mut each: impl FnMut(LogPosition, EntryRef<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let full = sns.partition_point(|sn| sn.twig() < youngest);
    let (in_full, in_youngest) = sns.split_at(full);
    for sns in in_full.chunk_by(|a, b| a.twig() == b.twig()) {
        let Some(first) = sns.first() else { continue };
        let Some(record) = twigs.get(shard, first.twig())? else {
            return Err(Error::Corrupt(format!("shard {shard}: {UNKNOWN}")));
        };
        if sns.len() >= MANY && record.breaks.len() <= RUNS && record.record >= log.start() {
            walk(log, RunCursor::new(shard, record.record, record.groups[0]), sns, &mut each)?;
        } else {
            in_groups(log, &record, sns, &mut each)?;
        }
    }
    if let (Some(_), (record, &[first, ..], _)) = (in_youngest.last(), open.parts()) {
        walk(log, RunCursor::new(shard, record, first), in_youngest, &mut each)?;
    }
    Ok(())
}

/// Those of one finished twig, group by group.
fn in_groups(
    log: &EntryLog,
    record: &TwigRecord,
    sns: &[SerialNumber],
    each: &mut impl FnMut(LogPosition, EntryRef<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    for sns in sns.chunk_by(|a, b| a.leaf() / GROUP == b.leaf() / GROUP) {
        let Some(first) = sns.first() else { continue };
        match log.read_group(record, first.leaf()) {
            Ok(entries) => {
                for sn in sns {
                    // A stub stands for an entry that was not active then either.
                    let Some((at, StoredFrame::Entry(entry))) = entries.get(sn.leaf() % GROUP)
                    else {
                        let reason = format!("shard {}: entry {sn} is not kept", record.shard);
                        return Err(Error::Corrupt(reason));
                    };
                    each(*at, entry.get())?;
                }
            }
            // It lay below the start of the log.
            Err(LogError::Pruned { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Those behind a cursor, one after the other: the others are passed over.
fn walk(
    log: &EntryLog,
    mut cursor: RunCursor,
    sns: &[SerialNumber],
    each: &mut impl FnMut(LogPosition, EntryRef<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    for &wanted in sns {
        let found = cursor.next_where(log, |sn| sn >= wanted)?;
        let Some((at, entry)) = found.filter(|(_, it)| it.get().serial_number() == wanted) else {
            return Err(Error::Corrupt(format!("entry {wanted} is not in the log")));
        };
        each(at, entry.get())?;
    }
    Ok(())
}
