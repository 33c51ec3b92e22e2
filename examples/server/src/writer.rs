//! The writer: a thread that owns the store and makes blocks of what comes through a channel.
//!
//! ```text
//!   Request { changes, answer } ──► bounded channel ──► begin, put, delete, submit ──► answer: a Ticket
//! ```
//!
//! It waits for no root and no disk: while one block is hashed and synced, the next is taken in. When the disk
//! does not keep up, `submit` waits, the channel fills, and those who post wait in turn.

use hedgerow::{Error, Store, Ticket};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io;
use std::thread::{Builder, JoinHandle};
use tokio::sync::{mpsc, oneshot};

/// What a block changes, as it is posted: `{"put": {"alice": "100"}, "delete": ["carol"]}`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Changes {
    put: BTreeMap<String, String>,
    delete: Vec<String>,
}

/// A block to be, and where its ticket goes.
pub(crate) struct Request {
    pub(crate) changes: Changes,
    pub(crate) answer: oneshot::Sender<Result<Ticket, Error>>,
}

/// The thread, and what it ends with.
pub(crate) type Thread = JoinHandle<Result<(), Error>>;

/// Starts the thread. It ends when all senders are gone, and says how closing the store went.
pub(crate) fn start(mut store: Store) -> io::Result<(mpsc::Sender<Request>, Thread)> {
    let (blocks, mut requests) = mpsc::channel::<Request>(16);
    let thread = Builder::new().name("writer".into()).spawn(move || {
        while let Some(Request { changes, answer }) = requests.blocking_recv() {
            // Whoever asked may be gone. The block stands all the same.
            let _ = answer.send(submit(&mut store, &changes));
        }
        store.close()
    })?;
    Ok((blocks, thread))
}

/// A key or value that is refused abandons the block: the height is still free.
fn submit(store: &mut Store, changes: &Changes) -> Result<Ticket, Error> {
    let mut block = store.next_block()?;
    for key in &changes.delete {
        block.delete(key)?;
    }
    for (key, value) in &changes.put {
        block.put(key, value)?;
    }
    block.submit()
}
