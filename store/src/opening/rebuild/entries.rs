//! Entries by their serial numbers: where they lie, and what they are.
//!
//! ```text
//!   finished twigs   record of the twig ─► its group of 16 ─► entry         each group read once
//!   youngest twig    from its first entry on, one after the other
//! ```

use crate::Error;
use hedgerow_entryfile::{EntryLog, LogError, RunCursor, StoredFrame};
use hedgerow_state::{GROUP, OpenTwig, TwigStore};
use hedgerow_types::entry::EntryRef;
use hedgerow_types::{LogPosition, SerialNumber, ShardId, TwigId};

/// What is said of an entry whose twig has no record.
pub(super) const UNKNOWN: &str = "where an entry lay is not known any more";

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
    let group_of = |sn: &SerialNumber| (sn.twig(), sn.leaf() / GROUP);
    for sns in in_full.chunk_by(|a, b| group_of(a) == group_of(b)) {
        let Some(first) = sns.first() else { continue };
        let Some(record) = twigs.get(shard, first.twig())? else {
            return Err(Error::Corrupt(format!("shard {shard}: {UNKNOWN}")));
        };
        match log.read_group(&record, first.leaf()) {
            Ok(entries) => {
                for sn in sns {
                    // A stub stands for an entry that was not active then either.
                    let Some((at, StoredFrame::Entry(entry))) = entries.get(sn.leaf() % GROUP)
                    else {
                        let reason = format!("shard {shard}: entry {sn} is not kept");
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
    if let (Some(last), (record, &[first, ..], _)) = (in_youngest.last(), open.parts()) {
        let mut cursor = RunCursor::new(shard, record, first);
        let mut sns = in_youngest.iter().peekable();
        while let Some(&&wanted) = sns.peek() {
            let Some((at, entry)) = cursor.next_where(log, |sn| sn == wanted)? else {
                let reason = format!("shard {shard}: entry {last} is not in the log");
                return Err(Error::Corrupt(reason));
            };
            each(at, entry.get())?;
            sns.next();
        }
    }
    Ok(())
}
