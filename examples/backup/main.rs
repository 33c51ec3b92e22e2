//! Backups of a store that goes on: by the program that has it open, and by another one beside it.
//!
//! ```text
//!   this process   blocks ─────────────────────────────────────────► store
//!     a thread       └─ reader.backup ─────────► inside/              │ files
//!   another process  Store::open_read_only ◄──────────────────────────┘
//!                      └─ backup ──────────────► beside/
//!   the disk is lost ─► Store::restore ────────► restored/ ─► the blocks since then ─► the same root
//! ```
//!
//! What to copy: [`inside`], for a node that makes its own backups; [`beside`], for a program that a timer starts
//! next to a node which knows nothing of backups; and what comes after a restore: the blocks from the next height on.
//!
//! Run it with `cargo run --release -p hedgerow-examples --bin backup`.

use hedgerow::{BackupOptions, BackupReport, Digest, Height, Options, Reader, Store, StoreParams};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command};
use std::thread::{self, JoinHandle};
use std::{env, error::Error};

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// Block by block the same for everybody: the network has them. Returns the root.
fn apply(store: &mut Store) -> Result<(Height, Digest)> {
    let mut block = store.next_block()?;
    let Height(height) = block.height();
    for key in 0..200 {
        block.put(format!("key {}", key * height % 1000), format!("{key} of {height}"))?;
    }
    let receipt = block.commit()?;
    Ok((receipt.height, receipt.root))
}

/// A backup by the program that has the store open, on a thread of its own: blocks go on, and nothing is pruned
/// until it is done.
fn inside(reader: Reader, to: &Path) -> JoinHandle<Result<BackupReport, hedgerow::Error>> {
    let to = to.to_owned();
    thread::spawn(move || reader.backup(to, BackupOptions::new()))
}

/// A backup by a program that has nothing to do with the one that writes: of the last height that its files call
/// durable. The writer does not notice.
fn beside(store: &Path, to: &Path) -> Result<BackupReport> {
    Ok(Store::open_read_only(store, Options::default())?.backup(to, BackupOptions::new())?)
}

/// The same program, in another process.
fn start_beside(store: &Path, to: &Path) -> Result<Child> {
    Ok(Command::new(env::current_exe()?).arg(store).arg(to).spawn()?)
}

/// The height at which a backup opens, with its root.
fn opens_at(path: &Path) -> Result<(Height, Digest)> {
    let store = Store::open(path, Options::default().read_only())?;
    Ok(store.reader().root())
}

fn main() -> Result<()> {
    let mut args = env::args_os().skip(1);
    if let (Some(store), Some(to)) = (args.next(), args.next()) {
        let report = beside(store.as_ref(), to.as_ref())?;
        println!("beside:   height {}, {} bytes copied", report.height, report.copied_bytes);
        return Ok(());
    }
    let temporary = tempfile::tempdir()?;
    let path = |name: &str| temporary.path().join(name);
    let mut store =
        Store::create(path("state"), StoreParams::default(), Options::new().keep_heights(16))?;
    let mut roots = BTreeMap::new();
    for _ in 0..50 {
        roots.extend([apply(&mut store)?]);
    }

    // Both at once, and blocks meanwhile.
    let copying = inside(store.reader(), &path("inside"));
    let mut other = start_beside(&path("state"), &path("beside"))?;
    let ended = loop {
        roots.extend([apply(&mut store)?]);
        if let Some(ended) = other.try_wait()? {
            break ended;
        }
    };
    assert!(ended.success(), "the other process ends with {ended}");
    let report = copying.join().map_err(|_| "the thread that copies panicked")??;
    println!("inside:   height {}, {} bytes copied", report.height, report.copied_bytes);
    assert_eq!(opens_at(&path("inside"))?, (report.height, report.root));
    for name in ["inside", "beside"] {
        let (height, root) = opens_at(&path(name))?;
        assert_eq!(roots.get(&height), Some(&root), "{name} is the state of its height");
    }

    // The worst comes: of the store nothing is left.
    let (last, root) = store.reader().root();
    store.close()?;
    std::fs::remove_dir_all(path("state"))?;
    let how = BackupOptions::new();
    let restored = Store::restore(path("beside"), path("restored"), Options::new(), how)?;
    let mut store = Store::open(path("restored"), Options::new().keep_heights(16))?;
    while store.height() < last {
        apply(&mut store)?;
    }
    // Nothing in the root tells that there ever was a backup.
    assert_eq!(store.reader().root(), (last, root));
    let proven = store.reader().prove("key 0")?;
    assert!(hedgerow_proof::verify(&root, b"key 0", proven.proof.as_bytes())?.is_some());
    println!("restored: height {}, then the blocks up to {last}: root {root}", restored.height);
    Ok(store.close()?)
}
