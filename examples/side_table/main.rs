//! Queries by prefix and range: an ordered table of keys beside the store, in step with it.
//!
//! ```text
//!   block ──► store     height 1 ── 2 ── 3 ── 4 ── 5      the keys that each changed are its extra
//!                                        │
//!   side table (redb): key, key, ...     3                 one transaction per block, after the block is durable
//!                                        └── on start: takes 4 and 5 from the store, or is made anew
//! ```
//!
//! The store orders keys by their hashes, so that it has no scan by prefix. The table has the keys that are
//! present, in their own order, and the height and root that it is at. It can be behind the store, never ahead:
//! its transaction begins when the block is durable. The store knows nothing of the table and no root covers it:
//! it says which keys to ask for, and values and proofs come from the store.
//!
//! What to copy: [`SideTable`], `catch_up` above all. A store that is behind the table, or another one than it
//! was made from (restored from a backup, say), is found by the root, and the table is made anew.
//!
//! Run it with `cargo run --release -p hedgerow-examples --bin side_table`.

use hedgerow::{Digest, Height, Options, Reader, Store, StoreParams, Ticket};
use redb::{Database, ReadableDatabase, TableDefinition};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::Path;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// The keys that are present.
const KEYS: TableDefinition<'_, &[u8], ()> = TableDefinition::new("keys");
/// One row: the height that the table is at, and the state root there.
const AT: TableDefinition<'_, (), (u64, [u8; 32])> = TableDefinition::new("at");

/// The keys that a block changes, each with whether it is present after it.
type Changes = BTreeMap<Vec<u8>, bool>;

/// How the table came to where the store is.
#[derive(Debug, PartialEq)]
enum Came {
    InStep,
    CaughtUp { blocks: u64 },
    MadeAnew,
}

struct SideTable(Database);

impl SideTable {
    /// Opens the table and brings it to the height of a store that was just opened.
    fn open(path: &Path, store: &Store) -> Result<(Self, Came)> {
        let table = Self(Database::create(path)?);
        let came = table.catch_up(&store.reader())?;
        Ok((table, came))
    }

    fn at(&self) -> Result<Option<(u64, [u8; 32])>> {
        let read = self.0.begin_read()?;
        match read.open_table(AT) {
            Ok(at) => Ok(at.get(())?.map(|row| row.value())),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Right after opening, what the store has is durable.
    fn catch_up(&self, reader: &Reader) -> Result<Came> {
        let end = reader.height().0;
        let Some((height, root)) = self.at()? else { return self.make_anew(reader) };
        // Is the table's height one of this store's? Not if it lies ahead or is of another history; and the
        // store may have forgotten it (`Options::keep_history`).
        match reader.root_at(Height(height)) {
            Ok(of_store) if of_store.0 == root => {}
            Ok(_) | Err(hedgerow::Error::HeightUnavailable { .. }) => {
                return self.make_anew(reader);
            }
            Err(error) => return Err(error.into()),
        }
        if height == end {
            return Ok(Came::InStep);
        }
        let mut changes = Changes::new();
        for missing in height + 1..=end {
            let extra = &reader.history(Height(missing))?.extra;
            changes.extend(unpack(extra).ok_or("a block without its list of keys")?);
        }
        self.commit(Height(end), reader.root_at(Height(end))?, changes)?;
        Ok(Came::CaughtUp { blocks: end - height })
    }

    /// All keys once more: reads the whole state.
    fn make_anew(&self, reader: &Reader) -> Result<Came> {
        let write = self.0.begin_write()?;
        write.delete_table(KEYS)?;
        {
            let mut keys = write.open_table(KEYS)?;
            let view = reader.view();
            for pair in view.iter() {
                keys.insert(&pair?.0[..], ())?;
            }
            write.open_table(AT)?.insert((), (view.height().0, view.root().0))?;
        }
        write.commit()?;
        Ok(Came::MadeAnew)
    }

    /// Takes in the changes up to a height that is durable, in one transaction.
    fn commit(&self, height: Height, root: Digest, changes: Changes) -> Result<()> {
        let write = self.0.begin_write()?;
        {
            let mut keys = write.open_table(KEYS)?;
            for (key, present) in changes {
                if present {
                    keys.insert(&key[..], ())?
                } else {
                    keys.remove(&key[..])?
                };
            }
            write.open_table(AT)?.insert((), (height.0, root.0))?;
        }
        Ok(write.commit()?)
    }

    /// The keys that begin with a prefix, in order.
    fn with_prefix(&self, prefix: &[u8]) -> Result<Vec<Vec<u8>>> {
        let keys = self.0.begin_read()?.open_table(KEYS)?;
        let mut found = vec![];
        for row in keys.range(prefix..)? {
            let key = row?.0.value().to_vec();
            if !key.starts_with(prefix) {
                break;
            }
            found.push(key);
        }
        Ok(found)
    }
}

/// The changes as bytes: of each key whether it is present, its length, which is 1 to 255, and the key.
fn pack(changes: &Changes) -> Vec<u8> {
    let one = |(key, present): (&Vec<u8>, &bool)| {
        [&[(*present).into(), key.len() as u8], &key[..]].concat()
    };
    changes.iter().flat_map(one).collect()
}

fn unpack(mut bytes: &[u8]) -> Option<Changes> {
    let mut changes = Changes::new();
    while let [present, len, rest @ ..] = bytes {
        let (key, rest) = rest.split_at_checked((*len).into())?;
        changes.insert(key.to_vec(), *present != 0);
        bytes = rest;
    }
    bytes.is_empty().then_some(changes)
}

/// Submits block `number`: ten coins come, five of an earlier block go. Its changes are its extra too, which may
/// have 1 MiB.
fn submit(store: &mut Store, number: u64) -> Result<(Ticket, Changes)> {
    let coin = |block: u64, i: usize| format!("coin/{}/{block}-{i}", ["alice", "bob"][i % 2]);
    let mut changes = Changes::new();
    changes.extend((0..10).map(|i| (coin(number, i).into_bytes(), true)));
    changes.extend((0..5).map(|i| (coin(number.saturating_sub(3), i).into_bytes(), false)));
    let mut block = store.begin_block(Height(number))?;
    for (key, present) in &changes {
        if *present { block.put(key, "1")? } else { block.delete(key)? }
    }
    block.set_extra(pack(&changes))?;
    Ok((block.submit()?, changes))
}

/// What the table finds is what the store has, and in order.
fn compare(table: &SideTable, store: &Store) -> Result<usize> {
    let reader = store.reader();
    for prefix in [&b"coin/alice/"[..], b"coin/bob/", b"coin/carol/", b""] {
        let mut expected = BTreeSet::new();
        for pair in reader.iter() {
            expected.extend(Some(pair?.0).filter(|key| key.starts_with(prefix)));
        }
        assert!(table.with_prefix(prefix)?.into_iter().eq(expected), "table and store differ");
    }
    let of_alice = table.with_prefix(b"coin/alice/")?;
    assert!(reader.get_many(&of_alice)?.iter().all(Option::is_some), "the store has the values");
    Ok(of_alice.len())
}

fn main() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (path, beside) = (dir.path().join("store"), dir.path().join("keys.redb"));
    let few = || Options::new().keep_history(8).keep_heights(4);
    let mut store = Store::create(&path, StoreParams::default(), few())?;
    let (table, came) = SideTable::open(&beside, &store)?;
    assert_eq!(came, Came::MadeAnew);
    for number in 1..=20 {
        let (ticket, changes) = submit(&mut store, number)?;
        // First the block, then the table. Whoever submits many blocks ahead hands their tickets to a thread
        // that does this one after the other.
        ticket.durable()?;
        table.commit(ticket.height(), ticket.root()?, changes)?;
    }
    println!("height 20: alice has {} coins", compare(&table, &store)?);

    // The process ends after three more blocks are durable and before their transactions; then, after more blocks
    // than the store remembers; then, between two blocks.
    drop(table);
    for (more, expected) in
        [(3, Came::CaughtUp { blocks: 3 }), (200, Came::MadeAnew), (0, Came::InStep)]
    {
        for _ in 0..more {
            let next = store.height().next().0;
            submit(&mut store, next)?.0.durable()?;
        }
        store.close()?;
        store = Store::open(&path, few())?;
        let (table, came) = SideTable::open(&beside, &store)?;
        println!("{more} blocks without the table: {came:?}, {} coins", compare(&table, &store)?);
        assert_eq!(came, expected);
    }

    // The store is behind the table: it was lost, and the chain begins again.
    let mut other = Store::create(dir.path().join("other"), StoreParams::default(), few())?;
    submit(&mut other, 1)?.0.durable()?;
    let (table, came) = SideTable::open(&beside, &other)?;
    println!("a store that is behind: {came:?}, {} coins", compare(&table, &other)?);
    assert_eq!(came, Came::MadeAnew);
    other.close()?;
    Ok(store.close()?)
}
